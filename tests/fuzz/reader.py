"""How the targets read their input: as a program of small steps, so that most inputs get past the first check."""

from __future__ import annotations

from collections.abc import Sequence

from mobility.wire import ip6
from mobility.wire.errors import WireError

_CHECKSUMS = {ip6.TCP: 16, ip6.UDP: 6, ip6.ICMPV6: 2, ip6.MOBILITY: 4}
"Where the checksum of a protocol is in its header."


class Reader:
    """Takes values from the front of the input; what is not there is zero."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether something is left."""
        return self._at < len(self._data)

    def byte(self) -> int:
        """0 to 255."""
        return self.take(1)[0] if self else 0

    def short(self) -> int:
        """0 to 65535."""
        return self.byte() << 8 | self.byte()

    def take(self, size: int) -> bytes:
        """So many octets, or those that are left."""
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def edited(self, octets: bytes) -> bytes:
        """The octets with up to seven changes: other values, octets inserted, taken out or cut off behind."""
        made = bytearray(octets)
        for _ in range(self.byte() & 7):
            kind, at = self.byte(), self.short() % (len(made) + 1)
            match kind & 3:
                case 0:
                    made[at : at + 1] = self.take(1)
                case 1:
                    made[at:at] = self.take(kind >> 2)
                case 2:
                    del made[at : at + (kind >> 2)]
                case _:
                    del made[at:]
        return bytes(made)

    def chosen(self, what: Sequence[bytes]) -> bytes:
        """One of them."""
        return what[self.byte() % len(what)]


def put_right(packet: bytes) -> bytes:
    """The IPv6 packet with the length that it has and a right checksum, as far as it has a header for one."""
    if len(packet) < ip6.HEADER_SIZE:
        return packet
    packet = b"%b%b%b" % (packet[:4], min(len(packet) - ip6.HEADER_SIZE, 0xFFFF).to_bytes(2), packet[6:])
    try:
        headers = ip6.walk(packet)
        flow = ip6.flow(packet, headers)
    except WireError:
        return packet
    at = headers.offset + _CHECKSUMS.get(headers.protocol, 0)
    if headers.protocol not in _CHECKSUMS or headers.fragment is not None or at + 2 > len(packet):
        return packet
    packet = b"%b\0\0%b" % (packet[:at], packet[at + 2 :])
    value = ip6.checksum(flow.source, flow.destination, headers.protocol, packet[headers.offset :])
    return b"%b%b%b" % (packet[:at], value.to_bytes(2), packet[at + 2 :])
