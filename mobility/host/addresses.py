"""The addresses of a host: how they are made, checked for duplicates, aged and defended (RFC 4862, 4429, 7217)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv6Address
from math import inf

from mobility.host import identifiers, messages
from mobility.host.events import AddressConflict, AddressDeprecated, AddressLost, AddressReady
from mobility.host.interface import Interface
from mobility.host.multicast import MulticastGroups

LINK_LOCAL_PREFIX = IPv6Address("fe80::").packed
TWO_HOURS = 7200.0
ATTEMPTS = 3
"Identifiers that are tried for one prefix on one link (IDGEN_RETRIES, RFC 7217 section 7)."
LIMIT = 32
"Autoconfigured addresses at one time: a flood of prefixes ends here."


class AddressState(Enum):
    """The life of an address."""

    TENTATIVE = "tentative"
    "Not usable until duplicate address detection is done."
    OPTIMISTIC = "optimistic"
    "Usable although duplicate address detection still runs (RFC 4429)."
    PREFERRED = "preferred"
    DEPRECATED = "deprecated"
    "Valid; not for new communication."
    QUIET = "quiet"
    "Usable, and solicitations are answered, but not defended: another node (the home agent) still does that."


class Origin(Enum):
    LINK_LOCAL = "link-local"
    AUTOCONFIGURED = "autoconfigured"
    CONFIGURED = "configured"


@dataclass(slots=True)
class Address:
    """One address of ours."""

    value: bytes
    prefix_length: int
    origin: Origin
    state: AddressState
    router: bytes | None = None
    "Whose prefix it is."
    optimistic: bool = True
    preferred_until: float = inf
    valid_until: float = inf
    nonces: list[bytes] = field(default_factory=list)
    "Of our own probes, so that an echo of one is not taken for another node (RFC 7527)."

    @property
    def usable(self) -> bool:
        return self.state is not AddressState.TENTATIVE

    @property
    def being_checked(self) -> bool:
        return self.state in (AddressState.TENTATIVE, AddressState.OPTIMISTIC)


class AddressTable:
    """All addresses of one host on its link."""

    def __init__(
        self,
        interface: Interface,
        *,
        identifier: bytes | None,
        secret: bytes,
        duplicate_detection: bool,
    ) -> None:
        self._interface = interface
        self._identifier = identifier
        self._secret = secret
        self._duplicate_detection = duplicate_detection
        self._addresses: dict[bytes, Address] = {}
        self._conflicts: dict[bytes, int] = {}
        self.settled: Callable[[float], None] = lambda now: None
        "Called when an address has passed its check."
        self.groups = MulticastGroups(interface, self.settled_link_local)
        self.usable: set[bytes] = set()
        "Sources and destinations; read on the hot path."

    # ---------------------------------------------------------------- reading

    def __iter__(self) -> Iterator[Address]:
        return iter(self._addresses.values())

    def get(self, value: bytes) -> Address | None:
        return self._addresses.get(value)

    def link_local(self) -> Address | None:
        """The link-local address, if it may be used."""
        return next((a for a in self if a.origin is Origin.LINK_LOCAL and a.usable), None)

    def settled_link_local(self) -> bytes:
        """The link-local address once it is known to be ours alone; until then the unspecified address."""
        address = self.link_local()
        return address.value if address and address.state is AddressState.PREFERRED else messages.UNSPECIFIED

    def solicitation_source(self, wanted: bytes | None) -> bytes | None:
        """The source of a neighbour solicitation: ``wanted`` if it is ours; never an optimistic one (RFC 4429)."""
        settled = (AddressState.PREFERRED, AddressState.DEPRECATED)
        if wanted is not None and (address := self._addresses.get(wanted)) and address.state in settled:
            return wanted
        candidates = [a for a in self if a.state in settled]
        candidates.sort(key=lambda a: a.origin is not Origin.LINK_LOCAL)
        return candidates[0].value if candidates else None

    def error_source(self, destination: bytes) -> bytes | None:
        """The source of an ICMPv6 message to ``destination``: of the same scope, preferred before deprecated."""
        local = messages.is_link_local(destination)
        candidates = [a for a in self if a.usable and (local or a.origin is not Origin.LINK_LOCAL)]
        candidates.sort(
            key=lambda a: (messages.is_link_local(a.value) is not local, a.state is AddressState.DEPRECATED)
        )
        return candidates[0].value if candidates else None

    # ---------------------------------------------------------------- the link

    def link_up(self, now: float) -> None:
        """A link-local address at once; configured addresses are checked on this link."""
        self._conflicts.clear()
        self.groups.link_up(now)
        self._make(LINK_LOCAL_PREFIX, 64, Origin.LINK_LOCAL, None, inf, inf, now)
        for address in list(self):
            if address.origin is Origin.CONFIGURED:
                quiet = address.state is AddressState.QUIET
                self._start(address, now, quiet=quiet)

    def link_down(self, now: float) -> None:
        """Autoconfigured addresses are forgotten (their networks are remembered); configured ones are not usable."""
        self.groups.link_down()
        for address in list(self):
            if address.origin is Origin.CONFIGURED:
                self._interface.alarms.cancel(("dad", address.value))
                self._withdraw(address, "link down")
                if address.state is not AddressState.QUIET:
                    address.state = AddressState.TENTATIVE
            else:
                self._remove(address, "link down", now)

    # ---------------------------------------------------------------- configured

    def add(self, value: bytes, prefix_length: int, now: float, *, optimistic: bool, quiet: bool) -> None:
        """A configured address. Adding one that is there already does nothing."""
        if value in self._addresses:
            return
        address = Address(value, prefix_length, Origin.CONFIGURED, AddressState.TENTATIVE, optimistic=optimistic)
        if quiet:
            address.state = AddressState.QUIET
        self._addresses[value] = address
        self.groups.join(messages.solicited_node(value), now)
        if self._interface.up:
            self._start(address, now, quiet=quiet)

    def remove(self, value: bytes, now: float, why: str) -> None:
        """Takes an address away, whatever its origin. Unknown: nothing happens."""
        if address := self._addresses.get(value):
            self._remove(address, why, now)

    def announce(self, value: bytes, now: float) -> None:
        """Multicast an overriding advertisement: neighbours shall forget who had the address; ends `QUIET`."""
        address = self._addresses.get(value)
        if address is None or not address.usable or not self._interface.up:
            return
        if address.state is AddressState.QUIET:
            address.state = AddressState.PREFERRED
        messages.neighbour_advertisement(self._interface, value, value, None, override=not address.being_checked)

    # ---------------------------------------------------------------- autoconfigured

    def autoconfigure(
        self, prefix: bytes, router: bytes, valid: float, preferred: float, now: float, *, authentic: bool = False
    ) -> None:
        """A /64 with the A bit was advertised; lifetimes in seconds from now, `inf` allowed (RFC 4862 section 5.5.3).

        ``authentic``: the lifetimes are our own memory's, so the two-hour rule need not protect us from them.
        """
        existing = [a for a in self if a.origin is Origin.AUTOCONFIGURED and a.value[:8] == prefix[:8]]
        if not existing:
            if valid > 0 and sum(a.origin is Origin.AUTOCONFIGURED for a in self) < LIMIT:
                self._make(prefix, 64, Origin.AUTOCONFIGURED, router, now + valid, now + preferred, now)
            return
        for address in existing:
            remaining = address.valid_until - now
            if authentic or valid > TWO_HOURS or valid > remaining:
                address.valid_until = now + valid
            elif remaining > TWO_HOURS:
                address.valid_until = now + TWO_HOURS
            address.preferred_until = min(now + preferred, address.valid_until)
            address.router = router
            self._set_ageing(address, now)

    def drop_prefix(self, prefix: bytes, why: str, now: float) -> None:
        """The network of this /64 was left."""
        for address in list(self):
            if address.origin is Origin.AUTOCONFIGURED and address.value[:8] == prefix[:8]:
                self._remove(address, why, now)

    def _make(
        self,
        prefix: bytes,
        length: int,
        origin: Origin,
        router: bytes | None,
        valid_until: float,
        preferred_until: float,
        now: float,
    ) -> None:
        conflicts = self._conflicts.get(prefix[:8], 0)
        if conflicts >= ATTEMPTS:
            return
        if self._identifier is not None and conflicts == 0:
            identifier = self._identifier
        else:
            identifier = identifiers.stable_opaque(self._secret, prefix[:8], self._interface.mac, conflicts)
        value = prefix[:8] + identifier
        if value in self._addresses:
            return
        address = Address(value, length, origin, AddressState.TENTATIVE, router)
        address.valid_until, address.preferred_until = valid_until, min(preferred_until, valid_until)
        self._addresses[value] = address
        self.groups.join(messages.solicited_node(value), now)
        self._start(address, now)
        self._set_ageing(address, now)

    # ---------------------------------------------------------------- duplicate address detection

    def _start(self, address: Address, now: float, *, quiet: bool = False) -> None:
        if quiet or not self._duplicate_detection:
            address.state = AddressState.QUIET if quiet else AddressState.PREFERRED
        else:
            address.state = AddressState.OPTIMISTIC if address.optimistic else AddressState.TENTATIVE
            # RFC 7527: at least 48 bits, and the option a multiple of 8 octets.
            nonce = self._interface.random(6)
            address.nonces = [nonce]
            messages.duplicate_probe(self._interface, address.value, nonce)
            self._interface.alarms.set(
                ("dad", address.value),
                now + self._interface.retrans_timer,
                lambda then: self._unique(address, then),
            )
        if address.usable:
            self._ready(address)

    def _unique(self, address: Address, now: float) -> None:
        was_usable = address.usable
        address.state = AddressState.PREFERRED
        address.nonces.clear()
        self._interface.forget()  # packets that went by way of the router can go straight
        if not was_usable:
            self._ready(address)
        if address.preferred_until <= now:
            self._deprecate(address)
        self.settled(now)

    def probed(self, value: bytes, nonces: list[bytes]) -> bool:
        """Another node checks whether one of our addresses is free: defend it. True: we are still checking, too."""
        address = self._addresses[value]
        if address.being_checked:
            return not any(nonce in address.nonces for nonce in nonces)
        if address.state is not AddressState.QUIET:
            messages.neighbour_advertisement(self._interface, value, value, None, override=True)
        return False

    def conflict(self, value: bytes, mac: bytes, now: float) -> None:
        """Another node has an address that we are still checking: give it up, try the next identifier."""
        address = self._addresses[value]
        self._interface.emit(AddressConflict(self._interface.name, IPv6Address(value), mac.hex(":")))
        self._remove(address, "duplicate", now)
        if address.origin is Origin.CONFIGURED:
            return
        prefix = value[:8]
        self._conflicts[prefix] = self._conflicts.get(prefix, 0) + 1
        self._make(
            prefix + bytes(8),
            address.prefix_length,
            address.origin,
            address.router,
            address.valid_until,
            address.preferred_until,
            now,
        )

    # ---------------------------------------------------------------- ageing and ends

    def _set_ageing(self, address: Address, now: float) -> None:
        key = ("lifetime", address.value)
        if address.state is AddressState.DEPRECATED and address.preferred_until > now:
            address.state = AddressState.PREFERRED
            self._ready(address)
        if address.preferred_until <= now and address.state is AddressState.PREFERRED:
            self._deprecate(address)
        upcoming = address.preferred_until if address.preferred_until > now else address.valid_until
        if upcoming == inf:
            self._interface.alarms.cancel(key)
        else:
            self._interface.alarms.set(key, upcoming, lambda then: self._aged(address, then))

    def _aged(self, address: Address, now: float) -> None:
        if address.valid_until <= now:
            self._remove(address, "valid lifetime ended", now)
        else:
            self._set_ageing(address, now)

    def _deprecate(self, address: Address) -> None:
        address.state = AddressState.DEPRECATED
        self._interface.emit(AddressDeprecated(self._interface.name, IPv6Address(address.value)))

    def _ready(self, address: Address) -> None:
        self.usable.add(address.value)
        self._interface.forget()
        if address.origin is not Origin.LINK_LOCAL:
            router = None if address.router is None else IPv6Address(address.router)
            self._interface.emit(
                AddressReady(self._interface.name, IPv6Address(address.value), address.prefix_length, router)
            )

    def _withdraw(self, address: Address, why: str) -> None:
        if address.value not in self.usable:
            return
        self.usable.discard(address.value)
        self._interface.forget()
        if address.origin is not Origin.LINK_LOCAL:
            self._interface.emit(AddressLost(self._interface.name, IPv6Address(address.value), why))

    def _remove(self, address: Address, why: str, now: float) -> None:
        del self._addresses[address.value]
        self._interface.alarms.cancel(("dad", address.value))
        self._interface.alarms.cancel(("lifetime", address.value))
        self.groups.leave(messages.solicited_node(address.value), now)
        self._withdraw(address, why)

    def snapshot(self, now: float) -> list[dict[str, object]]:
        def left(until: float) -> float | None:
            return None if until == inf else round(until - now, 1)

        return [
            {
                "address": str(IPv6Address(a.value)),
                "prefix_length": a.prefix_length,
                "state": a.state.value,
                "origin": a.origin.value,
                "router": None if a.router is None else str(IPv6Address(a.router)),
                "preferred_seconds": left(a.preferred_until),
                "valid_seconds": left(a.valid_until),
            }
            for a in self
        ]
