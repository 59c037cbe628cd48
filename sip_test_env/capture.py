"""Captures made by a foreign program: dumpcap listens where the terminal's cable is plugged in."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class Capture:
    """dumpcap on one interface of a network namespace, as a context manager; writes pcapng.

    The terminal's end of its cable stays the same interface wherever it is plugged in, so that one capture
    shows all visited links.
    """

    def __init__(self, namespace: str, interface: str, path: Path) -> None:
        self.namespace = namespace
        self.interface = interface
        self.path = path
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Raises RuntimeError if dumpcap does not begin to capture within five seconds."""
        self.path.unlink(missing_ok=True)
        # dumpcap gives up root while it opens its file; it writes to standard output so that any folder will do.
        with self.path.open("wb") as out:
            self._process = subprocess.Popen(
                [
                    *("ip", "netns", "exec", self.namespace),
                    *("dumpcap", "-q", "-i", self.interface, "-s", "0", "-B", "8", "-w", "-"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
            )
        deadline = time.monotonic() + 5
        while self.path.stat().st_size == 0:  # the section header is written once the interface is open
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                said = self._process.stderr.read() if self._process.stderr else ""
                raise RuntimeError(f"dumpcap does not capture on {self.interface} in {self.namespace}: {said.strip()}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._process = None


def dissect(
    path: Path,
    esp_sa: Path | None,
    fields: list[str],
    display_filter: str = "",
    *,
    tls_keys: Path | None = None,
    options: Sequence[str] = (),
) -> list[list[str]]:
    """What tshark, given only the capture and tables of keys, reads in it: one row of ``fields`` a packet.

    Several values of one field (nested headers) are joined by commas, outermost first. ``options``:
    further ones of tshark's.

    Raises:
        RuntimeError: tshark failed; the text says why.
    """
    with tempfile.TemporaryDirectory() as home:
        command = [
            "tshark",
            "-n",
            "-r",
            str(path),
            "-T",
            "fields",
            "-E",
            "separator=\t",
            "-E",
            "occurrence=a",
        ]
        if esp_sa is not None:
            # The table is a UAT file of the profile; -o uat:esp_sa: takes one row an option.
            command += [
                "-o",
                "esp.enable_encryption_decode:TRUE",
                "-o",
                "esp.enable_authentication_check:TRUE",
            ]
            for line in esp_sa.read_text().splitlines():
                if line.strip() and not line.startswith("#"):
                    command += ["-o", f"uat:esp_sa:{line}"]
        if tls_keys is not None:
            command += ["-o", f"tls.keylog_file:{tls_keys}"]
        command += options
        if display_filter:
            command += ["-Y", display_filter]
        for field in fields:
            command += ["-e", field]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={"HOME": home, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )
    if done.returncode != 0:
        raise RuntimeError(f"tshark failed on {path}: {done.stderr.strip()}")
    return [line.split("\t") for line in done.stdout.splitlines()]
