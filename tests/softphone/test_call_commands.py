"""``softphone dial|answer|register|message``: programs of their own that call a phone in this process."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from softphone.cli import main
from softphone.errors import CallRejected
from softphone.exit_code import ExitCode, code_of
from softphone.media.files import SamplesSource, read_sound
from softphone.phone import Softphone
from tests.interop.tones import has_tone, tone_comes
from tests.softphone.support import Registrar, account
from tests.softphone.test_automation import tone, wav


class Command:
    """``softphone ...`` as a child; its lines as JSON objects."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []

    @classmethod
    async def run(cls, *arguments: object, environment: Mapping[str, str] | None = None) -> Command:
        me = "--id", "alice@example.org", "--local-host", "::1", "--json"
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "softphone.cli", str(arguments[0]), *me, *map(str, arguments[1:]),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            )
        )  # fmt: skip

    async def until(self, name: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while line := await self.process.stdout.readline():
                self.events.append(json.loads(line))
                if self.events[-1]["event"] == name:
                    return self.events[-1]
        raise AssertionError(f"{name} never came; {self.events}")

    async def end(self) -> tuple[ExitCode, dict[str, Any], str]:
        """Exit status, the last line, stderr."""
        result = await self.until("result")
        assert self.process.stderr is not None
        errors = (await self.process.stderr.read()).decode()
        return ExitCode(await self.process.wait()), result, errors


def with_bob(test: Callable[[Softphone, str], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def work() -> None:
        async with Softphone(account("bob", codecs=("PCMU",), **settings)) as bob:
            await test(bob, f"sip:bob@[::1]:{bob.port}")

    asyncio.run(work())


def test_dial_plays_sends_digits_records_and_traces(tmp_path: Path) -> None:
    sound = wav(tmp_path / "hello.wav", tone(0.3, 8000), 8000)
    record, trace = tmp_path / "call.wav", tmp_path / "call.pcapng"

    async def test(bob: Softphone, target: str) -> None:
        command = await Command.run(
            "dial", target, "--play-file", sound, "--dtmf", "42", "--rec-file", record, "--trace", trace
        )
        call = await anext(bob.incoming())
        await call.answer()
        assert await call.gather(2, timeout=30) == "42"
        code, result, errors = await command.end()
        assert (code, result["result"], errors) == (ExitCode.OK, "ok", "")
        names = [event["event"] for event in command.events]
        assert names[0] == "ready"
        assert [name for name in names if name in ("call-answered", "playback-ended", "call-ended", "result")] == [
            "call-answered", "playback-ended", "call-ended", "result",
        ]  # fmt: skip
        ended = next(event for event in command.events if event["event"] == "call-ended")
        assert ended["call"] == call.id
        assert ended["by"] == "local"

    with_bob(test)
    assert record.stat().st_size > 2 * 2 * 16_000 * 0.3
    assert trace.stat().st_mode & 0o777 == 0o600
    if shutil.which("tshark") is not None:  # with it, what Wireshark makes of the file
        assert_trace(trace)


def assert_trace(trace: Path) -> None:
    found = subprocess.run(
        ["tshark", "-r", str(trace), "-T", "fields", "-e", "sip.Method", "-e", "sip.Status-Code", "-e", "rtp.p_type",
         "-o", "udp.check_checksum:TRUE", "-e", "udp.checksum.status"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    lines = [line.split("\t") for line in found.splitlines()]
    assert {"INVITE", "ACK", "BYE"} <= {line[0] for line in lines}
    assert "200" in {line[1] for line in lines}
    assert sum(line[2] != "" for line in lines) > 20
    assert {line[3] for line in lines} == {"1"}  # right


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, ExitCode.UNAUTHORISED), (404, ExitCode.REJECTED), (408, ExitCode.TIMEOUT), (486, ExitCode.BUSY),
     (500, ExitCode.FAILURE), (600, ExitCode.BUSY), (603, ExitCode.REJECTED)],
)  # fmt: skip
def test_exit_statuses_of_refused_calls(status: int, code: ExitCode) -> None:
    assert code_of(status) is code


def test_a_device_in_place_of_files_that_are_played(tmp_path: Path) -> None:
    spoken, heard = wav(tmp_path / "spoken.wav", tone(20, 16_000), 16_000), tmp_path / "heard.wav"

    async def test(bob: Softphone, target: str) -> None:
        command = await Command.run("dial", target, "--device", "file", "--input", spoken, "--output", heard)
        call = await anext(bob.incoming())
        await call.answer()
        await tone_comes(call, 440)
        await call.play(SamplesSource(tone(1, 16_000, 880), 16_000))
        await call.hangup()
        assert (await command.end())[0] is ExitCode.OK
        assert [event["kind"] for event in command.events if event["event"] == "device-changed"] == ["file"]

    with_bob(test)
    samples, rate = read_sound(heard)
    assert has_tone(samples, 880, rate)


@pytest.mark.parametrize(("device", "why"), [("browser", "softphone headset"), ("gramophone", "softphone devices")])
def test_devices_that_are_none(device: str, why: str) -> None:
    async def test(bob: Softphone, target: str) -> None:
        code, result, _ = await (await Command.run("dial", target, "--device", device)).end()
        assert code is ExitCode.USAGE
        assert why in result["text"]

    with_bob(test)


def test_a_busy_one() -> None:
    async def test(bob: Softphone, target: str) -> None:
        bob.do_not_disturb = True
        ended, result, _ = await (await Command.run("dial", target)).end()
        assert ended is ExitCode.BUSY
        assert (result["result"], result["text"]) == ("busy", "call refused: 486 Busy Here")

    with_bob(test)


def test_nobody_answers() -> None:
    async def test(bob: Softphone, target: str) -> None:
        command = await Command.run("dial", target, "--timeout", "0.3")
        call = await anext(bob.incoming())
        await call.ring()
        assert (await command.end())[0] is ExitCode.TIMEOUT
        assert (await call.ended(5)).status == 487  # cancelled, not forgotten

    with_bob(test)


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_call_is_ended_politely(way: signal.Signals) -> None:
    async def test(bob: Softphone, target: str) -> None:
        command = await Command.run("dial", target)
        call = await anext(bob.incoming())
        await call.answer()
        await command.until("call-answered")
        command.process.send_signal(way)
        assert (await call.ended(10)).by == "remote"
        assert (await command.end())[0] is ExitCode.OK

    with_bob(test)


def test_a_full_disk_ends_the_recording_and_not_the_call(tmp_path: Path) -> None:
    full = tmp_path / "full.wav"
    full.symlink_to("/dev/full")

    async def test(bob: Softphone, target: str) -> None:
        command = await Command.run("dial", target, "--rec-file", full, "--trace", "/dev/full", "--duration", "0.5")
        call = await anext(bob.incoming())
        await call.answer()
        await call.ended(30)
        code, result, errors = await command.end()
        assert code is ExitCode.FAILURE
        assert "No space left" in result["text"]
        assert "the trace /dev/full ends here" in errors

    with_bob(test)


def test_mistakes_are_told_before_anybody_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    me = "--id", "alice@example.org", "--local-host", "::1"
    nobody = "sip:bob@[::1]:9"
    for arguments, why in (
        (("dial", nobody, "--play-file", str(tmp_path / "text.wav")), "cannot be read as a sound file"),
        (("dial", nobody, "--dtmf", "12x"), "--dtmf"),
        (("dial", nobody, "--trace", str(tmp_path / "nowhere" / "file")), "cannot be written"),
        (("dial", "sip:[::1"), "is not closed"),
        (("register",), "does not register"),
        (("message", nobody, "hello", "--password-env", "NOT_THERE"), "NOT_THERE is not set"),
    ):
        assert main([*arguments, *me]) == ExitCode.USAGE
        assert why in capsys.readouterr().err


def test_answer_and_message_to_it() -> None:
    async def test(bob: Softphone, target: str) -> None:
        command = await Command.run("answer", "--duration", "0.2", "--count", "1")
        ready = await command.until("ready")
        there = f"sip:alice@[{ready['host']}]:{ready['port']}"
        await bob.message(there, "are you there?")
        assert (await command.until("message-received"))["body"] == "are you there?"
        call = await bob.dial(there)
        await call.answered(10)
        await call.ended(10)
        assert (await command.end())[0] is ExitCode.OK
        command = await Command.run("answer", "--code", "603")
        ready = await command.until("ready")
        call = await bob.dial(f"sip:alice@[{ready['host']}]:{ready['port']}")
        with pytest.raises(CallRejected, match="603"):
            await call.answered(10)
        await command.end()

    with_bob(test)


def test_register_and_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "secret")

    async def work() -> None:
        registrar = await Registrar("secret").start()
        login = "--registrar", registrar.uri, "--password-env", "SECRET"
        command = await Command.run("register", *login)
        await command.until("registered")
        command.process.send_signal(signal.SIGINT)
        assert (await command.end())[0] is ExitCode.OK
        assert registrar.contacts == []  # it took its contact back
        monkeypatch.setenv("SECRET", "wrong")
        command = await Command.run("register", *login)
        code, result, _ = await command.end()
        assert code is ExitCode.UNAUTHORISED
        assert "does not accept the password" in result["text"]
        await registrar.endpoint.close()
        async with Softphone(account("bob")) as bob:
            events = bob.events()
            command = await Command.run("message", f"sip:bob@[::1]:{bob.port}", "hello")
            assert (await command.end())[0] is ExitCode.OK
            async for event in events:
                if type(event).__name__ == "MessageReceived":
                    break
            events.close()

    asyncio.run(work())
