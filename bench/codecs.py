"""Part of section ``phone``: processor time of the media of a call by codec, without network and files.

Microseconds of one processor for 20 ms of a call: one packet is encoded and encrypted, one is decrypted, goes through
the jitter buffer and is decoded. The median of rounds of a second of speech.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from time import process_time

from bench.statistics import measured
from softphone.media.codecs import KNOWN, PACKET_TIME, Codec
from softphone.media.drops import DropCounter
from softphone.media.files import read_sound
from softphone.media.keying import SrtpMode
from softphone.media.offer_answer import LocalStream, Negotiation
from softphone.media.quality import resample
from softphone.media.settings import MediaSettings
from softphone.media.stream import Stream

ROUND = 50
"Packets."
HERE, THERE = ("2001:db8::1", 4000), ("2001:db8::2", 4000)


def by_codec(speech: Path) -> dict[str, object]:
    """Microseconds of each codec, and of Opus with forward error correction as it is under loss."""
    figures: dict[str, object] = {}
    for codec in KNOWN:
        figures |= measured(codec.name, _rounds(codec, speech, loss=False), 1)
    return figures | measured("opus under loss", _rounds(KNOWN[0], speech, loss=True), 1)


def _streams(codec: Codec) -> tuple[Stream, Stream]:
    settings = MediaSettings(codecs=(codec,), srtp=SrtpMode.MANDATORY)
    local = LocalStream(HERE[0], HERE[1], HERE[1] + 1, codecs=(codec,), srtp=SrtpMode.MANDATORY)
    ours = Negotiation(local, Random(1).randbytes)
    theirs = Negotiation(replace(local, address=THERE[0]), Random(2).randbytes)
    ours.accept(theirs.answer(ours.offer()))
    assert ours.result is not None
    assert theirs.result is not None
    one, other = (Stream(agreed, settings, DropCounter(), 0.0, 0.0) for agreed in (ours.result, theirs.result))
    return one, other


def _rounds(codec: Codec, speech: Path, *, loss: bool) -> list[float]:
    sound = resample(*read_sound(speech), codec.sample_rate)
    frames = sound[: len(sound) // codec.frame * codec.frame].reshape(-1, codec.frame)
    sender, receiver = _streams(codec)
    if loss and sender.encoder.opus is not None:
        for _ in range(4):
            sender.control.reported(0.05)
        sender.encoder.opus.adapt(sender.control.bit_rate, sender.control.expected_loss)
    rounds = []
    for begin in range(0, len(frames) - ROUND, ROUND):
        started = process_time()
        for n in range(begin, begin + ROUND):
            now = n * PACKET_TIME
            packet = sender.packet(frames[n], now, begins=False)
            if packet is not None and sender.protector is not None and not (loss and n % 20 == 19):
                receiver.take_rtp(sender.protector.rtp(packet), HERE, now)
            receiver.pull(now + 0.005)
        rounds.append((process_time() - started) / ROUND * 1e6)
    return rounds
