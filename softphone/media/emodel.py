"""How good a call sounds, from what is measured of it: the E-model (ITU-T G.107), simplified.

R = 93.2 - delay - codec and loss. Echo, noise and levels are those of a good telephone. Wide-band codecs are judged on
the narrow-band scale, on which none of ours is worse than G.711; so 4.4 is the best that is ever said.
"""

from __future__ import annotations

from dataclasses import dataclass

from softphone.media.codecs import PACKET_TIME

BEST = 93.2


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a codec does to speech (ITU-T G.113)."""

    equipment: float
    "Ie."
    robustness: float
    "Bpl: the greater, the better losses are concealed."


IMPAIRMENTS = {
    "PCMU": Impairment(0, 25.1),
    "PCMA": Impairment(0, 25.1),
    "L16": Impairment(0, 25.1),
    "G722": Impairment(0, 10),
    "opus": Impairment(0, 10),
}
"G.113 gives the figures of G.711 with concealment; for Opus it has none, those here are cautious."


def r_factor(codec: str, loss: float, burst_ratio: float, delay: float) -> float:
    """0 to 93.2. ``loss``: share that was not played, 0 to 1; ``burst_ratio``: 1 where losses are independent, more
    where they come together; ``delay``: from mouth to ear, seconds."""
    impairment = IMPAIRMENTS[codec]
    percent, milliseconds = 100 * loss, 1000 * delay
    beyond = max(0.0, milliseconds - 177.3)
    waiting = 0.024 * milliseconds + 0.11 * beyond
    equipment = impairment.equipment
    if percent > 0:
        equipment += (95 - equipment) * percent / (percent / max(1.0, burst_ratio) + impairment.robustness)
    return max(0.0, BEST - waiting - equipment)


def mos_of(r: float) -> float:
    """The mean opinion score, 1 to 4.5 (ITU-T G.107 annex B)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def mouth_to_ear(round_trip: float | None, jitter_buffer: float) -> float:
    """Seconds: half of the way there and back, the jitter buffer, and the packet that has to be full first."""
    return (round_trip or 0.0) / 2 + jitter_buffer + PACKET_TIME


def burst_ratio(missing: int, runs: int, packets: int) -> float:
    """How much longer losses in a row are than independent ones would be (ITU-T G.107 section 3.5)."""
    if not runs or not packets:
        return 1.0
    independent = 1 / max(1e-6, 1 - missing / packets)
    return max(1.0, (missing / runs) / independent)
