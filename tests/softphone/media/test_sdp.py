"""Reading and writing session descriptions (RFC 8866)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone.media.sdp import (
    MAX_CHARACTERS,
    MAX_MEDIA,
    Attribute,
    Connection,
    Media,
    Origin,
    SdpError,
    SessionDescription,
)

FULL = (
    "v=0\r\no=jdoe 3724394400 3724394405 IN IP6 2001:db8::1\r\ns=Call\r\ni=a talk\r\nu=https://example.org/\r\n"
    "e=j.doe@example.org\r\np=+1 617 555-6011\r\nc=IN IP6 2001:db8::2\r\nb=AS:64\r\nt=0 0\r\nr=604800 3600 0\r\n"
    "a=recvonly\r\na=x-unknown:kept as it is\r\n"
    "m=audio 49170 RTP/AVP 0 96\r\ni=speech\r\nc=IN IP4 192.0.2.7\r\nb=AS:32\r\na=rtpmap:96 opus/48000/2\r\n"
    "a=fmtp:96 useinbandfec=1; maxaveragebitrate=20000\r\na=sendrecv\r\n"
    "m=video 0 RTP/AVP 31\r\n"
)


def test_full_description_is_read() -> None:
    described = SessionDescription.parse(FULL)
    assert described.origin == Origin(3724394400, 3724394405, "2001:db8::1", "jdoe", "IP6")
    assert described.connection is not None
    assert str(described.connection.ip) == "2001:db8::2"
    assert described.contacts == ("e=j.doe@example.org", "p=+1 617 555-6011")
    assert described.times == ("t=0 0", "r=604800 3600 0")
    assert described.attributes == (Attribute("recvonly"), Attribute("x-unknown", "kept as it is"))
    audio, video = described.media
    assert (audio.kind, audio.port, audio.protocol, audio.formats) == ("audio", 49170, "RTP/AVP", ("0", "96"))
    assert str(audio.rtpmap(96)) == "96 opus/48000/2"
    assert audio.rtpmap(97) is None
    assert audio.fmtp(96) == {"useinbandfec": "1", "maxaveragebitrate": "20000"}
    assert video.port == 0


def test_writing_gives_back_what_was_read() -> None:
    assert str(SessionDescription.parse(FULL)) == FULL


def test_lines_in_another_order_are_read_and_written_in_the_right_one() -> None:
    swapped = FULL.replace(
        "c=IN IP4 192.0.2.7\r\nb=AS:32\r\na=rtpmap:96 opus/48000/2\r\n",
        "a=rtpmap:96 opus/48000/2\r\nb=AS:32\r\nc=IN IP4 192.0.2.7\r\n",
    )
    assert swapped != FULL
    assert str(SessionDescription.parse(swapped)) == FULL


def test_line_feeds_alone_are_read() -> None:
    assert SessionDescription.parse(FULL.replace("\r\n", "\n")) == SessionDescription.parse(FULL)


@pytest.mark.parametrize(
    ("old", "new", "why", "line"),
    [
        ("v=0", "v=1", "unknown version", 1),
        ("o=jdoe 3724394400 ", "o=jdoe x ", "'x' is not a number", 2),
        ("o=jdoe 3724394400 ", "o=jdoe ", "six parts", 2),
        ("IN IP6 2001:db8::2", "IN IP6 192.0.2.1", "not an IP6 address", 8),
        ("IN IP6 2001:db8::2", "IN IP6 fe80::1%eth0", "not an IP6 address", 8),
        ("IN IP6 2001:db8::2", "ATM IP6 2001:db8::2", "unknown network type", 8),
        ("IN IP6 2001:db8::2", "IN IP6 a b", "three parts", 8),
        ("IN IP6 2001:db8::2", "IN IP5 2001:db8::2", "unknown address type", 8),
        ("IN IP6 2001:db8::2", "IN IP6 $(reboot)", "neither an IP address nor", 8),
        ("t=0 0", "t=0", "a start and an end", 10),
        ("m=audio 49170", "m=audio 65536", "not a port", 14),
        ("m=audio 49170", "m=audio 4917x", "not a number", 14),
        ("m=audio 49170", "m=audio 49170/0", "not a port", 14),
        ("m=audio 49170 RTP/AVP 0 96", "m=audio 49170 RTP/AVP", "kind, port, protocol", 14),
        ("a=recvonly", "a=:x", "not the name of an attribute", 12),
        ("i=a talk", "y=a talk", "unexpected line y=", 4),
        ("i=a talk", "talk", "letter=value", 4),
        ("i=speech", "t=0 0", "unexpected line t=", 15),
        ("u=https", "i=again\r\nu=https", "a second i= line", 5),
        ("s=Call", "s=Ca\0ll", "must not be in a line", 3),
    ],
)
def test_errors_name_the_line(old: str, new: str, why: str, line: int) -> None:
    assert old in FULL
    with pytest.raises(SdpError) as caught:
        SessionDescription.parse(FULL.replace(old, new, 1))
    assert why in str(caught.value)
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not begin"),
        ("v=0\r\n", "does not begin"),
        ("v=0\r\ns=-\r\no=- 1 1 IN IP6 ::1\r\nt=0 0\r\n", "does not begin"),
        ("v=0\r\no=- 1 1 IN IP6 ::1\r\ns=-\r\n", r"the time line \(t=\) is missing"),
        (FULL + "a=x" * MAX_CHARACTERS, "longer than"),
        (FULL + "a=x\r\n" * 3000, "more than 2000 lines"),
        (FULL + "m=audio 1 RTP/AVP 0\r\n" * MAX_MEDIA, "more than 64 media"),
    ],
)
def test_what_is_no_description(text: str, why: str) -> None:
    with pytest.raises(SdpError, match=why):
        SessionDescription.parse(text)


def test_every_truncation_is_read_or_an_error() -> None:
    for end in range(len(FULL)):
        try:
            described = SessionDescription.parse(FULL[:end])
        except SdpError:
            continue
        assert SessionDescription.parse(str(described)) == described


@given(st.text())
def test_any_text_is_read_or_an_error(text: str) -> None:
    for candidate in (text, FULL + text, FULL.replace("speech", text)):
        try:
            described = SessionDescription.parse(candidate)
        except SdpError:
            continue
        assert SessionDescription.parse(str(described)) == described


VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="\x7f\x85"), min_size=1)
TOKEN = st.text("abcxyz-19", min_size=1, max_size=8)
ATTRIBUTES = st.lists(st.builds(Attribute, TOKEN, st.none() | VALUE), max_size=4).map(tuple)
ADDRESS = st.ip_addresses(v=6).map(str)
CONNECTION = st.builds(Connection, ADDRESS, st.just(""), st.just("IP6"))
NUMBER = st.integers(0, (1 << 63) - 1)


@given(
    st.builds(
        SessionDescription,
        origin=st.builds(Origin, NUMBER, NUMBER, ADDRESS, TOKEN, st.just("IP6")),
        name=VALUE,
        connection=st.none() | CONNECTION,
        attributes=ATTRIBUTES,
        information=st.none() | VALUE,
        media=st.lists(
            st.builds(
                Media,
                st.sampled_from(["audio", "video"]),
                st.integers(0, 65535),
                st.sampled_from(["RTP/AVP", "RTP/SAVP"]),
                st.lists(TOKEN, min_size=1, max_size=5).map(tuple),
                ATTRIBUTES,
                st.none() | CONNECTION,
            ),
            max_size=3,
        ).map(tuple),
    )
)
def test_written_descriptions_are_read_back(described: SessionDescription) -> None:
    assert SessionDescription.parse(str(described)) == described
