"""What the links of a terminal have said so far: what somebody has to hear who comes later."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import IPv6Address

from mobility.host.events import AddressDeprecated, AddressLost, AddressReady, RouterFound, RouterLost
from mobility.outputs import Event


class LinkNews:
    """Usable addresses and routers of all links, in the order in which they came."""

    def __init__(self) -> None:
        self._addresses: dict[tuple[str, IPv6Address], AddressReady | AddressDeprecated] = {}
        self._routers: dict[tuple[str, IPv6Address], RouterFound] = {}

    def note(self, event: Event, homes: Collection[IPv6Address]) -> bool:
        """Whether an event concerns others: what happens to home addresses does not."""
        match event:
            case AddressReady(link=link, address=address) | AddressDeprecated(link=link, address=address):
                if address in homes:
                    return False
                self._addresses[link, address] = event
            case AddressLost(link=link, address=address):
                if address in homes:
                    return False
                self._addresses.pop((link, address), None)
            case RouterFound(link=link, router=router):
                self._routers[link, router] = event
            case RouterLost(link=link, router=router):
                self._routers.pop((link, router), None)
        return True

    def events(self) -> list[Event]:
        """All that still holds."""
        return [*self._routers.values(), *self._addresses.values()]

    def place(self, order: Sequence[str]) -> tuple[str, IPv6Address] | None:
        """The link that is liked best and has an address, with it; one that is not deprecated goes first."""
        places = {link: number for number, link in enumerate(order)}
        known = sorted(
            self._addresses.values(),
            key=lambda event: (places.get(event.link, len(places)), isinstance(event, AddressDeprecated)),
        )
        return (known[0].link, known[0].address) if known else None
