"""Runs phones as processes of their own (`sip_test_env.phone_agent`) and steers them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sip_test_env.errors import EnvironmentFailure
from sip_test_env.users import OrdinaryUser

LONGEST_LINE = 1 << 26


class PhoneProcess:
    """One phone, as an asynchronous context manager. ``name`` is for messages; what it logs goes to ``log``."""

    def __init__(
        self,
        name: str,
        log: Path,
        *,
        user: OrdinaryUser | None = None,
        namespace: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``user``: whose phone it is, in the network namespace of that name; None: root's, where the caller is.

        ``environment``: further variables.
        """
        self._environment = dict(environment or {})
        self.name = name
        self._user = user
        self._namespace = namespace
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", "sip_test_env.phone_agent"]
        environment = {**os.environ}
        if self._user is not None:
            command, environment = self._user.command(self._namespace, command), self._user.environment()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                env=environment | self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=LONGEST_LINE,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()  # the end of its input ends the phone: politely, with BYE and un-REGISTER
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EnvironmentFailure(f"the {self.name} is not running")
        return self._process.pid

    async def do(self, what: str, *, timeout: float = 15.0, **arguments: object) -> dict[str, Any]:
        """Has the phone do one thing and returns its answer. Raises `EnvironmentFailure` with the phone's own words."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise EnvironmentFailure(f"the {self.name} is not running")
        process.stdin.write(json.dumps({"do": what, **arguments}).encode() + b"\n")
        try:
            await process.stdin.drain()
            line = await asyncio.wait_for(process.stdout.readline(), timeout)
        except TimeoutError:
            raise EnvironmentFailure(f"the {self.name} did not {what} within {timeout:g} s; see {self._log}") from None
        except ConnectionError:
            line = b""
        if not line:
            raise EnvironmentFailure(f"the {self.name} died when it was to {what}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise EnvironmentFailure(f"the {self.name} could not {what}: {answer['why']}")
        return answer

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-1500:] or f"see {self._log}"
