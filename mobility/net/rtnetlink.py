"""The format of rtnetlink messages (rtnetlink(7), <linux/rtnetlink.h>): bytes <-> fixed part and attributes.

Our own, although pyroute2 has one: a change of a network is read while packets wait, and what decodes everything that
the kernel says of an interface takes ten times as long as what decodes the five attributes that matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE = 0x1, 0x4, 0x300, 0x400, 0x200, 0x100
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_TXQLEN, IFLA_AF_SPEC, IFLA_CARRIER_DOWN_COUNT = 1, 3, 4, 13, 26, 48
IFLA_INET6_ADDR_GEN_MODE = 8
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 6, 8
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH, RTA_TABLE = 1, 4, 5, 6, 9, 15

HEADER = Struct("=IHHII")
"Length, type, flags, sequence number, port."
LINK = Struct("=BxHiII")
"``struct ifinfomsg``: family, type, index, flags, change."
ADDRESS = Struct("=BBBBi")
"``struct ifaddrmsg``: family, prefix length, flags, scope, index."
LIFETIMES = Struct("=IIII")
"``struct ifa_cacheinfo``: preferred and valid seconds; created and updated, which the kernel fills in."
ROUTE = Struct("=BBBBBBBBI")
"``struct rtmsg``: family, destination and source length, tos, table, protocol, scope, type, flags."
_ATTRIBUTE = Struct("=HH")
_NEXT_HOP = Struct("=HBBi")
_NUMBER = Struct("=I")
_TYPE = 0x3FFF  # without the flags "nested" and "network byte order"


class Message(NamedTuple):
    kind: int
    sequence: int
    body: bytes


def messages(data: bytes) -> Iterator[Message]:
    """What one read of a netlink socket brought. Ends where the data do not make sense any more."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, _flags, sequence, _port = HEADER.unpack_from(data, at)
        if not HEADER.size <= length <= len(data) - at:
            return
        yield Message(kind, sequence, data[at + HEADER.size : at + length])
        at += _aligned(length)


def attributes(data: bytes, at: int) -> dict[int, bytes]:
    """The attributes from ``at`` to the end, by type."""
    found: dict[int, bytes] = {}
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= length <= len(data) - at:
            break
        found[kind & _TYPE] = data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def next_hops(data: bytes) -> Iterator[tuple[int, dict[int, bytes]]]:
    """Index of the interface and attributes of each way of a route with several (RTA_MULTIPATH)."""
    at = 0
    while at + _NEXT_HOP.size <= len(data):
        length, _flags, _hops, index = _NEXT_HOP.unpack_from(data, at)
        if not _NEXT_HOP.size <= length <= len(data) - at:
            return
        yield index, attributes(data[at : at + length], _NEXT_HOP.size)
        at += _aligned(length)


def number(found: Mapping[int, bytes], kind: int, default: int = 0) -> int:
    """An attribute of 32 bits."""
    try:
        return int(_NUMBER.unpack(found[kind])[0])
    except (KeyError, StructError):
        return default


def attribute(kind: int, value: bytes | int) -> bytes:
    """An attribute with its padding; a number has 32 bits."""
    data = _NUMBER.pack(value) if isinstance(value, int) else value
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def request(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A whole message to the kernel."""
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, sequence, 0) + body


def _aligned(length: int) -> int:
    return (length + 3) & ~3
