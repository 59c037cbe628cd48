"""The network of Fig. 34 in memory: a train with a mobile router, another mobile router inside it, and nodes in both.

Segments ``train`` and ``carriage`` are the mobile networks; the train itself is in one of the visited networks.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from mobility.agent import AgentSettings, HomeAgentNode
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.spd import Action, SecurityPolicyDatabase
from mobility.key_source import ApplicationKeySettings, KeySource
from mobility.links import LinkSettings, udp_link
from mobility.mipv6.home_agent import AuthorisedTerminal
from mobility.mipv6.tunnel import TunnelForm
from mobility.mobile_router import MobileRouter
from mobility.negotiated import associations
from mobility.net.memory import EndHost, Segment, SimRouter
from mobility.terminal import Terminal, TerminalSettings
from tests.mobility.whole import CN, CORE, HA, HA4, Network, Pair, mobile_pair

TRAIN = IPv6Network("2001:db8:9:1::/64")
CARRIAGE = IPv6Network("2001:db8:9:2::/64")
MR1 = IPv6Address("2001:db8:1::1001")
MR2 = IPv6Address("2001:db8:1::1002")
PASSENGER = bytes.fromhex("02000000ee01")
"An ordinary IPv6 host."


class Train(Network):
    """Fig. 34 with one more mobile network inside."""

    def __init__(
        self,
        form: TunnelForm = TunnelForm.ESP,
        *,
        explicit: bool = False,
        overlap: float = 0.5,
        keys: KeySource | None = None,
        application_keys: tuple[ApplicationKeySettings, ApplicationKeySettings] | None = None,
    ) -> None:
        super().__init__(form, overlap=overlap, keys=keys, application_keys=application_keys)
        self.train = self.world.segment("train")
        self.carriage = self.world.segment("carriage")
        self.pairs = {MR1: self._routers_keys(0x3000), MR2: self._routers_keys(0x4000)}
        self.explicit = explicit
        self._agent_of_routers()
        for name, router in self.world.stations.items():
            if isinstance(router.node, SimRouter):
                hop = HA if name == "r-home" else CORE.network_address + 1
                router.node.routes |= {TRAIN: hop, CARRIAGE: hop}
        self.router = self._router("mr1", MR1, TRAIN, self.train)
        self.router2 = self._router("mr2", MR2, CARRIAGE, self.carriage)
        self.passenger = EndHost("eth0", PASSENGER, self.world.random_bytes("passenger"))
        self.world.add("passenger", self.passenger)

    def _routers_keys(self, base: int) -> Pair:
        if self.keys is None:
            return mobile_pair(self.form, base)
        dice = self.world.random_bytes(f"pair {base}")
        return Pair(*(associations(self.form, self.keys.algorithm, dice) for _ in range(2)))

    def _agent_of_routers(self) -> None:
        settings = self.agent.settings
        routers = tuple(
            AuthorisedTerminal(home, self.form, self.pairs[home].agent, mobile_networks=(network,), keys=self.keys)
            for home, network in ((MR1, TRAIN), (MR2, CARRIAGE))
        )
        engine = replace(settings.home_agent, terminals=(*settings.home_agent.terminals, *routers))
        self.agent = HomeAgentNode(AgentSettings(engine, settings.link), self.world.random_bytes("ha"))
        self.world.remove("ha")
        self.world.add("ha", self.agent)

    def _router(self, name: str, home: IPv6Address, network: IPv6Network, inside: Segment) -> MobileRouter:
        number = int(home) & 0xFF
        macs = [bytes((2, 0, 0, 0, 0xE0 + number, at)) for at in range(3)]
        settings = TerminalSettings(
            home, HA, (LinkSettings("wlan0", macs[0]), LinkSettings("wlan1", macs[1])),
            tunnel=self.form, home_agent4=HA4, overlap=self.overlap,
            mobile_networks=(network,), explicit=self.explicit,
            keys=self.keys, key_management=self.keys is not None,
        )  # fmt: skip
        nothing = IpsecProcessing(SecurityPolicyDatabase([], Action.BYPASS))
        random = self.world.random_bytes(name)
        terminal = Terminal(settings, nothing, self.pairs[home].terminal, random, secret=name.encode())
        router = MobileRouter(terminal, [(LinkSettings("lan0", macs[2]), (network,))], random, name.encode())
        self.world.add(name, router)
        self.world.attach(name, "lan0", inside, macs[2])
        return router

    def couple(self, name: str, segment: Segment, link: str = "wlan0") -> None:
        """A mobile router comes to a network."""
        router = self.world.stations[name].node
        assert isinstance(router, MobileRouter)
        (mac,) = [each.link_address for each in router.terminal.settings.links if each.name == link]
        self.world.attach(name, link, segment, mac)

    def board(self, segment: Segment) -> None:
        """The passenger's computer comes to a network."""
        self.world.attach("passenger", "eth0", segment, PASSENGER)

    def ping(self, to: IPv6Address, sequence: int = 1) -> None:
        """The passenger asks somebody whether he is there."""
        self.world.stations["passenger"].carry_out(self.passenger.ping(to, sequence, self.world.now))

    @property
    def seat(self) -> IPv6Address:
        """The passenger's address in the mobile network."""
        found = self.passenger.host.source_for(HA.packed)
        assert found is not None
        return IPv6Address(found)

    def whole(self) -> None:
        """The train in visited network A, the second router in it, terminal and passenger in the carriage."""
        self.start_agent()
        self.couple("mr1", self.a)
        self.run(2.0)
        self.couple("mr2", self.train)
        self.run(2.0)
        self.board(self.carriage)
        self.plug(self.carriage)
        self.run(2.0)

    def with_passenger(self) -> None:
        """The train in visited network A, and the passenger in it."""
        self.start_agent()
        self.couple("mr1", self.a)
        self.run(2.0)
        self.board(self.train)
        self.run(2.0)


def ride_behind_a_nat(train: Train) -> None:
    """The router's only network is an IPv4 hotspot: packets of a passenger arrive both ways, and none is lost."""
    train.start_agent()
    train.world.attach_udp("mr1", udp_link("wlan1", 4), train.hotspot, IPv4Address("192.168.77.2"))
    train.run(2.0)
    train.board(train.train)
    train.plug(train.train)
    train.run(2.0)
    train.talk(1.0)
    train.ping(CN)
    train.run(2.0)
    assert (train.to_mn.lost(), train.to_cn.lost()) == ([], [])
    assert len(train.passenger.replies) == 1
