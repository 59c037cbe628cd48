"""Shares on the machines of a Dask cluster (extra ``cluster``). The only module that imports `distributed`.

Each worker of the cluster that takes part needs roamphone, and gets one share with the accounts' passwords and the
sounds in it: a cluster is as trusted as a machine of one's own, and `tls://` addresses keep others from listening.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Self

from softphone.errors import ConfigError, SoftphoneError
from softphone.load.records import CallRecord, Progress
from softphone.load.share import REGISTERED_IN_TIME, Share
from softphone.load.worker import LoadError, Worker, as_line, of_line

try:
    import distributed
except ImportError:
    raise ConfigError("--cluster needs Dask: pip install 'roamphone[cluster]'") from None

POLL = 0.5
"Seconds."
CONNECTS_WITHIN = 10.0
LATE_NEWS = 10.0
"Seconds that what a worker has told may need to arrive after its end."


async def _connected(address: str) -> Any:
    """Raises SoftphoneError."""
    try:
        return await distributed.Client(address, asynchronous=True, set_as_default=False, timeout=CONNECTS_WITHIN)
    except (OSError, TimeoutError, ValueError) as exc:
        raise SoftphoneError(f"no Dask scheduler at {address}: {exc or 'it does not answer'}") from None


async def _workers(client: Any) -> list[str]:
    """Addresses. A cluster that has just been started may have none yet."""
    with suppress(TimeoutError):
        await client.wait_for_workers(1, timeout=CONNECTS_WITHIN)
    return list((await client.scheduler.identity(n_workers=-1))["workers"])


async def workers_of(address: str) -> int:
    """How many workers a cluster has. Raises SoftphoneError."""
    client = await _connected(address)
    try:
        count = len(await _workers(client))
    finally:
        await client.close()
    if not count:
        raise SoftphoneError(f"the cluster at {address} has no workers: start some with `dask worker {address}`")
    return count


class Cluster:
    """The driver's end, as an asynchronous context manager. See `softphone.load.run.Crew`."""

    def __init__(self, address: str, work: list[Share]) -> None:
        self._address, self._work = address, work
        self._name = f"roamphone-load-{secrets.token_hex(8)}"
        self._client: Any = None
        self._futures: list[Any] = []
        self._news: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._ready = asyncio.Semaphore(0)
        self._heard = [0] * len(work)

    async def __aenter__(self) -> Self:
        self._client = client = await _connected(self._address)
        try:
            self._go = distributed.Event(f"{self._name}-go", client=client)
            self._stop = distributed.Event(f"{self._name}-stop", client=client)
            self._finish = distributed.Event(f"{self._name}-finish", client=client)
            workers = await _workers(client)
            if len(workers) < len(self._work):
                raise SoftphoneError(f"the cluster has {len(workers)} workers, not {len(self._work)}: --processes")
            client.subscribe_topic(self._name, self._on_news)
            self._futures = [
                client.submit(
                    carry_out, share, self._name, number, workers=[workers[number]], pure=False, retries=0
                )
                for number, share in enumerate(self._work)
            ]  # fmt: skip
            await self._all_ready()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._futures:
            with suppress(Exception):  # the scheduler may be gone
                await self._stop.set()
                await self._finish.set()
                await asyncio.wait([asyncio.ensure_future(one.result()) for one in self._futures], timeout=LATE_NEWS)
        await self._client.close()

    async def _all_ready(self) -> None:
        """Raises SoftphoneError."""
        ready = asyncio.ensure_future(self._count_ready())
        ends = [asyncio.ensure_future(future.result()) for future in self._futures]
        try:
            done, _ = await asyncio.wait(
                (ready, *ends), timeout=REGISTERED_IN_TIME + CONNECTS_WITHIN, return_when=asyncio.FIRST_COMPLETED
            )
            for end in done - {ready}:
                raise LoadError(f"a worker cannot begin: {end.exception() or 'it has ended'}")
            if not done:
                raise LoadError("the workers of the cluster do not begin: are they busy?")
        finally:
            for task in (ready, *ends):
                task.cancel()
            await asyncio.gather(ready, *ends, return_exceptions=True)

    async def _count_ready(self) -> None:
        for _ in self._work:
            await self._ready.acquire()

    async def go(self) -> None:
        await self._go.set()

    async def stop(self) -> None:
        await self._stop.set()

    async def finish(self) -> None:
        await self._finish.set()

    async def told(self) -> AsyncIterator[tuple[int, CallRecord | Progress | SoftphoneError]]:
        ending = asyncio.create_task(self._wait_for_ends())
        try:
            while (news := await self._news.get()) is not None:
                number = news["number"]
                if "failed" in news:
                    yield number, LoadError(news["failed"])
                elif (told := of_line(json.loads(news["told"]))) is not None:
                    yield number, told
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    def _on_news(self, event: tuple[float, dict[str, Any]]) -> None:
        _, news = event
        if "ready" in news:
            self._ready.release()
            return
        self._heard[news["number"]] += 1
        self._news.put_nowait(news)

    async def _wait_for_ends(self) -> None:
        """Until all workers are done, and what they told has arrived."""
        await asyncio.gather(*(self._wait_for(number, future) for number, future in enumerate(self._futures)))
        self._news.put_nowait(None)

    async def _wait_for(self, number: int, future: Any) -> None:
        try:
            told = await future.result()
        except Exception as exc:  # whatever went wrong on the other machine
            self._news.put_nowait({"number": number, "failed": f"a worker of the cluster: {exc}"})
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LATE_NEWS):
                while self._heard[number] < told:  # noqa: ASYNC110  the news come by callback
                    await asyncio.sleep(0.05)


def carry_out(share: Share, name: str, number: int) -> int:
    """On the machine of a worker: one share, in a process of its own, because sound has a deadline every 20 ms and the
    worker has other things to do. Returns how often it has told something.
    """
    machine = distributed.get_worker()
    go, stop, finish = (distributed.Event(f"{name}-{what}") for what in ("go", "stop", "finish"))
    count = 0

    async def listen(worker: Worker) -> None:
        stopped = False
        while not await asyncio.to_thread(finish.wait, POLL):
            if not stopped and await asyncio.to_thread(stop.is_set):
                stopped = True
                await worker.stop()
        await worker.finish()

    async def work() -> None:
        nonlocal count
        async with Worker(share) as worker:
            await worker.ready()
            machine.log_event(name, {"number": number, "ready": True})
            while not await asyncio.to_thread(go.wait, POLL):
                if await asyncio.to_thread(stop.is_set):
                    return
            await worker.go()
            listening = asyncio.create_task(listen(worker))
            try:
                async for told in worker.told():
                    count += 1
                    machine.log_event(name, {"number": number, "told": json.dumps(as_line(told))})
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    asyncio.run(work())
    return count
