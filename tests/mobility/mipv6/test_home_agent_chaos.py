"""A terminal that moves as it likes over networks that lose, repeat, delay and reorder: what always holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Address
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobility.discards import Discard
from mobility.links import endpoint
from mobility.mipv6.again import Loss
from mobility.mipv6.binding_events import BindingChanged
from mobility.mipv6.binding_records import BindingRecord
from mobility.mipv6.tunnel import TunnelForm, encapsulate
from mobility.outputs import Output, Transmit
from mobility.wire import mh
from tests.mobility.mipv6.agent_bench import BEHIND_NAT, COA, KERNEL, STRANGER, Bench, ways
from tests.mobility.whole import CN, HA, MN, udp

PLACES = [IPv6Address(int(COA) + number) for number in range(3)]
ENDPOINTS = [endpoint(IPv6Address("::ffff:198.51.100.7"), 40000 + number) for number in range(3)]
ELSEWHERE = endpoint(STRANGER, 666)


@dataclass
class Chaos:
    """A home agent, and the packets for it that are still on their way."""

    form: TunnelForm
    dice: Random
    bench: Bench = field(init=False)
    now: float = 0.0
    sequence: int = 0
    losses: int = 0
    sent: int = 0
    under_way: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    "Inner packets that the home agent sent on."
    kept: BindingRecord | None = None

    def __post_init__(self) -> None:
        self.bench = Bench(self.form)

    def act(self, what: str, which: int) -> None:
        bench, identifier = self.bench, which % 4
        options: tuple[mh.Option, ...] = (mh.BindingIdentifier(identifier),) if identifier else ()
        match what:
            case "native" | "udp" | "lost" | "leave":
                self.sequence = (self.sequence + 1) & 0xFFFF
                lifetime = 0 if what == "leave" else 100
                if what == "lost":
                    self.losses += 1
                    association = bench.pair.terminal.tunnel_in
                    highest = 0 if association is None else association.top
                    options = (*options, Loss(highest, self.losses, COA).option())
                if what == "udp" or (what == "leave" and which % 2):
                    payload = bench.udp_update(self.sequence, lifetime=lifetime, care_of=BEHIND_NAT, options=options)
                    self.under_way.append(("datagram", payload, ENDPOINTS[which % 3]))
                else:
                    packet = bench.update(self.sequence, lifetime=lifetime, source=PLACES[which % 3], options=options)
                    self.under_way.append(("signalling", packet, b""))
            case "home":
                self.sequence = (self.sequence + 1) & 0xFFFF
                self.under_way.append(("signalling", bench.update(self.sequence, lifetime=0, source=MN), b""))
            case "speak":
                self.sent += 1
                inner = udp(MN, CN, self.sent.to_bytes(4))
                if which % 2:
                    self.under_way.append(("datagram", bench.body(inner), ENDPOINTS[which % 3]))
                else:
                    ends = PLACES[which % 3].packed + HA.packed
                    self.under_way.append(("reverse", encapsulate(inner, ends, self.form, bench.security), b""))
            case "wait":
                self.now += which * which / 16
                while (due := bench.agent.timer) is not None and due <= self.now:
                    self.follow(bench.agent.handle_timer(self.now))

    def deliver(self, fate: int) -> None:
        """One of the packets arrives, perhaps a copy, perhaps from an address that is not the sender's."""
        if not self.under_way:
            return
        at = min(self.dice.randrange(3), len(self.under_way) - 1)
        door, packet, sender = self.under_way[at] if fate == 1 else self.under_way.pop(at)
        if fate == 2:
            return  # lost
        sent_before = len(self.bench.link.sent)
        try:
            self.follow(self.enter(door, packet, sender))
        except Discard:
            pass
        else:
            self.stolen(door, packet)
        onward = [each for each in self.bench.link.sent[sent_before:] if each[24:40] == CN.packed]
        self.received += onward
        self.bench.link.sent.clear()

    def enter(self, door: str, packet: bytes, sender: bytes) -> list[Output]:
        match door:
            case "signalling":
                return self.bench.agent.signalling(packet, self.now)
            case "reverse":
                return self.bench.agent.reverse(packet, self.now)
            case _:
                return self.bench.agent.datagram(packet, sender, KERNEL, self.now)

    def stolen(self, door: str, packet: bytes) -> None:
        """What has been taken once is sent by a thief from his own address: nothing may follow him."""
        agent = self.bench.agent
        if self.form is TunnelForm.PLAIN and door != "signalling":
            return  # it proves nothing; its sources are compared, which other tests show
        before = agent.cache.snapshot(self.now)
        with pytest.raises(Discard):
            self.enter(door, packet if door == "datagram" else packet[:8] + STRANGER.packed + packet[24:], ELSEWHERE)
        assert agent.cache.snapshot(self.now) == before

    def follow(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, BindingChanged):
                self.kept = self.bench.agent.record(MN, 0.0)

    def check(self) -> None:
        agent = self.bench.agent
        rows = agent.cache.of(MN.packed)
        terminal = agent._terminals[MN.packed]
        assert self.bench.link.proxied == ({MN} if rows else set())
        assert (terminal.path is None) == (not rows)
        assert {source for source, until in terminal.sources.items() if until == inf} == {row.source for row in rows}
        assert not terminal.lost.keys() & {row.source for row in rows}
        assert self.kept == agent.record(MN, 0.0)
        assert (agent.timer is None) == (not rows)
        if rows:
            assert agent.timer is not None
            assert agent.timer <= min(row.expires for row in rows)
            to = ways(agent.intercept(udp(CN, MN, b"x"), self.now))
            assert to[0] == rows[0].source
            assert len(to) <= (2 if self.form is TunnelForm.ESP else 1)
            self.bench.link.sent.clear()
        if self.form is not TunnelForm.PLAIN:
            assert len(self.received) == len(set(self.received))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["native", "udp", "lost", "leave", "home", "speak", "speak", "wait"]),
        st.integers(0, 40),
        st.lists(st.integers(0, 3), max_size=3),
    ),
    max_size=40,
)


@pytest.mark.parametrize("form", list(TunnelForm))
@settings(max_examples=60)
@given(STEPS, st.integers(0, 1000))
def test_what_always_holds(form: TunnelForm, steps: list[tuple[str, int, list[int]]], seed: int) -> None:
    chaos = Chaos(form, Random(seed))
    for what, which, fates in steps:
        chaos.act(what, which)
        chaos.check()
        for fate in fates:
            chaos.deliver(fate)
            chaos.check()
    while chaos.under_way:
        chaos.deliver(0)
        chaos.check()


@pytest.mark.parametrize("form", list(TunnelForm))
def test_in_the_end_the_last_word_of_the_terminal_counts(form: TunnelForm) -> None:
    """Whatever happened before: the next update that arrives is where the terminal is."""
    for seed in range(40):
        dice = Random(seed)
        chaos = Chaos(form, dice)
        for _ in range(30):
            chaos.act(dice.choice(["native", "udp", "lost", "leave", "home", "speak", "wait"]), dice.randrange(40))
            chaos.deliver(dice.randrange(4))
        chaos.under_way.clear()
        chaos.act("native", 5)
        chaos.deliver(0)
        assert chaos.bench.paths[0] == PLACES[2].packed
        chaos.check()
        (sent, *_) = chaos.bench.agent.intercept(udp(CN, MN, b"now"), chaos.now)
        assert isinstance(sent, Transmit)
        assert sent.packet[24:40] == PLACES[2].packed
