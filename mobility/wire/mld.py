"""Multicast listener reports (MLDv2, RFC 3810): switches that snoop forward only the groups that were asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from struct import Struct
from typing import Self

from mobility.wire import icmp6, ip6
from mobility.wire.errors import WireError

REPORT_V2 = 143
ALL_MLDV2_ROUTERS = IPv6Address("ff02::16")


class RecordType(IntEnum):
    """RFC 3810 section 5.2.5. A listener without source filters uses two of them."""

    MODE_IS_EXCLUDE = 2
    "Answer to a query: listens."
    TO_INCLUDE = 3
    "Leaves the group (no source is listened to any more)."
    TO_EXCLUDE = 4
    "Joins the group (all sources)."


@dataclass(frozen=True, slots=True)
class Record:
    """One multicast address record, without sources."""

    type: int
    group: IPv6Address


@dataclass(frozen=True, slots=True)
class Report:
    """RFC 3810 section 5.2."""

    records: tuple[Record, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Sources and auxiliary data are skipped. Raises `WireError`."""
        if len(data) < 8:
            raise WireError("MLDv2 report", at=len(data), why="needs 8 octets")
        if data[0] != REPORT_V2:
            raise WireError("MLDv2 report", at=0, why=f"ICMPv6 type is {data[0]}")
        records: list[Record] = []
        at = 8
        for _ in range(int.from_bytes(data[6:8], "big")):
            if at + 20 > len(data):
                raise WireError("MLDv2 report", at=at, why="record is cut off")
            kind, auxiliary, sources, group = _RECORD.unpack_from(data, at)
            at += 20 + 16 * sources + 4 * auxiliary
            if at > len(data):
                raise WireError("MLDv2 report", at=len(data), why="sources are cut off")
            records.append(Record(kind, IPv6Address(group)))
        return cls(tuple(records))

    def __bytes__(self) -> bytes:
        head = b"%c\0\0\0\0\0%b" % (REPORT_V2, len(self.records).to_bytes(2, "big"))
        return head + b"".join(_RECORD.pack(r.type, 0, 0, r.group.packed) for r in self.records)


def packet(source: ip6.Address, report: Report) -> bytes:
    """A whole packet: hop limit 1, router alert in a hop-by-hop header (RFC 3810 section 5)."""
    body = icmp6.payload(source, ALL_MLDV2_ROUTERS, report)
    alert = b"%c\0\x05\x02\0\0\x01\0" % ip6.ICMPV6
    return ip6.packet(source, ALL_MLDV2_ROUTERS, ip6.HOP_BY_HOP, alert + body, hop_limit=1)


def join(source: ip6.Address, *groups: IPv6Address) -> bytes:
    """The packet that joins groups; the source is link-local or unspecified (RFC 3590)."""
    return packet(source, Report(tuple(Record(RecordType.TO_EXCLUDE, group) for group in groups)))


def leave(source: ip6.Address, *groups: IPv6Address) -> bytes:
    """The packet that leaves groups."""
    return packet(source, Report(tuple(Record(RecordType.TO_INCLUDE, group) for group in groups)))


_RECORD = Struct("!BBH16s")
