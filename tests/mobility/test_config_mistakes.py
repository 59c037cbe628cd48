"""Mistakes in configurations are named, with their place and what is expected there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.config import Configuration, ConfigurationError, parse
from tests.mobility.configurations import (
    AH,
    APPLICATION,
    CBC,
    CN,
    HA,
    HA_PAIRS,
    MN,
    PAIRS,
    PATH,
    ROUTED,
    agent,
    complaint,
    direction,
    pair,
)

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
