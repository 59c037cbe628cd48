"""What happens to keys of the application (`mobility.application_keys`)."""

from __future__ import annotations

from dataclasses import dataclass

from mobility.outputs import Event


@dataclass(frozen=True, slots=True)
class ApplicationProtected(Event):
    """From now on everything between us and a peer is under ESP with keys of IKE."""

    peer: str
    algorithm: str
    calls: str
    "Those that asked for it, with commas between them; empty: the configuration did."


@dataclass(frozen=True, slots=True)
class ApplicationUnprotected(Event):
    """The keys with a peer have ended; while a call or the configuration wants protection, packets wait for others."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class ApplicationKeysFailed(Event):
    """Nothing came of negotiating with a peer: why, and what to do about it. It is tried again while it is wanted."""

    peer: str
    reason: str
