"""The network of Fig. 27 in memory: the one of Fig. 23, with a MAP domain of three access routers in it.

A second MAP is there, too, which nobody tells of at first.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

from mobility.anchor_point import AnchorPointNode, AnchorPointSettings
from mobility.hmipv6.map_settings import CertifiedTerminals, MapSettings, MapTerminal
from mobility.hmipv6.regional_settings import AnchorKeys, RegionalSettings
from mobility.ipsec.algorithms import Algorithm
from mobility.key_source import KeySource
from mobility.links import LinkSettings
from mobility.mipv6.signalling import logical
from mobility.mipv6.tunnel import TunnelForm
from mobility.negotiated import associations
from mobility.net.memory import Segment
from mobility.wire import ip6
from mobility.wire.map_option import MapOption
from tests.mobility.ipsec.ike.world import NOON
from tests.mobility.whole import HA, MN, Network, mobile_pair

VISITED_C = IPv6Network("2001:db8:e::/64")
ANCHOR_NET, ANCHOR2_NET = IPv6Network("2001:db8:9::/64"), IPv6Network("2001:db8:7::/64")
MAP, MAP2 = IPv6Address("2001:db8:9::9"), IPv6Address("2001:db8:7::77")
MAC_MAP, MAC_MAP2 = bytes.fromhex("020000009909"), bytes.fromhex("020000009907")


def option(kind: int, address: IPv6Address = MAP, **more: int) -> MapOption:
    """As a router says it, for a MAP of this type."""
    values = {"lifetime": 1800, "distance": 2, **more}
    return MapOption(address, may_use_source=kind == 2, reverse_tunnel=kind == 1, **values)  # type: ignore[arg-type]


class DomainNetwork(Network):
    """``kind``: type of the registration; ``regional_form``: of the tunnel to the MAP, None: no keys with the MAP."""

    def __init__(
        self,
        kind: int = 1,
        form: TunnelForm = TunnelForm.ESP,
        *,
        regional_form: TunnelForm | None = TunnelForm.PLAIN,
        settings: RegionalSettings | None = None,
        seed: int = 1,
        overlap: float = 0.5,
        keys: KeySource | None = None,
        map_keys: KeySource | None = None,
        announced: bool = False,
        certified: KeySource | None = None,
    ) -> None:
        """``keys``, ``map_keys``: where those with home agent and MAPs come from, in place of made ones; ``announced``:
        the terminal knows of MAPs only what routers say; ``certified``: how MAPs know whoever has a certificate, and
        the terminal as well."""
        self.kind = kind
        chosen = RegionalSettings() if settings is None else settings
        self.map_keys = map_keys
        self.certified = certified
        self.regional_form = regional_form
        anchors: dict[IPv6Address, MapTerminal] = {}
        if regional_form is None:
            regional = replace(chosen, others=AnchorKeys())
        elif map_keys is not None:
            with_keys = AnchorKeys(regional_form, source=map_keys)
            regional = replace(chosen, anchors=dict.fromkeys((MAP, MAP2), with_keys))
            if announced:
                regional = replace(chosen, others=with_keys)
            if certified is None:
                served = MapTerminal("mn", regional_form, home_address=MN, keys=map_keys)
                anchors = {MAP: served, MAP2: served}
        else:
            known = {}
            for base, address in ((0x7000, MAP), (0x8000, MAP2)):
                pair = mobile_pair(regional_form, base, algorithm=Algorithm.AES_GCM_16)
                known[address] = AnchorKeys(regional_form, pair.terminal)
                anchors[address] = MapTerminal("mn", regional_form, pair.agent)
            regional = replace(chosen, anchors=known)
        super().__init__(form, seed=seed, regional=regional, overlap=overlap, keys=keys)
        self.terminals = anchors
        self.anchors: dict[IPv6Address, AnchorPointNode] = {}
        for name, address, segment in (("map", MAP, self.anchor), ("map2", MAP2, self.anchor2)):
            self.start_map(name, address, segment)
        for router in ("r-a", "r-b", "r-c"):
            self.tell(router, option(kind))

    def _places(self) -> list[tuple[str, Segment, IPv6Network, int]]:
        world = self.world
        self.c = world.segment("visited-c", delay=0.001)
        self.anchor, self.anchor2 = world.segment("anchor"), world.segment("anchor2")
        return [
            *super()._places(),
            ("r-c", self.c, VISITED_C, 5),
            ("r-map", self.anchor, ANCHOR_NET, 6),
            ("r-map2", self.anchor2, ANCHOR2_NET, 7),
        ]

    def start_map(self, name: str, address: IPv6Address, segment: Segment) -> None:
        """The MAP begins, or begins again: with an empty cache."""
        served = self.terminals.get(address)
        if served is not None and self.map_keys is not None:  # which nobody has kept
            dice = self.world.random_bytes(f"{name} associations {len(self.anchors)}")
            made = associations(served.form, self.map_keys.algorithm, dice, home_tests=False)
            served = replace(served, associations=made)
        settings = MapSettings(address, () if served is None else (served,), open=served is None)
        if self.certified is not None and self.regional_form is not None:
            settings = MapSettings(address, certified=CertifiedTerminals(self.certified, self.regional_form))
        mac = MAC_MAP if address == MAP else MAC_MAP2
        node = AnchorPointNode(
            AnchorPointSettings(settings, LinkSettings("eth0", mac)),
            self.world.random_bytes(f"{name} {len(self.anchors)}"),
            lambda: NOON,
        )
        self.anchors[address] = node
        self.world.add(name, node)
        self.world.attach(name, "eth0", segment, mac)

    def tell(self, router: str, *options: MapOption) -> None:
        """The router tells of these MAPs from its next advertisement on."""
        self.routers[router].interfaces["edge"].maps = options

    def advertise(self, router: str) -> None:
        """It advertises now."""
        station = self.world.stations[router]
        station.carry_out(self.routers[router].advertise("edge", self.world.now))

    def home_agent_heard(self) -> int:
        """Binding updates that reached the home agent since it was asked last."""
        frames, self.home.frames[:] = list(self.home.frames), []
        found = 0
        for frame in frames:
            packet = frame.packet
            if len(packet) < 40 or packet[24:40] != HA.packed or packet[6] != ip6.DEST_OPTIONS:
                continue
            headers = logical(packet)[1]
            # Under ESP a mobile prefix solicitation (8 octets) is told from an update by its length alone.
            found += headers.protocol in (ip6.ESP, ip6.MOBILITY) and len(packet) - headers.offset > 48
        return found
