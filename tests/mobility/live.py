"""A mobility process in a thread: a terminal of the simulated network, at real pace, behind real sockets.

Everything a client of the mobility layer sees is the product's (`control.sock` with all its operations, packets,
handovers); the network is that of `tests.mobility.whole`, and the host OS is this machine's loopback.
"""

from __future__ import annotations

import array
import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from struct import pack
from types import TracebackType
from typing import Self

from mobility.control import ControlServer, listen
from mobility.handover_watch import HandoverWatch
from mobility.links import is_udp
from mobility.net.data_plane import DataPlane
from mobility.net.loop import Loop
from mobility.node import Node
from mobility.outputs import Deliver, Discarded, Event, Output, Transmit
from mobility.packet_stream import PacketStream
from mobility.service import node_operations
from mobility.trace import Trace
from mobility.wire import ip4

from .whole import AT_HOTSPOT, CN, HA4, MN, Network, udp

TICK = 0.005
"Seconds of a turn."


class Observed:
    """A node that has its packets, discards and events observed, as the data plane does it."""

    def __init__(self, node: Node, observer: Trace) -> None:
        self.node, self.observer = node, observer

    @property
    def timer(self) -> float | None:
        return self.node.timer

    def start(self, now: float) -> list[Output]:
        return self.node.start(now)

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        return self.done(self.node.link_changed(link, up, now))

    def udp_changed(self, *values: object) -> list[Output]:
        changed = self.node.udp_changed  # type: ignore[attr-defined]
        return self.done(changed(*values))

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        if self.observer.wants_packets:
            self.observer.packet(link, False, _on_the_wire(link, packet, outbound=False), packet)
        return self.done(self.node.from_link(link, packet, sender, now))

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        if self.observer.wants_packets:
            self.observer.packet("host", True, packet, packet)
        return self.done(self.node.from_host(packet, now))

    def handle_timer(self, now: float) -> list[Output]:
        return self.done(self.node.handle_timer(now))

    def snapshot(self, now: float) -> dict[str, object]:
        return self.node.snapshot(now)

    def done(self, outputs: list[Output]) -> list[Output]:
        observer = self.observer
        for output in outputs:
            match output:
                case Transmit(packet, _, link) if observer.wants_packets:
                    observer.packet(link, True, _on_the_wire(link, packet, outbound=True), packet)
                case Deliver(packet) if observer.wants_packets:
                    observer.packet("host", False, packet, packet)
                case Discarded():
                    observer.discarded(output)
                case Event():
                    observer.event(output)
        if observer.wants_packets:
            observer.carried_out()
        return outputs


def _on_the_wire(link: str, packet: bytes, *, outbound: bool) -> bytes:
    if not is_udp(link):
        return packet
    ends = AT_HOTSPOT.packed + HA4.packed if outbound else HA4.packed + AT_HOTSPOT.packed
    return ip4.packet(ends, 17, pack("!HHHH", 4191, 4191, 8 + len(packet), 0) + packet)


class _Plane(DataPlane):
    """What the operations of the control socket want, without links of its own."""

    def __init__(self, loop: Loop, network: Network, trace: Trace) -> None:
        super().__init__(loop, network.world.stations["mn"].node, {}, trace, clock=lambda: network.world.now)
        self._network = network

    def carry_out(self, outputs: list[Output]) -> None:
        station = self._network.world.stations["mn"]
        assert isinstance(station.node, Observed)
        station.carry_out(station.node.done(outputs))


class LiveTerminal:
    """``with LiveTerminal(directory) as live:`` has ``live.host_socket`` and ``live.control_socket`` served."""

    def __init__(self, directory: Path, network: Network | None = None) -> None:
        self.directory = directory
        self.host_socket, self.control_socket = directory / "host.sock", directory / "control.sock"
        self.network = Network() if network is None else network
        self.trace = Trace()
        self._loop = Loop()
        self._wishes: queue.SimpleQueue[tuple[Callable[[], object], Future[object]]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._sent = 0

    def __enter__(self) -> Self:
        network = self.network
        network.start_agent()
        network.plug(network.a)
        network.run(3)
        station = network.world.stations["mn"]
        plane = self._plane = _Plane(self._loop, network, self.trace)
        station.node = Observed(station.node, self.trace)
        handovers = self._handovers = HandoverWatch(network.terminal, self.trace.note)
        self.trace.listen(handovers.happened)
        self._server = ControlServer(
            self._loop, self.control_socket, node_operations(plane, self.trace, {"role": "mn", "pid": 1}, handovers),
            lambda on: self.trace.follow(self._stream if on else None),
        )  # fmt: skip
        self._stream = PacketStream(network.terminal, self._server.offer, time.time)
        self.trace.subscribe(self._server.publish)
        self.directory.mkdir(exist_ok=True)
        self.serve()
        self._host = listen(self.host_socket, socket.SOCK_SEQPACKET)
        self._loop.watch(self._host, self._accept)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.stop()
        self._thread.join(5)
        self._server.close()
        self._host.close()
        self.host_socket.unlink(missing_ok=True)
        self.trace.close()
        self._loop.close()

    def do(self, action: Callable[[], object]) -> object:
        """In the thread of the process, between two turns; returns what it returns."""
        future: Future[object] = Future()
        self._wishes.put((action, future))
        return future.result(5)

    def serve(self) -> None:
        """Clients can connect."""
        self._server.open()

    def stop_serving(self) -> None:
        """As if the process had died; the network goes on."""
        self._server.close()

    def plug_second(self) -> None:
        """Another interface is in another network."""
        self.do(lambda: self.network.plug(self.network.b, "wlan1"))

    def join_hotspot(self) -> None:
        """The second interface is in a hotspot: IPv4, behind a NAT."""
        self.do(lambda: self.network.join(self.network.hotspot))

    def talk(self, interval: float = 0.02) -> None:
        """What looks like speech both ways, from now on."""
        world = self.network.world
        self.do(lambda: world.every(interval, self._speak, until=world.now + 3600.0))

    def _speak(self) -> None:
        world = self.network.world
        self._sent += 1
        head = pack("!BBHII", 0x80, 111, self._sent & 0xFFFF, 960 * self._sent & 0xFFFFFFFF, 0x5EECC)
        world.stations["mn"].send(udp(MN, CN, head + bytes(90), (16384, 16400)))
        world.stations["cn"].send(udp(CN, MN, head + bytes(90), (16400, 16384)))

    # ------------------------------------------------------------ in the thread

    def _run(self) -> None:
        world = self.network.world
        began = time.monotonic() - world.now
        while not self._loop.stopping:
            self._loop.turn(TICK if self._stream.wait is None else min(TICK, self._stream.wait))
            while not self._wishes.empty():
                action, future = self._wishes.get()
                try:
                    future.set_result(action())
                except Exception as error:  # raised by `do`, where somebody looks
                    future.set_exception(error)
            world.run(time.monotonic() - began)
            self._stream.turned()
            self._handovers.turned(world.now, self.network.terminal.receiving.delivered, time.time)

    def _accept(self, _events: int) -> None:
        connection, _ = self._host.accept()
        with connection:
            connection.settimeout(2)
            asked = json.loads(connection.recv(1 << 16))
            answer: dict[str, object] = {"ok": True}
            made: list[socket.socket] = []
            if asked["op"] == "info":
                answer |= {
                    "address": "::1",
                    "addresses": ["::1"],
                    "address4": None,
                    "mtu": 1390,
                    "dns": [],
                    "hosts": {},
                }
            else:
                made.append(_loopback_socket(asked))
            descriptors = array.array("i", [each.fileno() for each in made])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if made else []
            connection.sendmsg([json.dumps(answer).encode()], rights)
            for each in made:
                each.close()


def _loopback_socket(asked: dict[str, object]) -> socket.socket:
    kind = socket.SOCK_DGRAM if asked.get("type", "dgram") == "dgram" else socket.SOCK_STREAM
    made = socket.socket(socket.AF_INET6 if asked.get("family") != "inet" else socket.AF_INET, kind)
    match asked.get("bind"):
        case [str(address), int(port)]:
            made.bind((address, port))
    if isinstance(backlog := asked.get("listen"), int):
        made.listen(backlog)
    return made
