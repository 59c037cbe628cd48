"""The network of Fig. 23 in memory: home link with home agent and router, core, two visited links, correspondent.

Beside it, joined at the home router, networks that carry UDP only: a hotspot that translates addresses, and a cafe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from random import Random

from mobility.agent import AgentSettings, HomeAgentNode
from mobility.correspondent import CorrespondentNode, CorrespondentSettings
from mobility.hmipv6.regional_settings import RegionalSettings
from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA, Mode, OutboundSA, SequenceState
from mobility.ipsec.spd import Action, Policy, SecurityPolicyDatabase, Selector
from mobility.key_source import ApplicationKeySettings, KeySource
from mobility.links import MOBILITY_PORT, LinkSettings, udp_link
from mobility.mipv6.home_agent import AuthorisedTerminal, HomeAgentSettings
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm
from mobility.negotiated import associations
from mobility.net.memory import Internet, RouterInterface, Segment, SimRouter, World
from mobility.terminal import Terminal, TerminalSettings
from mobility.wire import icmp6, ip6
from tests.mobility.ipsec.ike.world import NOON

HOME = IPv6Network("2001:db8:1::/64")
VISITED_A = IPv6Network("2001:db8:a::/64")
VISITED_B = IPv6Network("2001:db8:b::/64")
CORRESPONDENT = IPv6Network("2001:db8:c::/64")
CORE = IPv6Network("2001:db8:ffff::/64")

HA = IPv6Address("2001:db8:1::a")
MN = IPv6Address("2001:db8:1::100")
MN2 = IPv6Address("2001:db8:1::200")
CN = IPv6Address("2001:db8:c::c")
CAFE = IPv6Network("2001:db8:d::/64")
HA4 = IPv4Address("198.51.100.10")
NAT4 = IPv4Address("203.0.113.7")
POOL4 = IPv4Network("10.20.0.0/24")
AT_HOTSPOT = IPv4Address("192.168.77.2")
AT_CAFE = IPv6Address("2001:db8:d::2")

MAC_MN = bytes.fromhex("02000000aa01")
MAC_MN2 = bytes.fromhex("02000000aa02")


def randomness(name: str) -> Callable[[int], bytes]:
    """The same bytes in every run."""
    return Random(name).randbytes


class Sequences(dict[tuple[int, str], SequenceState]):
    """Sequence numbers that outlive the associations, as a mapped file makes them."""

    def __missing__(self, key: tuple[int, str]) -> SequenceState:
        self[key] = SequenceState()
        return self[key]


def keys_of(spi: int, algorithm: Algorithm = Algorithm.AES_GCM_16) -> Keys:
    """Always the same for the same SPI."""
    dice = Random(spi)
    return Keys(dice.randbytes(algorithm.key_lengths[0]), dice.randbytes(algorithm.authentication_key_length))


def association(
    spi: int, mode: Mode, algorithm: Algorithm = Algorithm.AES_GCM_16, sequences: Sequences | None = None
) -> tuple[OutboundSA, InboundSA]:
    """The two ends of one association; always the same keys for the same SPI."""
    keys = keys_of(spi, algorithm)
    kept = Sequences() if sequences is None else sequences
    out = OutboundSA(spi, algorithm, keys, mode, random=Random(~spi).randbytes, state=kept[spi, "out"], fresh_keys=True)
    return out, InboundSA(spi, algorithm, keys, mode, state=kept[spi, "in"])


@dataclass(frozen=True)
class Pair:
    """Mobile associations of both ends."""

    terminal: MobileAssociations
    agent: MobileAssociations


def mobile_pair(
    form: TunnelForm,
    base: int = 0x1000,
    *,
    signalling: bool = True,
    home_test: bool = False,
    algorithm: Algorithm = Algorithm.AES_GCM_16,
    sequences: Sequences | None = None,
) -> Pair:
    """What terminal and home agent share."""
    none = (None, None)
    up_out, up_in = association(base, Mode.TRANSPORT, algorithm, sequences) if signalling else none
    down_out, down_in = association(base + 1, Mode.TRANSPORT, algorithm, sequences) if signalling else none
    tunnelled = form is not TunnelForm.PLAIN
    out_out, out_in = association(base + 2, Mode.TUNNEL, algorithm, sequences) if tunnelled else none
    in_out, in_in = association(base + 3, Mode.TUNNEL, algorithm, sequences) if tunnelled else none
    there_out, there_in = association(base + 4, Mode.TUNNEL, algorithm, sequences) if home_test else none
    back_out, back_in = association(base + 5, Mode.TUNNEL, algorithm, sequences) if home_test else none
    return Pair(
        MobileAssociations(up_out, down_in, out_out, in_in, there_out, back_in),
        MobileAssociations(down_out, up_in, in_out, out_in, back_out, there_in),
    )


def application_pair(
    mn: IPv6Address = MN,
    cn: IPv6Address = CN,
    base: int = 0x100,
    algorithm: Algorithm = Algorithm.AES_GCM_16,
    sequences: Sequences | None = None,
) -> tuple[IpsecProcessing, IpsecProcessing]:
    """Application IPsec of both ends: UDP between them in transport mode, all else as it is."""
    there_out, there_in = association(base, Mode.TRANSPORT, algorithm, sequences)
    back_out, back_in = association(base + 1, Mode.TRANSPORT, algorithm, sequences)

    def part(local: IPv6Address, remote: IPv6Address, out: OutboundSA, inbound: InboundSA) -> IpsecProcessing:
        selector = Selector(IPv6Network(local), IPv6Network(remote), ip6.UDP)
        policy = Policy(selector, Action.PROTECT, out, inbound, "speech")
        return IpsecProcessing(SecurityPolicyDatabase([policy], Action.BYPASS))

    return part(mn, cn, there_out, back_in), part(cn, mn, back_out, there_in)


def unprotected() -> IpsecProcessing:
    """Application IPsec that has nothing to do yet."""
    return IpsecProcessing(SecurityPolicyDatabase([], Action.BYPASS))


def udp(source: IPv6Address, destination: IPv6Address, body: bytes, ports: tuple[int, int] = (5004, 5004)) -> bytes:
    """A UDP packet (the checksum is of no interest to anything tested here)."""
    length = 8 + len(body)
    header = ports[0].to_bytes(2) + ports[1].to_bytes(2) + length.to_bytes(2) + b"\x12\x34"
    return ip6.packet(source, destination, ip6.UDP, header + body)


@dataclass
class Traffic:
    """Numbered packets in one direction."""

    sent: dict[int, float] = field(default_factory=dict)
    received: dict[int, float] = field(default_factory=dict)
    repeated: int = 0

    def lost(self) -> list[int]:
        """Numbers of the packets that never came."""
        return [number for number in self.sent if number not in self.received]


class Network:
    """Everything of Fig. 23 but the SIP proxy, which the mobility layer does not see."""

    def __init__(
        self,
        form: TunnelForm = TunnelForm.ESP,
        *,
        seed: int = 1,
        lifetime: int = 420,
        signalling: bool = True,
        second_terminal: bool = False,
        algorithm: Algorithm = Algorithm.AES_GCM_16,
        overlap: float = 0.5,
        home_address4: IPv4Address | None = None,
        regional: RegionalSettings | None = None,
        home_test: bool = False,
        keys: KeySource | None = None,
        application_keys: tuple[ApplicationKeySettings, ApplicationKeySettings] | None = None,
    ) -> None:
        """``keys``: where those of terminal and home agent come from; None: they have them. ``application_keys``: the
        same for terminal and correspondent."""
        self.application_keys = application_keys
        self.keys = keys
        self._lives = ""
        self.regional = regional
        self.world = world = World(seed)
        self.overlap = overlap
        self.home_address4 = home_address4
        self.form = form
        self.lifetime = lifetime
        self.home = world.segment("home")
        self.core = world.segment("core", delay=0.005)
        self.a = world.segment("visited-a", delay=0.001)
        self.b = world.segment("visited-b", delay=0.001)
        self.office = world.segment("office")
        self.b_prefix = VISITED_B
        self.routers: dict[str, SimRouter] = {}
        self._routers()
        self.internet = world.internet("internet", delay=0.005)
        self.hotspot = world.nat("hotspot", self.internet, NAT4, delay=0.002)
        self.cafe = world.internet("cafe", self.internet, delay=0.001)
        world.gateway("r-home", self.internet, [CAFE])
        self.sequences = Sequences()
        self.pair = self._pair(signalling, home_test, algorithm)
        if keys is not None:
            self.pair = Pair(self._negotiated("mn"), self._negotiated("ha"))
        self.pair2 = mobile_pair(form, 0x2000, signalling=signalling, algorithm=algorithm)
        self.mn_application, self.cn_application = application_pair(algorithm=algorithm, sequences=self.sequences)
        if application_keys is not None:
            self.mn_application, self.cn_application = unprotected(), unprotected()
        terminals = [AuthorisedTerminal(MN, form, self.pair.agent, keys=keys)]
        if second_terminal:
            terminals.append(AuthorisedTerminal(MN2, form, self.pair2.agent))
        self.agent = HomeAgentNode(
            AgentSettings(
                HomeAgentSettings(HA, tuple(terminals), max_lifetime=600, ipv4_pool=POOL4),
                LinkSettings("home0", bytes.fromhex("02000000110a")),
            ),
            world.random_bytes("ha"),
        )
        self.correspondent = self._correspondent()
        self.terminal = self._terminal(MN, MAC_MN, self.mn_application, self.pair.terminal)
        world.add("ha", self.agent)
        world.add("cn", self.correspondent)
        world.add("mn", self.terminal)
        world.attach("cn", "eth0", self.office, bytes.fromhex("02000000cc01"))
        world.stations["cn"].host_side = self._correspondents_kernel
        self.other_packets: dict[str, list[bytes]] = {"mn": [], "cn": []}
        self.to_mn = Traffic()
        self.to_cn = Traffic()

    def _pair(self, signalling: bool, home_test: bool, algorithm: Algorithm) -> Pair:
        return mobile_pair(
            self.form, signalling=signalling, home_test=home_test, algorithm=algorithm, sequences=self.sequences
        )

    def _negotiated(self, whose: str) -> MobileAssociations:
        algorithm = Algorithm.AES_GCM_16 if self.keys is None else self.keys.algorithm
        return associations(self.form, algorithm, self.world.random_bytes(f"{whose} associations"))

    def _terminal(
        self, home_address: IPv6Address, mac: bytes, application: IpsecProcessing, associations: MobileAssociations
    ) -> Terminal:
        settings = TerminalSettings(
            home_address, HA, (LinkSettings("wlan0", mac), LinkSettings("wlan1", mac[:5] + b"\xf1")),
            tunnel=self.form, lifetime=self.lifetime, home_agent4=HA4, overlap=self.overlap,
            home_address4=self.home_address4, regional=self.regional, keys=self.keys,
            key_management=self.keys is not None,
            application_keys=None if self.application_keys is None else self.application_keys[0],
        )  # fmt: skip
        dice = self.world.random_bytes(f"{home_address}{self._lives}")
        sequence = int(self.world.now * 16) & 0xFFFF  # as `mobility.assembly` does
        return Terminal(settings, application, associations, dice, sequence=sequence, utc=lambda: NOON)

    def _correspondent(self) -> CorrespondentNode:
        keys = None if self.application_keys is None else self.application_keys[1]
        link = LinkSettings("eth0", bytes.fromhex("02000000cc01"))
        return CorrespondentNode(
            CorrespondentSettings(CN, link, application_keys=keys),
            self.cn_application,
            self.world.random_bytes(f"cn{self._lives}"),
        )

    def restart_correspondent(self) -> None:
        """The correspondent dies and is started again, without the keys that it had negotiated."""
        self.world.remove("cn")
        self._lives += " again"
        self.cn_application = unprotected()
        self.correspondent = self._correspondent()
        self.world.add("cn", self.correspondent)
        self.world.attach("cn", "eth0", self.office, bytes.fromhex("02000000cc01"))
        self.world.stations["cn"].host_side = self._correspondents_kernel

    def restart_terminal(self) -> None:
        """The terminal dies and is started again, without the keys that it had negotiated."""
        self.world.remove("mn")
        self._lives += " again"
        if self.keys is not None:
            self.pair = replace(self.pair, terminal=self._negotiated(f"mn{self._lives}"))
        if self.application_keys is not None:
            self.mn_application = unprotected()
        self.terminal = self._terminal(MN, MAC_MN, self.mn_application, self.pair.terminal)
        self.world.add("mn", self.terminal)

    def _places(self) -> list[tuple[str, Segment, IPv6Network, int]]:
        """Routers with the segment, the prefix and the number of each."""
        return [
            ("r-home", self.home, HOME, 1),
            ("r-a", self.a, VISITED_A, 2),
            ("r-b", self.b, VISITED_B, 3),
            ("r-office", self.office, CORRESPONDENT, 4),
        ]

    def _routers(self) -> None:
        def interface(link: str, number: int, network: IPv6Network, *, advertised: bool = True) -> RouterInterface:
            address = IPv6Interface((network.network_address + number, network.prefixlen))
            mac = bytes((2, 0, 0, 0, len(self.world.stations), number))
            return RouterInterface(link, mac, address, (network,) if advertised else ())

        def mac_of(router: SimRouter, link: str) -> bytes:
            return router.interfaces[link].mac

        places = self._places()
        for name, segment, network, number in places:
            others = {other: CORE.network_address + n for _, _, other, n in places if n != number}
            edge = interface("edge", number, network)
            edge.mac = bytes((2, 0, 0, 0, 0x10 + number, 1))
            core = interface("core", number, CORE, advertised=False)
            core.mac = bytes((2, 0, 0, 0, 0x10 + number, 2))
            router = self.routers[name] = SimRouter([edge, core], self.world.random_bytes(name), others)
            self.world.add(name, router)
            self.world.attach(name, "edge", segment, edge.mac)
            self.world.attach(name, "core", self.core, core.mac)

    def _correspondents_kernel(self, packet: bytes) -> None:
        """The host OS of the correspondent answers echo requests."""
        station = self.world.stations["cn"]
        station.delivered.append((self.world.now, packet))
        reply = icmp6.echo_reply(packet) if packet[6] == ip6.ICMPV6 else None
        if reply is not None:
            station.send(reply)

    def start_agent(self) -> None:
        """The home agent's carrier comes up."""
        self.world.attach("ha", "home0", self.home, bytes.fromhex("02000000110a"))
        self.world.attach_udp("ha", f"udp/{HA4}", self.internet, HA4, MOBILITY_PORT)

    def restart_agent(self, *, gap: float = 0.0, restored: bool = False) -> None:
        """The home agent dies and is started again; ``restored``: with the bindings that it had."""
        records = self.agent.bindings(0.0) if restored else []
        self.world.remove("ha")
        self.world.run(self.world.now + gap)
        settings = self.agent.settings
        if self.keys is not None:  # which nobody has kept
            known = settings.home_agent.terminals
            anew = tuple(replace(each, associations=self._negotiated("ha again")) for each in known)
            settings = replace(settings, home_agent=replace(settings.home_agent, terminals=anew))
        self.agent = HomeAgentNode(settings, self.world.random_bytes("ha again"))
        station = self.world.add("ha", self.agent)
        station.carry_out(self.agent.restore(records, 0.0, self.world.now))
        self.start_agent()

    def plug(self, segment: Segment, link: str = "wlan0") -> None:
        """The terminal's carrier comes up on a link."""
        mac = MAC_MN if link == "wlan0" else MAC_MN[:5] + b"\xf1"
        self.world.attach("mn", link, segment, mac)

    def move(self, segment: Segment, gap: float = 0.0) -> None:
        """Break before make."""
        self.world.move("mn", "wlan0", segment, gap=gap)

    def join(self, network: Internet, interface: str = "wlan1") -> None:
        """The terminal comes to a network that carries UDP only: the hotspot (IPv4) or the cafe (IPv6)."""
        address: IPv4Address | IPv6Address = AT_HOTSPOT if network is self.hotspot else AT_CAFE
        self.world.attach_udp("mn", udp_link(interface, address.version), network, address)

    def part(self, network: Internet, interface: str = "wlan1") -> None:
        """It leaves that network."""
        self.world.detach_udp("mn", udp_link(interface, 4 if network is self.hotspot else 6))

    def talk(self, seconds: float, interval: float = 0.02, size: int = 160) -> None:
        """Numbered packets both ways from now on, counted."""
        until = self.world.now + seconds
        mn, cn = self.world.stations["mn"], self.world.stations["cn"]

        def speak(traffic: Traffic, send: Callable[[bytes], None], source: IPv6Address, to: IPv6Address) -> None:
            number = len(traffic.sent)
            traffic.sent[number] = self.world.now
            send(udp(source, to, number.to_bytes(4) + bytes(size - 4)))

        self.world.every(interval, lambda: speak(self.to_cn, mn.send, MN, CN), until=until)
        self.world.every(interval, lambda: speak(self.to_mn, cn.send, CN, MN), until=until)

    def count(self) -> None:
        """Look at what arrived."""
        for name, traffic in (("mn", self.to_mn), ("cn", self.to_cn)):
            station = self.world.stations.get(name)
            if station is None:
                continue
            for time, packet in station.delivered:
                if packet[6] != ip6.UDP:
                    self.other_packets[name].append(packet)
                    continue
                number = int.from_bytes(packet[48:52])
                if number in traffic.received:
                    traffic.repeated += 1
                traffic.received.setdefault(number, time)
            station.delivered.clear()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run(self.world.now + seconds)
        self.count()

    def discards(self, name: str) -> dict[str, int]:
        """Reasons with their numbers."""
        found: dict[str, int] = {}
        for _, discard in self.world.stations[name].discards:
            found[discard.reason.value] = found.get(discard.reason.value, 0) + 1
        return found
