"""Associations whose keys are negotiated, and negotiated anew: whoever holds one need not know of it.

Before the first keys, and after the last, nothing is sealed or opened. New keys take the place of the former ones in
the same object. Sequence numbers go on across a change of keys, at both ends, because the tunnel tells by them what a
handover has lost (`mobility.mipv6.again`); with new keys any number is as good as 1 (RFC 4303 section 3.3.3).
"""

from __future__ import annotations

from collections.abc import Callable

from mobility.discards import Discard, Reason
from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.replay import ReplayWindow
from mobility.ipsec.sa import InboundSA, Mode, OutboundSA, SequenceState

FIRST_SPI = 256
"Stands for none until there are keys."
BEGIN_ANEW = 0x80000000
"Outbound numbers do not go on beyond this, so that they last for the next keys."
RECEIVE_ANEW = 0x40000000
"From here on the other end may have begun anew: any number is taken."


def _none_yet(algorithm: Algorithm) -> Keys:
    return Keys(bytes(algorithm.key_lengths[-1]), bytes(algorithm.authentication_key_length))


class RenewableOutbound(OutboundSA):
    """Seals with the present keys. Its algorithm is always the same."""

    __slots__ = ("_dice", "keyed")

    def __init__(self, algorithm: Algorithm, mode: Mode, random: Callable[[int], bytes]) -> None:
        super().__init__(FIRST_SPI, algorithm, _none_yet(algorithm), mode, random=random, fresh_keys=True)
        self._dice = random
        self.keyed = False
        "There are keys."

    def renew(self, spi: int, keys: Keys) -> None:
        """From now on under these keys, which nobody else has ever used. Raises `KeyingError`."""
        last, packets, octets = self.sequence, self.packets, self.octets
        state = SequenceState()
        state.reserve(last if last < BEGIN_ANEW else 0)
        super().__init__(spi, self.algorithm, keys, self.mode, random=self._dice, state=state, fresh_keys=True)
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
    """Opens with the present keys, and with the former ones until `forget`."""

    __slots__ = ("_former", "keyed")

    def __init__(self, algorithm: Algorithm, mode: Mode) -> None:
        super().__init__(FIRST_SPI, algorithm, _none_yet(algorithm), mode)
        self._former: dict[bytes, InboundSA] = {}
        self.keyed = False

    def renew(self, spi: int, keys: Keys) -> None:
        """New packets come under these keys; those before still may. Raises `KeyingError`."""
        if self.keyed:
            former = InboundSA(self.spi, self.algorithm, self.keys, self.mode)
            former.top, former.bitmap = self.top, self.bitmap
            self._former[self.spi.to_bytes(4)] = former
        top = self.top if self.top < RECEIVE_ANEW else 0
        counts = self.packets, self.octets, self.replayed, self.failed
        super().__init__(spi, self.algorithm, keys, self.mode)
        ReplayWindow.__init__(self, top)
        self.packets, self.octets, self.replayed, self.failed = counts
        self.keyed = True

    def forget(self, spi: int) -> None:
        """Nothing comes by this SPI any more."""
        if self._former.pop(spi.to_bytes(4), None) is None and spi == self.spi:
            self.keyed = False

    @property
    def spis(self) -> tuple[int, ...]:
        """Those by which something may come."""
        present = (self.spi,) if self.keyed else ()
        return (*present, *(int.from_bytes(spi) for spi in self._former))

    def open(self, esp: bytes) -> tuple[int, bytes]:
        """As `InboundSA.open`."""
        former = self._former.get(esp[:4])
        if former is not None:
            opened = former.open(esp)
            self.packets += 1
            self.octets += len(opened[1])
            return opened
        if not self.keyed:
            raise Discard(Reason.SA_UNKNOWN, "no keys yet")
        return super().open(esp)
