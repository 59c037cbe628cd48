"""When calls begin. Sans-IO."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Offer:
    """How much is offered to the system under test."""

    rate: float | None
    "Calls a second; None: every caller calls again when it has thought."
    concurrent: int
    "Callers, each with one call at a time."
    duration: float
    "Seconds in which calls begin."
    calls: int
    "No more than these."
    think: float = 0.0
    "Seconds from the end of a call until its caller may call again."
    delay: float = 0.0
    "Seconds until the first call: several processes do not call at the same moment."

    def shares(self, processes: int) -> list[Offer]:
        """The same offer made by several: their calls come in turn. Those without a call or caller are left out."""
        found = []
        for n in range(processes):
            concurrent = self.concurrent // processes + (n < self.concurrent % processes)
            calls = self.calls // processes + (n < self.calls % processes)
            if concurrent and calls:
                rate = None if self.rate is None else self.rate / processes
                delay = self.delay if self.rate is None else self.delay + n / self.rate
                found.append(Offer(rate, concurrent, self.duration, calls, self.think, delay))
        return found


class Pace:
    """One process. ``begin``: when the run begins."""

    def __init__(self, offer: Offer, begin: float) -> None:
        self._offer = offer
        self._first = begin + offer.delay
        self._end = begin + offer.duration
        self._due = 0
        "How many calls were due until now, with a rate."
        self._free = offer.concurrent
        self._thinking: list[float] = []
        self._stopped = False
        self.begun = 0
        self.held_back = 0
        "Calls that were due when no caller was free, and were not made."

    @property
    def timer(self) -> float | None:
        """When `start` is to be asked next, beside after `over`; None: no call will begin any more."""
        if self._stopped or self.begun >= self._offer.calls:
            return None
        if self._offer.rate is not None:
            at = self._first + self._due / self._offer.rate
        elif self._free:
            at = self._first
        else:
            at = self._thinking[0] if self._thinking else self._end
        return min(at, self._end)

    def start(self, now: float) -> int:
        """How many calls begin now."""
        while self._thinking and self._thinking[0] <= now:
            heapq.heappop(self._thinking)
            self._free += 1
        if now >= self._end:
            self._stopped = True
        if self._stopped or now < self._first:
            return 0
        wanted = self._free
        if self._offer.rate is not None:
            # Half a microsecond: a timer may come a little early.
            due = math.floor((now - self._first) * self._offer.rate + 1e-6) + 1
            wanted, self._due = due - self._due, due
        count = min(wanted, self._free, self._offer.calls - self.begun)
        if self._offer.rate is not None:
            self.held_back += max(0, min(wanted, self._offer.calls - self.begun) - count)
        self._free -= count
        self.begun += count
        return count

    def over(self, now: float) -> None:
        """A call has ended."""
        heapq.heappush(self._thinking, now + self._offer.think)

    def stop(self) -> None:
        """No further calls."""
        self._stopped = True
