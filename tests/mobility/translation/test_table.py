"""Translation table 230: rows, lifetimes and pools."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.discards import Discard, Reason
from mobility.translation.table import IDLE, Origin, RowRemoved, TranslationTable
from tests.mobility.translation.support import AGENT, HERE, HOME, PEER, POOL4, POOL6, STRANGER4


def table(pool4: str = str(POOL4), pool6: str = str(POOL6), rows: int = 4096) -> TranslationTable:
    return TranslationTable(IPv4Network(pool4), IPv6Network(pool6), (HERE,), rows)


def host(number: int) -> bytes:
    return IPv6Address(int(PEER) + number).packed


def test_a_correspondent_keeps_its_virtual_address_while_it_is_used() -> None:
    rows = table()
    first = rows.of_ipv6(host(0), 0.0)
    assert IPv4Address(first.ipv4) in POOL4
    assert IPv4Address(first.ipv4) != HERE
    for now in (0.5, IDLE - 1, 2 * IDLE - 2):
        assert rows.of_ipv6(host(0), now) is first
        rows.expire(now)
    assert rows.of_ipv4(first.ipv4, 2 * IDLE - 2) is first
    assert rows.of_ipv6(host(1), 0.0).ipv4 != first.ipv4


def test_an_idle_row_expires_and_its_address_is_the_last_to_come_again() -> None:
    rows = table("198.18.0.0/29")
    gone = rows.of_ipv6(host(0), 0.0).ipv4
    assert rows.timer == IDLE
    rows.expire(IDLE)
    assert rows.take_events() == [RowRemoved(IPv4Address(gone), PEER, "expired")]
    assert len(rows) == 0
    handed_out = [rows.of_ipv6(host(number), IDLE).ipv4 for number in range(1, 6)]
    assert handed_out[-1] == gone
    assert len(set(handed_out)) == 5


def test_an_exhausted_pool_takes_the_oldest_idle_row_and_strangers_first() -> None:
    rows = table("198.18.0.0/29")  # .2 to .6: five correspondents
    fixed = rows.fix(AGENT, 0.0)
    asked = rows.of_ipv6(host(1), 1.0, asked=True)
    stranger = rows.of_ipv6(host(2), 2.0)
    busy = rows.of_ipv6(host(3), 3.0)
    rows.of_ipv6(host(4), 4.0, asked=True)
    rows.of_ipv6(host(2), 5.0)
    rows.of_ipv6(host(5), 6.0)
    assert rows.take_events() == [RowRemoved(IPv4Address(busy.ipv4), IPv6Address(host(3)), "pool-exhausted")]
    rows.of_ipv4(stranger.ipv4, 7.0)  # a program answers: no stranger any more
    rows.of_ipv6(host(6), 8.0)
    assert [IPv6Address(host(5))] == [event.ipv6 for event in rows.take_events()]
    rows.of_ipv6(host(6), 8.1, asked=True)
    rows.of_ipv6(host(7), 9.0)  # no stranger is left: the program's oldest
    assert [IPv4Address(asked.ipv4)] == [event.ipv4 for event in rows.take_events()]
    assert rows.known4(fixed.packed) is not None


def test_a_pool_with_fixed_rows_only_is_exhausted() -> None:
    rows = table("198.18.0.0/30")
    rows.fix(AGENT, 0.0)
    with pytest.raises(Discard) as caught:
        rows.of_ipv6(host(0), 0.0)
    assert caught.value.reason is Reason.TRANSLATION_POOL_EXHAUSTED


def test_no_more_rows_than_allowed() -> None:
    rows = table(rows=3)
    for number in range(10):
        rows.of_ipv6(host(number), float(number))
    assert len(rows) == 3
    for number in range(10):
        rows.of_ipv4(IPv4Address(int(STRANGER4) + number).packed, 20.0 + number)
    assert len(rows) == 3


def test_the_home_address_is_made_refreshed_and_expires_with_the_binding() -> None:
    rows = table()
    assert rows.set_home(HOME, HERE, 100.0, 0.0)
    assert not rows.set_home(HOME, HERE, 200.0, 50.0)
    assert rows.timer == 200.0
    assert rows.of_ipv6(HOME.packed, 150.0).ipv4 == HERE.packed
    rows.expire(199.0)
    assert len(rows) == 1
    rows.expire(200.0)
    assert rows.home is None
    assert rows.take_events() == [RowRemoved(HERE, HOME, "expired")]


def test_another_virtual_address_of_the_home_address_replaces_the_row() -> None:
    rows = table()
    rows.set_home(HOME, HERE, 100.0, 0.0)
    taken = rows.of_ipv6(host(0), 0.0).ipv4
    assert rows.set_home(HOME, IPv4Address(taken), 100.0, 1.0)
    assert rows.known4(HERE.packed) is None
    assert rows.known6(host(0)) is None
    assert rows.known6(HOME.packed) is rows.home


def test_an_address_that_stands_for_nobody_is_no_destination() -> None:
    with pytest.raises(Discard) as caught:
        table().of_ipv4(IPv4Address("198.18.7.7").packed, 0.0)
    assert caught.value.reason is Reason.TRANSLATION_NO_ROW


def test_an_ipv4_destination_gets_a_virtual_ipv6_address_with_it_inside() -> None:
    rows = table()
    row = rows.of_ipv4(STRANGER4.packed, 0.0)
    assert IPv6Address(row.ipv6) == IPv6Address("64:ff9b:1::cb00:7109")
    assert rows.of_ipv6(row.ipv6, 0.0) is row
    assert rows.of_ipv6(IPv6Address("64:ff9b:1::808:808").packed, 0.0).ipv4 == IPv4Address("8.8.8.8").packed


@pytest.mark.parametrize("inside", ["198.18.9.9", "127.0.0.1", "224.0.0.1", "0.0.0.0", str(HERE), str(STRANGER4)])
def test_a_stranger_cannot_take_an_ipv4_address_that_is_not_its_own(inside: str) -> None:
    rows = table()
    rows.set_home(HOME, HERE, 100.0, 0.0)
    rows.of_ipv4(STRANGER4.packed, 0.0)
    claimed = POOL6.network_address.packed[:12] + IPv4Address(inside).packed
    row = rows.of_ipv6(claimed, 0.0)
    assert inside == str(STRANGER4) or IPv4Address(row.ipv4) in POOL4
    assert IPv4Address(row.ipv4) != HERE


def test_a_small_pool_of_ipv6_hands_its_addresses_out_in_order() -> None:
    rows = table(pool6="fd00::/126")
    made = [rows.of_ipv4(IPv4Address(int(STRANGER4) + number).packed, float(number)).ipv6 for number in range(3)]
    assert [IPv6Address(each) for each in made] == [IPv6Address(f"fd00::{digit}") for digit in (1, 2, 1)]
    assert [event.why for event in rows.take_events()] == ["pool-exhausted"]


@pytest.mark.parametrize(("pool4", "pool6"), [("198.18.0.0/31", str(POOL6)), (str(POOL4), "fd00::1/128")])
def test_pools_without_room_are_refused(pool4: str, pool6: str) -> None:
    with pytest.raises(ValueError, match="room for two"):
        table(pool4, pool6)


def test_the_snapshot_tells_every_row() -> None:
    rows = table()
    rows.set_home(HOME, HERE, 100.0, 0.0)
    rows.fix(AGENT, 0.0)
    shown = rows.snapshot(40.0)["rows"]
    assert shown == [
        {"ipv6": str(HOME), "ipv4": str(HERE), "lifetime": 60.0, "origin": "home"},
        {"ipv6": str(AGENT), "ipv4": "198.18.0.2", "lifetime": None, "origin": "fixed"},
    ]


STEPS = st.lists(
    st.tuples(st.sampled_from(["in", "ask", "out", "time", "home"]), st.integers(0, 12), st.floats(0.0, IDLE)),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_the_table_stays_one_to_one(steps: list[tuple[str, int, float]]) -> None:
    rows = table("198.18.0.0/29", "fd00::/125", rows=7)
    now, reasons = 0.0, {Reason.TRANSLATION_POOL_EXHAUSTED}
    for what, number, passes in steps:
        now += passes
        try:
            match what:
                case "in" | "ask":
                    rows.of_ipv6(host(number), now, asked=what == "ask")
                case "out":
                    rows.of_ipv4(IPv4Address(int(STRANGER4) + number).packed, now)
                case "home":
                    rows.set_home(HOME, HERE, now + 10, now)
                case _:
                    rows.expire(now)
        except Discard as discard:
            reasons.add(discard.reason)
        shown = rows.snapshot(now)["rows"]
        assert isinstance(shown, list)
        assert len({row["ipv4"] for row in shown}) == len({row["ipv6"] for row in shown}) == len(shown) == len(rows)
        assert len([row for row in shown if row["origin"] != Origin.HOME]) <= 7
        for row in shown:
            found = rows.known4(IPv4Address(row["ipv4"]).packed)
            assert found is not None
            assert rows.known6(found.ipv6) is found
    assert reasons == {Reason.TRANSLATION_POOL_EXHAUSTED}
