"""What keeps a kernel from handing over the packets of prefixes that are routed to its machine, and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

from mobility.net import firewall
from mobility.net.firewall import Hook
from mobility.net.netlink import FIRST_METRIC, AddressState, LinkState, RouteSocket, RouteState
from mobility.net.obstacles import SETTINGS, Obstacle, setting

_FOR_GOOD = "/etc/sysctl.d/90-roamphone.conf"


@dataclass(frozen=True, slots=True)
class RoutedPrefixes:
    """What a home agent on a rented server wants of the kernel."""

    interface: str
    "The TUN device."
    prefixes: tuple[IPv6Network, ...]
    addresses: frozenset[IPv6Address]
    "In them: the home agent's own, and home addresses."
    ports: tuple[tuple[IPv4Address | IPv6Address, int], ...]
    "Where the kernel gets datagrams of terminals."


@dataclass(frozen=True, slots=True)
class Hindrance:
    """One thing that is in the way."""

    subject: str
    obstacle: Obstacle
    fatal: bool
    "Nothing gets through; otherwise perhaps."


def hindrances(wanted: RoutedPrefixes, settings: Path = SETTINGS) -> list[Hindrance]:
    """Looks at forwarding, addresses, routes and firewall, as they are at this moment. Raises OSError: no rtnetlink."""
    with RouteSocket() as route:
        links = {link.index: link for link in route.links()}
        addresses, routes = route.addresses(), route.routes()
    return [
        *_forwarding(links, routes, settings),
        *_taken(wanted, links, addresses),
        *_other_ways(wanted, links, routes),
        *_way_out(routes),
        *_firewall(wanted),
    ]


def _forwarding(links: dict[int, LinkState], routes: Iterable[RouteState], settings: Path) -> Iterator[Hindrance]:
    ipv6 = settings / "net/ipv6/conf"
    if setting(ipv6 / "all/forwarding") != 0:
        return
    lines = ["net.ipv6.conf.all.forwarding=1"]
    for index in sorted({route.index for route in routes if route.default and route.destination.version == 6}):
        name = links[index].name if index in links else ""
        if setting(ipv6 / name / "accept_ra") == 1:  # or the default route that a router advertised goes at once
            lines.insert(0, f"net.ipv6.conf.{name}.accept_ra=2")
    remedy = "\n".join(
        ["As root:", *(f"    sysctl -w {line}" for line in lines), f"For good, in {_FOR_GOOD}:"]
        + [f"    {line.replace('=', ' = ')}" for line in lines]
    )
    what = "the kernel does not forward IPv6, so nothing reaches terminals (net.ipv6.conf.all.forwarding = 0)"
    yield Hindrance("forwarding", Obstacle(what, remedy), True)


def _taken(
    wanted: RoutedPrefixes, links: dict[int, LinkState], addresses: Iterable[AddressState]
) -> Iterator[Hindrance]:
    for state in addresses:
        if state.address in wanted.addresses:
            name = links[state.index].name if state.index in links else str(state.index)
            yield Hindrance(
                "address",
                Obstacle(
                    f"{state.address} is an address of {name}: its packets stay with the kernel",
                    "Choose another one of the prefix in the configuration, or, as root:\n"
                    f"    ip address del {state.address}/{state.prefix_length} dev {name}",
                ),
                True,
            )


def _other_ways(
    wanted: RoutedPrefixes, links: dict[int, LinkState], routes: Iterable[RouteState]
) -> Iterator[Hindrance]:
    """Routes of the main table that go before ours; those of its own addresses do no harm."""
    for route in routes:
        name = links[route.index].name if route.index in links else str(route.index)
        network = route.destination
        if name == wanted.interface or not isinstance(network, IPv6Network) or network.prefixlen == 128:
            continue
        for prefix in wanted.prefixes:
            if network.subnet_of(prefix) and any(_goes_before(route, wanted, address) for address in wanted.addresses):
                what = f"{network} is routed to {name}, before {prefix} comes to the home agent"
                remedy = f"As root:\n    ip -6 route del {network} dev {name} metric {route.metric}"
                yield Hindrance("route", Obstacle(what, remedy), True)
                break


def _goes_before(route: RouteState, wanted: RoutedPrefixes, address: IPv6Address) -> bool:
    """Whether packets for an address of ours would take this route, and not ours with the longest prefix."""
    longest = max(prefix.prefixlen for prefix in wanted.prefixes if address in prefix)
    length = route.destination.prefixlen
    return address in route.destination and (length > longest or (length == longest and route.metric <= FIRST_METRIC))


def _way_out(routes: Iterable[RouteState]) -> Iterator[Hindrance]:
    if any(route.default and route.destination.version == 6 for route in routes):
        return
    yield Hindrance(
        "way out",
        Obstacle(
            "there is no IPv6 default route: terminals reach this machine, and nothing beyond",
            "See what the provider says about IPv6. If its router advertises itself, and the kernel forwards:\n"
            "    sysctl -w net.ipv6.conf.INTERFACE.accept_ra=2",
        ),
        False,
    )


def _firewall(wanted: RoutedPrefixes) -> Iterator[Hindrance]:
    try:
        chains = firewall.dropping_chains()
    except OSError as error:
        obstacle = Obstacle(
            f"its rules cannot be looked at ({error.strerror or error})",
            "Run this as root (CAP_NET_ADMIN), or see to it that it lets through what docs/home-agent.md lists.",
        )
        yield Hindrance("firewall", obstacle, False)
        return
    for chain in chains:
        if chain.hook == Hook.FORWARD and chain.family != "ip":
            rules = [f"{side} {wanted.interface} accept" for side in ("iifname", "oifname")]
            yield _dropping(chain, "forwarded", rules)
        elif chain.hook == Hook.INPUT:
            ports = {
                port
                for address, port in wanted.ports
                if chain.family == "inet" or (chain.family == "ip6") == (address.version == 6)
            }
            if ports:
                yield _dropping(chain, "for this machine", [f"udp dport {port} accept" for port in sorted(ports)])


def _dropping(chain: firewall.Chain, what: str, rules: Iterable[str]) -> Hindrance:
    commands = [f"    nft insert rule {chain} {rule}" for rule in rules]
    return Hindrance(
        "firewall",
        Obstacle(
            f"chain {chain} drops what is {what}, unless one of its rules lets it through",
            "\n".join(["If none does, as root (or the same in the language of your firewall):", *commands]),
        ),
        False,
    )
