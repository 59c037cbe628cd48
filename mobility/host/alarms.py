"""All alarms of one host in one queue: named, moved or cancelled at will, run in the order of their time."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush
from itertools import count

Action = Callable[[float], None]


class Alarms:
    """Set, move and cancel alarms by key. An alarm that was moved or cancelled stays in the heap, marked as stale."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._live: dict[Hashable, tuple[int, Action]] = {}
        self._serial = count()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._live

    def set(self, key: Hashable, when: float, action: Action) -> None:
        """Call ``action(now)`` at ``when``; an earlier alarm of the same key is forgotten."""
        serial = next(self._serial)
        self._live[key] = (serial, action)
        heappush(self._heap, (when, serial, key))
        if len(self._heap) > 64 + 4 * len(self._live):
            self._heap = [item for item in self._heap if self._is_live(item)]
            heapify(self._heap)

    def cancel(self, key: Hashable) -> None:
        """Forget the alarm, if there is one."""
        self._live.pop(key, None)

    def _is_live(self, item: tuple[float, int, Hashable]) -> bool:
        live = self._live.get(item[2])
        return live is not None and live[0] == item[1]

    @property
    def next(self) -> float | None:
        """The time of the earliest alarm; None: there is none."""
        while self._heap:
            if self._is_live(self._heap[0]):
                return self._heap[0][0]
            heappop(self._heap)
        return None

    def run(self, now: float) -> None:
        """Run everything that is due. Alarms set meanwhile for ``now`` or earlier run too."""
        while (when := self.next) is not None and when <= now:
            key = heappop(self._heap)[2]
            action = self._live.pop(key)[1]
            action(now)
