"""The format of rtnetlink: what is written can be read, and what makes no sense is not read."""

from __future__ import annotations

import socket
import sys
from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from mobility.net import rtnetlink
from mobility.net.netlink import LinkState, RouteState, address_of, link_of, routes_of
from mobility.net.rtnetlink import Message, attribute, attributes, messages, next_hops, number, request


def test_attributes_are_padded_and_read_again() -> None:
    data = attribute(1, b"abcde") + attribute(2, 0x01020304) + attribute(3, b"")
    assert len(data) == 12 + 8 + 4
    assert attributes(b"head" + data, 4) == {1: b"abcde", 2: (0x01020304).to_bytes(4, sys.byteorder), 3: b""}
    assert number(attributes(data, 0), 2) == 0x01020304


def test_the_flags_of_an_attribute_are_no_part_of_its_type() -> None:
    assert attributes(attribute(0x8000 | 9, b"nested"), 0) == {9: b"nested"}


def test_a_number_that_is_none_is_the_default() -> None:
    assert number({}, 1, 7) == 7
    assert number({1: b"\1"}, 1, 7) == 7


def test_several_messages_in_one_read() -> None:
    data = request(16, 0x300, 5, b"abcdef") + bytes(2) + request(20, 0, 6, b"")
    assert list(messages(data)) == [Message(16, 5, b"abcdef"), Message(20, 6, b"")]


@given(st.binary(max_size=200), st.integers(0, 16))
def test_nonsense_is_not_read(data: bytes, at: int) -> None:
    assert sum(len(message.body) for message in messages(data)) <= len(data)
    assert sum(map(len, attributes(data, at).values())) <= len(data)
    assert len(list(next_hops(data))) <= len(data)


def test_an_endless_message_ends_the_reading() -> None:
    empty = rtnetlink.HEADER.pack(0, 16, 0, 0, 0)
    assert list(messages(empty * 3)) == []
    beyond = rtnetlink.HEADER.pack(100, 16, 0, 0, 0)
    assert list(messages(request(20, 0, 1, b"good") + beyond)) == [Message(20, 1, b"good")]


def test_ports_of_bridges_are_no_links() -> None:
    name = attribute(rtnetlink.IFLA_IFNAME, b"br0\0")

    def link(family: int, kind: int = rtnetlink.RTM_NEWLINK) -> LinkState | None:
        return link_of(Message(kind, 1, rtnetlink.LINK.pack(family, 1, 7, 0x10001, 0) + name))

    assert link(socket.AF_BRIDGE, rtnetlink.RTM_DELLINK) is None
    seen = link(socket.AF_UNSPEC)
    assert seen is not None
    assert (seen.index, seen.name, seen.up, seen.ethernet) == (7, "br0", True, True)
    assert link(socket.AF_UNSPEC, rtnetlink.RTM_NEWROUTE) is None


def test_what_is_not_of_ip_or_not_for_us_is_left_out() -> None:
    own = attribute(rtnetlink.IFA_LOCAL, bytes(4))
    assert address_of(Message(rtnetlink.RTM_NEWADDR, 1, rtnetlink.ADDRESS.pack(77, 8, 0, 0, 1) + own)) is None
    assert address_of(Message(rtnetlink.RTM_NEWADDR, 1, rtnetlink.ADDRESS.pack(socket.AF_INET, 8, 0, 0, 1))) is None
    way = attribute(rtnetlink.RTA_OIF, 3) + attribute(rtnetlink.RTA_GATEWAY, IPv4Address("192.0.2.1").packed)

    def routes(family: int = socket.AF_INET, table: int = 254, kind: int = 1, flags: int = 0) -> list[RouteState]:
        fixed = rtnetlink.ROUTE.pack(family, 0, 0, 0, table, 0, 0, kind, flags)
        return routes_of(Message(rtnetlink.RTM_NEWROUTE, 1, fixed + way))

    assert routes() == [RouteState(3, IPv4Network("0.0.0.0/0"), 0, IPv4Address("192.0.2.1"))]
    assert routes(family=77) == routes(table=255) == routes(kind=7) == routes(flags=0x200) == []
