"""Default router list, prefix list and choice of the next hop (RFC 4861 sections 5.1, 5.2; RFC 4191; RFC 8028)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from math import inf

from mobility.host import messages
from mobility.host.interface import Interface
from mobility.wire.ndisc import MapOption, Preference

LIMIT = 16
"Routers on one link."
PREFIX_LIMIT = 32
"Prefixes of one router."
REDIRECT_LIMIT = 64
_RANK = {Preference.HIGH: 2, Preference.MEDIUM: 1, Preference.LOW: 0}


@dataclass(frozen=True, slots=True)
class Prefix:
    """One prefix of a router; times are absolute."""

    network: bytes
    "16 bytes, zero after the prefix."
    length: int
    on_link: bool
    autonomous: bool
    valid_until: float
    preferred_until: float

    def covers(self, address: bytes) -> bool:
        return mask(address, self.length) == self.network

    def __str__(self) -> str:
        return f"{IPv6Address(self.network)}/{self.length}"


@dataclass(slots=True)
class Router:
    """A router of the link. It may have prefixes without being a default router."""

    address: bytes
    mac: bytes | None
    preference: Preference = Preference.MEDIUM
    default_until: float = 0.0
    unreachable: bool = False
    prefixes: dict[tuple[bytes, int], Prefix] = field(default_factory=dict)
    recalled: set[tuple[bytes, int]] = field(default_factory=set)
    "Prefixes known from memory only, until its next advertisement says them again."
    maps: tuple[MapOption, ...] = ()
    "Mobility anchor points that it told of last."
    maps_heard: float = 0.0

    def networks(self) -> tuple[IPv6Network, ...]:
        return tuple(IPv6Network((p.network, p.length)) for p in self.prefixes.values())


def mask(address: bytes, length: int) -> bytes:
    """The address with everything after the first ``length`` bits zero."""
    whole, bits = divmod(length, 8)
    if not bits:
        return address[:whole] + bytes(16 - whole)
    return address[:whole] + bytes((address[whole] & 0xFF00 >> bits & 0xFF,)) + bytes(15 - whole)


class RouterList:
    """Routers with their prefixes, configured on-link prefixes, and redirects."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._routers: dict[bytes, Router] = {}
        self._configured: dict[tuple[bytes, int], int] = {}
        self._redirects: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[Router]:
        return iter(self._routers.values())

    def __len__(self) -> int:
        return len(self._routers)

    def get(self, address: bytes) -> Router | None:
        return self._routers.get(address)

    def add(self, router: Router) -> None:
        self._routers[router.address] = router
        self._interface.forget()

    def remove(self, address: bytes) -> None:
        self._routers.pop(address, None)
        self._redirects = {d: hop for d, hop in self._redirects.items() if hop != address}
        self._interface.forget()

    def clear(self) -> None:
        """Another link. Configured prefixes stay."""
        self._routers.clear()
        self._redirects.clear()
        self._interface.forget()

    def configure_prefix(self, address: bytes, length: int, *, on_link: bool) -> None:
        """The neighbours of a configured address are on-link; counted, as several addresses may share a prefix."""
        key = (mask(address, length), length)
        users = self._configured.get(key, 0) + (1 if on_link else -1)
        if users > 0:
            self._configured[key] = users
        else:
            self._configured.pop(key, None)
        self._interface.forget()

    def redirect(self, destination: bytes, hop: bytes) -> None:
        """Packets to ``destination`` go to ``hop`` from now on (RFC 4861 section 8.3)."""
        self._redirects.pop(destination, None)
        if len(self._redirects) >= REDIRECT_LIMIT:
            del self._redirects[next(iter(self._redirects))]
        self._redirects[destination] = hop
        self._interface.forget()

    def forget_redirects_to(self, hop: bytes) -> None:
        if hop in self._redirects.values():
            self._redirects = {d: h for d, h in self._redirects.items() if h != hop}
            self._interface.forget()

    def is_on_link(self, address: bytes, now: float) -> bool:
        """Whether packets to the address go straight to it."""
        if messages.is_link_local(address):
            return True
        if any(mask(address, length) == network for network, length in self._configured):
            return True
        return any(
            prefix.on_link and prefix.valid_until > now and prefix.covers(address)
            for router in self
            for prefix in router.prefixes.values()
        )

    def default(self, source: bytes, now: float) -> bytes | None:
        """The default router for packets from ``source``.

        One that answers goes before one that does not, one that gave us the source's prefix before one that did not
        (RFC 8028: the others' provider would drop such a source), then by preference.
        """
        candidates = [router for router in self if router.default_until > now]
        if not candidates:
            return None
        return max(
            candidates,
            key=lambda router: (
                not router.unreachable,
                any(prefix.covers(source) for prefix in router.prefixes.values()),
                _RANK[router.preference],
            ),
        ).address

    def next_hop(self, source: bytes, destination: bytes, now: float) -> bytes | None:
        """Address of the neighbour that gets packets to ``destination``; None: nobody would take them."""
        if hop := self._redirects.get(destination):
            return hop
        if self.is_on_link(destination, now):
            return destination
        return self.default(source, now)

    def snapshot(self, now: float) -> list[dict[str, object]]:
        def left(until: float) -> float | None:
            return None if until == inf else round(until - now, 1)

        return [
            {
                "address": str(IPv6Address(router.address)),
                "link_address": None if router.mac is None else router.mac.hex(":"),
                "default_seconds": left(router.default_until) if router.default_until > now else 0,
                "preference": router.preference.name.lower(),
                "reachable": not router.unreachable,
                "prefixes": [
                    {
                        "prefix": str(prefix),
                        "on_link": prefix.on_link,
                        "autonomous": prefix.autonomous,
                        "valid_seconds": left(prefix.valid_until),
                    }
                    for prefix in router.prefixes.values()
                ],
            }
            for router in self
        ]
