"""Two ends that begin at once have two IKE SAs, and both ends have to know which one stays.

RFC 7296 section 2.8 has rules for rekeys at once, and none for beginnings at once: both stay then, harmlessly, until
somebody ends one. Here the one stays whose initiator has the lower address, and the initiator of the other ends it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mobility.ipsec.ike.ike_sa import IkeSa, State


class Doubled(NamedTuple):
    """More than one IKE SA with a peer."""

    stays: IkeSa
    surplus: list[IkeSa]
    "Begun at the same time: ended by their initiators, who tell the other end."
    outdated: list[IkeSa]
    "Established when the others were begun: the other end has lost them, or has been told that we have."


def sorted_out(sas: Iterable[IkeSa]) -> Doubled | None:
    """``sas``: all with one peer; None: there are not two that are established."""
    present = sorted((sa for sa in sas if sa.state is State.ESTABLISHED), key=lambda sa: sa.since)
    if len(present) < 2:
        return None
    stays, surplus, outdated = present[0], list[IkeSa](), list[IkeSa]()
    for later in present[1:]:
        if stays.since <= later.born:
            outdated.append(stays)
            stays = later
        elif _initiator(later) < _initiator(stays):
            surplus.append(stays)
            stays = later
        else:
            surplus.append(later)
    return Doubled(stays, surplus, outdated)


def _initiator(sa: IkeSa) -> bytes:
    return (sa.local if sa.initiator else sa.remote).address.packed
