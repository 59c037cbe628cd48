"""The demo's report: what was measured, and whether it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

NOMINAL_MS = 20.0
"Time between two audio packets."
PESQ_MARGIN = 0.15
"By how much the call may score below the codec alone."
PESQ_MARGIN_UNPRIVILEGED = 0.3
"The same where the phone has no say in how it is scheduled: the listener stretches what was sent late."
DIRECTIONS = ("to_mn", "to_cn")


@dataclass(frozen=True, slots=True)
class Stream:
    """One direction of audio as both ends logged it. Times: seconds of the machine's monotonic clock."""

    sent: list[tuple[float, int]]
    "Time and sequence number of every packet sent."
    arrived: list[tuple[float, int]]
    "Time and sequence number of every packet received, in order of arrival."

    def lost(self, begin: float = float("-inf"), end: float = float("inf")) -> int:
        """How many packets sent in [begin, end) never arrived."""
        got = {number & 0xFFFF for _, number in self.arrived}
        return sum(1 for at, number in self.sent if begin <= at < end and number & 0xFFFF not in got)

    def duplicates(self) -> int:
        """How many packets came although they had come before."""
        return len(self.arrived) - len({number for _, number in self.arrived})

    def gap_ms(self, begin: float, end: float) -> float:
        """The longest time without a packet at the receiver between ``begin`` and ``end``, in milliseconds.

        An undisturbed stream shows about `NOMINAL_MS`. A stream that is silent throughout counts in full.
        """
        times = [begin, *(at for at, _ in self.arrived if begin < at < end), end]
        return max(later - earlier for earlier, later in pairwise(times)) * 1000


@dataclass(frozen=True, slots=True)
class Audio:
    """Audio of one direction, counted and heard."""

    sent: int
    received: int
    lost: int
    late: int
    "Packets that arrived after the moment at which they were to be heard."
    pesq: float
    pesq_codec: float
    "PESQ of the codec alone on the same speech: encoded and decoded without a network."

    def as_json(self) -> dict[str, int | float]:
        return {
            "sent": self.sent,
            "received": self.received,
            "lost": self.lost,
            "late": self.late,
            "pesq": round(self.pesq, 3),
            "pesq_codec": round(self.pesq_codec, 3),
        }


@dataclass(frozen=True, slots=True)
class Handover:
    """One movement of the terminal in mid call."""

    origin: str
    destination: str
    cut: float
    "When the old network was lost (monotonic seconds)."
    binding_ms: float
    "From the loss of the old network until the home agent's acknowledgement of the new care-of address."
    gap_ms: dict[str, float]
    lost: dict[str, int]

    AFTER = 1.0
    "Seconds after the cut in which a loss counts as the handover's."

    def as_json(self) -> dict[str, object]:
        return {
            "from": self.origin,
            "to": self.destination,
            "binding_ms": round(self.binding_ms, 2),
            "gap_ms": {direction: round(gap, 2) for direction, gap in self.gap_ms.items()},
            "lost": self.lost,
        }

    @classmethod
    def measure(cls, origin: str, destination: str, cut: float, bound: float, streams: dict[str, Stream]) -> Handover:
        """Judge one handover by the logs of both ends of both streams.

        A packet sent just before the cut may still be under way; its loss belongs to the handover.
        """
        begin, end = cut - 0.1, cut + cls.AFTER
        return cls(
            origin,
            destination,
            cut,
            (bound - cut) * 1000,
            {direction: stream.gap_ms(begin, end) for direction, stream in streams.items()},
            {direction: stream.lost(begin, end) for direction, stream in streams.items()},
        )


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one run of the demo measured."""

    tunnel: str
    registered: bool
    transport: str
    sdp_connection: str
    home_address: str
    audio: dict[str, Audio]
    handovers: list[Handover]
    handovers_wanted: int
    capture: str = ""
    keys: list[str] = field(default_factory=list)
    "Files with which Wireshark decrypts the capture."
    notes: list[str] = field(default_factory=list)
    "What else went wrong, in words."
    facts: list[str] = field(default_factory=list)
    "What else was measured, in words."
    pesq_margin: float = PESQ_MARGIN
    network: str = "basic"

    def failures(self) -> list[str]:
        """What did not hold, in words; empty when everything did."""
        found = list(self.notes)
        if not self.registered:
            found.append("the terminal could not register with the SIP proxy")
        if self.sdp_connection != self.home_address:
            found.append(f"the SDP says {self.sdp_connection or 'nothing'}, not the home address {self.home_address}")
        if len(self.handovers) != self.handovers_wanted:
            found.append(f"{len(self.handovers)} of {self.handovers_wanted} handovers were finished")
        for direction in DIRECTIONS:
            audio = self.audio.get(direction)
            if audio is None or audio.received == 0:
                found.append(f"{direction}: no audio arrived")
                continue
            elsewhere = audio.lost - sum(handover.lost[direction] for handover in self.handovers)
            if elsewhere:
                found.append(f"{direction}: {elsewhere} packets were lost outside the handovers")
            if audio.pesq < audio.pesq_codec - self.pesq_margin:
                found.append(
                    f"{direction}: PESQ {audio.pesq:.2f} is more than {self.pesq_margin} below "
                    f"the codec's {audio.pesq_codec:.2f}"
                )
        return found

    @property
    def ok(self) -> bool:
        return not self.failures()

    def as_json(self) -> dict[str, object]:
        return {
            "ok": self.ok,
            "tunnel": self.tunnel,
            "network": self.network,
            "sip": {
                "registered": self.registered,
                "transport": self.transport,
                "sdp_connection": self.sdp_connection,
                "home_address": self.home_address,
            },
            "audio": {direction: audio.as_json() for direction, audio in self.audio.items()},
            "handovers": [handover.as_json() for handover in self.handovers],
            "facts": self.facts,
            "capture": self.capture,
        }

    def as_text(self) -> str:
        """The report for people."""
        words = {"to_mn": "correspondent -> terminal", "to_cn": "terminal -> correspondent"}
        lines = [
            "",
            f"Network         {self.network}",
            f"Tunnel          {self.tunnel}",
            f"SIP             registered over {self.transport}; "
            f"SDP says {self.sdp_connection} (home address {self.home_address})",
        ]
        for direction in DIRECTIONS:
            if audio := self.audio.get(direction):
                lines.append(
                    f"{words[direction]:27} {audio.sent} sent, {audio.received} received, "
                    f"{audio.lost} lost, {audio.late} late; "
                    f"PESQ {audio.pesq:.2f} (codec alone {audio.pesq_codec:.2f})"
                )
        for handover in self.handovers:
            lines.append(
                f"{handover.origin} -> {handover.destination}: bound after {handover.binding_ms:.1f} ms; "
                f"longest silence on the wire {handover.gap_ms['to_mn']:.0f} ms "
                f"to the terminal (lost {handover.lost['to_mn']}), "
                f"{handover.gap_ms['to_cn']:.0f} ms to the correspondent (lost {handover.lost['to_cn']})"
            )
        lines += self.facts
        if self.capture:
            lines.append(f"Capture         {self.capture} (keys for Wireshark: {', '.join(self.keys)})")
        failures = self.failures()
        lines.append("")
        lines += [f"FAILED: {failure}" for failure in failures] or ["Everything held."]
        return "\n".join(lines)
