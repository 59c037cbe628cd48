"""RTCP extended reports with VoIP metrics (RFC 3611 section 4.7), and the counting of bursts of loss that they want."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

PACKET_TYPE = 207
UNKNOWN = 127
"For levels, R factors and MOS."
GMIN = 16
"Packets without loss that end a burst (RFC 3611 section 4.7.2; the recommended value)."

_HEADER = struct.Struct("!BBHL")
_BLOCK = struct.Struct("!BBHL4B4Hbb2B4B2B3H")
_KIND = 7
_WORDS = 8
_RECEIVER = 0b11_11_0000
"Standard concealment of losses, adaptive jitter buffer, its speed not told."


@dataclass(frozen=True, slots=True)
class VoipMetrics:
    """One block: how the reporter hears the stream ``ssrc``."""

    ssrc: int
    loss_rate: float
    "Share of packets, 0 to 1."
    discard_rate: float
    "Share of packets that came too late to be played."
    burst_density: float
    gap_density: float
    "Shares of packets lost or discarded within bursts, and between them."
    burst_ms: int
    gap_ms: int
    "Mean lengths."
    round_trip_ms: int
    end_system_ms: int
    "Delay within the reporter: its jitter buffer and packet time."
    r_factor: int
    mos_lq: float
    "Listening quality, 1 to 5; 12.7: not known."
    mos_cq: float
    "Conversational quality: with the delay."
    jitter_buffer_ms: int
    jitter_buffer_greatest_ms: int

    @classmethod
    def parse(cls, block: bytes) -> Self | None:
        """One block with its header; None: too short, or another block."""
        if len(block) < _BLOCK.size or block[0] != _KIND:
            return None
        fields = _BLOCK.unpack_from(block)
        ssrc, loss, discard, burst, gap, burst_ms, gap_ms, round_trip, end_system = fields[3:12]
        r_factor, _, lq, cq, _, _, nominal, greatest, _ = fields[16:]
        return cls(
            ssrc, loss / 256, discard / 256, burst / 256, gap / 256, burst_ms, gap_ms, round_trip, end_system,
            r_factor, lq / 10, cq / 10, nominal, greatest,
        )  # fmt: skip

    def __bytes__(self) -> bytes:
        return _BLOCK.pack(
            _KIND, 0, _WORDS, self.ssrc,
            *(_share(s) for s in (self.loss_rate, self.discard_rate, self.burst_density, self.gap_density)),
            *(_short(n) for n in (self.burst_ms, self.gap_ms, self.round_trip_ms, self.end_system_ms)),
            UNKNOWN, UNKNOWN, UNKNOWN, GMIN,
            self.r_factor, UNKNOWN, round(self.mos_lq * 10), round(self.mos_cq * 10),
            _RECEIVER, 0,
            _short(self.jitter_buffer_ms), *[_short(self.jitter_buffer_greatest_ms)] * 2,
        )  # fmt: skip


def _share(value: float) -> int:
    return min(255, int(value * 256))


def _short(value: int) -> int:
    return max(0, min(value, 0xFFFF))


def extended_report(sender: int, metrics: VoipMetrics) -> bytes:
    """A packet with one block (RFC 3611 section 2)."""
    return _HEADER.pack(0x80, PACKET_TYPE, 1 + _WORDS + 1, sender) + bytes(metrics)


def metrics_in(compound: bytes) -> list[VoipMetrics]:
    """The VoIP metrics in a compound packet; what is malformed is left out."""
    found: list[VoipMetrics] = []
    at = 0
    while at + 4 <= len(compound):
        end = at + 4 * (int.from_bytes(compound[at + 2 : at + 4]) + 1)
        if compound[at + 1] == PACKET_TYPE and end <= len(compound):
            block = at + _HEADER.size
            while block + 4 <= end:
                after = block + 4 * (int.from_bytes(compound[block + 2 : block + 4]) + 1)
                metrics = VoipMetrics.parse(compound[block:after]) if after <= end else None
                if metrics is not None:
                    found.append(metrics)
                block = after
        at = end
    return found


class LossBursts:
    """Counts how losses lie together (RFC 3611 appendix A.2); told of every packet in the order of playing."""

    def __init__(self) -> None:
        self.packets = 0
        self.missing = 0
        self.runs = 0
        "Losses in a row count once."
        self._good = 0
        "Packets since the last loss."
        self._in_burst = 0
        self._c11 = self._c13 = self._c14 = self._c22 = self._c23 = self._c33 = 0

    def played(self) -> None:
        self.packets += 1
        self._good += 1

    def missed(self) -> None:
        self.packets += 1
        self.missing += 1
        if self._good or self.missing == 1:
            self.runs += 1
        if self._good >= GMIN or self.missing == 1:
            if self._in_burst == 1:
                self._c14 += 1
            elif self._in_burst > 1:
                self._c13 += 1
            self._in_burst = 1
            self._c11 += self._good
        else:
            self._in_burst += 1
            if self._good == 0:
                self._c33 += 1
            else:
                self._c23 += 1
                self._c22 += self._good - 1
        self._good = 0

    def densities(self) -> tuple[float, float]:
        """Shares of losses within bursts and within gaps."""
        leaving = self._c13 + self._c23 + self._c33
        p32 = self._c23 / leaving if leaving else 0.0
        inside = self._c22 + self._c23
        p23 = 1 - self._c22 / inside if inside else 1.0
        burst = p23 / (p23 + p32) if self._c33 or self._c23 else 0.0
        gap_packets = self._c11 + self._c14 + (self._good if self._good >= GMIN else 0)
        single = self._c14 + (1 if self._in_burst == 1 and self._good >= GMIN else 0)
        return burst, single / gap_packets if gap_packets else 0.0

    def lengths(self) -> tuple[float, float]:
        """Mean packets of a burst and of a gap."""
        bursts = self._c13 + (1 if self._in_burst > 1 else 0)
        in_bursts = self._c22 + 2 * self._c23 + self._c33 + bursts
        if not bursts:
            return 0.0, float(self.packets)
        return in_bursts / bursts, max(0, self.packets - in_bursts) / bursts
