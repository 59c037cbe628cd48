"""Debian's baresip and our phone call each other through Kamailio over IPv6: hold, digits, transfers, SRTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from roamphone_pytest.server import DOMAIN, SipProxy
from softphone.config import Consent
from softphone.events import CallDigit, CallTransferred, EndedBy
from softphone.media.dtmf import DigitMethod
from softphone.media.offer_answer import SrtpMode
from tests.interop.baresip import baresip, called
from tests.interop.loopback import answered, heard, held, silent, statistics

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("by_bob", [True, False])
@pytest.mark.parametrize("secure", [True, False])
def test_hold_and_digits(sip_proxy: SipProxy, tmp_path: Path, by_bob: bool, secure: bool) -> None:
    async def work() -> None:
        srtp = SrtpMode.MANDATORY if secure else SrtpMode.OFF
        async with (
            sip_proxy.phone("alice", srtp=srtp) as alice,
            baresip(sip_proxy.server, tmp_path, ";mediaenc=srtp-mand" if secure else "") as bob,
        ):
            await alice.registered(5)
            events = alice.events()
            call = await called(alice, bob, by_bob=by_bob)
            assert (statistics(call).srtp_suite != "") is secure
            await call.hold()
            assert await held(events) == (True, False)
            await silent(call)
            await call.resume()
            assert await held(events) == (False, False)
            await heard(call)
            bob.do("hold")
            assert await held(events) == (False, True)
            bob.do("resume")
            assert await held(events) == (False, False)
            await heard(call)

            bob.do("sndcode", "5")
            bob.do("sndcode", "")
            digit = await events.wait_for(CallDigit, 5)
            assert (digit.digit, digit.method) == ("5", DigitMethod.EVENT)
            assert await call.send_dtmf("4") is DigitMethod.EVENT
            await bob.until("CALL_DTMF_START", "4")
            await call.send_dtmf("#", DigitMethod.INFO)
            await bob.until("CALL_DTMF_START", "#")

            if by_bob:
                bob.do("hangup")
                assert (await call.ended(5)).by is EndedBy.REMOTE
            else:
                await call.hangup()
                await bob.until("CALL_CLOSED")
            assert not {name: count for name, count in alice.counters.items() if name != "response-stray"}

    asyncio.run(work())


@pytest.mark.parametrize("by_bob", [True, False])
def test_baresip_is_transferred(sip_proxy: SipProxy, tmp_path: Path, by_bob: bool) -> None:
    async def work() -> None:
        off = SrtpMode.OFF
        async with (
            sip_proxy.phone("alice", srtp=off) as alice,
            sip_proxy.phone("carol", srtp=off) as carol,
            baresip(sip_proxy.server, tmp_path) as bob,
        ):
            await alice.registered(5)
            await carol.registered(5)
            call = await called(alice, bob, by_bob=by_bob)
            answering = asyncio.create_task(answered(carol))
            await call.transfer("carol")
            assert (await call.ended(1)).by is EndedBy.LOCAL
            talking = await answering
            assert str(talking.remote.uri) == f"sip:bob@{DOMAIN}"
            await heard(talking)
            await talking.hangup()

    asyncio.run(work())


def test_baresip_transfers_the_phone(sip_proxy: SipProxy, tmp_path: Path) -> None:
    async def work() -> None:
        off = SrtpMode.OFF
        async with (
            sip_proxy.phone("alice", srtp=off, transfers=Consent.ACCEPT) as alice,
            sip_proxy.phone("carol", srtp=off) as carol,
            baresip(sip_proxy.server, tmp_path) as bob,
        ):
            await alice.registered(5)
            await carol.registered(5)
            events = alice.events()
            call = await called(alice, bob, by_bob=True)
            bob.do("transfer", f"sip:carol@{DOMAIN}")
            talking = await answered(carol)
            fresh = await events.wait_for(CallTransferred, 5)
            assert (await call.ended(10)).by is EndedBy.REMOTE
            assert [one.id for one in alice.calls] == [fresh.to]
            await heard(talking)
            await talking.hangup()

    asyncio.run(work())
