"""Hypothesis strategies and checks that the tests of this room share."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from hypothesis import strategies as st

from mobility.wire.errors import WireError

unicast = st.integers(0x2001 << 112, (0x2002 << 112) - 1).map(IPv6Address)
link_local = st.integers(0, 2**64 - 1).map(lambda n: IPv6Address(0xFE80 << 112 | n))
u8, u16, u32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
cookie = st.binary(min_size=8, max_size=8)


def outcome(parse: Callable[[bytes], object], data: bytes) -> str:
    """``parsed`` or ``refused``; any other exception goes through and fails the test."""
    try:
        parse(data)
    except WireError as error:
        if not (0 <= error.at <= len(data) + 2100 and error.what and error.why):
            raise AssertionError(f"unhelpful error {error!r}") from error
        return "refused"
    return "parsed"
