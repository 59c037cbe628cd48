"""The daemon: phones that programs attach to over a Unix socket."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

import softphone.daemon.server as server
from softphone.accounts.accounts import Phones, load
from softphone.daemon.client import DaemonClient
from softphone.daemon.protocol import DaemonError, RequestError
from softphone.daemon.server import Daemon
from softphone.daemon.topics import Topic
from softphone.people.history import CallResult, History
from softphone.phone import Softphone
from tests.softphone.daemon.support import next_event, running, with_bob
from tests.softphone.support import FakeMedia, account, simulate


def test_several_clients_share_calls_which_survive_them(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        assert daemon.path.stat().st_mode & 0o777 == 0o600
        assert daemon.path.parent.stat().st_mode & 0o777 == 0o700
        async with DaemonClient(daemon.path) as watching:
            await watching.subscribe()
            async with DaemonClient(daemon.path) as calling:
                made: Any = await calling.request("dial", target=f"sip:bob@[::1]:{bob.port}")
            incoming = await anext(bob.incoming())
            await incoming.answer()
            answered = await next_event(watching, "call-answered")
            assert (answered["call"], answered["account"]) == (made["call"], "work")
            await watching.request("hold")
            assert incoming.held
            await watching.request("resume", call=made["call"])
            status: Any = await watching.request("status")
            assert [entry["account"] for entry in status["accounts"]] == ["work"]
            assert status["accounts"][0]["calls"][0]["state"] == "confirmed"
            assert "NOT_THERE_AT_ALL" in status["failures"]["broken"]
            assert await watching.request("dtmf", digits="12#") == {"method": "telephone-event"}
            await watching.request("hangup")
            await incoming.ended(5)
            await next_event(watching, "call-ended")

    with_bob(tmp_path, test)
    with History(tmp_path / "history.db") as history:
        assert [record.result for record in history.calls()] == [CallResult.ANSWERED]


def test_incoming_calls_ring_and_are_answered_or_rejected(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.subscribe()
            status: Any = await client.request("status")
            there = f"sip:alice@[::1]:{status['accounts'][0]['port']}"
            call = await bob.dial(there)
            await call.ringing(5)
            with pytest.raises(RequestError, match="no call 'other'"):
                await client.request("answer", call="other")
            await client.request("answer")
            await call.answered(5)
            await call.hangup()
            call = await bob.dial(there)
            await call.ringing(5)
            await client.request("reject", status=603)
            assert (await call.ended(5)).status == 603
            await client.request("dnd", on=True)
            assert (await (await bob.dial(there)).ended(5)).status == 486
            await bob.message(there, "are you there?")
            assert (await next_event(client, "message-received"))["body"] == "are you there?"
            await client.request("message", target=f"sip:bob@[::1]:{bob.port}", text="yes")

    with_bob(tmp_path, test)


GARBAGE = (
    (b"\n", "one JSON object"),
    (b"GET / HTTP/1.1\n", "one JSON object"),
    (b"[" * 20_000 + b"\n", "one JSON object"),
    (b'"text"\n', "one JSON object"),
    (b"\xff\xfe\x00\n", "one JSON object"),
    (b'{"id": [1], "op": "status"}\n', "id has to be"),
    (b'{"id": 1}\n', "op is missing"),
    (b'{"op": "explode"}\n', "there is no operation"),
    (b'{"op": "status", "more": 1}\n', "unknown: more"),
    (b'{"op": "dial"}\n', "target is missing"),
    (b'{"op": "dial", "target": 7}\n', "target has to be a text"),
    (b'{"op": "dial", "target": "sip:[::1"}\n', "SIP URI"),
    (b'{"op": "dial", "target": "bob", "anonymous": "yes"}\n', "true or false"),
    (b'{"op": "dial", "target": "bob", "account": "none"}\n', "does not run"),
    (b'{"op": "reject", "status": true}\n', "whole number"),
    (b'{"op": "hangup"}\n', "there is no call"),
    (b'{"op": "history", "before": 1180591620717411303424}\n', "whole number"),
    (b'{"op": "history", "limit": 0}\n', "from 1 to"),
    (b'{"op": "subscribe", "topics": [1]}\n', "a list of texts"),
    (b'{"op": "subscribe", "topics": ["everything"]}\n', "no topic 'everything'"),
    (b'{"op": "contact-save", "name": "X", "reaches": ["X"]}\n', "a list of objects"),
    (b'{"op": "account-save", "name": "a/b", "values": {}}\n', "no name for an account"),
    (b'{"op": "settings-save", "name": "default"}\n', "value is missing"),
    (b'{"op": "conference", "calls": []}\n', "two calls at least"),
    (b'{"op": "dtmf", "digits": "12x"}\n', "keypad"),
    (b"x" * 70_000 + b"\n", "65536 bytes at most"),
)


def test_garbage_is_answered_with_an_error_and_harms_nobody(tmp_path: Path) -> None:
    async def test(daemon: Daemon, bob: Softphone) -> None:
        for line, why in GARBAGE:
            reader, writer = await asyncio.open_unix_connection(daemon.path)
            writer.write(line)
            answer = json.loads(await reader.readline())
            assert answer["ok"] is False, line[:40]
            assert why in answer["error"], line[:40]
            writer.close()
            await writer.wait_closed()
        async with DaemonClient(daemon.path) as client:
            await client.request("status")

    with_bob(tmp_path, test)


def test_files_of_requests_are_checked(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")

    async def test(daemon: Daemon, bob: Softphone) -> None:
        async with DaemonClient(daemon.path) as client:
            await client.request("dial", target=f"sip:bob@[::1]:{bob.port}")
            await (await anext(bob.incoming())).answer()
            for operation, file, why in (
                ("play", "relative.wav", "absolute path"),
                ("play", str(tmp_path / "text.wav"), "cannot be read as a sound file"),
                ("record", str(tmp_path / "nowhere" / "call.wav"), "cannot be written"),
            ):
                with pytest.raises(RequestError, match=why):
                    await client.request(operation, file=file)
            await client.request("hangup")

    with_bob(tmp_path, test)


def test_a_client_that_does_not_read_is_disconnected_and_calls_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BACKLOG", 4000)

    async def test(daemon: Daemon, bob: Softphone) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            deaf.connect(str(daemon.path))
            deaf.sendall(b'{"op": "subscribe"}\n')
            async with DaemonClient(daemon.path) as client:
                made: Any = await client.request("dial", target=f"sip:bob@[::1]:{bob.port}")
                call = await anext(bob.incoming())
                await call.answer()
                await asyncio.sleep(1)
                for _ in range(5000):
                    daemon.tell(Topic.EVENTS, {"event": "call-changed", "call": made["call"], "filler": "x" * 100})
                    if daemon.counters["client-does-not-read"]:
                        break
                assert daemon.counters["client-does-not-read"] == 1
                await client.request("hangup")
                await call.ended(5)

    with_bob(tmp_path, test)


def test_a_second_daemon_refuses_in_words_and_a_killed_one_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(tmp_path / "run" / "softphone.sock"))  # nobody listens any more

    async def test(daemon: Daemon, bob: Softphone) -> None:
        with pytest.raises(DaemonError, match=r"process \d+.*serves .* already: use `softphone ctl`"):
            await Daemon(Phones(load(tmp_path / "softphone.toml")), daemon.path).run()
        async with DaemonClient(daemon.path) as client:  # the first one goes on
            await client.request("status")

    with_bob(tmp_path, test)


def test_a_daemon_that_ends_ends_its_calls_and_tells_its_clients(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with Softphone(account("bob"), media=FakeMedia.factory([])) as bob:
            async with running(tmp_path) as daemon:
                client = DaemonClient(daemon.path)
                await client.__aenter__()
                await client.subscribe()
                await client.request("dial", target=f"sip:bob@[::1]:{bob.port}")
                call = await anext(bob.incoming())
                await call.answer()
                await call.answered(5)
            assert (await call.ended(5)).by == "remote"
            await next_event(client, "call-ended")
            with pytest.raises(DaemonError, match="has gone"):
                await client.request("status")
            await client.__aexit__()

    simulate(work)
    assert not [record for record in caplog.records if record.name == "asyncio"]
