"""Looks at the lengths of HTTP/2 frames before the library does (RFC 9113 section 4).

The library (h2 4.4) complains about a frame that is too long only when all of it has come: a peer could have it keep
16 MiB for each connection.
"""

from __future__ import annotations

PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
"Octets that a client sends before its first frame."
HEADER = 9
LONGEST = 1 << 14
"Octets of a frame, as long as nothing else was agreed (SETTINGS_MAX_FRAME_SIZE)."


class FrameLengths:
    """Follows one direction of a connection."""

    def __init__(self, *, preface: bool) -> None:
        self._skip = PREFACE if preface else 0
        self._header = bytearray()

    def follow(self, data: bytes) -> int | None:
        """The next octets; returns the length of a frame that is too long, None if there is none."""
        at = 0
        while at < len(data):
            skipped = min(self._skip, len(data) - at)
            self._skip -= skipped
            at += skipped
            if self._skip or at == len(data):
                break
            part = data[at : at + HEADER - len(self._header)]
            self._header += part
            at += len(part)
            if len(self._header) == HEADER:
                length = int.from_bytes(self._header[:3], "big")
                if length > LONGEST:
                    return length
                self._skip = length
                self._header.clear()
        return None
