"""Calls and conferences, as clients of the daemon see and steer them."""

from __future__ import annotations

import asyncio
import time

from softphone.calls.call import Call
from softphone.calls.conference import Conference
from softphone.daemon.operations import Ground, Operation, absolute, since_1970
from softphone.daemon.people import People
from softphone.daemon.protocol import Arguments, RequestError
from softphone.errors import CallError
from softphone.media.dtmf import checked
from softphone.media.files import SamplesSource, read_sound
from softphone.media.recorder import CallRecorder
from softphone.media.settings import MediaStatistics

FEWEST = 2
"Calls that a conference begins with."


class Calls:
    """Dial, answer, steer, hang up."""

    def __init__(self, ground: Ground, people: People) -> None:
        self.conferences: dict[str, Conference] = {}
        "By their ids; those that nobody is left in are gone."
        self._ground = ground
        self._people = people
        self._conference_number = 0

    @property
    def operations(self) -> dict[str, Operation]:
        return {
            "dial": self._dial, "answer": self._answer, "reject": self._reject, "hangup": self._hangup,
            "hold": self._hold, "resume": self._resume, "mute": self._mute,
            "transfer": self._transfer, "transfer-accept": self._accept, "transfer-refuse": self._refuse,
            "conference": self._conference, "conference-leave": self._leave,
            "dtmf": self._dtmf, "play": self._play, "record": self._record, "note": self._note,
        }  # fmt: skip

    def described(self, account: str, call: Call) -> dict[str, object]:
        """A call as JSON values."""
        now = time.time()
        heard = call.statistics()
        codec, suite = (heard.codec, heard.srtp_suite) if isinstance(heard, MediaStatistics) else ("", "")
        conference, recorder = self._conference_of(call), call.recorder
        wanted = call.transfer_request
        return {
            "call": call.id, "account": account, "remote": str(call.remote.uri),
            "remote_name": self._people.name_of(str(call.remote.uri)) or call.remote.display,
            "incoming": call.incoming, "state": call.state.value, "on_hold": call.on_hold, "held": call.held,
            "muted": self.muted(call), "recording": None if recorder is None else str(recorder.path),
            "started": since_1970(call.began_at, now), "answered": since_1970(call.answered_at, now),
            "codec": codec or None, "suite": suite or None, "ipsec": _ipsec(call), "conference": conference,
            "transfer": None if wanted is None else {"target": str(wanted.target), "referred_by": wanted.referred_by},
        }  # fmt: skip

    def muted(self, call: Call) -> bool:
        """Whether its other side hears nothing of us; in a conference that is the same for all."""
        conference = self._conference_of(call)
        return call.muted if conference is None else self.conferences[conference].local.muted

    async def _dial(self, arguments: Arguments) -> object:
        target, account = arguments.text("target"), arguments.optional("account")
        anonymous = arguments.flag("anonymous")
        arguments.end()
        phone = self._ground.phone(account, target)
        call = await phone.dial(target, anonymous=anonymous)
        name = next((name for name, running in self._ground.phones.running.items() if running is phone), "")
        return self.described(name, call)

    async def _answer(self, arguments: Arguments) -> object:
        name, call = self._incoming(arguments)
        await call.answer()
        return self.described(name, call)

    async def _reject(self, arguments: Arguments) -> object:
        status = arguments.number("status", 486)
        await self._incoming(arguments)[1].reject(status)
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

    async def _mute(self, arguments: Arguments) -> object:
        """In a conference: nobody in it hears us, but all hear each other."""
        on = arguments.flag("on")
        call = self._one(arguments)
        if (conference := self._conference_of(call)) is None:
            call.mute(on)
        else:
            self.conferences[conference].mute(on)
        return None

    async def _transfer(self, arguments: Arguments) -> object:
        target, other = arguments.optional("target"), arguments.optional("to_call")
        call = self._one(arguments)
        if (target is None) == (other is None):
            raise RequestError("say either target or to_call")
        if target is not None:
            await call.transfer(target)
        elif other is not None:
            await call.transfer_to(self._named(other))
        return None

    async def _accept(self, arguments: Arguments) -> object:
        name, call = self._ground.call(arguments)
        if (wanted := call.transfer_request) is None:
            raise RequestError("nobody wants to transfer this call now")
        return self.described(name, await wanted.accept())

    async def _refuse(self, arguments: Arguments) -> object:
        if (wanted := self._one(arguments).transfer_request) is None:
            raise RequestError("nobody wants to transfer this call now")
        wanted.refuse()
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
            call.play(SamplesSource(*await asyncio.to_thread(read_sound, absolute(file))))
        return None

    async def _record(self, arguments: Arguments) -> object:
        file = arguments.optional("file")
        name, call = self._ground.call(arguments)
        if call.media is None:
            raise CallError("the call has no sound now: it has ended, or not begun")
        call.record_call(None if file is None else CallRecorder(absolute(file)))
        if file is not None:
            self._ground.tell("recording-started", account=name, call=call.id, path=file)
        return None

    async def _note(self, arguments: Arguments) -> object:
        text = arguments.any_text("text")
        wanted, account = arguments.optional("call"), arguments.optional("account")
        arguments.end()
        running = self._ground.find(wanted, account)
        if wanted is None and len(running) != 1:
            raise RequestError("say which call")
        for name, call in running:
            self._people.note_at_end(name, call, text)
        if not running and wanted is not None:
            self._people.note(account, wanted, text)
        return None

    # -- conferences --------------------------------------------------------------------------------------------------

    async def _conference(self, arguments: Arguments) -> object:
        names = arguments.texts("calls")
        arguments.end()
        calls = [self._named(name) for name in dict.fromkeys(names)]
        if len(calls) < FEWEST:
            raise RequestError("a conference needs two calls at least")
        there = {found for call in calls if (found := self._conference_of(call)) is not None}
        if len(there) > 1:
            raise RequestError("these calls are in different conferences: let those of one leave it first")
        if there:
            ident = there.pop()
            conference = self.conferences[ident]
        else:
            owner = next(phone for phone in self._ground.phones.running.values() if calls[0] in phone.calls)
            conference = await owner.conference()
            self._conference_number += 1
            ident = f"conference-{self._conference_number}"
            self.conferences[ident] = conference
        try:
            for call in calls:
                await conference.add(call)
                call.on_end(lambda _: self._forget_empty())
        finally:
            self._forget_empty()
        return {"conference": ident, "calls": [call.id for call in conference.calls]}

    async def _leave(self, arguments: Arguments) -> object:
        call = self._one(arguments)
        if (ident := self._conference_of(call)) is None:
            raise RequestError("the call is in no conference")
        self.conferences[ident].remove(call)
        self._forget_empty()
        return None

    def _conference_of(self, call: Call) -> str | None:
        return next((ident for ident, one in self.conferences.items() if call in one.calls), None)

    def _forget_empty(self) -> None:
        for ident, conference in list(self.conferences.items()):
            if not conference.calls:
                conference.close()
                del self.conferences[ident]

    # -- which call ---------------------------------------------------------------------------------------------------

    def _one(self, arguments: Arguments) -> Call:
        return self._ground.call(arguments)[1]

    def _named(self, call: str) -> Call:
        return self._one(Arguments({"call": call}))

    def _incoming(self, arguments: Arguments) -> tuple[str, Call]:
        name, call = self._ground.call(arguments)
        if not call.incoming:
            raise RequestError("that is a call of ours")
        return name, call


def _ipsec(call: Call) -> dict[str, str] | None:
    """How it stands with IPsec between the two ends."""
    if (told := call.ipsec) is None:
        return None
    return {"state": told.state.value, "peer": told.peer, "algorithm": told.algorithm, "reason": told.reason}
