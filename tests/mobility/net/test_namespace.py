"""Namespaces and rtnetlink, for real."""

from __future__ import annotations

import errno
import os
import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from mobility.net import namespace, netlink
from mobility.net.netlink import LinkMonitor, LinkState, RouteSocket

from .networks import run

root = pytest.mark.root


@pytest.fixture
def name() -> Iterator[str]:
    made = f"rnet-{os.getpid()}-{secrets.token_hex(2)}"
    yield made
    namespace.withdraw(made)


def here() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def in_child(work: Callable[[], None]) -> int:
    """Does something that a process cannot take back; returns the exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "-rf", "x" * 65, "a b", "\0"])
def test_names_that_are_no_plain_file_names(bad: str) -> None:
    assert not namespace.valid_name(bad)
    assert namespace.valid_name("roam-1.home_a")


@root
def test_a_named_namespace_is_one_of_iproute2_s_and_goes(name: str) -> None:
    def make() -> None:
        namespace.unshare_network()
        namespace.publish(name)

    assert not namespace.exists(name)
    assert in_child(make) == 0
    assert namespace.exists(name)
    assert "lo" in run("ip", "-n", name, "link")
    assert in_child(lambda: namespace.publish(name)) == 1  # taken
    namespace.withdraw(name)
    namespace.withdraw(name)
    assert not namespace.exists(name)
    assert not (namespace.NAMED / name).exists()


@root
def test_inside_returns_whatever_happens(name: str) -> None:
    run("ip", "netns", "add", name)
    home = here()
    seen = []

    def fail() -> None:
        with namespace.inside(name):
            seen.append(here())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen != [home]
    assert here() == home
    with pytest.raises(FileNotFoundError), namespace.inside(name + "-not"):
        pass
    assert here() == home
    run("ip", "netns", "del", name)


@root
def test_a_file_without_a_namespace_is_none(name: str) -> None:
    (namespace.NAMED / name).touch()
    assert not namespace.exists(name)
    namespace.withdraw(name)
    assert not (namespace.NAMED / name).exists()


class Watcher:
    """A monitor in a namespace."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.monitor = LinkMonitor()
        with namespace.inside(where):
            self.start = self.monitor.open()

    def until(self, condition: Callable[[LinkState], bool]) -> LinkState:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            select.select([self.monitor], [], [], 0.5)
            with namespace.inside(self.where):  # an overrun reads anew
                for link in self.monitor.read():
                    if condition(link):
                        return link
        raise AssertionError("was not told")


@pytest.fixture
def watcher(name: str) -> Iterator[Watcher]:
    run("ip", "netns", "add", name)
    made = Watcher(name)
    yield made
    made.monitor.close()


@root
def test_changes_of_links_are_told(watcher: Watcher) -> None:
    def ip(arguments: str) -> None:
        run("ip", "-n", watcher.where, *arguments.split())

    assert [link.name for link in watcher.start] == ["lo"]
    ip("link add eth0 address 02:00:00:00:00:07 mtu 1400 type veth peer name eth1")
    seen = watcher.until(lambda link: link.name == "eth0")
    assert (seen.address.hex(":"), seen.mtu, seen.up, seen.ethernet) == ("02:00:00:00:00:07", 1400, False, True)
    ip("link set eth0 up")
    ip("link set eth1 up")
    assert watcher.until(lambda link: link.name == "eth0" and link.up).index == seen.index
    ip("link set eth1 down")
    watcher.until(lambda link: link.name == "eth0" and not link.up)
    ip("link set eth0 mtu 1300")
    watcher.until(lambda link: link.name == "eth0" and link.mtu == 1300)
    ip("link del eth0")
    assert watcher.until(lambda link: link.name == "eth0" and link.removed).up is False
    assert watcher.monitor.read() == []


@root
def test_after_an_overrun_the_state_is_read_anew(watcher: Watcher) -> None:
    run("ip", "-n", watcher.where, *"link add gone0 type veth peer name gone1".split())
    watcher.until(lambda link: link.name == "gone0")
    with namespace.inside(watcher.where), RouteSocket() as route:
        names = {link.name: link.index for link in route.links()}
        for number in range(3000):  # far more than the socket holds
            route.set_properties(names["gone0"], mtu=1400 + number % 2)
        run("ip", "-n", watcher.where, *"link del gone0".split())
    assert watcher.until(lambda link: link.name == "gone0" and link.removed).removed
    assert watcher.monitor.overruns >= 1


@root
def test_refusals_of_the_kernel_are_errors(name: str) -> None:
    run("ip", "netns", "add", name)
    with namespace.inside(name), RouteSocket() as route:
        with pytest.raises(OSError, match="rtnetlink") as caught:
            route.set_up(4711)
        assert caught.value.errno == errno.ENODEV
        route.set_up(socket.if_nametoindex("lo"))
        route.add_address(1, "2001:db8::1", 128)
        route.add_address(1, "2001:db8::1", 128)  # is there already: no error
        assert netlink.read_links()["lo"].up
    run("ip", "netns", "del", name)


def test_a_monitor_that_is_not_open() -> None:
    monitor = LinkMonitor()
    assert monitor.read() == []
    monitor.close()
    with pytest.raises(RuntimeError, match="not open"):
        monitor.fileno()
