"""A mobile router with two networks of its own, on two links: what goes between them never leaves it."""

from __future__ import annotations

import random
from ipaddress import IPv6Address

import pytest

from mobility.discards import Reason
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.spd import Action, SecurityPolicyDatabase
from mobility.links import LinkSettings
from mobility.mipv6.tunnel import TunnelForm
from mobility.mobile_router import MobileRouter
from mobility.outputs import Discarded, Output, Transmit
from mobility.terminal import Terminal, TerminalSettings
from mobility.wire import icmp6, ip6, ndisc
from tests.mobility.nemo.rig import network, reasons, sent
from tests.mobility.whole import HA, MN, mobile_pair, udp

LINKS = (LinkSettings("lan1", b"\x02\0\0\0\0\x11"), LinkSettings("lan2", b"\x02\0\0\0\0\x12", 1400))
HERE, THERE = network(1).network_address + 0x11, network(2).network_address + 0x22
MAC_HERE, MAC_THERE = b"\x02\0\0\0\0\x21", b"\x02\0\0\0\0\x22"


class Router:
    """Both links are up, and a node on each is known; there is no network outside."""

    def __init__(self) -> None:
        dice = random.Random(1).randbytes
        nothing = IpsecProcessing(SecurityPolicyDatabase([], Action.BYPASS))
        settings = TerminalSettings(
            MN, HA, (LinkSettings("wlan0", b"\x02\0\0\0\0\x10"),), mobile_networks=(network(1), network(2))
        )
        terminal = Terminal(settings, nothing, mobile_pair(TunnelForm.ESP).terminal, dice)
        ingress = [(link, (network(number),)) for number, link in enumerate(LINKS, 1)]
        self.node = MobileRouter(terminal, ingress, dice, b"secret")
        self.node.start(0.0)
        for link in LINKS:
            self.node.link_changed(link.name, True, 0.0)
        while self.node.timer is not None and self.node.timer < 3.0:
            self.node.handle_timer(self.node.timer)
        for name, node, mac in (("lan1", HERE, MAC_HERE), ("lan2", THERE, MAC_THERE)):
            known = ndisc.NeighborSolicitation(
                IPv6Address((int(node) >> 64 << 64) + 1), options=(ndisc.SourceLinkAddress(mac),)
            )
            self.node.from_link(name, ndisc.packet(node.packed, known.target.packed, known), mac, 4.0)

    def arrives(self, packet: bytes, link: str = "lan1", now: float = 5.0) -> list[Output]:
        return self.node.from_link(link, packet, MAC_HERE if link == "lan1" else MAC_THERE, now)


def test_from_one_network_to_the_other() -> None:
    router = Router()
    packet = udp(HERE, THERE, b"x")
    assert router.arrives(packet) == [Transmit(packet[:7] + b"\x3f" + packet[8:], MAC_THERE, "lan2")]


def test_what_does_not_fit_into_the_other_network_is_told() -> None:
    router = Router()
    outputs = router.arrives(udp(HERE, THERE, bytes(1400)))
    assert reasons(outputs) == [Reason.TOO_BIG]
    (told,) = sent(outputs)
    assert icmp6.PacketTooBig.parse(told[40:]).mtu == 1400


@pytest.mark.parametrize("number", [1, 2])
def test_the_router_answers_at_all_its_addresses(number: int) -> None:
    router = Router()
    own = network(number).network_address + 1
    (answer,) = sent(router.arrives(icmp6.packet(HERE, own, icmp6.Echo(7, 1, b"x"))))
    assert (answer[8:40], answer[40]) == (own.packed + HERE.packed, icmp6.ECHO_REPLY)


def test_what_does_not_leave_a_network() -> None:
    router = Router()
    for packet, reason in (
        (udp(THERE, HA, b"x"), Reason.SOURCE_NOT_OF_NETWORK),
        (ip6.packet(HERE, THERE, ip6.UDP, bytes(8), 1), Reason.HOP_LIMIT),
        (udp(HERE, HA, b"x")[:-1], Reason.MALFORMED),
        (udp(HERE, network(2).network_address + 1, b"x"), Reason.NOT_OURS),
    ):
        outputs = router.arrives(packet)
        assert [each.reason for each in outputs if isinstance(each, Discarded)] == [reason]
    # There is no way out: it waits for one.
    assert router.arrives(udp(HERE, HA, b"x")) == []
    assert len(router.node.terminal.waiting) == 1
