"""The history of calls, in SQLite: who, when, how it ended, how long, how it sounded; and of messages."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from softphone.errors import SoftphoneError

MOST = 10_000
"Calls, and messages, that are kept; the oldest go."
LONGEST = 1000
"Characters of an address, a name or a reason."
LONGEST_TEXT = 10_000
"Characters of a note or a message."
BUSY_SECONDS = 5.0
"How long another process may hold the file."
BESIDE = ("-wal", "-shm", "-journal")
"What SQLite keeps beside a database."


class HistoryError(SoftphoneError):
    """The history cannot be read or written; calls go on without it."""


class CallResult(StrEnum):
    """How a call ended."""

    ANSWERED = "answered"
    MISSED = "missed"
    "It came in and the caller gave up, or nobody answered in time."
    REFUSED = "refused"
    "It came in and was refused here, by somebody or by itself (do not disturb)."
    ELSEWHERE = "elsewhere"
    "It came in and another phone of the account answered it: it was not missed."
    CANCELLED = "cancelled"
    "We called and gave up."
    FAILED = "failed"
    "We called and the other side refused, or was not reached."


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call."""

    account: str
    call_id: str
    incoming: bool
    remote: str
    "URI of the other side."
    name: str
    "What the other side calls itself; may be empty."
    began: float
    "Seconds since 1970."
    result: CallResult
    status: int
    "Final status of SIP; 200 for an answered call."
    reason: str
    duration: float
    "Seconds from the answer to the end."
    codec: str = ""
    mos: float | None = None
    "Average of the estimated quality of what was heard, 1 to 5."
    note: str = ""
    "What people wrote down about it."
    id: int = 0
    "Of the history; 0: not stored yet."

    @property
    def missed(self) -> bool:
        return self.result is CallResult.MISSED


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A text."""

    account: str
    peer: str
    "URI of the other side."
    incoming: bool
    text: str
    time: float
    "Seconds since 1970."
    id: int = 0
    "Of the history; 0: not stored yet."


COLUMNS = tuple(field.name for field in fields(CallRecord) if field.name != "id")

MIGRATIONS = (
    """
    CREATE TABLE call (
        id INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, call_id TEXT NOT NULL, incoming INTEGER NOT NULL,
        remote TEXT NOT NULL, name TEXT NOT NULL, began REAL NOT NULL, result TEXT NOT NULL, status INTEGER NOT NULL,
        reason TEXT NOT NULL, duration REAL NOT NULL
    );
    CREATE INDEX call_began ON call (began);
    """,
    """
    ALTER TABLE call ADD COLUMN codec TEXT NOT NULL DEFAULT '';
    ALTER TABLE call ADD COLUMN mos REAL;
    """,
    """
    ALTER TABLE call ADD COLUMN note TEXT NOT NULL DEFAULT '';
    CREATE INDEX call_id ON call (call_id);
    CREATE TABLE message (
        id INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, peer TEXT NOT NULL, incoming INTEGER NOT NULL,
        text TEXT NOT NULL, time REAL NOT NULL
    );
    CREATE INDEX message_peer ON message (peer);
    """,
)
"From one ``user_version`` to the next. Never change one: add another."


class History:
    """The file. A damaged one is moved aside, see `moved_aside`. Raises HistoryError."""

    def __init__(self, path: Path, *, most: int = MOST) -> None:
        self.path = path
        self.moved_aside: Path | None = None
        "Where the damaged history is that was found in place of a good one; tell people."
        self._most = most
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as exc:
            raise HistoryError(f"{path}: no history can be kept there: {exc.strerror}") from exc
        try:
            self._database = self._open()
        except sqlite3.OperationalError as exc:  # locked, disk full, not allowed: not the file's fault
            raise HistoryError(f"{path}: {exc}") from exc
        except sqlite3.DatabaseError:
            self.moved_aside = self._move_aside()
            try:
                self._database = self._open()
            except sqlite3.Error as exc:
                raise HistoryError(f"{path}: {exc}") from exc

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, record: CallRecord) -> CallRecord:
        """Store a call; returns it with its id. Raises HistoryError."""
        cut = replace(
            record, remote=_shown(record.remote), name=_shown(record.name), reason=_shown(record.reason),
            call_id=_shown(record.call_id),
        )  # fmt: skip
        marks = ", ".join("?" * len(COLUMNS))
        with self._changing() as database:
            cursor = database.execute(
                f"INSERT INTO call ({', '.join(COLUMNS)}) VALUES ({marks})", astuple(cut)[: len(COLUMNS)]
            )
            database.execute("DELETE FROM call WHERE id <= ? - ?", (cursor.lastrowid, self._most))
        return replace(cut, id=cursor.lastrowid or 0)

    def calls(
        self, limit: int = 100, *, account: str | None = None, result: CallResult | None = None,
        before: int | None = None, since: float | None = None, search: str | None = None,
    ) -> list[CallRecord]:  # fmt: skip
        """The latest ones first. ``before`` is an id, for the next page; ``since`` seconds since 1970.

        ``search`` is a part of the address, the name or the note.
        """
        conditions: list[tuple[str, object]] = [
            ("account = ?", account), ("result = ?", result), ("id < ?", before), ("began >= ?", since),
            ("instr(lower(remote || char(10) || name || char(10) || note), lower(?))", search),
        ]  # fmt: skip
        return [_record(row) for row in self._latest("call", (*COLUMNS, "id"), conditions, limit)]

    def note(self, account: str, call_id: str, text: str) -> bool:
        """Write something down about a call that has ended; False: it is not there. Raises HistoryError."""
        with self._changing() as database:
            changed = database.execute(
                "UPDATE call SET note = ? WHERE id = (SELECT max(id) FROM call WHERE account = ? AND call_id = ?)",
                (_shown(text, LONGEST_TEXT), account, _shown(call_id)),
            )
            return changed.rowcount > 0

    def remove(self, number: int) -> bool:
        """Forget one call; False: it is not there. Raises HistoryError."""
        with self._changing() as database:
            return database.execute("DELETE FROM call WHERE id = ?", (number,)).rowcount > 0

    def add_message(self, message: MessageRecord) -> MessageRecord:
        """Store a text; returns it with its id. Raises HistoryError."""
        cut = replace(message, peer=_shown(message.peer), text=_shown(message.text, LONGEST_TEXT))
        with self._changing() as database:
            cursor = database.execute(
                "INSERT INTO message (account, peer, incoming, text, time) VALUES (?, ?, ?, ?, ?)", astuple(cut)[:5]
            )
            database.execute("DELETE FROM message WHERE id <= ? - ?", (cursor.lastrowid, self._most))
        return replace(cut, id=cursor.lastrowid or 0)

    def messages(self, limit: int = 100, *, account: str | None = None, peer: str | None = None) -> list[MessageRecord]:
        """The latest so many, the oldest of them first."""
        conditions: list[tuple[str, object]] = [("account = ?", account), ("peer = ?", peer)]
        rows = self._latest("message", ("account", "peer", "incoming", "text", "time", "id"), conditions, limit)
        return [
            MessageRecord(str(row[0]), str(row[1]), bool(row[2]), str(row[3]), float(str(row[4])), int(str(row[5])))
            for row in reversed(rows)
        ]

    def _latest(
        self, table: str, columns: tuple[str, ...], conditions: list[tuple[str, object]], limit: int
    ) -> list[tuple[object, ...]]:
        wanted = [(text, value) for text, value in conditions if value is not None]
        where = f"WHERE {' AND '.join(text for text, _ in wanted)}" if wanted else ""
        try:
            return self._database.execute(
                f"SELECT {', '.join(columns)} FROM {table} {where} ORDER BY id DESC LIMIT ?",
                (*(value for _, value in wanted), limit),
            ).fetchall()
        except sqlite3.Error as exc:
            raise HistoryError(f"{self.path}: {exc}") from exc

    def clear(self) -> int:
        """Forget all, messages too; returns how many calls there were. Raises HistoryError."""
        with self._changing() as database:
            database.execute("DELETE FROM message")
            return database.execute("DELETE FROM call").rowcount

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._database:
                yield self._database
        except sqlite3.Error as exc:
            raise HistoryError(f"{self.path}: {exc}") from exc

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("PRAGMA secure_delete = ON")  # what is forgotten is not to be read in the file
            if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("damaged")
            self._migrate(database)
        except BaseException:
            database.close()
            raise
        return database

    def _migrate(self, database: sqlite3.Connection) -> None:
        version: int = database.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise HistoryError(
                f"{self.path}: was made by a newer version of the phone: update it, or move the file away"
            )
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            # one transaction each: another process may do the same at this moment
            try:
                database.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
            except sqlite3.OperationalError:
                database.rollback()
                if database.execute("PRAGMA user_version").fetchone()[0] < number:
                    raise

    def _move_aside(self) -> Path:
        away = self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
        try:
            self.path.rename(away)
            for end in BESIDE:
                with suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + end).rename(away.with_name(away.name + end))
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as exc:
            raise HistoryError(f"{self.path}: is damaged and cannot be moved aside: {exc.strerror}") from exc
        return away


def _record(row: tuple[object, ...]) -> CallRecord:
    values = dict(zip((*COLUMNS, "id"), row, strict=True))
    try:
        result = CallResult(str(values["result"]))
    except ValueError:
        result = CallResult.FAILED
    return CallRecord(**{**values, "result": result, "incoming": bool(values["incoming"])})  # type: ignore[arg-type]


def _shown(text: str, longest: int = LONGEST) -> str:
    """What the other side wrote, as it may be stored: bounded, and UTF-8."""
    return text[:longest].encode("utf-8", "replace").decode()
