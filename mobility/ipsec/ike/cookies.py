"""Cookies against floods of half-open IKE SAs (RFC 7296 section 2.6): no state for who cannot be answered."""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest, digest

from mobility.ipsec.ike.settings import Endpoint

LIFETIME = 60.0
"Seconds for which a secret makes cookies; it checks them for as long again."


class Cookies:
    """Makes cookies and knows its own."""

    __slots__ = ("_random", "_secrets", "_since", "_version")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._secrets: list[bytes] = []
        self._since = 0.0
        self._version = 0

    def make(self, nonce: bytes, remote: Endpoint, spi: bytes, now: float) -> bytes:
        """The cookie of who sends from ``remote`` with this nonce and SPI."""
        if not self._secrets or now - self._since >= LIFETIME:
            previous = [] if now - self._since >= 2 * LIFETIME else self._secrets[:1]
            self._secrets = [self._random(32), *previous]
            self._since, self._version = now, self._version + 1 & 0xFF
        return self._cookie(0, nonce, remote, spi)

    def right(self, cookie: bytes, nonce: bytes, remote: Endpoint, spi: bytes, now: float) -> bool:
        """Whether it is one of ours, for them, and lately made."""
        if now - self._since >= 2 * LIFETIME:
            return False
        return any(compare_digest(cookie, self._cookie(age, nonce, remote, spi)) for age in range(len(self._secrets)))

    def _cookie(self, age: int, nonce: bytes, remote: Endpoint, spi: bytes) -> bytes:
        content = nonce + remote.address.packed + remote.port.to_bytes(2, "big") + spi
        return bytes((self._version - age & 0xFF,)) + digest(self._secrets[age], content, "sha256")
