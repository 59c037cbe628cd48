"""Where a call goes next when it is redirected (RFC 3261 section 8.1.3.4), sans-IO."""

from __future__ import annotations

from softphone.sip.errors import SipParseError
from softphone.sip.headers import NameAddr
from softphone.sip.message import Response
from softphone.sip.uri import SipUri

MAX_TARGETS = 8
"Targets of one call, the first included: who redirects in circles is stopped."
FOLLOWED = frozenset([300, 301, 302])


class Targets:
    """The target set of one call: every target is tried once, the best first."""

    def __init__(self, first: SipUri) -> None:
        self._seen: list[SipUri] = [first]
        self._waiting: list[tuple[float, SipUri]] = []

    def redirected(self, response: Response) -> bool:
        """Take the contacts of a 3xx. True if there is one that was not tried. Raises SipParseError."""
        if response.status in FOLLOWED:
            for contact in response.contacts:
                uri = contact.sip_uri
                if uri is not None and len(self._seen) < MAX_TARGETS and not any(map(uri.matches, self._seen)):
                    self._seen.append(uri)
                    self._waiting.append((preference(contact), uri))
            self._waiting.sort(key=lambda target: -target[0])  # stable: equals stay in the order of the response
        return bool(self._waiting)

    def next(self) -> SipUri | None:
        """The best target that is left."""
        return self._waiting.pop(0)[1] if self._waiting else None


def preference(contact: NameAddr) -> float:
    """The ``q`` of a contact, 1 where none is given (RFC 3261 section 20.10). Raises SipParseError."""
    text = contact.parameter("q")
    if text is None:
        return 1.0
    whole, _, part = text.partition(".")
    if whole not in ("0", "1") or not (part == "" or (part.isascii() and part.isdigit())) or len(part) > 3:
        raise SipParseError("Contact", 0, f"q={text[:10]!r} is not from 0 to 1")
    return min(1.0, float(text))
