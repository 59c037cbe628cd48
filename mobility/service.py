"""The data-plane process: a node in its event loop, with the control socket beside it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol, runtime_checkable

from mobility.attachments import attachments, home_route, pool_tunnel, routed_prefixes
from mobility.call_service import CallService
from mobility.client import HostClient
from mobility.config import Configuration
from mobility.control import ControlServer, Later, Operation, Refused
from mobility.handover_watch import HandoverWatch
from mobility.heartbeat import BEAT, Heartbeat
from mobility.home_interface import HomeInterface
from mobility.home_service import HomeService, sequence_file
from mobility.negotiated_tables import Negotiates, tables
from mobility.net.data_plane import DataPlane
from mobility.net.hindrances import RoutedPrefixes, hindrances
from mobility.net.loop import Loop, StopSignals, prefer_this_process, settle_memory
from mobility.net.namespace import die_with_parent
from mobility.net.netlink import LinkState
from mobility.net.tun import Tunnel
from mobility.node import Node
from mobility.node_metrics import MetricsService
from mobility.outputs import Output
from mobility.packet_stream import PacketStream
from mobility.sequences import SequenceFile
from mobility.trace import Trace

log = logging.getLogger(__name__)

READY, RELOADED, REFUSED = "ready", "reloaded", "refused"
"What a data plane reports to its supervisor."
RESTART = 75
"Exit status: nothing is wrong, but the node has to be built anew (an interface changed)."

Build = Callable[[Configuration, Mapping[str, LinkState], SequenceFile], Node]
"Makes the node of a configuration for the interfaces there are."


@runtime_checkable
class TakesCommands(Protocol):
    """A node that can be told to do something."""

    def command(self, name: str, now: float) -> list[Output]:
        """Raises ValueError for a command that there is not, or not now; the text goes to the user."""


@runtime_checkable
class KnowsHostMtu(Protocol):
    """A node that knows how large packets of the host OS may be (it may change, see `mobility.home_interface`)."""

    host_mtu: int


@dataclass(frozen=True, slots=True)
class Life:
    """Which life of the data plane this is, and what it is connected to."""

    start: int
    "Counts from 1."
    lifeline: int | None = None
    "A pipe whose other end the supervisor holds."
    reports: int | None = None
    "A pipe that wants a line when all is ready, and after each reading anew of the configuration."
    heartbeat: Heartbeat | None = None
    owner: str = ""
    "Names all lives of one supervisor's data plane; no two live at a time."

    def report(self, what: str) -> None:
        """Tells the supervisor; one that does not read is no reason to wait."""
        if self.reports is not None:
            with contextlib.suppress(OSError):
                os.write(self.reports, what.encode() + b"\n")

    def beat(self) -> None:
        if self.heartbeat is not None:
            self.heartbeat.beat()


def run(configuration: Configuration, build: Build, life: Life) -> int:
    """From here to the end of the process; returns its exit status.

    Raises OSError (not permitted, directory not writable), ConfigurationError, SequenceFileError, MobilityError at the
    start; nothing later.
    """
    parent = os.getppid()
    if life.lifeline is not None:
        die_with_parent(signal.SIGKILL, parent)
    loop = Loop()
    with contextlib.ExitStack() as stack:
        stack.callback(loop.close)
        stack.callback(StopSignals(loop, life.lifeline).close)
        sequences = sequence_file(configuration)
        sequences.open()
        stack.callback(sequences.close)
        tunnel, home_interface = None, None
        if configuration.host_os is not None:
            path = configuration.runtime / "host.sock"
            tunnel = Tunnel(HostClient(path).tunnel())
            home_interface = HomeInterface(loop, path, configuration.host_os.mtu)
            stack.callback(home_interface.close)
        else:
            tunnel = pool_tunnel(configuration)
        attached = attachments(configuration)
        interfaces, link = attached.interfaces, None
        wanted = routed_prefixes(configuration)
        if wanted is not None:
            link, interfaces[wanted.interface] = home_route(wanted)
            stack.callback(link.close)
            if life.start == 1:
                tell_of_hindrances(wanted)
        trace = Trace()
        stack.callback(trace.close)
        node = build(configuration, interfaces, sequences)
        home = HomeService(configuration, loop, sequences, life.owner)
        stack.callback(home.close)
        metrics = MetricsService(node, configuration.metrics, loop)
        stack.callback(metrics.close)
        plane = DataPlane(
            loop,
            home.around(node),
            interfaces,
            trace,
            tunnel=tunnel,
            route=link,
            access=attached.access,
            listen=attached.listen,
        )
        stack.callback(plane.close)
        home.attach(plane, trace)
        process: dict[str, object] = {"pid": os.getpid(), "start": life.start, "role": str(configuration.role)}
        calls = CallService(node, sequences.directory)
        reloads = Reloads(home, life)
        stack.callback(reloads.close)
        handovers = HandoverWatch(node, trace.note)
        trace.listen(handovers.happened)
        trace.listen(calls.happened)
        operations = {
            **calls.operations(),
            **node_operations(plane, trace, process, handovers),
            "reload": lambda _request: reloads.reload(),
            "metrics": lambda _request: metrics.metrics() if metrics.present else home.metrics(),
        }
        server = ControlServer(
            loop,
            configuration.runtime / "control.sock",
            operations,
            lambda on: trace.follow(stream if on else None),
        )
        stream = PacketStream(node, server.offer, time.time)
        trace.subscribe(server.publish)
        if home_interface is not None and isinstance(node, KnowsHostMtu):
            home_interface.follow(trace, node.host_mtu)
        plane.start()
        calls.start(plane)
        home.start()
        metrics.start(plane, trace)
        server.open()
        stack.callback(server.close)
        process["scheduling"] = prefer_this_process()
        settle_memory()
        life.report(READY)
        while not loop.stopping:
            plane.turn(BEAT if (wait := stream.wait) is None else min(BEAT, wait))
            stream.turned()
            handovers.turned(plane.now(), plane.packets["to-host"], time.time)
            home.turned()
            calls.turned()
            metrics.turned()
            if reloads.wanted:
                reloads.on_signal()
            life.beat()
        return 0 if plane.must_restart is None else RESTART


def tell_of_hindrances(wanted: RoutedPrefixes) -> None:
    """Logs what is in the way of a home agent whose prefixes are routed to it, which may change while it runs."""
    for hindrance in hindrances(wanted):
        log.warning("%s: %s", hindrance.subject, hindrance.obstacle)


class Reloads:
    """Has the configuration read anew, by SIGHUP of the supervisor or by the control socket; the supervisor is told."""

    def __init__(self, home: HomeService, life: Life) -> None:
        self.wanted = False
        self._home = home
        self._life = life
        self._before = signal.signal(signal.SIGHUP, self._hung_up)  # the loop's wakeup descriptor ends its wait

    def reload(self) -> Later:
        """Raises Refused: not now, or not here."""
        later = self._home.reload()
        answer = Later()

        def done(well: bool, outcome: object) -> None:
            self._life.report(RELOADED if well else REFUSED)
            if well:
                answer.finish(outcome)
            else:
                log.error("the configuration is not read anew: %s", outcome)
                answer.refuse(str(outcome))

        later.then(done)
        return answer

    def on_signal(self) -> None:
        """As `reload`; a refusal goes to the log."""
        self.wanted = False
        try:
            self.reload()
        except Refused as refused:
            log.error("the configuration is not read anew: %s", refused)
            self._life.report(REFUSED)

    def close(self) -> None:
        signal.signal(signal.SIGHUP, self._before)

    def _hung_up(self, _number: int, _frame: FrameType | None) -> None:
        self.wanted = True


def node_operations(
    plane: DataPlane, trace: Trace, process: Mapping[str, object], handovers: HandoverWatch
) -> dict[str, Operation]:
    """What the control socket offers; docs/configuration.md describes each."""

    def status(_request: Mapping[str, object]) -> object:
        return {
            "process": process,
            "links": plane.links(),
            "node": plane.snapshot(),
            "counters": plane.counters(),
            "handovers": handovers.handovers,
        }

    def counters(_request: Mapping[str, object]) -> object:
        return plane.counters()

    def recent(_request: Mapping[str, object]) -> object:
        return trace.recent()

    def command(request: Mapping[str, object]) -> object:
        name, node = request.get("name"), plane.node
        if not isinstance(name, str):
            raise Refused("name is the command, a text")
        if not isinstance(node, TakesCommands):
            raise Refused(f"a node of role {process['role']} takes no commands")
        try:
            outputs = node.command(name, plane.now())
        except ValueError as error:
            raise Refused(str(error)) from error
        plane.carry_out(outputs)
        return None

    def ike_keys(_request: Mapping[str, object]) -> object:
        node = plane.node
        endpoints = list(node.negotiations()) if isinstance(node, Negotiates) else []
        if not endpoints:
            raise Refused("nothing is negotiated here: the keys are in the configuration, see `mobility esp-sa`")
        return tables(endpoints)

    def set_trace(request: Mapping[str, object]) -> object:
        try:
            for key, start, stop in (
                ("events", trace.start_lines, trace.stop_lines),
                ("capture", trace.start_capture, trace.stop_capture),
            ):
                if key in request:
                    wanted = request[key]
                    if wanted is None:
                        stop()
                    elif isinstance(wanted, str) and Path(wanted).is_absolute():
                        start(Path(wanted))
                    else:
                        raise Refused(f"{key} is the absolute path of a file, or null to stop")
        except OSError as error:
            raise Refused(f"cannot write there: {error.strerror}") from error
        return trace.state()

    return {
        "status": status,
        "counters": counters,
        "recent": recent,
        "command": command,
        "ike-keys": ike_keys,
        "trace": set_trace,
    }
