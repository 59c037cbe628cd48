"""Jitter buffer and player in simulated time: delay, loss, reordering, pauses, drift."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softphone.media.codecs import CODECS, G722, OPUS, PCMU, Codec, Samples
from softphone.media.drops import Drop
from softphone.media.jitter import GREATEST_DELAY, LEAST_DELAY, Empty, JitterBuffer, MediaPacket, Missing
from tests.softphone.media.support import Line, packets, voice, words

FRAME = 160


def at(codec: Codec, sound: Samples, delay: float = 0.03) -> list[tuple[float, MediaPacket]]:
    return [(n * 0.020 + delay, packet) for n, packet in enumerate(packets(codec, sound))]


def match(sound: Samples, heard: Samples, first: int = 0, last: int | None = None) -> tuple[int, float]:
    """Between which shifts of ``first`` and ``last`` samples the sound fits best, and the correlation there."""
    last = len(heard) - len(sound) if last is None else last
    windows = np.lib.stride_tricks.sliding_window_view(heard[first : last + len(sound)].astype(np.float32), len(sound))
    clean = sound.astype(np.float32)
    fits = windows @ clean / np.sqrt(np.einsum("ij,ij->i", windows, windows) * float(clean @ clean) + 1)
    return first + int(fits.argmax()), float(fits.max())


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_a_steady_line_is_unchanged_and_hardly_delayed(codec: Codec) -> None:
    line, sound = Line(codec), words(codec.sample_rate, 4)
    heard = line.run(at(codec, sound), 230)
    rate = codec.sample_rate
    shift, fit = match(sound[rate : 2 * rate], heard[rate:], 0, rate // 5)
    assert fit > 0.8  # Opus changes phases, the others reach 0.98
    # 30 ms of network, and 40 ms of buffer give or take the listener's 20 ms (plus the delay inside the codec).
    assert shift / rate < 0.030 + 0.040 + 0.014 + 0.010
    assert line.shortened == line.player.counters.stretched == 0
    # What is concealed is the time after the last packet.
    assert line.concealed == pytest.approx(230 * 0.020 - 4.0 - 0.067, abs=0.021)
    assert line.drops[Drop.LATE] == 0


@pytest.mark.parametrize("codec", [OPUS, G722], ids=str)
def test_a_busy_machine_that_sends_late_now_and_then_is_bridged(codec: Codec) -> None:
    line, sound = Line(codec), words(codec.sample_rate, 12)
    dice, free, arrivals = Random(6), 0.0, []
    for t, packet in at(codec, sound):
        # What is held up holds up what comes after it, too.
        if dice.random() < 0.04:
            free = t + dice.uniform(0.005, 0.035)
        arrivals.append((max(t, free), packet))
    line.run(arrivals, 600)
    assert line.shortened == line.concealed == 0
    # Pauses between words have become longer, once.
    assert line.player.counters.stretched < 0.030 * codec.sample_rate
    assert line.player.buffer.delay < 0.050


@pytest.mark.parametrize("pause", [0.050, 0.100, 0.200, 0.300])
@pytest.mark.parametrize("codec", [PCMU, OPUS], ids=str)
def test_a_handover_that_holds_packets_up_loses_none(codec: Codec, pause: float) -> None:
    line, sound = Line(codec), words(codec.sample_rate, 12)
    begins = 5.0
    arrivals = [
        (begins + pause + 0.01 * (t - begins) if begins <= t < begins + pause else t, packet)
        for t, packet in at(codec, sound)
    ]
    heard = line.run(arrivals, 590)
    assert not line.drops
    # The wait was bridged by invented sound and made up for by shortened pauses.
    assert line.concealed == pytest.approx(max(0, pause - 0.040), abs=0.035)
    assert line.shortened == pytest.approx(line.concealed, abs=0.045)
    # All speech was heard: before the handover, just after it, and at the end.
    rate = codec.sample_rate
    for second in (1, 4, 9, 11):
        piece = sound[int((second + 0.01) * rate) : int((second + 0.19) * rate)]
        _, fit = match(piece, heard, second * rate, int((second + 0.4) * rate))
        assert fit > 0.8
    # A single pause teaches nothing: the delay comes back.
    assert line.excess[-1] < 0.025
    assert line.player.buffer.delay == pytest.approx(LEAST_DELAY)


def test_after_a_handover_the_delay_is_small_again_soon() -> None:
    line, sound = Line(PCMU), words(8_000, 8)
    arrivals = [(max(t, 3.3) if 3.0 <= t < 3.3 else t, packet) for t, packet in at(PCMU, sound)]
    line.run(arrivals, 390)
    excess = np.array(line.excess)
    assert excess[int(3.4 / 0.02)] > 0.2
    soon = next(n for n in range(int(3.4 / 0.02), len(excess)) if excess[n] < 0.060)
    assert soon * 0.020 - 3.3 < 2.0


def test_a_handover_that_loses_packets_costs_no_delay() -> None:
    line, sound = Line(PCMU), words(8_000, 6)
    arrivals = [(t, packet) for t, packet in at(PCMU, sound) if not 3.0 <= t < 3.2]
    line.run(arrivals, 290)
    assert line.concealed == pytest.approx(0.200, abs=0.021)
    assert max(line.excess[:150]) < 0.030
    assert max(line.excess[162:]) < 0.030
    assert line.shortened == 0


def test_repeated_pauses_are_jitter_after_all() -> None:
    line, sound = Line(PCMU), words(8_000, 30)
    arrivals = []
    for t, packet in at(PCMU, sound):
        second = t % 1.0
        arrivals.append((t - second + 0.65 if 0.5 <= second < 0.65 else t, packet))
    line.run(arrivals, 1490)
    concealed = line.concealed
    assert line.player.buffer.delay > 0.1
    # In the second half nothing had to be invented any more.
    again = Line(PCMU)
    again.run(arrivals, 700)
    assert concealed - again.concealed < 0.050


def test_a_lower_latency_after_a_handover_is_used() -> None:
    line, sound = Line(PCMU), words(8_000, 16)
    arrivals = [(t + (0.120 if t < 5 else 0.0), packet) for t, packet in at(PCMU, sound)]
    line.run(arrivals, 790)
    assert line.excess[-1] < 0.025
    assert line.shortened == pytest.approx(0.120, abs=0.030)


def test_a_higher_latency_after_a_handover_is_followed_once() -> None:
    line, sound = Line(PCMU), words(8_000, 16)
    arrivals = [(t + (0.120 if t > 5 else 0.0), packet) for t, packet in at(PCMU, sound)]
    line.run(arrivals, 790)
    assert line.concealed + line.player.counters.stretched / 8_000 == pytest.approx(0.120, abs=0.045)
    assert line.shortened < 0.045
    assert line.drops[Drop.LATE] == 0


@pytest.mark.parametrize("jitter", [0.005, 0.020, 0.050])
def test_the_delay_follows_the_jitter(jitter: float) -> None:
    dice = Random(1)
    line, sound = Line(PCMU), words(8_000, 30)
    arrivals = [(t + dice.random() * jitter, packet) for t, packet in at(PCMU, sound)]
    line.run(arrivals, 1490)
    assert line.player.buffer.delay < jitter + 0.040
    # At most 2 % are allowed to be late once the jitter is known; concealment grows the delay before.
    assert line.concealed < 0.5
    assert line.drops[Drop.LATE] < 0.02 * len(arrivals)


def test_reordering_is_learnt() -> None:
    line, sound = Line(PCMU), words(8_000, 10)
    arrivals = at(PCMU, sound)
    for n in range(100, 480, 20):
        (a, first), (b, second) = arrivals[n], arrivals[n + 1]
        arrivals[n], arrivals[n + 1] = (a, second), (b, first)
    line.run(arrivals, 490)
    assert line.concealed < 0.10  # four packets, until it is learnt
    assert line.drops[Drop.DUPLICATE] == 0


def test_five_per_cent_loss_is_concealed_packet_by_packet() -> None:
    dice = Random(3)
    line, sound = Line(OPUS), words(48_000, 20)
    arrivals = [a for a in at(OPUS, sound) if dice.random() >= 0.05]
    lost = 1000 - len(arrivals)
    line.run(arrivals, 990)
    assert 30 < lost < 70
    assert line.concealed == pytest.approx(lost * 0.020, abs=0.041)
    assert max(line.excess) < 0.040
    assert not line.drops


@pytest.mark.parametrize("drift", [1.0001, 0.9999])
def test_clocks_that_drift_by_100_ppm(drift: float) -> None:
    line, sound = Line(PCMU), words(8_000, 20)
    base = packets(PCMU, sound)
    seconds = 300
    arrivals = [
        ((n * 0.020) * drift + 0.03, base[n % 1000]._replace(sequence=n, timestamp=n * FRAME))
        for n in range(seconds * 50)
    ]
    line.run(arrivals, seconds * 50 - 20)
    assert max(line.excess) < 0.035
    assert min(line.excess[100:]) > -0.035
    assert line.drops[Drop.LATE] == 0
    assert line.concealed < 0.060
    corrected = line.shortened - line.player.counters.stretched / 8_000 - line.concealed
    assert abs(corrected) < 0.060


def test_duplicates_late_packets_and_overflow_are_counted() -> None:
    buffer = JitterBuffer(8_000)
    base = packets(PCMU, words(8_000, 6))
    assert buffer.put(base[0], 0.0) is None
    assert buffer.put(base[0], 0.0) is Drop.DUPLICATE
    assert buffer.put(base[2], 0.040) is None
    assert isinstance(buffer.take(0.045, FRAME), MediaPacket)
    buffer.played(FRAME)
    assert buffer.take(0.065, FRAME) == Missing(FRAME, base[2])
    assert buffer.put(base[1], 0.070) is Drop.LATE
    taken = buffer.take(0.085, FRAME)
    assert isinstance(taken, MediaPacket)
    assert taken == base[2]
    buffer.played(FRAME)
    outcomes = [buffer.put(p, 0.09) for p in base[3:250]]
    assert outcomes.count(Drop.OVERFLOW) == 247 - 200


def test_nothing_is_played_before_the_first_packet() -> None:
    buffer = JitterBuffer(8_000)
    item = buffer.take(0.0, FRAME)
    assert isinstance(item, Empty)
    assert not item.started
    line = Line(PCMU)
    assert not line.run([], 10).any()
    assert line.concealed == 0


def test_a_pause_of_the_sender_is_no_loss() -> None:
    # Silence suppression: sequence numbers go on, the timestamp tells how long the pause was.
    line, sound = Line(PCMU), words(8_000, 6)
    arrivals = [(t, p) for t, p in at(PCMU, sound) if not 2.0 <= t < 4.0]
    line.run(arrivals, 290)
    assert max(line.excess[202:]) < 0.030
    assert not line.drops
    assert line.player.buffer.resynchronized == 0


@pytest.mark.parametrize("jump", [1 << 20, -(1 << 20), 1 << 31])
def test_a_jump_of_timestamps_is_a_new_beginning(jump: int) -> None:
    line, sound = Line(PCMU), words(8_000, 6)
    arrivals = [
        (t, p if t < 3 else p._replace(timestamp=(p.timestamp + jump) & 0xFFFFFFFF)) for t, p in at(PCMU, sound)
    ]
    heard = line.run(arrivals, 290)
    assert line.player.buffer.resynchronized == 1
    assert line.concealed < 0.1
    _, fit = match(sound[8_000 * 4 : 8_000 * 5], heard, 8_000 * 4, 8_000 * 4 + 2_000)
    assert fit > 0.95


def test_timestamps_wrap() -> None:
    line, sound = Line(PCMU), words(8_000, 4)
    arrivals = [(t, p._replace(timestamp=(p.timestamp - 8_000) & 0xFFFFFFFF)) for t, p in at(PCMU, sound)]
    heard = line.run(arrivals, 190)
    assert line.player.buffer.resynchronized == 0
    assert match(sound[8_000:16_000], heard, 8_000, 10_000)[1] > 0.95


def test_a_very_long_pause_is_cut_off() -> None:
    line, sound = Line(PCMU), words(8_000, 8)
    arrivals = [(max(t, 4.0) if 2.0 <= t < 4.0 else t, p) for t, p in at(PCMU, sound)]
    line.run(arrivals, 390)
    assert line.drops[Drop.LATE] > 50
    assert max(line.excess[int(4.1 / 0.02) :]) < 0.1


@pytest.mark.parametrize("milliseconds", [10, 30, 40, 60])
def test_packets_of_another_length_are_played(milliseconds: int) -> None:
    sound = words(8_000, 4)
    size = 8 * milliseconds
    whole = b"".join(p.payload for p in packets(PCMU, sound))
    pieces = [whole[n : n + size] for n in range(0, len(whole) - size, size)]
    arrivals = [((n + 1) * size / 8_000, MediaPacket(n, n * size, 0, piece)) for n, piece in enumerate(pieces)]
    line = Line(PCMU)
    heard = line.run(arrivals, 190)
    assert match(sound[8_000:16_000], heard, 8_000, 10_000)[1] > 0.95
    assert line.concealed < 0.1


def test_payloads_that_cannot_be_decoded_are_concealed_and_counted() -> None:
    line, sound = Line(OPUS), words(48_000, 3)
    arrivals = [(t, p._replace(payload=b"" if n % 10 == 9 else p.payload)) for n, (t, p) in enumerate(at(OPUS, sound))]
    line.run(arrivals, 140)
    assert line.drops[Drop.UNKNOWN_PAYLOAD] == 13
    assert line.concealed == pytest.approx(13 * 0.020, abs=0.021)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 0xFFFFFFFF) | st.integers(0, 8_000),
            st.binary(max_size=400),
        ),
        max_size=30,
    ),
    st.sampled_from([PCMU, G722, OPUS]),
)
def test_any_packets_at_any_time_give_unbroken_sound(arriving: list[tuple[float, int, bytes]], codec: Codec) -> None:
    line = Line(codec)
    given_packets = [(t, MediaPacket(n, stamp, 0, data)) for n, (t, stamp, data) in enumerate(arriving)]
    assert len(line.run(given_packets, 60)) == 60 * codec.frame


@settings(max_examples=40)
@given(st.lists(st.floats(0, 0.4), min_size=100, max_size=150), st.sets(st.integers(0, 99)))
def test_delays_and_losses_never_break_the_order(delays: list[float], lost: set[int]) -> None:
    buffer = JitterBuffer(8_000)
    waiting = sorted((n * 0.02 + d, n) for n, d in enumerate(delays) if n not in lost)
    taken: list[int] = []
    dropped = 0
    for tick in range(len(delays) + 60):
        now = tick * 0.020
        while waiting and waiting[0][0] <= now:
            arrival, n = waiting.pop(0)
            dropped += buffer.put(MediaPacket(n, n * FRAME, 0, b"x"), arrival) is not None
        item = buffer.take(now, FRAME)
        if isinstance(item, MediaPacket):
            taken.append(item.sequence)
            buffer.played(FRAME)
    assert taken == sorted(set(taken))
    # Every packet was played, dropped with a reason, or is still there.
    assert len(taken) + dropped + buffer.skipped + len(buffer) == len(delays) - len(lost)
    assert buffer.delay <= GREATEST_DELAY + 0.001


def test_voice_without_pauses_is_shortened_in_the_voice() -> None:
    line, sound = Line(PCMU), voice(8_000, 10)
    arrivals = [(max(t, 3.2) if 3.0 <= t < 3.2 else t, p) for t, p in at(PCMU, sound)]
    heard = line.run(arrivals, 490)
    assert line.excess[-1] < 0.070
    assert np.abs(np.diff(heard.astype(int))).max() < 1.5 * np.abs(np.diff(sound.astype(int))).max()
