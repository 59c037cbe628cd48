"""One stream of what happens: events, discards, packets; to a ring in memory, to JSON lines, to pcapng.

The trace lives outside the engines, so it may look at the wall clock: pcapng wants it. Keys never get into it; the
`esp_sa` table with which Wireshark decrypts is a text of its own, made only when somebody asks for it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from mobility.config import Association, Configuration, Use
from mobility.ipsec.algorithms import Algorithm
from mobility.outputs import Discarded, Event
from mobility.packet_stream import PacketStream
from mobility.pcapng import PcapngWriter

log = logging.getLogger(__name__)

RING = 1000


class Trace:
    """The observer of a data plane.

    The ring always runs (events and discards, not packets). Files are on request, and a file that cannot be written any
    more is given up with a message: tracing never stops packets.
    """

    def __init__(self, *, wall_clock: Callable[[], float] = time.time, ring: int = RING) -> None:
        self.wants_packets = False
        self._wall_clock = wall_clock
        self._ring: deque[dict[str, object]] = deque(maxlen=ring)
        self._lines: BinaryIO | None = None
        self._capture: PcapngWriter | None = None
        self._stream: PacketStream | None = None
        self._subscribers: list[Callable[[Mapping[str, object]], None]] = []
        self._listeners: list[Callable[[Event], None]] = []
        self._discard_counts: dict[tuple[str, str], int] = {}

    def subscribe(self, subscriber: Callable[[Mapping[str, object]], None]) -> None:
        """Has every event handed to ``subscriber`` as JSON-ready values, with ``time`` in seconds since 1970."""
        self._subscribers.append(subscriber)

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Has every event of the node handed to ``listener`` as it is, before others see it."""
        self._listeners.append(listener)

    def event(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
        self.note(event.describe())

    def note(self, values: Mapping[str, object]) -> None:
        """An event of the shell itself; ``values`` has at least ``event``."""
        entry = {"time": round(self._wall_clock(), 6), **values}
        self._ring.append(entry)
        self._write_line(entry)
        for subscriber in self._subscribers:
            subscriber(entry)

    def discarded(self, discarded: Discarded) -> None:
        """Into ring and file each; to subscribers the first of a kind and then at each doubling of their number.

        A flood of bad packets is not to become a flood of messages.
        """
        if self._stream is not None:
            self._stream.discarded(discarded)
        key = (discarded.reason, discarded.where)
        count = self._discard_counts[key] = self._discard_counts.get(key, 0) + 1
        entry: dict[str, object] = {
            "time": round(self._wall_clock(), 6),
            "event": "Discarded",
            "reason": discarded.reason,
            "where": discarded.where,
            "detail": discarded.detail,
            "count": count,
        }
        self._ring.append(entry)
        self._write_line(entry)
        if count & (count - 1) == 0:
            for subscriber in self._subscribers:
                subscriber(entry)

    def packet(self, where: str, outbound: bool, packet: bytes, inside: bytes) -> None:
        if self._stream is not None:
            self._stream.packet(where, outbound, packet, inside)
        if self._capture is not None:
            try:
                self._capture.write(where, packet, self._wall_clock(), outbound=outbound)
            except OSError as error:
                log.warning("the capture ends here: %s", error.strerror)
                self.stop_capture()

    def carried_out(self) -> None:
        if self._stream is not None:
            self._stream.carried_out()

    def follow(self, stream: PacketStream | None) -> None:
        """Packets go to ``stream`` from now on, if there is one."""
        if self._stream is not None:
            self._stream.watch(False)
        self._stream = stream
        if stream is not None:
            stream.watch(True)
        self.wants_packets = stream is not None or self._capture is not None

    def recent(self) -> list[dict[str, object]]:
        """What the ring holds, oldest first."""
        return list(self._ring)

    def start_lines(self, path: Path) -> None:
        """Appends all events and discards to a file as JSON lines, from now on. Raises OSError."""
        self.stop_lines()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._lines = os.fdopen(descriptor, "ab", buffering=0)

    def stop_lines(self) -> None:
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def start_capture(self, path: Path) -> None:
        """Writes all packets to a new pcapng file (mode 0600), from now on. Raises OSError."""
        self.stop_capture()
        self._capture = PcapngWriter(_private_file(path))
        self.wants_packets = True

    def stop_capture(self) -> None:
        self.wants_packets = self._stream is not None
        if self._capture is not None:
            capture, self._capture = self._capture, None
            try:
                capture.close()
            except OSError as error:
                log.warning("the capture is not complete: %s", error.strerror)

    def state(self) -> dict[str, object]:
        """What is being written, JSON-ready."""
        return {"events": self._lines is not None, "capture": self._capture is not None}

    def close(self) -> None:
        self.stop_lines()
        self.stop_capture()
        self.follow(None)

    def _write_line(self, entry: Mapping[str, object]) -> None:
        if self._lines is not None:
            try:
                self._lines.write(json.dumps(entry, separators=(",", ":"), default=str).encode() + b"\n")
            except OSError as error:
                log.warning("the trace of events ends here: %s", error.strerror)
                self.stop_lines()


# ---------------------------------------------------------------- Wireshark's table of security associations

_WIRESHARK: dict[Algorithm, tuple[str, str]] = {
    Algorithm.AES_GCM_16: ("AES-GCM with 16 octet ICV [RFC4106]", "NULL"),
    Algorithm.AES_CBC_HMAC_SHA2_256_128: ("AES-CBC [RFC3602]", "HMAC-SHA-256-128 [RFC4868]"),
    Algorithm.NULL_HMAC_SHA2_256_128: ("NULL", "HMAC-SHA-256-128 [RFC4868]"),
}


def esp_sa_table(configurations: Iterable[Configuration]) -> str:
    """The text of Wireshark's ``esp_sa`` file for the associations of these nodes: with it, tshark decrypts a capture.

    Addresses are left open (``*``), for care-of addresses change and SPIs do not. Holds keys: give it mode 0600.
    Associations with ChaCha20-Poly1305, which Wireshark 4 cannot decrypt, are left out.
    """
    lines: dict[str, None] = {}  # both ends of an association know it; once is enough
    for configuration in configurations:
        for pair in configuration.associations:
            versions = (
                (6, 4) if pair.use in (Use.TUNNEL, Use.HOME_TEST) else (6,)
            )  # a tunnel may go through datagrams of IPv4
            for association in (pair.outbound, pair.inbound):
                lines |= {line: None for version in versions if (line := esp_sa_line(association, version)) is not None}
    return "".join(line + "\n" for line in lines)


def esp_sa_line(association: Association, version: int = 6) -> str | None:
    """One row of the table, or None where Wireshark does not know the algorithm. ``version``: of IP outside."""
    names = _WIRESHARK.get(association.algorithm)
    if names is None:
        return None
    cipher, integrity = names
    keys = association.keys
    fields = (
        f"IPv{version}",
        "*",
        "*",
        f"0x{association.spi:08x}",
        cipher,
        f"0x{keys.encryption.hex()}" if keys.encryption else "",
        integrity,
        f"0x{keys.authentication.hex()}" if keys.authentication else "",
    )
    return ",".join(f'"{field}"' for field in fields)


def write_esp_sa(path: Path, configurations: Iterable[Configuration]) -> None:
    """Writes the table with mode 0600, in place of what was there. Raises OSError."""
    with _private_file(path) as file:
        file.write(esp_sa_table(configurations).encode())


def _private_file(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)  # a mode given to open does not tighten that of a file which is there
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "wb")
