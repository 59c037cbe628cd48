"""The gateway for SIP and SDP."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment

from mobility.translation.sip import SipGateway
from tests.mobility.translation.support import (
    HERE,
    HOME,
    PEER,
    consistent4,
    consistent6,
    datagram,
    ip4,
    ip6,
    known,
    translation,
)

VIRTUAL = IPv4Address("198.18.0.4")
TO6 = {HERE: HOME, VIRTUAL: PEER}
TO4 = {there: here for here, there in TO6.items()}
GATEWAY = SipGateway(TO4.get, TO6.get)

BODY4 = b"""v=0\r
o=alice 1 1 IN IP4 198.18.0.1\r
s=-\r
c=IN IP4 198.18.0.1\r
t=0 0\r
m=audio 40000 RTP/AVP 0 101\r
c=IN IP4 198.18.0.1\r
a=rtcp:40001 IN IP4 198.18.0.1\r
a=candidate:1 1 UDP 2130706431 198.18.0.1 40000 typ host\r
a=candidate:2 1 UDP 1694498815 203.0.113.9 40000 typ srflx raddr 198.18.0.1 rport 40000\r
a=rtpmap:101 telephone-event/8000\r
"""
BODY6 = b"""v=0\r
o=alice 1 1 IN IP6 2001:db8:1::100\r
s=-\r
c=IN IP6 2001:db8:1::100\r
t=0 0\r
m=audio 40000 RTP/AVP 0 101\r
c=IN IP6 2001:db8:1::100\r
a=rtcp:40001 IN IP6 2001:db8:1::100\r
a=candidate:1 1 UDP 2130706431 2001:db8:1::100 40000 typ host\r
a=candidate:2 1 UDP 1694498815 203.0.113.9 40000 typ srflx raddr 2001:db8:1::100 rport 40000\r
a=rtpmap:101 telephone-event/8000\r
"""
HEAD4 = b"""INVITE sip:bob@198.18.0.4;transport=udp SIP/2.0\r
Via: SIP/2.0/UDP 198.18.0.1:5066;rport;branch=z9hG4bK1\r
v: SIP/2.0/UDP 198.18.0.4:5060;received=198.18.0.4;branch=z9hG4bK2, SIP/2.0/UDP 203.0.113.9;branch=z9hG4bK3\r
Route: <sip:198.18.0.4;lr>\r
Record-Route: <sip:198.18.0.4:5060;lr>,\r
 <sip:198.18.0.1;lr>\r
From: "Alice at 198.18.0.1" <sip:alice@example.org>;tag=1\r
To: <sip:bob@198.18.0.4>\r
Contact: <sip:alice@198.18.0.1:5066;ob>\r
Call-ID: abc@198.18.0.1\r
Authorization: Digest username="alice", uri="sip:bob@198.18.0.4", response="1"\r
User-Agent: Phone 198.18.0.1\r
CSeq: 1 INVITE\r
Content-Type: application/sdp\r
Content-Length: %d\r
\r
"""
HEAD6 = b"""INVITE sip:bob@[2001:db8:c::c];transport=udp SIP/2.0\r
Via: SIP/2.0/UDP [2001:db8:1::100]:5066;rport;branch=z9hG4bK1\r
v: SIP/2.0/UDP [2001:db8:c::c]:5060;received=2001:db8:c::c;branch=z9hG4bK2, SIP/2.0/UDP 203.0.113.9;branch=z9hG4bK3\r
Route: <sip:[2001:db8:c::c];lr>\r
Record-Route: <sip:[2001:db8:c::c]:5060;lr>,\r
 <sip:[2001:db8:1::100];lr>\r
From: "Alice at 198.18.0.1" <sip:alice@example.org>;tag=1\r
To: <sip:bob@[2001:db8:c::c]>\r
Contact: <sip:alice@[2001:db8:1::100]:5066;ob>\r
Call-ID: abc@198.18.0.1\r
Authorization: Digest username="alice", uri="sip:bob@198.18.0.4", response="1"\r
User-Agent: Phone 198.18.0.1\r
CSeq: 1 INVITE\r
Content-Type: application/sdp\r
Content-Length: %d\r
\r
"""
MESSAGE4 = HEAD4 % len(BODY4) + BODY4
MESSAGE6 = HEAD6 % len(BODY6) + BODY6


def test_every_place_with_a_host_and_no_other() -> None:
    assert GATEWAY.outbound(MESSAGE4) == MESSAGE6
    assert GATEWAY.inbound(MESSAGE6) == MESSAGE4


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (b"Via: SIP/2.0/UDP [2001:DB8:C:0:0:0:0:C]:5060", b"Via: SIP/2.0/UDP 198.18.0.4:5060"),
        (b"Contact: <sip:x@[2001:db8:c::c]>;q=0.1", b"Contact: <sip:x@198.18.0.4>;q=0.1"),
        (b"Via: SIP/2.0/UDP h;received=[2001:db8:1::100];rport=1", b"Via: SIP/2.0/UDP h;received=198.18.0.1;rport=1"),
        (b"m: <sip:x@h;maddr=[2001:db8:c::c]>", b"m: <sip:x@h;maddr=198.18.0.4>"),
        (b'To: "[2001:db8:c::c]" <sip:x@h>', b'To: "[2001:db8:c::c]" <sip:x@h>'),
        (b'To: "[2001:db8:c::c] <sip:x@[2001:db8:c::c]>', b'To: "[2001:db8:c::c] <sip:x@[2001:db8:c::c]>'),
        (b"To: <sip:x@[2001:db8::999]>", b"To: <sip:x@[2001:db8::999]>"),
        (b"To: <sip:x@[:::]>", b"To: <sip:x@[:::]>"),
        (b"Subject: [2001:db8:c::c]", b"Subject: [2001:db8:c::c]"),
    ],
)
def test_spellings_of_ipv6(there: bytes, here: bytes) -> None:
    head = b"SIP/2.0 200 OK\r\n"
    assert GATEWAY.inbound(head + there + b"\r\n\r\n") == head + here + b"\r\n\r\n"


@pytest.mark.parametrize(
    "header",
    [
        b"To: <sip:198.18.0.4@example.org>",
        b"To: <sip:x@198.18.0.4.example.org>",
        b"To: <sip:x@x-198.18.0.4>",
        b"To: <sip:x@999.18.0.4>",
        b"To: <sip:x@203.0.113.9>",
        b"To: <sip:x@1.198.18.0.4>",
    ],
)
def test_what_only_looks_like_a_virtual_address(header: bytes) -> None:
    message = b"OPTIONS sip:example.org SIP/2.0\r\n" + header + b"\r\n\r\n"
    assert GATEWAY.outbound(message) == message


def test_a_call_on_hold() -> None:
    head = b"SIP/2.0 200 OK\r\nc: application/sdp\r\nl: %d\r\n\r\n"
    held4, held6 = b"c=IN IP4 0.0.0.0\r\n", b"c=IN IP6 ::\r\n"
    assert GATEWAY.outbound(head % len(held4) + held4) == head % len(held6) + held6
    assert GATEWAY.inbound(head % len(held6) + held6) == head % len(held4) + held4


def test_content_length_tells_what_there_is_and_what_was_cut_off() -> None:
    body = b"c=IN IP4 198.18.0.1\r\n"
    there = b"c=IN IP6 2001:db8:1::100\r\n"
    head = b"SIP/2.0 200 OK\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n"
    assert GATEWAY.outbound(head % len(body) + body + b"behind it") == head % len(there) + there
    assert GATEWAY.outbound(head % (len(body) + 9) + body) == head % (len(there) + 9) + there
    none = b"SIP/2.0 200 OK\r\nContent-Type: application/sdp\r\n\r\n"
    assert GATEWAY.outbound(none + body) == none + there


@pytest.mark.parametrize("kind", [b"text/plain", b"application/sdp\r\nContent-Encoding: gzip"])
def test_other_bodies_stay_as_they_are(kind: bytes) -> None:
    message = b"SIP/2.0 200 OK\r\nContent-Type: %b\r\n\r\nc=IN IP4 198.18.0.1\r\n" % kind
    assert GATEWAY.outbound(message) == message


@pytest.mark.parametrize(
    "payload", [b"", b"\r\n\r\n", b"\0\1\0\0!\x12\xa4B", b"INVITE sip:x SIP/2.0\r\nTo: <sip:x>\r\n"]
)
def test_what_is_no_message_passes_as_it_is(payload: bytes) -> None:
    assert GATEWAY.outbound(payload) == GATEWAY.inbound(payload) == payload


@given(
    st.lists(
        st.sampled_from([b"[", b"]", b":", b"a", b'"', b"\\", b"198.18.0.1", b" ", b"\r\n", b"Via: ", b"received="])
    )
)
def test_rubbish_in_messages(parts: list[bytes]) -> None:
    message = b"SIP/2.0 200 OK\r\nVia: " + b"".join(parts) + b"\r\n\r\n"
    GATEWAY.outbound(message)
    GATEWAY.inbound(message)


@pytest.mark.parametrize(
    "part", [b"[", b"[:", b'"\\', b'\\"', b"received=", b"1.", b"a:", b"[2001:", b"c=IN IP6 ", b"\n"]
)
def test_no_text_of_a_stranger_takes_long(part: bytes) -> None:
    text = part * (60000 // len(part))
    for message in (
        b"SIP/2.0 200 OK\r\nVia: " + text + b"\r\n\r\n",
        b"SIP/2.0 200 OK\r\nContent-Type: application/sdp\r\n\r\n" + text,
    ):
        started = time.process_time()
        GATEWAY.inbound(message)
        GATEWAY.outbound(message)
        assert time.process_time() - started < 1.0


# ---------------------------------------------------------------- in packets


def test_a_message_of_a_program_goes_out_in_terms_of_ipv6() -> None:
    made = translation()
    assert known(made) == VIRTUAL
    result = made.outbound(ip4(VIRTUAL, datagram((5066, 5060), MESSAGE4), tos=0x88), 0.0)
    pieces = [IPv6(packet) for packet in result.network]
    body = b"".join(bytes(piece[IPv6ExtHdrFragment].payload) for piece in pieces) if len(pieces) > 1 else b""
    whole = bytes(IPv6(src=str(HOME), dst=str(PEER), nh=17, tc=0x88) / body) if body else result.network[0]
    assert bytes(consistent6(whole)[UDP].payload) == MESSAGE6
    # A call may come to the same port from elsewhere than the proxy.
    elsewhere = IPv6Address("2001:db8:d::d")
    call = MESSAGE6.replace(b"2001:db8:c::c", str(elsewhere).encode())
    received = made.inbound(ip6(datagram((40000, 5066), call), source=elsewhere), 0.1)
    told = consistent4(received.host[0])
    assert told[UDP].dport == 5066
    assert b"2001:db8" not in bytes(told[UDP].payload)
    assert str(known(made, elsewhere)).encode() in bytes(told[UDP].payload)


def test_a_message_in_fragments_is_put_together_first() -> None:
    made = translation()
    known(made)
    long = MESSAGE4.replace(b"User-Agent: Phone", b"User-Agent: " + b"very " * 200)
    packet = ip4(VIRTUAL, datagram((5060, 5060), long), id=9)
    first, last = packet[:20] + packet[20:1236], packet[:20] + packet[1236:]
    pieces = [
        bytes(IP(src=str(HERE), dst=str(VIRTUAL), proto=17, id=9, flags="MF") / first[20:]),
        bytes(IP(src=str(HERE), dst=str(VIRTUAL), proto=17, id=9, frag=152) / last[20:]),
    ]
    assert made.outbound(pieces[1], 0.0).network == []
    sent = made.outbound(pieces[0], 0.0).network
    assert len(sent) == 2
    for packet in sent:
        back = IPv6(packet)
        assert back.dst == str(PEER)
    returned = []
    for packet in sent:
        back = IPv6(packet)
        back.src, back.dst = str(PEER), str(HOME)
        returned += made.inbound(bytes(back), 0.1).host
    assert len(returned) == 1
    assert bytes(consistent4(returned[0])[UDP].payload) == long
