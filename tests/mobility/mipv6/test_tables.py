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
    table.put(entry(CN, 20.0, home=True))
    assert table.route(CN.packed) is None


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


def test_order_of_interfaces_and_kinds_of_links() -> None:
    moving = movement()
    for link in ("wlan0/udp4", "wlan0/udp6", "wlan0", "eth0/udp4", "ppp0/udp4"):
        moving.address_ready(link, COA, 0.0)
    order = []
    while (place := moving.decide(0.0)) is not None:
        order.append(place.link)
        moving.address_lost(place.link, COA, 0.0)
    assert order == ["eth0/udp4", "wlan0", "wlan0/udp6", "wlan0/udp4", "ppp0/udp4"]
    moving.interfaces_changed(("ppp0", "wlan0"))
    moving.address_ready("eth0/udp4", COA, 500.0)
    moving.address_ready("ppp0/udp4", COA, 500.0)
    assert moving.decide(500.0) == Attachment("ppp0/udp4", COA, at_home=False)


def test_through_udp_nobody_is_at_home() -> None:
    moving = movement()
    moving.address_ready("wlan0/udp6", IPv6Address("2001:db8:1::77"), 0.0)
    assert moving.decide(0.0) == Attachment("wlan0/udp6", IPv6Address("2001:db8:1::77"), at_home=False)


def test_link_that_flaps_has_to_stay_longer_each_time() -> None:
    moving = movement()
    moving.address_ready("wlan0", COA, 0.0)
    moving.present = moving.decide(0.0)
    waits = []
    now = 0.0
    for _ in range(8):
        moving.address_ready("eth0", CN, now)
        begin = now
        while (place := moving.decide(now)) is not None and place.link == "wlan0":
            assert moving.timer is not None
            now = moving.timer
        waits.append(now - begin)
        moving.address_lost("eth0", CN, now)
    assert waits == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 16.0]  # what is a minute ago counts no more
    moving.address_lost("wlan0", COA, now)
    moving.address_ready("eth0", CN, now)
    assert moving.decide(now) == Attachment("eth0", CN, at_home=False)  # there is nothing else


def test_link_that_flaps_thousands_of_times_a_minute_is_doubted_like_any_other() -> None:
    moving = movement()
    for number in range(3000):
        moving.address_ready("eth0", CN, number * 0.01)
        moving.address_lost("eth0", CN, number * 0.01)
    moving.address_ready("wlan0", COA, 30.0)
    moving.present = moving.decide(30.0)
    moving.address_ready("eth0", CN, 30.0)
    assert moving.decide(30.0) == moving.present
    assert moving.timer == 60.0


def test_what_the_user_prefers_is_not_doubted() -> None:
    moving = movement()
    moving.address_ready("wlan0", COA, 0.0)
    moving.present = moving.decide(0.0)
    moving.address_ready("eth0", CN, 0.0)
    moving.address_lost("eth0", CN, 1.0)
    moving.address_ready("eth0", CN, 1.1)
    assert moving.decide(1.2) == moving.present
    moving.prefer("eth0")
    assert moving.decide(1.2) == Attachment("eth0", CN, at_home=False)


def test_dead_link_is_the_last_choice_until_it_is_tried_again() -> None:
    moving = movement()
    moving.address_ready("eth0", CN, 0.0)
    moving.address_ready("wlan0", COA, 0.0)
    moving.present = moving.decide(0.0)
    assert moving.present == Attachment("eth0", CN, at_home=False)
    assert moving.alternatives(moving.present)
    retries = []
    now = 0.0
    for _ in range(6):
        event = moving.dead("eth0", now)
        assert moving.is_lost(moving.present)
        assert moving.decide(now) == Attachment("wlan0", COA, at_home=False)
        assert moving.timer == now + event.retry_in
        now = moving.timer
        assert moving.decide(now) == moving.present
        retries.append(event.retry_in)
    assert retries == [10.0, 20.0, 40.0, 80.0, 120.0, 120.0]
    moving.dead("eth0", now)
    moving.proven("eth0")
    assert moving.decide(now) == moving.present
    moving.dead("eth0", now)
    moving.dead("wlan0", now)
    assert moving.decide(now) is not None
    assert not moving.alternatives(moving.present)


def test_doubted_address_gives_way_to_any_other_of_the_link() -> None:
    moving = movement()
    moving.address_ready("eth0", COA, 0.0)
    moving.present = moving.decide(0.0)
    assert moving.present is not None
    moving.doubt(moving.present)
    assert moving.decide(0.0) == moving.present
    moving.address_ready("eth0", CN, 0.0)
    assert moving.decide(0.0) == Attachment("eth0", CN, at_home=False)
