"""What a telephone system has to do, tested every night:

python -m pytest examples/nightly_pbx                           # a Kamailio that is started for it
python -m pytest examples/nightly_pbx --accounts office.toml    # yours, with three accounts of it
"""

from __future__ import annotations

import asyncio

import pytest

from roamphone_pytest.assertions import assert_digits, assert_flow, assert_mos
from roamphone_pytest.stage import Stage
from softphone import CallHold, CallRejected, CallState, Consent, EndedBy, LoopedSource, WavSource

USERS = ("alice", "bob", "carol")


async def test_everybody_can_register(pbx: Stage) -> None:
    async with pbx.registered(*USERS) as phones:
        assert all(phone.is_registered for phone in phones)


async def test_both_hear_each_other_well(pbx: Stage, speech: WavSource) -> None:
    async with pbx.registered("alice", "bob") as (alice, bob):
        call, other = await pbx.connect(alice, bob)
        for end in (call, other):
            end.play(LoopedSource(speech.samples, speech.rate))
        await asyncio.sleep(2)
        assert_mos(call, 3.5)
        assert_mos(other, 3.5)
        await call.hangup()
        assert (await other.ended(5)).by is EndedBy.REMOTE


async def test_the_code_for_the_door_arrives(pbx: Stage) -> None:
    async with pbx.registered("alice", "bob") as (alice, bob):
        call, other = await pbx.connect(alice, bob)
        await call.send_dtmf("4711#")
        await assert_digits(other, "4711#")


async def test_busy_is_busy(pbx: Stage) -> None:
    async with pbx.registered("alice", "bob") as (alice, bob):
        bob.do_not_disturb = True
        call = await alice.dial(str(bob.account.aor))
        with pytest.raises(CallRejected, match="486"):
            await call.answered(10)
        assert_flow(pbx.flow(alice, call), "INVITE [407 ACK INVITE] [100] [180] 486 ACK")


async def test_whoever_gives_up_rings_no_longer(pbx: Stage) -> None:
    async with pbx.registered("alice", "bob") as (alice, bob):
        call = await alice.dial(str(bob.account.aor))
        incoming = await asyncio.wait_for(anext(bob.incoming()), 5)
        await incoming.ring()
        await call.ringing(5)
        await call.hangup()
        assert (await incoming.ended(5)).status == 487


async def test_hold_and_transfer(pbx: Stage) -> None:
    async with pbx.registered(*USERS, transfers=Consent.ACCEPT) as (alice, bob, carol):
        call, at_bob = await pbx.connect(alice, bob)
        events = bob.events()
        await call.hold()
        assert (await events.wait_for(CallHold, 5)).remote
        await call.resume()
        transferring = asyncio.create_task(call.transfer(str(carol.account.aor)))
        at_carol = await asyncio.wait_for(anext(carol.incoming()), 10)
        await at_carol.answer()
        await transferring
        await at_bob.ended(5)
        assert at_carol.state is CallState.CONFIRMED
        await at_carol.hangup()
