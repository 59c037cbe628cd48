"""What a telephone does by itself: it rings, lets one hear that it rings there, and puts calls on the device.

Looks at the calls whenever something happens to one, and does what their states ask for; it keeps none of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from softphone.calls.call import Call, CallState
from softphone.calls.conference import Conference
from softphone.devices.desk import Desk, Line
from softphone.devices.signals import Signal
from softphone.errors import CallError
from softphone.events import CallEnded, CallIncoming, EndedBy, Event
from softphone.media.mixer import Port

_SILENT = (400, 422, 487, 488, 500)
"Ends that make no sound: what strangers can make us refuse at once must not be heard, and what we gave up need not be."


class Attendant:
    """Puts the calls of ``calls`` on a desk, and our places in ``conferences``; both are asked anew each time.

    Call `happened` with every event.
    """

    def __init__(
        self, desk: Desk, calls: Callable[[], Iterable[Call]],
        conferences: Callable[[], Iterable[Conference]] = tuple[Conference, ...],
    ) -> None:  # fmt: skip
        self._desk = desk
        self._calls = calls
        self._conferences = conferences
        self._places: set[Port] = set()
        self._lines: dict[Call, Line] = {}
        self._incoming: set[str] = set()

    def happened(self, event: Event) -> None:
        """Something did; whatever it was, the calls are looked at."""
        calls = list(self._calls())
        if isinstance(event, CallIncoming):
            self._incoming.add(event.call)
        for call in calls:
            if (call.state is CallState.CONFIRMED or call.has_sound) and not call.on_hold:
                self._connect(call)
            else:
                self._disconnect(call)
        for call in self._lines.keys() - set(calls):
            self._disconnect(call)
        places = {conference.local for conference in self._conferences() if conference.calls}
        for place in places - self._places:
            self._desk.join(place)
        for place in self._places - places:
            self._desk.leave(place)
        self._places = places
        self._desk.signal(self._signal(calls, event))

    def _signal(self, calls: list[Call], event: Event) -> Signal | None:
        talking = any(call.state is CallState.CONFIRMED for call in calls)
        if any(_rings_here(call) for call in calls):
            return Signal.WAITING if talking else Signal.RING
        if any(not call.incoming and call.state is CallState.RINGING and not call.has_sound for call in calls):
            return None if talking else Signal.RINGBACK
        if isinstance(event, CallEnded):
            ours = event.call not in self._incoming
            self._incoming.discard(event.call)
            return Signal.BUSY if ours and not calls and _failed(event) else None
        return Signal.BUSY if not calls and self._desk.signalling is Signal.BUSY else None

    def _connect(self, call: Call) -> None:
        if call in self._lines:
            return
        line = Line()
        try:
            call.attach(line.far, line.far)
        except CallError:
            return  # it is over
        self._lines[call] = line
        self._desk.join(line.near)

    def _disconnect(self, call: Call) -> None:
        line = self._lines.pop(call, None)
        if line is None:
            return
        self._desk.leave(line.near)
        if call.media is not None:
            call.attach(None, None)


def _rings_here(call: Call) -> bool:
    waits = call.incoming and call.state in (CallState.CALLING, CallState.RINGING)
    return waits and call.answers_itself_after is None


def _failed(ended: CallEnded) -> bool:
    """A call of ours that somebody refused, or that reached nobody."""
    return ended.by is EndedBy.FAILURE and ended.status >= 400 and ended.status not in _SILENT
