"""Traffic selectors (RFC 7296 sections 2.9, 3.13): which packets a child SA is for, and how two ends agree on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, summarize_address_range
from struct import Struct
from typing import Self

from mobility.ipsec.ike.numbers import TsType
from mobility.wire.errors import WireError

_HEAD = Struct("!BBHHH")
MOST = 64
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class TrafficSelector:
    """A range of addresses, one upper-layer protocol or any, a range of ports.

    Where the protocol is ICMP or the mobility header, the type is in the high octet of a port (RFC 7296 section 3.13.1,
    RFC 4877 section 5).
    """

    first: Address
    last: Address
    protocol: int = 0
    "0: any."
    first_port: int = 0
    last_port: int = 0xFFFF

    @classmethod
    def of(cls, network: IPv4Network | IPv6Network, protocol: int = 0, ports: range | None = None) -> Self:
        low, high = (0, 0xFFFF) if ports is None else (ports.start, ports.stop - 1)
        return cls(network.network_address, network.broadcast_address, protocol, low, high)

    @classmethod
    def of_mobility_header(cls, network: IPv6Network, kind: int | None = None) -> Self:
        """Messages of one MH type, or of any."""
        ports = None if kind is None else range(kind << 8, (kind << 8) + 256)
        return cls.of(network, 135, ports)

    def narrowed(self, other: TrafficSelector) -> TrafficSelector | None:
        """What both mean; None: nothing."""
        if self.first.version != other.first.version:
            return None
        if 0 not in (self.protocol, other.protocol) and self.protocol != other.protocol:
            return None
        first = max(self.first, other.first, key=int)
        last = min(self.last, other.last, key=int)
        low, high = max(self.first_port, other.first_port), min(self.last_port, other.last_port)
        if int(first) > int(last) or low > high:
            return None
        return TrafficSelector(first, last, self.protocol or other.protocol, low, high)

    def networks(self) -> list[IPv4Network | IPv6Network]:
        """The addresses as networks."""
        if isinstance(self.first, IPv4Address) and isinstance(self.last, IPv4Address):
            return list(summarize_address_range(self.first, self.last))
        if isinstance(self.first, IPv6Address) and isinstance(self.last, IPv6Address):
            return list(summarize_address_range(self.first, self.last))
        return []

    def __str__(self) -> str:
        words = [f"{network}" for network in self.networks()[:2]]
        words += [f"protocol {self.protocol}"] if self.protocol else []
        if (self.first_port, self.last_port) != (0, 0xFFFF):
            words.append(f"ports {self.first_port}-{self.last_port}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class TrafficSelectorPayload:
    """TSi or TSr (RFC 7296 section 3.13)."""

    type: int
    selectors: tuple[TrafficSelector, ...]

    @classmethod
    def parse(cls, kind: int, body: bytes) -> Self:
        if len(body) < 4 or body[0] > MOST:
            raise WireError("TS", at=0, why=f"up to {MOST} selectors are wanted")
        selectors = []
        at = 4
        for _ in range(body[0]):
            if len(body) < at + 4:
                raise WireError("TS", at=at, why="selector cut off")
            length = int.from_bytes(body[at + 2 : at + 4], "big")
            if length < 4 or len(body) < at + length:
                raise WireError("TS", at=at, why="wrong length of a selector")
            selector = _selector(body[at : at + length], at)
            if selector is not None:
                selectors.append(selector)
            at += length
        if at != len(body):
            raise WireError("TS", at=at, why="octets behind the last selector")
        return cls(kind, tuple(selectors))

    def body(self) -> bytes:
        out = [bytes((len(self.selectors), 0, 0, 0))]
        for each in self.selectors:
            kind = TsType.IPV4_ADDR_RANGE if each.first.version == 4 else TsType.IPV6_ADDR_RANGE
            addresses = each.first.packed + each.last.packed
            head = _HEAD.pack(kind, each.protocol, _HEAD.size + len(addresses), each.first_port, each.last_port)
            out.append(head + addresses)
        return b"".join(out)


def _selector(data: bytes, at: int) -> TrafficSelector | None:
    kind = data[0]
    if kind not in (TsType.IPV4_ADDR_RANGE, TsType.IPV6_ADDR_RANGE):
        return None  # of a type that nobody here can match (RFC 7296 section 2.9)
    size = 4 if kind == TsType.IPV4_ADDR_RANGE else 16
    if len(data) != _HEAD.size + 2 * size:
        raise WireError("TS", at=at, why="wrong length for its type")
    _, protocol, _, low, high = _HEAD.unpack_from(data)
    first, last = ip_address(data[_HEAD.size : _HEAD.size + size]), ip_address(data[_HEAD.size + size :])
    if int(first) > int(last):
        raise WireError("TS", at=at, why=f"{last} comes before {first}")
    return TrafficSelector(first, last, protocol, low, high)


def narrow(offered: Iterable[TrafficSelector], allowed: Iterable[TrafficSelector]) -> tuple[TrafficSelector, ...]:
    """What of an offer is allowed (RFC 7296 section 2.9); empty: nothing."""
    limits = tuple(allowed)
    found: dict[TrafficSelector, None] = {}
    for one in offered:
        for limit in limits:
            both = one.narrowed(limit)
            if both is not None:
                found[both] = None
    return tuple(found)[:MOST]


def within(answered: Iterable[TrafficSelector], offered: Iterable[TrafficSelector]) -> bool:
    """Whether an answer is no more than was offered, and something."""
    limits = tuple(offered)
    answers = tuple(answered)
    return bool(answers) and all(any(one.narrowed(limit) == one for limit in limits) for one in answers)
