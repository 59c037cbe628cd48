"""Packets at the stages that they pass, as a watcher sees them; what of it is bounded; and layers for displays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.dissection import Layer, Stage, dissect, unfolded
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.memory import Station
from mobility.outputs import Output
from mobility.packet_stream import BATCH, BURST, QUEUE, PacketStream
from mobility.trace import Trace

from .domain import DomainNetwork
from .live import Observed
from .test_translating import call
from .whole import CN, HA, MN, Network, udp

FORMS = list(TunnelForm)


class Watched(Observed):
    """A node with a watcher, in a world in memory."""

    def __init__(self, station: Station) -> None:
        super().__init__(station.node, Trace())
        self.told: list[Mapping[str, object]] = []
        self.stream = PacketStream(
            self.node, lambda line, _: self.told.append(json.loads(line)), lambda: station.world.now, rate=1e6
        )
        self.observer.follow(self.stream)
        station.node = self

    def done(self, outputs: list[Output]) -> list[Output]:
        super().done(outputs)
        while self.stream.wait == 0.0:
            self.stream.turned()
        return outputs

    def packets(self) -> list[list[Stage]]:
        """What was told, by packet."""
        found: dict[int, list[Stage]] = {}
        for event in self.told:
            records = event["packets"]
            assert isinstance(records, list)
            for record in records:
                stage = Stage.of(record)
                found.setdefault(stage.number, []).append(stage)
        return list(found.values())


def watched(network: Network) -> Watched:
    return Watched(network.world.stations["mn"])


def settled(network: Network) -> Network:
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    return network


def names(stages: list[Stage]) -> list[str]:
    return [stage.stage for stage in stages]


def kinds(layers: tuple[Layer, ...]) -> list[str]:
    return [layer.kind for layer in layers]


@pytest.mark.parametrize("form", FORMS)
def test_a_packet_has_one_number_at_all_its_stages_and_both_esp_layers_show(form: TunnelForm) -> None:
    network = settled(Network(form))
    watcher = watched(network)
    network.talk(1)
    network.run(2)
    out = [p for p in watcher.packets() if p[0].stage == "host"]
    inbound = [p for p in watcher.packets() if p[-1].stage == "host"]
    assert len(out) == len(inbound) == 50
    assert {tuple(names(p)) for p in out} == {("host", "application", "tunnel", "wire")}
    assert {tuple(names(p)) for p in inbound} == {("wire", "tunnel", "application", "host")}
    tunnel = ["ipv6", "esp"] if form is not TunnelForm.PLAIN else ["ipv6"]
    for stages in (*out, *inbound):
        layers = unfolded(stages)
        assert kinds(layers) == [*tunnel, "ipv6", "esp", "udp", "data"]
        assert {MN, CN} <= {IPv6Address(end) for layer in layers[-4:] for end in layer.ends or ()}
        assert {stage.outbound for stage in stages} == {stages[0].outbound}
    spis = {layer.summary.split()[1] for layer in unfolded(out[0]) if layer.kind == "esp"}
    assert spis == ({"0x00001002", "0x00000100"} if tunnel[1:] else {"0x00000100"})


def test_signalling_shows_what_was_encrypted() -> None:
    network = Network()
    network.start_agent()
    watcher = watched(network)
    network.plug(network.a)
    network.run(3)
    update = next(p for p in watcher.packets() if p[0].stage == "node" and p[-1].stage == "wire")
    assert names(update) == ["node", "signalling", "wire"]
    assert kinds(unfolded(update)) == ["ipv6", "option", "esp", "mobility"]
    assert unfolded(update)[-1].name == "Binding Update"
    answer = next(p for p in watcher.packets() if names(p) == ["wire", "signalling"])
    assert unfolded(answer)[-1].name == "Binding Acknowledgement"
    assert "accepted (0)" in unfolded(answer)[-1].summary


def test_a_packet_that_waited_for_a_handover_keeps_its_number() -> None:
    network = settled(Network())
    watcher = watched(network)
    network.talk(2)
    network.run(1)
    network.move(network.b, gap=0.1)
    network.run(4)
    out = [p for p in watcher.packets() if p[0].stage == "host"]
    assert len(out) == 100
    late = [p for p in out if p[-1].time > p[0].time]
    assert len(late) >= 2  # they waited
    assert {tuple(names(p)) for p in out} == {("host", "application", "tunnel", "wire")}


def test_through_udp() -> None:
    network = Network()
    network.start_agent()
    network.join(network.hotspot)
    network.run(3)
    watcher = watched(network)
    network.talk(0.5)
    network.run(1)
    out = next(p for p in watcher.packets() if p[0].stage == "host")
    inbound = next(p for p in watcher.packets() if p[-1].stage == "host")
    assert names(out) == ["host", "application", "tunnel", "wire"]
    assert names(inbound) == ["wire", "tunnel", "application", "host"]
    for stages in (out, inbound):
        assert kinds(unfolded(stages)) == ["ipv4", "udp", "esp", "ipv6", "esp", "udp", "data"]
        assert {stage.where for stage in stages if stage.stage == "wire"} == {"wlan1/udp4"}


def test_through_the_tunnel_of_a_map() -> None:
    network = DomainNetwork(1, regional_form=TunnelForm.ESP)
    network.start_agent()
    network.plug(network.a)
    network.run(5)
    watcher = watched(network)
    network.talk(0.5)
    network.run(1)
    out = next(p for p in watcher.packets() if p[0].stage == "host")
    inbound = next(p for p in watcher.packets() if p[-1].stage == "host")
    assert names(out) == ["host", "application", "tunnel", "regional", "wire"]
    assert names(inbound) == ["wire", "regional", "tunnel", "application", "host"]
    for stages in (out, inbound):
        assert kinds(unfolded(stages)) == ["ipv6", "esp"] * 3 + ["udp", "data"]


def test_the_translation_is_a_stage() -> None:
    made = call()
    made.network.plug(made.network.a)
    made.run(2)
    watcher = watched(made.network)
    made.talk(0.1)
    made.run(1)
    out = next(p for p in watcher.packets() if p[0].stage == "host")
    inbound = next(p for p in watcher.packets() if p[-1].stage == "host")
    assert names(out) == ["host", "translation", "application", "tunnel", "wire"]
    assert names(inbound) == ["wire", "tunnel", "application", "host"]
    for stages in (out, inbound):
        assert kinds(unfolded(stages)) == ["ipv6", "esp", "ipv6", "esp", "udp", "data"]
    assert kinds(dissect(inbound[-1].octets))[0] == "ipv4"


def test_a_discard_has_the_number_of_its_packet() -> None:
    network = settled(Network())
    seen: list[bytes] = []
    station = network.world.stations["mn"]
    watcher = watched(network)
    network.talk(0.1)
    receive = watcher.node.from_link

    def keep(link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        seen.append(packet)
        return receive(link, packet, sender, now)

    watcher.node.from_link = keep  # type: ignore[method-assign]
    network.run(0.5)
    esp = next(packet for packet in seen if packet[6] == 50)
    station.receive("wlan0", esp, b"\2\0\0\0\0\1")
    network.run(0.2)
    replayed = next(p for p in watcher.packets() if p[-1].stage == "discarded")
    assert names(replayed) == ["wire", "discarded"]
    assert (replayed[-1].reason, replayed[-1].where) == ("replayed", "receive-routine")


def test_nothing_is_looked_at_when_nobody_watches() -> None:
    network = settled(Network())
    watcher = watched(network)
    parts = [part for _, part in network.terminal.ipsec_parts()]
    assert [part.tap is None for part in parts] == [False, False]
    watcher.stream.watch(False)
    assert [part.tap is None for part in parts] == [True, True]
    assert watcher.stream.wait is None
    watcher.stream.turned()
    assert not [event for event in watcher.told if event["packets"]]


def test_a_flood_is_sampled_packet_by_packet_and_what_is_missed_is_counted() -> None:
    told: list[Mapping[str, object]] = []
    time = 0.0
    stream = PacketStream(object(), lambda line, _count: told.append(json.loads(line)), lambda: time, rate=100.0)
    stream.watch(True)
    packet = udp(MN, CN, bytes(100))
    for turn in range(200):
        for _ in range(50):  # 10,000 packets in two seconds
            stream.packet("host", True, packet, packet)
            stream.packet("wlan0", True, packet, packet)
            stream.carried_out()
        time += 0.01
        stream.turned()
        assert len(stream._records) <= QUEUE, turn
    while stream.wait is not None:
        time += 1.1
        stream.turned()
    records = [record for event in told for record in event["packets"]]  # type: ignore[attr-defined]
    assert all(len(event["packets"]) <= BATCH for event in told)  # type: ignore[arg-type]
    followed = len({record["packet"] for record in records})
    assert BURST + 150 <= followed <= BURST + 201
    assert len(records) == 2 * followed  # all stages of a packet, or none
    assert followed + sum(int(str(event.get("missed", 0))) for event in told) == 10_000


SPEECH = udp(MN, CN, b"\x80\x6f\0\1" + bytes(8) + bytes(80), (16384, 16386))
INVITE = b"INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP host\r\n"


@pytest.mark.parametrize(
    ("packet", "last"),
    [
        (SPEECH, ("rtp", "type 111 #1, 80 octets of sound")),
        (udp(MN, CN, b"\x81\xc8\0\1" + bytes(24)), ("rtcp", "sender report from 0x00000000")),
        (udp(MN, CN, INVITE, (5060, 5060)), ("sip", "INVITE sip:bob@example.org SIP/2.0")),
        (udp(MN, CN, b"SIP/2.0 180 Ringing\r\n", (5060, 5060)), ("sip", "SIP/2.0 180 Ringing")),
        (udp(HA, MN, b"\xff", (4191, 4191)), ("data", "one octet, for NATs on the way")),
        (udp(HA, MN, SPEECH, (4191, 4191)), ("rtp", "type 111 #1, 80 octets of sound")),
    ],
)
def test_layers(packet: bytes, last: tuple[str, str]) -> None:
    layer = dissect(packet)[-1]
    assert (layer.kind, layer.summary) == last


def test_a_packet_that_was_cut_off_still_has_its_layers() -> None:
    assert kinds(dissect(SPEECH[:70])) == ["ipv6", "udp", "rtp"]
    for size in range(1, len(SPEECH)):
        assert dissect(SPEECH[:size])


@given(st.binary(max_size=300))
def test_any_octets_have_layers(octets: bytes) -> None:
    assert dissect(octets)


@given(st.lists(st.tuples(st.sampled_from(["wire", "tunnel", "host"]), st.binary(max_size=80), st.booleans())))
def test_any_stages_unfold(stages: list[tuple[str, bytes, bool]]) -> None:
    unfolded([Stage(1, 0.0, stage, "", outbound, len(octets), octets) for stage, octets, outbound in stages])
