"""Section ``reinvite``: what a change of address costs a phone that has no mobility below it (PJSUA2).

A call (PCMA, 50 packets a second each way) between two phones of the wheel ``pjsua2-python``, through Kamailio, over
IPv4, which is all that the wheel speaks. One phone is on the laptop, which changes between two visited networks; its
way to the proxy and to the other phone takes ``round_trip_ms`` (impaired wires). PJSUA2 is told of each change when the
new address is there, and does what it does of itself (``Endpoint.handleIpChange``): it opens its transport anew,
registers, and then changes the call by a re-INVITE. It is given as much help as there is: addresses without the time
that DHCP takes, neighbours that need no resolution, no NAT, and not the time that a program needs to notice.

``break_before_make``: the one cable is moved, as in the section ``strangers``. ``unregistered``: the same with a phone
that has not registered, so that the re-INVITE goes out at once. ``make_before_break``: a second cable is plugged into
the other network first, its route is preferred, and the first cable stays where it was for the whole change.
``baresip``: the one cable again, with Debian's baresip on the laptop, which looks for other addresses once a minute
only; it sends from the new one at once, and PJSUA2 at the other end follows what it hears, which a phone need not do.

``gap_*``: the longest silence of a change, the longer one of both directions, without the 20 ms between two packets and
without the time until the new address was there; ``lost``: packets of 20 ms that the other phone was owed and did not
get, in both directions, over all ``changes``: lost on the way, come to a socket that was closed already (the kernel
said so), or never made, because a phone had taken its audio apart; ``lost_to_mn``, ``lost_to_cn``: in the median, for
one change.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import pairwise
from statistics import median

from pyroute2 import IPRoute

from bench.roaming_phones import CALLEE, Baresip, Caller, Pjsua
from bench.rtp_tap import RtpTap
from bench.statistics import percentile
from sip_test_env import namespace
from sip_test_env.impairment import Impairment
from sip_test_env.links import Interface, in_node, index_of, set_kernel
from sip_test_env.network import TestNetwork
from sip_test_env.plan import BACKBONE_INTERFACE, BROADBAND, INTERFACE, ROUTER_INTERFACE, WIFI, Extension, Plan

PROGRAMS = ("pjsua2-python", "baresip-core", "kamailio")
ROUND_TRIP_MS = 50.0
CHANGES = 8
PAUSE = 2.0
"Seconds after a change: a registration and a re-INVITE take a fraction of one."
BEFORE = 0.1
"Seconds before a change that are looked at with it."
SPEECH = 0.02
"Seconds between two packets."


@dataclass(frozen=True, slots=True)
class Visited:
    """IPv4 of a visited network: its own, and what is between its router and the core."""

    router: str
    network: IPv4Network
    backbone: IPv4Network

    def address(self, host: int) -> IPv4Interface:
        return IPv4Interface(f"{self.network[host]}/{self.network.prefixlen}")


VISITED = {
    "visited-a": Visited("ar-a", IPv4Network("203.0.113.160/28"), IPv4Network("203.0.113.136/30")),
    "visited-b": Visited("ar-b", IPv4Network("203.0.113.176/28"), IPv4Network("203.0.113.140/30")),
}
HOSTS = {WIFI: 2, BROADBAND: 3}
"What the addresses of the laptop's interfaces end with, in both networks."


def _ipv4(plan: Plan) -> None:
    for visited in VISITED.values():
        core, router = (IPv4Interface(f"{visited.backbone[host]}/{visited.backbone.prefixlen}") for host in (1, 2))
        addresses: dict[str, tuple[Interface, ...]] = {
            ROUTER_INTERFACE: (visited.address(1),),
            BACKBONE_INTERFACE: (router,),
        }
        in_node(plan, visited.router, addresses, {"0.0.0.0/0": str(core.ip)}, router=True)
        in_node(plan, "core", {f"to-{visited.router}": (core,)}, {str(visited.network): str(router.ip)}, router=True)


DUAL_STACK = Extension("dual-stack", "visited networks with IPv4, without a NAT", configure=_ipv4)


@dataclass(frozen=True, slots=True)
class Change:
    """Moments in seconds of the machine's clock, as kernels stamp packets."""

    begin: float
    ready: float
    "The new address is there."


def measure() -> dict[str, object]:
    if os.geteuid() != 0:
        raise RuntimeError("needs root to make network namespaces; use `make bench` or sudo")
    with TestNetwork("bench-reinvite", extension=DUAL_STACK) as network:
        _prepare(network)
        return {
            "round_trip_ms": ROUND_TRIP_MS,
            "break_before_make": _measured(network, _moved),
            "unregistered": _measured(network, _moved, Pjsua.unregistered),
            "make_before_break": _measured(network, _joined),
            "baresip": _measured(network, _moved, Baresip),
        }


def _prepare(network: TestNetwork) -> None:
    plan = network.plan
    namespace.run_in(plan.namespace("laptop"), lambda: set_kernel("ipv4/icmp_ratelimit", 0))
    namespace.run_in(plan.namespace("cn"), lambda: set_kernel("ipv4/icmp_ratelimit", 0))
    for name, visited in VISITED.items():
        for interface, host in HOSTS.items():
            laptop = _hardware(plan, "laptop", interface)
            _neighbour(plan, visited.router, ROUTER_INTERFACE, visited.network[host], laptop)
        network.impair(name, Impairment(delay_ms=ROUND_TRIP_MS / 2))


def _hardware(plan: Plan, node: str, interface: str) -> str:
    def run() -> str:
        with IPRoute() as netlink:
            return str(netlink.get_links(index_of(netlink, interface))[0].get_attr("IFLA_ADDRESS"))

    return namespace.run_in(plan.namespace(node), run)


def _neighbour(plan: Plan, node: str, interface: str, address: IPv4Address, hardware: str) -> None:
    """The delay of the wires is to be that of the ways, not that of asking who a neighbour is."""

    def run() -> None:
        with IPRoute() as netlink:
            index = index_of(netlink, interface)
            netlink.neigh("replace", dst=str(address), lladdr=hardware, ifindex=index, state="permanent")

    namespace.run_in(plan.namespace(node), run)


def _measured(
    network: TestNetwork,
    change: Callable[[TestNetwork], contextlib.AbstractContextManager[Change]],
    phone: Callable[[TestNetwork], contextlib.AbstractContextManager[Caller]] = Pjsua.caller,
) -> dict[str, object]:
    """One call, and what is silent in it."""
    plan = network.plan
    network.unplug(BROADBAND)
    network.move("visited-a", WIFI)
    _address(plan, WIFI, "visited-a")
    with contextlib.ExitStack() as stack:
        callee = stack.enter_context(Pjsua(network, "cn", CALLEE))
        caller = stack.enter_context(phone(network))
        taps = {
            "to_mn": RtpTap(plan.namespace("laptop"), *HOSTS),
            "to_cn": RtpTap(plan.namespace("cn"), INTERFACE),
        }
        for tap in taps.values():
            stack.callback(tap.close)
        caller.dial(f"sip:{CALLEE}@{plan.sip_domain}")
        callee.until("media")
        time.sleep(PAUSE / 2)
        changes = []
        for _ in range(CHANGES):
            with change(network) as made:
                caller.moved()
                time.sleep(PAUSE - (time.time() - made.begin))
            changes.append(made)
        time.sleep(PAUSE / 4)
        arrived = {name: tap.arrivals() for name, tap in taps.items()}
    seen = {name: [_silence(times, made) for made in changes] for name, times in arrived.items()}
    gaps = [max(gap for gap, _ in both) for both in zip(*seen.values(), strict=True)]
    lost = {name: [count for _, count in of] for name, of in seen.items()}
    return {
        "changes": len(changes),
        "interval_ms": SPEECH * 1000,
        "gap_p50_ms": round(median(gaps), 1),
        "gap_p95_ms": round(percentile(gaps, 0.95), 1),
        **{f"lost_{name}": median(of) for name, of in lost.items()},
        "lost": sum(map(sum, lost.values())),
        "packets": sum(map(len, arrived.values())),
        "gaps_ms": [round(gap, 1) for gap in gaps],
    }


def _silence(times: list[float], change: Change) -> tuple[float, int]:
    """The longest time without a packet around a change, in milliseconds and net; how many packets are missing."""
    begin, end = change.begin - BEFORE, change.begin + PAUSE
    seen = [at for at in times if begin <= at < end]
    if len(seen) < 2:
        return (end - begin) * 1000, round((end - begin) / SPEECH)
    raw = max(later - earlier for earlier, later in pairwise([*seen, end]))
    net = max(0.0, raw - SPEECH - (change.ready - change.begin))
    return net * 1000, max(0, round((seen[-1] - seen[0]) / SPEECH) + 1 - len(seen))


@contextlib.contextmanager
def _moved(network: TestNetwork) -> Iterator[Change]:
    """Break before make: the one cable."""
    link = _other(network, WIFI)
    begin = time.time()
    network.move(link, WIFI)
    _address(network.plan, WIFI, link)
    yield Change(begin, time.time())


@contextlib.contextmanager
def _joined(network: TestNetwork) -> Iterator[Change]:
    """Make before break: the cable that hangs out is plugged in, and the other one pulled only at the end."""
    old = WIFI if network.location_of(WIFI) else BROADBAND
    new = BROADBAND if old == WIFI else WIFI
    link = _other(network, old)
    network.move(link, new)
    begin = time.time()
    _address(network.plan, new, link)
    yield Change(begin, time.time())
    network.unplug(old)


def _other(network: TestNetwork, interface: str) -> str:
    return "visited-b" if network.location_of(interface) == "visited-a" else "visited-a"


def _address(plan: Plan, interface: str, link: str) -> None:
    """As a network manager does when DHCP has answered; all that is sent from now on goes that way."""
    visited = VISITED[link]

    def run() -> None:
        with IPRoute() as netlink:
            index = index_of(netlink, interface)
            address = visited.address(HOSTS[interface])
            netlink.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
            netlink.route("replace", dst="0.0.0.0/0", gateway=str(visited.network[1]), oif=index, priority=1)

    namespace.run_in(plan.namespace("laptop"), run)
    router = _hardware(plan, visited.router, ROUTER_INTERFACE)
    _neighbour(plan, "laptop", interface, visited.network[1], router)
