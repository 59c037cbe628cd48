"""Parser and serialisation, framing; test_torture.py has the messages of RFC 4475 and RFC 5118."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone.sip.errors import SipParseError
from softphone.sip.headers import Headers, NameAddr, Via, parse_addresses, split_values
from softphone.sip.message import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADER_LINES,
    FrameKind,
    Request,
    StreamFramer,
    parse_message,
    refuse,
    respond,
)
from softphone.sip.uri import OtherUri, SipUri, TelUri, escape, parse_uri, unescape

PLAIN = (
    b"INVITE sip:bob@[2001:db8::b]:5070;transport=tcp SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP [2001:db8::a]:5062;branch=z9hG4bKone;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b'From: "Alice \\"A\\" <x>, Esq." <sip:alice@example.org>;tag=f1\r\n'
    b"To: Bob <sip:bob@example.org>\r\n"
    b"Call-ID: abc@[2001:db8::a]\r\n"
    b"CSeq: 7 INVITE\r\n"
    b"Contact: <sip:alice@[2001:db8::a]:5062>\r\n"
    b"X-Unknown: kept , as; it <is>\r\n"
    b"Content-Type: application/sdp\r\n"
    b"Content-Length: 5\r\n"
    b"\r\nv=0\r\n"
)
BARE = {
    "Via": "SIP/2.0/UDP [2001:db8::a];branch=z9hG4bKx",
    "From": "<sip:a@example.org>;tag=1",
    "To": "<sip:b@example.org>",
    "Call-ID": "c",
    "CSeq": "1 OPTIONS",
}


def message(
    start: str = "OPTIONS sip:b@example.org SIP/2.0", *more: str, body: str = "", **fields: str | None
) -> bytes:
    values: dict[str, str | None] = {**BARE, **{name.replace("_", "-"): value for name, value in fields.items()}}
    lines = [f"{name}: {value}" for name, value in values.items() if value is not None]
    return "\r\n".join([start, *lines, *more, "", body]).encode("utf-8", "surrogateescape")


def refusal(data: bytes) -> SipParseError:
    with pytest.raises(SipParseError) as caught:
        parse_message(data)
    return caught.value


def test_a_request_is_read_with_all_its_parts() -> None:
    request = parse_message(PLAIN)
    assert isinstance(request, Request)
    assert request.uri == SipUri("2001:db8::b", "bob", 5070, (("transport", "tcp"),))
    assert request.via == Via("UDP", "2001:db8::a", 5062, (("branch", "z9hG4bKone"), ("rport", None)))
    assert request.from_ == NameAddr(SipUri("example.org", "alice"), 'Alice "A" <x>, Esq.', (("tag", "f1"),))
    assert (request.to.display, request.to.tag) == ("Bob", None)
    assert (request.cseq.number, request.cseq.method, request.max_forwards) == (7, "INVITE", 70)
    assert request.headers.get("x-unknown") == "kept , as; it <is>"
    assert request.body == b"v=0\r\n"


def test_what_is_printed_reads_the_same() -> None:
    request = parse_message(PLAIN)
    assert bytes(request) == bytes(parse_message(bytes(request)))
    assert [line.name for line in request.headers] == [line.name for line in parse_message(bytes(request)).headers]


def test_compact_forms_folding_and_odd_spacing() -> None:
    data = (
        b"OPTIONS sip:b@example.org SIP/2.0\r\n"
        b"v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n"
        b" SIP  /    2.0   / UDP  192.0.2.255   ; branch=\r\n z9hG4bK30239\r\n"
        b'f: "quoted, string" \r\n\t<sip:a@example.org> ; tag = 98asjd8\r\n'
        b"t   :\tsip:b@example.org ;   tag    = 1918181833n\r\n"
        b"i: 0ha0isndaksdj\r\nCSEQ  : 0009\r\n  OPTIONS\r\nMAX-fORWARDS: 0068\r\n"
        b"l:0\r\nm: <sip:x@example.org;newparam=n>;q=0.33,\r\n  sip:y@example.org;expires=1\r\n\r\n"
    )
    request = parse_message(data)
    assert [via.sent_by for via in request.vias] == ["spindle.example.com:5060", "192.0.2.255:5060"]
    assert [via.branch for via in request.vias] == ["z9hG4bK9ikj8", "z9hG4bK30239"]
    assert (request.from_.display, request.from_.tag, request.to.tag) == ("quoted, string", "98asjd8", "1918181833n")
    assert str(request.cseq) == "9 OPTIONS"
    assert [str(contact) for contact in request.contacts] == [
        "<sip:x@example.org;newparam=n>;q=0.33",
        "<sip:y@example.org>;expires=1",
    ]


@pytest.mark.parametrize("text", ["[2001:db8::9:1]", "2001:db8::9:1", "[2001:DB8::9:1]"])
def test_received_with_and_without_brackets(text: str) -> None:
    response = parse_message(
        message("SIP/2.0 200 OK", Via=f"SIP/2.0/UDP [2001:db8::9:255];received={text};rport=5099;branch=z9hG4bKas3")
    )
    assert (response.via.received, response.via.rport) == ("2001:db8::9:1", 5099)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("sip:[2001:db8::10]", "2001:db8::10", None),
        ("sip:[2001:db8::10:5070]", "2001:db8::10:5070", None),
        ("sip:[2001:db8::10]:5070", "2001:db8::10", 5070),
        ("sip:[::ffff:192.0.2.2]", "::ffff:c000:202", None),
        ("sips:user:pass%20word@192.0.2.1:5061;lr", "192.0.2.1", 5061),
        ("sip:EXAMPLE.org", "example.org", None),
        ("sip:a;b?c=%40@example.org", "example.org", None),
    ],
)
def test_uri_hosts(text: str, host: str, port: int | None) -> None:
    uri = SipUri.parse(text)
    assert (uri.host, uri.port) == (host, port)
    assert SipUri.parse(str(uri)) == uri


@pytest.mark.parametrize(
    "text",
    [
        "sip:2001:db8::10", "sip:[2001:db8::10", "sip:[2001:db8::g]", "sip:[fe80::1%eth0]", "sip:", "sip:@example.org",
        "sip:a@", "sip:a b@example.org", "sip:a@exa mple.org", "sip:a@example.org:99999", "sip:a@example.org:",
        "sip:a@example.org;lr;lr", "sip:a@example.org;=x", "sip:a@1.2.3.400", "sip:a@example.org?x",
        "sip:%zz@example.org",
        "example.org", "tel:", "tel:abcxyz", "sip:a@-example.org", "x y:z", "sip:a@example.org:-1",
    ],
)  # fmt: skip
def test_what_is_no_uri(text: str) -> None:
    with pytest.raises(SipParseError):
        parse_uri(text)


def test_other_uris() -> None:
    assert parse_uri("tel:+1-201-555-0123;phone-context=example.com") == TelUri(
        "+1-201-555-0123", (("phone-context", "example.com"),)
    )
    assert TelUri.parse("tel:+12015550123").matches(TelUri.parse("tel:+1-(201)-555.0123"))
    opaque = "nobodyKnowsThisScheme:totallyopaquecontent"
    assert parse_uri(opaque) == OtherUri(opaque)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp", True),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5", True),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5", True),
        ("sip:biloxi.com;transport=tcp;method=REGISTER", "sip:biloxi.com;method=REGISTER;transport=tcp", True),
        ("sip:alice@atlanta.com?subject=a&priority=urgent", "sip:alice@atlanta.com?priority=urgent&subject=a", True),
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP", False),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060", False),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp", False),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next", False),
        ("sip:carol@chicago.com;security=off", "sip:carol@chicago.com;security=on", False),
        ("sips:alice@atlanta.com", "sip:alice@atlanta.com", False),
        ("sip:[2001:db8::1]", "sip:[2001:DB8:0::1]", True),
    ],
)
def test_uri_comparison(one: str, other: str, same: bool) -> None:
    assert SipUri.parse(one).matches(SipUri.parse(other)) is same
    assert SipUri.parse(other).matches(SipUri.parse(one)) is same


ODD_BUT_VALID = {
    "odd method and user": message(
        "!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
        ":&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0",
        CSeq="139122385 !interesting-Method0123456789_*+`.%indeed'~",
    ),
    "escaped NUL": message("OPTIONS sip:null-%00-null@example.com SIP/2.0"),
    "escapes that are no escapes": message(
        "RE%47IST%45R sip:registrar.example.com SIP/2.0",
        CSeq="29344 RE%47IST%45R",
        From="%Z%45 <sip:res@example.com>;tag=f",
    ),
    "no blank before the bracket": message(From="caller<sip:caller@example.com>;tag=323"),
    "semicolon in the user": message("OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0"),
    "unknown transports": message(
        "OPTIONS sip:b@example.org SIP/2.0",
        "Via: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKkdjuw, SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f",
    ),
    "unknown scheme in the request": message("OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0"),
    "empty reason": message("SIP/2.0 100 "),
    "reason in another script": message("SIP/2.0 200 = 2**3 * 5**2 \u043d\u043e \u0441\u0442\u043e"),
    "zero hops": message(Max_Forwards="0"),
    "two documents": message(Content_Length="0") + message(),
    "multicast Via": message(Via="SIP/2.0/UDP 192.0.2.1;maddr=[ff02::1];ttl=1;branch=z9hG4bKx"),
    "quoted parameter": message(Contact='<sip:a@example.org>;unknown="a;b,c<d>"'),
}


@pytest.mark.parametrize("name", ODD_BUT_VALID)
def test_odd_but_valid(name: str) -> None:
    first = parse_message(ODD_BUT_VALID[name])
    assert bytes(parse_message(bytes(first))) == bytes(first)


ANSWERED_WITH = {
    "Content-Length beyond the end": (400, message(Content_Length="9999")),
    "negative Content-Length": (400, message(Content_Length="-999")),
    "two Content-Lengths": (
        400,
        message("OPTIONS sip:b@example.org SIP/2.0", "Content-Length: 8", "Content-Length: 9"),
    ),
    "bracketed Request-URI": (400, message("OPTIONS <sip:b@example.org> SIP/2.0")),
    "blank in the Request-URI": (400, message("OPTIONS sip:b@example.org; lr SIP/2.0")),
    "two blanks in the request line": (400, message("OPTIONS  sip:b@example.org SIP/2.0")),
    "blank behind the version": (400, message("OPTIONS sip:b@example.org SIP/2.0 ")),
    "version 7": (505, message("OPTIONS sip:b@example.org SIP/7.0")),
    "method of CSeq differs": (400, message(CSeq="1 INVITE")),
    "Expires too large": (400, message(Expires="10000000000000000000000000")),
    "Contact with ? outside brackets": (400, message(Contact="sip:a@example.org?Route=%3Csip:example.com%3E")),
    "open bracket in Contact": (400, message(Contact="<sip:a@example.org")),
    "open quote in Contact": (400, message(Contact='"a <sip:a@example.org>')),
    "two Froms": (400, message("OPTIONS sip:b@example.org SIP/2.0", "From: <sip:c@example.org>;tag=3")),
    "header line without colon": (400, message("OPTIONS sip:b@example.org SIP/2.0", "nonsense")),
    "body without type": (400, message(body="hello")),
    "NUL in a folded value": (400, message(Subject="a\r\n b\0c")),
    "NUL in a value": (400, message(Subject="a\0b")),
    "bad route": (400, message(Route="<sip:x")),
    "no From": (400, message(From=None)),
    "no Call-ID": (400, message(Call_ID=None)),
    "open quote in To": (400, message(To='"Mr. J. User <sip:j.user@example.com>')),
    "unquoted display name": (400, message(From="Bell, Alexander <sip:a.g.bell@example.com>;tag=43")),
    "CSeq too large": (400, message(CSeq="36893488147419103232 OPTIONS")),
    "Via version": (505, message(Via="SIP/1.0/UDP a.example.org;branch=z9hG4bK1")),
    "IPv6 without brackets in Via": (400, message(Via="SIP/2.0/UDP 2001:db8::1;branch=z9hG4bK1")),
    "rport": (400, message(Via="SIP/2.0/UDP a.example.org;branch=z9hG4bK1;rport=99999")),
    "received": (400, message(Via="SIP/2.0/UDP a.example.org;branch=z9hG4bK1;received=2001:db8::zz")),
    "too many lines": (513, message("OPTIONS sip:b@example.org SIP/2.0", *["X-Y: z"] * (MAX_HEADER_LINES + 1))),
}


@pytest.mark.parametrize("name", ANSWERED_WITH)
def test_a_malformed_request_can_be_answered(name: str) -> None:
    status, data = ANSWERED_WITH[name]
    error = refusal(data)
    assert error.status == status
    assert error.request is not None
    response = refuse(error.request, error, "t")
    assert bytes(response).startswith(b"SIP/2.0 %d " % status)
    for name in ("Via", "From", "To", "Call-ID", "CSeq"):
        assert len(response.headers.raw(name)) == len(error.request.headers.raw(name))


DROPPED = {
    "no empty line": b"OPTIONS sip:b@example.org SIP/2.0\r\nVia: x\r\n",
    "only line feeds": message().replace(b"\r\n", b"\n"),
    "no Via": message(Via=None),
    "status too large": message("SIP/2.0 4294967301 better not break the receiver"),
    "status 700": message("SIP/2.0 700 x"),
    "response without Call-ID": message("SIP/2.0 200 OK", Call_ID=None),
    "too long": message(Subject="x" * MAX_HEADER_BYTES),
    "ACK with a bad value": message("ACK sip:b@example.org SIP/2.0", CSeq="1 ACK", Contact="<sip:x"),
    "nothing": b"",
    "zeros": bytes(40),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_cannot_be_answered(name: str) -> None:
    assert refusal(DROPPED[name]).request is None


def test_errors_say_what_where_and_why() -> None:
    error = refusal(message(CSeq="x OPTIONS"))
    assert str(error) == "CSeq at 0: 'x' is not a number from 0 to 2147483647"


@pytest.mark.parametrize("end", range(len(PLAIN)))
def test_truncated_everywhere(end: int) -> None:
    with pytest.raises(SipParseError):
        parse_message(PLAIN[:end])


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    for text in (data, PLAIN[:100] + data, PLAIN.replace(b"example", data[:20])):
        try:
            bytes(parse_message(text))
        except SipParseError:
            continue


@given(st.integers(0, len(PLAIN) - 1), st.integers(0, 255))
def test_a_changed_byte_raises_nothing_else(position: int, value: int) -> None:
    data = bytearray(PLAIN)
    data[position] = value
    try:
        first = parse_message(bytes(data))
        assert bytes(parse_message(bytes(first))) == bytes(first)
    except SipParseError:
        return


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0", exclude_categories=["Cc", "Cs"]), max_size=40))
def test_display_names_survive(name: str) -> None:
    text = str(NameAddr(SipUri("example.org", "a"), name, (("tag", "1"),)))
    assert NameAddr.parse(text).display == name
    assert split_values(f"{text}, {text}") == [text, text]


@given(st.text(min_size=1, max_size=30))
def test_escaped_users_survive(user: str) -> None:
    try:
        text = escape(user)
    except UnicodeEncodeError:
        return
    assert unescape(SipUri.parse(f"sip:{text}@example.org").user or "") == user


@pytest.mark.parametrize("value", ["x\r\nEvil: 1", "x\0", "a\nb"])
def test_values_cannot_break_out_of_their_line(value: str) -> None:
    request = Request(method="OPTIONS", uri=SipUri("example.org"), headers=Headers.of(("Subject", value)))
    with pytest.raises(SipParseError):
        bytes(request)


def test_headers_are_found_by_any_form_of_their_name() -> None:
    headers = Headers.of(("v", "1"), ("X-Mine", "2"), ("VIA", "3"))
    assert headers.raw("Via") == ["1", "3"]
    assert headers.set("Via", "4", "5").lines == (("Via", "4"), ("Via", "5"), ("X-Mine", "2"))
    assert headers.without("x-mine").prepend("m", "<sip:a>").lines[0] == ("Contact", "<sip:a>")
    assert parse_addresses(Headers.of(("Route", "<sip:a;lr>,<sip:b>")), "Route")[1].uri == SipUri("b")


def test_responses_copy_what_they_must() -> None:
    request = parse_message(PLAIN)
    assert isinstance(request, Request)
    response = respond(request, 180, to_tag="t")
    assert response.headers.raw("Via") == request.headers.raw("Via")
    assert (response.to.tag, response.from_, response.cseq, response.call_id) == (
        "t", request.from_, request.cseq, request.call_id,
    )  # fmt: skip
    assert respond(request, 100, to_tag="t").to.tag is None


# streams


def test_a_stream_is_cut_wherever_its_pieces_end() -> None:
    data = b"\r\n\r\n" + PLAIN + b"\r\n" + PLAIN + PLAIN + b"\r\n\r\n"
    for size in (1, 2, 3, 7, 100, len(data)):
        framer = StreamFramer()
        frames = [frame for at in range(0, len(data), size) for frame in framer.feed(data[at : at + size])]
        messages = [frame.data for frame in frames if frame.kind is FrameKind.MESSAGE]
        assert messages == [PLAIN, PLAIN, PLAIN]


def test_pings_and_pongs() -> None:
    framer = StreamFramer()
    assert [frame.kind for frame in framer.feed(b"\r\n\r\n")] == [FrameKind.PING]
    assert [frame.kind for frame in framer.feed(b"\r\n")] == [FrameKind.PONG]


def test_half_a_ping_is_waited_for_and_nothing_else() -> None:
    framer = StreamFramer()
    assert [frame.kind for frame in framer.feed(b"\r\n\r")] == []
    assert [frame.kind for frame in framer.feed(b"\n")] == [FrameKind.PING]
    assert [frame.kind for frame in framer.feed(b"\r\n\rx")] == [FrameKind.PONG]
    with pytest.raises(SipParseError):  # and not kept for ever
        framer.feed(b"x" * MAX_HEADER_BYTES)


@pytest.mark.parametrize(
    "data",
    [
        b"A" * (MAX_HEADER_BYTES + 5),
        message(),
        message(Content_Length="-1"),
        message(Content_Length=str(MAX_BODY_BYTES + 1)),
        message("OPTIONS sip:b@example.org SIP/2.0", "Content-Length: 1", "l: 2"),
    ],
)
def test_a_stream_that_cannot_be_cut_is_given_up(data: bytes) -> None:
    with pytest.raises(SipParseError):
        StreamFramer().feed(data)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_random_streams_raise_nothing_else(pieces: list[bytes]) -> None:
    framer = StreamFramer()
    try:
        for piece in pieces:
            framer.feed(piece)
    except SipParseError:
        return
