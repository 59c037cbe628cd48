"""Section ``strangers``: the same packets on the same path through programs that nobody here wrote.

A laptop whose kernel makes its addresses talks to the correspondent by way of a host on the home link: with our
terminal and home agent (``ours``: the application's ESP end to end, and the tunnel's), with WireGuard (``wireguard``:
wireguard-go, the implementation in user space, at both ends of the tunnel) and with OpenVPN (``openvpn``: a server of
many clients, over UDP, AES-256-GCM). Theirs protect the tunnel alone; on the correspondent's side of it all is in
clear.

- ``delay_ms``: one way, packets of speech every 20 ms both ways: p50 and p99 by direction; ``lost``.
- ``us_per_packet``: processor time of the program at the laptop for a packet, at 1,000 packets/s each way: what that
  load adds to the time of an idle program is not taken off. ``load_lost``: packets of that load that were lost.
- ``roaming``: the laptop's one cable is moved between two Wi-Fi networks while packets flow every 5 ms both ways:
  ``gap_p50_ms`` and ``gap_p95_ms``, the longest silence of a move, the longer one of both directions, without the time
  for which the cable was out; ``lost`` packets. ``handovers``: how many. The way to the host on the home link takes
  ``round_trip_ms`` (an impaired wire).
- ``ratios``: theirs by ours.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from bench.laboratory import data_plane, laboratory
from bench.processor import windows
from bench.statistics import measured, percentile
from bench.stream import End, TwoWays
from sip_test_env import namespace
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.impairment import Impairment
from sip_test_env.links import set_kernel
from sip_test_env.mobility_nodes import Terminal
from sip_test_env.network import TestNetwork
from sip_test_env.plan import INTERFACE, WIFI
from sip_test_env.report import Stream
from sip_test_env.users import OrdinaryUser

PROGRAMS = ("wireguard-go", "openvpn")
SPEECH = 0.02
SECONDS = 10.0
LOAD = 0.001
LOAD_SECONDS = 5.0
LOAD_WINDOWS = 5
ROAMING = 0.005
MOVES = 12
ROUND_TRIP_MS = 50.0
PAUSE = 4.0
"Seconds between two moves: a kernel solicits routers and detects duplicates meanwhile."
WITHIN = 15.0
"Seconds within which packets have to pass."
ADDRESS = IPv6Address("2001:db8:1::200")
"The laptop's in the tunnel: on the home link, like a home address."
PORT = 51820


@dataclass(frozen=True, slots=True)
class Setting:
    """One of the three, running."""

    network: TestNetwork
    terminal: End
    correspondent: End
    process: int
    "Id of the process at the laptop that packets pass."


def measure() -> dict[str, object]:
    return asyncio.run(_measure())


async def _measure() -> dict[str, object]:
    figures: dict[str, dict[str, Any]] = {}
    for name, setting in SETTINGS.items():
        async with setting() as place:
            await _passing(place)
            figures[name] = {**await _delay(place), **await _load(place), "roaming": await _roaming(place)}
    if (ours := figures.get("ours")) is None:
        return {**figures}
    ratios = {
        name: {
            "us_per_packet": round(theirs["us_per_packet"] / ours["us_per_packet"], 2),
            "gap_p50": round(theirs["roaming"]["gap_p50_ms"] / ours["roaming"]["gap_p50_ms"], 1),
        }
        for name, theirs in figures.items()
        if name != "ours"
    }
    return {**figures, "ratios": ratios}


async def _passing(place: Setting) -> None:
    """Waits until packets pass both ways. Raises EnvironmentFailure."""
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        with TwoWays(place.terminal, place.correspondent, 0.05) as packets:
            await asyncio.sleep(0.5)
            streams = await asyncio.to_thread(packets.stop)
        if all(len(stream.arrived) > 5 for stream in streams.values()):
            return
    raise EnvironmentFailure(f"no packets pass within {WITHIN:g} s between {place.terminal} and {place.correspondent}")


async def _delay(place: Setting) -> dict[str, object]:
    with TwoWays(place.terminal, place.correspondent, SPEECH) as packets:
        await asyncio.sleep(SECONDS)
        streams = await asyncio.to_thread(packets.stop)
    delays = {name: [ms for _, ms in _delays(stream)] for name, stream in streams.items()}
    return {
        "delay_ms": {
            name: {"p50": round(percentile(taken, 0.5), 3), "p99": round(percentile(taken, 0.99), 3)}
            for name, taken in delays.items()
        },
        "lost": sum(stream.lost() for stream in streams.values()),
    }


def _delays(stream: Stream) -> list[tuple[float, float]]:
    sent = {number: at for at, number in stream.sent}
    return [(at, (at - sent[number]) * 1000) for at, number in stream.arrived]


async def _load(place: Setting) -> dict[str, object]:
    with TwoWays(place.terminal, place.correspondent, LOAD) as packets:
        await asyncio.sleep(0.5)
        spent = await asyncio.to_thread(windows, place.process, LOAD_SECONDS, LOAD_WINDOWS)
        streams = await asyncio.to_thread(packets.stop)
    arrived = [at for stream in streams.values() for at, _ in stream.arrived]
    return {
        **measured(
            "us_per_packet",
            [used / sum(begin <= at < end for at in arrived) * 1e6 for begin, end, used in spent],
            1,
        ),
        "load_packets": sum(len(stream.sent) for stream in streams.values()),
        "load_lost": sum(stream.lost() for stream in streams.values()),
    }


async def _roaming(place: Setting) -> dict[str, object]:
    gaps: list[float] = []
    place.network.impair("ha", Impairment(delay_ms=ROUND_TRIP_MS / 2))
    await asyncio.sleep(1.0)
    with TwoWays(place.terminal, place.correspondent, ROAMING) as packets:
        await asyncio.sleep(1.0)
        moves = []
        for number in range(MOVES):
            moves.append(place.network.move(("visited-b", "visited-a")[number % 2], WIFI))
            await asyncio.sleep(PAUSE)
        streams = await asyncio.to_thread(packets.stop)
    for move in moves:
        raw = max(stream.gap_ms(move.cut - 0.05, move.cut + PAUSE - 0.1) for stream in streams.values())
        gaps.append(raw - (ROAMING + move.restored - move.cut) * 1000)
    return {
        "handovers": len(gaps),
        "interval_ms": ROAMING * 1000,
        "round_trip_ms": ROUND_TRIP_MS,
        "gap_p50_ms": round(percentile(gaps, 0.5), 1),
        "gap_p95_ms": round(percentile(gaps, 0.95), 1),
        "gaps_ms": [round(gap, 1) for gap in gaps],
        "lost": sum(stream.lost() for stream in streams.values()),
        "packets": sum(len(stream.sent) for stream in streams.values()),
    }


@asynccontextmanager
async def _ours() -> AsyncIterator[Setting]:
    with OrdinaryUser() as user:
        terminal = Terminal.laptop(user)
        async with laboratory("bench-strangers", terminal=terminal, plugged={WIFI: "visited-a"}) as lab:
            plan = lab.network.plan
            ends = (("mn", plan.home_address), ("cn", plan.cn))
            mn, cn = (End(str(lab.nodes.runtime(role) / "host.sock"), address) for role, address in ends)
            yield Setting(lab.network, mn, cn, await data_plane(lab.nodes.runtime("mn")))


@asynccontextmanager
async def _strangers() -> AsyncIterator[Setting]:
    """The network with kernels in the places of home agent and correspondent; the tunnel is still to be made."""
    if os.geteuid() != 0:
        raise RuntimeError("needs root to make network namespaces; use `make bench` or sudo")
    with TestNetwork("bench-strangers") as network:
        plan = network.plan
        for node, address, prefix, router in (
            ("ha", plan.home_agent, plan.home.prefix, plan.home.router_address),
            ("cn", plan.cn, plan.cn_prefix, plan.cn_router),
        ):
            namespace.run_in(plan.namespace(node), lambda: set_kernel(f"ipv6/conf/{INTERFACE}/disable_ipv6", 0))
            _ip(network, node, "address", "add", f"{address}/{prefix.prefixlen}", "dev", INTERFACE, "nodad")
            _ip(network, node, "route", "replace", "default", "via", str(router), "dev", INTERFACE)

        def forward() -> None:
            set_kernel("ipv6/conf/all/forwarding", 1)
            set_kernel(f"ipv6/conf/{INTERFACE}/proxy_ndp", 1)

        namespace.run_in(plan.namespace("ha"), forward)
        _ip(network, "ha", "neighbour", "add", "proxy", str(ADDRESS), "dev", INTERFACE)
        network.move("visited-a", WIFI)
        yield Setting(network, End(plan.namespace("laptop"), ADDRESS), End(plan.namespace("cn"), plan.cn), os.getpid())


@asynccontextmanager
async def _wireguard() -> AsyncIterator[Setting]:
    async with _strangers() as place:
        network, plan = place.network, place.network.plan
        keys = {node: _output("wg", "genkey") for node in ("laptop", "ha")}
        public = {node: _output("wg", "pubkey", text=key) for node, key in keys.items()}
        interfaces = {"laptop": "wgbench0", "ha": "wgbench1"}
        programs: dict[str, subprocess.Popen[bytes]] = {}
        for node, interface in interfaces.items():
            command = ["wireguard-go", "--foreground", interface]
            programs[node] = network.popen(node, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            await _there(network, node, interface)
            peer, allowed = ("ha", "::/0") if node == "laptop" else ("laptop", f"{ADDRESS}/128")
            key = network.directory / f"wireguard-{node}"
            key.touch(mode=0o600)
            key.write_text(keys[node])
            command = ["wg", "set", interface, "private-key", str(key), "listen-port", str(PORT)]
            command += ["peer", public[peer], "allowed-ips", allowed]
            if node == "laptop":
                command += ["endpoint", f"[{plan.home_agent}]:{PORT}"]
            _run(network, node, *command)
            _up(network, node, interface)
        yield Setting(network, place.terminal, place.correspondent, programs["laptop"].pid)
        _end(programs)


@asynccontextmanager
async def _openvpn() -> AsyncIterator[Setting]:
    async with _strangers() as place:
        network, plan = place.network, place.network.plan
        interfaces = {"ha": "ovpnbench1", "laptop": "ovpnbench0"}  # a client has its interface once it is connected
        certificates = {node: _certificate(network.directory / f"openvpn-{node}") for node in interfaces}
        programs: dict[str, subprocess.Popen[bytes]] = {}
        for node, interface in interfaces.items():
            peer = "ha" if node == "laptop" else "laptop"
            own = network.directory / f"openvpn-{node}"
            command = ["openvpn", "--dev", interface, "--dev-type", "tun", "--proto", "udp6", "--port", str(PORT)]
            command += ["--cert", f"{own}.pem", "--key", f"{own}.key", "--peer-fingerprint", certificates[peer]]
            command += ["--data-ciphers", "AES-256-GCM", "--cd", str(network.directory), "--verb", "1"]
            if node == "laptop":
                command += ["--client", "--remote", str(plan.home_agent)]
            else:
                # the server finds a client that has moved by its number: only servers of many clients do
                (network.directory / "DEFAULT").write_text(f"iroute-ipv6 {ADDRESS}/128\n")
                command += ["--server", "10.99.0.0", "255.255.255.0", "--server-ipv6", "fd00:99::/64"]
                command += [
                    "--topology",
                    "subnet",
                    "--client-config-dir",
                    ".",
                    "--dh",
                    "none",
                    "--keepalive",
                    "2",
                    "60",
                ]
            programs[node] = network.popen(node, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            await _there(network, node, interface)
            _up(network, node, interface)
        yield Setting(network, place.terminal, place.correspondent, programs["laptop"].pid)
        _end(programs)


def _certificate(path: Path) -> str:
    """Made anew, with its key; returns its SHA-256 fingerprint."""
    subject = f"/CN={path.name}-{secrets.token_hex(4)}"
    _output(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days"),
        *("2", "-subj", subject, "-keyout", f"{path}.key", "-out", f"{path}.pem"),
    )
    return _output("openssl", "x509", "-in", f"{path}.pem", "-noout", "-fingerprint", "-sha256").split("=", 1)[1]


async def _there(network: TestNetwork, node: str, interface: str) -> None:
    """Waits for an interface. Raises EnvironmentFailure."""
    deadline = time.monotonic() + WITHIN
    while network.run(node, ["ip", "link", "show", interface]).returncode != 0:
        if time.monotonic() > deadline:
            raise EnvironmentFailure(f"no {interface} in {network.plan.namespace(node)} within {WITHIN:g} s")
        await asyncio.sleep(0.05)


def _up(network: TestNetwork, node: str, interface: str) -> None:
    """The tunnel's addresses and routes; 1420 octets is WireGuard's usual MTU."""
    _ip(network, node, "link", "set", interface, "mtu", "1420", "up")
    if node == "laptop":
        _ip(network, node, "address", "add", f"{ADDRESS}/128", "dev", interface, "nodad")
        _ip(network, node, "route", "add", str(network.plan.cn_prefix), "dev", interface, "src", str(ADDRESS))
    else:
        _ip(network, node, "route", "add", f"{ADDRESS}/128", "dev", interface)


def _end(programs: dict[str, subprocess.Popen[bytes]]) -> None:
    for program in programs.values():
        program.terminate()
        program.wait(5)


def _ip(network: TestNetwork, node: str, *arguments: str) -> None:
    _run(network, node, "ip", "-6", *arguments)


def _run(network: TestNetwork, node: str, *command: str) -> None:
    done = network.run(node, command)
    if done.returncode != 0:
        raise EnvironmentFailure(f"{' '.join(command)}: {done.stderr.strip()}")


def _output(*command: str, text: str | None = None) -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError as error:
        raise EnvironmentFailure(f"{error}; `make setup` installs what is missing") from None
    if done.returncode != 0:
        raise EnvironmentFailure(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


SETTINGS: dict[str, Callable[[], AbstractAsyncContextManager[Setting]]] = {
    "ours": _ours,
    "wireguard": _wireguard,
    "openvpn": _openvpn,
}
