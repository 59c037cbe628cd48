"""Hooks: when they run, what they are told, and that they hold up nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from softphone.accounts.accounts import load
from softphone.accounts.preferences import PREFERENCES
from softphone.daemon import hooks as hooks_module
from softphone.daemon.client import DaemonClient
from softphone.daemon.hooks import variables
from softphone.daemon.occasions import Occasion, Occasions
from softphone.daemon.server import Daemon
from softphone.errors import ConfigError
from softphone.events import (
    CallAnswered,
    CallEnded,
    CallIncoming,
    CallProgress,
    EndedBy,
    Event,
    MessageReceived,
    Registered,
    RegistrationFailed,
)
from softphone.phone import Softphone
from softphone.sip.identity import Reason
from tests.softphone.daemon.support import CONFIGURATION, next_event, running
from tests.softphone.support import FakeMedia, account

BOB = "sip:bob@example.org"


def told(*events: Event) -> list[tuple[str, dict[str, object]]]:
    occasions = Occasions()
    return [(str(name), values) for event in events for name, values in occasions.of("work", event)]


def test_occasions() -> None:
    missed = told(CallIncoming("1", BOB), CallEnded("1", EndedBy.REMOTE, 487, "cancelled by the caller"))
    assert [name for name, _ in missed] == ["incoming", "ended", "missed"]
    assert missed[2][1] | {"causes": None} == {
        "event": "call-ended", "account": "work", "call": "1", "by": "remote", "status": 487, "causes": None,
        "reason": "cancelled by the caller", "remote": BOB, "incoming": True, "answered": False, "result": "missed",
    }  # fmt: skip
    taken = told(CallIncoming("1", BOB), CallAnswered("1", BOB), CallEnded("1", EndedBy.REMOTE, 200, "hung up"))
    assert [name for name, _ in taken] == ["incoming", "answered", "ended"]
    assert taken[1][1]["incoming"] is True
    assert taken[2][1]["result"] == "answered"
    cause = Reason("SIP", 200, "Call completed elsewhere")
    elsewhere = told(CallIncoming("1", BOB), CallEnded("1", EndedBy.REMOTE, 487, "", (cause,)))
    assert [(name, values.get("result")) for name, values in elsewhere] == [("incoming", None), ("ended", "elsewhere")]
    ours = told(CallProgress("2", 180, "Ringing"), CallEnded("2", EndedBy.REMOTE, 486, "Busy Here"))
    assert [(name, values["result"], values["incoming"]) for name, values in ours] == [("ended", "failed", False)]
    assert [name for name, _ in told(MessageReceived(BOB, "text/plain", b"hi"))] == ["message"]
    failure = RegistrationFailed(503, "down", 30.0)
    again = told(failure, failure, Registered("sip:a", 300), failure)
    assert [name for name, _ in again] == ["registration_failed", "registration_failed"]


def test_variables_are_clean() -> None:
    values = {"remote-name": "a\0b", "incoming": True, "status": 487, "causes": [], "body": "x" * 5000, "none": None}
    found = variables(values)
    assert found.pop("ROAMPHONE_BODY") == "x" * 4096
    assert found == {"ROAMPHONE_REMOTE_NAME": "ab", "ROAMPHONE_INCOMING": "true", "ROAMPHONE_STATUS": "487"}


def test_the_configuration_of_hooks(tmp_path: Path) -> None:
    path = tmp_path / "softphone.toml"
    path.write_text('[hooks]\nincoming = "ring --loud \'old phone\'"\nended = ["log", "it"]\nshell = true\n')
    found = load(path).preferences
    assert found["hooks.incoming"].program(shell=False) == ("ring", "--loud", "old phone")
    assert found["hooks.incoming"].program(shell=True) == ("/bin/sh", "-c", "ring --loud 'old phone'")
    assert found["hooks.ended"].program(shell=True) == ("log", "it")
    for text, why in (
        ("[hooks]\nmised = 'x'\n", r"toml:2: hooks\.mised: is not known here; did you mean missed"),
        ("[hooks]\nmissed = ''\n", r"toml:2: hooks\.missed: '' is not a command"),
        ("[hooks]\ntimeout = 0\n", r"toml:2: hooks\.timeout: 0 is not a number from 1 to 3600"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=why):
            load(path)
    assert {f"hooks.{one}" for one in Occasion} <= {one.name for one in PREFERENCES}


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it does not come true")


def in_real_time(tmp_path: Path, hooks: str, test: Callable[[Daemon, Softphone], Coroutine[Any, Any, None]]) -> None:
    """Commands take no simulated time."""

    async def work() -> None:
        async with (
            Softphone(account("bob"), media=FakeMedia.factory([])) as bob,
            running(tmp_path, CONFIGURATION + hooks) as daemon,
        ):
            await test(daemon, bob)

    asyncio.run(work())


def test_a_missed_call_runs_commands_with_json_and_variables(tmp_path: Path) -> None:
    hooks = f"""
[hooks]
shell = true
missed = 'cat > {tmp_path}/missed.json; echo "$ROAMPHONE_REMOTE" > {tmp_path}/remote'
incoming = ["touch", "{tmp_path}/rang"]
message = ["/nowhere/at/all"]
"""

    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.subscribe()
            await client.request("contact-save", name="Bob", reaches=[{"address": "bob@example.org"}])
            status: Any = await client.request("status")
            assert status["hooks"]["configured"] == ["incoming", "missed", "message"]
            there = f"sip:alice@[::1]:{status['accounts'][0]['port']}"
            call = await bob.dial(there)
            await call.ringing(5)
            await call.hangup()
            await bob.message(there, "you are not there")
            await next_event(client, "message-received")
            hooks = daemon.service.hooks
            await until(lambda: hooks.counters == {"started": 2, "failed": 1} and not hooks.status["running"])
        missed = json.loads((tmp_path / "missed.json").read_text())
        assert (missed["hook"], missed["result"], missed["remote_name"]) == ("missed", "missed", "Bob")
        assert (tmp_path / "remote").read_text() == "sip:bob@example.org\n"
        assert (tmp_path / "rang").exists()

    in_real_time(tmp_path, hooks, test)


def test_slow_hooks_are_bounded_and_hold_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks_module, "WAITING", 3)
    monkeypatch.setattr(hooks_module, "END_SECONDS", 0.1)
    hooks = '\n[hooks]\ntimeout = 3600\nmessage = ["sleep", "3600"]\n'

    async def test(daemon: Daemon, bob: Softphone) -> None:
        service = daemon.service.hooks
        [phone] = daemon.service.phones.running.values()
        for _ in range(10):
            await bob.message(f"sip:alice@[::1]:{phone.port}", "hello")
        await until(lambda: service.counters["left-out"] == 3)
        assert (service.status["running"], service.status["waiting"]) == (4, 3)

    in_real_time(tmp_path, hooks, test)  # and the daemon ends, with all of them


def test_a_hook_that_takes_too_long_is_ended_with_what_it_has_started(tmp_path: Path) -> None:
    hooks = f'\n[hooks]\ntimeout = 1\nmessage = ["sh", "-c", "sleep 3600 & echo $! > {tmp_path}/child; wait"]\n'

    async def test(daemon: Daemon, bob: Softphone) -> None:
        [phone] = daemon.service.phones.running.values()
        await bob.message(f"sip:alice@[::1]:{phone.port}", "hello")
        await until(lambda: daemon.service.hooks.counters["too-long"] == 1)
        child = int((tmp_path / "child").read_text())
        await until(lambda: not alive(child))

    in_real_time(tmp_path, hooks, test)


def alive(process: int) -> bool:
    """Runs; a zombie that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_daemon_that_ends_waits_a_moment_for_its_hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks_module, "END_SECONDS", 30.0)
    hooks = f'\n[hooks]\nended = ["sh", "-c", "sleep 0.2; touch {tmp_path}/ended"]\n'

    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.request("dial", target=f"sip:bob@[::1]:{bob.port}")
            await (await anext(bob.incoming())).answer()

    in_real_time(tmp_path, hooks, test)
    assert (tmp_path / "ended").exists()
