"""What every security association is made of: SPI, sequence numbers that outlive the process, counters."""

from __future__ import annotations

from enum import Enum

from mobility.discards import Discard, Reason
from mobility.ipsec.algorithms import Algorithm, KeyingError
from mobility.ipsec.replay import ReplayWindow

RESERVED_SPIS = range(256)
"Never on the wire (RFC 4303 section 2.1)."
LAST_SEQUENCE = 0xFFFFFFFF
RESERVATION = 1024
"Outbound numbers that are set aside in `SequenceState` at once: a restart skips at most so many."


class Mode(Enum):
    """RFC 4301 section 3.2."""

    TRANSPORT = "transport"
    TUNNEL = "tunnel"


class SequenceState:
    """16 octets that outlive the process: no number is used twice, no replay accepted after a restart.

    The first eight (written by `OutboundAssociation`) hold the last outbound number set aside; the others (by
    `InboundAssociation`) the highest number received. The owner hands in memory, for example a slice of a mapped file;
    none given: private memory. New keys need a new, zeroed state. Numbers are in the machine's byte order: the file
    stays on it.
    """

    SIZE = 16

    __slots__ = ("cells",)

    def __init__(self, memory: memoryview | None = None) -> None:
        """Raises `ValueError` unless ``memory`` is 16 writable octets."""
        view = memoryview(bytearray(self.SIZE)) if memory is None else memory
        if view.nbytes != self.SIZE or view.readonly:
            raise ValueError(f"sequence state needs {self.SIZE} writable octets, got {view.nbytes}")
        self.cells: memoryview[int] = view.cast("B").cast("Q")

    @property
    def outbound(self) -> int:
        """The last outbound number that was set aside."""
        return self.cells[0]

    @property
    def inbound(self) -> int:
        """The highest number received."""
        return self.cells[1]

    def reserve(self, last: int) -> int:
        """Sets outbound numbers after ``last`` aside; returns the last of them.

        Raises `Discard` when there is none to be had.
        """
        if last >= LAST_SEQUENCE:
            raise Discard(Reason.SEQUENCE_EXHAUSTED, "needs new keys")
        self.cells[0] = min(last + RESERVATION, LAST_SEQUENCE)
        return self.cells[0]


class OutboundAssociation:
    """Numbers what it sends. Not for two senders: no number may be used twice."""

    __slots__ = ("_first", "_reserved", "_state", "algorithm", "mode", "octets", "sequence", "spi")

    def __init__(self, spi: int, algorithm: Algorithm, mode: Mode, state: SequenceState | None) -> None:
        """Raises `KeyingError`: the SPI is reserved."""
        check_spi(spi)
        self.spi = spi
        self.algorithm = algorithm
        self.mode = mode
        self.octets = 0
        "Payload octets protected."
        self._state = SequenceState() if state is None else state
        self.sequence = self._first = self._reserved = min(self._state.outbound, LAST_SEQUENCE)
        "Of the last packet; 0 before the first."

    @property
    def packets(self) -> int:
        """Packets protected by this object."""
        return self.sequence - self._first

    def resume(self) -> None:
        """Goes on after the last number that its state has as set aside: somebody else has used those before."""
        packets = self.packets
        self.sequence = self._reserved = min(self._state.outbound, LAST_SEQUENCE)
        self._first = self.sequence - packets

    def _reserve(self) -> None:
        try:
            self._reserved = self._state.reserve(self._reserved)
        except Discard as discard:
            raise Discard(discard.reason, f"outbound SPI {self.spi:#010x}: {discard.detail}") from None

    def describe(self) -> dict[str, object]:
        """JSON-ready, without keys."""
        return {
            "direction": "out",
            "spi": f"{self.spi:#010x}",
            "algorithm": self.algorithm.value,
            "mode": self.mode.value,
            "sequence": self.sequence,
            "packets": self.packets,
            "octets": self.octets,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}(spi={self.spi:#010x}, {self.algorithm.value}, {self.mode.value})"


class InboundAssociation(ReplayWindow):
    """Takes each number once: replay check, authentication, then and only then the window moves."""

    __slots__ = ("_cells", "algorithm", "failed", "mode", "octets", "packets", "replayed", "spi")

    def __init__(self, spi: int, algorithm: Algorithm, mode: Mode, state: SequenceState | None) -> None:
        """Raises `KeyingError`: the SPI is reserved."""
        check_spi(spi)
        self._cells = (SequenceState() if state is None else state).cells
        super().__init__(top=min(self._cells[1], LAST_SEQUENCE))
        self.spi = spi
        self.algorithm = algorithm
        self.mode = mode
        self.packets = 0
        "Packets that were authentic."
        self.octets = 0
        "Their payload octets."
        self.replayed = 0
        self.failed = 0
        "Packets whose integrity check value did not match."

    def resume(self) -> None:
        """Goes on with the highest number of its state: somebody else has received what is up to there."""
        if self._cells[1] > self.top:
            ReplayWindow.__init__(self, top=min(self._cells[1], LAST_SEQUENCE))

    def describe(self) -> dict[str, object]:
        """JSON-ready, without keys."""
        return {
            "direction": "in",
            "spi": f"{self.spi:#010x}",
            "algorithm": self.algorithm.value,
            "mode": self.mode.value,
            "sequence": self.top,
            "packets": self.packets,
            "octets": self.octets,
            "replayed": self.replayed,
            "failed": self.failed,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}(spi={self.spi:#010x}, {self.algorithm.value}, {self.mode.value})"


def check_spi(spi: int) -> None:
    """Raises `KeyingError` unless the SPI may be on the wire."""
    if spi in RESERVED_SPIS or not 0 <= spi <= 0xFFFFFFFF:
        raise KeyingError(f"SPI {spi} is reserved or too large: choose one from 256 to 4294967295")
