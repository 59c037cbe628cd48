"""When hooks run, and what they are told: sans-IO."""

from __future__ import annotations

from enum import StrEnum

from softphone.event_names import described
from softphone.events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallIncoming,
    Event,
    MessageReceived,
    Registered,
    RegistrationFailed,
)
from softphone.people.call_log import result_of
from softphone.people.history import CallResult

MOST_CALLS = 1000
"That are remembered at a time."


class Occasion(StrEnum):
    """Names of hooks."""

    INCOMING = "incoming"
    ANSWERED = "answered"
    ENDED = "ended"
    MISSED = "missed"
    "A call came in and nobody took it; `ENDED` is told as well."
    MESSAGE = "message"
    REGISTRATION_FAILED = "registration_failed"
    "Told once, until the account is registered again."


class Occasions:
    """Knows of each call what its later events do not say."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], dict[str, object]] = {}
        self._failed: set[str] = set()
        "Accounts whose registration failed last."

    def of(self, account: str, event: Event) -> list[tuple[Occasion, dict[str, object]]]:
        """What this event is an occasion for, with the JSON object that the hook gets."""
        values = described(event, account)
        if isinstance(event, CallEvent):
            return self._call(account, event, values)
        match event:
            case MessageReceived():
                return [(Occasion.MESSAGE, values)]
            case Registered():
                self._failed.discard(account)
            case RegistrationFailed() if account not in self._failed:
                self._failed.add(account)
                return [(Occasion.REGISTRATION_FAILED, values)]
            case _:
                pass
        return []

    def _call(
        self, account: str, event: CallEvent, values: dict[str, object]
    ) -> list[tuple[Occasion, dict[str, object]]]:
        key = account, event.call
        match event:
            case CallIncoming(_, remote):
                self._remember(key, {"remote": remote, "incoming": True})
                return [(Occasion.INCOMING, values | {"incoming": True})]
            case CallAnswered(_, remote):
                known = self._calls.get(key, {"incoming": False})
                self._remember(key, {**known, "remote": remote, "answered": True})
                return [(Occasion.ANSWERED, {"incoming": False} | known | values)]
            case CallEnded():
                known = self._calls.pop(key, {"incoming": False})
                incoming, answered = bool(known.get("incoming")), bool(known.get("answered"))
                result = result_of(event, incoming=incoming, answered=answered)
                told = {"remote": "", **known, "answered": answered, **values, "result": result.value}
                ended = [(Occasion.ENDED, told)]
                return [*ended, (Occasion.MISSED, told)] if result is CallResult.MISSED else ended
            case _:
                return []

    def _remember(self, key: tuple[str, str], known: dict[str, object]) -> None:
        self._calls[key] = known
        if len(self._calls) > MOST_CALLS:
            del self._calls[next(iter(self._calls))]
