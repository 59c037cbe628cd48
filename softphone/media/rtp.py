"""RTP and RTCP (RFC 3550) on the packet classes of aiortc. Sans-IO. Beside `softphone.media.tracks`
the only module that imports aiortc.

`Transmission` numbers what is sent, `Reception` checks and counts what arrives, `Reports` makes and reads RTCP.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass

from aiortc.rtp import (
    RtcpByePacket,
    RtcpPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
    RtpPacket,
)

from softphone.media.drops import Drop
from softphone.media.srtp import MediaDropped, Random
from softphone.media.voip_metrics import VoipMetrics, extended_report, metrics_in

Address = tuple[str, int]
"Where packets come from and go to."

MAX_DROPOUT = 3000
"Missing sequence numbers that are believed at once (RFC 3550 appendix A.1)."
MAX_MISORDER = 1000
"Half a minute is not reordering; RFC 3550 says 100, but a handover may hold packets up for longer than 2 s."
_SEEN = 1024
_HEADER = struct.Struct("!BBHLL")
_CNAME = 1
_MAX_LOST = (1 << 23) - 1


def is_rtcp(packet: bytes) -> bool:
    """Tells RTCP from RTP on one port (RFC 5761 section 4)."""
    return len(packet) >= 2 and 192 <= packet[1] <= 223


def parse_rtp(data: bytes) -> RtpPacket:
    """Raises `MediaDropped`."""
    try:
        return RtpPacket.parse(data)
    except (ValueError, struct.error, IndexError) as exc:
        raise MediaDropped(Drop.MALFORMED_RTP) from exc


@dataclass(frozen=True, slots=True)
class PacketLog:
    """When packets passed: ``times[n]`` is the monotonic time of the extended sequence number ``sequences[n]``."""

    times: array[float]
    sequences: array[int]

    @classmethod
    def empty(cls) -> PacketLog:
        return cls(array("d"), array("q"))

    def add(self, time: float, sequence: int) -> None:
        self.times.append(time)
        self.sequences.append(sequence)

    def __len__(self) -> int:
        return len(self.times)


class Transmission:
    """One outgoing stream: source, sequence and timestamp begin at random."""

    def __init__(self, random: Random, clock_rate: int) -> None:
        self.ssrc = int.from_bytes(random(4))
        # In the lower half, so that the first wrap is far away (RFC 3711 section 3.3.1).
        self.sequence = int.from_bytes(random(2)) >> 1
        "Extended; of the packet that comes next."
        self.clock_rate = clock_rate
        self.packets = 0
        self.octets = 0
        self._timestamp = int.from_bytes(random(4))
        self._last: tuple[float, int] | None = None

    def next(
        self, payload_type: int, payload: bytes, ticks: int, now: float, marker: bool = False, age: int = 0
    ) -> bytes:
        """The next packet, which lasts ``ticks`` units of the RTP clock; ``age``: units by which what it tells of began
        earlier (RFC 4733 section 2.1)."""
        header = _HEADER.pack(
            0x80,
            payload_type | (0x80 if marker else 0),
            self.sequence & 0xFFFF,
            (self._timestamp - age) & 0xFFFFFFFF,
            self.ssrc,
        )
        self._last = (now, self._timestamp)
        self.sequence += 1
        self.packets += 1
        self.octets += len(payload)
        self.skip(ticks)
        return header + payload

    def skip(self, ticks: int) -> None:
        """Time passes without a packet."""
        self._timestamp = (self._timestamp + ticks) & 0xFFFFFFFF

    def timestamp_at(self, now: float) -> int:
        """The RTP timestamp that belongs to ``now``, for sender reports (RFC 3550 section 6.4.1)."""
        if self._last is None:
            return self._timestamp
        sent, timestamp = self._last
        return (timestamp + round((now - sent) * self.clock_rate)) & 0xFFFFFFFF


class Reception:
    """One incoming stream: source, extended sequence numbers, loss and jitter (RFC 3550 appendices A.1, A.3, A.8)."""

    def __init__(self, clock_rate: int) -> None:
        self.clock_rate = clock_rate
        self.ssrc: int | None = None
        self.highest = 0
        "Extended."
        self.received = 0
        "Without duplicates."
        self.duplicates = 0
        self.jitter = 0.0
        "Of arrivals, in units of the RTP clock."
        self._base = 0
        self._lost_before = 0
        "Lost in sequences that ended because the source jumped or changed."
        self._received_before = 0
        self._seen = 0
        "Bit n: the packet n below the highest arrived."
        self._transit: float | None = None
        self._candidate: tuple[int, int] | None = None
        "Source and sequence number that would confirm a change."
        self._reported_expected = 0
        self._reported_received = 0

    @property
    def expected(self) -> int:
        """Packets that the current sequence should have had."""
        return self.highest - self._base + 1 if self.ssrc is not None else 0

    @property
    def lost(self) -> int:
        """Never negative: duplicates are not counted as received."""
        return self._lost_before + max(0, self.expected - (self.received - self._received_before))

    def receive(self, packet: RtpPacket, now: float, *, timed: bool = True) -> tuple[int, bool]:
        """The extended sequence number, and whether a new sequence began with it. Raises `MediaDropped`.

        ``timed``: its timestamp says when it was sent; those of telephone events do not (RFC 4733 section 2.1).
        """
        at = now if timed else None
        number = packet.sequence_number
        if self.ssrc is None:
            self._begin(packet.ssrc, number)
            began = True
        elif packet.ssrc != self.ssrc:
            self._confirm(packet, Drop.UNEXPECTED_SSRC)
            began = True
        else:
            ahead = (number - self.highest) & 0xFFFF
            behind = 0x10000 - ahead
            if 0 < ahead < MAX_DROPOUT:
                self.highest += ahead
                self._seen = ((self._seen << ahead) | 1) & ((1 << _SEEN) - 1)
                return self._count(self.highest, packet.timestamp, at), False
            if ahead == 0 or behind <= MAX_MISORDER:
                return self._misordered(0 if ahead == 0 else behind, packet.timestamp, at), False
            self._confirm(packet, Drop.SEQUENCE_JUMP)
            began = True
        return self._count(self.highest, packet.timestamp, at), began

    def _begin(self, ssrc: int, number: int) -> None:
        self._lost_before, self._received_before = self.lost, self.received
        self.ssrc, self.highest, self._base, self._seen = ssrc, number, number, 1
        self._transit = self._candidate = None
        self._reported_expected = self._reported_received = 0

    def _confirm(self, packet: RtpPacket, drop: Drop) -> None:
        """A strange packet begins a new sequence only when the next one follows it; until then it is dropped."""
        candidate, self._candidate = self._candidate, (packet.ssrc, (packet.sequence_number + 1) & 0xFFFF)
        if candidate != (packet.ssrc, packet.sequence_number):
            raise MediaDropped(drop)
        self._begin(packet.ssrc, packet.sequence_number)

    def _misordered(self, behind: int, timestamp: int, at: float | None) -> int:
        if (self._seen >> behind) & 1:
            self.duplicates += 1
            raise MediaDropped(Drop.DUPLICATE)
        self._seen |= 1 << behind
        self._base = min(self._base, self.highest - behind)
        return self._count(self.highest - behind, timestamp, at)

    def _count(self, sequence: int, timestamp: int, at: float | None) -> int:
        self.received += 1
        if at is None:
            return sequence
        transit = at * self.clock_rate - timestamp
        if self._transit is not None:
            # Modulo 2**32, as timestamps wrap.
            difference = (transit - self._transit + (1 << 31)) % (1 << 32) - (1 << 31)
            self.jitter += (abs(difference) - self.jitter) / 16
        self._transit = transit
        return sequence

    def report(self, last_sr: int, delay: int) -> RtcpReceiverInfo | None:
        """The report block on this stream; counts a new interval (RFC 3550 section 6.4.1)."""
        if self.ssrc is None:
            return None
        received = self.received - self._received_before
        expected_since = self.expected - self._reported_expected
        lost_since = expected_since - (received - self._reported_received)
        self._reported_expected, self._reported_received = self.expected, received
        fraction = (lost_since << 8) // expected_since if expected_since > 0 and lost_since > 0 else 0
        return RtcpReceiverInfo(
            ssrc=self.ssrc,
            fraction_lost=min(fraction, 255),
            packets_lost=min(self.lost, _MAX_LOST),
            highest_sequence=self.highest & 0xFFFFFFFF,
            jitter=min(int(self.jitter), 0xFFFFFFFF),
            lsr=last_sr,
            dlsr=delay,
        )


LEAST_INTERVAL = 5.0
"Seconds between reports (RFC 3550 section 6.2); half of it before the first."
_COMPENSATION = 2.71828 - 1.5


@dataclass(frozen=True, slots=True)
class PeerReport:
    """What one report of the other side says of our stream."""

    highest: int | None
    "Extended sequence number that arrived there last; None: it has heard nothing of us."
    fraction_lost: float = 0.0
    "Since its last report, 0 to 1."


class Reports:
    """RTCP of one session of two: makes compound packets when they are due, reads the other side's."""

    def __init__(self, random: Random, cname: str, ntp_offset: float) -> None:
        self._random = random
        self._cname = cname.encode()[:255]
        self._ntp_offset = ntp_offset
        "Seconds from the monotonic clock to NTP time."
        self.due: float | None = None
        self.round_trip: float | None = None
        "Seconds, of the last report that allowed to compute it."
        self.remote_lost = 0
        "What the other side says it lost of ours."
        self.remote_jitter = 0
        self.metrics: VoipMetrics | None = None
        "How the other side says it hears us (RFC 3611)."
        self.left = False
        "The other side said BYE."
        self._last_sr = 0
        self._last_sr_at = 0.0

    def start(self, now: float) -> None:
        self.due = now + self._interval(LEAST_INTERVAL / 2)

    def _interval(self, least: float) -> float:
        # Two members never exceed 5 % of the bandwidth of any codec here, so the least interval always holds.
        return least * (0.5 + int.from_bytes(self._random(2)) / 65_536) / _COMPENSATION

    def make(
        self,
        now: float,
        sender: Transmission,
        receiver: Reception,
        *,
        metrics: VoipMetrics | None = None,
        bye: bool = False,
    ) -> bytes:
        """A compound packet: SR or RR, SDES with CNAME, XR, BYE at the end; sets the time of the next."""
        self.due = now + self._interval(LEAST_INTERVAL)
        delay = round((now - self._last_sr_at) * 65_536) & 0xFFFFFFFF if self._last_sr else 0
        block = receiver.report(self._last_sr, delay)
        blocks = [block] if block is not None else []
        report: RtcpSrPacket | RtcpRrPacket
        if sender.packets:
            info = RtcpSenderInfo(
                ntp_timestamp=self._ntp(now),
                rtp_timestamp=sender.timestamp_at(now),
                packet_count=sender.packets & 0xFFFFFFFF,
                octet_count=sender.octets & 0xFFFFFFFF,
            )
            report = RtcpSrPacket(sender.ssrc, info, blocks)
        else:
            report = RtcpRrPacket(sender.ssrc, blocks)
        packet = bytes(report) + bytes(RtcpSdesPacket([RtcpSourceInfo(sender.ssrc, [(_CNAME, self._cname)])]))
        if metrics is not None:
            packet += extended_report(sender.ssrc, metrics)
        return packet + bytes(RtcpByePacket([sender.ssrc])) if bye else packet

    def receive(self, data: bytes, now: float, sender: Transmission, receiver: Reception) -> PeerReport | None:
        """Read a compound packet; what it says of our stream. Raises `MediaDropped`."""
        # A compound packet begins with a report (RFC 3550 appendix A.2).
        if len(data) < 8 or data[0] >> 6 != 2 or data[1] not in (200, 201):
            raise MediaDropped(Drop.MALFORMED_RTCP)
        try:
            packets = RtcpPacket.parse(data)
        except (ValueError, struct.error, IndexError) as exc:
            raise MediaDropped(Drop.MALFORMED_RTCP) from exc
        report: PeerReport | None = None
        for packet in packets:
            match packet:
                case RtcpSrPacket():
                    self._last_sr = (packet.sender_info.ntp_timestamp >> 16) & 0xFFFFFFFF
                    self._last_sr_at = now
                    report = self._read(packet.reports, now, sender)
                case RtcpRrPacket():
                    report = self._read(packet.reports, now, sender)
                case RtcpByePacket() if receiver.ssrc is not None and receiver.ssrc in packet.sources:
                    self.left = True
        for metrics in metrics_in(data):
            if metrics.ssrc == sender.ssrc:
                self.metrics = metrics
        return report

    def _read(self, blocks: list[RtcpReceiverInfo], now: float, sender: Transmission) -> PeerReport:
        for block in blocks:
            if block.ssrc != sender.ssrc:
                continue
            self.remote_lost, self.remote_jitter = block.packets_lost, block.jitter
            if block.lsr:
                elapsed = ((self._ntp(now) >> 16) - block.lsr - block.dlsr) & 0xFFFFFFFF
                # Beyond a minute the other side's clock or our memory is wrong.
                if elapsed < 60 * 65_536:
                    self.round_trip = elapsed / 65_536
            return PeerReport(block.highest_sequence, block.fraction_lost / 256)
        return PeerReport(None)

    def _ntp(self, now: float) -> int:
        return int((now + self._ntp_offset) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF
