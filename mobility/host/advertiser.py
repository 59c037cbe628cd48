"""Router advertisements of a router on one link (RFC 4861 section 6.2; its intervals after RFC 6275 section 7.5).

Routers that mobile nodes use answer solicitations at once: a terminal that waits for the answer is heard to wait. So
whoever asks from an address gets his answer by unicast, without the delay of RFC 4861 section 6.2.6, as far as a bucket
of tokens lasts; who asks from no address is answered by multicast, not more often than `Advertising.shortest_gap`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mobility.discards import Reason
from mobility.host import messages
from mobility.host.errors import TokenBucket
from mobility.outputs import Discarded, Output, Transmit
from mobility.wire import ndisc
from mobility.wire.errors import WireError

INITIAL_ADVERTISEMENTS = 3
"The first ones, and those after a change, come sooner (MAX_INITIAL_RTR_ADVERTISEMENTS)."
INITIAL_INTERVAL = 16.0
"Seconds at most between them."
FINAL_ADVERTISEMENTS = 3
SOLICITED_RATE, SOLICITED_BURST = 20.0, 20.0
"Unicast answers a second."
WAIT_FOR_ADDRESS = 0.1
"Seconds until it is tried again, while there is no link-local address to send from."
SHORTEST_INTERVAL, LONGEST_INTERVAL = 0.07, 1800.0
"Bounds of ``max_interval`` (RFC 6275 section 7.5, RFC 4861 section 6.2.1)."


@dataclass(frozen=True, slots=True)
class Advertising:
    """What a router says of itself on one link. Times are seconds. Raises `ValueError`: values that RFCs forbid."""

    router_lifetime: int = 1800
    "0: not a default router."
    prefixes: tuple[ndisc.PrefixInformation, ...] = ()
    max_interval: float = 600.0
    min_interval: float = 200.0
    shortest_gap: float = 3.0
    "Between two multicast ones; RFC 6275 allows 0.03."
    hop_limit: int = 64
    mtu: int | None = None
    preference: ndisc.Preference = ndisc.Preference.MEDIUM
    home_agent: bool = False
    "The H flag."
    tell_interval: bool = False
    "With an advertisement interval option (RFC 6275 section 7.3), so that hosts notice one that is missing."
    options: tuple[ndisc.Option, ...] = ()
    "Any others, such as `MapOption`."

    def __post_init__(self) -> None:
        if not SHORTEST_INTERVAL <= self.max_interval <= LONGEST_INTERVAL:
            raise ValueError(f"advertisements come every {SHORTEST_INTERVAL} to {LONGEST_INTERVAL:.0f} s at most")
        if not 0.03 <= self.min_interval <= self.max_interval:
            raise ValueError("the shortest interval of advertisements is between 0.03 s and the longest one")
        if self.router_lifetime != 0 and not self.max_interval <= self.router_lifetime <= 0xFFFF:
            raise ValueError("the lifetime of a router is 0, or between the longest interval and 65535 s")

    def message(self, link_address: bytes) -> ndisc.RouterAdvertisement:
        """The router advertisement."""
        options: list[ndisc.Option] = [ndisc.SourceLinkAddress(link_address)]
        if self.mtu is not None:
            options.append(ndisc.Mtu(self.mtu))
        if self.tell_interval:
            options.append(ndisc.AdvertisementInterval(round(self.max_interval * 1000)))
        return ndisc.RouterAdvertisement(
            self.router_lifetime,
            self.hop_limit,
            home_agent=self.home_agent,
            preference=self.preference,
            options=(*options, *self.prefixes, *self.options),
        )


class Advertiser:
    """Says on one link what a router is good for. The owner hands it router solicitations (`Host` with ``router``)."""

    def __init__(
        self,
        link: str,
        link_address: bytes,
        advertising: Advertising,
        own: Callable[[], bytes | None],
        random: Callable[[int], bytes],
    ) -> None:
        """``own``: the link-local address to send from, None while there is none (`Host.link_local`)."""
        self.link = link
        self.advertising = advertising
        self.timer: float | None = None
        "When `handle_timer` wants to be called; None: never."
        self.sent = 0
        "Advertisements to all, and to single hosts."
        self._link_address = link_address
        self._own = own
        self._random = random
        self._soon = 0
        "So many of the next ones come sooner than usual."
        self._last: float | None = None
        self._answers = TokenBucket(SOLICITED_RATE, SOLICITED_BURST)

    def start(self, now: float) -> list[Output]:
        """The link is up: the first advertisement leaves at once."""
        self._soon = INITIAL_ADVERTISEMENTS
        self._last = None
        return self._advertise(now)

    def change(self, advertising: Advertising, now: float) -> list[Output]:
        """Something else is true from now on, and all hosts are told soon. What is no longer mentioned lives on at the
        hosts until its lifetime ends: to withdraw a prefix or a MAP, mention it with lifetime 0 for a while."""
        self.advertising = advertising
        if self.timer is None:
            return []  # the link is down
        self._soon = INITIAL_ADVERTISEMENTS
        return self._ask(now)

    def link_down(self) -> None:
        """Nobody hears anything any more."""
        self.timer = None

    def stop(self, now: float) -> list[Output]:
        """The last words: this router is none from now on (RFC 4861 section 6.2.5)."""
        if self.timer is None:
            return []
        self.timer = None
        message = replace(self.advertising.message(self._link_address), router_lifetime=0)
        own = self._own()
        return [] if own is None else self._to_all(own, message) * FINAL_ADVERTISEMENTS

    def solicited(self, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """A router solicitation from the link-layer address ``sender`` (RFC 4861 section 6.2.6)."""
        try:
            message = ndisc.parse(packet)
        except WireError as error:
            return [Discarded(Reason.NDISC_INVALID, f"advertiser-{self.link}", str(error))]
        own = self._own()
        if not isinstance(message, ndisc.RouterSolicitation) or self.timer is None or own is None:
            return [Discarded(Reason.NDISC_UNEXPECTED, f"advertiser-{self.link}", type(message).__name__)]
        source = packet[8:24]
        if source == messages.UNSPECIFIED or not self._answers.take(now):
            return self._ask(now)
        self.sent += 1
        answer = self.advertising.message(self._link_address)
        return [Transmit(ndisc.packet(own, source, answer), ndisc.link_address(message) or sender, self.link)]

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` may have come."""
        return self._advertise(now) if self.timer is not None and self.timer <= now else []

    def _ask(self, now: float) -> list[Output]:
        """One to all hosts, as soon as may be."""
        earliest = now if self._last is None else self._last + self.advertising.shortest_gap
        if earliest <= now:
            return self._advertise(now)
        self.timer = earliest if self.timer is None else min(self.timer, earliest)
        return []

    def _advertise(self, now: float) -> list[Output]:
        own = self._own()
        if own is None:
            self.timer = now + WAIT_FOR_ADDRESS
            return []
        self._last = now
        advertising = self.advertising
        spread = int.from_bytes(self._random(4)) / 0xFFFFFFFF
        interval = advertising.min_interval + (advertising.max_interval - advertising.min_interval) * spread
        if self._soon > 0:
            self._soon -= 1
            interval = min(interval, INITIAL_INTERVAL)
        self.timer = now + interval
        return self._to_all(own, advertising.message(self._link_address))

    def _to_all(self, own: bytes, message: ndisc.RouterAdvertisement) -> list[Output]:
        self.sent += 1
        to = ndisc.ethernet_multicast(messages.ALL_NODES)
        return [Transmit(ndisc.packet(own, messages.ALL_NODES, message), to, self.link)]
