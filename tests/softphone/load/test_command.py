"""``softphone load`` as people run it: processes, Ctrl-C, a Dask cluster; through Kamailio."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from roamphone_pytest.server import SipProxy
from softphone.cli import main
from softphone.exit_code import ExitCode

pytestmark = pytest.mark.interop

SOFTPHONE = [sys.executable, "-m", "softphone.cli", "load"]
CALL = """
[call]
say = "tone:440"
dtmf = "12#"
talk = 1.5
[answer]
say = "tone:700"
ring = 0.1
[expect]
answered = 1.0
post_dial_delay_p95 = 2.0
mos_p05 = 2.5
digits = 1.0
"""


@pytest.fixture
def scenario(sip_proxy: SipProxy, tmp_path: Path) -> Path:
    """Alice and Carol call Bob."""
    server = sip_proxy.server
    text = 'answerers = ["bob"]\n' + CALL
    for user in ("alice", "bob", "carol"):
        text += (
            f'[account.{user}]\naddress = "{user}@home.test"\npassword = "{server.password(user)}"\n'
            f'outbound_proxy = "sip:[::1]:{server.sip_port};lr"\nlocal_host = "::1"\ncodecs = ["PCMU"]\n'
        )
    path = tmp_path / "load.toml"
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def run(scenario: Path, *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SOFTPHONE, "--scenario", str(scenario), *options], capture_output=True, text=True, timeout=60, **more
    )


def test_two_processes_and_both_reports(scenario: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = run(scenario, "--rate", "6", "--concurrent", "20", "--duration", "1", "--processes", "2",
               "--json", "--report", str(page))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["processes"] == 2
    assert report["calls"]["begun"] == report["calls"]["answered"] == 6
    assert report["mos"]["answerers"]["count"] == 6
    assert report["post_dial_delay"]["count"] == 6
    assert "6 calls" in done.stderr
    assert "everything held" in page.read_text()


def test_ctrl_c_ends_the_calls_and_the_report_is_written(scenario: Path, tmp_path: Path) -> None:
    text = scenario.read_text().replace("talk = 1.5", "talk = 50")
    scenario.write_text(text)
    page = tmp_path / "report.html"
    command = [*SOFTPHONE, "--scenario", str(scenario), "--concurrent", "4", "--json", "--report", str(page)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
        assert load.stderr is not None
        while "4 answered" not in (line := load.stderr.readline()) and "4 now" not in line:
            assert line, "it has ended"
        time.sleep(1.5)
        began = time.monotonic()
        load.send_signal(signal.SIGINT)
        out, _ = load.communicate(timeout=30)
    assert time.monotonic() - began < 10
    report = json.loads(out)
    assert report["interrupted"]
    assert report["calls"]["answered"] == 4
    assert report["calls"]["dropped"] == 0
    assert report["mos"]["answerers"]["count"] == 4  # they were told by BYE
    assert "interrupted" in page.read_text()


def test_expectations_that_fail_and_mistakes(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, command = scenario.read_text(), ["load", "--scenario", str(scenario)]
    scenario.write_text(text.replace("ring = 0.1", "status = 603"))
    assert main([*command, "--concurrent", "1", "--calls", "1"]) == ExitCode.FAILURE
    told = capsys.readouterr().out
    assert "1 x 603 Decline" in told
    assert "answered at least 1: 0, FAILS" in told

    scenario.write_text(text.replace("secret-alice", "wrong"))
    assert main([*command, "--duration", "1"]) == ExitCode.FAILURE
    assert "registration failed: 401" in capsys.readouterr().err
    for options, why in (
        (("--rate", "0"), "--rate: 0 is not between 0.001 and 10000"),
        (("--report", "/nowhere/report.html"), "--report: /nowhere is no directory"),
    ):
        assert main([*command, *options]) == ExitCode.USAGE
        assert why in capsys.readouterr().err


CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


def test_a_cluster_of_two(scenario: Path, tmp_path: Path) -> None:
    program = tmp_path / "cluster.py"
    program.write_text(CLUSTER)
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, cwd=tmp_path, env={**os.environ, "DASK_TEMPORARY_DIRECTORY": str(tmp_path)},
    ) as cluster:  # fmt: skip
        assert cluster.stdin is not None
        assert cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        done = run(scenario, "--rate", "8", "--concurrent", "20", "--duration", "0.5", "--json", "--cluster", address)
        cluster.stdin.close()
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["processes"], report["troubles"]) == (2, [])
    assert report["calls"]["answered"] == 4
    assert report["mos"]["all"]["count"] == 8


def test_a_process_that_dies_is_told_and_the_others_go_on(scenario: Path) -> None:
    scenario.write_text(scenario.read_text().replace("talk = 1.5", "talk = 2.5"))
    command = [
        *SOFTPHONE,
        "--scenario",
        str(scenario),
        "--concurrent",
        "4",
        "--calls",
        "4",
        "--processes",
        "2",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
        assert load.stderr is not None
        while "4 calls" not in (line := load.stderr.readline()):
            assert line, "it has ended"
        children = Path(f"/proc/{load.pid}/task/{load.pid}/children").read_text().split()
        assert len(children) == 2
        os.kill(int(children[1]), signal.SIGKILL)  # the first one has the answerer
        out, _ = load.communicate(timeout=60)
    assert load.returncode == 1
    report = json.loads(out)
    assert report["troubles"] == ["a process has died in the middle of its share: see above"]
    assert report["calls"]["answered"] == 2
