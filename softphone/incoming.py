"""Calls that come in: ring, answer, reject, CANCEL (RFC 3261 section 13.3)."""

from __future__ import annotations

import asyncio

from softphone.agent import Agent
from softphone.call import Call, CallState, flow_contact, warning
from softphone.errors import CallError
from softphone.events import EndedBy
from softphone.media.offer_answer import NotAcceptable
from softphone.media.sdp import SdpError
from softphone.sip.dialog import Dialog
from softphone.sip.endpoint import ServerTransaction
from softphone.sip.headers import Headers
from softphone.sip.message import REASONS
from softphone.sip.uri import SipUri

RING_AGAIN = 60.0
"Seconds between two 180, so that proxies do not give up (section 13.3.1.1)."


class IncomingCall(Call):
    """A call from somebody."""

    def __init__(self, agent: Agent, transaction: ServerTransaction) -> None:
        """Raises SipParseError when the INVITE cannot make a dialog."""
        request = transaction.request
        secure = isinstance(request.uri, SipUri) and request.uri.secure
        contact = flow_contact(agent, transaction.flow, secure=secure)
        dialog = Dialog.as_callee(request, agent.endpoint.new_tag(), contact)
        super().__init__(agent, request.call_id, request.from_)
        self._invite = transaction
        self._bell: asyncio.TimerHandle | None = None
        self._use_dialog(dialog)
        transaction.on_cancel = self._on_cancel

    @property
    def incoming(self) -> bool:
        return True

    async def prepare(self) -> bool:
        """Open media and look at the offer; False when the call was refused for it (488)."""
        self.media = await self._agent.open_media()
        request = self._invite.request
        if self.state is CallState.ENDED:  # cancelled meanwhile
            media, self.media = self.media, None
            await media.close()
            return False
        try:
            if request.body:
                self._answer(request.body)
            else:
                self.local_sdp = self.media.offer()
        except (NotAcceptable, SdpError) as exc:
            status = 488 if isinstance(exc, NotAcceptable) else 400
            self._refuse(status, REASONS[status], warning(self._agent.endpoint.host, str(exc)))
            self._end(EndedBy.FAILURE, status, str(exc))
            return False
        return True

    def fail(self, reason: str) -> None:
        """Something broke here before the call could ring."""
        self._refuse(500, REASONS[500])
        self._end(EndedBy.FAILURE, 500, reason)

    async def ring(self) -> None:
        """Tell the caller that we ring (180). Raises CallError when it is too late for that."""
        self._pending("ring")
        self.state = CallState.RINGING
        self._ring()
        self._changed()

    async def answer(self) -> None:
        """Accept the call: 200, media starts. Raises CallError when it is too late for that."""
        dialog = self._pending("answer")
        late_offer = not self._invite.request.body
        self._awaiting_answer = late_offer
        self._silence()
        self._accept_invite(self._invite, self.local_sdp, dialog)
        self._confirmed()
        if not late_offer:
            await self._start_media()

    async def reject(self, status: int = 486, reason: str | None = None) -> None:
        """Refuse the call with a final response from 300 to 699. Raises CallError when it is too late for that."""
        if not 300 <= status <= 699:
            raise CallError(f"{status} is no refusal: use 486 (busy), 603 (declined) or another from 300 to 699")
        self._pending("reject")
        text = REASONS.get(status, "Refused") if reason is None else reason
        self._refuse(status, text)
        self._end(EndedBy.LOCAL, status, text)

    async def hangup(self) -> None:
        if self.state in (CallState.CALLING, CallState.RINGING):
            await self.reject(603)
            return
        # The callee must not send BYE before the ACK (section 15).
        await self._until(lambda: self.acknowledged or self.state is CallState.ENDED, None)
        await self._bye("hung up")

    def _pending(self, what: str) -> Dialog:
        if self.state not in (CallState.CALLING, CallState.RINGING) or self._dialog is None:
            raise CallError(f"cannot {what}: the call is {self.state.value}")
        return self._dialog

    def _ring(self) -> None:
        if self._dialog is None or self.state is not CallState.RINGING:
            return
        headers = Headers.of(("Contact", str(self._dialog.contact)))
        self._invite.respond(180, to_tag=self._dialog.id.local_tag, headers=headers)
        self._silence()
        self._bell = asyncio.get_running_loop().call_later(RING_AGAIN, self._ring)

    def _silence(self) -> None:
        if self._bell is not None:
            self._bell.cancel()
            self._bell = None

    def _refuse(self, status: int, reason: str, headers: Headers | None = None) -> None:
        if self._dialog is not None and self._invite.final is None:
            self._invite.respond(status, reason, to_tag=self._dialog.id.local_tag, headers=headers)

    def _on_cancel(self) -> None:
        self._end(EndedBy.REMOTE, 487, "cancelled by the caller")

    def _end(self, by: EndedBy, status: int, reason: str, *, dialog_ends: bool = True) -> None:
        self._silence()
        self._refuse(487, REASONS[487])  # the caller may end an unanswered call with BYE, too (section 15)
        super()._end(by, status, reason, dialog_ends=dialog_ends)
