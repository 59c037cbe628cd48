"""The whole network with application keys that are negotiated, and somebody who looks at every wire."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from ipaddress import IPv6Address
from typing import TypeVar

from mobility.application_keys import ApplicationKeys
from mobility.ipsec.ike.authentication import SharedKey
from mobility.ipsec.ike.certificates import Credential
from mobility.ipsec.ike.fingerprint import Fingerprint
from mobility.key_source import ApplicationKeySettings, KeySource
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.memory import Frame
from mobility.node_certificate import self_signed
from mobility.outputs import Event, Output
from tests.mobility.whole import CN, MN, Network

TOKEN = SharedKey(bytes(range(32)))
SILENCE = bytes(100)
"Octets of a packet of `Network.talk` that no ciphertext has."
Both = tuple[ApplicationKeySettings, ApplicationKeySettings]
"Of terminal and correspondent."
_Event = TypeVar("_Event", bound=Event)


@cache
def certificate(whose: str, number: int = 0) -> Credential:
    """Of ``mn`` or ``cn``, always the same in one process."""
    return self_signed(MN if whose == "mn" else CN)


def fingerprint(credential: Credential) -> tuple[Fingerprint, ...]:
    return (Fingerprint.of(credential.certificate),)


def by_token(
    lifetime: float = 3600.0, token: SharedKey = TOKEN
) -> tuple[ApplicationKeySettings, ApplicationKeySettings]:
    """Both ends have each other in their configuration."""
    source = KeySource(token, token, lifetime=lifetime)
    mn, cn = ApplicationKeySettings(peers=((CN, source),)), ApplicationKeySettings(peers=((MN, source),))
    return mn, cn


def by_calls(lifetime: float = 3600.0) -> Both:
    """Phones tell of each other."""
    mn, cn = certificate("mn"), certificate("cn")
    return ApplicationKeySettings(mn, lifetime=lifetime), ApplicationKeySettings(cn, lifetime=lifetime)


class Protected(Network):
    """With `talk` as elsewhere, whose packets are mostly zeros: no wire may ever carry so many of them."""

    def end(self, whose: str) -> ApplicationKeys:
        """The application keys of ``mn`` or ``cn``."""
        found = self.terminal.application_keys if whose == "mn" else self.correspondent.application_keys
        assert found is not None
        return found

    def ask(self, whose: str, operation: Callable[[ApplicationKeys], list[Output]]) -> None:
        """Has one end do something, and does what comes of it."""
        node = self.terminal if whose == "mn" else self.correspondent
        self.world.stations[whose].carry_out(node.negotiate(operation, self.world.now))

    def offer(self, whose: str, call: str = "call", lease: float = 60.0) -> None:
        """A phone has sent an offer."""
        now = self.world.now
        self.ask(whose, lambda keys: keys.offer(call, now + lease, now))

    def secure(
        self,
        whose: str,
        other: Credential | None = None,
        *,
        active: bool = False,
        call: str = "call",
        lease: float = 300.0,
        peer: IPv6Address | None = None,
    ) -> None:
        """A phone has heard whose certificate (if not what it should be: ``other``) the other end of a call has."""
        now = self.world.now
        address, theirs = (CN, certificate("cn")) if whose == "mn" else (MN, certificate("mn"))
        prints = fingerprint(theirs if other is None else other)
        there = address if peer is None else peer
        self.ask(whose, lambda keys: keys.secure(call, there, prints, active=active, until=now + lease, now=now))

    def release(self, whose: str, call: str = "call") -> None:
        """A call is over."""
        self.ask(whose, lambda keys: keys.release(call, self.world.now))

    def state(self, whose: str) -> str:
        """Of the other end."""
        return self.end(whose).state(CN if whose == "mn" else MN)

    def in_clear(self) -> list[Frame]:
        """What anybody on a wire could have read."""
        return [
            frame for segment in self.world.segments.values() for frame in segment.frames if SILENCE in frame.packet
        ]

    def happened(self, whose: str, kind: type[_Event]) -> list[_Event]:
        """The events of one kind at one end."""
        return [event for _, event in self.world.stations[whose].events_of(kind)]


def away(settings: Both, form: TunnelForm = TunnelForm.ESP, *, seed: int = 1) -> Protected:
    """The terminal is registered from the first visited network."""
    network = Protected(form, seed=seed, application_keys=settings)
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    return network
