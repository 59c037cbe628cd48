"""Our terminal sends directly to Linux as its correspondent, with the application's IPsec inside, and moves."""

from __future__ import annotations

import pytest

from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.association import Mode
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.spd import Action, Policy, SecurityPolicyDatabase
from mobility.mipv6.route_rules import RoutePolicy, RouteRules
from mobility.mipv6.tunnel import TunnelForm
from mobility.wire import ip6
from tests.interop.kernel.network import (
    Daemons,
    Mixed,
    Protection,
    linux_correspondent,
    linux_home_agent,
)
from tests.interop.kernel.peer import UNTRUE, Kernel, echo, echo_request, policy, state, template
from tests.mobility.whole import CN, MN, association, keys_of

pytestmark = pytest.mark.interop

THERE, BACK = 0x100, 0x101


def application(correspondent: Kernel, algorithm: Algorithm) -> IpsecProcessing:
    """ESP around echo requests and replies at both ends; that of MN."""
    correspondent.ip(
        state(MN, CN, THERE, algorithm, keys_of(THERE, algorithm)),
        state(CN, MN, BACK, algorithm, keys_of(BACK, algorithm)),
        policy("in", MN, CN, [template(MN, CN, THERE)], "proto ipv6-icmp type 128 code 0"),
        policy("out", CN, MN, [template(CN, MN, BACK)], "proto ipv6-icmp type 129 code 0"),
    )
    out, _ = association(THERE, Mode.TRANSPORT, algorithm)
    _, inbound = association(BACK, Mode.TRANSPORT, algorithm)
    rule = Policy(echo(MN, CN), Action.PROTECT, out, inbound, "echo")
    return IpsecProcessing(SecurityPolicyDatabase([rule], Action.BYPASS))


@pytest.mark.parametrize("linux_agent", [False, True], ids=["our-agent", "linux-agent"])
def test_direct_way_under_esp(kernel: Kernel, second: Kernel, daemons: Daemons, linux_agent: bool) -> None:
    protection = Protection(TunnelForm.ESP)
    network = Mixed(
        protection, rules=RouteRules(RoutePolicy.ALWAYS), application=application(second, Algorithm.AES_GCM_16)
    )
    daemon = linux_correspondent(second, daemons)
    network.instead("cn", second, network.office)
    if linux_agent:
        linux_home_agent(kernel, protection, daemons)
        network.instead("ha", kernel, network.home)
    else:
        network.start_agent()
    network.plug(network.a)
    for place in (network.a, network.b):
        if place is network.b:
            network.move(place)

        for _ in range(80):
            assert network.reach(CN), (daemon.log, second.refusals(), network.discards("mn"))
            if network.terminal.updates.route(CN.packed) is not None:
                break
            network.pass_time(0.1)
        else:
            raise AssertionError((daemon.log, network.discards("mn")))
        second.received.clear()
        second.sent.clear()
        assert network.reach(CN), (daemon.log, second.refusals(), network.discards("mn"))
        data = [packet for packet in second.received if packet[6] == ip6.DEST_OPTIONS and packet[40] == ip6.ESP]
        assert data, "it went directly, with the home address option outside of ESP"
        assert [packet for packet in second.sent if packet[6] == ip6.ROUTING and packet[40] == ip6.ESP]
    assert second.refusals() == {}
    # The same from somewhere else: the kernel believes no care-of address that it was not told of.
    second.sent.clear()
    stranger = bytearray(data[-1])
    stranger[23] ^= 1
    second.from_link("eth0", bytes(stranger), network.routers["r-office"].interfaces["edge"].mac, 0.0)
    second.from_link("eth0", echo_request(MN, CN), network.routers["r-office"].interfaces["edge"].mac, 0.0)
    network.pass_time(0.1)
    assert [packet for packet in second.sent if packet[6] == ip6.ROUTING] == []
    assert sum(second.refusals().values()) == 2
    assert not set(network.discards("mn")) & UNTRUE
