"""SIP, SIPS and tel URIs (RFC 3261 section 19.1, RFC 3966, RFC 5118 for IPv6 references)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Self

from softphone.sip.errors import SipParseError

Parameters = tuple[tuple[str, str | None], ...]
"""Parameters in order; names lower-case, the value ``None`` where there is no ``=``."""

UNRESERVED = r"A-Za-z0-9\-_.!~*'()"
USER = re.compile(rf"(?:[{UNRESERVED}&=+$,;?/]|%[0-9A-Fa-f]{{2}})+\Z")
PASSWORD = re.compile(rf"(?:[{UNRESERVED}&=+$,]|%[0-9A-Fa-f]{{2}})*\Z")
PARAMETER = re.compile(rf"(?:[{UNRESERVED}\[\]/:&+$]|%[0-9A-Fa-f]{{2}})+\Z")
HEADER = re.compile(rf"(?:[{UNRESERVED}\[\]/?:+$]|%[0-9A-Fa-f]{{2}})*\Z")
HOSTNAME = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?\Z"
)
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*\Z")
REST = re.compile(r"[\x21-\x7e]+\Z")
TEL = re.compile(r"(?:\+[0-9\-.()]*[0-9][0-9\-.()]*|[0-9A-Fa-f*#\-.()]*[0-9A-Fa-f*#][0-9A-Fa-f*#\-.()]*)\Z")
ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
KEEP = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()")


def unescape(text: str) -> str:
    """Undo %-escapes; octets that are not UTF-8 stay distinguishable (surrogate escapes)."""
    if "%" not in text:
        return text
    raw = ESCAPE.sub(lambda m: chr(int(m[1], 16)), text.encode("utf-8", "surrogateescape").decode("latin-1"))
    return raw.encode("latin-1").decode("utf-8", "surrogateescape")


def escape(text: str, keep: str = "") -> str:
    """%-escape everything but unreserved characters and ``keep``; for user parts from people."""
    allowed = KEEP | frozenset(keep.encode("ascii"))
    return "".join(chr(b) if b in allowed else f"%{b:02X}" for b in text.encode("utf-8", "surrogateescape"))


def parse_host(text: str, what: str = "host") -> str:
    """A host name (lower case), IPv4 address or IPv6 reference; an IPv6 address comes back without brackets."""
    if text.startswith("["):
        if not text.endswith("]"):
            raise SipParseError(what, len(text), "the bracket of the IPv6 reference is not closed")
        return parse_ip6(text[1:-1], what)
    if not HOSTNAME.match(text):
        raise SipParseError(what, 0, f"{text!r} is neither a host name nor an address")
    if text.replace(".", "").isdigit():
        try:
            return str(IPv4Address(text))
        except AddressValueError as exc:
            raise SipParseError(what, 0, str(exc)) from None
    return text.lower()


def parse_ip6(text: str, what: str) -> str:
    """An IPv6 address without brackets and zone; canonical form."""
    try:
        if "%" in text:
            raise AddressValueError("a zone has no meaning for another host")
        return str(IPv6Address(text.replace(":::", "::")))  # RFC 3261's grammar had a colon too many (RFC 5118, 4.10)
    except AddressValueError as exc:
        raise SipParseError(what, 0, str(exc)) from None


def split_host_port(text: str, what: str = "hostport") -> tuple[str, int | None]:
    """``host[:port]``; raises SipParseError."""
    if text.startswith("["):
        end = text.find("]")
        if end < 0:
            raise SipParseError(what, len(text), "the bracket of the IPv6 reference is not closed")
        host, rest = text[: end + 1], text[end + 1 :]
    else:
        host, colon, port = text.partition(":")
        rest = colon + port
    return parse_host(host, what), parse_port(rest, what, len(host))


def parse_port(text: str, what: str, at: int) -> int | None:
    """``:port`` or nothing."""
    if not text:
        return None
    digits = text[1:].strip()
    if text[0] != ":" or not (digits.isascii() and digits.isdigit()) or len(digits) > 5 or int(digits) > 65535:
        raise SipParseError(what, at, f"{text!r} is not a port")
    return int(digits)


def bracket(host: str) -> str:
    """The host as it is printed: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def host_port(host: str, port: int | None) -> str:
    return bracket(host) if port is None else f"{bracket(host)}:{port}"


def print_parameters(parameters: Parameters) -> str:
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in parameters)


@dataclass(frozen=True, slots=True)
class SipUri:
    """``sip:user:password@host:port;parameters?headers``; parts stay %-escaped as they came."""

    host: str
    "Lower case; an IPv6 address without brackets."
    user: str | None = None
    port: int | None = None
    parameters: Parameters = ()
    headers: tuple[tuple[str, str], ...] = ()
    scheme: str = "sip"
    password: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises SipParseError."""
        what = "SIP URI"
        scheme, colon, rest = text.partition(":")
        if not colon or scheme.lower() not in ("sip", "sips"):
            raise SipParseError(what, 0, f"{text!r} does not begin with sip: or sips:")
        rest, question, header_text = _split_headers(rest)
        userinfo, at_sign, hostpart = rest.rpartition("@")
        user: str | None = None
        password: str | None = None
        if at_sign:
            user, colon, secret = userinfo.partition(":")
            password = secret if colon else None
            if not USER.match(user):
                raise SipParseError(what, len(scheme) + 1, f"invalid user part {user!r}")
            if password is not None and not PASSWORD.match(password):
                raise SipParseError(what, len(scheme) + 1, "invalid character in the password")
        head, *parts = hostpart.split(";")
        host, port = split_host_port(head, what)
        return cls(
            host, user, port, _parameters(parts, what), _headers(header_text, question, what), scheme.lower(), password
        )

    def __str__(self) -> str:
        secret = "" if self.password is None else f":{self.password}"
        user = "" if self.user is None else f"{self.user}{secret}@"
        headers = "&".join(f"{name}={value}" for name, value in self.headers)
        tail = f"?{headers}" if headers else ""
        return f"{self.scheme}:{user}{host_port(self.host, self.port)}{print_parameters(self.parameters)}{tail}"

    def parameter(self, name: str) -> str | None:
        """The value of a parameter (unescaped; ``""`` for one without a value), or None."""
        for key, value in self.parameters:
            if key == name:
                return "" if value is None else unescape(value)
        return None

    @property
    def loose(self) -> bool:
        """Names a loose router (RFC 3261 section 19.1.1, ``lr``)."""
        return self.parameter("lr") is not None

    @property
    def secure(self) -> bool:
        return self.scheme == "sips"

    def bare(self) -> SipUri:
        """Without what a Request-URI or a name in From must not have (RFC 3261 table 1): headers, method, lr, ttl."""
        kept = tuple(p for p in self.parameters if p[0] not in ("method", "ttl", "lr"))
        return replace(self, parameters=kept, headers=())

    def name(self) -> SipUri:
        """What may stand in From and To (RFC 3261 table 1), and the port, which tells phones on one host apart."""
        bare = self.bare()
        return replace(bare, parameters=tuple(p for p in bare.parameters if p[0] not in ("transport", "maddr")))

    def aor(self) -> SipUri:
        """Only scheme, user and host: an address of record."""
        return SipUri(self.host, self.user, None, (), (), self.scheme)

    def matches(self, other: object) -> bool:
        """URI comparison of RFC 3261 section 19.1.4."""
        if not isinstance(other, SipUri):
            return False
        if (self.scheme, self.host, self.port) != (other.scheme, other.host, other.port):
            return False
        if (_or_none(self.user), _or_none(self.password)) != (_or_none(other.user), _or_none(other.password)):
            return False
        mine, theirs = _comparable(self.parameters), _comparable(other.parameters)
        for name in mine.keys() | theirs.keys():
            both = name in mine and name in theirs
            if (both and mine[name] != theirs[name]) or (
                not both and name in ("user", "ttl", "method", "maddr", "transport")
            ):
                return False
        return sorted((n.lower(), unescape(v)) for n, v in self.headers) == sorted(
            (n.lower(), unescape(v)) for n, v in other.headers
        )


@dataclass(frozen=True, slots=True)
class TelUri:
    """``tel:number;parameters`` (RFC 3966)."""

    number: str
    parameters: Parameters = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises SipParseError."""
        number, *parts = text[4:].split(";")
        if not TEL.match(number):
            raise SipParseError("tel URI", 4, f"{number!r} is not a telephone number")
        return cls(number, _parameters(parts, "tel URI"))

    def __str__(self) -> str:
        return f"tel:{self.number}{print_parameters(self.parameters)}"

    def matches(self, other: object) -> bool:
        """RFC 3966 section 5: visual separators do not count."""
        return isinstance(other, TelUri) and (_digits(self.number), _comparable(self.parameters)) == (
            _digits(other.number),
            _comparable(other.parameters),
        )


@dataclass(frozen=True, slots=True)
class OtherUri:
    """Any other absolute URI, kept as it is; a phone cannot call it (416)."""

    text: str

    @property
    def scheme(self) -> str:
        return self.text.partition(":")[0].lower()

    def __str__(self) -> str:
        return self.text

    def matches(self, other: object) -> bool:
        return self == other


Uri = SipUri | TelUri | OtherUri


@lru_cache(maxsize=1024)
def parse_uri(text: str) -> Uri:
    """Any absolute URI. Raises SipParseError."""
    scheme, colon, rest = text.partition(":")
    if not colon or not SCHEME.match(scheme):
        raise SipParseError("URI", 0, f"{text[:40]!r} has no scheme")
    match scheme.lower():
        case "sip" | "sips":
            return SipUri.parse(text)
        case "tel":
            return TelUri.parse(text)
        case _:
            if not REST.match(rest):
                raise SipParseError("URI", len(scheme) + 1, "empty, or a character that must be escaped")
            return OtherUri(text)


def _split_headers(rest: str) -> tuple[str, str, str]:
    """Cut at the ``?`` that begins the headers: one inside the user part does not."""
    at_sign = rest.rfind("@")
    question = rest.find("?", at_sign + 1)
    if (
        at_sign >= 0
        and (early := rest.find("?")) >= 0
        and early < at_sign
        and not USER.match(rest[:at_sign].partition(":")[0])
    ):
        question = early
    return (rest, "", "") if question < 0 else (rest[:question], "?", rest[question + 1 :])


def _parameters(parts: list[str], what: str) -> Parameters:
    found: dict[str, str | None] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.lower()
        if not PARAMETER.match(name) or (equals and not PARAMETER.match(value)):
            raise SipParseError(what, 0, f"invalid parameter {part!r}")
        if name in found:
            raise SipParseError(what, 0, f"the parameter {name!r} occurs twice")
        found[name] = value if equals else None
    return tuple(found.items())


def _headers(text: str, question: str, what: str) -> tuple[tuple[str, str], ...]:
    if not question:
        return ()
    result = []
    for part in text.split("&"):
        name, equals, value = part.partition("=")
        if not equals or not name or not HEADER.match(name) or not HEADER.match(value):
            raise SipParseError(what, 0, f"invalid header {part!r}")
        result.append((name, value))
    return tuple(result)


def _comparable(parameters: Parameters) -> dict[str, str]:
    return {unescape(name): unescape(value or "").lower() for name, value in parameters}


def _or_none(text: str | None) -> str | None:
    return None if text is None else unescape(text)


def _digits(number: str) -> str:
    return re.sub(r"[\-.()]", "", number).lower()
