"""The command line of the phone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from softphone.cli import main


def test_without_a_command_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_the_demo_runs_as_a_program_of_its_own_and_gets_its_options() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "softphone.cli", "demo", "--tunnel", "gre"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "softphone demo: error: argument --tunnel: invalid choice: 'gre'" in done.stderr
