"""Changes of a running call that begin here: hold and resume, refresh of the session, glare (RFC 3261 section 14).

Offers go as re-INVITE: the other side may have to ask somebody. A refresh goes as UPDATE without offer (RFC 3311) to
who takes it, else as a re-INVITE with the offer that we made last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING

from softphone.calls.leg import Leg
from softphone.errors import CallError, ChangeRefused, TransportError
from softphone.events import CallHold, EndedBy
from softphone.media.audio import AudioSource
from softphone.media.offer_answer import Direction, NotAcceptable
from softphone.media.sdp import SdpError
from softphone.sip.auth import retry_after
from softphone.sip.endpoint import ClientTransaction
from softphone.sip.errors import SipError
from softphone.sip.exchange import glare_wait
from softphone.sip.headers import Headers
from softphone.sip.message import Response, respond
from softphone.sip.reliable import OPTION as RELIABLE
from softphone.user_agent.agent import MAX_CHALLENGES
from softphone.user_agent.capabilities import SDP, capabilities, reason_of

if TYPE_CHECKING:
    from softphone.calls.dialog_call import DialogCall

TRIES = 5
"Of one change, against 491 and the like."
ANSWER_SECONDS = 32.0
"How long the other side may think about a re-INVITE."
LONGEST_RETRY = 10
"Seconds of Retry-After that we wait for (RFC 3261 section 14.2 says up to 10)."
GONE = frozenset([408, 481])
"The other side does not know the dialog any more (RFC 3261 section 12.2.1.2)."


class Renegotiation:
    """Of one call."""

    def __init__(self, call: DialogCall) -> None:
        self.on_hold = False
        "We hold the other side."
        self.inviting = False
        "A re-INVITE of ours waits for its answer: theirs gets 491."
        self._call = call
        self._one_at_a_time = asyncio.Lock()

    async def hold(self, music: AudioSource | None) -> None:
        """See `Call.hold`."""
        await self._finish(self._change("hold", Direction.SENDONLY, music))

    async def resume(self) -> None:
        """See `Call.resume`."""
        await self._finish(self._change("resume", Direction.SENDRECV, None))

    async def _finish(self, change: Coroutine[object, object, None]) -> None:
        """A re-INVITE has to be acknowledged, whoever has lost interest in it."""
        await self._call._agent.finish(change, f"change {self._call.id}")

    async def _change(self, what: str, wish: Direction, music: AudioSource | None) -> None:
        call = self._call
        async with self._one_at_a_time:
            leg = self._confirmed(what)
            if leg.wish is not wish:
                before, leg.wish = leg.wish, wish
                try:
                    response = await self._insist(leg, lambda: self._reinvite(leg))
                    self._judge(what, response)
                except BaseException:
                    leg.wish = before
                    raise
            self.on_hold = wish is Direction.SENDONLY
            if self.on_hold:
                call._sound.hold(music)
            else:
                call._sound.resume()
            call._agent.hub.emit(CallHold(call.id, self.on_hold, call.held))

    async def refresh(self) -> None:
        """Keep the session alive (RFC 4028 section 7.4); a peer that does not know the call any more ends it."""
        async with self._one_at_a_time:
            try:
                leg = self._confirmed("refresh")
                again = self._update if "UPDATE" in leg.allowed else self._reinvite
                await self._insist(leg, lambda: again(leg))
            except (CallError, TransportError, SipError):
                self._call._agent.endpoint.counters["refresh-failed"] += 1  # what cannot be refreshed expires

    async def without_ipsec(self) -> None:
        """Tell the other side of an answered call that its section for IKE is refused now (RFC 6193 section 5.1)."""
        call = self._call
        async with self._one_at_a_time:
            try:
                await call._changes.until(lambda: call._talking or call.ended_event is not None, ANSWER_SECONDS)
                leg = self._confirmed("do without IPsec")
                self._judge("doing without IPsec", await self._insist(leg, lambda: self._reinvite(leg)))
            except (CallError, TransportError, SipError, TimeoutError):
                call._agent.endpoint.counters["ipsec-refusal-failed"] += 1

    async def info(self, content_type: str, body: bytes) -> None:
        """See `Call.info`."""
        leg = self._confirmed("send INFO")
        headers = Headers.of(("Content-Type", content_type))
        self._judge("INFO", await self.ask(leg, "INFO", lambda: headers, body))

    async def ask(self, leg: Leg, method: str, headers: Callable[[], Headers], body: bytes = b"") -> Response:
        """A request in the dialog. Raises CallError when the other side has lost the call, TransportError, SipError."""
        response = await leg.request(method, headers, body)
        self._still_there(response)
        return response

    def _confirmed(self, what: str) -> Leg:
        call = self._call
        if call._leg is None or not call._talking:
            raise CallError(f"cannot {what}: the call is {call.state.value}")
        return call._leg

    @staticmethod
    def _judge(what: str, response: Response) -> None:
        if not response.success:
            raise ChangeRefused(what, response.status, reason_of(response))

    async def _insist(self, leg: Leg, attempt: Callable[[], Awaitable[Response]]) -> Response:
        """Try again where the other side only asks for patience, or for a longer session interval."""
        call = self._call
        for left in reversed(range(TRIES)):
            # A 2xx of ours without ACK, or an open offer, would be glare for certain.
            try:
                await call._changes.until(
                    lambda: not call._talking or (call.acknowledged and leg.exchange.free), ANSWER_SECONDS
                )
            except TimeoutError:
                raise CallError("cannot change anything: the other side still owes an answer") from None
            self._confirmed("change anything")
            response = await attempt()
            self._still_there(response)
            if response.status == 491 and left:
                await asyncio.sleep(glare_wait(not call.incoming, call._agent.jitter()))
            elif response.status == 500 and "Retry-After" in response.headers and left:
                await asyncio.sleep(min(retry_after(response), LONGEST_RETRY))
            elif response.status != 422 or not call._timer.refused(response):
                break
        return response

    def _still_there(self, response: Response) -> None:
        if response.status in GONE:
            why = f"the other side is gone: {reason_of(response)}"
            self._call._agent.spawn(self._call._bye(why, EndedBy.FAILURE, response.status), f"BYE {self._call.id}")
            raise CallError(why)

    def _headers(self) -> Headers:
        agent = self._call._agent
        headers = Headers.of(*capabilities(agent), *self._call._timer.ask())
        # Provisional responses to a re-INVITE tell us nothing; they need not be reliable.
        return headers.set("Supported", ", ".join(tag for tag in agent.extensions if tag != RELIABLE))

    async def _update(self, leg: Leg) -> Response:
        response = await leg.request("UPDATE", self._headers)
        if response.success:
            self._refreshed(leg, response)
        return response

    async def _reinvite(self, leg: Leg) -> Response:
        """Send our description as it is to be now, and take the answer (RFC 3261 section 14.1)."""
        call = self._call
        held = leg.held
        sdp = leg.offer()
        self.inviting = True
        try:
            transaction, response = await self._invite(leg, sdp)
        finally:
            self.inviting = False
            leg.exchange.settled()
            call._changes.tell()
        if not response.success:
            return response
        leg.learn(response)
        self._refreshed(leg, response)
        await leg.acknowledge(transaction.request)
        call._agent.spawn(self._acknowledge_again(leg, transaction), f"ACK {call.id}")
        try:
            leg.accept(response.body)
        except (NotAcceptable, SdpError) as exc:
            await call._bye(str(exc), EndedBy.FAILURE, 488)
            raise CallError(f"the answer to our offer cannot be used: {exc}") from exc
        await call._protect(leg)
        if held != leg.held:
            call._agent.hub.emit(CallHold(call.id, self.on_hold, leg.held))
        return response

    async def _invite(self, leg: Leg, sdp: str) -> tuple[ClientTransaction, Response]:
        """The final response to a re-INVITE; challenges are answered, a peer that thinks for too long is stopped."""
        agent = self._call._agent
        for _ in range(MAX_CHALLENGES):
            headers = self._headers().add("Content-Type", SDP)
            request = leg.dialog.request("INVITE", headers, sdp.encode())
            transaction = await agent.send(request, hop=leg.dialog.first_hop)
            response = await _final(transaction)
            if response.status not in (401, 407) or not agent.challenged(transaction, response):
                break
        if response.success:
            agent.accepted(transaction, response)
        return transaction, response

    def _refreshed(self, leg: Leg, response: Response) -> None:
        call = self._call
        leg.dialog.refresh(response)
        call._timer.answered(response, asyncio.get_running_loop().time())
        call._timer_alarm.set(call._timer.timer)

    async def _acknowledge_again(self, leg: Leg, transaction: ClientTransaction) -> None:
        async for response in transaction.responses():
            if response.success:
                leg.acknowledged(response)


async def _final(transaction: ClientTransaction) -> Response:
    """The final response to a re-INVITE; a peer that does not come to an end is taken for gone (408)."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await transaction.final()
    except TimeoutError:
        await transaction.cancel()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await transaction.final()
    except TimeoutError:
        return respond(transaction.request, 408)
