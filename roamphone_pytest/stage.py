"""What tests do with phones, wherever these are: make them, register them, let them talk, look at what they sent."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from roamphone_pytest.flow import Flow
from roamphone_pytest.recorder import Recorder
from softphone.calls.call import Call
from softphone.calls.incoming import IncomingCall
from softphone.phone import Softphone

IN_TIME = 10.0
"Seconds within which servers and phones of tests do what they are asked."


class Stage(ABC):
    """One test's view of a server. All phones made here are recorded."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    @abstractmethod
    def phone(self, user: str, **settings: Any) -> Softphone:
        """A phone of one of the server's users, to be entered with ``async with``; it registers by itself.

        ``settings``: of `softphone.config.Account`.
        """

    @asynccontextmanager
    async def registered(self, *users: str, **settings: Any) -> AsyncIterator[list[Softphone]]:
        """Their phones, registered: ``async with stage.registered("alice", "bob") as (alice, bob):``."""
        async with AsyncExitStack() as stack:
            phones = [await stack.enter_async_context(self.phone(user, **settings)) for user in users]
            for phone in phones:
                await phone.registered(IN_TIME)
            yield phones

    @staticmethod
    async def connect(caller: Softphone, callee: Softphone) -> tuple[Call, IncomingCall]:
        """An answered call: its end at the caller, its end at the callee. Raises TimeoutError, CallError."""
        call = await caller.dial(str(callee.account.aor))
        async with asyncio.timeout(IN_TIME):
            other = await anext(callee.incoming())
        await other.ring()
        await other.answer()
        await call.answered(IN_TIME)
        await other.answered(IN_TIME)
        return call, other

    def flow(self, phone: Softphone, call: Call | None = None) -> Flow:
        """What the phone sent and received in a call; None: its latest. Raises LookupError."""
        return self.recorder.flow(phone, None if call is None else call.id)
