"""Associations whose keys are negotiated, and negotiated anew: whoever holds one need not know of it.

Before the first keys, and after the last, nothing is sealed or opened. New keys take the place of the former ones in
the same object. Sequence numbers go on across a change of keys, at both ends, because the tunnel tells by them what a
handover has lost (`mobility.mipv6.again`); with new keys any number is as good as 1 (RFC 4303 section 3.3.3).
"""

from __future__ import annotations

from collections.abc import Callable

from mobility.discards import Discard, Reason
from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.sa import InboundSA, Mode, OutboundSA, SequenceState

FIRST_SPI = 256
"Stands for none until there are keys."
BEGIN_ANEW = 0x80000000
"Outbound numbers do not go on beyond this, so that they last for the next keys."


def _none_yet(algorithm: Algorithm) -> Keys:
    return Keys(bytes(algorithm.key_lengths[-1]), bytes(algorithm.authentication_key_length))


class RenewableOutbound(OutboundSA):
    """Seals with the present keys."""

    __slots__ = ("_dice", "keyed")

    def __init__(self, algorithm: Algorithm, mode: Mode, random: Callable[[int], bytes]) -> None:
        super().__init__(FIRST_SPI, algorithm, _none_yet(algorithm), mode, random=random, fresh_keys=True)
        self._dice = random
        self.keyed = False
        "There are keys."

    def renew(self, spi: int, keys: Keys, algorithm: Algorithm | None = None) -> None:
        """From now on under these keys, which nobody else has ever used; ``algorithm``: if it is to be another one.

        Raises `KeyingError`.
        """
        algorithm = self.algorithm if algorithm is None else algorithm
        last, packets, octets = self.sequence, self.packets, self.octets
        state = SequenceState()
        state.reserve(last if last < BEGIN_ANEW else 0)
        super().__init__(spi, algorithm, keys, self.mode, random=self._dice, state=state, fresh_keys=True)
        self.sequence = last if last < BEGIN_ANEW else 0
        self._first = self.sequence - packets
        self.octets = octets
        self.keyed = True

    def end(self) -> None:
        """There are no keys any more."""
        self.keyed = False
        self._reserved = self.sequence

    def _reserve(self) -> None:
        if not self.keyed:
            raise Discard(Reason.SA_MISSING, "keys are being negotiated")
        super()._reserve()


class RenewableInbound(InboundSA):
    """Opens with the present keys, with the next ones, and with the former ones until `forget`.

    The next keys become the present ones with the first packet that is authentic under them. So the highest number
    received, by which a handover tells what was lost, is never that of keys that nothing has come under; and each keys
    have a replay window of their own, because the other end begins with 1 if it was restarted.
    """

    __slots__ = ("_former", "_next", "keyed", "provisional")

    def __init__(self, algorithm: Algorithm, mode: Mode) -> None:
        super().__init__(FIRST_SPI, algorithm, _none_yet(algorithm), mode)
        self.provisional = False
        "Nobody has vouched for who the other end is: this brings what would be let in without protection, and no more."
        self._former: dict[bytes, InboundSA] = {}
        self._next: dict[bytes, InboundSA] = {}
        self.keyed = False

    def renew(self, spi: int, keys: Keys, algorithm: Algorithm | None = None) -> None:
        """New packets come under these keys; those before still may. ``algorithm`` as in `RenewableOutbound.renew`.

        Raises `KeyingError`.
        """
        new = InboundSA(spi, self.algorithm if algorithm is None else algorithm, keys, self.mode)
        if self.keyed:
            self._next[spi.to_bytes(4)] = new
        else:
            self._become(new)

    def forget(self, spi: int) -> None:
        """Nothing comes by this SPI any more."""
        octets = spi.to_bytes(4)
        gone = self._former.pop(octets, None) or self._next.pop(octets, None)
        if gone is None and self.keyed and spi == self.spi:
            others = self._next or self._former
            if others:
                self._become(others.popitem()[1])
            else:
                self.keyed = False

    @property
    def spis(self) -> tuple[int, ...]:
        """Those by which something may come."""
        present = (self.spi,) if self.keyed else ()
        return (*present, *(int.from_bytes(spi) for spi in (*self._next, *self._former)))

    def open(self, esp: bytes) -> tuple[int, bytes]:
        """As `InboundSA.open`."""
        spi = esp[:4]
        other = self._next.get(spi) or self._former.get(spi)
        if other is not None:
            return self._open_by(other, spi, esp)
        if not self.keyed:
            raise Discard(Reason.SA_UNKNOWN, "no keys yet")
        return super().open(esp)

    def _open_by(self, other: InboundSA, spi: bytes, esp: bytes) -> tuple[int, bytes]:
        try:
            opened = other.open(esp)
        finally:
            self.replayed, other.replayed = self.replayed + other.replayed, 0
            self.failed, other.failed = self.failed + other.failed, 0
        self.packets += 1
        self.octets += len(opened[1])
        if self._next.pop(spi, None) is not None:
            former = InboundSA(self.spi, self.algorithm, self.keys, self.mode)
            former.top, former.bitmap = self.top, self.bitmap
            self._former[self.spi.to_bytes(4)] = former
            self._become(other)
        return opened

    def _become(self, other: InboundSA) -> None:
        counts = self.packets, self.octets, self.replayed, self.failed
        super().__init__(other.spi, other.algorithm, other.keys, self.mode)
        self.top, self.bitmap = other.top, other.bitmap
        self.packets, self.octets, self.replayed, self.failed = counts
        self.keyed = True
