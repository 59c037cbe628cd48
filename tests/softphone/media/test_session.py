"""Two media sessions over the loopback device: a few seconds of real time, bounded."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from softphone.errors import TransportError
from softphone.media.codecs import CODECS, G722, OPUS, PCMA, PCMU, Codec, Samples
from softphone.media.drops import Drop
from softphone.media.dtmf import DigitMethod, DigitReceived
from softphone.media.files import MemorySink, SamplesSource, read_sound
from softphone.media.jitter import MediaPacket
from softphone.media.keying import Keying
from softphone.media.offer_answer import Direction, NotAcceptable, SrtpMode
from softphone.media.quality import RATE, pesq, pesq_of_codec, resample
from softphone.media.sdp import SdpError
from softphone.media.session import (
    AudioFailed,
    MediaEvent,
    MediaFailed,
    MediaSession,
    MediaSettings,
    PlaybackEnded,
    PlaybackStarted,
    RemoteLeft,
    Secured,
)
from softphone.media.sockets import open_pair
from softphone.media.srtp import AES_CM_80, Suite
from tests.softphone.media.support import Loopback, seeded, voice
from tests.softphone.support import SimulatedLoop, simulate


async def pair(a: MediaSettings, b: MediaSettings, host: str = "::1") -> tuple[MediaSession, MediaSession]:
    """Two sessions that have agreed."""
    caller, callee = await MediaSession.open(Loopback(), host, a), await MediaSession.open(Loopback(), host, b)
    caller.accept(callee.answer(caller.offer()))
    return caller, callee


async def ended(*sessions: MediaSession) -> None:
    for session in sessions:
        await session.close()


async def until(condition: Callable[[], bool], seconds: float = 2.0) -> None:
    """Wait in the loop for what other callbacks bring about."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  what is waited for is a counter
            await asyncio.sleep(0.005)


def run(work: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(bounded())


@contextmanager
def undisturbed() -> Iterator[None]:
    """What is measured in real time is not to depend on what else the machine does, where that can be helped."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.mark.parametrize(
    ("codec", "mode", "host"),
    [
        (OPUS, SrtpMode.MANDATORY, "::1"),
        (G722, SrtpMode.OPTIONAL, "::1"),
        (PCMA, SrtpMode.OFF, "::1"),
        (PCMU, SrtpMode.OFF, "127.0.0.1"),
    ],
    ids=str,
)
def test_sound_flows_both_ways(codec: Codec, mode: SrtpMode, host: str) -> None:
    async def work() -> None:
        settings = MediaSettings(codecs=(codec,), srtp=mode, log_packets=True)
        caller, callee = await pair(settings, settings, host)
        events: list[MediaEvent] = []
        caller.on_event = events.append
        source = SamplesSource(voice(16_000, 0.3), 16_000)
        heard, echo = MemorySink(16_000), MemorySink(8_000)
        caller.play(source)
        callee.play(SamplesSource(voice(8_000, 0.3), 8_000))
        callee.record(heard)
        caller.record(echo)
        await caller.start()
        await callee.start()
        await source.done.wait()
        await asyncio.sleep(0.1)
        await callee.close()
        await until(lambda: RemoteLeft() in events)
        await caller.close()
        for sink in (heard, echo):
            assert np.abs(sink.samples.astype(int)).max() > 4_000
        one, other = caller.statistics(), callee.statistics()
        assert one.codec == other.codec == codec.name
        assert bool(one.srtp_suite) is (mode is not SrtpMode.OFF)
        assert other.received >= 15
        assert other.lost == other.late == other.duplicates == 0
        assert not other.drops
        assert other.arrivals is not None
        assert one.departures is not None
        assert one.sent == len(one.departures)
        # The same numbers in both logs, by the same clock; how busy the machine is may show, but no more.
        sent = dict(zip(one.departures.sequences, one.departures.times, strict=True))
        delays = [t - sent[n] for n, t in zip(other.arrivals.sequences, other.arrivals.times, strict=True)]
        assert -0.2 < min(delays) <= max(delays) < 0.2
        started, finished = events[0], events[1]
        assert isinstance(started, PlaybackStarted)
        assert isinstance(finished, PlaybackEnded)
        assert finished.sequence - started.sequence in (14, 15)

    run(work())


def test_packets_leave_every_20_ms_and_lateness_is_not_handed_on() -> None:
    async def work() -> None:
        settings = MediaSettings(codecs=(PCMU,), srtp=SrtpMode.OFF, log_packets=True)
        caller, callee = await pair(settings, settings)
        await caller.start()
        await asyncio.sleep(0.25)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        loop.stand_still(0.07)
        await asyncio.sleep(0.28)
        await ended(caller, callee)
        departures = caller.statistics().departures
        assert departures is not None
        times = np.array(departures.times)
        late = times - times[0] - 0.020 * np.arange(len(times))
        assert len(late) in (30, 31)
        assert 2 <= np.sum(late > 0.001) <= 4
        assert late.max() < 0.070
        assert np.abs(late[-10:]).max() < 0.001

    simulate(work)


def test_the_ports_are_a_pair() -> None:
    async def work() -> None:
        for ports in (None, (41_001, 41_100)):
            rtp, rtcp = await open_pair(Loopback(), "::1", ports, seeded(1))
            with rtp, rtcp:
                assert rtp.getsockname()[1] % 2 == 0
                assert rtcp.getsockname()[1] == rtp.getsockname()[1] + 1
                assert ports is None or 41_001 <= rtp.getsockname()[1] < 41_100

    run(work())


def test_no_ports_left_is_an_error_and_nothing_stays_open() -> None:
    async def work() -> None:
        taken = [await Loopback().udp("::1", port) for port in (41_202, 41_203)]
        sockets = Loopback()
        with pytest.raises(TransportError, match="no pair of UDP ports in 41202-41203"):
            await open_pair(sockets, "::1", (41_202, 41_203), seeded(1))
        assert all(sock.fileno() == -1 for sock in sockets.made)
        for sock in taken:
            sock.close()

    run(work())


def test_garbage_and_strangers_are_dropped_and_counted() -> None:
    async def work() -> None:
        settings = MediaSettings(codecs=(PCMU,), srtp=SrtpMode.OFF)
        caller, callee = await pair(settings, settings)
        await callee.start()
        agreed = caller.agreed
        assert agreed is not None
        to = ("::1", agreed.remote_rtp_port)
        stranger = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        for data in (
            b"",
            b"x",
            b"\x80",
            bytes(200),
            b"\x80\x60" + bytes(30),
            b"\x80\xc8",
            b"\x81\xc9\x00\x01" + bytes(4),
        ):
            stranger.sendto(data, to)
        await until(lambda: sum(callee.statistics().drops.values()) >= 7)
        assert callee.statistics().drops == {
            Drop.MALFORMED_RTP: 3,
            Drop.STUN_UNEXPECTED: 1,
            Drop.UNKNOWN_PAYLOAD: 1,
            Drop.MALFORMED_RTCP: 2,
        }
        assert callee.statistics().received == 0
        stranger.close()
        await ended(caller, callee)

    run(work())


def test_unauthenticated_packets_change_nothing() -> None:
    async def work() -> None:
        settings = MediaSettings(codecs=(PCMU,), srtp=SrtpMode.MANDATORY)
        caller, callee = await pair(settings, settings)
        await callee.start()
        agreed = caller.agreed
        assert agreed is not None
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as stranger:
            for n in range(5):
                plain = bytes([0x80, 0, 0, n]) + bytes(8) + bytes(160)
                stranger.sendto(plain, ("::1", agreed.remote_rtp_port))
                stranger.sendto(b"\x80\xc8\x00\x06" + bytes(40), ("::1", agreed.remote_rtp_port))
            await until(lambda: callee.statistics().drops.get(Drop.SRTP_AUTHENTICATION, 0) == 10)
        await caller.start()
        await until(lambda: callee.statistics().received > 5)
        assert callee.statistics().lost == 0
        await ended(caller, callee)

    run(work())


def test_another_address_is_refused_or_followed() -> None:
    async def work(symmetric: bool) -> None:
        settings = MediaSettings(codecs=(PCMU,), srtp=SrtpMode.OFF, symmetric=symmetric)
        caller = await MediaSession.open(Loopback(), "127.0.0.1", settings)
        callee = await MediaSession.open(Loopback(), "127.0.0.1", settings)
        # The description names an address that the packets do not come from, as behind a NAT.
        caller.accept(callee.answer(caller.offer().replace("127.0.0.1", "192.0.2.1")))
        await caller.start()
        await callee.start()
        if symmetric:
            await until(lambda: callee.statistics().received > 3 and caller.statistics().received > 3)
        else:
            await until(lambda: callee.statistics().drops.get(Drop.UNKNOWN_SOURCE, 0) > 3)
            assert callee.statistics().received == 0
        await ended(caller, callee)

    run(work(True))
    run(work(False))


def test_telephone_events_do_not_disturb_the_sound() -> None:
    async def work() -> None:
        settings = MediaSettings(codecs=(PCMU,), srtp=SrtpMode.OFF)
        caller, callee = await pair(settings, settings)
        agreed = caller.agreed
        assert agreed is not None
        assert agreed.send_events is not None
        await callee.start()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            for n in range(10):
                kind = agreed.send_events if n in (4, 5) else 0
                head = bytes([0x80, kind]) + n.to_bytes(2) + (160 * n).to_bytes(4) + (77).to_bytes(4)
                sender.sendto(head + bytes(4 if kind else 160), ("::1", agreed.remote_rtp_port))
        await until(lambda: callee.statistics().received == 10)
        statistics = callee.statistics()
        assert (statistics.events, statistics.lost, statistics.late) == (2, 0, 0)
        assert not statistics.drops
        await ended(caller, callee)

    run(work())


def test_a_running_call_changes_codec_and_direction() -> None:
    async def work() -> None:
        every = MediaSettings()
        caller, callee = await pair(every, every)
        assert caller.statistics().codec == "opus"
        sink = MemorySink(16_000)
        callee.record(sink)
        caller.play(SamplesSource(voice(16_000, 5), 16_000))
        await caller.start()
        await callee.start()
        await until(lambda: callee.statistics().received > 5)
        # The callee offers anew, with one codec of the other clock rate; keys stay, the source does not.
        only = callee.offer().replace("RTP/AVP 96 9 8 0 ", "RTP/AVP 8 ")
        callee.accept(caller.answer(only))
        assert caller.statistics().codec == callee.statistics().codec == "PCMA"
        before = callee.statistics().received
        await until(lambda: callee.statistics().received > before + 10)
        before = len(sink.samples)
        await until(lambda: len(sink.samples) > before + 3_200)
        assert np.abs(sink.samples[before:].astype(int)).max() > 4_000
        assert callee.statistics().drops.get(Drop.SRTP_AUTHENTICATION, 0) == 0
        caller.accept(callee.answer(caller.offer(Direction.INACTIVE)))
        sent = caller.statistics().sent
        await asyncio.sleep(0.06)
        assert caller.statistics().sent == sent
        await ended(caller, callee)

    run(work())


def test_reports_tell_the_round_trip() -> None:
    async def work() -> None:
        settings = MediaSettings(codecs=(PCMU,), random=seeded(4), rtcp_mux=False)
        caller, callee = await pair(settings, MediaSettings(codecs=(PCMU,)))
        await caller.start()
        await callee.start()
        await until(lambda: callee.statistics().received > 3)
        for session, peer in ((caller, callee), (callee, caller), (caller, callee)):
            stream = session._stream
            assert stream is not None
            session._report(stream, session._now())
            await until(lambda peer=peer: peer._stream.reports._last_sr != 0)  # type: ignore[misc]
            await asyncio.sleep(0.02)
        measured = caller.statistics().round_trip_ms
        assert measured is not None
        assert measured < 50
        await ended(caller, callee)

    run(work())


def test_sources_and_sinks_that_fail_are_detached() -> None:
    class Broken:
        rate = 8_000

        def read(self, count: int) -> Samples:
            raise OSError("unplugged")

        def write(self, samples: Samples) -> None:
            raise OSError("unplugged")

    async def work() -> None:
        settings = MediaSettings(codecs=(PCMU,))
        caller, callee = await pair(settings, settings)
        events: list[MediaEvent] = []
        caller.on_event = events.append
        broken = Broken()
        caller.play(broken)
        caller.record(broken)
        await caller.start()
        await callee.start()
        await until(lambda: callee.statistics().received > 5)
        assert [type(e) for e in events] == [AudioFailed, AudioFailed]
        await ended(caller, callee)

    run(work())


def test_the_order_of_life() -> None:
    async def work() -> None:
        session = await MediaSession.open(Loopback(), "::1")
        with pytest.raises(RuntimeError, match="after offer and answer"):
            await session.start()
        with pytest.raises(SdpError):
            session.answer("nonsense")
        with pytest.raises(NotAcceptable):
            session.answer("v=0\r\no=- 1 1 IN IP6 ::1\r\ns=-\r\nc=IN IP6 ::1\r\nt=0 0\r\nm=video 9 RTP/AVP 96\r\n")
        assert session.statistics().codec == ""
        await ended(session, session)
        with pytest.raises(RuntimeError):
            await session.start()

    run(work())


# -- speech ---------------------------------------------------------------------------------------------------------

SENTENCES = "The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background."


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    subprocess.run(["espeak-ng", "-v", "en", "-s", "170", "-w", str(path), SENTENCES], check=True, timeout=20)
    return path


Score = tuple[float, float, float]
"After the call, of the codec alone, and the milliseconds that were concealed."

Call = tuple[Codec, Suite | None, set[int]]
"Codec, protection, and the packets that do not arrive, counted from the first of the speech."

CALLS: dict[str, Call] = {
    "opus": (OPUS, AES_CM_80, set()),
    "G722": (G722, AES_CM_80, set()),
    "PCMA": (PCMA, None, set()),
    "PCMU": (PCMU, None, set()),
    "opus with loss": (OPUS, AES_CM_80, {60, 130, 131}),
    "PCMU with loss": (PCMU, AES_CM_80, {60, 130, 131}),
}


async def transported(sound: Samples, rate: int, call: Call) -> tuple[Samples, float]:
    """The speech as it is heard after a call, and the milliseconds that were concealed."""
    codec, suite, lost = call
    settings = MediaSettings(
        codecs=(codec,),
        srtp=SrtpMode.MANDATORY if suite else SrtpMode.OFF,
        suites=(suite,) if suite else (),
        log_packets=True,
    )
    caller, callee = await pair(settings, settings)
    source, sink = SamplesSource(sound, rate), MemorySink(RATE)
    callee.record(sink)
    await caller.start()
    await callee.start()
    await until(lambda: callee.statistics().received > 5)
    departures = caller.statistics().departures
    assert departures is not None
    doomed = {departures.sequences[-1] + n for n in lost}
    stream = callee._stream
    assert stream is not None
    put = stream.player.put

    def lossy(packet: MediaPacket, now: float) -> bool:
        return packet.sequence in doomed or put(packet, now)

    stream.player.put = lossy  # type: ignore[method-assign]
    caller.play(source)
    await source.done.wait()
    await asyncio.sleep(0.15)
    await ended(caller, callee)
    return sink.samples, callee.statistics().concealed_ms


@pytest.fixture(scope="module")
def scores(speech: Path) -> dict[str, Score]:
    """All calls at once, so that they take the time of one."""

    async def work() -> None:
        heard = await asyncio.gather(*(transported(*recording, call) for call in CALLS.values()))
        results.update(zip(CALLS, heard, strict=True))

    results: dict[str, tuple[Samples, float]] = {}
    recording = read_sound(speech)
    with undisturbed():
        run(work())
    reference = resample(*recording)
    return {
        name: (pesq(reference, samples), pesq_of_codec(speech, CALLS[name][0]), concealed)
        for name, (samples, concealed) in results.items()
    }


@pytest.mark.interop
@pytest.mark.alone
@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_speech_arrives_as_good_as_the_codec_allows(scores: dict[str, Score], codec: Codec) -> None:
    heard, alone, concealed = scores[codec.name]
    assert heard > alone - 0.15
    assert concealed == 0


@pytest.mark.interop
@pytest.mark.alone
@pytest.mark.parametrize("codec", [OPUS, PCMU], ids=str)
def test_a_few_lost_packets_cost_little(scores: dict[str, Score], codec: Codec) -> None:
    heard, alone, concealed = scores[f"{codec.name} with loss"]
    assert concealed == 60
    assert heard > alone - 0.8


# -- digits, hold, keys ------------------------------------------------------------------------------------------------


def test_digits_go_as_events_or_as_tones() -> None:
    async def work(codec: Codec, method: DigitMethod | None, comes_as: DigitMethod) -> None:
        settings = MediaSettings(codecs=(codec,), detect_tones=True)
        caller, callee = await pair(settings, settings)
        events: list[MediaEvent] = []
        callee.on_event = events.append
        await caller.start()
        await callee.start()
        await until(lambda: callee.statistics().received > 3)
        assert caller.send_dtmf("1#d", method) is comes_as
        await until(lambda: len(events) >= 3)
        assert [(e.digit, e.method) for e in events if isinstance(e, DigitReceived)] == [
            (digit, comes_as) for digit in "1#D"
        ]
        assert callee.statistics().lost == 0
        callee.take_info("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n")
        assert events[-1] == DigitReceived("5", 0.16, DigitMethod.INFO)
        with pytest.raises(ValueError, match="sent by the call"):
            caller.send_dtmf("1", DigitMethod.INFO)
        await ended(caller, callee)

    with undisturbed():
        run(work(OPUS, None, DigitMethod.EVENT))
        run(work(PCMU, DigitMethod.TONE, DigitMethod.TONE))


def test_a_call_is_held_and_resumed() -> None:
    async def work() -> None:
        settings = MediaSettings(codecs=(PCMU,))
        caller, callee = await pair(settings, settings)
        sink = MemorySink(8_000)
        callee.record(sink)
        caller.play(SamplesSource(voice(8_000, 5), 8_000))
        await caller.start()
        await callee.start()
        await until(lambda: len(sink.samples) > 3_200)
        caller.accept(callee.answer(caller.offer(Direction.INACTIVE)))
        assert callee.remote_direction is Direction.INACTIVE
        await asyncio.sleep(0.1)
        written, sent = len(sink.samples), callee.statistics().sent
        await asyncio.sleep(0.1)
        assert len(sink.samples) == written
        assert callee.statistics().sent == sent
        caller.accept(callee.answer(caller.offer()))
        await until(lambda: len(sink.samples) > written + 3_200)
        assert np.abs(sink.samples[written + 1_600 :].astype(int)).max() > 4_000
        assert callee.statistics().late == 0
        await ended(caller, callee)

    run(work())


def test_sound_that_was_not_asked_for_is_dropped_by_name() -> None:
    async def work() -> None:
        settings = MediaSettings(codecs=(PCMU,), srtp=SrtpMode.OFF)
        caller, callee = await pair(settings, settings)
        await caller.start()
        await callee.start()
        # The callee alone changes its mind, as if the answer were still on its way.
        callee.answer(caller.offer().replace("a=sendrecv", "a=inactive"))
        await until(lambda: callee.statistics().drops.get(Drop.ON_HOLD, 0) > 3)
        await ended(caller, callee)

    run(work())


@pytest.mark.parametrize("mux", [True, False])
def test_keys_by_dtls(mux: bool) -> None:
    async def work() -> None:
        settings = MediaSettings(
            codecs=(PCMU,), srtp=SrtpMode.MANDATORY, offered_keying=(Keying.DTLS,), rtcp_mux=mux, ports=(42_000, 42_400)
        )
        caller, callee = await pair(settings, settings)
        events: list[MediaEvent] = []
        caller.on_event = events.append
        sink = MemorySink(8_000)
        callee.record(sink)
        caller.play(SamplesSource(voice(8_000, 5), 8_000))
        await callee.start()
        await caller.start()
        await until(lambda: callee.statistics().received > 10 and caller.statistics().received > 10)
        assert Secured("AEAD_AES_128_GCM") in events
        assert callee.statistics().srtp_suite == "AEAD_AES_128_GCM"
        await until(lambda: np.abs(sink.samples.astype(int)).max(initial=0) > 4_000)
        # A new agreement keeps the keys; RTCP has keys as well: BYE is understood.
        callee.accept(caller.answer(callee.offer()))
        before = callee.statistics().received
        await until(lambda: callee.statistics().received > before + 5)
        await callee.close()
        await until(lambda: RemoteLeft() in events)
        assert not caller.statistics().drops.get(Drop.SRTP_AUTHENTICATION)
        await caller.close()

    run(work())


def test_a_false_certificate_is_told_and_no_sound_flows() -> None:
    async def work() -> None:
        settings = MediaSettings(codecs=(PCMU,), srtp=SrtpMode.MANDATORY, offered_keying=(Keying.DTLS,))
        caller, callee = (
            await MediaSession.open(Loopback(), "::1", settings),
            await MediaSession.open(Loopback(), "::1", settings),
        )
        answer = callee.answer(caller.offer())
        digest = answer.partition("a=fingerprint:sha-256 ")[2][:95]
        caller.accept(answer.replace(digest, ":".join(["00"] * 32)))
        events: list[MediaEvent] = []
        caller.on_event = events.append
        await callee.start()
        await caller.start()
        await until(lambda: bool(events))
        assert isinstance(events[0], MediaFailed)
        assert "fingerprint" in events[0].why
        assert caller.statistics().sent == 0
        await ended(caller, callee)

    run(work())


def test_authenticated_packets_are_followed_to_another_address() -> None:
    async def work() -> None:
        settings = MediaSettings(codecs=(PCMU,), srtp=SrtpMode.MANDATORY)
        caller = await MediaSession.open(Loopback(), "127.0.0.1", settings)
        callee = await MediaSession.open(Loopback(), "127.0.0.1", settings)
        # The description names an address that the packets do not come from, as behind a NAT.
        caller.accept(callee.answer(caller.offer().replace("c=IN IP4 127.0.0.1", "c=IN IP4 192.0.2.1")))
        await caller.start()
        await callee.start()
        await until(lambda: caller.statistics().received > 3)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            assert caller.agreed is not None
            for n in range(5):
                stranger.sendto(bytes([0x80, 0, 0, n]) + bytes(180), ("127.0.0.1", caller.agreed.remote_rtp_port))
            await until(lambda: callee.statistics().drops.get(Drop.SRTP_AUTHENTICATION, 0) == 5)
        before = caller.statistics().received
        await until(lambda: caller.statistics().received > before + 3)
        await ended(caller, callee)

    run(work())
