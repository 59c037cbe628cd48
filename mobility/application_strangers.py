"""Who negotiates keys of the application in advance, while calls are offered and nobody knows yet who will answer.

Whoever signs with the certificate that it shows, from the address that it claims, is let in for the time being. What
comes under such keys is as good as unprotected, and nothing is sent under them; they count when a call tells this
certificate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address

from mobility.application_partner import CallLease, Partner
from mobility.ipsec.ike.authentication import Belief
from mobility.ipsec.ike.certificates import Distrusted, leaf_of
from mobility.ipsec.ike.fingerprint import Fingerprint, Fingerprints
from mobility.ipsec.ike.numbers import IdType
from mobility.ipsec.ike.payloads import Identity
from mobility.ipsec.ike.settings import Endpoint, Peer

MOST_OFFERS = 64
PER_OFFER, MOST = 8, 32
"Strangers at the same time."


class Strangers:
    """Of one node."""

    def __init__(
        self,
        may_call: Callable[[IPv6Address], bool],
        make: Callable[[str, IPv6Address], Partner],
        peer: Callable[[Partner, Belief], Peer],
        tally: Counter[str],
    ) -> None:
        """``may_call``: whether an address may be that of somebody new; ``make``: a partner with a name; ``peer``:
        it as IKE has to know it."""
        self.offers: dict[str, float] = {}
        "Calls, and when their offers end."
        self.present: dict[str, Partner] = {}
        "By the names that IKE has for them."
        self._may_call = may_call
        self._make = make
        self._peer = peer
        self._tally = tally
        self._so_far = 0

    def offer(self, call: str, until: float) -> None:
        """A call is offered to somebody. Raises `ValueError`: too many are."""
        if call not in self.offers and len(self.offers) >= MOST_OFFERS:
            raise ValueError(f"{MOST_OFFERS} calls are offered at the same time already; release those that are over")
        self.offers[call] = until

    def ask(self, identity: Identity, remote: Endpoint, chain: list[bytes]) -> Peer | None:
        """As `Ike.stranger`."""
        there = remote.address
        if not self.offers or not isinstance(there, IPv6Address):
            return None
        if identity != Identity(IdType.IPV6_ADDR, there.packed) or not self._may_call(there):
            return None
        try:
            own = Fingerprint.of(leaf_of(chain))
        except Distrusted:
            return None
        if len(self.present) >= min(PER_OFFER * len(self.offers), MOST):
            self._tally["strangers-refused"] += 1
            return None
        self._so_far += 1
        self._tally["strangers"] += 1
        stranger = self._make(f"{there} (in advance, {self._so_far})", there)
        stranger.into.provisional = True
        self.present[stranger.name] = stranger
        return self._peer(stranger, Fingerprints((own,)))

    def recognise(self, lease: CallLease, shown: Callable[[str], list[bytes]]) -> Partner | None:
        """Takes out who has the certificate that a call tells, the last one first; ``shown``: by a name."""
        belief = Fingerprints(lease.fingerprints)
        for name, stranger in reversed(self.present.items()):
            if stranger.address == lease.peer and belief.expect(shown(name)):
                return self.present.pop(name)
        return None

    def unwanted(self, answered: IPv6Address | None = None) -> list[Partner]:
        """Takes out all who have no business any more: without an offer all, else those of an address that answered."""
        gone = [each for each in self.present.values() if not self.offers or each.address == answered]
        for each in gone:
            del self.present[each.name]
        return gone

    def expire(self, now: float) -> None:
        """Offers that have lasted long enough end."""
        for call in [call for call, until in self.offers.items() if until <= now]:
            del self.offers[call]
