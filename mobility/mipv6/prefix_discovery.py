"""What becomes of the home prefix while the terminal is away (RFC 6275 sections 11.4.2, 11.4.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from math import inf

from mobility.discards import Reason
from mobility.outputs import Discarded, Event, Output
from mobility.wire import ndisc
from mobility.wire.mobile_icmp import PrefixAdvertisement, PrefixSolicitation

INITIAL_TIMEOUT = 3.0
"Seconds until the first repetition, then twice as many each time (INITIAL_SOLICIT_TIMER, section 12)."
RETRIES = 4
"Repetitions until the next reason to ask."
REFRESH = 0.8
"Part of a lifetime of the home prefix after which it is asked for again."
MIN_REFRESH = 60.0
"Seconds; a prefix that is about to end is not asked for more often."
LIMIT = 16
"Prefixes that are remembered of one advertisement."


@dataclass(frozen=True, slots=True)
class SolicitPrefixes(Event):
    """This message is to go to the home agent, with the Home Address option and as IPsec demands."""

    message: PrefixSolicitation


@dataclass(frozen=True, slots=True)
class HomeNetworkRenumbered(Event):
    """The home prefix is not to be used any more (preferred lifetime 0), or has ended; configure another address."""

    home_address: IPv6Address
    valid_seconds: float
    "For which calls with the home address may go on; inf: without end."
    instead: IPv6Address | None
    "The same interface identifier under the best other prefix of the home link, if there is one."


@dataclass(frozen=True, slots=True)
class HomeNetworkRestored(Event):
    """The home prefix, which was not to be used any more, is a preferred one again."""

    home_address: IPv6Address


@dataclass(frozen=True, slots=True)
class HomeNetworkPrefixes(Event):
    """The home agent told the prefixes of the home link, and they are others than before."""

    prefixes: tuple[IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class _Prefix:
    network: IPv6Network
    autonomous: bool
    preferred_until: float
    valid_until: float


class PrefixDiscovery:
    """Asks the home agent, believes what answers, and tells of renumbering.

    The caller has checked that an advertisement came from the home agent as IPsec demands.
    """

    def __init__(self, home_address: IPv6Address, prefix_length: int, random: Callable[[int], bytes]) -> None:
        self._home = home_address
        self._home_prefix = IPv6Network((home_address, prefix_length), strict=False)
        self._random = random
        self._prefixes: tuple[_Prefix, ...] = ()
        self._identifier: int | None = None
        "Of the solicitation that is not answered yet."
        self._sent = 0
        self._at: float | None = None
        self._asked_at = -inf
        self._bound = False
        self._unbound_at = -inf
        self._renumbered = False

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return self._at

    def bound(self, now: float) -> list[Output]:
        """The home agent has a binding: it is asked once, then when lifetimes want it; after a pause at once if due."""
        if self._bound:
            return []
        self._bound = True
        # A handover is no reason to ask; who was away for longer may have missed what the home agent told.
        known = bool(self._prefixes) and now < self._unbound_at + MIN_REFRESH
        return [] if known and (self._at is None or self._at > now) else self._ask(now)

    def unbound(self, now: float) -> None:
        """At home, where router advertisements are heard, or nowhere: nothing is asked."""
        if self._bound:
            self._bound, self._unbound_at = False, now
        if self._identifier is not None:
            self._identifier, self._at = None, None

    def handle_timer(self, now: float) -> list[Output]:
        """Asks, repeats, and tells when the home prefix has ended."""
        if self._at is None or self._at > now:
            return []
        outputs = self._judge(now) if self._prefixes else []
        if not self._bound:
            self._at = None
            return outputs
        if self._identifier is not None and self._sent > RETRIES:
            self._identifier = None
            self._sent = 0
            self._at = now + max(MIN_REFRESH, self._until_refresh(now))
            return outputs
        return outputs + self._ask(now)

    def receive(self, advertisement: PrefixAdvertisement, now: float) -> list[Output]:
        """An advertisement of the home agent; one that was not asked for only makes the terminal ask."""
        if self._identifier is None or advertisement.identifier != self._identifier:
            outputs: list[Output] = [
                Discarded(Reason.MESSAGE_UNEXPECTED, "prefix-discovery", "not asked for: the home agent is asked now")
            ]
            if self._bound and self._identifier is None and now >= self._asked_at + INITIAL_TIMEOUT:
                self._sent = 0
                outputs += self._ask(now)
            return outputs
        self._identifier, self._sent = None, 0
        before = tuple(prefix.network for prefix in self._prefixes)
        self._prefixes = tuple(_read(option, now) for option in advertisement.prefixes[:LIMIT])
        self._at = None if (wait := self._until_refresh(now)) == inf else now + wait
        present = tuple(prefix.network for prefix in self._prefixes)
        told: list[Output] = [HomeNetworkPrefixes(present)] if before != present else []
        return told + self._judge(now)

    # ------------------------------------------------------------ inside

    def _own(self) -> _Prefix | None:
        return next((prefix for prefix in self._prefixes if prefix.network == self._home_prefix), None)

    def _until_refresh(self, now: float) -> float:
        """Seconds until a lifetime wants that the home agent is asked."""
        own = self._own()
        if own is None:
            return inf if not self._prefixes else MIN_REFRESH * 10
        end = own.preferred_until if own.preferred_until > now else own.valid_until
        if end == inf:
            return inf
        return max(MIN_REFRESH, (end - now) * REFRESH)

    def _judge(self, now: float) -> list[Output]:
        """Whether the home address can still be used; told once each time that this ends."""
        own = self._own()
        if own is not None and own.preferred_until > now:
            restored, self._renumbered = self._renumbered, False
            return [HomeNetworkRestored(self._home)] if restored else []
        if self._renumbered:
            return []
        self._renumbered = True
        valid = 0.0 if own is None else max(0.0, own.valid_until - now)
        return [HomeNetworkRenumbered(self._home, valid, self._instead(now))]

    def _instead(self, now: float) -> IPv6Address | None:
        usable = [p for p in self._prefixes if p.autonomous and p.preferred_until > now and p.network.prefixlen <= 64]
        usable = [p for p in usable if p.network != self._home_prefix]
        if not usable:
            return None
        best = max(usable, key=lambda prefix: prefix.preferred_until)
        return IPv6Address(int(best.network.network_address) | int(self._home) & int(best.network.hostmask))

    def _ask(self, now: float) -> list[Output]:
        self._identifier = int.from_bytes(self._random(2))
        self._asked_at = now
        self._at = now + INITIAL_TIMEOUT * 2.0 ** min(self._sent, RETRIES)
        self._sent += 1
        return [SolicitPrefixes(PrefixSolicitation(self._identifier))]

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""

        def left(until: float) -> float | None:
            return None if until == inf else round(max(0.0, until - now), 1)

        return {
            "prefixes": [
                {
                    "prefix": str(prefix.network),
                    "preferred_seconds": left(prefix.preferred_until),
                    "valid_seconds": left(prefix.valid_until),
                }
                for prefix in self._prefixes
            ],
            "renumbered": self._renumbered,
            "asking": self._identifier is not None,
        }


def _read(option: ndisc.PrefixInformation, now: float) -> _Prefix:
    valid = inf if option.valid_lifetime == ndisc.INFINITE else now + option.valid_lifetime
    preferred = inf if option.preferred_lifetime == ndisc.INFINITE else now + option.preferred_lifetime
    network = IPv6Network((option.prefix, option.length), strict=False)
    return _Prefix(network, option.autonomous, min(preferred, valid), valid)
