"""Anti-replay (RFC 4303 section 3.4.3): asked before authentication, moved only after it."""

from __future__ import annotations

SIZE = 1024
"Width of the window in packets."
MASK = (1 << SIZE) - 1


class ReplayWindow:
    """Which sequence numbers were seen. Bit 0 of ``bitmap`` is ``top``, bit n is ``top - n``.

    The attributes are public because the hot path of `mobility.ipsec.sa.InboundSA` does by hand, without two
    calls a packet, what the methods say.
    """

    __slots__ = ("bitmap", "top")

    def __init__(self, top: int = 0) -> None:
        """All numbers up to and including ``top`` count as seen, so 0 is never acceptable."""
        self.top = top
        self.bitmap = MASK

    def acceptable(self, sequence: int) -> bool:
        """Whether the number is new. Changes nothing: a stranger's packet must not move the window."""
        ahead = sequence - self.top
        return ahead > 0 or (ahead > -SIZE and not self.bitmap >> -ahead & 1)

    def accept(self, sequence: int) -> None:
        """Marks a number whose packet was authenticated and for which `acceptable` said yes."""
        ahead = sequence - self.top
        if ahead > 0:
            self.bitmap = (self.bitmap << ahead | 1) & MASK if ahead < SIZE else 1
            self.top = sequence
        else:
            self.bitmap |= 1 << -ahead
