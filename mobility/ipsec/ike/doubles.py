"""Two ends that begin at once have two IKE SAs, and have to agree on which one stays.

RFC 7296 section 2.8 has rules for rekeys at once, and none for beginnings at once: both stay then, harmlessly, until
somebody ends one. Clocks do not help: what one end takes for the later one, the other may have begun earlier, and lost.
So only what both ends know counts. An IKE SA without INITIAL_CONTACT is later than those that its initiator had when
it sent IKE_AUTH, and stays. Of others the one stays whose initiator has the lower address.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mobility.ipsec.ike.ike_sa import IkeSa, State


class Doubled(NamedTuple):
    """More than one IKE SA with a peer."""

    stays: IkeSa
    ours: list[IkeSa]
    "Of the others those that we have begun, and are to end. The rest is for the peer to end."


def sorted_out(sas: Iterable[IkeSa]) -> Doubled | None:
    """``sas``: all with one peer; None: there are not two that are established."""
    present = [sa for sa in sas if sa.state is State.ESTABLISHED]
    if len(present) < 2:
        return None
    stays = min(present, key=lambda sa: (sa.only, sa.beginner.packed, -sa.since))
    return Doubled(stays, [sa for sa in present if sa is not stays and sa.beginner == sa.local.address])
