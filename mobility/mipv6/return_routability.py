"""Return routability, the arithmetic of both ends (RFC 6275 sections 5.2, 6.2.7, 9.4): tokens, keys, authenticators.

A correspondent proves to itself that a terminal can be reached at its home address and at its care-of address by
sending half of a key to each. It keeps no state for that: a half is made from the address, a nonce and a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha1
from hmac import compare_digest, digest
from typing import TypeVar

from mobility.wire import mh

MAX_TOKEN_LIFETIME = 210.0
"Seconds for which a terminal may use a keygen token (RFC 6275 section 12, likewise the next two)."
MAX_NONCE_LIFETIME = 240.0
"Seconds for which a correspondent knows a nonce."
MAX_RR_BINDING_LIFETIME = 420
"Seconds of a binding that return routability authorised."
NONCE_INTERVAL = 30.0
"Seconds for which a nonce makes new tokens: those are then good for MAX_TOKEN_LIFETIME more."

_HOME, _CARE_OF = b"\0", b"\1"
_AUTHENTICATOR = 12
_OPTION = bytes((mh.BindingAuthorizationData.kind, _AUTHENTICATOR))

Authorized = TypeVar("Authorized", mh.BindingUpdate, mh.BindingAcknowledgement)


def home_keygen_token(secret: bytes, home_address: bytes, nonce: bytes) -> bytes:
    """8 octets; ``secret`` is Kcn (section 5.2.5)."""
    return digest(secret, home_address + nonce + _HOME, "sha1")[:8]


def care_of_keygen_token(secret: bytes, care_of_address: bytes, nonce: bytes) -> bytes:
    """8 octets; ``secret`` is Kcn (section 5.2.5)."""
    return digest(secret, care_of_address + nonce + _CARE_OF, "sha1")[:8]


def binding_key(home_token: bytes, care_of_token: bytes = b"") -> bytes:
    """Kbm, 20 octets; to end a binding it is made from the home keygen token alone (section 5.2.5)."""
    return sha1(home_token + care_of_token).digest()


def authenticator(key: bytes, care_of_address: bytes, correspondent: bytes, header: bytes) -> bytes:
    """12 octets over a mobility header that ends with room for it (section 6.2.7).

    ``care_of_address``: the one being registered; the home address where a binding ends.
    """
    covered = b"%b\0\0%b" % (header[:4], header[6:-_AUTHENTICATOR])
    return digest(key, care_of_address + correspondent + covered, "sha1")[:_AUTHENTICATOR]


def authorized(message: Authorized, key: bytes, care_of_address: bytes, correspondent: bytes) -> Authorized:
    """The message with a Binding Authorization Data option as its last one."""
    options: tuple[mh.Option, ...] = message.options
    room = replace(message, options=(*options, mh.BindingAuthorizationData(bytes(_AUTHENTICATOR))))
    value = authenticator(key, care_of_address, correspondent, bytes(room))
    return replace(message, options=(*options, mh.BindingAuthorizationData(value)))


def is_authorized(header: bytes, key: bytes, care_of_address: bytes, correspondent: bytes) -> bool:
    """Whether a received mobility header ends with the right Binding Authorization Data option."""
    if len(header) < 28 or header[-_AUTHENTICATOR - 2 : -_AUTHENTICATOR] != _OPTION:
        return False
    return compare_digest(authenticator(key, care_of_address, correspondent, header), header[-_AUTHENTICATOR:])


@dataclass(frozen=True, slots=True)
class KeygenToken:
    """Half of a key, as the terminal holds it."""

    index: int
    "Of the nonce that it was made from."
    token: bytes
    received: float
    address: bytes
    "Home or care-of address that it was sent to, 16 octets."

    def usable(self, now: float, margin: float = 0.0) -> bool:
        """Whether it is young enough, for ``margin`` seconds more."""
        return now + margin < self.received + MAX_TOKEN_LIFETIME


class Nonces:
    """The secret of a correspondent and its nonces (section 5.2.3): a new one now and then, old ones go."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._secret = random(20)
        self._index = int.from_bytes(random(2))
        self._nonces: dict[int, tuple[bytes, float]] = {}
        "Index to nonce and the time it was made; the youngest last."

    def home_token(self, home_address: bytes, now: float) -> tuple[int, bytes]:
        """Nonce index and token for a home test."""
        index, nonce = self._present(now)
        return index, home_keygen_token(self._secret, home_address, nonce)

    def care_of_token(self, care_of_address: bytes, now: float) -> tuple[int, bytes]:
        """Nonce index and token for a care-of test."""
        index, nonce = self._present(now)
        return index, care_of_keygen_token(self._secret, care_of_address, nonce)

    def home_token_again(self, index: int, home_address: bytes, now: float) -> bytes | None:
        """The token that was sent with this index; None: the nonce is not known any more."""
        nonce = self._known(index, now)
        return None if nonce is None else home_keygen_token(self._secret, home_address, nonce)

    def care_of_token_again(self, index: int, care_of_address: bytes, now: float) -> bytes | None:
        """The token that was sent with this index; None: the nonce is not known any more."""
        nonce = self._known(index, now)
        return None if nonce is None else care_of_keygen_token(self._secret, care_of_address, nonce)

    def _present(self, now: float) -> tuple[int, bytes]:
        self._forget(now)
        known = self._nonces.get(self._index)
        if known is None or now - known[1] >= NONCE_INTERVAL:
            self._index = (self._index + 1) & 0xFFFF
            known = self._nonces[self._index] = self._random(8), now
        return self._index, known[0]

    def _known(self, index: int, now: float) -> bytes | None:
        self._forget(now)
        known = self._nonces.get(index)
        return None if known is None else known[0]

    def _forget(self, now: float) -> None:
        over = [index for index, (_, made) in self._nonces.items() if now - made >= MAX_NONCE_LIFETIME]
        for index in over:
            del self._nonces[index]

    def __len__(self) -> int:
        return len(self._nonces)
