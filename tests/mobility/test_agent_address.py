"""The home agent's own address: what happens when somebody else seems to have it."""

from __future__ import annotations

from itertools import pairwise

from mobility.agent import FIRST_RETAKE, LONGEST_RETAKE
from mobility.host.events import AddressConflict
from mobility.net.memory import EndHost
from tests.mobility.whole import HA, Network


def test_a_terminal_that_asks_for_it_while_it_is_being_checked_does_not_take_it_away() -> None:
    """After a power cut both come up at the same moment, at home; the question of the one looks like a duplicate."""
    network = Network()
    network.start_agent()
    network.plug(network.home)
    network.run(10)
    assert network.world.stations["ha"].events_of(AddressConflict)
    network.move(network.a)
    network.run(3)
    assert network.terminal.forwarding.tunnel is not None
    network.talk(1)
    network.run(2)
    assert network.to_cn.lost() == network.to_mn.lost() == []


def test_another_node_that_really_has_it_is_left_in_peace_and_asked_again() -> None:
    network = Network()
    mac = bytes.fromhex("020000001177")
    other = EndHost("eth0", mac, network.world.random_bytes("other"))
    network.world.add("other", other)
    network.world.attach("other", "eth0", network.home, mac)
    station = network.world.stations["other"]
    station.carry_out(other.host.add_address(HA, network.world.now, prefix_length=64))
    network.run(3)
    network.start_agent()
    network.run(200)
    conflicts = [time for time, _ in network.world.stations["ha"].events_of(AddressConflict)]
    waits = [later - earlier for earlier, later in pairwise(conflicts)]
    assert len(conflicts) > 4
    assert FIRST_RETAKE <= waits[0] < FIRST_RETAKE + 2
    assert max(waits) < LONGEST_RETAKE + 2
    assert [round(wait) for wait in waits[:5]] == [2, 4, 8, 16, 32]
    network.world.remove("other")
    network.run(LONGEST_RETAKE + 5)
    network.plug(network.a)
    network.run(3)
    assert network.terminal.forwarding.tunnel is not None
