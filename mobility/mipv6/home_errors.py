"""What a home agent tells senders of packets that it does not carry on (RFC 4443)."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from mobility.discards import Discard, Reason
from mobility.host.errors import TokenBucket
from mobility.mipv6.home_paths import HomeLink
from mobility.outputs import Discarded, Output
from mobility.wire import icmp6, ip6

ERRORS_PER_SECOND = 100.0
"ICMP errors to senders, all together: whoever makes us send them may not be who he says."


class SenderTold(Discard):
    """A packet cannot go on, and ``told`` is what tells its sender."""

    def __init__(self, reason: Reason, told: list[Output], detail: str = "") -> None:
        super().__init__(reason, detail)
        self.told = told


def settled(discard: Discard, component: str) -> list[Output]:
    """What becomes of a packet that cannot go on."""
    told = discard.told if isinstance(discard, SenderTold) else []
    return [*told, Discarded.of(discard, component)]


class HomeErrors:
    """Errors in the name of the home agent, by whichever way leads to the sender."""

    def __init__(self, address: IPv6Address, home: IPv6Network, link: HomeLink) -> None:
        """``home``: the prefix of the home link."""
        self._address = address
        self._home = home
        self._link = link
        self._bucket = TokenBucket(ERRORS_PER_SECOND, ERRORS_PER_SECOND)
        # Of its own: who scans a prefix shall not take the other errors away from those who need them.
        self._nowhere = TokenBucket(ERRORS_PER_SECOND, ERRORS_PER_SECOND)
        self.allowed = self._bucket.take
        "Whether one more may be sent; called with now."

    def hop(self, packet: bytes, now: float) -> bytes:
        """The packet with one hop less. Raises `Discard`: it ends here, or may not be forwarded at all."""
        if not (ip6.forwardable(packet[8:24]) and ip6.forwardable(packet[24:40])):
            raise Discard(Reason.NOT_FORWARDED, f"{IPv6Address(packet[8:24])} to {IPv6Address(packet[24:40])}")
        if packet[7] <= 1:
            told = self._tell(packet, icmp6.TimeExceeded(icmp6.HOP_LIMIT_EXCEEDED, packet), now)
            raise SenderTold(Reason.HOP_LIMIT, told)
        return b"%b%c%b" % (packet[:7], packet[7] - 1, packet[8:])

    def denied(self, packet: bytes, whose: str, now: float) -> list[Output]:
        """The access policy of terminal ``whose`` is against it (RFC 4443 section 3.1, code 1)."""
        detail = f"{whose}: {IPv6Address(packet[8:24])} to {IPv6Address(packet[24:40])}"
        told = self._tell(packet, icmp6.DestinationUnreachable(icmp6.PROHIBITED, packet), now)
        return [*told, Discarded(Reason.ACCESS_DENIED, "home-agent", detail)]

    def too_big(self, packet: bytes, mtu: int, now: float) -> list[Output]:
        """It does not fit into what lies ahead."""
        detail = f"{len(packet)} octets to {IPv6Address(packet[24:40])}, {mtu} fit"
        told = self._tell(packet, icmp6.PacketTooBig(mtu, packet), now)
        return [*told, Discarded(Reason.TOO_BIG, "home-agent", detail)]

    def nowhere(self, packet: bytes, now: float) -> SenderTold:
        """Its destination is ours to reach, and nobody is there now: codes 3 and 0, as a router tells it."""
        to = IPv6Address(packet[24:40])
        code = icmp6.ADDRESS_UNREACHABLE if to in self._home else icmp6.NO_ROUTE
        told = self._tell(packet, icmp6.DestinationUnreachable(code, packet), now, self._nowhere)
        return SenderTold(Reason.BINDING_UNKNOWN, told, f"to {to}")

    def _tell(self, packet: bytes, message: icmp6.Error, now: float, bucket: TokenBucket | None = None) -> list[Output]:
        if not icmp6.may_be_answered_with_error(packet) or not (bucket or self._bucket).take(now):
            return []
        return self._link.send(icmp6.packet(self._address, IPv6Address(packet[8:24]), message), now)
