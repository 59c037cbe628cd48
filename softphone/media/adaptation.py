"""How much an Opus encoder sends, by what the other side reports of its losses (RFC 3550 section 6.4). Sans-IO.

Some loss is answered with forward error correction, which works from about 6 per cent of expected loss on and is worth
8 kbit/s more; much loss means that the way is full, and less is sent.
"""

from __future__ import annotations

from softphone.media.opus import BIT_RATE, EXPECTED_LOSS, GREATEST_BIT_RATE, LEAST_BIT_RATE

PROTECTED_BIT_RATE = 40_000
"With forward error correction: measured, it keeps the quality that 32 kbit/s have without."
SOME, MUCH = 0.01, 0.12
"Shares of loss."
GREATEST_EXPECTED = 30
"Per cent: beyond, libopus spends more on the repetition than on the sound."


class RateControl:
    """The bit rate and the expected loss of one sender."""

    def __init__(self, greatest: int = GREATEST_BIT_RATE) -> None:
        self.bit_rate = min(BIT_RATE, greatest)
        self.expected_loss = EXPECTED_LOSS
        "Per cent."
        self._greatest = greatest
        self._loss = 0.0

    def reported(self, fraction_lost: float) -> None:
        """A receiver report: the share that was lost since the last."""
        # Bad news counts at once, good news slowly: losses come in clusters.
        weight = 0.7 if fraction_lost > self._loss else 0.25
        self._loss += weight * (fraction_lost - self._loss)
        if self._loss < SOME:
            self.expected_loss = EXPECTED_LOSS
            self._approach(BIT_RATE)
        elif self._loss < MUCH:
            self.expected_loss = min(GREATEST_EXPECTED, max(10, round(150 * self._loss)))
            self._approach(PROTECTED_BIT_RATE)
        else:
            self.expected_loss = GREATEST_EXPECTED
            self._approach(max(LEAST_BIT_RATE, round(self.bit_rate * (1 - self._loss / 2))))

    def _approach(self, wanted: int) -> None:
        # Downwards at once, upwards in steps: a way that was full must not be filled again in one go.
        wanted = min(wanted, self._greatest)
        self.bit_rate = wanted if wanted < self.bit_rate else min(wanted, self.bit_rate + 4_000)
