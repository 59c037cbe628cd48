"""A real Linux kernel as a neighbour: Debian's user-mode Linux, an ordinary process that boots in some three seconds.

    with LinuxGuest(interfaces=2) as guest:
        guest.run("ip addr add 2001:db8::2/64 dev eth0 nodad")
        guest.interfaces[0].send(frame)

It needs neither root nor a device of the host: Ethernet frames are datagrams of a socket pair. Its root is the host's,
read only, so every program of the host can run in it; /run is its own. It ends with its owner, however that ends.
"""

from __future__ import annotations

import os
import re
import secrets
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from sip_test_env.errors import EnvironmentFailure

PROGRAM = Path("/usr/bin/linux.uml")
MODULES = Path("/usr/lib/uml/modules")
IPSEC = (
    *("ipv6", "esp6", "esp4", "ah6", "xfrm_user", "xfrm6_tunnel", "ip6_tunnel", "mip6"),
    *("cbc", "hmac", "sha512_generic", "authenc", "authencesn", "gcm", "ctr", "ghash-generic", "chacha20poly1305"),
    *("chacha_generic", "poly1305_generic", "seqiv", "echainiv", "jitterentropy_rng", "drbg"),
)
"IPv6 with all that IPsec, Mobile IPv6 and tunnels need; without `drbg` there is no AEAD."
NETWORK = ("virtio_net", "net_failover")
NETEM = ("sch_netem",)
_INIT = Path(__file__).parent / "guest" / "init.sh"
_BOOT = 30.0
"Seconds; a busy machine takes ten times as long as a quiet one."
_QUEUE = 1 << 20


class LinuxGuest:
    """The guest, as a context manager. `interfaces`: our end of the cable of eth0, eth1 ...; one frame a datagram."""

    def __init__(self, interfaces: int = 1, modules: Sequence[str] = (*IPSEC, *NETEM), memory: int = 192) -> None:
        """``memory``: megabytes; with much less the crypto layer does not always come up."""
        self.interfaces: list[socket.socket] = []
        self._count = interfaces
        self._wanted = (*NETWORK, *modules)
        self._memory = memory
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._log: IO[bytes] | None = None
        self._heard = b""

    def __enter__(self) -> Self:
        """Boots. Raises EnvironmentFailure: the guest does not come up; the message ends with what it said."""
        if not PROGRAM.exists():
            raise EnvironmentFailure(f"{PROGRAM} is missing: `apt install user-mode-linux busybox-static`")
        try:
            with tempfile.TemporaryDirectory(prefix="linux-guest-") as directory:  # of use until it has booted
                self._boot(Path(directory))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the guest's first process, and of its process group. Raises EnvironmentFailure: it is not running."""
        if self._process is None:
            raise EnvironmentFailure("the guest is not running")
        return self._process.pid

    @property
    def log(self) -> str:
        """What kernel and first process said."""
        return "" if self._log is None else os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")

    def run(self, script: str, timeout: float = 20.0) -> str:
        """Runs lines of shell in the guest; what they print. Raises EnvironmentFailure: the last one failed."""
        status, said = self.attempt(script, timeout)
        if status:
            raise EnvironmentFailure(f"in the guest, status {status}: {script.strip()}\n{said.strip()}")
        return said

    def attempt(self, script: str, timeout: float = 20.0) -> tuple[int, str]:
        """As `run`: exit status and what was printed. Raises EnvironmentFailure: no answer, or the guest has gone."""
        mark = secrets.token_hex(8)
        # A subshell, so that `exit` of the script ends no more than the script. What a script says that was given up
        # comes before the first mark.
        self._say(f'echo "<"{mark}; ( {script}\n) </dev/null 2>&1; echo {mark}"> $?"\n')
        found = self._hear(rb"<%b\n(.*)%b> (\d+)\n" % (mark.encode(), mark.encode()), timeout)
        return int(found[2]), found[1].decode(errors="replace")

    def close(self) -> None:
        """Ends all processes of the guest and removes its files."""
        process, self._process = self._process, None
        if self._line is not None:
            self._line.close()  # the end of its input ends the guest in good order
        if process is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(3)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own: nobody else is in it
            process.wait()
        for interface in self.interfaces:
            interface.close()
        self.interfaces.clear()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _boot(self, directory: Path) -> None:
        (release,) = MODULES.iterdir()
        (directory / "modules").write_text("\n".join(_load_order(release, self._wanted)))
        init = directory / "init"
        init.write_bytes(_INIT.read_bytes())
        init.chmod(0o755)  # wherever this package was installed, and however
        self._line, line = socket.socketpair()
        theirs = [line]
        for _ in range(self._count):
            ours, their = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for end in (ours, their):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUE)
            self.interfaces.append(ours)
            theirs.append(their)
        command = [
            *(str(PROGRAM), f"mem={self._memory}M", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "panic=-1"),
            *(f"init={init}", f"GUEST_MODULES={directory}/modules", "GUEST_LINE=/dev/tty1", "noreboot"),
            *("con=null", "con0=null,fd:1", f"con1=fd:{line.fileno()}", f"uml_dir={directory}", "umid=guest"),
            *("random.trust_cpu=on",),
            *(f"vec{n}:transport=fd,fd={end.fileno()},depth=128" for n, end in enumerate(theirs[1:])),
        ]
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=[end.fileno() for end in theirs],
            start_new_session=True,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )
        for end in theirs:
            end.close()
        self._hear(b"ready\n", _BOOT)
        for number in range(self._count):
            self.run(f"ip link set vec{number} name eth{number}")

    def _say(self, text: str) -> None:
        if self._line is None or self._process is None:
            raise EnvironmentFailure("the guest is not running")
        try:
            self._line.sendall(text.encode())
        except OSError as error:
            raise self._gone() from error

    def _hear(self, wanted: bytes, timeout: float) -> re.Match[bytes]:
        """Waits for something that looks like ``wanted``, and takes it away with all before it."""
        pattern, deadline = re.compile(wanted, re.DOTALL), time.monotonic() + timeout
        while (found := pattern.search(self._heard)) is None:
            line, process, left = self._line, self._process, deadline - time.monotonic()
            if process is None or line is None or process.poll() is not None:
                raise self._gone()  # helpers of its may still hold the line open
            if left <= 0:
                heard = self._heard[-500:].decode(errors="replace")
                raise EnvironmentFailure(f"the guest does not answer for {timeout:g} s: {heard}\n{self.log[-2000:]}")
            if select.select([line], [], [], min(left, 0.2))[0]:
                more = line.recv(65_536)
                if not more:
                    raise self._gone()
                self._heard += more
        self._heard = self._heard[found.end() :]
        return found

    def _gone(self) -> EnvironmentFailure:
        return EnvironmentFailure(f"the guest has gone: {self.log[-2000:]}")


def _load_order(release: Path, wanted: Iterable[str]) -> list[str]:
    """Files of the modules and of what they need, in the order of loading; names that are built in have none."""
    files: dict[str, tuple[str, list[str]]] = {}
    for line in (release / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        files[_name(path)] = path, needs.split()
    order: dict[str, None] = {}

    def load(name: str) -> None:
        if name in files:
            path, needs = files[name]
            for need in reversed(needs):
                load(_name(need))
            order[str(release / path)] = None

    for name in wanted:
        load(_name(name))
    return list(order)


def _name(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".ko").replace("-", "_")
