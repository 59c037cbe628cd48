"""The ordinary user that tests make is ordinary, and is gone afterwards."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from sip_test_env.as_user import closed_above
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.network import TestNetwork
from sip_test_env.users import OrdinaryUser

REPORT = """
import os, fcntl, mobility
from pathlib import Path
status = Path("/proc/self/status").read_text()
capabilities = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("CapPrm", "CapEff"))]
with open(os.environ["ROAMPHONE_TUN_DEVICE"], "rb+", buffering=0):
    pass
print(os.getresuid(), os.getresgid(), os.getgroups(), capabilities, sorted(os.listdir("/sys/class/net")) , os.getcwd())
print(os.readlink("/proc/self/ns/net"))
"""


def test_closed_directories_are_found(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    for directory in (inner, *inner.parents):
        if directory.is_relative_to(tmp_path):
            directory.chmod(0o755)
    above = closed_above(inner)  # pytest's own directories are closed
    (tmp_path / "closed").chmod(0o700)
    assert closed_above(inner) == (above or tmp_path / "closed")


@pytest.mark.root
@pytest.mark.interop
def test_the_user_is_ordinary_and_lives_in_the_laptop(network: TestNetwork) -> None:
    with OrdinaryUser() as user:
        uid, gid = user.identity.pw_uid, user.identity.pw_gid
        assert uid >= 1000
        done = subprocess.run(
            user.command(network.plan.namespace("laptop"), [sys.executable, "-c", REPORT]),
            capture_output=True,
            text=True,
            check=False,
            env=user.environment(),
        )
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert first.startswith(f"({uid}, {uid}, {uid}) ({gid}, {gid}, {gid}) [] [0, 0]")
        assert first.endswith(str(user.directory))
        inside = Path(f"/run/netns/{network.plan.namespace('laptop')}").stat().st_ino
        assert second == f"net:[{inside}]"
        running = subprocess.Popen(
            user.command(network.plan.namespace("laptop"), [sys.executable, "-c", "import time; time.sleep(60)"]),
            env=user.environment(),
        )
        directory = user.directory
        while running.pid not in user.processes():
            assert running.poll() is None
    assert running.wait(5) == -9
    assert not directory.exists()
    with pytest.raises(KeyError):
        pwd.getpwnam(user.name)


@pytest.mark.root
def test_users_of_a_killed_process_are_cleared_by_the_next() -> None:
    script = (
        "from sip_test_env.users import OrdinaryUser; OrdinaryUser().__enter__(); import os; os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as killed:
        assert killed.wait() == -9
    (left,) = [entry for entry in pwd.getpwall() if entry.pw_name.startswith(f"roam{killed.pid}-")]
    assert Path(left.pw_dir).exists()
    with OrdinaryUser():
        assert not Path(left.pw_dir).exists()
        with pytest.raises(KeyError):
            pwd.getpwnam(left.pw_name)


@pytest.mark.root
def test_a_user_that_exists_is_refused_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    user = OrdinaryUser()
    monkeypatch.setattr(user, "name", "root")
    with pytest.raises(EnvironmentFailure, match="already exists"):
        user.__enter__()
    assert os.getuid() == pwd.getpwnam("root").pw_uid
