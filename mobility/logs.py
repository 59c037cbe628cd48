"""The log of a node: lines of text for people, or one JSON object a line for programs; and events in it.

Secrets are never logged: events hold addresses, reasons and counts, and complaints about a configuration name its keys
without their values.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from mobility.agent import ServiceChanged
from mobility.mipv6.binding_events import BindingChanged, BindingRefreshed, BindingRestored, UpdateRefused
from mobility.outputs import Event
from mobility.settings import LogFormat
from mobility.store.events import LeaseLost, LeaseTaken, ServingAlone

log = logging.getLogger(__name__)

TEXT = "%(asctime)s mobility[%(process)d] %(levelname)s %(name)s: %(message)s"
RATE, BURST = 10.0, 100.0
"Events of one kind a second, and at once: a flood of strangers is not to become a flood of lines."
_TOLD = (BindingChanged, BindingRestored, UpdateRefused, ServiceChanged, LeaseTaken)
_WARNED = (LeaseLost, ServingAlone)
_QUIET = (BindingRefreshed,)


class JsonFormatter(logging.Formatter):
    """``{"time": "2025-01-31T12:00:00.123456+00:00", "level": "info", "logger": ..., "process": 1, "message": ...}``.

    A line about an event has its fields too, among them ``event``; an exception is in ``exception``.
    """

    def format(self, record: logging.LogRecord) -> str:
        values: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            values |= {key: value for key, value in fields.items() if key not in values}
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False, default=str)


def use(form: LogFormat) -> None:
    """Gives all lines of this process, and of those that it starts, this form."""
    formatter = JsonFormatter() if form is LogFormat.JSON else logging.Formatter(TEXT)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)


class EventLog:
    """Writes the events that an operator cares for, and packets that were dropped, now and then."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tokens: dict[str, tuple[float, float]] = {}
        self._left_out: Counter[str] = Counter()

    def happened(self, event: Event) -> None:
        """An event of the node."""
        if isinstance(event, _WARNED):
            self.tell(logging.WARNING, event.describe())
        elif isinstance(event, _TOLD) and not isinstance(event, _QUIET):
            self.tell(logging.INFO, event.describe())
        else:
            log.debug("%s", event)

    def noted(self, entry: Mapping[str, object]) -> None:
        """An entry of the trace: of dropped packets it has the first of a kind, and then each doubling."""
        if entry.get("event") == "Discarded":
            self.tell(logging.INFO, {key: value for key, value in entry.items() if key != "time"})

    def tell(self, level: int, fields: dict[str, object]) -> None:
        """A line; too many of a kind are left out and counted."""
        kind = str(fields["event"])
        now = self._clock()
        tokens, since = self._tokens.get(kind, (BURST, now))
        tokens = min(tokens + (now - since) * RATE, BURST)
        if tokens < 1:
            self._tokens[kind] = tokens, now
            self._left_out[kind] += 1
            return
        self._tokens[kind] = tokens - 1, now
        if left_out := self._left_out.pop(kind, 0):
            fields["left_out"] = left_out
        words = " ".join(f"{key}={value}" for key, value in fields.items() if key != "event")
        log.log(level, "%s %s", kind, words, extra={"fields": fields})
