"""The prefixes of the home link, and who of the terminals has to hear of them (RFC 6275 section 10.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from math import inf

from mobility.discards import Discard, Reason
from mobility.outputs import Discarded, Event, Output
from mobility.wire import ndisc
from mobility.wire.mobile_icmp import PrefixAdvertisement, PrefixSolicitation

LIMIT = 16
"Prefixes of one home link."
MIN_INTERVAL, MAX_INTERVAL = 600.0, 86400.0
"Seconds (MinMobPfxAdvInterval, MaxMobPfxAdvInterval, section 13): when terminals hear of a change at the latest."
RETRIES = 3
"Repetitions of what a terminal has not answered by a solicitation (PREFIX_ADV_RETRIES, section 12)."
TIMEOUT = 3.0
"Seconds until the first repetition, then twice as many each time (PREFIX_ADV_TIMEOUT, section 12)."
REPLY_INTERVAL = 1.0
"Seconds between two answers to one terminal."
UNPROVEN_LIFETIME = 7200.0
"Seconds; router advertisements prove nothing, so they do not end a prefix sooner (as RFC 4862 section 5.5.3 e)."
_COUNTED_DOWN = 5.0
"Seconds by which a lifetime that a router counts down may seem to have changed."


@dataclass(frozen=True, slots=True)
class HomePrefixChanged(Event):
    """A router of the home link advertises a new prefix, other lifetimes or flags, or one has ended."""

    prefix: IPv6Network
    preferred_lifetime: float
    "Seconds; inf: without end."
    valid_lifetime: float


@dataclass(frozen=True, slots=True)
class AdvertisePrefixes(Event):
    """This message is to go to the terminal, unsolicited."""

    home_address: IPv6Address
    message: PrefixAdvertisement


@dataclass(frozen=True, slots=True)
class PrefixesUnacknowledged(Event):
    """A terminal did not react to advertisements of a change; it will ask by itself before its lifetimes end."""

    home_address: IPv6Address


@dataclass(frozen=True, slots=True)
class _Prefix:
    on_link: bool
    autonomous: bool
    valid: int
    "As it was told, in seconds."
    preferred: int
    valid_until: float
    preferred_until: float


_CONFIGURED = _Prefix(True, True, ndisc.INFINITE, ndisc.INFINITE, inf, inf)


@dataclass(slots=True)
class _Due:
    """A terminal that has to hear of a change."""

    at: float
    sent: int = 0


class HomePrefixes:
    """Knows the prefixes from router advertisements; the configured one counts without end until a router says more."""

    def __init__(
        self,
        own: IPv6Address,
        prefix: IPv6Network,
        random: Callable[[int], bytes],
        intervals: tuple[float, float] = (MIN_INTERVAL, MAX_INTERVAL),
    ) -> None:
        """``intervals``: seconds between which a change is told, by chance, so that not all terminals answer at once.

        Raises `ValueError`: the first is longer than the second, or negative.
        """
        if not 0 <= intervals[0] <= intervals[1]:
            raise ValueError(f"intervals of prefix advertisements are {intervals}: give a shorter and a longer one")
        self._own = own
        self._home = prefix
        self._random = random
        self._intervals = intervals
        self._prefixes: dict[IPv6Network, _Prefix] = {prefix: _CONFIGURED}
        self._managed = self._other = False
        self._due: dict[IPv6Address, _Due] = {}
        self._answered: dict[IPv6Address, float] = {}

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        times = [due.at for due in self._due.values()]
        times += [prefix.valid_until for prefix in self._prefixes.values() if prefix.valid_until < inf]
        return min(times, default=None)

    # ------------------------------------------------------------ what the routers say

    def heard(self, advertisement: ndisc.RouterAdvertisement, now: float) -> list[Output]:
        """A valid router advertisement on the home link. After a `HomePrefixChanged`, `schedule` the terminals."""
        outputs: list[Output] = []
        self._managed, self._other = advertisement.managed, advertisement.other
        for option in advertisement.prefixes:
            # A home agent may tell its address only (R bit), without a prefix that others could use.
            if (option.on_link or option.autonomous) and option.preferred_lifetime <= option.valid_lifetime:
                outputs += self._told(option, now)
        return outputs

    def _told(self, option: ndisc.PrefixInformation, now: float) -> list[Output]:
        prefix = IPv6Network((option.prefix, option.length), strict=False)
        if prefix.is_link_local or prefix.is_multicast or not prefix.prefixlen:
            return []
        before = self._prefixes.get(prefix)
        valid_until, preferred_until = _end(option.valid_lifetime, now), _end(option.preferred_lifetime, now)
        if before is None:
            if not option.valid_lifetime:
                return []
            if len(self._prefixes) >= LIMIT:
                return [Discarded(Reason.TABLE_FULL, "home-prefixes", f"{prefix}: {LIMIT} prefixes are known")]
        elif valid_until < now + UNPROVEN_LIFETIME:
            valid_until = max(valid_until, min(before.valid_until, now + UNPROVEN_LIFETIME))
        present = _Prefix(
            option.on_link,
            option.autonomous,
            option.valid_lifetime,
            option.preferred_lifetime,
            valid_until,
            preferred_until,
        )
        self._prefixes[prefix] = present
        # What the configuration told, and a router now says more exactly, has not changed.
        if before is not None and (before is _CONFIGURED or not _differ(before, present)):
            return []
        return [HomePrefixChanged(prefix, preferred_until - now, valid_until - now)]

    # ------------------------------------------------------------ terminals

    def schedule(self, homes: Iterable[IPv6Address], now: float) -> None:
        """These terminals are away, and have to hear of a change (section 10.6.2)."""
        shortest, longest = self._intervals
        preferred = min((p.preferred_until - now for p in self._prefixes.values()), default=inf)
        spread = abs(min(longest, max(preferred, 0.0)) - shortest)
        for home in homes:
            at = now + shortest + spread * int.from_bytes(self._random(4)) / 2**32
            due = self._due.get(home)
            if due is None or due.sent or at < due.at:
                self._due[home] = _Due(at)

    def forget(self, home: IPv6Address) -> None:
        """The terminal has no binding any more."""
        self._due.pop(home, None)
        self._answered.pop(home, None)

    def answer(self, solicitation: PrefixSolicitation, home: IPv6Address, now: float) -> PrefixAdvertisement:
        """To a bound terminal that proved who it is. Raises `Discard`: it asks too often."""
        if now < self._answered.get(home, -inf) + REPLY_INTERVAL:
            raise Discard(Reason.RATE_LIMITED, f"mobile prefix solicitation of {home}")
        self._answered[home] = now
        self._due.pop(home, None)
        return self._message(solicitation.identifier, now)

    def handle_timer(self, now: float) -> list[Output]:
        """Prefixes end, terminals are told."""
        outputs: list[Output] = []
        for prefix, known in list(self._prefixes.items()):
            if known.valid_until <= now:
                del self._prefixes[prefix]
                outputs.append(HomePrefixChanged(prefix, 0.0, 0.0))
        for home, due in list(self._due.items()):
            if due.at > now:
                continue
            if due.sent > RETRIES:
                del self._due[home]
                outputs.append(PrefixesUnacknowledged(home))
                continue
            due.at = now + TIMEOUT * 2.0**due.sent
            due.sent += 1
            # The terminal takes no unsolicited one for true: it asks (section 11.4.3), so the identifier is no matter.
            outputs.append(AdvertisePrefixes(home, self._message(int.from_bytes(self._random(2)), now)))
        return outputs

    def _message(self, identifier: int, now: float) -> PrefixAdvertisement:
        options = []
        for network, known in self._prefixes.items():
            ours = network == self._home
            options.append(
                ndisc.PrefixInformation(
                    self._own if ours else network.network_address,
                    network.prefixlen,
                    _left(known.valid_until, now),
                    _left(known.preferred_until, now),
                    known.on_link,
                    known.autonomous,
                    router_address=ours,
                )
            )
        return PrefixAdvertisement(identifier, tuple(options), self._managed, self._other)

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "prefixes": [
                {
                    "prefix": str(prefix),
                    "preferred_seconds": _shown(known.preferred_until, now),
                    "valid_seconds": _shown(known.valid_until, now),
                }
                for prefix, known in self._prefixes.items()
            ],
            "to_be_told": [str(home) for home in self._due],
        }


def _differ(before: _Prefix, present: _Prefix) -> bool:
    """Whether the prefix was reconfigured; neither a refreshed lifetime is that, nor one counted down."""
    if (before.on_link, before.autonomous) != (present.on_link, present.autonomous):
        return True
    return _changed(before.valid, present.valid, before.valid_until, present.valid_until) or _changed(
        before.preferred, present.preferred, before.preferred_until, present.preferred_until
    )


def _changed(told_before: int, told: int, until_before: float, until: float) -> bool:
    if told == told_before or until == until_before:
        return False
    return abs(until - until_before) > _COUNTED_DOWN


def _end(lifetime: int, now: float) -> float:
    return inf if lifetime == ndisc.INFINITE else now + lifetime


def _left(until: float, now: float) -> int:
    return ndisc.INFINITE if until == inf else max(0, min(int(until - now), ndisc.INFINITE - 1))


def _shown(until: float, now: float) -> float | None:
    return None if until == inf else round(max(0.0, until - now), 1)
