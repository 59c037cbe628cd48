"""The file in which bindings outlive a home agent.

Records are written in the loop of the data plane, not in a thread: a write into the log (WAL, synchronous=OFF) is a
copy into the page cache, 22 µs here (99.9 %: 0.4 ms), which is less than a packet costs, while a thread would fight
for the interpreter with a data plane that the kernel schedules before it. What the process wrote outlives it in any
case; after a power failure the file may be damaged, and then it is moved aside and terminals register again.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterable
from ipaddress import IPv6Address
from pathlib import Path

from mobility.mipv6.binding_records import BindingRecord
from mobility.store.records import read_record, record_text

log = logging.getLogger(__name__)

APPLICATION = 0x524F414D
"``ROAM``: tells our file from another program's (PRAGMA application_id)."
VERSION = 1
"Of the table (PRAGMA user_version)."
_TABLE = "CREATE TABLE binding (home_address TEXT PRIMARY KEY, record TEXT NOT NULL, expires REAL NOT NULL) STRICT"
_PUT = "INSERT OR REPLACE INTO binding VALUES (?, ?, ?)"
_SUFFIXES = ("", "-wal", "-shm")


class BindingFile:
    """Keeps one record for each home address. Nothing of it ever raises: without the file, calls go on as well."""

    def __init__(self, path: Path) -> None:
        self.failures = 0
        "Writes that did not succeed."
        self._path = path
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        """A file that cannot be used is moved aside, with a warning."""
        for attempt in range(2):
            try:
                self._database = self._opened()
                return
            except (sqlite3.DatabaseError, _WrongFile) as error:
                if isinstance(error, sqlite3.OperationalError) or attempt:  # not the content: permissions, disk full
                    log.warning("%s: %s; bindings are not kept over a restart", self._path, error)
                    return
                self._move_aside(error)

    def load(self, now: float) -> list[BindingRecord]:
        """The records whose time is not over; ``now``: seconds since 1970."""
        if self._database is None:
            return []
        records: list[BindingRecord] = []
        try:
            self._database.execute("DELETE FROM binding WHERE expires <= ?", (now,))
            rows = self._database.execute("SELECT home_address, record FROM binding").fetchall()
        except sqlite3.Error as error:
            log.warning("%s: cannot be read: %s; terminals will register again", self._path, error)
            return []
        for home_address, text in rows:
            try:
                records.append(read_record(text))
            except ValueError as error:
                log.warning("%s: the row of %s is left out: %s", self._path, home_address, error)
        return records

    def write(self, changes: Iterable[tuple[IPv6Address, BindingRecord | None]]) -> bool:
        """Puts records, or deletes where there is None, all at once. False: not now, try again with later changes."""
        if self._database is None:
            return True
        try:
            with contextlib.closing(self._database.cursor()) as cursor:
                cursor.execute("BEGIN")
                for home_address, record in changes:
                    if record is None:
                        cursor.execute("DELETE FROM binding WHERE home_address = ?", (str(home_address),))
                    else:
                        cursor.execute(_PUT, (str(home_address), record_text(record), record.expires))
                cursor.execute("COMMIT")
            return True
        except sqlite3.Error as error:
            self.failures += 1
            if self.failures & (self.failures - 1) == 0:  # the first, and then at each doubling of their number
                log.warning("%s: cannot be written (%d times now): %s", self._path, self.failures, error)
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            return False

    def close(self) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def _opened(self) -> sqlite3.Connection:
        with contextlib.suppress(OSError):  # the next line tells what is wrong
            self._path.touch(mode=0o600, exist_ok=True)  # SQLite's own choice of mode is 0644
        database = sqlite3.connect(self._path, isolation_level=None, timeout=0.0)
        try:
            (application,), (version,) = (
                database.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
            )
            tables = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if tables and (application, version) != (APPLICATION, VERSION):
                raise _WrongFile(f"is no file of bindings of version {VERSION}")
            if database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise _WrongFile("is damaged")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = OFF")
            if not tables:
                database.execute(f"PRAGMA application_id = {APPLICATION}")
                database.execute(f"PRAGMA user_version = {VERSION}")
                database.execute(_TABLE)
        except BaseException:
            database.close()
            raise
        return database

    def _move_aside(self, why: Exception) -> None:
        number = 1
        while (aside := self._path.with_name(f"{self._path.name}.unusable-{number}")).exists():
            number += 1
        log.warning("%s: %s; it is moved to %s and terminals will register again", self._path, why, aside)
        for suffix in _SUFFIXES:
            with contextlib.suppress(OSError):
                self._path.with_name(self._path.name + suffix).rename(aside.with_name(aside.name + suffix))


class _WrongFile(Exception):
    pass
