"""RFC 4475 and RFC 5118: what the parser makes of each message, and what a whole phone answers, bytes in, bytes out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from softphone.media.sdp import SessionDescription
from softphone.network.sockets import DirectSockets, connect
from softphone.phone import Softphone
from softphone.sip.endpoint import Traced
from softphone.sip.errors import SipParseError
from softphone.sip.message import Request, Response, parse_message
from softphone.sip.uri import SipUri
from tests.softphone.support import FakeMedia, account, counting, simulate

MESSAGES = Path(__file__).parent / "torture"


class Case(NamedTuple):
    """What the text demands of a phone."""

    section: str
    answers: tuple[int, ...]
    "Status of all responses; none: the message is dropped."
    reads: Callable[[Request | Response], object] | None = None
    "What the parser has to find, all true; None: the message is malformed."
    extra: str = ""
    "Appears in the last response."
    stream: bool = True
    "Over TCP it is answered in the same way."


def request(check: Callable[[Request], object]) -> Callable[[Request | Response], object]:
    return lambda message: isinstance(message, Request) and check(message)


def response(check: Callable[[Response], object]) -> Callable[[Request | Response], object]:
    return lambda message: isinstance(message, Response) and check(message)


def host_of(message: Request) -> str:
    assert isinstance(message.uri, SipUri)
    return message.uri.host


INVITED = (100, 180)
IN_NO_DIALOG = (481,)  # To has a tag
REGISTER = (405,)  # a phone is no registrar

RFC_4475 = {
    "wsinv": Case("3.1.1.1", IN_NO_DIALOG, request(lambda m: (
        m.to.tag == "1918181833n" and m.from_.display == 'J Rosenberg \\"' and m.from_.tag == "98asjd8"
        and m.max_forwards == 68 and str(m.cseq) == "9 INVITE"
        and [via.transport for via in m.vias] == ["UDP", "TCP", "UDP"]
        and [via.branch for via in m.vias] == ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]
        and m.headers.get("Subject") == ""
        and m.headers.get("NewFangledHeader") == "newfangled value continued newfangled value"
        and m.contacts[0].display == 'Quoted string ""' and m.contacts[0].parameter("newparam") == "newvalue"
        and m.contacts[0].parameter("q") == "0.33" and m.routes[0].sip_uri == SipUri.parse(
            "sip:services.example.com;lr;unknownwith=value;unknown-no-value")
        and len(m.body) == 150
    ))),
    "intmeth": Case("3.1.1.2", (501,), request(lambda m: (
        m.method == "!interesting-Method0123456789_*+`.%indeed'~" == m.cseq.method and host_of(m) == "example.com"
        and m.to.display == "BEL:\x07 NUL:\0 DEL:\x7f" and m.from_.tag == "_token~1'+`*%!-."
        and m.from_.parameter("fromparam''~+*_!.-%") == "работающий"
        and m.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
        and m.headers.get("extensionHeader-!.%*+_`'~") == "\ufeff大停電"
    ))),
    "esc01": Case("3.1.1.3", INVITED, request(lambda m: (
        m.uri == SipUri("example.net", "sips%3Auser%40example.com") and m.to.uri.matches(SipUri("example.com", "user"))
        and m.contacts[0].uri.matches(SipUri.parse("sip:caller@host5.example.net;lr;name=value%2541"))
    ))),
    "escnull": Case("3.1.1.4", REGISTER, request(lambda m: (
        len(m.contacts) == 2 and not m.contacts[0].uri.matches(m.contacts[1].uri)
    ))),
    "esc02": Case("3.1.1.5", (501,), request(lambda m: (
        m.method == "RE%47IST%45R" and len(m.contacts) == 2 and m.from_.display == "%Z%45"
    ))),
    "lwsdisp": Case("3.1.1.6", (200,), request(lambda m: m.from_.display == "caller")),
    "longreq": Case("3.1.1.7", INVITED, request(lambda m: (
        len(m.vias) == 34 and m.vias[-1].received == "192.0.2.5" and len(m.vias[-1].branch) == 215
        and m.from_.tag == "12" + 50 * "982" + "424"
    ))),
    "dblreq": Case("3.1.1.8", REGISTER, request(lambda m: m.body == b""), stream=False),
    "semiuri": Case("3.1.1.9", (200,), request(lambda m: (
        m.uri == SipUri("example.com", "user;par=u%40example.net") and len(m.headers.values("Accept")) == 6
    ))),
    "transports": Case("3.1.1.10", (200,), request(lambda m: (
        [via.transport for via in m.vias] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]
    ))),
    "mpart01": Case("3.1.1.11", (200,), request(lambda m: (
        len(m.body) == 553 and b"\0" in m.body and m.content_type == "multipart/mixed"
    ))),
    "unreason": Case("3.1.1.12", (), response(lambda m: m.reason == "= 2**3 * 5**2 но сто девяносто девять - простое")),
    "noreason": Case("3.1.1.13", (), response(lambda m: (m.status, m.reason) == (100, ""))),
    "badinv01": Case("3.1.2.1", (400,), extra="Via at 0"),
    "clerr": Case("3.1.2.2", (400,), extra="Content-Length is 9999, only 154 bytes came", stream=False),
    "ncl": Case("3.1.2.3", (400,), extra="Content-Length at 0: '-999' is not a number"),
    "scalar02": Case("3.1.2.4", (400,), extra="CSeq at 0"),
    "scalarlg": Case("3.1.2.5", ()),
    "quotbal": Case("3.1.2.6", (400,), extra="To at 0: the quoted string is not closed"),
    "ltgtruri": Case("3.1.2.7", (400,), extra="'<sip:user@example.com>'"),
    "lwsruri": Case("3.1.2.8", (400,), extra="request line at 0"),
    "lwsstart": Case("3.1.2.9", (400,), extra="request line at 0"),
    "trws": Case("3.1.2.10", (400,), extra="request line at 0"),
    "escruri": Case("3.1.2.11", (400,), extra="must not carry header fields"),
    "baddate": Case("3.1.2.12", INVITED, request(lambda m: "Date" in m.headers)),  # not used, so not looked at
    "regbadct": Case("3.1.2.13", (400,), extra="Contact at 0"),
    "badaspec": Case("3.1.2.14", (400,), extra="has no scheme"),
    "baddn": Case("3.1.2.15", (400,), extra="must be quoted"),
    "badvers": Case("3.1.2.16", (505,), extra="Version Not Supported"),
    "mismatch01": Case("3.1.2.17", (400,), extra="the method 'INVITE' is not 'OPTIONS'"),
    "mismatch02": Case("3.1.2.18", (501,)),
    "bigcode": Case("3.1.2.19", ()),
    "badbranch": Case("3.2.1", (200,), request(lambda m: m.via.branch == "z9hG4bK")),
    "insuf": Case("3.3.1", (400,), extra="missing"),
    "unkscm": Case("3.3.2", (416,), request(lambda m: str(m.uri) == "nobodyKnowsThisScheme:totallyopaquecontent")),
    "novelsc": Case("3.3.3", (416,), request(lambda m: str(m.uri) == "soap.beep://192.0.2.103:3002")),
    "unksm2": Case("3.3.4", REGISTER, request(lambda m: str(m.to.uri) == "isbn:2983792873")),
    "bext01": Case("3.3.5", (420,), request(lambda m: len(m.headers.values("Proxy-Require")) == 2),
                   extra="Unsupported: nothingSupportsThis, nothingSupportsThisEither\r\n"),
    "invut": Case("3.3.6", (415,), request(lambda m: len(m.body) == 40), extra="Accept: application/sdp\r\n"),
    "regaut01": Case("3.3.7", REGISTER, request(lambda m: "Authorization" in m.headers)),
    "multi01": Case("3.3.8", (400,), extra="occurs twice"),
    "mcl01": Case("3.3.9", (400,), extra="occurs twice"),
    "bcast": Case("3.3.10", (), response(lambda m: m.vias[1].host == "255.255.255.255")),
    "zeromf": Case("3.3.11", (200,), request(lambda m: m.max_forwards == 0)),
    "cparam01": Case("3.3.12", REGISTER, request(lambda m: (
        m.contacts[0].parameter("unknownparam") == ""
        and m.contacts[0].sip_uri == SipUri("gw1.example.net", "+19725552222")
    ))),
    "cparam02": Case("3.3.13", REGISTER, request(lambda m: (
        m.contacts[0].parameters == ()
        and m.contacts[0].uri == SipUri.parse("sip:+19725552222@gw1.example.net;unknownparam")
    ))),
    "regescrt": Case("3.3.14", REGISTER, request(lambda m: (
        (uri := m.contacts[0].sip_uri) is not None and uri.headers == (("Route", "%3Csip:sip.example.com%3E"),)
    ))),
    "sdp01": Case("3.3.15", (406,), request(lambda m: m.headers.values("Accept") == ["text/nobodyKnowsThis"])),
    "inv2543": Case("3.4.1", INVITED, request(lambda m: (
        m.via.branch == "" and m.from_.tag is None and m.max_forwards == 70 and len(m.body) == 105
    )), stream=False),  # no Content-Length
}  # fmt: skip

RFC_5118 = {
    "ipv6-good": Case("4.1", REGISTER, request(lambda m: (
        host_of(m) == "2001:db8::10" and m.via.host == "2001:db8::9:1"
        and str(m.contacts[0].uri) == "sip:caller@[2001:db8::1]"
    ))),
    "ipv6-bad": Case("4.2", (400,), extra="SIP URI"),
    "port-ambiguous": Case("4.3", REGISTER, request(lambda m: m.uri == SipUri("2001:db8::10:5070"))),
    "port-unambiguous": Case("4.4", REGISTER, request(lambda m: m.uri == SipUri("2001:db8::10", None, 5070))),
    "via-received-param-with-delim": Case("4.5", IN_NO_DIALOG, request(lambda m: m.via.received == "2001:db8::9:255")),
    "via-received-param-no-delim": Case("4.5", (200,), request(lambda m: m.via.received == "2001:db8::9:255")),
    "ipv6-in-sdp": Case("4.6", INVITED, request(lambda m: addresses(m.body) == ["2001:db8::20", "2001:db8::20"])),
    "mult-ip-in-header": Case("4.7", IN_NO_DIALOG, request(lambda m: [via.host for via in m.vias] == [
        "2001:db8::9:1", "192.0.2.1", "2001:db8::9:255"] and m.vias[2].received == "192.0.2.200")),
    "mult-ip-in-sdp": Case("4.8", INVITED, request(lambda m: addresses(m.body) == ["192.0.2.1", "2001:db8::1"])),
    "ipv4-mapped-ipv6": Case("4.9", INVITED, request(lambda m: (
        [via.host for via in m.vias] == ["::ffff:c000:20a", "::ffff:c000:202"] and len(addresses(m.body)) == 2
    ))),
    "ipv6-bug-abnf-3-colons": Case("4.10", (200,), request(lambda m: host_of(m) == "2001:db8::c000:201")),
    "ipv6-correct-abnf-2-colons": Case("4.10", (200,), request(lambda m: host_of(m) == "2001:db8::c000:201")),
}  # fmt: skip

CASES = RFC_4475 | RFC_5118


def addresses(body: bytes) -> list[str]:
    """Where the media of a session description goes."""
    session = SessionDescription.parse(body.decode())
    return [str((media.connection or session.connection).address) for media in session.media]  # type: ignore[union-attr]


def test_every_message_is_there() -> None:
    assert {path.stem for path in MESSAGES.glob("*.dat")} == CASES.keys()
    assert (len(RFC_4475), len(RFC_5118)) == (49, 12)


@pytest.mark.parametrize("name", CASES)
def test_the_parser_reads_what_is_valid_and_nothing_else(name: str) -> None:
    data, case = (MESSAGES / f"{name}.dat").read_bytes(), CASES[name]
    if case.reads is None:
        with pytest.raises(SipParseError):
            parse_message(data)
        return
    message = parse_message(data)
    assert case.reads(message)
    again = parse_message(bytes(message))
    assert bytes(again) == bytes(message)
    assert case.reads(again)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("name", CASES)
def test_a_phone_answers_as_the_text_says(name: str, transport: str) -> None:
    data, case = (MESSAGES / f"{name}.dat").read_bytes(), CASES[name]
    if transport == "tcp" and not case.stream:
        return

    async def work() -> list[bytes]:
        trace: list[Traced] = []
        phone = Softphone(account("bob"), media=FakeMedia.factory([]), random=counting(), trace=trace.append)
        async with phone:
            ringing = asyncio.create_task(ring(phone))
            if transport == "udp":
                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                    sock.sendto(data, ("::1", phone.port))
                    await asyncio.sleep(0.1)
            else:
                stream = await DirectSockets().tcp("::1")
                await connect(stream, "::1", phone.port, 5)
                with stream:
                    await asyncio.get_running_loop().sock_sendall(stream, data)
                    await asyncio.sleep(0.1)
            sent = [traced.data for traced in trace if traced.sent]
            ringing.cancel()
            await asyncio.gather(ringing, return_exceptions=True)
            assert phone.counters["task-failed"] == 0
        return sent

    async def ring(phone: Softphone) -> None:
        async for call in phone.incoming():
            await call.ring()

    sent = simulate(work)
    assert tuple(int(answer[8:11]) for answer in sent) == case.answers
    assert not case.extra or case.extra.encode() in sent[-1]
    assert all(b"\r\nVia: " in answer and b"\r\nCSeq: " in answer for answer in sent)


@pytest.mark.parametrize("name", ["ncl", "mcl01"])
def test_a_stream_whose_messages_have_no_end_is_closed_after_the_answer(name: str) -> None:
    async def work() -> None:
        async with Softphone(account("bob"), media=FakeMedia.factory([])) as phone:
            stream = await DirectSockets().tcp("::1")
            await connect(stream, "::1", phone.port, 5)
            loop = asyncio.get_running_loop()
            with stream:
                await loop.sock_sendall(stream, (MESSAGES / f"{name}.dat").read_bytes())
                answer = b""
                while piece := await loop.sock_recv(stream, 9000):
                    answer += piece
            assert answer.startswith(b"SIP/2.0 400 ")

    simulate(work)
