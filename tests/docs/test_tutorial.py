"""The tutorial, carried out: its files are written, its commands run, and what they say is what stands there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.docs.blocks import DOCS, Block, blocks

pytestmark = [pytest.mark.root, pytest.mark.interop]


class Reader:
    """Somebody who does what the tutorial says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "-p no:cacheprovider",
        }  # fmt: skip
        self.background: list[subprocess.Popen[bytes]] = []
        self.said = ""
        "By the latest commands."

    def follow(self, block: Block) -> None:
        if block.file is not None:
            path = self.folder / block.file
            path.write_text(block.text)
        elif block.language == "sh":
            self.said = "".join(self.run(line) for line in block.text.splitlines())
        elif block.language == "text":
            said = self.said.splitlines()
            for line in block.text.splitlines():
                assert any(fnmatch(one, line) for one in said), f"line {block.line}: {line!r} is not in\n{self.said}"

    def run(self, command: str) -> str:
        """What it says; of one in the background, when it says something for the first time."""
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self.environment[name] = value
            return ""
        if not command.endswith("&"):
            done = subprocess.run(
                ["bash", "-euc", command], cwd=self.folder, env=self.environment, capture_output=True, text=True,
                timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
            return done.stdout
        log = self.folder / f"background-{len(self.background)}.log"
        with log.open("wb") as out:
            self.background.append(subprocess.Popen(
                ["bash", "-euc", f"exec {command.removesuffix('&')}"], cwd=self.folder, env=self.environment,
                stdout=out, stderr=out, start_new_session=True,
            ))  # fmt: skip
        deadline = time.monotonic() + 20
        while not log.stat().st_size:
            assert time.monotonic() < deadline, f"{command} says nothing"
            time.sleep(0.05)
        return log.read_text()

    def leave(self) -> None:
        for program in reversed(self.background):
            with suppress(ProcessLookupError):
                program.send_signal(signal.SIGINT)
            try:
                program.wait(15)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()


@contextmanager
def reader(folder: Path) -> Iterator[Reader]:
    person = Reader(folder)
    try:
        yield person
    finally:
        person.leave()


def test_the_tutorial(tmp_path: Path) -> None:
    with reader(tmp_path) as person:
        for block in blocks(DOCS / "tutorial.md"):
            person.follow(block)
        written = {path.name for path in tmp_path.iterdir()}
    assert {"visit.wav", "rush.html", "test_moving.py"} <= written
    assert not (tmp_path / "sip-traces").exists()
