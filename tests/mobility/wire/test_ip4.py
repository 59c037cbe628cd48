"""The little of IPv4 that is needed."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP

from mobility.wire import ip4
from mobility.wire.errors import WireError

HERE, THERE, ROUTER = IPv4Address("192.0.2.1"), IPv4Address("198.51.100.9"), IPv4Address("192.168.7.1")


def packet(**fields: object) -> bytes:
    return bytes(IP(**{"src": str(HERE), "dst": str(THERE), **fields}) / UDP(sport=1, dport=2) / b"payload")


@given(st.integers(0, 255), st.integers(0, 0x1FFF))
def test_whole_packets(tos: int, offset: int) -> None:
    made = packet(tos=tos, frag=offset)
    assert ip4.check(made) == made
    assert ip4.check(made + bytes(9)) == made
    marks = ip4.traffic_class(made)
    assert (marks[0] >> 4, (marks[0] & 15) << 4 | marks[1] >> 4) == (6, tos)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b"", "needs 20 octets"),
        (packet()[:19], "needs 20 octets"),
        (packet()[:-1], "claims 35 octets"),
        (b"\x65" + packet()[1:], "version is 6"),
        (b"\x44" + packet()[1:], "header of 16 octets"),
        (b"\x4f" + packet()[1:], "header of 60 octets"),
        (packet()[:8] + b"\x01" + packet()[9:], "wrong checksum"),
    ],
)
def test_what_is_no_packet(broken: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        ip4.check(broken)


def test_may_be_fragmented() -> None:
    assert ip4.may_be_fragmented(packet())
    assert not ip4.may_be_fragmented(packet(flags="DF"))


def test_too_big_is_read_by_scapy() -> None:
    invoking = packet(flags="DF")
    told = ip4.too_big(invoking, 1400, ROUTER)
    assert told is not None
    assert ip4.check(told) == told
    read = IP(told)
    assert (read.src, read.dst) == (str(ROUTER), str(HERE))
    icmp = read[ICMP]
    assert (icmp.type, icmp.code, icmp.nexthopmtu) == (3, 4, 1400)
    assert ip4.checksum(told[20:]) == 0
    assert told[28:] == invoking
    assert len(ip4.too_big(packet(flags="DF") + bytes(2000), 1400, ROUTER) or b"") == 576


@pytest.mark.parametrize(
    "silent",
    [
        packet(frag=5),
        packet(src="0.0.0.0"),
        packet(src="127.0.0.1"),
        packet(src="224.0.0.1"),
        packet(src="255.255.255.255"),
        packet(dst="224.0.0.5"),
        bytes(IP(src=str(HERE), dst=str(THERE)) / ICMP(type=3, code=1)),
    ],
)
def test_never_answered_with_an_error(silent: bytes) -> None:
    assert ip4.too_big(silent, 1400, ROUTER) is None


def test_echo_is_answered_with_an_error() -> None:
    assert ip4.too_big(bytes(IP(src=str(HERE), dst=str(THERE)) / ICMP(type=8)), 1400, ROUTER) is not None


@given(st.binary(max_size=60))
def test_noise(body: bytes) -> None:
    try:
        found = ip4.check(body)
    except WireError:
        return
    assert body.startswith(found)
    assert ip4.checksum(found[: (found[0] & 15) * 4]) == 0
