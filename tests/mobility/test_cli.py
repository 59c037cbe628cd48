"""The command ``mobility``: exit status and messages."""

from __future__ import annotations

import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mobility.cli import main
from mobility.config import parse
from mobility.ipsec.algorithms import Algorithm

from .configurations import MN, PAIRS


def test_keys_fit_into_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    for algorithm in Algorithm:
        assert main(["keys", "--algorithm", algorithm.value]) == 0
        lines = capsys.readouterr().out
        use, signalling = ("signalling-ah", "ah") if algorithm.is_for_ah else ("signalling", "esp")
        pair = f'[[association]]\nuse = "{use}"\n{lines}'
        node = parse(MN + f'tunnel = "plain"\nsignalling = "{signalling}"\n' + pair, Path("x"))
        assert node.associations[0].outbound.algorithm is algorithm
        made = tomllib.loads(lines)
        assert made["outbound"] != made["inbound"]


def test_the_table_is_written_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mn.toml"
    path.touch(0o600)
    path.write_text(MN + PAIRS)
    assert main(["esp-sa", "--config", str(path)]) == 0
    table = capsys.readouterr().out
    assert [line.split(",")[0] for line in table.splitlines()].count('"IPv6"') == 4
    output = tmp_path / "esp_sa"
    assert main(["esp-sa", "--config", str(path), "--output", str(output)]) == 0
    assert output.read_text() == table
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


@pytest.mark.parametrize("role", ["mn", "ha", "cn"])
def test_a_wrong_configuration_is_wrong_use(role: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "node.toml"
    assert main([role, "--config", str(path)]) == 2
    path.write_text("[node]\n")
    assert main([role, "--config", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"mobility: {path}: node.role: is missing" in said.err


def test_the_role_has_to_be_that_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "node.toml"
    path.write_text(MN + 'tunnel = "plain"\nsignalling = "none"\n')
    assert main(["ha", "--config", str(path)]) == 2
    assert "mobility mn --config" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["status"], ["status", "--json", "--watch"], ["command", "reregister"]])
def test_nobody_there(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--runtime", str(tmp_path)]) == 1
    assert "start one with `mobility mn --config FILE`" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["fly"], ["status", "now"], ["keys", "--algorithm", "rot13"]])
def test_wrong_use(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize("module", ["mobility", "mobility.cli"])
def test_runs_as_a_module(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "keys"], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.startswith("outbound = { spi = 0x")
    assert done.stderr == ""
