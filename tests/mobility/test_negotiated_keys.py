"""Terminal and home agent negotiate their keys, in the whole network: nobody types any, and nobody notices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mobility.commands.view import negotiated
from mobility.home_metrics import HomeMetrics
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.ike.authentication import SharedKey
from mobility.ipsec.ike.events import ChildUp, IkeDown, IkeFailed, IkeRekeyed, IkeUp, PeerForgot, PeerMoved
from mobility.ipsec.ike.tasks import DeleteChild
from mobility.key_source import KeySource
from mobility.mipv6.movement import CareOfAddressChanged
from mobility.mipv6.registration import Bound, ReturnedHome
from mobility.mipv6.tunnel import TunnelForm
from mobility.negotiated import no_keys
from mobility.net.data_plane import DataPlane
from mobility.net.loop import Loop
from mobility.terminal_keys import KeysReady
from mobility.trace import Trace
from mobility.wire import udp
from tests.mobility.nemo.train import Train
from tests.mobility.whole import HA, Network

SECRET = SharedKey(bytes(range(32)))
KEYS = KeySource(SECRET, SECRET)


def test_a_terminal_registers_with_keys_that_nobody_typed() -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    mn = network.world.stations["mn"]
    assert len(mn.events_of(KeysReady)) == 1
    assert len(mn.events_of(Bound)) == 1
    begun = mn.events_of(CareOfAddressChanged)[0][0]
    assert mn.events_of(Bound)[0][0] - begun < 0.2  # four round trips of IKE and registration, and the hash of cookies
    assert "AES_GCM_16-256" in mn.events_of(IkeUp)[0][1].suite
    assert "ML_KEM_768" in mn.events_of(IkeUp)[0][1].suite
    network.talk(2.0)
    network.run(3.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.terminal.snapshot(0.0)["ike"]
    assert network.agent.snapshot(0.0)["ike"]


@pytest.mark.parametrize("form", [TunnelForm.ESP_MOBILE, TunnelForm.PLAIN])
@pytest.mark.parametrize("algorithm", [Algorithm.CHACHA20_POLY1305, Algorithm.AES_CBC_HMAC_SHA2_256_128])
def test_other_forms_and_algorithms(form: TunnelForm, algorithm: Algorithm) -> None:
    network = Network(form, keys=replace(KEYS, algorithm=algorithm))
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    network.talk(1.0)
    network.run(2.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    names = [event.child.name for _, event in network.world.stations["ha"].events_of(ChildUp)]
    assert names == ["signalling", "home-test" if form is TunnelForm.PLAIN else "tunnel"]


@pytest.mark.parametrize("gap", [0.0, 0.5])
def test_a_handover_negotiates_nothing_and_loses_nothing(gap: float) -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    network.talk(9.0)
    network.run(2.0)
    network.move(network.b, gap=gap)
    network.run(3.0)
    network.move(network.a, gap=gap)
    network.run(6.0)
    mn, ha = network.world.stations["mn"], network.world.stations["ha"]
    assert len(mn.events_of(IkeUp)) == len(ha.events_of(IkeUp)) == 1
    assert len(mn.events_of(ChildUp)) == 2
    assert len(ha.events_of(PeerMoved)) == 2  # by the K bit, before any message of IKE
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.to_mn.repeated == network.to_cn.repeated == 0


def test_through_nat_and_back_without_negotiating() -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    network.join(network.hotspot)
    network.run(3.0)
    mn = network.world.stations["mn"]
    assert mn.events_of(Bound)
    network.talk(10.0)
    network.run(2.0)
    network.plug(network.a)
    network.run(3.0)
    network.part(network.hotspot)
    network.run(2.0)
    network.join(network.cafe)
    network.run(5.0)
    assert len(mn.events_of(IkeUp)) == 1
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])


@pytest.mark.parametrize("version", [4, 6])
def test_where_only_datagrams_carry(version: int) -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    network.join(network.hotspot if version == 4 else network.cafe)
    network.run(3.0)
    network.talk(2.0)
    network.run(3.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert not network.discards("mn").get("malformed")


def test_keys_are_renewed_in_mid_call_and_nothing_is_lost() -> None:
    network = Network(keys=replace(KEYS, lifetime=10.0))
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    network.talk(60.0)
    network.run(30.0)
    network.move(network.b)
    network.run(33.0)
    mn, ha = network.world.stations["mn"], network.world.stations["ha"]
    assert len(mn.events_of(ChildUp)) >= 12
    assert len(mn.events_of(IkeRekeyed)) >= 1
    assert len(mn.events_of(IkeUp)) == 1
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.to_mn.repeated == network.to_cn.repeated == 0
    assert len(ha.events_of(ChildUp)) == len(mn.events_of(ChildUp))
    known = network.pair.terminal.tunnel_in
    assert known is not None
    assert len(known.spis) <= 2


@pytest.mark.parametrize("when", [0.0, 0.005, 0.02, 0.1, 0.5])
def test_a_handover_just_after_a_rekey(when: float) -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    network.talk(6.0)
    network.run(2.0)
    keys = network.terminal.parts.keys
    assert keys is not None
    network.world.stations["mn"].carry_out(keys.rekey(network.world.now))
    network.run(when)
    network.move(network.b, gap=0.3)
    network.run(8.0)
    mn = network.world.stations["mn"]
    assert len(mn.events_of(ChildUp)) == 4
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert network.to_mn.repeated == network.to_cn.repeated == 0


def test_a_home_agent_that_was_restarted_has_no_keys_and_gets_new_ones() -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    network.restart_agent(restored=True)
    network.talk(20.0)
    network.run(21.0)
    mn = network.world.stations["mn"]
    assert mn.events_of(PeerForgot)
    assert len(mn.events_of(IkeUp)) == 2
    assert mn.events_of(IkeDown)
    # One second of it is for the address of the home agent (duplicate address detection).
    assert [number for number in network.to_cn.lost() + network.to_mn.lost() if number > 75] == []


@pytest.mark.parametrize("restored", [False, True])
def test_a_home_agent_that_was_restarted_in_mid_call_is_noticed_at_once(restored: bool) -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    network.talk(8.0)
    network.run(2.0)
    network.restart_agent(gap=0.2, restored=restored)
    began = network.world.now
    network.run(8.0)
    late = [network.to_mn.sent[number] for number in network.to_mn.lost()]
    late += [network.to_cn.sent[number] for number in network.to_cn.lost()]
    assert max(late) < began + 1.6
    for node in (network.terminal, network.agent):
        assert node.snapshot(network.world.now)["ike_failures"] == []
    assert len(network.world.stations["mn"].events_of(IkeUp)) == 2


@pytest.mark.parametrize("native", [True, False])
def test_a_home_agent_that_was_restarted_calls_terminals_that_are_silent(native: bool) -> None:
    """Its bindings were kept, so packets for the terminal come; it must not wait until the terminal notices."""
    network = Network(keys=KEYS)
    network.start_agent()
    if native:
        network.plug(network.a)
    else:
        network.join(network.hotspot)
    network.run(3.0)
    network.restart_agent(gap=0.2, restored=True)
    network.run(2.0)
    network.talk(1.0)
    network.run(2.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert len(network.world.stations["mn"].events_of(IkeUp)) == 2


def test_who_only_says_that_the_keys_are_gone_costs_a_question() -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    present = network.terminal.mobile_node.present
    assert present is not None
    forged = no_keys(network.world.random_bytes("somebody"))
    packet = udp.packet(HA.packed + present.address.packed, (500, 500), forged)
    mn = network.world.stations["mn"]
    for _ in range(50):
        mn.carry_out(network.terminal.arrived(packet, "wlan0", network.world.now))
        network.run(0.01)
    network.run(1.0)
    assert len(mn.events_of(IkeUp)) == 1
    assert not mn.events_of(PeerForgot)
    network.talk(1.0)
    network.run(2.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])


def test_a_terminal_that_was_restarted_takes_the_place_of_its_former_self() -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    network.restart_terminal()
    network.plug(network.a)
    network.run(3.0)
    ha = network.world.stations["ha"]
    assert "INITIAL_CONTACT" in ha.events_of(IkeDown)[0][1].reason
    network.talk(1.0)
    network.run(2.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])


def test_a_wrong_secret_is_told_at_both_ends_and_tried_again_slowly() -> None:
    network = Network(keys=KEYS)
    wrong = SharedKey(bytes(32))
    network.keys = KeySource(wrong, wrong)
    network.restart_terminal()
    network.start_agent()
    network.plug(network.a)
    network.run(300.0)
    mn, ha = network.world.stations["mn"], network.world.stations["ha"]
    assert "another pre-shared key" in ha.events_of(IkeFailed)[0][1].reason
    assert "AUTHENTICATION_FAILED" in mn.events_of(IkeFailed)[0][1].reason
    assert 5 <= len(mn.events_of(IkeFailed)) <= 15
    assert not mn.events_of(Bound)
    for node in (network.terminal, network.agent):
        shown = "\n".join(negotiated({"node": node.snapshot(network.world.now)}))
        assert "no keys with" in shown
        assert "another" in shown
    network.keys = KEYS
    network.restart_terminal()
    network.plug(network.a)
    network.run(3.0)
    for node in (network.terminal, network.agent):
        shown = "\n".join(negotiated({"node": node.snapshot(network.world.now)}))
        assert "no keys with" not in shown
        assert "new ones in" in shown


def test_at_home_abroad_and_back() -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    network.plug(network.home)
    network.run(8.0)
    assert network.terminal.forwarding.at_home
    network.talk(12.0)
    network.run(2.0)
    network.move(network.a)
    network.run(4.0)
    network.move(network.home)
    network.run(8.0)
    mn, ha = network.world.stations["mn"], network.world.stations["ha"]
    assert network.terminal.forwarding.at_home
    assert len(mn.events_of(ReturnedHome)) == 2
    assert len(mn.events_of(IkeUp)) == 1
    assert len(network.to_mn.lost()) + len(network.to_cn.lost()) <= 2
    keys = network.terminal.parts.keys
    assert keys is not None
    before = len(ha.events_of(ChildUp))
    mn.carry_out(keys.rekey(network.world.now))
    network.run(1.0)
    assert len(ha.events_of(ChildUp)) == before + 2


def test_a_nat_that_forgets_in_mid_call_and_keys_that_are_renewed_behind_it() -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    network.join(network.hotspot)
    network.run(3.0)
    network.talk(6.0)
    keys = network.terminal.parts.keys
    assert keys is not None
    mn = network.world.stations["mn"]
    for _ in range(2):
        network.run(1.0)
        network.hotspot.rebind()
        network.run(0.5)
        mn.carry_out(keys.rekey(network.world.now))
    network.run(5.0)
    assert network.to_cn.lost() == []
    assert len(network.to_mn.lost()) <= 4
    assert len(mn.events_of(IkeUp)) == 1
    assert len(mn.events_of(ChildUp)) == 6


def test_a_nat_that_forgets_in_the_middle_of_a_rekey() -> None:
    """What the home agent answers goes where the mapping was; the question is repeated from where it is now."""
    network = Network(keys=KEYS)
    network.start_agent()
    network.join(network.hotspot)
    network.run(3.0)
    keys = network.terminal.parts.keys
    assert keys is not None
    mn = network.world.stations["mn"]
    mn.carry_out(keys.rekey(network.world.now))
    network.run(0.005)
    network.hotspot.rebind()
    network.run(5.0)
    assert len(mn.events_of(ChildUp)) == 4
    network.talk(1.0)
    network.run(2.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert len(mn.events_of(IkeUp)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_rekeys_under_loss_cost_nothing_more(seed: int) -> None:
    """The core, which speech passes twice, loses 15 %: the keys change, and all that arrives is opened."""
    network = Network(keys=replace(KEYS, lifetime=60.0), seed=seed)
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    network.core.loss = 0.15
    network.talk(230.0, 0.05)
    network.run(232.0)
    mn = network.world.stations["mn"]
    assert len(mn.events_of(ChildUp)) >= 8
    assert len(mn.events_of(IkeUp)) == 1
    for traffic in (network.to_mn, network.to_cn):
        assert len(traffic.received) > 0.67 * len(traffic.sent)
    for name in ("mn", "ha"):
        assert not network.discards(name).get("sa-unknown")
        assert not network.discards(name).get("authentication-failed")


def test_keys_that_the_other_end_takes_away_are_asked_for_again() -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    mn, ha = network.world.stations["mn"], network.world.stations["ha"]
    (theirs,) = network.agent.keys.ike.secrets()
    for child in list(theirs.children.values()):
        theirs.enqueue(DeleteChild(child, "no reason"), network.world.now)
    ha.carry_out(network.agent.handle_timer(network.world.now))
    network.run(1.0)
    assert len(mn.events_of(ChildUp)) == 4
    network.talk(1.0)
    network.run(2.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert len(mn.events_of(IkeUp)) == 1


@pytest.mark.parametrize(("hours", "agreed"), [(0.5, 1), (10.0, 2)])
def test_out_of_reach_for_hours(hours: float, agreed: int) -> None:
    """Keys wait for their owner as long as they last; then others are negotiated."""
    network = Network(keys=KEYS)
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    network.world.detach("mn", "wlan0")
    network.run(hours * 3600)
    network.plug(network.b)
    network.run(1.0)
    network.talk(1.0)
    network.run(2.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    assert len(network.world.stations["mn"].events_of(IkeUp)) == agreed


def test_in_a_train_in_a_train() -> None:
    network = Train(keys=KEYS)
    network.whole()
    network.run(2.0)
    network.talk(6.0)
    network.run(2.0)
    network.couple("mr1", network.b, "wlan1")
    network.run(2.0)
    network.world.detach("mr1", "wlan0")
    network.run(4.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
    for name in ("mn", "mr1", "mr2"):
        assert len(network.world.stations[name].events_of(IkeUp)) == 1


def test_what_operators_see() -> None:
    network = Network(keys=KEYS)
    network.start_agent()
    metrics = HomeMetrics(network.agent, DataPlane(Loop(), network.agent, {}, Trace()), None, lambda: 0)
    network.plug(network.a)
    network.run(3.0)
    keys = network.terminal.parts.keys
    assert keys is not None
    network.world.stations["mn"].carry_out(keys.rekey(network.world.now))
    network.run(1.0)
    for _, event in network.world.stations["ha"].events:
        metrics.happened(event)
    text = metrics.text(network.agent.settings.home_agent.terminals)
    assert 'roamphone_ha_ike_sas{state="established"} 1\n' in text
    assert 'roamphone_ha_ike_negotiations_total{result="established"} 1\n' in text
    assert 'roamphone_ha_ike_negotiations_total{result="child-rekeyed"} 2\n' in text
    assert 'roamphone_ha_ike_negotiations_total{result="failed"} 0\n' in text


@pytest.mark.parametrize("seed", range(4))
def test_under_loss(seed: int) -> None:
    network = Network(keys=KEYS, seed=seed)
    network.start_agent()
    network.core.loss = 0.3
    network.plug(network.a)
    network.run(60.0)
    assert network.world.stations["mn"].events_of(KeysReady)
    network.core.loss = 0.0
    network.run(20.0)
    network.talk(1.0)
    network.run(2.0)
    assert (network.to_mn.lost(), network.to_cn.lost()) == ([], [])
