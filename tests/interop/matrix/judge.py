"""Makes the calls of a cell, and says what came of them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from roamphone_pytest.server import SipServer
from roamphone_pytest.stage import IN_TIME
from softphone.calls.call import Call
from softphone.config import Consent
from softphone.errors import SoftphoneError
from softphone.events import CallDigit, CallTransferred
from softphone.phone import Softphone
from softphone.sip.transport import Transport
from tests.interop.loopback import answered, heard, held, silent, statistics
from tests.interop.matrix.cells import SONG, VOICE, Cell, Deed, Foreign, Keys, Outcome, Program, Setting
from tests.interop.tones import tone_comes, write_tone

PLAYING = 30.0
"Seconds."
CELL_WITHIN = 60.0
"Seconds, on a busy machine; a cell takes 3 to 5 on a quiet one."


async def judge(program: Program, cell: Cell, server: SipServer, folder: Path) -> Outcome:
    """Makes the calls. Failures of the cell are in the outcome."""
    if (limit := program.limit(cell)) is not None:
        return Outcome(cell, impossible=limit)
    server.forget()
    trial = Trial(program, cell, server, folder)
    try:
        async with asyncio.timeout(CELL_WITHIN):
            await trial.run()
    except (SoftphoneError, TimeoutError, AssertionError, EOFError, OSError) as exc:
        return Outcome(cell, failed=f"{trial.deed}: {type(exc).__name__} {exc}".strip())
    return Outcome(cell)


class Trial:
    """The calls of one cell."""

    def __init__(self, program: Program, cell: Cell, server: SipServer, folder: Path) -> None:
        self._program, self._cell = program, cell
        self._setting = Setting(cell, server, folder, write_tone(folder / "song.wav", SONG, PLAYING))
        self._voice = write_tone(folder / "voice.wav", VOICE, PLAYING)
        self.deed = Deed.REGISTRATION
        "What is being tried."

    async def run(self) -> None:
        """Raises what says that it did not succeed."""
        async with self._phone("alice") as alice, self._phone("carol") as carol:
            for phone in (alice, carol):
                if phone.account.register:
                    await phone.registered(IN_TIME)
            async with self._program.running(self._setting) as bob:
                if Deed.REGISTRATION not in self._program.without:
                    self._registered()
                await self._talk(alice, bob, carol)
                if Deed.TRANSFER not in self._program.without:
                    await self._transfer(alice, bob, carol)
            strange = {name: count for name, count in alice.counters.items() if name not in HARMLESS}
            assert not strange, f"counted {strange}"

    def _registered(self) -> None:
        """The registrar knows the foreign phone, by this transport and no other."""
        known = self._setting.server.rpc("ul.lookup", "location", "bob")
        received = re.findall(r"Received: (.*)", known)
        transports = {Transport.UDP if at == "[not set]" else at.rpartition("transport=")[2] for at in received}
        assert transports == {self._cell.transport}, f"it registered by {', '.join(transports)}"

    def _phone(self, user: str) -> Softphone:
        cell = self._cell
        settings = {**cell.keys.settings, **self._program.settings(cell)}
        account = self._setting.server.account(user, cell.transport, cell.host, transfers=Consent.ACCEPT, **settings)
        return Softphone(account)

    async def _call(self, alice: Softphone, bob: Foreign) -> Call:
        if self._cell.calls_us:
            await bob.dial("alice")
            call: Call = await answered(alice)
        else:
            call = await alice.dial(bob.uri)
            await call.answered(IN_TIME)
        await bob.talks()
        return call

    async def _talk(self, alice: Softphone, bob: Foreign, carol: Softphone) -> None:
        self.deed = Deed.CALL
        events = alice.events()
        call = await self._call(alice, bob)

        self.deed = Deed.SOUND
        call.play(str(self._voice))
        await bob.sing()
        await tone_comes(call, bob.tone)
        assert (statistics(call).srtp_suite != "") is (self._cell.keys is not Keys.OFF), "SRTP is not as it was wanted"

        if not bob.hears_last:
            self.deed = Deed.EAR
            await bob.hears(call, VOICE, carol)

        self.deed = Deed.DIGITS
        await bob.takes_digit(call)
        bob.send_digit()
        digit = await events.wait_for(CallDigit, IN_TIME)
        assert digit.digit == "5", f"{digit.digit} came"

        self.deed = Deed.HOLD
        await call.hold()
        assert await held(events) == (True, False)
        await bob.is_held()
        if bob.quiet_on_hold:
            await silent(call)
        await call.resume()
        assert await held(events) == (False, False)
        await bob.talks()
        await bob.hold()
        assert await held(events) == (False, True)
        bob.resume()
        assert await held(events) == (False, False)
        await bob.talks()
        await bob.sing()
        await tone_comes(call, bob.tone)

        if bob.hears_last:
            self.deed = Deed.EAR
            await bob.hears(call, VOICE, carol)

        self.deed = Deed.END
        if self._cell.calls_us:
            bob.hang_up()
        else:
            await call.hangup()
        await call.ended(IN_TIME)
        await bob.has_ended()

    async def _transfer(self, alice: Softphone, bob: Foreign, carol: Softphone) -> None:
        self.deed = Deed.TRANSFER
        events = alice.events()
        call = await self._call(alice, bob)
        reaching = asyncio.create_task(answered(carol))
        try:
            if self._cell.calls_us:
                bob.transfer("carol")
                reached = await reaching
                await events.wait_for(CallTransferred, IN_TIME)
            else:
                await call.transfer("carol")
                reached = await reaching
        finally:
            reaching.cancel()
        await call.ended(IN_TIME)
        if not self._cell.calls_us:
            await bob.sing()
        await heard(reached)
        await reached.hangup()


HARMLESS = ("response-stray", "keepalive")
"Counters of what may happen in calls without defects."
