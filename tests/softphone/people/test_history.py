"""The history of calls: what is written, what survives damage, what the command shows."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest

from softphone.cli import main
from softphone.errors import CallError
from softphone.events import CallEnded, EndedBy
from softphone.people import history as module
from softphone.people.call_log import CallLog, result_of
from softphone.people.history import MIGRATIONS, CallRecord, CallResult, History, HistoryError
from softphone.phone import Softphone
from softphone.sip.identity import Reason
from tests.softphone.support import FakeMedia, account, simulate


def record(number: int = 1, result: CallResult = CallResult.ANSWERED, **changes: object) -> CallRecord:
    values: dict[str, object] = {
        "account": "work", "call_id": f"c{number}", "incoming": True, "remote": f"sip:{number}@example.org", "name": "",
        "began": 1_700_000_000.0 + number, "result": result, "status": 200, "reason": "OK", "duration": 61.4,
        "codec": "opus", "mos": 4.25,
    }  # fmt: skip
    return CallRecord(**{**values, **changes})  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with History(tmp_path / "data" / "history.db") as history:
        stored = history.add(record())
        assert history.calls() == [stored]
        history.add(record(2, CallResult.MISSED, account="home", mos=None))
        assert [each.call_id for each in history.calls()] == ["c2", "c1"]
        assert [each.call_id for each in history.calls(result=CallResult.MISSED)] == ["c2"]
        assert [each.call_id for each in history.calls(account="work")] == ["c1"]
        assert [each.call_id for each in history.calls(before=2)] == ["c1"]
        assert [each.call_id for each in history.calls(since=1_700_000_002.0)] == ["c2"]
        assert history.calls()[0].missed
        assert (tmp_path / "data" / "history.db").stat().st_mode & 0o777 == 0o600
    with History(tmp_path / "data" / "history.db") as history:
        assert len(history.calls()) == 2
        assert history.moved_aside is None
        assert history.clear() == 2


def test_the_size_is_bounded_and_so_is_what_strangers_write(tmp_path: Path) -> None:
    with History(tmp_path / "h", most=3) as history:
        for number in range(7):
            history.add(record(number, name="x" * 100_000, reason="\udcff'; DROP TABLE call; --"))
        assert [each.call_id for each in history.calls()] == ["c6", "c5", "c4"]
        assert len(history.calls()[0].name) == module.LONGEST
        assert history.calls()[0].reason == "?'; DROP TABLE call; --"


@pytest.mark.parametrize("damage", ["nonsense", "middle", "empty"])
def test_a_damaged_file_is_moved_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "history.db"
    with History(path) as history:
        for number in range(200):
            history.add(record(number))
    data = path.read_bytes()
    path.write_bytes(
        {"nonsense": b"this is no database" * 50, "middle": data[:4096] + b"\xff" * 4096 + data[8192:], "empty": b""}[
            damage
        ]
    )
    with History(path) as history:
        assert history.calls() == []
        assert (history.moved_aside is None) == (damage == "empty")
        if history.moved_aside is not None:
            assert history.moved_aside.exists()
        history.add(record())
        assert len(history.calls()) == 1


def test_files_of_older_and_newer_versions(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "old.db")
    old.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
    old.execute(
        "INSERT INTO call (account, call_id, incoming, remote, name, began, result, status, reason, duration) "
        "VALUES ('a', 'c', 1, 'sip:x@y', '', 5.0, 'unheard of', 200, '', 1.0)"
    )
    old.commit()
    old.close()
    with History(tmp_path / "old.db") as history:
        (kept,) = history.calls()
        assert (kept.codec, kept.mos, kept.result) == ("", None, CallResult.FAILED)
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(HistoryError, match="newer version"):
        History(tmp_path / "newer.db")
    with pytest.raises(HistoryError, match="no history can be kept"):
        History(tmp_path)


def test_a_locked_file_is_an_error_and_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.01)
    with History(tmp_path / "h") as history:
        other = sqlite3.connect(tmp_path / "h")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError, match="locked"):
            history.add(record())
        other.close()
        history.add(record())


def test_how_calls_are_called() -> None:
    local, remote = (CallEnded("c", by, 487, "") for by in (EndedBy.LOCAL, EndedBy.REMOTE))
    elsewhere = CallEnded("c", EndedBy.REMOTE, 487, "", (Reason("SIP", 200, "Call completed elsewhere"),))
    assert result_of(local, incoming=True, answered=True) is CallResult.ANSWERED
    assert result_of(local, incoming=True, answered=False) is CallResult.REFUSED
    assert result_of(remote, incoming=True, answered=False) is CallResult.MISSED
    assert result_of(elsewhere, incoming=True, answered=False) is CallResult.ELSEWHERE
    assert result_of(local, incoming=False, answered=False) is CallResult.CANCELLED
    assert result_of(remote, incoming=False, answered=False) is CallResult.FAILED


def test_calls_of_phones_are_logged(tmp_path: Path) -> None:
    async def work() -> None:
        media = FakeMedia.factory([])
        with History(tmp_path / "h") as history:
            clock = iter(range(100, 200))
            bob = Softphone(account("bob"), media=media, log=CallLog(history, "bob", clock=lambda: float(next(clock))))
            alice = Softphone(account("alice", display_name="Alice"), media=media, log=CallLog(history, "alice"))
            async with alice, bob:
                call = await alice.dial(f"sip:bob@[::1]:{bob.port}")
                await (await anext(bob.incoming())).answer()
                await call.answered(5)
                await asyncio.sleep(30)
                await call.hangup()
                missed = await alice.dial(f"sip:bob@[::1]:{bob.port}")
                await anext(bob.incoming())
                await missed.hangup()
                bob.do_not_disturb = True
                refused = await alice.dial(f"sip:bob@[::1]:{bob.port}")
                with pytest.raises(CallError):
                    await refused.answered(5)
            mine = history.calls(account="bob")
            assert [each.result for each in mine] == [CallResult.REFUSED, CallResult.MISSED, CallResult.ANSWERED]
            assert [each.began for each in mine] == [102.0, 101.0, 100.0]
            assert (mine[2].remote, mine[2].name, mine[2].incoming) == ("sip:alice@example.org", "Alice", True)
            assert 30 <= mine[2].duration < 31
            hers = history.calls(account="alice")
            assert [each.result for each in hers] == [CallResult.FAILED, CallResult.CANCELLED, CallResult.ANSWERED]
            assert hers[0].status == 486

    simulate(work)


def test_a_history_that_cannot_be_written_disturbs_no_call(tmp_path: Path) -> None:
    async def work() -> None:
        history, told = History(tmp_path / "h"), list[HistoryError]()
        history.close()
        phone = Softphone(account(), media=FakeMedia.factory([]), log=CallLog(history, "a", failed=told.append))
        async with phone:
            call = await phone.dial("sip:bob@[::1]:9")
            await call.hangup()
        assert len(told) == 1

    simulate(work)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "h"
    with History(path) as history:
        history.add(record(1, name="Bob\x1b[31m"))
        history.add(record(2, CallResult.MISSED))
        history.add(record(3, CallResult.FAILED, incoming=False, status=486, reason="Busy Here"))
    assert main(["history", "--file", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "failed     to   sip:3@example.org  486 Busy Here" in lines[0]
    assert lines[1].endswith("missed     from sip:2@example.org")
    assert "answered   from Bob?[31m <sip:1@example.org>  1:01, opus, MOS 4.2" in lines[2]
    assert main(["history", "--file", str(path), "--json", "--missed"]) == 0
    (told,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (told["result"], told["remote"], told["id"]) == ("missed", "sip:2@example.org", 2)
    path.write_bytes(b"damaged" * 100)
    assert main(["history", "--file", str(path)]) == 0
    assert "was damaged" in capsys.readouterr().err
    assert main(["history", "--file", str(path), "--clear"]) == 0
    assert main(["history", "--file", str(tmp_path)]) == 1
