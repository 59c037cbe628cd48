"""Associations, policies and scapy twins that the tests of this room share."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from random import Random

import pytest
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation

from mobility.discards import Discard, Reason
from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.sa import InboundSA, Mode, OutboundSA, SequenceState

HOME = IPv6Address("2001:db8:6::1")
PEER = IPv6Address("2001:db8:77::2")
AGENT = IPv6Address("2001:db8:6::f")
CARE_OF = IPv6Address("2001:db8:5b::1")
SPI = 0xC0FFEE01

OF_ESP = [algorithm for algorithm in Algorithm if not algorithm.is_for_ah]
ALL_KEYS = [(algorithm, length) for algorithm in OF_ESP for length in algorithm.key_lengths]
"Every algorithm of ESP with every length of key."

dice = Random(4303).randbytes


def keys_for(algorithm: Algorithm, length: int | None = None, seed: int = 1) -> Keys:
    """Keys that depend on ``seed`` only."""
    make = Random(seed).randbytes
    size = algorithm.key_lengths[0] if length is None else length
    return Keys(make(size), make(algorithm.authentication_key_length))


def pair(
    algorithm: Algorithm,
    length: int | None = None,
    mode: Mode = Mode.TRANSPORT,
    *,
    spi: int = SPI,
    state: SequenceState | None = None,
    seed: int = 1,
) -> tuple[OutboundSA, InboundSA]:
    """The two ends of one association."""
    keys = keys_for(algorithm, length, seed)
    out = OutboundSA(spi, algorithm, keys, mode, random=dice, fresh_keys=True, state=state)
    return out, InboundSA(spi, algorithm, keys, mode, state=state)


def scapy_twin(
    algorithm: Algorithm, length: int | None = None, *, tunnel: tuple[IPv6Address, IPv6Address] | None = None
) -> SecurityAssociation:
    """Scapy's association with the same keys; ``tunnel``: outer source and destination."""
    keys = keys_for(algorithm, length)
    crypt, auth = {
        Algorithm.AES_GCM_16: ("AES-GCM", None),
        Algorithm.CHACHA20_POLY1305: ("CHACHA20-POLY1305", None),
        Algorithm.AES_CBC_HMAC_SHA2_256_128: ("AES-CBC", "SHA2-256-128"),
        Algorithm.NULL_HMAC_SHA2_256_128: ("NULL", "SHA2-256-128"),
    }[algorithm]
    return SecurityAssociation(
        ESP,
        spi=SPI,
        seq_num=1,
        crypt_algo=crypt,
        crypt_key=keys.encryption or None,
        auth_algo=auth,
        auth_key=keys.authentication or None,
        tunnel_header=None if tunnel is None else IPv6(src=str(tunnel[0]), dst=str(tunnel[1])),
    )


def only(address: IPv6Address) -> IPv6Network:
    """The network of one address."""
    return IPv6Network(address)


def discarded(reason: Reason, call: Callable[[], object]) -> Discard:
    """The `Discard` that the call must raise."""
    with pytest.raises(Discard) as caught:
        call()
    if caught.value.reason is not reason:
        raise AssertionError(f"wanted {reason}, got {caught.value!r}")
    return caught.value
