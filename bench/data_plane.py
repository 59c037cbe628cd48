"""Section ``data_plane``: what both ESP layers cost a packet, against scapy; what the terminal adds to its way.

- ``us_out``, ``us_in``: microseconds of `Terminal.from_host` (packet of a program -> packet for the wire) and
  `Terminal.from_link` (the way back) for a 200-byte packet: application ESP in transport mode and mobile tunnel, both
  AES-GCM-16, with policies, replay windows and counters; reading and writing descriptors not included. Medians.
- ``watched_us_out``, ``watched_us_in``: what a client that listens to packets adds to that, the lines for it included.
- ``scapy_us_out``, ``scapy_us_in``: the same two layers through scapy's IPsec, same run.
- ``added_ms``: from a program's ``send`` to the frame on the wire (out), and from the frame on the wire to the
  program's socket (in), in real namespaces, kernel timestamps, 50 packets/s each way: p50, p99, p99.9.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw

from bench.laboratory import Laboratory, laboratory
from bench.statistics import measured, microseconds, percentile
from bench.tap import SO_TIMESTAMPNS, drain, open_tap
from mobility.client import HostClient
from mobility.mipv6.tunnel import TunnelForm
from mobility.outputs import Deliver, Output, Transmit
from mobility.packet_stream import PacketStream
from sip_test_env import namespace
from tests.mobility.whole import CN, MAC_MN, MN, Network, udp

PROGRAMS = ("scapy", "cryptography")
SIZE = 200
"Octets of the packet that the program sends, with its IPv6 header."
CALLS = 400
RATE = 50
SECONDS = 30
PORT = 7000


def measure() -> dict[str, object]:
    return {**_terminal(), **_scapy(), "added_ms": asyncio.run(_added())}


def _terminal() -> dict[str, object]:
    network = Network(TunnelForm.ESP)
    network.start_agent()
    network.plug(network.a)
    network.talk(0.5)
    network.run(2.0)
    if network.to_mn.lost()[3:] or network.to_cn.lost()[3:]:
        raise RuntimeError("the simulated network loses packets")
    terminal, agent, correspondent = network.terminal, network.agent, network.correspondent
    now = network.world.now
    outgoing = udp(MN, CN, bytes(SIZE - 48))
    incoming = udp(CN, MN, bytes(SIZE - 48))
    rounds = 15

    def frame() -> bytes:
        """A packet of the correspondent as it leaves the home agent for the terminal."""
        (first,) = correspondent.from_host(incoming, now)
        if not isinstance(first, Transmit):
            raise RuntimeError(f"the correspondent does not send: {first}")
        (second,) = agent.from_link("home0", first.packet, b"\x02\0\0\0\x11\x01", now)
        if not isinstance(second, Transmit):
            raise RuntimeError(f"the home agent does not forward: {second}")
        return second.packet

    frames = iter([frame() for _ in range(2 * CALLS * rounds + 1)])
    link = terminal.settings.links[0].name
    if not isinstance(terminal.from_host(outgoing, now)[0], Transmit):
        raise RuntimeError("the terminal does not send")
    if not isinstance(terminal.from_link(link, next(frames), MAC_MN, now)[0], Deliver):
        raise RuntimeError("the terminal does not deliver")
    out = microseconds(lambda: terminal.from_host(outgoing, now), CALLS, rounds)
    into = microseconds(lambda: terminal.from_link(link, next(frames), MAC_MN, now), CALLS, rounds)

    lines: list[bytes] = []
    stream = PacketStream(terminal, lambda line, _count: lines.append(line), time.time, rate=1e9)
    stream.watch(True)

    def watched(name: str, outbound: bool, packet: bytes, outputs: Callable[[], list[Output]]) -> None:
        """As the data plane does it."""
        stream.packet(name, outbound, packet, packet)
        for output in outputs():
            match output:
                case Transmit(sent, _, to):
                    stream.packet(to, True, sent, sent)
                case Deliver(delivered):
                    stream.packet("host", False, delivered, delivered)
        stream.carried_out()
        stream.turned()

    def watched_in() -> None:
        packet = next(frames)
        watched(link, False, packet, lambda: terminal.from_link(link, packet, MAC_MN, now))

    watched_out = microseconds(
        lambda: watched("host", True, outgoing, lambda: terminal.from_host(outgoing, now)), CALLS, rounds
    )
    watched_into = microseconds(watched_in, CALLS, rounds)
    return {
        **measured("us_out", out, 2),
        **measured("us_in", into, 2),
        **measured("watched_us_out", [taken - median(out) for taken in watched_out], 1),
        **measured("watched_us_in", [taken - median(into) for taken in watched_into], 1),
    }


def _scapy() -> dict[str, object]:
    application = SecurityAssociation(ESP, spi=1, crypt_algo="AES-GCM", crypt_key=bytes(range(20)))
    tunnel = SecurityAssociation(
        ESP,
        spi=2,
        crypt_algo="AES-GCM",
        crypt_key=bytes(range(20, 40)),
        tunnel_header=IPv6(src="2001:db8:a::1", dst="2001:db8:1::a"),
    )
    plain = bytes(IPv6(src=str(MN), dst=str(CN)) / UDP(sport=5004, dport=5004) / Raw(bytes(SIZE - 48)))

    def out() -> bytes:
        return bytes(tunnel.encrypt(IPv6(bytes(application.encrypt(IPv6(plain))))))

    wire = out()

    def into() -> bytes:
        return bytes(application.decrypt(IPv6(bytes(tunnel.decrypt(IPv6(wire))))))

    if into() != plain:
        raise RuntimeError("scapy does not get its own packet back")
    return {
        **measured("scapy_us_out", microseconds(out, 20), 1),
        **measured("scapy_us_in", microseconds(into, 20), 1),
    }


async def _added() -> dict[str, object]:
    async with laboratory("bench-data-plane") as lab:
        out, into = await asyncio.to_thread(_timed_stream, lab)
    return {
        "packets": {"out": len(out), "in": len(into)},
        **{
            name: {"out": round(percentile(out, share), 3), "in": round(percentile(into, share), 3)}
            for name, share in (("p50", 0.5), ("p99", 0.99), ("p99_9", 0.999))
        },
    }


def _timed_stream(lab: Laboratory) -> tuple[list[float], list[float]]:
    """Milliseconds that the terminal takes for each packet, out and in. Blocks for `SECONDS`."""
    plan = lab.network.plan
    hosts = {role: HostClient(lab.nodes.runtime(role) / "host.sock") for role in ("mn", "cn")}
    with ExitStack() as stack:
        mn = stack.enter_context(hosts["mn"].socket(bind=(str(plan.home_address), PORT)))
        cn = stack.enter_context(hosts["cn"].socket(bind=(str(plan.cn), PORT)))
        wire = stack.enter_context(namespace.run_in(plan.namespace("links"), open_tap))
        mn.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        for _ in range(5):  # the first packets find neighbours and make plans
            mn.sendto(bytes(SIZE - 48), (str(plan.cn), PORT))
            cn.sendto(bytes(SIZE - 48), (str(plan.home_address), PORT))
            time.sleep(0.05)
        for sock in (mn, cn, wire):
            drain(sock)
        sent: list[float] = []
        received: list[float] = []
        frames: list[tuple[float, int, bool]] = []
        begin = time.monotonic()
        for number in range(RATE * SECONDS):
            time.sleep(max(0.0, begin + number / RATE - time.monotonic()))
            sent.append(time.time_ns() / 1e6)  # the clock of the kernel's timestamps
            mn.sendto(bytes(SIZE - 48), (str(plan.cn), PORT))
            time.sleep(0.5 / RATE)
            cn.sendto(bytes(SIZE - 48), (str(plan.home_address), PORT))
            frames += drain(wire)
            received += [at for at, _, _ in drain(mn)]
        time.sleep(0.2)
        frames += drain(wire)
        received += [at for at, _, _ in drain(mn)]
    usual = max({length for _, length, _ in frames}, key=lambda length: sum(1 for f in frames if f[1] == length))
    left = [at for at, length, outgoing in frames if length == usual and not outgoing]
    came = [at for at, length, outgoing in frames if length == usual and outgoing]
    if len(left) != len(sent) or len(came) != len(received):
        raise RuntimeError(f"of {len(sent)} packets {len(left)} left; of {len(came)} that came {len(received)} got in")
    return (
        [after - before for before, after in zip(sent, left, strict=True)],
        [after - before for before, after in zip(came, received, strict=True)],
    )
