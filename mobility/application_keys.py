"""Keys of the application's IPsec that two ends negotiate: peers of the configuration, and those that calls bring.

IKE goes between the two home addresses, inside whatever carries packets of ours, and past the application's own
policies. So it never moves: a handover is below it. A call tells whose certificate the peer has to have (RFC 6193);
while a call is offered, strangers may negotiate in advance, and their keys count when the answer has told that they
are the right ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address

from mobility.ipsec.ike.fingerprint import Fingerprint
from mobility.ipsec.processing import IpsecProcessing
from mobility.key_source import ApplicationKeySettings
from mobility.outputs import Event, Output


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


@dataclass(frozen=True, slots=True)
class CallLease:
    """A call's wish for protection, for as long as it says."""

    call: str
    peer: IPv6Address
    fingerprints: tuple[Fingerprint, ...]
    "Of certificates; the peer has one of these."
    active: bool
    "We begin."
    until: float
    "On the clock of the node."


class ApplicationKeys:
    """Of one home address, or of a node that stays where it is."""

    def __init__(
        self,
        address: IPv6Address,
        application: IpsecProcessing,
        settings: ApplicationKeySettings,
        put: Callable[[bytes, float], list[Output]],
        random: Callable[[int], bytes],
        utc: Callable[[], datetime],
    ) -> None:
        """``put``: sends a whole packet of ours as it is, past the policies of ``application``."""
        self.address = address
        self.settings = settings
        self._leases: dict[str, CallLease] = {}

    def offer(self, call: str, until: float, now: float) -> list[Output]:
        """A call is offered to somebody: strangers may negotiate in advance. Raises `ValueError`: no keys for calls."""
        self._check_calls()
        return []

    def secure(
        self,
        call: str,
        peer: IPv6Address,
        fingerprints: tuple[Fingerprint, ...],
        *,
        active: bool,
        until: float,
        now: float,
    ) -> list[Output]:
        """From now on, and until then, everything between us and the peer of a call is protected. Repeated, it lasts
        longer. Raises `ValueError`: no keys for calls, or it makes no sense with this peer."""
        self._check_calls()
        self._leases[call] = CallLease(call, peer, fingerprints, active, until)
        return []

    def release(self, call: str, now: float) -> list[Output]:
        """A call is over, or does without; unknown ones are, too."""
        self._leases.pop(call, None)
        return []

    def calls(self) -> list[CallLease]:
        """What has to be kept over a restart."""
        return list(self._leases.values())

    def restore(self, leases: Iterable[CallLease], now: float) -> None:
        """The calls of before a restart: what is to be protected is, though there are no keys yet."""
        self._leases |= {each.call: each for each in leases if each.until > now}

    def state(self, peer: IPv6Address) -> str:
        """``none``; ``configured``: static keys or a policy that decide; ``negotiating``; ``protected``."""
        return "negotiating" if any(each.peer == peer for each in self._leases.values()) else "none"

    def status(self, now: float) -> dict[str, object]:
        """JSON-ready, without keys."""
        return {"address": str(self.address)}

    def _check_calls(self) -> None:
        if self.settings.credential is None or not self.settings.calls:
            raise ValueError("this node negotiates no keys for calls; see [application_keys] in its configuration")
