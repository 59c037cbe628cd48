"""Header fields (RFC 3261 sections 7.3 and 20): names, the grammar of values, the ordered collection of a message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, Self

from softphone.sip.errors import SipParseError
from softphone.sip.uri import Parameters, SipUri, Uri, host_port, parse_ip6, parse_uri, split_host_port

TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+\Z")
DISPLAY = re.compile(r"[A-Za-z0-9\-.!%*_+`'~ \t]*\Z")
WORDS = re.compile(r"[A-Za-z0-9\-.!%*_+`'~()<>:\\\"/\[\]?{}]+(?:@[A-Za-z0-9\-.!%*_+`'~()<>:\\\"/\[\]?{}]+)?\Z")
VALUE = re.compile(r'[^\s;,"<>\\]+\Z')
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
QUOTED = re.compile(r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\r\n])*"')
"A whole quoted string; control characters in it are escaped."
MAX_SEQUENCE = 2**31

COMPACT = {
    "a": "Accept-Contact", "b": "Referred-By", "c": "Content-Type", "d": "Request-Disposition", "e": "Content-Encoding",
    "f": "From", "i": "Call-ID", "j": "Reject-Contact", "k": "Supported", "l": "Content-Length", "m": "Contact",
    "n": "Identity-Info", "o": "Event", "r": "Refer-To", "s": "Subject", "t": "To", "u": "Allow-Events", "v": "Via",
    "x": "Session-Expires", "y": "Identity",
}  # fmt: skip
CANONICAL = {
    name.lower(): name
    for name in [
        *COMPACT.values(), "Accept", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow", "Authentication-Info",
        "Authorization", "Call-Info", "Content-Disposition", "Content-Language", "CSeq", "Date", "Error-Info",
        "Expires",
        "In-Reply-To", "Max-Forwards", "MIME-Version", "Min-Expires", "Min-SE", "Organization", "P-Asserted-Identity",
        "Path", "Priority", "Privacy", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Require", "RAck", "Reason",
        "Record-Route", "Replaces", "Reply-To", "Require", "Retry-After", "Route", "RSeq", "Server", "Service-Route",
        "SIP-ETag", "SIP-If-Match", "Subscription-State", "Timestamp", "Unsupported", "User-Agent", "Warning",
        "WWW-Authenticate",
    ]
}  # fmt: skip
SINGLE = frozenset(
    ["Call-ID", "Content-Disposition", "Content-Length", "Content-Type", "CSeq", "Date", "Event", "Expires", "From",
     "Max-Forwards", "MIME-Version", "Min-Expires", "RAck", "Refer-To", "Replaces", "Retry-After", "RSeq",
     "Session-Expires", "Timestamp", "To"]
)  # fmt: skip
"Fields that a message must not have twice."


@lru_cache(maxsize=512)
def canonical(name: str) -> str:
    """The long form in its usual spelling; an unknown name stays as it is."""
    lower = name.lower()
    return COMPACT.get(lower) or CANONICAL.get(lower) or name


class Header(NamedTuple):
    """One header line."""

    name: str
    "Canonical where known."
    value: str


@dataclass(frozen=True, slots=True)
class Headers:
    """All header lines of a message in order. Names compare without case, compact forms count as the long ones."""

    lines: tuple[Header, ...] = ()

    @classmethod
    def of(cls, *lines: tuple[str, str]) -> Self:
        return cls(tuple(Header(canonical(name), value) for name, value in lines))

    def __iter__(self) -> Iterator[Header]:
        return iter(self.lines)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def get(self, name: str) -> str | None:
        """The first line of that name."""
        wanted = canonical(name).lower()
        return next((line.value for line in self.lines if line.name.lower() == wanted), None)

    def raw(self, name: str) -> list[str]:
        """All lines of that name, not split at commas (challenges, credentials, unknown fields)."""
        wanted = canonical(name).lower()
        return [line.value for line in self.lines if line.name.lower() == wanted]

    def values(self, name: str) -> list[str]:
        """All values of a field that is a comma-separated list. Raises SipParseError."""
        return [value for line in self.raw(name) for value in split_values(line, name) if value]

    def add(self, name: str, *values: str) -> Headers:
        """With lines appended."""
        return Headers(self.lines + tuple(Header(canonical(name), value) for value in values))

    def prepend(self, name: str, *values: str) -> Headers:
        """With lines put in front of all others."""
        return Headers(tuple(Header(canonical(name), value) for value in values) + self.lines)

    def without(self, *names: str) -> Headers:
        gone = {canonical(name).lower() for name in names}
        return Headers(tuple(line for line in self.lines if line.name.lower() not in gone))

    def set(self, name: str, *values: str) -> Headers:
        """With all lines of that name replaced, at the place of the first one."""
        wanted = canonical(name)
        fresh = [Header(wanted, value) for value in values]
        lines: list[Header] = []
        placed = False
        for line in self.lines:
            if line.name.lower() != wanted.lower():
                lines.append(line)
            elif not placed:
                lines += fresh
                placed = True
        return Headers(tuple(lines if placed else lines + fresh))


def split_values(text: str, what: str = "list") -> list[str]:
    """Cut at commas outside quoted strings, angle brackets and comments."""
    return _cut(text, ",", what)


def _cut(text: str, separator: str, what: str) -> list[str]:
    if separator not in text:
        return [text.strip()]
    parts: list[str] = []
    start = position = 0
    angle = False
    while position < len(text):
        char = text[position]
        if char == '"':
            position = quoted_end(text, position, what)
            continue
        if char == "<" and not angle:
            angle = True
        elif char == ">":
            angle = False
        elif char == separator and not angle:
            parts.append(text[start:position].strip())
            start = position + 1
        position += 1
    parts.append(text[start:].strip())
    return parts


def quoted_end(text: str, start: int, what: str) -> int:
    """The offset after the quoted string that begins at ``start``. Raises SipParseError when it does not end."""
    position = start + 1
    while position < len(text):
        if text[position] == "\\":
            position += 2
        elif text[position] == '"':
            return position + 1
        else:
            position += 1
    raise SipParseError(what, start, "the quoted string is not closed")


def unquote(text: str) -> str:
    """The content of a quoted string; any other text as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def quote(text: str) -> str:
    """A quoted string (RFC 3261 section 25.1); line breaks, which it cannot contain, become blanks."""
    return '"' + re.sub(r'(["\\\x00-\x08\x0b-\x1f\x7f])', r"\\\1", re.sub(r"[\r\n]", " ", text)) + '"'


def control_free(value: str) -> bool:
    """Whether a value contains no control characters but those that a quoted string may escape."""
    return not CONTROL.search(value) or not CONTROL.search(QUOTED.sub("", value))


def parse_parameters(text: str, what: str) -> Parameters:
    """``;name=value;name`` to pairs; names lower-case, quoted values stay quoted. Raises SipParseError."""
    if not text.strip():
        return ()
    head, *parts = _cut(text, ";", what)
    if head:
        raise SipParseError(what, 0, f"unexpected {head[:40]!r} before the parameters")
    found: dict[str, str | None] = {}
    for part in parts:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        name = name.lower()
        if not TOKEN.match(name):
            raise SipParseError(what, 0, f"invalid parameter name {name[:40]!r}")
        if name in found:
            raise SipParseError(what, 0, f"the parameter {name!r} occurs twice")
        if equals and not VALUE.match(value):
            if not value.startswith('"') or quoted_end(value, 0, what) != len(value):
                raise SipParseError(what, 0, f"invalid value of the parameter {name!r}")
        found[name] = value if equals else None
    return tuple(found.items())


def find_parameter(parameters: Parameters, name: str) -> str | None:
    for key, value in parameters:
        if key == name:
            return "" if value is None else unquote(value)
    return None


def with_parameter(parameters: Parameters, name: str, value: str | None) -> Parameters:
    """With that parameter set, in its old place if it was there."""
    fresh = dict(parameters)
    fresh[name] = value
    return tuple(fresh.items())


def print_parameters(parameters: Parameters) -> str:
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in parameters)


@dataclass(frozen=True, slots=True)
class NameAddr:
    """``"Display" <uri>;parameters``: From, To, Contact, Route, Record-Route, Path..."""

    uri: Uri
    display: str = ""
    "Without quotes and escapes."
    parameters: Parameters = ()

    @classmethod
    def parse(cls, text: str, what: str = "name-addr") -> NameAddr:
        """Raises SipParseError."""
        return _name_addr(text.strip(), what)

    def __str__(self) -> str:
        display = f"{quote(self.display)} " if self.display else ""
        return f"{display}<{self.uri}>{print_parameters(self.parameters)}"

    def parameter(self, name: str) -> str | None:
        """The value (unquoted; ``""`` for one without a value), or None."""
        return find_parameter(self.parameters, name)

    @property
    def tag(self) -> str | None:
        return self.parameter("tag")

    def with_parameter(self, name: str, value: str | None) -> NameAddr:
        return replace(self, parameters=with_parameter(self.parameters, name, value))

    @property
    def sip_uri(self) -> SipUri | None:
        return self.uri if isinstance(self.uri, SipUri) else None


@lru_cache(maxsize=1024)
def _name_addr(text: str, what: str) -> NameAddr:
    display = ""
    position = 0
    if text.startswith('"'):
        position = quoted_end(text, 0, what)
        display = unquote(text[:position])
    start = text.find("<", position)
    if start < 0:
        if position:
            raise SipParseError(what, position, "a display name needs an address in angle brackets")
        address, semicolon, rest = text.partition(";")
        address = address.strip()
        if any(char in address for char in ",? \t"):
            raise SipParseError(what, 0, "an address with a comma, question mark or blank needs angle brackets")
        return NameAddr(parse_uri(address), "", parse_parameters(semicolon + rest, what))
    between = text[position:start]
    if position:
        if between.strip():
            raise SipParseError(what, position, f"unexpected {between.strip()[:40]!r} after the display name")
    else:
        display = between.strip()
        if not DISPLAY.match(display):
            raise SipParseError(what, 0, f"the display name {display[:40]!r} must be quoted")
    end = text.find(">", start)
    if end < 0:
        raise SipParseError(what, start, "the angle bracket is not closed")
    return NameAddr(parse_uri(text[start + 1 : end]), display, parse_parameters(text[end + 1 :], what))


@dataclass(frozen=True, slots=True)
class Via:
    """One Via value (RFC 3261 section 20.42, RFC 3581)."""

    transport: str
    "Upper case: UDP, TCP, TLS..."
    host: str
    port: int | None = None
    parameters: Parameters = ()

    @classmethod
    def parse(cls, text: str) -> Via:
        """Raises SipParseError."""
        return _via(text.strip())

    def __str__(self) -> str:
        return f"SIP/2.0/{self.transport} {host_port(self.host, self.port)}{print_parameters(self.parameters)}"

    def parameter(self, name: str) -> str | None:
        return find_parameter(self.parameters, name)

    @property
    def branch(self) -> str:
        return self.parameter("branch") or ""

    @property
    def sent_by(self) -> str:
        """Host and port, with the port that an absent one stands for (RFC 3261 section 17.2.3)."""
        default = {"TLS": 5061, "WS": 80, "WSS": 443}.get(self.transport, 5060)
        return host_port(self.host, default if self.port is None else self.port)

    @property
    def received(self) -> str | None:
        """The address that a server saw, IPv6 without brackets; servers print it with and without."""
        text = self.parameter("received")
        return None if not text else _received(text)

    @property
    def rport(self) -> int | None:
        """The port that a server saw; None if absent or still empty."""
        text = self.parameter("rport")
        return int(text) if text else None

    def with_parameter(self, name: str, value: str | None) -> Via:
        return replace(self, parameters=with_parameter(self.parameters, name, value))


@lru_cache(maxsize=1024)
def _via(text: str) -> Via:
    protocol = re.match(r"SIP\s*/\s*([^\s/]+)\s*/\s*([^\s/;]+)\s+", text, re.IGNORECASE)
    if protocol is None:
        raise SipParseError("Via", 0, f"{text[:40]!r} does not begin with SIP/2.0/transport")
    if protocol[1] != "2.0":
        raise SipParseError("Via", 4, f"version {protocol[1]!r} is not 2.0", status=505)
    if not TOKEN.match(protocol[2]):
        raise SipParseError("Via", 8, f"invalid transport {protocol[2][:40]!r}")
    head, semicolon, rest = text[protocol.end() :].partition(";")
    host, port = split_host_port(re.sub(r"\s*(:)\s*(?=\d+\s*\Z)", r"\1", head.strip()), "Via")
    via = Via(protocol[2].upper(), host, port, parse_parameters(semicolon + rest, "Via"))
    if received := via.parameter("received"):
        _received(received)
    rport = via.parameter("rport")
    if rport and not (rport.isascii() and rport.isdigit() and len(rport) <= 5 and int(rport) <= 65535):
        raise SipParseError("Via", 0, f"rport {rport[:20]!r} is not a port")
    return via


def _received(text: str) -> str:
    if ":" in text and not text.startswith("["):
        return parse_ip6(text, "Via received")
    return split_host_port(text, "Via received")[0]


@dataclass(frozen=True, slots=True)
class CSeq:
    """Sequence number and method."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises SipParseError."""
        parts = text.split()
        if len(parts) != 2 or not TOKEN.match(parts[1]):
            raise SipParseError("CSeq", 0, f"{text[:40]!r} is not a number and a method")
        return cls(parse_number(parts[0], "CSeq", MAX_SEQUENCE - 1), parts[1])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


def parse_number(text: str, what: str, most: int = 2**32 - 1) -> int:
    """A decimal number. Raises SipParseError."""
    text = text.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) > most:
        raise SipParseError(what, 0, f"{text[:40]!r} is not a number from 0 to {most}")
    return int(text)


def parse_addresses(headers: Headers, name: str) -> list[NameAddr]:
    """All values of an address list field. Raises SipParseError."""
    return [NameAddr.parse(value, name) for value in headers.values(name)]


def check_printable(lines: Iterable[Header]) -> None:
    """Refuse values that would break out of their line. Raises SipParseError."""
    for name, value in lines:
        if not control_free(value) or not TOKEN.match(name):
            why = "a header line must not contain control characters, its name must be a token"
            raise SipParseError(name, 0, why)
