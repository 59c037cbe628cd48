"""The IP authentication header in transport mode (RFC 4302, without extended sequence numbers), alone or around ESP.

It authenticates the whole packet as its final destination sees it: with a home address option the home address is the
source and the option holds the care-of address; with a type 2 routing header the home address is the destination and no
segments are left (RFC 6275 sections 6.4, 11.3.2). So a care-of address in a binding update cannot be exchanged.
"""

from __future__ import annotations

from hmac import compare_digest
from hmac import digest as hmac_digest
from struct import Struct

from mobility.discards import Discard, Reason
from mobility.ipsec.algorithms import AH_SIZE, Algorithm, KeyingError, Keys
from mobility.ipsec.association import InboundAssociation, Mode, OutboundAssociation, SequenceState
from mobility.ipsec.sa import InboundSA, OutboundSA
from mobility.wire import ip6

_HEAD = Struct("!BBHII")
_LENGTH = Struct("!H")
_WORDS = AH_SIZE // 4 - 2
"What the length octet says (section 2.2)."
_ICV = slice(12, 28)
_ICV_SIZE = 16
_EXTENSIONS = frozenset((ip6.HOP_BY_HOP, ip6.ROUTING, ip6.FRAGMENT, ip6.DEST_OPTIONS, ip6.AH))
_MAY_CHANGE = 0x20
"In the type of an option: its data may change on the way (RFC 8200 section 4.2)."


class OutboundAH(OutboundAssociation):
    """Authenticates packets. Not for two senders, as its sequence numbers are not."""

    __slots__ = ("_key", "inside")

    def __init__(
        self,
        spi: int,
        algorithm: Algorithm,
        keys: Keys,
        *,
        inside: OutboundSA | None = None,
        state: SequenceState | None = None,
    ) -> None:
        """``inside``: the association of ESP in transport mode that goes first, for AH then ESP.

        Raises `KeyingError`: SPI, an algorithm of ESP, key length, or ESP in tunnel mode.
        """
        super().__init__(spi, algorithm, Mode.TRANSPORT, state)
        _check(algorithm, keys, inside)
        self.inside = inside
        self._key = keys.authentication

    def resume(self) -> None:
        """As `OutboundAssociation.resume`, with the association inside."""
        super().resume()
        if self.inside is not None:
            self.inside.resume()

    def seal(self, packet: bytes, headers: ip6.Headers) -> bytes:
        """The packet with AH behind the extension headers that ``headers`` knows of.

        Raises `Discard`: SEQUENCE_EXHAUSTED, MALFORMED (too large), HEADER_UNKNOWN (a routing header whose end nobody
        can predict).
        """
        at = headers.offset
        length = len(packet) - ip6.HEADER_SIZE + AH_SIZE
        if length > 0xFFFF:
            raise Discard(Reason.MALFORMED, f"{len(packet)} octets are too large for one packet with AH")
        sequence = self.sequence + 1
        if sequence > self._reserved:
            self._reserve()
        out = bytearray(packet[:at])
        out[4:6] = _LENGTH.pack(length)
        out[headers.next_header_at] = ip6.AH
        out += _HEAD.pack(headers.protocol, _WORDS, 0, self.spi, sequence)
        out += bytes(AH_SIZE - _HEAD.size)
        out += packet[at:]
        out[at + _ICV.start : at + _ICV.stop] = _integrity(self._key, out, headers)
        self.sequence = sequence
        self.octets += len(packet) - at
        return bytes(out)

    def describe(self) -> dict[str, object]:
        """JSON-ready, without keys."""
        row = super().describe()
        return row if self.inside is None else row | {"inside": self.inside.describe()}


class InboundAH(InboundAssociation):
    """Checks AH: replay, then the integrity check value, then and only then the window moves."""

    __slots__ = ("_key", "inside")

    def __init__(
        self,
        spi: int,
        algorithm: Algorithm,
        keys: Keys,
        *,
        inside: InboundSA | None = None,
        state: SequenceState | None = None,
    ) -> None:
        """``inside``: the association of ESP in transport mode that has to follow. Raises `KeyingError`."""
        super().__init__(spi, algorithm, Mode.TRANSPORT, state)
        _check(algorithm, keys, inside)
        self.inside = inside
        self._key = keys.authentication

    def resume(self) -> None:
        """As `InboundAssociation.resume`, with the association inside."""
        super().resume()
        if self.inside is not None:
            self.inside.resume()

    def open(self, packet: bytes, headers: ip6.Headers) -> bytes:
        """The packet without its AH, where the walk over its headers ended.

        Raises `Discard`: AH_MALFORMED, SA_UNKNOWN (another SPI), REPLAYED, AUTHENTICATION_FAILED, HEADER_UNKNOWN
        (extension headers behind AH, which we do not look for there).
        """
        at = headers.offset
        if headers.fragment is not None:
            raise Discard(Reason.AH_MALFORMED, "a fragment with AH: reassemble first")
        if len(packet) < at + AH_SIZE:
            raise Discard(Reason.AH_MALFORMED, f"{len(packet) - at} octets of AH, needs {AH_SIZE}")
        following, words, _, spi, sequence = _HEAD.unpack_from(packet, at)
        if spi != self.spi:
            raise Discard(Reason.SA_UNKNOWN, f"AH SPI {spi:#010x} is not {self.spi:#010x}")
        if words != _WORDS:
            raise Discard(Reason.AH_MALFORMED, f"AH of length {words}, has to be {_WORDS}")
        if not self.acceptable(sequence):
            self.replayed += 1
            raise Discard(Reason.REPLAYED, f"AH SPI {spi:#010x} sequence {sequence}, top {self.top}")
        checked = bytearray(packet)
        checked[at + _ICV.start : at + _ICV.stop] = bytes(_ICV_SIZE)
        value = _integrity(self._key, checked, headers)
        if not compare_digest(value, packet[at + _ICV.start : at + _ICV.stop]):
            self.failed += 1
            raise Discard(Reason.AUTHENTICATION_FAILED, f"AH SPI {spi:#010x} sequence {sequence}")
        self.accept(sequence)
        self._cells[1] = self.top
        if following in _EXTENSIONS:
            raise Discard(Reason.HEADER_UNKNOWN, f"extension header {following} behind AH")
        self.packets += 1
        self.octets += len(packet) - at - AH_SIZE
        out = bytearray(packet[:at])
        out[4:6] = _LENGTH.pack(len(packet) - ip6.HEADER_SIZE - AH_SIZE)
        out[headers.next_header_at] = following
        return bytes(out + packet[at + AH_SIZE :])

    def describe(self) -> dict[str, object]:
        """JSON-ready, without keys."""
        row = super().describe()
        return row if self.inside is None else row | {"inside": self.inside.describe()}


def _check(algorithm: Algorithm, keys: Keys, inside: OutboundSA | InboundSA | None) -> None:
    if not algorithm.is_for_ah:
        raise KeyingError(f"{algorithm.value} is for ESP: AH takes {Algorithm.HMAC_SHA2_256_128.value}")
    algorithm.check(keys)
    if inside is not None and inside.mode is not Mode.TRANSPORT:
        raise KeyingError(f"AH goes around ESP in transport mode; SPI {inside.spi:#010x} is for tunnel mode")


def _integrity(key: bytes, packet: bytearray, headers: ip6.Headers) -> bytes:
    """The integrity check value of a packet in which that field is zero (section 3.3.3)."""
    if headers.unknown_routing_at is not None:
        raise Discard(Reason.HEADER_UNKNOWN, "AH with a routing header that is not of type 2")
    seen = bytearray(packet)
    # Traffic class, flow label and hop limit change on the way (section 3.3.3.1.2.1).
    seen[0:4] = b"\x60\0\0\0"
    seen[7] = 0
    at = headers.routing_at
    if at is not None and headers.segments_left:
        seen[24:40], seen[at + 8 : at + 24] = packet[at + 8 : at + 24], packet[24:40]
        seen[at + 3] = 0
    at = headers.home_address_at
    if at is not None:
        seen[8:24], seen[at + 2 : at + 18] = packet[at + 2 : at + 18], packet[8:24]
    for option in headers.unknown_options:
        if option.type & _MAY_CHANGE:
            start, size = option.at + 2, packet[option.at + 1]
            seen[start : start + size] = bytes(size)
    return hmac_digest(key, seen, "sha256")[:_ICV_SIZE]
