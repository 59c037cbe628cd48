"""Namespaces and rtnetlink, for real."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from collections.abc import Callable, Iterator

import pytest

from mobility.net import namespace, netlink
from mobility.net.netlink import RouteSocket

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
