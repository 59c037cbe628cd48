"""What a packet costs grows with its octets and not faster, counted in lines of Python so that no clock is needed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address
from types import FrameType
from typing import Any

import pytest

from mobility.discards import Reason
from mobility.host.fragments import PIECES
from mobility.outputs import Discarded
from mobility.wire import icmp6, ip4, ip6, mh, mld, ndisc, udp
from mobility.wire.errors import WireError
from tests.fuzz.nodes import ROLES, STRANGER, FuzzedRole, victim_of
from tests.mobility.translation.support import PEER, SERVER, SETTINGS, translation
from tests.mobility.whole import CN, MN

ROUTER_MAC = bytes.fromhex("020000001201")


def lines(work: Callable[[], object]) -> int:
    """How many lines of the product's code a call runs."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except WireError:
        pass
    finally:
        sys.settrace(before)
    return count


def headers(count: int) -> bytes:
    """As many destination options headers, with an option that is unknown and to be skipped in each."""
    chain = b"\x3c\0\x1e\x04\0\0\0\0" * (count - 1) + b"\x3b\0\x1e\x04\0\0\0\0"
    return ip6.packet(STRANGER, CN, ip6.DEST_OPTIONS, chain)


def padding(count: int) -> bytes:
    """Headers full of single octets of padding."""
    body = bytes(2046)
    chain = (b"\x3c\xff" + body) * (count // 256) + b"\x3b\xff" + body
    return ip6.packet(STRANGER, CN, ip6.DEST_OPTIONS, chain)


def mobility_options(count: int) -> bytes:
    body = b"\x6f\0" * (count % 960)
    data = bytes(mh.BindingUpdate(1, mh.UpdateFlag.ACKNOWLEDGE, 60))[:12] + body
    data += bytes(-len(data) % 8)
    return data[:1] + bytes((len(data) // 8 - 1,)) + data[2:]


def neighbour_options(count: int) -> bytes:
    return bytes(ndisc.RouterAdvertisement(1800))[:16] + b"\xfa\1\0\0\0\0\0\0" * count


def records(count: int) -> bytes:
    return bytes(mld.Report(tuple(mld.Record(4, IPv6Address(1 << 120 | n)) for n in range(count))))


@pytest.mark.parametrize(
    ("parse", "made"),
    [
        (ip6.walk, headers),
        (ip6.walk, padding),
        (mh.BindingUpdate.parse, mobility_options),
        (ndisc.RouterAdvertisement.parse, neighbour_options),
        (mld.Report.parse, records),
    ],
)
def test_formats(parse: Callable[[bytes], object], made: Callable[[int], bytes]) -> None:
    half, whole = lines(partial(parse, made(450))), lines(partial(parse, made(900)))
    assert 1.5 * half < whole < 2.5 * half


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("made", [headers, padding])
def test_nodes(role: FuzzedRole, made: Callable[[int], bytes]) -> None:
    victim = victim_of(role)
    link, (router, *_) = victim.links[0]

    def work(packet: bytes) -> int:
        packet = b"%b%b%b" % (packet[:24], victim.addresses[0], packet[40:])
        return lines(lambda: victim.node.from_link(link, packet, router, victim.now))

    assert work(made(2000)) < 2.5 * work(made(1000))


@pytest.mark.parametrize("made", [headers, padding])
def test_errors_about_it(made: Callable[[int], bytes]) -> None:
    assert lines(lambda: icmp6.may_be_answered_with_error(made(2000))) < 2.5 * lines(
        lambda: icmp6.may_be_answered_with_error(made(1000))
    )


def test_a_fragment_costs_no_more_for_those_of_other_packets_that_wait() -> None:
    victim = victim_of("correspondent")
    link, (router, *_) = victim.links[0]

    def fragment(identification: int, offset: int) -> None:
        body = b"\x11\0" + (offset | 1).to_bytes(2) + identification.to_bytes(4) + bytes(8)
        victim.node.from_link(link, ip6.packet(STRANGER, CN, ip6.FRAGMENT, body), router, victim.now)

    first = lines(lambda: fragment(0, 8))
    for number in range(64 * 250):
        fragment(number % 64, 8 * (number // 64 + 2))
    assert lines(lambda: fragment(0, 8 * 252)) < first + 5 * PIECES


def test_translation_of_what_strangers_send() -> None:
    made = translation()

    def work(packet: bytes) -> int:
        return lines(lambda: made.inbound(packet, 0.0))

    def to_home(packet: bytes) -> bytes:
        return b"%b%b%b%b" % (packet[:8], PEER.packed, MN.packed, packet[40:])

    assert work(to_home(headers(2000))) < 2.5 * work(to_home(headers(1000)))


@pytest.mark.parametrize(
    "record", [b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\2\xc0\x0c", b"\xc0\x0c\0\x1c\0\1\0\0\0\x3c\0\x10" + bytes(16)]
)
def test_an_answer_of_dns_with_names_of_many_labels(record: bytes) -> None:
    made = translation()
    name = b"\1a" * 120 + b"\0"
    ends4 = SETTINGS.address4.packed + made.servers[0].packed
    query = b"\0\7\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1"
    datagram = (40053).to_bytes(2) + (53).to_bytes(2) + (8 + len(query)).to_bytes(2) + b"\0\0" + query
    assert len(made.outbound(ip4.packet(ends4, ip6.UDP, datagram), 0.0).network) == 2
    answer = b"\xff\xf8\x81\x80\0\1\x07\xd0\0\0\0\0" + name + b"\0\x1c\0\1" + record * 2000
    packet = udp.packet(SERVER.packed + MN.packed, (53, 40053), answer)
    assert lines(lambda: made.inbound(packet, 0.1)) < 10_000
    assert [discard.reason for discard in made.inbound(packet, 0.1).outputs if isinstance(discard, Discarded)] == [
        Reason.MALFORMED
    ]
