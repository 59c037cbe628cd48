"""Other terminals while it runs, bindings that outlive the process, floods, and a thousand terminals."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from mobility.discards import Discard, Reason
from mobility.ipsec.spd import SecurityPolicyDatabase
from mobility.mipv6.again import Loss
from mobility.mipv6.binding_events import (
    BindingChanged,
    BindingCreated,
    BindingRemoved,
    BindingRestored,
    UpdateRefused,
)
from mobility.mipv6.binding_records import BindingRecord
from mobility.mipv6.home_agent import HomeAgent
from mobility.mipv6.home_errors import ERRORS_PER_SECOND
from mobility.mipv6.home_settings import AuthorisedTerminal, HomeAgentSettings
from mobility.mipv6.signalling import from_terminal
from mobility.mipv6.tunnel import TunnelForm, encapsulate, terminal_policies
from mobility.outputs import Output, Transmit
from mobility.wire import icmp6, ip6, mh
from tests.mobility.mipv6.agent_bench import (
    AH,
    COA,
    COA2,
    KERNEL,
    NAT,
    OTHER_NAT,
    STRANGER,
    Bench,
    Link,
    hopped,
    reasons,
    ways,
)
from tests.mobility.whole import CN, HA, MN, MN2, mobile_pair, udp

OFFSET = 1_700_000_000.0
"Seconds from the node's clock to that of the wall."
POOL = IPv4Network("192.168.7.0/29")


def bind_second(bench: Bench, sequence: int = 1, now: float = 0.0) -> None:
    """The other terminal of the bench registers."""
    message = mh.BindingUpdate(sequence, AH, 400, (mh.AlternateCareOfAddress(COA2),))
    bench.agent.signalling(from_terminal(message, MN2, COA2, HA, bench.security2), now)


# ---------------------------------------------------------------- reload


def both(bench: Bench) -> tuple[AuthorisedTerminal, AuthorisedTerminal]:
    first, second = bench.settings.terminals
    return first, second


def test_unchanged_terminals_notice_nothing() -> None:
    bench = Bench()
    bench.bind(1)
    bind_second(bench)
    before = bench.agent.cache.snapshot(1.0)
    third = AuthorisedTerminal(STRANGER, bench.form, mobile_pair(bench.form, 0x5000).agent)
    first, second = both(bench)
    assert bench.agent.reconfigure((third, replace(first), second), 1.0) == []
    assert bench.agent.cache.snapshot(1.0) == before
    packet = udp(MN, CN, b"x")
    bench.up(packet, COA)
    assert bench.link.sent[-1] == hopped(packet)
    assert len(bench.agent.intercept(udp(CN, MN2, b"x"), 1.0)) == 1


def test_removed_terminal() -> None:
    bench = Bench()
    bench.bind(1)
    bind_second(bench)
    assert bench.agent.reconfigure(both(bench)[1:], 1.0) == [BindingRemoved(MN, "removed from the configuration")]
    assert bench.link.proxied == {MN2}
    assert len(bench.agent.cache) == 1
    bench.rejects(bench.update(2), Reason.SA_UNKNOWN)
    packet = encapsulate(udp(MN, CN, b"x"), COA.packed + HA.packed, bench.form, bench.security)
    with pytest.raises(Discard) as caught:
        bench.agent.reverse(packet, 1.0)
    assert caught.value.reason is Reason.SA_UNKNOWN
    bind_second(bench, 2)
    assert bench.agent.reconfigure(both(bench), 2.0) == []
    assert bench.bind(3, 2.0).status == 0


def test_terminal_that_is_not_admitted_any_more() -> None:
    bench = Bench()
    bench.bind(1)
    first, second = both(bench)
    outputs = bench.agent.reconfigure((replace(first, admitted=False), second), 1.0)
    assert outputs == [BindingRemoved(MN, "not admitted any more")]
    assert bench.bind(2).status == mh.Status.ADMINISTRATIVELY_PROHIBITED
    bench.agent.reconfigure((first, second), 2.0)
    assert bench.bind(3).status == 0


def test_terminal_with_another_name_stays_bound() -> None:
    bench = Bench()
    bench.bind(1)
    first, second = both(bench)
    assert bench.agent.reconfigure((replace(first, name="alice"), second), 1.0) == []
    assert bench.paths == [COA.packed]
    assert "alice" in str(bench.agent.snapshot(1.0))


def test_terminal_with_other_keys() -> None:
    bench = Bench()
    bench.bind(1)
    first, second = both(bench)
    pair = mobile_pair(bench.form, 0x7000)
    outputs = bench.agent.reconfigure((replace(first, associations=pair.agent), second), 1.0)
    assert outputs == [BindingRemoved(MN, "other keys")]
    bench.rejects(bench.update(2), Reason.SA_UNKNOWN)
    bench.security = terminal_policies(MN, HA, bench.form, pair.terminal)
    assert bench.bind(3).status == 0


def test_terminal_with_another_ipv4_address() -> None:
    bench = Bench()
    bench.configure(ipv4_pool=POOL)
    bench.bind(1, options=(mh.IPv4HomeAddress(IPv4Address(0)),))
    first, second = both(bench)
    fixed = replace(first, home_address4=IPv4Address("10.1.1.1"))
    assert bench.agent.reconfigure((fixed, second), 1.0) == [BindingRemoved(MN, "another IPv4 home address")]


def test_configuration_that_cannot_be_changes_nothing() -> None:
    bench = Bench()
    bench.bind(1)
    first, second = both(bench)
    same_spi = AuthorisedTerminal(STRANGER, bench.form, mobile_pair(bench.form).agent)
    fixed = replace(second, home_address4=IPv4Address("224.0.0.1"))
    for wrong in ((second, first, first), (first, second, same_spi), (first, fixed)):
        with pytest.raises(ValueError, match=r"twice|two inbound|cannot be"):
            bench.agent.reconfigure(wrong, 1.0)
        packet = udp(MN, CN, b"x")
        bench.up(packet, COA)
        assert bench.link.sent[-1] == hopped(packet)


# ---------------------------------------------------------------- records


def test_every_change_of_a_record_is_told() -> None:
    """Whoever asks for the record at each `BindingChanged`, and only then, has all records right."""
    bench = Bench()
    bench.configure(ipv4_pool=POOL)
    kept: dict[IPv6Address, BindingRecord] = {}

    def follow(outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, BindingChanged):
                record = bench.agent.record(output.home_address, OFFSET)
                if record is None:
                    kept.pop(output.home_address, None)
                else:
                    kept[output.home_address] = record
        assert list(kept.values()) == bench.agent.bindings(OFFSET)

    agent = bench.agent
    asked = mh.IPv4HomeAddress(IPv4Address(0))
    follow(agent.signalling(bench.update(1, options=(mh.BindingIdentifier(1),)), 0.0))
    follow(agent.datagram(bench.udp_update(2, options=(mh.BindingIdentifier(2), asked)), NAT, KERNEL, 1.0))
    assert kept[MN].home_address4 == IPv4Address("192.168.7.2")
    follow(bench.udp_up(udp(MN, CN, b"x"), OTHER_NAT, now=2.0))
    assert kept[MN].bindings[0].endpoint == OTHER_NAT
    refresh = bench.udp_update(3, options=(mh.BindingIdentifier(2),))
    follow(agent.datagram(refresh, OTHER_NAT, KERNEL, 3.0))
    loss = Loss(0, 9, COA).option()
    follow(agent.signalling(bench.update(4, source=COA2, options=(mh.BindingIdentifier(1), loss)), 4.0))
    assert kept[MN].loss == 9
    follow(agent.signalling(bench.update(5, lifetime=100, options=(mh.BindingIdentifier(3),)), 5.0))
    follow(agent.signalling(bench.update(6, lifetime=0, options=(mh.BindingIdentifier(1),)), 6.0))
    follow(agent.handle_timer(95.0))
    follow(agent.handle_timer(105.0))
    assert kept == {}
    follow(agent.signalling(bench.update(7), 110.0))
    follow(agent.conflict(MN, 110.5))
    assert kept == {}


def handed_over(bench: Bench, offset: float, now: float) -> list[Output]:
    """The records of the bench's home agent go through JSON to another one, which is the bench's from now on."""
    texts = [json.dumps(record.to_json()) for record in bench.agent.bindings(OFFSET)]
    bench.configure()
    bench.link.sent.clear()
    return bench.agent.restore([BindingRecord.from_json(json.loads(text)) for text in texts], offset, now)


@pytest.mark.parametrize("form", list(TunnelForm))
def test_another_home_agent_goes_on(form: TunnelForm) -> None:
    bench = Bench(form)
    bench.configure(ipv4_pool=POOL)
    bench.bind(1, 0.0, options=(mh.BindingIdentifier(1),))
    bench.udp_bind(2, now=5.0, options=(mh.BindingIdentifier(2), mh.IPv4HomeAddress(IPv4Address(0))))
    outputs = handed_over(bench, OFFSET + 1000.0, -990.0)  # another machine, whose clock says something else
    assert outputs == [BindingRestored(MN, IPv4Address("10.0.0.5"))]
    assert bench.link.proxied == {MN}
    assert bench.paths == [NAT, COA.packed]
    down = udp(CN, MN, b"down")
    (sent,) = bench.agent.intercept(down, -989.0)
    assert bench.received(sent) == hopped(down)
    up = udp(MN, CN, b"up")
    bench.udp_up(up, now=-988.0)
    assert bench.link.sent[-1] == hopped(up)
    assert bench.agent._homes4.of(MN) == IPv4Address("192.168.7.2")
    ack = bench.udp_bind(2, now=-987.0, options=(mh.BindingIdentifier(2),))
    assert (ack.status, ack.sequence) == (mh.Status.SEQUENCE_OUT_OF_WINDOW, 2)
    assert bench.agent.timer == -640.0  # 360 seconds after the first binding began
    assert [type(each) for each in bench.agent.handle_timer(-595.0)[-1:]] == [BindingRemoved]


def test_what_is_not_restored() -> None:
    bench = Bench()
    bench.bind(1, 0.0, lifetime=100)
    records = bench.agent.bindings(OFFSET)
    over = records[0].expires - OFFSET
    for terminals, now in (
        (bench.settings.terminals, over),
        (bench.settings.terminals[1:], 1.0),
        ((replace(bench.settings.terminals[0], admitted=False),), 1.0),
    ):
        other = Bench()
        other.configure(terminals=terminals)
        assert other.agent.restore(records, OFFSET, now) == []
        assert len(other.agent.cache) == 0
        assert other.agent.timer is None
    full = Bench()
    full.configure(cache_limit=0)
    assert full.agent.restore(records, OFFSET, 1.0) == [UpdateRefused(MN, "insufficient-resources")]


def test_what_the_terminal_told_since_counts_more() -> None:
    bench = Bench()
    bench.bind(1)
    records = bench.agent.bindings(OFFSET)
    bench.configure()
    bench.bind(2, source=COA2)
    assert bench.agent.restore(records, OFFSET, 1.0) == []
    assert bench.paths == [COA2.packed]


def test_wall_clock_that_was_set_back_makes_no_binding_eternal() -> None:
    bench = Bench()
    bench.bind(1, lifetime=400)
    handed_over(bench, OFFSET - 1e6, 0.0)
    assert bench.agent.timer == 360.0


def test_ipv4_address_that_is_anothers_by_now() -> None:
    bench = Bench()
    bench.configure(ipv4_pool=POOL)
    bench.bind(1, options=(mh.IPv4HomeAddress(IPv4Address(0)),))
    records = bench.agent.bindings(OFFSET)
    first, second = both(bench)
    bench.configure(terminals=(first, replace(second, home_address4=records[0].home_address4)))
    bench.agent.restore(records, OFFSET, 1.0)
    assert bench.paths == [COA.packed]
    assert bench.agent._homes4.of(MN) is None


# ---------------------------------------------------------------- floods


def sizes(bench: Bench) -> list[int]:
    """Of everything in the engine that has a size and could grow."""
    found: list[int] = []

    def look(thing: object, depth: int) -> None:
        if isinstance(thing, dict | list | set):
            found.append(len(thing))
        if depth and type(thing).__module__.startswith("mobility.") and not isinstance(thing, type):
            names = list(getattr(thing, "__dict__", {}))
            for each in type(thing).__mro__:
                names += getattr(each, "__slots__", ())
            for name in dict.fromkeys(names):
                look(getattr(thing, name, None), depth - 1)

    look(bench.agent, 3)
    for terminal in bench.agent._terminals.values():
        look(terminal, 2)
    return found


@pytest.mark.parametrize("form", list(TunnelForm))
def test_floods_of_strangers_change_and_leave_nothing(form: TunnelForm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecurityPolicyDatabase, "CACHE_LIMIT", 8)
    bench = Bench(form)
    bench.bind(1)
    bind_second(bench)
    before, snapshot = sizes(bench), bench.agent.cache.snapshot(1.0)
    dice = random.Random(1)
    update, data = bench.update(2), encapsulate(udp(MN, CN, b"x"), COA.packed + HA.packed, form, bench.security)
    for number in range(3000):
        source = IPv6Address(int(STRANGER) + number)
        noise = dice.randbytes(80)
        spi = (0x1000 + number % 8).to_bytes(4)
        forged = update[:8] + source.packed + update[24:60] + noise
        packets = [
            ip6.packet(source, HA, ip6.ESP, spi + noise),
            ip6.packet(source, HA, ip6.MOBILITY, noise),
            forged[:4] + (len(forged) - 40).to_bytes(2) + forged[6:],
            data[:8] + source.packed + data[24:],
        ]
        for packet in packets:
            for entry in (bench.agent.signalling, bench.agent.reverse):
                with pytest.raises(Discard):
                    entry(packet, 1.0)
        payloads = [spi + noise, noise, ip6.packet(MN, HA, ip6.MOBILITY, noise), ip6.packet(source, HA, ip6.ESP, noise)]
        for payload in payloads:
            with pytest.raises(Discard):
                bench.agent.datagram(payload, source.packed + b"\x10\x00", KERNEL, 1.0)
    assert all(after <= max(earlier, 8) for earlier, after in zip(before, sizes(bench), strict=True))
    assert bench.agent.cache.snapshot(1.0) == snapshot
    assert bench.bind(2).status == 0
    packet = udp(MN, CN, b"x")
    bench.up(packet, COA)
    assert bench.link.sent[-1] == hopped(packet)


def test_a_flood_of_ones_own_updates_leaves_nothing_either() -> None:
    bench = Bench()
    for number in range(1, 2000):
        where = IPv6Address(int(COA) + number % 300)
        option = (mh.BindingIdentifier(number % 5 + 1),)
        bench.agent.signalling(bench.update(number, source=where, options=option), number / 1000)
        bench.agent.signalling(bench.update(number, source=where, options=option), number / 1000)
        bench.replies.clear()
        bench.link.sent.clear()
    assert max(sizes(bench)) == 256  # the paddings of ESP


def test_errors_to_senders_are_rationed() -> None:
    bench = Bench()
    bench.bind(1)
    bench.link.sent.clear()
    big = udp(CN, MN, bytes(1450))
    for _ in range(1000):
        assert reasons(bench.agent.intercept(big, 1.0)) == [Reason.TOO_BIG]
    assert len(bench.link.sent) == ERRORS_PER_SECOND
    bench.agent.intercept(big, 2.0)
    assert isinstance(icmp6.parse(bench.link.sent[-1][40:]), icmp6.PacketTooBig)
    assert len(bench.link.sent) == ERRORS_PER_SECOND + 1


def test_genuine_packets_of_an_unbound_terminal_wake_it_once_a_second() -> None:
    bench = Bench()
    told = 0
    for number in range(500):
        outputs = bench.udp_up(udp(MN, CN, b"x"), NAT, now=number / 100)
        told += len(ways(outputs))
        assert reasons(outputs) == [Reason.BINDING_UNKNOWN]
    assert told == 5


# ---------------------------------------------------------------- a thousand terminals


def test_a_thousand_terminals() -> None:
    """Nothing looks through all terminals for one packet: counted, because time is no measure for a test."""
    homes = [IPv6Address(int(MN) + number) for number in range(1000)]
    pairs = [mobile_pair(TunnelForm.ESP, 0x10000 + 16 * number) for number in range(1000)]
    terminals = tuple(
        AuthorisedTerminal(
            home, TunnelForm.ESP, pair.agent, mobile_networks=(IPv6Network((0xFD << 120 | at << 64, 64)),)
        )
        for at, (home, pair) in enumerate(zip(homes, pairs, strict=True))
    )
    link = Link()
    agent = HomeAgent(HomeAgentSettings(HA, terminals), link, lambda reply, now: [Transmit(reply.packet, b"", "")])
    for number in (0, 499, 999):
        security = terminal_policies(homes[number], HA, TunnelForm.ESP, pairs[number].terminal)
        care_of = IPv6Address(int(COA) + number)
        message = mh.BindingUpdate(1, AH, 400, (mh.AlternateCareOfAddress(care_of),))
        outputs = agent.signalling(from_terminal(message, homes[number], care_of, HA, security), 0.0)
        assert any(isinstance(each, BindingCreated) for each in outputs)
        agent.intercept(udp(CN, homes[number], b"x"), 0.1)
        assert link.sent[-1][24:40] == care_of.packed
    assert len(agent.security.spd.policies) == 4000
    assert max(len(rows) for part in agent.security.spd._by_remote.values() for rows in part.values()) == 3
