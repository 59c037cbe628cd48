"""Movement: which link and which care-of address to use (RFC 6275 sections 11.5.1 to 11.5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from mobility.outputs import Event


@dataclass(frozen=True, slots=True)
class Attachment:
    """Where the terminal is."""

    link: str
    address: IPv6Address
    "Care-of address; at home an address in the home prefix."
    at_home: bool


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


class Movement:
    """All usable addresses, and the choice among them: links by preference, on a link the one already in use."""

    def __init__(self, links: Sequence[str], home_prefix: IPv6Network) -> None:
        self.links = tuple(links)
        self.home_prefix = home_prefix
        self.preferred: str | None = None
        "Chosen by the user; goes before the configured order."
        self.present: Attachment | None = None
        self._addresses: dict[str, dict[IPv6Address, bool]] = {link: {} for link in links}
        self._routers: dict[str, set[IPv6Address]] = {link: set() for link in links}
        self._deserted: set[str] = set()
        "Links whose last router fell silent: taken only if there is nothing better."

    def address_ready(self, link: str, address: IPv6Address, deprecated: bool = False) -> None:
        """An address became usable, or was deprecated: then it is taken only if there is no other."""
        if not address.is_link_local:
            self._addresses[link][address] = deprecated

    def address_lost(self, link: str, address: IPv6Address) -> None:
        """An address cannot be used any more."""
        self._addresses[link].pop(address, None)

    def router_found(self, link: str, router: IPv6Address) -> None:
        """A router answers on this link."""
        self._routers[link].add(router)
        self._deserted.discard(link)

    def router_lost(self, link: str, router: IPv6Address) -> None:
        """A router is gone, or does not answer."""
        self._routers[link].discard(router)
        if not self._routers[link]:
            self._deserted.add(link)

    def prefer(self, link: str) -> None:
        """Use this link whenever it has an address. Raises `ValueError`: there is no such link."""
        if link not in self._addresses:
            raise ValueError(f"there is no link {link!r}; the terminal has {', '.join(self.links)}")
        self.preferred = link

    def home_link(self) -> str | None:
        """The link on which the home prefix is heard at the moment."""
        return next((link for link in self.links if any(map(self._is_home, self._addresses[link]))), None)

    def is_lost(self, place: Attachment) -> bool:
        """Whether nothing can arrive at this place any more."""
        return place.address not in self._addresses[place.link] or place.link in self._deserted

    def decide(self) -> Attachment | None:
        """Where to be, given the addresses of this moment."""
        order = self.links if self.preferred is None else (self.preferred, *self.links)
        usable = [link for link in order if self._addresses[link]]
        if not usable:
            return None
        link = next((link for link in usable if link not in self._deserted), usable[0])
        return self._on(link, self._addresses[link])

    def _on(self, link: str, addresses: dict[IPv6Address, bool]) -> Attachment:
        home = [address for address in addresses if self._is_home(address)]
        if home:
            return Attachment(link, home[0], at_home=True)
        fresh = [address for address, deprecated in addresses.items() if not deprecated]
        usable = fresh if fresh else list(addresses)
        present = self.present
        if present is not None and present.link == link and present.address in usable:
            return present
        return Attachment(link, usable[-1], at_home=False)

    def _is_home(self, address: IPv6Address) -> bool:
        return address in self.home_prefix

    def snapshot(self) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "present": None
            if self.present is None
            else {
                "link": self.present.link,
                "address": str(self.present.address),
                "at_home": self.present.at_home,
            },
            "preferred": self.preferred,
            "addresses": {link: [str(address) for address in found] for link, found in self._addresses.items()},
        }
