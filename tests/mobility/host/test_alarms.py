"""Alarms: set, moved, cancelled, in order; and the rate limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mobility.host.alarms import Alarms
from mobility.host.errors import TokenBucket


def test_alarms_ring_in_order_once_and_not_when_cancelled() -> None:
    alarms = Alarms()
    rung: list[tuple[str, float]] = []
    for name, when in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("d", 4.0)):
        alarms.set(name, when, lambda now, name=name: rung.append((name, now)))  # type: ignore[misc]
    alarms.cancel("b")
    alarms.set("a", 3.5, lambda now: rung.append(("a moved", now)))
    assert alarms.next == 3.0
    alarms.run(2.9)
    assert rung == []
    alarms.run(3.6)
    assert rung == [("c", 3.6), ("a moved", 3.6)]
    alarms.cancel("d")
    assert "d" not in alarms
    alarms.run(10.0)
    assert len(rung) == 2


def test_an_alarm_may_set_another_for_the_same_moment() -> None:
    alarms = Alarms()
    rung: list[str] = []
    alarms.set("first", 1.0, lambda now: alarms.set("second", now, lambda _now: rung.append("second")))
    alarms.run(1.0)
    assert rung == ["second"]
    assert alarms.next is None


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 100) | st.none()), max_size=400))
def test_alarms_agree_with_a_plain_dictionary(steps: list[tuple[int, float | None]]) -> None:
    alarms, model = Alarms(), dict[int, float]()
    for key, when in steps:
        if when is None:
            alarms.cancel(key)
            model.pop(key, None)
        else:
            alarms.set(key, when, lambda now: None)
            model[key] = when
        assert alarms.next == min(model.values(), default=None)


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0)
    assert [bucket.take(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert [bucket.take(0.5), bucket.take(0.5)] == [True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
