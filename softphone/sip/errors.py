"""Errors of the SIP layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from softphone.errors import SoftphoneError

if TYPE_CHECKING:
    from softphone.sip.message import Request


class SipError(SoftphoneError):
    """Root of the errors of `softphone.sip`."""


class SipParseError(SipError):
    """Text that is not what the grammar of RFC 3261 section 25 says.

    ``what`` names the element, ``at`` is the offset within its text, ``why`` says what is wrong.
    """

    def __init__(self, what: str, at: int, why: str, *, status: int = 400) -> None:
        super().__init__(f"{what} at {at}: {why}")
        self.what = what
        self.at = at
        self.why = why
        self.status = status
        "What a server answers to a request like this (RFC 3261 section 21.4, 21.5)."
        self.request: Request | None = None
        "The request as far as it could be read, if that suffices to answer it."


class SipStateError(SipError):
    """An operation does not fit the state of the transaction or dialog."""
