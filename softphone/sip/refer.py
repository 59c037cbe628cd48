"""Transfer as values: Refer-To and sipfrag (RFC 3515), Replaces (RFC 3891). Sans-IO."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from softphone.sip.dialog import DialogId
from softphone.sip.errors import SipParseError
from softphone.sip.headers import NameAddr, find_parameter, parse_parameters
from softphone.sip.message import REASONS, Request
from softphone.sip.uri import SipUri, escape, unescape

SIPFRAG = "message/sipfrag"
STATUS = re.compile(rb"SIP/2\.0 ([1-6]\d\d)(?: ([^\r\n]*))?(?:\r?\n|\Z)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Replaces:
    """Names a dialog that a new call shall take the place of (RFC 3891 section 6.1)."""

    call_id: str
    to_tag: str
    "The local tag of whoever gets the INVITE."
    from_tag: str
    early_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises SipParseError."""
        call_id, semicolon, rest = text.partition(";")
        parameters = parse_parameters(semicolon + rest, "Replaces")
        to_tag, from_tag = find_parameter(parameters, "to-tag"), find_parameter(parameters, "from-tag")
        if not call_id.strip() or to_tag is None or from_tag is None:
            raise SipParseError("Replaces", 0, "needs a Call-ID, to-tag and from-tag")
        early = find_parameter(parameters, "early-only") is not None
        return cls(call_id.strip(), to_tag, from_tag, early)

    @classmethod
    def of_peer(cls, dialog: DialogId) -> Self:
        """For the other side of a dialog of ours: what is remote here is local there."""
        return cls(dialog.call_id, dialog.remote_tag, dialog.local_tag)

    @property
    def dialog(self) -> DialogId:
        """The dialog at whoever got the INVITE."""
        return DialogId(self.call_id, self.to_tag, self.from_tag)

    def __str__(self) -> str:
        early = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{early}"


@dataclass(frozen=True, slots=True)
class ReferTo:
    """Whom to call, and which dialog there to replace (RFC 3515 section 2.1)."""

    target: SipUri
    "Without method and headers."
    replaces: Replaces | None = None

    @classmethod
    def of(cls, request: Request) -> Self:
        """What a REFER asks for. Raises SipParseError; its status is what to answer."""
        values = request.headers.values("Refer-To")
        if len(values) != 1:
            raise SipParseError("Refer-To", 0, f"needed once, there are {len(values)}")
        uri = NameAddr.parse(values[0], "Refer-To").uri
        if not isinstance(uri, SipUri):
            raise SipParseError("Refer-To", 0, "only SIP URIs can be called", status=416)
        if (uri.parameter("method") or "INVITE").upper() != "INVITE":
            raise SipParseError("Refer-To", 0, "only calls can be asked for", status=403)
        wanted = [value for name, value in uri.headers if name.lower() == "replaces"]
        return cls(uri.bare(), Replaces.parse(unescape(wanted[0])) if wanted else None)

    def __str__(self) -> str:
        headers = (("Replaces", escape(str(self.replaces))),) if self.replaces is not None else ()
        return str(NameAddr(replace(self.target, headers=headers)))


class Outcome(NamedTuple):
    """How far the call is that a REFER asked for: the status line in a NOTIFY."""

    status: int
    reason: str

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """From ``message/sipfrag``. Raises SipParseError."""
        match = STATUS.match(body.lstrip())
        if match is None:
            raise SipParseError("sipfrag", 0, f"{body[:40]!r} does not begin with a status line")
        return cls(int(match[1]), (match[2] or b"").decode("utf-8", "replace"))

    @classmethod
    def of_status(cls, status: int) -> Self:
        return cls(status, REASONS.get(status, "Unknown"))

    def __bytes__(self) -> bytes:
        return f"SIP/2.0 {self.status} {self.reason}\r\n".encode()
