"""The sound of a call of the engine PJSUA2: what `softphone.media.session` is for our own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from softphone.devices.elastic import Elastic
from softphone.errors import Unsupported
from softphone.media.audio import AudioSink, AudioSource, Drain, Feed
from softphone.media.codecs import PACKET_TIME, Samples
from softphone.media.dtmf import DURATION, DigitMethod, checked
from softphone.media.events import AudioFailed, MediaEvent, PlaybackEnded, PlaybackStarted
from softphone.media.recorder import CallRecorder, succession
from softphone.media.settings import MediaStatistics
from softphone.pjsua.wire import FRAME, RATE

_CATCH_UP = 5
"Frames that are made up for at once after a standstill."
LOOK = round(1 / PACKET_TIME)
"Frames between two looks at the counters."


class PjsuaSound:
    """A `SoundSession`. ``speak`` takes 20 ms, ``press`` digits, ``look`` wants the counters anew: `told`."""

    def __init__(
        self, speak: Callable[[Samples], None], press: Callable[[str], None], look: Callable[[], None]
    ) -> None:
        self.on_event: Callable[[MediaEvent], None] = lambda event: None
        self.muted = False
        self.codec = self.suite = ""
        self.received = Elastic(RATE)
        self._speak, self._press, self._look = speak, press, look
        self._feed: Feed | None = None
        self._drain: Drain | None = None
        self._recorder: CallRecorder | None = None
        self._counters: dict[str, float] = {}
        self._ticking: asyncio.Task[None] | None = None
        self._started_source: AudioSource | None = None

    async def start(self) -> None:
        self._ticking = asyncio.create_task(self._tick(), name="sound of pjsua2")

    async def close(self) -> None:
        ticking, self._ticking = self._ticking, None
        if ticking is not None:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
        if self._recorder is not None:
            over = await asyncio.to_thread(self._recorder.close)
            if over is not None:
                self.on_event(over)

    def play(self, source: AudioSource | None) -> None:
        if source is None:
            self._feed = None
        elif self._feed is None or self._feed.source is not source:
            self._feed = Feed(source, RATE, FRAME)

    def record(self, sink: AudioSink | None) -> None:
        if sink is None:
            self._drain = None
        elif self._drain is None or self._drain.sink is not sink:
            self._drain = Drain(sink, RATE)

    def record_call(self, recorder: CallRecorder | None) -> None:
        self._recorder = succession(self._recorder, recorder)

    def send_dtmf(self, digits: str, method: DigitMethod | None = None, duration: float = DURATION) -> DigitMethod:
        """As telephone events, of the length that the engine gives them. Raises ValueError, Unsupported."""
        if method not in (None, DigitMethod.EVENT):
            raise Unsupported("pjsua2", f"digits as {method}")
        self._press("".join(checked(digits)))
        return DigitMethod.EVENT

    def told(self, counters: dict[str, float]) -> None:
        """The counters as they are now."""
        self._counters = counters

    def statistics(self) -> MediaStatistics:
        """What the engine counts since the session changed last, a second old at most; the rest is 0."""
        of = self._counters.get
        return MediaStatistics(
            codec=self.codec, srtp_suite=self.suite, sent=int(of("sent", 0)), received=int(of("received", 0)),
            lost=int(of("lost", 0)), late=int(of("late", 0)), duplicates=0, events=0, concealed_ms=0.0,
            shortened_ms=0.0, stretched_ms=0.0, jitter_ms=1000 * of("jitter", 0.0), delay_ms=0.0,
            round_trip_ms=1000 * of("round_trip", 0.0) or None, remote_lost=0, drops=MappingProxyType({}),
            arrivals=None, departures=None,
        )  # fmt: skip

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due, ticks = math.ceil(loop.time() / PACKET_TIME) * PACKET_TIME, 0
        while True:
            if (now := loop.time()) < due:
                await asyncio.sleep(due - now)
                continue
            if now - due > _CATCH_UP * PACKET_TIME:
                due = math.floor(now / PACKET_TIME) * PACKET_TIME
            due += PACKET_TIME
            ticks += 1
            spoken, heard = self._spoken(), self.received.read(FRAME)
            self._speak(spoken)
            self._heard(heard)
            self._record(spoken, heard)
            if ticks % LOOK == 1:
                self._look()

    def _spoken(self) -> Samples:
        feed, silence = self._feed, np.zeros(FRAME, np.int16)
        if feed is None:
            return silence
        try:
            samples = feed.next()
        except Exception as exc:
            self._feed = None
            self.on_event(AudioFailed(feed.source, exc))
            return silence
        if samples is None:
            self._feed = None
            self.on_event(PlaybackEnded(feed.source, 0))
            return silence
        if feed.source is not self._started_source:
            self._started_source = feed.source
            self.on_event(PlaybackStarted(feed.source, 0))
        return silence if self.muted else samples

    def _heard(self, samples: Samples) -> None:
        drain = self._drain
        if drain is None:
            return
        try:
            drain.write(samples)
        except Exception as exc:
            self._drain = None
            self.on_event(AudioFailed(drain.sink, exc))

    def _record(self, spoken: Samples, heard: Samples) -> None:
        recorder = self._recorder
        if recorder is None:
            return
        if recorder.ended is not None:
            self._recorder = None
            self.on_event(recorder.ended)
            return
        recorder.write(spoken, RATE, heard, RATE)
