"""``mobility mn|ha|cn``: starts the host-OS holder and the data plane as children, starts again what dies or hangs.

Children are forked and not executed anew: everything is imported already, so that a data plane is back in some
hundredths of a second. They go when the supervisor goes, however it goes: the kernel kills them (PDEATHSIG), and a pipe
ends (the lifeline). A data plane that does not turn its loop any more is killed and started again
(`mobility.heartbeat`). SIGHUP has a home agent read its configuration anew: it is checked here, applied in the data
plane, and adopted here for the next start.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from mobility import holder, logs, service
from mobility.client import MobilityError
from mobility.config import Configuration, ConfigurationError, Role, load
from mobility.gateway import process as gateway_process
from mobility.heartbeat import BEAT, MISSED, MISSED_AT_START, Heartbeat
from mobility.holder import HostSettings
from mobility.net import namespace
from mobility.net.loop import Loop, StopSignals
from mobility.net.tun import TunSettings
from mobility.notify import ServiceManager
from mobility.sequences import SequenceFileError
from mobility.service import Build, Life
from mobility.values import SMALLEST_MTU

log = logging.getLogger(__name__)

LONGEST_PAUSE = 2.0
"Seconds before a child that keeps dying is started again, at most."
SETTLED = 10.0
"Seconds after which a child counts as healthy: its next death is a first one again."
PATIENCE = 3.0
"Seconds a child has to end after it was asked to."
START_FAILED = 1
EXPECTED = (OSError, ConfigurationError, SequenceFileError, MobilityError)
"What a start may fail with for reasons of the outside: told in one line, without a traceback."


class AlreadyRunning(Exception):
    """Another supervisor has this runtime directory."""


class _Child:
    """A forked process, its lifeline, its heartbeat, and the pipe on which it says that it is ready."""

    def __init__(self, name: str, pid: int, lifeline: int, reports: int, heartbeat: Heartbeat | None) -> None:
        self.name = name
        self.pid = pid
        self.process = os.pidfd_open(pid)
        self.lifeline = lifeline
        self.reports = reports
        self.heartbeat = heartbeat
        self.is_ready = False
        self.since = time.monotonic()
        self.next_look = self.since + BEAT

    def descriptors(self) -> tuple[int, ...]:
        return self.process, self.lifeline, self.reports


class Supervisor:
    """Runs one node. ``ready`` is called once, when the node serves for the first time."""

    def __init__(self, configuration: Configuration, build: Build, ready: Callable[[], None]) -> None:
        self._configuration = configuration
        self._build = build
        self._tell_ready = ready
        self._manager = ServiceManager()
        self._owner = f"{os.uname().nodename}/{os.urandom(8).hex()}"
        "Names all lives of this supervisor's data plane: each follows one that is surely dead."
        self._loop = Loop()
        self._children: dict[str, _Child] = {}
        self._due: dict[str, float] = {}
        self._deaths: dict[str, int] = {}
        self._starts = 0
        self._told = False
        self._status = 0
        self._lock = -1
        self._reload_wanted = False
        self._next_look = 0.0
        self._host_os: dict[str, int] = {}
        "Descriptors of the host OS's namespaces, where they have no name: a holder's death is not that of programs."

    def run(self) -> int:
        """Until SIGTERM or SIGINT; returns the exit status. Raises AlreadyRunning, OSError."""
        logs.use(self._configuration.log)
        runtime = self._configuration.runtime
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        if runtime.stat().st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "this directory belongs to somebody else", str(runtime))
        self._lock = os.open(runtime / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise AlreadyRunning(
                f"a mobility process runs in {runtime} already (`mobility status` shows it)"
            ) from error
        signals = StopSignals(self._loop)
        before = signal.signal(signal.SIGHUP, self._hung_up)  # the wakeup descriptor of StopSignals ends the wait
        gc.freeze()  # what exists now is shared with the children as long as nobody touches it
        try:
            self._due[_first(self._configuration)] = 0.0
            while not self._loop.stopping:
                self._loop.turn(self._start_what_is_due())
                self._look()
                if self._reload_wanted:
                    self._reload()
        finally:
            self._manager.stopping()
            signal.signal(signal.SIGHUP, before)
            for name in ("gateways", "data plane", "host OS"):
                self._end(name)
            self._leave_host_os()
            self._clean_up(runtime)
            signals.close()
            self._loop.close()
            os.close(self._lock)
        return self._status

    # ------------------------------------------------------------ starting

    def _start_what_is_due(self) -> float | None:
        """Starts children whose time has come; returns the seconds until the next."""
        now = time.monotonic()
        for name in [name for name, due in self._due.items() if due <= now]:
            del self._due[name]
            self._start(name)
        return min((due - now for due in (*self._due.values(), self._next_look)), default=None)

    def _start(self, name: str) -> None:
        self._starts += name == "data plane"
        lifeline, our_lifeline = os.pipe()
        our_reports, reports = os.pipe2(os.O_NONBLOCK)
        heartbeat = None if name == "host OS" else Heartbeat()
        stopping = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, stopping)  # one that comes now must not be lost between two handlers
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            status = START_FAILED
            try:
                for descriptor in (our_lifeline, our_reports, self._lock):
                    os.close(descriptor)
                for sibling in self._children.values():
                    for descriptor in sibling.descriptors():
                        os.close(descriptor)
                signal.set_wakeup_fd(-1)
                for sig in stopping:
                    signal.signal(sig, signal.SIG_IGN if sig == signal.SIGHUP else signal.SIG_DFL)
                self._loop.close()
                signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping)
                status = self._live(name, Life(self._starts, lifeline, reports, heartbeat, self._owner))
            except EXPECTED as error:
                log.error("%s: %s", name, error)
            except BaseException:
                log.exception("%s: ended by an internal error", name)
            finally:
                logging.shutdown()
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping)
        os.close(lifeline)
        os.close(reports)
        child = self._children[name] = _Child(name, pid, our_lifeline, our_reports, heartbeat)
        self._loop.watch(child.process, lambda _events: self._ended(child))
        self._loop.watch(child.reports, lambda _events: self._heard(child))

    def _live(self, name: str, life: Life) -> int:
        if name == "gateways":
            return gateway_process.run_terminal(self._configuration, life)
        if name == "data plane" and self._configuration.gateway is not None:
            return gateway_process.run_gateway(self._configuration, life)
        if name == "data plane":
            return service.run(self._configuration, self._build, life)
        settings = host_settings(self._configuration)
        if settings is not None:
            holder.run(settings, lifeline=life.lifeline, ready=life.reports, former=self._host_os)
        return 0

    # ------------------------------------------------------------ what children do

    def _heard(self, child: _Child) -> None:
        reports = os.read(child.reports, 4096).split()
        if not reports:
            self._loop.unwatch(child.reports)  # it ended, which the process descriptor tells too
        for report in reports:
            match report.decode():
                case service.READY if child.name == "host OS":
                    child.is_ready = True
                    self._keep_host_os(child.pid)
                    self._due["data plane"] = 0.0
                    if self._configuration.gateways and "gateways" not in self._children:
                        self._due["gateways"] = 0.0
                case service.READY if child.name == "gateways":
                    child.is_ready = True
                case service.READY:
                    child.is_ready = True
                    if not self._told:
                        self._told = True
                        self._tell_ready()
                    self._manager.ready("serving")
                case service.RELOADED:
                    self._adopt()
                    self._manager.ready("serving, configuration read anew")
                case service.REFUSED:
                    self._manager.ready("serving, the configuration that was to be read anew cannot be used")

    def _look(self) -> None:
        """Now and then: whether the children live; tells the service manager that this process does."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + (BEAT if self._manager.watchdog is None else min(BEAT, self._manager.watchdog))
        self._manager.alive()
        for child in self._children.values():
            if child.heartbeat is None or now < child.next_look:
                continue
            child.next_look = now + BEAT
            missed = child.heartbeat.look()
            if missed >= (MISSED if child.is_ready else MISSED_AT_START):
                log.error("the %s (process %d) hangs for %d seconds: killed", child.name, child.pid, missed)
                signal.pidfd_send_signal(child.process, signal.SIGKILL)  # which works on a stopped process too

    # ------------------------------------------------------------ the configuration read anew

    def _hung_up(self, _number: int, _frame: FrameType | None) -> None:
        if self._configuration.role is Role.HOME_AGENT:
            self._reload_wanted = True
        else:
            self._loop.stop()  # the user closed the terminal window that it ran in

    def _reload(self) -> None:
        """Checks the file, so that a wrong one is refused before anything changes, and has the data plane apply it."""
        self._reload_wanted = False
        self._manager.reloading()
        child = self._children.get("data plane")
        try:
            load(self._configuration.path, role=self._configuration.role)
        except ConfigurationError as error:
            log.error("the configuration is not read anew, nothing changes: %s", error)
            self._manager.ready("serving, the configuration that was to be read anew cannot be used")
        else:
            if child is not None and child.is_ready:
                signal.pidfd_send_signal(child.process, signal.SIGHUP)
            else:
                self._adopt()
                self._manager.ready("starting")

    def _adopt(self) -> None:
        """What the data plane applied is what its successor starts with."""
        try:
            self._configuration = load(self._configuration.path, role=self._configuration.role)
        except ConfigurationError as error:
            log.error("the next start will be with the configuration of before: %s", error)

    def _ended(self, child: _Child) -> None:
        status = self._reap(child)
        if not self._told and status != service.RESTART and child.name != "gateways":
            log.error("the %s could not start", child.name)
            self._status = START_FAILED
            self._loop.stop()
            return
        now = time.monotonic()
        deaths = 0 if now - child.since > SETTLED else self._deaths.get(child.name, 0)
        pause = 0.0 if deaths == 0 else min(0.125 * 2**deaths, LONGEST_PAUSE)
        self._deaths[child.name] = deaths + 1
        if status != service.RESTART:
            log.warning("the %s (process %d) ended with %s: starting it again", child.name, child.pid, _words(status))
        if child.name == "host OS":
            if not child.is_ready:
                self._leave_host_os()  # perhaps nobody can live there any more: the next one makes its own
                self._end("gateways")  # it listens there
            # Its TUN device is still held by the data plane; the next holder needs the name for its own.
            self._end("data plane")
            self._due.pop("data plane", None)
        self._due[child.name] = now + pause

    def _keep_host_os(self, pid: int) -> None:
        self._leave_host_os()
        try:
            namespaces = namespace.of(pid)
        except OSError as error:
            log.warning("should the holder die, programs in the host OS will have no network: %s", error)
            return
        settings = self._configuration.host_os
        if "user" in namespaces or settings is None or settings.namespace is None:
            self._host_os = namespaces
        else:  # the next one finds it by its name
            os.close(namespaces["net"])

    def _leave_host_os(self) -> None:
        for descriptor in self._host_os.values():
            os.close(descriptor)
        self._host_os = {}

    def _end(self, name: str) -> None:
        """Ends a child: asks, waits, kills."""
        child = self._children.get(name)
        if child is None:
            return
        self._loop.unwatch(child.process)
        self._loop.unwatch(child.reports)
        signal.pidfd_send_signal(child.process, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while os.waitid(os.P_PIDFD, child.process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > deadline:
                log.warning("the %s (process %d) does not end: killed", name, child.pid)
                signal.pidfd_send_signal(child.process, signal.SIGKILL)
                break
            time.sleep(0.01)
        self._reap(child)

    def _reap(self, child: _Child) -> int:
        self._loop.unwatch(child.process)
        self._loop.unwatch(child.reports)
        _, status = os.waitpid(child.pid, 0)
        for descriptor in child.descriptors():
            os.close(descriptor)
        if child.heartbeat is not None:
            child.heartbeat.close()
        del self._children[child.name]
        return os.waitstatus_to_exitcode(status)

    def _clean_up(self, runtime: Path) -> None:
        """What a killed child could not remove itself."""
        marker = runtime / "namespace"
        if marker.exists():
            namespace.withdraw(marker.read_text())
            marker.unlink()
        for name in ("host.sock", "control.sock", gateway_process.SOCKET):
            (runtime / name).unlink(missing_ok=True)


def host_settings(configuration: Configuration) -> HostSettings | None:
    """The host OS of a configuration, as its holder wants it; None for a node without."""
    host_os, address = configuration.host_os, configuration.host_address
    if host_os is None or address is None:
        return None
    mtu = SMALLEST_MTU if host_os.mtu is None else host_os.mtu  # the data plane raises it when it knows better
    tun = TunSettings(host_os.interface, address, mtu, host_os.address4)
    dns = host_os.dns
    if configuration.translation is not None:  # a program that speaks IPv4 asks under a virtual address
        dns = (*configuration.translation.virtual_servers, *dns)
    inside = [destination for gateway in configuration.gateways for destination in gateway.destinations]
    return HostSettings(
        tun,
        host_os.namespace,
        configuration.runtime,
        dns,
        tuple(dict.fromkeys(destination.address for destination in inside)),
        tuple((destination.host, str(destination.address)) for destination in inside if destination.is_name),
    )


def _first(configuration: Configuration) -> str:
    return "data plane" if configuration.host_os is None else "host OS"


def _words(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
