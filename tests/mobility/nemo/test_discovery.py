"""Mobile routers that look for a home agent (RFC 3963 section 7): the R flags, against scapy."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

from scapy.layers.inet6 import ICMPv6HAADReply, ICMPv6HAADRequest, ICMPv6NDOptHAInfo

from mobility.mipv6.home_agents_list import HomeAgentsList
from mobility.mipv6.tunnel import TunnelForm
from mobility.wire import icmp6, ndisc
from mobility.wire.mobile_icmp import HomeAgentsReply, HomeAgentsRequest, parse
from tests.mobility.nemo.rig import Rig, sent
from tests.mobility.whole import CN, HA, HOME, randomness

OTHER = IPv6Address("2001:db8:1::b")


def test_flags_as_scapy_has_them() -> None:
    for router in (False, True):
        assert parse(bytes(ICMPv6HAADRequest(id=7, R=int(router), cksum=1))) == HomeAgentsRequest(7, router)
        reply = ICMPv6HAADReply(id=7, R=int(router), cksum=1, addresses=[str(OTHER)])
        assert parse(bytes(reply)) == HomeAgentsReply(7, (OTHER,), router)
        assert ICMPv6HAADRequest(bytes(HomeAgentsRequest(7, router))).R == router
        assert ICMPv6HAADReply(bytes(HomeAgentsReply(7, (OTHER,), router))).R == router
        information = bytes(ndisc.HomeAgentInformation(3, 1800, router))
        assert ICMPv6NDOptHAInfo(b"\x08\x01" + information).res == (0x8000 if router else 0)
        assert ndisc.HomeAgentInformation.parse(information) == ndisc.HomeAgentInformation(3, 1800, router)


def asked(agents: HomeAgentsList, *, router: bool) -> HomeAgentsReply:
    return agents.answer(HomeAgentsRequest(7, router), CN, 1.0)


def heard(agents: HomeAgentsList, *, router: bool) -> None:
    options = (
        ndisc.PrefixInformation(OTHER, 64, 1800, 1800, router_address=True),
        ndisc.HomeAgentInformation(9, 1800, router),
    )
    agents.heard(IPv6Address("fe80::b"), ndisc.RouterAdvertisement(1800, 64, home_agent=True, options=options), 0.0)


def test_mobile_routers_hear_of_those_who_serve_them() -> None:
    agents = HomeAgentsList(HA, HOME, randomness("agents"))
    heard(agents, router=False)
    assert asked(agents, router=False) == HomeAgentsReply(7, (OTHER, HA), False)
    assert asked(agents, router=True) == HomeAgentsReply(7, (OTHER, HA), False)  # nobody does: all
    heard(agents, router=True)
    assert asked(agents, router=True) == HomeAgentsReply(7, (OTHER,), True)
    agents.serves_routers = True
    assert asked(agents, router=True) == HomeAgentsReply(7, (OTHER, HA), True)
    assert asked(agents, router=False) == HomeAgentsReply(7, (OTHER, HA), False)


def test_a_home_agent_serves_routers_if_it_has_any() -> None:
    rig = Rig(TunnelForm.ESP, TunnelForm.ESP)
    assert rig.agent.watch.anycast is not None
    question = icmp6.packet(CN, rig.agent.watch.anycast, HomeAgentsRequest(7, True))
    (answer,) = sent(rig.arrives(question))
    assert parse(answer[40:]) == HomeAgentsReply(7, (HA,), True)
    rig.agent.reconfigure([replace(each, mobile_networks=()) for each in rig.authorised()], 6.0)
    (answer,) = sent(rig.arrives(question, 7.0))
    assert parse(answer[40:]) == HomeAgentsReply(7, (HA,), False)
