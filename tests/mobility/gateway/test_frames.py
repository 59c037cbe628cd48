"""Frames of HTTP/2 that are too long are noticed by their first three octets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from mobility.gateway.frames import LONGEST, PREFACE, FrameLengths


def frame(length: int) -> bytes:
    return length.to_bytes(3, "big") + bytes(6) + bytes(length)


@given(some.lists(some.integers(0, LONGEST), max_size=5), some.booleans(), some.data())
def test_frames_in_any_pieces_pass_and_one_that_is_too_long_does_not(
    lengths: list[int], preface: bool, data: some.DataObject
) -> None:
    octets = bytes(PREFACE if preface else 0) + b"".join(frame(length) for length in lengths)
    follower = FrameLengths(preface=preface)
    at = 0
    while at < len(octets):
        size = data.draw(some.integers(1, 20_000))
        assert follower.follow(octets[at : at + size]) is None
        at += size
    assert follower.follow(frame(LONGEST + 1)[:8]) is None, "not known yet"
    assert follower.follow(frame(LONGEST + 1)[8:9]) == LONGEST + 1
