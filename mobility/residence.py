"""One home address of a terminal, its home agent found and found again (RFC 6275 section 11.4.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from mobility.ipsec.processing import IpsecProcessing
from mobility.key_source import KeySource
from mobility.mipv6.agent_discovery import AgentDiscovery
from mobility.mipv6.tunnel import MobileAssociations
from mobility.outputs import Event, Output
from mobility.terminal import Terminal
from mobility.waiting import WaitingRoom


@dataclass(frozen=True, slots=True)
class Home:
    """A home address that a terminal has, or is to have when its home network is renumbered."""

    address: IPv6Address
    prefix_length: int = 64
    agent: IPv6Address | None = None
    "None: it is discovered."
    spare: bool = False
    "Used from the moment on when the home agent tells that another home address has had its time."

    @property
    def network(self) -> IPv6Network:
        """The home prefix."""
        return IPv6Network((self.address, self.prefix_length), strict=False)


@dataclass(frozen=True, slots=True)
class Equipment:
    """Both layers of IPsec for one home address and one home agent."""

    application: IpsecProcessing
    associations: MobileAssociations
    keys: KeySource | None = None
    "Where those of the associations come from; None: they have them."


@dataclass(frozen=True, slots=True)
class HomeAgentChosen(Event):
    """The terminal registers this home address with this home agent from now on."""

    home_address: IPv6Address
    home_agent: IPv6Address


@dataclass(frozen=True, slots=True)
class HomeAgentUnusable(Event):
    """A home agent that was found, or told, and that the terminal has no keys for."""

    home_address: IPv6Address
    home_agent: IPv6Address
    why: str


class Residence:
    """Has a `Terminal` while a home agent is known. Whoever owns it moves packets and events to and fro."""

    def __init__(
        self,
        home: Home,
        make: Callable[[Home, IPv6Address, Terminal | None], Terminal | None],
        random: Callable[[int], bytes],
    ) -> None:
        """``make``: a terminal for this home agent; it has the former one's numbers. None: there are no keys for it."""
        self.home = home
        self.terminal: Terminal | None = None
        self.introduced: Terminal | None = None
        "The terminal that knows what the links have said so far; kept by the owner."
        self.discovery = AgentDiscovery(home.network, random) if home.agent is None else None
        self.waiting = WaitingRoom()
        "Packets of programs until there is a home agent."
        self.deprecated = False
        "The home network said that the address is not for new communication any more."
        self.ready = True
        "Programs may use the address; False: it is new, and no home agent has taken it yet."
        self.stands_in = False
        "A spare one, used because nobody serves the others; until somebody does."
        self.ends: float | None = None
        "When its valid lifetime is over; None: never."
        self._make = make
        self._care_of: IPv6Address | None = None

    @property
    def timer(self) -> float | None:
        """When the residence, without its terminal, has something to do."""
        discovery = None if self.discovery is None else self.discovery.timer
        return min((t for t in (discovery, self.waiting.timer, self.ends) if t is not None), default=None)

    def seek(self, care_of: IPv6Address | None, now: float) -> list[Output]:
        """Asks for home agents from this care-of address, if it has to; again when the address is another one."""
        discovery = self.discovery
        if discovery is None:
            return []
        changed, self._care_of = care_of != self._care_of, care_of
        if care_of is None:
            discovery.stop()
            return []
        wanted = self.terminal is None and discovery.timer is None
        return discovery.begin(care_of, now) if wanted or (changed and discovery.timer is not None) else []

    def settle(self, agents: tuple[IPv6Address, ...], now: float) -> list[Output]:
        """The first of these that there are keys for. The one in use is asked again if it is the best there is."""
        outputs: list[Output] = []
        for agent in agents:
            terminal = self.terminal
            if terminal is not None and terminal.settings.home_agent == agent:
                return [*outputs, *terminal.command("reregister", now)]
            made = self._make(self.home, agent, terminal)
            if made is not None:
                self.terminal = made
                outputs.append(HomeAgentChosen(self.home.address, agent))
                return outputs
            why = "there are no keys for it: write [[ike]], or associations, with this peer and this home address"
            outputs.append(HomeAgentUnusable(self.home.address, agent, why))
            if self.discovery is not None:
                outputs += self.discovery.refused(agent, now)
        return outputs

    def give_up(self, now: float) -> list[Output]:
        """The home agent in use does not answer, or refuses: another one, or the home link is asked anew."""
        terminal, discovery = self.terminal, self.discovery
        if terminal is None or discovery is None or terminal.forwarding.at_home:
            return []
        outputs = discovery.refused(terminal.settings.home_agent, now, self._care_of)
        return outputs + self.settle(discovery.agents, now)

    def bound(self) -> None:
        """The home agent in use serves: nobody else is looked for."""
        self.ready = True
        if self.discovery is not None:
            self.discovery.accepted()

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        terminal = self.terminal
        return {
            "home_address": str(self.home.address),
            "home_agent": None if terminal is None else str(terminal.settings.home_agent),
            "state": None if terminal is None else terminal.mobile_node.registration.snapshot(now)["state"],
            "deprecated": self.deprecated,
            "ends_in": None if self.ends is None else round(max(0.0, self.ends - now), 1),
            "discovery": None if self.discovery is None else self.discovery.snapshot(now),
        }
