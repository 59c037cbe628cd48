"""As `mobility.mipv6.again`, for packets that went without the tunnel: what a handover lost is sent again.

Both ends keep the application's ESP packets that they sent directly a moment ago. A terminal that lost its care-of
address tells in its next binding update to the correspondent which numbers it had received last, and the correspondent
tells its own in the acknowledgement. What was sent after those goes again, octet for octet: if it had arrived after
all, the receiver's replay window removes it. Packets without ESP have no numbers and are not sent again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address
from struct import Struct

from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA, Mode
from mobility.mipv6.again import LIMIT, MEMORY, VENDOR
from mobility.wire import ip6, mh

HEARD = 3
"Sub-type: SPI and highest sequence number received, for one or more associations."
_MOST = 16
"Associations in one option."
_PAIR = Struct("!II")


def highest_received(application: IpsecProcessing, peer: bytes) -> dict[int, int]:
    """SPIs and highest number of every association in transport mode by which ``peer`` (16 octets) sends.

    The numbers of negotiated keys go on with the next ones, so the highest is that of all its SPIs.
    """
    address = IPv6Address(peer)
    found: dict[int, int] = {}
    for policy in application.spd.policies:
        sa = policy.inbound_sa
        if isinstance(sa, InboundSA) and sa.mode is Mode.TRANSPORT and address in policy.selector.remote:
            found |= dict.fromkeys(sa.spis[: _MOST - len(found)], sa.top)
    return found


def heard_option(highest: Mapping[int, int]) -> tuple[mh.Option, ...]:
    """The option that tells it; none where there is nothing to tell."""
    if not highest:
        return ()
    return (mh.VendorSpecific(VENDOR, HEARD, b"".join(_PAIR.pack(*pair) for pair in highest.items())),)


def heard_in(options: Iterable[mh.Option]) -> dict[int, int] | None:
    """What such an option says; None: there is none that makes sense."""
    for option in options:
        if isinstance(option, mh.VendorSpecific) and option.vendor == VENDOR and option.subtype == HEARD:
            if not option.data or len(option.data) % _PAIR.size or len(option.data) > _MOST * _PAIR.size:
                return None
            return dict(_PAIR.iter_unpack(option.data))
    return None


class SentDirectly:
    """The application's ESP packets that went to peers directly a moment ago; the oldest make room."""

    __slots__ = ("_packets", "sent_again")

    def __init__(self) -> None:
        self._packets: deque[tuple[float, bytes, bytes]] = deque(maxlen=LIMIT)
        self.sent_again = 0

    def __len__(self) -> int:
        return len(self._packets)

    def keep(self, peer: bytes, packet: bytes, now: float) -> None:
        """``packet``: after the application's IPsec, between home address and correspondent."""
        if packet[6] == ip6.ESP:
            self._packets.append((now, peer, packet))

    def after(self, peer: bytes, heard: Mapping[int, int], now: float) -> list[bytes]:
        """Takes out what was sent to ``peer``; returns, in order, what it has not received and is young enough."""
        packets: list[bytes] = []
        rest: deque[tuple[float, bytes, bytes]] = deque(maxlen=LIMIT)
        for row in self._packets:
            at, to, packet = row
            if to != peer:
                rest.append(row)
                continue
            spi, number = _PAIR.unpack_from(packet, ip6.HEADER_SIZE)
            if now - at <= MEMORY and number > heard.get(spi, number):
                packets.append(packet)
        self._packets = rest
        self.sent_again += len(packets)
        return packets
