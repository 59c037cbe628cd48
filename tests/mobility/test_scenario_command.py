"""``mobility scenario`` against a control socket whose terminal is in simulated time; and against no terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mobility.cli import main
from mobility.commands import scenarios
from mobility.control import ControlServer, Refused
from mobility.net.loop import Loop

from .whole import Network


class Node(threading.Thread):
    """Serves the terminal of a simulated network; each look at its status lets time pass."""

    def __init__(self, runtime: Path) -> None:
        super().__init__(daemon=True)
        self.network = network = Network()
        network.start_agent()
        network.plug(network.a)
        network.run(2)
        self.role = "terminal"
        self.loop = Loop()
        self.server = ControlServer(
            self.loop, runtime / "control.sock", {"status": self._status, "command": self._command}
        )
        self.server.open()

    def _status(self, _request: object) -> object:
        if self.role != "terminal":
            return {"node": {"role": self.role}}
        self.network.run(0.01)
        return {"node": self.network.terminal.snapshot(self.network.world.now)}

    def _command(self, request: Mapping[str, object]) -> None:
        try:
            outputs = self.network.terminal.command(str(request["name"]), self.network.world.now)
        except ValueError as error:
            raise Refused(str(error)) from error
        self.network.world.stations["mn"].carry_out(outputs)

    def run(self) -> None:
        while not self.loop.stopping:
            self.loop.turn(0.05)
        self.server.close()
        self.loop.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    made.start()
    yield made
    made.loop.stop()
    made.join(10)


@pytest.fixture
def where(tmp_path: Path) -> list[str]:
    return ["--runtime", str(tmp_path)]


@pytest.mark.usefixtures("node")
def test_list_disable_enable(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenario", "list", *where]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "number  status    in use  substance"
    assert "10020   enabled   yes     no translation (IPsec)" in lines
    assert "10001   enabled   -       no translation, no IPsec" in lines
    assert main(["scenario", "disable", "10020", *where]) == 0
    shown = capsys.readouterr().out
    assert "10020   disabled  -       no translation (IPsec)\n" in shown
    assert "No tunnel: no enabled scenario for an acknowledgement of the home agent under IPsec: 10020" in shown
    assert shown.endswith("Until the terminal ends; what it begins with is `scenarios` in [mobile_node].\n")
    assert main(["scenario", "enable", "10020", *where]) == 0
    shown = capsys.readouterr().out
    assert "10020   enabled   yes     no translation (IPsec)\n" in shown
    assert "No tunnel" not in shown


def test_a_home_agent_that_is_silent(
    node: Node, where: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenarios, "PATIENCE", 0.2)
    node.network.world.remove("ha")
    assert main(["scenario", "disable", "10020", *where]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("The home agent has not answered yet; the change counts as soon as it does.\n")
    assert "10020   disabled  yes " in shown


def test_mistakes(node: Node, where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenario", "enable", "7", *where]) == 1
    assert capsys.readouterr().err.startswith("mobility: there is no scenario 7; choose one of 10000, 10001")
    assert main(["scenario", "disable", "10020 10001", *where]) == 1
    assert "there is no command" in capsys.readouterr().err
    node.role = "home-agent"
    assert main(["scenario", "list", *where]) == 1
    assert "it is no terminal" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["scenario", "enable", *where])
    assert caught.value.code == 2
