"""Texts outside and inside of calls (MESSAGE, RFC 3428)."""

from __future__ import annotations

from dataclasses import replace

from softphone.errors import CallError, CallRejected
from softphone.events import MessageReceived, MessageSent
from softphone.sip.endpoint import ServerTransaction
from softphone.sip.headers import Headers, NameAddr
from softphone.sip.message import Request
from softphone.sip.uri import SipUri
from softphone.user_agent.agent import Agent
from softphone.user_agent.capabilities import reason_of

MESSAGE_BYTES = 1300
"Of a text: larger ones do not go outside of a session (RFC 3428 section 8)."
TEXT = "text/plain"
TAKEN = ("text/", "multipart/", "message/cpim")
"Beginnings of content types: texts, and what may contain some."


async def send_message(agent: Agent, target: SipUri, text: str) -> None:
    """Raises CallRejected, TransportError, CallError when it is too long."""
    body = text.encode()
    if len(body) > MESSAGE_BYTES:
        raise CallError(f"a message has {MESSAGE_BYTES} bytes at most, this has {len(body)}: send it in parts")
    call_id, tag, sequence = agent.new_call_id(), agent.endpoint.new_tag(), 0

    def make() -> Request:
        nonlocal sequence
        sequence += 1
        request = agent.initial("MESSAGE", target, NameAddr(target), agent.identity(tag), call_id, sequence)
        headers = request.headers.add("Content-Type", f"{TEXT};charset=UTF-8")
        return replace(request, headers=headers, body=body)

    response = await agent.complete(make)
    if not response.success:
        raise CallRejected(response.status, reason_of(response))
    agent.hub.emit(MessageSent(str(target), text))


def take_message(agent: Agent, transaction: ServerTransaction) -> None:
    """A MESSAGE, inside a dialog or outside (RFC 3428 section 7); what is no text is refused with 415."""
    request = transaction.request
    if request.body and not request.content_type.startswith(TAKEN):
        transaction.respond(415, headers=Headers.of(("Accept", f"{TEXT}, text/*, multipart/*, message/cpim")))
        return
    transaction.respond(200)
    agent.hub.emit(MessageReceived(str(request.from_.uri), request.content_type, request.body))
