"""Processes are ended, and only the right ones."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

from sip_test_env.processes import Process, end

STUBBORN = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


def _start(code: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    if child.stdout is None:
        raise AssertionError("asked for a pipe")
    child.stdout.readline()
    return child


def test_a_process_is_ended() -> None:
    with _start("import time; print(flush=True); time.sleep(60)") as child:
        process = Process.find(child.pid)
        assert process is not None
        assert process.alive
        end([process])
        assert child.wait() == -15
    assert Process.find(child.pid) is None


def test_one_that_does_not_listen_is_killed() -> None:
    with _start(STUBBORN) as child:
        process = Process.find(child.pid)
        assert process is not None
        before = time.monotonic()
        end([process], grace=0.1)
        assert time.monotonic() - before < 5
        assert child.wait() == -9


def test_a_stranger_with_a_recycled_pid_is_left_alone() -> None:
    with _start("import time; print(flush=True); time.sleep(60)") as child:
        process = Process.find(child.pid)
        assert process is not None
        former = replace(process, started=process.started - 1)
        assert not former.alive
        end([former])
        assert process.alive
        end([process])
