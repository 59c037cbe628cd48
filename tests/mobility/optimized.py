"""The network of `whole`, with a terminal that optimizes routes, and looks at the ways that packets take."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from mobility.ipsec.processing import IpsecProcessing
from mobility.key_source import ApplicationKeySettings
from mobility.mipv6.route_events import RouteEnded, RouteOptimized, RouteRefused
from mobility.mipv6.route_optimization import RouteOptimization
from mobility.mipv6.route_rules import RoutePolicy, RouteRules
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm
from mobility.terminal import Terminal
from mobility.wire import ip6
from tests.mobility.whole import CN, HA, Network, unprotected

ALWAYS = RouteRules(RoutePolicy.ALWAYS)


class Optimized(Network):
    """``rules``: with whom."""

    def __init__(
        self,
        form: TunnelForm = TunnelForm.ESP,
        *,
        rules: RouteRules = ALWAYS,
        overlap: float = 0.5,
        lifetime: int = 420,
        seed: int = 1,
        home_address4: IPv4Address | None = None,
        home_test: bool = False,
        application_keys: tuple[ApplicationKeySettings, ApplicationKeySettings] | None = None,
    ) -> None:
        self.rules = rules
        super().__init__(
            form,
            overlap=overlap,
            lifetime=lifetime,
            seed=seed,
            home_address4=home_address4,
            home_test=home_test,
            application_keys=application_keys,
        )

    def _terminal(
        self, home_address: IPv6Address, mac: bytes, application: IpsecProcessing, associations: MobileAssociations
    ) -> Terminal:
        plain = super()._terminal(home_address, mac, application, associations)
        settings = replace(plain.settings, route_optimization=self.rules)
        if self.application_keys is not None:
            application = self.mn_application = unprotected()  # the other one belongs to that terminal's keys
        return Terminal(settings, application, associations, self.world.random_bytes(str(home_address)))

    @property
    def optimization(self) -> RouteOptimization:
        """The terminal's."""
        return self.terminal.optimization

    def start(self) -> None:
        """Bound in visited-a, and packets go directly both ways."""
        self.start_agent()
        self.plug(self.a)
        self.run(2)
        self.talk(0.3)
        self.run(1)
        self.forget()

    def forget(self) -> None:
        """Only what comes from now on is counted."""
        for segment in (self.a, self.b, self.home, self.core):
            segment.frames.clear()
        self.to_mn.sent.clear()
        self.to_mn.received.clear()
        self.to_cn.sent.clear()
        self.to_cn.received.clear()

    def is_direct(self) -> bool:
        """Whether both ends have a direct way."""
        cn = self.correspondent.optimization
        care_of = self.care_of
        here = care_of is not None and cn is not None and cn.confirms(self.terminal._home, care_of.packed)
        return here and self.terminal.updates.route(CN.packed) is not None

    @property
    def care_of(self) -> IPv6Address | None:
        """Where the terminal is."""
        present = self.terminal.mobile_node.present
        return None if present is None else present.address

    def optimized(self) -> list[float]:
        """When a route was (re)made, seconds."""
        return [time for time, _ in self.world.stations["mn"].events_of(RouteOptimized)]

    def through_the_agent(self) -> int:
        """Data packets on the core network between the home agent and anybody, signalling left out."""
        packets = [frame.packet for frame in self.core.frames]
        ends = (HA.packed,)
        return sum((p[8:24] in ends or p[24:40] in ends) and len(p) > 200 for p in packets)

    def directly(self) -> int:
        """Data packets on the core network with a Home Address option or a type 2 routing header."""
        packets = [frame.packet for frame in self.core.frames]
        return sum(p[6] in (ip6.DEST_OPTIONS, ip6.ROUTING) and len(p) > 200 for p in packets)


def intact(network: Optimized) -> bool:
    """Nothing lost, nothing twice."""
    assert network.to_cn.sent
    assert (network.to_cn.lost(), network.to_mn.lost()) == ([], [])
    return network.to_cn.repeated == network.to_mn.repeated == 0


def events(network: Optimized, kind: type[RouteEnded] | type[RouteRefused]) -> list[str]:
    return [event.why for _, event in network.world.stations["mn"].events_of(kind)]


def signalling(network: Optimized) -> list[int]:
    """Types of the mobility messages between terminal and correspondent, as the correspondent's link saw them."""
    frames = (frame.packet for frame in network.office.frames)
    found: list[int] = []
    for packet in frames:
        headers = ip6.walk(packet)
        if headers.protocol == ip6.MOBILITY:
            found.append(packet[headers.offset + 2])
    return found
