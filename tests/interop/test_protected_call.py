"""Calls between two home addresses, whose keys they bring about themselves: not a packet of sound is in clear."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from sip_test_env.capture import Capture, dissect
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.network import TestNetwork
from sip_test_env.plan import INTERFACE
from softphone.calls.dialog_call import DialogCall
from softphone.config import Account, AutoAnswer
from softphone.events import CallIpsec, IpsecState
from softphone.media.ike_description import IpsecMode
from softphone.media.session import MediaStatistics
from softphone.phone import Softphone

pytestmark = [pytest.mark.root, pytest.mark.interop]

ESP, IKE = ("50", ""), ("17", "500")


def test_sound_is_protected_from_its_first_packet_and_does_not_wait(tmp_path: Path) -> None:
    capture = tmp_path / "home.pcapng"
    with TestNetwork(f"protected-{os.getpid()}") as network:
        network.move("visited-a")
        nodes = MobilityNodes(network, "esp", application="calls")
        try:
            nodes.start()
            with Capture(network.plan.namespace("ha"), INTERFACE, capture):
                sip = asyncio.run(_calls(nodes))
        finally:
            nodes.stop()
        ends = {str(network.plan.home_address), str(network.plan.cn)}
    seen = [
        (protocol.split(",")[0], port.split(",")[0])
        for source, destination, protocol, port in dissect(
            capture, None, ["ipv6.src", "ipv6.dst", "ipv6.nxt", "udp.dstport"], "ipv6"
        )
        # The outermost header: within the tunnel nobody else reads anything.
        if {source.split(",")[0], destination.split(",")[0]} == ends
    ]
    assert seen.count(ESP) > 200
    assert seen.count(IKE) >= 4
    # Only the call without a proxy has SIP between the two ends, and in clear what came before its answer.
    assert set(seen) - {ESP, IKE} <= {("17", str(port)) for port in sip}


async def _calls(nodes: MobilityNodes) -> tuple[int, int]:
    def account(number: int, **settings: Any) -> Account:
        plan = nodes.network.plan
        known = nodes.network.account(plan.users[number])
        proxy = f"sip:[{plan.proxy}]:{plan.sip_port};lr"
        return Account(user=known.user, domain=known.domain, password=known.password, outbound_proxy=proxy, **settings)

    def alone(user: str, **settings: Any) -> Account:
        return Account(user=user, domain="example.org", register=False, **settings)

    mn, cn = nodes.runtime("mn"), nodes.runtime("cn")
    async with (
        Softphone(account(0, ipsec=IpsecMode.MANDATORY), mobility=mn) as alice,
        Softphone(account(1), mobility=cn) as bob,
        Softphone(account(2, auto_answer=AutoAnswer.ALWAYS), mobility=cn) as carol,
        Softphone(alone("dave"), mobility=mn) as dave,
        Softphone(alone("erin"), mobility=cn) as erin,
    ):
        for phone in (alice, bob, carol):
            await phone.registered(10)
        # The terminal calls: the keys are there before anybody has answered.
        events = bob.events()
        call = await alice.dial(str(bob.account.aor))
        incoming = await anext(bob.incoming())
        await incoming.ring()
        await call.ringing(5)
        while (told := await events.wait_for(CallIpsec, 5)).state is not IpsecState.PROTECTED:
            pass
        assert told.peer == str(nodes.network.plan.home_address)
        await incoming.answer()
        await _talk(call, incoming)
        # The correspondent calls somebody who answers by itself.
        call = await alice.dial(str(carol.account.aor))
        await _talk(await anext(carol.incoming()), call)
        # SIP itself goes from phone to phone: sound waits for the keys.
        call = await dave.dial(f"sip:erin@[{erin.host}]:{erin.port}")
        incoming = await anext(erin.incoming())
        await incoming.ring()
        await incoming.answer()
        await _talk(incoming, call)
        return dave.port, erin.port


async def _talk(ends: DialogCall, hears: DialogCall) -> None:
    """Both talk; one hangs up, and the other one has heard all of it, from the beginning."""
    for side in (ends, hears):
        await side.answered(5)
    await asyncio.sleep(1)
    for side in (ends, hears):
        assert side.ipsec is not None
        assert (side.ipsec.state, side.ipsec.algorithm) == (IpsecState.PROTECTED, "aes-gcm-16")
    await ends.hangup()
    await hears.ended(5)
    said, heard = ends.statistics(), hears.statistics()
    assert isinstance(said, MediaStatistics)
    assert isinstance(heard, MediaStatistics)
    assert said.sent > 20
    assert said.sent - heard.received <= 2, "the last may come behind the BYE"
