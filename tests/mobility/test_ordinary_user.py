"""The host OS of somebody who is not root: the holder, its sockets, and programs in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobility.client import MobilityError
from softphone.network.sockets import HomeSockets
from tests.mobility.homes import HOME, HOME4, PEER, PEER4, Home, home_of, start_holder, write_page
from tests.ordinary import OrdinaryUser, ordinary_user

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def user() -> Iterator[OrdinaryUser]:
    with ordinary_user() as made:
        yield made


@pytest.fixture(scope="module")
def home(user: OrdinaryUser) -> Iterator[Home]:
    with home_of(user) as made:
        yield made


@pytest.fixture
def other_user() -> Iterator[OrdinaryUser]:
    with ordinary_user() as made:
        yield made


def fetch(home: Home, url: str) -> str:
    """By a program of the peer; waits until somebody serves."""
    deadline = time.monotonic() + 20
    while True:
        done = subprocess.run(
            ["ip", "netns", "exec", home.network, "curl", "-sS", "-m", "5", url],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return done.stdout
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.1)


@contextlib.contextmanager
def running(command: list[str], directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def arrives(data: bytes, sender: socket.socket, receiver: socket.socket) -> bool:
    """Sends it until it is there: a datagram may be lost."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        sender.sendto(data, receiver.getsockname()[:2])
        if select.select([receiver], [], [], 0.2)[0]:
            return receiver.recv(100) == data
    return False


# ---------------------------------------------------------------- the holder


def test_sockets_of_the_host_os_are_passed_out(home: Home) -> None:
    with home.host.socket(bind=(HOME, 5060)) as ours, home.peer_socket(socket.SOCK_DGRAM) as peer:
        assert arrives(b"out", ours, peer)
        assert arrives(b"in", peer, ours)


def test_what_the_holder_tells(home: Home) -> None:
    information = home.host.information()
    assert {key: information[key] for key in ("address", "address4", "interface", "dns", "namespace")} == {
        "address": HOME, "address4": HOME4, "interface": "home0", "dns": [PEER], "namespace": None,
    }  # fmt: skip
    namespaces = home.host.namespaces()
    try:
        assert sorted(namespaces) == ["net", "user"]
    finally:
        for descriptor in namespaces.values():
            os.close(descriptor)


def test_the_ipv4_home_address_comes_later_and_changes(home: Home) -> None:
    def ask(address: object) -> dict[str, object]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
            asking.connect(os.fspath(home.user.runtime / "host.sock"))
            asking.send(json.dumps({"op": "address4", "address4": address}).encode())
            answer = json.loads(asking.recv(4096))
            assert isinstance(answer, dict)
            return answer

    def shown() -> str:
        return home.exec("ip", "-o", "-4", "addr", "show", "dev", "home0").stdout

    for wrong in ("10.0.0.256", 7, "2001:db8::1", ["10.0.0.1"]):
        assert ask(wrong)["ok"] is False
    assert HOME4 in shown()
    assert ask("192.0.2.77")["ok"] is True
    assert "192.0.2.77/32" in shown()
    assert f"{HOME4}/" not in shown()
    assert home.host.information()["address4"] == "192.0.2.77"
    assert ask(None)["ok"] is True
    assert shown() == ""
    assert ask(HOME4)["ok"] is True
    assert ask(HOME4)["ok"] is True
    assert "default" in home.exec("ip", "-4", "route").stdout


def refusal(user: OrdinaryUser, **environment: str) -> str:
    process = start_holder(user, **environment)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "Traceback" not in said.decode()
    assert "direct mode" in said.decode()
    return said.decode()


def test_a_missing_or_closed_tun_device_is_named(other_user: OrdinaryUser) -> None:
    assert "modprobe tun" in refusal(other_user, ROAMPHONE_TUN_DEVICE="/nonexistent/tun")
    closed = other_user.home / "closed"
    os.mknod(closed, 0o20600, os.makedev(10, 200))
    said = refusal(other_user, ROAMPHONE_TUN_DEVICE=str(closed))
    assert f"chmod 0666 {closed}" in said
    assert 'KERNEL=="tun", MODE="0666"' in said
    nothing_behind = other_user.home / "module"
    os.mknod(nothing_behind, 0o20666, os.makedev(10, 254))
    nothing_behind.chmod(0o666)
    assert "modprobe tun" in refusal(other_user, ROAMPHONE_TUN_DEVICE=str(nothing_behind))
    assert "does not make a TUN interface" in refusal(other_user, ROAMPHONE_TUN_DEVICE="/dev/null")


def test_a_system_without_user_namespaces_is_named(other_user: OrdinaryUser) -> None:
    """The limit counts in the user namespace that it is set in, so a test may set it in one of its own."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from mobility.net import namespace\n"
        "namespace.unshare_user_and_network()\n"
        "Path('/proc/sys/user/max_user_namespaces').write_text('0')\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'tests.mobility.holder_process', *sys.argv[1:]])\n"
    )
    done = other_user.run(
        "python", "-c", program, str(other_user.runtime), HOME, HOME4, PYTHONPATH=os.fspath(Path.cwd())
    )
    assert done.returncode == 1
    assert "user.max_user_namespaces = 0" in done.stderr
    assert "sysctl -w user.max_user_namespaces=" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------- programs in the host OS


def test_a_program_sees_only_the_home_network_and_has_no_privilege(home: Home) -> None:
    show = (
        "id -u; id -g; ls /sys/class/net; cat /proc/self/status; grep -v '^#' /etc/resolv.conf; echo $HOME;"
        " ls -d /sys/fs/cgroup; cat /proc/net/dev; touch /etc/resolv.conf; echo touched $?"
    )
    done = home.exec("sh", "-c", show)
    lines = done.stdout.splitlines()
    assert lines[:4] == [str(home.user.uid), str(home.user.gid), "home0", "lo"]
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert [status[key] for key in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == ["0" * 16] * 4
    assert status["NoNewPrivs"] == "1"
    assert [line for line in lines if line.startswith(("nameserver", "options"))] == [
        f"nameserver {PEER}", "options timeout:2 attempts:4",
    ]  # fmt: skip
    assert str(home.user.home) in lines
    assert "/sys/fs/cgroup" in lines
    assert "eth0" not in done.stdout


def test_exit_status_signals_and_standard_streams_are_the_program_s(home: Home) -> None:
    assert home.exec("sh", "-c", "exit 7").returncode == 7
    assert home.exec("sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    assert home.exec("cat", text="through\n").stdout == "through\n"
    missing = home.exec("no-such-program")
    assert (missing.returncode, missing.stderr) == (
        127, "mobility: cannot run 'no-such-program': No such file or directory\n",
    )  # fmt: skip
    assert home.exec("/etc/passwd").returncode == 126
    process = subprocess.Popen(home.user.command("mobility", "exec", "sh", "-c", "echo on; exec sleep 60"),
                               stdout=subprocess.PIPE, cwd=home.user.home)  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"on\n"
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM


def test_no_signal_is_ignored_that_the_user_did_not_ignore(home: Home) -> None:
    """Python ignores SIGPIPE; a pipeline in the host OS has to end all the same."""
    before = _ignored(Path("/proc/self/status").read_text())
    pythons = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert _ignored(home.exec("cat", "/proc/self/status").stdout) == before & ~pythons
    assert home.exec("sh", "-c", "yes | head -1").stdout == "y\n"


def _ignored(status: str) -> int:
    """The mask of signals that a process ignores, from its ``/proc/PID/status``."""
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn:"))


def test_exec_in_exec_stays_where_it_is(home: Home) -> None:
    done = home.exec("mobility", "exec", "--", "sh", "-c", "ls /sys/class/net; cat /etc/resolv.conf")
    assert done.stdout.startswith("home0\nlo\n")
    assert f"nameserver {PEER}" in done.stdout


def test_an_http_server_and_client_on_the_home_address(home: Home, tmp_path: Path) -> None:
    home.user.write("pages/page", "from home\n", 0o644)
    pages = home.user.home / "pages"
    serve = ["mobility", "exec", "--", "python", "-m", "http.server", "80", "--bind", "::", "--directory", str(pages)]
    with running(home.user.command(*serve), home.user.home):
        assert fetch(home, f"http://[{HOME}]/page") == "from home\n"
    write_page(tmp_path / "www", "from the peer\n")
    there = ["ip", "netns", "exec", home.network, sys.executable, "-m", "http.server", "80", "--bind", "::"]
    with running(there, tmp_path / "www"):
        assert fetch(home, f"http://[{PEER}]/page") == "from the peer\n"
        for url in (f"http://[{PEER}]/page", "http://peer.example/page"):
            done = home.exec("curl", "-sS", "-m", "10", url)
            assert (done.stdout, done.stderr) == ("from the peer\n", "")
    there = ["ip", "netns", "exec", home.network, sys.executable, "-m", "http.server", "80", "--bind", PEER4]
    with running(there, tmp_path / "www"):
        assert fetch(home, f"http://{PEER4}/page") == "from the peer\n"
        assert home.exec("curl", "-sS", "-m", "10", f"http://{PEER4}/page").stdout == "from the peer\n"


def test_names_are_asked_for_with_the_home_address(home: Home) -> None:
    home.asked.clear()
    done = home.exec("getent", "ahostsv6", "peer.example")
    assert done.stdout.split()[0] == PEER
    assert home.exec("getent", "ahostsv4", "peer.example").stdout.split()[0] == PEER4
    assert home.exec("getent", "ahostsv6", "nobody.example").returncode == 2
    assert {sender for sender, _ in home.asked} == {HOME}


def test_a_program_may_ping(home: Home) -> None:
    """ICMPv6 echo sockets need no privilege where the namespace lets the user's group have them."""
    ping = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6)\n"
        "s.settimeout(10)\n"
        "s.sendto(b'\\x80\\0\\0\\0\\0\\0\\0\\1', (sys.argv[1], 0))\n"
        "print(s.recv(100)[0])\n"
    )
    assert home.exec("python", "-c", ping, PEER).stdout == "129\n"


def test_others_may_not_enter(home: Home, other_user: OrdinaryUser) -> None:
    runtime = str(home.user.runtime)
    done = subprocess.run(
        [sys.executable, "-m", "mobility", "exec", "--runtime", runtime, "--", "id"],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert f"belongs to user {home.user.name}" in done.stderr
    stranger = other_user.run("mobility", "exec", "--runtime", runtime, "--", "id")
    assert (stranger.returncode, stranger.stdout) == (1, "")
    assert "Permission denied" in stranger.stderr


def test_without_a_terminal_exec_says_what_to_start(other_user: OrdinaryUser) -> None:
    done = other_user.run("mobility", "exec", "--", "id")
    assert (done.returncode, done.stdout) == (1, "")
    assert "mobility mn" in done.stderr
    assert other_user.run("mobility", "exec").returncode == 2


def test_root_s_programs_see_the_same_in_a_host_os_of_root(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.mobility.holder_process", str(tmp_path), HOME, HOME4, PEER]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"ready\n"
            show = "ls /sys/class/net; grep nameserver /etc/resolv.conf; ip -o -6 addr show scope global; exit 3"
            run = ["mobility", "exec", "--runtime", str(tmp_path), "--", "sh", "-c", show]
            done = subprocess.run([sys.executable, "-m", *run], capture_output=True, text=True, timeout=20, check=False)
        finally:
            holder.terminate()
    assert done.returncode == 3
    assert done.stdout.splitlines()[:3] == ["home0", "lo", f"nameserver {PEER}"]
    assert f"home0    inet6 {HOME}/128" in done.stdout
    assert Path("/etc/resolv.conf").read_text().count(PEER) == 0


# ---------------------------------------------------------------- the phone


def test_the_phone_resolves_names_through_the_home_network(home: Home) -> None:
    async def work() -> None:
        sockets = HomeSockets(home.host)
        home.asked.clear()
        assert await sockets.names().addresses("peer.example", 6) == [PEER]
        assert await sockets.names().addresses("peer.example", 4) == [PEER4]
        assert await sockets.names().addresses("long.example", 6) == ["2001:db8:77::3"]  # by TCP
        assert {sender for sender, _ in home.asked} == {HOME}
        with pytest.raises(OSError, match="does not know nobody"):
            await sockets.names().addresses("nobody.example", 6)
        with pytest.raises(OSError, match="no AAAA record"):
            await sockets.names().addresses("only4.example", 6)

    asyncio.run(work())


def test_a_phone_without_its_host_os_resolves_nothing() -> None:
    async def work() -> None:
        with pytest.raises(Exception, match="no mobility process") as caught:
            await HomeSockets("/nonexistent/host.sock").names().addresses("peer.example", 6)
        assert not isinstance(caught.value, MobilityError)

    asyncio.run(work())


# ---------------------------------------------------------------- machines that are set up otherwise

SYSTEMD = """
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/resolve /run/nscd
echo 'nameserver 127.0.0.53' > /run/systemd/resolve/stub-resolv.conf
touch /run/systemd/resolve/io.systemd.Resolve /run/nscd/socket
copy=$(mktemp -d)
mount -t tmpfs -o mode=755 tmpfs $copy
cp -a /etc $copy/
mount --bind $copy/etc /etc
umount -l $copy && rmdir $copy
rm -f /etc/resolv.conf
"""
"As systemd-resolved leaves a machine, in a mount namespace of the test."


def on_another_machine(home: Home, setup: str, *command: str) -> subprocess.CompletedProcess[str]:
    script = f'set -e\n{setup}\nexec "$@"'
    prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    return subprocess.run(
        [*prefix, *home.user.command("mobility", "exec", "--", *command)],
        capture_output=True, text=True, timeout=30, check=False, cwd=home.user.home,
    )  # fmt: skip


def test_systemd_resolved_is_passed_by(home: Home) -> None:
    link = "ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf"
    show = "cat /etc/resolv.conf; ls -R /run/systemd/resolve /run/nscd; getent ahostsv6 peer.example"
    done = on_another_machine(home, SYSTEMD + link, "sh", "-c", show)
    assert done.stderr == ""
    assert f"nameserver {PEER}\n" in done.stdout
    assert "127.0.0.53" not in done.stdout
    assert "io.systemd.Resolve" not in done.stdout
    assert "/run/nscd:\n" in done.stdout
    assert "socket" not in done.stdout.split("/run/nscd:")[1].split("\n")[1]
    assert f"\n{PEER} " in done.stdout


def test_another_link_for_resolv_conf_is_followed(home: Home) -> None:
    link = "mkdir /run/resolvconf; echo 'nameserver 192.0.2.53' > /run/resolvconf/resolv.conf\n"
    link += "ln -s /run/resolvconf/resolv.conf /etc/resolv.conf"
    done = on_another_machine(home, SYSTEMD + link, "cat", "/etc/resolv.conf", "/run/resolvconf/resolv.conf")
    assert done.stdout.count(f"nameserver {PEER}\n") == 2


def test_a_machine_without_resolv_conf_is_told_what_to_make(home: Home) -> None:
    """A program would ask a server on this machine's loopback, which is not the home network's."""
    for setup in (SYSTEMD, SYSTEMD + "ln -s /run/nowhere/resolv.conf /etc/resolv.conf"):
        done = on_another_machine(home, setup, "true")
        assert done.returncode == 1
        assert "leads to nothing" in done.stderr
        assert "Traceback" not in done.stderr
