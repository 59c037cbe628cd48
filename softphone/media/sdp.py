"""Session descriptions: text <-> frozen values (RFC 8866).

Reading is tolerant in one point only: after the three lines that begin every description, the lines of a section may
come in any order (many phones swap ``b=`` and ``c=``). Writing follows the order of RFC 8866 section 5 exactly.
Attributes nobody knows are kept, in their order. What the RFC forbids is an `SdpError` that names the line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self

MAX_CHARACTERS = 65_535
MAX_LINES = 2_000
MAX_MEDIA = 64

_SESSION_LINES = "vosiuepcbtrzka"
_MEDIA_LINES = "micbka"
_REPEATABLE = "epbtrzam"
_TOKEN = frozenset("!#$%&'*+-.^_`{|}~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class SdpError(ValueError):
    """A session description that cannot be understood; ``line`` counts from 1, 0 means the whole."""

    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(f"SDP line {line}: {why}" if line else f"SDP: {why}")
        self.why = why
        self.line = line


@dataclass(frozen=True, slots=True)
class Connection:
    """``c=IN IP6 2001:db8::1`` (RFC 8866 section 5.7)."""

    address: str
    "An IP address or, as the RFC allows, a host name; without the multicast suffix."
    suffix: str = ""
    "What follows the first slash of a multicast address: time to live and number of addresses."
    kind: str = ""
    "``IP4`` or ``IP6``; found from the address where not given."

    @classmethod
    def parse(cls, value: str, line: int = 0) -> Self:
        parts = value.split()
        if len(parts) != 3:
            raise SdpError(f"a connection has three parts, this has {len(parts)}: {value!r}", line)
        network, kind, rest = parts
        if network != "IN":
            raise SdpError(f"unknown network type {network!r}", line)
        address, _, suffix = rest.partition("/")
        _check_address(kind, address, line)
        return cls(address, suffix, kind)

    @property
    def ip(self) -> IPv4Address | IPv6Address | None:
        """The address as a value; None: a host name."""
        try:
            return ip_address(self.address)
        except ValueError:
            return None

    def __str__(self) -> str:
        kind = self.kind or _kind(self.address)
        return f"IN {kind} {self.address}/{self.suffix}" if self.suffix else f"IN {kind} {self.address}"


@dataclass(frozen=True, slots=True)
class Origin:
    """``o=- 1 2 IN IP6 2001:db8::1`` (RFC 8866 section 5.2)."""

    session: int
    version: int
    address: str
    username: str = "-"
    kind: str = ""

    @classmethod
    def parse(cls, value: str, line: int = 0) -> Self:
        parts = value.split()
        if len(parts) != 6:
            raise SdpError(f"an origin has six parts, this has {len(parts)}: {value!r}", line)
        username, session, version, network, kind, address = parts
        if network != "IN":
            raise SdpError(f"unknown network type {network!r}", line)
        _check_address(kind, address, line)
        return cls(_number(session, line), _number(version, line), address, username, kind)

    def __str__(self) -> str:
        return f"{self.username} {self.session} {self.version} IN {self.kind or _kind(self.address)} {self.address}"


@dataclass(frozen=True, slots=True)
class Attribute:
    """``a=name`` or ``a=name:value`` (RFC 8866 section 5.13)."""

    name: str
    value: str | None = None

    @classmethod
    def parse(cls, text: str, line: int = 0) -> Self:
        name, colon, value = text.partition(":")
        if not name or not _TOKEN.issuperset(name):
            raise SdpError(f"{name!r} is not the name of an attribute", line)
        return cls(name, value if colon else None)

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}:{self.value}"


@dataclass(frozen=True, slots=True)
class RtpMap:
    """``a=rtpmap:96 opus/48000/2`` (RFC 8866 section 6.6)."""

    payload_type: int
    encoding: str
    clock_rate: int
    channels: int = 1

    def __str__(self) -> str:
        text = f"{self.payload_type} {self.encoding}/{self.clock_rate}"
        return f"{text}/{self.channels}" if self.channels != 1 else text


class _Attributes:
    """Access to attributes by name, for the session and for a media description."""

    __slots__ = ()
    attributes: tuple[Attribute, ...]

    def values(self, name: str) -> Iterator[str]:
        """The values of every attribute of this name, in order."""
        return (a.value or "" for a in self.attributes if a.name == name)

    def value(self, name: str) -> str | None:
        """The value of the first attribute of this name."""
        return next(self.values(name), None)

    def has(self, name: str) -> bool:
        return any(a.name == name for a in self.attributes)


@dataclass(frozen=True, slots=True)
class Media(_Attributes):
    """One ``m=`` line with what belongs to it (RFC 8866 section 5.14)."""

    kind: str
    "``audio``, ``video``, ``application``..."
    port: int
    "0: the stream is not wanted (RFC 3264 section 6)."
    protocol: str
    formats: tuple[str, ...]
    attributes: tuple[Attribute, ...] = ()
    connection: Connection | None = None
    ports: int = 1
    title: str | None = None
    bandwidths: tuple[str, ...] = ()
    key: str | None = None

    @classmethod
    def parse(cls, value: str, line: int = 0) -> Self:
        """The ``m=`` line alone."""
        parts = value.split()
        if len(parts) < 4:
            raise SdpError(f"a media line has kind, port, protocol and formats: {value!r}", line)
        kind, port, protocol, *formats = parts
        first, slash, count = port.partition("/")
        number = _number(first, line)
        ports = _number(count, line) if slash else 1
        if number > 65_535 or not 1 <= ports <= 65_536:
            raise SdpError(f"{port!r} is not a port", line)
        if not _TOKEN.issuperset(kind):
            raise SdpError(f"{kind!r} is not a kind of media", line)
        return cls(kind, number, protocol, tuple(formats), ports=ports)

    def rtpmap(self, payload_type: int) -> RtpMap | None:
        """The mapping of a dynamic payload type; None: not given, or not readable."""
        for value in self.values("rtpmap"):
            number, _, encoding = value.strip().partition(" ")
            name, _, rate = encoding.strip().partition("/")
            clock, slash, channels = rate.partition("/")
            if _is_number(number) and int(number) == payload_type and name and _is_number(clock):
                if slash and not _is_number(channels):
                    return None
                return RtpMap(payload_type, name, int(clock), int(channels) if slash else 1)
        return None

    def fmtp(self, payload_type: int) -> dict[str, str]:
        """Parameters of a payload type, names in lower case; flags have the value ``""``."""
        for value in self.values("fmtp"):
            number, _, parameters = value.strip().partition(" ")
            if _is_number(number) and int(number) == payload_type:
                pairs = (p.strip().partition("=") for p in parameters.split(";") if p.strip())
                return {name.strip().lower(): text.strip() for name, _, text in pairs}
        return {}

    def lines(self) -> Iterator[str]:
        port = f"{self.port}/{self.ports}" if self.ports != 1 else str(self.port)
        yield f"m={self.kind} {port} {self.protocol} {' '.join(self.formats)}"
        if self.title is not None:
            yield f"i={self.title}"
        if self.connection is not None:
            yield f"c={self.connection}"
        yield from (f"b={b}" for b in self.bandwidths)
        if self.key is not None:
            yield f"k={self.key}"
        yield from (f"a={a}" for a in self.attributes)


@dataclass(frozen=True, slots=True)
class SessionDescription(_Attributes):
    """A whole description (RFC 8866 section 5)."""

    origin: Origin
    name: str = "-"
    connection: Connection | None = None
    media: tuple[Media, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    times: tuple[str, ...] = ("t=0 0",)
    "The lines ``t=``, ``r=`` and ``z=`` as they stood."
    information: str | None = None
    uri: str | None = None
    contacts: tuple[str, ...] = ()
    "The lines ``e=`` and ``p=`` as they stood."
    bandwidths: tuple[str, ...] = ()
    key: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a description. Raises `SdpError`."""
        sections = _sections(text)
        session = _Section(sections[0])
        if "o" not in session.single:
            raise SdpError("the origin line (o=) is missing")
        for number, letter, value in sections[0]:
            if letter == "t":
                _check_time(value, number)
        times = session.raw("trz")
        if not any(t.startswith("t=") for t in times):
            raise SdpError("the time line (t=) is missing")
        number, origin = session.single["o"]
        return cls(
            origin=Origin.parse(origin, number),
            name=session.text("s") or "-",
            connection=session.connection(),
            media=tuple(_media(lines) for lines in sections[1:]),
            attributes=session.attributes(),
            times=times,
            information=session.text("i"),
            uri=session.text("u"),
            contacts=session.raw("ep"),
            bandwidths=session.values("b"),
            key=session.text("k"),
        )

    def lines(self) -> Iterator[str]:
        yield "v=0"
        yield f"o={self.origin}"
        yield f"s={self.name}"
        if self.information is not None:
            yield f"i={self.information}"
        if self.uri is not None:
            yield f"u={self.uri}"
        yield from self.contacts
        if self.connection is not None:
            yield f"c={self.connection}"
        yield from (f"b={b}" for b in self.bandwidths)
        yield from self.times
        if self.key is not None:
            yield f"k={self.key}"
        yield from (f"a={a}" for a in self.attributes)
        for media in self.media:
            yield from media.lines()

    def __str__(self) -> str:
        return "".join(f"{line}\r\n" for line in self.lines())


_Line = tuple[int, str, str]
"Number from 1, letter, value."


def _sections(text: str) -> list[list[_Line]]:
    """The lines of the session, then those of every media description."""
    if len(text) > MAX_CHARACTERS:
        raise SdpError(f"longer than {MAX_CHARACTERS} characters")
    raw = text.replace("\r\n", "\n").split("\n")
    while raw and not raw[-1]:
        raw.pop()
    if len(raw) > MAX_LINES:
        raise SdpError(f"more than {MAX_LINES} lines")
    if [line[:2] for line in raw[:3]] != ["v=", "o=", "s="]:
        raise SdpError("does not begin with v=, o= and s=")
    if raw[0] != "v=0":
        raise SdpError(f"unknown version {raw[0][2:]!r}", 1)
    sections: list[list[_Line]] = [[]]
    for number, line in enumerate(raw, start=1):
        letter, equals, value = line[:1], line[1:2], line[2:]
        if equals != "=" or not letter:
            raise SdpError(f"not of the form letter=value: {line[:40]!r}", number)
        if "\0" in line or "\r" in line:
            raise SdpError("a character that must not be in a line", number)
        if letter == "m":
            sections.append([])
            if len(sections) > MAX_MEDIA + 1:
                raise SdpError(f"more than {MAX_MEDIA} media descriptions", number)
        if letter not in (_SESSION_LINES if len(sections) == 1 else _MEDIA_LINES):
            # RFC 8866 section 5: a description with a letter that is not understood is ignored as a whole.
            raise SdpError(f"unexpected line {letter}=", number)
        sections[-1].append((number, letter, value))
    return sections


class _Section:
    """The lines of one section by letter; a letter that may stand once stands once."""

    def __init__(self, lines: list[_Line]) -> None:
        self.lines = lines
        self.single: dict[str, tuple[int, str]] = {}
        for number, letter, value in lines:
            if letter in _REPEATABLE or (letter == "c" and lines[0][1] == "m"):
                continue
            if letter in self.single:
                raise SdpError(f"a second {letter}= line", number)
            self.single[letter] = (number, value)

    def text(self, letter: str) -> str | None:
        return self.single[letter][1] if letter in self.single else None

    def values(self, letter: str) -> tuple[str, ...]:
        return tuple(value for _, found, value in self.lines if found == letter)

    def raw(self, letters: str) -> tuple[str, ...]:
        return tuple(f"{letter}={value}" for _, letter, value in self.lines if letter in letters)

    def connection(self) -> Connection | None:
        # Several c= lines in one media description are layers of multicast (RFC 8866 section 5.7); the first counts.
        found = [(number, value) for number, letter, value in self.lines if letter == "c"]
        return Connection.parse(found[0][1], found[0][0]) if found else None

    def attributes(self) -> tuple[Attribute, ...]:
        return tuple(Attribute.parse(value, number) for number, letter, value in self.lines if letter == "a")


def _media(lines: list[_Line]) -> Media:
    section = _Section(lines)
    line = Media.parse(lines[0][2], lines[0][0])
    return Media(
        kind=line.kind,
        port=line.port,
        protocol=line.protocol,
        formats=line.formats,
        attributes=section.attributes(),
        connection=section.connection(),
        ports=line.ports,
        title=section.text("i"),
        bandwidths=section.values("b"),
        key=section.text("k"),
    )


def _check_address(kind: str, address: str, line: int) -> None:
    if kind not in ("IP4", "IP6"):
        raise SdpError(f"unknown address type {kind!r}", line)
    if not address:
        raise SdpError("the address is missing", line)
    try:
        version = ip_address(address).version
    except ValueError:
        if not all(c.isascii() and (c.isalnum() or c in "-.") for c in address):
            raise SdpError(f"{address!r} is neither an IP address nor a host name", line) from None
        return
    if kind != f"IP{version}" or "%" in address:
        raise SdpError(f"{address!r} is not an {kind} address", line)


def _check_time(value: str, line: int) -> None:
    parts = value.split()
    if len(parts) != 2 or not all(_is_number(p) for p in parts):
        raise SdpError(f"a time has a start and an end: {value!r}", line)


def _kind(address: str) -> str:
    return "IP6" if ":" in address else "IP4"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20


def _number(text: str, line: int) -> int:
    if not _is_number(text):
        raise SdpError(f"{text!r} is not a number", line)
    return int(text)
