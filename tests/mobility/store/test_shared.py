"""A home agent among others, in simulated time, with a store that answers what the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from mobility.discards import Discard, Reason
from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.ike.endpoint import Ike
from mobility.mipv6.binding_records import BindingRecord
from mobility.outputs import Discarded, Event, Output
from mobility.settings import Association, WithoutStore
from mobility.store import scripts
from mobility.store.events import LeaseLost, LeaseTaken, ServingAlone
from mobility.store.numbers import GRANT, SLACK, GrantedState, SharedSequences
from mobility.store.records import record_text
from mobility.store.redis import Argument, RedisError, Reply
from mobility.store.shared import (
    FOLLOW,
    LENGTH,
    MARGIN,
    TICK,
    SharedAgent,
    Standing,
)

from .support import record

ADDRESS = IPv6Address("2001:db8:1::a")
ASSOCIATION = Association(0x1001, Algorithm.NULL_HMAC_SHA2_256_128, Keys(b"", bytes(32)))
NAMES = {scripts.ACQUIRE: "acquire", scripts.HOLD: "hold", scripts.FOLLOW: "follow", scripts.RELEASE: "release"}


@dataclass
class Asked:
    what: str
    arguments: tuple[Argument, ...]
    answered: Callable[[Reply], None]
    failed: Callable[[RedisError], None]


class Store:
    """Keeps what it is asked until the test answers."""

    def __init__(self) -> None:
        self.connected = True
        self.failure = ""
        self.timer: float | None = None
        self.asked: list[Asked] = []

    def start(self, now: float) -> None: ...

    def handle_timer(self, now: float) -> None: ...

    def call(
        self, *request: Argument, answered: Callable[[Reply], None], failed: Callable[[RedisError], None], now: float
    ) -> None:
        assert request[0] == "EVAL"
        keys = int(request[2])
        self.asked.append(Asked(NAMES[str(request[1])], request[3 + keys :], answered, failed))

    def answer(self, what: str, reply: Reply) -> Asked:
        asked = self.asked.pop(0)
        assert asked.what == what
        asked.answered(reply)
        return asked


@dataclass
class Agent:
    """What stands in for the home agent: knows whether it serves, and its records."""

    active: bool = False
    timer: float | None = None
    known: dict[IPv6Address, BindingRecord] = field(default_factory=dict)
    resumed: int = 0
    packets: list[bytes] = field(default_factory=list)

    def start(self, now: float) -> list[Output]:
        return []

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        return []

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        if not self.active:
            return [Discarded(Reason.STANDBY, "home-agent", link)]
        self.packets.append(packet)
        return []

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        return self.from_link("host", packet, b"", now)

    def handle_timer(self, now: float) -> list[Output]:
        return []

    def snapshot(self, now: float) -> dict[str, object]:
        return {"role": "home-agent"}

    def activate(self, now: float) -> list[Output]:
        self.active = True
        return []

    def deactivate(self, now: float) -> list[Output]:
        self.active = False
        self.known.clear()
        return []

    def restore(self, records: Iterable[BindingRecord], wall_offset: float, now: float) -> list[Output]:
        self.known |= {each.home_address: each for each in records}
        return []

    def record(self, home_address: IPv6Address, wall_offset: float) -> BindingRecord | None:
        return self.known.get(home_address)

    def resume(self) -> None:
        self.resumed += 1

    def negotiations(self) -> list[Ike]:
        return []


class World:
    """The home agent with its store; time goes when the test says so."""

    def __init__(self, directory: Path, without: WithoutStore = WithoutStore.STOP) -> None:
        self.now = 100.0
        self.agent, self.store = Agent(), Store()
        self.sequences = SharedSequences(directory / "sequences")
        self.sequences.open()
        state = self.sequences.state(ASSOCIATION, "outbound")
        assert isinstance(state, GrantedState)
        self.out = state
        self.inbound = self.sequences.state(ASSOCIATION, "inbound")
        self.outputs: list[Output] = []
        self.shared = SharedAgent(
            self.agent, ADDRESS, self.sequences, self.store, "me", self._act, lambda: 1000.0, without
        )
        self.carry_out(self.shared.start(self.now))
        self.carry_out(self.shared.link_changed("eth0", True, self.now))

    def carry_out(self, outputs: list[Output]) -> None:
        self.outputs += outputs

    def _act(self, method: Callable[[float], list[Output]]) -> None:
        self.carry_out(method(self.now))

    def wait(self, seconds: float) -> None:
        """The data plane turns its loop for so long."""
        end = self.now + seconds
        while (due := self.shared.timer) is not None and due <= end:
            self.now = max(due, self.now)
            self.carry_out(self.shared.handle_timer(self.now))
        self.now = end

    def hang(self, seconds: float) -> None:
        """The process is stopped for so long."""
        self.now += seconds

    def packet(self) -> None:
        self.carry_out(self.shared.from_link("eth0", b"packet", b"sender", self.now))

    def events(self) -> list[Event]:
        found = [output for output in self.outputs if isinstance(output, Event)]
        self.outputs.clear()
        return found

    def serve(self, epoch: int = 0, **tables: list[bytes] | None) -> None:
        """Gets the lease, with this in the store."""
        self.wait(TICK)
        self.store.answer("follow", [epoch, *whole(**tables)])
        self.store.answer("acquire", [1, epoch, epoch + 1, *whole(**tables)])
        wanted = self.store.asked[0].arguments
        base = int(wanted[4])
        self.store.answer("hold", [1, base, base + GRANT])
        assert self.shared.standing is Standing.SERVING

    def renew(self) -> Asked:
        self.wait(TICK)
        return self.store.answer("hold", [1])


def whole(**tables: list[bytes] | None) -> list[list[bytes] | None]:
    return [tables.get(name, []) for name in ("bindings", "sequences", "received")]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def name(state_of: dict[str, GrantedState]) -> bytes:
    return next(iter(state_of)).encode()


def test_it_serves_with_what_the_store_holds(world: World) -> None:
    known = record(1, expires=5000.0)
    bindings = [b"2001:db8:1::1", record_text(known).encode(), b"2001:db8:1::2", b"rubbish"]
    sequences = [name(world.sequences.outbound), b"70000"]
    received = [next(iter(world.sequences.inbound)).encode(), b"55"]
    world.serve(3, bindings=bindings, sequences=sequences, received=received)
    assert world.agent.active
    assert world.agent.known == {known.home_address: known}
    assert world.agent.resumed == 1
    assert (world.out.outbound, world.out.granted, world.inbound.inbound) == (70_000, 70_000 + GRANT, 55)
    assert world.events() == [LeaseTaken(4, 1)]
    assert world.shared.snapshot(world.now)["role"] == "home-agent"


def test_nothing_is_served_before_numbers_are_set_aside(world: World) -> None:
    world.wait(TICK)
    world.store.answer("follow", [0, *whole()])
    world.store.answer("acquire", [1, 0, 1, *whole()])
    assert world.shared.standing is Standing.PREPARING
    assert not world.agent.active
    with pytest.raises(Discard) as caught:
        world.out.reserve(0)
    assert caught.value.reason is Reason.SEQUENCE_NOT_GRANTED


def test_another_one_has_the_lease(world: World) -> None:
    world.wait(TICK)
    world.store.answer("follow", [1, *whole()])
    for left in (20, -1, 300):
        world.store.answer("acquire", [0, left, b"other"])
        assert world.shared.standing is Standing.STANDBY
        world.wait(TICK)
    assert world.events() == []
    assert world.store.asked[0].what == "acquire"


def test_a_standby_tries_again_when_the_lease_ends(world: World) -> None:
    world.wait(TICK)
    world.store.answer("follow", [1, *whole()])
    world.store.answer("acquire", [0, 7, b"other"])
    world.wait(0.0085)
    assert [each.what for each in world.store.asked] == ["acquire"]


def test_the_lease_counts_from_before_it_was_asked_for(world: World) -> None:
    world.serve()
    world.wait(TICK)
    asked_at = world.now
    world.wait(0.1)
    world.store.answer("hold", [1])
    world.now = asked_at + LENGTH - MARGIN - 0.001
    world.packet()
    assert len(world.agent.packets) == 1
    world.now += 0.002
    world.packet()
    assert len(world.agent.packets) == 1
    assert not world.agent.active


def test_a_store_that_does_not_answer_ends_the_service(world: World) -> None:
    world.serve()
    world.wait(LENGTH)
    assert not world.agent.active
    assert isinstance(world.events()[-1], LeaseLost)
    assert len(world.store.asked) == 1, "a store that hangs gets nothing piled up"
    world.store.answer("hold", [1])  # much too late
    assert world.shared.standing is Standing.STANDBY


def test_a_process_that_was_stopped_sends_nothing_more(world: World) -> None:
    world.serve()
    world.renew()
    world.hang(0.5)
    world.packet()
    assert world.agent.packets == []
    lost = world.events()[-1]
    assert isinstance(lost, LeaseLost)
    assert "stopped for a while" in lost.why


def test_numbers_are_asked_for_long_before_they_are_used_up(world: World) -> None:
    world.serve()
    assert world.renew().arguments[2] == 0
    world.out.cells[0] = GRANT // 2 + 1
    world.wait(TICK)
    asked = world.store.asked[0].arguments
    assert asked[2:6] == (1, name(world.sequences.outbound).decode(), GRANT, GRANT)
    world.store.answer("hold", [1, GRANT, 2 * GRANT])
    assert world.out.granted == 2 * GRANT
    assert not world.out.wanting


def test_an_association_that_is_added_begins_behind_all_that_were_used(world: World) -> None:
    world.serve()
    world.renew()
    other = Association(0x2001, Algorithm.NULL_HMAC_SHA2_256_128, Keys(b"", bytes([1]) * 32))
    added = world.sequences.state(other, "outbound")
    assert isinstance(added, GrantedState)
    world.wait(TICK)
    world.store.answer("hold", [1, 3 * GRANT, 4 * GRANT])
    assert (added.outbound, added.granted) == (3 * GRANT, 4 * GRANT)
    assert world.agent.active
    assert world.agent.resumed == 2


def test_numbers_that_somebody_else_had_set_aside_end_the_service(world: World) -> None:
    world.serve()
    world.out.cells[0] = GRANT - 10
    world.wait(TICK)
    world.store.answer("hold", [1, 5 * GRANT, 6 * GRANT])
    assert not world.agent.active
    assert world.out.granted == GRANT


def test_what_was_received_is_published_when_it_changed(world: World) -> None:
    world.serve()
    world.inbound.cells[1] = 17
    asked = world.renew()
    assert asked.arguments[3:6] == (1, next(iter(world.sequences.inbound)), 17)
    assert world.renew().arguments[3] == 0


def test_a_changed_binding_is_written_at_once(world: World) -> None:
    world.serve()
    known = record(1, expires=5000.0)
    world.agent.known[known.home_address] = known
    world.shared.changed(known.home_address)
    world.shared.flush(world.now)
    asked = world.store.answer("hold", [1])
    assert asked.arguments[4:] == (1, str(known.home_address), record_text(known).encode())
    del world.agent.known[known.home_address]
    world.shared.changed(known.home_address)
    world.shared.flush(world.now)
    assert world.store.answer("hold", [1]).arguments[4:] == (1, str(known.home_address), b"")


def test_a_binding_that_could_not_be_written_is_written_later(world: World) -> None:
    world.serve()
    known = record(1, expires=5000.0)
    world.agent.known[known.home_address] = known
    world.shared.changed(known.home_address)
    world.shared.flush(world.now)
    world.store.asked.pop(0).failed(RedisError("closed the connection"))
    world.wait(TICK)
    assert world.store.asked[0].arguments[4] == 1


def test_a_store_that_forgot_everything_is_told_again(world: World) -> None:
    known = record(1, expires=5000.0)
    world.serve(3, bindings=[str(known.home_address).encode(), record_text(known).encode()])
    world.wait(TICK)
    world.store.answer("hold", [0])
    assert world.agent.active, "nobody else can serve as long as our time runs"
    world.store.answer("acquire", [1, 0, 5, *whole()])
    asked = world.store.answer("hold", [1, GRANT, 2 * GRANT])
    assert asked.arguments[2:6] == (1, name(world.sequences.outbound).decode(), GRANT, GRANT)
    assert asked.arguments[-3:] == (1, str(known.home_address), record_text(known).encode())
    assert world.agent.active
    assert world.agent.resumed == 1


def test_a_standby_knows_what_a_store_forgot(world: World) -> None:
    known = record(1, expires=5000.0)
    world.wait(TICK)
    tables = whole(
        bindings=[str(known.home_address).encode(), record_text(known).encode()],
        sequences=[name(world.sequences.outbound), b"65536"],
    )
    world.store.answer("follow", [9, *tables])
    world.store.answer("acquire", [0, 100, b"other"])
    world.wait(FOLLOW + TICK)
    world.store.answer("acquire", [1, 0, 10, *whole()])
    base = int(world.store.asked[0].arguments[4])
    assert base == 65536 + SLACK, "more than the other one can have set aside since"
    world.store.answer("hold", [1, base, base + GRANT])
    assert world.agent.known == {known.home_address: known}
    world.wait(TICK)
    assert world.store.asked[0].arguments[-3] == 1, "it is put there again"


def test_another_one_served_in_between(world: World) -> None:
    world.serve(1)
    world.wait(TICK)
    world.store.answer("hold", [0])
    world.store.answer("acquire", [1, 7, 8, *whole()])
    assert not world.agent.active
    assert world.shared.standing is Standing.PREPARING


def test_the_home_link_goes_down(world: World) -> None:
    world.serve()
    world.carry_out(world.shared.link_changed("eth0", False, world.now))
    assert not world.agent.active
    assert [each.what for each in world.store.asked] == ["release"]
    world.wait(1.0)
    assert [each.what for each in world.store.asked] == ["release"]


class TestAlone:
    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        made = World(tmp_path, WithoutStore.SERVE)
        made.serve()
        made.store.asked.clear()
        return made

    def cut_off(self, world: World) -> None:
        world.store.connected, world.store.failure = False, "connection refused"
        world.wait(2.0)

    def test_it_goes_on_without_a_store(self, world: World) -> None:
        self.cut_off(world)
        world.packet()
        assert world.agent.active
        assert world.agent.packets
        assert [event for event in world.events() if isinstance(event, ServingAlone)] == [
            ServingAlone("connection refused")
        ]

    def test_it_comes_back(self, world: World) -> None:
        self.cut_off(world)
        world.store.connected = True
        world.wait(TICK)
        world.store.answer("acquire", [1, 1, 2, *whole()])
        world.store.answer("hold", [1, GRANT, 2 * GRANT])
        assert world.shared.standing is Standing.SERVING
        assert not [event for event in world.events() if isinstance(event, LeaseLost)]

    def test_another_one_has_the_lease_by_then(self, world: World) -> None:
        self.cut_off(world)
        world.store.connected = True
        world.wait(TICK)
        world.store.answer("acquire", [0, 250, b"other"])
        assert not world.agent.active

    def test_it_hears_another_one_on_the_link(self, world: World) -> None:
        assert world.shared.conflict(world.now) == []
        self.cut_off(world)
        world.carry_out(world.shared.conflict(world.now))
        assert not world.agent.active

    def test_one_that_was_stopped_does_not(self, world: World) -> None:
        world.store.connected = False
        world.hang(1.0)
        world.packet()
        assert not world.agent.active
        assert world.agent.packets == []


@pytest.mark.parametrize(
    "reply", [None, 5, [], [1], [b"1", 2, 3], [1, 2, 3, b"x", b"", b""], [1, 2, 3, [b"a"], [], []]]
)
def test_answers_that_make_no_sense_change_nothing(
    world: World, reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    world.wait(TICK)
    world.store.answer("follow", reply)
    world.store.asked.clear()
    world.wait(FOLLOW + TICK)
    assert world.shared.standing is Standing.STANDBY
    while world.store.asked[0].what == "follow":
        world.store.answer("follow", [0, *whole()])
    world.store.answer("acquire", reply)
    assert world.shared.standing is Standing.STANDBY
    assert not world.agent.active
    assert "makes no sense" in caplog.text


def test_an_error_is_told_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        world.wait(TICK)
        world.store.asked.pop(0).failed(RedisError("READONLY You can't write against a read only replica."))
    assert caplog.text.count("READONLY") == 1
