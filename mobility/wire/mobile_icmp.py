"""ICMPv6 between mobile node and home agent: discovery of agents and of prefixes (RFC 6275 sections 6.5 to 6.8)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from struct import Struct
from typing import Self

from mobility.wire import ndisc
from mobility.wire.errors import WireError

AGENTS_REQUEST = 144
AGENTS_REPLY = 145
PREFIX_SOLICITATION = 146
PREFIX_ADVERTISEMENT = 147

AGENTS_LIMIT = (1280 - 40 - 8) // 16
"So many addresses fit into a reply that is not longer than IPv6's minimum MTU (RFC 6275 section 10.5.1)."

_FIXED = Struct("!BBHHH")
_ROUTER = 0x8000


@dataclass(frozen=True, slots=True)
class HomeAgentsRequest:
    """Home Agent Address Discovery Request (RFC 6275 section 6.5, RFC 3963 section 7.1)."""

    identifier: int
    router: bool = False
    "The R flag: a mobile router asks."

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From the ICMPv6 message. Raises `WireError`."""
        identifier, flags = _open(data, AGENTS_REQUEST, "home agents request")
        return cls(identifier, bool(flags & _ROUTER))

    def __bytes__(self) -> bytes:
        return _FIXED.pack(AGENTS_REQUEST, 0, 0, self.identifier, _ROUTER if self.router else 0)


@dataclass(frozen=True, slots=True)
class HomeAgentsReply:
    """Home Agent Address Discovery Reply (RFC 6275 section 6.6, RFC 3963 section 7.2)."""

    identifier: int
    "That of the request."
    agents: tuple[IPv6Address, ...] = ()
    "In order of preference."
    router: bool = False
    "The R flag: all of them serve mobile routers."

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From the ICMPv6 message. Raises `WireError`."""
        identifier, flags = _open(data, AGENTS_REPLY, "home agents reply")
        if len(data) % 16 != 8:
            raise WireError("home agents reply", at=len(data), why="ends inside an address")
        agents = tuple(IPv6Address(data[at : at + 16]) for at in range(8, len(data), 16))
        return cls(identifier, agents, bool(flags & _ROUTER))

    def __bytes__(self) -> bytes:
        fixed = _FIXED.pack(AGENTS_REPLY, 0, 0, self.identifier, _ROUTER if self.router else 0)
        return fixed + b"".join(agent.packed for agent in self.agents)


@dataclass(frozen=True, slots=True)
class PrefixSolicitation:
    """Mobile Prefix Solicitation (RFC 6275 section 6.7)."""

    identifier: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From the ICMPv6 message. Raises `WireError`."""
        identifier, _ = _open(data, PREFIX_SOLICITATION, "mobile prefix solicitation")
        return cls(identifier)

    def __bytes__(self) -> bytes:
        return _FIXED.pack(PREFIX_SOLICITATION, 0, 0, self.identifier, 0)


@dataclass(frozen=True, slots=True)
class PrefixAdvertisement:
    """Mobile Prefix Advertisement (RFC 6275 section 6.8)."""

    identifier: int
    "That of the solicitation; of an unsolicited one, whatever the home agent chose."
    prefixes: tuple[ndisc.PrefixInformation, ...] = ()
    managed: bool = False
    "Addresses are to be had by DHCPv6 on the home link."
    other: bool = False
    "Other configuration is to be had by DHCPv6 there."

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From the ICMPv6 message; other options than prefixes are skipped. Raises `WireError`."""
        identifier, flags = _open(data, PREFIX_ADVERTISEMENT, "mobile prefix advertisement")
        options = ndisc.parse_options(data, _FIXED.size)
        prefixes = tuple(option for option in options if isinstance(option, ndisc.PrefixInformation))
        return cls(identifier, prefixes, bool(flags & 0x8000), bool(flags & 0x4000))

    def __bytes__(self) -> bytes:
        flags = self.managed << 15 | self.other << 14
        return _FIXED.pack(PREFIX_ADVERTISEMENT, 0, 0, self.identifier, flags) + ndisc.build_options(self.prefixes)


Message = HomeAgentsRequest | HomeAgentsReply | PrefixSolicitation | PrefixAdvertisement


def parse(data: bytes) -> Message:
    """The message in ``data``, whose checksum is not looked at (see `icmp6.verify`). Raises `WireError`."""
    match data[:1]:
        case b"\x90":
            return HomeAgentsRequest.parse(data)
        case b"\x91":
            return HomeAgentsReply.parse(data)
        case b"\x92":
            return PrefixSolicitation.parse(data)
        case b"\x93":
            return PrefixAdvertisement.parse(data)
        case _:
            raise WireError("mobile ICMPv6", at=0, why="none of the types 144 to 147")


def _open(data: bytes, kind: int, what: str) -> tuple[int, int]:
    """Identifier and flags."""
    if len(data) < _FIXED.size:
        raise WireError(what, at=len(data), why=f"needs {_FIXED.size} octets")
    found, code, _, identifier, flags = _FIXED.unpack_from(data)
    if (found, code) != (kind, 0):
        raise WireError(what, at=0, why=f"type {found} code {code}, not type {kind} code 0")
    return identifier, flags
