"""Calls that we make: INVITE, its provisional and final responses, forks, redirects, CANCEL (RFC 3261 section 13.2)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from softphone.calls.call import CallState
from softphone.calls.dialog_call import DialogCall
from softphone.calls.leg import CREDENTIALS, Leg
from softphone.errors import TransportError
from softphone.events import CallEarlyMedia, CallProgress, CallRedirected, EndedBy
from softphone.media.offer_answer import NotAcceptable
from softphone.media.sdp import SdpError
from softphone.sip.dialog import Dialog, DialogId, next_hop
from softphone.sip.endpoint import ClientTransaction
from softphone.sip.errors import SipError
from softphone.sip.exchange import Turn
from softphone.sip.headers import CSeq, Headers, NameAddr
from softphone.sip.identity import ANONYMOUS, NOBODY, Reason
from softphone.sip.message import Request, Response
from softphone.sip.redirect import Targets
from softphone.sip.reliable import RAck, is_reliable
from softphone.sip.transport import Flow
from softphone.sip.uri import SipUri, unescape
from softphone.user_agent.agent import MAX_CHALLENGES, Agent, Media
from softphone.user_agent.capabilities import SDP, capabilities, flow_contact, reason_of

CANCEL_SECONDS = 32.0
"How long a cancelled INVITE may go without final response (RFC 3261 section 9.1)."
MAX_LEGS = 16
"Dialogs of one call; a fork to more is a mistake or an attack."
ENDED_BRANCH = 199
"An early dialog is over (RFC 6228)."


@dataclass(frozen=True, slots=True, kw_only=True)
class DialOptions:
    """How to make a call."""

    anonymous: bool = False
    "Hide who calls from the other side (RFC 3323); our own proxy still learns it (RFC 3325)."
    late_offer: bool = False
    "Let the other side offer the session."
    headers: Headers = field(default_factory=Headers)
    "Further header fields of the INVITE."


class OutgoingCall(DialogCall):
    """A call to somebody."""

    def __init__(self, agent: Agent, uri: SipUri, options: DialOptions | None = None) -> None:
        super().__init__(agent, agent.new_call_id(), NameAddr(uri.name()))
        self._uri = uri
        self._options = DialOptions() if options is None else options
        self._targets = Targets(uri)
        self._transaction: ClientTransaction | None = None
        self._offer = ""
        self._acknowledged: dict[DialogId, Leg] = {}
        "Legs whose 2xx we have acknowledged, the unwanted ones, too."
        self._heard: Leg | None = None
        "Whose early media we listen to."
        self._cancelled: Reason | None = None
        self._given_up = False
        self._provisional = False

    @property
    def incoming(self) -> bool:
        return False

    @property
    def local_sdp(self) -> str:
        return super().local_sdp or self._offer

    async def begin(self) -> None:
        """Open media and send the INVITE; the rest happens in the background. Raises TransportError."""
        try:
            media = await self._agent.open_media()
            self._sound.use(media)
            if not self._options.late_offer:
                await self._protection.offer(media)
                self._offer = media.offer()
            transaction, contact = await self._send(self._first(self._uri))
        except BaseException as exc:
            self._end(EndedBy.FAILURE, 503, str(exc) or type(exc).__name__)
            raise
        self._agent.spawn(self._search(transaction, contact), f"INVITE {self.id}")

    async def hangup(self, reason: Reason | None = None) -> None:
        if self.state is CallState.ENDED:
            return
        if self.state is CallState.CONFIRMED:
            await self._bye("hung up", reason=reason)
            return
        if not self._given_up:
            self._given_up, self._cancelled = True, reason
            if self._transaction is not None:
                self._transaction.settled = True
                if self._provisional:
                    await self._cancel(self._transaction)
        try:
            await self.ended(CANCEL_SECONDS)
        except TimeoutError:
            self._end(EndedBy.LOCAL, 487, "cancelled, the other side never confirmed")

    async def _cancel(self, transaction: ClientTransaction) -> None:
        await transaction.cancel(None if self._cancelled is None else self._cancelled.headers())

    # the INVITE and its successors

    def _first(self, uri: SipUri) -> Request:
        """The INVITE as it is first sent to a target, without Via and Contact; the CSeq is 1."""
        agent = self._agent
        tag = agent.endpoint.new_tag()
        identity, hidden = agent.identity(tag), Headers()
        if self._options.anonymous:
            hidden = Headers.of(("Privacy", "id"), ("P-Preferred-Identity", str(replace(identity, parameters=()))))
            identity = ANONYMOUS.with_parameter("tag", tag)
        invite = agent.initial("INVITE", uri.bare(), self.remote, identity, self.id, 1)
        headers = Headers.of(*invite.headers, *hidden, *_uri_headers(uri), *self._options.headers)
        if self._offer:
            headers = headers.add("Content-Type", SDP)
        return replace(invite, headers=headers, body=self._offer.encode())

    async def _send(self, invite: Request, flow: Flow | None = None) -> tuple[ClientTransaction, NameAddr]:
        """Send the INVITE with what depends on the way and on the moment. Raises TransportError."""
        if flow is None or flow.closed:
            flow = await self._agent.flow_to(next_hop(invite))
        secure = isinstance(invite.uri, SipUri) and invite.uri.secure
        user = NOBODY if self._options.anonymous else None
        contact = flow_contact(self._agent, flow, secure=secure, user=user)
        extra = [("Contact", str(contact)), *capabilities(self._agent), *self._timer.ask()]
        headers = invite.headers.without(*(name for name, _ in extra), "Min-SE")
        invite = replace(invite, headers=Headers.of(*headers, *extra))
        self._provisional = False
        self._transaction = await self._agent.send(invite, flow)
        return self._transaction, contact

    def _again(self, invite: Request, uri: SipUri | None = None) -> Request:
        """The same INVITE with the next CSeq, without Via (sections 8.1.3.4 and 22.2), to another target if given."""
        headers = invite.headers.without("Via", *CREDENTIALS).set("CSeq", str(CSeq(invite.cseq.number + 1, "INVITE")))
        if uri is None:
            return replace(invite, headers=headers)
        return replace(invite, uri=uri.bare(), headers=Headers.of(*headers, *_uri_headers(uri)))

    async def _search(self, transaction: ClientTransaction, contact: NameAddr) -> None:
        """One INVITE after the other, until somebody answers or nobody is left."""
        challenges = 0
        best: Response | None = None
        while (final := await self._follow(transaction, contact)) is not None:
            again: Request | None = None
            flow: Flow | None = transaction.flow
            if self._given_up:
                self._end(EndedBy.LOCAL, 487, "cancelled")
                return
            if final.status in (401, 407):
                challenges += 1
                if challenges < MAX_CHALLENGES and self._agent.challenged(transaction, final):
                    again = self._again(transaction.request)
            elif final.status == 422 and self._timer.refused(final):
                again = self._again(transaction.request)
            if again is None:
                best = _better(best, final)
                uri = self._elsewhere(final)
                if uri is None:
                    self._refused(best)
                    return
                again, flow = self._again(transaction.request, uri), None
                self._agent.hub.emit(CallRedirected(self.id, str(uri)))
            self._forget_legs()
            try:
                transaction, contact = await self._send(again, flow)
            except TransportError as exc:
                self._end(EndedBy.FAILURE, 503, str(exc))
                return
        self._forget_legs()

    def _elsewhere(self, final: Response) -> SipUri | None:
        """Whom to call instead."""
        if final.status >= 600 or not self._agent.account.follow_redirects:
            return None
        try:
            self._targets.redirected(final)
        except SipError:
            self._agent.endpoint.counters["redirect-malformed"] += 1
        return self._targets.next()

    def _refused(self, final: Response) -> None:
        hint = ": check user and password" if final.status in (401, 407) else ""
        self._end(EndedBy.FAILURE, final.status, reason_of(final) + hint)

    async def _follow(self, transaction: ClientTransaction, contact: NameAddr) -> Response | None:
        """Read all responses to one INVITE; the final one unless it is a 2xx, or the call has ended meanwhile."""
        async for response in transaction.responses():
            if response.status >= 300:
                return None if self.state in (CallState.CONFIRMED, CallState.ENDED) else response
            try:
                if response.success:
                    await self._success(transaction, response, contact)
                else:
                    await self._progress(transaction, response, contact)
            except (SipError, TransportError) as exc:
                self._agent.endpoint.counters["response-unusable"] += 1
                if response.final:
                    self._end(EndedBy.FAILURE, 500, f"the response cannot be used: {exc}")
        return None

    # provisional responses

    async def _progress(self, transaction: ClientTransaction, response: Response, contact: NameAddr) -> None:
        first = not self._provisional
        self._provisional = True
        if self._given_up:
            if first:
                await self._cancel(transaction)
            return
        if response.status == 100 or self.state is CallState.ENDED:
            return
        if response.to.tag and (leg := await self._early_leg(transaction, response, contact)) is not None:
            if response.status == ENDED_BRANCH:
                self._drop(leg)
                return
            if not await self._early(leg, response):
                return
        if self.state is CallState.CALLING and response.status == 180:
            self.state = CallState.RINGING
        self._agent.hub.emit(CallProgress(self.id, response.status, response.reason))
        self._changes.tell()

    async def _early_leg(self, transaction: ClientTransaction, response: Response, contact: NameAddr) -> Leg | None:
        leg = self._legs.get(DialogId.of_response(response))
        if leg is None:
            if response.status == ENDED_BRANCH:
                return None
            if len(self._legs) >= MAX_LEGS:
                self._agent.endpoint.counters["early-dialogs-full"] += 1
                return None
            leg = await self._new_leg(Dialog.as_caller(transaction.request, response, contact))
            if self.state is CallState.ENDED:
                return None
        leg.learn(response)
        return leg

    async def _new_leg(self, dialog: Dialog) -> Leg:
        """Answers to one offer of ours share its ports; offers of several others need an answer each."""
        if not self._options.late_offer:
            return self._add_leg(dialog, self.media, Turn.OURS, self._offer)
        media: Media | None = self.media
        if any(leg.media is media for leg in self._legs.values()):
            media = await self._agent.open_media()
            if self.state is CallState.ENDED:  # meanwhile
                await media.close()
                return Leg(self._agent, dialog, None, Turn.STABLE)
        return self._add_leg(dialog, media, Turn.STABLE)

    async def _early(self, leg: Leg, response: Response) -> bool:
        """Early media, and the PRACK (RFC 3262 section 4). False: this response came before, or too early."""
        described = response.body if response.content_type == SDP else b""
        if not is_reliable(response):
            if described and leg.exchange.turn is Turn.OURS:
                leg.preview = described
                await self._hear(leg, described)
            return True
        rack = leg.received.receive(response)
        if rack is None:
            self._agent.endpoint.counters["provisional-repeated"] += 1
            return False
        answer = ""
        try:
            if described and leg.exchange.turn is Turn.OURS:
                await self._hear(leg, described, settle=True)
            elif described and not leg.remote_sdp:
                answer = leg.answer(described)
                await self._protection.agreed(leg)
                await self._listen(leg)
        except (NotAcceptable, SdpError) as exc:
            self._agent.spawn(self._prack(leg, rack, ""), f"PRACK {self.id}")
            self._unusable(str(exc))
            return False
        self._agent.spawn(self._prack(leg, rack, answer), f"PRACK {self.id}")
        return True

    async def _prack(self, leg: Leg, rack: RAck, answer: str) -> None:
        headers = Headers.of(("RAck", str(rack)), *([("Content-Type", SDP)] if answer else []))
        try:
            response = await leg.request("PRACK", lambda: headers, answer.encode())
        except (TransportError, SipError):
            self._agent.endpoint.counters["prack-unanswered"] += 1
            return
        if not response.success:
            self._agent.endpoint.counters["prack-refused"] += 1

    async def _hear(self, leg: Leg, answer: bytes, *, settle: bool = False) -> None:
        """Listen to a leg that answered our offer; the latest counts. Raises NotAcceptable, SdpError if reliable."""
        try:
            leg.accept(answer)
            await self._protection.agreed(leg)
        except (NotAcceptable, SdpError):
            if settle:
                raise
            leg.preview = b""
            self._agent.endpoint.counters["early-media-unusable"] += 1
        else:
            await self._listen(leg)
        if not settle:
            leg.exchange.offered(Turn.OURS)  # the answer proper is still to come

    async def _listen(self, leg: Leg) -> None:
        first = self._heard is None
        self._heard = leg
        if self.media is leg.media:
            await self._start_media()
        if first:
            self._agent.hub.emit(CallEarlyMedia(self.id))

    def _unusable(self, why: str) -> None:
        """Nothing can come of this call: take it back."""
        self._agent.endpoint.counters["early-answer-unusable"] += 1
        if self._transaction is not None and not self._given_up:
            transaction, self._given_up = self._transaction, True
            self._agent.spawn(self._cancel(transaction), f"CANCEL {self.id}")
        self._end(EndedBy.FAILURE, 488, why)

    # final responses

    async def _success(self, transaction: ClientTransaction, response: Response, contact: NameAddr) -> None:
        dialog_id = DialogId.of_response(response)
        if (known := self._acknowledged.get(dialog_id)) is not None:
            known.acknowledged(response)
            return
        wanted = not self._given_up and self.state in (CallState.CALLING, CallState.RINGING)
        leg = self._legs.get(dialog_id)
        if leg is None:
            dialog = Dialog.as_caller(transaction.request, response, contact)
            leg = await self._new_leg(dialog) if wanted else Leg(self._agent, dialog, None, Turn.STABLE)
        self._acknowledged[dialog_id] = leg
        self._agent.accepted(transaction, response)
        leg.dialog.confirm(response)
        leg.learn(response)
        if not wanted:
            await self._unwanted(leg, transaction, response)
            return
        try:
            answer, refusal = self._agree(leg, response), ""
            await self._protection.agreed(leg)
        except (NotAcceptable, SdpError) as exc:
            answer, refusal = self._refusal(response), str(exc)
        if self._given_up or self.state is CallState.ENDED:  # meanwhile
            await self._unwanted(leg, transaction, response)
            return
        await leg.acknowledge(transaction.request, answer)
        self.remote = replace(response.to, parameters=())
        self._leg = leg
        self._timer.answered(response, asyncio.get_running_loop().time())
        self._timer_alarm.set(self._timer.timer)
        self._confirmed()
        try:
            if not refusal:
                await self._start_media()
        except Exception as exc:
            self._agent.spawn(self._bye(f"audio failed: {exc}", EndedBy.FAILURE, 500), f"BYE {self.id}")
            raise
        if refusal:
            self._agent.spawn(self._bye(refusal, EndedBy.FAILURE, 488), f"BYE {self.id}")

    def _agree(self, leg: Leg, response: Response) -> str:
        """What offer and answer came to; our answer if the 2xx has the offer. Raises NotAcceptable, SdpError."""
        answer = ""
        if leg.exchange.turn is Turn.OURS:
            leg.accept(response.body or leg.preview)
        elif not leg.remote_sdp:
            if not response.body:
                raise NotAcceptable("the other side offered no session")
            answer = leg.answer(response.body)
        elif leg is not self._heard and leg.media is self.media and leg.media is not None and self._offer:
            leg.media.accept(leg.remote_sdp)  # agreed before, but then another leg was listened to
        if leg.media is not self.media:  # several offered, and this one is it
            before = self._sound.use(leg.media)
            if before is not None and not any(other.media is before for other in self._legs.values()):
                self._agent.free(before)
        return answer

    def _refusal(self, response: Response) -> str:
        """The answer to an offer in a 2xx that we cannot use: ACK has to carry one all the same."""
        if self._offer or not response.body or self.media is None:
            return ""
        try:
            return self.media.refuse(response.body.decode("utf-8", "replace"))
        except SdpError:
            return ""

    async def _unwanted(self, leg: Leg, transaction: ClientTransaction, response: Response) -> None:
        """Another branch was first, or the user gave up: acknowledge and hang up (section 13.2.2.4)."""
        self._legs.pop(leg.dialog.id, None)  # its BYE takes its time, whatever becomes of the call
        await leg.acknowledge(transaction.request, self._refusal(response))
        self._agent.spawn(self._say_bye(leg), f"BYE to another branch of {self.id}")
        if self._given_up:
            self._end(EndedBy.LOCAL, 487, "cancelled")

    def _forget_legs(self) -> None:
        """No branch answers any more."""
        for leg in [leg for leg in self._legs.values() if leg is not self._leg]:
            self._drop(leg)
        self._heard = None

    def _on_bye(self, bye: Request, leg: Leg) -> None:
        if leg is self._leg:
            super()._on_bye(bye, leg)
        else:
            self._drop(leg)  # one branch gives up; the INVITE goes on


def _better(one: Response | None, other: Response) -> Response:
    """The response to tell of when several targets refused (section 16.7): 6xx, else the lowest class."""
    if one is None or other.status >= 600 or one.status // 100 == 3:
        return other
    return one if one.status // 100 <= other.status // 100 else other


def _uri_headers(uri: SipUri) -> list[tuple[str, str]]:
    """Header fields that a URI asks for; only those that cannot do harm (section 19.1.5)."""
    wanted = [(name, unescape(value)) for name, value in uri.headers if name.lower() == "subject"]
    return [(name, value) for name, value in wanted if value.isprintable()]
