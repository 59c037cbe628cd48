"""Packets that went through a regional tunnel lately, to be sent again when the way they went turns out to be lost.

Unlike `mobility.mipv6.again` this goes by time: the tunnel between terminal and MAP has no numbers of its own unless it
is under ESP. What is sent twice is removed by the replay window of the tunnel inside, or of the application.
"""

from __future__ import annotations

from collections import deque

from mobility.hmipv6.options import LONGEST

LIMIT = 512
"Packets."


class Lately:
    """First in, first out; bounded in number, and in time when it is read."""

    __slots__ = ("_packets", "sent_again")

    def __init__(self) -> None:
        self._packets: deque[tuple[float, bytes]] = deque(maxlen=LIMIT)
        self.sent_again = 0

    def keep(self, packet: bytes, now: float) -> None:
        """The packet has just been sent."""
        self._packets.append((now, packet))

    def take(self, seconds: float, now: float) -> list[bytes]:
        """Takes out all that was sent in the last ``seconds``, the oldest first; the rest is forgotten."""
        since = now - min(seconds, LONGEST)
        packets = [packet for at, packet in self._packets if at >= since]
        self._packets.clear()
        self.sent_again += len(packets)
        return packets
