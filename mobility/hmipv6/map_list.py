"""The mobility anchor points that routers tell of, and which of them is taken (RFC 5380 section 11.1)."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address

from mobility.discards import Reason
from mobility.host.events import MapsHeard
from mobility.outputs import Discarded
from mobility.wire import ip6
from mobility.wire.map_option import MapOption
from mobility.wire.ndisc import INFINITE

LIMIT = 16
"MAPs of one link."
FIRST_RETRY, LONGEST_RETRY = 10.0, 120.0
"Seconds until a MAP that did not answer is tried again; doubled each time, until it does."


class MapPolicy(StrEnum):
    """Which of several MAPs is taken."""

    FARTHEST = "farthest"
    "The most distant: whoever moves fast leaves its domain last (RFC 5380 section 11.1)."
    NEAREST = "nearest"
    "Whoever moves slowly has the shortest way to it."
    PREFERRED = "preferred"
    "The one that says that it is to be preferred."


@dataclass(frozen=True, slots=True)
class _Heard:
    option: MapOption
    until: float


@dataclass(slots=True)
class _Failure:
    until: float
    retry: float


class MapList:
    """By link and router; times are monotonic seconds."""

    def __init__(self, policy: MapPolicy, usable: Container[IPv6Address] | None) -> None:
        """``usable``: addresses of the MAPs that may be taken; None: any."""
        self.policy = policy
        self._usable = usable
        self._heard: dict[str, dict[tuple[IPv6Address, IPv6Address], _Heard]] = {}
        self._failures: dict[IPv6Address, _Failure] = {}

    def heard(self, event: MapsHeard, now: float) -> list[Discarded]:
        """A router told of its MAPs, and of no others any more."""
        link = self._heard.setdefault(event.link, {})
        for key in [key for key in link if key[0] == event.router]:
            del link[key]
        sound: dict[IPv6Address, MapOption | None] = {}
        discarded: list[Discarded] = []
        for option in event.maps:
            why = _wrong(option)
            if why is None and sound.setdefault(option.address, option) != option:
                why, sound[option.address] = "several options contradict each other", None
            if why is not None:
                discarded.append(Discarded(Reason.MAP_OPTION_INVALID, "regional", f"{option.address}: {why}"))
        for address, good in sound.items():
            if good is not None and good.lifetime > 0 and len(link) < LIMIT:
                until = float("inf") if good.lifetime == INFINITE else now + good.lifetime
                link[event.router, address] = _Heard(good, until)
        return discarded

    def choose(self, link: str, present: IPv6Address | None, now: float) -> MapOption | None:
        """The MAP for a terminal on this link. Who has one already stays with it, as long as it may."""
        candidates = [each.option for each in self._heard.get(link, {}).values() if each.until > now]
        candidates = [option for option in candidates if self._may_use(option, now)]
        for option in candidates:
            if option.address == present:
                return option
        return max(candidates, key=self._rank, default=None)

    def failed(self, anchor: IPv6Address, now: float, retry: float | None = None) -> float:
        """This MAP does not answer or refuses: it is left out for a while. Returns for how many seconds."""
        before = self._failures.get(anchor)
        wait = FIRST_RETRY if before is None else min(before.retry * 2, LONGEST_RETRY)
        if retry is not None:
            wait = retry
        self._failures[anchor] = _Failure(now + wait, wait)
        return wait

    def works(self, anchor: IPv6Address) -> None:
        """It answers."""
        self._failures.pop(anchor, None)

    def timer(self, now: float) -> float | None:
        """When `choose` may come to another choice by the passing of time alone."""
        times = [each.until for link in self._heard.values() for each in link.values() if each.until != float("inf")]
        times += [failure.until for failure in self._failures.values()]
        return min((time for time in times if time > now), default=None)

    def _may_use(self, option: MapOption, now: float) -> bool:
        failure = self._failures.get(option.address)
        return (
            option.preference > 0
            and option.prefix_usable
            and (self._usable is None or option.address in self._usable)
            and (failure is None or failure.until <= now)
        )

    def _rank(self, option: MapOption) -> tuple[int, ...]:
        match self.policy:
            case MapPolicy.FARTHEST:
                return option.distance, option.preference, option.lifetime
            case MapPolicy.NEAREST:
                return -option.distance, option.preference, option.lifetime
            case MapPolicy.PREFERRED:
                return option.preference, option.distance, option.lifetime

    def snapshot(self, now: float) -> list[dict[str, object]]:
        """For people, JSON-ready."""
        return [
            {
                "link": link,
                "router": str(router),
                "address": str(address),
                "type": int(heard.option.registration_type),
                "distance": heard.option.distance,
                "preference": heard.option.preference,
                "remaining": None if heard.until == float("inf") else round(max(heard.until - now, 0.0), 1),
                "usable": self._may_use(heard.option, now),
            }
            for link, all_heard in self._heard.items()
            for (router, address), heard in all_heard.items()
        ]


def _wrong(option: MapOption) -> str | None:
    """What cannot be meant; None: the option is sound."""
    packed = option.address.packed
    if not ip6.forwardable(packed) or option.address.ipv4_mapped is not None:
        return "no global address"
    if option.distance == 0:
        return "distance 0"
    return None
