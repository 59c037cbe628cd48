"""The engines of subscriptions and publications, in simulated time."""

from __future__ import annotations

import pytest

from softphone.sip.headers import Headers
from softphone.sip.message import Request
from softphone.sip.publication import Publish, Publisher
from softphone.sip.subscription import (
    BURST,
    NOTIFY_SECONDS,
    WHOLE_AGAIN,
    Moved,
    Phase,
    Subscribe,
    Subscriber,
    SubscriptionState,
)
from softphone.sip.uri import SipUri

ACTIVE = SubscriptionState("active", 600)


def engine(expires: int = 3600) -> Subscriber:
    return Subscriber(expires, lambda: 1.0)


def running(now: float = 0.0) -> Subscriber:
    made = engine()
    assert made.begin(now) == [Moved(Phase.TRYING, ""), Subscribe(3600, True)]
    assert made.answered(200, 3600, None, 0, now) == []
    assert made.notified(ACTIVE, now) == [Moved(Phase.ACTIVE, "")]
    return made


def test_refreshed_in_the_dialog_before_it_expires() -> None:
    made = running()
    assert made.timer == 450.0
    assert made.handle_timer(449.9) == []
    assert made.handle_timer(450.0) == [Subscribe(3600, False)]
    assert made.answered(200, 1200, None, 0, 451.0) == []
    assert made.timer == 451.0 + 900


def test_the_other_side_may_decide_later() -> None:
    made = engine()
    made.begin(0.0)
    assert made.notified(SubscriptionState("pending", 100), 1.0) == [Moved(Phase.PENDING, "")]
    assert made.notified(ACTIVE, 2.0) == [Moved(Phase.ACTIVE, "")]
    assert made.notified(ACTIVE, 3.0) == []


def test_without_a_notify_it_is_tried_again_ever_less_often() -> None:
    made, now, pauses = engine(), 0.0, []
    outputs = made.begin(now)
    for _ in range(12):
        assert Subscribe(3600, True) in outputs
        made.answered(202, 3600, None, 0, now)
        now += NOTIFY_SECONDS
        assert made.handle_timer(now) == [Moved(Phase.WAITING, "nothing was told")]
        assert made.timer is not None
        pauses.append(made.timer - now)
        now = made.timer
        outputs = made.handle_timer(now)
    assert pauses[:3] == [5.0, 10.0, 20.0]
    assert pauses[-1] == 1800.0


def test_an_answer_that_never_comes() -> None:
    made = engine()
    made.begin(0.0)
    assert made.answered(503, None, None, 120, 32.0) == [Moved(Phase.WAITING, "refused with 503")]
    assert made.timer == 152.0


@pytest.mark.parametrize("status", [403, 404, 489, 603])
def test_refused_for_good(status: int) -> None:
    made = engine()
    made.begin(0.0)
    assert made.answered(status, None, None, 0, 1.0) == [Moved(Phase.ENDED, f"refused with {status}")]
    assert made.timer is None
    assert made.notified(ACTIVE, 2.0) == []
    assert made.leave(3.0) == []


def test_a_longer_time_that_the_server_wants() -> None:
    made = engine(60)
    made.begin(0.0)
    assert made.answered(423, None, 300, 0, 1.0) == [Subscribe(300, True)]
    assert made.answered(423, None, 300, 0, 2.0) == [Moved(Phase.WAITING, "refused with 423")]


def test_a_server_that_forgot_us_is_asked_anew() -> None:
    made = running()
    made.handle_timer(450.0)
    assert made.answered(481, None, None, 0, 450.5) == [
        Moved(Phase.WAITING, "the other side has forgotten the subscription")
    ]
    assert made.handle_timer(452.0) == [Moved(Phase.TRYING, ""), Subscribe(3600, True)]


def test_a_refresh_that_fails_for_a_while_leaves_what_there_is() -> None:
    made = running()
    made.handle_timer(450.0)
    assert made.answered(500, None, None, 0, 451.0) == []
    assert made.timer == 456.0
    assert made.handle_timer(456.0) == [Subscribe(3600, False)]
    assert made.answered(500, None, None, 1000, 457.0) == []
    assert made.timer == 600.0
    assert made.handle_timer(600.0) == [Moved(Phase.WAITING, "it expired")]


@pytest.mark.parametrize(
    ("state", "phase", "pause"),
    [
        (SubscriptionState("terminated", None, "deactivated"), Phase.WAITING, 1.0),
        (SubscriptionState("terminated", None, "timeout"), Phase.WAITING, 1.0),
        (SubscriptionState("terminated", None, "probation", 90), Phase.WAITING, 90.0),
        (SubscriptionState("terminated", None, "giveup"), Phase.WAITING, 5.0),
        (SubscriptionState("terminated"), Phase.WAITING, 5.0),
        (SubscriptionState("terminated", None, "rejected"), Phase.ENDED, None),
        (SubscriptionState("terminated", None, "noresource"), Phase.ENDED, None),
        (SubscriptionState("terminated", None, "invariant"), Phase.ENDED, None),
    ],
)
def test_ends_by_their_reason(state: SubscriptionState, phase: Phase, pause: float | None) -> None:
    made = running()
    assert made.notified(state, 10.0) == [Moved(phase, state.reason or "terminated")]
    assert made.timer == (None if pause is None else 10.0 + pause)


def test_unsubscribed() -> None:
    made = running()
    assert made.leave(10.0) == [Subscribe(0, False)]
    assert made.leave(10.0) == []
    assert made.answered(200, 0, None, 0, 11.0) == []
    assert made.notified(SubscriptionState("terminated", None, "timeout"), 12.0) == [Moved(Phase.ENDED, "timeout")]
    silent = running()
    silent.leave(10.0)
    assert silent.handle_timer(10.0 + NOTIFY_SECONDS) == [Moved(Phase.ENDED, "unsubscribed")]
    early = engine()
    early.begin(0.0)
    assert early.leave(1.0) == [Moved(Phase.ENDED, "unsubscribed")]


@pytest.mark.parametrize("state", ["active", "terminated"])
def test_fetched_once(state: str) -> None:
    made = engine(0)
    assert made.begin(0.0)[1] == Subscribe(0, True)
    made.answered(200, 0, None, 0, 1.0)
    assert made.notified(SubscriptionState(state, 0), 2.0) == [Moved(Phase.ENDED, "terminated")]
    silent = engine(0)
    silent.begin(0.0)
    silent.answered(200, 0, None, 0, 1.0)
    assert silent.handle_timer(1.0 + NOTIFY_SECONDS) == [Moved(Phase.ENDED, "nothing was told")]


def test_a_notifier_that_ends_it_again_and_again_causes_no_storm() -> None:
    made, now, sent = engine(), 0.0, 0
    outputs = made.begin(now)
    while now < 60.0:
        sent += sum(isinstance(output, Subscribe) for output in outputs)
        made.answered(200, 3600, None, 0, now)
        made.notified(SubscriptionState("terminated", None, "deactivated"), now)
        assert made.timer is not None
        now = made.timer
        outputs = made.handle_timer(now)
    assert sent <= 61


def test_the_whole_state_is_not_asked_for_again_and_again() -> None:
    made = running()
    assert made.refresh(1.0) == [Subscribe(3600, False)]
    assert made.refresh(2.0) == []
    assert made.refresh(1.0 + WHOLE_AGAIN) == [Subscribe(3600, False)]
    assert engine().refresh(0.0) == []


def test_floods_are_bounded() -> None:
    made = running()
    assert sum(made.admits(1000.0) for _ in range(1000)) == BURST
    assert sum(made.admits(1001.0) for _ in range(1000)) == 10


def test_states_are_printed_as_they_are_read() -> None:
    text = "terminated;reason=probation;retry-after=5"
    notify = Request(method="NOTIFY", uri=SipUri("x"), headers=Headers.of(("Subscription-State", text)))
    assert SubscriptionState.of(notify) == SubscriptionState("terminated", None, "probation", 5)
    assert str(SubscriptionState.of(notify)) == text


def publisher() -> Publisher:
    return Publisher(3600, lambda: 1.0)


def test_published_refreshed_changed_and_taken_back() -> None:
    made = publisher()
    assert made.publish(b"1", 0.0) == [Publish(b"1", None, 3600)]
    assert made.publish(b"2", 0.5) == []  # one at a time
    assert made.publish(b"3", 0.5) == []
    assert made.answered(200, "e1", 1800, None, 0, 1.0) == [Publish(b"3", "e1", 3600)]
    assert made.answered(200, "e2", 1800, None, 0, 2.0) == []
    assert made.timer == 2.0 + 1350
    assert made.handle_timer(1352.0) == [Publish(b"", "e2", 3600)]
    assert made.answered(200, "e3", 1800, None, 0, 1353.0) == []
    assert made.leave(1400.0) == [Publish(b"", "e3", 0)]
    assert made.answered(200, "e4", 0, None, 0, 1401.0) == []
    assert made.leave(1402.0) == []
    assert made.handle_timer(10_000.0) == []


def test_a_server_that_forgot_gets_everything_again() -> None:
    made = publisher()
    made.publish(b"1", 0.0)
    made.answered(200, "e1", None, None, 0, 0.0)
    assert made.handle_timer(2700.0) == [Publish(b"", "e1", 3600)]
    assert made.answered(412, None, None, None, 0, 2701.0) == [Publish(b"1", None, 3600)]


def test_refusals_of_publications() -> None:
    made = publisher()
    made.publish(b"1", 0.0)
    assert made.answered(423, None, None, 7200, 0, 1.0) == [Publish(b"1", None, 7200)]
    assert made.answered(503, None, None, None, 30, 2.0) == []
    assert made.timer == 32.0
    assert made.handle_timer(32.0) == [Publish(b"1", None, 7200)]
    assert made.answered(403, None, None, None, 0, 33.0) == []
    assert made.failure == 403
    assert made.handle_timer(10_000.0) == []
    assert made.publish(b"2", 10_001.0) == [Publish(b"2", None, 7200)]


def test_a_publication_that_ends_while_it_begins() -> None:
    made = publisher()
    made.publish(b"1", 0.0)
    assert made.leave(0.1) == []
    assert made.answered(200, "e1", None, None, 0, 1.0) == [Publish(b"", "e1", 0)]
