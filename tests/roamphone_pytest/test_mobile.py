"""A terminal that moves, by the fixture that others use for it."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from roamphone_pytest.assertions import assert_flow, assert_mos
from roamphone_pytest.mobile import SipNetwork

pytestmark = [pytest.mark.root, pytest.mark.interop]


async def test_a_call_that_goes_along(sip_network: SipNetwork) -> None:
    async with sip_network.phone("6002") as fixed, sip_network.mobile_phone("6001") as mobile:
        await fixed.registered(10)
        await mobile.registered(10)
        call, other = await sip_network.connect(fixed, mobile)
        await sip_network.move(mobile, "visited-b")
        await asyncio.sleep(1.5)
        assert_mos(call, 3.0)
        assert_mos(other, 3.0)
        await call.hangup()
        await other.ended(5)
        assert_flow(sip_network.flow(fixed), "INVITE [407 ACK INVITE] 100 180 200 ACK BYE [407 BYE] 200")
        assert_flow(sip_network.flow(mobile), "INVITE [100] 180 200 ACK BYE 200")  # the other side heard of nothing


async def test_the_next_test_finds_all_as_at_the_beginning(sip_network: SipNetwork) -> None:
    plan = sip_network.network.plan
    assert sip_network.network.location == "visited-a"
    async with sip_network.mobile_phone("6001") as mobile:
        await mobile.registered(10)
        handover = await sip_network.move(mobile, "visited-b")
    assert ip_address(handover.from_address) in plan.visited_a.prefix
    assert ip_address(handover.to_address) in plan.visited_b.prefix
