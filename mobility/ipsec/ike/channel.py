"""The messages of one IKE SA: sealed, numbered, retransmitted, in fragments (RFC 7296 sections 2.1 to 2.3, RFC 7383).

The window is one request each way (RFC 7296 section 2.3). What is in the messages is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mobility.discards import Discard, Reason
from mobility.ipsec.ike.keying import IkeKeys
from mobility.ipsec.ike.message import (
    GENERIC_SIZE,
    VERSION,
    Header,
    Message,
    generic_header,
    parse_payloads,
    write_payloads,
)
from mobility.ipsec.ike.numbers import HEADER_SIZE, Exchange, Flag, Notification, PayloadType
from mobility.ipsec.ike.payloads import NotifyPayload, Payload, UnknownPayload
from mobility.ipsec.ike.proposals import Suite
from mobility.ipsec.ike.protection import MOST_FRAGMENTS, Protection, fragment_numbers
from mobility.ipsec.ike.settings import Settings
from mobility.wire.errors import WireError

LAST_MESSAGE_ID = 0xFFFFFFFF
LARGEST_MESSAGE = 1 << 16


@dataclass(frozen=True, slots=True)
class Received:
    """A message that is new and, once there are keys, authentic."""

    message: Message
    covered: bytes
    "What AUTH covers of it: the datagram of IKE_SA_INIT, or the copy of RFC 9242 section 3.3.2."
    fault: NotifyPayload | None = None
    "What is wrong with the payloads, to be told to the sender; then there are none."


@dataclass(frozen=True, slots=True)
class Repeat:
    """The last request came once more: the answer to it, again."""

    datagrams: tuple[bytes, ...]


@dataclass(slots=True)
class _Outstanding:
    header: Header
    datagrams: tuple[bytes, ...]
    tries: int
    due: float
    wait: float


@dataclass(slots=True)
class _Pieces:
    message_id: int
    total: int
    parts: dict[int, bytes]
    following: int = 0


class Channel:
    """One IKE SA's messages. It has no keys until `protect`."""

    __slots__ = (
        "_inbound",
        "_keyed_from",
        "_last_answer",
        "_pieces",
        "_previous",
        "_random",
        "_settings",
        "expected",
        "fragmentation",
        "initiator",
        "initiator_spi",
        "next_id",
        "outstanding",
        "responder_spi",
        "sealer",
    )

    def __init__(
        self, initiator: bool, spis: tuple[bytes, bytes], settings: Settings, random: Callable[[int], bytes]
    ) -> None:
        """``initiator``: whether we are that of the IKE SA; ``spis``: its SPIi and SPIr."""
        self.initiator = initiator
        self.initiator_spi, self.responder_spi = spis
        self._settings = settings
        self._random = random
        self._inbound: Protection | None = None
        self.sealer: Protection | None = None
        "Seals what we send, once there are keys."
        self._previous: Protection | None = None
        self._keyed_from = 0
        "Requests before this one came under the previous keys, and come under them again."
        self.fragmentation = False
        "Both ends can (RFC 7383)."
        self.next_id = 0
        "Message ID of our next request."
        self.expected = 0
        "Message ID of the peer's next request."
        self.outstanding: _Outstanding | None = None
        self._last_answer: tuple[bytes, ...] = ()
        self._pieces: dict[bool, _Pieces] = {}
        "Of a request and of a response that are not complete."

    def protect(self, suite: Suite, keys: IkeKeys) -> None:
        """From now on all messages are sealed, with these keys."""
        self._previous, self._keyed_from = self._inbound, self.expected
        ours, theirs = (keys.ei, keys.ai), (keys.er, keys.ar)
        if not self.initiator:
            ours, theirs = theirs, ours
        self.sealer = Protection(suite, *ours, self._random)
        self._inbound = Protection(suite, *theirs, self._random)

    @property
    def timer(self) -> float | None:
        """When `retransmit` is due."""
        return None if self.outstanding is None else self.outstanding.due

    # ------------------------------------------------------------ sending

    def request(self, exchange: int, payloads: Iterable[Payload], now: float) -> tuple[tuple[bytes, ...], bytes]:
        """The datagrams of our next request, and what AUTH covers of it. Raises `ValueError`: one is under way."""
        if self.outstanding is not None:
            raise ValueError("a request is under way")
        header = self._header(exchange, self.next_id, response=False)
        datagrams, covered = self._written(header, payloads)
        wait = self._settings.first_retransmission
        self.outstanding = _Outstanding(header, datagrams, 1, now + wait, wait)
        self.next_id += 1
        return datagrams, covered

    def again(self, payloads: Iterable[Payload], now: float) -> tuple[tuple[bytes, ...], bytes]:
        """IKE_SA_INIT once more with other payloads and the same message ID, as a cookie or another group demands."""
        self.outstanding = None
        self.next_id -= 1
        self.responder_spi = bytes(8)
        return self.request(Exchange.IKE_SA_INIT, payloads, now)

    def answer(self, request: Header, payloads: Iterable[Payload]) -> tuple[tuple[bytes, ...], bytes]:
        """The datagrams of a response, and what AUTH covers of it. Keeps it for when the request comes again."""
        datagrams, covered = self._written(self._header(request.exchange, request.message_id, response=True), payloads)
        self._last_answer = datagrams
        return datagrams, covered

    def retransmit(self, now: float) -> tuple[bytes, ...] | None:
        """Our request again, if it is due; None: it was sent often enough, and nobody answers."""
        waiting = self.outstanding
        if waiting is None or now < waiting.due:
            return ()
        if waiting.tries >= self._settings.tries:
            return None
        waiting.tries += 1
        waiting.wait = min(2 * waiting.wait, self._settings.longest_retransmission)
        waiting.due = now + waiting.wait
        return waiting.datagrams

    def _header(self, exchange: int, message_id: int, *, response: bool) -> Header:
        flags = (Flag.INITIATOR if self.initiator else 0) | (Flag.RESPONSE if response else 0)
        return Header(self.initiator_spi, self.responder_spi, exchange, flags, message_id)

    def _written(self, header: Header, payloads: Iterable[Payload]) -> tuple[tuple[bytes, ...], bytes]:
        if self.sealer is None:
            datagram = bytes(Message(header, tuple(payloads)))
            return (datagram,), datagram
        following, content = write_payloads(payloads)
        covered = _covered(header, following, content)
        if not self.fragmentation or len(content) <= self.sealer.room(self._settings.datagram_size, fragment=False):
            return (self.sealer.seal(header, following, content),), covered
        room = self.sealer.room(self._settings.datagram_size, fragment=True)
        parts = [content[at : at + room] for at in range(0, len(content), room)]
        seal = self.sealer.seal
        datagrams = (
            seal(header, following if number == 1 else 0, part, (number, len(parts)))
            for number, part in enumerate(parts, 1)
        )
        return tuple(datagrams), covered

    # ------------------------------------------------------------ receiving

    def receive(self, data: bytes) -> Received | Repeat | None:
        """A message, once it is whole; None: a fragment of one that is not.

        An answer to our request of the present that is in clear although there are keys comes with ``covered`` empty.

        Raises `Discard`: IKE_MALFORMED, IKE_UNEXPECTED, AUTHENTICATION_FAILED.
        """
        try:
            header = Header.parse(data)
        except WireError as error:
            raise Discard(Reason.IKE_MALFORMED, str(error)) from None
        if header.version >> 4 != VERSION >> 4:
            raise Discard(Reason.IKE_MALFORMED, f"version {header.version >> 4}")
        if header.from_initiator == self.initiator:
            raise Discard(Reason.IKE_UNEXPECTED, "a message of ours came back")
        if header.is_response:
            waiting = self.outstanding
            if waiting is None or (header.message_id, header.exchange) != (
                waiting.header.message_id,
                waiting.header.exchange,
            ):
                raise Discard(Reason.IKE_UNEXPECTED, f"{header.name} response {header.message_id}")
        elif header.message_id not in (self.expected, self.expected - 1) or header.message_id == LAST_MESSAGE_ID:
            raise Discard(Reason.IKE_UNEXPECTED, f"{header.name} request {header.message_id}, next is {self.expected}")
        if self._inbound is None:
            return self._clear(data, header)
        return self._sealed(data, header, self._inbound)

    def _clear(self, data: bytes, header: Header) -> Received:
        try:
            message = Message.parse(data)
        except WireError as error:
            raise Discard(Reason.IKE_MALFORMED, str(error)) from None
        if not header.is_response or any(
            isinstance(each, UnknownPayload) and each.critical for each in message.payloads
        ):
            raise Discard(Reason.IKE_UNEXPECTED, f"{header.name} in clear")
        # Whoever takes the answer for good calls `answered`: nothing about it is authentic yet.
        return Received(message, data if self._inbound is None else b"")

    def answered(self) -> None:
        """Our request in clear was answered by something that can be believed."""
        self.outstanding = None

    def _sealed(self, data: bytes, header: Header, inbound: Protection) -> Received | Repeat | None:
        fragment = header.next_payload == PayloadType.SKF
        if header.is_response and header.next_payload == PayloadType.NOTIFY:
            return self._clear(data, header)
        if header.next_payload not in (PayloadType.SK, PayloadType.SKF):
            raise Discard(Reason.IKE_UNEXPECTED, f"{header.name} in clear")
        if len(data) < HEADER_SIZE + GENERIC_SIZE:
            raise Discard(Reason.IKE_MALFORMED, "encrypted payload cut off")
        number, total = fragment_numbers(data, HEADER_SIZE) if fragment else (1, 1)
        if int.from_bytes(data[HEADER_SIZE + 2 : HEADER_SIZE + 4], "big") != len(data) - HEADER_SIZE:
            raise Discard(Reason.IKE_MALFORMED, "the encrypted payload is not the last one")
        if not header.is_response and header.message_id < self._keyed_from and self._previous is not None:
            inbound = self._previous
        content = inbound.open(data, HEADER_SIZE, fragment=fragment)
        if not header.is_response and header.message_id != self.expected:
            if number != 1 or not self._last_answer:
                raise Discard(Reason.IKE_UNEXPECTED, f"{header.name} request {header.message_id} again")
            return Repeat(self._last_answer)
        following = data[HEADER_SIZE]
        if fragment:
            whole = self._joined(header, number, total, content, following)
            if whole is None:
                return None
            following, content = whole
        if header.is_response:
            self.outstanding = None
        else:
            self.expected += 1
            self._last_answer = ()
        self._pieces.pop(header.is_response, None)
        return _received(header, following, content)

    def _joined(
        self, header: Header, number: int, total: int, content: bytes, following: int
    ) -> tuple[int, bytes] | None:
        pieces = self._pieces.get(header.is_response)
        if pieces is None or pieces.message_id != header.message_id or total > pieces.total:
            pieces = self._pieces[header.is_response] = _Pieces(header.message_id, total, {})
        if total < pieces.total or number in pieces.parts:
            raise Discard(Reason.IKE_UNEXPECTED, f"fragment {number} of {total} once more")
        pieces.parts[number] = content
        if number == 1:
            pieces.following = following
        if len(pieces.parts) < pieces.total or pieces.total > MOST_FRAGMENTS:
            return None
        whole = b"".join(pieces.parts[each] for each in sorted(pieces.parts))
        if len(whole) > LARGEST_MESSAGE:
            raise Discard(Reason.IKE_MALFORMED, f"fragments of {len(whole)} octets")
        return pieces.following, whole


def _received(header: Header, following: int, content: bytes) -> Received:
    covered = _covered(header, following, content)
    try:
        payloads = tuple(parse_payloads(following, content))
    except WireError as error:
        fault = NotifyPayload(Notification.INVALID_SYNTAX, str(error).encode()[:64])
        return Received(Message(header), covered, fault)
    for payload in payloads:
        if isinstance(payload, UnknownPayload) and payload.critical:
            kind = bytes((payload.type,))
            return Received(Message(header), covered, NotifyPayload(Notification.UNSUPPORTED_CRITICAL_PAYLOAD, kind))
    return Received(Message(header, payloads), covered)


def _covered(header: Header, following: int, content: bytes) -> bytes:
    """A message as if its encrypted payload were not encrypted, nor in fragments (RFC 9242 section 3.3.2)."""
    size = GENERIC_SIZE + len(content)
    return header.written(PayloadType.SK, HEADER_SIZE + size) + generic_header(following, size) + content
