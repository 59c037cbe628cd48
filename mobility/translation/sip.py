"""Application-level gateway for SIP and SDP: addresses in the text of messages, as the other side knows them.

Messages of programs say the virtual IPv4 address of interface 19 and virtual addresses of correspondents; the network
knows the home address and the correspondents' own. Both directions rewrite address literals where SIP and SDP have
hosts, and nothing else: names, ports, tags, Call-ID and what digest authentication signs stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv6Address

_START = re.compile(rb"SIP/2\.0 \d{3}[ \r]|[A-Z]{3,32} [^\s]+ SIP/2\.0\r?\n")
_NAME = re.compile(rb"([A-Za-z0-9\-.!%*_+`'~]+)[ \t]*:")

WITH_HOSTS = frozenset(
    {
        b"via",
        b"v",
        b"contact",
        b"m",
        b"route",
        b"record-route",
        b"from",
        b"f",
        b"to",
        b"t",
        b"path",
        b"service-route",
        b"refer-to",
        b"r",
        b"referred-by",
        b"b",
        b"reply-to",
        b"p-asserted-identity",
        b"p-preferred-identity",
        b"p-associated-uri",
        b"history-info",
        b"diversion",
    }
)
"Header fields that have hosts, with their short forms."
_LENGTH = re.compile(rb"(?im)^((?:content-length|l)[ \t]*:[ \t]*)(\d{1,9})(?!\d)")
_TYPE = re.compile(rb"(?im)^(?:content-type|c)[ \t]*:\s*(application/sdp|multipart/)")
_ENCODED = re.compile(rb"(?im)^(?:content-encoding|e)[ \t]*:")

_VIA = re.compile(
    rb"(?im)^(?:via|v)[ \t]*:[ \t]*SIP/2\.0/[A-Z]{3,8}[ \t]+(?:\[[^\]\s]*\]|[^\s:;,\[]+)(?::(\d{1,5})(?!\d))?"
)
# What is in quotation marks is for people or signed, and is skipped.
# Patterns have to be linear, because strangers write the text.
_QUOTED = rb'"(?:[^"\\]|\\.?)*+"?'
_V4 = rb"(?:\d{1,3}\.){3}\d{1,3}"
_V6 = rb"[0-9A-Fa-f:.]{2,45}"
_HOST4 = re.compile(rb"(?i)%b|(received=)?(?<![\w.\-])(%b)(?![\w\-@]|\.\w)" % (_QUOTED, _V4))
_HOST6 = re.compile(rb"(?i)%b|\[(%b)\]|((?:received|maddr)=)(%b)" % (_QUOTED, _V6, _V6))

_SDP4 = re.compile(rb"(?m)^(o=\S+ \S+ \S+ IN |c=IN |a=rtcp:\d+ IN )IP4 (%b)" % _V4)
_SDP6 = re.compile(rb"(?m)^(o=\S+ \S+ \S+ IN |c=IN |a=rtcp:\d+ IN )IP6 (%b)" % _V6)
_CANDIDATE = re.compile(rb"(?m)^a=candidate:[^\r\n]*")
_CANDIDATE4 = re.compile(rb"(?<= )%b(?= |$)" % _V4)
_CANDIDATE6 = re.compile(rb"(?<= )%b(?= |$)" % _V6)

NOWHERE4, NOWHERE6 = IPv4Address(0), IPv6Address(0)
"In SDP: nothing is to be sent (RFC 3264 section 8.4)."


class SipGateway:
    """``to4`` and ``to6``: the counterpart of an address literal; None: it stays as it is."""

    def __init__(
        self,
        to4: Callable[[IPv6Address], IPv4Address | None],
        to6: Callable[[IPv4Address], IPv6Address | None],
    ) -> None:
        self._to4 = to4
        self._to6 = to6
        self.outbound_messages = 0
        self.inbound_messages = 0

    def is_message(self, payload: bytes) -> bool:
        """Whether this is the beginning of a SIP message."""
        return _START.match(payload) is not None

    def sent_by(self, message: bytes) -> int | None:
        """The port at which the sender of a request wants to be reached; None: this is no request."""
        found = _VIA.search(message) if not message.startswith(b"SIP/2.0") else None
        return None if found is None else int(found[1] or b"5060")

    def outbound(self, payload: bytes) -> bytes:
        """A message of a program, in terms of IPv6; what is no message stays as it is."""
        written = self._written(payload, _HOST4, self._host4, self._sdp4)
        self.outbound_messages += written is not None
        return payload if written is None else written

    def inbound(self, payload: bytes) -> bytes:
        """A message for a program, in terms of IPv4; what is no message stays as it is."""
        written = self._written(payload, _HOST6, self._host6, self._sdp6)
        self.inbound_messages += written is not None
        return payload if written is None else written

    def snapshot(self) -> dict[str, object]:
        """For people, JSON-ready."""
        return {"outbound": self.outbound_messages, "inbound": self.inbound_messages}

    def _written(
        self,
        payload: bytes,
        hosts: re.Pattern[bytes],
        host: Callable[[re.Match[bytes]], bytes],
        sdp: Callable[[bytes], bytes],
    ) -> bytes | None:
        head, blank, body = payload.partition(b"\r\n\r\n")
        if not blank or _START.match(payload) is None:
            return None
        lines = head.split(b"\r\n")
        rewrite = not lines[0].startswith(b"SIP/2.0")
        for number, line in enumerate(lines):
            if number and line[:1] not in (b" ", b"\t"):  # not folded: another header field begins
                name = _NAME.match(line)
                rewrite = name is not None and name[1].lower() in WITH_HOSTS
            if rewrite:
                lines[number] = hosts.sub(host, line)
        head = b"\r\n".join(lines)
        length = _LENGTH.search(head)
        claimed = len(body) if length is None else int(length[2])
        body = body[:claimed]  # what follows it in a datagram is nothing (RFC 3261 section 18.3)
        if body and _TYPE.search(head) and not _ENCODED.search(head):
            former, body = len(body), sdp(body)
            if length is not None:  # what was cut off stays so
                head = b"%b%b%d%b" % (
                    head[: length.start()],
                    length[1],
                    claimed + len(body) - former,
                    head[length.end() :],
                )
        return head + blank + body

    # ------------------------------------------------------------ hosts in header fields

    def _host4(self, found: re.Match[bytes]) -> bytes:
        if found[2] is None:
            return found[0]
        address = self._from4(found[2])
        if address is None:
            return found[0]
        # RFC 3261 section 25.1: the address behind "received" has no brackets, hosts have.
        return found[1] + address if found[1] else b"[%b]" % address

    def _host6(self, found: re.Match[bytes]) -> bytes:
        literal = found[1] or found[3]
        address = None if literal is None else self._from6(literal)
        if address is None:
            return found[0]
        return (found[2] or b"") + address

    def _from4(self, literal: bytes) -> bytes | None:
        try:
            address = self._to6(IPv4Address(literal.decode()))
        except AddressValueError:
            return None
        return None if address is None else str(address).encode()

    def _from6(self, literal: bytes) -> bytes | None:
        try:
            address = self._to4(IPv6Address(literal.decode()))
        except AddressValueError:
            return None
        return None if address is None else str(address).encode()

    # ------------------------------------------------------------ SDP

    def _sdp4(self, body: bytes) -> bytes:
        def line(found: re.Match[bytes]) -> bytes:
            address = str(NOWHERE6).encode() if found[2] == b"0.0.0.0" else self._from4(found[2])
            return found[0] if address is None else b"%bIP6 %b" % (found[1], address)

        def field(found: re.Match[bytes]) -> bytes:
            return self._from4(found[0]) or found[0]

        return _CANDIDATE.sub(lambda found: _CANDIDATE4.sub(field, found[0]), _SDP4.sub(line, body))

    def _sdp6(self, body: bytes) -> bytes:
        def line(found: re.Match[bytes]) -> bytes:
            address = str(NOWHERE4).encode() if found[2] == b"::" else self._from6(found[2])
            return found[0] if address is None else b"%bIP4 %b" % (found[1], address)

        def field(found: re.Match[bytes]) -> bytes:
            return self._from6(found[0]) or found[0]

        return _CANDIDATE.sub(lambda found: _CANDIDATE6.sub(field, found[0]), _SDP6.sub(line, body))
