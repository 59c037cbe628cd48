"""Embodiments 1 and 3 in simulated time: a program that speaks IPv4 calls an IPv6 correspondent and moves meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from mobility.discards import Reason
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.memory import Segment
from mobility.outputs import Discarded
from mobility.scenario.translation import HomeAddressTranslated
from mobility.translating import TranslatingTerminal
from mobility.translation.settings import TranslationSettings
from mobility.translation.table import RowRemoved
from mobility.translation.translation import Translation, VirtualAddressSet
from mobility.waiting import PATIENCE
from mobility.wire import udp
from tests.mobility.optimized import Optimized
from tests.mobility.translation.support import consistent4
from tests.mobility.whole import CN, HA, MN, Network, randomness

HERE = IPv4Address("198.18.0.1")
PORTS = (40000, 4000)


@dataclass
class Call:
    """Numbered packets of a program that speaks IPv4, and of a correspondent that speaks IPv6."""

    network: Network
    terminal: TranslatingTerminal
    peer: IPv4Address
    sent: int = 0
    at_correspondent: list[int] = field(default_factory=list)
    at_program: list[int] = field(default_factory=list)

    def speak(self) -> None:
        """One packet each way."""
        world, number = self.network.world, self.sent.to_bytes(4) + bytes(156)
        self.sent += 1
        packet = IP(src=str(HERE), dst=str(self.peer), id=self.sent) / UDP(sport=PORTS[0], dport=PORTS[1]) / Raw(number)
        world.stations["mn"].send(bytes(packet))
        world.stations["cn"].send(udp.packet(CN.packed + MN.packed, PORTS[::-1], number))

    def talk(self, seconds: float) -> None:
        world = self.network.world
        world.every(0.02, self.speak, until=world.now + seconds)

    def run(self, seconds: float) -> None:
        world = self.network.world
        world.run(world.now + seconds)
        for _, packet in world.stations["mn"].delivered:
            read = consistent4(packet)
            assert (read.src, read.dst) == (str(self.peer), str(HERE))
            self.at_program.append(int.from_bytes(read[UDP].load[:4]))
        for _, packet in world.stations["cn"].delivered:
            assert packet[8:40] == MN.packed + CN.packed
            self.at_correspondent.append(int.from_bytes(udp.parse(packet).payload[:4]))
        world.stations["mn"].delivered.clear()
        world.stations["cn"].delivered.clear()


def call(form: TunnelForm = TunnelForm.ESP, *, signalling: bool = True, network: Network | None = None) -> Call:
    network = Network(form, signalling=signalling) if network is None else network
    network.world.remove("mn")
    translation = Translation(TranslationSettings(MN, HERE, HA), randomness("translation"))
    terminal = TranslatingTerminal(network.terminal, translation)
    network.world.add("mn", terminal)
    network.start_agent()
    peer = IPv4Address(translation.table.of_ipv6(CN.packed, 0.0, asked=True).ipv4)
    return Call(network, terminal, peer)


def in_use(terminal: TranslatingTerminal) -> list[object]:
    return [row["number"] for row in terminal.terminal.scenarios.snapshot() if row["in_use"]]


@pytest.mark.parametrize("form", list(TunnelForm))
@pytest.mark.parametrize("signalling", [True, False])
def test_a_call_of_an_ipv4_only_program_while_the_terminal_moves(form: TunnelForm, signalling: bool) -> None:
    made = call(form, signalling=signalling)
    network = made.network
    network.plug(network.a)
    made.run(2)
    assert in_use(made.terminal) == [10010 if signalling else 10000]
    made.talk(9)
    places: tuple[Segment, ...] = (network.b, network.a, network.home, network.b)
    for place in places:
        made.run(1.5)
        network.move(place)
    made.run(4)
    assert made.sent == 450
    assert len(set(made.at_correspondent)) == len(made.at_correspondent) >= 445
    assert len(set(made.at_program)) == len(made.at_program) >= 440
    events = network.world.stations["mn"]
    assert [event.address for _, event in events.events_of(VirtualAddressSet)] == [HERE]
    assert len(events.events_of(HomeAddressTranslated)) >= 4
    assert not events.events_of(RowRemoved)


def test_rows_are_switched_live() -> None:
    made = call()
    network = made.network
    network.plug(network.a)
    made.run(2)
    assert in_use(made.terminal) == [10010]
    made.speak()
    made.run(0.5)
    assert made.at_correspondent == made.at_program == [0]

    made.terminal.terminal.scenarios.enable(10010, False)
    station = network.world.stations["mn"]
    station.carry_out(made.terminal.command("reregister", network.world.now))
    network.world.run(network.world.now + 1)
    assert in_use(made.terminal) == [10020]
    assert [event.why for _, event in station.events_of(RowRemoved)] == ["scenario"]
    made.speak()
    network.world.run(network.world.now + 0.5)
    assert sorted(packet[0] >> 4 for _, packet in station.delivered) == [4, 6]  # the former: an error for the program
    assert made.terminal.counters == {f"discarded-{Reason.NO_BINDING}": 1}
    station.delivered.clear()

    made.terminal.terminal.scenarios.enable(10010, True)
    station.carry_out(made.terminal.command("reregister", network.world.now))
    made.run(1)
    assert in_use(made.terminal) == [10010]
    made.speak()
    made.run(0.5)
    assert made.at_program[-1] == 2


def test_translation_with_route_optimization() -> None:
    network = Optimized()
    made = call(network=network)
    network.plug(network.a)
    made.run(2)
    made.talk(6)
    made.run(2)
    assert in_use(made.terminal) == [10010, 10011]
    assert network.is_direct()
    network.move(network.b)
    made.run(5)
    assert network.is_direct()
    assert made.sent == 300
    assert len(set(made.at_correspondent)) == len(made.at_correspondent) >= 298
    assert len(set(made.at_program)) == len(made.at_program) >= 296


def test_packets_before_the_first_acknowledgement_wait_for_it() -> None:
    made = call()
    network = made.network
    network.plug(network.a)
    made.speak()
    made.run(0.9)
    assert made.at_correspondent == [0]


def test_packets_do_not_wait_for_ever() -> None:
    made = call()
    made.speak()
    made.run(PATIENCE + 0.1)
    station = made.network.world.stations["mn"]
    assert [discard.reason for _, discard in station.discards] == [Reason.HANDOVER_QUEUE]


def test_without_a_binding_for_its_lifetime_the_row_goes() -> None:
    made = call()
    network = made.network
    network.plug(network.a)
    made.run(2)
    network.world.detach("mn", "wlan0")
    made.run(430)
    assert not made.terminal.translation.active
    assert [event.why for _, event in network.world.stations["mn"].events_of(RowRemoved)] == ["expired"]
    network.plug(network.b)
    made.run(2)
    assert made.terminal.translation.active


def test_programs_of_both_versions_side_by_side() -> None:
    made = call()
    network = made.network
    network.plug(network.a)
    made.run(2)
    station = network.world.stations["mn"]
    station.send(udp.packet(MN.packed + CN.packed, (7000, 4000), b"in IPv6"))
    made.speak()
    network.world.run(network.world.now + 0.2)
    network.world.stations["cn"].send(udp.packet(CN.packed + MN.packed, (4000, 7000), b"in IPv6"))
    network.world.run(network.world.now + 0.2)
    versions = sorted(packet[0] >> 4 for _, packet in station.delivered)
    assert versions == [4, 6]


def test_interface_19_leaves_room_for_the_larger_header() -> None:
    made = call()
    network = made.network
    network.plug(network.a)
    made.run(2)
    terminal = made.terminal
    assert terminal.host_mtu == terminal.terminal.host_mtu - 20
    fits = terminal.host_mtu
    packet = IP(src=str(HERE), dst=str(made.peer), flags="DF") / UDP(sport=1, dport=4000) / Raw(bytes(fits - 28))
    outputs = terminal.from_host(bytes(packet), network.world.now)
    assert not [output for output in outputs if isinstance(output, Discarded)]
    larger = IP(src=str(HERE), dst=str(made.peer), flags="DF") / UDP(sport=1, dport=4000) / Raw(bytes(fits - 27))
    outputs = terminal.from_host(bytes(larger), network.world.now)
    assert [output.reason for output in outputs if isinstance(output, Discarded)] == [Reason.TOO_BIG]


def test_the_snapshot_shows_terminal_and_table() -> None:
    made = call()
    made.network.plug(made.network.home)
    made.run(5)
    shown = made.terminal.snapshot(made.network.world.now)
    assert shown["role"] == "terminal"
    translation = shown["translation"]
    assert isinstance(translation, dict)
    assert translation["active"] is True  # at home, where nothing is acknowledged
    assert translation["table"]["rows"][-1]["lifetime"] is None
