"""The short ways through the translation: UDP and TCP between addresses that are known, whole, and of no gateway.

They do what `Translator` does; a test drives random packets through both ways and compares.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from mobility.translation.checksums import words
from mobility.translation.table import GRAIN, Origin, Row, TranslationTable
from mobility.translation.translator import DONT_FRAGMENT, LOWEST_IPV6_MTU, Translator
from mobility.wire import ip4, ip6

_LENGTH = Struct("!H").pack
_HEADER4 = Struct("!BBHHHBBH").pack
_NOT_WHOLE = DONT_FRAGMENT ^ 0xFFFF
_LOWEST_IPV4_SIZE = LOWEST_IPV6_MTU - 20


class _Pair(NamedTuple):
    """Source and destination."""

    ends: bytes
    "Of the other version of IP."
    shift: int
    "Of checksums, see `checksums.adjusted`."
    row: Row
    "Of the correspondent."


class ShortWays:
    """Pairs of addresses, as long as the table does not change.

    ``thoughtful``: whether packets of this protocol, from this port of a program to that of a correspondent, or back,
    need more thought.
    """

    def __init__(
        self, table: TranslationTable, translator: Translator, thoughtful: Callable[[int, int, int], bool]
    ) -> None:
        self._table = table
        self._translator = translator
        self._thoughtful = thoughtful
        self._pairs4: dict[bytes, _Pair] = {}
        self._pairs6: dict[bytes, _Pair] = {}
        self._version = 0

    def remember(self, ends4: bytes, ends6: bytes, row: Row) -> None:
        """Source and destination of an outbound packet, in both versions, and the row of the latter.

        A stranger's: only what comes from it, so that the first answer of a program goes the long way and is noticed.
        """
        if self._version != self._table.version:
            self._pairs4.clear()
            self._pairs6.clear()
            self._version = self._table.version
        shift = words(ends4) - words(ends6)
        if row.origin is not Origin.STRANGER:
            self._pairs4[ends4] = _Pair(ends6, shift, row)
        self._pairs6[ends6[16:] + ends6[:16]] = _Pair(ends4[4:] + ends4[:4], -shift, row)

    def outbound(self, packet: bytes, now: float) -> bytes | None:
        """The IPv6 packet; None: the long way."""
        pair = self._pairs4.get(packet[12:20])
        size = len(packet)
        if pair is None or size < 28 or packet[0] != 0x45 or packet[8] < 2 or self._version != self._table.version:
            return None
        bits, protocol = packet[6] << 8 | packet[7], packet[9]
        at = 26 if protocol == ip6.UDP else 36 if protocol == ip6.TCP and size >= 40 else 0
        if (
            not at
            or bits & _NOT_WHOLE
            or size > (self._translator.mtu - 20 if bits else _LOWEST_IPV4_SIZE)
            or packet[2] << 8 | packet[3] != size
            or ip4.checksum(packet[:20])
            or self._thoughtful(protocol, packet[20] << 8 | packet[21], packet[22] << 8 | packet[23])
        ):
            return None
        checksum = packet[at] << 8 | packet[at + 1]
        if not checksum and protocol == ip6.UDP:
            return None
        if now - pair.row.used >= GRAIN:
            self._table.touch(pair.row, now, asked=True)
        tos = packet[1]
        return b"%c%c\0\0%b%c%c%b%b%b%b" % (
            0x60 | tos >> 4,
            tos << 4 & 0xF0,
            _LENGTH(size - 20),
            protocol,
            packet[8] - 1,
            pair.ends,
            packet[20:at],
            _LENGTH(_value(protocol, checksum + pair.shift)),
            packet[at + 2 :],
        )

    def inbound(self, packet: bytes, now: float) -> bytes | None:
        """The IPv4 packet; None: the long way."""
        pair = self._pairs6.get(packet[8:40])
        size = len(packet)
        if pair is None or size < 48 or packet[7] < 2 or packet[0] >> 4 != 6 or self._version != self._table.version:
            return None
        protocol = packet[6]
        at = 46 if protocol == ip6.UDP else 56 if protocol == ip6.TCP and size >= 60 else 0
        if (
            not at
            or packet[4] << 8 | packet[5] != size - 40
            or self._thoughtful(protocol, packet[42] << 8 | packet[43], packet[40] << 8 | packet[41])
        ):
            return None
        checksum = packet[at] << 8 | packet[at + 1]
        if not checksum and protocol == ip6.UDP:
            return None
        if now - pair.row.used >= GRAIN:
            self._table.touch(pair.row, now, asked=False)
        if size > LOWEST_IPV6_MTU:
            bits, identification = DONT_FRAGMENT, 0
        else:
            bits, identification = 0, self._translator.next_identification()
        tos, length, ttl = (packet[0] & 15) << 4 | packet[1] >> 4, size - 20, packet[7] - 1
        total = 0x4500 + tos + length + identification + bits + (ttl << 8) + protocol + words(pair.ends)
        return b"%b%b%b%b%b" % (
            _HEADER4(0x45, tos, length, identification, bits, ttl, protocol, -total % 0xFFFF),
            pair.ends,
            packet[40:at],
            _LENGTH(_value(protocol, checksum + pair.shift)),
            packet[at + 2 :],
        )


def _value(protocol: int, checksum: int) -> int:
    value = checksum % 0xFFFF
    return 0xFFFF if not value and protocol == ip6.UDP else value
