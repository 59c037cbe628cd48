"""The networks in memory with their home agent on a rented server: no home link, its prefixes are routed to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Interface, IPv6Network

from mobility.agent import HomeAgentNode
from mobility.links import MOBILITY_PORT, LinkSettings
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.memory import RouterInterface, SimRouter
from tests.mobility.nemo.train import CARRIAGE, TRAIN, Train
from tests.mobility.whole import HA4, HOME, MN, Network

PROVIDER = IPv6Network("2001:db8:50::/64")
SERVER = IPv6Address("2001:db8:50::5")
SERVER_MAC = bytes.fromhex("020000005005")
LARGE = IPv6Network("2001:db8:1::/56")
"With room for more than the home network."
BEHIND = IPv6Network("2001:db8:1:7::/64")
"Of the terminal, should it be a mobile router."
TUN = "roam6"


def rent(network: Network, prefixes: Sequence[IPv6Network]) -> None:
    """Where the home network was is that of a provider, which routes prefixes to the server with the home agent."""
    world, provider = network.world, network.routers["r-home"]
    edge = provider.interfaces["edge"]
    edge.address, edge.advertised = IPv6Interface((PROVIDER.network_address + 1, 64)), (PROVIDER,)
    world.stations["r-home"].carry_out(provider.hosts["edge"].add_address(edge.address.ip, world.now))
    provider.routes |= dict.fromkeys(prefixes, SERVER)
    for other in network.routers.values():
        if other is not provider:
            other.routes |= dict.fromkeys(prefixes, other.routes[HOME])
    server = SimRouter(
        [RouterInterface("eth0", SERVER_MAC, IPv6Interface((SERVER, 64)), interval=0)],
        world.random_bytes("server"),
        {IPv6Network("::/0"): edge.address.ip},
    )
    world.add("server", server)
    world.attach("server", "eth0", network.home, SERVER_MAC)
    world.remove("ha")
    settings = replace(network.agent.settings, link=LinkSettings(TUN, b""), routed=True)
    network.agent = HomeAgentNode(settings, world.random_bytes("ha"))
    world.add("ha", network.agent)


def hand_over(network: Network, prefixes: Sequence[IPv6Network]) -> None:
    """In place of `Network.start_agent`."""
    network.world.attach_route("ha", TUN, "server", prefixes)
    network.world.attach_udp("ha", f"udp/{HA4}", network.internet, HA4, MOBILITY_PORT)


class Rented(Network):
    """`Network` like that; the terminal may be a mobile router."""

    def __init__(self, form: TunnelForm = TunnelForm.ESP, *, second_terminal: bool = False) -> None:
        super().__init__(form, second_terminal=second_terminal)
        settings = self.agent.settings
        first, *others = settings.home_agent.terminals
        terminals = (replace(first, mobile_networks=(BEHIND,)), *others)
        self.agent.settings = replace(settings, home_agent=replace(settings.home_agent, terminals=terminals))
        rent(self, [LARGE])

    def start_agent(self) -> None:
        hand_over(self, [LARGE])

    def bound(self) -> None:
        """The terminal is bound from visited network A."""
        self.start_agent()
        self.plug(self.a)
        self.run(3.0)
        assert self.agent.engine.is_bound(MN.packed)

    def ask(self, packet: bytes) -> list[bytes]:
        """The correspondent's host OS sends a packet; what comes back to it within a second."""
        before = len(self.other_packets["cn"])
        self.world.stations["cn"].send(packet)
        self.run(1.0)
        return self.other_packets["cn"][before:]


class RentedTrain(Train):
    """`Train` like that: the mobile networks are routed to the server as well."""

    def __init__(self, form: TunnelForm = TunnelForm.ESP) -> None:
        super().__init__(form)
        rent(self, [HOME, TRAIN, CARRIAGE])

    def start_agent(self) -> None:
        hand_over(self, [HOME, TRAIN, CARRIAGE])
