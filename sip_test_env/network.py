"""The test network: one object that builds it, changes it and takes it down."""

from __future__ import annotations

import os
import secrets
import select
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sip_test_env import cables, extensions, faults, kamailio, links, namespace, routers
from sip_test_env.cables import Move
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.faults import Access
from sip_test_env.impairment import Impairment, Wire
from sip_test_env.kamailio import DigestAlgorithm, ProxySettings
from sip_test_env.plan import BASIC, CABLES, HOME_AGENT_PORT, INTERFACE, Extension, Plan
from sip_test_env.processes import Process, end
from sip_test_env.state import Store

_READY_WITHIN = 10.0
_ETH_P_ALL = 0x0003
_ROUTER_ADVERTISEMENT = 134


@dataclass(frozen=True, slots=True)
class Account:
    """What a phone needs to register."""

    user: str
    password: str
    domain: str

    def __repr__(self) -> str:
        return f"Account({self.user!r}, {self.domain!r})"


class TestNetwork:
    """The network of Fig. 23, up for the time of a ``with`` statement.

    It goes with the process that made it, however that ends: a guardian process waits for that. With ``keep=True`` it
    stays until ``down`` (that is what ``python -m sip_test_env up`` does). Needs root; methods raise
    `EnvironmentFailure`.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(
        self,
        instance: str = "default",
        *,
        digest: DigestAlgorithm = "MD5",
        keep: bool = False,
        extension: Extension = BASIC,
    ) -> None:
        self.plan = Plan(instance, extension)
        self._store = Store(instance)
        self._digest: DigestAlgorithm = digest
        self._keep = keep
        self._guardian: subprocess.Popen[bytes] | None = None
        self._children: dict[int, subprocess.Popen[Any]] = {}
        self._wires: dict[str, Wire] = {}

    @classmethod
    def attach(cls, instance: str = "default") -> Self:
        """The instance that stands already; raises `EnvironmentFailure` if it does not."""
        store = Store(instance)
        if not store.exists:
            raise EnvironmentFailure(
                f"instance {instance!r} is not up; `python -m sip_test_env up --instance {instance}` builds it"
            )
        return cls(instance, keep=True, extension=extensions.EXTENSIONS[store.read().extension])

    @property
    def directory(self) -> Path:
        """Configuration, keys and logs of the instance; goes with it."""
        return self._store.directory

    @property
    def ca_file(self) -> Path:
        """The certificate (PEM) that vouches for the proxy."""
        return self.directory / "kamailio" / "ca.pem"

    def account(self, user: str) -> Account:
        """The account of one of ``plan.users``."""
        if user not in self.plan.users:
            raise ValueError(f"no user {user!r}; choose one of {', '.join(self.plan.users)}")
        password = (self.directory / "passwords" / user).read_text()
        return Account(user, password, self.plan.sip_domain)

    # up and down

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Builds the network; returns when every router advertises and the proxy answers."""
        owner = None if self._keep else Process.find(os.getpid(), "owner")
        self._store.claim(owner, self.plan)
        try:
            if owner:
                self._guardian = subprocess.Popen(
                    [sys.executable, "-m", "sip_test_env.guardian", self.plan.instance, str(owner.pid)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            self._make_passwords()
            namespace.create(self.plan.namespaces)
            links.build(self.plan)
            self.move(self.plan.visited_a.name)
            with ExitStack() as stack:
                waiting = [
                    stack.enter_context(_AdvertisementWatch(self.plan, node)) for node in routers.advertised(self.plan)
                ]
                self._start_proxy(self._digest)
                for watch in waiting:
                    self._start_router(watch.node)
                for watch in waiting:
                    watch.wait(self._log_of)
            self._wait_for_proxy()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Takes everything down; nothing is left behind. Not up: nothing to do."""
        self._store.remove()
        for wire in self._wires.values():
            wire.close()
        self._wires.clear()
        for child in self._children.values():
            child.wait()
        self._children.clear()
        if self._guardian is not None:
            guardian, self._guardian = self._guardian, None
            if guardian.stdin is not None:
                guardian.stdin.close()
            guardian.wait()

    def _make_passwords(self) -> None:
        directory = self.directory / "passwords"
        directory.mkdir(mode=0o700)
        for user in self.plan.users:
            (directory / user).write_text(secrets.token_urlsafe(12))

    # programs

    def popen(
        self, node: str, command: Sequence[str], *, name: str | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """Starts a program in the namespace of ``node``; it ends with the network. ``name`` is for `status`;
        ``options``: of `subprocess.Popen`.

        Raises `EnvironmentFailure` if the program is not installed.
        """

        def start() -> subprocess.Popen[Any]:
            return subprocess.Popen(command, **options)

        try:
            child = namespace.run_in(self.plan.namespace(node), start)
        except FileNotFoundError as error:
            raise EnvironmentFailure(f"{error}; `make setup` installs what is missing") from None
        self._children[child.pid] = child
        if process := Process.find(child.pid, name or Path(command[0]).name):
            self._store.record(process)
        return child

    def run(self, node: str, command: Sequence[str], *, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Runs a program in the namespace of ``node`` to its end (at most ``timeout`` seconds); returns its output."""
        return namespace.run_in(
            self.plan.namespace(node),
            lambda: subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False),
        )

    def _daemon(self, node: str, name: str, command: Sequence[str]) -> None:
        with open(self.directory / f"{name}.log", "ab") as log:
            child = self.popen(
                node, command, name=name, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        (self.directory / f"{name}.pid").write_text(f"{child.pid}\n")

    def _log_of(self, name: str) -> str:
        """The last lines of a daemon's log, for an error message."""
        with suppress(FileNotFoundError):
            lines = (self.directory / f"{name}.log").read_text(errors="replace").splitlines()
            return "\n".join(lines[-8:])
        return ""

    # routers

    def _start_router(self, node: str) -> None:
        config = self.directory / f"radvd-{node}.conf"
        config.write_text(routers.radvd_config(*routers.advertised(self.plan)[node]))
        pid_file = self.directory / f"radvd-{node}.own-pid"
        self._daemon(
            node, f"radvd-{node}", ["radvd", "-n", "-m", "stderr", "-d", "1", "-C", str(config), "-p", str(pid_file)]
        )

    # the proxy

    def start_proxy(self, digest: DigestAlgorithm | None = None) -> None:
        """Starts Kamailio again after `stop_proxy`, with another digest algorithm if wanted.

        Returns when it answers.
        """
        self._start_proxy(digest or self._digest)
        self._wait_for_proxy()

    def stop_proxy(self) -> None:
        """Ends Kamailio, as if it had crashed: registrations are forgotten."""
        with suppress(FileNotFoundError):
            pid = int((self.directory / "kamailio.pid").read_text())
            members = [Process.find(member, "kamailio") for member in _session(pid)]
            end(process for process in members if process)
            if child := self._children.pop(pid, None):
                child.wait()

    def _start_proxy(self, digest: DigestAlgorithm) -> None:
        plan = self.plan
        settings = ProxySettings(
            plan.sip_domain,
            (plan.proxy, plan.proxy4),
            {user: self.account(user).password for user in plan.users},
            plan.sip_port,
            plan.sips_port,
            digest,
        )
        config = kamailio.write(settings, self.directory / "kamailio")
        self._daemon("proxy", "kamailio", kamailio.command(config))

    def _wait_for_proxy(self) -> None:
        plan = self.plan
        deadline = time.monotonic() + _READY_WITHIN

        def answers() -> bool:
            try:
                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
                    probe.settimeout(0.05)
                    probe.connect((str(plan.proxy), plan.sip_port))
                    probe.send(_options(plan, probe.getsockname()[1]))
                    if b" 200 " not in probe.recv(4096):
                        return False
                context = ssl.create_default_context(cafile=str(self.ca_file))
                with (
                    socket.create_connection((str(plan.proxy), plan.sips_port), timeout=2) as stream,
                    context.wrap_socket(stream, server_hostname=str(plan.proxy)),
                ):
                    return True
            except OSError:
                return False

        child = next((child for child in self._children.values() if "kamailio" in str(child.args)), None)
        while not namespace.run_in(plan.namespace("proxy"), answers):
            if time.monotonic() > deadline or (child is not None and child.poll() is not None):
                raise EnvironmentFailure(f"Kamailio does not answer; the end of its log:\n{self._log_of('kamailio')}")
            time.sleep(0.02)

    # terminals' cables

    @property
    def location(self) -> str | None:
        """The link that ``mn`` is plugged into; None: its cable is pulled."""
        return self.location_of(INTERFACE)

    def location_of(self, interface: str) -> str | None:
        """The link that the cable of a terminal's interface (``eth0`` of ``mn``, ``wlan0`` or ``wwan0`` of ``laptop``)
        is plugged into; None: it hangs out.
        """
        return cables.location(self.plan, self.plan.cable(interface))

    def move(self, name: str, interface: str = INTERFACE) -> Move:
        """Pulls a terminal's cable, if it is not out, and plugs it into a link: ``home``, ``visited-a``,
        ``visited-b`` or ``hotspot``.
        """
        return cables.move(self.plan, self.plan.cable(interface), name)

    def unplug(self, interface: str = INTERFACE) -> float:
        """Pulls a terminal's cable; `move` plugs it in again. Returns when, in monotonic seconds."""
        return cables.unplug(self.plan, self.plan.cable(interface))

    def flap(self, interface: str = INTERFACE, *, times: int = 5, out: float = 0.05, back: float = 0.05) -> None:
        """A loose contact: the carrier goes for ``out`` seconds and comes back for ``back``, ``times`` times."""
        link = self.location_of(interface)
        if link is None:
            raise EnvironmentFailure(f"{interface} is not plugged in")
        for _ in range(times):
            self.unplug(interface)
            time.sleep(out)
            self.move(link, interface)
            time.sleep(back)

    # what goes wrong in networks

    def impair(self, where: str, forth: Impairment, back: Impairment | None = None, *, seed: int = 0) -> None:
        """Makes the wire of a router on its link, or of the home agent (``ha``), a bad one; changes it if it is.

        ``forth`` is the direction away from the router or home agent, ``back`` (as ``forth`` if left out) towards it.
        The wire stays one in user space from now on: `Impairment()` makes it a perfect one. It is interrupted for some
        milliseconds the first time; ``seed`` counts then only.
        """
        self.impair_ways(where, forth, forth if back is None else back, seed=seed)

    def impair_ways(self, where: str, forth: Impairment | None, back: Impairment | None, *, seed: int = 0) -> None:
        """As `impair`; None: this way stays as it is."""
        self._wire(where, seed).impair(forth, back)

    def _wire(self, where: str, seed: int = 0) -> Wire:
        wire = self._wires.get(where)
        if wire is None:
            control = self.directory / f"wire-{where}.sock"
            if not control.exists():  # nobody has made it a bad one yet
                self._lay(where, control, seed)
            wire = self._wires[where] = Wire(control)
        return wire

    def _lay(self, where: str, control: Path, seed: int) -> None:
        port = HOME_AGENT_PORT if where == "ha" else self.plan.link(where).router
        ends = cables.cut_open(self.plan, port, len(list(self.directory.glob("wire-*.sock"))))
        with (self.directory / f"wire-{where}.log").open("wb") as log:
            self.popen(
                "links",
                [sys.executable, "-m", "sip_test_env.impairment", *ends, str(control), str(seed)],
                name=f"wire-{where}",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def impaired(self, where: str) -> tuple[dict[str, int], dict[str, int]]:
        """How many ``frames`` an impaired wire was given, and how many of them it ``lost``: forth and back."""
        return self._wire(where).counters()

    def set_access(self, link: str, access: Access) -> None:
        """What the router of a link lets through."""
        faults.set_access(self.plan, link, access)

    def nat_rebind(self) -> None:
        """The hotspot's NAT forgets its mappings: flows that go on get other ports."""
        faults.nat_rebind(self.plan)

    # what stands

    def status(self) -> dict[str, object]:
        """What stands, JSON-ready."""
        plan = self.plan
        state = self._store.read()
        return {
            "instance": plan.instance,
            "network": plan.extension.name,
            "owner": state.owner.pid if state.owner else None,
            "location": self.location,
            "cables": {interface: self.location_of(interface) for interface in CABLES},
            "namespaces": {node: plan.namespace(node) for node in _nodes(plan)},
            "processes": [
                {"name": process.name, "pid": process.pid, "alive": process.alive} for process in state.processes
            ],
            "directory": str(self.directory),
            "addresses": {
                "home_address": str(plan.home_address),
                "home_agent": str(plan.home_agent),
                "home_agent4": str(plan.home_agent4),
                "cn": str(plan.cn),
                "proxy": str(plan.proxy),
                "proxy4": str(plan.proxy4),
            },
        }


def _nodes(plan: Plan) -> list[str]:
    return [name.removeprefix(f"roam-{plan.instance}-") for name in plan.namespaces if namespace.exists(name)]


def _session(leader: int) -> list[int]:
    """Process ids of a session: a daemon and the children that it forked."""
    members = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(ProcessLookupError):
                if os.getsid(int(entry)) == leader:
                    members.append(int(entry))
    return members


def _options(plan: Plan, port: int) -> bytes:
    branch = secrets.token_hex(8)
    return (
        f"OPTIONS sip:{plan.sip_domain} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP [{plan.proxy}]:{port};branch=z9hG4bK{branch};rport\r\n"
        f"From: <sip:probe@probe.invalid>;tag={branch}\r\nTo: <sip:{plan.sip_domain}>\r\n"
        f"Call-ID: {branch}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 5\r\nContent-Length: 0\r\n\r\n"
    ).encode()


class _AdvertisementWatch:
    """Waits for a router's advertisement. Opened before the router starts, so as not to miss the first."""

    def __init__(self, plan: Plan, node: str) -> None:
        self.node = node
        self._plan = plan
        # the other end of the router's cable: its port in `links`, or the correspondent's interface
        self._watcher, self._port = ("cn", INTERFACE) if node == "core" else ("links", node)

    def __enter__(self) -> Self:
        def open_socket() -> socket.socket:
            watch = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
            watch.bind((self._port, _ETH_P_ALL))
            return watch

        self._socket = namespace.run_in(self._plan.namespace(self._watcher), open_socket)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def wait(self, log_of: Callable[[str], str]) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0] and is_router_advertisement(self._socket.recv(2048)):
                return
        name = f"radvd-{self.node}"
        raise EnvironmentFailure(f"the router {self.node} does not advertise; the end of its log:\n{log_of(name)}")


def is_router_advertisement(packet: bytes) -> bool:
    """Whether an IPv6 packet is an ICMPv6 router advertisement without extension headers (RFC 4861 section 4.2)."""
    if len(packet) < 41 or packet[0] >> 4 != 6:
        return False
    next_header, hop_limit, message = packet[6], packet[7], packet[40]
    return (next_header, hop_limit, message) == (socket.IPPROTO_ICMPV6, 255, _ROUTER_ADVERTISEMENT)
