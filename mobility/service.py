"""The data-plane process: a node in its event loop, with the control socket beside it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from mobility.client import HostClient
from mobility.config import Configuration
from mobility.control import ControlServer, Operation, Refused
from mobility.net import netlink
from mobility.net.data_plane import DataPlane
from mobility.net.loop import Loop, StopSignals, prefer_this_process, settle_memory
from mobility.net.namespace import die_with_parent
from mobility.net.netlink import LinkState
from mobility.net.tun import Tunnel
from mobility.node import Node
from mobility.outputs import Output
from mobility.sequences import SequenceFile
from mobility.trace import Trace

log = logging.getLogger(__name__)

RESTART = 75
"Exit status: nothing is wrong, but the node has to be built anew (an interface changed)."

Build = Callable[[Configuration, Mapping[str, LinkState], SequenceFile], Node]
"Makes the node of a configuration for the interfaces there are."


@runtime_checkable
class Reregisters(Protocol):
    """A node that knows the command ``reregister``."""

    def reregister(self, now: float) -> list[Output]:
        """Sends a binding update now."""


@dataclass(frozen=True, slots=True)
class Life:
    """Which life of the data plane this is, and what it is connected to."""

    start: int
    "Counts from 1."
    lifeline: int | None = None
    "A pipe whose other end the supervisor holds."
    ready: int | None = None
    "A pipe that wants a line when all is ready."


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
        sequences = SequenceFile(configuration.state / "sequences")
        sequences.open()
        stack.callback(sequences.close)
        tunnel = None
        if configuration.host_os is not None:
            tunnel = Tunnel(HostClient(configuration.runtime / "host.sock").tunnel())
        interfaces = _interfaces(configuration)
        trace = Trace()
        stack.callback(trace.close)
        plane = DataPlane(loop, build(configuration, interfaces, sequences), interfaces, trace, tunnel=tunnel)
        stack.callback(plane.close)
        process: dict[str, object] = {"pid": os.getpid(), "start": life.start, "role": str(configuration.role)}
        server = ControlServer(loop, configuration.runtime / "control.sock", _operations(plane, trace, process))
        trace.subscribe(server.publish)
        plane.start()
        server.open()
        stack.callback(server.close)
        process["scheduling"] = prefer_this_process()
        settle_memory()
        if life.ready is not None:
            os.write(life.ready, b"ready\n")
            os.close(life.ready)
        plane.run()
        return 0 if plane.must_restart is None else RESTART


def _interfaces(configuration: Configuration) -> dict[str, LinkState]:
    """What the node is built for.

    An interface that is not there yet gets a placeholder; when it comes, the data plane starts anew with the real one.
    """
    present = netlink.read_links()
    interfaces: dict[str, LinkState] = {}
    for name in configuration.interfaces:
        link = present.get(name)
        if link is None:
            log.warning("interface %s is not there (yet)", name)
            link = LinkState(0, name, b"\x02" + os.urandom(5), 1500, up=False, ethernet=True)
        elif not link.ethernet:
            raise OSError(f"interface {name} is not an Ethernet interface: choose another in {configuration.path}")
        interfaces[name] = link
    return interfaces


def _operations(plane: DataPlane, trace: Trace, process: Mapping[str, object]) -> dict[str, Operation]:
    """What the control socket offers; docs/configuration.md describes each."""

    def status(_request: Mapping[str, object]) -> object:
        return {"process": process, "links": plane.links(), "node": plane.snapshot(), "counters": plane.counters()}

    def counters(_request: Mapping[str, object]) -> object:
        return plane.counters()

    def recent(_request: Mapping[str, object]) -> object:
        return trace.recent()

    def command(request: Mapping[str, object]) -> object:
        name = request.get("name")
        if name != "reregister":
            raise Refused(f"unknown command {name!r}; there is reregister")
        node = plane.node
        if not isinstance(node, Reregisters):
            raise Refused("this node has nothing to register: it is no mobile node")
        plane.call(node.reregister)
        return None

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

    return {"status": status, "counters": counters, "recent": recent, "command": command, "trace": set_trace}
