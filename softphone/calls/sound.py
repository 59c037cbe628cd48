"""The sound of one call, whichever media session carries it: what is played and recorded, digits, what it tells."""

from __future__ import annotations

from collections.abc import Callable

from softphone.errors import CallError
from softphone.media.audio import AudioSink, AudioSource
from softphone.media.events import AudioFailed, MediaEvent, PlaybackEnded
from softphone.media.recorder import CallRecorder
from softphone.user_agent.agent import SoundSession


class Sound:
    """Outlives its media sessions: a call that forks may change them, and after the end the last counters are known."""

    def __init__(self, tell: Callable[[MediaEvent], None]) -> None:
        self.media: SoundSession | None = None
        self.flows = False
        "The session was started."
        self._tell = tell
        self._ended: SoundSession | None = None
        self._source: AudioSource | None = None
        self._sink: AudioSink | None = None
        self._microphone: AudioSource | None = None
        self._loudspeaker: AudioSink | None = None
        self._recorder: CallRecorder | None = None
        self._holding = False
        self._muted = False
        self._music: AudioSource | None = None

    def use(self, media: SoundSession | None) -> SoundSession | None:
        """This session from now on; returns the one before."""
        before, self.media, self.flows = self.media, media, False
        if before is not None:
            before.on_event = lambda event: None
        if media is not None:
            media.on_event = self._heard
            media.play(self._played)
            media.record(self._heard_by)
            media.record_call(self._recorder)
            self._apply_mute()
        return before

    async def start(self) -> None:
        if self.media is not None and not self.flows:
            await self.media.start()
            self.flows = True

    def end(self) -> SoundSession | None:
        """Returns the session to close."""
        self._ended, self.media = self.media, None
        return self._ended

    def statistics(self) -> object:
        """Of the session, or of the last one; None before there was one."""
        media = self._ended if self.media is None else self.media
        return None if media is None else media.statistics()

    def belongs(self, media: SoundSession | None) -> bool:
        """Whether this session is, or was, the call's."""
        return media is not None and media in (self.media, self._ended)

    # each of these raises CallError when the call has no sound (any more)

    def play(self, source: AudioSource | None) -> None:
        media = self.session
        self._source = source
        media.play(self._played)

    def record(self, sink: AudioSink | None) -> None:
        media = self.session
        self._sink = sink
        media.record(self._heard_by)

    def attach(self, microphone: AudioSource | None, loudspeaker: AudioSink | None) -> None:
        """A device: what is sent while nothing else is played, and who hears while nobody else does."""
        media = self.session
        self._microphone, self._loudspeaker = microphone, loudspeaker
        media.play(self._played)
        media.record(self._heard_by)

    def record_call(self, recorder: CallRecorder | None) -> None:
        media = self.session
        self._recorder = recorder
        media.record_call(recorder)

    def hold(self, music: AudioSource | None) -> None:
        """Only this is to be heard for now."""
        self._holding, self._music = True, music
        self.session.play(music)
        self._apply_mute()

    def resume(self) -> None:
        self._holding, self._music = False, None
        self.session.play(self._played)
        self._apply_mute()

    @property
    def recorder(self) -> CallRecorder | None:
        """Of the recording that goes on."""
        return None if self._recorder is None or self._recorder.ended is not None else self._recorder

    @property
    def muted(self) -> bool:
        return self._muted

    def mute(self, on: bool) -> None:
        """Silence in place of what is played, but not of the music of a hold."""
        self._muted = on
        self._apply_mute()

    def _apply_mute(self) -> None:
        if self.media is not None:
            self.media.muted = self._muted and not self._holding

    def take(self, other: Sound) -> None:
        """Play and record what the other one plays and records."""
        self.play(other._source)
        self.record(other._sink)

    @property
    def session(self) -> SoundSession:
        if self.media is None:
            raise CallError("the call has no sound now: it has ended, or not begun")
        return self.media

    def _back_to_device(self, ended: object) -> None:
        """Something else was played, or recorded to, and is over; a device that failed itself is left."""
        if ended is self._microphone or ended is self._loudspeaker:
            self._microphone = self._loudspeaker = None
        elif self.media is not None and self._microphone is not None:
            self.media.play(self._played)
            self.media.record(self._heard_by)

    @property
    def _played(self) -> AudioSource | None:
        if self._holding:
            return self._music
        return self._microphone if self._source is None else self._source

    @property
    def _heard_by(self) -> AudioSink | None:
        return self._loudspeaker if self._sink is None else self._sink

    def _heard(self, event: MediaEvent) -> None:
        match event:
            case PlaybackEnded(part) | AudioFailed(part):  # is not to begin again after a hold
                self._source = None if part is self._source else self._source
                self._music = None if part is self._music else self._music
                self._sink = None if part is self._sink else self._sink
                self._back_to_device(part)
            case _:
                pass
        self._tell(event)
