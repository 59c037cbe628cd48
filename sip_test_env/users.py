"""An ordinary user, made for a test: no capability, nothing but a directory of its own and a TUN device open to all."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from sip_test_env.errors import EnvironmentFailure

_TUN_DEVICE = (10, 200)
_NO_LOGIN = ("--shell", "/usr/sbin/nologin")
_NAME = re.compile(r"roam([0-9]+)-[0-9a-f]+")
"Of users that are made here: the number is that of the process that made them."


class OrdinaryUser:
    """A user of this machine, as a context manager; the account, its directory and its processes go with it."""

    def __init__(self) -> None:
        self.name = f"roam{os.getpid()}-{secrets.token_hex(2)}"
        self.directory = Path()
        "The user's own, mode 0700."
        self._identity: pwd.struct_passwd | None = None

    def __enter__(self) -> Self:
        """Raises `EnvironmentFailure` if the account cannot be made. Users whose maker was killed are cleared first."""
        clear_ruins()
        directory = Path(tempfile.mkdtemp(prefix="roam-"))
        try:
            _administer(["useradd", "--no-create-home", "--home-dir", str(directory), *_NO_LOGIN, self.name])
        except EnvironmentFailure:
            directory.rmdir()
            raise
        self.directory = directory
        self._identity = pwd.getpwnam(self.name)
        try:
            self.own(self.directory)
            # what /dev/net/tun is on a usual system; in containers and here it may be closed to users
            device = self.directory / "tun"
            os.mknod(device, 0o20000, os.makedev(*_TUN_DEVICE))
            device.chmod(0o666)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._identity is not None:
            _remove(self._identity)
        self._identity = None

    @property
    def identity(self) -> pwd.struct_passwd:
        if self._identity is None:
            raise EnvironmentFailure("the user is not there: use it as a context manager")
        return self._identity

    def own(self, path: Path) -> Path:
        """Gives a file or directory to the user."""
        os.chown(path, self.identity.pw_uid, self.identity.pw_gid)
        return path

    def folder(self, *names: str) -> Path:
        """A directory below the user's own, made if it is not there."""
        path = self.directory
        for name in names:
            path = path / name
            if not path.exists():
                path.mkdir(mode=0o700)
                self.own(path)
        return path

    def environment(self) -> dict[str, str]:
        """What a session of the user has; the one of the calling process (root's) is not handed on."""
        return {
            "HOME": str(self.directory),
            "USER": self.name,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.directory),
            "ROAMPHONE_TUN_DEVICE": str(self.directory / "tun"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def command(self, namespace: str | None, command: Sequence[str], capabilities: Collection[str] = ()) -> list[str]:
        """``command`` as the user runs it in a network namespace; to be started by root, with `environment`.

        No namespace: where the caller is. ``capabilities``: what it may do beyond others, as ``net_raw``.
        """
        identity = self.identity
        return [
            *(sys.executable, "-m", "sip_test_env.as_user"),
            *(str(identity.pw_uid), str(identity.pw_gid), str(self.directory), namespace or "-"),
            ",".join(["-all", *(f"+{name}" for name in capabilities)]),
            *command,
        ]

    def processes(self) -> list[int]:
        """Process ids of all that the user runs."""
        return _processes(self.identity.pw_uid)


def clear_ruins() -> None:
    """Removes users that are there although the process that made them has gone."""
    for entry in pwd.getpwall():
        made = _NAME.fullmatch(entry.pw_name)
        if made and not Path("/proc", made[1]).exists():
            _remove(entry)


def _remove(entry: pwd.struct_passwd) -> None:
    for process in _processes(entry.pw_uid):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    shutil.rmtree(entry.pw_dir, ignore_errors=True)
    _administer(["userdel", "--force", entry.pw_name])


def _processes(uid: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                if os.stat(f"/proc/{entry}").st_uid == uid:
                    found.append(int(entry))
    return found


def _administer(command: list[str]) -> None:
    path = "/usr/sbin:/sbin:/usr/bin:/bin"
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": path, "LC_ALL": "C"})
    if done.returncode:
        raise EnvironmentFailure(f"{' '.join(command)}: {done.stderr.strip()} (needs root)")
