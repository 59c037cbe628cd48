"""Replays what fuzzing has found, and goes on a little way from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import nodes
from tests.fuzz.targets import TARGETS, fresh

CORPUS = Path(__file__).parent / "corpus"
KEPT = sorted(path for path in CORPUS.glob("*/*"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_found_once_and_mended(path: Path) -> None:
    fresh(path.parent.name, path.read_bytes())


def test_corpus_belongs_to_targets() -> None:
    assert KEPT
    assert {path.parent.name for path in KEPT} <= set(TARGETS)


def test_nodes_under_attack_are_bound() -> None:
    for kind in range(4):
        sizes = {
            "home-agent": nodes.victim_of("home-agent", kind).node.snapshot(0.0)["binding_cache"],
            "rented": nodes.victim_of("rented", kind).node.snapshot(0.0)["binding_cache"],
            "correspondent": nodes.victim_of("correspondent", kind).node.snapshot(0.0)["direct_bindings"],
        }
        assert sizes["home-agent"]
        assert sizes["rented"]
        assert bool(sizes["correspondent"]) is (kind < 3)  # through UDP there is no direct way


_U8 = st.integers(0, 255)
_EDIT = st.builds(
    lambda kind, at, value: bytes((kind, at >> 8, at & 255)) + (b"" if kind & 3 else value),
    st.sampled_from([0, 2 | 4 << 2, 2 | 8 << 2, 3]),
    st.integers(0, 400),
    st.binary(min_size=1, max_size=1),
)
_PACKET = st.builds(
    lambda step, sender, template, edits: bytes((step, sender, template, len(edits))) + b"".join(edits),
    st.sampled_from([0, 1, 0x40, 0x41]),
    st.integers(0, 2),
    _U8,
    st.lists(_EDIT, max_size=4),
)
_SEQUENCE = st.builds(lambda kind, packets: bytes((kind,)) + b"".join(packets), _U8, st.lists(_PACKET, max_size=12))


@pytest.mark.parametrize("role", nodes.TARGETS)
@settings(max_examples=100)
@given(data=_SEQUENCE)
def test_sequences_of_packets_with_other_values_lengths_and_ends(role: str, data: bytes) -> None:
    TARGETS[role](data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=30)
@given(data=st.binary(max_size=300))
def test_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name](data)


_SPOKEN = st.builds(
    lambda kind, number, edits: bytes((kind, number, len(edits))) + b"".join(edits),
    _U8,
    _U8,
    st.lists(_EDIT, max_size=2),
)


@pytest.mark.parametrize("name", ["ike-nodes", "application-nodes"])
@settings(max_examples=40)
@given(data=st.builds(lambda kind, spoken: bytes((kind,)) + b"".join(spoken), _U8, st.lists(_SPOKEN, max_size=20)))
def test_negotiated_keys_go_on_whoever_repeats_and_changes_what_was_said(name: str, data: bytes) -> None:
    TARGETS[name](data)
