"""The tables about gateways: what they say, and what is complained about."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from mobility.config import Configuration, ConfigurationError, Role, parse
from mobility.gateway.settings import Allowed, ClientCertificate, Protocol, Via
from mobility.supervisor import host_settings

FILE = Path("/etc/roamphone/node.toml")
TERMINAL = """
[node]
role = "mn"
[mobile_node]
home_address = "2001:db8:1::100/64"
home_agent = "2001:db8:1::a"
tunnel = "plain"
signalling = "none"
"""
GATEWAY = """
[node]
role = "gateway"
[gateway]
listen = ["[::]:443", "192.0.2.1:8443"]
certificate = "server.pem"
private_key = "/secret/server.key"
"""
ALLOW = '[[gateway.allow]]\nhost = "SIP.inner.example"\nports = [5061, 443]\n'


def terminal(*tables: str) -> Configuration:
    return parse(TERMINAL + "\n".join(tables), FILE)


def complaint(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, FILE)
    return str(caught.value)


def one(lines: str = "", destination: str = 'host = "sip.inner.example"\nports = [5061]') -> str:
    return f'[[gateway]]\nserver = "gw.example.com"\n{lines}\n[[gateway.destination]]\n{destination}\n'


def test_little_is_needed() -> None:
    (access,) = terminal(one()).gateways
    assert (access.name, access.host, access.port, access.server_name) == (
        "gw.example.com", "gw.example.com", 443, "gw.example.com",
    )  # fmt: skip
    assert (access.via, access.protocol, access.keepalive, access.hold) == (Via.HOME, Protocol.H2, 20.0, 60.0)
    (destination,) = access.destinations
    assert (destination.host, destination.ports) == ("sip.inner.example", (5061,))
    assert destination.address == IPv6Address("100:0:0:1::1")


def test_everything_can_be_said() -> None:
    lines = (
        'name = "office"\nserver = "[2001:db8::9]:4433"\nserver_name = "gw.example.com"\nvia = "network"\n'
        'ca_file = "ca.pem"\ncertificate = "mine.pem"\nprivate_key = "mine.key"\nkeepalive = 5\nhold = 10\n'
        'key_log = "/tmp/keys"'
    )
    text = f'[[gateway]]\n{lines}\n[[gateway.destination]]\nhost = "a.test"\naddress = "10.1.1.1"\nports = [1, 2]\n'
    (access,) = terminal(text).gateways
    assert (access.host, access.port, access.server_name) == ("2001:db8::9", 4433, "gw.example.com")
    assert access.ca_file == Path("/etc/roamphone/ca.pem")
    assert access.key_log == Path("/tmp/keys")
    assert access.destinations[0].address == IPv4Address("10.1.1.1")


def test_the_host_os_learns_of_addresses_and_names() -> None:
    second = one('name = "b"', 'host = "2001:db8:8::8"\nports = [443]')
    third = one('name = "c"', 'host = "sip.inner.example"\nports = [5060]')
    settings = host_settings(terminal(one(), second, third))
    assert settings is not None
    assert settings.local == (IPv6Address("100:0:0:1::1"), IPv6Address("2001:db8:8::8"))
    assert dict(settings.hosts) == {"sip.inner.example": "100:0:0:1::1"}


def test_a_terminator_of_tls_is_told_by_port_or_name() -> None:
    text = one('protocol = "raw"', 'host = "a.test"\nports = [443]\nouter_port = 8443\nouter_name = "x.example"')
    (access,) = terminal(text).gateways
    assert (access.destinations[0].outer_port, access.destinations[0].outer_name) == (8443, "x.example")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[gateway]]\nserver = "gw"\n', "gateway[0].destination: is missing"),
        ("[[gateway]]\n", "gateway[0].server: is missing; expected is a name or an address, with a port"),
        (one('via = "air"'), 'gateway[0].via: \'air\' is not one of "home", "network"'),
        (one('server_name = "no spaces please"'), "gateway[0].server_name"),
        (one('certificate = "a.pem"'), "gateway[0].private_key: goes with certificate"),
        (one("keepalive = 0"), "gateway[0].keepalive"),
        (one("colour = 1"), "gateway[0].colour: is not known here"),
        (one(destination='host = "a b"\nports = [1]'), "gateway[0].destination[0].host"),
        (one(destination='host = "a"\nports = []'), "gateway[0].destination[0].ports"),
        (one(destination='host = "a"\nports = [1, 1]'), "gateway[0].destination[0].ports"),
        (one(destination='host = "a"\nports = [70000]'), "gateway[0].destination[0].ports"),
        (one(destination='host = "a"\nports = [1]\nouter_port = 2'), 'only go with protocol = "raw"'),
        (one('protocol = "raw"', 'host = "a"\nports = [1, 2]'), 'is one port where protocol = "raw"'),
        (one(destination='host = "2001:db8::1"\naddress = "2001:db8::2"\nports = [1]'), "only goes with a name"),
        (one(destination='host = "2001:db8:1::100"\nports = [1]'), "is an address of the host OS itself"),
        (one() + one(), "gateway[1].name: 'gw.example.com' is taken already"),
        (one() + one('name = "b"'), "sip.inner.example port 5061 goes through gw.example.com already"),
        (one() + one('name = "b"', 'host = "sip.inner.example"\naddress = "::5"\nports = [1]'), "has the address"),
    ],
)  # fmt: skip
def test_mistakes_of_terminals_are_named(text: str, expected: str) -> None:
    assert expected in complaint(TERMINAL + text)


def test_a_gateway_says_what_may_be_reached() -> None:
    configuration = parse(GATEWAY + ALLOW + '[metrics]\nlisten = "[::1]:9464"\n', FILE)
    assert configuration.role is Role.GATEWAY
    settings = configuration.gateway
    assert settings is not None
    assert settings.listen == ((IPv6Address("::"), 443), (IPv4Address("192.0.2.1"), 8443))
    assert (settings.certificate, settings.private_key) == (
        Path("/etc/roamphone/server.pem"),
        Path("/secret/server.key"),
    )
    assert settings.allowed == (Allowed("sip.inner.example", (5061, 443)),)
    assert settings.client_certificate is ClientCertificate.NONE
    assert configuration.metrics is not None
    assert configuration.host_os is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GATEWAY, "gateway.allow: is missing"),
        (GATEWAY.replace('["[::]:443", "192.0.2.1:8443"]', '"::"') + ALLOW, "gateway.listen"),
        (GATEWAY + 'client_certificate = "required"\n' + ALLOW, "gateway.client_ca: goes with client_certificate"),
        (GATEWAY + 'client_ca = "ca.pem"\n' + ALLOW, "gateway.client_ca: goes with client_certificate"),
        (GATEWAY + ALLOW + 'clients = ["laptop"]\n', "gateway.allow: with clients only goes with client_certificate"),
        (GATEWAY + "sessions = 0\n" + ALLOW, "gateway.sessions"),
        (GATEWAY + ALLOW + "port = 1\n", "gateway.allow[0].port: is not known here"),
        (GATEWAY + ALLOW + "[host_os]\n", "host_os: is not known here"),
        (TERMINAL + "[gateway]\n", "gateway: has to be written as [[gateway]]"),
    ],
)
def test_mistakes_of_gateways_are_named(text: str, expected: str) -> None:
    assert expected in complaint(text)
