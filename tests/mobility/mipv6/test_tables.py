"""Binding update list, binding cache, movement: tables and choices."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.mipv6.binding_cache import newer
from mobility.mipv6.binding_update_list import BindingUpdateList, ListEntry
from mobility.mipv6.movement import Attachment, Movement

HOME = IPv6Address("2001:db8:1::100")
HA = IPv6Address("2001:db8:1::a")
CN = IPv6Address("2001:db8:c::c")
COA = IPv6Address("2001:db8:a::1")


def entry(destination: IPv6Address, expires: float, home: bool) -> ListEntry:
    return ListEntry(destination, HOME, COA, 420, expires, 7, "bound", home)


def test_home_registration_is_never_a_route() -> None:
    table = BindingUpdateList()
    table.put(entry(HA, 10.0, home=True))
    table.put(entry(CN, 20.0, home=False))
    assert table.find(HA) is not None
    assert table.route(HA.packed) is None
    assert table.route(CN.packed) == table.find(CN)
    assert table.has_routes
    table.put(entry(CN, 20.0, home=True))
    assert not table.has_routes


def test_expired_entries_are_deleted_and_changes_counted() -> None:
    table = BindingUpdateList()
    table.put(entry(HA, 10.0, home=True))
    table.put(entry(CN, 20.0, home=False))
    assert table.timer == 10.0
    generation = table.generation
    assert [gone.destination for gone in table.expire(10.0)] == [HA]
    assert table.generation == generation + 1
    assert len(table) == 1
    table.put(entry(CN, 20.0, home=False))  # nothing new
    assert table.generation == generation + 1
    assert [row["destination"] for row in table.snapshot(12.0)] == [str(CN)]
    assert table.snapshot(12.0)[0]["remaining"] == 8.0
    table.delete(CN)
    table.delete(CN)
    assert table.timer is None


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_newer_orders_two_different_numbers(a: int, b: int) -> None:
    assert not newer(a, a)
    if a != b and (a - b) & 0xFFFF != 0x8000:
        assert newer(a, b) != newer(b, a)


@pytest.mark.parametrize(
    ("sequence", "last", "expected"),
    [(1, 0, True), (0, 0, False), (0, 0xFFFF, True), (0x8000, 0, True), (0x8001, 0, False), (0xFFFF, 0, False)],
)
def test_newer_by_the_rule(sequence: int, last: int, expected: bool) -> None:
    assert newer(sequence, last) is expected


def movement() -> Movement:
    return Movement(["eth0", "wlan0"], IPv6Network("2001:db8:1::/64"))


def test_links_by_preference() -> None:
    moving = movement()
    assert moving.decide(0.0) is None
    moving.address_ready("wlan0", COA, 0.0)
    assert moving.decide(0.0) == Attachment("wlan0", COA, at_home=False)
    moving.address_ready("eth0", CN, 0.0)
    assert moving.decide(0.0) == Attachment("eth0", CN, at_home=False)
    moving.prefer("wlan0")
    assert moving.decide(0.0) == Attachment("wlan0", COA, at_home=False)
    moving.address_lost("wlan0", COA, 0.0)
    assert moving.decide(0.0) == Attachment("eth0", CN, at_home=False)
    with pytest.raises(ValueError, match="there is no link 'ppp0'; the terminal has eth0, wlan0"):
        moving.prefer("ppp0")


def test_home_by_its_prefix_and_link_local_never() -> None:
    moving = movement()
    moving.address_ready("wlan0", IPv6Address("fe80::1"), 0.0)
    assert moving.decide(0.0) is None
    assert moving.home_link() is None
    moving.address_ready("wlan0", COA, 0.0)
    moving.address_ready("wlan0", IPv6Address("2001:db8:1::77"), 0.0)
    assert moving.decide(0.0) == Attachment("wlan0", IPv6Address("2001:db8:1::77"), at_home=True)
    assert moving.home_link() == "wlan0"


def test_present_address_is_kept_until_deprecated_or_lost() -> None:
    moving = movement()
    second = IPv6Address("2001:db8:b::2")
    moving.address_ready("eth0", COA, 0.0)
    moving.present = moving.decide(0.0)
    moving.address_ready("eth0", second, 0.0)
    assert moving.decide(0.0) == moving.present
    moving.address_ready("eth0", COA, 0.0, deprecated=True)
    assert moving.decide(0.0) == Attachment("eth0", second, at_home=False)
    moving.address_lost("eth0", second, 0.0)
    assert moving.decide(0.0) == moving.present  # better than nothing


def test_link_whose_router_fell_silent_is_the_last_choice() -> None:
    moving = movement()
    router = IPv6Address("fe80::1")
    moving.address_ready("eth0", CN, 0.0)
    moving.router_found("eth0", router)
    moving.address_ready("wlan0", COA, 0.0)
    moving.router_lost("eth0", router)
    assert moving.decide(0.0) == Attachment("wlan0", COA, at_home=False)
    moving.address_lost("wlan0", COA, 0.0)
    assert moving.decide(0.0) == Attachment("eth0", CN, at_home=False)
    moving.address_ready("wlan0", COA, 0.0)
    moving.router_found("eth0", router)
    assert moving.decide(0.0) == Attachment("eth0", CN, at_home=False)
