"""The access policy of a home agent: whom a terminal may talk to."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest

from mobility.mipv6.home_settings import AuthorisedTerminal
from mobility.mipv6.reach import REMEMBERED, Reach
from mobility.wire import icmp6, ip6
from tests.mobility.whole import CN, CORRESPONDENT, MN, VISITED_B, Network

Networks = tuple[IPv4Network | IPv6Network, ...]


def network_with(networks: Networks | None) -> Network:
    """The terminal is bound in visited-a, and may talk to these."""
    network = Network()
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    allow(network, networks)
    return network


def allow(network: Network, networks: Networks | None) -> None:
    """The configuration is read anew."""
    (terminal,) = network.agent.settings.home_agent.terminals
    changed: AuthorisedTerminal = dataclasses.replace(terminal, networks=networks)
    network.world.stations["ha"].carry_out(network.agent.reconfigure([changed], network.world.now))
    network.run(3)


def test_everybody_without_a_policy_and_those_in_it() -> None:
    for networks in (None, (CORRESPONDENT,), (VISITED_B, IPv6Network("2001:db8::/32"))):
        network = network_with(networks)
        network.talk(1)
        network.run(2)
        assert network.to_cn.lost() == network.to_mn.lost() == []


def test_nobody_else_either_way_and_the_senders_are_told() -> None:
    network = network_with((VISITED_B,))
    network.talk(1)
    network.run(2)
    assert network.to_cn.received == network.to_mn.received == {}
    assert network.discards("ha")["access-denied"] == 100
    for name, ends in (("mn", (MN, CN)), ("cn", (CN, MN))):
        told = network.other_packets[name]
        assert told
        for packet in told:
            message = icmp6.parse(packet[ip6.HEADER_SIZE :])
            assert isinstance(message, icmp6.DestinationUnreachable)
            assert message.code == icmp6.PROHIBITED
            quoted = message.invoking
            assert (IPv6Address(quoted[8:24]), IPv6Address(quoted[24:40])) == ends


def test_policy_is_changed_without_touching_the_call() -> None:
    network = network_with((CORRESPONDENT,))
    network.talk(1)
    network.run(2)
    assert network.to_cn.lost() == []
    allow(network, ())
    network.talk(1)
    network.run(2)
    assert len(network.to_cn.lost()) == 50
    allow(network, None)
    network.talk(1)
    network.run(2)
    assert len(network.to_cn.lost()) == 50


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        ("10.1.2.3", True),
        ("10.2.0.1", False),
        ("2001:db8:5::1", True),
        ("2001:db8:6::1", False),
        ("::ffff:10.1.2.3", False),
    ],
)
def test_both_versions(address: str, reached: bool) -> None:
    reach = Reach([ip_network("10.1.0.0/16"), ip_network("2001:db8:5::/48")])
    for _ in range(2):
        assert (ip_address(address).packed in reach) is reached


def test_strangers_cannot_make_it_grow() -> None:
    reach = Reach([ip_network("10.0.0.0/8")])
    for number in range(3 * REMEMBERED):
        assert (number + (10 << 24)).to_bytes(4) in reach
        assert len(reach._judged) <= REMEMBERED
