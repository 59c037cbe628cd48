"""Two streams over a simulated network: what reports of loss bring about, and what each side learns of the other."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from softphone.media.codecs import OPUS, PACKET_TIME, PCMU, Codec
from softphone.media.drops import DropCounter
from softphone.media.dtmf import DigitReceived
from softphone.media.monitor import MediaTimeout, OneWayAudio, Way
from softphone.media.offer_answer import SrtpMode
from softphone.media.opus import BIT_RATE, EXPECTED_LOSS
from softphone.media.rtp import Transmission
from softphone.media.settings import MediaSettings
from softphone.media.srtp import MediaDropped
from softphone.media.stream import Stream
from tests.softphone.media.support import seeded, words
from tests.softphone.media.test_offer_answer import HOME, PEER, agree, side

A, B = (HOME, 4000), (PEER, 5000)
DELAY = 0.030


class Network:
    """Carries RTP and RTCP of two streams, 20 ms at a time; ``lost`` says which packets of RTP do not arrive."""

    def __init__(self, codec: Codec, settings: MediaSettings, lost: Callable[[float], bool]) -> None:
        self.lost = lost
        one, other = agree(
            side(codecs=(codec,), srtp=SrtpMode.OFF), side(PEER, 5000, codecs=(codec,), srtp=SrtpMode.OFF, seed=2)
        )
        self.drops = DropCounter()
        self.a = Stream(one, settings, self.drops, 0.0, 0.0)
        self.b = Stream(other, settings, DropCounter(), 0.0, 0.0)
        for stream in (self.a, self.b):
            stream.reports.start(0.0)
        sound = words(codec.sample_rate, 10)
        self.frames = sound[: len(sound) // codec.frame * codec.frame].reshape(-1, codec.frame)
        self.tick = 0
        self.sends_b = True

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / PACKET_TIME)):
            now = self.tick * PACKET_TIME
            frame = self.frames[self.tick % len(self.frames)]
            for sender, receiver, at, dies in (
                (self.a, self.b, A, self.lost(now)),
                (self.b, self.a, B, not self.sends_b),
            ):
                packet = sender.packet(frame, now, begins=False)
                if packet is not None and not dies:
                    receiver.take_rtp(packet, at, now + DELAY)
                if sender.reports.due is not None and now >= sender.reports.due:
                    report = sender.reports.make(now, sender.transmission, sender.reception, metrics=sender.metrics())
                    if sender is self.a or self.sends_b:
                        receiver.take_rtcp(report, at, now + DELAY)
                receiver.pull(now + DELAY + 0.005)
            self.tick += 1
            if self.tick % 50 == 0:
                self.a.measure(now)
                self.b.measure(now)


def network(codec: Codec, lost: Callable[[float], bool] = lambda now: False) -> Network:
    return Network(codec, MediaSettings(codecs=(codec,), srtp=SrtpMode.OFF, random=seeded(5)), lost)


def test_losses_that_are_reported_are_made_good() -> None:
    dice = Random(4)
    net = network(OPUS, lambda now: dice.random() < 0.05)
    opus = net.a.encoder.opus
    assert opus is not None
    assert (opus.bit_rate, opus.expected_loss) == (BIT_RATE, EXPECTED_LOSS)
    net.run(15)
    assert opus.expected_loss >= 10
    assert opus.bit_rate > BIT_RATE
    concealed, _, _, recovered, _ = net.b.adjusted()
    net.run(20)
    concealed, recovered = net.b.adjusted()[0] - concealed, net.b.adjusted()[3] - recovered
    # 5 % of 20 s; two lost packets in a row, and what was never in two packets, cannot come back.
    assert concealed + recovered == pytest.approx(1.0, abs=0.5)
    assert recovered > 2 * concealed
    # The other direction is not disturbed, and not protected for nothing.
    assert net.b.encoder.opus is not None
    assert net.b.encoder.opus.expected_loss == EXPECTED_LOSS
    net.lost = lambda now: False
    net.run(60)
    assert (opus.bit_rate, opus.expected_loss) == (BIT_RATE, EXPECTED_LOSS)


def test_each_side_knows_how_the_other_hears_it() -> None:
    dice = Random(4)
    net = network(PCMU, lambda now: dice.random() < 0.08)
    net.run(30)
    ours, theirs = net.a.reports.metrics, net.b.reports.metrics
    assert ours is not None
    assert theirs is not None
    assert ours.ssrc == net.a.transmission.ssrc
    assert ours.loss_rate == pytest.approx(0.08, abs=0.03)
    assert theirs.loss_rate == 0
    assert theirs.mos_cq - ours.mos_cq > 0.5
    assert net.a.reports.round_trip == pytest.approx(2 * DELAY, abs=0.005)
    assert len(net.b.monitor.history) == 30
    worst = min(net.b.monitor.history, key=lambda second: second.mos)
    assert worst.loss > 0.05
    assert worst.mos < 3.9


def test_a_direction_that_fails_is_noticed_on_both_ends() -> None:
    net = network(PCMU)
    net.run(12)
    net.lost = lambda now: True
    net.run(18)
    now = net.tick * PACKET_TIME
    assert [type(e) for e in net.b.monitor.check(now, receives=True, sends=True)] == [OneWayAudio]
    events = net.a.monitor.check(now, receives=True, sends=True)
    assert [(type(e), e.way) for e in events if isinstance(e, OneWayAudio)] == [(OneWayAudio, Way.OUTGOING)]


def test_a_peer_that_vanishes_is_noticed() -> None:
    net = network(PCMU)
    net.run(10)
    net.sends_b = False
    net.run(31)
    events = net.a.monitor.check(net.tick * PACKET_TIME, receives=True, sends=True)
    assert [type(e) for e in events] == [OneWayAudio, MediaTimeout]


def test_digits_after_a_change_of_source_are_heard() -> None:
    net = network(PCMU)
    net.run(0.2)
    heard: list[DigitReceived] = []

    def press(digit: str) -> None:
        net.a.send_digits(digit, None, 0.1)
        for _ in range(20):
            now = net.tick * PACKET_TIME
            packet = net.a.packet(None, now, begins=False)
            assert packet is not None
            try:
                heard.extend(net.b.take_rtp(packet, A, now)[1])
            except MediaDropped:
                pass  # the first packet of a new source has to be confirmed by the next
            net.tick += 1

    press("1")
    # Another source, whose timestamps begin far behind those of the first.
    before = net.a.transmission
    net.a.transmission = Transmission(seeded(9), 8_000)
    net.a.transmission._timestamp = (before._timestamp - 0x1000_0000) & 0xFFFFFFFF
    for _ in range(3):
        press("2")
    assert heard[0].digit == "1"
    assert [event.digit for event in heard][-2:] == ["2", "2"]


@pytest.mark.parametrize("codec", [PCMU, OPUS], ids=["PCMU", "opus"])
@pytest.mark.parametrize("before", [0.0, 2.0], ids=["from the first packet", "in mid call"])
def test_keys_are_neither_loss_nor_jitter(codec: Codec, before: float) -> None:
    """While a key is pressed its packets take the place of those with sound, and their timestamps stand still."""
    net = network(codec)
    net.run(before)
    net.a.digits.add("12#", 0.2)
    net.run(6)
    assert net.b.events > 30
    assert net.b.player.bursts.missing == 0
    assert max(second.jitter_ms for second in net.b.monitor.history) < 1
    assert min(second.mos for second in net.b.monitor.history) > 4
    net.lost = lambda now: True
    net.run(0.2)
    net.lost = lambda now: False
    net.run(1)
    assert net.b.player.bursts.missing > 5
