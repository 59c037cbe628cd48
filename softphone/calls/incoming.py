"""Calls that come in: ring, early media, answer, reject, CANCEL (RFC 3261 section 13.3, RFC 3262)."""

from __future__ import annotations

import asyncio

from softphone.calls.call import CallState
from softphone.calls.dialog_call import DialogCall
from softphone.calls.leg import Leg
from softphone.calls.protection import is_direct
from softphone.config import AutoAnswer
from softphone.errors import CallError
from softphone.events import CallReplaced, EndedBy
from softphone.media.ike_description import IpsecMode
from softphone.media.offer_answer import NotAcceptable
from softphone.media.sdp import SdpError
from softphone.sip.dialog import Dialog
from softphone.sip.endpoint import ServerTransaction
from softphone.sip.errors import SipParseError
from softphone.sip.exchange import Turn
from softphone.sip.headers import Headers
from softphone.sip.identity import CALL_WAITING, Reason, answer_after, asserted, diversions, privacy, reasons
from softphone.sip.message import REASONS, Request
from softphone.sip.refer import Replaces
from softphone.sip.reliable import OPTION, ReliableSender, asks_for
from softphone.sip.session_timer import TooSmall
from softphone.sip.uri import SipUri
from softphone.user_agent.agent import Agent
from softphone.user_agent.alarm import Alarm, reached
from softphone.user_agent.capabilities import SDP, flow_contact, warning

RING_AGAIN = 60.0
"Seconds between two 180, so that proxies do not give up (section 13.3.1.1)."
NO_PRACK = 504


class IncomingCall(DialogCall):
    """A call from somebody."""

    def __init__(self, agent: Agent, transaction: ServerTransaction) -> None:
        """Raises SipParseError when the INVITE cannot make a dialog."""
        request = transaction.request
        secure = isinstance(request.uri, SipUri) and request.uri.secure
        contact = flow_contact(agent, transaction.flow, secure=secure)
        dialog = Dialog.as_callee(request, agent.endpoint.new_tag(), contact)
        replaces = request.headers.get("Replaces")
        self.replaces = None if replaces is None else Replaces.parse(replaces)
        "The dialog that the caller wants to take the place of (RFC 3891)."
        self._reliable_wanted = asks_for(request, "Require", OPTION)
        self._reliable_possible = self._reliable_wanted or asks_for(request, "Supported", OPTION)
        super().__init__(agent, request.call_id, request.from_)
        self.asserted = asserted(request) if agent.trusts(transaction.flow) else ()
        "Who calls, as our own proxy vouches for (RFC 3325); empty: nobody does."
        self.privacy = privacy(request)
        "What the caller wants kept from others: ``id``, ``user``... (RFC 3323); empty: nothing."
        self.diversions = diversions(request)
        "Whom the call was for before it came to us, the latest first (RFC 5806, RFC 7044)."
        self.waiting = any(call.state is CallState.CONFIRMED for call in agent.calls)
        "We are in another call."
        self._invite = transaction
        self._reliable = ReliableSender(agent.new_rseq())
        self._reliable_alarm = Alarm(self._reliable_due)
        self._described = False
        "The description went out in a provisional response."
        self._bell = Alarm(self._ring_again)
        self._own = self._add_leg(dialog, None, Turn.STABLE)
        self._own.learn(request)
        self._leg = self._own
        transaction.on_cancel = self._on_cancel

    @property
    def incoming(self) -> bool:
        return True

    @property
    def answers_itself_after(self) -> float | None:
        """Seconds after which the phone answers by itself, as account and caller want; None: it does not."""
        wanted = answer_after(self._invite.request)
        match self._agent.account.auto_answer:
            case AutoAnswer.ALWAYS:
                return 0.0 if wanted is None else wanted
            case AutoAnswer.ASKED:
                return wanted
            case _:
                return None

    async def prepare(self) -> bool:
        """Open media and look at the offer; False when the call was refused for it (400, 422, 488)."""
        media = await self._agent.open_media()
        request = self._invite.request
        if self.state is CallState.ENDED:  # cancelled meanwhile
            await media.close()
            return False
        self._own.media = media
        self._sound.use(media)
        try:
            self._timer.check(request)
            if request.body:
                self._own.offered(request.body)
                if not self._direct:
                    await self._protection.agreed(self._own)
            else:
                await self._protection.offer(media)
                self._own.offer()
        except TooSmall as exc:
            self.refuse(422, str(exc), exc.headers)
            return False
        except (NotAcceptable, SdpError, SipParseError) as exc:
            status = 488 if isinstance(exc, NotAcceptable) else 400
            self.refuse(status, str(exc), warning(self._agent.endpoint.host, str(exc)))
            return False
        except CallError as exc:
            self.refuse(488, str(exc), warning(self._agent.endpoint.host, str(exc)))
            return False
        if self.ended_event is not None:  # meanwhile
            return False
        if self._own.exchange.turn is Turn.THEIRS and self._protection.given_up:
            self._own.offered(request.body)
        return True

    @property
    def _direct(self) -> bool:
        """SIP goes between the two ends as their packets do: what IPsec then protects is the call itself, too."""
        hop = self._own.dialog.first_hop
        peer = None if self._own.media is None else self._own.media.ike
        return is_direct(peer, self._invite.flow.peer.host, hop.host if isinstance(hop, SipUri) else None)

    @property
    def _answer_open(self) -> bool:
        return self._own.exchange.turn is Turn.THEIRS and self.answered_at is None

    async def _wait_for_keys(self) -> None:
        """With keys audio is protected from its first packet; without them an answer leaves IPsec out, where it may."""
        why = await self._protection.ready()
        self._pending("answer")
        if why and self._agent.account.ipsec is IpsecMode.MANDATORY:
            text = f"IPsec is mandatory for this account: {why}"
            self.refuse(488, text, warning(self._agent.endpoint.host, text))
            raise CallError(text)
        if why and self._answer_open:
            self._protection.give_up(why)
            self._own.offered(self._invite.request.body)

    def refuse(self, status: int, why: str, headers: Headers | None = None) -> None:
        """The phone itself cannot take the call."""
        self._refuse(status, REASONS[status], headers)
        self._end(EndedBy.FAILURE, status, why)

    async def ring(self) -> None:
        """Tell the caller that we ring (180). Raises CallError when it is too late for that."""
        self._pending("ring")
        self.state = CallState.RINGING
        alert = Headers.of(("Alert-Info", CALL_WAITING)) if self.waiting else Headers()
        await self._provisional(180, alert)
        self._bell.set(asyncio.get_running_loop().time() + RING_AGAIN)
        self._changes.tell()

    async def early_media(self) -> None:
        """Let the caller hear what `play` gives before the answer (183 with a session description).

        Reliably where the caller can (RFC 3262). Raises CallError when it is too late for that.
        """
        self._pending("play early media")
        await self._provisional(183, Headers(), describe=True)
        if self._own.exchange.turn is not Turn.OURS:
            await self._begin_early()

    async def _begin_early(self) -> None:
        await self._protect(self._own)
        await self._start_media()

    async def answer(self) -> None:
        """Accept the call: 200, media starts. Raises CallError when it is too late for that."""
        self._pending("answer")
        # A 2xx must not overtake a description that was sent reliably (RFC 3262 section 3).
        await self._changes.until(lambda: not (self._reliable.waiting and self._described), None)
        self._pending("answer")
        await self._wait_for_keys()
        leg = self._pending("answer")
        self._stop_provisional()
        late_offer = leg.exchange.turn is Turn.OURS
        agreed = leg.exchange.free
        if leg.exchange.turn is Turn.THEIRS:
            leg.exchange.settled()
        self.state = CallState.CONFIRMED  # before the 2xx, which begins the session timer
        self._accept_invite(self._invite, "" if agreed else leg.local_sdp, leg)
        self._confirmed()
        if not late_offer:
            await self._protect(leg)
            await self._start_media()

    async def take_over(self, old: DialogCall) -> None:
        """Answer in the place of another call of ours, which ends (RFC 3891 section 3). Raises CallError."""
        sound = old if old.state is CallState.CONFIRMED else None
        await self.answer()
        if sound is not None and self.media is not None:
            self.take_sound_of(sound)
        old.replaced_by = self
        self._agent.hub.emit(CallReplaced(old.id, self.id))
        await old.hangup()

    async def reject(self, status: int = 486, reason: str | None = None, cause: Reason | None = None) -> None:
        """Refuse the call with a final response from 300 to 699. Raises CallError when it is too late for that.

        ``reason`` is the phrase beside the status; ``cause`` tells machines why (RFC 3326, RFC 6432).
        """
        if not 300 <= status <= 699:
            raise CallError(f"{status} is no refusal: use 486 (busy), 603 (declined) or another from 300 to 699")
        self._pending("reject")
        text = REASONS.get(status, "Refused") if reason is None else reason
        self._refuse(status, text, None if cause is None else cause.headers())
        self._end(EndedBy.LOCAL, status, text)

    async def hangup(self, reason: Reason | None = None) -> None:
        if self.state in (CallState.CALLING, CallState.RINGING):
            await self.reject(603, cause=reason)
            return
        # The callee must not send BYE before the ACK (section 15).
        await self._changes.until(lambda: self.acknowledged or self.state is CallState.ENDED, None)
        await self._bye("hung up", reason=reason)

    def _pending(self, what: str) -> Leg:
        if self.state not in (CallState.CALLING, CallState.RINGING):
            raise CallError(f"cannot {what}: the call is {self.state.value}")
        return self._own

    # provisional responses

    async def _provisional(self, status: int, extra: Headers, *, describe: bool = False) -> None:
        """Send a provisional response, reliably if the caller demands it, or can and it has a description.

        The first reliable one has our offer where the INVITE had none. Raises CallError when it is too late.
        """
        leg = self._own
        reliable = self._reliable_wanted or (describe and self._reliable_possible)
        if reliable:
            await self._changes.until(lambda: not self._reliable.waiting, None)
            self._pending("send a provisional response")
        late = leg.exchange.turn is Turn.OURS
        describe = (describe and (reliable or not late)) or (reliable and late)
        describe = describe and not (self._described and leg.exchange.free)
        headers = Headers.of(("Contact", str(leg.dialog.contact)), *extra)
        if reliable:
            headers = Headers.of(*headers, *self._reliable.headers())
        if describe:
            headers = headers.add("Content-Type", SDP)
        body = leg.local_sdp.encode() if describe else b""
        response = self._invite.respond(status, to_tag=leg.dialog.id.local_tag, headers=headers, body=body)
        if reliable:
            self._described = self._described or describe
            if describe and not late:
                leg.exchange.settled()
            self._reliable.sent(response, asyncio.get_running_loop().time())
            self._reliable_alarm.set(self._reliable.timer)

    def _ring_again(self) -> None:
        if self.state is CallState.RINGING:
            self._agent.spawn(self._ring_once_more(), f"180 {self.id}")

    async def _ring_once_more(self) -> None:
        try:
            await self.ring()
        except CallError:
            return  # answered or over meanwhile

    def _reliable_due(self) -> None:
        response = self._reliable.handle_timer(reached(self._reliable.timer))
        self._reliable_alarm.set(self._reliable.timer)
        if response is not None:
            self._invite.send(response)
        else:
            self.refuse(NO_PRACK, "the caller never confirmed our provisional response")

    def _on_prack(self, transaction: ServerTransaction, leg: Leg) -> None:
        """RFC 3262 section 3; an offer or an answer may be in it."""
        request = transaction.request
        held = leg.held
        try:
            if not self._reliable.confirmed(request):
                transaction.respond(481)
                return
            self._reliable_alarm.cancel()
            answer = self._described_in_prack(request, leg)
        except (NotAcceptable, SdpError, SipParseError) as exc:
            status = 488 if isinstance(exc, NotAcceptable) else 400
            transaction.respond(status, headers=warning(self._agent.endpoint.host, str(exc)))
            if leg.exchange.free and not leg.remote_sdp:  # it was the answer to our offer
                self.refuse(status, str(exc))
            return
        headers = Headers.of(("Content-Type", SDP)) if answer else None
        transaction.respond(200, headers=headers, body=answer.encode())
        if held != leg.held:
            self._session_changed(held)
        self._changes.tell()

    def _described_in_prack(self, request: Request, leg: Leg) -> str:
        """Our answer to an offer in a PRACK. Raises NotAcceptable, SdpError."""
        if leg.exchange.turn is Turn.OURS and self._described:
            leg.accept(request.body)
            self._agent.spawn(self._begin_early(), f"early media {self.id}")
            return ""
        if request.body and leg.exchange.free:
            answer = leg.answer(request.body)
            self._agent.spawn(self._protect(leg), f"protection of {self.id}")
            return answer
        return ""

    def _stop_provisional(self) -> None:
        self._bell.cancel()
        self._reliable.stop()
        self._reliable_alarm.cancel()

    def _refuse(self, status: int, reason: str, headers: Headers | None = None) -> None:
        if self._invite.final is None:
            self._invite.respond(status, reason, to_tag=self._own.dialog.id.local_tag, headers=headers)

    def _on_cancel(self, cancel: Request) -> None:
        self._end(EndedBy.REMOTE, 487, "cancelled by the caller", causes=reasons(cancel))

    def _end(
        self, by: EndedBy, status: int, reason: str, *, dialog_ends: bool = True, causes: tuple[Reason, ...] = ()
    ) -> None:
        self._stop_provisional()
        self._refuse(487, REASONS[487])  # the caller may end an unanswered call with BYE, too (section 15)
        super()._end(by, status, reason, dialog_ends=dialog_ends, causes=causes)
