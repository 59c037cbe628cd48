"""Fragmentation and reassembly (RFC 8200 section 4.5, RFC 5722, RFC 6946)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.host.interface import Interface
from mobility.wire import ip6
from mobility.wire.errors import WireError

TIMEOUT = 60.0
PACKETS = 64
"Packets under reassembly at one time; the oldest goes first."
OCTETS = 1 << 20
"Octets waiting in all of them."
PIECES = 256
"Fragments of one packet."


class FragmentProblem(Exception):
    """A fragment that its sender is told about: Parameter Problem, code 0, ``pointer``."""

    def __init__(self, pointer: int, why: str) -> None:
        super().__init__(why)
        self.pointer = pointer


@dataclass(slots=True)
class _Packet:
    pieces: dict[int, bytes] = field(default_factory=dict)
    "Offset in octets -> what lies there."
    total: int | None = None
    "Octets of the fragmentable part, once the last fragment came."
    head: bytes = b""
    "The unfragmentable part, from the first fragment, naming the next header behind the fragment header."
    first: bytes = b""
    "The whole first fragment, for the error message."
    octets: int = 0


class Reassembly:
    """Packets whose fragments are still coming in."""

    def __init__(self, interface: Interface, timed_out: Callable[[bytes, float], None]) -> None:
        """``timed_out``: called with the first fragment of a packet that stayed incomplete."""
        self._interface = interface
        self._timed_out = timed_out
        self._packets: dict[tuple[bytes, int], _Packet] = {}
        self._octets = 0

    def add(self, packet: bytes, headers: ip6.Headers, fragment: ip6.Fragment, now: float) -> bytes | None:
        """The whole packet when this was its last missing fragment. Raises `FragmentProblem`."""
        body = packet[fragment.at + 8 :]
        if fragment.more and len(body) % 8:
            raise FragmentProblem(4, "length of a fragment is no multiple of 8 octets")
        head_size = fragment.at - ip6.HEADER_SIZE
        if head_size + fragment.offset + len(body) > 0xFFFF:
            raise FragmentProblem(fragment.at + 2, "a fragment reaches beyond 65535 octets")
        head = _without_fragment_header(packet, fragment)
        if fragment.offset == 0 and not fragment.more:
            return _join(head, body)  # atomic: never mixed with others (RFC 6946)
        key = (packet[8:40], fragment.identification)
        waiting = self._packets.get(key)
        if waiting is None:
            if len(self._packets) >= PACKETS:
                self._drop(next(iter(self._packets)), Reason.FRAGMENT_LIMIT)
            waiting = self._packets[key] = _Packet()
            self._interface.alarms.set(("reassembly", key), now + TIMEOUT, lambda then: self._expired(key, then))
        if waiting.pieces.get(fragment.offset) == body and body:
            return None  # an exact duplicate, made by the network
        if self._contradicts(waiting, fragment, len(body)):
            self._drop(key, Reason.FRAGMENT_INVALID)
            return None
        waiting.pieces[fragment.offset] = body
        waiting.octets += len(body)
        self._octets += len(body)
        if not fragment.more:
            waiting.total = fragment.offset + len(body)
        if fragment.offset == 0:
            waiting.head, waiting.first = head, packet
        if waiting.total == waiting.octets and waiting.head:
            if len(waiting.head) - ip6.HEADER_SIZE + waiting.total > 0xFFFF:  # others had shorter heads than the first
                self._drop(key, Reason.FRAGMENT_INVALID)
                return None
            self._forget(key)
            return _join(waiting.head, b"".join(waiting.pieces[offset] for offset in sorted(waiting.pieces)))
        while self._octets > OCTETS:
            self._drop(next(iter(self._packets)), Reason.FRAGMENT_LIMIT)
        return None

    def _contradicts(self, waiting: _Packet, fragment: ip6.Fragment, size: int) -> bool:
        start, end = fragment.offset, fragment.offset + size
        if size == 0 or len(waiting.pieces) >= PIECES:
            return True
        if not fragment.more and (waiting.total is not None or any(at >= end for at in waiting.pieces)):
            return True
        if waiting.total is not None and end > waiting.total:
            return True
        return any(start < at + len(piece) and at < end for at, piece in waiting.pieces.items())

    def _expired(self, key: tuple[bytes, int], now: float) -> None:
        first = self._packets[key].first
        self._drop(key, Reason.FRAGMENT_TIMEOUT)
        if first:
            self._timed_out(first, now)

    def _drop(self, key: tuple[bytes, int], reason: Reason) -> None:
        self._forget(key)
        self._interface.discard(reason, f"from {IPv6Address(key[0][:16])}")

    def _forget(self, key: tuple[bytes, int]) -> None:
        self._octets -= self._packets.pop(key).octets
        self._interface.alarms.cancel(("reassembly", key))


def put_together(reassembly: Reassembly, packet: bytes, now: float) -> bytes | None:
    """The whole packet when this was its last missing fragment; for packets that came out of a tunnel.

    Raises `Discard`: MALFORMED, FRAGMENT_INVALID.
    """
    try:
        headers = ip6.walk(packet)
        if headers.fragment is None:
            raise Discard(Reason.FRAGMENT_INVALID, "a fragment header that says nothing")
        return reassembly.add(packet, headers, headers.fragment, now)
    except WireError as error:
        raise Discard(Reason.MALFORMED, str(error)) from error
    except FragmentProblem as problem:
        raise Discard(Reason.FRAGMENT_INVALID, str(problem)) from problem


def _without_fragment_header(packet: bytes, fragment: ip6.Fragment) -> bytes:
    """Everything before the fragment header, with the next header that the fragment header named."""
    head = bytearray(packet[: fragment.at])
    named_at, at = 6, ip6.HEADER_SIZE
    while at < fragment.at:
        named_at, at = at, at + (head[at + 1] + 1) * 8
    head[named_at] = fragment.next_header
    return bytes(head)


def _join(head: bytes, body: bytes) -> bytes:
    size = len(head) - ip6.HEADER_SIZE + len(body)
    return b"%b%b%b%b" % (head[:4], size.to_bytes(2), head[6:], body)


def fragment(packet: bytes, mtu: int, identification: int) -> list[bytes]:
    """Splits a packet so that no fragment is longer than ``mtu``.

    Raises `WireError` on a malformed packet and `ValueError` when the unfragmentable part leaves no room.
    """
    named_at, at = 6, ip6.HEADER_SIZE
    # Unfragmentable: hop-by-hop options, and everything up to a routing header.
    scan_named, scan_at = named_at, at
    while packet[scan_named] in (ip6.HOP_BY_HOP, ip6.ROUTING, ip6.DEST_OPTIONS) and scan_at + 8 <= len(packet):
        keep = packet[scan_named] in (ip6.HOP_BY_HOP, ip6.ROUTING)
        scan_named, scan_at = scan_at, scan_at + (packet[scan_at + 1] + 1) * 8
        if keep:
            named_at, at = scan_named, scan_at
    room = (mtu - at - 8) & ~7
    if room < 8:
        raise ValueError(f"headers of {at} octets leave no room in an MTU of {mtu}")
    head = bytearray(packet[:at])
    following, head[named_at] = head[named_at], ip6.FRAGMENT
    body = packet[at:]
    pieces: list[bytes] = []
    for offset in range(0, len(body), room):
        piece = body[offset : offset + room]
        more = offset + room < len(body)
        header = b"%c\0%b%b" % (following, (offset | more).to_bytes(2), identification.to_bytes(4))
        pieces.append(_join(bytes(head), header + piece))
    return pieces
