"""Two endpoints complete every exchange, over a network that is not kind to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mobility.discards import Reason
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.association import Mode
from mobility.ipsec.ike.events import (
    ChildDown,
    ChildFailed,
    ChildSwitched,
    ChildUp,
    IkeDown,
    IkeFailed,
    IkeRekeyed,
    IkeUp,
    Send,
)
from mobility.ipsec.ike.numbers import Group
from mobility.ipsec.ike.proposals import esp_offer, ike_offer
from mobility.ipsec.ike.settings import Settings
from mobility.outputs import Discarded
from tests.mobility.ipsec.ike.world import SIGNALLING, TUNNEL, World, peers


def test_two_round_trips_make_an_ike_sa_and_a_child_sa() -> None:
    world = World()
    world.begin()
    world.run(1.0)
    assert world.established()
    assert len(world.wire) == 4
    (up,) = world.phone.of(ChildUp)
    assert up.child.algorithm is Algorithm.AES_GCM_16
    assert up.child.mode is Mode.TUNNEL
    assert world.agent.of(IkeUp)[0].suite == "AES_GCM_16-256/HMAC_SHA2_256/X25519"
    world.passes()


@pytest.mark.parametrize("group", [Group.X25519, Group.P256, Group.MODP2048])
@pytest.mark.parametrize("aead", [True, False])
def test_every_group_and_both_kinds_of_encryption(group: Group, aead: bool) -> None:
    world = World(settings=Settings(proposals=ike_offer((group,), aead=aead, cbc=not aead)))
    phone, _ = world.known
    world.phone.ike.peers["agent"] = replace(phone, proposals=ike_offer((group,), aead=aead, cbc=not aead))
    world.begin()
    world.run(1.0)
    assert group.name in world.phone.of(IkeUp)[0].suite
    assert ("AES_GCM" if aead else "AES_CBC") in world.phone.of(IkeUp)[0].suite
    world.carry("phone", world.phone.ike.rekey("agent", world.now))
    world.run(1.0)
    assert world.agent.of(IkeRekeyed)
    world.passes()


@pytest.mark.parametrize("algorithm", [each for each in Algorithm if not each.is_for_ah])
@pytest.mark.parametrize("group", [Group.NONE, Group.P256])
def test_every_algorithm_of_esp_also_after_a_rekey(algorithm: Algorithm, group: Group) -> None:
    groups = () if group is Group.NONE else (group,)
    world = World(replace(TUNNEL, proposals=esp_offer((algorithm,), groups)))
    world.begin()
    world.run(1.0)
    world.passes()
    world.carry("phone", world.phone.ike.rekey("agent", world.now, children=True))
    world.run(10.0)
    assert [up.child.algorithm for up in world.phone.of(ChildUp)] == [algorithm, algorithm]
    assert len(world.phone.inbound) == len(world.agent.inbound) == 1
    world.passes()


@pytest.mark.parametrize("seed", range(4))
def test_hybrid_key_exchange(seed: int) -> None:
    offer = ike_offer(hybrid=True)
    world = World(seed=seed, loss=0.3 if seed else 0.0, settings=Settings(proposals=offer))
    world.phone.ike.peers["agent"] = replace(world.known[0], proposals=offer)
    world.begin()
    world.run(60.0)
    assert world.phone.of(IkeUp)[0].suite == "AES_GCM_16-256/HMAC_SHA2_256/X25519/ML_KEM_768"
    assert max(len(send.data) for send in world.wire) <= 1232
    world.passes()


def test_hybrid_is_left_out_where_the_other_end_has_none() -> None:
    world = World()
    world.phone.ike.peers["agent"] = replace(world.known[0], proposals=ike_offer(hybrid=True))
    world.begin()
    world.run(1.0)
    assert world.phone.of(IkeUp)[0].suite == "AES_GCM_16-256/HMAC_SHA2_256/X25519"


def test_several_child_sas_each_in_its_mode() -> None:
    world = World(TUNNEL, SIGNALLING, replace(SIGNALLING, name="later", on_demand=True))
    world.begin()
    world.run(1.0)
    assert [up.child.name for up in world.agent.of(ChildUp)] == ["tunnel", "signalling"]
    assert world.agent.of(ChildUp)[1].child.mode is Mode.TRANSPORT
    world.passes("tunnel")
    world.passes("signalling")


def test_a_child_sa_on_demand_and_one_that_could_not_be_rekeyed() -> None:
    later = replace(SIGNALLING, name="later", on_demand=True)
    world = World(replace(TUNNEL, lifetime=100.0), later)
    world.begin()
    world.run(1.0)
    world.carry("phone", world.phone.ike.create_child("agent", "later", world.now))
    world.run(1.0)
    world.passes("later")
    # The home agent refuses the rekey, for its settings are others for a while.
    agreed = world.agent.ike.status()
    assert len(agreed) == 1
    (sa,) = world.agent.ike.secrets()
    kept = next(child.settings for child in sa.children.values() if child.settings.name == "tunnel")
    for child in sa.children.values():
        if child.settings is kept:
            child.settings = replace(kept, proposals=esp_offer((Algorithm.CHACHA20_POLY1305,)))
            child.rekey_at = None
    wanted = replace(TUNNEL, proposals=esp_offer((Algorithm.AES_GCM_16,)), lifetime=100.0)
    for mine in world.phone.ike.secrets()[0].children.values():
        if mine.settings.name == "tunnel":
            mine.settings = wanted
    world.run(97.0)
    assert "AES_GCM_16" in world.phone.of(ChildFailed)[0].reason
    world.run(10.0)
    assert [up.child.name for up in world.phone.of(ChildUp)] == ["tunnel", "later", "tunnel"]
    world.passes("tunnel")
    with pytest.raises(KeyError):
        world.phone.ike.create_child("agent", "nothing", world.now)


def test_another_group_than_the_first_one_is_asked_for() -> None:
    world = World(agent_settings=Settings(proposals=ike_offer((Group.P256,))))
    world.begin()
    world.run(1.0)
    assert "P256" in world.phone.of(IkeUp)[0].suite
    world.passes()


@pytest.mark.parametrize("seed", range(12))
def test_all_exchanges_under_loss_reordering_and_repetition(seed: int) -> None:
    wanted = replace(TUNNEL, proposals=esp_offer(groups=(Group.X25519,)))
    world = World(wanted, SIGNALLING, seed=seed, loss=0.3, jitter=0.3, duplicates=0.3)
    world.begin()
    world.run(120.0)
    assert world.established()
    for _ in range(2):
        for who, other in (("phone", "agent"), ("agent", "phone")):
            world.carry(who, world.ends[who].ike.rekey(other, world.now, children=True))
            world.run(90.0)
            world.carry(who, world.ends[who].ike.rekey(other, world.now))
            world.run(90.0)
    assert len(world.phone.of(IkeRekeyed)) == len(world.agent.of(IkeRekeyed)) == 4
    assert len(world.phone.inbound) == len(world.agent.inbound) == 2
    world.passes("tunnel")
    world.passes("signalling")
    world.carry("phone", world.phone.ike.close("agent", "enough", world.now))
    world.run(120.0)
    assert not world.phone.inbound
    assert not world.agent.inbound
    assert [down.reason for down in world.phone.of(IkeDown)] == ["enough"]
    assert [down.reason for down in world.agent.of(IkeDown)] == ["the other end has ended it"]
    world.run(200.0)
    assert not world.phone.ike.status()
    assert not world.agent.ike.status()


@pytest.mark.parametrize("seed", range(20))
def test_both_ends_rekey_at_once(seed: int) -> None:
    world = World(seed=seed, jitter=0.1 if seed % 2 else 0.0, loss=0.2 if seed >= 10 else 0.0)
    world.begin()
    world.run(60.0)
    for _ in range(3):
        for who, other in (("phone", "agent"), ("agent", "phone")):
            world.carry(who, world.ends[who].ike.rekey(other, world.now, children=True))
        world.run(90.0)
        assert len(world.phone.inbound) == len(world.agent.inbound) == 1
        world.passes()
    for _ in range(3):
        for who, other in (("phone", "agent"), ("agent", "phone")):
            world.carry(who, world.ends[who].ike.rekey(other, world.now))
        world.run(120.0)
        assert world.established()
        assert len(world.phone.ike.status()) == len(world.agent.ike.status()) == 1
        assert world.phone.ike.status()[0]["ike"] == world.agent.ike.status()[0]["ike"]
        assert len(world.phone.inbound) == len(world.agent.inbound) == 1
        world.passes()
    assert not world.phone.of(IkeDown)


def test_rekeys_come_by_themselves_and_lose_no_packet() -> None:
    world = World(replace(TUNNEL, lifetime=60.0), settings=Settings(lifetime=200.0), jitter=0.05)
    world.begin()
    world.run(1.0)
    under_way: list[tuple[str, bytes]] = []
    sent = 0
    for _ in range(30_000):  # 50 packets/s each way, 40 ms on the way, for 10 minutes
        while len(under_way) > 4:
            receiver, sealed = under_way.pop(0)
            world.open(receiver, sealed)
        for sender, receiver in (("phone", "agent"), ("agent", "phone")):
            under_way.append((receiver, world.seal(sender)))
            sent += 1
        world.run(0.02)
    assert sent == 60_000
    assert len(world.phone.of(ChildUp)) >= 10
    assert len(world.phone.of(IkeRekeyed)) >= 3
    assert len(world.agent.inbound) <= 2


def test_nothing_is_agreed_without_common_algorithms_and_both_lists_are_told() -> None:
    world = World(agent_settings=Settings(proposals=ike_offer((Group.MODP2048,), aead=False)))
    world.phone.ike.peers["agent"] = replace(world.known[0], proposals=ike_offer((Group.X25519,), cbc=False))
    world.begin()
    world.run(60.0)
    (failed,) = world.phone.of(IkeFailed)
    assert "NO_PROPOSAL_CHOSEN" in failed.reason
    assert "AES_GCM_16_256/CHACHA20_POLY1305" in failed.reason
    words = next(each.detail for each in world.agent.of(Discarded) if "offered" in each.detail)
    assert "AES_GCM_16_256" in words
    assert "MODP2048" in words


def test_a_child_sa_that_is_refused_leaves_the_ike_sa() -> None:
    phone, agent = peers()
    narrow = replace(agent.children[0], proposals=esp_offer((Algorithm.CHACHA20_POLY1305,)))
    wide = replace(phone.children[0], proposals=esp_offer((Algorithm.AES_GCM_16,)))
    world = World(known=(replace(phone, children=(wide,)), replace(agent, children=(narrow,))))
    world.begin()
    world.run(1.0)
    assert world.established()
    assert "AES_GCM_16_256" in world.phone.of(ChildFailed)[0].reason
    assert "CHACHA20" in world.agent.of(ChildFailed)[0].reason


def test_traffic_is_narrowed_to_what_both_want() -> None:
    phone, agent = peers()
    wide = replace(TUNNEL, local=TUNNEL.remote)  # the phone would send from any address
    world = World(known=(replace(phone, children=(wide,)), agent))
    world.begin()
    world.run(1.0)
    assert world.phone.of(ChildUp)[0].child.local == TUNNEL.local
    assert world.agent.of(ChildUp)[0].child.remote == TUNNEL.local


def test_messages_of_before_are_taken_once() -> None:
    world = World()
    world.begin()
    world.run(1.0)
    world.carry("phone", world.phone.ike.rekey("agent", world.now, children=True))
    world.run(10.0)
    events = len(world.agent.of(ChildUp)), len(world.agent.of(ChildDown)), len(world.agent.of(ChildSwitched))
    spi = list(world.agent.inbound)
    for send in list(world.wire):
        for name in ("phone", "agent"):
            if send.remote.address == world.at[name].address:
                world.carry(name, world.ends[name].ike.receive(send.data, send.remote, send.local, world.now))
    world.run(40.0)
    assert (len(world.agent.of(ChildUp)), len(world.agent.of(ChildDown)), len(world.agent.of(ChildSwitched))) == events
    assert list(world.agent.inbound) == spi
    assert world.agent.discards(Reason.IKE_UNEXPECTED) >= 3
    world.passes()


def test_a_dead_peer_is_noticed_and_a_living_one_is_not_troubled() -> None:
    world = World()
    world.begin()
    world.run(100.0)
    assert world.established()
    world.tamper = lambda send: list[Send]()
    world.run(150.0)
    assert "does not answer" in world.phone.of(IkeDown)[0].reason
    assert not world.phone.inbound
    assert not world.agent.inbound
