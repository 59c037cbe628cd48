"""Router advertisements: intervals, answers to solicitations, the last words."""

from __future__ import annotations

from ipaddress import IPv6Address
from itertools import pairwise
from random import Random

import pytest

from mobility.discards import Reason
from mobility.host import AddressReady
from mobility.host.advertiser import Advertiser, Advertising
from mobility.outputs import Discarded, Output, Transmit
from mobility.wire import ndisc
from tests.mobility.host.rig import OTHER_MAC, PREFIX, ROUTER, ROUTER_MAC, STRANGER, Rig

PREFIX_OPTION = ndisc.PrefixInformation(PREFIX, 64, 7200, 3600)
QUICK = Advertising(prefixes=(PREFIX_OPTION,), max_interval=3.0, min_interval=1.0, shortest_gap=0.03)
MAP = ndisc.MapOption(IPv6Address("2001:db8:ffff::9"), 600, reverse_tunnel=True)


def advertiser(advertising: Advertising = QUICK) -> Advertiser:
    return Advertiser("lan0", ROUTER_MAC, advertising, lambda: ROUTER.packed, Random(3).randbytes)


def times(sender: Advertiser, seconds: float, start: float = 0.0) -> list[float]:
    """When advertisements to all leave, the first one that `start` sends not among them."""
    seen: list[float] = []
    while sender.timer is not None and sender.timer <= start + seconds:
        due = sender.timer
        seen += [due for _ in sender.handle_timer(due)]
    return seen


def solicitation(source: IPv6Address = STRANGER, *, tell: bool = True) -> bytes:
    options = (ndisc.SourceLinkAddress(OTHER_MAC),) if tell else ()
    return ndisc.packet(source, ndisc.ALL_ROUTERS, ndisc.RouterSolicitation(options))


def only(outputs: list[Output]) -> Transmit:
    (output,) = outputs
    assert isinstance(output, Transmit)
    return output


def test_says_everything_that_was_configured() -> None:
    advertising = Advertising(
        router_lifetime=900,
        prefixes=(PREFIX_OPTION,),
        max_interval=3.0,
        min_interval=1.0,
        mtu=1400,
        tell_interval=True,
        options=(MAP,),
    )
    transmit = only(advertiser(advertising).start(0.0))
    assert transmit.to == ndisc.ethernet_multicast(ndisc.ALL_NODES.packed)
    message = ndisc.parse(transmit.packet)
    assert message == ndisc.RouterAdvertisement(
        900,
        64,
        options=(
            ndisc.SourceLinkAddress(ROUTER_MAC),
            ndisc.Mtu(1400),
            ndisc.AdvertisementInterval(3000),
            PREFIX_OPTION,
            MAP,
        ),
    )


def test_a_host_takes_address_and_router_from_it() -> None:
    rig = Rig()
    rig.receive(only(advertiser().start(0.0)).packet)
    assert [event.router for event in rig.events(AddressReady)] == [ROUTER]
    assert rig.entries("routers")[0]["address"] == str(ROUTER)


def test_unsolicited_ones_come_between_the_two_intervals_and_not_regularly() -> None:
    sender = advertiser()
    sender.start(0.0)
    seen = [0.0, *times(sender, 300.0)]
    gaps = [later - earlier for earlier, later in pairwise(seen)]
    assert min(gaps) >= 1.0
    assert max(gaps) <= 3.0
    assert len({round(gap, 3) for gap in gaps}) > 50


def test_the_first_ones_come_sooner() -> None:
    sender = advertiser(Advertising())
    sender.start(0.0)
    seen = [0.0, *times(sender, 1000.0)]
    gaps = [later - earlier for earlier, later in pairwise(seen)]
    assert gaps[:3] == [16.0, 16.0, pytest.approx(gaps[2])]
    assert all(gap >= 200.0 for gap in gaps[3:])


def test_who_asks_from_an_address_is_answered_at_once_and_alone() -> None:
    sender = advertiser(Advertising())
    sender.start(0.0)
    timer = sender.timer
    answer = only(sender.solicited(solicitation(), ROUTER_MAC, 1.0))
    assert (answer.to, answer.packet[24:40]) == (OTHER_MAC, STRANGER.packed)
    without_option = only(sender.solicited(solicitation(tell=False), ROUTER_MAC, 1.0))
    assert without_option.to == ROUTER_MAC  # the frame's sender
    assert sender.timer == timer


def test_who_asks_from_nowhere_is_answered_by_multicast_not_more_often_than_allowed() -> None:
    sender = advertiser(Advertising(shortest_gap=3.0))
    sender.start(0.0)
    nobody = solicitation(ndisc.UNSPECIFIED, tell=False)
    assert sender.solicited(nobody, OTHER_MAC, 1.0) == []
    assert sender.solicited(nobody, OTHER_MAC, 1.5) == []
    assert times(sender, 3.5) == [3.0]
    assert only(sender.solicited(nobody, OTHER_MAC, 7.0)).packet[24] == 0xFF


def test_a_flood_of_solicitations_is_answered_by_multicast() -> None:
    sender = advertiser(Advertising(shortest_gap=3.0))
    sender.start(0.0)
    answers = [output for _ in range(1000) for output in sender.solicited(solicitation(), OTHER_MAC, 1.0)]
    assert len(answers) == 20
    assert sender.timer == 3.0


def test_what_is_no_solicitation_is_named() -> None:
    sender = advertiser()
    sender.start(0.0)
    advertisement = ndisc.packet(STRANGER, ndisc.ALL_NODES, ndisc.RouterAdvertisement(1800))
    broken = solicitation()[:-1] + b"\xff"
    for packet, reason in ((advertisement, Reason.NDISC_UNEXPECTED), (broken, Reason.NDISC_INVALID)):
        (output,) = sender.solicited(packet, OTHER_MAC, 1.0)
        assert isinstance(output, Discarded)
        assert output.reason is reason


def test_the_last_words_take_the_router_back() -> None:
    rig, sender = Rig(), advertiser()
    rig.receive(only(sender.start(0.0)).packet)
    last = sender.stop(5.0)
    assert len(last) == 3
    rig.receive(only(last[:1]).packet)
    assert rig.entries("routers")[0]["default_seconds"] == 0
    assert sender.timer is None
    assert sender.stop(6.0) == []


def test_a_change_is_told_soon() -> None:
    sender = advertiser(Advertising(shortest_gap=3.0))
    sender.start(0.0)
    assert sender.change(Advertising(options=(MAP,)), 1.0) == []
    assert sender.timer == 3.0
    message = ndisc.parse(only(sender.handle_timer(3.0)).packet)
    assert MAP in message.options


def test_waits_for_an_address_and_for_the_link() -> None:
    addresses: list[bytes | None] = [None, ROUTER.packed]
    sender = Advertiser("lan0", ROUTER_MAC, QUICK, lambda: addresses.pop(0), Random(3).randbytes)
    assert sender.solicited(solicitation(), OTHER_MAC, 0.0) != []  # not started
    addresses[:] = [None, ROUTER.packed]
    assert sender.start(0.0) == []
    assert len(sender.handle_timer(0.1)) == 1
    sender.link_down()
    assert sender.timer is None
    assert sender.change(QUICK, 1.0) == []


@pytest.mark.parametrize(
    "values",
    [
        {"max_interval": 0.05},
        {"max_interval": 1801.0},
        {"min_interval": 700.0},
        {"min_interval": 0.01},
        {"router_lifetime": 30},
        {"router_lifetime": 70000},
    ],
)
def test_values_that_the_rfcs_forbid(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"interval|lifetime|every"):
        Advertising(**values)  # type: ignore[arg-type]
