"""An ordinary user with what tests want of one: commands run to their end, files, a runtime directory.

::

    with ordinary_user() as user:
        user.run("mobility", "check")
        subprocess.Popen(user.command("mobility", "mn", network="some-namespace"), cwd=user.home)
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sip_test_env import users

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class OrdinaryUser:
    account: users.OrdinaryUser

    @property
    def name(self) -> str:
        return self.account.name

    @property
    def uid(self) -> int:
        return self.account.identity.pw_uid

    @property
    def gid(self) -> int:
        return self.account.identity.pw_gid

    @property
    def home(self) -> Path:
        """Belongs to the user, mode 0700."""
        return self.account.directory

    @property
    def tun(self) -> Path:
        """A TUN device that everybody may open, as most systems have it at /dev/net/tun."""
        return Path(self.account.environment()["ROAMPHONE_TUN_DEVICE"])

    @property
    def runtime(self) -> Path:
        """Where the processes of a terminal of theirs meet."""
        return Path(self.account.environment()["XDG_RUNTIME_DIR"]) / "roamphone/mn"

    def command(
        self, *command: str, network: str | None = None, capabilities: Collection[str] = (), **environment: str
    ) -> list[str]:
        """The command line with which root starts this one as the user; programs of the project are in its PATH.

        ``network``: a named network namespace; None: where the caller is. ``capabilities``: as ``net_raw``.
        """
        usual = self.account.environment()
        path = f"{Path(sys.executable).parent}:{usual['PATH']}:/usr/sbin:/sbin"
        variables = [f"{name}={value}" for name, value in {**usual, "PATH": path, **environment}.items()]
        return self.account.command(network, ["/usr/bin/env", "-i", *variables, *command], capabilities)

    def run(
        self, *command: str, network: str | None = None, timeout: float = 30.0, text: str | None = None,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Runs it to its end; ``text`` is its input."""
        return subprocess.run(
            self.command(*command, network=network, **environment), capture_output=True, text=True,
            timeout=timeout, check=False, input="" if text is None else text,
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
    with users.OrdinaryUser() as account:
        yield OrdinaryUser(account)
