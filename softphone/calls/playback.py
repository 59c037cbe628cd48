"""What a call plays, one sound after the other, and how a script waits for the end of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

from softphone.calls.sound import Sound
from softphone.errors import CallError, SoftphoneError
from softphone.media.audio import AudioSource
from softphone.media.events import AudioFailed, MediaEvent, PlaybackEnded
from softphone.media.files import FileError, SamplesSource, read_sound
from softphone.media.pcm import PcmSource
from softphone.media.tracks import MediaStreamTrack, TrackSource

if TYPE_CHECKING:
    from softphone.calls.call import CallHost

Playable = AudioSource | MediaStreamTrack | Path | str
"Sound from a program, a track of aiortc, or a file in any format that FFmpeg reads."


class Playback:
    """A sound that a call sends from now on. Awaiting it waits for its end, and to cancel that stops it.

    The end is: all of it was sent; or `stop` was called, or the call plays something else (`complete` is False then).
    Raises FileError for a file that is none, CallError when the call ends before, or the source fails.
    """

    def __init__(self, stop: Callable[[Playback], None]) -> None:
        self.complete = False
        "All of it was sent."
        self.source: AudioSource | None = None
        self.fetching: asyncio.Task[None] | None = None
        "Reads the file, or the track."
        self._error: SoftphoneError | None = None
        self._over = asyncio.Event()
        self._stop = stop

    def stop(self) -> None:
        """Send no more of it."""
        self._stop(self)

    def finish(self, error: SoftphoneError | None = None, *, complete: bool = False) -> None:
        """It is over."""
        if self._over.is_set():
            return
        self._error, self.complete = error, complete
        self._over.set()
        if self.fetching is not None:
            self.fetching.cancel()
        if isinstance(self.source, PcmSource):
            self.source.abandon()

    def __await__(self) -> Generator[object, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        try:
            await self._over.wait()
        except asyncio.CancelledError:
            self.stop()
            raise
        if self._error is not None:
            raise self._error


class Player:
    """The playbacks of one call: at most one at a time."""

    def __init__(self, host: CallHost, sound: Sound, tell: Callable[[MediaEvent], None]) -> None:
        self._host = host
        self._sound = sound
        self._tell = tell
        self._playback: Playback | None = None

    def play(self, sound: Playable | None) -> Playback:
        """Raises CallError when the call is over, FileError for a track of something else than sound."""
        playback = Playback(self._stop)
        source: AudioSource | None = None
        match sound:
            case MediaStreamTrack():
                source = TrackSource(sound)
            case Path() | str():
                pass
            case _:
                source = sound
        self._sound.play(source)
        if self._playback is not None:
            self._playback.finish()
        if sound is None:
            self._playback = None
            playback.finish(complete=True)
            return playback
        self._playback, playback.source = playback, source
        if isinstance(source, TrackSource):
            playback.fetching = self._host.spawn(self._follow(playback, source), "track")
        elif isinstance(sound, Path | str):
            playback.fetching = self._host.spawn(self._load(playback, sound), f"read {sound}")
        return playback

    def heard(self, event: MediaEvent) -> None:
        """What the media session tells."""
        playback = self._playback
        if playback is None or playback.source is None:
            return
        match event:
            case PlaybackEnded(source) if source is playback.source:
                self._playback = None
                playback.finish(complete=True)
            case AudioFailed(part, error) if part is playback.source:
                self._playback = None
                playback.finish(CallError(f"the sound failed: {error}"))
            case _:
                pass

    def end(self, why: CallError) -> None:
        """The call is over."""
        playback, self._playback = self._playback, None
        if playback is not None:
            playback.finish(why)

    def _stop(self, playback: Playback) -> None:
        if playback is self._playback:
            self._playback = None
            self._sound.play(None)
        playback.finish()

    async def _load(self, playback: Playback, path: Path | str) -> None:
        """Files are read in a thread: a disk may take its time."""
        try:
            source = SamplesSource(*await asyncio.to_thread(read_sound, path))
        except FileError as exc:
            self._failed(playback, exc)
        else:
            if playback is self._playback:
                playback.source = source
                self._sound.play(source)

    async def _follow(self, playback: Playback, source: TrackSource) -> None:
        try:
            await source.run()
        except Exception as exc:  # the track is somebody else's program
            self._failed(playback, exc if isinstance(exc, SoftphoneError) else CallError(f"the track failed: {exc}"))

    def _failed(self, playback: Playback, error: SoftphoneError) -> None:
        if playback is self._playback:
            self._playback = None
            if self._sound.media is not None:
                self._sound.play(None)
            playback.fetching = None
            playback.finish(error)
            self._tell(AudioFailed(playback.source, error))
