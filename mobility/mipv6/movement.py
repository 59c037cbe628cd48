"""Movement: which link and which care-of address to use (RFC 6275 sections 11.5.1 to 11.5.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network

from mobility.links import UDP4, UDP6, interface_of, is_udp, unmapped
from mobility.outputs import Event

FLAP_MEMORY = 60.0
"Seconds for which a loss of a link counts against it."
FIRST_DOUBT = 1.0
"Seconds that a link which came back has to stay before it is preferred again; doubled with each loss."
LONGEST_DOUBT = 30.0
FIRST_RETRY = 10.0
"Seconds until a link on which nothing came through is tried again; doubled each time, until something does."
LONGEST_RETRY = 120.0


@dataclass(frozen=True, slots=True)
class Attachment:
    """Where the terminal is."""

    link: str
    address: IPv6Address
    "Care-of address (IPv4 as ``::ffff:a.b.c.d``); at home an address in the home prefix."
    at_home: bool

    @property
    def udp(self) -> bool:
        """Whether this is UDP over an interface."""
        return is_udp(self.link)

    def describe(self) -> dict[str, object]:
        """JSON-ready."""
        return {"link": self.link, "address": str(unmapped(self.address)), "at_home": self.at_home, "udp": self.udp}


@dataclass(frozen=True, slots=True)
class CareOfAddressChanged(Event):
    """The terminal uses another address from now on; None: it has none."""

    link: str
    care_of_address: IPv6Address | None
    previous: IPv6Address | None
    at_home: bool


@dataclass(frozen=True, slots=True)
class HandoverStarted(Event):
    """The terminal noticed that it moves."""

    from_link: str
    from_address: IPv6Address
    to_link: str
    "Empty: not known yet."
    make_before_break: bool = False
    "The old place is used until the new one has proven to work."


@dataclass(frozen=True, slots=True)
class HandoverFinished(Event):
    """Packets flow again, at the new place."""

    from_link: str
    from_address: IPv6Address
    to_link: str
    to_address: IPv6Address
    since_noticed_ms: float
    "Milliseconds since `HandoverStarted`."
    since_update_ms: float
    "Milliseconds since the first binding update of the new place; the gap that signalling causes."
    sent_again: int = 0
    "Packets of this terminal that the old place lost."
    received_again: int = 0
    "Packets that the home agent sent again."
    make_before_break: bool = False


@dataclass(frozen=True, slots=True)
class HandoverAbandoned(Event):
    """The new place did not prove to work, or the old one is better again; the terminal stays where it is."""

    link: str
    to_link: str
    why: str


@dataclass(frozen=True, slots=True)
class PathDead(Event):
    """Nothing comes through on a link although it is up: a captive network, blocked UDP, a router without uplink."""

    link: str
    retry_in: float
    "Seconds."


@dataclass(slots=True)
class _Link:
    """What is known of one link."""

    addresses: dict[IPv6Address, bool] = field(default_factory=dict)
    "Usable ones; True: deprecated."
    routers: set[IPv6Address] = field(default_factory=set)
    deserted: bool = False
    "The last router fell silent: taken only if there is nothing better."
    losses: list[float] = field(default_factory=list)
    "When the last address went, lately."
    trusted_from: float = 0.0
    "When the doubt after the last loss ends."
    dead_until: float | None = None
    "Nothing came through; taken only if there is nothing better."
    retry: float = FIRST_RETRY
    doubted: IPv6Address | None = None
    "Nothing came through from it, and it is all there is: any other address of the link is better."


class Movement:
    """All usable addresses, and the choice among them: links by preference, on a link the one already in use.

    ``interfaces``: names, the preferred first. An interface may be used natively and through UDP over IPv6 and IPv4;
    that is also the order of preference on one interface.
    """

    def __init__(self, interfaces: Sequence[str], home_prefix: IPv6Network) -> None:
        self.interfaces = tuple(interfaces)
        self.home_prefix = home_prefix
        self.preferred: str | None = None
        "Interface or link chosen by the user; goes before the configured order."
        self.present: Attachment | None = None
        self.timer: float | None = None
        "When `decide` may come to another decision by the passing of time alone."
        self._links: dict[str, _Link] = {}

    # ------------------------------------------------------------ what is heard

    def interfaces_changed(self, interfaces: Iterable[str]) -> None:
        """Another order of preference."""
        self.interfaces = tuple(interfaces)

    def address_ready(self, link: str, address: IPv6Address, now: float, deprecated: bool = False) -> None:
        """An address became usable, or was deprecated: then it is taken only if there is no other."""
        if address.is_link_local:
            return
        state = self._link(link)
        if not state.addresses:
            state.losses = [lost for lost in state.losses if now - lost < FLAP_MEMORY]
            if state.losses:
                # The exponent is bounded, too: a thousand losses in a minute are more than a float can hold.
                doubling = 2 ** min(len(state.losses) - 1, 16)
                state.trusted_from = now + min(FIRST_DOUBT * doubling, LONGEST_DOUBT)
        if address not in state.addresses:
            state.dead_until, state.retry = None, FIRST_RETRY
        state.addresses[address] = deprecated

    def address_lost(self, link: str, address: IPv6Address, now: float) -> None:
        """An address cannot be used any more."""
        state = self._link(link)
        if state.doubted == address:
            state.doubted = None
        if state.addresses.pop(address, None) is not None and not state.addresses:
            state.losses.append(now)

    def router_found(self, link: str, router: IPv6Address) -> None:
        """A router answers on this link."""
        state = self._link(link)
        state.routers.add(router)
        state.deserted = False

    def router_lost(self, link: str, router: IPv6Address) -> None:
        """A router is gone, or does not answer."""
        state = self._link(link)
        state.routers.discard(router)
        state.deserted = not state.routers

    def dead(self, link: str, now: float) -> PathDead:
        """Nothing comes through on this link: it is left out for a while, if there is another."""
        state = self._link(link)
        state.dead_until = now + state.retry
        event = PathDead(link, state.retry)
        state.retry = min(state.retry * 2, LONGEST_RETRY)
        return event

    def doubt(self, place: Attachment) -> None:
        """Nothing comes through at the only place there is: any other that appears is better."""
        self._link(place.link).doubted = place.address

    def proven(self, link: str) -> None:
        """The home agent answered through this link."""
        self._revive(self._link(link))

    def prefer(self, name: str | None) -> None:
        """Use this interface or link whenever it has an address; None: the order of preference alone counts again.

        Raises `ValueError`: there is no such link.
        """
        if name is None:
            self.preferred = None
            return
        known = dict.fromkeys((*self.interfaces, *self._links))
        if name not in known:
            raise ValueError(f"there is no link {name!r}; the terminal has {', '.join(known)}")
        self.preferred = name
        for link, state in self._links.items():
            if name in (link, interface_of(link)):
                state.trusted_from = 0.0  # the user knows better
                self._revive(state)

    # ------------------------------------------------------------ what follows

    def home_link(self) -> str | None:
        """The link on which the home prefix is heard at the moment."""
        return next((link for link in self._order() if any(self._home_addresses(link))), None)

    def is_lost(self, place: Attachment) -> bool:
        """Whether nothing can arrive at this place any more."""
        state = self._link(place.link)
        gone = place.address not in state.addresses or place.address == state.doubted
        return gone or state.deserted or state.dead_until is not None

    def alternatives(self, place: Attachment) -> bool:
        """Whether there is a place on another link that is not known to be dead."""
        return any(
            link != place.link and state.addresses and state.dead_until is None and not state.deserted
            for link, state in self._links.items()
        )

    def decide(self, now: float) -> Attachment | None:
        """Where to be, given the addresses of this moment."""
        self.timer = None
        for state in self._links.values():
            if state.dead_until is not None and state.dead_until <= now:
                state.dead_until = None
        usable = [link for link in self._order() if self._links[link].addresses]
        if not usable:
            return None
        self._watch(now)
        working = [link for link in usable if not self._links[link].deserted and self._links[link].dead_until is None]
        choice = working or [link for link in usable if not self._links[link].deserted] or usable
        present = self.present
        here = present.link if present is not None else ""
        for link in choice:
            # A link that came back a moment ago has to stay before one that works is left for it.
            if link == here or self._links[link].trusted_from <= now or here not in choice:
                return self._on(link)
        return self._on(choice[0])

    def _watch(self, now: float) -> None:
        times = [state.trusted_from for state in self._links.values() if state.addresses and state.trusted_from > now]
        times += [state.dead_until for state in self._links.values() if state.dead_until is not None]
        self.timer = min(times, default=None)

    def _on(self, link: str) -> Attachment:
        addresses, doubted = self._links[link].addresses, self._links[link].doubted
        for address in self._home_addresses(link):
            return Attachment(link, address, at_home=True)
        fresh = [address for address, deprecated in addresses.items() if not deprecated]
        usable = [address for address in fresh or addresses if address != doubted] or list(addresses)
        present = self.present
        if present is not None and present.link == link and present.address in usable:
            return present
        return Attachment(link, usable[-1], at_home=False)

    def _home_addresses(self, link: str) -> list[IPv6Address]:
        # Through UDP a terminal is never at home: the kernel has the interface and would not answer for the address.
        return [] if is_udp(link) else [each for each in self._links[link].addresses if each in self.home_prefix]

    def _order(self) -> list[str]:
        """All links, the preferred first."""
        places = {name: number for number, name in enumerate(self.interfaces)}
        kinds = {UDP6: 1, UDP4: 2}

        def rank(link: str) -> tuple[bool, int, int]:
            interface, _, kind = link.partition("/")
            chosen = self.preferred in (link, interface)
            return not chosen, places.get(interface, len(places)), kinds.get(kind, 0)

        return sorted(self._links, key=rank)

    def _link(self, link: str) -> _Link:
        return self._links.setdefault(link, _Link())

    @staticmethod
    def _revive(state: _Link) -> None:
        state.dead_until = state.doubted = None
        state.retry = FIRST_RETRY

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "present": None if self.present is None else self.present.describe(),
            "preferred": self.preferred,
            "interfaces": list(self.interfaces),
            "links": {
                link: {
                    "addresses": [str(unmapped(address)) for address in self._links[link].addresses],
                    "deserted": self._links[link].deserted,
                    "dead_for": _left(self._links[link].dead_until, now),
                    "doubted_for": _left(self._links[link].trusted_from, now),
                }
                for link in self._order()
            },
        }


def _left(until: float | None, now: float) -> float:
    return 0.0 if until is None else round(max(until - now, 0.0), 3)
