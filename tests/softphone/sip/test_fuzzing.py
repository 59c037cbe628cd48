"""Hypothesis looks for input that breaks a promise of `fuzzing`: torture messages that were mutated, and any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.softphone.sip import fuzzing

SPICE = [
    b"\r\n", b"\r\n ", b"\r\n\r\n", b"\n", b"\0", b"\x7f", b"\xff", b"\xed\xa0\x80", b'"', b'\\"', b"\\", b"<", b">",
    b";", b",", b":", b"=", b"?", b"@", b"%", b"%00", b"%zz", b"[", b"]", b"[::1]", b"[::ffff:1.2.3.4]", b":::",
    b"sip:",
    b"sips:", b"tel:", b"*", b" ", b"\t", b"0", b"4294967296", b"-1", b"z9hG4bK", b"SIP/2.0", b"Content-Length: 5",
    b"l: 5", b"Via: SIP/2.0/TLS x", b"m: *", b"Require: x", b";rport", b";received=::1", b";tag=", b"INVITE", b"ACK",
    b"CANCEL", "ÄÖ 電".encode(),
]  # fmt: skip
EDIT = st.tuples(
    st.integers(0, 2**16), st.integers(0, 30), st.one_of(st.sampled_from(SPICE), st.binary(max_size=6), st.just(b""))
)


def edited(base: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, cut, put in edits:
        at %= len(base) + 1
        base = base[:at] + put + base[at + cut % (8 if put else 31) :]
    return base


def spliced(one: bytes, other: bytes, at: int) -> bytes:
    """Lines of one message, then those of another."""
    lines, more = one.split(b"\r\n"), other.split(b"\r\n")
    return b"\r\n".join(lines[: at % (len(lines) + 1)] + more[at % (len(more) + 1) :])


MESSAGE = st.sampled_from(fuzzing.MESSAGES)
BASE = st.one_of(MESSAGE, st.builds(spliced, MESSAGE, MESSAGE, st.integers(0, 60)))
MUTANT = st.builds(edited, BASE, st.lists(EDIT, max_size=4))
BODIES = [message.partition(b"\r\n\r\n")[2] for message in fuzzing.MESSAGES]
URI = st.builds(
    edited,
    st.sampled_from(
        [b"sip:alice:pw@[2001:db8::1]:5060;transport=tcp;lr?Subject=x&To=y", b"tel:+1-201;ext=1", b"sips:x"]
    ),
    st.lists(EDIT, max_size=3),
)


@settings(max_examples=400)
@given(MUTANT)
def test_messages(data: bytes) -> None:
    fuzzing.message(data)


@settings(max_examples=200)
@given(st.lists(st.one_of(MUTANT, st.sampled_from([b"\r\n\r\n", b"\r\n"])), max_size=3), st.integers(0, 255))
def test_streams(pieces: list[bytes], size: int) -> None:
    fuzzing.stream(bytes([size]) + b"".join(pieces))


@settings(max_examples=300)
@given(URI)
def test_uris(data: bytes) -> None:
    fuzzing.uri(data)


@settings(max_examples=100)
@given(st.binary(max_size=60))
def test_transactions(data: bytes) -> None:
    fuzzing.transactions(data)


@settings(max_examples=100)
@given(
    st.builds(
        edited, st.sampled_from([m.partition(b"\r\n\r\n")[2] for m in fuzzing.MESSAGES]), st.lists(EDIT, max_size=4)
    )
)
def test_session_descriptions(data: bytes) -> None:
    fuzzing.description(data)


@settings(max_examples=40)
@given(st.lists(MUTANT, min_size=1, max_size=8))
def test_a_whole_phone(datagrams: list[bytes]) -> None:
    fuzzing.phone(datagrams)


@pytest.mark.parametrize("target", [fuzzing.message, fuzzing.stream, fuzzing.uri, fuzzing.description])
@settings(max_examples=100)
@given(data=st.binary(max_size=200))
def test_any_bytes(target: object, data: bytes) -> None:
    assert callable(target)
    target(data)
