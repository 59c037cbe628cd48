"""Dialogs (RFC 3261 section 12), sans-IO."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Self

from softphone.sip.errors import SipParseError, SipStateError
from softphone.sip.headers import CSeq, Headers, NameAddr
from softphone.sip.message import MAGIC_COOKIE, Request, Response
from softphone.sip.uri import SipUri, Uri

TARGET_REFRESH = frozenset(["INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"])
"Requests that carry a Contact: it becomes the other side's target."


class DialogState(Enum):
    EARLY = "early"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class DialogId(NamedTuple):
    """Identifies a dialog as seen from here."""

    call_id: str
    local_tag: str
    remote_tag: str

    @classmethod
    def of_request(cls, request: Request) -> Self:
        """For a request from the peer."""
        return cls(request.call_id, request.to.tag or "", request.from_.tag or "")

    @classmethod
    def of_response(cls, response: Response) -> Self:
        """For a response to a request of ours."""
        return cls(response.call_id, response.from_.tag or "", response.to.tag or "")


@dataclass(slots=True)
class Dialog:
    """The peer-to-peer relation that an INVITE makes."""

    id: DialogId
    state: DialogState
    local: NameAddr
    remote: NameAddr
    remote_target: Uri
    routes: tuple[NameAddr, ...]
    "The route set in the order of our requests."
    contact: NameAddr
    "Our own contact, in every request that refreshes the target."
    local_sequence: int
    remote_sequence: int | None
    secure: bool

    @classmethod
    def as_caller(cls, request: Request, response: Response, contact: NameAddr) -> Self:
        """From our INVITE and a 101-299 response with To tag (section 12.1.2). Raises SipParseError."""
        return cls(
            id=DialogId.of_response(response),
            state=DialogState.CONFIRMED if response.final else DialogState.EARLY,
            local=response.from_,
            remote=response.to,
            remote_target=_target(response) or request.uri,
            routes=tuple(reversed(response.record_route)),
            contact=contact,
            local_sequence=request.cseq.number,
            remote_sequence=None,
            secure=isinstance(request.uri, SipUri) and request.uri.secure,
        )

    @classmethod
    def as_callee(cls, request: Request, local_tag: str, contact: NameAddr) -> Self:
        """From a peer's INVITE (section 12.1.1). Raises SipParseError if it has no Contact.

        RFC 2543 knew INVITEs without Contact: their target is From.
        """
        target = _target(request)
        if target is None and not request.via.branch.startswith(MAGIC_COOKIE):
            target = request.from_.sip_uri
        if target is None:
            raise SipParseError("Contact", 0, "missing in a request that makes a dialog")
        return cls(
            id=DialogId(request.call_id, local_tag, request.from_.tag or ""),
            state=DialogState.EARLY,
            local=request.to.with_parameter("tag", local_tag),
            remote=request.from_,
            remote_target=target,
            routes=tuple(request.record_route),
            contact=contact,
            local_sequence=0,
            remote_sequence=request.cseq.number,
            secure=isinstance(request.uri, SipUri) and request.uri.secure,
        )

    def confirm(self, response: Response) -> None:
        """The 2xx to our INVITE: route set and target are computed anew (section 13.2.2.4)."""
        self.state = DialogState.CONFIRMED
        self.routes = tuple(reversed(response.record_route))
        self.remote_target = _target(response) or self.remote_target

    def refresh(self, message: Request | Response) -> None:
        """A re-INVITE or its 2xx moves the target (section 12.2)."""
        self.remote_target = _target(message) or self.remote_target

    def request(
        self, method: str, extra: Headers | None = None, body: bytes = b"", sequence: int | None = None
    ) -> Request:
        """The next request inside the dialog, without Via (section 12.2.1.1).

        ``sequence`` is given for ACK (and CANCEL) only. Raises SipStateError after the end of the dialog.
        """
        if self.state is DialogState.TERMINATED:
            raise SipStateError(f"{method} in a dialog that is over: call again")
        if sequence is None:
            self.local_sequence += 1
            sequence = self.local_sequence
        uri, routes = route(self.remote_target, self.routes)
        lines = [("Route", str(hop)) for hop in routes]
        lines += [
            ("From", str(self.local)),
            ("To", str(self.remote)),
            ("Call-ID", self.id.call_id),
            ("CSeq", str(CSeq(sequence, method))),
            ("Max-Forwards", "70"),
        ]
        if method in TARGET_REFRESH:
            lines.append(("Contact", str(self.contact)))
        return Request(method=method, uri=uri, headers=Headers.of(*lines, *(extra or Headers())), body=body)

    @property
    def first_hop(self) -> Uri:
        """Where requests inside the dialog go first; a strict router too (section 8.1.2)."""
        return self.routes[0].uri if self.routes else self.remote_target

    def accepts(self, request: Request) -> bool:
        """Whether the CSeq of a peer's request is in order; remembers it (section 12.2.2). False: answer 500."""
        if request.method in ("ACK", "CANCEL"):
            return True
        number = request.cseq.number
        if self.remote_sequence is not None and number <= self.remote_sequence:
            return False
        self.remote_sequence = number
        return True

    def end(self) -> None:
        self.state = DialogState.TERMINATED


def route(target: Uri, routes: tuple[NameAddr, ...] | list[NameAddr]) -> tuple[Uri, list[NameAddr]]:
    """Request-URI and Route values for a target and a route set: loose or strict routing (section 12.2.1.1)."""
    if not routes:
        return target, []
    first = routes[0].sip_uri
    if first is None or first.loose:
        return target, list(routes)
    return first.bare(), [*routes[1:], NameAddr(target)]


def next_hop(request: Request) -> Uri:
    """Where a request outside dialogs goes first (section 8.1.2): the topmost Route, else the Request-URI."""
    routes = request.routes
    return routes[0].uri if routes else request.uri


def _target(message: Request | Response) -> Uri | None:
    contacts = message.contacts
    return contacts[0].uri if contacts else None
