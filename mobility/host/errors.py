"""ICMPv6 errors about packets that came in (RFC 4443 section 2.4), not more than the network bears."""

from __future__ import annotations

RATE = 10.0
"Errors a second, on average."
BURST = 10.0


class TokenBucket:
    """RFC 4443 section 2.4 (f)."""

    def __init__(self, rate: float = RATE, burst: float = BURST) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._filled_at = burst, 0.0

    def take(self, now: float) -> bool:
        """Whether one more may be sent now."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
