"""What happens in the audio of a call, as values."""

from __future__ import annotations

from dataclasses import dataclass

from softphone.media.audio import AudioSource
from softphone.media.dtmf import DigitReceived
from softphone.media.monitor import AudioRestored, MediaTimeout, OneWayAudio
from softphone.media.recorder import RecordingEnded


@dataclass(frozen=True, slots=True)
class PlaybackStarted:
    """The first frame of a source left; its packet has the marker bit."""

    source: AudioSource
    sequence: int
    "Extended sequence number."


@dataclass(frozen=True, slots=True)
class PlaybackEnded:
    """The last frame of a source left."""

    source: AudioSource
    sequence: int


@dataclass(frozen=True, slots=True)
class AudioFailed:
    """A source or a sink raised an error and was detached."""

    part: object
    error: Exception


@dataclass(frozen=True, slots=True)
class RemoteLeft:
    """The other side ended its stream (RTCP BYE)."""


@dataclass(frozen=True, slots=True)
class Secured:
    """The DTLS handshake is done: from now on sound flows, encrypted."""

    suite: str


@dataclass(frozen=True, slots=True)
class MediaFailed:
    """There will be no sound: no way was found (ICE), or no keys could be agreed on (DTLS)."""

    why: str


MediaEvent = (
    PlaybackStarted
    | PlaybackEnded
    | AudioFailed
    | RemoteLeft
    | Secured
    | MediaFailed
    | DigitReceived
    | OneWayAudio
    | AudioRestored
    | MediaTimeout
    | RecordingEnded
)
