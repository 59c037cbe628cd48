"""The Linux guest: it answers, says what is wrong, and never outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sip_test_env.errors import EnvironmentFailure
from sip_test_env.linux_guest import LinuxGuest

pytestmark = pytest.mark.interop

_OWNER = """
import time
from sip_test_env.linux_guest import LinuxGuest
with LinuxGuest() as guest:
    print(guest.pid, flush=True)
    time.sleep(60)
"""


def members(group: int) -> list[int]:
    """Processes of a process group that run."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (directory / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] not in "ZX":
                found.append(int(directory.name))
    return found


def gone(group: int) -> None:
    """Killed processes take a moment."""
    deadline = time.monotonic() + 10
    while members(group):
        assert time.monotonic() < deadline, "something of the guest is left"
        time.sleep(0.02)


def test_commands_and_the_end() -> None:
    with LinuxGuest() as guest:
        assert guest.run("uname -s") == "Linux\n"
        assert guest.attempt("echo said; (exit 3)") == (3, "said\n")
        assert guest.attempt("cat; exit 4")[0] == 4, "commands have no input of ours"
        assert "eth0" in guest.run("ip -o link")
        with pytest.raises(EnvironmentFailure, match="status 1: false"):
            guest.run("false")
        with pytest.raises(EnvironmentFailure, match=r"does not answer for 0\.1 s"):
            guest.run("sleep 0.5", timeout=0.1)
        assert guest.run("echo late answers are of no interest") == "late answers are of no interest\n"
        assert guest.attempt("touch /etc/from-the-guest")[0] != 0, "the host's files are read only"
        group = guest.pid
        assert members(group)
        os.kill(group, signal.SIGKILL)
        with pytest.raises(EnvironmentFailure, match="has gone"):
            guest.run("true")
    gone(group)
    with pytest.raises(EnvironmentFailure, match="not running"):
        guest.run("true")


def test_it_ends_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True, env=environment)
    assert owner.stdout is not None
    group = int(owner.stdout.readline())
    assert members(group)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    gone(group)
    assert list(tmp_path.iterdir()) == []
