"""How two ends come to keys, where they are not in the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv6Address

from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.ike.authentication import Belief, Proof
from mobility.ipsec.ike.certificates import Credential


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


@dataclass(frozen=True, slots=True)
class ApplicationKeySettings:
    """How the application's keys with other ends are come by (`mobility.application_keys`)."""

    credential: Credential | None = field(default=None, repr=False)
    "Our self-signed certificate, whose fingerprint calls carry; None: no keys for calls."
    peers: tuple[tuple[IPv6Address, KeySource], ...] = ()
    "Other ends that keys are negotiated with as soon as a packet wants it, calls or not."
    calls: bool = True
    "Whether calls may bring peers; only with a credential."
    algorithm: Algorithm = Algorithm.AES_GCM_16
    "Of ESP, with the peers of calls: preferred where it is an AEAD, else both ends have to have the same one."
    lifetime: float = 3600.0
    "Seconds, as in `KeySource`; for the peers of calls."


def no_clock() -> datetime:
    """Where no wall clock is: no certificate is valid then."""
    return datetime.min.replace(tzinfo=UTC)
