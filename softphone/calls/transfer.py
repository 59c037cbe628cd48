"""Transfer (RFC 3515, 3891, 4488, 5589): we hand the other side on to somebody, or are handed on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from softphone.calls.leg import Leg
from softphone.config import Consent
from softphone.errors import CallError, ChangeRefused, SoftphoneError, TransportError
from softphone.events import CallTransferred, CallTransferRequested, EndedBy, TransferProgress
from softphone.sip.endpoint import ServerTransaction
from softphone.sip.errors import SipError, SipParseError
from softphone.sip.headers import Headers, NameAddr
from softphone.sip.refer import SIPFRAG, Outcome, ReferTo, Replaces
from softphone.sip.subscription import SubscriptionState
from softphone.sip.uri import SipUri

if TYPE_CHECKING:
    from softphone.calls.call import Call
    from softphone.calls.dialog_call import DialogCall

OUTCOME_SECONDS = 180.0
"How long the other side may take to reach the target of a transfer."
DECISION_SECONDS = 60.0
"How long the application may think about a transfer that the other side wants."


class TransferRequest:
    """The other side wants us to call somebody else instead."""

    def __init__(self, transfers: Transfers, leg: Leg, refer_to: ReferTo, referred_by: str, event: str) -> None:
        self.target = refer_to.target
        self.referred_by = referred_by
        "Who wants it, as the other side says; empty: not said."
        self._refer_to = refer_to
        self._transfers = transfers
        self._leg = leg
        self._event = event
        "Empty: nobody wants to know (``Refer-Sub: false``)."
        self._decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._call: asyncio.Future[Call] = asyncio.get_running_loop().create_future()

    @property
    def waiting(self) -> bool:
        """Nobody has decided yet."""
        return not self._decided.done()

    async def accept(self) -> Call:
        """Call the target; the new call is the application's, with the sound of the old one.

        The old call goes on until the other side hangs up. Raises CallError when it is too late, TransportError.
        """
        if not self.waiting:
            raise CallError("the transfer was decided already")
        self._decided.set_result(True)
        return await asyncio.shield(self._call)

    def refuse(self) -> None:
        """Stay in this call (603). Raises CallError when it is too late."""
        if not self.waiting:
            raise CallError("the transfer was decided already")
        self._decided.set_result(False)

    async def run(self) -> None:
        """From the REFER to the last NOTIFY."""
        await self._notify(Outcome.of_status(100))
        try:
            async with asyncio.timeout(DECISION_SECONDS):
                wanted = await self._decided
        except TimeoutError:
            self._decided.cancel()
            wanted = False
        if not wanted:
            await self._notify(Outcome.of_status(603), last=True)
            return
        headers = Headers.of(*([("Referred-By", self.referred_by)] if self.referred_by else []))
        if self._refer_to.replaces is not None:
            headers = headers.add("Replaces", str(self._refer_to.replaces))
        try:
            call = await self._transfers.begin(self.target, headers)
        except SoftphoneError as exc:
            if not self._call.cancelled():
                self._call.set_exception(exc)
                self._call.exception()  # the application may not have waited for it
            await self._notify(Outcome.of_status(503), last=True)
            return
        except BaseException:
            self._call.cancel()
            raise
        if not self._call.cancelled():
            self._call.set_result(call)
        await self._follow(call)

    async def _follow(self, call: Call) -> None:
        try:
            await call.ringing()
            if not call._talking:
                await self._notify(Outcome.of_status(180))
            await call.answered()
        except CallError:
            event = call.ended_event
            status = 487 if event is None or event.status < 300 else event.status
            await self._notify(Outcome.of_status(status), last=True)
        else:
            await self._notify(Outcome.of_status(200), last=True)

    async def _notify(self, outcome: Outcome, *, last: bool = False) -> None:
        if not self._event:
            return
        state = (
            SubscriptionState("terminated", None, "noresource")
            if last
            else SubscriptionState("active", round(OUTCOME_SECONDS))
        )
        headers = Headers.of(
            ("Event", self._event), ("Subscription-State", str(state)), ("Content-Type", f"{SIPFRAG};version=2.0")
        )
        try:
            await self._leg.request("NOTIFY", lambda: headers, bytes(outcome))
        except (TransportError, SipError):
            self._transfers.unnotified()


class Transfers:
    """Both roles, for one call."""

    def __init__(self, call: DialogCall) -> None:
        self.request: TransferRequest | None = None
        self.notifying = False
        "The other side is still to be told how a transfer ended: the dialog outlives the call for that."
        self._call = call
        self._outcomes: asyncio.Queue[Outcome | None] | None = None
        "What the other side tells about the transfer that we wanted; None: it will tell no more."
        call.on_end(self._ended)

    # we want it

    async def blind(self, target: str) -> None:
        """See `Call.transfer`."""
        await self._refer(ReferTo(self._call._agent.peer_uri(target)))

    async def attended(self, other: DialogCall) -> None:
        """See `Call.transfer_to`."""
        leg = other._leg
        if leg is None or not other._talking or other is self._call:
            raise CallError("cannot transfer to a call that is not answered: wait for it, or transfer blindly")
        await self._refer(ReferTo(_reach(leg, other.remote), Replaces.of_peer(leg.dialog.id)))

    async def _refer(self, refer_to: ReferTo) -> None:
        call = self._call
        leg = call._renegotiation._confirmed("transfer")
        if self._outcomes is not None:
            raise CallError("cannot transfer: another transfer of this call is under way")
        headers = Headers.of(("Refer-To", str(refer_to)), ("Referred-By", str(NameAddr(call._agent.account.aor))))
        self._outcomes = asyncio.Queue()
        try:
            response = await call._renegotiation.ask(leg, "REFER", lambda: headers)
            if not response.success:
                raise ChangeRefused("the transfer", response.status, response.reason)
            if (response.headers.get("Refer-Sub") or "").strip().lower() != "false":
                await self._outcome(self._outcomes)
        finally:
            self._outcomes = None
        await call.hangup()

    async def _outcome(self, outcomes: asyncio.Queue[Outcome | None]) -> None:
        """Until the other side has reached the target, hangs up, or says no more."""
        latest = Outcome.of_status(100)
        try:
            async with asyncio.timeout(OUTCOME_SECONDS):
                while latest.status < 200 and (told := await outcomes.get()) is not None:
                    latest = told
        except TimeoutError:
            latest = Outcome.of_status(408)
        if latest.status >= 300:
            raise ChangeRefused("the transfer", latest.status, latest.reason)

    def _ended(self, call: Call) -> None:
        if self._outcomes is not None:
            self._outcomes.put_nowait(None)  # it has somebody else to talk to

    @property
    def waiting(self) -> TransferRequest | None:
        """What the application has to decide."""
        return self.request if self.request is not None and self.request.waiting else None

    def on_notify(self, transaction: ServerTransaction) -> None:
        """What has become of the REFER (RFC 3515 section 2.4.4)."""
        request = transaction.request
        package = (request.headers.get("Event") or "").partition(";")[0].strip().lower()
        if package != "refer":
            transaction.respond(489, headers=Headers.of(("Allow-Events", "refer")))
            return
        if self._outcomes is None:
            transaction.respond(481)
            return
        try:
            state = SubscriptionState.of(request)
            outcome = Outcome.parse(request.body) if request.content_type == SIPFRAG else None
        except SipParseError as exc:
            transaction.respond(400, f"Bad Request ({exc})")
            return
        transaction.respond(200)
        if outcome is not None:
            self._call._agent.hub.emit(TransferProgress(self._call.id, *outcome))
            self._outcomes.put_nowait(outcome)
        if state.terminated:
            self._outcomes.put_nowait(None)

    # the other side wants it

    def on_refer(self, transaction: ServerTransaction, leg: Leg) -> None:
        """The other side wants us to call somebody (RFC 3515 section 2.4.2)."""
        call, request = self._call, transaction.request
        agent = call._agent
        try:
            refer_to = ReferTo.of(request)
        except SipParseError as exc:
            transaction.respond(exc.status, f"Bad Request ({exc})" if exc.status == 400 else None)
            return
        consent = agent.account.transfers
        if consent is Consent.REFUSE or leg is not call._leg or not call._talking or self.request is not None:
            transaction.respond(603)
            return
        quiet = (request.headers.get("Refer-Sub") or "").strip().lower() == "false"
        headers = Headers.of(("Contact", str(leg.dialog.contact)), *([("Refer-Sub", "false")] if quiet else []))
        transaction.respond(202, headers=headers)
        event = "" if quiet else f"refer;id={request.cseq.number}"
        referred_by = request.headers.get("Referred-By") or ""
        wanted = self.request = TransferRequest(self, leg, refer_to, referred_by, event)
        if consent is Consent.ACCEPT:
            wanted._decided.set_result(True)
        agent.spawn(self._carry_out(wanted, leg), f"REFER {call.id}")
        if consent is Consent.ASK:
            agent.hub.emit(CallTransferRequested(call.id, str(refer_to.target), referred_by))

    async def _carry_out(self, wanted: TransferRequest, leg: Leg) -> None:
        self.notifying = True
        try:
            await wanted.run()
        finally:
            self.notifying, self.request = False, None
            if self._call.ended_event is not None and self._call.ended_event.by is EndedBy.REMOTE:
                self._call._drop(leg)

    async def begin(self, target: SipUri, headers: Headers) -> Call:
        """Call the target of a transfer. Raises TransportError."""
        call, agent = self._call, self._call._agent
        fresh = await agent.dial(target, headers)
        fresh.take_sound_of(call)
        agent.hub.emit(CallTransferred(call.id, fresh.id))
        return fresh

    def unnotified(self) -> None:
        self._call._agent.endpoint.counters["notify-unanswered"] += 1


def _reach(leg: Leg, remote: NameAddr) -> SipUri:
    """An address at which a third party reaches the other side of a dialog (RFC 5589 section 7).

    Its contact where that is for everybody (GRUU) or no proxy was needed; else its address of record.
    """
    target, record = leg.dialog.remote_target, remote.sip_uri
    if isinstance(target, SipUri) and (record is None or not leg.dialog.routes or target.parameter("gr") is not None):
        return target
    if record is None:
        raise CallError(f"cannot transfer to {remote.uri}: only SIP URIs can be called")
    return record
