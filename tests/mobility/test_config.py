"""Configuration files: what is read, and what every mistake is answered with."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.config import (
    Access,
    Configuration,
    ConfigurationError,
    HomeLink,
    MetricsSettings,
    Role,
    Signalling,
    StoreKind,
    Use,
    default_runtime,
    default_state,
    load,
    parse,
)
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.spd import Action
from mobility.mipv6.route_rules import RoutePolicy, RouteRules
from mobility.mipv6.tunnel import TunnelForm

PATH = Path("node.toml")
CBC = "aes-cbc-hmac-sha2-256-128"
AH = "hmac-sha2-256-128"


def direction(spi: int, fill: int, algorithm: str = CBC) -> str:
    lengths = {
        CBC: (32, 32),
        "aes-gcm-16": (36, 0),
        "chacha20-poly1305": (36, 0),
        "null-hmac-sha2-256-128": (0, 32),
        AH: (0, 32),
    }
    encryption, authentication = (bytes([fill]) * length for length in lengths[algorithm])
    return (
        f'{{ spi = {spi}, algorithm = "{algorithm}", encryption = "{encryption.hex()}",'
        f' authentication = "{authentication.hex()}" }}'
    )


def pair(use: str, spi: int, more: str = "", algorithm: str = CBC) -> str:
    return (
        f'[[association]]\nuse = "{use}"\n{more}\n'
        f"outbound = {direction(spi, 1, algorithm)}\ninbound = {direction(spi + 1, 2, algorithm)}\n"
    )


MN = """
[node]
role = "mn"
runtime = "/run/test/mn"
[mobile_node]
home_address = "2001:db8:1::100/64"
home_agent = "2001:db8:1::a"
interfaces = ["eth0", "wlan0"]
"""
PAIRS = pair("signalling", 0x1001) + pair("tunnel", 0x2001)
APPLICATION = pair("application", 0x3001, 'name = "cn"\npeer = "2001:db8:5::2"')
HA = """
[node]
role = "ha"
[home_agent]
address = "2001:db8:1::a/64"
interface = "eth0"
[[home_agent.terminal]]
home_address = "2001:db8:1::100"
"""
HA_PAIRS = pair("signalling", 0x1001, 'peer = "2001:db8:1::100"') + pair("tunnel", 0x2001, 'peer = "2001:db8:1::100"')
CN = """
[node]
role = "cn"
[correspondent]
address = "2001:db8:5::2/64"
interface = "eth0"
"""


def complaint(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, PATH)
    message = str(caught.value)
    assert message.startswith("node.toml: ")
    return message


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


def agent(keys: str = "", terminal: str = "", after: str = "") -> str:
    head, _, rest = HA.partition("[[home_agent.terminal]]")
    return f"{head}{keys}\n[[home_agent.terminal]]{rest}{terminal}\n{HA_PAIRS}{after}"


ROUTED = agent(terminal='mobile_networks = ["2001:db8:1:7::/64"]').replace(
    'interface = "eth0"', 'home_link = "routed"\nprefixes = ["2001:db8:1::/56"]'
)


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


MISTAKES = {
    "no toml": ("= 3", "is not TOML"),
    "deeply nested": ("x = " + "[" * 5000, "is not TOML"),
    "empty": ("", "node: is missing; expected is a table"),
    "node is no table": ('node = "mn"', "node: has to be a table"),
    "no role": ("[node]", 'node.role: is missing; expected is one of "mn", "router", "ha", "cn"'),
    "wrong role": ('[node]\nrole = "switch"', "node.role: 'switch' is not one of"),
    "relative runtime": ('[node]\nrole = "mn"\nruntime = "run"', "node.runtime: 'run' is not the absolute path"),
    "long runtime": ('[node]\nrole = "mn"\nruntime = "/' + "r" * 90 + '"', "node.runtime: '/rrr"),
    "unknown key of node": (
        '[node]\nrole = "mn"\ncolour = 1',
        "node.colour: is not known here; there are role, runtime",
    ),
    "no role table": ('[node]\nrole = "ha"', "home_agent: is missing"),
    "other role's table": (CN + "[home_agent]\n", "home_agent: is not known here"),
    "no home address": (MN.replace("home_address", "home"), "mobile_node.home_address: is missing"),
    "home address without prefix": (MN.replace("100/64", "100"), "mobile_node.home_address: '2001:db8:1::100' is not"),
    "IPv4 home address": (MN.replace("2001:db8:1::100/64", "192.0.2.1/24"), "mobile_node.home_address"),
    "link-local home agent": (MN.replace("2001:db8:1::a", "fe80::1"), "home_agent: 'fe80::1' is not a unicast IPv6"),
    "multicast home agent": (MN.replace("2001:db8:1::a", "ff02::1"), "mobile_node.home_agent"),
    "home agent is home address": (MN.replace("1::a", "1::100"), "is the home address itself"),
    "no interfaces": (MN.replace('["eth0", "wlan0"]', "[]"), "mobile_node.interfaces: [] is not a list"),
    "interface twice": (MN.replace("wlan0", "eth0"), "mobile_node.interfaces"),
    "interface name too long": (MN.replace("wlan0", "w" * 16), "mobile_node.interfaces"),
    "interface called host": (MN.replace("wlan0", "host"), "mobile_node.interfaces"),
    "wrong tunnel": (MN + 'tunnel = "gre"', 'mobile_node.tunnel: \'gre\' is not one of "plain", "esp-mobile", "esp"'),
    "odd lifetime": (MN + "lifetime = 421", "mobile_node.lifetime: 421 is not a number of seconds from 8"),
    "lifetime is true": (MN + "lifetime = true", "mobile_node.lifetime: True"),
    "long lifetime": (MN + "lifetime = 262144", "mobile_node.lifetime"),
    "route optimization of no kind": (MN + 'route_optimization = "sometimes"', "mobile_node.route_optimization"),
    "rule without a network": (
        MN + '[[mobile_node.correspondent]]\nroute_optimization = "never"',
        "mobile_node.correspondent[0].network",
    ),
    "rule with a word too many": (
        MN + '[[mobile_node.correspondent]]\nnetwork = "::/0"\nroute_optimization = "never"\nwhy = 1',
        "mobile_node.correspondent[0].why",
    ),
    "scenario is a text": (MN + 'scenarios = ["10020"]', "mobile_node.scenarios"),
    "no associations": (MN, 'one with use = "signalling" and peer = "2001:db8:1::a" is missing'),
    "no tunnel association": (MN + pair("signalling", 1000), 'use = "tunnel"'),
    "association without use": (MN + PAIRS + pair("tunnel", 1).replace("tunnel", "both"), "association[2].use: 'both'"),
    "tunnel not used": (MN + 'tunnel = "plain"\n' + PAIRS, "association[1].use: nothing here uses a tunnel"),
    "two tunnels": (MN + PAIRS + pair("tunnel", 5000, 'name = "x"'), "association[2].peer: there is a tunnel"),
    "tunnel with a stranger": (MN + pair("tunnel", 256, 'peer = "2001:db8::9"'), "association[0].peer: has to be the"),
    "application without peer": (MN + PAIRS + pair("application", 3000), "association[2].peer: is missing"),
    "application at an agent": (HA + HA_PAIRS + APPLICATION, "association[2].use: a home agent has no applications"),
    "name twice": (
        MN + PAIRS + APPLICATION + pair("application", 4000, 'name = "cn"\npeer = "2001:db8:5::3"'),
        "association[3].name: 'cn' is taken",
    ),
    "SPI twice": (MN + pair("signalling", 1000) + pair("tunnel", 1000), "association[1].inbound.spi: 0x3e9 is taken"),
    "reserved SPI": (MN + pair("signalling", 255), "association[0].outbound.spi: 255 is not an SPI from 0x100"),
    "unknown algorithm": (
        MN + PAIRS.replace(CBC, "rot13"),
        "association[0].outbound.algorithm: 'rot13' is not one of \"aes-gcm-16\"",
    ),
    "static keys with AEAD": (
        MN + pair("signalling", 1000) + pair("tunnel", 2000, "", "aes-gcm-16"),
        "association[1].outbound.algorithm: aes-gcm-16 must never see a key again",
    ),
    "static ChaCha20": (MN + pair("tunnel", 2000, "", "chacha20-poly1305"), 'keys = "session"'),
    "short key": (MN + PAIRS.replace("01" * 32, "01" * 31, 1), "outbound.encryption: aes-cbc-hmac-sha2-256-128 needs"),
    "no authentication key": (MN + PAIRS.replace("authentication", "a", 1), "association[0].outbound.a: is not known"),
    "key is no hex": (MN + PAIRS.replace("01" * 32, "xy", 1), "outbound.encryption: this is not a key in hexadecimal"),
    "key is a number": (MN + PAIRS.replace(f'"{"01" * 32}"', "7", 1), "outbound.encryption: this is not a key"),
    "same keys both ways": (
        MN + PAIRS.replace("02" * 32, "01" * 32),
        "association[0].inbound: has the keys of outbound",
    ),
    "association is a table": (MN + "[association]\n", "association: has to be written as [[association]]"),
    "wrong MTU": (MN + PAIRS + "[host_os]\nmtu = 1279", "host_os.mtu: 1279 is not an MTU of 1280"),
    "namespace with a slash": (MN + PAIRS + '[host_os]\nnamespace = "a/b"', "host_os.namespace: 'a/b'"),
    "namespace upwards": (MN + PAIRS + '[host_os]\nnamespace = ".."', "host_os.namespace"),
    "policy without association": (MN + PAIRS + '[[policy]]\naction = "protect"', "policy[0].association: has to name"),
    "policy by the tunnel": (
        MN + PAIRS + '[[policy]]\naction = "protect"\nassociation = "tunnel-2001:db8:1::a"',
        "policy[0].association",
    ),
    "bypass by an association": (
        MN + PAIRS + APPLICATION + '[[policy]]\naction = "bypass"\nassociation = "cn"',
        "policy[0].association: only goes with",
    ),
    "ports of what": (MN + PAIRS + '[[policy]]\naction = "bypass"\nlocal_port = 5', "policy[0].protocol: has to be"),
    "ports backwards": (
        MN + PAIRS + '[[policy]]\naction = "bypass"\nlocal_port = "9-8"',
        "policy[0].local_port: '9-8'",
    ),
    "port too large": (MN + PAIRS + '[[policy]]\naction = "bypass"\nlocal_port = 65536', "policy[0].local_port"),
    "host bits in prefix": (
        MN + PAIRS + '[[policy]]\naction = "bypass"\nremote = "2001:db8::1/64"',
        "policy[0].remote: '2001:db8::1/64' is not an IPv6 prefix",
    ),
    "unknown protocol": (MN + PAIRS + '[[policy]]\naction = "bypass"\nprotocol = "sctp"', "policy[0].protocol: 'sctp'"),
    "unknown table": (
        MN + PAIRS + "[mobil_node]\n",
        "mobil_node: is not known here; there are application_keys, association, gateway, host_os",
    ),
    "terminal twice": (
        HA + '[[home_agent.terminal]]\nhome_address = "2001:db8:1::100"\n',
        "home_agent.terminal[1].home_address: 2001:db8:1::100 is taken",
    ),
    "terminal elsewhere": (
        HA.replace("1::100", "2::100"),
        "home_agent.terminal[0].home_address: 2001:db8:2::100 is not in the home network 2001:db8:1::/64",
    ),
    "everything first": (
        MN.replace('"eth0", "wlan0"', '"*", "wlan0"'),
        "mobile_node.interfaces: ['*', 'wlan0'] is not",
    ),
    "native everywhere": (
        MN.replace('"wlan0"', '"*"') + 'access = "native"',
        'mobile_node.interfaces: has to name each interface where access = "native"',
    ),
    "wrong access": (MN + 'access = "tcp"', 'mobile_node.access: \'tcp\' is not one of "auto", "native", "udp"'),
    "multicast IPv4 home agent": (MN + 'home_agent4 = "224.0.0.1"', "mobile_node.home_agent4: '224.0.0.1' is not a"),
    "terminal without a port": (MN + "udp_port = 0", "mobile_node.udp_port: 0 is not a port number"),
    "some IPv4 home address": (MN + 'home_address4 = "any"', "mobile_node.home_address4: 'any' is not \"request\""),
    "negative overlap": (MN + "overlap = -0.5", "mobile_node.overlap: -0.5 is not a number of seconds from 0 to 10"),
    "endless overlap": (MN + "overlap = nan", "mobile_node.overlap: nan"),
    "keepalive is a text": (MN + 'keepalive = "20"', "mobile_node.keepalive: '20' is not a number of seconds"),
    "signalling under AH without a pair": (
        MN + 'signalling = "ah+esp"\n' + PAIRS,
        'association: one with use = "signalling-ah" and peer = "2001:db8:1::a" is missing; write one, or choose a'
        " signalling without AH",
    ),
    "signalling under both with AH alone": (
        MN + 'signalling = "ah+esp"\n' + pair("signalling-ah", 0x1001, algorithm=AH) + pair("tunnel", 0x2001),
        'association: one with use = "signalling" and peer',
    ),
    "AH that nothing uses": (
        MN + PAIRS + pair("signalling-ah", 0x5001, algorithm=AH),
        "association[2].use: nothing here uses a signalling-ah association",
    ),
    "AH with an algorithm of ESP": (
        MN + 'signalling = "ah"\n' + pair("signalling-ah", 0x1001) + pair("tunnel", 0x2001),
        f"association[0].outbound.algorithm: {CBC} is not for signalling-ah, which takes {AH}",
    ),
    "ESP with the algorithm of AH": (
        MN + pair("signalling", 0x1001, algorithm=AH),
        f"association[0].outbound.algorithm: {AH} is not for signalling, which takes aes-gcm-16, ",
    ),
    "AH with one key for both": (
        MN + f'[[association]]\nuse = "signalling-ah"\noutbound = {direction(0x1001, 1, AH)}\n'
        f"inbound = {direction(0x1002, 1, AH)}\n",
        "association[0].inbound: has the keys of outbound",
    ),
    "an SPI of AH twice": (
        MN + 'signalling = "ah"\n' + pair("signalling-ah", 0x2001, algorithm=AH) + pair("tunnel", 0x2001),
        "association[1].inbound.spi: 0x2002 is taken",
    ),
    "tunnel like IPv6": (
        MN + pair("signalling", 0x1001) + pair("tunnel", 0x6000_0001),
        "association[1].outbound.spi: 0x60000001 begins with the digit 6",
    ),
    "tunnel like IPv4": (
        MN + pair("signalling", 0x1001) + pair("tunnel", 0x3FFF_FFFF),
        "association[1].inbound.spi: 0x40000000 begins with the digit 4",
    ),
    "DNS of IPv4 without an address": (
        MN + PAIRS + '[host_os]\ndns = ["192.0.2.53"]',
        "host_os.dns: 192.0.2.53 can only be asked with mobile_node.home_address4",
    ),
    "DNS here": (MN + PAIRS + '[host_os]\ndns = ["127.0.0.53"]', "host_os.dns: ['127.0.0.53'] is not a list of"),
    "two IPv4 addresses": (
        MN + 'home_address4 = "request"\n' + PAIRS + '[host_os]\naddress4 = "192.0.2.1"',
        "host_os.address4: is what mobile_node.home_address4 gives",
    ),
    "routed link of what is not routed": (
        ROUTED.replace("2001:db8:1::/56", "2001:db8:2::/56"),
        "home_agent.prefixes: has to contain the home network 2001:db8:1::/64",
    ),
    "routed prefixes one inside the other": (
        ROUTED.replace('/56"', '/56", "2001:db8:1:1::/64"'),
        "home_agent.prefixes: [",
    ),
    "advertisements on a routed link": (
        ROUTED.replace("home_link", "advertise = 60\nhome_link"),
        "home_agent.advertise: is for other home agents",
    ),
    "one TUN device for two": (
        ROUTED.replace("home_link", 'ipv4_pool = "10.0.0.0/8"\ninterface = "roam4"\nhome_link'),
        "home_agent.interface: roam4 is ipv4_interface already",
    ),
    "mobile network that is not routed": (
        ROUTED.replace("2001:db8:1:7::/64", "2001:db8:9::/64"),
        "home_agent.terminal[0].mobile_networks: 2001:db8:9::/64 is in none of home_agent.prefixes",
    ),
    "two that serve and do not hear each other": (
        ROUTED + '[store]\nkind = "redis"\nurl = "redis://127.0.0.1"\nunreachable = "serve"\n',
        'store.unreachable: "serve" needs an Ethernet home link',
    ),
    "prefixes on an Ethernet link": (
        agent('prefixes = ["2001:db8:1::/64"]'),
        'home_agent.prefixes: only goes with home_link = "routed"',
    ),
    "unknown home link": (agent('home_link = "wifi"'), "home_agent.home_link: 'wifi' is not"),
    "listening everywhere": (agent('udp = ["0.0.0.0"]'), "home_agent.udp: ['0.0.0.0'] is not a list"),
    "listening twice": (agent('udp = ["192.0.2.1", "192.0.2.1"]'), "home_agent.udp"),
    "listening at home": (agent('udp = ["2001:db8:1::a"]'), "home_agent.udp: 2001:db8:1::a need not be listed"),
    "listening without a port": (agent('udp = ["192.0.2.1"]\nudp_port = 0'), "home_agent.udp_port: has to be a port"),
    "pool with host bits": (agent('ipv4_pool = "10.0.0.1/8"'), "home_agent.ipv4_pool: '10.0.0.1/8' is not an IPv4"),
    "no pool": (
        agent(terminal='home_address4 = "10.0.0.1"'),
        "home_agent.terminal[0].home_address4: 10.0.0.1 is not in home_agent.ipv4_pool (there is none)",
    ),
    "beside the pool": (
        agent('ipv4_pool = "10.1.0.0/16"', 'home_address4 = "10.0.0.1"'),
        "home_address4: 10.0.0.1 is not in home_agent.ipv4_pool (it is 10.1.0.0/16)",
    ),
    "IPv4 home address twice": (
        agent(
            'ipv4_pool = "10.0.0.0/16"',
            'home_address4 = "10.0.0.1"\n[[home_agent.terminal]]\nhome_address = "2001:db8:1::101"\n'
            'home_address4 = "10.0.0.1"',
        ),
        "home_agent.terminal[1].home_address4: 10.0.0.1 is taken",
    ),
    "terminal's name twice": (
        agent(
            terminal='name = "a"\n[[home_agent.terminal]]\nhome_address = "2001:db8:1::101"\nname = "a"',
        ),
        "home_agent.terminal[1].name: 'a' is taken",
    ),
    "admitted perhaps": (agent(terminal='admitted = "yes"'), "terminal[0].admitted: 'yes' is not true or false"),
    "no directory of terminals": (
        agent('terminals = "nowhere"'),
        "home_agent.terminals: there is no directory nowhere: make it with `mkdir -m 700 nowhere`",
    ),
    "unknown store": (agent(after='[store]\nkind = "files"'), 'store.kind: \'files\' is not one of "sqlite", "redis"'),
    "redis nowhere": (agent(after='[store]\nkind = "redis"'), "store.url: is missing"),
    "url of a file": (agent(after='[store]\nurl = "redis://h"'), 'store.url: only goes with kind = "redis"'),
    "url of the web": (
        agent(after='[store]\nkind = "redis"\nurl = "http://:0101@h"'),
        'store.url: this is not a URL such as "redis://',
    ),
    "store of a terminal": (MN + PAIRS + "[store]\n", "store: is not known here"),
    "metrics nowhere": (agent(after="[metrics]\n"), "metrics.listen: is missing"),
    "metrics without a port": (agent(after='[metrics]\nlisten = "127.0.0.1"'), "metrics.listen: '127.0.0.1' is not an"),
    "metrics without brackets": (agent(after='[metrics]\nlisten = "::1:80"'), "metrics.listen: '::1:80'"),
    "host OS of an agent": (HA + HA_PAIRS + "[host_os]\n", "host_os: is not known here"),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_named(text: str, expected: str) -> None:
    message = complaint(text)
    assert expected in message
    assert "0101" not in message
    assert "0202" not in message


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list():
            return "[" + ", ".join(toml(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f"{toml(str(key))} = {toml(item)}" for key, item in value.items()) + "}"
    escaped = "".join(f"\\U{ord(letter):08x}" for letter in str(value) if not 0xD800 <= ord(letter) < 0xE000)
    return f'"{escaped}"'


LINES = [line for line in (MN + PAIRS + APPLICATION).splitlines() if "=" in line]


@given(st.sampled_from(LINES), VALUES)
def test_any_value_anywhere_is_taken_or_complained_about(line: str, value: object) -> None:
    key = line.partition("=")[0]
    text = (MN + PAIRS + APPLICATION).replace(line, f"{key}= {toml(value)}", 1)
    try:
        assert isinstance(parse(text, PATH), Configuration)
    except ConfigurationError as error:
        assert str(error).startswith("node.toml: ")  # noqa: PT017 - both ends of the try are right


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mn.toml"
    path.touch(0o600)
    path.write_text(MN + PAIRS)
    assert load(path, role=Role.MOBILE_NODE).path == path
    with pytest.raises(ConfigurationError, match=f"is for role mn: start it with `mobility mn --config {path}`"):
        load(path, role=Role.HOME_AGENT)


def test_directories_of_an_ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_runtime(Role.HOME_AGENT) == Path("/run/roamphone/ha")
    assert default_state(Role.HOME_AGENT) == Path("/var/lib/roamphone/ha")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/state")
    assert default_runtime(Role.MOBILE_NODE) == Path("/run/user/1000/roamphone/mn")
    assert default_state(Role.MOBILE_NODE) == Path("/home/u/state/roamphone/mn")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_runtime(Role.MOBILE_NODE) == Path("/home/u/state/roamphone/mn/run")


def test_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mn.toml"
    path.write_text(MN + PAIRS)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        load(path)
    path.write_text(MN + 'tunnel = "plain"\nsignalling = "none"\n')
    assert load(path).associations == ()


def terminal_file(number: int, *, pairs: bool = True) -> str:
    peer = f"2001:db8:1::{number}"
    text = f'[[home_agent.terminal]]\nhome_address = "{peer}"\nname = "t{number}"\n'
    if pairs:
        text += pair("signalling", 0x1000 + number, f'peer = "{peer}"') + pair(
            "tunnel", 0x2000 + number, f'peer = "{peer}"'
        )
    return text


def agent_files(tmp_path: Path, files: dict[str, str], keys: str = "", directory: str = "ha.d") -> Path:
    path = tmp_path / "ha.toml"
    path.touch(0o600)
    path.write_text(agent(keys))
    (tmp_path / directory).mkdir(mode=0o700)
    for name, text in files.items():
        file = tmp_path / directory / name
        file.touch(0o600)
        file.write_text(text)
    return path


def test_terminals_have_files_of_their_own(tmp_path: Path) -> None:
    files = {
        "b.toml": terminal_file(300),
        "a.toml": terminal_file(200),
        "c.toml.new": "= half written",
        ".d.toml": "= an editor's",
    }
    read = load(agent_files(tmp_path, files))
    assert read.home_agent is not None
    assert read.home_agent.directory == tmp_path / "ha.d"
    assert [terminal.name for terminal in read.home_agent.terminals] == ["2001:db8:1::100", "t200", "t300"]
    assert len(read.associations) == 6
    tunnel = read.pair(Use.TUNNEL, IPv6Address("2001:db8:1::300"))
    assert tunnel is not None
    assert (tunnel.inbound.spi, tunnel.where) == (0x2000 + 301, f"{tmp_path}/ha.d/b.toml: association[1]")


def test_the_directory_of_terminals_may_be_anywhere(tmp_path: Path) -> None:
    path = agent_files(tmp_path, {"a.toml": terminal_file(200)}, 'terminals = "people"', "people")
    read = load(path)
    assert read.home_agent is not None
    assert len(read.home_agent.terminals) == 2


TERMINAL_MISTAKES = {
    "no toml": ("=", "a.toml: is not TOML"),
    "other tables": (
        terminal_file(200) + "[node]\n",
        "a.toml: node: is not known here; there are association, home_agent",
    ),
    "other keys": (
        "[home_agent]\nudp_port = 1\n",
        "a.toml: home_agent.udp_port: is not known here; there are terminal",
    ),
    "no keys": (
        terminal_file(200, pairs=False),
        'a.toml: association: one with use = "signalling" and peer = "2001:db8:1:',
    ),
    "taken": (terminal_file(100), "a.toml: home_agent.terminal[0].home_address: 2001:db8:1::100 is taken already"),
    "taken SPI": (
        terminal_file(200).replace("= 4297,", "= 4098,"),
        "a.toml: association[0].inbound.spi: 0x1002 is taken",
    ),
    "application": (
        terminal_file(200) + pair("application", 0x7000, 'peer = "2001:db8::1"'),
        "a.toml: association[2].use: a home agent has no applications",
    ),
}


@pytest.mark.parametrize(("text", "expected"), TERMINAL_MISTAKES.values(), ids=TERMINAL_MISTAKES.keys())
def test_mistakes_in_files_of_terminals_are_named(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(agent_files(tmp_path, {"a.toml": text}))
    assert str(caught.value).startswith(f"{tmp_path}/ha.d/")
    assert expected in str(caught.value)


def test_files_of_terminals_that_others_can_read_are_refused(tmp_path: Path) -> None:
    path = agent_files(tmp_path, {"a.toml": terminal_file(200)})
    (tmp_path / "ha.d/a.toml").chmod(0o604)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {tmp_path}/ha.d/a.toml"):
        load(path)


def test_a_password_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ha.toml"
    bare = HA + 'tunnel = "plain"\nsignalling = "none"\n'
    path.write_text(bare + '[store]\nkind = "redis"\nurl = "redis://:word@h"\n')
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load(path)
    path.write_text(bare + '[store]\nkind = "redis"\nurl = "redis://h"\n')
    assert load(path).store is not None


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load(tmp_path / "nothing.toml")
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# \xe4\n")
    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        load(path)


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
