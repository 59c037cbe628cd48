"""How one terminal and its home agent come to keys, where they are not in the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.ike.authentication import Belief, Proof


@dataclass(frozen=True, slots=True)
class KeySource:
    """IKE with the other end."""

    proof: Proof = field(repr=False)
    "How we show who we are."
    belief: Belief = field(repr=False)
    "How the other end has to."
    algorithm: Algorithm = Algorithm.AES_GCM_16
    "Of ESP."
    lifetime: float = 3600.0
    "Seconds, of the keys of ESP; those of IKE last four times as long."


def no_clock() -> datetime:
    """Where no wall clock is: no certificate is valid then."""
    return datetime.min.replace(tzinfo=UTC)
