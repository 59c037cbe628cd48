"""``softphone accounts``, and the trial of an account."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import softphone.accounts.passwords as passwords
import softphone.commands.accounts as commands
from softphone.accounts.accounts import load
from softphone.accounts.trial import Trial, explain, try_account
from softphone.cli import main
from softphone.exit_code import ExitCode
from softphone.phone import Softphone
from tests.softphone.support import FixedNames, Registrar, account, simulate


def tried(change: Callable[[Registrar], None] = lambda registrar: None, **settings: Any) -> Trial:
    async def work() -> Trial:
        registrar = await Registrar("secret").start()
        change(registrar)
        try:
            own = {"register": True, "registrar": registrar.uri, "password": "secret", "outbound": False, **settings}
            return await try_account(Softphone(account(**own), names=FixedNames))
        finally:
            await registrar.endpoint.close()

    return simulate(work)


def test_a_trial_that_succeeds() -> None:
    trial = tried()
    assert trial.code is ExitCode.OK
    assert trial.status == 200
    assert trial.expires == 300
    assert trial.servers[0].startswith("udp [::1]:")
    assert "registered as sip:alice@example.org, for 300 s" in trial.text


@pytest.mark.parametrize(
    ("settings", "answer", "code", "why"),
    [
        ({"password": "wrong"}, None, ExitCode.UNAUTHORISED, "does not accept the password of alice"),
        ({"password": ""}, None, ExitCode.UNAUTHORISED, "wants a password"),
        ({}, 403, ExitCode.UNAUTHORISED, "forbids"),
        ({}, 404, ExitCode.REJECTED, "does not know sip:alice@example.org"),
        ({}, 486, ExitCode.BUSY, "try again later"),
        ({}, 500, ExitCode.FAILURE, "server failed"),
        ({"registrar": "sip:nowhere.example"}, None, ExitCode.FAILURE, "nowhere.example"),
        ({"registrar": "sip:[::1]:9;transport=tcp"}, None, ExitCode.FAILURE, "cannot"),
        ({"registrar": "sip:[2001:db8::1]", "register": False}, None, ExitCode.OK, "does not register"),
    ],
)
def test_trials_that_fail_say_why(settings: dict[str, Any], answer: int | None, code: ExitCode, why: str) -> None:
    def change(registrar: Registrar) -> None:
        registrar.answer_with = answer

    trial = tried(change, **settings)
    assert trial.code is code
    assert why in trial.text


def test_a_server_that_is_silent() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as silent:
        silent.bind(("::1", 0))
        trial = tried(registrar=f"sip:[::1]:{silent.getsockname()[1]}")
    assert trial.code is ExitCode.TIMEOUT
    assert "does not answer within 12 s" in trial.text


def test_every_status_has_words() -> None:
    for status in (0, *range(300, 700)):
        code, text = explain(status, "Reason", account())
        assert code is not ExitCode.OK
        assert "Reason" in text


@pytest.fixture
def registrar() -> Iterator[Registrar]:
    """A registrar in a thread: the commands have loops of their own."""
    made = Registrar("secret")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(made.start(), loop).result(10)
        yield made
        asyncio.run_coroutine_threadsafe(made.endpoint.close(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has: tests put nothing into it."""
    monkeypatch.setattr(passwords, "keyring_works", lambda: False)


def run(directory: Path, *arguments: str) -> int:
    return main(["accounts", arguments[0], "--config", str(directory / "softphone.toml"), *arguments[1:]])


def test_from_add_to_remove(
    tmp_path: Path, registrar: Registrar, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"alice@[::1]:{registrar.endpoint.port}"
    monkeypatch.setenv("SIP_PASSWORD", "wrong")
    ours = ("--name", "work", "--local-host", "::1", "--batch", "--password-env", "SIP_PASSWORD")
    assert run(tmp_path, "add", address, *ours) == ExitCode.UNAUTHORISED
    assert "does not accept the password of alice" in capsys.readouterr().out
    assert not (tmp_path / "softphone.toml").exists()

    monkeypatch.setenv("SIP_PASSWORD", "secret")
    assert run(tmp_path, "add", address, *ours, "--voicemail", "*97") == ExitCode.OK
    out = capsys.readouterr().out
    assert f"work: server udp [::1]:{registrar.endpoint.port}" in out
    assert "registered as sip:alice@[::1]" in out
    assert (tmp_path / "softphone.toml").stat().st_mode & 0o777 == 0o600
    assert load(tmp_path / "softphone.toml").entries["work"].settings.voicemail == "*97"

    assert run(tmp_path, "test", "--json") == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["account"], told["result"], told["status"]) == ("work", "ok", 200)
    assert run(tmp_path, "list", "--json") == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["address"], told["password"], told["default"]) == ("sip:alice@[::1]", "environment", True)
    assert run(tmp_path, "add", address, *ours) == ExitCode.USAGE
    assert "already" in capsys.readouterr().err
    assert run(tmp_path, "remove", "work") == ExitCode.OK
    assert run(tmp_path, "list") == ExitCode.OK
    assert "no accounts" in capsys.readouterr().out


def test_add_asks_for_what_is_missing(
    tmp_path: Path, registrar: Registrar, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([f"alice@[::1]:{registrar.endpoint.port}", "", "direct"])
    questions: list[str] = []

    def ask(question: str) -> str:
        questions.append(question)
        return next(answers)

    person = commands.Terminal(ask, lambda question: "secret", lambda: True)
    monkeypatch.setattr(commands, "Terminal", lambda: person)
    assert run(tmp_path, "add", "--local-host", "::1") == ExitCode.OK
    assert "[1]" in questions[1]
    entry = load(tmp_path / "softphone.toml").entries["1"]
    assert entry.account().password == "secret"
    file = tmp_path / "1.password"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "secret" not in (tmp_path / "softphone.toml").read_text() + capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("add", "--batch"), "say which address"),
        (("add", "nonsense", "--batch"), "no SIP address"),
        (("add", "a@example.org", "--name", "a b", "--batch"), "no name for an account"),
        (("add", "a@example.org", "--registrar", "x", "--batch"), "registrar: 'x' is not a SIP URI"),
        (("remove", "nobody"), "No such file"),
        (("test",), "No such file"),
    ],
)
def test_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str) -> None:
    assert run(tmp_path, *arguments) == ExitCode.USAGE
    assert why in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
