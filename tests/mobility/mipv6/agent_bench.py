"""A home agent's engine with a home link of paper, and the terminal's side of its associations."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from mobility.discards import Discard, Reason
from mobility.host.fragments import fragment
from mobility.links import endpoint
from mobility.mipv6.home_agent import HomeAgent
from mobility.mipv6.home_paths import Path, Reply
from mobility.mipv6.home_settings import AuthorisedTerminal, HomeAgentSettings
from mobility.mipv6.signalling import from_terminal, open_message
from mobility.mipv6.tunnel import TunnelForm, decapsulate, encapsulate, from_datagram, seal, terminal_policies
from mobility.outputs import Arrived, Discarded, Output, Transmit
from mobility.wire import mh
from tests.mobility.whole import HA, MN, MN2, mobile_pair

COA = IPv6Address("2001:db8:a::1")
COA2 = IPv6Address("2001:db8:b::2")
STRANGER = IPv6Address("2001:db8:666::6")
AWAY = IPv6Address("2001:db8:2::100")
A, H, K = mh.UpdateFlag.ACKNOWLEDGE, mh.UpdateFlag.HOME_REGISTRATION, mh.UpdateFlag.KEY_MANAGEMENT
AH = A | H

KERNEL = "udp/192.0.2.1"
"A link of UDP that the kernel carries."
BEHIND_NAT = IPv4Address("10.0.0.5")
NAT = endpoint(IPv4Address("198.51.100.7"), 40001)
NAT_AGAIN = endpoint(IPv4Address("198.51.100.7"), 40002)
OTHER_NAT = endpoint(IPv4Address("203.0.113.9"), 1024)


class Link:
    """The home link: what goes out, and for whom the home agent stands in."""

    link = "home0"
    has_neighbours = True

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.proxied: set[IPv6Address] = set()
        self.mtu = 1500

    def next_hop(self, destination: bytes) -> bytes | None:
        return None  # so that `send` sees all packets

    def send(self, packet: bytes, now: float) -> list[Output]:
        self.sent.append(packet)
        return [Transmit(packet, bytes(6), "home0")]

    def add_proxy(self, address: IPv6Address, now: float) -> list[Output]:
        self.proxied.add(address)
        return []

    def remove_proxy(self, address: IPv6Address, now: float) -> list[Output]:
        self.proxied.discard(address)
        return []

    def path_mtu(self, destination: bytes) -> int:
        return self.mtu

    def send_via(self, packet: bytes, hop: bytes, now: float) -> list[Output]:
        return [Transmit(packet, hop, "neighbour")]

    def receive_inner(self, packet: bytes, now: float) -> list[Output]:
        return [Arrived(packet, "home0")]

    def split(self, packet: bytes, limit: int) -> list[bytes]:
        return fragment(packet, limit, 1)


class Bench:
    """A home agent and the terminal's side of its associations."""

    def __init__(self, form: TunnelForm = TunnelForm.ESP, *, signalling: bool = True, home: IPv6Address = MN) -> None:
        self.form = form
        self.pair = mobile_pair(form, signalling=signalling)
        self.pair2 = mobile_pair(form, 0x2000, signalling=signalling)
        self.home = home
        self.link = Link()
        self.replies: list[Reply] = []
        self.settings = HomeAgentSettings(
            HA,
            (AuthorisedTerminal(home, form, self.pair.agent), AuthorisedTerminal(MN2, form, self.pair2.agent)),
            max_lifetime=600,
        )
        self.agent = HomeAgent(self.settings, self.link, self._answer)
        self.security = terminal_policies(home, HA, form, self.pair.terminal)
        self.security2 = terminal_policies(MN2, HA, form, self.pair2.terminal)

    def configure(self, **changes: object) -> None:
        self.settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        self.agent = HomeAgent(self.settings, self.link, self._answer)

    def _answer(self, reply: Reply, now: float) -> list[Output]:
        self.replies.append(reply)
        return []

    # ------------------------------------------------------------ native

    def update(
        self,
        sequence: int,
        *,
        lifetime: int = 400,
        flags: mh.UpdateFlag = AH,
        source: IPv6Address = COA,
        care_of: IPv6Address | None = None,
        options: tuple[mh.Option, ...] = (),
    ) -> bytes:
        address = care_of if care_of is not None else source
        message = mh.BindingUpdate(sequence, flags, lifetime, (mh.AlternateCareOfAddress(address), *options))
        return from_terminal(message, self.home, source, HA, self.security)

    def bind(self, sequence: int, now: float = 0.0, **arguments: object) -> mh.BindingAcknowledgement:
        """Sends an update, returns the answer as the terminal reads it."""
        self.agent.signalling(self.update(sequence, **arguments), now)  # type: ignore[arg-type]
        received = open_message(self.replies[-1].packet, self.security)
        assert isinstance(received.message, mh.BindingAcknowledgement)
        return received.message

    def rejects(self, packet: bytes, reason: Reason, now: float = 1.0) -> None:
        """The packet is dropped with this reason, unanswered, and changes nothing."""
        before, replies = self.agent.cache.snapshot(now), len(self.replies)
        with pytest.raises(Discard) as caught:
            self.agent.signalling(packet, now)
        assert caught.value.reason is reason
        assert self.agent.cache.snapshot(now) == before
        assert len(self.replies) == replies

    def up(self, inner: bytes, source: IPv6Address, now: float = 1.0) -> list[Output]:
        """A packet through the native tunnel."""
        return self.agent.reverse(encapsulate(inner, source.packed + HA.packed, self.form, self.security), now)

    # ------------------------------------------------------------ in datagrams

    def udp_update(
        self,
        sequence: int,
        *,
        lifetime: int = 400,
        care_of: IPv6Address | IPv4Address = BEHIND_NAT,
        options: tuple[mh.Option, ...] = (),
    ) -> bytes:
        """The payload of a datagram with an update."""
        told: mh.Option = (
            mh.AlternateCareOfAddress(care_of) if isinstance(care_of, IPv6Address) else mh.IPv4CareOfAddress(care_of)
        )
        message = mh.BindingUpdate(sequence, AH, lifetime, (told, *options))
        return from_terminal(message, self.home, self.home, HA, self.security)

    def udp_bind(
        self, sequence: int, sender: bytes = NAT, link: str = KERNEL, now: float = 0.0, **arguments: object
    ) -> mh.BindingAcknowledgement:
        """Sends an update in a datagram, returns the answer as the terminal reads it."""
        outputs = self.agent.datagram(self.udp_update(sequence, **arguments), sender, link, now)  # type: ignore[arg-type]
        (answer,) = [each for each in outputs if isinstance(each, Transmit) and each.link == link]
        assert answer.to == sender
        received = open_message(answer.packet, self.security)
        assert isinstance(received.message, mh.BindingAcknowledgement)
        return received.message

    def body(self, inner: bytes) -> bytes:
        """The payload of a datagram with a packet of the terminal in it."""
        return seal(inner, self.home.packed + HA.packed, self.form, self.security)[1]

    def udp_up(self, inner: bytes, sender: bytes = NAT, link: str = KERNEL, now: float = 1.0) -> list[Output]:
        """A packet through the tunnel of datagrams."""
        return self.agent.datagram(self.body(inner), sender, link, now)

    # ------------------------------------------------------------ what the terminal gets

    def received(self, output: Output) -> bytes:
        """The inner packet of what was sent to the terminal, by whichever way."""
        assert isinstance(output, Transmit)
        if len(output.to) == 18:
            return from_datagram(output.packet, HA.packed + self.home.packed, self.form, self.security)
        return decapsulate(output.packet, self.form, self.security)

    @property
    def paths(self) -> list[bytes]:
        """Where the bindings are, the primary first."""
        return [row.source for row in self.agent.cache.of(self.home.packed)]


def ways(outputs: list[Output]) -> list[bytes]:
    """Where packets for the terminal go: care-of addresses (16 octets) and endpoints (18)."""
    return [each.to if len(each.to) == 18 else each.packet[24:40] for each in outputs if isinstance(each, Transmit)]


def reasons(outputs: list[Output]) -> list[Reason]:
    return [each.reason for each in outputs if isinstance(each, Discarded)]


def path(value: bytes | IPv6Address, link: str = "") -> Path:
    return Path(value.packed if isinstance(value, IPv6Address) else value, link)


def hopped(packet: bytes) -> bytes:
    """A packet as the home agent forwards it."""
    return packet[:7] + bytes((packet[7] - 1,)) + packet[8:]


def reply_to(outputs: list[Output]) -> bytes:
    """The only packet that went out."""
    (only,) = [each for each in outputs if isinstance(each, Transmit)]
    return only.packet
