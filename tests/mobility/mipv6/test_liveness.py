"""Whether anything comes through: when the home agent is asked, and when a path is given up."""

from __future__ import annotations

import pytest

from mobility.mipv6.liveness import IDLE_TICK, QUESTIONS, SHORTEST_WAIT, SILENCE, TICK, Liveness, Verdict


class Path:
    """A path with its clock and the terminal's counters."""

    def __init__(self, keepalive: float = 0.0, *, proven: bool = True) -> None:
        self.now = 100.0
        self.sent = self.received = 0
        self.liveness = Liveness()
        self.liveness.begin("wlan0", keepalive, self.now, 0, 0)
        if proven:
            assert self.until(Verdict.ASK) == pytest.approx(TICK)
            assert self.liveness.reply(self.liveness.sequence, self.now)

    def until(self, wanted: Verdict, *, limit: float = 60.0, sending: bool = False, hearing: bool = False) -> float:
        """Seconds until `look` says ``wanted``."""
        begin = self.now
        while self.now < begin + limit:
            assert self.liveness.timer is not None
            self.now = max(self.now, self.liveness.timer)
            self.sent += sending
            self.received += hearing
            verdict = self.liveness.look(self.now, self.sent, self.received)
            assert self.liveness.timer > self.now  # else the loop of the data plane would never rest
            if verdict is wanted:
                return self.now - begin
            assert verdict in (Verdict.NOTHING, Verdict.ASK)
        raise AssertionError(f"no {wanted} within {limit} s")


def test_a_path_that_is_silent_while_the_terminal_sends_is_dead_within_a_second_and_a_half() -> None:
    path = Path()
    path.until(Verdict.ASK, sending=True)
    assert path.until(Verdict.DEAD, sending=True) < QUESTIONS * SHORTEST_WAIT + 0.01
    path = Path()
    assert path.until(Verdict.DEAD, sending=True) < SILENCE + 2 * IDLE_TICK + QUESTIONS * SHORTEST_WAIT


def test_a_path_that_brings_packets_is_never_asked() -> None:
    path = Path()
    with pytest.raises(AssertionError, match="no Verdict"):
        path.until(Verdict.ASK, sending=True, hearing=True)
    assert path.liveness.asked == 1


def test_nobody_asks_when_nothing_is_sent_and_no_nat_has_to_be_kept() -> None:
    path = Path()
    with pytest.raises(AssertionError, match="no Verdict"):
        path.until(Verdict.ASK)


def test_keepalive() -> None:
    path = Path(20.0)
    assert 19 < path.until(Verdict.ASK) <= 20 + IDLE_TICK
    assert path.liveness.reply(path.liveness.sequence, path.now + 0.05)
    assert path.liveness.round_trip == pytest.approx(0.05)
    assert 19 < path.until(Verdict.ASK) <= 20 + IDLE_TICK
    assert path.until(Verdict.DEAD) < 1.0


def test_an_answer_ends_the_questions() -> None:
    path = Path()
    path.until(Verdict.ASK, sending=True)
    first = path.liveness.sequence
    path.until(Verdict.ASK, sending=True)
    assert path.liveness.reply(first, path.now)  # late, and still an answer
    assert not path.liveness.reply(first, path.now)
    assert path.until(Verdict.ASK, sending=True) >= SILENCE


def test_a_home_agent_that_never_answers_such_questions_is_not_judged_by_them() -> None:
    path = Path(5.0, proven=False)
    with pytest.raises(AssertionError, match="no Verdict"):
        path.until(Verdict.DEAD, sending=True)


def test_questions_wait_for_a_long_round_trip() -> None:
    path = Path(1.0)
    path.until(Verdict.ASK)
    path.now += 0.4
    assert path.liveness.reply(path.liveness.sequence, path.now)
    path.until(Verdict.ASK, sending=True)
    assert path.until(Verdict.DEAD, sending=True) >= QUESTIONS * 0.8 - 0.01


def test_a_path_that_is_not_in_use_asks_for_nothing() -> None:
    path = Path()
    path.liveness.end()
    assert path.liveness.timer is None
    assert path.liveness.look(1e9, 5, 0) is Verdict.NOTHING


def test_a_round_trip_that_somebody_asks_for_is_measured_also_while_packets_flow() -> None:
    path = Path()
    assert path.liveness.probe(path.now)
    number, asked = path.liveness.sequence, path.now
    with pytest.raises(AssertionError, match="no Verdict"):
        path.until(Verdict.ASK, limit=2.0, hearing=True)  # nothing else is asked meanwhile
    assert path.liveness.reply(number, asked + 2.5)
    assert [trip for _, trip in path.liveness.round_trips] == [0.0, 2.5]
    snapshot = path.liveness.snapshot(asked + 4.5)
    assert snapshot["round_trips"] == [[4.5, 0.0], [2.0, 2500.0]]


def test_a_probe_that_is_lost_proves_nothing_and_is_forgotten() -> None:
    path = Path()
    numbers = []
    for _ in range(20):
        assert path.liveness.probe(path.now)
        numbers.append(path.liveness.sequence)
    with pytest.raises(AssertionError, match="no Verdict"):
        path.until(Verdict.DEAD)
    assert not path.liveness.reply(numbers[0], path.now)
    assert path.liveness.reply(numbers[-1], path.now)
    path.liveness.end()
    assert not path.liveness.probe(path.now)
