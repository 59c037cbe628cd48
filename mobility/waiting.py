"""Packets of the host OS that wait: for the end of a handover, or for keys."""

from __future__ import annotations

from collections import deque

from mobility.discards import Reason
from mobility.outputs import Discarded

LIMIT = 512
"Packets."
PATIENCE = 1.0
"Seconds; speech that is older is of no use to anybody."


class WaitingRoom:
    """First in, first out; bounded in number and in time."""

    def __init__(
        self,
        limit: int = LIMIT,
        patience: float = PATIENCE,
        reason: Reason = Reason.HANDOVER_QUEUE,
        where: str = "terminal",
    ) -> None:
        """``reason`` and ``where``: of what becomes of those that wait in vain."""
        self.limit = limit
        self.patience = patience
        self._reason = reason
        self._where = where
        self._packets: deque[tuple[float, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._packets)

    @property
    def timer(self) -> float | None:
        """When the patience of the oldest packet ends."""
        return self._packets[0][0] + self.patience if self._packets else None

    def add(self, packet: bytes, now: float) -> list[Discarded]:
        """Another packet waits; if there is no room for it, the oldest goes."""
        gone: list[Discarded] = []
        if len(self._packets) >= self.limit:
            self._packets.popleft()
            gone.append(Discarded(self._reason, self._where, f"more than {self.limit} packets wait"))
        self._packets.append((now, packet))
        return gone

    def expire(self, now: float) -> list[Discarded]:
        """The packets that waited too long go."""
        gone: list[Discarded] = []
        while self._packets and self._packets[0][0] + self.patience <= now:
            self._packets.popleft()
            gone.append(Discarded(self._reason, self._where, f"waited longer than {self.patience} s"))
        return gone

    def take(self) -> list[bytes]:
        """All packets, the oldest first; the room is empty then."""
        packets = [packet for _, packet in self._packets]
        self._packets.clear()
        return packets
