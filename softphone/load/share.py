"""One process' share of a run: its phones, and the calls that they make and answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from softphone.accounts.accounts import AccountEntry, Engine, Network
from softphone.calls.call import Call
from softphone.calls.incoming import IncomingCall
from softphone.config import Account
from softphone.errors import CallError, CallRejected, ConfigError, SoftphoneError
from softphone.events import CallProgress, EndedBy
from softphone.load.pacing import Offer, Pace
from softphone.load.records import CallRecord, Outcome, Progress, Role
from softphone.load.scenario import SOUND_RATE, Behaviour, Scenario
from softphone.media.audio import Resampler
from softphone.media.codecs import Samples, codec_named
from softphone.media.files import LoopedSource
from softphone.media.settings import MediaStatistics
from softphone.network.sockets import DirectSockets, HomeSockets, Sockets
from softphone.paths import default_home_socket
from softphone.phone import Softphone
from softphone.sip.errors import SipParseError

MOST_CALLS = 100_000
"At a time, of one phone: what bounds them is the offer."
TELL_EVERY = 0.5
"Seconds between two signs of progress."
DIGITS_IN_TIME = 10.0
"Seconds that an answerer waits for digits."
REGISTERED_IN_TIME = 30.0
GOODBYES = 5.0
"Seconds within which calls that are under way at the end have to be over."

Tell = Callable[[CallRecord | Progress], None]


@dataclass(frozen=True, slots=True)
class Party:
    """An account with its password, and the network that it uses."""

    account: Account
    home_socket: Path | None = None

    def sockets(self) -> Sockets:
        return DirectSockets() if self.home_socket is None else HomeSockets(self.home_socket)


@dataclass(frozen=True, slots=True)
class Share:
    """What one process does. Goes to other processes and machines by pickle."""

    offer: Offer
    callers: tuple[Party, ...]
    answerers: tuple[Party, ...]
    targets: tuple[str, ...]
    calling: Behaviour
    answering: Behaviour


def shares(scenario: Scenario, offer: Offer, processes: int) -> list[Share]:
    """One for each process that has something to do. Reads passwords. Raises ConfigError.

    Accounts are dealt out; where there are more processes than callers, several processes call for the same account.
    Answerers are in one process each: what comes for them is to ring once.
    """
    callers = [_party(entry) for entry in scenario.callers]
    answerers = [_party(entry) for entry in scenario.answerers]
    offers = replace(offer, think=scenario.calling.think).shares(processes)
    count = len(offers)
    return [
        Share(
            part,
            tuple(callers[n::count]) or (callers[n % len(callers)],),
            tuple(answerers[n::count]),
            scenario.targets[n % len(scenario.targets) :] + scenario.targets[: n % len(scenario.targets)],
            scenario.calling,
            scenario.answering,
        )
        for n, part in enumerate(offers)
    ]


def _party(entry: AccountEntry) -> Party:
    """Raises ConfigError."""
    if entry.engine is not Engine.ROAMPHONE:
        raise ConfigError(
            f'account {entry.name}: load is for the phone\'s own engine: leave out engine = "{entry.engine}"'
        )
    home = None
    if entry.network is Network.HOME:
        home = entry.home_socket or default_home_socket()
    return Party(replace(entry.account(), max_calls=MOST_CALLS), home)


class Running:
    """The phones of a share, registered: `run` makes the calls."""

    def __init__(self, share: Share, callers: list[Softphone], answerers: list[Softphone], tell: Tell) -> None:
        self._share = share
        self._phones = callers
        self._callers = cycle(callers)
        self._answerers = answerers
        self._targets = cycle(share.targets)
        self._tell = tell
        self._sounds: dict[tuple[int, int], Samples] = {}
        self._made = 0
        self._began = 0.0
        self._pace = Pace(share.offer, 0.0)
        self._calling: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._idle = False
        self._finishing = asyncio.Event()
        self._heard: dict[str, float] = {}
        "Call-ID -> when the other side rang or was heard first."
        self._wake = asyncio.Event()
        self.stopping = asyncio.Event()
        "Set it to end the run politely: no further calls, those under way are hung up."

    def stop(self) -> None:
        self.stopping.set()
        self._wake.set()

    def finish(self) -> None:
        """Nobody will call our answerers any more."""
        self._finishing.set()

    async def run(self) -> None:
        """The whole run: our calls, then those for our answerers until `finish`."""
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        self._pace = pace = Pace(self._share.offer, self._began)
        background = [asyncio.create_task(self._listen(phone)) for phone in self._phones]
        background += [asyncio.create_task(self._answer_all(phone)) for phone in self._answerers]
        background.append(asyncio.create_task(self._tell_progress()))
        try:
            await self._make_calls(pace)
            self._idle = True
            self._tell(self._progress)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYES if self.stopping.is_set() else None):
                    await self._finishing.wait()
            await _over(self._answering, GOODBYES)
        finally:
            everything = (*background, *self._calling, *self._answering)
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)

    async def _make_calls(self, pace: Pace) -> None:
        """Until the last one is over."""
        while not self.stopping.is_set():
            for _ in range(pace.start(asyncio.get_running_loop().time())):
                _spawn(self._call(), self._calling)
            if pace.timer is None:
                break
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(pace.timer):
                    await self._wake.wait()
        pace.stop()
        await self._or_stop(_over(self._calling, None))
        await _over(self._calling, GOODBYES)

    @property
    def _progress(self) -> Progress:
        return Progress(self._pace.begun, len(self._calling), self._pace.held_back, self._idle)

    async def _tell_progress(self) -> None:
        while True:
            self._tell(self._progress)
            await asyncio.sleep(TELL_EVERY)

    async def _listen(self, phone: Softphone) -> None:
        loop = asyncio.get_running_loop()
        async for event in phone.events():
            match event:
                case CallProgress(call):
                    self._heard.setdefault(call, loop.time())

    # callers

    async def _call(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self._tell(await self._called(next(self._callers), next(self._targets), began))
        finally:
            self._pace.over(loop.time())
            self._wake.set()

    async def _called(self, phone: Softphone, target: str, began: float) -> CallRecord:
        """One call, from the INVITE to its end."""
        loop, behaviour = asyncio.get_running_loop(), self._share.calling

        def record(outcome: Outcome, status: int, reason: str) -> CallRecord:
            return CallRecord(Role.CALLER, outcome, began - self._began, loop.time() - self._began, status, reason)

        call = None
        try:
            call = await phone.dial(target)
            answered = await self._or_stop(call.answered(behaviour.timeout))
            if not answered:
                await call.hangup()
                return record(Outcome.INTERRUPTED, 0, "the run was ended")
        except CallRejected as exc:
            return record(Outcome.REFUSED, exc.status, exc.reason)
        except TimeoutError:
            if call is not None:
                await call.hangup()
            return record(Outcome.TIMEOUT, 0, f"not answered within {behaviour.timeout:g} s")
        except (SoftphoneError, SipParseError, OSError) as exc:
            return record(Outcome.FAILED, 0, str(exc))
        finally:
            heard = None if call is None else self._heard.pop(call.id, None)
        answer = loop.time() - began
        dropped = await self._talk(call, behaviour)
        made = self._judged(call, record(Outcome.ANSWERED, 200, ""), dropped)
        delay = answer if heard is None else min(answer, heard - began)
        return replace(made, post_dial_delay=delay, answer_delay=answer)

    async def _talk(self, call: Call, behaviour: Behaviour) -> bool:
        """Until it is time to hang up, which is done; whether the call ended before."""
        dropped = False
        try:
            self._speak(call, behaviour)
            if behaviour.dtmf:
                await call.send_dtmf(behaviour.dtmf)
            ended = await self._or_stop(self._ended(call, behaviour.talk))
            dropped = bool(ended) and call.ended_event is not None
        except (CallError, ValueError):
            dropped = True
        await call.hangup()
        return dropped

    async def _ended(self, call: Call, within: float) -> None:
        with contextlib.suppress(TimeoutError):
            await call.ended(within)

    async def _or_stop(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the work was done before the run was ended. Raises what it raises."""
        doing = asyncio.create_task(work)
        stopping = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                return False
            doing.result()
            return True
        finally:
            for task in (doing, stopping):
                task.cancel()
            await asyncio.gather(doing, stopping, return_exceptions=True)

    def _speak(self, call: Call, behaviour: Behaviour) -> None:
        if behaviour.sound is None:
            return
        media = call.statistics()
        codec = media.codec if isinstance(media, MediaStatistics) and media.codec else "opus"
        rate = codec_named(codec).sample_rate
        key = (id(behaviour.sound), rate)
        if key not in self._sounds:  # once for all calls
            resampler = Resampler(SOUND_RATE, rate)
            self._sounds[key] = np.concatenate([resampler.convert(behaviour.sound), resampler.flush()])
        samples = self._sounds[key]
        call.play(LoopedSource(samples, rate, self._made * rate % len(samples)))
        self._made += 1

    @staticmethod
    def _judged(call: Call, record: CallRecord, dropped: bool) -> CallRecord:
        found = call.statistics()
        if not isinstance(found, MediaStatistics):
            return replace(record, dropped=dropped)
        return replace(
            record, dropped=dropped, received=found.received, lost=found.lost, late=found.late, mos=found.mos_mean
        )

    # answerers

    async def _answer_all(self, phone: Softphone) -> None:
        async for call in phone.incoming():
            _spawn(self._answer(call), self._answering)

    async def _answer(self, call: IncomingCall) -> None:
        loop, behaviour = asyncio.get_running_loop(), self._share.answering
        began = loop.time()
        try:
            if behaviour.status != 200:
                await call.reject(behaviour.status)
                return
            if behaviour.ring:
                await call.ring()
                await asyncio.sleep(behaviour.ring)
            await call.answer()
            await call.answered(DIGITS_IN_TIME)
            self._speak(call, behaviour)
        except (CallError, TimeoutError):
            await call.hangup()  # the caller has given up, and tells why
            return
        digits, wanted = None, self._share.calling.dtmf
        with contextlib.suppress(CallError):
            if wanted:
                digits = False
                digits = await call.gather(len(wanted), timeout=DIGITS_IN_TIME) == wanted
            await call.ended()
        event = call.ended_event
        record = CallRecord(Role.ANSWERER, Outcome.ANSWERED, began - self._began, loop.time() - self._began, 200)
        dropped = event is not None and event.by is EndedBy.FAILURE
        self._tell(replace(self._judged(call, record, dropped), digits=digits))


@asynccontextmanager
async def running(share: Share, tell: Tell) -> AsyncIterator[Running]:
    """With all phones registered; they are closed at the end. Raises SoftphoneError, TimeoutError."""
    async with AsyncExitStack() as stack:

        async def start(party: Party) -> Softphone:
            phone = await stack.enter_async_context(Softphone(party.account, party.sockets()))
            return phone

        callers = [await start(party) for party in share.callers]
        answerers = [await start(party) for party in share.answerers]
        for phone in (*callers, *answerers):
            if phone.account.register:
                await phone.registered(REGISTERED_IN_TIME)
        yield Running(share, callers, answerers, tell)


def _spawn(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _over(tasks: set[asyncio.Task[None]], seconds: float | None) -> None:
    """Until they are done, or the time is up."""
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
