"""``softphone dial``, ``answer``, ``register`` and ``message``."""

from __future__ import annotations

import argparse
import asyncio

from softphone.calls.call import Call, CallState
from softphone.commands.devices import at_device
from softphone.commands.session import Finished, Session
from softphone.errors import CallError, ConfigError, SoftphoneError
from softphone.exit_code import ExitCode
from softphone.media.dtmf import checked
from softphone.media.files import FileError, read_sound
from softphone.media.recorder import CallRecorder


async def dial(session: Session, options: argparse.Namespace) -> str:
    await _check(options)
    async with at_device(session, options):
        return await _dial(session, options)


async def _dial(session: Session, options: argparse.Namespace) -> str:
    call = await session.phone.dial(options.target, anonymous=options.anonymous)
    try:
        await call.answered(options.timeout)
    except TimeoutError:
        raise Finished(ExitCode.TIMEOUT, f"nobody answered within {options.timeout:g} s") from None
    finally:
        session.endless = options.duration is None and call.state is CallState.CONFIRMED
    await _talk(call, options)
    return ""


async def answer(session: Session, options: argparse.Namespace) -> str:
    await _check(options)
    async with at_device(session, options):
        return await _answer(session, options)


async def _answer(session: Session, options: argparse.Namespace) -> str:
    calls = session.phone.incoming()
    number = 0
    session.endless = not options.count
    async with asyncio.TaskGroup() as talking:
        while not options.count or number < options.count:
            try:
                async with asyncio.timeout(options.timeout if options.count else None):
                    call = await anext(calls)
            except TimeoutError:
                raise Finished(ExitCode.TIMEOUT, f"nobody called within {options.timeout:g} s") from None
            number += 1
            talking.create_task(_take(session, call, options))
    return ""


async def _take(session: Session, call: Call, options: argparse.Namespace) -> None:
    try:
        if options.code is not None:
            await call.reject(options.code)
            return
        if options.ring:
            await call.ring()
            await asyncio.sleep(options.ring)
        await call.answer()
        await call.answered(options.timeout)
        await _talk(call, options)
    except (CallError, TimeoutError):
        await call.hangup()  # the caller gave up, which `call-ended` tells
    except SoftphoneError as exc:
        session.failed(str(exc))
        await call.hangup()


async def register(session: Session, options: argparse.Namespace) -> str:
    if not session.phone.account.register:
        raise ConfigError("the account does not register; with --id say --registrar URI")
    session.endless = options.duration is None
    await asyncio.sleep(float("inf") if options.duration is None else options.duration)
    return ""


async def message(session: Session, options: argparse.Namespace) -> str:
    async with asyncio.timeout(options.timeout):
        await session.phone.message(options.target, options.text)
    return ""


async def _check(options: argparse.Namespace) -> None:
    """Mistakes are told before anybody's telephone rings."""
    try:
        checked(options.dtmf or "")
    except ValueError as exc:
        raise ConfigError(f"--dtmf: {exc}") from None
    if options.play_file is not None:
        try:
            await asyncio.to_thread(read_sound, options.play_file)
        except FileError as exc:
            raise ConfigError(f"--play-file: {exc}") from None


async def _talk(call: Call, options: argparse.Namespace) -> None:
    """An answered call, until its end."""
    recorder = None
    if options.rec_file is not None:
        recorder = CallRecorder(options.rec_file)
        call.record_call(recorder)
    doing: asyncio.Task[object] = asyncio.create_task(_do(call, options))
    ending: asyncio.Task[object] = asyncio.create_task(call.ended())
    waiting: set[asyncio.Task[object]] = {ending}
    if options.duration is None and (options.play_file is not None or options.dtmf):
        waiting.add(doing)
    try:
        await asyncio.wait(waiting, timeout=options.duration, return_when=asyncio.FIRST_COMPLETED)
        if doing.done() and not ending.done():
            doing.result()
    finally:
        doing.cancel()
        ending.cancel()
        await asyncio.gather(doing, ending, return_exceptions=True)
        await call.hangup()
        if recorder is not None:
            await asyncio.to_thread(recorder.close)


async def _do(call: Call, options: argparse.Namespace) -> None:
    if options.play_file is not None:
        await call.play(options.play_file)
    if options.dtmf:
        await call.send_dtmf(options.dtmf)
        await asyncio.sleep(0.2 * len(options.dtmf) + 0.2)  # until the last one has left
