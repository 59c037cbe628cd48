"""Events as JSON objects with stable names: on stdout of the commands and on the socket of the daemon."""

from __future__ import annotations

import dataclasses
import re
from enum import Enum

from softphone.events import CallMedia, Event
from softphone.media.events import MediaEvent


def name_of(event: Event | MediaEvent) -> str:
    """``call-answered`` for `CallAnswered`; what the media of a call tells has the name of what is told."""
    told = event.event if isinstance(event, CallMedia) else event
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(told).__name__).lower()


def described(event: Event, account: str | None = None) -> dict[str, object]:
    """The event as a JSON object: ``event`` is its name, ``call`` the Call-ID, the other keys are its fields."""
    values: dict[str, object] = {"event": name_of(event)}
    if account is not None:
        values["account"] = account
    if isinstance(event, CallMedia):
        values["call"] = event.call
        return values | _fields(event.event)
    return values | _fields(event)


def _fields(event: object) -> dict[str, object]:
    assert dataclasses.is_dataclass(event)
    pairs = ((field.name, getattr(event, field.name)) for field in dataclasses.fields(event))
    return {name: shown(value) for name, value in pairs if name not in ("source", "part")}


def shown(value: object) -> object:
    """A value of an event as JSON values."""
    match value:
        case Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return value.decode("utf-8", "replace")
        case tuple() if (names := getattr(value, "_fields", None)) is not None:
            return {name: shown(part) for name, part in zip(names, value, strict=True)}
        case tuple() | list():
            return [shown(part) for part in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return _fields(value)
        case _:
            return str(value)
