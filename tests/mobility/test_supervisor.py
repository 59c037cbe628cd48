"""Supervisor, holder and data plane as real processes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mobility.client import CommandRefused, ControlClient, HostClient, HostError, MobilityError, NotRunning, wait_ready
from mobility.net import namespace
from tests.mobility.net.networks import OURS, PEER, Cable, cable, connect, run

pytestmark = pytest.mark.root


class Process:
    """A running supervisor on one end of a cable."""

    def __init__(self, wire: Cable, directory: Path, *, module: str = "tests.mobility.bridge_process") -> None:
        self.wire = wire
        self.runtime = directory / "run"
        self.host_namespace = wire.ours + "-host"
        self.configuration = directory / "cn.toml"
        self.log = directory / "log"
        self.configuration.write_text(
            f'[node]\nrole = "cn"\nruntime = "{self.runtime}"\nstate = "{directory / "state"}"\n'
            f'[correspondent]\ninterface = "eth0"\naddress = "{OURS}/64"\n'
            f'[host_os]\nnamespace = "{self.host_namespace}"\n'
        )
        command = [sys.executable, "-m", module, str(self.configuration)]
        with namespace.inside(wire.ours), self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        self.host = HostClient(self.runtime / "host.sock")

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 15)[0], self.log.read_text()
        assert self.process.stdout.readline() == b"ready\n", self.log.read_text()

    def about_data_plane(self, what: str) -> int:
        async def ask() -> dict[str, object]:
            async with ControlClient(self.runtime / "control.sock") as control:
                return await control.status()

        process = asyncio.run(ask())["process"]
        assert isinstance(process, dict)
        return int(process[what])

    def data_plane(self) -> int:
        return self.about_data_plane("pid")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(10)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()


@pytest.fixture
def wire() -> Iterator[Cable]:
    with cable() as made:
        yield made


@pytest.fixture
def running(wire: Cable, tmp_path: Path) -> Iterator[Process]:
    process = Process(wire, tmp_path)
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()
        subprocess.run(["ip", "netns", "del", process.host_namespace], check=False, capture_output=True)


def eventually(what: Callable[[], bool], seconds: float = 5.0) -> float:
    """Waits for it, returns how long it took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, "did not happen"
        time.sleep(0.005)
    return time.monotonic() - began


def heard(ours: socket.socket, peer: socket.socket, seconds: float) -> float:
    """Sends from the host OS to the peer until something arrives; returns how long it took."""
    while select.select([peer], [], [], 0)[0]:
        peer.recv(100)

    def attempt() -> bool:
        with contextlib.suppress(OSError):
            ours.sendto(b"?", peer.getsockname()[:2])
        return bool(select.select([peer], [], [], 0.01)[0])

    return eventually(attempt, seconds)


def test_sockets_of_the_host_os_work(running: Process) -> None:
    assert running.host.address() == OURS
    with running.host.socket(bind=(OURS, 5060)) as ours, running.wire.peer_socket(port=5060) as peer:
        assert ours.getsockname()[:2] == (OURS, 5060)
        assert not ours.getblocking()
        assert not ours.get_inheritable()
        heard(ours, peer, 5)
        peer.sendto(b"hello", (OURS, 5060))
        assert select.select([ours], [], [], 5)[0]
        assert ours.recv(100) == b"hello"


def test_listening_and_connecting_stream_sockets(running: Process) -> None:
    with running.host.socket("stream", bind=(OURS, 5061), listen=5) as listener:
        with running.wire.peer_socket(socket.SOCK_STREAM) as peer:
            peer.connect((OURS, 5061))
            assert select.select([listener], [], [], 5)[0]
            listener.accept()[0].close()
    with running.host.socket("stream", bind=(OURS, 0)) as ours:
        with running.wire.peer_socket(socket.SOCK_STREAM, 5062) as server:
            server.listen(1)
            with contextlib.suppress(BlockingIOError):
                ours.connect((PEER, 5062))
            server.accept()[0].close()


def test_errors_of_the_host_os_come_as_such(running: Process) -> None:
    with running.host.socket(bind=(OURS, 5063)):
        with pytest.raises(HostError) as taken:
            running.host.socket(bind=(OURS, 5063))
    assert taken.value.errno == errno.EADDRINUSE
    with pytest.raises(HostError) as foreign:
        running.host.socket(bind=(PEER, 5063))
    assert foreign.value.errno == errno.EADDRNOTAVAIL
    with pytest.raises(CommandRefused, match="not an address"):
        running.host.socket(bind=("sip.example.com", 5063))
    with pytest.raises(CommandRefused, match="port 0 to 65535"):
        running.host.socket(bind=(OURS, 70000))


def test_the_holder_survives_garbage_and_clients_that_hang(running: Process) -> None:
    path = str(running.runtime / "host.sock")
    hung = []
    for _ in range(80):  # more than it keeps
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(path)
        hung.append(client)
    for garbage in (
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 60000,
        b'{"op":["tun"]}',
        b'{"op":"socket","family":7}',
        b'{"op":"socket","type":{}}',
        b'{"op":"socket","bind":["::1"]}',
        b'{"op":"socket","bind":["::1",true]}',
        b'{"op":"socket","listen":-1,"type":"stream"}',
        b'{"op":"socket","listen":5}',
        b'{"op":"socket","reuse_address":"yes"}',
        b'{"op":"mtu","mtu":7}',
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(path)
            client.settimeout(5)
            client.send(garbage)
            answer = json.loads(client.recv(65536))
            assert answer["ok"] is False
            assert answer["error"]
    assert running.host.address() == OURS
    for client in hung:
        client.close()


def test_named_namespace_works_with_iproute2(running: Process) -> None:
    shown = run("ip", "netns", "exec", running.host_namespace, "ip", "-6", "-o", "addr", "show", "dev", "home0")
    assert f"{OURS}/128" in shown
    assert running.host.information()["namespace"] == running.host_namespace
    for name, descriptor in running.host.namespaces().items():
        assert os.readlink(f"/proc/self/fd/{descriptor}").startswith(f"{name}:")
        os.close(descriptor)


def test_a_killed_data_plane_is_back_at_once(running: Process) -> None:
    """The host OS, its TUN and its sockets outlive the data plane; measured from the kill to the first packet."""
    with running.host.socket(bind=(OURS, 5064)) as ours, running.wire.peer_socket(port=5064) as peer:
        heard(ours, peer, 5)
        times = []
        for expected in (2, 3):
            pid = running.data_plane()
            os.kill(pid, signal.SIGKILL)
            times.append(heard(ours, peer, 2.0))
            assert running.data_plane() != pid
            assert running.about_data_plane("start") == expected
    assert max(times) < 2.0
    assert "signal -9" in running.log.read_text() or "signal 9" in running.log.read_text()


def test_an_interface_that_comes_late_is_taken(wire: Cable, tmp_path: Path) -> None:
    wire.ip("link del eth0")
    process = Process(wire, tmp_path)
    try:
        process.wait_ready()
        connect(wire.ours, wire.peer)
        run("ip", "-n", wire.peer, "addr", "add", f"{PEER}/64", "dev", "eth0", "nodad")
        with process.host.socket(bind=(OURS, 5067)) as ours, wire.peer_socket(port=5067) as peer:
            heard(ours, peer, 5)
        assert process.about_data_plane("start") == 2
        assert "eth0 is not there" in process.log.read_text()
    finally:
        process.stop()


def test_a_data_plane_that_keeps_dying_is_started_with_pauses(running: Process) -> None:
    with running.host.socket(bind=(OURS, 5068)) as ours, running.wire.peer_socket(port=5068) as peer:
        for _ in range(3):
            os.kill(running.data_plane(), signal.SIGKILL)
            heard(ours, peer, 2.0)
        os.kill(running.data_plane(), signal.SIGKILL)
        assert heard(ours, peer, 2.5) > 0.3


def test_a_runtime_directory_of_somebody_else_is_refused(wire: Cable, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    os.chown(tmp_path / "run", 54321, 54321)
    process = Process(wire, tmp_path)
    assert process.process.wait(15) == 1
    process.stop()
    assert "belongs to somebody else" in process.log.read_text()


def test_a_killed_holder_is_replaced_and_its_namespace_lives_on(running: Process) -> None:
    pid = int(str(running.host.information()["pid"]))
    with running.host.socket(bind=(OURS, 5065)) as ours, running.wire.peer_socket(port=5065) as peer:
        heard(ours, peer, 5)
        os.kill(pid, signal.SIGKILL)
        heard(ours, peer, 5)  # the old socket in the old namespace, over the new TUN

    def replaced() -> bool:
        with contextlib.suppress(MobilityError):
            return running.host.information()["pid"] != pid
        return False

    eventually(replaced)


def test_everything_is_gone_after_sigterm(running: Process) -> None:
    pids = [running.data_plane(), int(str(running.host.information()["pid"]))]
    assert running.stop() == 0
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists()
    assert not (namespace.NAMED / running.host_namespace).exists()
    assert sorted(path.name for path in running.runtime.iterdir()) == ["lock"]
    with pytest.raises(NotRunning, match="mobility mn --config"):
        running.host.address()


def test_everything_is_gone_after_a_kill_of_the_supervisor(running: Process) -> None:
    pids = [running.data_plane(), int(str(running.host.information()["pid"]))]
    running.process.kill()
    running.process.wait()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert not (namespace.NAMED / running.host_namespace).exists()


def test_two_supervisors_do_not_share_a_directory(running: Process) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "mobility", "cn", "--config", str(running.configuration)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 1
    assert "already" in second.stderr


def test_wait_ready_and_not_running(running: Process, tmp_path: Path) -> None:
    wait_ready(running.runtime)
    with pytest.raises(NotRunning):
        wait_ready(tmp_path / "nobody", timeout=0.05)


def test_a_start_that_cannot_work_ends_with_a_message(wire: Cable, tmp_path: Path) -> None:
    os.environ["ROAMPHONE_TUN_DEVICE"] = "/dev/null-not-there"
    try:
        process = Process(wire, tmp_path)
    finally:
        del os.environ["ROAMPHONE_TUN_DEVICE"]
    assert process.process.wait(15) == 1
    process.stop()
    assert "/dev/null-not-there" in process.log.read_text()
    assert "Traceback" not in process.log.read_text()
    assert not (namespace.NAMED / process.host_namespace).exists()


def test_an_ordinary_user_gets_a_host_os_too(wire: Cable, tmp_path: Path) -> None:
    """No root: a user and network namespace. The data plane of today needs CAP_NET_RAW, so only the holder runs."""
    device = tmp_path / "tun"
    os.mknod(device, 0o020666, os.makedev(10, 200))
    device.chmod(0o666)
    os.chmod(tmp_path, 0o777)
    for parent in list(tmp_path.parents)[:3]:
        os.chmod(parent, 0o755)
    runtime = tmp_path / "user"
    runtime.mkdir()
    os.chown(runtime, 54321, 54321)
    program = (
        "import ctypes, os; from ipaddress import IPv6Address; from pathlib import Path\n"
        "from mobility.holder import HostSettings, run; from mobility.net.tun import TunSettings\n"
        "os.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
        "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n"  # PR_SET_DUMPABLE: as after exec; else /proc/self is root's
        f"settings = HostSettings(TunSettings('home0', IPv6Address('{OURS}'), 1280), None, Path('{runtime}'))\n"
        "run(settings, lifeline=0, ready=1)\n"
    )
    environment = {**os.environ, "ROAMPHONE_TUN_DEVICE": str(device)}
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"ready\n"
        client = HostClient(runtime / "host.sock")
        assert client.information()["namespace"] is None
        tunnel = client.tunnel()
        with client.socket(bind=(OURS, 5066)) as ours:
            ours.sendto(b"from a user", (PEER, 7))
            assert select.select([tunnel], [], [], 5)[0]
            packets: list[bytes] = []
            while not packets or not packets[-1].endswith(b"from a user"):
                select.select([tunnel], [], [], 5)
                packets.append(os.read(tunnel, 2000))
        os.close(tunnel)
        holder.stdin.close()  # the lifeline
        assert holder.wait(5) == 0
    finally:
        if holder.poll() is None:
            holder.kill()
            holder.wait()
        holder.stdin.close()
        holder.stdout.close()


def test_a_data_plane_that_hangs_is_killed_and_started_again(running: Process) -> None:
    with running.host.socket(bind=(OURS, 5069)) as ours, running.wire.peer_socket(port=5069) as peer:
        heard(ours, peer, 5)
        pid = running.data_plane()
        os.kill(pid, signal.SIGSTOP)
        assert 3.0 < heard(ours, peer, 9) < 8.0
        assert running.data_plane() != pid
    assert "hangs for 5 seconds" in running.log.read_text()


def test_a_closed_terminal_window_ends_a_node(running: Process) -> None:
    running.process.send_signal(signal.SIGHUP)
    assert running.process.wait(10) == 0
