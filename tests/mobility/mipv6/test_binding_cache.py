"""The table of bindings, and its records outside of the process."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.links import endpoint
from mobility.mipv6.binding_cache import BINDINGS_PER_HOME, Binding, BindingCache, CacheFull
from mobility.mipv6.binding_records import BindingRecord

HOME = IPv6Address("2001:db8:1::100")
COA = IPv6Address("2001:db8:a::1")
COA2 = IPv6Address("2001:db8:b::1")
ENDPOINT = endpoint(IPv4Address("198.51.100.7"), 40000)


def row(identifier: int = 0, home: IPv6Address = HOME, care_of: IPv6Address = COA, sequence: int = 1) -> Binding:
    return Binding(home, care_of, 400, 400.0, sequence, identifier)


def test_bounded_by_home_addresses_and_by_bindings_of_one() -> None:
    cache = BindingCache(limit=2)
    homes = [IPv6Address(int(HOME) + number) for number in range(3)]
    for home in homes[:2]:
        cache.put(row(home=home))
    with pytest.raises(CacheFull, match="2 bindings"):
        cache.put(row(home=homes[2]))
    cache.put(row(home=homes[0], care_of=COA2))  # replacing one is no new one
    for identifier in range(1, BINDINGS_PER_HOME):
        cache.put(row(identifier, homes[0]))
    with pytest.raises(CacheFull, match="has 8 bindings"):
        cache.put(row(99, homes[0]))
    with pytest.raises(CacheFull):
        cache.put_alone(row(home=homes[2]))
    assert len(cache) == 2
    assert len(cache.bindings()) == BINDINGS_PER_HOME + 1


def test_a_full_terminal_may_still_replace_all() -> None:
    cache = BindingCache()
    for identifier in range(1, BINDINGS_PER_HOME + 1):
        cache.put(row(identifier))
    assert len(cache.put_alone(row(99))) == BINDINGS_PER_HOME
    assert cache.of(HOME.packed) == [row(99)]


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "behind", "alone", "remove", "amend", "delete"]), st.integers(0, 3)), max_size=30
)


@given(OPERATIONS)
def test_the_primary_is_the_last_put(operations: list[tuple[str, int]]) -> None:
    """Against a model: a list of identifiers, the primary first."""
    cache, model = BindingCache(), list[int]()
    for number, (operation, identifier) in enumerate(operations):
        binding = row(identifier, sequence=number)
        match operation:
            case "put":
                cache.put(binding)
                model = [identifier, *(each for each in model if each != identifier)]
            case "behind":
                cache.put_behind(binding)
                first = model[:1] or [identifier]
                rest = [each for each in model[1:] if each != identifier]
                model = first if first == [identifier] and not rest else [*first, *rest]
                if identifier not in model:
                    model.insert(1, identifier)
            case "alone":
                replaced = cache.put_alone(binding)
                assert [each.identifier for each in replaced] == [each for each in model if each != identifier]
                model = [identifier]
            case "remove":
                removed = cache.remove(HOME.packed, identifier)
                assert (removed is not None) == (identifier in model)
                model = [each for each in model if each != identifier]
            case "amend" if identifier in model:
                cache.amend(binding)
            case "delete":
                assert len(cache.delete(HOME.packed)) == len(model)
                model = []
        assert [each.identifier for each in cache.of(HOME.packed)] == model
        primary = cache.find(HOME.packed)
        assert (None if primary is None else primary.identifier) == (model[0] if model else None)
        assert primary == next(iter(cache.of(HOME.packed)), None)
        assert len(cache) == bool(model)
    cache.clear()
    assert cache.bindings() == []
    assert cache.snapshot(0.0) == []


def test_what_marks_packets_of_a_binding() -> None:
    native = row()
    assert (native.native, native.behind_nat, native.source) == (True, False, COA.packed)
    udp = replace(native, care_of_address=IPv4Address("10.0.0.1"), endpoint=ENDPOINT)
    assert (udp.native, udp.behind_nat, udp.source) == (False, True, ENDPOINT)
    assert not replace(udp, care_of_address=IPv4Address("198.51.100.7")).behind_nat


# ---------------------------------------------------------------- records

BINDINGS = st.builds(
    Binding,
    st.just(HOME),
    st.ip_addresses(),
    st.integers(4, 0xFFFF * 4),
    st.floats(0, 1e10),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.one_of(st.just(b""), st.builds(endpoint, st.ip_addresses(), st.integers(1, 0xFFFF))),
    st.sampled_from(["", "udp/192.0.2.1"]),
)
RECORDS = st.builds(
    BindingRecord,
    st.just(HOME),
    st.lists(BINDINGS, min_size=1, max_size=8, unique_by=lambda each: each.identifier).map(tuple),
    st.one_of(st.none(), st.ip_addresses(v=4)),
    st.one_of(st.none(), st.integers(0, 0xFFFF)),
)


@given(RECORDS)
def test_records_come_back_from_json(record: BindingRecord) -> None:
    assert BindingRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert record.expires == max(each.expires for each in record.bindings)


GOOD = BindingRecord(HOME, (replace(row(5), endpoint=ENDPOINT, link="udp/192.0.2.1"),), IPv4Address("10.0.0.9"), 3)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("home_address", "house"),
        ("home_address", None),
        ("home_address4", "2001:db8::1"),
        ("home_address4", 5),
        ("loss", -1),
        ("loss", "3"),
        ("bindings", []),
        ("bindings", None),
        ("bindings", ["x"]),
        ("bindings", [{}] * 9),
        ("bindings.identifier", 65536),
        ("bindings.identifier", True),
        ("bindings.care_of_address", "nowhere"),
        ("bindings.endpoint", "198.51.100.7"),
        ("bindings.endpoint", "198.51.100.7 0"),
        ("bindings.endpoint", "198.51.100.7 65536"),
        ("bindings.endpoint", "x 7"),
        ("bindings.endpoint", 7),
        ("bindings.link", None),
        ("bindings.lifetime", "400"),
        ("bindings.expires", "soon"),
        ("bindings.sequence", None),
    ],
)
def test_what_is_no_record(where: str, value: object) -> None:
    values = json.loads(json.dumps(GOOD.to_json()))
    key, _, inner = where.partition(".")
    if inner:
        values[key][0][inner] = value
    else:
        values[key] = value
    with pytest.raises(ValueError, match=r"."):
        BindingRecord.from_json(values)


def test_one_identifier_twice_is_no_record() -> None:
    values = json.loads(json.dumps(GOOD.to_json()))
    values["bindings"] *= 2
    with pytest.raises(ValueError, match="twice"):
        BindingRecord.from_json(values)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(GOOD.to_json())), inner),
        max_leaves=10,
    )
)
def test_noise_is_no_record(values: object) -> None:
    if isinstance(values, dict):
        with pytest.raises(ValueError, match=r"."):
            BindingRecord.from_json(values)
