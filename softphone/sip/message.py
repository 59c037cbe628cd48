"""Requests and responses (RFC 3261 section 7): values, parser, serialisation, framing on streams (section 18.3)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

from softphone.sip.errors import SipParseError
from softphone.sip.headers import (
    CONTROL,
    SINGLE,
    TOKEN,
    WORDS,
    CSeq,
    Header,
    Headers,
    NameAddr,
    Via,
    canonical,
    check_printable,
    control_free,
    parse_addresses,
    parse_number,
)
from softphone.sip.uri import OtherUri, SipUri, Uri, parse_uri

MAX_HEADER_BYTES = 32768
MAX_HEADER_LINES = 200
MAX_BODY_BYTES = 65536
MAGIC_COOKIE = "z9hG4bK"
STATUS_LINE = re.compile(r"SIP/(\d+\.\d+) (\d{3,}) ?(.*)\Z", re.DOTALL | re.IGNORECASE)
METHODS = frozenset(
    ["INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "SUBSCRIBE", "NOTIFY", "PUBLISH", "INFO", "UPDATE",
     "PRACK", "REFER", "MESSAGE"]
)  # fmt: skip
"All that the RFCs know; a request with any other is answered with 501."

REASONS = {
    100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 182: "Queued", 183: "Session Progress", 200: "OK",
    202: "Accepted", 300: "Multiple Choices", 301: "Moved Permanently", 302: "Moved Temporarily", 305: "Use Proxy",
    380: "Alternative Service", 400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 407: "Proxy Authentication Required",
    408: "Request Timeout", 410: "Gone", 413: "Request Entity Too Large", 414: "Request-URI Too Long",
    415: "Unsupported Media Type", 416: "Unsupported URI Scheme", 420: "Bad Extension", 421: "Extension Required",
    422: "Session Interval Too Small", 423: "Interval Too Brief", 480: "Temporarily Unavailable",
    439: "First Hop Lacks Outbound Support", 481: "Call/Transaction Does Not Exist",
    482: "Loop Detected", 483: "Too Many Hops", 484: "Address Incomplete",
    485: "Ambiguous", 486: "Busy Here", 487: "Request Terminated", 488: "Not Acceptable Here", 489: "Bad Event",
    491: "Request Pending", 493: "Undecipherable", 500: "Server Internal Error", 501: "Not Implemented",
    502: "Bad Gateway", 503: "Service Unavailable", 504: "Server Time-out", 505: "Version Not Supported",
    513: "Message Too Large", 600: "Busy Everywhere", 603: "Decline", 604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(ABC):
    """What requests and responses have in common. The typed accessors raise SipParseError on a bad value."""

    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    @property
    def vias(self) -> list[Via]:
        return [Via.parse(value) for value in self.headers.values("Via")]

    @property
    def via(self) -> Via:
        """The topmost Via."""
        for value in self.headers.values("Via"):
            return Via.parse(value)
        raise SipParseError("Via", 0, "missing")

    @property
    def from_(self) -> NameAddr:
        return NameAddr.parse(self._need("From"), "From")

    @property
    def to(self) -> NameAddr:
        return NameAddr.parse(self._need("To"), "To")

    @property
    def call_id(self) -> str:
        return self._need("Call-ID")

    @property
    def cseq(self) -> CSeq:
        return CSeq.parse(self._need("CSeq"))

    @property
    def contacts(self) -> list[NameAddr]:
        """All contacts; ``*`` counts as none."""
        return [] if self.headers.get("Contact") == "*" else parse_addresses(self.headers, "Contact")

    @property
    def record_route(self) -> list[NameAddr]:
        return parse_addresses(self.headers, "Record-Route")

    @property
    def content_type(self) -> str:
        """Type/subtype in lower case without parameters; empty if the message has no body type."""
        return (self.headers.get("Content-Type") or "").partition(";")[0].replace(" ", "").lower()

    def number(self, name: str) -> int | None:
        """A numeric header such as Expires, or None if it is absent."""
        text = self.headers.get(name)
        return None if text is None else parse_number(text.partition(";")[0].partition("(")[0], name)

    def _need(self, name: str) -> str:
        value = self.headers.get(name)
        if value is None:
            raise SipParseError(name, 0, "missing")
        return value

    @abstractmethod
    def start_line(self) -> str:
        """The first line, without its end."""

    def __bytes__(self) -> bytes:
        """The message for the wire, its Content-Length counted. Raises SipParseError if a value cannot be printed."""
        lines = self.headers.without("Content-Length").add("Content-Length", str(len(self.body))).lines
        check_printable(lines)
        if CONTROL.search(start := self.start_line()):
            raise SipParseError("start line", 0, "contains a control character")
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        return f"{start}\r\n{head}\r\n".encode("utf-8", "surrogateescape") + self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Message):
    """A SIP request."""

    method: str
    uri: Uri

    def start_line(self) -> str:
        return f"{self.method} {self.uri} SIP/2.0"

    @property
    def routes(self) -> list[NameAddr]:
        return parse_addresses(self.headers, "Route")

    @property
    def max_forwards(self) -> int:
        value = self.number("Max-Forwards")
        return 70 if value is None else value

    def with_via(self, via: Via) -> Request:
        """With another Via in front of the others."""
        return replace(self, headers=self.headers.prepend("Via", str(via)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Response(Message):
    """A SIP response."""

    status: int
    reason: str

    def start_line(self) -> str:
        return f"SIP/2.0 {self.status} {self.reason}"

    @property
    def final(self) -> bool:
        return self.status >= 200

    @property
    def success(self) -> bool:
        return 200 <= self.status < 300


def respond(
    request: Request, status: int, reason: str | None = None, *,
    to_tag: str | None = None, headers: Headers | None = None, body: bytes = b"",
) -> Response:  # fmt: skip
    """A response with what it must copy from the request (RFC 3261 section 8.2.6)."""
    to = request._need("To")
    if to_tag and status > 100 and "tag" not in dict(request.to.parameters):
        to = str(request.to.with_parameter("tag", to_tag))
    lines = _lines(request, "Via")
    if 100 < status < 300:
        lines += _lines(request, "Record-Route")
    lines += [
        Header("From", request._need("From")),
        Header("To", to),
        Header("Call-ID", request.call_id),
        Header("CSeq", request._need("CSeq")),
    ]
    if status == 100 and (timestamp := request.headers.get("Timestamp")):
        lines.append(Header("Timestamp", timestamp))
    extra = headers.lines if headers else ()
    text = REASONS.get(status, "Unknown") if reason is None else CONTROL.sub(" ", reason)
    return Response(status=status, reason=text, headers=Headers((*lines, *extra)), body=body)


def refuse(request: Request, error: SipParseError, to_tag: str) -> Response:
    """The answer to a request that cannot be read in full: copies what is there, as it came."""
    headers = Headers(
        tuple(line for name in ("Via", "From", "To", "Call-ID", "CSeq") for line in _lines(request, name))
    )
    try:
        if request.to.tag is None:
            headers = headers.set("To", str(request.to.with_parameter("tag", to_tag)))
    except SipParseError:
        pass  # the field that is wrong, or absent
    reason = REASONS[error.status]
    if error.status == 400:
        why = "".join(char if " " <= char <= "~" else "?" for char in str(error))
        reason = f"{reason} ({why[:120]})"
    return Response(status=error.status, reason=reason, headers=headers)


def _lines(request: Request, name: str) -> list[Header]:
    return [Header(name, value) for value in request.headers.raw(name)]


def parse_message(data: bytes, *, stream: bool = False) -> Request | Response:
    """One whole message: a datagram, or what `StreamFramer` cut out of a stream.

    Octets behind Content-Length are ignored (RFC 3261 section 18.3). Raises SipParseError; its ``request`` is set when
    the sender can be told.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        raise SipParseError("message", len(data), "the header section does not end with an empty line")
    if end > MAX_HEADER_BYTES:
        raise SipParseError("message", MAX_HEADER_BYTES, "the header section is too long", status=513)
    start, *lines = data[:end].decode("utf-8", "surrogateescape").split("\r\n")
    status_line = STATUS_LINE.match(start)
    trouble: list[SipParseError] = []
    headers = _header_lines(lines, trouble)
    body = _body(headers, data[end + 4 :], stream, trouble)
    message = _response(status_line, headers, body, trouble) if status_line else _request(start, headers, body, trouble)
    if not trouble:
        _check(message, trouble)
    if not trouble:
        return message
    error = trouble[0]
    if isinstance(message, Request) and message.method != "ACK" and "Via" in headers:
        error.request = message
    raise error


def _header_lines(lines: list[str], trouble: list[SipParseError]) -> Headers:
    found: list[Header] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if line[:1] in (" ", "\t"):
            if not found:
                trouble.append(SipParseError("header line", number, "a continuation without a line before it"))
                continue
            name, value = found[-1]
            found[-1] = Header(name, f"{value} {line.strip()}".strip())
            continue
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        if not colon or not TOKEN.match(name):
            trouble.append(SipParseError("header line", number, f"{line[:40]!r} is not 'name: value'"))
            continue
        name = canonical(name)
        if name in SINGLE:
            if name in seen:
                trouble.append(SipParseError(name, number, "occurs twice"))
                continue
            seen.add(name)
        found.append(Header(name, value.strip(" \t")))
        if len(found) > MAX_HEADER_LINES:
            trouble.append(SipParseError("message", number, f"more than {MAX_HEADER_LINES} header lines", status=513))
            break
    for header in [header for header in found if not control_free(header.value)]:
        trouble.append(SipParseError(header.name, 0, "control character in the value"))
        found.remove(header)
    return Headers(tuple(found))


def _body(headers: Headers, rest: bytes, stream: bool, trouble: list[SipParseError]) -> bytes:
    text = headers.get("Content-Length")
    if text is None:
        if stream:
            trouble.append(SipParseError("Content-Length", 0, "missing on a stream"))
        return rest
    try:
        length = parse_number(text, "Content-Length")
    except SipParseError as exc:
        trouble.append(exc)
        return b""
    if length > len(rest):
        trouble.append(SipParseError("body", len(rest), f"Content-Length is {length}, only {len(rest)} bytes came"))
    return rest[:length]


def _request(start: str, headers: Headers, body: bytes, trouble: list[SipParseError]) -> Request:
    parts = start.split(" ")
    if len(parts) != 3 or not TOKEN.match(parts[0]):
        trouble.insert(0, SipParseError("request line", 0, f"{start[:40]!r} is not 'METHOD URI SIP/2.0'"))
        method = parts[0] if TOKEN.match(parts[0]) else "UNKNOWN"
        return Request(method=method, uri=OtherUri("about:blank"), headers=headers, body=body)
    method, uri_text, version = parts
    if version.upper() != "SIP/2.0":
        sip = re.match(r"SIP/\d+\.\d+\Z", version, re.IGNORECASE)
        trouble.insert(0, SipParseError("request line", 0, f"version {version[:20]!r}", status=505 if sip else 400))
    uri: Uri = OtherUri("about:blank")
    try:
        uri = parse_uri(uri_text)
        if isinstance(uri, SipUri) and uri.headers:
            raise SipParseError("request line", 0, "a Request-URI must not carry header fields")
    except SipParseError as exc:
        trouble.append(exc)
    return Request(method=method, uri=uri, headers=headers, body=body)


def _response(line: re.Match[str], headers: Headers, body: bytes, trouble: list[SipParseError]) -> Response:
    status = int(line[2][:4])
    if line[1] != "2.0" or len(line[2]) != 3 or not 100 <= status <= 699:
        trouble.insert(0, SipParseError("status line", 0, f"version {line[1]} status {line[2][:20]}"))
    return Response(status=status, reason=CONTROL.sub(" ", line[3]), headers=headers, body=body)


def _check(message: Request | Response, trouble: list[SipParseError]) -> None:
    """What every message needs (RFC 3261 section 8.1.1), and the values that later layers rely on."""
    try:
        if not message.vias:
            raise SipParseError("Via", 0, "missing")
        if not WORDS.match(message.call_id):
            raise SipParseError("Call-ID", 0, f"invalid {message.call_id[:40]!r}")
        message.from_, message.to, message.contacts, message.record_route  # noqa: B018
        cseq = message.cseq
        for name in ("Expires", "Min-Expires", "Max-Forwards"):
            message.number(name)
        if isinstance(message, Request):
            if cseq.method != message.method:
                why = f"the method {cseq.method[:20]!r} is not {message.method[:20]!r}"
                raise SipParseError("CSeq", 0, why, status=400 if message.method in METHODS else 501)
            message.routes  # noqa: B018
        if message.body and not message.content_type:
            raise SipParseError("Content-Type", 0, "missing although there is a body")
    except SipParseError as exc:
        trouble.append(exc)


class FrameKind(Enum):
    MESSAGE = "message"
    PING = "ping"
    "Two line breaks: the peer wants one back (RFC 5626 section 3.5.1)."
    PONG = "pong"


class Frame(NamedTuple):
    """One thing on a stream."""

    kind: FrameKind
    data: bytes


class StreamFramer:
    """Cuts a byte stream into messages by Content-Length. After an error the stream is lost: close it."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now; feed again until there are none.

        Raises SipParseError when no message border can be found any more; `unframed` is then what can be answered.
        """
        self._buffer += data
        frames: list[Frame] = []
        try:
            while frame := self._next():
                frames.append(frame)
        except SipParseError:
            if not frames:
                raise
        return frames

    @property
    def unframed(self) -> bytes:
        """The header section at the front, if it is whole."""
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES + 4)
        return bytes(self._buffer[: end + 4]) if end >= 0 else b""

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if buffer.startswith(b"\r\n\r\n"):
            del buffer[:4]
            return Frame(FrameKind.PING, b"")
        if buffer.startswith(b"\r\n"):
            if buffer == b"\r\n\r":
                return None  # may become a ping
            del buffer[:2]
            return Frame(FrameKind.PONG, b"")
        if buffer and not 0x21 <= buffer[0] <= 0x7E and buffer[0] != 0x0D:
            raise SipParseError("stream", 0, f"no message begins with the byte {buffer[0]:#04x}")
        end = buffer.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES + 4)
        if end < 0:
            if len(buffer) > MAX_HEADER_BYTES:
                raise SipParseError("stream", MAX_HEADER_BYTES, "no end of the header section")
            return None
        total = end + 4 + self._content_length(bytes(buffer[:end]))
        if len(buffer) < total:
            return None
        frame = Frame(FrameKind.MESSAGE, bytes(buffer[:total]))
        del buffer[:total]
        return frame

    @staticmethod
    def _content_length(head: bytes) -> int:
        found = {m[1].strip() for m in re.finditer(rb"\r\n(?:content-length|l)[ \t]*:([^\r]*)", head, re.IGNORECASE)}
        if len(found) != 1:
            raise SipParseError("stream", len(head), "a message needs exactly one Content-Length")
        text = found.pop()
        if not text.isdigit() or len(text) > 9 or int(text) > MAX_BODY_BYTES:
            raise SipParseError("stream", len(head), f"Content-Length {text[:20]!r} is not 0 to {MAX_BODY_BYTES}")
        return int(text)
