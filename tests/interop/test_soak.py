"""Half a minute of `make soak`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sip_test_env.state import Store

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.alone]


def test_half_a_minute_of_everything() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sip_test_env.soak", "--seconds", "30", "--seed", "1", "--instance", "test-soak"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    report = json.loads(done.stdout)
    assert (done.returncode, report["complaints"]) == (0, []), done.stderr
    assert report["calls"] >= 2
    assert set(report["faults"]) == {"badwire", "move", "flap", "strangers", "kill"}
    assert report["discarded_by_agent"] > 0, "somebody without keys was heard"
    assert not Store("test-soak").exists
