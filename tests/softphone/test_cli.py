"""The command line of the phone."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [(), ("tui",)])
def test_the_user_interface_is_what_runs_without_a_command_and_needs_a_terminal(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "softphone.cli", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "softphone: the user interface needs a terminal; `softphone --help` tells the commands\n"


def test_the_demo_runs_as_a_program_of_its_own_and_gets_its_options() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "softphone.cli", "demo", "--tunnel", "gre"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "softphone demo: error: argument --tunnel: invalid choice: 'gre'" in done.stderr
