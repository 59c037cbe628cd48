"""Digits of the keypad: telephone events in RTP (RFC 4733) and in SIP INFO. Sans-IO; tones in the sound are in `tones`.

`DigitSender` is asked every packet time what to send instead of sound; `DigitReceiver` makes one digit of many packets.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from softphone.media.codecs import PACKET_TIME
from softphone.media.drops import Drop
from softphone.media.srtp import MediaDropped

DIGITS = "0123456789*#ABCD"
"In the order of the event codes 0 to 15 (RFC 4733 section 3.2)."
DURATION = 0.100
"Seconds that a digit lasts; receivers want at least 40 ms (ITU-T Q.24)."
LEAST_DURATION, GREATEST_DURATION = 0.040, 1.0
"Beyond about 1.3 s the 16 bits of the duration overflow at 48 kHz and an event would need segments."
GAP = 0.060
"Seconds between digits: at least 40 ms, in whole packets."
END_PACKETS = 3
"The packet that ends an event is sent so often (RFC 4733 section 2.5.1.4)."
GREATEST_QUEUE = 256
"Digits that may wait to be sent."
SILENT = 0.200
"Seconds without a packet after which an event counts as ended: all of its last packets were lost."
INFO_TYPES = ("application/dtmf-relay", "application/dtmf")
"Content types of INFO bodies that carry a digit."

_EVENT = struct.Struct("!BBH")
_END, _VOLUME = 0x80, 0x3F
_LEVEL = 10
"Volume of digits that we send, dB below full scale."


class DigitMethod(StrEnum):
    """How a digit travels."""

    EVENT = "telephone-event"
    "Packets of their own in the RTP stream (RFC 4733)."
    TONE = "tone"
    "In the sound itself."
    INFO = "info"
    "In a SIP INFO request."


@dataclass(frozen=True, slots=True)
class DigitReceived:
    """The other side pressed a key."""

    digit: str
    "One of `DIGITS`."
    duration: float
    "Seconds, as told by the sender or measured."
    method: DigitMethod


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """The payload of one packet (RFC 4733 section 2.3)."""

    event: int
    end: bool
    volume: int
    "dB below full scale, 0 to 63."
    duration: int
    "Since the event began, in units of the RTP clock."

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Raises `MediaDropped`."""
        if len(payload) < _EVENT.size:
            raise MediaDropped(Drop.MALFORMED_EVENT)
        event, flags, duration = _EVENT.unpack_from(payload)
        return cls(event, bool(flags & _END), flags & _VOLUME, duration)

    def __bytes__(self) -> bytes:
        return _EVENT.pack(self.event, (_END if self.end else 0) | self.volume, self.duration)


def checked(digits: str) -> str:
    """The digits in upper case. Raises `ValueError` for what is not on a keypad."""
    found = digits.upper()
    wrong = sorted(set(found) - set(DIGITS))
    if wrong:
        raise ValueError(f"{''.join(wrong)!r} is not on the keypad: digits are {DIGITS}")
    return found


def packets_of(duration: float) -> int:
    """Packet times of a digit of this many seconds. Raises `ValueError`."""
    if not LEAST_DURATION <= duration <= GREATEST_DURATION:
        raise ValueError(f"a digit lasts {LEAST_DURATION} to {GREATEST_DURATION} s, not {duration}")
    return round(duration / PACKET_TIME)


@dataclass(frozen=True, slots=True)
class EventPacket:
    """What to send instead of sound."""

    payload: bytes
    age: int
    "Packet times since the event began: its timestamp is that of its beginning (RFC 4733 section 2.1)."
    first: bool
    "It wants the marker bit (RFC 4733 section 2.2)."


class DigitSender:
    """The digits that wait, and the one that is being sent."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, int]] = deque()
        self._digit = ""
        self._length = 0
        self._age = 0
        self._pause = 0

    def __len__(self) -> int:
        """Digits that are not completely sent."""
        return len(self._waiting) + bool(self._digit)

    def add(self, digits: str, duration: float = DURATION) -> None:
        """Send these after those that wait. Raises `ValueError`."""
        digits, length = checked(digits), packets_of(duration)
        if len(self) + len(digits) > GREATEST_QUEUE:
            raise ValueError(f"more than {GREATEST_QUEUE} digits wait to be sent")
        self._waiting.extend((digit, length) for digit in digits)

    def next(self, ticks: int) -> EventPacket | None:
        """What this packet time sends; None: sound. ``ticks``: units of the RTP clock in a packet."""
        if not self._digit:
            if self._pause:
                self._pause -= 1
                return None
            if not self._waiting:
                return None
            self._digit, self._length = self._waiting.popleft()
            self._age = 0
        self._age += 1
        duration = min(self._age, self._length) * ticks
        over = self._age >= self._length
        packet = EventPacket(
            bytes(TelephoneEvent(DIGITS.index(self._digit), over, _LEVEL, duration)), self._age - 1, self._age == 1
        )
        if self._age == self._length + END_PACKETS - 1:
            self._digit = ""
            # The repeated ends are a part of the gap already.
            self._pause = max(0, round(GAP / PACKET_TIME) - (END_PACKETS - 1))
        return packet


class DigitReceiver:
    """One digit of the packets of one event, however many of them arrive and in whatever order."""

    def __init__(self) -> None:
        self._event: TelephoneEvent | None = None
        self._began = 0
        "Timestamp of the event, or of its latest segment."
        self._before = 0
        "Duration of its earlier segments (RFC 4733 section 2.5.1.3)."
        self._heard = 0.0
        self._done: int | None = None
        "Timestamp of the last event that ended: its packets come again."

    def receive(self, payload: bytes, timestamp: int, rate: int, now: float) -> list[DigitReceived]:
        """A packet; ``rate``: of the RTP clock. Raises `MediaDropped`."""
        event = TelephoneEvent.parse(payload)
        if event.event >= len(DIGITS):
            raise MediaDropped(Drop.UNKNOWN_EVENT)
        if (self._done is not None and (timestamp - self._done) & 0xFFFFFFFF > 0x7FFFFFFF) or timestamp == self._done:
            return []
        found: list[DigitReceived] = []
        current = self._event
        if current is not None and timestamp != self._began:
            ahead = (timestamp - self._began) & 0xFFFFFFFF
            if ahead > 0x7FFFFFFF:
                return []
            if current.event == event.event and ahead == 0xFFFF and not current.end:
                self._before += 0xFFFF
            else:
                found += self._finish(rate)
            current = None
        self._heard, self._began = now, timestamp
        if current is None or event.duration > current.duration or event.end:
            self._event = event
        return found + self._finish(rate) if event.end else found

    def silent_since(self, now: float, rate: int) -> list[DigitReceived]:
        """Called now and then: ends an event whose packets stopped coming."""
        return self._finish(rate) if self._event is not None and now - self._heard > SILENT else []

    def _finish(self, rate: int) -> list[DigitReceived]:
        event, before = self._event, self._before
        self._event, self._before = None, 0
        if event is None:
            return []
        self._done = self._began
        return [DigitReceived(DIGITS[event.event], (before + event.duration) / rate, DigitMethod.EVENT)]


def info_body(digit: str, duration: float = DURATION) -> str:
    """The body of an INFO request of type ``application/dtmf-relay``. Raises `ValueError`."""
    if len(digit) != 1:
        raise ValueError(f"an INFO request carries one digit, not {digit!r}")
    packets_of(duration)
    return f"Signal={checked(digit)}\r\nDuration={round(duration * 1000)}\r\n"


def parse_info(content_type: str, body: str) -> DigitReceived:
    """The digit of an INFO request of one of `INFO_TYPES`. Raises `ValueError`."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in INFO_TYPES:
        raise ValueError(f"{content_type[:40]!r} carries no digit; understood are {', '.join(INFO_TYPES)}")
    fields = {"signal": body.strip()} if kind == "application/dtmf" else {}
    if kind == "application/dtmf-relay":
        for line in body.splitlines()[:16]:
            name, equals, value = line.partition("=")
            if equals:
                fields[name.strip().lower()] = value.strip()
    signal, duration = fields.get("signal", ""), fields.get("duration", "")
    # Some phones write the event codes of RFC 4733 for the keys that are not digits.
    signal = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}.get(signal, signal)
    if len(signal) != 1:
        raise ValueError(f"{signal[:40]!r} is not one digit")
    milliseconds = int(duration) if duration.isascii() and duration.isdigit() and len(duration) <= 5 else 0
    return DigitReceived(checked(signal), milliseconds / 1000 or DURATION, DigitMethod.INFO)
