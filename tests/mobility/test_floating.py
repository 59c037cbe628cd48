"""IPv4 addresses that are lent to the kernel for as long as a home agent serves."""

from __future__ import annotations

import socket
import time
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path

import pytest

from mobility.floating import LOAN, RENEWAL, FloatingAddresses, FloatingRoutes, announcement
from mobility.net import namespace
from mobility.net.tun_link import TunLink
from tests.mobility.net.networks import OUR_MAC, Cable, cable, run

ADDRESS = IPv4Address("198.51.100.10")


@pytest.mark.root
class TestKernel:
    def test_it_is_announced_lasts_while_renewed_and_goes_by_itself(self) -> None:
        with cable() as wire:
            with namespace.inside(wire.peer):
                heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
                heard.bind(("eth0", 0x0806))
                heard.settimeout(5.0)
            with heard, namespace.inside(wire.ours):
                floating = FloatingAddresses("eth0", [ADDRESS])
                floating.take(time.monotonic())
                assert heard.recv(100)[:42] == announcement(bytes.fromhex(OUR_MAC.replace(":", "")), ADDRESS)
                began = time.monotonic()
                while (now := time.monotonic()) - began < LOAN + 1.5:
                    floating.turned(now)
                    assert has(wire)
                    time.sleep(RENEWAL / 5)
                while has(wire):  # nobody renews it any more
                    assert time.monotonic() - now < LOAN + 1.5
                    time.sleep(0.05)
                floating.take(time.monotonic())
                assert has(wire)
                floating.leave()
                assert not has(wire)
                floating.leave()

    def test_routes_go_first_come_again_and_go(self) -> None:
        home, large = IPv6Network("2001:db8:9::/64"), IPv6Network("2001:db8:9::/56")
        with cable() as wire, namespace.inside(wire.ours):
            Path("/proc/sys/net/ipv6/conf/eth0/disable_ipv6").write_text("0")
            wire.ip("addr add 2001:db8:9::5/64 dev eth0 nodad")  # and the kernel believes that all of it is there
            link = TunLink("roam6", 1500)
            link.open()
            routes = FloatingRoutes("roam6", [home, large])
            routes.take(1.0)
            assert "dev roam6" in run("ip", "-n", wire.ours, "-6", "route", "get", "2001:db8:9::100")
            assert "dev roam6" in run("ip", "-n", wire.ours, "-6", "route", "get", "2001:db8:9:7::1")
            assert run("ip", "-n", wire.ours, "-6", "route", "get", "2001:db8:9::5").startswith("local")
            wire.ip("-6 route flush dev roam6")
            routes.turned(1.1)
            assert "roam6" not in run("ip", "-n", wire.ours, "-6", "route")
            routes.turned(1.0 + RENEWAL)
            assert run("ip", "-n", wire.ours, "-6", "route").count("roam6") == 2
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as program:
                program.sendto(b"hello", ("2001:db8:9::100", 9))
            ((packet, sender),) = link.receive(64)
            assert (packet.endswith(b"hello"), sender) == (True, b"")
            routes.leave()
            assert "roam6" not in run("ip", "-n", wire.ours, "-6", "route")
            routes.leave()
            link.close()
            routes.leave()

    def test_what_cannot_be_had_is_told_once(self, caplog: pytest.LogCaptureFixture) -> None:
        floating = FloatingAddresses("nothing0", [ADDRESS])
        for number in range(5):
            floating.take(float(number))
        floating.leave()
        assert len(caplog.records) == 1
        assert "udp_interface nothing0" in caplog.text


def has(wire: Cable) -> bool:
    return str(ADDRESS) in run("ip", "-n", wire.ours, "-4", "-o", "address", "show", "dev", "eth0")


def test_the_announcement_is_a_gratuitous_request() -> None:
    frame = announcement(b"\x02\0\0\0\0\x07", ADDRESS)
    assert len(frame) == 42
    assert frame[:6] == b"\xff" * 6
    assert frame[28:32] == frame[38:42] == ADDRESS.packed
