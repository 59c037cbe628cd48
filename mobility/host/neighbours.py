"""Neighbour cache: address resolution and unreachability detection (RFC 4861 sections 7.2, 7.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv6Address

from mobility.discards import Reason
from mobility.host import messages
from mobility.host.addresses import AddressTable
from mobility.host.interface import Interface

SOLICITATIONS = 3
"MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT"
DELAY_FIRST_PROBE = 5.0
QUEUE_LIMIT = 512
"Packets that wait for one neighbour; the oldest goes first. A burst after a handover fits in."
QUEUES_LIMIT = 1024
"Packets that wait for all neighbours together."
LIMIT = 512
"Neighbours; the stale one that was used least recently goes first."


class State(Enum):
    INCOMPLETE = "incomplete"
    REACHABLE = "reachable"
    STALE = "stale"
    DELAY = "delay"
    PROBE = "probe"


@dataclass(slots=True)
class Neighbour:
    address: bytes
    state: State
    used: float
    mac: bytes | None = None
    router: bool = False
    probes: int = 0
    interval: float | None = None
    "Seconds between probes, when not the link's RetransTimer."
    source: bytes | None = None
    "Of the packet that asked for the neighbour: preferred source of the solicitations."
    queue: deque[bytes] = field(default_factory=deque)


class NeighbourCache:
    """Who has which link-layer address, and whether it still answers."""

    def __init__(
        self,
        interface: Interface,
        addresses: AddressTable,
        *,
        failed: Callable[[bytes, float], None],
        reachable: Callable[[bytes, float], None],
        not_router: Callable[[bytes, float], None],
    ) -> None:
        """``failed``, ``reachable``: a neighbour stopped or began to answer; ``not_router``: it says it is none."""
        self._interface = interface
        self._addresses = addresses
        self._failed = failed
        self._became_reachable = reachable
        self._not_router = not_router
        self._neighbours: dict[bytes, Neighbour] = {}

    def get(self, address: bytes) -> Neighbour | None:
        return self._neighbours.get(address)

    # ---------------------------------------------------------------- sending

    def send(self, packet: bytes, hop: bytes, now: float) -> None:
        """Sends a packet to an on-link neighbour, or keeps it until the neighbour is resolved."""
        neighbour = self._neighbours.get(hop)
        if neighbour is None:
            if not self._make_room():
                self._interface.discard(Reason.TABLE_FULL, f"neighbours: {LIMIT} and none is stale")
                return
            neighbour = self._neighbours[hop] = Neighbour(hop, State.INCOMPLETE, now, source=packet[8:24])
            self._enqueue(neighbour, packet)
            self._solicit(neighbour, now)
            return
        neighbour.used = now
        if neighbour.mac is None or neighbour.state is State.INCOMPLETE:
            self._enqueue(neighbour, packet)
            return
        if neighbour.state is State.STALE:
            neighbour.state, neighbour.source = State.DELAY, packet[8:24]
            self._alarm(neighbour, now + DELAY_FIRST_PROBE)
        self._interface.remember(packet[24:40], neighbour.mac)
        self._interface.transmit(packet, neighbour.mac)

    def _enqueue(self, neighbour: Neighbour, packet: bytes) -> None:
        waiting = sum(len(each.queue) for each in self._neighbours.values() if each.state is State.INCOMPLETE)
        if len(neighbour.queue) >= QUEUE_LIMIT or waiting >= QUEUES_LIMIT:
            if not neighbour.queue:
                self._interface.discard(Reason.QUEUE_FULL, f"{waiting} packets wait for neighbours")
                return
            neighbour.queue.popleft()
            self._interface.discard(Reason.QUEUE_FULL, f"waiting for {IPv6Address(neighbour.address)}")
        neighbour.queue.append(packet)

    # ---------------------------------------------------------------- hearing

    def learn(self, address: bytes, mac: bytes, now: float, *, router: bool | None = None) -> None:
        """A source link-layer address option came (RFC 4861 section 7.2.3): an unproven hint, hence STALE."""
        neighbour = self._neighbours.get(address)
        if neighbour is None:
            if not self._make_room():
                self._interface.discard(Reason.TABLE_FULL, f"neighbours: {LIMIT} and none is stale")
                return
            self._neighbours[address] = Neighbour(address, State.STALE, now, mac, bool(router))
            return
        if router is not None:
            neighbour.router = router
        if neighbour.mac != mac:
            neighbour.mac = mac
            self._become_stale(neighbour)
            self._flush(neighbour, now)

    def advertised(
        self,
        address: bytes,
        mac: bytes | None,
        now: float,
        *,
        router: bool,
        solicited: bool,
        override: bool,
    ) -> bool:
        """A neighbour advertisement (RFC 4861 section 7.2.5). False: of no use, nothing changed."""
        neighbour = self._neighbours.get(address)
        if neighbour is None:
            return False
        was_router = neighbour.router
        if neighbour.state is State.INCOMPLETE:
            if mac is None:
                return False
            neighbour.mac, neighbour.router = mac, router
            if solicited:
                self._become_reachable(neighbour, now)
            else:
                self._become_stale(neighbour)
            self._flush(neighbour, now)
        else:
            other = mac is not None and mac != neighbour.mac
            if other and not override:
                if neighbour.state is State.REACHABLE:
                    self._become_stale(neighbour)
                return True
            if other:
                neighbour.mac = mac
                self._interface.forget()
            neighbour.router = router
            if solicited:
                self._become_reachable(neighbour, now)
            elif other:
                self._become_stale(neighbour)
        if was_router and not router:
            self._not_router(address, now)
        return True

    def confirm(self, address: bytes, now: float) -> None:
        """Something from beyond proves that packets reach the neighbour (RFC 4861 section 7.3.1)."""
        neighbour = self._neighbours.get(address)
        if neighbour is not None and neighbour.state is not State.INCOMPLETE:
            self._become_reachable(neighbour, now)

    def establish(self, address: bytes, mac: bytes, now: float, *, router: bool) -> None:
        """A neighbour just answered from ``mac``: reachable, whatever was known before."""
        neighbour = self._neighbours.get(address)
        if neighbour is None:
            self._make_room(force=True)
            neighbour = self._neighbours[address] = Neighbour(address, State.STALE, now)
        neighbour.mac, neighbour.router = mac, router
        self._become_reachable(neighbour, now)
        self._flush(neighbour, now)

    def probe(self, address: bytes, now: float, interval: float) -> None:
        """Does it still answer? Asked at once, ``interval`` seconds apart; `failed` is called if it does not."""
        neighbour = self._neighbours.get(address)
        if neighbour is None:
            self._make_room(force=True)
            neighbour = self._neighbours[address] = Neighbour(address, State.INCOMPLETE, now, interval=interval)
        elif neighbour.state is State.INCOMPLETE or neighbour.interval is not None:
            return  # is being asked already
        else:
            neighbour.state, neighbour.probes, neighbour.interval = State.PROBE, 0, interval
        self._solicit(neighbour, now)

    def retry(self, now: float) -> None:
        """There is an address to ask from at last."""
        for neighbour in self._neighbours.values():
            if neighbour.state is State.INCOMPLETE and neighbour.probes == 0:
                self._solicit(neighbour, now)

    def remove(self, address: bytes) -> None:
        """Forgets a neighbour, and discards what waits for it."""
        if neighbour := self._neighbours.pop(address, None):
            self._interface.alarms.cancel(("neighbour", address))
            self._interface.forget()
            self._give_back(neighbour)

    def clear(self) -> None:
        """The link is gone."""
        for address in list(self._neighbours):
            self.remove(address)

    # ---------------------------------------------------------------- states

    def _become_reachable(self, neighbour: Neighbour, now: float) -> None:
        neighbour.state, neighbour.probes, neighbour.interval = State.REACHABLE, 0, None
        lifetime = self._interface.reachable_time * self._interface.uniform(0.5, 1.5)
        self._alarm(neighbour, now + lifetime)
        self._became_reachable(neighbour.address, now)

    def _become_stale(self, neighbour: Neighbour) -> None:
        neighbour.state, neighbour.probes, neighbour.interval = State.STALE, 0, None
        self._interface.alarms.cancel(("neighbour", neighbour.address))
        self._interface.forget()

    def _alarm(self, neighbour: Neighbour, when: float) -> None:
        self._interface.alarms.set(("neighbour", neighbour.address), when, lambda now: self._timed_out(neighbour, now))

    def _timed_out(self, neighbour: Neighbour, now: float) -> None:
        match neighbour.state:
            case State.REACHABLE:
                self._become_stale(neighbour)
            case State.DELAY:
                neighbour.state, neighbour.probes = State.PROBE, 0
                self._solicit(neighbour, now)
            case State.PROBE | State.INCOMPLETE:
                if neighbour.probes < SOLICITATIONS:
                    self._solicit(neighbour, now)
                else:
                    self.remove(neighbour.address)
                    self._failed(neighbour.address, now)
            case State.STALE:
                pass

    def _solicit(self, neighbour: Neighbour, now: float) -> None:
        source = self._addresses.solicitation_source(neighbour.source)
        wait = self._interface.retrans_timer if neighbour.interval is None else neighbour.interval
        if source is not None:
            neighbour.probes += 1
            mac = None if neighbour.state is State.INCOMPLETE else neighbour.mac
            messages.neighbour_solicitation(self._interface, source, neighbour.address, mac, tell_mac=True)
        elif neighbour.state is State.PROBE and (own := self._addresses.link_local()):
            # RFC 4429: an optimistic source must not tell its link-layer address; unicast does not need it.
            neighbour.probes += 1
            messages.neighbour_solicitation(
                self._interface, own.value, neighbour.address, neighbour.mac, tell_mac=False
            )
        # Else every address is optimistic: the question has to wait, and is not counted.
        self._alarm(neighbour, now + wait)

    def _flush(self, neighbour: Neighbour, now: float) -> None:
        while neighbour.queue:
            self.send(neighbour.queue.popleft(), neighbour.address, now)

    def _give_back(self, neighbour: Neighbour) -> None:
        for _ in range(len(neighbour.queue)):
            neighbour.queue.popleft()
            self._interface.discard(
                Reason.ADDRESS_UNREACHABLE, f"{IPv6Address(neighbour.address)} does not answer on the link"
            )

    def _make_room(self, *, force: bool = False) -> bool:
        if len(self._neighbours) < LIMIT:
            return True
        evictable = [n for n in self._neighbours.values() if n.state is State.STALE and not n.router]
        if not evictable and force:
            evictable = [n for n in self._neighbours.values() if not n.router]
        if not evictable:
            return False
        self.remove(min(evictable, key=lambda n: n.used).address)
        return True

    def snapshot(self) -> list[dict[str, object]]:
        return [
            {
                "address": str(IPv6Address(n.address)),
                "link_address": None if n.mac is None else n.mac.hex(":"),
                "state": n.state.value,
                "router": n.router,
                "waiting": len(n.queue),
            }
            for n in self._neighbours.values()
        ]
