"""A home agent that is one of several: it serves only while it holds the lease in the shared store.

All of them have the same address and the same configuration. One holds the lease, renews it and serves; the others try
to get it and keep a copy of what the store holds. A lease is counted from the moment before it was asked for, so a home
agent that was stopped, or cannot reach the store, finds its time over *before* another one can serve: this is looked at
for every packet. Sequence numbers do not depend on it: they are set aside in the store (`mobility.store.numbers`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address
from math import inf
from typing import Protocol

from mobility.ipsec.ike.endpoint import Ike
from mobility.mipv6.binding_records import BindingRecord
from mobility.node import Node
from mobility.outputs import Output
from mobility.settings import WithoutStore
from mobility.store import scripts
from mobility.store.answers import WrongAnswer, as_decimal, as_list, as_number, as_table, as_text
from mobility.store.events import LeaseLost, LeaseTaken, ServingAlone
from mobility.store.numbers import GRANT, SLACK, GrantedState, SharedSequences
from mobility.store.records import read_record, record_text
from mobility.store.redis import Argument, RedisError, Reply

log = logging.getLogger(__name__)

LENGTH = 0.3
"Seconds of a lease."
MARGIN = 0.03
"Seconds before its end at which a home agent stops to serve: clocks and alarms are not exact."
TICK = 0.05
"Seconds between two renewals; received numbers are published as often."
TRY = 0.05
"Seconds between two attempts to get the lease, at most."
FOLLOW = 1.0
"Seconds between two looks of a standby at all that the store holds."


class Standing(StrEnum):
    """What a home agent is among the others."""

    STANDBY = "standby"
    "Another one serves, or the store cannot be asked."
    PREPARING = "preparing"
    "It has the lease and waits for numbers."
    SERVING = "serving"
    ALONE = "alone"
    "It serves on without the store, as it was told to."


ACTIVE = (Standing.SERVING, Standing.ALONE)


class Server(Protocol):
    """The connection to the shared store; `mobility.store.redis.Redis` is one."""

    @property
    def connected(self) -> bool: ...

    @property
    def failure(self) -> str: ...

    @property
    def timer(self) -> float | None: ...

    def start(self, now: float) -> None: ...

    def call(
        self, *request: Argument, answered: Callable[[Reply], None], failed: Callable[[RedisError], None], now: float
    ) -> None: ...

    def handle_timer(self, now: float) -> None: ...


class Servant(Node, Protocol):
    """The home agent itself, which can stand by; `mobility.agent.HomeAgentNode` is one."""

    def activate(self, now: float) -> list[Output]: ...

    def deactivate(self, now: float) -> list[Output]: ...

    def restore(self, records: Iterable[BindingRecord], wall_offset: float, now: float) -> list[Output]: ...

    def record(self, home_address: IPv6Address, wall_offset: float) -> BindingRecord | None: ...

    def resume(self) -> None:
        """All associations go on where their states are."""

    def negotiations(self) -> list[Ike]:
        """As `mobility.negotiated_tables.Negotiates`."""


@dataclass(slots=True)
class _Numbers:
    """What a HOLD asks for and publishes, to be noted when it is answered."""

    wanted: list[tuple[str, GrantedState]]
    received: list[tuple[str, int]]
    bindings: dict[str, bytes]


class SharedAgent:
    """A `Node` around a home agent.

    ``act`` has a function of the time called and its outputs carried out: what the store answers comes in between.
    """

    def __init__(
        self,
        node: Servant,
        address: IPv6Address,
        sequences: SharedSequences,
        server: Server,
        owner: str,
        act: Callable[[Callable[[float], list[Output]]], None],
        wall_offset: Callable[[], float],
        without_store: WithoutStore = WithoutStore.STOP,
    ) -> None:
        """``owner`` is this home agent's name in the store; two that live at a time never have the same."""
        self.node = node
        self.standing = Standing.STANDBY
        self.epoch = 0
        "The highest known of all that served."
        self.takeovers = 0
        self._keys = scripts.keys(address)
        self._sequences = sequences
        self._server = server
        self._owner = owner
        self._act = act
        self._wall_offset = wall_offset
        self._without_store = without_store
        self._serve_until = inf
        "Compared with the time of every packet; inf where nothing is served."
        self._links_up: set[str] = set()
        self._next_try = 0.0
        self._next_follow = 0.0
        self._asked = False
        "An answer is awaited; one request at a time, so that a store that hangs has nothing piled up."
        self._last_turn = 0.0
        self._copy: dict[str, bytes] = {}
        "The records in the store, as far as known, by home address."
        self._store_forgot = False
        "The copy is all that there is."
        self._forgotten: set[str] = set()
        "Associations whose number the store did not know when the lease was got."
        self._changed: dict[IPv6Address, None] = {}
        self._moved: set[str] = set()
        "Associations whose numbers moved since the store was told."
        self._complained = ""

    # ------------------------------------------------------------ the node

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        times = [time for time in (self.node.timer, self._server.timer) if time is not None]
        return min(self._next_try, *times) if times else self._next_try

    def start(self, now: float) -> list[Output]:
        """Stands by, and tries to get the lease as soon as there is a link and a store."""
        self._next_try = now
        self._server.start(now)
        return self.node.start(now)

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        """Without its home link a home agent leaves the lease to another one."""
        (self._links_up.add if up else self._links_up.discard)(link)
        outputs = self.node.link_changed(link, up, now)
        if not self._links_up and self.standing is not Standing.STANDBY:
            self.release(now)
            outputs += self._stand_by("the home link is down", now)
        return outputs

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """A packet; not before it is sure that the lease is still ours."""
        if now >= self._serve_until:
            return [*self._lease_over(now), *self.node.from_link(link, packet, sender, now)]
        return self.node.from_link(link, packet, sender, now)

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """An IPv4 packet for a terminal."""
        if now >= self._serve_until:
            return [*self._lease_over(now), *self.node.from_host(packet, now)]
        return self.node.from_host(packet, now)

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come."""
        outputs = self._lease_over(now) if now >= self._serve_until else []
        self._last_turn = now
        if (due := self.node.timer) is not None and due <= now:
            outputs += self.node.handle_timer(now)
        if (due := self._server.timer) is not None and due <= now:
            self._server.handle_timer(now)
        if self._next_try <= now:
            self._next_try = now + TICK
            self._turn(now)
        return outputs

    def snapshot(self, now: float) -> dict[str, object]:
        """That of the home agent, and how it stands to the others."""
        return {**self.node.snapshot(now), "shared": self.describe(now)}

    def negotiations(self) -> list[Ike]:
        """As `mobility.negotiated_tables.Negotiates`: those of the home agent."""
        return self.node.negotiations()

    def describe(self, now: float) -> dict[str, object]:
        """How this home agent stands to the others, JSON-ready."""
        left = self._serve_until - now
        return {
            "standing": self.standing,
            "owner": self._owner,
            "epoch": self.epoch,
            "takeovers": self.takeovers,
            "lease_left": round(left, 3) if left != inf else None,
            "store": "connected" if self._server.connected else self._server.failure,
            "records": len(self._copy),
        }

    # ------------------------------------------------------------ bindings

    def changed(self, home_address: IPv6Address) -> None:
        """The record of this home address is another one now; it is written by `flush`."""
        self._changed[home_address] = None

    def flush(self, now: float) -> None:
        """Writes changed records at once, if the store is not just answering something."""
        if self._changed and not self._asked and self._server.connected:
            self._turn(now)

    # ------------------------------------------------------------ the lease

    def release(self, now: float) -> None:
        """Another home agent may serve at once."""
        if self._server.connected:
            self._call(scripts.RELEASE, self._owner, answered=lambda _reply: None, now=now)

    def conflict(self, now: float) -> list[Output]:
        """Another node on the home link claims the home agent's address: while alone, that is the one that serves."""
        if self.standing is not Standing.ALONE:
            return []
        return self._stand_by("another home agent serves on the home link", now)

    def _turn(self, now: float) -> None:
        """Asks the store for what is due."""
        if self._asked or not self._server.connected or not self._links_up:
            return
        match self.standing:
            case Standing.SERVING | Standing.PREPARING:
                self._hold(now)
            case Standing.ALONE:
                self._acquire(now)
            case Standing.STANDBY if now >= self._next_follow:
                self._next_follow = now + FOLLOW
                self._ask(scripts.FOLLOW, answered=self._followed, now=now)
            case Standing.STANDBY:
                self._acquire(now)

    def _acquire(self, now: float) -> None:
        self._ask(
            scripts.ACQUIRE,
            self._owner,
            round(LENGTH * 1000),
            self.epoch,
            answered=lambda reply, then: self._acquired(reply, now + LENGTH - MARGIN, then),
            now=now,
        )

    def _acquired(self, reply: Reply, until: float, now: float) -> list[Output]:
        answer = as_list(reply, 3)
        if not answer[0]:
            if self.standing in ACTIVE:
                return self._stand_by(f"{as_text(answer[2])} serves", now)
            left = as_number(answer[1])
            self._next_try = now + (min(left / 1000 + 0.001, TRY) if left >= 0 else TRY)
            return []
        before, self.epoch, known = as_number(answer[1]), as_number(as_list(reply, 6)[2]), self.epoch
        self._serve_until = until
        if self.standing in ACTIVE and before <= known:
            # Nobody else has served in between; but the store may have forgotten, so it is told everything again.
            self.standing = Standing.SERVING
            self._changed |= dict.fromkeys(IPv6Address(home) for home in self._copy)
            self._forgotten = set(self._sequences.outbound)
            self._moved.update(self._sequences.inbound)
            self._hold(now)
            return []
        outputs = self._stand_by("another home agent served", now)
        self._learn(answer[3:6], before >= known)
        self._moved.update(self._sequences.inbound)
        self.standing = Standing.PREPARING
        self._serve_until = until
        self._hold(now)
        return outputs

    def _hold(self, now: float) -> None:
        """Renews the lease, and tells and asks what is due with it."""
        preparing = self.standing is Standing.PREPARING
        outbound, inbound = self._sequences.outbound, self._sequences.inbound
        moved, self._moved = self._moved.union(self._sequences.changed()), set()
        if preparing:
            wanted = list(outbound.items())
        else:
            mayhap = ((name, outbound[name]) for name in (moved | self._forgotten) & outbound.keys())
            wanted = [(name, state) for name, state in mayhap if state.wanting or name in self._forgotten]
        received = [(name, inbound[name].inbound) for name in moved & inbound.keys()]
        bindings, self._changed = self._texts(self._changed), {}
        asked = _Numbers(wanted, received, bindings)
        arguments: list[Argument] = [self._owner, round(LENGTH * 1000), len(wanted)]
        for name, state in wanted:
            slack = SLACK if preparing and name in self._forgotten and state.outbound else 0
            arguments += (name, (state.outbound if preparing else max(state.granted, state.outbound)) + slack, GRANT)
        arguments.append(len(received))
        for name, top in received:
            arguments += (name, top)
        arguments.append(len(bindings))
        for home, text in bindings.items():
            arguments += (home, text)
        self._ask(
            scripts.HOLD,
            *arguments,
            answered=lambda reply, then: self._held(reply, asked, now + LENGTH - MARGIN, then),
            failed=lambda: self._not_told(asked),
            now=now,
        )

    def _held(self, reply: Reply, asked: _Numbers, until: float, now: float) -> list[Output]:
        answer = as_list(reply, 1)
        if self.standing not in (Standing.PREPARING, Standing.SERVING):
            return []  # too late: the time was over before this answer came
        if not answer[0]:
            # The store has lost the lease, or another home agent has it. As long as our time runs nobody else serves.
            self._not_told(asked)
            if self.standing is Standing.PREPARING:
                return self._stand_by("the lease was lost", now)
            self._acquire(now)
            return []
        self._serve_until = max(self._serve_until, until)
        for home, text in asked.bindings.items():
            if text:
                self._copy[home] = text
            else:
                self._copy.pop(home, None)
        grants = [as_number(value) for value in as_list(reply, 1 + 2 * len(asked.wanted))[1:]]
        preparing = self.standing is Standing.PREPARING
        added = False
        for (name, state), base, last in zip(asked.wanted, grants[::2], grants[1::2], strict=True):
            self._forgotten.discard(name)
            if preparing:
                state.grant(base, last)
            elif base == state.granted:
                state.granted = last
            elif not state.granted:  # of a terminal that was added to the configuration, and that was in it before
                state.grant(base, last)
                added = True
            else:  # somebody had numbers set aside who did not hold the lease; ours end, and go on behind
                return self._stand_by("the sequence numbers in the store were changed by somebody else", now)
        if added:
            self.node.resume()
        return self._serve(now) if preparing else []

    def _serve(self, now: float) -> list[Output]:
        self.standing = Standing.SERVING
        self.takeovers += 1
        self.node.resume()
        records = [record for record in map(self._read, self._copy.values()) if record is not None]
        outputs = self.node.restore(records, self._wall_offset(), now)
        outputs += self.node.activate(now)
        if self._store_forgot:
            self._changed |= dict.fromkeys(record.home_address for record in records)
        return [*outputs, LeaseTaken(self.epoch, len(records))]

    def _stand_by(self, why: str, now: float) -> list[Output]:
        served = self.standing in ACTIVE
        self.standing = Standing.STANDBY
        self._serve_until = inf
        self._changed.clear()
        self._moved.clear()
        self._next_try = now + TICK
        self._next_follow = 0.0
        if not served:
            return []
        return [*self.node.deactivate(now), LeaseLost(why)]

    def _lease_over(self, now: float) -> list[Output]:
        """The time is over and was not renewed: another home agent may serve by now."""
        if self.standing is Standing.PREPARING:
            return self._stand_by("the lease is over", now)
        hung = now - self._last_turn > LENGTH
        if self._without_store is WithoutStore.STOP or hung:
            why = "this process was stopped for a while" if hung else self._server.failure or "the store did not answer"
            return self._stand_by(f"the lease is over: {why}", now)
        alone = self.standing is Standing.ALONE
        self.standing = Standing.ALONE
        self._serve_until = now + LENGTH
        if alone:
            return []
        why = self._server.failure or "the store does not answer"
        return [ServingAlone(why)]

    # ------------------------------------------------------------ what the store holds

    def _followed(self, reply: Reply, now: float) -> list[Output]:
        answer = as_list(reply, 4)
        epoch = as_number(answer[0])
        if self.standing is Standing.STANDBY and epoch >= self.epoch:  # less: the store has forgotten
            self.epoch = epoch
            self._learn(answer[1:4], True)
        self._acquire(now)
        return []

    def _learn(self, tables: Sequence[object], trusted: bool) -> None:
        """Takes over what the store holds; what it has forgotten (``trusted`` false, or a table missing) stays."""
        bindings, sequences, received = map(as_table, tables)
        self._store_forgot = not trusted or bindings is None
        if trusted and bindings is not None:
            self._copy = bindings
        self._forgotten = set(self._sequences.outbound)
        for name, state in self._sequences.outbound.items():
            number = as_decimal((sequences or {}).get(name))
            if number is not None and trusted:
                self._forgotten.discard(name)
                state.cells[0] = max(state.outbound, number)
        for name, window in self._sequences.inbound.items():
            number = as_decimal((received or {}).get(name))
            if number is not None:
                window.cells[1] = max(window.inbound, number)

    def _read(self, text: bytes) -> BindingRecord | None:
        try:
            return read_record(text)
        except ValueError as error:
            log.warning("a binding in the store is left out: %s", error)
            return None

    def _texts(self, home_addresses: Iterable[IPv6Address]) -> dict[str, bytes]:
        offset = self._wall_offset()
        records = ((home, self.node.record(home, offset)) for home in home_addresses)
        return {str(home): b"" if record is None else record_text(record).encode() for home, record in records}

    def _not_told(self, asked: _Numbers) -> None:
        if self.standing in ACTIVE:
            self._changed |= dict.fromkeys(IPv6Address(home) for home in asked.bindings)
            self._moved.update(name for name, _ in (*asked.wanted, *asked.received))

    # ------------------------------------------------------------ asking

    def _ask(
        self,
        script: str,
        *arguments: Argument,
        answered: Callable[[Reply, float], list[Output]],
        failed: Callable[[], None] = lambda: None,
        now: float,
    ) -> None:
        self._asked = True

        def arrived(reply: Reply) -> None:
            self._asked = False
            self._complained = ""
            self._act(lambda then: self._judged(reply, answered, then))

        def broken(error: RedisError) -> None:
            self._asked = False
            failed()
            if self._server.connected and str(error) != self._complained:
                self._complained = str(error)
                log.warning("the store refuses: %s", error)

        self._call(script, *arguments, answered=arrived, failed=broken, now=now)

    def _judged(self, reply: Reply, answered: Callable[[Reply, float], list[Output]], now: float) -> list[Output]:
        try:
            outputs = answered(reply, now)
        except WrongAnswer as wrong:
            if str(wrong) != self._complained:
                self._complained = str(wrong)
                log.warning("the store answers what makes no sense: %s", wrong)
            return []
        self.flush(now)
        return outputs

    def _call(
        self,
        script: str,
        *arguments: Argument,
        answered: Callable[[Reply], None],
        failed: Callable[[RedisError], None] = lambda _error: None,
        now: float,
    ) -> None:
        self._server.call(
            "EVAL", script, len(self._keys), *self._keys, *arguments, answered=answered, failed=failed, now=now
        )
