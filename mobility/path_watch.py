"""Whether anything comes through the path in use: `Liveness` with the echo requests and replies themselves."""

from __future__ import annotations

from ipaddress import IPv6Address

from mobility.mipv6.liveness import Liveness, Verdict
from mobility.mipv6.movement import Attachment
from mobility.wire import icmp6, ip6
from mobility.wire.errors import WireError


class PathWatch:
    """Asks the home agent through the tunnel. Counters are those of the terminal: packets sent, packets delivered."""

    def __init__(self, home_address: IPv6Address, home_agent: IPv6Address, keepalive: float, identifier: int) -> None:
        """``keepalive``: seconds of silence after which it is asked where UDP carries; ``identifier``: of echoes."""
        self._home = home_address.packed
        self._agent = home_agent.packed
        self._keepalive = keepalive
        self._identifier = identifier
        self._liveness = Liveness()

    @property
    def timer(self) -> float | None:
        """When `look` wants to be called."""
        return self._liveness.timer

    def follow(self, tunnelled: Attachment | None, now: float, sent: int, delivered: int) -> None:
        """``tunnelled``: the place in use; None: there is none, or no tunnel."""
        liveness = self._liveness
        if tunnelled is None:
            liveness.end()
        elif liveness.timer is None or liveness.link != tunnelled.link:
            liveness.begin(tunnelled.link, self._keepalive if tunnelled.udp else 0.0, now, sent, delivered)

    def look(self, now: float, sent: int, delivered: int) -> Verdict:
        """The time in `timer` may have come; on ASK `question` is to be sent."""
        return self._liveness.look(now, sent, delivered)

    def probe(self, now: float) -> bool:
        """Somebody wants to know the round trip; whether `question` is to be sent."""
        return self._liveness.probe(now)

    def question(self) -> bytes:
        """The packet that asks, from the home address."""
        return icmp6.packet(self._home, self._agent, icmp6.Echo(self._identifier, self._liveness.sequence))

    def echoed(self, inner: bytes, now: float) -> bool:
        """Whether this packet, an ICMPv6 one of the home agent out of the tunnel, answers one of ours."""
        try:
            message = icmp6.parse(inner[ip6.HEADER_SIZE :])
        except WireError:
            return False
        return (
            isinstance(message, icmp6.Echo)
            and message.reply
            and message.identifier == self._identifier
            and self._liveness.reply(message.sequence, now)
        )

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return self._liveness.snapshot(now)
