"""``softphone daemon`` and ``softphone ctl`` as programs: what they print, and their exit status."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from softphone.cli import main
from softphone.exit_code import ExitCode
from tests.softphone.daemon.support import SILENT, TWO_ACCOUNTS


def test_ctl_without_a_daemon_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ctl", "--socket", str(tmp_path / "none.sock"), "status"]) == ExitCode.FAILURE
    assert "start one with `softphone daemon`" in capsys.readouterr().err


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))  # the history
    (tmp_path / "softphone.toml").write_text(TWO_ACCOUNTS + SILENT)
    socket_path = str(tmp_path / "a.sock")
    serve = "daemon", "--config", str(tmp_path / "softphone.toml"), "--socket", socket_path
    collector = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    collector.bind(("::1", 0))
    traces = "--trace", str(tmp_path / "trace.pcapng"), "--hep", f"[::1]:{collector.getsockname()[1]}"

    def ctl(*words: str, code: ExitCode = ExitCode.OK, why: str = "") -> Any:
        assert main(["ctl", "--socket", socket_path, *words]) == code
        said = capsys.readouterr()
        assert why in said.err
        return json.loads(said.out)["result"] if said.out else None

    with subprocess.Popen(
        [sys.executable, "-m", "softphone.cli", *serve, *traces], stderr=subprocess.PIPE, text=True
    ) as daemon:  # fmt: skip
        try:
            assert daemon.stderr is not None
            assert "account broken does not run" in daemon.stderr.readline()  # told when clients can connect
            accounts = {one["account"]: one for one in ctl("status")["accounts"]}
            assert list(accounts) == ["work", "home"]
            ctl("hangup", code=ExitCode.FAILURE, why="there is no call")
            ctl("settings-save", "colour", "red", code=ExitCode.USAGE, why="is no setting")
            ctl("account-test", "broken", code=ExitCode.USAGE)
            home = f"sip:carol@[::1]:{accounts['home']['port']}"
            ctl("dnd", "on", "--account", "home")
            ctl("dial", home, "--account", "work", "--wait", "10", code=ExitCode.BUSY, why="486")
            ctl("dnd", "off")
            ctl("dial", home, "--account", "work", "--wait", "0.2", code=ExitCode.TIMEOUT, why="nobody answered")
            waiting = subprocess.Popen(
                [sys.executable, "-m", "softphone.cli", "ctl", "--socket", socket_path, "dial", home, "--wait", "60"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert waiting.stdout is not None
            assert "calling" in waiting.stdout.readline()
            waiting.send_signal(signal.SIGINT)
            assert "given up" in waiting.communicate(timeout=30)[1]
            assert waiting.returncode == ExitCode.FAILURE
            assert not any(one["calls"] for one in ctl("status")["accounts"]), "Ctrl-C hangs up"
            ctl("dial", home, "--account", "work")
            ctl("answer", "--account", "home")
            ctl("mute", "on", "--account", "work")
            [call] = next(one for one in ctl("status")["accounts"] if one["account"] == "work")["calls"]
            assert call["muted"] is True
            assert call["codec"] == "opus"
            ctl("dtmf", "12x", "--account", "work", code=ExitCode.USAGE, why="keypad")
            ctl("record", str(tmp_path / "call.wav"), "--account", "home")
            ctl("record", "none", "--account", "home")
            ctl("play", "none", "--account", "home")
            ctl("note", "wants a house", "--account", "work")
            ctl("hangup", "--account", "work")
            assert ctl("history", "--search", "house")["entries"][0]["account"] == "work"
            assert any(message["text"].startswith("BYE") for message in ctl("sip-messages")["messages"])
            assert main(list(serve)) == ExitCode.FAILURE
            assert f"(process {daemon.pid}) serves {socket_path} already" in capsys.readouterr().err
            ctl("shutdown")
            assert daemon.wait(30) == 0
            assert collector.recv(65_536)[:4] == b"HEP3"
            assert b"BYE sip:" in (tmp_path / "trace.pcapng").read_bytes()
        finally:
            if daemon.poll() is None:
                daemon.terminate()
            collector.close()
