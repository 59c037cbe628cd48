"""AH, and AH around ESP, on binding updates and acknowledgements in the whole network (Figs. 14, 19, 20)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address
from random import Random

import pytest

from mobility.agent import HomeAgentNode
from mobility.discards import Reason
from mobility.ipsec.ah import InboundAH, OutboundAH
from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA, OutboundSA
from mobility.mipv6.home_agent import AuthorisedTerminal
from mobility.mipv6.registration import Bound
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm
from mobility.terminal import Terminal
from mobility.wire import ip6
from tests.mobility.whole import HA, MN, Network, Pair

HMAC = Algorithm.HMAC_SHA2_256_128
SENDER = bytes.fromhex("020000110002")


def signed(
    spi: int, out: OutboundSA | OutboundAH | None, inbound: InboundSA | InboundAH | None
) -> tuple[OutboundAH, InboundAH]:
    """The two ends of AH around those of ESP."""
    keys = Keys(b"", Random(spi).randbytes(32))
    esp_out, esp_in = (out, inbound) if isinstance(out, OutboundSA) and isinstance(inbound, InboundSA) else (None, None)
    return OutboundAH(spi, HMAC, keys, inside=esp_out), InboundAH(spi, HMAC, keys, inside=esp_in)


class Authenticated(Network):
    """``esp``: inside AH as well."""

    def __init__(self, form: TunnelForm = TunnelForm.ESP, *, esp: bool = False, seed: int = 1) -> None:
        self.esp = esp
        super().__init__(form, signalling=esp, seed=seed)
        settings = self.agent.settings
        terminals = (AuthorisedTerminal(MN, form, self.pair.agent),)
        self.agent = HomeAgentNode(
            replace(settings, home_agent=replace(settings.home_agent, terminals=terminals)),
            self.world.random_bytes("ha"),
        )
        self.world.remove("ha")
        self.world.add("ha", self.agent)

    def _terminal(
        self, home_address: IPv6Address, mac: bytes, application: IpsecProcessing, associations: MobileAssociations
    ) -> Terminal:
        ours, theirs = associations, self.pair.agent
        up_out, up_in = signed(0x8001, ours.signalling_out, theirs.signalling_in)
        down_out, down_in = signed(0x8002, theirs.signalling_out, ours.signalling_in)
        self.pair = Pair(
            replace(ours, signalling_out=up_out, signalling_in=down_in),
            replace(theirs, signalling_out=down_out, signalling_in=up_in),
        )
        return super()._terminal(home_address, mac, application, self.pair.terminal)

    def signalling(self) -> list[bytes]:
        """Packets under AH on the first visited link."""
        return [frame.packet for frame in self.a.frames if ip6.walk(frame.packet).protocol == ip6.AH]

    def bound(self) -> int:
        return len(self.world.stations["mn"].events_of(Bound))


def started(form: TunnelForm = TunnelForm.ESP, *, esp: bool = False, seed: int = 1) -> Authenticated:
    network = Authenticated(form, esp=esp, seed=seed)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    return network


every_form = pytest.mark.parametrize("form", list(TunnelForm))
either = pytest.mark.parametrize("esp", [False, True], ids=["ah", "ah+esp"])


@every_form
@either
def test_a_call_goes_on_while_the_terminal_moves(form: TunnelForm, esp: bool) -> None:
    network = started(form, esp=esp)
    assert network.bound() == 1
    update, acknowledgement = network.signalling()
    # Fig. 19: AH and then the message, which everybody can read; Fig. 20: AH, then ESP.
    assert [packet[64] for packet in (update, acknowledgement)] == [ip6.ESP if esp else ip6.MOBILITY] * 2
    network.talk(4)
    network.run(1)
    network.move(network.b)
    network.run(1)
    network.move(network.home)
    network.run(4)
    assert network.bound() >= 2
    assert not network.agent.bindings(0.0)  # at home again: taken away by an update under AH as well
    assert max(network.to_mn.received) > 190
    assert max(network.to_cn.received) > 190
    inbound = network.pair.agent.signalling_in
    assert isinstance(inbound, InboundAH)
    assert (inbound.failed, inbound.replayed) == (0, 0)
    assert inbound.packets >= 3


@either
def test_in_datagrams(esp: bool) -> None:
    network = Authenticated(esp=esp)
    network.start_agent()
    network.join(network.hotspot)
    network.run(2)
    assert network.bound() == 1
    network.talk(1)
    network.run(2)
    assert not network.to_mn.lost()
    assert not network.to_cn.lost()


@either
def test_an_acknowledgement_that_somebody_changed_or_sent_again(esp: bool) -> None:
    network = started(esp=esp)
    acknowledgement = network.signalling()[1]
    station = network.world.stations["mn"]
    before = network.terminal.mobile_node.snapshot(network.world.now)
    station.discards.clear()
    station.carry_out(network.terminal.from_link("wlan0", acknowledgement, SENDER, network.world.now))
    assert network.discards("mn") == {Reason.REPLAYED.value: 1}
    station.discards.clear()
    dice = Random(19)
    fresh = acknowledgement[:72] + (0x7F00).to_bytes(4) + acknowledgement[76:]  # a number that is new
    for at in range(40, len(fresh)):
        changed = bytearray(fresh)
        changed[at] ^= 1 << dice.randrange(8)
        station.carry_out(network.terminal.from_link("wlan0", bytes(changed), SENDER, network.world.now))
    assert sum(network.discards("mn").values()) == len(fresh) - 40
    assert network.discards("mn")[Reason.AUTHENTICATION_FAILED.value] > len(fresh) - 96
    assert network.terminal.mobile_node.snapshot(network.world.now) == before
    assert network.bound() == 1
    network.talk(1)
    network.run(1.5)
    assert not network.to_mn.lost()


@either
def test_an_update_that_somebody_changed_or_sent_again_or_from_elsewhere(esp: bool) -> None:
    network = started(esp=esp)
    update = network.signalling()[0]
    station, agent = network.world.stations["ha"], network.agent
    before = agent.bindings(0.0)
    station.discards.clear()
    station.carry_out(agent.from_link("home0", update, SENDER, network.world.now))
    assert network.discards("ha") == {Reason.REPLAYED.value: 1}
    station.discards.clear()
    # The care-of address is covered, though it is outside: a NAT or an enemy cannot exchange it.
    new = update[:72] + (0x7F00).to_bytes(4) + update[76:]
    elsewhere = new[:8] + IPv6Address("2001:db8:b::bad").packed + new[24:]
    station.carry_out(agent.from_link("home0", elsewhere, SENDER, network.world.now))
    station.carry_out(agent.from_link("home0", new, SENDER, network.world.now))
    assert network.discards("ha") == {Reason.AUTHENTICATION_FAILED.value: 2}
    station.discards.clear()
    for size in range(64, len(update)):
        short = update[:4] + (size - 40).to_bytes(2) + update[6:size]
        station.carry_out(agent.from_link("home0", short, SENDER, network.world.now))
    assert sum(network.discards("ha").values()) == len(update) - 64
    assert agent.bindings(0.0) == before


@either
def test_messages_without_ah(esp: bool) -> None:
    network = started(esp=esp)
    update, acknowledgement = network.signalling()
    without = {"ha": update, "mn": acknowledgement}
    for name, node in (("ha", network.agent), ("mn", network.terminal)):
        station = network.world.stations[name]
        packet = without[name]
        bare = bytearray(packet[:64] + packet[96:])
        bare[4:6] = (len(bare) - 40).to_bytes(2)
        bare[40] = packet[64]
        station.discards.clear()
        link = "home0" if name == "ha" else "wlan0"
        station.carry_out(node.from_link(link, bytes(bare), SENDER, network.world.now))
        if esp:  # to the terminal it is some ESP with a routing header, which never is a tunnel's
            wanted = {Reason.POLICY_VIOLATED.value} if name == "ha" else {Reason.NOT_TUNNELLED.value}
        else:
            wanted = {Reason.NOT_PROTECTED.value}
        assert set(network.discards(name)) == wanted


def test_ah_from_strangers_is_no_signalling() -> None:
    network = started()
    care_of = network.terminal.mobile_node.present
    assert care_of is not None
    station = network.world.stations["mn"]
    for source in (HA, IPv6Address("2001:db8:c::bad")):
        station.discards.clear()
        stray = ip6.packet(source, care_of.address, ip6.AH, bytes(64))
        station.carry_out(network.terminal.from_link("wlan0", stray, SENDER, network.world.now))
        wanted = Reason.SA_UNKNOWN if source == HA else Reason.OUTER_SOURCE_WRONG
        assert network.discards("mn") == {wanted.value: 1}
    cut = ip6.packet(HA, care_of.address, ip6.DEST_OPTIONS, b"\x33\x09")
    station.discards.clear()
    station.carry_out(network.terminal.from_link("wlan0", cut, SENDER, network.world.now))
    assert len(network.discards("mn")) == 1


def test_bad_network() -> None:
    network = Authenticated(esp=True, seed=7)
    for segment in (network.core, network.a, network.b):
        segment.loss, segment.duplication, segment.reordering, segment.jitter = 0.01, 0.02, 0.03, 0.004
    network.start_agent()
    network.plug(network.a)
    network.run(4)
    network.talk(20)
    for place in (network.b, network.a, network.b, network.a):
        network.run(4)
        network.move(place)
    network.run(6)
    assert network.bound() >= 4
    assert len(network.to_mn.lost()) < 100
    assert len(network.to_cn.lost()) < 100
    assert Reason.AUTHENTICATION_FAILED.value not in network.discards("ha") | network.discards("mn")
