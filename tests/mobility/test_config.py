"""What is read from configuration files, for each role."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path

import pytest

from mobility.config import Access, HomeLink, MetricsSettings, Role, Signalling, StoreKind, Use, parse
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.spd import Action
from mobility.mipv6.route_rules import RoutePolicy, RouteRules
from mobility.mipv6.tunnel import TunnelForm
from tests.mobility.configurations import (
    AH,
    APPLICATION,
    CN,
    HA,
    HA_PAIRS,
    MN,
    PAIRS,
    PATH,
    ROUTED,
    agent,
    complaint,
    pair,
)


def test_a_mobile_node() -> None:
    text = (
        MN
        + PAIRS
        + APPLICATION
        + (
            '[host_os]\nnamespace = "home"\n'
            '[[policy]]\nname = "audio"\nremote = "2001:db8:5::/64"\nprotocol = "udp"\nlocal_port = "16384-32767"\n'
            'remote_port = 5060\naction = "protect"\nassociation = "cn"\n'
            '[[policy]]\nprotocol = 132\naction = "discard"\n'
        )
    )
    read = parse(text, PATH)
    node = read.mobile_node
    assert read.role is Role.MOBILE_NODE
    assert read.runtime == Path("/run/test/mn")
    assert node is not None
    assert node.home_address == IPv6Interface("2001:db8:1::100/64")
    assert (node.tunnel, node.signalling, node.lifetime) == (TunnelForm.ESP, Signalling.ESP, 420)
    assert read.interfaces == ("eth0", "wlan0")
    assert read.host_address == IPv6Address("2001:db8:1::100")
    assert read.host_os is not None
    assert (read.host_os.namespace, read.host_os.interface, read.host_os.mtu) == ("home", "home0", None)
    assert node.home_agent is not None
    tunnel = read.pair(Use.TUNNEL, node.home_agent)
    assert tunnel is not None
    assert (tunnel.name, tunnel.outbound.spi, tunnel.inbound.spi) == ("tunnel-2001:db8:1::a", 0x2001, 0x2002)
    assert tunnel.outbound.algorithm is Algorithm.AES_CBC_HMAC_SHA2_256_128
    assert tunnel.outbound.keys.encryption == bytes([1]) * 32
    audio, other = read.policies
    assert audio.remote == IPv6Network("2001:db8:5::/64")
    assert (audio.protocol, audio.local_port, audio.remote_port) == (17, range(16384, 32768), 5060)
    assert (other.protocol, other.action, other.association) == (132, Action.DISCARD, None)


def test_a_home_agent() -> None:
    read = parse(HA + HA_PAIRS, PATH)
    assert read.home_agent is not None
    assert read.home_agent.terminals[0].home_address == IPv6Address("2001:db8:1::100")
    assert read.host_os is None
    assert read.host_address is None
    assert read.interfaces == ("eth0",)


def test_what_a_mobile_node_gets_when_nothing_is_said() -> None:
    node = parse(MN.replace('interfaces = ["eth0", "wlan0"]\n', "") + PAIRS, PATH).mobile_node
    assert node is not None
    assert (node.interfaces, node.others, node.access) == ((), True, Access.AUTO)
    assert (node.home_agent4, node.udp_port, node.home_address4) == (None, 4191, None)
    assert (node.overlap, node.keepalive) == (0.5, 20.0)


def test_a_mobile_node_by_udp() -> None:
    keys = (
        'access = "udp"\nhome_agent4 = "198.51.100.10"\nudp_port = 4500\nhome_address4 = "request"\noverlap = 0\n'
        "keepalive = 5\n"
    )
    names = MN.replace('"wlan0"]', '"wlan0", "*"]')
    read = parse(names + keys + PAIRS + '[host_os]\ndns = ["2001:db8:1::53", "192.0.2.53"]\n', PATH)
    node = read.mobile_node
    assert node is not None
    assert (node.interfaces, node.others, node.access) == (("eth0", "wlan0"), True, Access.UDP)
    assert (node.home_agent4, node.udp_port, node.home_address4) == (IPv4Address("198.51.100.10"), 4500, "request")
    assert (node.overlap, node.keepalive) == (0.0, 5.0)
    assert read.host_os is not None
    assert read.host_os.dns == (IPv6Address("2001:db8:1::53"), IPv4Address("192.0.2.53"))
    fixed = parse(names + keys.replace("request", "192.0.2.7") + PAIRS, PATH).mobile_node
    assert fixed is not None
    assert fixed.home_address4 == IPv4Address("192.0.2.7")


def test_a_home_agent_on_a_rented_server() -> None:
    read = parse(ROUTED, PATH)
    settings = read.home_agent
    assert settings is not None
    assert (settings.home_link, settings.interface, settings.advertise) == (HomeLink.ROUTED, "roam6", 0)
    assert settings.prefixes == (IPv6Network("2001:db8:1::/56"),)
    assert read.interfaces == ()  # that have to be there
    alone = parse(agent().replace('interface = "eth0"', 'home_link = "routed"'), PATH).home_agent
    assert alone is not None
    assert alone.prefixes == (IPv6Network("2001:db8:1::/64"),)
    ethernet = parse(agent(), PATH).home_agent
    assert ethernet is not None
    assert (ethernet.home_link, ethernet.prefixes) == (HomeLink.ETHERNET, ())


def test_what_a_home_agent_gets_when_nothing_is_said() -> None:
    read = parse(agent(), PATH)
    settings = read.home_agent
    assert settings is not None
    assert (settings.udp, settings.udp_port, settings.overlap) == ((), 4191, 1.0)
    assert (settings.ipv4_pool, settings.ipv4_interface, settings.directory) == (None, "roam4", Path("node.d"))
    (terminal,) = settings.terminals
    assert (terminal.name, terminal.home_address4, terminal.admitted) == ("2001:db8:1::100", None, True)
    assert read.store is not None
    assert (read.store.kind, read.store.path, read.store.url) == (
        StoreKind.SQLITE,
        read.state / "bindings.sqlite",
        None,
    )
    assert read.metrics is None


def test_a_home_agent_for_operators() -> None:
    read = parse(
        agent(
            'udp = ["198.51.100.10", "2001:db8:ff::10"]\nudp_port = 4500\noverlap = 0.5\nipv4_pool = "10.64.0.0/16"\n'
            'ipv4_interface = "v4"',
            'name = "alice"\nhome_address4 = "10.64.0.7"\nadmitted = false',
            '[store]\nkind = "redis"\nurl = "redis://:secret@10.0.0.5:6379/0"\n[metrics]\nlisten = "127.0.0.1:9464"\n',
        ),
        PATH,
    )
    settings = read.home_agent
    assert settings is not None
    assert settings.udp == (IPv4Address("198.51.100.10"), IPv6Address("2001:db8:ff::10"))
    assert (settings.udp_port, settings.overlap) == (4500, 0.5)
    assert (settings.ipv4_pool, settings.ipv4_interface) == (IPv4Network("10.64.0.0/16"), "v4")
    (terminal,) = settings.terminals
    assert (terminal.name, terminal.home_address4, terminal.admitted) == ("alice", IPv4Address("10.64.0.7"), False)
    assert read.store is not None
    assert (read.store.kind, read.store.url) == (StoreKind.REDIS, "redis://:secret@10.0.0.5:6379/0")
    assert "secret" not in repr(read)
    assert read.metrics == MetricsSettings(IPv4Address("127.0.0.1"), 9464)
    assert parse(agent(after='[metrics]\nlisten = "[::1]:80"\n'), PATH).metrics == MetricsSettings(
        IPv6Address("::1"), 80
    )


def test_a_correspondent() -> None:
    read = parse(CN + pair("application", 0x3001, 'peer = "2001:db8:1::100"'), PATH)
    assert read.host_address == IPv6Address("2001:db8:5::2")
    assert read.associations[0].name == "application-2001:db8:1::100"


def test_with_whom_packets_go_directly() -> None:
    plain = parse(MN + PAIRS, PATH).mobile_node
    assert plain is not None
    assert plain.route_optimization == RouteRules()
    assert not plain.route_optimization.ever
    rules = """
route_optimization = "asked"
[[mobile_node.correspondent]]
network = "2001:db8:5::/64"
route_optimization = "never"
[[mobile_node.correspondent]]
network = "2001:db8::/32"
route_optimization = "always"
"""
    read = parse(MN + rules + PAIRS, PATH).mobile_node
    assert read is not None
    of = read.route_optimization.of
    assert of(IPv6Address("2001:db8:5::2")) is RoutePolicy.NEVER
    assert of(IPv6Address("2001:db8:6::2")) is RoutePolicy.ALWAYS
    assert of(IPv6Address("2001:db9::1")) is RoutePolicy.ASKED
    for text, expected in ((CN, True), (CN + "route_optimization = false", False)):
        correspondent = parse(text, PATH).correspondent
        assert correspondent is not None
        assert correspondent.route_optimization is expected


def test_plain_and_unprotected_need_no_associations() -> None:
    read = parse(MN + 'tunnel = "plain"\nsignalling = "none"\n', PATH)
    assert read.associations == ()


def test_session_keys_may_be_used_with_aead() -> None:
    read = parse(MN + pair("signalling", 1000) + pair("tunnel", 2000, 'keys = "session"', "aes-gcm-16"), PATH)
    assert read.associations[1].session_keys
    assert read.associations[1].outbound.algorithm is Algorithm.AES_GCM_16


def test_keys_never_show() -> None:
    read = parse(MN + PAIRS, PATH)
    assert "0101" not in repr(read)
    assert "0202" not in str(read.associations)


# ---------------------------------------------------------------- translation


def test_translation_for_programs_that_speak_ipv4() -> None:
    text = MN + '[host_os]\ndns = ["2001:db8:1::53"]\n[translation]\n' + PAIRS
    configuration = parse(text, PATH)
    settings, host_os = configuration.translation, configuration.host_os
    assert settings is not None
    assert host_os is not None
    assert (settings.home_address, settings.home_agent) == (
        IPv6Address("2001:db8:1::100"),
        IPv6Address("2001:db8:1::a"),
    )
    assert settings.address4 == host_os.address4 == IPv4Address("198.18.0.1")
    assert settings.servers == (IPv6Address("2001:db8:1::53"),)
    assert settings.virtual_servers == (IPv4Address("198.18.0.3"),)
    assert settings.sip_ports == {5060}


def test_all_of_translation_can_be_set() -> None:
    own = 'pool4 = "10.99.0.0/24"\npool6 = "fd00:64::/96"\nsip_ports = [5060, 5080]\n'
    configuration = parse(MN + '[host_os]\naddress4 = "192.0.2.1"\n[translation]\n' + own + PAIRS, PATH)
    settings = configuration.translation
    assert settings is not None
    assert (settings.address4, settings.pool4) == (IPv4Address("192.0.2.1"), IPv4Network("10.99.0.0/24"))
    assert (settings.pool6, settings.sip_ports) == (IPv6Network("fd00:64::/96"), frozenset((5060, 5080)))
    assert parse(MN + PAIRS, PATH).translation is None


@pytest.mark.parametrize(
    ("translation", "complains"),
    [
        ('pool4 = "10.99.0.0/31"', "translation.pool4: .*room for two"),
        ('pool4 = "10.99.0.1/30"', "translation.pool4: "),
        ('pool6 = "64:ff9b::/128"', "translation.pool4: .*room for two"),
        ("sip_ports = [0]", "translation.sip_ports: .*port numbers"),
        ("sip_ports = 5060", "translation.sip_ports: .*port numbers"),
        ("timeout = 3", "timeout"),
    ],
)
def test_mistakes_in_translation(translation: str, complains: str) -> None:
    assert re.search(complains, complaint(MN + "[translation]\n" + translation + "\n" + PAIRS))


def test_translation_is_not_for_everybody() -> None:
    assert "translation" in complaint(CN + "[translation]\n")
    real = MN.replace("interfaces", 'home_address4 = "request"\ninterfaces')
    assert "home_address4" in complaint(real + "[translation]\n" + PAIRS)
    small = '[host_os]\ndns = ["2001:db8:1::53"]\n[translation]\npool4 = "10.99.0.0/30"\n'
    assert "too small" in complaint(MN + small + PAIRS)


def test_signalling_under_ah() -> None:
    authentic, tunnel = pair("signalling-ah", 0x5001, algorithm=AH), pair("tunnel", 0x2001)
    for signalling, text in (("ah", authentic + tunnel), ("ah+esp", authentic + PAIRS)):
        configuration = parse(MN + f'signalling = "{signalling}"\n' + text, PATH)
        assert configuration.mobile_node is not None
        assert configuration.mobile_node.signalling is Signalling(signalling)
        found = configuration.pair(Use.SIGNALLING_AH, IPv6Address("2001:db8:1::a"))
        assert found is not None
        assert found.outbound.algorithm is Algorithm.HMAC_SHA2_256_128


def test_home_tests_of_a_plain_tunnel_may_have_associations() -> None:
    plain = MN.replace("interfaces", 'tunnel = "plain"\ninterfaces')
    signalling, tests = pair("signalling", 0x1001), pair("home-test", 0x2001)
    agent = IPv6Address("2001:db8:1::a")
    assert parse(plain + signalling, PATH).pair(Use.HOME_TEST, agent) is None
    found = parse(plain + signalling + tests, PATH).pair(Use.HOME_TEST, agent)
    assert found is not None
    assert found.outbound.spi == 0x2001
    assert "nothing here uses a home-test association" in complaint(MN + PAIRS + pair("home-test", 0x4001))
    assert "means a packet of this version of IP" in complaint(plain + signalling + pair("home-test", 0x60000001))
    served = HA.replace('home_address = "2001:db8:1::100"', 'home_address = "2001:db8:1::100"\ntunnel = "plain"')
    of_terminal = pair("signalling", 0x1001, 'peer = "2001:db8:1::100"')
    read = parse(served + of_terminal + pair("home-test", 0x2001, 'peer = "2001:db8:1::100"'), PATH)
    assert read.pair(Use.HOME_TEST, IPv6Address("2001:db8:1::100")) is not None
    assert "nothing here uses" in complaint(served + of_terminal + pair("home-test", 0x2001, 'peer = "2001:db8:1::9"'))
