"""A Linux kernel takes address and router from our advertisements, and gives the router up when we say goodbye."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from ipaddress import IPv6Address

import pytest

from mobility.anchor_point import AnchorPointNode, AnchorPointSettings, Announcement
from mobility.host.advertiser import Advertising
from mobility.links import LinkSettings
from mobility.net import namespace, netlink
from mobility.net.data_plane import DataPlane
from mobility.net.loop import Loop
from mobility.wire import ndisc

from .networks import Notes, cable, run

pytestmark = pytest.mark.root

ROUTER = IPv6Address("fe80::1")
ADVERTISING = Advertising(
    prefixes=(ndisc.PrefixInformation(IPv6Address("2001:db8:a::"), 64, 7200, 3600),),
    max_interval=3.0,
    min_interval=1.0,
    shortest_gap=0.03,
    options=(ndisc.MapOption(IPv6Address("2001:db8:9::9"), 600, reverse_tunnel=True),),
)


def test_a_linux_kernel_believes_us() -> None:
    with cable() as wire:
        with namespace.inside(wire.peer):
            for name in ("accept_ra", "autoconf"):
                with open(f"/proc/sys/net/ipv6/conf/eth0/{name}", "w") as file:
                    file.write("1")
        with namespace.inside(wire.ours):
            interface = netlink.read_links()["eth0"]
            link = LinkSettings("eth0", interface.address, interface.mtu)
            settings = AnchorPointSettings(announcements=(Announcement(link, ADVERTISING, ROUTER),))
            loop = Loop()
            plane = DataPlane(loop, AnchorPointNode(settings, os.urandom), {"eth0": interface}, Notes())
            plane.start()

        def until(condition: Callable[[], bool]) -> None:
            deadline = time.monotonic() + 10
            while not condition():
                assert time.monotonic() < deadline, run("ip", "-n", wire.peer, "-6", "route")
                with namespace.inside(wire.ours):
                    plane.turn(0.05)

        def default() -> str:
            return run("ip", "-n", wire.peer, "-6", "route", "show", "default")

        until(lambda: f"via {ROUTER}" in default())
        until(lambda: "2001:db8:a:" in run("ip", "-n", wire.peer, "-6", "addr", "show", "dev", "eth0"))
        with namespace.inside(wire.ours):
            plane.close()
        loop.close()
        deadline = time.monotonic() + 5
        while f"via {ROUTER}" in default():
            assert time.monotonic() < deadline, "the router was not taken back"
            time.sleep(0.05)
