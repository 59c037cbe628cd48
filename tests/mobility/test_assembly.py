"""Configurations become nodes that understand each other."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import cast

import pytest

from mobility.agent import HomeAgentNode
from mobility.assembly import application_processing, authorised_terminals, build, mobile_associations
from mobility.config import Configuration, ConfigurationError, parse
from mobility.correspondent import CorrespondentNode
from mobility.discards import Discard, Reason
from mobility.ipsec.ah import OutboundAH
from mobility.ipsec.sa import Mode
from mobility.mipv6.signalling import from_terminal, open_message
from mobility.mipv6.tunnel import TunnelForm, agent_policies, terminal_policies
from mobility.net.netlink import LinkState
from mobility.reading import difference
from mobility.sequences import SLOTS, SequenceFile, SequenceFileError
from mobility.terminal import Terminal
from mobility.wire import ip6, mh
from tests.mobility.net.networks import udp_packet

from .configurations import AH, APPLICATION, CN, HA, HA_PAIRS, MN, PAIRS, direction, pair

HOME, AGENT, PEER = "2001:db8:1::100", "2001:db8:1::a", "2001:db8:5::2"
CN_APPLICATION = (
    f'[[association]]\nname = "mn"\nuse = "application"\npeer = "{HOME}"\n'
    f"outbound = {direction(0x3002, 2)}\ninbound = {direction(0x3001, 1)}\n"
)


def interfaces(configuration: Configuration) -> Mapping[str, LinkState]:
    return {
        name: LinkState(index, name, bytes([2, 0, 0, 0, 0, index]), 1500, up=True, ethernet=True)
        for index, name in enumerate(configuration.interfaces, 1)
    }


@pytest.fixture
def sequences(tmp_path: Path) -> Iterator[SequenceFile]:
    made = SequenceFile(tmp_path / "state" / "sequences")
    made.open()
    yield made
    made.close()


def read(text: str) -> Configuration:
    return parse(text, Path("node.toml"))


def test_each_role_becomes_its_node(sequences: SequenceFile) -> None:
    for text, kind in (
        (MN + PAIRS + APPLICATION, Terminal),
        (HA + HA_PAIRS, HomeAgentNode),
        (CN + CN_APPLICATION, CorrespondentNode),
    ):
        configuration = read(text)
        node = build(configuration, interfaces(configuration), sequences)
        assert isinstance(node, kind)
        assert node.start(0.0) is not None
        assert "0101" not in str(node.snapshot(0.0))


def test_a_terminal_gets_what_the_file_says_of_udp(sequences: SequenceFile) -> None:
    said = MN.replace('"wlan0"]', '"wlan0", "*"]') + (
        'home_agent4 = "198.51.100.10"\nudp_port = 4500\noverlap = 0\nhome_address4 = "request"\nkeepalive = 7\n'
    )
    node = build(read(said + PAIRS), {}, sequences)  # an ordinary user has no packet socket
    assert isinstance(node, Terminal)
    settings = node.settings
    assert (settings.links, settings.interfaces) == ((), ("eth0", "wlan0"))
    assert (settings.home_agent4, settings.udp_port) == (IPv4Address("198.51.100.10"), 4500)
    assert (settings.overlap, settings.keepalive, settings.home_address4) == (0.0, 7.0, IPv4Address("0.0.0.0"))
    fixed = build(read(said.replace("request", "10.64.0.7") + PAIRS), {}, sequences)
    assert isinstance(fixed, Terminal)
    assert fixed.settings.home_address4 == IPv4Address("10.64.0.7")
    assert node.udp_changed("wlan0/udp4", IPv4Address("192.168.0.2"), 1500, 0.0)


def test_a_restarted_terminal_has_the_same_addresses_and_another_has_others(
    sequences: SequenceFile, tmp_path: Path
) -> None:
    configuration = read(MN + PAIRS + APPLICATION)

    def addresses() -> list[object]:
        node = build(configuration, interfaces(configuration), sequences)
        for name in configuration.interfaces:
            node.link_changed(name, True, 0.0)
        links = cast("dict[str, dict[str, list[dict[str, object]]]]", node.snapshot(0.0)["links"])
        return [entry["address"] for link in links.values() for entry in link["addresses"]]

    first = addresses()
    assert first
    assert addresses() == first
    secret = tmp_path / "state" / "identifier-secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    secret.write_bytes(b"cut off")
    assert set(addresses()).isdisjoint(first)


def test_what_the_engines_refuse_is_a_mistake_of_the_file(sequences: SequenceFile) -> None:
    unknown = read(MN.replace("interfaces", "scenarios = [7]\ninterfaces") + PAIRS)
    with pytest.raises(ConfigurationError, match=r"node\.toml: .*7"):
        build(unknown, interfaces(unknown), sequences)


def test_both_ends_of_an_application_association_understand_each_other(sequences: SequenceFile) -> None:
    ours = application_processing(read(MN + PAIRS + APPLICATION), IPv6Address(HOME), sequences)
    theirs = application_processing(read(CN + CN_APPLICATION), IPv6Address(PEER), sequences)
    packet = udp_packet(HOME, PEER, 4000, 5000, b"speech")
    sealed = ours.protect(packet)
    assert sealed[6] == 50
    assert theirs.accept(sealed) == packet
    other = udp_packet(HOME, "2001:db8:5::3", 4000, 5000, b"to somebody else")
    assert ours.protect(other) == other
    with pytest.raises(Discard) as caught:
        theirs.accept(packet)
    assert caught.value.reason is Reason.POLICY_VIOLATED


def test_policies_come_first_and_narrow_what_is_protected(sequences: SequenceFile) -> None:
    rows = (
        '[[policy]]\nremote = "2001:db8:5::/64"\nprotocol = "udp"\nlocal_port = "4000-4999"\naction = "protect"\n'
        'association = "cn"\n[[policy]]\nprotocol = "tcp"\nremote_port = 23\naction = "discard"\n'
    )
    ours = application_processing(read(MN + PAIRS + APPLICATION + rows), IPv6Address(HOME), sequences)
    assert ours.protect(udp_packet(HOME, PEER, 4999, 1, b""))[6] == 50
    assert ours.protect(udp_packet(HOME, PEER, 5000, 1, b""))[6] == 17
    telnet = bytearray(udp_packet(HOME, PEER, 1, 23, bytes(12)))
    telnet[6] = 6
    with pytest.raises(Discard) as caught:
        ours.protect(bytes(telnet))
    assert caught.value.reason is Reason.POLICY_DISCARD


def test_associations_with_the_home_agent(sequences: SequenceFile) -> None:
    made = mobile_associations(read(MN + PAIRS), IPv6Address(AGENT), sequences)
    assert made.signalling_out is not None
    assert made.tunnel_in is not None
    assert (made.signalling_out.mode, made.signalling_out.spi) == (Mode.TRANSPORT, 0x1001)
    assert (made.tunnel_in.mode, made.tunnel_in.spi) == (Mode.TUNNEL, 0x2002)
    plain = read(MN + 'tunnel = "plain"\nsignalling = "none"\n')
    assert mobile_associations(plain, IPv6Address(AGENT), sequences).signalling_out is None


def test_a_restart_repeats_no_number_and_accepts_no_replay(tmp_path: Path) -> None:
    path = tmp_path / "sequences"
    sent: list[bytes] = []
    for _ in range(3):
        sequences = SequenceFile(path)
        sequences.open()
        ours = application_processing(read(MN + PAIRS + APPLICATION), IPv6Address(HOME), sequences)
        theirs = application_processing(read(CN + CN_APPLICATION), IPv6Address(PEER), sequences)
        for old in sent:
            with pytest.raises(Discard) as caught:
                theirs.accept(old)
            assert caught.value.reason is Reason.REPLAYED
        for _ in range(3):
            sent.append(ours.protect(udp_packet(HOME, PEER, 1, 2, b"x")))
            theirs.accept(sent[-1])
        sequences.close()
    numbers = [packet[44:48] for packet in sent]
    assert len(set(numbers)) == len(numbers)


def test_new_keys_begin_anew_and_directions_are_apart(sequences: SequenceFile) -> None:
    pair = read(MN + PAIRS).associations[0]
    states = [
        sequences.state(association, direction)
        for association in (pair.outbound, pair.inbound)
        for direction in ("outbound", "inbound")
    ]
    for number, state in enumerate(states, 1):
        assert state.outbound == 0
        state.cells[0] = number
    assert sequences.state(pair.outbound, "inbound").outbound == 2


def test_two_processes_do_not_share_a_file(sequences: SequenceFile, tmp_path: Path) -> None:
    second = SequenceFile(tmp_path / "state" / "sequences")
    with pytest.raises(SequenceFileError, match="another process sends"):
        second.open()


def test_a_full_or_unreachable_file_is_told(sequences: SequenceFile, tmp_path: Path) -> None:
    pair = read(MN + PAIRS).associations[0]
    rng = random.Random(1)
    sequences.close()
    (tmp_path / "state" / "sequences").write_bytes(rng.randbytes(SLOTS * 32))
    sequences.open()
    with pytest.raises(SequenceFileError, match="no room left"):
        sequences.state(pair.outbound, "outbound")
    (tmp_path / "file").touch()
    with pytest.raises(SequenceFileError, match="cannot be written"):
        SequenceFile(tmp_path / "file" / "sequences").open()
    with pytest.raises(SequenceFileError, match="is not open"):
        SequenceFile(tmp_path / "closed").state(pair.outbound, "outbound")


@pytest.mark.parametrize("signalling", ["ah", "ah+esp"])
def test_signalling_under_ah(sequences: SequenceFile, tmp_path: Path, signalling: str) -> None:
    theirs = SequenceFile(tmp_path / "other" / "sequences")
    theirs.open()
    here, there = f'peer = "{HOME}"', ""
    esp = signalling == "ah+esp"

    def text(own: str, base: str, *, swap: bool) -> str:
        pairs = pair("signalling-ah", 0x5001, own, AH) + pair("tunnel", 0x2001, own)
        pairs += pair("signalling", 0x1001, own) if esp else ""
        if swap:
            pairs = pairs.replace("outbound =", "x =").replace("inbound =", "outbound =").replace("x =", "inbound =")
        return base + f'signalling = "{signalling}"\n' + pairs

    terminal = read(text(there, MN, swap=False))
    agent = read(text(here, HA, swap=True))
    node = build(terminal, interfaces(terminal), sequences)
    assert isinstance(node, Terminal)
    ours = mobile_associations(terminal, IPv6Address(AGENT), sequences)
    (served,) = authorised_terminals(agent, theirs)
    home, home_agent = IPv6Address(HOME), IPv6Address(AGENT)
    sender = terminal_policies(home, home_agent, TunnelForm.ESP, ours)
    receiver = agent_policies(home_agent, [(home, TunnelForm.ESP, served.associations, ())])
    update = mh.BindingUpdate(1, mh.UpdateFlag.ACKNOWLEDGE, 60)
    packet = from_terminal(update, home, IPv6Address(PEER), home_agent, sender)
    assert (packet[40], packet[64]) == (ip6.AH, ip6.ESP if esp else ip6.MOBILITY)
    assert open_message(packet, receiver).message == update
    # Read anew without a change, the associations go on; with another key of AH they are new.
    (again,) = authorised_terminals(agent, theirs, agent, [served])
    assert again.associations is served.associations
    other = read(text(here, HA, swap=True).replace("02" * 32, "03" * 32))
    (changed,) = authorised_terminals(other, theirs, agent, [served])
    assert changed.associations is not served.associations
    assert [each.home_address for each in difference(agent, other).terminals] == [home]
    assert {each.use for each in difference(agent, other).pairs} == {each.use for each in agent.associations}
    # A restart does not take the same packet again.
    (restarted,) = authorised_terminals(agent, theirs)
    receiver = agent_policies(home_agent, [(home, TunnelForm.ESP, restarted.associations, ())])
    with pytest.raises(Discard) as caught:
        open_message(packet, receiver)
    assert caught.value.reason is Reason.REPLAYED
    theirs.close()


def test_a_pair_must_have_the_same_layers_both_ways(sequences: SequenceFile) -> None:
    text = 'signalling = "ah+esp"\n' + PAIRS + pair("signalling-ah", 0x5001, algorithm=AH)
    found = mobile_associations(read(MN + text), IPv6Address(AGENT), sequences)
    found.check(TunnelForm.ESP)
    assert isinstance(found.signalling_out, OutboundAH)
    mixed = replace(found, signalling_out=found.signalling_out.inside)
    with pytest.raises(ValueError, match="the same in both directions"):
        mixed.check(TunnelForm.ESP)
