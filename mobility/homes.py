"""A terminal with several home addresses, or one that looks for its home agent: several `Terminal`s, one set of links.

RFC 6275 binds each home address by itself, so each has a `Terminal` of its own, with its own bindings, keys, tunnel and
routes; only the hosts on the links, which have the care-of addresses, are there once. A terminal is made when its home
agent is known, and made anew for another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from math import inf

from mobility.discards import Discard, Reason
from mobility.host.events import AddressDeprecated, AddressLost, AddressReady, PathMtuChanged, RouterFound, RouterLost
from mobility.host.host import Host
from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.ike.events import IkeFailed
from mobility.ipsec.processing import IpsecProcessing
from mobility.key_source import no_clock
from mobility.link_news import LinkNews
from mobility.links import is_udp
from mobility.mipv6.agent_discovery import AskForHomeAgents, HomeAgentsFound, HomeAgentsNotFound
from mobility.mipv6.prefix_discovery import HomeNetworkRenumbered, HomeNetworkRestored
from mobility.mipv6.registration import BindingRefused, Bound, HomeAgentUnreachable, ReturnedHome
from mobility.negotiated import negotiated_snapshot
from mobility.outputs import Arrived, Deliver, Discarded, Event, Output, Transmit
from mobility.owners import Owners
from mobility.residence import Equipment, Home, Residence
from mobility.terminal import HostMtuChanged, Terminal
from mobility.terminal_settings import TerminalSettings
from mobility.wire import icmp6, ip6
from mobility.wire.errors import WireError
from mobility.wire.mobile_icmp import AGENTS_REPLY, HomeAgentsReply

Equip = Callable[[IPv6Address, IPv6Address], Equipment | None]
"Both layers of IPsec for a home address and a home agent; None: there are no keys for these."


@dataclass(frozen=True, slots=True)
class HostAddressesChanged(Event):
    """The host OS should have these home addresses, separated by blanks: for all uses, and for what began already."""

    preferred: str
    deprecated: str


class Homes:
    """A `Node`."""

    def __init__(
        self,
        settings: TerminalSettings,
        homes: Sequence[Home],
        equip: Equip,
        random: Callable[[int], bytes],
        *,
        sequence: int = 0,
        secret: bytes | None = None,
        utc: Callable[[], datetime] = no_clock,
    ) -> None:
        """``settings``: of all terminals; home address and home agent are those of ``homes``.

        Raises `ValueError`: no home address, or one twice; with MAPs.
        """
        addresses = [home.address for home in homes]
        if len(set(addresses)) != len(addresses) or all(home.spare for home in homes):
            raise ValueError("a terminal has one home address at least that is not spare, and each only once")
        if settings.regional is not None:
            raise ValueError("MAPs are for a terminal with one home address and a home agent that is named")
        self.settings = settings
        self.hosts = {
            link.name: Host(link.name, link.link_address, link.mtu, random, secret=secret) for link in settings.links
        }
        self.counters: Counter[str] = Counter()
        self.host_mtu = ip6.MINIMUM_MTU
        "Octets of the largest packet that the host OS may send: what fits for the home address that has least room."
        self._interfaces = settings.interfaces or tuple(self.hosts)
        self._equip = equip
        self._random = random
        self._utc = utc
        self._sequence = sequence
        self._addresses = set(addresses)
        "Home addresses are never care-of addresses."
        self._spares = [home for home in homes if home.spare]
        self._link_news = LinkNews()
        self._udp: dict[str, tuple[IPv4Address | IPv6Address, int]] = {}
        self._owners = Owners()
        self._told: tuple[str, str] = ("", "")
        self.residences = [Residence(home, self._terminal, random) for home in homes if not home.spare]

    # ------------------------------------------------------------ Node

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        parts: list[Host | Terminal | Residence] = [*self.hosts.values(), *self.residences, *self._terminals()]
        return min((time for part in parts if (time := part.timer) is not None), default=None)

    def start(self, now: float) -> list[Output]:
        """Home agents that are known are asked as soon as a link is up; others are looked for then."""
        outputs: list[Output] = []
        for residence in self.residences:
            outputs += self._moved_in(residence, now)
        return self._finish(outputs)

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        """The carrier of a link came or went."""
        host = self.hosts.get(link)
        if host is None:
            return self._finish([Discarded(Reason.NO_SUCH_LINK, "terminal", link)])
        return self._finish(self._of_link(host.link_changed(up, now), now))

    def udp_changed(self, link: str, address: IPv4Address | IPv6Address | None, mtu: int, now: float) -> list[Output]:
        """A link of UDP has another address of ours from now on; None: it is gone."""
        self._udp.pop(link, None)
        if address is not None:
            self._udp[link] = address, mtu
        return self._finish(self._all(lambda terminal: terminal.udp_changed(link, address, mtu, now), now))

    def interfaces_changed(self, order: tuple[str, ...], now: float) -> list[Output]:
        """The order of preference of the interfaces is another one."""
        self._interfaces = order
        outputs = self._all(lambda terminal: terminal.interfaces_changed(order, now), now)
        return self._finish(outputs + self._seek(now))

    def resumed(self, now: float) -> list[Output]:
        """The machine was asleep: whether the links lead where they led is found out anew."""
        outputs: list[Output] = []
        for host in self.hosts.values():
            if host.up:
                outputs += self._of_link(host.link_changed(False, now), now)
                outputs += self._of_link(host.link_changed(True, now), now)
        return self._finish(outputs + self._all(lambda terminal: terminal.resumed(now), now))

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """A program sends a packet: by the terminal of its source address."""
        terminal = self._owners.at_home(packet[8:24]) if packet[:1] and packet[0] >> 4 == 6 else None
        if terminal is None:
            for residence in self.residences:
                if residence.terminal is None and residence.home.address.packed == packet[8:24]:
                    return self._finish(list(residence.waiting.add(packet, now)))
            terminal = self._first()
        if terminal is None:
            return self._finish([Discarded(Reason.NO_BINDING, "terminal", "no home agent has been found yet")])
        return self._finish(self._of(terminal, terminal.from_host(packet, now), now))

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """A packet arrived on a link: that of a terminal, or one that all of them may have to know of."""
        if is_udp(link):
            negotiating = self._owners.negotiating_in(packet)
            if negotiating is not None:
                heard = self._heard_by(negotiating, lambda one: one.from_link(link, packet, sender, now), now)
                return self._finish(heard)
            terminal = self._owners.of_datagram(packet) or self._first()
        else:
            terminal = self._owners.of_packet(packet)
        if terminal is not None:
            return self._finish(self._of(terminal, terminal.from_link(link, packet, sender, now), now))
        host = self.hosts.get(link)
        if host is None:
            return self._finish([Discarded(Reason.NO_SUCH_LINK, "terminal", link)])
        return self._finish(self._of_link(host.receive(packet, sender, now), now))

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come."""
        outputs: list[Output] = []
        for host in self.hosts.values():
            if host.timer is not None and host.timer <= now:
                outputs += self._of_link(host.handle_timer(now), now)
        outputs += self._all(lambda terminal: terminal.handle_timer(now), now, due_at=now)
        for residence in list(self.residences):
            outputs += residence.waiting.expire(now)
            if residence.discovery is not None:
                outputs += self._of_residence(residence, residence.discovery.handle_timer(now), now)
            if residence.ends is not None and residence.ends <= now:
                outputs += self._move_out(residence, now)
        return self._finish(outputs)

    def command(self, name: str, now: float) -> list[Output]:
        """As `Terminal.command`, for all home addresses. Raises `ValueError`."""
        terminals = self._terminals()
        if not terminals:
            raise ValueError("no home agent has been found yet; wait until there is one")
        if name == "rekey":  # of those that have something to be renewed, if there are any
            terminals = [each for each in terminals if each.parts.agreed] or terminals
        return self._finish(self._heard_by(terminals, lambda terminal: terminal.command(name, now), now))

    def ipsec_parts(self) -> list[tuple[str, IpsecProcessing]]:
        """As `mobility.packet_stream.HasIpsec` wants it, of all home addresses."""
        return [part for terminal in self._terminals() for part in terminal.ipsec_parts()]

    def negotiations(self) -> list[Ike]:
        """As `mobility.negotiated_tables.Negotiates`."""
        return [ike for terminal in self._terminals() for ike in terminal.negotiations()]

    def snapshot(self, now: float) -> dict[str, object]:
        """As `Terminal.snapshot` of the first home address; all of them under ``homes`` and ``further``."""
        terminals = self._terminals()
        nobody: dict[str, object] = {
            "role": "terminal",
            "mobile_node": {
                "home_address": str(self.residences[0].home.address),
                "registration": {"home_agent": "not found yet"},
            },
        }
        first = terminals[0].snapshot(now) if terminals else nobody
        return {
            **first,
            **negotiated_snapshot([each for terminal in terminals for each in terminal.parts.negotiators], now),
            "links": {name: host.snapshot(now) for name, host in self.hosts.items()},
            "host_mtu": self.host_mtu,
            "homes": [residence.snapshot(now) for residence in self.residences],
            "further": [terminal.snapshot(now) for terminal in terminals[1:]],
            "of_all_homes": dict(self.counters),
        }

    # ------------------------------------------------------------ what comes on the links

    def _arrived(self, arrived: Arrived, now: float) -> list[Output]:
        """A packet for a care-of address: all terminals have the same one, and one of them may have asked for it."""
        packet = arrived.packet
        if packet[6] == ip6.ICMPV6 and packet[40] == AGENTS_REPLY:
            return self._reply(packet, now)
        outputs: list[Output] = []
        negotiating = self._owners.negotiating(packet)
        if negotiating is not None:
            return self._heard_by(negotiating, lambda one: one.arrived(packet, arrived.link, now), now)
        owner = self._owners.of_packet(packet)
        for terminal in self._terminals() if owner is None else [owner]:
            outputs = self._of(terminal, terminal.arrived(packet, arrived.link, now), now)
            if not outputs or not all(isinstance(output, Discarded) for output in outputs):
                break
        return outputs

    def _reply(self, packet: bytes, now: float) -> list[Output]:
        try:
            reply = HomeAgentsReply.parse(packet[ip6.HEADER_SIZE :])
            for residence in self.residences:
                if residence.discovery is not None and residence.discovery.expects(reply):
                    found = residence.discovery.receive(reply, IPv6Address(packet[24:40]), now)
                    return self._of_residence(residence, found, now)
        except WireError as error:
            return [Discarded(Reason.MALFORMED, "agent-discovery", str(error))]
        except Discard as discard:
            return [Discarded.of(discard, "agent-discovery")]
        return [Discarded(Reason.MESSAGE_UNEXPECTED, "agent-discovery", "a home agents reply that was not asked for")]

    # ------------------------------------------------------------ what the parts say

    def _of_link(self, outputs: Iterable[Output], now: float) -> list[Output]:
        """A host, which belongs to all terminals, said this."""
        result: list[Output] = []
        events: list[Event] = []
        for output in outputs:
            if isinstance(output, Arrived):
                result += self._arrived(output, now)
                continue
            result.append(output)
            if isinstance(output, _OF_LINKS):
                events.append(output)
        return result + self._tell(events, None, now)

    def _of(self, terminal: Terminal, outputs: list[Output], now: float) -> list[Output]:
        """A terminal said this; what it heard of the links the others have to know as well."""
        if all(isinstance(output, Transmit | Deliver) for output in outputs):
            return outputs
        result = [output for output in outputs if not isinstance(output, HostMtuChanged)]
        result += self._tell([output for output in outputs if isinstance(output, _OF_LINKS)], terminal, now)
        residence = next((each for each in self.residences if each.terminal is terminal), None)
        for output in outputs if residence is not None else ():
            match output:
                case HomeAgentUnreachable() if residence is not None:
                    result += self._of_residence(residence, residence.give_up(now), now)
                    result += self._stand_in(residence, now)
                case BindingRefused() | IkeFailed() if residence and not terminal.mobile_node.registration.bound:
                    result += self._of_residence(residence, residence.give_up(now), now)
                case Bound() | ReturnedHome() if residence is not None:
                    residence.bound()
                    result += self._relieve(residence, now)
                case HomeNetworkRenumbered() if residence is not None:
                    result += self._renumbered(residence, output, now)
                case HomeNetworkRestored() if residence is not None:
                    residence.deprecated, residence.ends = False, None
        return result

    def _all(self, call: Callable[[Terminal], list[Output]], now: float, *, due_at: float = inf) -> list[Output]:
        """``due_at``: only those whose timer is due by then."""
        due = [each for each in self._terminals() if due_at == inf or (each.timer is not None and each.timer <= due_at)]
        return self._heard_by(due, call, now)

    def _heard_by(
        self, terminals: Iterable[Terminal], call: Callable[[Terminal], list[Output]], now: float
    ) -> list[Output]:
        """These terminals hear or do something."""
        return [output for terminal in terminals for output in self._of(terminal, call(terminal), now)]

    def _tell(self, events: Iterable[Event], speaker: Terminal | None, now: float) -> list[Output]:
        """What happened on the links, to all terminals but the one that heard it first."""
        known = [event for event in events if self._link_news.note(event, self._addresses)]
        if not known:
            return []
        outputs: list[Output] = []
        for terminal in self._terminals():
            if terminal is not speaker:
                outputs += self._of(terminal, terminal.heard(known, now), now)
        return outputs + self._seek(now)

    # ------------------------------------------------------------ home agents and home addresses

    def _seek(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        place = self._link_news.place(self._interfaces)
        for residence in self.residences:
            found = residence.seek(None if place is None else place[1], now)
            outputs += self._of_residence(residence, found, now)
        return outputs

    def _of_residence(self, residence: Residence, outputs: list[Output], now: float) -> list[Output]:
        result: list[Output] = []
        for output in outputs:
            match output:
                case AskForHomeAgents():
                    place = self._link_news.place(self._interfaces)
                    if place is not None:
                        request = icmp6.packet(output.care_of_address, output.to, output.message)
                        result += self._of_link(self.hosts[place[0]].send(request, now), now)
                case HomeAgentsNotFound():
                    result.append(output)
                    result += self._stand_in(residence, now)
                case HomeAgentsFound():
                    result.append(output)
                    result += self._of_residence(residence, residence.settle(output.agents, now), now)
                case _:
                    result.append(output)
        if residence.terminal is not residence.introduced:
            before, residence.introduced = residence.introduced, residence.terminal
            result += self._replaced(residence, before, now)
        return result

    def _moved_in(self, residence: Residence, now: float) -> list[Output]:
        """A home address is used from now on."""
        agent = residence.home.agent
        if agent is not None:
            return self._of_residence(residence, residence.settle((agent,), now), now)
        place = self._link_news.place(self._interfaces)
        return self._of_residence(residence, residence.seek(None if place is None else place[1], now), now)

    def _replaced(self, residence: Residence, before: Terminal | None, now: float) -> list[Output]:
        """A terminal for another home agent: it hears what the links have said so far."""
        outputs: list[Output] = []
        waiting = residence.waiting.take()
        if before is not None:
            waiting += before.waiting.take()
            outputs += self._of_link(before.retire(now), now)
        self._index()
        terminal = residence.terminal
        if terminal is None:
            return outputs
        outputs += self._of(terminal, terminal.heard(self._link_news.events(), now), now)
        for link, (address, mtu) in self._udp.items():
            outputs += self._of(terminal, terminal.udp_changed(link, address, mtu, now), now)
        for packet in waiting:
            outputs += self._of(terminal, terminal.from_host(packet, now), now)
        return outputs

    def _renumbered(self, residence: Residence, event: HomeNetworkRenumbered, now: float) -> list[Output]:
        """The home network has other addresses: one of those is used beside the old one, until that ends."""
        residence.deprecated = True
        residence.ends = None if event.valid_seconds == inf else now + event.valid_seconds
        instead = event.instead
        if instead is None:
            return []
        home = replace(residence.home, address=instead, spare=False)
        spares = [each for each in self._spares if each.address in home.network]
        if not spares and any(each.home.address in home.network for each in self.residences):
            return []
        for each in self.residences:
            each.stands_in = each.stands_in and each.home.address not in home.network
        return [output for each in spares or [home] for output in self._add(each, now, stands_in=False)]

    def _stand_in(self, residence: Residence, now: float) -> list[Output]:
        """Nobody serves a home address. Perhaps the home network was renumbered while the terminal was away."""
        terminal = residence.terminal
        if residence.stands_in or (terminal is not None and terminal.forwarding.at_home):
            return []
        return [output for each in self._spares for output in self._add(each, now, stands_in=True)]

    def _relieve(self, residence: Residence, now: float) -> list[Output]:
        """A home address is served, so none that is spare has to stand in for it."""
        if residence.stands_in or residence.deprecated:
            return []
        outputs: list[Output] = []
        for each in [each for each in self.residences if each.stands_in]:
            self._spares.append(each.home)
            outputs += self._remove(each, now)
        return outputs

    def _add(self, home: Home, now: float, *, stands_in: bool) -> list[Output]:
        self._spares = [spare for spare in self._spares if spare is not home]
        self._addresses.add(home.address)
        new = Residence(home, self._terminal, self._random)
        new.ready, new.stands_in = False, stands_in
        self.residences.append(new)
        return self._moved_in(new, now)

    def _move_out(self, residence: Residence, now: float) -> list[Output]:
        """The valid lifetime of a home address is over."""
        residence.ends = None
        if not any(each.ready for each in self.residences if each is not residence):
            return []  # there is no other; the home agent may know better
        return self._remove(residence, now)

    def _remove(self, residence: Residence, now: float) -> list[Output]:
        self.residences.remove(residence)
        outputs: list[Output] = [*residence.waiting.expire(inf)]
        if residence.terminal is not None:
            outputs += self._of_link(residence.terminal.retire(now), now)
        self._index()
        return outputs

    def _terminal(self, home: Home, agent: IPv6Address, before: Terminal | None) -> Terminal | None:
        equipment = self._equip(home.address, agent)
        if equipment is None:
            return None
        settings = replace(
            self.settings,
            home_address=home.address,
            home_agent=agent,
            home_prefix_length=home.prefix_length,
            interfaces=self._interfaces,
            keys=equipment.keys,
            key_management=equipment.keys is not None,
            # One IPv4 address is enough, and it is the first home address's.
            home_address4=self.settings.home_address4 if home.address == self.settings.home_address else None,
        )
        # Where two home agents share what they know of bindings, the numbers have to go on (section 11.7.1).
        sequence = self._sequence if before is None else before.mobile_node.registration.sequence
        return Terminal(
            settings,
            equipment.application,
            equipment.associations,
            self._random,
            sequence=sequence,
            hosts=self.hosts,
            home_addresses=self._addresses,
            utc=self._utc,
        )

    def _terminals(self) -> list[Terminal]:
        return [each.terminal for each in self.residences if each.terminal is not None]

    def _first(self) -> Terminal | None:
        return next(iter(self._terminals()), None)

    def _index(self) -> None:
        self._owners.update(self._terminals())

    def _finish(self, outputs: list[Output]) -> list[Output]:
        for output in outputs:
            if isinstance(output, Discarded):
                self.counters[f"discarded-{output.reason}"] += 1
        mtu = min((terminal.host_mtu for terminal in self._terminals()), default=ip6.MINIMUM_MTU)
        if mtu != self.host_mtu:
            self.host_mtu = mtu
            outputs = [*outputs, HostMtuChanged(mtu)]
        addresses = self._host_addresses()
        if addresses != self._told:
            self._told = addresses
            outputs = [*outputs, HostAddressesChanged(*addresses)]
        return outputs

    def _host_addresses(self) -> tuple[str, str]:
        """An old address is deprecated as soon as there is another that works."""
        ready = [each for each in self.residences if each.ready]
        preferred = (
            [each for each in ready if each.stands_in] or [each for each in ready if not each.deprecated] or ready
        )
        deprecated = [each for each in ready if each not in preferred]
        return _text(preferred), _text(deprecated)


def _text(residences: Iterable[Residence]) -> str:
    return " ".join(str(each.home.address) for each in residences)


_OF_LINKS = (AddressReady, AddressDeprecated, AddressLost, RouterFound, RouterLost, PathMtuChanged)
