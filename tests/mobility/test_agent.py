"""The home agent as a node: datagrams to its own address, standby and taking over, what strangers send."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobility.agent import ANNOUNCEMENTS, AgentSettings, HomeAgentNode, ServiceChanged
from mobility.discards import Reason
from mobility.host.fragments import fragment
from mobility.links import LinkSettings, endpoint
from mobility.mipv6.binding_events import BindingCreated, BindingRemoved
from mobility.mipv6.home_settings import AuthorisedTerminal, HomeAgentSettings
from mobility.mipv6.signalling import from_terminal, open_message
from mobility.mipv6.tunnel import TunnelForm, from_datagram, seal, terminal_policies
from mobility.outputs import Deliver, Discarded, Output, Transmit
from mobility.wire import icmp6, ip4, ip6, mh, ndisc, udp
from tests.mobility.whole import CN, HA, MN, mobile_pair
from tests.mobility.whole import udp as udp_packet

MAC, ROUTER_MAC = bytes.fromhex("02000000110a"), bytes.fromhex("020000000001")
ROUTER = IPv6Address("fe80::1")
COA = IPv6Address("2001:db8:a::1")
KERNEL = "udp/192.0.2.1"
NAT = endpoint(IPv4Address("198.51.100.7"), 40001)
AH = mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.HOME_REGISTRATION
FORM = TunnelForm.ESP


class Node:
    """A home agent on a home link with a router, and a terminal's side of its associations."""

    def __init__(self, *, standby: bool = False, up: bool = True, **changes: object) -> None:
        self.pair = mobile_pair(FORM)
        engine = HomeAgentSettings(HA, (AuthorisedTerminal(MN, FORM, self.pair.agent),), max_lifetime=600)
        engine = replace(engine, **changes)  # type: ignore[arg-type]
        self.settings = AgentSettings(engine, LinkSettings("home0", MAC), standby)
        self.node = HomeAgentNode(self.settings, random.Random(1).randbytes)
        self.security = terminal_policies(MN, HA, FORM, self.pair.terminal)
        self.first = self.node.start(0.0)
        if up:
            self.first += self.plug(0.0)

    def plug(self, now: float) -> list[Output]:
        outputs = self.node.link_changed("home0", True, now)
        option = ndisc.SourceLinkAddress(ROUTER_MAC)
        advertisement = ndisc.RouterAdvertisement(hop_limit=64, router_lifetime=1800, options=(option,))
        packet = ndisc.packet(ROUTER.packed, ndisc.ALL_NODES.packed, advertisement)
        return outputs + self.node.from_link("home0", packet, ROUTER_MAC, now)

    def arrives(self, packet: bytes, now: float = 5.0) -> list[Output]:
        return self.node.from_link("home0", packet, ROUTER_MAC, now)

    def update(self, sequence: int, lifetime: int = 400) -> bytes:
        message = mh.BindingUpdate(sequence, AH, lifetime, (mh.AlternateCareOfAddress(COA),))
        return from_terminal(message, MN, MN, HA, self.security)

    def datagram(self, payload: bytes, ports: tuple[int, int] = (5000, 4191)) -> bytes:
        return udp.packet(COA.packed + HA.packed, ports, payload)

    def bind(self, sequence: int = 1, now: float = 5.0) -> None:
        assert any(isinstance(each, BindingCreated) for each in self.arrives(self.datagram(self.update(sequence)), now))


def sent(outputs: list[Output]) -> list[bytes]:
    return [each.packet for each in outputs if isinstance(each, Transmit)]


def reasons(outputs: list[Output]) -> list[Reason]:
    return [each.reason for each in outputs if isinstance(each, Discarded)]


def announced(outputs: list[Output]) -> list[IPv6Address]:
    """Addresses that the link is told to send here from now on."""
    found = []
    for packet in sent(outputs):
        if packet[6] == ip6.ICMPV6 and packet[40] == 136:
            message = ndisc.parse(packet)
            assert isinstance(message, ndisc.NeighborAdvertisement)
            if message.override and packet[24:40] == ndisc.ALL_NODES.packed:
                found.append(message.target)
    return found


# ---------------------------------------------------------------- datagrams to the home agent's own address


def test_registration_and_data_by_udp_of_the_own_address() -> None:
    home = Node()
    outputs = home.arrives(home.datagram(home.update(1)))
    (answer,) = [packet for packet in sent(outputs) if packet[6] == ip6.UDP]
    read = udp.parse(answer)
    assert (answer[8:40], read.source_port, read.destination_port) == (HA.packed + COA.packed, 4191, 5000)
    assert isinstance(open_message(read.payload, home.security).message, mh.BindingAcknowledgement)
    up = udp_packet(MN, CN, b"up")
    body = seal(up, MN.packed + HA.packed, FORM, home.security)[1]
    assert sent(home.arrives(home.datagram(body))) == [up[:7] + b"\x3f" + up[8:]]
    (outer,) = sent(home.arrives(udp_packet(CN, MN, b"down")))
    inner = from_datagram(udp.parse(outer).payload, HA.packed + MN.packed, FORM, home.security)
    assert inner[40:] == udp_packet(CN, MN, b"down")[40:]


def test_fragments_are_put_together_and_made() -> None:
    home = Node()
    home.bind()
    up = udp_packet(MN, CN, bytes(1300))
    whole = home.datagram(seal(up, MN.packed + HA.packed, FORM, home.security)[1])
    outputs: list[Output] = []
    for piece in fragment(whole, 1280, 7):
        outputs += home.arrives(piece)
    assert sent(outputs) == [up[:7] + b"\x3f" + up[8:]]
    too_big = icmp6.PacketTooBig(1280, ip6.packet(HA, COA, ip6.UDP, bytes(1300)))
    home.arrives(icmp6.packet(ROUTER, HA, too_big))
    pieces = sent(home.arrives(udp_packet(CN, MN, bytes(1232))))
    assert [len(piece) <= 1280 and piece[6] == ip6.FRAGMENT for piece in pieces] == [True, True]


def test_port_can_be_another_or_none() -> None:
    home = Node(udp_port=5555)
    assert reasons(home.arrives(home.datagram(home.update(1)))) == [Reason.NOT_TUNNELLED]
    outputs = home.arrives(home.datagram(home.update(2), (5000, 5555)))
    assert any(isinstance(each, BindingCreated) for each in outputs)
    home = Node(udp_port=0)
    assert reasons(home.arrives(home.datagram(home.update(1)))) == [Reason.NOT_TUNNELLED]


def test_what_is_no_datagram_for_us() -> None:
    home = Node()
    packet = home.datagram(home.update(1))
    wrong = packet[:46] + bytes((packet[46] ^ 1,)) + packet[47:]
    assert reasons(home.arrives(wrong)) == [Reason.CHECKSUM_WRONG]
    assert reasons(home.arrives(packet[:46] + b"\0\0" + packet[48:])) == [Reason.CHECKSUM_WRONG]
    assert reasons(home.arrives(packet[:4] + b"\0\x04" + packet[6:44])) == [Reason.MALFORMED]
    assert reasons(home.arrives(home.datagram(home.update(2), (0, 4191)))) == [Reason.NOT_TUNNELLED]
    assert reasons(home.arrives(home.datagram(b"\xff"))) == [Reason.KEEPALIVE]
    assert home.node.counters["discarded-keepalive"] == 1
    assert reasons(home.node.from_link("wlan0", packet, ROUTER_MAC, 1.0)) == [Reason.NO_SUCH_LINK]
    assert reasons(home.node.from_link(KERNEL, packet, ROUTER_MAC, 1.0)) == [Reason.NO_SUCH_LINK]
    assert len(home.node.engine.cache) == 0


def test_datagrams_of_the_kernel() -> None:
    home = Node()
    outputs = home.node.from_link(KERNEL, home.update(1), NAT, 1.0)
    assert [(each.to, each.link) for each in outputs if isinstance(each, Transmit) and each.link == KERNEL] == [
        (NAT, KERNEL)
    ]
    row = home.node.snapshot(1.0)["binding_cache"]
    assert "'endpoint': '198.51.100.7:40001'" in str(row)


def test_ipv4_goes_to_the_host_os_and_comes_from_it() -> None:
    home = Node(ipv4_pool=IPv4Network("192.168.7.0/24"))
    message = mh.BindingUpdate(1, AH, 400, (mh.IPv4HomeAddress(IPv4Address(0)),))
    home.node.from_link(KERNEL, from_terminal(message, MN, MN, HA, home.security), NAT, 1.0)
    head = bytes.fromhex("450000180000000040110000") + IPv4Address("192.168.7.2").packed + IPv4Address("9.9.9.9").packed
    up = head[:10] + ip4.checksum(head).to_bytes(2) + head[12:] + b"data"
    association = home.pair.terminal.tunnel_out
    assert association is not None
    assert home.node.from_link(KERNEL, association.seal(ip6.IPV4, up), NAT, 1.0) == [Deliver(up)]
    down = up[:12] + up[16:20] + up[12:16] + up[20:]
    (out,) = home.node.from_host(down, 1.0)
    assert isinstance(out, Transmit)
    assert (out.to, out.link) == (NAT, KERNEL)
    assert reasons(home.node.from_host(b"\x45", 1.0)) == [Reason.MALFORMED]


# ---------------------------------------------------------------- standby


def test_standby_is_silent() -> None:
    home = Node(standby=True)
    assert not home.node.active
    assert HA not in announced(home.first)
    assert not any(HA.packed in packet for packet in sent(home.first))
    solicitation = ndisc.NeighborSolicitation(HA, (ndisc.SourceLinkAddress(ROUTER_MAC),))
    asked = ndisc.packet(ROUTER.packed, ndisc.solicited_node(HA).packed, solicitation)
    assert sent(home.arrives(asked)) == []
    assert reasons(home.arrives(home.datagram(home.update(1)))) == [Reason.NOT_OURS]
    assert reasons(home.node.from_link(KERNEL, home.update(2), NAT, 1.0)) == [Reason.STANDBY]
    assert len(home.node.engine.cache) == 0


def test_taking_over() -> None:
    first = Node()
    first.bind()
    records = first.node.bindings(1000.0)
    second = Node(standby=True)
    second.security = first.security
    # The same keys, and numbers that go on (mobility.sequences).
    second.node.reconfigure((AuthorisedTerminal(MN, FORM, first.pair.agent),), 5.0)
    restored = second.node.restore(records, 1000.0, 6.0)
    assert announced(restored) == []
    outputs = second.node.activate(6.0)
    assert set(announced(outputs)) == {HA, MN}
    assert ServiceChanged(True, 1) in outputs
    assert second.node.activate(6.0) == []
    (outer,) = sent(second.arrives(udp_packet(CN, MN, b"x"), 6.1))
    assert outer[8:40] == HA.packed + COA.packed
    up = udp_packet(MN, CN, b"up")
    body = seal(up, MN.packed + HA.packed, FORM, first.security)[1]
    assert sent(second.arrives(second.datagram(body), 6.2)) == [up[:7] + b"\x3f" + up[8:]]
    again: list[IPv6Address] = []
    while second.node.timer is not None and second.node.timer < 20.0:
        again += announced(second.node.handle_timer(second.node.timer))
    assert again.count(HA) == ANNOUNCEMENTS - 1


def test_restored_after_the_takeover() -> None:
    first = Node()
    first.bind()
    second = Node(standby=True)
    second.node.activate(6.0)
    assert announced(second.node.restore(first.node.bindings(0.0), 0.0, 6.0)) == [MN]


def test_taking_over_before_the_link_is_up() -> None:
    home = Node(standby=True, up=False)
    assert announced(home.node.activate(1.0)) == []
    assert HA in announced(home.plug(2.0))


def test_standing_back() -> None:
    home = Node()
    home.bind()
    outputs = home.node.deactivate(6.0)
    assert not any(isinstance(each, BindingRemoved) for each in outputs)  # elsewhere they go on
    assert ServiceChanged(False, 0) in outputs
    assert home.node.deactivate(6.0) == []
    assert reasons(home.arrives(udp_packet(CN, MN, b"x"), 6.1)) == [Reason.NOT_OURS]
    assert reasons(home.arrives(home.datagram(home.update(2)), 6.1)) == [Reason.NOT_OURS]
    assert home.node.bindings(0.0) == []
    home.node.activate(7.0)
    home.bind(3, 7.1)
    assert home.node.snapshot(7.1)["active"] is True


def test_records_and_reload_of_the_node() -> None:
    home = Node()
    home.bind()
    assert home.node.record(MN, 0.0) == home.node.bindings(0.0)[0]
    assert home.node.record(CN, 0.0) is None
    outputs = home.node.reconfigure((), 6.0)
    assert BindingRemoved(MN, "removed from the configuration") in outputs
    assert home.node.record(MN, 0.0) is None
    with pytest.raises(ValueError, match="twice"):
        home.node.reconfigure((AuthorisedTerminal(MN, TunnelForm.PLAIN),) * 2, 7.0)


# ---------------------------------------------------------------- noise

_noise = Node()
_noise.bind()


@settings(max_examples=300)
@given(st.binary(max_size=150), st.sampled_from(["raw", "udp", "esp", "mh", "ipv6", "ipv4", "datagram", "host"]))
def test_noise_at_the_doors(data: bytes, door: str) -> None:
    node = _noise.node
    before = node.engine.cache.snapshot(6.0)
    protocols = {"udp": ip6.UDP, "esp": ip6.ESP, "mh": ip6.MOBILITY, "ipv6": ip6.IPV6, "ipv4": ip6.IPV4}
    match door:
        case "raw":
            outputs = _noise.arrives(data, 6.0)
        case "datagram":
            outputs = _noise.arrives(_noise.datagram(data), 6.0)
        case "host":
            outputs = node.from_host(data, 6.0)
        case _:
            outputs = _noise.arrives(ip6.packet(COA, HA, protocols[door], data), 6.0)
    assert reasons(outputs)
    assert node.engine.cache.snapshot(6.0) == before
