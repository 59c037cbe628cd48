"""Promises about SIP input, as functions that take any bytes and fail when one is broken."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

from softphone.media.sdp import SdpError, SessionDescription
from softphone.phone import Softphone
from softphone.sip.errors import SipParseError
from softphone.sip.headers import CSeq
from softphone.sip.message import (
    MAX_HEADER_BYTES,
    Request,
    Response,
    StreamFramer,
    parse_message,
    refuse,
    respond,
)
from softphone.sip.transaction_layer import TransactionLayer, server_key
from softphone.sip.transport import Address, UdpFlow
from softphone.sip.uri import OtherUri, SipUri, parse_uri
from tests.softphone.support import FakeMedia, account, counting, simulate

TORTURE = Path(__file__).parent / "torture"
MESSAGES = tuple(path.read_bytes() for path in sorted(TORTURE.glob("*.dat")))
BASE = (TORTURE / "lwsdisp.dat").read_bytes()


def message(data: bytes) -> None:
    """A message is read or refused with a reason; what is read prints and reads the same, and can be answered."""
    try:
        first = parse_message(data)
    except SipParseError as error:
        _refused(error)
        return
    printed = bytes(first)
    again = parse_message(printed)
    assert bytes(again) == printed
    assert _read(again) == _read(first)
    if isinstance(first, Request):
        for status in (100, 180, 200, 404):
            answered = parse_message(bytes(respond(first, status, to_tag="tag")))
            assert isinstance(answered, Response)
            assert (answered.cseq, answered.call_id, answered.vias) == (first.cseq, first.call_id, first.vias)
        assert server_key(first) == server_key(first)


def _refused(error: SipParseError) -> None:
    if error.request is not None:
        answer = bytes(refuse(error.request, error, "tag"))
        assert answer.startswith(b"SIP/2.0 %d " % error.status)
        assert answer.count(b"\r\n\r\n") == 1


def _read(what: Request | Response) -> list[object]:
    """All that other layers read of a message that was accepted: nothing of it raises."""
    values: list[object] = [
        what.vias, what.from_, what.to, what.call_id, what.cseq, what.contacts, what.record_route, what.content_type,
        what.body, what.number("Expires"),
    ]  # fmt: skip
    if isinstance(what, Request):
        return [*values, what.routes, what.max_forwards, what.method, what.uri]
    return [*values, what.status, what.reason]


def stream(data: bytes) -> None:
    """Where a stream is cut into pieces does not change its messages, and none is kept without end."""
    size = data[0] % 40 + 1 if data else 1
    pieces = [data[at : at + size] for at in range(1, len(data), size)]
    assert _frames(pieces) == _frames([data[1:]])


def _frames(pieces: list[bytes]) -> tuple[list[bytes], bool]:
    framer = StreamFramer()
    found: list[bytes] = []
    try:
        for piece in pieces:
            while frames := framer.feed(piece):
                piece = b""
                found += [frame.data for frame in frames if frame.data]
    except SipParseError:
        assert len(framer.unframed) <= MAX_HEADER_BYTES + 4
        return found, True
    return found, False


def uri(data: bytes) -> None:
    """A URI that is read prints and reads the same."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        first = parse_uri(text)
    except SipParseError:
        return
    assert isinstance(first, OtherUri) or parse_uri(str(first)) == first
    assert first.matches(first)
    if isinstance(first, SipUri):
        assert parse_uri(str(first.bare())) == first.bare()
        assert parse_uri(str(first.aor())) == first.aor()


def transactions(data: bytes) -> None:
    """Whatever order messages come in, at whatever times, the table stays bounded and empties."""
    layer = TransactionLayer(limit=4, reserve=2)
    now = 0.0
    for code in data[:200]:
        request, step, known = _variant(code)
        now += step
        layer.handle_timer(now)
        outputs = layer.received(request, bool(code & 64), now, known=known)
        if outputs and code & 128 and request.method not in ("ACK", "CANCEL"):
            layer.respond(server_key(request), respond(request, 200 if code & 32 else 486, to_tag="t"), now)
        assert sum(not key.client for key in layer.transactions) <= 6
    for key in [key for key in layer.transactions if not key.client]:
        layer.forget(key, now)
    while (moment := layer.timer) is not None:
        layer.handle_timer(moment)
    assert not layer.transactions


def _variant(code: int) -> tuple[Request, float, bool]:
    base = parse_message(BASE)
    assert isinstance(base, Request)
    method = ("INVITE", "ACK", "OPTIONS", "CANCEL")[code & 3]
    branch = f"SIP/2.0/UDP [::1]:9;branch=z9hG4bK{code >> 2 & 7}"
    headers = base.headers.set("Via", branch).set("CSeq", str(CSeq(1, method))).set("Call-ID", str(code >> 2 & 3))
    return Request(method=method, uri=base.uri, headers=headers), (code & 15) * 3.0, bool(code & 16)


def description(data: bytes) -> None:
    """A session description is read or refused with a reason."""
    try:
        SessionDescription.parse(data.decode("utf-8", "replace"))
    except SdpError:
        return


def phone(datagrams: list[bytes]) -> None:
    """A whole phone on a socket: no task fails, whatever comes."""

    async def work() -> None:
        async with Softphone(account("bob"), media=FakeMedia.factory([]), random=counting()) as bob:
            udp = bob.endpoint.connections.udp
            assert udp is not None
            flow = UdpFlow(udp, Address("::1", 9))
            for data in datagrams:
                bob.endpoint.received(data, flow)
                await asyncio.sleep(0)
            await asyncio.sleep(0.1)
            assert bob.counters["task-failed"] == 0
            assert len(bob.calls) <= bob.account.max_calls

    simulate(work)


TARGETS = {
    "sip-message": message,
    "sip-stream": stream,
    "sip-uri": uri,
    "sip-transactions": transactions,
    "sdp": description,
}


def seeds(name: str) -> list[bytes]:
    """Inputs to begin with."""
    match name:
        case "sip-message":
            return list(MESSAGES)
        case "sip-stream":
            return [b"\x07" + one + other for one, other in pairwise(MESSAGES)]
        case "sdp":
            return [data.partition(b"\r\n\r\n")[2] for data in MESSAGES]
        case _:
            return []
