"""At home a terminal is a plain host: it takes the home address and tells its neighbours (RFC 6275 section 11.5.5)."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address

from mobility.host.host import Host
from mobility.outputs import Output, Transmit
from mobility.wire import ndisc

ANNOUNCEMENTS = 3
"Of the home address after the return (MAX_NEIGHBOR_ADVERTISEMENT, RFC 4861 section 10)."
ANNOUNCEMENT_INTERVAL = 1.0
"Seconds."


class Homecoming:
    """Where the home address is configured at the moment, and the announcements of it. Outputs are the hosts'."""

    def __init__(self, home_address: IPv6Address, home_agent: IPv6Address, hosts: Mapping[str, Host]) -> None:
        self.link: str | None = None
        "That has the home address; None: the terminal is not at home."
        self.timer: float | None = None
        "When `handle_timer` wants to be called."
        self._home_address = home_address
        self._home_agent = home_agent
        self._hosts = hosts
        for host in hosts.values():
            host.programs.add(home_address.packed)
        self._announcements = 0

    def leave(self, now: float) -> list[Output]:
        """Away, or to another link of the home network."""
        link, self.link = self.link, None
        return [] if link is None else self._hosts[link].remove_address(self._home_address, now)

    def arrive(self, link: str, now: float) -> list[Output]:
        """Takes the home address, quietly: until it is told otherwise the home agent defends it."""
        self.link = link
        outputs = self._hosts[link].add_address(self._home_address, now, quiet=True)
        # Asked from nobody's address: no other is free of doubt as yet (RFC 4429: never from an optimistic address).
        # The answer goes to all nodes.
        group = ndisc.solicited_node(self._home_agent).packed
        question = ndisc.packet(bytes(16), group, ndisc.NeighborSolicitation(self._home_agent))
        return [*outputs, Transmit(question, ndisc.ethernet_multicast(group), link)]

    def settle(self, now: float) -> list[Output]:
        """The home agent has let go: tell the neighbours, several times, for nobody says that he heard it."""
        self._announcements = ANNOUNCEMENTS
        return self._announce(now)

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` may have come."""
        return self._announce(now) if self.timer is not None and self.timer <= now else []

    def _announce(self, now: float) -> list[Output]:
        if self.link is None:
            self.timer = None
            return []
        self._announcements -= 1
        self.timer = now + ANNOUNCEMENT_INTERVAL if self._announcements > 0 else None
        return self._hosts[self.link].announce(self._home_address, now)
