"""An ordinary user, made for a test and removed after it: no root, no capabilities, a home directory of their own.

::

    with ordinary_user() as user:
        user.run("python", "-m", "mobility", "check")
        subprocess.Popen(user.command("python", "-m", "mobility", "mn", network="some-namespace"))
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
TUN = os.makedev(10, 200)


@dataclass(frozen=True, slots=True)
class OrdinaryUser:
    name: str
    uid: int
    gid: int
    home: Path
    "Belongs to the user, mode 0700."
    tun: Path
    "A TUN device that everybody may open, as most systems have it at /dev/net/tun."

    @property
    def runtime(self) -> Path:
        """Where the processes of a terminal of theirs meet."""
        return self.home / "run/roamphone/mn"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "USER": self.name,
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "ROAMPHONE_TUN_DEVICE": str(self.tun),
        }

    def command(self, *command: str, network: str | None = None, **environment: str) -> list[str]:
        """The command line with which root starts this one as the user, without any privilege.

        ``network``: a named network namespace; None: where the caller is. Python and the project are within the user's
        reach even where they lie in somebody's closed home directory.
        """
        prefix = [] if network is None else ["nsenter", f"--net=/run/netns/{network}", "--"]
        variables = [f"{name}={value}" for name, value in {**self.environment, **environment}.items()]
        drop = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--inh-caps=-all"]
        return [*prefix, *_within_reach(), *drop, "--", "env", "-i", *variables, *command]

    def run(
        self, *command: str, network: str | None = None, timeout: float = 30.0, text: str | None = None,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Runs it to its end; ``text`` is its input."""
        return subprocess.run(
            self.command(*command, network=network, **environment), capture_output=True, text=True,
            timeout=timeout, check=False, cwd=self.home, input="" if text is None else text,
        )  # fmt: skip

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """A file of theirs."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode)
        path.write_text(text)
        for item in (path, *path.parents):
            if item == self.home:
                break
            os.chown(item, self.uid, self.gid)
        return path


@contextmanager
def ordinary_user() -> Iterator[OrdinaryUser]:
    """Needs root."""
    name = f"roam{os.getpid()}{secrets.token_hex(2)}"
    home = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    try:
        add = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/sh"]
        subprocess.run([*add, name], check=True, capture_output=True, timeout=30)
        try:
            entry = pwd.getpwnam(name)
            (home / "run").mkdir(mode=0o700)
            for path in (home, home / "run"):
                os.chown(path, entry.pw_uid, entry.pw_gid)
            yield OrdinaryUser(name, entry.pw_uid, entry.pw_gid, home, _tun(home))
        finally:
            subprocess.run(["userdel", "--force", name], check=True, capture_output=True, timeout=30)
    finally:
        shutil.rmtree(home)


def _tun(home: Path) -> Path:
    usual = Path("/dev/net/tun")
    if usual.exists() and stat.S_IMODE(usual.stat().st_mode) & 0o006 == 0o006:
        return usual
    made = home / "tun"
    os.mknod(made, stat.S_IFCHR, TUN)
    made.chmod(0o666)
    return made


def _within_reach() -> list[str]:
    """A prefix that opens the way to Python and to the project, for the started process alone.

    Where a directory on the way is closed (Python in /root/.pyenv), a mount namespace has an empty one in its place,
    with nothing in it but what is needed.
    """
    needed = {Path(path).resolve() for path in (sys.base_prefix, sys.prefix, PROJECT)}
    closed = {path: barrier for path in sorted(needed) if (barrier := _barrier(path)) is not None}
    if not closed:
        return []
    script = ["set -e", "keep=$(mktemp -d)", "mount -t tmpfs -o mode=755 tmpfs $keep"]
    for number, path in enumerate(closed):
        script += [f"mkdir $keep/{number}", f"mount --bind '{path}' $keep/{number}"]
    script += [f"mount -t tmpfs -o mode=755 tmpfs '{barrier}'" for barrier in sorted(set(closed.values()))]
    for number, path in enumerate(closed):
        script += [f"mkdir -p '{path}'", f"mount --bind $keep/{number} '{path}'"]
    script += ["umount -l $keep", "rmdir $keep", 'exec "$@"']
    return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", "\n".join(script), "sh"]


def _barrier(path: Path) -> Path | None:
    """The uppermost directory on the way to ``path`` that others may not pass."""
    way = [*reversed(path.parents), path]
    return next((directory for directory in way if not directory.stat().st_mode & stat.S_IXOTH), None)
