"""Mobile routers whose keys are negotiated: their networks are in the traffic selectors, and nobody inside notices."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from mobility.assembly import build
from mobility.config import Configuration, parse
from mobility.ipsec.ike.authentication import SharedKey
from mobility.ipsec.ike.events import ChildUp, IkeUp
from mobility.ipsec.ike.traffic import TrafficSelector
from mobility.key_source import KeySource
from mobility.mipv6.registration import BindingRefused
from mobility.mipv6.tunnel import TunnelForm
from mobility.mobile_router import MobileRouter, NetworkClosed
from mobility.net.netlink import LinkState
from mobility.sequences import SequenceFile
from tests.mobility.nemo.train import CARRIAGE, MR1, TRAIN, Train, ride_behind_a_nat
from tests.mobility.whole import CN

TOKEN = bytes(range(32))
SECRET = SharedKey(TOKEN)
KEYS = KeySource(SECRET, SECRET)
OTHER = IPv6Network("2001:db8:9:3::/64")


def tunnels(train: Train, name: str) -> list[ChildUp]:
    return [event for _, event in train.world.stations[name].events_of(ChildUp) if event.child.name == "tunnel"]


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("form", TunnelForm)
def test_a_train_in_a_train(form: TunnelForm, explicit: bool) -> None:
    train = Train(form, explicit=explicit, keys=KEYS)
    train.whole()
    train.talk(1.0)
    train.ping(CN)
    train.run(2.0)
    assert (train.to_mn.lost(), train.to_cn.lost()) == ([], [])
    assert len(train.passenger.replies) == 1
    assert train.seat in CARRIAGE
    for name, network in (("mr1", TRAIN), ("mr2", CARRIAGE)):
        assert len(train.world.stations[name].events_of(IkeUp)) == 1
        for tunnel in tunnels(train, name):
            assert TrafficSelector.of(network) in tunnel.child.local
    assert all(TrafficSelector.of(TRAIN) not in each.child.local for each in tunnels(train, "mn"))


def test_its_keys_change_and_it_moves_while_somebody_talks_inside() -> None:
    train = Train(keys=replace(KEYS, lifetime=10.0))
    train.whole()
    train.talk(30.0)
    train.run(5.0)
    train.world.move("mr1", "wlan0", train.b, gap=0.0)
    train.run(27.0)
    assert (train.to_mn.lost(), train.to_cn.lost()) == ([], [])
    assert (train.to_mn.repeated, train.to_cn.repeated) == (0, 0)
    for name in ("mr1", "mr2", "mn"):
        assert len(train.world.stations[name].events_of(IkeUp)) == 1
        assert len(tunnels(train, name)) >= 3
    assert train.world.stations["mr1"].events_of(NetworkClosed) == []


def test_behind_a_nat() -> None:
    ride_behind_a_nat(Train(keys=KEYS))


def test_a_network_that_the_home_agent_does_not_allow_is_in_no_selector() -> None:
    train = Train(explicit=True, keys=KEYS)
    known = train.agent.settings.home_agent.terminals
    train.agent.reconfigure(
        [replace(each, mobile_networks=(OTHER,)) if each.home_address == MR1 else each for each in known],
        train.world.now,
    )
    train.start_agent()
    train.couple("mr1", train.a)
    train.run(2.0)
    (tunnel,) = tunnels(train, "mr1")
    assert TrafficSelector.of(TRAIN) not in tunnel.child.local
    (refused,) = [event for _, event in train.world.stations["mr1"].events_of(BindingRefused)]
    assert refused.status == "not-authorized-for-prefix"


def test_other_networks_are_agreed_on_when_the_home_agent_reads_its_configuration_anew() -> None:
    train = Train(keys=KEYS)
    train.with_passenger()
    known = train.agent.settings.home_agent.terminals
    more = [replace(each, mobile_networks=(TRAIN, OTHER)) if each.home_address == MR1 else each for each in known]
    train.world.stations["ha"].carry_out(train.agent.reconfigure(more, train.world.now))
    train.run(5.0)
    assert len(train.world.stations["mr1"].events_of(IkeUp)) == 2
    train.ping(CN)
    train.run(1.0)
    assert len(train.passenger.replies) == 1


@pytest.mark.parametrize("restored", [False, True])
def test_a_home_agent_that_was_restarted(restored: bool) -> None:
    """Whose packets are inside whose is unknown to it until it has keys with the outermost again."""
    train = Train(keys=KEYS)
    train.whole()
    train.talk(15.0)
    train.run(1.0)
    train.restart_agent(gap=0.2, restored=restored)
    began = train.world.now
    train.run(16.0)
    late = [train.to_mn.sent[number] for number in train.to_mn.lost()]
    late += [train.to_cn.sent[number] for number in train.to_cn.lost()]
    assert max(late) < began + 5.0
    for name in ("mr1", "mr2", "mn"):
        assert len(train.world.stations[name].events_of(IkeUp)) == 2


CONFIGURATION = f"""
[node]
role = "router"
[mobile_node]
home_address = "{MR1}/64"
home_agent = "2001:db8:1::a"
interfaces = ["wlan0"]
access = "native"
[mobile_router]
mode = "explicit"
[[mobile_router.network]]
prefix = "{TRAIN}"
interface = "lan0"
[[ike]]
token = "{TOKEN.hex()}"
"""


def test_a_router_with_a_token(tmp_path: Path) -> None:
    configuration: Configuration = replace(parse(CONFIGURATION, Path("router.toml")), state=tmp_path)
    links = {name: LinkState(1, name, bytes(6), 1500, up=True, ethernet=True) for name in ("wlan0", "lan0")}
    sequences = SequenceFile(tmp_path / "sequences")
    router = build(configuration, links, sequences)
    sequences.close()
    assert isinstance(router, MobileRouter)
    ike, of_calls = router.negotiations()
    assert not of_calls.peers
    (peer,) = ike.peers.values()
    assert TrafficSelector.of(TRAIN) in peer.children[-1].local
    assert peer.children[-1].local[0] == TrafficSelector.of(IPv6Network(MR1))
