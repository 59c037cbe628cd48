"""What may be shown of a SIP message to others than the two ends."""

from __future__ import annotations

import re

CRYPTO = re.compile(rb"(?im)^a=crypto:[^\r\n]+")
KEY = re.compile(rb"(?i)(inline:)([^|;\s]+)")
CALL_ID = re.compile(rb"(?im)^(?:call-id|i)[ \t]*:[ \t]*([^\r\n]+?)[ \t]*\r?$")


def without_keys(message: bytes) -> bytes:
    """The keys of SRTP in its session description (RFC 4568) replaced by stars, so that all lengths stay right."""
    return CRYPTO.sub(lambda line: KEY.sub(lambda key: key[1] + b"*" * len(key[2]), line[0]), message)


def call_id_of(message: bytes) -> str:
    """Empty: it has none."""
    found = CALL_ID.search(message)
    return "" if found is None else found[1].decode("utf-8", "replace")
