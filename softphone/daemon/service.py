"""What clients of the daemon may do with its phones. Knows nothing of sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from softphone.accounts.accounts import Phones
from softphone.calls.call import Call
from softphone.calls.incoming import IncomingCall
from softphone.daemon.protocol import Arguments, RequestError
from softphone.errors import CallError, SoftphoneError
from softphone.event_names import described
from softphone.media.dtmf import checked
from softphone.media.files import SamplesSource, read_sound
from softphone.media.recorder import CallRecorder
from softphone.phone import Softphone

log = logging.getLogger(__name__)

Tell = Callable[[dict[str, object]], None]


class PhoneService:
    """The running phones of all accounts; ``tell`` gets every event as a JSON object."""

    def __init__(self, phones: Phones, tell: Tell) -> None:
        self.phones = phones
        self._tell = tell
        self._tasks: list[asyncio.Task[None]] = []
        self._operations: dict[str, Callable[[Arguments], Awaitable[object]]] = {
            "status": self._status, "dial": self._dial, "message": self._message, "dnd": self._dnd,
            "answer": self._answer, "reject": self._reject, "hangup": self._hangup,
            "hold": self._hold, "resume": self._resume, "transfer": self._transfer,
            "dtmf": self._dtmf, "play": self._play, "record": self._record,
        }  # fmt: skip

    def start(self) -> None:
        """Look after the phones that run."""
        for name, phone in self.phones.running.items():
            self._tasks.append(asyncio.create_task(self._watch(name, phone), name=f"events of {name}"))
            self._tasks.append(asyncio.create_task(self._ring(phone), name=f"bell of {name}"))

    async def close(self) -> None:
        """After the phones were closed: until all events were told."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def perform(self, operation: str, arguments: Arguments) -> object:
        """The result, as JSON values. Raises SoftphoneError, ValueError, RuntimeError, OSError for the client."""
        if (perform := self._operations.get(operation)) is None:
            raise RequestError(f"there is no operation {operation!r}; there are {', '.join(self._operations)}")
        return await perform(arguments)

    async def _watch(self, name: str, phone: Softphone) -> None:
        async for event in phone.events():
            self._tell(described(event, name))

    async def _ring(self, phone: Softphone) -> None:
        """Callers hear that it rings, whether somebody is attached or not."""
        async for call in phone.incoming():
            try:
                await call.ring()
            except SoftphoneError as exc:
                log.info("call %s: %s", call.id, exc)  # it is over already, or answers itself

    # -- operations ---------------------------------------------------------------------------------------------------

    async def _status(self, arguments: Arguments) -> object:
        arguments.end()
        accounts = [
            {
                "account": name, "address": str(phone.account.aor), "registered": phone.is_registered,
                "host": phone.host, "port": phone.port, "do_not_disturb": phone.do_not_disturb,
                "calls": [_call(call) for call in phone.calls],
            }
            for name, phone in self.phones.running.items()
        ]  # fmt: skip
        return {"accounts": accounts, "failures": {name: str(why) for name, why in self.phones.failures.items()}}

    async def _dial(self, arguments: Arguments) -> object:
        target, account, anonymous = (
            arguments.text("target"),
            arguments.optional("account"),
            arguments.flag("anonymous"),
        )
        arguments.end()
        phone = self.phones.choose(target) if account is None else self.phones[account]
        return _call(await phone.dial(target, anonymous=anonymous))

    async def _message(self, arguments: Arguments) -> object:
        target, text, account = arguments.text("target"), arguments.text("text"), arguments.optional("account")
        arguments.end()
        await (self.phones.choose(target) if account is None else self.phones[account]).message(target, text)
        return None

    async def _dnd(self, arguments: Arguments) -> object:
        account, on = arguments.optional("account"), arguments.flag("on")
        arguments.end()
        for phone in self.phones.running.values() if account is None else (self.phones[account],):
            phone.do_not_disturb = on
        return None

    async def _answer(self, arguments: Arguments) -> object:
        call = self._incoming(arguments)
        await call.answer()
        return _call(call)

    async def _reject(self, arguments: Arguments) -> object:
        status = arguments.number("status", 486)
        await self._incoming(arguments).reject(status)
        return None

    async def _hangup(self, arguments: Arguments) -> object:
        await self._one(arguments).hangup()
        return None

    async def _hold(self, arguments: Arguments) -> object:
        await self._one(arguments).hold()
        return None

    async def _resume(self, arguments: Arguments) -> object:
        await self._one(arguments).resume()
        return None

    async def _transfer(self, arguments: Arguments) -> object:
        target = arguments.text("target")
        await self._one(arguments).transfer(target)
        return None

    async def _dtmf(self, arguments: Arguments) -> object:
        digits = checked(arguments.text("digits"))
        return {"method": str(await self._one(arguments).send_dtmf("".join(digits)))}

    async def _play(self, arguments: Arguments) -> object:
        """Begin to; ``playback-ended`` tells the end."""
        file = arguments.optional("file")
        call = self._one(arguments)
        if file is None:
            call.play(None)
        else:
            call.play(SamplesSource(*await asyncio.to_thread(read_sound, _absolute(file))))
        return None

    async def _record(self, arguments: Arguments) -> object:
        file = arguments.optional("file")
        call = self._one(arguments)
        if call.media is None:
            raise CallError("the call has no sound now: it has ended, or not begun")
        call.record_call(None if file is None else CallRecorder(_absolute(file)))
        return None

    # -- which call ---------------------------------------------------------------------------------------------------

    def _one(self, arguments: Arguments) -> Call:
        """The call that is named, or the only one."""
        wanted = arguments.optional("call")
        arguments.end()
        calls = [call for phone in self.phones.running.values() for call in phone.calls]
        found = [call for call in calls if wanted is None or call.id == wanted]
        if len(found) == 1:
            return found[0]
        if wanted is not None:
            raise RequestError(f"there is no call {wanted!r}")
        raise RequestError(f"there are {len(found)} calls: say which" if found else "there is no call")

    def _incoming(self, arguments: Arguments) -> IncomingCall:
        call = self._one(arguments)
        if not isinstance(call, IncomingCall):
            raise RequestError("that is a call of ours")
        return call


def _call(call: Call) -> dict[str, object]:
    return {
        "call": call.id, "remote": str(call.remote.uri), "incoming": call.incoming, "state": call.state.value,
        "on_hold": call.on_hold, "held": call.held,
    }  # fmt: skip


def _absolute(file: str) -> Path:
    path = Path(file)
    if not path.is_absolute():
        raise RequestError(f"{file} has to be an absolute path: the daemon may be in another directory")
    return path
