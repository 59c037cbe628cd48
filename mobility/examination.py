"""What this machine can do, and what is missing: for `mobility check`.

Everything is tried where that harms nobody: namespaces, TUN device and scheduling in a process that ends at once.
"""

from __future__ import annotations

import json
import os
import platform
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from ipaddress import IPv4Address, IPv6Address

from mobility.attachments import routed_prefixes
from mobility.config import Configuration, ConfigurationError, default_runtime, default_state
from mobility.gateway.contexts import client_context, server_context
from mobility.net import namespace, surroundings, tun
from mobility.net.capabilities import Capability, has, may_make_namespaces
from mobility.net.hindrances import RoutedPrefixes, hindrances
from mobility.net.netlink import AddressState, LinkState, RouteSocket, RouteState
from mobility.net.obstacles import Forbidden, forbidden_tun
from mobility.net.tun import TunSettings
from mobility.settings import Access, MobileNodeSettings, Role

OLDEST_PYTHON = (3, 11)
OLDEST_KERNEL = (5, 7)
"pidfd_open (5.3), and an ordinary user may bind a socket to an interface (5.7)."
PROBE_SECONDS = 1.0
"How long an ICMP error is waited for after a probe."
KEEPALIVE = b"\xff"
"What a home agent drops in silence (RFC 3948 section 2.3)."
ETH_P_IPV6 = 0x86DD


class State(StrEnum):
    OK = "ok"
    LIMITED = "limited"
    "It works without, but less well or not everything."
    MISSING = "missing"
    "A node cannot run."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    state: State
    text: str
    remedy: str = ""
    "What to do; several lines, commands unbroken."


def examine(configuration: Configuration | None) -> Iterator[Finding]:
    """Looks at one thing after the other; ``configuration``: what is going to run, or None if that is not known."""
    role = Role.MOBILE_NODE if configuration is None else configuration.role
    yield _python()
    yield _kernel()
    yield _clock()
    if configuration is not None and configuration.gateway is not None:
        settings = configuration.gateway
        yield _directories(role, configuration)
        yield _certificates("gateway", lambda: server_context(replace(settings, key_log=None)))
        return
    if role not in (Role.HOME_AGENT, Role.MAP):
        yield from _host_os()
    yield from _scheduling()
    yield _directories(role, configuration)
    yield from _names(configuration)
    links, addresses, routes = _network()
    wanted = None if configuration is None else routed_prefixes(configuration)
    if wanted is None:
        yield _raw(configuration)
    else:
        yield from _routed(wanted)
    for name in () if configuration is None else configuration.interfaces:
        yield _interface(name, links, needs_raw=_must_be_native(configuration))
    if role is Role.HOME_AGENT and configuration is not None:
        yield from _listening(configuration)
    elif role is not Role.MAP:
        yield from _access(links, addresses, routes)
    node = None if configuration is None else configuration.mobile_node
    if node is not None:
        yield from _reach(node)
    for access in () if configuration is None else configuration.gateways:
        context = partial(client_context, replace(access, key_log=None))
        yield _certificates(f"gateway {access.name}", context)


def able(findings: list[Finding]) -> bool:
    """Whether a node can run here, in whichever way."""
    return not any(finding.state is State.MISSING for finding in findings)


# ---------------------------------------------------------------- the system


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        return Finding(
            "Python", State.MISSING, f"{version} is too old", "Install Python 3.11 or newer, and roamphone with it."
        )
    return Finding("Python", State.OK, f"{version}, {sys.executable}")


def _kernel() -> Finding:
    release = platform.release()
    if platform.system() != "Linux":
        return Finding("kernel", State.MISSING, f"{platform.system()} is not Linux", "Use Linux 5.7 or newer.")
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if len(numbers) == 2 and numbers < OLDEST_KERNEL:
        return Finding("kernel", State.MISSING, f"Linux {release} is too old", "Use Linux 5.7 or newer.")
    return Finding("kernel", State.OK, f"Linux {release}; no module for Mobile IPv6 or IPsec is needed")


def _certificates(subject: str, load: Callable[[], object]) -> Finding:
    try:
        load()
    except ConfigurationError as error:
        return Finding(subject, State.MISSING, str(error), "Put the file there, or change the configuration.")
    return Finding(subject, State.OK, "its certificates and keys can be read")


def _clock() -> Finding:
    try:
        suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        resolution = time.clock_getres(time.CLOCK_BOOTTIME)
    except OSError as error:
        return Finding("clock", State.MISSING, f"no CLOCK_BOOTTIME ({error.strerror})", "Use Linux 5.7 or newer.")
    if resolution > 0.001:
        return Finding(
            "clock", State.LIMITED, f"the kernel's timers tick every {resolution * 1000:.0f} ms: handovers take longer",
            "Use a kernel with high-resolution timers (CONFIG_HIGH_RES_TIMERS).",
        )  # fmt: skip
    return Finding("clock", State.OK, f"goes on while the machine sleeps ({max(suspended, 0.0):.0f} s so far)")


def _host_os() -> Iterator[Finding]:
    yield from _in_child(_try_host_os)


def _try_host_os(found: Callable[[Finding], None]) -> None:
    """Makes what a holder makes; this process is spoilt by it."""
    privileged = may_make_namespaces()
    try:
        if privileged:
            namespace.unshare_network()
            found(Finding("namespaces", State.OK, "as root, without a user namespace"))
        else:
            namespace.unshare_user_and_network()
            found(Finding("namespaces", State.OK, "user and network namespace, as an ordinary user"))
    except Forbidden as error:
        found(Finding("namespaces", State.MISSING, error.obstacle.what, error.obstacle.remedy))
        found(_tun_device())
        return
    except OSError as error:
        found(Finding("namespaces", State.MISSING, f"cannot be made ({error.strerror})", "Run as root or not at all."))
        return
    try:
        descriptor = tun.create(TunSettings("check0", IPv6Address("2001:db8::1"), 1280))
    except Forbidden as error:
        found(Finding("TUN device", State.MISSING, error.obstacle.what, error.obstacle.remedy))
        return
    except OSError as error:
        found(Finding(
            "TUN device", State.MISSING, f"an interface was made but could not be set up ({error})",
            "Check that the kernel has IPv6 (no ipv6.disable=1 on its command line).",
        ))  # fmt: skip
        return
    found(Finding("TUN device", State.OK, f"{tun.device_path()} makes interfaces"))
    found(_try_surroundings())
    os.close(descriptor)


def _tun_device() -> Finding:
    """As far as it can be told without a namespace in which to make an interface."""
    path = tun.device_path()
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        obstacle = forbidden_tun(path, error)
        return Finding("TUN device", State.MISSING, obstacle.what, obstacle.remedy)
    return Finding("TUN device", State.OK, f"{path} can be opened")


def _try_surroundings() -> Finding:
    try:
        surroundings.enter(["2001:db8::53"])
    except OSError as error:
        return Finding(
            "mobility exec", State.LIMITED, f"programs cannot be given a name server of their own ({error})",
            "Sockets of the phone are not affected. In a container, allow it the system call mount.",
        )  # fmt: skip
    if set(os.listdir("/sys/class/net")) != {"check0", "lo"}:
        return Finding(
            "mobility exec", State.LIMITED, "works, but programs see the machine's interfaces in /sys/class/net",
            "A container hides parts of /sys; nothing can be done from within. They cannot be used, only seen.",
        )  # fmt: skip
    return Finding("mobility exec", State.OK, "programs see the home network only")


def _scheduling() -> Iterator[Finding]:
    def attempt(found: Callable[[Finding], None]) -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(10))
            found(Finding("scheduling", State.OK, "packets go before other work (SCHED_RR)"))
        except OSError:
            found(Finding(
                "scheduling", State.LIMITED, "no real-time priority: under load packets wait for other programs",
                "As root: echo '@audio - rtprio 20' > /etc/security/limits.d/90-roamphone.conf\n"
                "with your user in the group audio (usermod -aG audio NAME), then log in anew.\n"
                "In a systemd unit: LimitRTPRIO=20",
            ))  # fmt: skip

    yield from _in_child(attempt)


def _directories(role: Role, configuration: Configuration | None) -> Finding:
    runtime = default_runtime(role) if configuration is None else configuration.runtime
    state = default_state(role) if configuration is None else configuration.state
    for path, key in ((runtime, "runtime"), (state, "state")):
        there = next(directory for directory in (path, *path.parents) if directory.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            return Finding(
                "directories", State.MISSING, f"{path} cannot be used: {there} is not yours",
                f"Set node.{key} in the configuration, or as root: install -d -o $USER -m 700 {path}",
            )  # fmt: skip
    return Finding("directories", State.OK, f"{runtime}, {state}")


def _names(configuration: Configuration | None) -> Iterator[Finding]:
    host_os = None if configuration is None else configuration.host_os
    if host_os is None:
        return
    if host_os.dns:
        servers = ", ".join(str(server) for server in host_os.dns)
        yield Finding("names", State.OK, f"asked for in the home network: {servers}")
    else:
        yield Finding(
            "names", State.LIMITED, "no name server of the home network is configured",
            'Programs in the host OS find addresses only: set host_os.dns = ["ADDRESS"].',
        )  # fmt: skip


# ---------------------------------------------------------------- the network


def _network() -> tuple[dict[str, LinkState], list[AddressState], list[RouteState]]:
    with RouteSocket() as route:
        return {link.name: link for link in route.links()}, route.addresses(), route.routes()


def _must_be_native(configuration: Configuration | None) -> bool:
    if configuration is None:
        return False
    node = configuration.mobile_node
    # A mobile router is on the links of its networks itself, however it reaches the outside.
    return node is None or node.access is Access.NATIVE or configuration.mobile_router is not None


def _raw(configuration: Configuration | None) -> Finding:
    if has(Capability.NET_RAW):
        return Finding("CAP_NET_RAW", State.OK, "Mobile IPv6 itself can be spoken on IPv6 links")
    if _must_be_native(configuration):
        return Finding(
            "CAP_NET_RAW", State.MISSING, "packet sockets are not permitted, and this configuration needs them",
            "Run it as root, as a service with AmbientCapabilities=CAP_NET_RAW, or, for a\n"
            'terminal, with mobile_node.access = "auto" (over UDP where nothing else goes).',
        )  # fmt: skip
    return Finding(
        "CAP_NET_RAW", State.LIMITED, "the home agent is reached over UDP only, which needs no privilege",
        "For Mobile IPv6 itself, too: a service with AmbientCapabilities=CAP_NET_RAW, or\n"
        "    sudo setpriv --reuid $USER --init-groups --regid $(id -g)"
        " --inh-caps +net_raw --ambient-caps +net_raw mobility mn",
    )  # fmt: skip


def _routed(wanted: RoutedPrefixes) -> Iterator[Finding]:
    """Whether the kernel would hand over what is routed to this machine, to a home agent without a home link."""
    if has(Capability.NET_ADMIN):
        yield Finding("CAP_NET_ADMIN", State.OK, f"{wanted.interface} can be made, and the route to it")
    else:
        yield Finding(
            "CAP_NET_ADMIN", State.MISSING, f"{wanted.interface} cannot be made, nor the route to it",
            "Run it as root, or as a service with AmbientCapabilities=CAP_NET_ADMIN.",
        )  # fmt: skip
    yield _tun_device()
    found = hindrances(wanted)
    for hindrance in found:
        state = State.MISSING if hindrance.fatal else State.LIMITED
        yield Finding(hindrance.subject, state, hindrance.obstacle.what, hindrance.obstacle.remedy)
    if not found:
        prefixes = ", ".join(map(str, wanted.prefixes))
        yield Finding("routed prefix", State.OK, f"{prefixes}: nothing here is in the way")


def _interface(name: str, links: dict[str, LinkState], *, needs_raw: bool) -> Finding:
    subject = f"interface {name}"
    link = links.get(name)
    if link is None:
        return Finding(
            subject, State.LIMITED, "is not there (now)",
            f"It is used when it appears. There are: {', '.join(sorted(links))}",
        )  # fmt: skip
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IPV6)) as packets:
            packets.bind((name, ETH_P_IPV6))
    except PermissionError:
        text = "no packet socket (see CAP_NET_RAW)"
        return Finding(subject, State.MISSING if needs_raw else State.LIMITED, text)
    except OSError as error:
        return Finding(subject, State.MISSING, f"no packet socket ({error.strerror})", "Check that it is Ethernet.")
    if not link.ethernet:
        return Finding(subject, State.MISSING, "is not an Ethernet interface", "Choose another, or use UDP over it.")
    if not link.up:
        return Finding(subject, State.LIMITED, "packet socket works; the interface is down or has no carrier")
    return Finding(subject, State.OK, f"packet socket works; up, MTU {link.mtu}")


def _access(links: dict[str, LinkState], addresses: list[AddressState], routes: list[RouteState]) -> Iterator[Finding]:
    """One finding for each interface that leads out."""
    found = False
    for link in sorted(links.values(), key=lambda link: link.index):
        ours = [one for one in addresses if one.index == link.index and one.usable]
        ways = sorted({(route.destination.version, route.metric) for route in routes
                       if route.index == link.index and route.default})  # fmt: skip
        if not ours or not ways or not link.up:
            continue
        found = True
        versions = " and ".join(f"IPv{version} (metric {metric})" for version, metric in ways)
        shown = ", ".join(f"{one.address}/{one.prefix_length}" for one in ours)
        yield Finding(f"access {link.name}", State.OK, f"default route for {versions}; {shown}")
    if not found:
        yield Finding(
            "access", State.LIMITED, "no interface has both an address and a default route: no network at the moment",
            "A terminal waits until there is one. (Mobile IPv6 itself makes its own address.)",
        )  # fmt: skip


def _reach(node: MobileNodeSettings) -> Iterator[Finding]:
    agents = [address for address in (node.home_agent, node.home_agent4) if address is not None]
    results = [(address, *_probe(address, node.udp_port)) for address in agents]
    for address, state, text, remedy in results:
        yield Finding("home agent", state, f"{address} UDP port {node.udp_port}: {text}", remedy)
    if node.home_agent4 is None:
        yield Finding(
            "home agent", State.LIMITED, "its IPv4 address is not known: networks with IPv4 alone are of no use",
            "Set mobile_node.home_agent4, if the home agent has one.",
        )  # fmt: skip


def _probe(address: IPv4Address | IPv6Address, port: int) -> tuple[State, str, str]:
    """Sends what the home agent ignores, and listens for somebody who says that it did not get there."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect((str(address), port))
        except OSError as error:
            return State.LIMITED, f"no route ({error.strerror})", "It is tried again in every network."
        source = probe.getsockname()[0]
        try:
            for _ in range(2):  # the first may bring the error of the way there, the second tells it
                probe.send(KEEPALIVE)
                if select.select([probe], [], [], PROBE_SECONDS / 2)[0]:
                    probe.recv(100)
        except ConnectionRefusedError:
            return (
                State.LIMITED, "nobody listens there (ICMP port unreachable)",
                "Check that the home agent runs and listens (home_agent.udp), and its firewall.",
            )  # fmt: skip
        except OSError as error:
            return (
                State.LIMITED,
                f"cannot be reached ({error.strerror})",
                "Check the network, or a firewall on the way.",
            )
    return (
        State.OK, f"there is a way from {source} and nobody refuses. (Whether it answers shows only with the"
        " keys: `mobility mn`.)", "",
    )  # fmt: skip


def _listening(configuration: Configuration) -> Iterator[Finding]:
    agent = configuration.home_agent
    for address in () if agent is None else agent.udp:
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((str(address), 0))
            except OSError as error:
                yield Finding(
                    f"udp {address}", State.MISSING, f"cannot be listened at ({error.strerror})",
                    "It has to be an address of this machine: give it one, or correct home_agent.udp.",
                )  # fmt: skip
            else:
                yield Finding(f"udp {address}", State.OK, "is an address of this machine")


# ---------------------------------------------------------------- processes that end at once


def _in_child(work: Callable[[Callable[[Finding], None]], None]) -> list[Finding]:
    """What a forked process finds; it may do to itself what cannot be taken back."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)

            def found(finding: Finding) -> None:
                os.write(writing, json.dumps(described(finding)).encode() + b"\n")

            work(found)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, encoding="utf-8") as lines:
        findings = [_understood(json.loads(line)) for line in lines]
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if ended:
        findings.append(Finding("examination", State.MISSING, f"a process that tried things out ended with {ended}"))
    return findings


def described(finding: Finding) -> dict[str, str]:
    """JSON-ready."""
    return {name: str(getattr(finding, name)) for name in Finding.__slots__}


def _understood(values: dict[str, str]) -> Finding:
    return Finding(values["subject"], State(values["state"]), values["text"], values["remedy"])
