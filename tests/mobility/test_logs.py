"""Lines of the log, and events in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from mobility import logs
from mobility.logs import BURST, EventLog, JsonFormatter
from mobility.mipv6.binding_events import BindingCreated, BindingRefreshed, UpdateRefused
from mobility.settings import LogFormat
from mobility.store.events import LeaseLost

HOME, CARE_OF = IPv6Address("2001:db8:1::100"), IPv6Address("2001:db8:a::9")
CREATED = BindingCreated(HOME, CARE_OF, None, 420)


def line(record: logging.LogRecord) -> dict[str, object]:
    text = JsonFormatter().format(record)
    assert "\n" not in text
    values = json.loads(text)
    assert isinstance(values, dict)
    return values


def test_an_event_is_one_object_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        EventLog(lambda: 0.0).happened(CREATED)
    values = line(caplog.records[0])
    assert (values["event"], values["level"], values["home_address"]) == ("BindingCreated", "info", str(HOME))
    assert values["previous"] is None
    assert str(values["message"]).startswith("BindingCreated home_address=2001:db8:1::100 ")
    assert str(values["time"]).endswith("+00:00")


def test_an_exception_stays_on_its_line(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError:
        logging.getLogger("x").exception("it %s", "failed")
    values = line(caplog.records[0])
    assert values["message"] == "it failed"
    assert "RuntimeError: two\nlines" in str(values["exception"])


def test_fields_do_not_hide_what_every_line_has(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("x").warning("true", extra={"fields": {"message": "false", "time": 1, "more": b"\xff"}})
    values = line(caplog.records[0])
    assert values["message"] == "true"
    assert isinstance(values["time"], str)
    assert values["more"] == "b'\\xff'"


def test_what_matters_less_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(lambda: 0.0)
    with caplog.at_level(logging.INFO):
        events.happened(BindingRefreshed(HOME, 0, 420))
        events.noted({"event": "HandoverStarted"})
        events.happened(LeaseLost("the lease is over"))
        events.noted({"event": "Discarded", "time": 1.0, "reason": "replayed", "count": 1})
    assert [(each.levelname, each.getMessage().split()[0]) for each in caplog.records] == [
        ("WARNING", "LeaseLost"),
        ("INFO", "Discarded"),
    ]


def test_a_flood_of_one_kind_is_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    events = EventLog(lambda: now[0])
    with caplog.at_level(logging.INFO):
        for _ in range(10_000):
            events.happened(UpdateRefused(HOME, "administratively prohibited"))
        events.happened(CREATED)
        assert len(caplog.records) == BURST + 1
        now[0] = 10.0
        events.happened(UpdateRefused(HOME, "administratively prohibited"))
    assert line(caplog.records[-1])["left_out"] == 10_000 - BURST


@pytest.fixture
def root_handler() -> Iterator[logging.Handler]:
    handler = logging.Handler()
    logging.getLogger().addHandler(handler)
    before = {each: each.formatter for each in logging.getLogger().handlers}
    yield handler
    logging.getLogger().removeHandler(handler)
    for each, formatter in before.items():
        each.setFormatter(formatter)


def test_the_form_is_chosen(root_handler: logging.Handler) -> None:
    logs.use(LogFormat.JSON)
    assert isinstance(root_handler.formatter, JsonFormatter)
    logs.use(LogFormat.TEXT)
    assert not isinstance(root_handler.formatter, JsonFormatter)
