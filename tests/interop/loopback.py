"""What tests on loopback share; the Kamailio there, and phones at it, are `roamphone_pytest`'s ``sip_proxy``."""

from __future__ import annotations

import asyncio

from softphone.calls.call import Call
from softphone.events import CallHold, Listener
from softphone.media.session import MediaStatistics
from softphone.phone import Softphone


def at_host(host: str) -> str:
    """A numeric address as URIs have it."""
    return f"[{host}]" if ":" in host else host


async def answered(phone: Softphone) -> Call:
    """The next call that comes in, answered."""
    async with asyncio.timeout(10):
        call = await anext(phone.incoming())
    await call.ring()
    await call.answer()
    await call.answered(5)
    return call


def statistics(call: Call) -> MediaStatistics:
    found = call.statistics()
    assert isinstance(found, MediaStatistics)
    return found


async def heard(call: Call) -> MediaStatistics:
    """Until sound has come, from now on. Raises TimeoutError."""
    before = statistics(call)
    async with asyncio.timeout(5):
        while True:
            now = statistics(call)
            if now.received > before.received + 5:
                return now
            await asyncio.sleep(0.02)


async def silent(call: Call) -> None:
    """Until none comes any more. Raises TimeoutError."""
    async with asyncio.timeout(5):
        while True:
            before = statistics(call)
            await asyncio.sleep(0.2)
            if statistics(call).received == before.received:
                return


async def held(events: Listener) -> tuple[bool, bool]:
    """The next change of a hold: whether we hold the call now, and whether the other side does."""
    change = await events.wait_for(CallHold, 5)
    return change.local, change.remote
