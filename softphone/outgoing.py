"""Calls that we make: INVITE, its provisional and final responses, forks, CANCEL (RFC 3261 section 13.2)."""

from __future__ import annotations

from dataclasses import replace

from softphone.agent import MAX_CHALLENGES, Agent
from softphone.call import SDP, Call, CallState, capabilities, flow_contact, reason_of
from softphone.errors import TransportError
from softphone.events import CallProgress, EndedBy
from softphone.media.offer_answer import NotAcceptable
from softphone.media.sdp import SdpError
from softphone.sip.dialog import Dialog, DialogId, DialogState, next_hop
from softphone.sip.endpoint import ClientTransaction
from softphone.sip.errors import SipError
from softphone.sip.headers import CSeq, NameAddr
from softphone.sip.message import Request, Response
from softphone.sip.transport import Flow
from softphone.sip.uri import SipUri

CANCEL_SECONDS = 32.0
"How long a cancelled INVITE may go without final response (RFC 3261 section 9.1)."
CREDENTIALS = ("Authorization", "Proxy-Authorization")


class OutgoingCall(Call):
    """A call to somebody."""

    def __init__(self, agent: Agent, uri: SipUri) -> None:
        super().__init__(agent, agent.new_call_id(), NameAddr(uri.bare()))
        self._uri = uri
        self._transaction: ClientTransaction | None = None
        self._early: dict[DialogId, Dialog] = {}
        self._early_sdp: dict[DialogId, bytes] = {}
        self._acks: dict[DialogId, tuple[bytes, Flow]] = {}
        self._cancelled = False
        self._provisional = False

    @property
    def incoming(self) -> bool:
        return False

    async def begin(self) -> None:
        """Open media and send the INVITE; the rest happens in the background. Raises TransportError."""
        try:
            self.media = await self._agent.open_media()
            self.local_sdp = self.media.offer()
            invite = self._agent.initial(
                "INVITE",
                self._uri.bare(),
                self.remote,
                self._agent.identity(self._agent.endpoint.new_tag()),
                self.id,
                1,
            )
            flow = await self._agent.flow_to(next_hop(invite))
            contact = flow_contact(self._agent, flow, secure=self._uri.secure)
            headers = invite.headers.add("Contact", str(contact))
            headers = headers.add("Allow", capabilities().get("Allow") or "").add("Content-Type", SDP)
            invite = replace(invite, headers=headers, body=self.local_sdp.encode())
            self._transaction = await self._agent.send(invite, flow)
        except BaseException as exc:
            self._end(EndedBy.FAILURE, 503, str(exc) or type(exc).__name__)
            raise
        self._agent.spawn(self._follow(self._transaction, contact), f"INVITE {self.id}")

    async def hangup(self) -> None:
        if self.state is CallState.ENDED:
            return
        if self.state is CallState.CONFIRMED:
            await self._bye("hung up")
            return
        if not self._cancelled:
            self._cancelled = True
            if self._transaction is not None:
                self._transaction.settled = True
                if self._provisional:
                    await self._transaction.cancel()
        try:
            await self.ended(CANCEL_SECONDS)
        except TimeoutError:
            self._end(EndedBy.LOCAL, 487, "cancelled, the other side never confirmed")

    async def _follow(self, transaction: ClientTransaction, contact: NameAddr) -> None:
        """Read all responses; a challenge continues with another transaction."""
        for attempt in range(MAX_CHALLENGES):
            challenge: Response | None = None
            async for response in transaction.responses():
                if response.status in (401, 407) and self.state is not CallState.ENDED:
                    challenge = response
                    break
                try:
                    await self._response(transaction, response, contact)
                except (SipError, TransportError) as exc:
                    self._agent.endpoint.counters["response-unusable"] += 1
                    if response.final:
                        self._end(EndedBy.FAILURE, 500, f"the response cannot be used: {exc}")
            if challenge is None:
                return
            last = attempt == MAX_CHALLENGES - 1
            if self._cancelled or last or not self._agent.challenged(transaction, challenge):
                self._refused(challenge)
                return
            self._provisional = False
            try:
                transaction = self._transaction = await self._agent.send(
                    self._again(transaction.request), transaction.flow
                )
            except TransportError as exc:
                self._end(EndedBy.FAILURE, 503, str(exc))
                return

    def _refused(self, challenge: Response) -> None:
        if self._cancelled:
            self._end(EndedBy.LOCAL, 487, "cancelled")
        else:
            self._end(EndedBy.FAILURE, challenge.status, f"{challenge.reason}: check user and password")

    def _again(self, invite: Request) -> Request:
        """The same INVITE with the next CSeq, without Via (section 22.2)."""
        headers = invite.headers.without("Via", *CREDENTIALS).set("CSeq", str(CSeq(invite.cseq.number + 1, "INVITE")))
        return replace(invite, headers=headers)

    async def _response(self, transaction: ClientTransaction, response: Response, contact: NameAddr) -> None:
        if response.status < 200:
            await self._progress(transaction, response, contact)
        elif response.success:
            await self._success(transaction, response, contact)
        elif self._cancelled and response.status in (487, 408):
            self._end(EndedBy.LOCAL, 487, "cancelled")
        else:
            self._end(EndedBy.FAILURE, response.status, reason_of(response))

    async def _progress(self, transaction: ClientTransaction, response: Response, contact: NameAddr) -> None:
        first = not self._provisional
        self._provisional = True
        if self._cancelled:
            if first:
                await transaction.cancel()
            return
        if response.status == 100 or self.state is CallState.ENDED:
            return
        if response.to.tag:
            dialog = Dialog.as_caller(transaction.request, response, contact)
            self._early.setdefault(dialog.id, dialog)
            if response.content_type == SDP and response.body:
                self._early_sdp.setdefault(dialog.id, response.body)
        if self.state is CallState.CALLING and response.status == 180:
            self.state = CallState.RINGING
        self._agent.hub.emit(CallProgress(self.id, response.status, response.reason))
        self._changed()

    async def _success(self, transaction: ClientTransaction, response: Response, contact: NameAddr) -> None:
        dialog_id = DialogId.of_response(response)
        if dialog_id in self._acks:  # our ACK was lost
            self._agent.endpoint.send_raw(*self._acks[dialog_id])
            return
        dialog = self._early.pop(dialog_id, None) or Dialog.as_caller(transaction.request, response, contact)
        dialog.confirm(response)
        await self._ack(transaction.request, dialog)
        if self._cancelled or self.state not in (CallState.CALLING, CallState.RINGING):
            await self._discard(dialog)
            if self._cancelled:
                self._end(EndedBy.LOCAL, 487, "cancelled")
            return
        self.remote = replace(response.to, parameters=())
        self._use_dialog(dialog)
        self._confirmed()
        try:
            self._accept(response.body or self._early_sdp.get(dialog_id, b""))
            await self._start_media()
        except (NotAcceptable, SdpError) as exc:
            self._agent.spawn(self._bye(str(exc), EndedBy.FAILURE, 488), f"BYE {self.id}")
        except Exception as exc:
            self._agent.spawn(self._bye(f"audio failed: {exc}", EndedBy.FAILURE, 500), f"BYE {self.id}")
            raise

    async def _ack(self, invite: Request, dialog: Dialog) -> None:
        ack = dialog.request("ACK", sequence=invite.cseq.number)
        headers = ack.headers
        for name in CREDENTIALS:
            headers = headers.add(name, *invite.headers.raw(name))
        flow = await self._agent.flow_to(dialog.first_hop)
        self._acks[dialog.id] = (self._agent.endpoint.send_ack(replace(ack, headers=headers), flow), flow)

    async def _discard(self, dialog: Dialog) -> None:
        """A dialog that we do not want: another branch was first, or the user gave up (section 13.2.2.4)."""
        if dialog.state is DialogState.TERMINATED:
            return

        async def bye() -> None:
            try:
                await self._agent.complete(lambda: dialog.request("BYE"), dialog.first_hop)
            except (TransportError, SipError):
                self._agent.endpoint.counters["bye-unanswered"] += 1
            finally:
                dialog.end()

        self._agent.spawn(bye(), f"BYE to another branch of {self.id}")
