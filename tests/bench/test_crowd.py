"""The terminals that the benchmark of the home agent plays are understood by a home agent; its file is accepted."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from bench import home_agent
from bench.crowd import PORT, Member, Specification
from mobility.config import load
from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA, Mode, OutboundSA
from mobility.mipv6.signalling import open_message, to_terminal
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm, agent_policies, from_datagram, seal
from mobility.wire import mh, udp
from sip_test_env.plan import Plan

PLAN = Plan("test-crowd")
CARE_OF = IPv4Address("203.0.113.133")


def agent_side(member: home_agent.Member) -> IpsecProcessing:
    """The home agent's associations with a member."""
    home, (update, answer, up, down) = member

    def keys(key: home_agent.Key) -> Keys:
        return Keys(bytes.fromhex(key[1]), b"")

    def out(key: home_agent.Key, mode: Mode) -> OutboundSA:
        return OutboundSA(key[0], Algorithm.AES_GCM_16, keys(key), mode, random=os.urandom, fresh_keys=True)

    def inbound(key: home_agent.Key, mode: Mode) -> InboundSA:
        return InboundSA(key[0], Algorithm.AES_GCM_16, keys(key), mode)

    associations = MobileAssociations(
        out(answer, Mode.TRANSPORT), inbound(update, Mode.TRANSPORT), out(down, Mode.TUNNEL), inbound(up, Mode.TUNNEL)
    )
    return agent_policies(PLAN.home_agent, [(home, TunnelForm.ESP, associations, ())])


@pytest.fixture
def both() -> Iterator[tuple[Member, IpsecProcessing]]:
    described = home_agent._member(PLAN, 3)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as opened:
        yield Member(described[0], described[1], PLAN.home_agent, opened), agent_side(described)


def test_a_member_registers(both: tuple[Member, IpsecProcessing]) -> None:
    member, agent = both
    received = open_message(member.update(7, CARE_OF), agent)
    assert isinstance(received.message, mh.BindingUpdate)
    assert received.message.options == (mh.IPv4CareOfAddress(CARE_OF),)
    assert received.source == member.home
    for status, accepted in ((0, True), (129, False)):
        answer = mh.BindingAcknowledgement(status, 7, 420)
        packet = to_terminal(answer, PLAN.home_agent, member.home, member.home, agent)
        assert member.acknowledged(packet, 7) is accepted
    assert not member.acknowledged(b"\x60" + bytes(60), 7)


def test_a_member_talks(both: tuple[Member, IpsecProcessing]) -> None:
    member, agent = both
    numbered = bytes(2) + (77).to_bytes(4)
    up = udp.packet(member.home.packed + PLAN.proxy.packed, (PORT, PORT), numbered)
    ends = member.home.packed + PLAN.home_agent.packed
    assert from_datagram(member.sealed(up), ends, TunnelForm.ESP, agent) == up
    down = udp.packet(PLAN.proxy.packed + member.home.packed, (PORT, PORT), numbered)
    sealed = seal(down, ends[16:] + ends[:16], TunnelForm.ESP, agent)[1]
    assert member.number_in(sealed) == 77
    assert member.number_in(sealed) is None, "a replay"


def test_the_home_agents_file_is_accepted(tmp_path: Path) -> None:
    members = [home_agent._member(PLAN, number) for number in range(20)]
    path = home_agent._secret(tmp_path / "ha.toml", home_agent._configuration(PLAN, tmp_path, members))
    path.chmod(0o600)
    settings = load(path).home_agent
    assert settings is not None
    assert [terminal.home_address for terminal in settings.terminals] == [home for home, _ in members]
    specification = tmp_path / "crowd.json"
    specification.write_text(json.dumps(home_agent._specification(PLAN, members)))
    read = Specification.read(specification)
    assert [home for home, _ in read.members] == [IPv6Address(home) for home, _ in members]


@pytest.mark.root
@pytest.mark.alone
@pytest.mark.interop
def test_a_small_crowd_is_served_without_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TERMINALS", 20), ("CALLS", 4), ("SECONDS", 1.0)):
        monkeypatch.setattr(home_agent, name, value)
    figures = home_agent.measure()
    assert figures["lost"] == 0
    assert figures["registration"]["registered"] == 20  # type: ignore[index]
    assert figures["refresh"]["registered"] == 20  # type: ignore[index]
    assert figures["talk"]["out"]["sent"] == figures["talk"]["in"]["sent"] == 200  # type: ignore[index]
    assert figures["talk"]["duplicates"] == 0  # type: ignore[index]
