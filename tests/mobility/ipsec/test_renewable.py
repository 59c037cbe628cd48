"""Associations whose keys change while others hold them."""

from __future__ import annotations

from functools import partial

import pytest

from mobility.discards import Reason
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.renewable import BEGIN_ANEW, RenewableInbound, RenewableOutbound
from mobility.ipsec.sa import Mode
from tests.mobility.ipsec.keying import OF_ESP, dice, discarded, keys_for


def ends(algorithm: Algorithm = Algorithm.AES_GCM_16) -> tuple[RenewableOutbound, RenewableInbound]:
    return RenewableOutbound(algorithm, Mode.TUNNEL, dice), RenewableInbound(algorithm, Mode.TUNNEL)


@pytest.mark.parametrize("algorithm", OF_ESP)
def test_nothing_goes_without_keys_and_all_goes_across_a_rekey(algorithm: Algorithm) -> None:
    out, into = ends(algorithm)
    discarded(Reason.SA_MISSING, lambda: out.seal(17, b"early"))
    discarded(Reason.SA_UNKNOWN, lambda: into.open(bytes(100)))
    assert (out.sequence, into.spis) == (0, ())
    for end in (out, into):
        end.renew(0x1000, keys_for(algorithm))
    first = [out.seal(17, b"one"), out.seal(17, b"two")]
    assert into.open(first[0]) == (17, b"one")
    for end in (into, out):
        end.renew(0x2000, keys_for(algorithm, seed=2))
    after = out.seal(17, b"three")
    assert into.open(after) == (17, b"three")
    assert into.open(first[1]) == (17, b"two")  # it was still on its way
    for again in (*first, after):
        discarded(Reason.REPLAYED, partial(into.open, again))
    assert (out.sequence, out.packets, into.top, into.packets) == (3, 3, 3, 3)
    assert set(into.spis) == {0x1000, 0x2000}
    into.forget(0x1000)
    discarded(Reason.SA_UNKNOWN, lambda: into.open(first[1]))
    out.end()
    discarded(Reason.SA_MISSING, lambda: out.seal(17, b"late"))
    into.forget(0x2000)
    assert into.spis == ()
    discarded(Reason.SA_UNKNOWN, lambda: into.open(after))


def test_another_end_begins_at_one() -> None:
    out, into = ends()
    into.renew(0x1000, keys_for(Algorithm.AES_GCM_16))
    out.renew(0x1000, keys_for(Algorithm.AES_GCM_16))
    for _ in range(5000):
        into.open(out.seal(17, b"x"))
    into.renew(0x2000, keys_for(Algorithm.AES_GCM_16, seed=2))
    other, _ = ends()
    other.renew(0x2000, keys_for(Algorithm.AES_GCM_16, seed=2))
    assert into.open(other.seal(17, b"new")) == (17, b"new")
    assert into.top == 1


def test_numbers_last_for_every_key() -> None:
    out, into = ends()
    out.renew(0x1000, keys_for(Algorithm.AES_GCM_16))
    into.renew(0x1000, keys_for(Algorithm.AES_GCM_16))
    out.sequence = out._reserved = BEGIN_ANEW + 5
    assert into.open(out.seal(17, b"x")) == (17, b"x")
    for end in (into, out):
        end.renew(0x2000, keys_for(Algorithm.AES_GCM_16, seed=2))
    assert out.sequence == 0
    assert into.open(out.seal(17, b"y")) == (17, b"y")
