"""SIP and DNS over TCP: streams in which messages are rewritten, so that both ends number octets differently.

A message is held back until it is complete, then sent on rewritten. Neither end is told of octets that the other has
not acknowledged: what is lost is sent again by whoever sent it, and comes from here again as it was rewritten.
Selective acknowledgements are not offered, because there is nothing that they could name.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from mobility.wire.tcp import ACK, FIN, PSH, RST, SYN, Segment, difference

CONNECTIONS = 64
"At one time; the one that was silent longest goes first, and with it its stream."
MESSAGE = 8192
"""Octets of a message at most: its sender sends no more than ten segments before it hears of any (RFC 6928). A stream
with a longer one, or with none, passes as it is from there on."""
EARLY = 32
"Segments that may wait for what is missing before them."
PIECE = 1200
"Octets of a segment that is made here."

_LENGTH = re.compile(rb"(?im)^(?:content-length|l)[ \t]*:[ \t]*(\d{1,9})(?!\d)")
_BLANK = b"\r\n\r\n"
_SHORTEST = 2 + 12
"Octets of a message of DNS that has a header only, with its length."


@dataclass(frozen=True, slots=True)
class Speech:
    """What is said on a connection, and how messages of each direction are rewritten."""

    size: Callable[[bytes], int | None]
    """Octets of what a stream begins with, which is one message or none, if they are all there; 0: wait for more. None:
    this is no stream of messages, or they are too long."""
    outbound: Callable[[bytes], bytes]
    inbound: Callable[[bytes], bytes]


def sip_size(is_message: Callable[[bytes], bool], pending: bytes) -> int | None:
    """`Speech.size` of SIP (RFC 3261 section 18.3)."""
    signs = len(pending) - len(pending.lstrip(b"\r\n"))
    if signs:
        return signs  # of life (RFC 5626 section 3.5.1)
    head = pending.find(_BLANK)
    if head < 0:
        return 0 if len(pending) < MESSAGE else None
    if not is_message(pending):
        return None
    length = _LENGTH.search(pending, 0, head + 2)
    size = head + len(_BLANK) + (0 if length is None else int(length[1]))
    if size > MESSAGE:
        return None
    return size if size <= len(pending) else 0


def dns_size(pending: bytes) -> int | None:
    """`Speech.size` of DNS: two octets of length before each message (RFC 1035 section 4.2.2)."""
    size = 2 + int.from_bytes(pending[:2])
    if len(pending) >= 2 and not _SHORTEST < size <= MESSAGE:
        return None
    return size if size <= len(pending) else 0


class _Chunk(NamedTuple):
    """A message that was sent on and is not acknowledged yet."""

    start: int
    end: int
    "Numbers of the sender."
    number: int
    "Number at the receiver."
    octets: bytes


class _Stream:
    """One direction of a connection."""

    def __init__(self, number: int, size: Callable[[bytes], int | None], rewrite: Callable[[bytes], bytes]) -> None:
        """``number``: of the first octet, at both ends."""
        self.base = number
        "Number of the sender up to which all was sent on."
        self.number = number
        "The same at the receiver."
        self.finished = False
        self._size = size
        self._rewrite = rewrite
        self._pending = b""
        self._early: dict[int, bytes] = {}
        self._chunks: deque[_Chunk] = deque()
        self._as_it_is = False

    def receive(self, sequence: int, data: bytes) -> list[tuple[int, bytes]]:
        """What to send on, with numbers of the receiver: what is complete now, and what was sent again."""
        again: list[tuple[int, bytes]] = []
        expected = self._expected
        behind = difference(expected, sequence)
        if behind > 0:
            end = sequence + len(data)
            again = [
                (chunk.number, chunk.octets)
                for chunk in self._chunks
                if difference(chunk.end, sequence) > 0 and difference(end, chunk.start) > 0
            ]
            data = data[behind:]
        elif behind < 0:
            if -behind < MESSAGE and len(self._early) < EARLY:
                self._early[sequence & 0xFFFFFFFF] = data
            return []
        if not self.finished:
            self._pending += data
            self._join_early()
        return again + [(chunk.number, chunk.octets) for chunk in self._complete()]

    def finish(self, sequence: int) -> tuple[list[tuple[int, bytes]], int | None]:
        """The sender's end has this number: what to send on before, and the number of the end for the receiver.

        None: something before it is missing.
        """
        if self.finished:
            return [], self.number - 1 if sequence == (self.base - 1) & 0xFFFFFFFF else None
        if difference(self._expected, sequence) != 0:
            return [], None
        self._as_it_is = True
        rest = [(chunk.number, chunk.octets) for chunk in self._complete()]
        end = self.number
        self.base, self.number, self.finished = _plus(self.base, 1), _plus(self.number, 1), True
        return rest, end

    def acknowledged(self, number: int) -> int:
        """The receiver has everything before ``number``: what the sender may be told in its own numbers."""
        while self._chunks and difference(number, _plus(self._chunks[0].number, len(self._chunks[0].octets))) >= 0:
            self._chunks.popleft()
        if self._chunks:
            return self._chunks[0].start
        return _plus(self.base, min(difference(number, self.number), 0))

    def placed(self, sequence: int) -> int:
        """The receiver's number for a segment without octets."""
        return _plus(self.number, min(difference(sequence, self.base), 0))

    def expects(self, sequence: int) -> bool:
        """Whether this is the number of the next octet of the sender."""
        return sequence == self._expected

    @property
    def _expected(self) -> int:
        return _plus(self.base, len(self._pending))

    def _join_early(self) -> None:
        joined = True
        while joined:
            joined = False
            for sequence in sorted(self._early, key=lambda each: difference(each, self.base)):
                behind = difference(self._expected, sequence)
                if behind >= 0:
                    self._pending += self._early.pop(sequence)[behind:]
                    joined = True

    def _complete(self) -> list[_Chunk]:
        made: list[_Chunk] = []
        while self._pending:
            size = None if self._as_it_is else self._size(self._pending)
            if size == 0:
                break
            if size is None:
                self._as_it_is, size = True, len(self._pending)
            raw, self._pending = self._pending[:size], self._pending[size:]
            octets = raw if self._as_it_is else self._rewrite(raw)
            chunk = _Chunk(self.base, _plus(self.base, size), self.number, octets)
            self.base, self.number = chunk.end, _plus(self.number, len(octets))
            made.append(chunk)
        self._chunks += made
        return made


@dataclass(slots=True)
class _Connection:
    """Both directions; None: its SYN has not been seen."""

    from_program: _Stream | None = None
    to_program: _Stream | None = None
    told_program: int = 0
    "What the program was last told to be acknowledged."
    told_network: int = 0


Key = tuple[int, bytes, int]
"Port of the program, address and port of the correspondent."


class Streams:
    """``spoken``: what is said on a connection, by its key."""

    def __init__(self, spoken: Callable[[Key], Speech]) -> None:
        self._spoken = spoken
        self._connections: OrderedDict[Key, _Connection] = OrderedDict()

    def __len__(self) -> int:
        return len(self._connections)

    def sent(self, correspondent: bytes, segment: Segment) -> list[Segment] | None:
        """A segment of a program: those for the network. None: of no stream that is known from its beginning."""
        return self._carry((segment.source_port, correspondent, segment.destination_port), segment, outbound=True)

    def received(self, correspondent: bytes, segment: Segment) -> list[Segment] | None:
        """A segment from the network: those for the program. None as in `sent`."""
        return self._carry((segment.destination_port, correspondent, segment.source_port), segment, outbound=False)

    def _carry(self, key: Key, segment: Segment, *, outbound: bool) -> list[Segment] | None:
        if segment.flags & SYN:
            self._begin(key, segment, outbound=outbound)
        connection = self._connections.get(key)
        if connection is None:
            return None
        self._connections.move_to_end(key)
        this, other = connection.from_program, connection.to_program
        if not outbound:
            this, other = other, this
        if this is None:
            return None
        if segment.flags & RST and this.expects(segment.sequence):  # nobody else knows (RFC 5961 section 3.2)
            del self._connections[key]
        acknowledgement = segment.acknowledgement
        if segment.flags & ACK and other is not None:
            acknowledgement = other.acknowledged(acknowledgement)
        like = replace(segment, acknowledgement=acknowledgement, options=segment.without_sack(), payload=b"")
        if segment.flags & SYN:
            return [like]
        told = connection.told_network if outbound else connection.told_program
        if outbound:
            connection.told_network = acknowledgement
        else:
            connection.told_program = acknowledgement
        known = difference(this.base, segment.sequence) > 0
        made = _segments(this, segment, like)
        if segment.payload and not made and known:
            # The other end has it all, but the sender does not know: this asks for an acknowledgement.
            return [replace(like, sequence=_plus(this.number, -1), flags=ACK)]
        if made or (segment.payload and acknowledgement == told):
            return made
        return [replace(like, sequence=this.placed(segment.sequence), flags=segment.flags & ~FIN)]

    def _begin(self, key: Key, segment: Segment, *, outbound: bool) -> None:
        first = _plus(segment.sequence, 1)
        answer = bool(segment.flags & ACK)
        connection = self._connections.get(key)
        this = None if connection is None else connection.from_program if outbound else connection.to_program
        if this is not None and this.base == first:
            return  # sent again
        if connection is None or not answer:
            if answer:
                return
            if len(self._connections) >= CONNECTIONS and key not in self._connections:
                self._connections.popitem(last=False)
            connection = self._connections[key] = _Connection()
        speech = self._spoken(key)
        if outbound:
            connection.from_program = _Stream(first, speech.size, speech.outbound)
        else:
            connection.to_program = _Stream(first, speech.size, speech.inbound)


def _segments(stream: _Stream, segment: Segment, like: Segment) -> list[Segment]:
    """The segments for what this one completes, and for the end of the stream."""
    pieces = stream.receive(segment.sequence, segment.payload) if segment.payload else []
    end: int | None = None
    if segment.flags & FIN:
        rest, end = stream.finish(_plus(segment.sequence, len(segment.payload)))
        pieces += rest
    flags = segment.flags & ~FIN
    made = [
        replace(like, sequence=_plus(number, at), flags=flags | PSH, payload=octets[at : at + PIECE])
        for number, octets in pieces
        for at in range(0, len(octets), PIECE)
    ]
    if end is not None:
        made.append(replace(like, sequence=end & 0xFFFFFFFF, flags=segment.flags))
    return made


def _plus(number: int, octets: int) -> int:
    return (number + octets) & 0xFFFFFFFF
