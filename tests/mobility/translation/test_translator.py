"""RFC 7915: headers, checksums, fragments and ICMP, with scapy as the second opinion."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_LSRR, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLReport,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    ICMPv6Unknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.packet import Packet, Raw

from mobility.discards import Discard, Reason
from mobility.host.fragments import fragment
from mobility.translation.translation import Translation
from mobility.translation.translator import Refused
from mobility.wire import ip4 as wire4
from tests.mobility.translation.support import (
    AGENT,
    HERE,
    HOME,
    PEER,
    STRANGER4,
    consistent4,
    consistent6,
    datagram,
    ip4,
    ip6,
    known,
    translation,
)


@pytest.fixture
def made() -> Translation:
    return translation()


@pytest.fixture
def peer(made: Translation) -> IPv4Address:
    return known(made)


def one6(made: Translation, packet: bytes) -> bytes:
    packets = made.translator.to_ipv6(wire4.check(packet))
    assert len(packets) == 1
    return packets[0]


UPPER = st.sampled_from(["udp", "tcp", "echo", "other"])


def upper(kind: str, payload: bytes) -> Packet:
    match kind:
        case "udp":
            return datagram((40000, 4000), payload)
        case "tcp":
            return TCP(sport=1, dport=2, seq=3, flags="PA") / Raw(payload)
        case "echo":
            return ICMP(type=8, id=7, seq=9) / Raw(payload)
        case _:
            return Raw(payload)


@given(UPPER, st.binary(max_size=1300), st.integers(0, 255), st.integers(3, 255), st.booleans())
def test_there_and_back(kind: str, payload: bytes, tos: int, ttl: int, whole: bool) -> None:
    made = translation()
    peer = known(made)
    packet = ip4(
        peer,
        upper(kind, payload),
        tos=tos,
        ttl=ttl,
        flags="DF" if whole else 0,
        **({"proto": 99} if kind == "other" else {}),
    )
    for translated in made.translator.to_ipv6(packet):
        read = IPv6(translated)
        assert (read.src, read.dst, read.tc, read.hlim, read.fl) == (str(HOME), str(PEER), tos, ttl - 1, 0)
    translated_whole = made.translator.to_ipv6(packet)
    if len(translated_whole) > 1:
        assert not whole
        assert all(len(piece) <= 1280 for piece in translated_whole)
        return
    read = consistent6(translated_whole[0])
    back = IPv6(translated_whole[0])
    back.src, back.dst = str(PEER), str(HOME)
    returned = consistent4(made.translator.to_ipv4(bytes(back)))
    assert (returned.src, returned.dst, returned.tos, returned.ttl) == (str(peer), str(HERE), tos, ttl - 2)
    former = IP(packet)
    assert returned.proto == former.proto
    # Both checksums are over the same sum of addresses now: swapped ones do not change it.
    assert bytes(returned.payload) == bytes(former.payload)


def test_udp_without_checksum_gets_one(made: Translation, peer: IPv4Address) -> None:
    packet = ip4(peer, UDP(sport=1, dport=2, chksum=0) / Raw(b"speech"))
    assert consistent6(one6(made, packet))[UDP].chksum


def test_a_packet_that_may_be_fragmented_is_fragmented_to_1280(made: Translation, peer: IPv4Address) -> None:
    payload = bytes(range(256)) * 12
    packet = ip4(peer, datagram((1, 2), payload), id=0xBEEF)
    pieces = [IPv6(piece) for piece in made.translator.to_ipv6(packet)]
    assert [len(piece) for piece in pieces] == [1280, 1280, 664]
    assert {piece[IPv6ExtHdrFragment].id for piece in pieces} == {0xBEEF}
    assert [piece[IPv6ExtHdrFragment].m for piece in pieces] == [1, 1, 0]
    body = b"".join(bytes(piece[IPv6ExtHdrFragment].payload) for piece in pieces)
    assert [piece[IPv6ExtHdrFragment].offset * 8 for piece in pieces] == [0, 1232, 2464]
    whole = IPv6(src=str(HOME), dst=str(PEER), nh=17) / Raw(body)
    assert consistent6(bytes(whole))[UDP].load == payload


def test_a_packet_that_must_not_be_fragmented_is_answered(made: Translation, peer: IPv4Address) -> None:
    fits = ip4(peer, datagram((1, 2), bytes(1400 - 20 - 28)), flags="DF")
    assert len(one6(made, fits)) == 1400
    with pytest.raises(Refused) as caught:
        made.translator.to_ipv6(ip4(peer, datagram((1, 2), bytes(1400 - 20 - 27)), flags="DF"))
    assert caught.value.reason is Reason.TOO_BIG
    assert caught.value.answer is not None
    answer = consistent4(caught.value.answer)
    assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, 1380)
    assert answer.src == str(known(made, AGENT))
    assert answer.dst == str(HERE)


@pytest.mark.parametrize("flags", ["MF", "MF+DF"])
def test_fragments_keep_their_places(made: Translation, peer: IPv4Address, flags: str) -> None:
    whole = ip4(peer, datagram((1, 2), bytes(range(64))), id=77)
    body = bytes(IP(whole).payload)
    first = one6(made, ip4(peer, Raw(body[:40]), proto=17, id=77, flags=flags))
    last = one6(made, ip4(peer, Raw(body[40:]), proto=17, id=77, frag=5))
    heads = [IPv6(piece)[IPv6ExtHdrFragment] for piece in (first, last)]
    assert [(head.nh, head.id, head.offset, head.m) for head in heads] == [(17, 77, 0, 1), (17, 77, 5, 0)]
    joined = IPv6(src=str(HOME), dst=str(PEER), nh=17) / Raw(b"".join(bytes(head.payload) for head in heads))
    assert consistent6(bytes(joined))[UDP].load == bytes(range(64))


def test_fragments_of_ipv6(made: Translation, peer: IPv4Address) -> None:
    packet = ip6(datagram((4000, 40000), bytes(range(256)) * 10))
    pieces = [IP(made.translator.to_ipv4(piece)) for piece in fragment(packet, 1280, 0x12345678)]
    assert [(piece.id, int(piece.flags), piece.frag) for piece in pieces] == [
        (0x5678, 1, 0),
        (0x5678, 1, 154),
        (0x5678, 0, 308),
    ]
    joined = IP(src=str(peer), dst=str(HERE), proto=17) / Raw(b"".join(bytes(piece.payload) for piece in pieces))
    assert consistent4(bytes(joined))[UDP].load == bytes(range(256)) * 10


def test_an_atomic_fragment_is_a_whole_packet(made: Translation) -> None:
    packet = ip6(IPv6ExtHdrFragment(id=5) / datagram((1, 2), b"speech"))
    read = consistent4(made.translator.to_ipv4(packet))
    assert (read.frag, int(read.flags), read[UDP].load) == (0, 0, b"speech")


def test_large_packets_must_not_be_fragmented_and_small_ones_have_identifications(made: Translation) -> None:
    large = IP(made.translator.to_ipv4(ip6(datagram((1, 2), bytes(1233)))))
    small = [IP(made.translator.to_ipv4(ip6(datagram((1, 2), bytes(1232))))) for _ in range(2)]
    assert (int(large.flags), large.id) == (2, 0)
    assert [int(each.flags) for each in small] == [0, 0]
    assert small[0].id != small[1].id


def test_extension_headers_and_options_are_left_out(made: Translation, peer: IPv4Address) -> None:
    chain = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(segleft=0) / datagram((1, 2), b"speech")
    read = consistent4(made.translator.to_ipv4(ip6(chain)))
    assert (read.ihl, read[UDP].load) == (5, b"speech")
    optional = ip4(peer, datagram((1, 2), b"speech"), options=[IPOption_NOP()] * 4)
    assert consistent6(one6(made, optional))[UDP].load == b"speech"


def test_source_routes_are_answered(made: Translation, peer: IPv4Address) -> None:
    routed = ip4(peer, datagram((1, 2), b""), options=[IPOption_LSRR(routers=["192.0.2.1"], pointer=4)])
    with pytest.raises(Refused) as caught:
        made.translator.to_ipv6(routed)
    assert caught.value.answer is not None
    assert (consistent4(caught.value.answer)[ICMP].type, IP(caught.value.answer)[ICMP].code) == (3, 5)
    used_up = ip4(peer, datagram((1, 2), b""), options=[IPOption_LSRR(routers=["192.0.2.1"], pointer=8)])
    assert one6(made, used_up)
    with pytest.raises(Refused) as caught:
        made.translator.to_ipv4(ip6(IPv6ExtHdrRouting(addresses=["2001:db8::1"], segleft=1) / datagram((1, 2), b"")))
    assert caught.value.answer is not None
    problem = consistent6(caught.value.answer)[ICMPv6ParamProblem]
    assert (problem.code, problem.ptr) == (0, 43)


def test_hop_limits_end_here(made: Translation, peer: IPv4Address) -> None:
    with pytest.raises(Refused) as caught:
        made.translator.to_ipv6(ip4(peer, datagram((1, 2), b""), ttl=1))
    assert caught.value.answer is not None
    assert consistent4(caught.value.answer)[ICMP].type == 11
    with pytest.raises(Refused) as caught:
        made.translator.to_ipv4(ip6(datagram((1, 2), b""), hlim=1))
    assert caught.value.answer is not None
    answer = consistent6(caught.value.answer)
    assert answer.haslayer(ICMPv6TimeExceeded)
    assert (answer.src, answer.dst) == (str(HOME), str(PEER))


@pytest.mark.parametrize("protocol", [0, 2, 43, 44, 51, 58, 59, 60, 135])
def test_protocols_that_would_be_something_else(made: Translation, peer: IPv4Address, protocol: int) -> None:
    with pytest.raises(Discard) as caught:
        made.translator.to_ipv6(ip4(peer, Raw(bytes(64)), proto=protocol))
    assert caught.value.reason is Reason.TRANSLATION_UNSUPPORTED


@pytest.mark.parametrize("protocol", [1, 2, 51, 59, 135])
def test_next_headers_that_have_no_counterpart(made: Translation, protocol: int) -> None:
    with pytest.raises(Discard) as caught:
        made.translator.to_ipv4(ip6(Raw(bytes(64)), nh=protocol))
    assert caught.value.reason is Reason.TRANSLATION_UNSUPPORTED


# ---------------------------------------------------------------- ICMP


def program_error(made: Translation, peer: IPv4Address, error: ICMP) -> IPv6:
    """What becomes of an error of the host OS about a packet that it received."""
    received = made.translator.to_ipv4(ip6(datagram((4000, 40000), b"speech")))
    return consistent6(one6(made, ip4(peer, error / Raw(received))))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        *[(code, (1, 0)) for code in (0, 1, 5, 6, 7, 8, 11, 12)],
        *[(code, (1, 1)) for code in (9, 10, 13, 15)],
        (3, (1, 4)),
        (2, (4, 1)),
    ],
)
def test_unreachable_of_ipv4(made: Translation, peer: IPv4Address, code: int, expected: tuple[int, int]) -> None:
    read = program_error(made, peer, ICMP(type=3, code=code))
    layer = read.payload
    assert (layer.type, layer.code) == expected
    if expected == (4, 1):
        assert layer.ptr == 6
    quoted = IPv6(bytes(layer)[8:])
    assert (quoted.src, quoted.dst, quoted[UDP].dport) == (str(PEER), str(HOME), 40000)
    # What is quoted is what the correspondent had sent, but for the hop limit.
    assert bytes(quoted)[40:] == ip6(datagram((4000, 40000), b"speech"))[40:]


@pytest.mark.parametrize(
    ("told", "size", "expected"),
    [(1300, 1400, 1320), (576, 1400, 1280), (1400, 1500, 1400), (0, 4000, 1400), (0, 1500, 1400), (0, 1000, 1280)],
)
def test_fragmentation_needed(made: Translation, peer: IPv4Address, told: int, size: int, expected: int) -> None:
    received = ip4(peer, datagram((4000, 40000), bytes(20)))
    received = wire4.with_length(bytes(IP(src=str(peer), dst=str(HERE)) / IP(received).payload), size)
    packet = ip4(peer, ICMP(type=3, code=4, nexthopmtu=told) / Raw(received))
    assert consistent6(one6(made, packet))[ICMPv6PacketTooBig].mtu == expected


@pytest.mark.parametrize(("pointer", "expected"), [(0, 0), (1, 1), (2, 4), (8, 7), (9, 6), (13, 8), (19, 24)])
def test_parameter_problem_of_ipv4(made: Translation, peer: IPv4Address, pointer: int, expected: int) -> None:
    layer = program_error(made, peer, ICMP(type=12, code=0, ptr=pointer))[ICMPv6ParamProblem]
    assert (layer.code, layer.ptr) == (0, expected)


def test_time_exceeded_of_ipv4(made: Translation, peer: IPv4Address) -> None:
    assert program_error(made, peer, ICMP(type=11, code=1))[ICMPv6TimeExceeded].code == 1


@pytest.mark.parametrize(
    ("type_", "code", "pointer"),
    [
        (3, 14, 0),
        (3, 16, 0),
        (4, 0, 0),
        (5, 0, 0),
        (12, 1, 0),
        (12, 0, 4),
        (12, 0, 20),
        (13, 0, 0),
        (15, 0, 0),
        (99, 0, 0),
    ],
)
def test_messages_of_icmp_without_counterpart(
    made: Translation, peer: IPv4Address, type_: int, code: int, pointer: int
) -> None:
    body = bytes((type_, code, 0, 0, pointer, 0, 0, 0)) + ip4(HERE, datagram((1, 2), b""), src=str(peer))
    body = body[:2] + wire4.checksum(body).to_bytes(2) + body[4:]
    with pytest.raises(Discard) as caught:
        made.translator.to_ipv6(ip4(peer, Raw(body), proto=1))
    assert caught.value.reason is Reason.TRANSLATION_UNSUPPORTED


def network_error(made: Translation, peer: IPv4Address, error: Packet, router: str = "2001:db8:ffff::1") -> IP:
    """What becomes of a router's error about a packet of a program."""
    sent = one6(made, ip4(peer, datagram((40000, 4000), b"speech")))
    return consistent4(made.translator.to_ipv4(bytes(IPv6(src=router, dst=str(HOME)) / error / Raw(sent))))


@pytest.mark.parametrize(("code", "expected"), [(0, 1), (1, 10), (2, 1), (3, 1), (4, 3)])
def test_unreachable_of_ipv6(made: Translation, peer: IPv4Address, code: int, expected: int) -> None:
    read = network_error(made, peer, ICMPv6DestUnreach(code=code))
    assert (read[ICMP].type, read[ICMP].code) == (3, expected)
    quoted = IP(bytes(read[ICMP])[8:])
    assert (quoted.src, quoted.dst) == (str(HERE), str(peer))
    assert bytes(quoted)[20:] == ip4(peer, datagram((40000, 4000), b"speech"))[20:]
    assert wire4.checksum(bytes(quoted)[:20]) == 0
    assert IPv4Address(read.src) in made.settings.pool4


@pytest.mark.parametrize(("mtu", "expected"), [(1300, 1280), (1280, 1260), (0, 1260), (9000, 1380), (2**32 - 1, 1380)])
def test_packet_too_big(made: Translation, peer: IPv4Address, mtu: int, expected: int) -> None:
    read = network_error(made, peer, ICMPv6PacketTooBig(mtu=mtu))
    assert (read[ICMP].type, read[ICMP].code, read[ICMP].nexthopmtu) == (3, 4, expected)


@pytest.mark.parametrize(("pointer", "expected"), [(0, 0), (1, 1), (5, 2), (6, 9), (7, 8), (20, 12), (39, 16)])
def test_parameter_problem_of_ipv6(made: Translation, peer: IPv4Address, pointer: int, expected: int) -> None:
    read = network_error(made, peer, ICMPv6ParamProblem(code=0, ptr=pointer))
    assert (read[ICMP].type, read[ICMP].code, read[ICMP].ptr) == (12, 0, expected)


def test_unknown_next_header_is_protocol_unreachable(made: Translation, peer: IPv4Address) -> None:
    read = network_error(made, peer, ICMPv6ParamProblem(code=1, ptr=6))
    assert (read[ICMP].type, read[ICMP].code) == (3, 2)


@pytest.mark.parametrize(
    "message",
    [
        ICMPv6DestUnreach(code=5),
        ICMPv6ParamProblem(code=2, ptr=40),
        ICMPv6ParamProblem(code=0, ptr=2),
        ICMPv6ParamProblem(code=0, ptr=40),
        ICMPv6MLReport(),
        ICMPv6Unknown(type=135),
        ICMPv6Unknown(type=250),
    ],
)
def test_messages_of_icmpv6_without_counterpart(made: Translation, message: Packet) -> None:
    with pytest.raises(Discard) as caught:
        made.translator.to_ipv4(ip6(message / Raw(bytes(60)), hlim=9))
    assert caught.value.reason is Reason.TRANSLATION_UNSUPPORTED


def test_echo(made: Translation, peer: IPv4Address) -> None:
    asked = consistent6(one6(made, ip4(peer, ICMP(type=8, id=5, seq=6) / Raw(b"are you there"))))
    assert (asked[ICMPv6EchoRequest].id, asked[ICMPv6EchoRequest].seq) == (5, 6)
    answer = ip6(ICMPv6EchoReply(id=5, seq=6, data=b"are you there"))
    assert consistent4(made.translator.to_ipv4(answer))[ICMP].type == 0


def test_an_error_about_echo_quotes_it_with_its_checksum(made: Translation, peer: IPv4Address) -> None:
    question = ip4(peer, ICMP(type=8, id=5, seq=6) / Raw(bytes(range(33))))
    sent = one6(made, question)
    error = bytes(IPv6(src="2001:db8:ffff::1", dst=str(HOME)) / ICMPv6TimeExceeded() / Raw(sent))
    read = consistent4(made.translator.to_ipv4(error))
    assert bytes(read[ICMP])[28:] == question[20:]
    received = made.translator.to_ipv4(ip6(ICMPv6EchoRequest(id=1, seq=2, data=b"odd")))
    back = consistent6(one6(made, ip4(peer, ICMP(type=3, code=3) / Raw(received))))
    quoted = bytes(back[ICMPv6DestUnreach])[8:]
    assert quoted[40:] == ip6(ICMPv6EchoRequest(id=1, seq=2, data=b"odd"))[40:]


def test_an_error_about_an_error_is_dropped(made: Translation, peer: IPv4Address) -> None:
    nested = bytes(ICMPv6TimeExceeded() / Raw(ip6(datagram((1, 2), b""))))
    sent = bytes(IPv6(src=str(HOME), dst=str(PEER)) / Raw(nested))
    sent = sent[:6] + b"\x3a" + sent[7:]
    with pytest.raises(Discard) as caught:
        made.translator.to_ipv4(ip6(ICMPv6DestUnreach() / Raw(sent)))
    assert caught.value.reason is Reason.TRANSLATION_UNSUPPORTED


def test_extensions_of_icmp_keep_behind_the_quoted_packet(made: Translation, peer: IPv4Address) -> None:
    sent = one6(made, ip4(peer, datagram((40000, 4000), bytes(200))))
    extensions = bytes.fromhex("2000deaf000801010001f101")
    error = ICMPv6TimeExceeded(length=32) / Raw(sent.ljust(256, b"\0") + extensions)
    read = consistent4(made.translator.to_ipv4(ip6(error)))
    body = bytes(read[ICMP])
    assert body[5] * 4 + 8 + len(extensions) == len(body)
    assert body.endswith(extensions)
    received = made.translator.to_ipv4(ip6(datagram((4000, 40000), bytes(60))))
    message = b"\x0b\0\0\0\0\x20\0\0" + received.ljust(128, b"\0") + extensions
    message = message[:2] + wire4.checksum(message).to_bytes(2) + message[4:]
    back = consistent6(one6(made, ip4(peer, Raw(message), proto=1)))
    body = bytes(back[ICMPv6TimeExceeded])
    assert body[4] * 8 + 8 + len(extensions) == len(body)
    assert body.endswith(extensions)


def test_an_error_about_a_packet_that_nobody_sent_makes_no_row(made: Translation) -> None:
    rows = len(made.table)
    sent = bytes(IPv6(src=str(HOME), dst="2001:db8:dead::1") / datagram((1, 2), b""))
    with pytest.raises(Discard) as caught:
        made.translator._quoted4(sent)
    assert caught.value.reason is Reason.ICMP_IGNORED
    assert len(made.table) == rows


@pytest.mark.parametrize("flip", [41, 44, 60])
def test_wrong_checksums_of_icmp_are_not_made_right(made: Translation, flip: int) -> None:
    packet = bytearray(ip6(ICMPv6EchoRequest(id=1, seq=2, data=bytes(30))))
    packet[flip] ^= 1
    with pytest.raises(Discard) as caught:
        made.translator.to_ipv4(bytes(packet))
    assert caught.value.reason is Reason.CHECKSUM_WRONG


def test_wrong_checksums_stay_wrong(made: Translation, peer: IPv4Address) -> None:
    packet = ip4(peer, UDP(sport=1, dport=2, chksum=0x1234) / Raw(b"speech"))
    with pytest.raises(AssertionError):
        consistent6(one6(made, packet))


@given(st.binary(max_size=200), st.booleans())
def test_rubbish_is_refused_by_name(rubbish: bytes, inside: bool) -> None:
    made = translation()
    made.inbound(rubbish, 0.0) if not inside else made.inbound(ip6(Raw(rubbish), nh=rubbish[0] if rubbish else 58), 0.0)
    made.outbound(rubbish, 0.0) if not inside else made.outbound(ip4(STRANGER4, Raw(rubbish), proto=1), 0.0)


@given(st.integers(0, 255), st.binary(max_size=120), st.integers(0, 119), st.integers(0, 255))
def test_damaged_packets_never_raise(protocol: int, body: bytes, at: int, value: int) -> None:
    made = translation()
    peer = known(made)
    packet = bytearray(ip6(Raw(body), nh=protocol))
    if at < len(packet):
        packet[at] = value
    made.inbound(bytes(packet), 0.0)
    outbound = bytearray(ip4(peer, Raw(body), proto=protocol, flags=value & 7, frag=value))
    made.outbound(bytes(outbound), 0.0)
