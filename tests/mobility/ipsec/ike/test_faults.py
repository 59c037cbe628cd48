"""Strangers, attackers, restarts and clocks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv6Address

import pytest

from mobility.discards import Reason
from mobility.ipsec.ike.authentication import SharedKey
from mobility.ipsec.ike.events import ChildDown, ChildUp, IkeDown, IkeFailed, IkeUp, PeerForgot, PeerMoved, Send
from mobility.ipsec.ike.message import Header, Message
from mobility.ipsec.ike.numbers import Exchange, Flag, Group, Notification, TransformType
from mobility.ipsec.ike.payloads import Identity, NotifyPayload
from mobility.ipsec.ike.proposals import Proposal, SaPayload, ike_offer
from mobility.ipsec.ike.settings import Endpoint, Settings
from mobility.outputs import Discarded
from tests.mobility.ipsec.ike.world import SECRET, TUNNEL, World, peers


def is_init(send: Send, *, response: bool) -> bool:
    header = Header.parse(send.data if send.local.port == 500 else send.data[4:])
    return header.exchange == Exchange.IKE_SA_INIT and header.is_response is response


def changed(send: Send, message: Message) -> Send:
    return send._replace(data=bytes(message))


def test_a_downgrade_of_the_offer_is_found_by_auth() -> None:
    world = World()

    def weaken(send: Send) -> list[Send]:
        if not is_init(send, response=False):
            return [send]
        message = Message.parse(send.data)
        weak = tuple(
            Proposal(each.number, each.protocol, each.spi, each.transforms)
            for each in message.needed(SaPayload).proposals
            if "AES_CBC" in str(each)
        )
        assert weak
        rest = tuple(each for each in message.payloads if not isinstance(each, SaPayload))
        return [changed(send, Message(message.header, (SaPayload(weak), *rest)))]

    world.tamper = weaken
    world.begin()
    world.run(120.0)
    assert not world.phone.of(IkeUp)
    assert not world.agent.of(IkeUp)
    assert "tampered with" in world.agent.of(IkeFailed)[0].reason
    assert "AUTHENTICATION_FAILED" in world.phone.of(IkeFailed)[0].reason


def test_a_changed_answer_is_found_by_auth() -> None:
    world = World()

    def no_fragments(send: Send) -> list[Send]:
        if not is_init(send, response=True):
            return [send]
        message = Message.parse(send.data)
        kept = tuple(
            each
            for each in message.payloads
            if not (isinstance(each, NotifyPayload) and each.notification == Notification.IKEV2_FRAGMENTATION_SUPPORTED)
        )
        assert len(kept) < len(message.payloads)
        return [changed(send, Message(message.header, kept))]

    world.tamper = no_fragments
    world.begin()
    world.run(120.0)
    assert not world.phone.of(IkeUp)
    assert not world.phone.inbound
    assert "tampered with" in world.phone.of(IkeFailed)[0].reason
    assert not world.agent.inbound  # the phone has told that it does not believe it
    assert "does not believe" in world.agent.of(IkeDown)[0].reason


def test_hybrid_that_somebody_strips_is_found_by_auth() -> None:
    offer = ike_offer(hybrid=True)
    world = World(settings=Settings(proposals=offer))
    world.phone.ike.peers["agent"] = replace(world.known[0], proposals=offer)

    def strip(send: Send) -> list[Send]:
        if not is_init(send, response=False):
            return [send]
        message = Message.parse(send.data)
        plain = tuple(
            each for each in message.needed(SaPayload).proposals if not each.of(TransformType.ADDITIONAL_KE_1)
        )
        rest = tuple(each for each in message.payloads if not isinstance(each, SaPayload))
        return [changed(send, Message(message.header, (SaPayload(plain), *rest)))]

    world.tamper = strip
    world.begin()
    world.run(120.0)
    assert not world.phone.of(IkeUp)
    assert not world.agent.of(IkeUp)


@pytest.mark.parametrize("error", [Notification.NO_PROPOSAL_CHOSEN, Notification.INVALID_SYNTAX])
def test_a_forged_refusal_does_not_end_an_attempt(error: Notification) -> None:
    world = World()

    def forge(send: Send) -> list[Send]:
        if not is_init(send, response=True):
            return [send]
        header = replace(Header.parse(send.data), responder_spi=bytes(8))
        return [changed(send, Message(header, (NotifyPayload(error),))), send]

    world.tamper = forge
    world.begin()
    world.run(5.0)
    assert world.established()
    world.passes()


def test_every_octet_of_every_message_is_guarded() -> None:
    """One changed octet anywhere, in the exchange or in a rekey: nothing is agreed that only one end believes."""
    for at in range(0, 400, 7):
        world = World()
        count = 0

        def tamper(send: Send, at: int = at) -> list[Send]:
            nonlocal count
            count += 1
            if count > 8 or at >= len(send.data):
                return [send]
            data = bytearray(send.data)
            data[at] ^= 0x55
            return [send._replace(data=bytes(data))]

        world.tamper = tamper
        world.begin()
        world.run(200.0)
        ups = world.phone.of(IkeUp), world.agent.of(IkeUp)
        assert bool(ups[0]) is bool(ups[1])
        if world.established():
            world.passes()


def test_a_wrong_key_and_an_unknown_name_are_told_apart_in_the_log_and_not_on_the_wire() -> None:
    lengths = []
    for secret, remote, word in (
        (SharedKey(bytes(32)), "laptop@example.org", "another pre-shared key"),
        (SECRET, "other@example.org", "nobody that we know"),
    ):
        phone, agent = peers()
        world = World(known=(replace(phone, proof=secret, identity=Identity.of(remote)), agent))
        world.begin()
        world.run(5.0)
        assert word in world.agent.of(IkeFailed)[0].reason
        assert "AUTHENTICATION_FAILED" in world.phone.of(IkeFailed)[0].reason
        assert world.phone.of(IkeFailed)[0].peer == "agent"
        lengths.append(len(world.wire[-1].data))
    assert lengths[0] == lengths[1]


def test_a_peer_that_is_somebody_else_is_refused() -> None:
    phone, agent = peers()
    world = World(known=(replace(phone, remote=Identity.of("ha.example.net")), agent))
    world.begin()
    world.run(5.0)
    assert "wants to talk to ha.example.net" in world.agent.of(IkeFailed)[0].reason
    assert not world.phone.of(IkeUp)


def test_short_secrets_are_refused() -> None:
    with pytest.raises(ValueError, match="can be guessed"):
        SharedKey(b"secret")
    assert "00" not in repr(SECRET)


def test_a_flood_of_half_open_sas_is_bounded_and_honest_ones_get_through() -> None:
    settings = Settings(cookies_above=8, most_half_open=32)
    world = World(agent_settings=settings)
    template = World()
    template.begin()
    begin = template.wire[0]
    for number in range(2000):
        data = world.random.randbytes(8) + begin.data[8:]
        source = Endpoint(IPv6Address(0x20010DB8 << 96 | number))
        outputs = world.agent.ike.receive(data, world.at["agent"], source, world.now)
        sent = [each for each in outputs if isinstance(each, Send)]
        assert len(sent) == 1
        assert len(sent[0].data) <= len(data)  # nobody gets more sent to a forged address than he has sent
        if number > settings.cookies_above:
            assert Message.parse(sent[0].data).notification(Notification.COOKIE) is not None
    assert len(world.agent.ike.status()) == settings.cookies_above
    world.begin()
    world.run(2.0)
    assert world.established()
    world.passes()
    assert len(world.wire) == 6  # one round trip more
    world.run(40.0)
    assert len(world.agent.ike.status()) == 1


def test_cookies_of_others_and_old_ones_do_not_count() -> None:
    world = World(agent_settings=Settings(cookies_above=0))
    world.begin()
    world.run(1.0)
    with_cookie = world.wire[2]
    assert Message.parse(with_cookie.data).notification(Notification.COOKIE) is not None
    before = len(world.agent.ike.status())
    other = Endpoint(IPv6Address("2001:db8:bad::1"))
    world.carry("agent", world.agent.ike.receive(with_cookie.data, world.at["agent"], other, world.now))
    world.run(200.0)
    late = bytes(8 * [7]) + with_cookie.data[8:]
    world.carry("agent", world.agent.ike.receive(late, world.at["agent"], with_cookie.local, world.now))
    assert len(world.agent.ike.status()) == before
    assert world.agent.discards(Reason.IKE_HALF_OPEN) == 3


def test_a_peer_that_was_restarted_takes_the_place_of_its_former_self() -> None:
    world = World()
    world.begin()
    world.run(5.0)
    world.phone.ike = world.endpoint(world.known[0], world.settings)
    world.phone.inbound.clear()
    world.phone.sends_by.clear()
    world.begin()
    world.run(5.0)
    assert "INITIAL_CONTACT" in world.agent.of(IkeDown)[0].reason
    assert len(world.agent.of(ChildDown)) == 1
    assert len(world.agent.ike.status()) == 1
    world.passes()


def test_messages_for_what_is_not_here_are_counted() -> None:
    world = World()
    world.begin()
    world.run(1.0)
    stray = world.wire[2].data
    other = World()
    outputs = other.agent.ike.receive(stray, other.at["agent"], other.at["phone"], 0.0)
    assert [type(each) for each in outputs] == [Send, Discarded]
    other.carry("agent", outputs)
    assert other.agent.discards(Reason.IKE_SPI_UNKNOWN) == 1
    for _ in range(100):
        other.carry("agent", other.agent.ike.receive(stray, other.at["agent"], other.at["phone"], 0.5))
    assert len(other.wire) < 20


def test_a_restarted_peer_says_that_it_knows_nothing_and_nobody_believes_it_at_once() -> None:
    world = World()
    world.begin()
    world.run(5.0)
    world.agent.ike = world.endpoint(world.known[1], world.settings)
    world.carry("phone", world.phone.ike.probe("agent", world.now))
    world.run(1.0)
    assert world.phone.of(PeerForgot)
    assert world.phone.ike.established("agent")  # it may be a lie
    world.agent.inbound.clear()
    world.begin()
    world.run(1.0)
    world.carry("phone", world.phone.ike.supersede("agent", world.phone.of(IkeUp)[-1].ike))
    assert len(world.phone.ike.status()) == 1
    world.passes()


def test_a_machine_that_slept_long_begins_anew() -> None:
    """The monotonic clock jumps: lifetimes are over at both ends, and one of them says so."""
    world = World()
    world.begin()
    world.run(5.0)
    world.now += 30 * 3600
    world.run(300.0)
    assert not world.phone.ike.status()
    assert not world.agent.ike.status()
    assert not world.phone.inbound
    assert not world.agent.inbound
    world.begin()
    world.run(5.0)
    world.passes()


def test_a_wall_clock_that_jumps_changes_nothing_with_a_secret() -> None:
    world = World()
    world.begin()
    world.run(5.0)
    world.clock -= timedelta(days=20_000)
    world.carry("phone", world.phone.ike.rekey("agent", world.now))
    world.carry("phone", world.phone.ike.rekey("agent", world.now, children=True))
    world.run(30.0)
    world.passes()
    assert world.established()


def through_nat(world: World, outside: Endpoint) -> None:
    """The phone is behind a NAT: the other end sees one address, and a port for each of its ports."""
    inside = world.at["phone"].address

    def translate(send: Send) -> list[Send]:
        if send.local.address == inside:
            return [send._replace(local=Endpoint(outside.address, outside.port + send.local.port))]
        if send.remote.address == outside.address:
            return [send._replace(remote=Endpoint(inside, send.remote.port - outside.port))]
        return []

    world.tamper = translate


def test_a_nat_is_found_and_esp_goes_in_datagrams() -> None:
    world = World()
    through_nat(world, Endpoint(IPv6Address("2001:db8:aa::1"), 20_000))
    world.begin()
    world.run(50.0)
    assert world.phone.of(ChildUp)[0].child.encapsulated
    assert world.agent.of(ChildUp)[0].child.encapsulated
    assert world.phone.ike.status()[0]["nat"] == ["here"]
    assert world.agent.ike.status()[0]["nat"] == ["there"]
    assert world.agent.of(IkeUp)[0].remote == Endpoint(IPv6Address("2001:db8:aa::1"), 24_500)
    assert all(send.data[:4] == bytes(4) for send in world.wire[2:] if len(send.data) > 1)
    assert sum(send.data == b"\xff" for send in world.wire) >= 1
    world.passes()
    through_nat(world, Endpoint(IPv6Address("2001:db8:aa::2"), 30_000))  # it has forgotten its mapping
    world.carry("phone", world.phone.ike.rekey("agent", world.now, children=True))
    world.run(5.0)
    assert world.agent.of(PeerMoved)[-1].remote == Endpoint(IPv6Address("2001:db8:aa::2"), 34_500)
    world.passes()


def test_a_replay_from_elsewhere_moves_nobody() -> None:
    world = World()
    through_nat(world, Endpoint(IPv6Address("2001:db8:aa::1"), 20_000))
    world.begin()
    world.run(5.0)
    world.carry("phone", world.phone.ike.rekey("agent", world.now, children=True))
    world.run(5.0)
    attacker = Endpoint(IPv6Address("2001:db8:bad::1"), 4500)
    here = Endpoint(world.at["agent"].address, 4500)
    for send in list(world.wire):
        if send.remote.address == world.at["agent"].address:
            world.carry("agent", world.agent.ike.receive(send.data, here, attacker, world.now))
    assert not world.agent.of(PeerMoved)


@pytest.mark.parametrize("tell", [True, False])
def test_an_ike_sa_goes_on_after_a_move(tell: bool) -> None:
    """Without ``tell``, as after a binding update with the K bit: both owners say where the phone is now."""
    world = World()
    world.begin()
    world.run(5.0)
    spis = list(world.agent.inbound)
    for step in range(3):
        new = Endpoint(IPv6Address(f"2001:db8:77::{step + 1}"))
        old, world.at["phone"] = world.at["phone"], new
        if not tell:
            world.carry("agent", world.agent.ike.move("phone", world.at["agent"], new, world.now, tell=False))
        world.carry("phone", world.phone.ike.move("agent", new, world.at["agent"], world.now, tell=tell))
        world.run(5.0)
        assert world.agent.of(PeerMoved)[-1].remote == new != old
    assert list(world.agent.inbound) == spis
    world.passes()
    world.carry("agent", world.agent.ike.rekey("phone", world.now, children=True))
    world.run(5.0)
    world.passes()
    assert len(world.phone.of(IkeUp)) == 1


def test_a_move_in_the_middle_of_a_rekey() -> None:
    world = World(loss=0.0)
    world.begin()
    world.run(5.0)
    world.carry("phone", world.phone.ike.rekey("agent", world.now, children=True))
    world.at["phone"] = Endpoint(IPv6Address("2001:db8:77::1"))  # its answer goes to the old place
    world.carry("phone", world.phone.ike.move("agent", world.at["phone"], world.at["agent"], world.now))
    world.run(2.0)
    assert len(world.phone.of(ChildUp)) == 2
    world.passes()


def test_a_home_address_is_assigned() -> None:
    phone, agent = peers()
    wants = replace(phone, wants_address=True)
    gives = replace(agent, assigns=(IPv6Address("2001:db8:6::1"), 64))
    world = World(known=(wants, gives))
    world.begin()
    world.run(5.0)
    assert world.phone.of(IkeUp)[0].address == "2001:db8:6::1"
    assert world.agent.of(IkeUp)[0].address == "2001:db8:6::1"


def test_nobody_answers() -> None:
    world = World(loss=1.0)
    world.begin()
    world.run(120.0)
    (failed,) = world.phone.of(IkeFailed)
    assert "does not answer" in failed.reason
    assert not world.phone.ike.status()
    assert world.phone.ike.timer is None


def test_fuzzy_first_messages_leave_nothing_behind() -> None:
    world = World()
    other = World(TUNNEL)
    other.begin()
    first = other.wire[0].data
    for cut in range(0, len(first), 3):
        header = Header.parse(first)
        data = first[:24] + cut.to_bytes(4, "big") + first[28:cut]
        outputs = world.agent.ike.receive(data, world.at["agent"], world.at["phone"], world.now)
        assert any(isinstance(each, Discarded) for each in outputs), cut
        assert header.flags & Flag.INITIATOR
    assert not world.agent.ike.status()


def test_an_unwanted_group_is_not_followed() -> None:
    world = World()

    def weak(send: Send) -> list[Send]:
        if not is_init(send, response=True):
            return [send]
        header = replace(Header.parse(send.data), responder_spi=bytes(8))
        wanted = NotifyPayload(Notification.INVALID_KE_PAYLOAD, Group.ML_KEM_768.to_bytes(2, "big"))
        return [changed(send, Message(header, (wanted,))), send]

    world.tamper = weak
    world.begin()
    world.run(5.0)
    assert world.phone.discards(Reason.IKE_MALFORMED) == 1
    assert world.established()
