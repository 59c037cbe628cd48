"""A home agent with mobile routers and terminals, of which only their side of the associations exists."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, IPv6Network

from mobility.agent import AgentSettings, HomeAgentNode
from mobility.links import LinkSettings
from mobility.mipv6.home_settings import AuthorisedTerminal, HomeAgentSettings
from mobility.mipv6.signalling import from_terminal, open_message
from mobility.mipv6.tunnel import TunnelForm, decapsulate, encapsulate, terminal_policies
from mobility.outputs import Discarded, Output, Transmit
from mobility.wire import ip6, mh, ndisc
from tests.mobility.whole import HA, Pair, mobile_pair

MAC, ROUTER_MAC = bytes.fromhex("02000000110a"), bytes.fromhex("020000000001")
ROUTER = IPv6Address("fe80::1")
AH = mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.HOME_REGISTRATION
AHR = AH | mh.UpdateFlag.MOBILE_ROUTER
VISITED = IPv6Network("2001:db8:a::/64")


def network(number: int) -> IPv6Network:
    """The mobile network of router number 1, 2, ..."""
    return IPv6Network(f"2001:db8:9:{number}::/64")


@dataclass
class Member:
    """A mobile router, or a terminal, with its side of the associations."""

    home: IPv6Address
    form: TunnelForm
    networks: tuple[IPv6Network, ...]
    pair: Pair
    care_of: IPv6Address = field(default=IPv6Address("::"))
    sequence: int = 0
    inside: tuple[Member, ...] = ()
    "Whose mobile networks it is in, the nearest first."

    def __post_init__(self) -> None:
        self.security = terminal_policies(self.home, HA, self.form, self.pair.terminal, self.networks)

    def up(self, packet: bytes) -> bytes:
        """A packet as it leaves the outermost mobile network."""
        packet = encapsulate(packet, self.care_of.packed + HA.packed, self.form, self.security)
        return carried(packet, self.inside)

    def down(self, packet: bytes) -> bytes:
        """What is in a packet of the home agent, behind the headers of all networks around, and of this one."""
        for member in reversed(self.inside):
            assert packet[8:40] == HA.packed + member.care_of.packed
            packet = decapsulate(packet, member.form, member.security)
        assert packet[8:40] == HA.packed + self.care_of.packed
        return decapsulate(packet, self.form, self.security)


def carried(packet: bytes, through: Iterable[Member]) -> bytes:
    for member in through:
        packet = encapsulate(packet, member.care_of.packed + HA.packed, member.form, member.security)
    return packet


class Rig:
    """Members 1, 2, 3... with the networks 1, 2, 3...; the last one of ``forms`` is a terminal without any."""

    def __init__(self, *forms: TunnelForm, **changes: object) -> None:
        self.members = [
            Member(
                IPv6Address(f"2001:db8:1::{number}00"),
                form,
                (network(number),) if number < len(forms) else (),
                mobile_pair(form, 0x1000 * number),
            )
            for number, form in enumerate(forms, 1)
        ]
        self.changes = changes
        self.agent = self._agent()
        self._up(0.0)

    def authorised(self) -> tuple[AuthorisedTerminal, ...]:
        return tuple(
            replace(AuthorisedTerminal(m.home, m.form, m.pair.agent, mobile_networks=m.networks), **self.changes)  # type: ignore[arg-type]
            for m in self.members
        )

    def _agent(self) -> HomeAgentNode:
        settings = AgentSettings(HomeAgentSettings(HA, self.authorised(), max_lifetime=600), LinkSettings("home0", MAC))
        return HomeAgentNode(settings, random.Random(1).randbytes)

    def _up(self, now: float) -> None:
        self.agent.start(now)
        self.agent.link_changed("home0", True, now)
        option = ndisc.SourceLinkAddress(ROUTER_MAC)
        advertisement = ndisc.RouterAdvertisement(hop_limit=64, router_lifetime=1800, options=(option,))
        self.arrives(ndisc.packet(ROUTER.packed, ndisc.ALL_NODES.packed, advertisement), now)
        while self.agent.timer is not None and self.agent.timer <= now + 3.0:
            self.agent.handle_timer(self.agent.timer)

    def restart(self, now: float) -> list[Output]:
        """Another process goes on with the bindings of this one."""
        records = self.agent.bindings(0.0)
        self.agent = self._agent()
        self._up(now)
        return self.agent.restore(records, 0.0, now)

    def arrives(self, packet: bytes, now: float = 5.0) -> list[Output]:
        return self.agent.from_link("home0", packet, ROUTER_MAC, now)

    def update(
        self,
        member: Member,
        care_of: IPv6Address,
        *,
        flags: mh.UpdateFlag | None = None,
        prefixes: Sequence[mh.MobileNetworkPrefix] = (),
        lifetime: int = 400,
        options: tuple[mh.Option, ...] = (),
    ) -> bytes:
        """A binding update as it leaves its sender."""
        member.sequence += 1
        wanted = (AHR if member.networks else AH) if flags is None else flags
        message = mh.BindingUpdate(
            member.sequence, wanted, lifetime, (mh.AlternateCareOfAddress(care_of), *options, *prefixes)
        )
        return from_terminal(message, member.home, care_of, HA, member.security)

    def asks(
        self, member: Member, care_of: IPv6Address, inside: tuple[Member, ...] = (), now: float = 5.0, **how: object
    ) -> tuple[mh.BindingAcknowledgement, list[Output]]:
        """Registers ``member`` from inside the networks of others, the nearest first; reads the answer."""
        update = self.update(member, care_of, **how)  # type: ignore[arg-type]
        outputs = self.arrives(carried(update, inside), now)
        ends = HA.packed + (inside[-1].care_of if inside else care_of).packed
        packet = next(each for each in sent(outputs) if each[8:40] == ends)
        for each in reversed(inside):
            packet = decapsulate(packet, each.form, each.security)
        assert packet[24:40] == care_of.packed
        message = open_message(packet, member.security).message
        assert isinstance(message, mh.BindingAcknowledgement)
        if message.accepted:
            member.care_of, member.inside = care_of, inside
        return message, outputs

    def nest(self, depth: int) -> Member:
        """Members 1, 2, ... each in the network of the one before, ``depth`` networks; in the last one the terminal."""
        around: tuple[Member, ...] = ()
        place = VISITED
        for member in [*self.members[:depth], self.members[-1]]:
            answer, _ = self.asks(member, place.network_address + 0x77, around)
            assert answer.status == mh.Status.ACCEPTED
            around = (member, *around)
            place = (*member.networks, VISITED)[0]
        return self.members[-1]


def sent(outputs: list[Output]) -> list[bytes]:
    """Packets of IPv6 that left, without neighbour discovery."""
    return [each.packet for each in outputs if isinstance(each, Transmit) and not is_discovery(each.packet)]


def is_discovery(packet: bytes) -> bool:
    return packet[6] == ip6.ICMPV6 and packet[7] == 255 and 133 <= packet[40] <= 137


def reasons(outputs: list[Output]) -> list[str]:
    return [each.reason.value for each in outputs if isinstance(each, Discarded)]


def hopped(packet: bytes) -> bytes:
    """A packet as the home agent forwards it."""
    return packet[:7] + bytes((packet[7] - 1,)) + packet[8:]
