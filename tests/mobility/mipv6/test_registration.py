"""One home registration: every state with every input, retransmission, refresh, refusals."""

from __future__ import annotations

from ipaddress import IPv6Address
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.discards import Discard, Reason
from mobility.mipv6.refusals import why_refused
from mobility.mipv6.registration import (
    LEGAL,
    MAX_BINDACK_TIMEOUT,
    REFUSED_RETRY,
    WAITING,
    BindingRefused,
    BindingRequested,
    Bound,
    HomeAgentUnreachable,
    Move,
    Registration,
    ReturnedHome,
    SequenceNumbers,
    State,
    status_name,
)
from mobility.outputs import Output
from mobility.wire import mh

HA = IPv6Address("2001:db8:1::a")
HOME = IPv6Address("2001:db8:1::100")
COA = IPv6Address("2001:db8:a::1")
OTHER = IPv6Address("2001:db8:b::1")


def ack(sequence: int, status: int = 0, lifetime: int = 400, advice: int | None = None) -> mh.BindingAcknowledgement:
    options: tuple[mh.Option, ...] = () if advice is None else (mh.BindingRefreshAdvice(advice),)
    return mh.BindingAcknowledgement(status, sequence, lifetime, mh.AckFlag(0), options)


def requests(outputs: list[Output]) -> list[BindingRequested]:
    return [output for output in outputs if isinstance(output, BindingRequested)]


def in_state(state: State) -> Registration:
    """A registration brought there by its own methods, at time 0."""
    registration = Registration(HA, 420)
    match state:
        case State.IDLE:
            pass
        case State.REGISTERING:
            registration.bind(COA, 0.0)
        case State.BOUND | State.REFRESHING:
            registration.bind(COA, 0.0)
            registration.acknowledged(ack(1), 0.0)
            if state is State.REFRESHING:
                registration.refresh(0.0)
        case State.DEREGISTERING:
            registration.release(HOME, 0.0)
        case State.REFUSED:
            registration.bind(COA, 0.0)
            registration.acknowledged(ack(1, status=129), 0.0)
    assert registration.state is state
    return registration


@pytest.mark.parametrize("state", list(State))
def test_bind_and_release_are_heard_in_every_state(state: State) -> None:
    registration = in_state(state)
    (request,) = requests(registration.bind(OTHER, 1.0))
    assert (request.care_of_address, request.lifetime, registration.state) == (OTHER, 420, State.REGISTERING)
    (request,) = requests(registration.release(HOME, 2.0))
    assert (request.care_of_address, request.lifetime, registration.state) == (HOME, 0, State.DEREGISTERING)
    registration.abandon()
    assert (registration.state, registration.timer) == (State.IDLE, None)


@pytest.mark.parametrize("state", list(State))
def test_acknowledgement_counts_only_where_one_is_awaited(state: State) -> None:
    registration = in_state(state)
    if state in WAITING:
        outputs = registration.acknowledged(ack(registration.sequence), 0.5)
        assert isinstance(outputs[0], ReturnedHome if state is State.DEREGISTERING else Bound)
        return
    before = registration.snapshot(0.5)
    with pytest.raises(Discard) as caught:
        registration.acknowledged(ack(registration.sequence), 0.5)
    assert caught.value.reason is Reason.ACKNOWLEDGEMENT_UNEXPECTED
    assert registration.snapshot(0.5) == before


@pytest.mark.parametrize(("state", "move"), list(product(State, Move)))
def test_illegal_moves_change_nothing(state: State, move: Move) -> None:
    registration = Registration(HA, 420)
    registration.state = state
    registration._move(move)
    assert registration.state is LEGAL.get((state, move), state)
    assert (registration.state is state) or (state, move) in LEGAL


def test_wrong_sequence_changes_nothing() -> None:
    registration = in_state(State.REGISTERING)
    before = registration.snapshot(0.1)
    for sequence in (0, 2, 0xFFFF):
        with pytest.raises(Discard) as caught:
            registration.acknowledged(ack(sequence), 0.1)
        assert caught.value.reason is Reason.SEQUENCE_UNEXPECTED
    assert registration.snapshot(0.1) == before


def test_sequence_wraps() -> None:
    registration = Registration(HA, 420, SequenceNumbers(0xFFFE))
    assert [request.sequence for request in requests(registration.bind(COA, 0.0))] == [0xFFFF]
    assert [request.sequence for request in requests(registration.bind(OTHER, 1.0))] == [0]


def test_retransmission_doubles_to_the_maximum_with_new_numbers() -> None:
    registration = Registration(HA, 420)
    (first,) = requests(registration.bind(COA, 0.0))
    assert registration.timer == 1.5
    waits, sequences, told = [], [first.sequence], []
    now = 0.0
    for _ in range(9):
        assert registration.timer is not None
        waits.append(registration.timer - now)
        now = registration.timer
        outputs = registration.handle_timer(now)
        sequences += [request.sequence for request in requests(outputs)]
        told += [output for output in outputs if isinstance(output, HomeAgentUnreachable)]
    assert waits == [1.5, 3.0, 6.0, 12.0, 24.0, 32.0, 32.0, 32.0, 32.0]
    assert max(waits) == MAX_BINDACK_TIMEOUT
    assert sequences == list(range(1, 11))
    assert len(told) == 1


def test_late_acknowledgement_of_an_earlier_transmission_is_good() -> None:
    registration = Registration(HA, 420)
    registration.bind(COA, 0.0)
    registration.handle_timer(1.5)
    (bound,) = registration.acknowledged(ack(1), 2.0)
    assert isinstance(bound, Bound)
    assert bound.round_trip == 2.0
    assert registration.expires == 400.0  # counted from the update that was acknowledged


def test_retransmission_follows_the_round_trip_that_was_measured() -> None:
    registration = Registration(HA, 420)
    registration.bind(COA, 0.0)
    assert registration.timer == 1.5  # nothing is known yet
    registration.acknowledged(ack(1), 0.05)
    registration.bind(OTHER, 10.0)
    times = [10.0]
    while not any(isinstance(output, HomeAgentUnreachable) for output in registration.handle_timer(times[-1])):
        assert registration.timer is not None
        times.append(registration.timer)
    # 2 * 50 ms + 4 * 25 ms, doubled each time; the user is told no sooner than by the schedule of the RFC.
    assert [round(later - time, 3) for time, later in pairwise(times)] == [0.2, 0.4, 0.8, 1.6]
    registration.acknowledged(ack(registration.sequence), times[-1] + 0.05)
    registration.bind(COA, 20.0)
    assert registration.timer == pytest.approx(20.175)


@pytest.mark.parametrize(("round_trip", "wait"), [(0.0, 0.1), (0.002, 0.1), (0.6, 1.0)])
def test_first_timeout_is_neither_too_short_nor_longer_than_that_of_the_rfc(round_trip: float, wait: float) -> None:
    registration = Registration(HA, 420)
    registration.bind(COA, 0.0)
    registration.acknowledged(ack(1), round_trip)
    registration.bind(OTHER, 10.0)
    assert registration.timer == pytest.approx(10 + wait)


def test_refresh_before_expiry_and_by_advice() -> None:
    registration = Registration(HA, 420)
    registration.bind(COA, 0.0)
    registration.acknowledged(ack(1, lifetime=100), 0.1)
    assert registration.timer == 80.0
    registration.handle_timer(80.0)
    assert registration.state is State.REFRESHING
    assert registration.bound
    registration.acknowledged(ack(2, lifetime=100, advice=20), 80.1)
    assert registration.timer == 100.0


def test_binding_that_was_not_refreshed_ends() -> None:
    registration = Registration(HA, 420)
    registration.bind(COA, 0.0)
    registration.acknowledged(ack(1, lifetime=8), 0.0)
    registration.handle_timer(6.4)
    assert not registration.expire(7.9)
    assert registration.expire(8.0)
    assert registration.state is State.REGISTERING
    assert not registration.bound
    assert not registration.expire(9.0)


@pytest.mark.parametrize("status", [s for s in mh.Status if s >= 128 and s != mh.Status.SEQUENCE_OUT_OF_WINDOW] + [200])
def test_refusal_is_told_by_name_and_retried_slowly(status: int) -> None:
    registration = in_state(State.REGISTERING)
    (refused,) = registration.acknowledged(ack(1, status=status), 1.0)
    assert refused == BindingRefused(HA, status_name(status), REFUSED_RETRY, why_refused(status))
    assert registration.snapshot(1.0)["refused_because"] == why_refused(status)
    assert registration.handle_timer(60.9) == []
    assert len(requests(registration.handle_timer(61.0))) == 1


@pytest.mark.parametrize("status", [0, 1])
def test_both_kinds_of_acceptance(status: int) -> None:
    registration = in_state(State.REGISTERING)
    (bound,) = registration.acknowledged(ack(1, status=status), 0.25)
    assert bound == Bound(HA, COA, 400, 0.25)


def test_acceptance_without_lifetime_is_no_binding_and_no_loop() -> None:
    registration = in_state(State.REGISTERING)
    (refused,) = registration.acknowledged(ack(1, lifetime=0), 0.25)
    assert isinstance(refused, BindingRefused)
    assert registration.timer == 0.25 + REFUSED_RETRY


def test_number_out_of_window_is_followed_at_once_but_not_for_ever() -> None:
    registration = in_state(State.REGISTERING)
    for last in (700, 900, 0xFFFF):
        (request,) = requests(registration.acknowledged(ack(last, status=135), 0.1))
        assert request.sequence == (last + 1) & 0xFFFF
    with pytest.raises(Discard):
        registration.acknowledged(ack(2000, status=135), 0.1)
    assert registration.timer is not None
    assert len(requests(registration.handle_timer(registration.timer))) == 1
    (request,) = requests(registration.acknowledged(ack(3000, status=135), 9.0))
    assert request.sequence == 3001


@pytest.mark.parametrize("status", [0, 133, 128])
def test_home_whatever_the_home_agent_says(status: int) -> None:
    registration = in_state(State.DEREGISTERING)
    assert registration.acknowledged(ack(1, status=status, lifetime=0), 0.5) == [ReturnedHome(HA, 0.5)]
    assert (registration.state, registration.timer) == (State.IDLE, None)


def test_refresh_by_hand_does_nothing_without_a_registration() -> None:
    assert Registration(HA, 420).refresh(0.0) == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("bind"), st.booleans()),
            st.tuples(st.just("release"), st.booleans()),
            st.tuples(st.just("abandon"), st.booleans()),
            st.tuples(st.just("refresh"), st.booleans()),
            st.tuples(st.just("time"), st.integers(0, 500)),
            st.tuples(st.just("ack"), st.tuples(st.integers(-3, 3), st.integers(0, 255), st.integers(0, 600))),
        ),
        max_size=40,
    )
)
def test_nothing_breaks_whatever_happens(steps: list[tuple[str, object]]) -> None:
    registration = Registration(HA, 420, SequenceNumbers(0xFFFD))
    now = 0.0
    for name, value in steps:
        match name, value:
            case "bind", bool(first):
                registration.bind(COA if first else OTHER, now)
            case "release", _:
                registration.release(HOME, now)
            case "abandon", _:
                registration.abandon()
            case "refresh", _:
                registration.refresh(now)
            case "time", int(seconds):
                now += seconds
                registration.expire(now)
                registration.handle_timer(now)
            case "ack", (int(off), int(status), int(lifetime)):
                try:
                    registration.acknowledged(ack((registration.sequence + off) & 0xFFFF, status, lifetime), now)
                except Discard as discard:
                    assert discard.reason in (Reason.ACKNOWLEDGEMENT_UNEXPECTED, Reason.SEQUENCE_UNEXPECTED)  # noqa: PT017
        assert 0 <= registration.sequence <= 0xFFFF
        assert registration.bound <= (registration.expires is not None)
        assert (registration.timer is None) == (registration.state is State.IDLE)
