"""What becomes of packets: delivery, echo, errors, path MTU, fragments (RFC 8200, 4443, 8201, 5722, 6946)."""

from __future__ import annotations

from ipaddress import IPv6Address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.discards import Reason
from mobility.host import PathMtuChanged, fragments
from mobility.outputs import Arrived, Discarded
from mobility.wire import icmp6, ip6, ndisc
from tests.mobility.host.rig import FAR, ROUTER, ROUTER_MAC, STRANGER_MAC, Rig, settled, udp

HOME = IPv6Address("2001:db8:a::77")


@pytest.mark.parametrize("protocol", [ip6.UDP, ip6.TCP, ip6.ESP, ip6.AH, ip6.IPV6, ip6.IPV4, ip6.MOBILITY])
def test_upper_layers_go_to_the_owner_padding_cut_off(protocol: int) -> None:
    rig, address = settled()
    packet = ip6.packet(FAR, address, protocol, b"12345")
    assert rig.receive(packet) == [Arrived(packet, "wlan0")]
    assert rig.receive(packet + bytes(13)) == [Arrived(packet, "wlan0")]
    assert rig.counter("arrived") == 2


def test_packets_with_mobile_ipv6_headers_go_to_the_owner_whole() -> None:
    rig, address = settled()
    plain = ip6.packet(FAR, address, ip6.ICMPV6, bytes(8))
    for packet in (
        ip6.insert(plain, ip6.routing_header(HOME, ip6.ICMPV6), ip6.ROUTING),
        ip6.insert(plain, ip6.home_address_option(HOME, ip6.ICMPV6), ip6.DEST_OPTIONS),
    ):
        assert rig.receive(packet) == [Arrived(packet, "wlan0")]


def test_packets_for_others_and_from_groups_are_refused() -> None:
    rig, address = settled()
    rig.receive(udp(FAR, HOME))
    assert rig.reasons == [Reason.NOT_OURS]
    rig.receive(udp(FAR, IPv6Address("ff02::1234")))
    assert rig.reasons == [Reason.NOT_OURS]
    rig.receive(udp(ndisc.ALL_NODES, address))
    assert rig.reasons == [Reason.SOURCE_INVALID]
    rig.receive(udp(FAR, ndisc.ALL_NODES))
    assert len(rig.arrived) == 1


def test_packets_to_ourselves_come_back_and_to_groups_go_out() -> None:
    rig, address = settled()
    packet = udp(rig.link_local, address)
    assert rig.send(packet) == [Arrived(packet, "wlan0")]
    rig.send(udp(address, IPv6Address("ff02::fb")))
    assert [output.to for output in rig.transmitted] == [bytes.fromhex("3333000000fb")]
    rig.send(b"")
    assert rig.reasons == [Reason.MALFORMED]
    rig.note(rig.host.send_via(b"short", ROUTER.packed, rig.now))
    assert rig.reasons == [Reason.MALFORMED]


def test_echo_requests_are_answered() -> None:
    rig, address = settled()
    rig.receive(icmp6.packet(FAR, address, icmp6.Echo(7, 9, b"abc")))
    (reply,) = rig.transmitted
    assert (reply.packet[8:24], reply.packet[24:40], reply.to) == (address.packed, FAR.packed, ROUTER_MAC)
    icmp6.verify(reply.packet[8:24], reply.packet[24:40], reply.packet[40:])
    assert rig.icmp() == [icmp6.Echo(7, 9, b"abc", reply=True)]
    rig.receive(icmp6.packet(FAR, ndisc.ALL_NODES, icmp6.Echo(7, 9)))
    assert [output.packet[8:24] for output in rig.transmitted] == [address.packed]
    rig.receive(icmp6.packet(IPv6Address("::"), address, icmp6.Echo(7, 9)))
    assert rig.reasons == [Reason.SOURCE_INVALID]
    answer = icmp6.packet(FAR, address, icmp6.Echo(7, 9, reply=True))
    assert rig.receive(answer) == [Arrived(answer, "wlan0")]


def test_echo_requests_for_a_host_os_are_left_to_it() -> None:
    rig, address = settled()
    rig.host.programs.add(address.packed)
    request = icmp6.packet(FAR, address, icmp6.Echo(7, 9, b"abc"))
    assert rig.receive(request) == [Arrived(request, "wlan0")]
    rig.receive(icmp6.packet(FAR, ndisc.ALL_NODES, icmp6.Echo(7, 9)))
    assert rig.icmp() == [icmp6.Echo(7, 9, reply=True)]


def test_wrong_checksums_and_useless_messages_are_dropped() -> None:
    rig, address = settled()
    good = icmp6.packet(FAR, address, icmp6.Echo(1, 1))
    rig.receive(good[:42] + bytes(2) + good[44:])
    assert rig.reasons == [Reason.CHECKSUM_WRONG]
    rig.receive(icmp6.packet(FAR, address, icmp6.Unknown(200, 0, bytes(4))))
    assert rig.reasons == [Reason.ICMP_IGNORED]
    rig.receive(ip6.packet(FAR, address, ip6.ICMPV6, b"\x80"))
    assert rig.reasons == [Reason.CHECKSUM_WRONG]
    rig.receive(ip6.packet(FAR, address, ip6.NO_NEXT, b""))
    assert rig.reasons == [Reason.HEADER_UNKNOWN]
    assert rig.transmitted == []


def test_unknown_headers_and_options_are_reported() -> None:
    rig, address = settled()
    strange = ip6.packet(FAR, address, 253, b"payload")
    rig.receive(strange)
    assert rig.reasons == [Reason.HEADER_UNKNOWN]
    assert rig.icmp() == [icmp6.ParameterProblem(icmp6.UNKNOWN_NEXT_HEADER, 6, strange)]
    for kind, answered, delivered in ((0x1E, 0, 1), (0x5E, 0, 0), (0x9E, 1, 0), (0xDE, 1, 0)):
        options = bytes((ip6.UDP, 0, kind, 4)) + bytes(4)
        packet = ip6.packet(FAR, address, ip6.DEST_OPTIONS, options + bytes(8))
        rig.receive(packet)
        assert (len(rig.icmp()), len(rig.arrived)) == (answered, delivered)
        if answered:
            assert rig.icmp() == [icmp6.ParameterProblem(icmp6.UNKNOWN_OPTION, 42, packet)]
        rig.run(1.0)
        rig.receive(ip6.packet(FAR, ndisc.ALL_NODES, ip6.DEST_OPTIONS, options + bytes(8)))
        assert len(rig.icmp()) == (kind == 0x9E)
    routing = ip6.packet(FAR, address, ip6.ROUTING, bytes((ip6.UDP, 2, 0, 1)) + bytes(20) + bytes(8))
    rig.receive(routing)
    assert rig.icmp() == [icmp6.ParameterProblem(icmp6.ERRONEOUS_HEADER_FIELD, 42, routing)]


def test_errors_are_rate_limited_and_never_about_errors() -> None:
    rig, address = settled()
    sent = 0
    for _ in range(100):
        rig.receive(ip6.packet(FAR, address, 253, b"x"))
        sent += len(rig.icmp())
    assert sent == 10
    assert rig.counter("errors-withheld") == 90
    rig.run(1.0)
    quoted = icmp6.packet(FAR, address, icmp6.DestinationUnreachable(0, udp(address)))
    rig.note(rig.host.report(icmp6.ParameterProblem(0, 0, quoted), rig.now))
    assert rig.transmitted == []
    rig.note(rig.host.report(icmp6.DestinationUnreachable(1, udp(IPv6Address("::"), address)), rig.now))
    assert rig.transmitted == []
    rig.note(rig.host.report(icmp6.DestinationUnreachable(1, udp(FAR, address)), rig.now))
    assert len(rig.transmitted) == 1


# ---------------------------------------------------------------- path MTU


def too_big(mtu: int, quoted: bytes, to: IPv6Address) -> bytes:
    return icmp6.packet(ROUTER, to, icmp6.PacketTooBig(mtu, quoted))


def test_packet_too_big_lowers_the_path_mtu_for_ten_minutes() -> None:
    rig, address = settled()
    packet = too_big(1400, udp(address), address)
    rig.receive(packet)
    assert rig.events(PathMtuChanged) == [PathMtuChanged("wlan0", FAR, 1400)]
    assert rig.arrived == [packet]
    assert rig.host.path_mtu(FAR.packed) == 1400
    rig.receive(too_big(1450, udp(address), address))
    assert rig.host.path_mtu(FAR.packed) == 1400  # never up
    rig.run(599.0)
    assert rig.host.path_mtu(FAR.packed) == 1400
    rig.run(2.0)
    assert rig.events(PathMtuChanged) == [PathMtuChanged("wlan0", FAR, 1500)]


def test_packet_too_big_of_strangers_is_ignored() -> None:
    rig, address = settled()
    before = rig.tables
    for packet in (
        too_big(1300, udp(HOME), address),  # we cannot have sent that
        too_big(1279, udp(address), address),
        too_big(1300, udp(address)[:39], address),
        too_big(1300, b"", address),
    ):
        rig.receive(packet)
        assert rig.reasons == [Reason.ICMP_IGNORED]
        assert rig.tables == before
    rig.receive(icmp6.packet(ROUTER, address, icmp6.DestinationUnreachable(0, udp(HOME))))
    assert rig.reasons == [Reason.ICMP_IGNORED]
    rig.receive(icmp6.packet(ROUTER, address, icmp6.DestinationUnreachable(0, udp(address))))
    assert len(rig.arrived) == 1


def test_the_path_mtu_cache_is_bounded() -> None:
    rig, address = settled()
    for number in range(300):
        rig.receive(too_big(1300, udp(address, IPv6Address(f"2001:db8:f::{number:x}")), address))
    table = rig.host.snapshot(rig.now)["path_mtus"]
    assert isinstance(table, dict)
    assert len(table) == 256
    assert "2001:db8:f::12b" in table
    assert "2001:db8:f::1" not in table


# ---------------------------------------------------------------- fragments


def reassemble(rig: Rig, pieces: list[bytes]) -> list[bytes]:
    arrived: list[bytes] = []
    for piece in pieces:
        rig.receive(piece)
        arrived += rig.arrived
    return arrived


def test_our_own_big_packets_leave_in_fragments_and_those_of_others_do_not() -> None:
    rig, address = settled()
    packet = udp(address, FAR, 4000)
    rig.send(packet)
    pieces = [output.packet for output in rig.transmitted]
    assert [len(piece) for piece in pieces] == [1496, 1496, 1152]
    other = Rig()
    other.note(other.host.add_address(FAR, 0.0))
    assert reassemble(other, pieces) == [packet]
    rig.send(udp(HOME, FAR, 4000))
    assert rig.reasons == [Reason.TOO_BIG]
    rig.receive(icmp6.packet(FAR, address, icmp6.Echo(1, 2, bytes(1452))))
    assert len(rig.transmitted) == 1
    rig.send(ip6.packet(address, FAR, ip6.HOP_BY_HOP, bytes((ip6.UDP, 200)) + bytes(1606) + bytes(100)))
    assert rig.reasons == [Reason.MALFORMED]


@given(
    size=st.integers(0, 20000),
    mtu=st.integers(1280, 9000),
    seed=st.integers(0, 1000),
    extension=st.sampled_from(["none", "hop", "routing", "options"]),
)
def test_fragments_in_any_order_and_twice_make_the_packet_again(size: int, mtu: int, seed: int, extension: str) -> None:
    rig, address = settled()
    packet = ip6.packet(FAR, address, ip6.UDP, Random(seed).randbytes(size))
    if extension == "hop":
        packet = ip6.insert(packet, bytes((ip6.UDP, 0, 1, 4)) + bytes(4), ip6.HOP_BY_HOP)
    elif extension == "routing":
        packet = ip6.insert(packet, ip6.routing_header(HOME, ip6.UDP), ip6.ROUTING)
    elif extension == "options":
        packet = ip6.insert(packet, ip6.home_address_option(HOME, ip6.UDP), ip6.DEST_OPTIONS)
    pieces = fragments.fragment(packet, mtu, seed)
    assert all(len(piece) <= mtu for piece in pieces)
    if len(pieces) > 1:
        shuffled = pieces[:-1] * 2
        Random(seed).shuffle(shuffled)
        assert reassemble(rig, shuffled) == []
        assert reassemble(rig, pieces[-1:]) == [packet]


def piece(address: IPv6Address, offset: int, more: bool, body: bytes, identification: int = 1) -> bytes:
    header = bytes((ip6.UDP, 0)) + (offset | more).to_bytes(2) + identification.to_bytes(4)
    return ip6.packet(FAR, address, ip6.FRAGMENT, header + body)


@pytest.mark.parametrize(
    "second",
    [
        (8, True, bytes(16)),
        (0, True, b"\1" * 16),
        (8, False, b""),
        (8, False, bytes(8)),
    ],
)
def test_overlapping_fragments_discard_the_whole_packet(second: tuple[int, bool, bytes]) -> None:
    rig, address = settled()
    assert reassemble(rig, [piece(address, 0, True, bytes(16)), piece(address, *second)]) == []
    assert rig.reasons == [Reason.FRAGMENT_INVALID]
    rig.receive(piece(address, 16, False, bytes(8)))
    assert rig.arrived == []


def test_a_first_fragment_with_more_headers_than_the_others_may_not_make_the_packet_too_large() -> None:
    rig, address = settled()
    body = 1400
    pieces = [piece(address, at, True, bytes(body)) for at in range(body, 46 * body, body)]
    pieces.append(piece(address, 46 * body, False, bytes(0xFFFF - 46 * body)))
    first = ip6.insert(piece(address, 0, True, bytes(body)), bytes((ip6.FRAGMENT, 0, 1, 4)) + bytes(4), ip6.HOP_BY_HOP)
    assert reassemble(rig, [*pieces, first]) == []
    assert rig.reasons == [Reason.FRAGMENT_INVALID]


def test_impossible_fragments_are_told_to_the_sender() -> None:
    rig, address = settled()
    odd = piece(address, 0, True, bytes(9))
    rig.receive(odd)
    assert rig.reasons == [Reason.FRAGMENT_INVALID]
    assert rig.icmp() == [icmp6.ParameterProblem(0, 4, odd)]
    far = piece(address, 65528, True, bytes(16))
    rig.receive(far)
    assert rig.icmp() == []  # `wire` lets no error go out about a later fragment
    assert rig.reasons == [Reason.FRAGMENT_INVALID]
    atomic = piece(address, 0, False, bytes(12))
    rig.receive(atomic)
    assert rig.arrived == [ip6.packet(FAR, address, ip6.UDP, bytes(12))]


def test_incomplete_packets_time_out() -> None:
    rig, address = settled()
    first = piece(address, 0, True, bytes(16))
    rig.receive(first)
    rig.receive(piece(address, 16, True, bytes(16), 2))
    rig.run(60.0)
    assert rig.reasons == [Reason.FRAGMENT_TIMEOUT] * 2
    assert rig.icmp() == [icmp6.TimeExceeded(icmp6.REASSEMBLY_TIME_EXCEEDED, first)]
    rig.receive(piece(address, 16, False, bytes(16)))
    assert rig.arrived == []


def test_floods_of_fragments_are_bounded() -> None:
    rig, address = settled()
    for number in range(100):
        rig.receive(piece(address, 0, True, bytes(16), number))
    assert rig.reasons == [Reason.FRAGMENT_LIMIT]
    assert rig.arrived == []
    rig.receive(piece(address, 16, False, b"end", 99))
    assert len(rig.arrived) == 1
    limited = 0
    for number in range(40):
        for block in range(40):
            rig.receive(piece(address, block * 1400, True, bytes(1400), 1000 + number))
            limited += Reason.FRAGMENT_LIMIT in rig.reasons
    assert limited > 10
    rig.run(61.0)
    rig.receive(piece(address, 8, True, bytes(8), 5000))
    for block in range(2, 300):
        rig.receive(piece(address, block * 8, True, bytes(8), 5000))
        if rig.reasons:
            break
    assert rig.reasons == [Reason.FRAGMENT_INVALID]
    assert block == 257


def test_two_ends_of_one_packet_are_refused() -> None:
    rig, address = settled()
    rig.receive(piece(address, 0, True, bytes(16)))
    rig.receive(piece(address, 24, True, bytes(8)))
    rig.receive(piece(address, 16, False, bytes(8)))  # ends before what is there already
    assert rig.reasons == [Reason.FRAGMENT_INVALID]
    rig.receive(piece(address, 16, False, bytes(8), 2))
    rig.receive(piece(address, 24, False, bytes(8), 2))
    assert rig.reasons == [Reason.FRAGMENT_INVALID]


def test_neighbour_discovery_in_fragments_is_refused() -> None:
    rig, address = settled()
    before = rig.tables
    whole = ndisc.packet(
        IPv6Address("fe80::2"),
        address,
        ndisc.RouterAdvertisement(1800, options=(ndisc.SourceLinkAddress(STRANGER_MAC),)),
    )
    header = bytes((ip6.ICMPV6, 0)) + bytes(2) + bytes(4)
    rig.receive(ip6.packet(IPv6Address("fe80::2"), address, ip6.FRAGMENT, header + whole[40:], 255), STRANGER_MAC)
    assert rig.reasons == [Reason.NDISC_INVALID]
    assert rig.tables == before


# ---------------------------------------------------------------- anything


def corpus(rig: Rig, address: IPv6Address) -> list[bytes]:
    advertisement = ndisc.RouterAdvertisement(
        1800,
        64,
        options=(ndisc.SourceLinkAddress(ROUTER_MAC), ndisc.Mtu(1400), ndisc.PrefixInformation(HOME, 64, 9, 9)),
    )
    return [
        ndisc.packet(ROUTER, ndisc.ALL_NODES, advertisement),
        ndisc.packet(ROUTER, address, ndisc.NeighborSolicitation(address, (ndisc.SourceLinkAddress(ROUTER_MAC),))),
        ndisc.packet(ROUTER, address, ndisc.NeighborAdvertisement(ROUTER, True, True, True)),
        icmp6.packet(FAR, address, icmp6.Echo(1, 1, b"data")),
        too_big(1300, udp(address), address),
        piece(address, 0, True, bytes(16)),
        ip6.packet(FAR, address, ip6.DEST_OPTIONS, ip6.home_address_option(HOME, ip6.UDP) + bytes(8)),
        ip6.packet(FAR, address, ip6.ROUTING, ip6.routing_header(HOME, ip6.UDP) + bytes(8)),
        udp(FAR, address),
    ]


def test_packets_cut_at_every_octet_are_dropped_with_a_reason_and_change_nothing() -> None:
    rig, address = settled()
    rig.send(udp(address))
    before = rig.tables
    for packet in corpus(rig, address):
        for size in range(len(packet)):
            rig.receive(packet[:size])
            assert rig.reasons == [Reason.MALFORMED]
            fixed = packet[:4] + max(0, size - 40).to_bytes(2) + packet[6:size]
            if 40 <= size and packet[6] == ip6.ICMPV6:  # the length is right, the checksum cannot be
                rig.receive(fixed)
                assert rig.reasons in ([Reason.CHECKSUM_WRONG], [Reason.NDISC_INVALID])
    assert rig.tables == before


@given(data=st.data())
def test_nothing_that_comes_from_the_network_raises(data: st.DataObject) -> None:
    rig, address = settled()
    rig.note(rig.host.add_proxy(HOME, rig.now))
    rig.send(udp(address))
    packets = corpus(rig, address)
    for _ in range(data.draw(st.integers(1, 6))):
        packet = bytearray(data.draw(st.one_of(st.sampled_from(packets), st.binary(max_size=120))))
        for _ in range(data.draw(st.integers(0, 4))):
            if packet:
                packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
        if len(packet) >= 48 and data.draw(st.booleans()):
            length = (len(packet) - 40).to_bytes(2)
            packet[4:6] = length
            if packet[6] == ip6.ICMPV6:
                packet[42:44] = bytes(2)
                value = ip6.checksum(bytes(packet[8:24]), bytes(packet[24:40]), ip6.ICMPV6, bytes(packet[40:]))
                packet[42:44] = value.to_bytes(2)
        rig.receive(bytes(packet), data.draw(st.sampled_from([ROUTER_MAC, STRANGER_MAC])))
        for output in rig.latest:
            assert not isinstance(output, Discarded) or output.where == "host-wlan0"
        if data.draw(st.booleans()):
            rig.run(data.draw(st.sampled_from([0.1, 1.0, 61.0])))
