"""Which packet sockets, sockets of UDP and TUN devices a configuration means, on a machine as it is."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from mobility import attachments as module
from mobility.attachments import Attachments, attachments, may_open_packet_sockets, pool_tunnel
from mobility.config import Configuration, parse
from mobility.net import namespace, netlink
from mobility.net.access import AccessSettings
from mobility.net.netlink import LinkState
from mobility.net.obstacles import Forbidden
from tests.ordinary import ordinary_user

from .configurations import CN, HA, HA_PAIRS, MN, PAIRS, agent
from .net.networks import run

AGENT4, AGENT6 = IPv4Address("198.51.100.10"), IPv6Address("2001:db8:1::a")
BY_IPV4 = f'home_agent4 = "{AGENT4}"\n'


def read(text: str) -> Configuration:
    return parse(text, Path("node.toml"))


def terminal(interfaces: str, more: str = "") -> Configuration:
    return read(MN.replace('["eth0", "wlan0"]', interfaces) + more + PAIRS)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """A machine with eth0 and wwan0; the argument: whether packet sockets are permitted."""
    links = {
        "eth0": LinkState(2, "eth0", b"\x02\0\0\0\0\x01", 1500, up=True, ethernet=True),
        "wwan0": LinkState(3, "wwan0", b"", 1400, up=True, ethernet=False),
    }
    monkeypatch.setattr(netlink, "read_links", lambda: links)

    def permit(packet_sockets: bool) -> None:
        monkeypatch.setattr(module, "may_open_packet_sockets", lambda: packet_sockets)

    permit(True)
    return permit


Permit = Callable[[bool], None]


def test_native_where_it_can_be_and_udp_beside_it(machine: Permit) -> None:
    found = attachments(terminal('["eth0", "wwan0", "*"]', BY_IPV4))
    assert set(found.interfaces) == {"eth0"}
    expected = AccessSettings(("eth0", "wwan0"), True, (AGENT4, AGENT6), 4191, frozenset({"eth0"}))
    assert found.access == expected


def test_all_by_udp_without_the_privilege_or_the_wish(machine: Permit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    asked = attachments(terminal('["eth0"]', 'access = "udp"\nudp_port = 4500\n'))
    assert asked == Attachments({}, AccessSettings(("eth0",), False, (AGENT6,), 4500))
    assert caplog.text == ""
    machine(False)
    had_to = attachments(terminal('["eth0"]', BY_IPV4))
    assert had_to == Attachments({}, AccessSettings(("eth0",), False, (AGENT4, AGENT6)))
    assert "needs CAP_NET_RAW" in caplog.text


def test_native_only_opens_no_udp_and_wants_ethernet(machine: Permit) -> None:
    machine(False)
    native = attachments(terminal('["eth0"]', 'access = "native"\n'))
    assert set(native.interfaces) == {"eth0"}  # the data plane says what is missing when it opens it
    assert native.access is None
    with pytest.raises(OSError, match=r"interface wwan0 is not an Ethernet interface: choose another in node\.toml"):
        attachments(terminal('["wwan0"]', 'access = "native"\n'))


def test_an_interface_that_is_not_there_yet_has_a_placeholder(machine: Permit) -> None:
    found = attachments(terminal('["eth7"]'))
    assert found.interfaces["eth7"].address[0] == 2
    assert not found.interfaces["eth7"].up


def test_home_agents_and_correspondents(machine: Permit) -> None:
    found = attachments(read(agent('udp = ["198.51.100.10", "2001:db8:ff::1"]\nudp_port = 4500')))
    assert set(found.interfaces) == {"eth0"}
    assert (found.access, found.listen) == (None, ((AGENT4, 4500), (IPv6Address("2001:db8:ff::1"), 4500)))
    assert attachments(read(CN)).listen == ()
    with pytest.raises(OSError, match="interface wwan0 is not an Ethernet"):
        attachments(read((HA + HA_PAIRS).replace("eth0", "wwan0")))


def test_no_tun_device_without_a_pool() -> None:
    assert pool_tunnel(read(agent())) is None
    assert pool_tunnel(read(CN)) is None


@pytest.mark.root
def test_the_kernel_routes_the_pool_to_its_tun_device() -> None:
    name = f"rnet-{os.getpid()}-{secrets.token_hex(2)}"
    run("ip", "netns", "add", name)
    try:
        configuration = read(agent('ipv4_pool = "10.64.0.0/16"'))
        with namespace.inside(name):
            tunnel = pool_tunnel(configuration)
            assert tunnel is not None
            with pytest.raises(Forbidden, match="an interface of this name is in use"):
                pool_tunnel(configuration)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
                program.sendto(b"hello", ("10.64.3.7", 9))
        (packet,) = tunnel.receive(64)
        assert (packet[0] >> 4, packet[12:16], packet[16:20]) == (
            4,
            IPv4Address("10.64.0.1").packed,
            IPv4Address("10.64.3.7").packed,
        )
        assert packet.endswith(b"hello")
        shown = run("ip", "-n", name, "-4", "route")
        assert shown.split("\n")[0].startswith("10.64.0.0/16 dev roam4")
        assert "inet6" not in run("ip", "-n", name, "addr", "show", "dev", "roam4")
        tunnel.close()
    finally:
        run("ip", "netns", "del", name)


@pytest.mark.root
def test_only_who_may_opens_packet_sockets() -> None:
    assert may_open_packet_sockets()
    with ordinary_user() as user:
        program = "from mobility.attachments import may_open_packet_sockets as may; raise SystemExit(3 + may())"
        assert user.run("python", "-c", program).returncode == 3
