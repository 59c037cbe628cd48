"""The keys of a terminal with mobility anchor points: configured, or negotiated with each MAP that it meets.

IKE goes from the LCoA to the MAP, past the tunnels. What was agreed is kept while the terminal is elsewhere, and goes
on from another LCoA when it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address

from mobility.hmipv6.regional_settings import AnchorKeys, RegionalSettings, Secured
from mobility.host.host import Host
from mobility.ipsec.spd import ANYWHERE
from mobility.key_source import KeySource
from mobility.mipv6.movement import Attachment
from mobility.mipv6.tunnel import terminal_policies
from mobility.negotiated import associations, map_peer
from mobility.outputs import Output
from mobility.terminal_keys import TerminalKeys

MOST = 8
"MAPs with which keys are kept."


@dataclass(frozen=True, slots=True)
class _Negotiated:
    """Of one MAP."""

    secured: Secured
    keys: TerminalKeys


class MapKeys:
    """Of one terminal, which ``home_address`` names."""

    def __init__(
        self,
        settings: RegionalSettings,
        home_address: IPv6Address,
        hosts: Mapping[str, Host],
        random: Callable[[int], bytes],
        utc: Callable[[], datetime],
    ) -> None:
        """``hosts``: of the access links."""
        self._settings = settings
        self._home = home_address
        self._hosts = hosts
        self._random = random
        self._utc = utc
        self._negotiated: dict[IPv6Address, _Negotiated] = {}
        "The MAP met last comes last."

    def secured(self, anchor: IPv6Address) -> Secured:
        """How the traffic with a MAP is protected that the terminal is about to use."""
        keys = self._settings.anchors.get(anchor) or self._settings.others or AnchorKeys()
        if keys.source is None:
            return Secured(keys.form, terminal_policies(ANYWHERE, anchor, keys.form, keys.associations))
        known = self._negotiated.pop(anchor, None) or self._begin(anchor, keys, keys.source)
        if len(self._negotiated) >= MOST:
            del self._negotiated[next(iter(self._negotiated))]
        self._negotiated[anchor] = known
        return known.secured

    def _begin(self, anchor: IPv6Address, keys: AnchorKeys, source: KeySource) -> _Negotiated:
        known = associations(keys.form, source.algorithm, self._random, home_tests=False)
        # To IPsec a packet with a type 2 routing header is one for the home address, not for the RCoA: any address.
        security = terminal_policies(ANYWHERE, anchor, keys.form, known)
        other = map_peer(source, self._home, anchor, keys.form, at_terminal=True)
        negotiation = TerminalKeys(anchor, other, source.lifetime, known, security, self._put, self._random, self._utc)
        return _Negotiated(Secured(keys.form, security, negotiated=True), negotiation)

    def _put(self, link: str, packet: bytes, now: float) -> list[Output]:
        return self._hosts[link].send(packet, now)

    @property
    def all(self) -> list[TerminalKeys]:
        """Those that are negotiated."""
        return [each.keys for each in self._negotiated.values()]

    def of(self, anchor: IPv6Address) -> TerminalKeys | None:
        """Those with a MAP, if they are negotiated."""
        known = self._negotiated.get(anchor)
        return None if known is None else known.keys

    def follow(self, places: Mapping[IPv6Address, Attachment | None], now: float) -> list[Output]:
        """Where the terminal is, by the MAPs whose domains these are; it is not in those of others."""
        outputs: list[Output] = []
        for anchor, each in self._negotiated.items():
            outputs += each.keys.follow(places.get(anchor), now)
        return outputs

    def ready(self) -> list[IPv6Address]:
        """MAPs with which there are keys of another IKE SA since this was asked."""
        found = [anchor for anchor, each in self._negotiated.items() if each.keys.ready]
        for anchor in found:
            self._negotiated[anchor].keys.ready = False
        return found

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return min((time for each in self.all if (time := each.timer) is not None), default=None)

    def handle_timer(self, now: float) -> list[Output]:
        """Something is sent again, rekeyed, or begun again."""
        due = [each for each in self.all if each.timer is not None and each.timer <= now]
        return [output for each in due for output in each.handle_timer(now)]
