"""STUN keepalive of a datagram flow (RFC 5626 section 4.4.2)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from softphone.sip.keepalive import INTERVAL, RETRANSMISSIONS, Ask, Failed, Silent, StunKeepalive, is_stun

US = ("2001:db8::1", 5060)


def keepalive(jitter: float = 1.0) -> StunKeepalive:
    numbers = itertools.count(1)
    return StunKeepalive(lambda size: next(numbers).to_bytes(size, "big"), lambda: jitter)


def answer(question: bytes, mapped: tuple[str, int] | None = US, **changes: Any) -> bytes:
    asked = stun.parse_message(question)
    fields = {"message_method": asked.message_method, "message_class": stun.Class.RESPONSE} | changes
    attributes = {} if mapped is None else {"XOR-MAPPED-ADDRESS": mapped}
    return bytes(stun.Message(transaction_id=asked.transaction_id, attributes=attributes, **fields))


def question(engine: StunKeepalive, now: float) -> bytes:
    [ask] = engine.begin(now) if engine.timer is None else engine.handle_timer(now)
    assert isinstance(ask, Ask)
    return ask.data


@pytest.mark.parametrize(("jitter", "pause"), [(0.0, 0.8 * INTERVAL), (1.0, INTERVAL)])
def test_while_nothing_changes_it_asks_from_time_to_time(jitter: float, pause: float) -> None:
    engine, now = keepalive(jitter), 100.0
    asked = set()
    for _ in range(5):
        data = question(engine, now)
        assert is_stun(data)
        asked.add(data)
        assert engine.received(answer(data), now + 0.1) == []
        assert engine.timer == now + 0.1 + pause
        now += 0.1 + pause
    assert len(asked) == 5


def test_another_address_means_another_flow() -> None:
    engine = keepalive()
    engine.received(answer(question(engine, 0.0)), 0.1)
    assert engine.timer is not None
    outputs = engine.received(answer(question(engine, engine.timer), ("2001:db8::1", 5061)), 40.0)
    assert outputs == [Failed("the server sees us at 2001:db8::1 port 5061 now")]
    assert engine.timer is None


@pytest.mark.parametrize("known", [True, False])
def test_a_lost_question_is_repeated_and_silence_is_failure_in_the_end(known: bool) -> None:
    engine = keepalive()
    if known:
        engine.received(answer(question(engine, 0.0)), 0.0)
    now = engine.timer or 0.0
    first = question(engine, now)
    for pause in RETRANSMISSIONS[:-1]:
        assert engine.handle_timer(now + pause - 0.01) == []
        now += pause
        assert engine.handle_timer(now) == [Ask(first)]
    now += RETRANSMISSIONS[-1]
    lost = Failed("the server does not answer keepalives any more") if known else Silent()
    assert engine.handle_timer(now) == [lost]
    assert now == 39.5 + known * INTERVAL


@pytest.mark.parametrize(
    "data",
    [
        answer(bytes(stun.Message(stun.Method.BINDING, stun.Class.REQUEST, bytes(12)))),
        b"\0\1\0\0" + bytes(16),
        b"",
    ],
)
def test_what_is_no_answer_to_our_question_changes_nothing(data: bytes) -> None:
    engine = keepalive()
    question(engine, 0.0)
    timer = engine.timer
    assert engine.received(data, 0.1) is None
    assert (engine.timer, engine.mapped) == (timer, None)


def test_errors_and_answers_without_an_address_change_nothing() -> None:
    engine = keepalive()
    data = question(engine, 0.0)
    assert engine.received(answer(data, message_class=stun.Class.ERROR), 0.1) is None
    assert engine.received(answer(data, message_method=stun.Method.ALLOCATE), 0.1) is None
    assert engine.received(answer(data, None), 0.1) is None
    assert engine.received(answer(data), 0.1) == []
    assert engine.received(answer(data), 0.2) is None  # once more


@given(st.binary(max_size=60), st.integers(0, 80))
def test_random_answers_raise_nothing(noise: bytes, position: int) -> None:
    engine = keepalive()
    data = bytearray(answer(question(engine, 0.0)))
    data[position : position + len(noise)] = noise
    engine.received(bytes(data), 1.0)
    is_stun(bytes(data))


def test_sip_is_no_stun() -> None:
    assert not is_stun(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
