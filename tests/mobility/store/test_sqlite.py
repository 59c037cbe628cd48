"""The file of bindings."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobility.mipv6.binding_records import BindingRecord
from mobility.store.sqlite import BindingFile

from .support import record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bindings.sqlite"


@pytest.fixture
def kept(path: Path) -> Iterator[BindingFile]:
    file = BindingFile(path)
    file.open()
    yield file
    file.close()


def again(path: Path, now: float = 0.0) -> list[BindingRecord]:
    file = BindingFile(path)
    file.open()
    try:
        return file.load(now)
    finally:
        file.close()


def put(file: BindingFile, *records: BindingRecord) -> None:
    file.write([(each.home_address, each) for each in records])


def test_records_outlive_the_file_object(kept: BindingFile, path: Path) -> None:
    put(kept, record(1), record(2))
    put(kept, record(1, sequence=8))
    kept.write([(record(2).home_address, None), (record(3).home_address, None)])
    assert again(path) == [record(1, sequence=8)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_records_outlive_a_killed_process(path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        file = BindingFile(path)
        file.open()
        put(file, record(1))
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert again(path) == [record(1)]


def test_what_is_over_is_forgotten(kept: BindingFile, path: Path) -> None:
    put(kept, record(1, expires=100.0), record(2, expires=200.0))
    assert again(path, 100.0) == [record(2, expires=200.0)]
    assert again(path, 0.0) == [record(2, expires=200.0)]


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_moved_aside(path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(content)
    path.with_name(path.name + "-wal").write_bytes(b"rest")
    with caplog.at_level(logging.WARNING):
        file = BindingFile(path)
        file.open()
        put(file, record(1))
        file.close()
    assert "terminals will register again" in caplog.text
    assert path.with_name("bindings.sqlite.unusable-1").read_bytes() == content
    assert again(path) == [record(1)]


def test_pages_damaged_in_the_middle(kept: BindingFile, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(kept, *(record(number) for number in range(1, 200)))
    kept.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    with caplog.at_level(logging.WARNING):
        assert again(path) == []
    assert "unusable-1" in caplog.text


def test_a_file_of_another_program_or_version_is_moved_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, statement in enumerate(("CREATE TABLE other (x)", "PRAGMA user_version = 99"), 1):
        if number == 2:
            again(path)
        database = sqlite3.connect(path)
        database.execute(statement)
        database.commit()
        database.close()
        with caplog.at_level(logging.WARNING):
            assert again(path) == []
        assert path.with_name(f"bindings.sqlite.unusable-{number}").exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "nonsense", '{"home_address": 5}', "[" * 100_000, '{"home_address": "2001:db8:1::7"}']
)
def test_a_wrong_row_is_left_out(kept: BindingFile, path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    put(kept, record(1))
    database = sqlite3.connect(path)
    database.execute("INSERT INTO binding VALUES ('2001:db8:1::7', ?, 1000.0)", (text,))
    database.commit()
    database.close()
    with caplog.at_level(logging.WARNING):
        assert again(path) == [record(1)]
    assert "2001:db8:1::7 is left out" in caplog.text


def test_a_file_that_cannot_be_opened_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = BindingFile(tmp_path / "missing" / "bindings.sqlite")
    with caplog.at_level(logging.WARNING):
        file.open()
    assert "not kept over a restart" in caplog.text
    assert file.load(0.0) == []
    put(file, record(1))
    file.close()


def test_a_file_that_cannot_be_written_is_told_now_and_then(
    kept: BindingFile, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            put(kept, record(1))
    other.execute("ROLLBACK")
    other.close()
    assert kept.failures == 5
    assert len(caplog.records) == 3
    put(kept, record(2))
    assert again(path) == [record(2)]
