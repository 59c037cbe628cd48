"""A whole run: shares go to processes of this machine or to a cluster, what they tell comes together in a report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Protocol

from softphone.errors import SoftphoneError
from softphone.load.pacing import Offer
from softphone.load.records import CallRecord, Outcome, Progress
from softphone.load.report import Report, percentile
from softphone.load.scenario import Scenario
from softphone.load.share import Share, shares
from softphone.load.worker import Worker

SHOW_EVERY = 1.0
"Seconds."


class Crew(Protocol):
    """Who carries out shares; an asynchronous context manager."""

    async def go(self) -> None:
        """All phones are registered: begin. Raises SoftphoneError."""

    async def stop(self) -> None:
        """End politely."""

    async def finish(self) -> None:
        """The calls of all shares are over."""

    def told(self) -> AsyncIterator[tuple[int, CallRecord | Progress | SoftphoneError]]:
        """What the shares tell, each with its number, until all are done."""


class Processes:
    """Those of this machine."""

    def __init__(self, work: list[Share]) -> None:
        self._work = work
        self._stack = AsyncExitStack()
        self._workers: list[Worker] = []

    async def __aenter__(self) -> Processes:
        async with AsyncExitStack() as stack:
            for share in self._work:
                self._workers.append(await stack.enter_async_context(Worker(share)))
            await asyncio.gather(*(worker.ready() for worker in self._workers))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def go(self) -> None:
        await asyncio.gather(*(worker.go() for worker in self._workers))

    async def stop(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    async def finish(self) -> None:
        await asyncio.gather(*(worker.finish() for worker in self._workers))

    async def told(self) -> AsyncIterator[tuple[int, CallRecord | Progress | SoftphoneError]]:
        news: asyncio.Queue[tuple[int, CallRecord | Progress | SoftphoneError] | None] = asyncio.Queue()

        async def listen(number: int, worker: Worker) -> None:
            try:
                async for told in worker.told():
                    news.put_nowait((number, told))
            except SoftphoneError as exc:
                news.put_nowait((number, exc))

        async def listen_to_all() -> None:
            await asyncio.gather(*(listen(number, worker) for number, worker in enumerate(self._workers)))
            news.put_nowait(None)

        listening = asyncio.create_task(listen_to_all())
        try:
            while (told := await news.get()) is not None:
                yield told
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


class Run:
    """``show`` is called about once a second with a line about how far it is."""

    def __init__(
        self, scenario: Scenario, offer: Offer, processes: int, show: Callable[[str], None], cluster: str | None = None
    ) -> None:
        """``cluster``: address of a Dask scheduler; ``processes`` are then its workers that take part."""
        self._offer, self._processes, self._cluster = offer, processes, cluster
        self._scenario = scenario
        self._show = show
        self._stopping = asyncio.Event()
        self._progress: dict[int, Progress] = {}
        self.report = Report(scenario.name, offer, processes, scenario.expected)

    def stop(self) -> None:
        """End politely: no further calls, those under way are hung up."""
        self.report.interrupted = True
        self._stopping.set()

    async def run(self) -> Report:
        """From registration to the last call. Raises SoftphoneError when it cannot begin."""
        work = await asyncio.to_thread(shares, self._scenario, self._offer, self._processes)
        self.report.processes = len(work)
        async with AsyncExitStack() as stack:
            crew: Crew
            if self._cluster is None:
                crew = await stack.enter_async_context(Processes(work))
            else:
                from softphone.load.cluster import Cluster

                crew = await stack.enter_async_context(Cluster(self._cluster, work))
            self.report.began = datetime.now().astimezone().isoformat(timespec="seconds")
            began = time.monotonic()
            await crew.go()
            busy, finishing = set(range(len(work))), False
            aside = [asyncio.create_task(self._pass_on_stop(crew)), asyncio.create_task(self._tell(began))]
            try:
                async for number, told in crew.told():
                    match told:
                        case CallRecord():
                            self.report.add(told)
                        case Progress():
                            self._progress[number] = told
                            busy -= {number} if told.idle else set()
                        case error:
                            self.report.troubles.append(str(error))
                            busy -= {number}
                    if not busy and not finishing:
                        finishing = True
                        await crew.finish()
            finally:
                for task in aside:
                    task.cancel()
                await asyncio.gather(*aside, return_exceptions=True)
            self.report.seconds = time.monotonic() - began
            self.report.held_back = sum(progress.held_back for progress in self._progress.values())
        return self.report

    async def _pass_on_stop(self, crew: Crew) -> None:
        await self._stopping.wait()
        await crew.stop()

    async def _tell(self, began: float) -> None:
        while True:
            await asyncio.sleep(SHOW_EVERY)
            self._show(self._line(time.monotonic() - began))

    def _line(self, seconds: float) -> str:
        report, progress = self.report, self._progress.values()
        ratio, delay = report.answer_seizure_ratio, percentile(report.post_dial_delays, 0.95)
        parts = [
            f"{seconds:5.0f} s", f"{sum(one.begun for one in progress)} calls",
            f"{sum(one.at_once for one in progress)} now",
            f"{report.outcomes[Outcome.ANSWERED]} answered" + ("" if ratio is None else f" ({ratio:.1%})"),
        ]  # fmt: skip
        if delay is not None:
            parts.append(f"post-dial delay p95 {1000 * delay:.0f} ms")
        parts += [f"{count} x {failure}" for failure, count in report.failures.most_common(2)]
        return ", ".join(parts)
