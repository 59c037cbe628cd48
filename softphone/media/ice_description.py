"""ICE in settings and in session descriptions (RFC 8839): what each side says of itself. The checks are in `ice`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import Self

from softphone.media.sdp import Attribute, Media, SessionDescription

GREATEST_CANDIDATES = 32
"Of one side; more would be checks for strangers' addresses (RFC 8445 section 19.5.1)."
_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/")


@dataclass(frozen=True, slots=True)
class IceSettings:
    """The servers that help to find a way."""

    stun: tuple[str, int] | None = None
    "Numeric IPv4 address and port; it tells the address that a NAT gave us."
    turn: tuple[str, int] | None = None
    "Address and port of a relay (RFC 8656); direct mode only (see `softphone.media.ice`)."
    turn_user: str = ""
    turn_password: str = field(default="", repr=False)
    turn_transport: str = "udp"
    "``udp`` or ``tcp``."

    def __post_init__(self) -> None:
        """Raises `ValueError`."""
        if self.stun is not None:
            try:
                IPv4Address(self.stun[0])
            except ValueError:
                raise ValueError(
                    f"the STUN server {self.stun[0]!r} is not a numeric IPv4 address; names would be asked for outside "
                    "of the network that the call is in"
                ) from None
        if self.turn_transport not in ("udp", "tcp"):
            raise ValueError(f"TURN goes over udp or tcp, not {self.turn_transport!r}")


@dataclass(frozen=True, slots=True)
class IceDescription:
    """``ice-ufrag``, ``ice-pwd`` and the candidates of component 1: RTP, and RTCP with it (RFC 5761)."""

    fragment: str
    password: str
    candidates: tuple[str, ...]
    "Values of ``a=candidate``."
    lite: bool = False

    @classmethod
    def of(cls, media: Media, session: SessionDescription) -> Self | None:
        """What a description says; None: it does not use ICE, or in a way that cannot be followed."""

        def value(name: str) -> str:
            found = media.value(name)
            return (session.value(name) if found is None else found) or ""

        fragment, password = value("ice-ufrag").strip(), value("ice-pwd").strip()
        if not (
            4 <= len(fragment) <= 256 and 22 <= len(password) <= 256 and _CHARACTERS.issuperset(fragment + password)
        ):
            return None
        candidates = [c for c in media.values("candidate") if _usable(c)]
        default = media.connection or session.connection
        if default is None or not any(_is(c, default.address, media.port) for c in candidates):
            # Somebody on the way changed the address but not the candidates (RFC 8839 section 4.2.5, ice-mismatch).
            return None
        lite = session.has("ice-lite")
        return cls(fragment, password, tuple(candidates[:GREATEST_CANDIDATES]), lite)

    def attributes(self) -> Iterator[Attribute]:
        yield Attribute("ice-ufrag", self.fragment)
        yield Attribute("ice-pwd", self.password)
        for candidate in self.candidates:
            yield Attribute("candidate", candidate)


def _usable(candidate: str) -> bool:
    """UDP, component 1, a numeric address (names would tell others where our calls go)."""
    parts = candidate.split()
    if len(parts) < 8 or parts[1] != "1" or parts[2].lower() != "udp" or parts[6].lower() != "typ":
        return False
    if not all(p.isascii() and p.isdigit() and len(p) <= 10 for p in (parts[3], parts[5])) or int(parts[5]) > 65_535:
        return False
    try:
        return not ip_address(parts[4]).is_multicast
    except ValueError:
        return False


def _is(candidate: str, address: str, port: int) -> bool:
    parts = candidate.split()
    try:
        return int(parts[5]) == port and ip_address(parts[4]) == ip_address(address)
    except ValueError:
        return False
