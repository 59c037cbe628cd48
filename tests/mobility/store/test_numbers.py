"""Numbers that several home agents set aside together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mobility.discards import Discard, Reason
from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.sa import LAST_SEQUENCE, RESERVATION, Mode, OutboundSA
from mobility.settings import Association
from mobility.store.numbers import GRANT, REFILL, GrantedState, SharedSequences


def association(number: int) -> Association:
    return Association(0x1000 + number, Algorithm.NULL_HMAC_SHA2_256_128, Keys(b"", bytes([number]) * 32))


@pytest.fixture
def sequences(tmp_path: Path) -> Iterator[SharedSequences]:
    made = SharedSequences(tmp_path / "sequences")
    made.open()
    yield made
    made.close()


def outbound(sequences: SharedSequences, number: int = 1) -> GrantedState:
    state = sequences.state(association(number), "outbound")
    assert isinstance(state, GrantedState)
    return state


def test_nothing_is_sealed_beyond_what_was_granted(sequences: SharedSequences) -> None:
    state = outbound(sequences)
    state.grant(1000, 1000 + RESERVATION + 5)
    given = association(1)
    sa = OutboundSA(given.spi, given.algorithm, given.keys, Mode.TUNNEL, random=bytes, state=state)
    numbers = []
    with pytest.raises(Discard) as caught:  # noqa: PT012 - it is raised by the last of many
        while True:
            numbers.append(int.from_bytes(sa.seal(4, b"")[4:8]))
    assert caught.value.reason is Reason.SEQUENCE_NOT_GRANTED
    assert numbers == list(range(1001, 1000 + RESERVATION + 6))
    state.granted += GRANT
    assert int.from_bytes(sa.seal(4, b"")[4:8]) == numbers[-1] + 1


def test_more_is_wanted_at_half(sequences: SharedSequences) -> None:
    state = outbound(sequences)
    found = [state.wanting]
    state.grant(0, GRANT)
    found.append(state.wanting)
    state.cells[0] = GRANT - REFILL + 1
    found.append(state.wanting)
    state.grant(LAST_SEQUENCE - 5, LAST_SEQUENCE)
    found.append(state.wanting)  # there are no more
    assert found == [True, False, True, False]
    with pytest.raises(Discard) as caught:
        state.reserve(LAST_SEQUENCE)
    assert caught.value.reason is Reason.SEQUENCE_EXHAUSTED


def test_what_moved_is_found(sequences: SharedSequences) -> None:
    made = {
        number: (outbound(sequences, number), sequences.state(association(number), "inbound")) for number in range(9)
    }
    names = list(sequences.outbound), list(sequences.inbound)
    assert list(sequences.changed()) == [name for pair in zip(*names, strict=True) for name in pair]
    assert list(sequences.changed()) == []
    made[7][0].cells[0] = 5
    made[2][1].cells[1] = 6
    assert set(sequences.changed()) == {names[0][7], names[1][2]}
    late = sequences.state(association(100), "inbound")
    assert list(sequences.changed()) == [list(sequences.inbound)[-1]]
    late.cells[1] = 1
    assert list(sequences.changed()) == [list(sequences.inbound)[-1]]
    assert list(sequences.changed()) == []


def test_the_same_association_is_the_same_state(sequences: SharedSequences, tmp_path: Path) -> None:
    state = outbound(sequences)
    assert outbound(sequences) is state
    assert sequences.state(association(1), "inbound") is not state
    state.cells[0] = 77
    sequences.close()
    again = SharedSequences(tmp_path / "sequences")
    again.open()
    assert outbound(again).outbound == 77
    assert outbound(again).granted == 0, "what another process had set aside is not ours"
    again.close()
