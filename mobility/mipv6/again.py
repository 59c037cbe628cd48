"""Packets that a handover lost are sent again, exactly those: how both ends of the tunnel find out which they are.

Both know the sequence numbers of the tunnel's ESP. When the terminal has lost its care-of address it says in the next
binding update which number it had received last, and the home agent says in every acknowledgement which one it has.
Each sends again what it sealed after that, as new packets. A tunnel without ESP (form ``plain``) has no numbers:
nothing is sent again there. The numbers travel in vendor specific options (RFC 5094), which other nodes skip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address
from struct import Struct

from mobility.ipsec.sa import OutboundSA
from mobility.wire import mh

VENDOR = 32473
"Private enterprise number for documentation (RFC 5612)."
LOSS, RECEIVED = 1, 2
"Sub-types: of binding updates, of acknowledgements."
LIMIT = 512
"Packets that are kept; the path's MTU bounds their octets."
MEMORY = 1.0
"Seconds; speech that is older is of no use to anybody."


@dataclass(frozen=True, slots=True)
class Loss:
    """What the terminal tells: its care-of address was lost (break before make)."""

    highest: int
    "ESP sequence number of the tunnel, the highest received before."
    number: int
    "Of this loss, modulo 2**16: a repeated binding update repeats it, and nothing is sent a second time."
    address: IPv6Address
    "That was lost; not sent, for the home agent knows it."

    def option(self) -> mh.VendorSpecific:
        return mh.VendorSpecific(VENDOR, LOSS, _IH.pack(self.highest, self.number))


@dataclass(frozen=True, slots=True)
class Progress:
    """What the home agent tells."""

    highest: int
    "ESP sequence number of the tunnel, the highest received; what comes to the old care-of address later is dropped."
    sent_again: int
    "Packets that the home agent sent again after this loss."

    def option(self) -> mh.VendorSpecific:
        return mh.VendorSpecific(VENDOR, RECEIVED, _IH.pack(self.highest, min(self.sent_again, 0xFFFF)))


def loss_in(options: Iterable[mh.Option]) -> tuple[int, int] | None:
    """Highest number received and number of the loss, in a binding update."""
    return _numbers(options, LOSS)


def progress_in(options: Iterable[mh.Option]) -> Progress | None:
    """In a binding acknowledgement."""
    numbers = _numbers(options, RECEIVED)
    return None if numbers is None else Progress(*numbers)


def _numbers(options: Iterable[mh.Option], subtype: int) -> tuple[int, int] | None:
    for option in options:
        if isinstance(option, mh.VendorSpecific) and option.vendor == VENDOR and option.subtype == subtype:
            if len(option.data) != _IH.size:
                return None
            highest, other = _IH.unpack(option.data)
            return highest, other
    return None


class SentLately:
    """The packets that went into a tunnel lately, with their sequence numbers; the oldest make room."""

    __slots__ = ("_packets", "_sa", "gone", "keep", "sent_again")

    def __init__(self, sa: OutboundSA | None) -> None:
        """None: the tunnel has no numbers, nothing is kept."""
        self._sa = sa
        self._packets: deque[tuple[int, float, bytes]] = deque(maxlen=0 if sa is None else LIMIT)
        self.keep = self._packets.append
        "Called with sequence number, monotonic seconds and the packet as it was before the tunnel."
        self.sent_again = 0
        self.gone = 0
        "Packets that were asked for and that were too old, or one too many, to be here."

    def __len__(self) -> int:
        return len(self._packets)

    def sealed(self, packet: bytes, now: float) -> None:
        """The association has just sealed this packet."""
        if self._sa is not None:
            self.keep((self._sa.sequence, now, packet))

    def after(self, highest: int, now: float) -> list[bytes]:
        """Takes out all that has a higher number and is young enough, in order; the rest is forgotten."""
        if self._sa is None:
            return []
        packets = [packet for number, at, packet in self._packets if number > highest and now - at <= MEMORY]
        self._packets.clear()
        self.sent_again += len(packets)
        self.gone += max(min(self._sa.sequence - highest, self._sa.packets) - len(packets), 0)
        return packets

    def snapshot(self) -> dict[str, int]:
        """Counters, JSON-ready."""
        return {"kept": len(self._packets), "sent_again": self.sent_again, "not_sent_again": self.gone}


_IH = Struct("!IH")
