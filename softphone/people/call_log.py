"""Puts the calls of a phone into the history."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from softphone.events import CallEnded, EndedBy
from softphone.media.settings import MediaStatistics
from softphone.people.history import CallRecord, CallResult, History, HistoryError
from softphone.sip.headers import NameAddr

if TYPE_CHECKING:
    from softphone.calls.call import Call

logger = logging.getLogger(__name__)


class CallLog:
    """Writes every call of one account when it ends; give it to `Softphone`.

    ``failed`` hears when the history cannot be written (without it: a warning in the log); the call ends as if there
    were none. ``clock`` gives seconds since 1970.
    """

    def __init__(
        self, history: History, account: str, *, clock: Callable[[], float] = time.time,
        failed: Callable[[HistoryError], None] = lambda error: logger.warning("not in the history: %s", error),
    ) -> None:  # fmt: skip
        self._history = history
        self._account = account
        self._clock = clock
        self._failed = failed

    def began(self, call: Call) -> None:
        """A call came into being."""
        when = self._clock()
        call.on_end(lambda ended: self._ended(ended, when))

    def refused(self, call_id: str, remote: NameAddr, status: int, reason: str) -> None:
        """A call was refused before it was one."""
        self._write(
            CallRecord(
                account=self._account, call_id=call_id, incoming=True, remote=str(remote.uri), name=remote.display,
                began=self._clock(), result=CallResult.REFUSED, status=status, reason=reason, duration=0.0,
            )
        )  # fmt: skip

    def _ended(self, call: Call, began: float) -> None:
        event = call.ended_event
        assert event is not None
        answered = call.answered_at
        duration = 0.0 if answered is None else asyncio.get_running_loop().time() - answered
        heard = call.statistics() if answered is not None else None
        codec, mos = (heard.codec, heard.mos) if isinstance(heard, MediaStatistics) else ("", None)
        self._write(
            CallRecord(
                account=self._account, call_id=call.id, incoming=call.incoming, remote=str(call.remote.uri),
                name=call.remote.display, began=began,
                result=result_of(event, incoming=call.incoming, answered=answered is not None),
                status=event.status, reason=event.reason, duration=duration, codec=codec, mos=mos,
            )
        )  # fmt: skip

    def _write(self, record: CallRecord) -> None:
        try:
            self._history.add(record)
        except HistoryError as exc:
            self._failed(exc)


def result_of(event: CallEnded, *, incoming: bool, answered: bool) -> CallResult:
    """How a call that ended like this is called."""
    if answered:
        return CallResult.ANSWERED
    if not incoming:
        return CallResult.CANCELLED if event.by is EndedBy.LOCAL else CallResult.FAILED
    if event.elsewhere:
        return CallResult.ELSEWHERE
    return CallResult.REFUSED if event.by is EndedBy.LOCAL else CallResult.MISSED
