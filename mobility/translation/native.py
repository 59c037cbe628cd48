"""Programs in the host OS that speak IPv6 themselves, beside those that need the translation.

Both share the home address. What answers to a packet that was sent as IPv6 is delivered as IPv6; all else is
translated.
"""

from __future__ import annotations

from collections import OrderedDict

from mobility.wire import ip6
from mobility.wire.errors import WireError

LIMIT = 1024
"Flows; the one that was silent longest goes first."
_ERRORS = range(1, 5)
_WITH_PORTS = frozenset((ip6.TCP, ip6.UDP, ip6.UDP_LITE, ip6.SCTP))


class NativeFlows:
    """Flows that a program began in IPv6: correspondent, protocol, ports or identifier of echo."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._flows: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._flows)

    def sent(self, packet: bytes) -> None:
        """A program sends an IPv6 packet."""
        key = _key(packet, outbound=True)
        if key is None:
            return
        self._flows[key] = None
        self._flows.move_to_end(key)
        if len(self._flows) > self.limit:
            self._flows.popitem(last=False)

    def __contains__(self, packet: bytes) -> bool:
        """Whether a received whole packet answers to one that was sent."""
        key = _key(packet, outbound=False)
        return key is not None and key in self._flows


def _key(packet: bytes, *, outbound: bool) -> bytes | None:
    try:
        headers = ip6.walk(packet)
    except WireError:
        return None
    if headers.later_fragment:
        return None
    protocol, at = headers.protocol, headers.offset
    remote = packet[24:40] if outbound else packet[8:24]
    here, there = packet[at : at + 2], packet[at + 2 : at + 4]
    if protocol in _WITH_PORTS:
        return b"%b%c%b%b" % (remote, protocol, *((here, there) if outbound else (there, here)))
    if protocol == ip6.ICMPV6:
        if not outbound and packet[at : at + 1] and packet[at] in _ERRORS:
            return _key(packet[at + 8 :], outbound=True)  # about what was sent
        return b"%b%c%b" % (remote, protocol, packet[at + 4 : at + 6])
    return b"%b%c" % (remote, protocol)
