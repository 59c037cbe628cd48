"""What several tests of the media need: seeded randomness, loopback sockets, speech, a simulated network."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from random import Random

import numpy as np

from softphone.media.codecs import Codec, Encoder, Samples
from softphone.media.drops import DropCounter
from softphone.media.jitter import MediaPacket
from softphone.media.playout import Player
from softphone.media.srtp import Random as RandomBytes


def seeded(seed: int) -> RandomBytes:
    return Random(seed).randbytes


class Loopback:
    """A `Sockets` factory, as far as media needs it."""

    def __init__(self) -> None:
        self.made: list[socket.socket] = []

    async def udp(self, host: str, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        try:
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
        self.made.append(sock)
        return sock


def voice(rate: int, seconds: float, pitch: float = 120.0) -> Samples:
    """A buzzing vowel with a slowly changing pitch: periodic like speech, and never quiet."""
    t = np.arange(round(rate * seconds)) / rate
    phase = 2 * np.pi * (pitch * t + 2.0 * np.sin(2 * np.pi * 0.7 * t))
    sound = sum(np.sin(n * phase) / n for n in range(1, 12))
    return np.asarray(4000 * sound, np.int16)


def words(rate: int, seconds: float) -> Samples:
    """Vowels of 300 ms with pauses of 100 ms."""
    sound = voice(rate, seconds)
    t = np.arange(len(sound)) / rate
    return np.asarray(sound * np.clip(20 * (0.15 - np.abs(t % 0.4 - 0.15)), 0, 1), np.int16)


def packets(codec: Codec, sound: Samples, first: int = 1000) -> list[MediaPacket]:
    """The sound as packets, 20 ms each."""
    encoder = Encoder(codec)
    frames = sound[: len(sound) // codec.frame * codec.frame].reshape(-1, codec.frame)
    return [
        MediaPacket(first + n, n * codec.ticks, codec.payload_type, encoder.encode(frame))
        for n, frame in enumerate(frames)
    ]


class Line:
    """A player at the end of a simulated network."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.drops = DropCounter()
        self.player = Player(codec, self.drops)
        self.sound: list[Samples] = []
        self.excess: list[float] = []

    def run(self, arrivals: Iterable[tuple[float, MediaPacket]], ticks: int, phase: float = 0.007) -> Samples:
        """Deliver the packets at their times, pull ``ticks`` times every 20 ms; the sound that came out."""
        waiting = sorted(arrivals, key=lambda a: a[0])
        position = 0
        for tick in range(ticks):
            now = tick * 0.020 + phase
            while position < len(waiting) and waiting[position][0] <= now:
                self.player.put(waiting[position][1], waiting[position][0])
                position += 1
            self.sound.append(self.player.pull(now))
            self.excess.append(self.player.buffer.excess(now + 0.020))
        return np.concatenate(self.sound)

    @property
    def concealed(self) -> float:
        return self.player.counters.concealed / self.codec.sample_rate

    @property
    def shortened(self) -> float:
        return self.player.counters.shortened / self.codec.sample_rate
