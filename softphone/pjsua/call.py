"""A call of the engine PJSUA2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from softphone.calls.call import Call, CallState
from softphone.config import AutoAnswer
from softphone.errors import CallError, ChangeRefused, Unsupported
from softphone.events import CallEarlyMedia, CallHold, CallProgress, EndedBy, TransferProgress
from softphone.media.audio import AudioSource
from softphone.media.dtmf import DigitMethod, DigitReceived
from softphone.pjsua.process import EngineError
from softphone.pjsua.sound import PjsuaSound
from softphone.sip.headers import NameAddr
from softphone.sip.identity import Reason
from softphone.sip.message import REASONS

if TYPE_CHECKING:
    from softphone.pjsua.phone import PjsuaPhone

CHANGE_SECONDS = 32.0
"How long the other side may think about a change."
TRANSFER_SECONDS = 180.0


class PjsuaCall(Call):
    """Its number is the engine's name for it."""

    def __init__(self, phone: PjsuaPhone, number: int, call_id: str, remote: NameAddr, *, incoming: bool) -> None:
        super().__init__(phone, call_id, remote)
        self.number = number
        self._phone = phone
        self._is_incoming = incoming
        self._on_hold = self._held = self._hanging_up = False
        self._outcome: tuple[int, str] | None = None
        "Of a transfer that we wanted, once it is known."
        self._session = PjsuaSound(
            lambda samples: phone.speak(number, samples),
            lambda digits: self._spawn("digits", digits=digits),
            lambda: phone.look(self),
        )
        self._sound.use(self._session)
        phone.begins(self)

    @property
    def incoming(self) -> bool:
        return self._is_incoming

    @property
    def on_hold(self) -> bool:
        return self._on_hold

    @property
    def held(self) -> bool:
        return self._held

    @property
    def session(self) -> PjsuaSound:
        """Its sound."""
        return self._session

    @property
    def answers_itself_after(self) -> float | None:
        """The engine does not tell who asks for it: always or never."""
        return 0.0 if self.incoming and self._phone.account.auto_answer is AutoAnswer.ALWAYS else None

    async def ring(self) -> None:
        self._pending("ring")
        await self._order("answer", status=180)
        self.state = CallState.RINGING
        self._changes.tell()

    async def answer(self) -> None:
        self._pending("answer")
        await self._order("answer", status=200)
        await self._changes.until(lambda: self._talking or self.state is CallState.ENDED, CHANGE_SECONDS)
        if self.state is CallState.ENDED:
            raise self._failure()

    async def reject(self, status: int = 486) -> None:
        if not 300 <= status <= 699:
            raise CallError(f"{status} is no refusal: use 486 (busy), 603 (declined) or another from 300 to 699")
        self._pending("reject")
        self._hanging_up = True
        await self._order("answer", status=status)
        self._end(EndedBy.LOCAL, status, REASONS.get(status, "Refused"))

    async def hangup(self, reason: Reason | None = None) -> None:
        """``reason`` is not told: the engine has no way to."""
        if self.state is CallState.ENDED:
            return
        answered = self.state is CallState.CONFIRMED
        self._hanging_up = True
        try:
            await self._order("hangup")
        except EngineError:
            pass  # it is gone
        self._end(EndedBy.LOCAL, 200 if answered else 487, "hung up" if answered else "cancelled")

    async def hold(self, music: AudioSource | None = None) -> None:
        if music is not None:
            raise Unsupported("pjsua2", "music while the other side is on hold")
        await self._change("hold", on=True)

    async def resume(self) -> None:
        await self._change("resume", on=False)

    async def transfer(self, target: str) -> None:
        await self._transferred("transfer", target=self._phone.uri(target))

    async def transfer_to(self, other: Call) -> None:
        if not isinstance(other, PjsuaCall) or other._phone is not self._phone:
            raise CallError("calls of different engines or accounts cannot be connected: transfer blindly")
        await self._transferred("transfer_to", other=other.number)
        await other.hangup()

    async def info(self, content_type: str, body: bytes) -> None:
        raise Unsupported("pjsua2", "INFO")

    def happened(self, what: str, values: dict[str, Any]) -> None:
        """The engine tells something of this call."""
        match what:
            case "state":
                self._state(values["state"], values["status"], values["reason"])
            case "media":
                self._media(values)
            case "digit":
                digit, seconds = values["digit"], values["milliseconds"] / 1000
                self._on_media(DigitReceived(digit, seconds, DigitMethod.EVENT))
            case "transfer":
                status, reason = values["status"], values["reason"]
                self._host.hub.emit(TransferProgress(self.id, status, reason))
                if status >= 200 or values["final"]:
                    self._outcome = status, reason
                    self._changes.tell()
            case _:
                pass

    def engine_refused(self, why: str) -> None:
        """It has begun, and then the engine could not go on with it."""
        self._end(EndedBy.FAILURE, 500, why)

    def engine_ended(self, why: str) -> None:
        """The process of the engine is no more."""
        self._end(EndedBy.FAILURE, 500, f"the engine pjsua2 has ended: {why}")

    def _state(self, state: str, status: int, reason: str) -> None:
        match state:
            case "EARLY" if not self.incoming:
                if self.state is CallState.CALLING:
                    self.state = CallState.RINGING
                self._host.hub.emit(CallProgress(self.id, status, reason))
                self._changes.tell()
            case "CONFIRMED" if self.state is not CallState.CONFIRMED:
                self._confirmed()
            case "DISCONNECTED":
                self._over(status, reason)
            case _:
                pass

    def _over(self, status: int, reason: str) -> None:
        if self._hanging_up:
            return  # whoever hangs up tells how it ended
        if self.state is CallState.CONFIRMED:
            self._end(EndedBy.REMOTE, 200, "hung up")
        elif self.incoming:
            self._end(EndedBy.REMOTE, 487, "cancelled by the caller")
        else:
            self._end(EndedBy.FAILURE, status, reason)

    def _media(self, values: dict[str, Any]) -> None:
        self._session.codec = values["codec"] or self._session.codec
        self._session.suite = values["suite"]
        if values["flows"] and not self._sound.flows:
            if self.state is not CallState.CONFIRMED and not self.incoming:
                self._host.hub.emit(CallEarlyMedia(self.id))
            self._host.spawn(self._start_media(), f"sound of {self.id}")
        if (values["on_hold"], values["held"]) != (self._on_hold, self._held):
            self._on_hold, self._held = values["on_hold"], values["held"]
            self._host.hub.emit(CallHold(self.id, self._on_hold, self._held))
        self._changes.tell()

    def _lost(self, why: str) -> None:
        """The engine itself tells when media fail: nothing of our own finds that out."""

    async def _change(self, what: str, *, on: bool) -> None:
        if self.state is not CallState.CONFIRMED:
            raise CallError(f"cannot {what}: the call is {self.state.value}")
        if on == self._on_hold:
            return
        await self._order(what)
        try:
            await self._changes.until(lambda: self._on_hold is on or self.state is CallState.ENDED, CHANGE_SECONDS)
        except TimeoutError:
            raise ChangeRefused(what, 408, "Request Timeout") from None
        if not self._talking:
            raise self._failure()

    async def _transferred(self, order: str, **values: object) -> None:
        if not self._talking:
            raise CallError(f"cannot transfer: the call is {self.state.value}")
        self._outcome = None
        await self._order(order, **values)
        try:
            await self._changes.until(
                lambda: self._outcome is not None or self.state is CallState.ENDED, TRANSFER_SECONDS
            )
        except TimeoutError:
            raise ChangeRefused("transfer", 408, "Request Timeout") from None
        status, reason = self._outcome or (200, "the other side has hung up")
        if status >= 300:
            raise ChangeRefused("transfer", status, reason)
        await self.hangup()

    def _pending(self, what: str) -> None:
        if not self.incoming or self.state not in (CallState.CALLING, CallState.RINGING):
            raise CallError(f"cannot {what}: the call is {self.state.value}")

    async def _order(self, what: str, **values: object) -> object:
        return await self._phone.order(what, call=self.number, **values)

    def _spawn(self, what: str, **values: object) -> None:
        async def order() -> None:
            try:
                await self._order(what, **values)
            except EngineError as exc:
                self._phone.failed(f"{what}: {exc}")

        self._host.spawn(order(), f"{what} {self.id}")
