"""Who gets which IPv4 home address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.mipv6.home_settings import AuthorisedTerminal
from mobility.mipv6.ipv4_homes import DUMMY, Answer, IPv4Homes

POOL = IPv4Network("192.168.7.0/29")
ANY = IPv4Address(0)


def home(number: int) -> IPv6Address:
    return IPv6Address(int(IPv6Address("2001:db8:1::100")) + number)


def address(number: int) -> IPv4Address:
    return IPv4Address(int(POOL.network_address) + number)


def terminals(**fixed: IPv4Address) -> list[AuthorisedTerminal]:
    return [AuthorisedTerminal(home(number), home_address4=fixed.get(f"t{number}")) for number in range(10)]


def test_each_gets_another_and_the_first_is_the_home_agents() -> None:
    homes = IPv4Homes(POOL, terminals())
    assert homes.own == address(1)
    given_out = [homes.request(home(number), ANY) for number in range(5)]
    assert [each.address for each in given_out] == [address(number) for number in range(2, 7)]
    refused = homes.request(home(5), ANY)
    assert (refused.status, refused.address) == (Answer.NO_DYNAMIC_ASSIGNMENT, ANY)
    assert homes.request(home(0), ANY).address == address(2)  # while it is bound it keeps what it has
    assert homes.release(home(3)) == address(5)
    assert homes.request(home(5), ANY).address == address(5)
    assert homes.request(home(3), ANY).status is Answer.NO_DYNAMIC_ASSIGNMENT


def test_a_terminal_gets_its_last_one_again_if_it_is_free() -> None:
    homes = IPv4Homes(POOL, terminals())
    for number in range(3):
        homes.request(home(number), ANY)
    for number in range(3):
        homes.release(home(number))
    assert [homes.request(home(number), ANY).address for number in (2, 0, 1)] == [address(4), address(2), address(3)]


def test_asking_for_a_certain_one() -> None:
    homes = IPv4Homes(POOL, terminals(t1=address(6)))
    assert homes.request(home(0), address(4)).status is Answer.ACCEPTED
    assert homes.request(home(2), address(4)).status is Answer.INCORRECT_HOME_ADDRESS
    assert homes.request(home(2), address(6)).status is Answer.INCORRECT_HOME_ADDRESS
    for wrong in (0, 1, 7, 8):
        assert homes.request(home(2), address(wrong)).status is Answer.INCORRECT_HOME_ADDRESS
    for impossible in ("127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.0.1"):
        assert homes.request(home(2), IPv4Address(impossible)).status is Answer.INVALID_ADDRESS
    assert homes.request(home(0), address(5)).status is Answer.ACCEPTED
    assert homes.of(home(0)) == address(5)
    assert homes.request(home(2), address(4)).status is Answer.ACCEPTED


def test_without_a_pool() -> None:
    homes = IPv4Homes(None, terminals(t1=address(3)))
    assert homes.own == DUMMY
    assert homes.request(home(0), ANY).status is Answer.NO_DYNAMIC_ASSIGNMENT
    assert homes.request(home(0), address(4)).status is Answer.ADMINISTRATIVELY_PROHIBITED
    assert homes.request(home(1), ANY).address == address(3)


@pytest.mark.parametrize(
    ("fixed", "why"),
    [
        ({"t0": address(3), "t1": address(3)}, "is configured twice"),
        ({"t0": address(1)}, "cannot be a home address"),
        ({"t0": IPv4Address("224.0.0.1")}, "cannot be a home address"),
    ],
)
def test_configurations_that_cannot_be(fixed: dict[str, IPv4Address], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        IPv4Homes(POOL, terminals(**fixed))
    homes = IPv4Homes(POOL, terminals(t2=address(4)))
    with pytest.raises(ValueError, match=why):
        homes.reconfigure(terminals(**fixed))
    assert homes.request(home(2), ANY).address == address(4)


def test_reconfigured_while_addresses_are_held() -> None:
    homes = IPv4Homes(POOL, terminals(t1=address(6)))
    homes.request(home(0), ANY)
    homes.reconfigure(terminals(t2=address(2)))
    assert homes.of(home(0)) == address(2)
    assert homes.request(home(2), ANY).status is Answer.INCORRECT_HOME_ADDRESS  # until the other is gone
    assert [homes.request(home(number), ANY).address for number in (3, 4, 5, 6)] == [
        address(number) for number in (3, 4, 5, 6)
    ]
    homes.release(home(0))
    assert homes.request(home(2), ANY).address == address(2)


def test_fixed_address_that_is_one_of_the_pool_again() -> None:
    homes = IPv4Homes(POOL, terminals(t1=address(2), t2=IPv4Address("10.1.1.1")))
    for number in (0, 3, 4, 5):
        assert homes.request(home(number), ANY).status is Answer.ACCEPTED
    assert homes.request(home(6), ANY).status is Answer.NO_DYNAMIC_ASSIGNMENT
    homes.request(home(2), ANY)
    homes.reconfigure(terminals())
    assert homes.request(home(6), ANY).address == address(2)
    homes.release(home(2))
    assert homes.request(home(2), ANY).status is Answer.NO_DYNAMIC_ASSIGNMENT  # what it had is not of the pool


def test_resumed_after_a_restart() -> None:
    homes = IPv4Homes(POOL, terminals(t1=address(6)))
    assert homes.resume(home(0), address(4))
    assert not homes.resume(home(2), address(4))
    assert not homes.resume(home(2), address(6))
    assert not homes.resume(home(2), address(1))
    assert homes.holders == {address(4).packed: home(0).packed}


@given(st.lists(st.tuples(st.sampled_from(["any", "certain", "release"]), st.integers(0, 9), st.integers(0, 8))))
def test_nobody_has_what_another_has(operations: list[tuple[str, int, int]]) -> None:
    homes = IPv4Homes(POOL, terminals(t1=address(6)))
    for what, who, which in operations:
        if what == "release":
            homes.release(home(who))
        else:
            answer = homes.request(home(who), ANY if what == "any" else address(which))
            if answer.status is Answer.ACCEPTED and answer.address != ANY:
                assert homes.of(home(who)) == answer.address
        held = [homes.of(home(number)) for number in range(10)]
        taken = [each for each in held if each is not None]
        assert len(taken) == len(set(taken)) == len(homes.holders)
        assert homes.of(home(1)) in (None, address(6))
        assert address(1) not in taken
        assert len(homes._released) + len(homes._last) <= 16
