"""What our local binding updates and acknowledgements say beside RFC 5380, in vendor specific options (RFC 5094)."""

from __future__ import annotations

from collections.abc import Iterable

from mobility.mipv6.again import VENDOR
from mobility.wire import mh
from mobility.wire.map_option import RegistrationType

SENT_AGAIN, REGISTRATION = 16, 17
"Sub-types: of local binding updates; of the acknowledgement that is handed to the Mobile IPv6 part (never sent)."
LONGEST = 1.0
"Seconds; speech that is older is of no use to anybody."


def again_option(seconds: float) -> mh.VendorSpecific:
    """The LCoA was lost: what the MAP has tunnelled in the last ``seconds`` may not have arrived."""
    return mh.VendorSpecific(VENDOR, SENT_AGAIN, round(min(seconds, LONGEST) * 1000).to_bytes(2))


def again_in(options: Iterable[mh.Option]) -> float:
    """Seconds, at most `LONGEST`; 0: nothing is asked for."""
    data = _data(options, SENT_AGAIN, 2)
    return 0.0 if data is None else min(int.from_bytes(data) / 1000, LONGEST)


def registration_option(kind: RegistrationType) -> mh.VendorSpecific:
    """The value in the mobility options of step 97."""
    return mh.VendorSpecific(VENDOR, REGISTRATION, bytes((kind,)))


def registration_in(options: Iterable[mh.Option]) -> RegistrationType | None:
    """The registration type of an acknowledgement that scenario processing handed on; None: it says none."""
    data = _data(options, REGISTRATION, 1)
    return None if data is None or data[0] not in tuple(RegistrationType) else RegistrationType(data[0])


def _data(options: Iterable[mh.Option], subtype: int, size: int) -> bytes | None:
    for option in options:
        if isinstance(option, mh.VendorSpecific) and (option.vendor, option.subtype) == (VENDOR, subtype):
            return option.data if len(option.data) == size else None
    return None
