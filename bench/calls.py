"""Part of section ``phone``: how many calls one phone carries, ours beside the wheel of pjsua2 in the same run.

``calls_per_second``: sipp, on the other processor, sets up and tears down calls (INVITE, 200, ACK, BYE) with one
process of the phone over UDP on loopback, for a second at each rate of a rising series. A window is good when every
call was complete, without errors and in time. Each has a process of its own, for both phones remember about 1,000
transactions, each for 32 s (RFC 3261), and take no more: for longer than a burst neither gets beyond 16 calls a second.
pjsua2 is spared what it refuses, more than 4 calls at a time: sipp waits. ``processor_us``: time of the phone's
processor for one such call, the median of the good windows.

``concurrent_calls``: N calls (SRTP, keys by SDES, speech both ways) between processes on one processor and processes on
the other, N rising, so that each processor carries N ends. A window is good when less than `LOSS` of the packets were
lost or came too late for the jitter buffer, and no sender fell behind the 50 packets a second of each call.
Ours is one process on each processor, pjsua2 as many as it needs. ``processor_percent``: of one processor for
one end of one call, the median of the good windows.

At each height two windows out of up to three decide. ``load_before`` is what else the machine was doing (processes that
wanted to run, mean of the last minute).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.loaded import HOST
from bench.statistics import measured
from softphone.media.files import WavRecorder, read_sound

WINDOW = 1.5
"Seconds."
LOSS = 0.001
PACKETS = 50
"A second, of each call."
BEHIND = 3
"Packets of a call that a window may miss at its edges."
IN_TIME = 0.5
"Seconds that sipp may take longer, its own start included."
SETTLING = 0.7
"Seconds after new calls, until their jitter buffers have found their delay."
MOST_CALLS = 150
"That are tried at the same time: pjsua2 has more than 70 processes for them."
WARMING_UP = 20
"Calls a second, before the rates are tried."
CALLS_OF_PJSUA = 4
"At a time in one process: what the wheel was compiled for."
OURS, THEIRS = "bench.loaded_phone", "bench.loaded_pjsua"
SCENARIO = Path(__file__).with_name("sipp_calls.xml")
PROCESSORS = sorted(os.sched_getaffinity(0))
HERE, THERE = PROCESSORS[-1], PROCESSORS[0]
"Where the measured phone runs, and its other side."


class LoadedProcess:
    """A phone that is to be loaded, in a process of its own."""

    def __init__(self, module: str, orders: dict[str, object]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(orders)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
        )  # fmt: skip
        try:
            self.port = self._read(15)["port"]
        except RuntimeError:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def order(self, **order: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()

    def _read(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = b"?"
        while line and not line.startswith(b"{"):  # pjsua2 begins with a log
            ready, _, _ = select.select([self._process.stdout], [], [], seconds)
            line = self._process.stdout.readline() if ready else b""
        if not line:
            raise RuntimeError("a phone under load fell silent")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def answer(self) -> dict[str, Any]:
        """To an order. Raises RuntimeError."""
        return self._read(30)

    def count(self) -> dict[str, Any]:
        self.order()
        return self.answer()

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


def rising(begin: int, good: Callable[[int], bool], limit: int, growth: float) -> int:
    """The greatest height of the series that is good; 0: not even the first. ``good`` tries one height once."""
    reached, height = 0, begin
    while height <= limit:
        if not two_of_three(good, height):
            break
        reached, height = height, max(height + 1, round(height * growth))
    return reached


def two_of_three(good: Callable[[int], bool], height: int) -> bool:
    first, second = good(height), good(height)
    return first if first == second else good(height)


# -- set up and torn down


def calls_per_second(module: str, *, media: bool, begin: int, limit: int = 480) -> dict[str, Any]:
    """The greatest rate of one process, and what a call costs it."""
    costs: list[float] = []
    at_once = CALLS_OF_PJSUA if module == THEIRS else limit
    with tempfile.TemporaryDirectory() as folder:

        def good(rate: int) -> bool:
            with LoadedProcess(module, _orders(HERE, "PCMA", "off", None, media=media)) as phone:
                _sipp(phone.port, WARMING_UP, WARMING_UP // 4, Path(folder), at_once)
                before = phone.count()["processor"]
                complete = _sipp(phone.port, rate, rate, Path(folder), at_once)
                if complete:
                    costs.append((phone.count()["processor"] - before) / rate * 1e6)
                return complete

        reached = rising(begin, good, limit, 1.4)
    return {"calls_per_second": reached, **(measured("processor_us", costs, 1) if costs else {})}


def _sipp(port: int, rate: int, calls: int, folder: Path, at_once: int) -> bool:
    """Whether all calls were made, at this rate."""
    began = time.monotonic()
    command = [
        "taskset", "-c", str(THERE), "sipp", "-sf", str(SCENARIO), "-i", HOST, "-mi", HOST, "-t", "u1", "-nostdin",
        "-r", str(rate), "-m", str(calls), "-l", str(at_once), "-timeout", "4s", "-timeout_error", f"{HOST}:{port}",
    ]  # fmt: skip
    status = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, timeout=15
    ).returncode
    return status == 0 and time.monotonic() - began < calls / rate + IN_TIME


# -- at the same time


def concurrent_calls(module: str, codec: str, sound: Path, *, begin: int, limit: int = MOST_CALLS) -> dict[str, Any]:
    """The greatest number of calls with their ends on one processor, and what an end costs."""
    costs: list[float] = []
    with contextlib.ExitStack() as stack:
        pairs: list[tuple[LoadedProcess, LoadedProcess]] = []
        made = 0

        def pair() -> tuple[LoadedProcess, LoadedProcess]:
            caller, callee = (
                stack.enter_context(LoadedProcess(module, _orders(processor, codec, "mandatory", sound)))
                for processor in (THERE, HERE)
            )
            return caller, callee

        def fill(calls: int) -> bool:
            nonlocal made
            while made < calls:
                share = min(calls - made, CALLS_OF_PJSUA) if module == THEIRS else calls - made
                if module == THEIRS or not pairs:
                    pairs.append(pair())
                caller, callee = pairs[-1]
                known = 0 if module == THEIRS else made
                caller.order(dial=f"sip:phone@{HOST}:{callee.port}", calls=share)
                if caller.answer()["calls"] != known + share:
                    return False
                made += share
            return True

        def good(calls: int) -> bool:
            if made < calls:
                if not fill(calls):
                    return False
                time.sleep(SETTLING)
            before = _all(pairs)
            time.sleep(WINDOW)
            after = _all(pairs)
            ends = [Window.between(*both) for both in zip(before, after, strict=True)]
            fine = all_well(ends)
            if fine:
                costs.extend(end.processor / end.seconds / end.calls * 100 for end in ends)
            return fine

        reached = rising(begin, good, limit, 1.25)
    return {"concurrent_calls": reached, **(measured("processor_percent", costs, 2) if costs else {})}


@dataclass(frozen=True, slots=True)
class Window:
    """What one process did in a window."""

    calls: int
    seconds: float
    sent: int
    received: int
    missing: int
    processor: float
    "Seconds."

    @classmethod
    def between(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> Self:
        changes = {name: after[name] - before[name] for name in ("sent", "received", "missing", "processor")}
        return cls(after["calls"], after["at"] - before["at"], **changes)


def all_well(ends: Sequence[Window]) -> bool:
    """Too little is missing to be heard, and nobody fell behind."""
    missing = sum(end.missing for end in ends)
    packets = missing + sum(end.received for end in ends)
    return missing < LOSS * packets and all(end.sent > end.calls * (end.seconds * PACKETS - BEHIND) for end in ends)


def _all(pairs: Sequence[tuple[LoadedProcess, LoadedProcess]]) -> list[dict[str, Any]]:
    """Of all processes, asked at once."""
    processes = list(itertools.chain.from_iterable(pairs))
    for process in processes:
        process.order()
    return [process.answer() for process in processes]


_ports = itertools.count(20_000, 64)
"Of pjsua2's media: each process begins at others."


def _orders(processor: int, codec: str, srtp: str, sound: Path | None, *, media: bool = True) -> dict[str, object]:
    return {
        "processor": processor, "codec": codec, "srtp": srtp, "media": media, "play": str(sound or ""),
        "ports": next(_ports),
    }  # fmt: skip


# -- both, side by side


def side_by_side(speech: Path, folder: Path) -> dict[str, object]:
    """``speech``: what is said in all calls. Raises RuntimeError."""
    narrow = folder / "narrow.wav"  # pjsua2 shall not have to convert it
    with WavRecorder(narrow, 8000) as file:
        file.write(read_sound(speech, 8000)[0])
    load = os.getloadavg()[0]
    signalling = calls_per_second(OURS, media=False, begin=100)
    ours = calls_per_second(OURS, media=True, begin=100)
    theirs = calls_per_second(THEIRS, media=True, begin=30)
    opus = concurrent_calls(OURS, "opus", speech, begin=12)
    pcma, their_pcma = (concurrent_calls(module, "PCMA", narrow, begin=48) for module in (OURS, THEIRS))
    return {
        "set_up_and_torn_down": {"signalling only": signalling, "with media": ours, "pjsua2, with media": theirs},
        "at_the_same_time": {"opus": opus, "PCMA": pcma, "pjsua2, PCMA": their_pcma},
        "to_pjsua2": {
            "calls_per_second": ratio(ours, theirs, "calls_per_second"),
            "concurrent_calls": ratio(pcma, their_pcma, "concurrent_calls"),
        },
        "load_before": round(load, 1),
    }


def ratio(one: Mapping[str, float], other: Mapping[str, float], name: str) -> float | None:
    """None: the other reached nothing."""
    return round(one[name] / other[name], 2) if other[name] else None
