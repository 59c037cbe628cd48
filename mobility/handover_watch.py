"""What a handover costs those who talk: the longest silence, and packets that never came, measured at this end.

Packets are not looked at. The silence is between turns of the loop in which something was delivered, and what is lost
shows in the sequence numbers of ESP: those of the application's associations, or of the tunnel's where these have none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mobility.ipsec.sa import InboundSA
from mobility.mipv6.movement import HandoverAbandoned, HandoverFinished, HandoverStarted
from mobility.outputs import Event
from mobility.packet_stream import HasIpsec

AFTERWARDS = 1.0
"Seconds after a handover in which it is watched what still comes."
KEPT = 30
"Handovers that are remembered."


@dataclass(frozen=True, slots=True)
class _Counted:
    """Of the associations of one part: the highest numbers together, and how many packets came."""

    highest: int
    packets: int


class HandoverWatch:
    """An observer of a terminal. ``tell`` gets what was measured, as an event of the shell; times are monotonic."""

    def __init__(self, node: object, tell: Callable[[Mapping[str, object]], None]) -> None:
        self._node = node if isinstance(node, HasIpsec) else None
        self._tell = tell
        self._handovers: deque[dict[str, object]] = deque(maxlen=KEPT)
        self._delivered = 0
        self._delivered_at: float | None = None
        # Of the handover that is watched.
        self._before: dict[str, _Counted] | None = None
        self._before_delivered = 0
        self._longest = 0.0
        self._finished: dict[str, object] | None = None
        self._until = 0.0

    @property
    def handovers(self) -> list[dict[str, object]]:
        """The latest, the oldest first: what `HandoverFinished` said, and since a second later what was measured."""
        return list(self._handovers)

    @property
    def watching(self) -> bool:
        """Whether `turned` has an end to notice."""
        return self._finished is not None

    def happened(self, event: Event) -> None:
        """The node said this."""
        match event:
            case HandoverStarted():
                self._end()
                self._before, self._before_delivered, self._longest = self._counted(), self._delivered, 0.0
            case HandoverAbandoned():
                if self._finished is None:
                    self._before = None
            case HandoverFinished():
                self._finished = event.describe()

    def turned(self, now: float, delivered: int, clock: Callable[[], float]) -> None:
        """The loop has turned. ``delivered``: packets to the host OS so far; ``clock``: seconds since 1970."""
        if delivered != self._delivered:
            if self._before is not None and self._delivered_at is not None:
                self._longest = max(self._longest, now - self._delivered_at)
            self._delivered, self._delivered_at = delivered, now
        finished = self._finished
        if finished is None:
            return
        if "time" not in finished:
            finished["time"] = round(clock(), 6)
            self._until = now + AFTERWARDS
            self._handovers.append(finished)
        elif now >= self._until:
            self._end()

    def _end(self) -> None:
        """What was watched is told, now that there is no more of it."""
        before, finished = self._before, self._finished
        self._before = self._finished = None
        if before is None or finished is None:
            return
        delivered = self._delivered - self._before_delivered
        measured: dict[str, object] = {
            "silence_ms": round(self._longest * 1000, 1) if delivered > 1 else None,
            "lost": self._lost(before),
            "delivered": delivered,
        }
        finished.update(measured)
        self._tell({"event": "HandoverMeasured", "to_link": finished.get("to_link"), **measured})

    def _counted(self) -> dict[str, _Counted]:
        found: dict[str, _Counted] = {}
        for kind, processing in self._node.ipsec_parts() if self._node is not None else ():
            associations = {
                policy.inbound_sa for policy in processing.spd.policies if isinstance(policy.inbound_sa, InboundSA)
            }
            before = found.get(kind, _Counted(0, 0))
            found[kind] = _Counted(
                before.highest + sum(association.top for association in associations),
                before.packets + sum(association.packets for association in associations),
            )
        return found

    def _lost(self, before: Mapping[str, _Counted]) -> int | None:
        """None: nothing with numbers came."""
        now = self._counted()
        for kind in ("application", "tunnel"):
            if kind in before and kind in now and now[kind].packets > before[kind].packets:
                came = now[kind].packets - before[kind].packets
                return max(now[kind].highest - before[kind].highest - came, 0)
        return None
