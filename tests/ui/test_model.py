"""What the user interface knows, without Textual: events in, state out."""

from __future__ import annotations

from typing import Any

import pytest

from ui.model import Model, Part, shortened
from ui.widgets.calls import application_lock

STATUS: dict[str, Any] = {
    "version": "1.0",
    "accounts": [
        {
            "account": "work", "address": "sip:alice@example.org", "registered": True, "host": "::1", "port": 5060,
            "network": "home", "do_not_disturb": False, "voicemail": "*97", "calls": [],
        },
    ],
    "failures": {"broken": "no password"},
}  # fmt: skip


def model_with(*events: dict[str, Any]) -> tuple[Model, list[Part]]:
    changed: list[Part] = []
    model = Model(changed.append)
    model.take_status(STATUS)
    for at, event in enumerate(events):
        model.apply(event, 100.0 + at)
    return model, changed


def incoming(call: str = "1") -> dict[str, Any]:
    return {
        "event": "call-incoming",
        "account": "work",
        "call": call,
        "remote": "<sip:bob@example.org>",
        "waiting": False,
    }


def test_a_status_tells_accounts_and_why_others_do_not_run() -> None:
    model, changed = model_with()
    assert [(one.name, one.registered, one.failure) for one in model.accounts.values()] == [
        ("work", True, ""), ("broken", False, "no password"),
    ]  # fmt: skip
    assert (model.accounts["work"].where, model.accounts["work"].voicemail) == ("[::1]:5060", "*97")
    assert {Part.ACCOUNTS, Part.CALLS} <= set(changed)


def test_registrations_come_and_go() -> None:
    model, _ = model_with({"event": "registration-failed", "account": "work", "status": 403, "reason": "Forbidden"})
    assert (model.accounts["work"].registered, model.accounts["work"].failure) == (False, "403 Forbidden")
    model.apply({"event": "registered", "account": "work", "contact": "", "expires": 300}, 0)
    assert (model.accounts["work"].registered, model.accounts["work"].failure) == (True, "")
    model.apply({"event": "registered", "account": "somebody else's"}, 0)


def test_a_call_that_comes_in_rings_until_it_is_answered() -> None:
    model, _ = model_with(incoming())
    call = model.ringing
    assert call is not None
    assert (call.who, call.state, call.started) == ("bob@example.org", "ringing", 100.0)
    model.apply({"event": "call-answered", "call": "1", "remote": "sip:bob@example.org"}, 105.0)
    assert model.ringing is None
    assert model.current is call
    assert (call.established, call.answered) == (True, 105.0)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"by": "remote", "status": 487, "reason": "Request Terminated"}, "missed"),
        ({"by": "local", "status": 486, "reason": "Busy Here"}, "refused"),
        ({"by": "failure", "status": 408, "reason": "Request Timeout"}, "failed: 408 Request Timeout"),
    ],
)
def test_how_a_call_ended_is_told_in_words(event: dict[str, Any], words: str) -> None:
    model, _ = model_with(incoming(), {"event": "call-ended", "call": "1", **event})
    assert model.calls["1"].words == words
    assert model.current is None


def test_the_last_calls_that_ended_stay_and_older_ones_go() -> None:
    events = [event for number in range(5) for event in (incoming(str(number)), ended(str(number)))]
    model, _ = model_with(*events)
    assert list(model.calls) == ["2", "3", "4"]


def ended(call: str) -> dict[str, Any]:
    return {"event": "call-ended", "call": call, "by": "remote", "status": 487, "reason": ""}


def test_what_the_status_does_not_have_any_more_is_over_and_its_event_may_come_later() -> None:
    model, _ = model_with(incoming("1"), ended("1"), incoming("2"))
    model.take_status(STATUS)
    assert (model.ringing, model.live_calls) == (None, [])
    model.apply(ended("2"), 0)
    assert [call.words for call in model.calls.values()] == ["missed", "missed"]


def test_levels_and_quality_belong_to_their_call() -> None:
    model, changed = model_with(incoming())
    model.apply({"event": "levels", "calls": [{"call": "1", "sent_dbov": -20.5, "received_dbov": -31}]}, 0)
    quality = {"event": "quality", "call": "1", "mos": 4.2, "loss": 0.01, "jitter_ms": 3, "round_trip_ms": None}
    model.apply({**quality, "codec": "opus", "suite": "AES"}, 0)
    model.apply({**quality, "call": "unknown"}, 0)
    call = model.calls["1"]
    assert (call.sent_dbov, call.received_dbov, call.codec, call.suite) == (-20.5, -31.0, "opus", "AES")
    assert [(one.mos, one.loss, one.round_trip_ms) for one in call.quality] == [(4.2, 0.01, None)]
    assert {Part.LEVELS, Part.QUALITY} <= set(changed)


@pytest.mark.parametrize(
    ("told", "wide", "narrow"),
    [
        (None, "■ application IPsec", "■ application IPsec"),
        ({"state": "protected", "algorithm": "aes-gcm-16"}, "■ application IPsec aes-gcm-16", "■ application IPsec"),
        ({"state": "negotiating"}, "□ application IPsec waits for keys", "□ application IPsec waits for keys"),
        ({"state": "none", "reason": "no keys"}, "□ application IPsec (no keys)", "□ application IPsec"),
    ],
)
def test_the_lock_of_a_call_is_its_own_and_tells_in_words_why_it_is_open(
    told: dict[str, str] | None, wide: str, narrow: str
) -> None:
    model, _ = model_with(incoming())
    if told is not None:
        model.apply({"event": "call-ipsec", "call": "1", "peer": "2001:db8::2", **told}, 0)
    assert application_lock(model.calls["1"], True, 120).plain == wide
    assert application_lock(model.calls["1"], True, 80).plain == narrow


def test_one_call_after_the_other_is_selected_and_a_held_one_is_not_meant() -> None:
    model, _ = model_with(incoming("1"), incoming("2"), incoming("3"))
    for call in ("1", "2", "3"):
        model.apply({"event": "call-answered", "call": call, "remote": "sip:bob@example.org"}, 0)
    model.apply({"event": "call-hold", "call": "1", "local": True, "remote": False}, 0)
    assert model.current is model.calls["2"]
    model.select_next(1)
    assert model.current is model.calls["3"]
    model.select_next(1)
    assert model.current is model.calls["1"]
    model.select_next(-1)
    assert model.current is model.calls["3"]


def test_mobility_is_known_by_account_until_its_process_is_lost() -> None:
    model, _ = model_with({"event": "mobility", "account": "work", "tunnel": "esp", "application_ipsec": True})
    assert (model.mobility_of("work") or {})["tunnel"] == "esp"
    assert model.mobility_of("travel") is model.mobility_of("work")
    model.apply({"event": "mobility-event", "account": "work", "happened": {}}, 0)
    assert model.mobility_of("work") is not None
    model.apply({"event": "mobility-lost", "account": "work", "why": "gone"}, 0)
    assert model.mobility_of("work") is None


def test_events_and_the_log_are_kept_streams_are_not() -> None:
    model, _ = model_with(
        incoming(), {"event": "levels", "calls": []},
        {"event": "log", "time": 5.0, "level": "WARNING", "logger": "softphone", "text": "a\nb"},
    )  # fmt: skip
    assert [(line.time, line.level, line.source) for line in model.log] == [
        (100.0, "EVENT", "work"), (5.0, "WARNING", "softphone"),
    ]  # fmt: skip


def test_an_event_that_is_not_known_changes_nothing() -> None:
    model, _ = model_with({"event": "something-new", "call": "1"}, {"event": "call-ended", "call": "unknown"}, {})
    assert model.calls == {}


@pytest.mark.parametrize(
    ("uri", "short"),
    [
        ("<sip:bob@example.org;transport=tls>;tag=1", "bob@example.org"),
        ("sips:bob@example.org?subject=x", "bob@example.org"),
        ("tel:+4930123;phone-context=x", "+4930123"),
        ("sip:bob@[::1]:5060", "bob@[::1]:5060"),
        ("bob@[::1]:5060", "bob@[::1]:5060"),
    ],
)
def test_addresses_are_shown_without_what_is_for_machines(uri: str, short: str) -> None:
    assert shortened(uri) == short
