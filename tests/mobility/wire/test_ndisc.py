"""Neighbour discovery and listener reports against scapy in both directions, and against nonsense."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6MLDMultAddrRec,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptAdvInterval,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptHAInfo,
    ICMPv6NDOptMAP,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
    in6_getnsma,
)
from scapy.utils6 import in6_getnsmac

from mobility.wire import icmp6, ip6, mld, ndisc
from mobility.wire.errors import WireError
from mobility.wire.map_option import MapOption, RegistrationType
from tests.mobility.wire.values import link_local, outcome, u8, u16, u32, unicast

ROUTER, HOST = IPv6Address("fe80::1"), IPv6Address("fe80::2")
mac = st.binary(min_size=6, max_size=6)
prefixes = st.builds(
    ndisc.PrefixInformation,
    unicast,
    st.integers(0, 128),
    u32,
    u32,
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
u4 = st.integers(0, 15)
maps = st.builds(MapOption, unicast, u32, u4, u4, st.booleans(), st.booleans(), st.booleans(), st.booleans())
options = st.lists(
    st.one_of(
        st.builds(ndisc.SourceLinkAddress, mac),
        st.builds(ndisc.TargetLinkAddress, mac),
        prefixes,
        st.builds(ndisc.Mtu, u32),
        st.builds(ndisc.AdvertisementInterval, u32),
        st.builds(ndisc.HomeAgentInformation, u16, u16),
        st.builds(ndisc.Nonce, mac),
        maps,
        st.builds(ndisc.UnknownNeighborOption, st.integers(24, 255), st.sampled_from([bytes(6), bytes(14)])),
    ),
    max_size=5,
).map(tuple)
messages = st.one_of(
    st.builds(ndisc.RouterSolicitation, options),
    st.builds(
        ndisc.RouterAdvertisement,
        u16,
        u8,
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.sampled_from(ndisc.Preference),
        u32,
        u32,
        options,
    ),
    st.builds(ndisc.NeighborSolicitation, unicast, options),
    st.builds(ndisc.NeighborAdvertisement, unicast, st.booleans(), st.booleans(), st.booleans(), options),
)


@given(messages)
def test_comes_back_as_it_was_built(message: ndisc.Message) -> None:
    assert ndisc.parse(ndisc.packet(ROUTER, HOST, message)) == message


@given(messages)
def test_scapy_reads_it_and_its_rebuilt_bytes_are_ours(message: ndisc.Message) -> None:
    packet = ndisc.packet(ROUTER, HOST, message)
    seen = IPv6(packet)
    assert (seen.hlim, seen.nh) == (255, 58)
    checksum = seen.payload.cksum
    del seen.payload.cksum
    assert IPv6(bytes(seen)).payload.cksum == checksum
    kinds = {
        ndisc.RouterSolicitation: ICMPv6ND_RS,
        ndisc.RouterAdvertisement: ICMPv6ND_RA,
        ndisc.NeighborSolicitation: ICMPv6ND_NS,
        ndisc.NeighborAdvertisement: ICMPv6ND_NA,
    }
    assert isinstance(seen.payload, kinds[type(message)])


@given(
    prefixes, mac, u32, u32, u16, u16, st.booleans(), st.booleans(), st.booleans(), st.sampled_from(ndisc.Preference)
)
def test_router_advertisement_of_scapy(
    prefix: ndisc.PrefixInformation,
    address: bytes,
    mtu: int,
    interval: int,
    preference: int,
    lifetime: int,
    managed: bool,
    other: bool,
    agent: bool,
    rank: ndisc.Preference,
) -> None:
    layer = (
        ICMPv6ND_RA(
            M=int(managed),
            O=int(other),
            H=int(agent),
            prf=int(rank),
            routerlifetime=lifetime,
            chlim=61,
            reachabletime=11,
            retranstimer=22,
        )
        / ICMPv6NDOptSrcLLAddr(lladdr=address.hex(":"))
        / ICMPv6NDOptPrefixInfo(
            prefixlen=prefix.length,
            L=int(prefix.on_link),
            A=int(prefix.autonomous),
            R=int(prefix.router_address),
            validlifetime=prefix.valid_lifetime,
            preferredlifetime=prefix.preferred_lifetime,
            prefix=str(prefix.prefix),
        )
        / ICMPv6NDOptMTU(mtu=mtu)
        / ICMPv6NDOptAdvInterval(advint=interval)
        / ICMPv6NDOptHAInfo(pref=preference, lifetime=lifetime)
    )
    expected = ndisc.RouterAdvertisement(
        lifetime,
        61,
        managed,
        other,
        agent,
        rank,
        11,
        22,
        (
            ndisc.SourceLinkAddress(address),
            prefix,
            ndisc.Mtu(mtu),
            ndisc.AdvertisementInterval(interval),
            ndisc.HomeAgentInformation(preference, lifetime),
        ),
    )
    packet = bytes(IPv6(src=str(ROUTER), dst="ff02::1", hlim=255) / layer)
    message = ndisc.parse(packet)
    assert message == expected
    assert ndisc.packet(ROUTER, ndisc.ALL_NODES, expected)[40:] == packet[40:]
    assert expected.prefixes == (prefix,)
    assert ndisc.link_address(message) == address


@given(unicast, mac, st.booleans(), st.booleans(), st.booleans())
def test_neighbor_messages_of_scapy(
    target: IPv6Address, address: bytes, router: bool, solicited: bool, override: bool
) -> None:
    head = IPv6(src=str(ROUTER), dst=str(HOST), hlim=255)
    solicitation = head / ICMPv6ND_NS(tgt=str(target)) / ICMPv6NDOptSrcLLAddr(lladdr=address.hex(":"))
    assert ndisc.parse(bytes(solicitation)) == ndisc.NeighborSolicitation(target, (ndisc.SourceLinkAddress(address),))
    advertisement = (
        head
        / ICMPv6ND_NA(tgt=str(target), R=int(router), S=int(solicited), O=int(override))
        / ICMPv6NDOptDstLLAddr(lladdr=address.hex(":"))
    )
    message = ndisc.parse(bytes(advertisement))
    link = (ndisc.TargetLinkAddress(address),)
    assert message == ndisc.NeighborAdvertisement(target, router, solicited, override, link)
    assert ndisc.link_address(message) == address
    assert ndisc.parse(bytes(head / ICMPv6ND_RS())) == ndisc.RouterSolicitation()


@given(maps)
def test_map_option_of_scapy(option: MapOption) -> None:
    bits = option.may_use_source << 6 | option.must_use_source << 5 | option.reverse_tunnel << 4
    layer = ICMPv6NDOptMAP(
        dist=option.distance,
        pref=option.preference,
        R=int(option.prefix_usable),
        res=bits,
        validlifetime=option.lifetime,
        addr=str(option.address),
    )
    packet = bytes(
        IPv6(src=str(ROUTER), dst="ff02::1", hlim=255) / ICMPv6ND_RA(routerlifetime=0, chlim=0, prf=0) / layer
    )
    message = ndisc.RouterAdvertisement(0, options=(option,))
    assert ndisc.parse(packet).options == (option,)
    assert ndisc.packet(ROUTER, ndisc.ALL_NODES, message)[40:] == packet[40:]


@pytest.mark.parametrize(
    ("bits", "expected"),
    [("", 3), ("i", 2), ("p", 2), ("ip", 2), ("v", 1), ("iv", 1), ("pv", 1), ("ipv", 1)],
)
def test_registration_types_of_the_bits(bits: str, expected: int) -> None:
    option = MapOption(GLOBAL, 60, may_use_source="i" in bits, must_use_source="p" in bits, reverse_tunnel="v" in bits)
    assert option.registration_type == RegistrationType(expected)


@given(unicast)
def test_multicast_addresses_are_scapys(address: IPv6Address) -> None:
    group = ndisc.solicited_node(address)
    assert group.packed == in6_getnsma(address.packed)
    assert ndisc.ethernet_multicast(group.packed).hex(":") == in6_getnsmac(group.packed)


def test_reserved_preference_is_medium() -> None:
    # RFC 4191 section 2.2.
    packet = bytes(IPv6(src=str(ROUTER), dst="ff02::1", hlim=255) / ICMPv6ND_RA(prf=2))
    message = ndisc.parse(packet)
    assert isinstance(message, ndisc.RouterAdvertisement)
    assert message.preference is ndisc.Preference.MEDIUM


NOBODY, GLOBAL, GROUP = IPv6Address("::"), IPv6Address("2001:db8::1"), IPv6Address("ff02::1")
SOURCE_LINK = (ndisc.SourceLinkAddress(b"\2\0\0\0\0\1"),)


class TestValidity:
    """RFC 4861 sections 6.1 and 7.1."""

    @pytest.mark.parametrize(
        ("source", "destination", "message", "why"),
        [
            (NOBODY, ndisc.ALL_ROUTERS, ndisc.RouterSolicitation(SOURCE_LINK), "no source address"),
            (GLOBAL, GROUP, ndisc.RouterAdvertisement(1800), "not a link-local"),
            (NOBODY, HOST, ndisc.NeighborSolicitation(HOST), "solicited-node"),
            (NOBODY, ndisc.solicited_node(HOST), ndisc.NeighborSolicitation(HOST, SOURCE_LINK), "no source address"),
            (ROUTER, HOST, ndisc.NeighborSolicitation(GROUP), "multicast"),
            (ROUTER, HOST, ndisc.NeighborAdvertisement(GROUP), "multicast"),
            (ROUTER, GROUP, ndisc.NeighborAdvertisement(ROUTER, solicited=True), "sent to a group"),
        ],
    )
    def test_refused(self, source: IPv6Address, destination: IPv6Address, message: ndisc.Message, why: str) -> None:
        with pytest.raises(WireError, match=why):
            ndisc.parse(ndisc.packet(source, destination, message))

    @pytest.mark.parametrize("hops", [0, 1, 64, 254])
    def test_through_a_router(self, hops: int) -> None:
        with pytest.raises(WireError, match="came through a router"):
            ndisc.parse(icmp6.packet(ROUTER, HOST, ndisc.RouterAdvertisement(1), hop_limit=hops))

    def test_code(self) -> None:
        body = bytearray(bytes(ndisc.RouterAdvertisement(1)))
        body[1] = 1
        with pytest.raises(WireError, match="code is 1"):
            ndisc.parse(ndisc.packet(ROUTER, HOST, _Raw(bytes(body))))  # type: ignore[arg-type]

    def test_option_without_length(self) -> None:
        body = bytes(ndisc.RouterAdvertisement(1)) + bytes((1, 0, 0, 0, 0, 0, 0, 0))
        with pytest.raises(WireError, match="length 0"):
            ndisc.parse(ndisc.packet(ROUTER, HOST, _Raw(body)))  # type: ignore[arg-type]

    @pytest.mark.parametrize("size", [6, 14, 30])
    def test_map_option_of_a_wrong_size(self, size: int) -> None:
        bad = ndisc.UnknownNeighborOption(MapOption.kind, bytes(size))
        with pytest.raises(WireError, match="needs 22 octets"):
            ndisc.parse(ndisc.packet(ROUTER, HOST, ndisc.RouterAdvertisement(1, options=(bad,))))

    def test_prefix_of_more_than_128_bits(self) -> None:
        bad = ndisc.PrefixInformation(GLOBAL, 129, 1, 1)
        with pytest.raises(WireError, match="prefix length is 129"):
            ndisc.parse(ndisc.packet(ROUTER, HOST, ndisc.RouterAdvertisement(1, options=(bad,))))

    def test_another_type(self) -> None:
        with pytest.raises(WireError, match="ICMPv6 type 137"):
            ndisc.parse(ndisc.packet(ROUTER, HOST, _Raw(b"\x89" + bytes(39))))  # type: ignore[arg-type]

    @given(messages)
    def test_every_changed_octet_is_noticed(self, message: ndisc.Message) -> None:
        packet = ndisc.packet(ROUTER, HOST, message)
        for at in range(7, len(packet)):
            bad = bytearray(packet)
            bad[at] ^= 0x10
            with pytest.raises(WireError):
                ndisc.parse(bytes(bad))

    @given(messages)
    def test_truncated_everywhere(self, message: ndisc.Message) -> None:
        packet = ndisc.packet(ROUTER, HOST, message)
        for size in range(len(packet)):
            assert outcome(ndisc.parse, packet[:size]) == "refused"
            if size > 44:
                # With a checksum that is right for what is left: refused, or whole options are missing.
                outcome(ndisc.parse, ndisc.packet(ROUTER, HOST, _Raw(packet[40:size])))  # type: ignore[arg-type]

    @given(st.integers(133, 136), st.binary(max_size=100))
    def test_random_bytes_only_raise_wire_error(self, kind: int, body: bytes) -> None:
        outcome(ndisc.parse, body)
        outcome(ndisc.parse, ndisc.packet(ROUTER, HOST, _Raw(bytes((kind, 0, 0, 0)) + body)))  # type: ignore[arg-type]


class _Raw:
    """Bytes as a message."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __bytes__(self) -> bytes:
        return self.data


class TestListenerReport:
    @given(link_local, st.lists(unicast, min_size=1, max_size=5))
    def test_scapy_reads_it(self, source: IPv6Address, groups: list[IPv6Address]) -> None:
        for build, kind in ((mld.join, 4), (mld.leave, 3)):
            packet = build(source, *groups)
            seen = IPv6(packet)
            assert (seen.dst, seen.hlim) == ("ff02::16", 1)
            alert = seen[IPv6ExtHdrHopByHop].options[0]
            assert isinstance(alert, RouterAlert)
            assert alert.value == 0
            report = seen[ICMPv6MLReport2]
            # Scapy keeps the second record as the payload of the first.
            record, seen_groups = report.records[0], []
            while isinstance(record, ICMPv6MLDMultAddrRec):
                seen_groups.append((record.rtype, IPv6Address(record.dst)))
                record = record.payload
            assert seen_groups == [(kind, group) for group in groups]
            assert report.records_number == len(groups)
            headers = ip6.walk(packet)
            assert headers.router_alert
            icmp6.verify(source.packed, mld.ALL_MLDV2_ROUTERS.packed, packet[headers.offset :])
            parsed = mld.Report.parse(packet[headers.offset :])
            assert parsed == mld.Report(tuple(mld.Record(kind, group) for group in groups))

    def test_sources_are_skipped(self) -> None:
        head = b"\x8f\0\0\0\0\0\0\2"
        first = b"\4\1\0\1" + GROUP.packed + bytes(16) + b"aux!"
        second = b"\3\0\0\0" + GROUP.packed
        expected = mld.Report((mld.Record(4, GROUP), mld.Record(3, GROUP)))
        assert mld.Report.parse(head + first + second) == expected

    def test_truncated_everywhere(self) -> None:
        data = bytes(mld.Report((mld.Record(4, GROUP), mld.Record(4, GROUP))))
        for size in range(len(data)):
            assert outcome(mld.Report.parse, data[:size]) == "refused"

    @given(st.binary(max_size=80))
    def test_random_bytes_only_raise_wire_error(self, data: bytes) -> None:
        outcome(mld.Report.parse, data)
        outcome(mld.Report.parse, b"\x8f" + data)
