"""What this phone understands: how every request is judged first, and what answers say about it."""

from __future__ import annotations

from dataclasses import replace

from softphone.sip import message
from softphone.sip.endpoint import ServerTransaction
from softphone.sip.headers import Headers, NameAddr, quote
from softphone.sip.message import Request, Response
from softphone.sip.transport import Flow
from softphone.sip.uri import SipUri
from softphone.user_agent.agent import ALLOW, METHODS, Agent

SDP = "application/sdp"


def capabilities(agent: Agent) -> Headers:
    """What we understand, for INVITE, 2xx, OPTIONS and UPDATE (RFC 3261 section 11.2)."""
    return Headers.of(("Allow", ALLOW), ("Accept", SDP), ("Supported", ", ".join(agent.extensions)))


def refuse_early(agent: Agent, transaction: ServerTransaction) -> bool:
    """The checks that hold for every request (RFC 3261 section 8.2); True if it was refused."""
    request = transaction.request
    if request.method not in METHODS:
        transaction.respond(405 if request.method in message.METHODS else 501, headers=Headers.of(("Allow", ALLOW)))
    elif not isinstance(request.uri, SipUri):
        transaction.respond(416)
    elif unsupported := [tag for tag in request.headers.values("Require") if tag.lower() not in agent.extensions]:
        transaction.respond(420, headers=Headers.of(("Unsupported", ", ".join(unsupported))))
    elif request.body and request.method in ("INVITE", "UPDATE", "PRACK") and request.content_type != SDP:
        transaction.respond(415, headers=Headers.of(("Accept", SDP)))
    elif request.method == "INVITE" and not _takes_sdp(request):
        transaction.respond(406)
    elif any(coding.lower() != "identity" for coding in request.headers.values("Content-Encoding")):
        transaction.respond(415, headers=Headers.of(("Accept-Encoding", "identity")))
    else:
        return False
    return True


def _takes_sdp(request: Request) -> bool:
    """Whether the caller could read our session description (RFC 3261 section 20.1)."""
    accepted = [value.partition(";")[0].strip().lower() for value in request.headers.values("Accept")]
    return "Accept" not in request.headers or any(kind in (SDP, "application/*", "*/*") for kind in accepted)


def warning(host: str, text: str) -> Headers:
    """A Warning header (RFC 3261 section 20.43)."""
    agent = f"[{host}]" if ":" in host else host
    plain = "".join(char if " " <= char <= "~" else "?" for char in text)[:200]
    return Headers.of(("Warning", f"399 {agent} {quote(plain)}"))


def flow_contact(agent: Agent, flow: Flow, *, secure: bool, user: str | None = None) -> NameAddr:
    """Our Contact on a flow; a ``sips:`` URI where the call is one (RFC 3261 section 8.1.1.8).

    ``user`` stands in for that of the account.
    """
    if secure:
        uri = agent.endpoint.contact(agent.account.aor.user if user is None else user, flow)
        return NameAddr(replace(uri, scheme="sips", parameters=()))
    return NameAddr(agent.contact(flow, user))


def reason_of(response: Response) -> str:
    """The reason phrase with the text of a Warning, if there is one."""
    text = response.headers.get("Warning")
    return f"{response.reason} ({text})" if text else response.reason
