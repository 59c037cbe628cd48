"""What is in the way of packets of a prefix that is routed to this machine, and that nothing else is said to be."""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from types import TracebackType

import pytest

from mobility.net import firewall, hindrances
from mobility.net.firewall import Chain, Hook
from mobility.net.hindrances import Hindrance, RoutedPrefixes
from mobility.net.netlink import AddressState, LinkState, RouteState
from mobility.net.rtnetlink import Message, attribute

ETH0, TUN = 2, 7
HOME, LARGE = IPv6Network("2001:db8:9::/64"), IPv6Network("2001:db8:9::/56")
AGENT, TERMINAL = IPv6Address("2001:db8:9::a"), IPv6Address("2001:db8:9::100")
DEFAULT = RouteState(ETH0, IPv6Network("::/0"), 1024)
OURS = RouteState(TUN, HOME, 1)
WANTED = RoutedPrefixes(
    "roam6", (HOME, LARGE), frozenset((AGENT, TERMINAL)), ((IPv4Address("198.51.100.10"), 4191),)
)  # fmt: skip


class Kernel:
    """What a kernel would say; a `RouteSocket`."""

    def __init__(self) -> None:
        self.routed = [DEFAULT, OURS]
        self.had: list[AddressState] = []
        self.chains: list[Chain] = []
        self.error: OSError | None = None

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return None

    def links(self) -> list[LinkState]:
        return [
            LinkState(ETH0, "eth0", b"\x02" + bytes(5), 1500, up=True, ethernet=True),
            LinkState(TUN, "roam6", b"", 1500, up=True, ethernet=False),
        ]

    def addresses(self) -> list[AddressState]:
        return self.had

    def routes(self) -> list[RouteState]:
        return self.routed

    def dropping(self) -> list[Chain]:
        if self.error is not None:
            raise self.error
        return self.chains


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(hindrances, "RouteSocket", lambda: made)
    monkeypatch.setattr(firewall, "dropping_chains", made.dropping)
    return made


Look = Callable[[], list[Hindrance]]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    directory = tmp_path / "net/ipv6/conf"
    for interface in ("all", "eth0"):
        (directory / interface).mkdir(parents=True)
    (directory / "all/forwarding").write_text("1\n")
    (directory / "eth0/accept_ra").write_text("2\n")
    return lambda: hindrances.hindrances(WANTED, tmp_path)


def test_nothing(kernel: Kernel, look: Look) -> None:
    kernel.routed += [
        RouteState(ETH0, HOME, 256),  # of an address that the interface has
        RouteState(ETH0, IPv6Network("2001:db8:9::5/128"), 256),
        RouteState(ETH0, IPv6Network("2001:db8:9:4::/64"), 256),  # somebody else's piece of it, where we have nothing
        RouteState(ETH0, IPv4Network("0.0.0.0/0"), 0),
    ]
    kernel.had = [AddressState(ETH0, IPv6Address("2001:db8:9::5"), 64, True)]
    kernel.chains = [Chain("ip", "filter", "FORWARD", Hook.FORWARD), Chain("ip6", "filter", "INPUT", Hook.INPUT)]
    assert look() == []


def test_no_forwarding(kernel: Kernel, look: Look, tmp_path: Path) -> None:
    (tmp_path / "net/ipv6/conf/all/forwarding").write_text("0\n")
    (found,) = look()
    assert (found.subject, found.fatal) == ("forwarding", True)
    assert "accept_ra" not in found.obstacle.remedy
    (tmp_path / "net/ipv6/conf/eth0/accept_ra").write_text("1\n")
    (found,) = look()
    lines = found.obstacle.remedy.splitlines()
    # In this order: a router takes no advice of other routers any more, and the default route goes at once.
    ra, forwarding = (
        lines.index(f"    sysctl -w net.ipv6.conf.{each}") for each in ("eth0.accept_ra=2", "all.forwarding=1")
    )
    assert ra < forwarding
    assert "    net.ipv6.conf.all.forwarding = 1" in lines


def test_an_address_that_the_kernel_has(kernel: Kernel, look: Look) -> None:
    kernel.had = [AddressState(ETH0, TERMINAL, 64, True)]
    (found,) = look()
    assert (found.subject, found.fatal) == ("address", True)
    assert f"ip address del {TERMINAL}/64 dev eth0" in found.obstacle.remedy


@pytest.mark.parametrize(
    ("network", "metric"), [(IPv6Network("2001:db8:9::/80"), 1024), (HOME, 1), (IPv6Network("2001:db8:9::/64"), 0)]
)
def test_a_route_to_elsewhere(kernel: Kernel, look: Look, network: IPv6Network, metric: int) -> None:
    kernel.routed.append(RouteState(ETH0, network, metric))
    (found,) = look()
    assert (found.subject, found.fatal) == ("route", True)
    assert f"ip -6 route del {network} dev eth0 metric {metric}" in found.obstacle.remedy


def test_no_way_out(kernel: Kernel, look: Look) -> None:
    kernel.routed = [OURS]
    (found,) = look()
    assert (found.subject, found.fatal) == ("way out", False)


def test_a_firewall(kernel: Kernel, look: Look) -> None:
    kernel.chains = [Chain("inet", "filter", "forward", Hook.FORWARD), Chain("ip", "filter", "INPUT", Hook.INPUT)]
    forward, listening = look()
    assert (forward.fatal, listening.fatal) == (False, False)
    assert "nft insert rule inet filter forward iifname roam6 accept" in forward.obstacle.remedy
    assert "nft insert rule inet filter forward oifname roam6 accept" in forward.obstacle.remedy
    assert "nft insert rule ip filter INPUT udp dport 4191 accept" in listening.obstacle.remedy


def test_a_firewall_that_cannot_be_looked_at(kernel: Kernel, look: Look) -> None:
    kernel.error = PermissionError(errno.EPERM, "not you")
    (found,) = look()
    assert found.obstacle.what == "its rules cannot be looked at (not you)"
    assert "CAP_NET_ADMIN" in found.obstacle.remedy
    kernel.error = TimeoutError("nobody says anything")
    (found,) = look()
    assert "nobody says anything" in found.obstacle.what


def chain(family: int, policy: int | None, hook: int | None = Hook.FORWARD) -> Message:
    """As the kernel tells of one (<linux/netfilter/nf_tables.h>)."""
    body = bytes((family, 0, 0, 0)) + attribute(1, b"filter\0") + attribute(3, b"forward\0")
    if hook is not None:
        body += attribute(4, attribute(1, hook.to_bytes(4)) + attribute(2, bytes(4)))
    if policy is not None:
        body += attribute(5, policy.to_bytes(4))
    return Message(0xA03, 1, body)


def test_chains_are_read() -> None:
    assert firewall._chain(chain(1, 0)) == Chain("inet", "filter", "forward", Hook.FORWARD)
    assert firewall._chain(chain(10, 0, 1)) == Chain("ip6", "filter", "forward", Hook.INPUT)
    for other in (
        chain(1, 1),
        chain(1, None, None),
        chain(7, 0),
        Message(0xA03, 1, b"\1"),
        Message(0xA04, 1, bytes(4)),
    ):
        assert firewall._chain(other) is None
    (shortened,) = {firewall._chain(Message(0xA03, 1, chain(1, 0).body[:length])) for length in range(40)}
    assert shortened is None
