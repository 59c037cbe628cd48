"""UDP in the simulated world: endpoints, NAT boxes, blocked networks, the gateway to the segments."""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Interface, IPv6Network
from itertools import pairwise

import pytest

from mobility.discards import Reason
from mobility.links import describe_endpoint, endpoint
from mobility.net.memory import EndHost, Nat, RouterInterface, SimRouter, Station, World
from mobility.outputs import Output, Transmit
from mobility.wire import ip6

HA = IPv4Address("198.51.100.10")
PUBLIC = IPv4Address("203.0.113.7")
PRIVATE = IPv4Address("192.168.0.2")
AGENT = endpoint(HA, 4191)
UDP4 = "wlan0/udp4"


class Talker:
    """A node that notes what it is told, and answers what comes when it is an echo."""

    def __init__(self, *, echo: bool = False) -> None:
        self.echo = echo
        self.received: list[tuple[str, bytes, bytes, float]] = []
        self.told: list[tuple[str, IPv4Address | IPv6Address | None, int, float]] = []

    @property
    def timer(self) -> float | None:
        return None

    def start(self, now: float) -> list[Output]:
        return []

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        return []

    def udp_changed(self, link: str, address: IPv4Address | IPv6Address | None, mtu: int, now: float) -> list[Output]:
        self.told.append((link, address, mtu, now))
        return []

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        self.received.append((link, packet, sender, now))
        return [Transmit(packet, sender, link)] if self.echo else []

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        return []

    def handle_timer(self, now: float) -> list[Output]:
        return []

    def snapshot(self, now: float) -> dict[str, object]:
        return {}

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload, _, _ in self.received]


def network(seed: int = 1, *, strict: bool = False, timeout: float = 30.0) -> tuple[World, Talker, Talker, Nat]:
    """A home agent that echoes on the internet, and a terminal behind NAT."""
    world = World(seed)
    internet = world.internet("internet", delay=0.010)
    box = world.nat("hotspot", internet, PUBLIC, timeout=timeout, strict=strict, delay=0.002)
    mn, ha = Talker(), Talker(echo=True)
    world.add("mn", mn)
    world.add("ha", ha)
    world.attach_udp("ha", f"udp/{HA}", internet, HA, 4191)
    world.attach_udp("mn", UDP4, box, PRIVATE)
    return world, mn, ha, box


def send(world: World, payload: bytes, to: bytes = AGENT, name: str = "mn", link: str = UDP4) -> None:
    world.stations[name].carry_out([Transmit(payload, to, link)])


def test_the_node_is_told_of_its_socket_and_a_datagram_comes_back_translated_after_a_round_trip() -> None:
    world, mn, ha, box = network()
    assert mn.told == [(UDP4, PRIVATE, 1500, 0.0)]
    send(world, b"hello")
    world.run(until=1.0)
    ((_, payload, seen_from, _),) = ha.received
    assert (payload, seen_from[:16]) == (b"hello", endpoint(PUBLIC, 0)[:16])
    assert seen_from == box.mapping(world.stations["mn"].endpoints[UDP4].here)
    ((link, payload, sender, when),) = mn.received
    assert (link, payload, sender) == (UDP4, b"hello", AGENT)
    assert when == pytest.approx(2 * (0.002 + 0.010))


def test_two_endpoints_behind_one_box_get_different_ports_and_their_own_answers() -> None:
    world, mn, ha, _ = network()
    other = Talker()
    world.add("other", other)
    world.attach_udp("other", UDP4, "hotspot", IPv4Address("192.168.0.3"))
    send(world, b"one")
    send(world, b"two", name="other")
    world.run(until=1.0)
    assert len({sender for _, _, sender, _ in ha.received}) == 2
    assert mn.payloads == [b"one"]
    assert other.payloads == [b"two"]


def test_rebinding_makes_new_ports_and_what_goes_to_the_old_one_is_refused() -> None:
    world, mn, ha, box = network()
    send(world, b"before")
    world.run(until=1.0)
    old = ha.received[-1][2]
    box.rebind()
    send(world, b"to nobody", old, "ha", f"udp/{HA}")
    world.run(until=2.0)
    assert box.refused == 1
    send(world, b"after")
    world.run(until=3.0)
    new = ha.received[-1][2]
    assert new != old
    assert new[:16] == old[:16]
    assert mn.payloads == [b"before", b"after"]
    box.rebind(IPv4Address("203.0.113.9"))
    send(world, b"elsewhere")
    world.run(until=4.0)
    assert ha.received[-1][2][:16] == endpoint(IPv4Address("203.0.113.9"), 0)[:16]
    send(world, b"gone", new, "ha", f"udp/{HA}")
    world.run(until=5.0)
    assert world.internets["internet"].unreachable == 1
    with pytest.raises(ValueError, match="taken"):
        world.nat("other", "internet", IPv4Address("203.0.113.9"))


def test_a_mapping_lives_by_what_goes_out_and_ends_after_the_timeout() -> None:
    world, mn, ha, box = network(timeout=30.0)
    for at in (0.0, 29.0, 58.0):
        world.run(until=at)
        send(world, b"alive")
    world.run(until=60.0)
    port = ha.received[0][2]
    assert [sender for _, _, sender, _ in ha.received] == [port] * 3
    send(world, b"in time", port, "ha", f"udp/{HA}")
    world.run(until=88.5)
    send(world, b"too late", port, "ha", f"udp/{HA}")
    world.run(until=90.0)
    assert mn.payloads[-1] == b"in time"
    assert box.refused == 1
    send(world, b"again")
    world.run(until=91.0)
    assert ha.received[-1][2] != port


@pytest.mark.parametrize("strict", [False, True])
def test_a_stranger_gets_through_a_mapping_only_where_filtering_does_not_look_at_him(strict: bool) -> None:
    world, mn, ha, box = network(strict=strict)
    world.add("stranger", Talker())
    world.attach_udp("stranger", "udp/x", "internet", IPv4Address("192.0.2.66"), 4191)
    send(world, b"hello")
    world.run(until=1.0)
    send(world, b"psst", ha.received[0][2], "stranger", "udp/x")
    world.run(until=2.0)
    assert (b"psst" in mn.payloads) is not strict
    assert box.refused == strict


def test_boxes_may_stand_behind_boxes() -> None:
    world = World(1)
    world.internet("internet", delay=0.010)
    world.nat("carrier", "internet", PUBLIC)
    world.nat("home", "carrier", IPv4Address("100.64.0.5"))
    mn, ha = Talker(), Talker(echo=True)
    world.add("mn", mn)
    world.add("ha", ha)
    world.attach_udp("ha", f"udp/{HA}", "internet", HA, 4191)
    world.attach_udp("mn", UDP4, "home", PRIVATE)
    send(world, b"deep")
    world.run(until=1.0)
    assert ha.received[0][2][:16] == endpoint(PUBLIC, 0)[:16]
    assert mn.payloads == [b"deep"]


def test_a_blocked_network_passes_nothing_until_it_does() -> None:
    world, mn, ha, box = network()
    box.blocked = True
    send(world, b"captive")
    world.run(until=1.0)
    assert (ha.payloads, box.lost) == ([], 1)
    box.blocked = False
    send(world, b"free")
    world.run(until=2.0)
    assert mn.payloads == [b"free"]


def test_moving_tells_the_node_and_what_was_under_way_is_lost() -> None:
    world, mn, ha, _ = network()
    world.internet("office", "internet", delay=0.001, mtu=1400)
    send(world, b"under way")
    world.at(0.015, partial(world.move_udp, "mn", UDP4, "office", IPv4Address("198.51.100.99"), 5000, gap=0.1))
    world.run(until=0.2)
    assert ha.payloads == [b"under way"]
    assert mn.payloads == []
    assert [(address, mtu) for _, address, mtu, _ in mn.told] == [
        (PRIVATE, 1500),
        (None, 1500),
        (IPv4Address("198.51.100.99"), 1400),
    ]
    send(world, b"from the office")
    world.run(until=0.5)
    assert ha.received[-1][2] == endpoint(IPv4Address("198.51.100.99"), 5000)
    assert mn.payloads == [b"from the office"]
    # The address is still known to be there; a datagram to the closed endpoint ends there and does not go round.
    world.detach_udp("mn", UDP4)
    send(world, b"late", ha.received[-1][2], "ha", f"udp/{HA}")
    world.run(until=2.0)
    assert world.internets["office"].unreachable == 1
    assert len(mn.payloads) == 1


def test_impairments_happen_as_often_as_they_should_and_a_seed_repeats_them() -> None:
    def run(seed: int, **impairments: float) -> list[bytes]:
        world, _, ha, _ = network(seed)
        ha.echo = False
        for name, value in impairments.items():
            setattr(world.internets["internet"], name, value)
        for number in range(1000):
            world.at(number * 0.001, partial(send, world, number.to_bytes(4)))
        world.run(until=3.0)
        return ha.payloads

    in_order = [number.to_bytes(4) for number in range(1000)]
    assert run(1, jitter=0.05) == in_order
    lossy = run(1, loss=0.25)
    assert 680 < len(lossy) < 820
    assert lossy == sorted(lossy)
    assert 1180 < len(run(1, duplication=0.25)) < 1320
    reordered = run(1, reordering=0.25)
    assert sorted(reordered) == in_order
    assert 100 < sum(a > b for a, b in pairwise(reordered)) < 400
    assert run(1, loss=0.25) == lossy
    assert run(2, loss=0.25) != lossy


def test_long_datagrams_go_in_pieces_each_of_which_may_be_lost() -> None:
    world, _, ha, _ = network()
    internet = world.internets["internet"]
    ha.echo = False
    send(world, bytes(1472))
    world.run(until=1.0)
    assert internet.in_pieces == 0
    internet.loss = 0.5
    for number in range(400):
        world.at(1.0 + number * 0.01, partial(send, world, bytes(2000)))
    world.run(until=6.0)
    assert internet.in_pieces == 400
    assert 60 < len(ha.payloads) - 1 < 140


def test_datagrams_are_captured_with_their_endpoints() -> None:
    world, _, ha, _ = network()
    send(world, b"seen")
    world.run(until=1.0)
    first = world.internets["internet"].datagrams[0]
    assert (first.source, first.destination, first.payload) == (ha.received[0][2], AGENT, b"seen")
    assert str(first) == f"0.002000 internet {describe_endpoint(first.source)} > 198.51.100.10:4191 4"
    world.internets["internet"].capturing = False
    send(world, b"unseen")
    world.run(until=2.0)
    assert [d.payload for d in world.internets["internet"].datagrams] == [b"seen", b"seen"]


def test_a_node_that_dies_gets_no_datagrams_and_misuse_is_told() -> None:
    world, mn, _, _ = network()
    with pytest.raises(ValueError, match="detach it first"):
        world.attach_udp("mn", UDP4, "internet", PUBLIC)
    with pytest.raises(ValueError, match="taken already"):
        world.attach_udp("mn", "eth0/udp4", "internet", HA, 4191)
    with pytest.raises(ValueError, match="another name"):
        world.internet("hotspot")
    with pytest.raises(ValueError, match="no SimRouter"):
        world.gateway("mn", "internet", [])
    send(world, b"last words")
    world.remove("mn")
    world.run(until=1.0)
    assert mn.payloads == []
    assert world.internets["hotspot"].unreachable == 1


# ---------------------------------------------------------------- the gateway


MOBILE6 = IPv6Address("2001:db8:e::5")
HOST6 = IPv6Address("2001:db8:1::a")


def joined() -> tuple[World, Talker, Station]:
    """A terminal on the IPv6 internet, and a plain host on a segment behind the gateway."""
    world = World(1)
    world.internet("internet", delay=0.010)
    world.segment("home")
    mac, router_mac = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 2))
    own = RouterInterface("home", router_mac, IPv6Interface("2001:db8:1::1/64"), (IPv6Network("2001:db8:1::/64"),))
    world.add("router", SimRouter([own], world.random_bytes("router")))
    world.gateway("router", "internet", [IPv6Network("2001:db8:e::/48")])
    world.attach("router", "home", "home", router_mac)
    host = EndHost("eth0", mac, world.random_bytes("host"), addresses=[IPv6Interface(f"{HOST6}/64")])
    station = world.add("host", host)
    world.attach("host", "eth0", "home", mac)
    mn = Talker()
    world.add("mn", mn)
    world.attach_udp("mn", "wlan0/udp6", "internet", MOBILE6, 4000)
    world.run(until=2.0)
    return world, mn, station


def datagram(payload: bytes, source: IPv6Address, destination: IPv6Address, ports: tuple[int, int]) -> bytes:
    head = ports[0].to_bytes(2) + ports[1].to_bytes(2) + (8 + len(payload)).to_bytes(2)
    checksum = ip6.checksum(source.packed, destination.packed, ip6.UDP, head + b"\0\0" + payload)
    return ip6.packet(source, destination, ip6.UDP, head + checksum.to_bytes(2) + payload)


@pytest.mark.parametrize("size", [10, 1600])
def test_the_gateway_makes_packets_of_datagrams_and_datagrams_of_packets(size: int) -> None:
    world, mn, station = joined()
    payload = bytes(range(10)) * (size // 10)
    send(world, payload, endpoint(HOST6, 4191), "mn", "wlan0/udp6")
    world.run(until=3.0)
    ((_, packet),) = station.delivered
    assert packet == datagram(payload, MOBILE6, HOST6, (4000, 4191))
    station.send(datagram(payload[::-1], HOST6, MOBILE6, (4191, 4000)))
    world.run(until=4.0)
    assert [(link, answer, sender) for link, answer, sender, _ in mn.received] == [
        ("wlan0/udp6", payload[::-1], endpoint(HOST6, 4191))
    ]


def test_the_gateway_passes_only_sound_datagrams_of_udp() -> None:
    world, mn, station = joined()
    broken = bytearray(datagram(b"payload", HOST6, MOBILE6, (4191, 4000)))
    broken[-1] ^= 1
    station.send(bytes(broken))
    station.send(ip6.packet(HOST6, MOBILE6, ip6.TCP, bytes(20)))
    station.send(datagram(b"for you", HOST6, IPv6Address("2001:db8:1::1"), (4191, 4000)))
    world.run(until=4.0)
    assert mn.received == []
    reasons = [discarded.reason for _, discarded in world.stations["router"].discards if discarded.where == "gateway"]
    assert reasons == [Reason.MALFORMED, Reason.NOT_FORWARDED, Reason.NOT_FORWARDED]
