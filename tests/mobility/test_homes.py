"""A terminal that looks for its home agent, and one with several home addresses: whole networks in simulated time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, IPv6Interface, IPv6Network

import pytest

from mobility.agent import AgentSettings, HomeAgentNode
from mobility.commands.view import overview
from mobility.discards import Reason
from mobility.homes import Homes, HostAddressesChanged
from mobility.host import Host
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.spd import Action, SecurityPolicyDatabase
from mobility.key_source import KeySource
from mobility.links import LinkSettings
from mobility.mipv6.agent_discovery import HomeAgentsFound, HomeAgentsNotFound
from mobility.mipv6.home_agent import AuthorisedTerminal, HomeAgentSettings
from mobility.mipv6.home_agents_list import anycast
from mobility.mipv6.prefix_discovery import HomeNetworkRenumbered
from mobility.mipv6.tunnel import TunnelForm
from mobility.negotiated import associations
from mobility.net.memory import RouterInterface, SimRouter
from mobility.outputs import Discarded
from mobility.residence import Equipment, Home, HomeAgentChosen, HomeAgentUnusable
from mobility.terminal import Terminal
from mobility.terminal_settings import TerminalSettings
from mobility.wire import icmp6, ip6
from mobility.wire.mobile_icmp import HomeAgentsReply
from tests.mobility.whole import CN, CORE, HA, HA4, HOME, MAC_MN, MN, MN2, Network, mobile_pair

HA2 = IPv6Address("2001:db8:1::b")
NEW = IPv6Network("2001:db8:2::/64")
HA_NEW, MN_NEW = NEW[0xA], NEW[0x100]
PLAIN = IpsecProcessing(SecurityPolicyDatabase([], Action.BYPASS))


def packet(source: IPv6Address, destination: IPv6Address) -> bytes:
    """Of a protocol that the application's policies leave as it is."""
    return ip6.packet(source, destination, 6, bytes(40))


class World(Network):
    """Home agents by address, each with keys of its own for each home address that it serves."""

    def __init__(
        self,
        *homes: Home,
        agents: Iterable[tuple[IPv6Address, int]] = ((HA, 0),),
        serves: Iterable[IPv6Address] = (MN, MN2, MN_NEW),
        keys: Iterable[IPv6Address] | None = None,
        form: TunnelForm = TunnelForm.ESP,
        signalling: bool = True,
        intervals: tuple[float, float] = (5.0, 10.0),
        negotiated: Mapping[IPv6Address, KeySource] | None = None,
    ) -> None:
        """``agents``: with their preferences; ``keys``: of these only, the terminal has; None: of all; ``negotiated``:
        where keys of terminal and home agents come from, by home address, in place of made ones."""
        super().__init__(form, signalling=signalling)
        world = self.world
        world.remove("ha")
        world.remove("mn")
        self.agents: dict[IPv6Address, HomeAgentNode] = {}
        pairs, base = {}, 0x10000
        for number, (address, preference) in enumerate(agents):
            served = []
            for home in serves:
                if home not in IPv6Network((address, 64), strict=False):
                    continue
                source = None if negotiated is None else negotiated.get(home)
                if source is None:
                    pairs[home, address] = mobile_pair(form, base, signalling=signalling)
                    served.append(AuthorisedTerminal(home, form, pairs[home, address].agent))
                else:
                    theirs = associations(form, source.algorithm, world.random_bytes(f"{home} {address}"))
                    served.append(AuthorisedTerminal(home, form, theirs, keys=source))
                base += 0x100
            settings = HomeAgentSettings(
                address, tuple(served), max_lifetime=600, preference=preference, prefix_intervals=intervals
            )
            link = LinkSettings("home0", bytes.fromhex("02000000b100")[:5] + bytes([number + 1]))
            self.agents[address] = HomeAgentNode(AgentSettings(settings, link), world.random_bytes(str(address)))
            world.add(str(address), self.agents[address])
            world.attach(str(address), "home0", self.home, link.link_address)
        known = None if keys is None else set(keys)

        dice = world.random_bytes("associations of the terminal")

        def equip(home: IPv6Address, agent: IPv6Address) -> Equipment | None:
            source = None if negotiated is None else negotiated.get(home)
            if source is not None:
                usable = known is None or agent in known
                return Equipment(PLAIN, associations(form, source.algorithm, dice), source) if usable else None
            pair = pairs.get((home, agent))
            usable = pair is not None and (known is None or agent in known)
            return Equipment(PLAIN, pair.terminal) if usable and pair is not None else None

        of_terminal = TerminalSettings(
            MN, HA, (LinkSettings("wlan0", MAC_MN), LinkSettings("wlan1", MAC_MN[:5] + b"\xf1")),
            tunnel=form, home_agent4=HA4,
        )  # fmt: skip
        self.homes = Homes(of_terminal, homes, equip, world.random_bytes("mn"), sequence=7)
        world.add("mn", self.homes)
        world.run(0.5)  # the home agents hear each other

    def chosen(self) -> list[tuple[IPv6Address, IPv6Address]]:
        return [(e.home_address, e.home_agent) for _, e in self.world.stations["mn"].events_of(HomeAgentChosen)]

    def bound(self) -> set[tuple[IPv6Address, IPv6Address]]:
        found = set()
        for terminal in self.terminals():
            if terminal.mobile_node.registration.bound:
                found.add((terminal.settings.home_address, terminal.settings.home_agent))
        return found

    def terminals(self) -> list[Terminal]:
        return [each.terminal for each in self.homes.residences if each.terminal is not None]

    def exchange(self, home: IPv6Address) -> tuple[int, int]:
        """A packet each way: how many arrived at the correspondent, and at the terminal, of this home address."""
        mn, cn = self.world.stations["mn"], self.world.stations["cn"]
        mn.delivered.clear()
        cn.delivered.clear()
        mn.send(packet(home, CN))
        cn.send(packet(CN, home))
        self.world.run(self.world.now + 0.5)
        up = sum(each[8:40] == home.packed + CN.packed for _, each in cn.delivered)
        down = sum(each[8:40] == CN.packed + home.packed for _, each in mn.delivered)
        return up, down

    def speak(self, seconds: float) -> None:
        """Somebody sends all the time, so that silence means something."""
        mn = self.world.stations["mn"]
        self.world.every(0.1, lambda: mn.send(packet(MN, CN)), until=self.world.now + seconds)

    def fail(self, agent: IPv6Address) -> None:
        """A home agent dies without a word."""
        self.world.remove(str(agent))

    def renumber(self, valid: int = 86400) -> None:
        """The home router says from now on: the old prefix is for what began already; and another one beside it."""
        router = self.world.stations["r-home"].node
        assert isinstance(router, SimRouter)
        self.edge = router.interfaces["edge"]
        self.edge.interval, self.edge.preferred_lifetime, self.edge.valid_lifetime = 2.0, 0, valid
        mac = bytes.fromhex("020000001f01")
        address = IPv6Interface((NEW[1], 64))
        router.interfaces["new"] = RouterInterface("new", mac, address, (NEW,), interval=2.0)
        host = router.hosts["new"] = Host(
            "new", mac, 1500, self.world.random_bytes("r-new"), duplicate_detection=False, router=True
        )
        host.add_address(address.ip, self.world.now, prefix_length=64)
        self.world.attach("r-home", "new", self.home, mac)
        self.world.attach("r-home", "edge", self.home, self.world.detach("r-home", "edge"))
        for name in ("r-a", "r-b", "r-office"):
            other = self.world.stations[name].node
            assert isinstance(other, SimRouter)
            other.routes[NEW] = CORE[1]


def dhaad(network: Network) -> list[bytes]:
    """Packets of address discovery on any segment, as they are on the wire."""
    return [f.packet for f in network.world.frames if f.packet[6] == ip6.ICMPV6 and f.packet[40] in (144, 145)]


def test_a_cold_start_finds_the_home_agent_that_is_preferred() -> None:
    network = World(Home(MN), agents=((HA, 1), (HA2, 9)))
    network.plug(network.a)
    network.run(4.0)
    found = network.world.stations["mn"].events_of(HomeAgentsFound)
    assert [event.agents for _, event in found] == [(HA2, HA)]
    assert network.bound() == {(MN, HA2)}
    assert network.exchange(MN) == (1, 1)
    asked = [each for each in dhaad(network) if each[40] == 144]
    assert all(each[24:40] == anycast(HOME).packed for each in asked)
    assert all(ip6.walk(each).home_address is None for each in asked)


def test_what_programs_send_meanwhile_waits() -> None:
    network = World(Home(MN))
    network.plug(network.a)
    network.world.run(network.world.now + 0.01)
    network.world.stations["mn"].send(packet(MN, CN))
    network.world.run(network.world.now + 3.0)
    assert len(network.world.stations["cn"].delivered) == 1
    assert "no home agent has been found yet" not in str(network.discards("mn"))


def test_another_home_agent_when_the_first_one_dies_and_back_again() -> None:
    network = World(Home(MN), agents=((HA, 1), (HA2, 9)))
    network.plug(network.a)
    network.run(4.0)
    network.fail(HA2)
    network.speak(19.0)
    network.run(20.0)
    assert network.chosen() == [(MN, HA2), (MN, HA)]
    assert network.exchange(MN) == (1, 1)
    back = network.agents[HA2] = HomeAgentNode(network.agents[HA2].settings, network.world.random_bytes("again"))
    network.world.add(str(HA2), back)
    network.world.attach(str(HA2), "home0", network.home, back.settings.link.link_address)
    network.run(2.0)
    network.fail(HA)
    network.speak(39.0)
    network.run(40.0)
    assert network.bound() == {(MN, HA2)}
    assert network.exchange(MN) == (1, 1)


def test_one_that_refuses_is_passed_over() -> None:
    network = World(Home(MN), agents=((HA, 1), (HA2, 9)))
    admitted = network.agents[HA2].settings.home_agent.terminals
    refused = [AuthorisedTerminal(t.home_address, t.form, t.associations, admitted=False) for t in admitted]
    network.agents[HA2].reconfigure(refused, network.world.now)
    network.plug(network.a)
    network.run(8.0)
    assert network.chosen() == [(MN, HA2), (MN, HA)]
    assert network.bound() == {(MN, HA)}


def test_one_without_keys_is_named_and_left_alone() -> None:
    network = World(Home(MN), agents=((HA, 1), (HA2, 9)), keys=[HA])
    network.plug(network.a)
    network.run(4.0)
    unusable = network.world.stations["mn"].events_of(HomeAgentUnusable)
    assert [event.home_agent for _, event in unusable] == [HA2]
    assert network.bound() == {(MN, HA)}


def test_agents_without_keys_are_asked_for_less_and_less_often() -> None:
    network = World(Home(MN), keys=[])
    network.plug(network.a)
    network.run(600.0)
    found = [time for time, _ in network.world.stations["mn"].events_of(HomeAgentsFound)]
    assert 5 <= len(found) <= 12
    assert found[-1] - found[-2] > 60
    with pytest.raises(ValueError, match="no home agent has been found"):
        network.homes.command("reregister", network.world.now)


def test_nobody_answers_and_then_somebody_does() -> None:
    network = World(Home(MN))
    network.fail(HA)
    network.plug(network.a)
    network.run(120.0)
    assert len(network.world.stations["mn"].events_of(HomeAgentsNotFound)) == 1
    again = HomeAgentNode(network.agents[HA].settings, network.world.random_bytes("again"))
    network.world.add(str(HA), again)
    network.world.attach(str(HA), "home0", network.home, again.settings.link.link_address)
    network.move(network.b)  # another network is another chance, at once
    network.run(6.0)
    assert network.bound() == {(MN, HA)}


def test_a_reply_that_was_not_asked_for_changes_nothing() -> None:
    network = World(Home(MN))
    network.plug(network.a)
    network.run(4.0)
    before = network.homes.snapshot(network.world.now)["homes"]
    present = network.terminals()[0].mobile_node.present
    assert present is not None
    forged = icmp6.packet(CN, present.address, HomeAgentsReply(5, (HA2,)))
    outputs = network.homes.from_link("wlan0", forged, bytes(6), network.world.now)
    assert [output.reason for output in outputs if isinstance(output, Discarded)] == [Reason.MESSAGE_UNEXPECTED]
    assert network.homes.snapshot(network.world.now)["homes"] == before


@pytest.mark.parametrize("form", list(TunnelForm))
def test_two_home_addresses_each_have_a_binding(form: TunnelForm) -> None:
    network = World(Home(MN, agent=HA), Home(MN2, agent=HA), form=form)
    told = network.world.stations["mn"].events_of(HostAddressesChanged)
    assert [(event.preferred, event.deprecated) for _, event in told] == [(f"{MN} {MN2}", "")]
    network.plug(network.a)
    network.run(4.0)
    assert network.bound() == {(MN, HA), (MN2, HA)}
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)
    network.move(network.b, gap=0.2)
    network.run(4.0)

    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)


def test_two_home_addresses_come_home() -> None:
    network = World(Home(MN, agent=HA), Home(MN2, agent=HA))
    network.plug(network.a)
    network.run(4.0)
    network.move(network.home)
    network.run(6.0)
    assert len(network.agents[HA].engine.cache) == 0
    assert all(terminal.forwarding.at_home for terminal in network.terminals())
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)
    network.move(network.a)
    network.run(6.0)
    assert network.bound() == {(MN, HA), (MN2, HA)}
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)


def test_two_home_addresses_through_udp() -> None:
    network = World(Home(MN, agent=HA), Home(MN2, agent=HA))
    network.world.attach_udp(str(HA), f"udp/{HA4}", network.internet, HA4, 4191)
    network.join(network.hotspot)
    network.run(4.0)
    assert network.bound() == {(MN, HA), (MN2, HA)}
    for home in (MN, MN2):
        assert network.exchange(home) == (1, 1)


# ---------------------------------------------------------------- the home network gets other addresses


def addresses(network: World) -> list[tuple[str, str]]:
    told = network.world.stations["mn"].events_of(HostAddressesChanged)
    return [(event.preferred, event.deprecated) for _, event in told]


def test_a_renumbered_home_network_is_followed() -> None:
    network = World(Home(MN), agents=((HA, 0), (HA_NEW, 0)))
    network.plug(network.a)
    network.run(4.0)
    network.renumber(valid=7300)
    network.run(20.0)
    (event,) = [event for _, event in network.world.stations["mn"].events_of(HomeNetworkRenumbered)]
    assert (event.home_address, event.instead) == (MN, MN_NEW)
    assert network.bound() == {(MN, HA), (MN_NEW, HA_NEW)}
    assert addresses(network) == [(str(MN), ""), (str(MN_NEW), str(MN))]
    network.edge.advertised = ()
    network.run(600.0)
    network.move(network.b, gap=0.1)
    network.run(5.0)
    for home in (MN, MN_NEW):
        assert network.exchange(home) == (1, 1)
    network.run(7000.0)
    assert addresses(network)[-1] == (str(MN_NEW), "")
    assert network.bound() == {(MN_NEW, HA_NEW)}
    assert network.exchange(MN_NEW) == (1, 1)
    assert network.exchange(MN) == (0, 0)


def test_a_new_address_without_keys_changes_nothing_but_is_told() -> None:
    network = World(Home(MN), agents=((HA, 0), (HA_NEW, 0)), keys=[HA])
    network.plug(network.a)
    network.run(4.0)
    network.renumber()
    network.run(30.0)
    unusable = network.world.stations["mn"].events_of(HomeAgentUnusable)
    assert {(event.home_address, event.home_agent) for _, event in unusable} == {(MN_NEW, HA_NEW)}
    assert addresses(network) == [(str(MN), "")]
    assert network.exchange(MN) == (1, 1)


def test_a_spare_address_is_used_when_its_time_has_come() -> None:
    network = World(Home(MN, agent=HA), Home(NEW[0x777], agent=HA_NEW, spare=True), agents=((HA, 0), (HA_NEW, 0)),
                    serves=(MN, NEW[0x777]))  # fmt: skip
    network.plug(network.a)
    network.run(4.0)
    assert network.bound() == {(MN, HA)}
    network.renumber()
    network.run(20.0)
    assert network.bound() == {(MN, HA), (NEW[0x777], HA_NEW)}
    assert addresses(network)[-1] == (str(NEW[0x777]), str(MN))


def test_a_spare_address_stands_in_for_one_that_nobody_serves() -> None:
    spare = NEW[0x777]
    network = World(Home(MN, agent=HA), Home(spare, agent=HA_NEW, spare=True), agents=((HA, 0), (HA_NEW, 0)),
                    serves=(MN, spare))  # fmt: skip
    network.renumber()
    network.fail(HA)
    network.plug(network.a)
    network.run(20.0)
    assert network.bound() == {(spare, HA_NEW)}
    assert addresses(network)[-1] == (str(spare), str(MN))
    assert network.exchange(spare) == (1, 1)
    again = network.agents[HA] = HomeAgentNode(network.agents[HA].settings, network.world.random_bytes("again"))
    network.world.add(str(HA), again)
    network.world.attach(str(HA), "home0", network.home, again.settings.link.link_address)
    network.edge.preferred_lifetime = 3600
    network.run(60.0)
    assert addresses(network)[-1] == (str(MN), "")
    assert network.bound() == {(MN, HA)}
    shown = "\n".join(overview({"node": network.homes.snapshot(network.world.now)}))
    assert f"homes      {MN}: home agent {HA}, bound" in shown


def test_a_prefix_that_is_preferred_again_is_preferred_again() -> None:
    network = World(Home(MN), agents=((HA, 0), (HA_NEW, 0)))
    network.plug(network.a)
    network.run(4.0)
    network.renumber()
    network.run(20.0)
    network.edge.preferred_lifetime = 3600
    network.run(20.0)
    assert addresses(network)[-1] == (f"{MN} {MN_NEW}", "")
