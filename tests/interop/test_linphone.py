"""Debian's linphone-daemon and our phone call each other through Kamailio over IPv6: sound, digits, hold, SRTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from roamphone_pytest.server import SipProxy
from softphone.events import CallDigit, EndedBy
from softphone.media.dtmf import DigitMethod
from softphone.media.offer_answer import SrtpMode
from tests.interop.linphone import called, linphone
from tests.interop.loopback import held, silent, statistics
from tests.interop.tones import tone_comes, write_tone

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("by_bob", [True, False])
@pytest.mark.parametrize("secure", [True, False])
def test_sound_digits_and_hold(sip_proxy: SipProxy, tmp_path: Path, by_bob: bool, secure: bool) -> None:
    song = write_tone(tmp_path / "song.wav", 700, 4)

    async def work() -> None:
        srtp = SrtpMode.MANDATORY if secure else SrtpMode.OFF
        async with (
            sip_proxy.phone("alice", srtp=srtp) as alice,
            linphone(sip_proxy.server, tmp_path, encryption="srtp" if secure else "none") as bob,
        ):
            await alice.registered(5)
            events = alice.events()
            call = await called(alice, bob, by_bob=by_bob)
            assert (statistics(call).srtp_suite != "") is secure
            bob.do("incall-player-start", str(song))
            await tone_comes(call, 700)

            assert await call.send_dtmf("4") is DigitMethod.EVENT
            await bob.until("Tone", "4")
            bob.do("dtmf", "5")
            digit = await events.wait_for(CallDigit, 5)
            assert (digit.digit, digit.method) == ("5", DigitMethod.EVENT)

            bob.do("call-pause")
            assert await held(events) == (False, True)
            await silent(call)
            bob.do("call-resume", "1")
            assert await held(events) == (False, False)
            await bob.until("Event", "LinphoneCallStreamsRunning")
            await call.hold()
            assert await held(events) == (True, False)
            await bob.until("Event", "LinphoneCallPausedByRemote")
            await call.resume()
            assert await held(events) == (False, False)
            await bob.until("Event", "LinphoneCallStreamsRunning")
            bob.do("incall-player-start", str(song))
            await tone_comes(call, 700)

            if by_bob:
                bob.do("terminate")
                assert (await call.ended(5)).by is EndedBy.REMOTE
            else:
                await call.hangup()
                await bob.until("Event", "LinphoneCallEnd")
            assert not {name: count for name, count in alice.counters.items() if name != "response-stray"}

    asyncio.run(work())


@pytest.mark.parametrize("secure", [True, False])
def test_linphone_mixes(sip_proxy: SipProxy, tmp_path: Path, secure: bool) -> None:
    """So it has heard and understood the sound that we send."""
    voice = write_tone(tmp_path / "voice.wav", 1100, 8)

    async def work() -> None:
        srtp = SrtpMode.MANDATORY if secure else SrtpMode.OFF
        async with (
            sip_proxy.phone("alice", srtp=srtp) as alice,
            sip_proxy.phone("carol", srtp=srtp) as carol,
            linphone(sip_proxy.server, tmp_path, encryption="srtp" if secure else "none") as bob,
        ):
            await alice.registered(5)
            await carol.registered(5)
            speaking = await called(alice, bob, by_bob=False)
            bob.do("conference", "add", "1")
            listening = await called(carol, bob, by_bob=False)
            bob.do("conference", "add", "2")
            speaking.play(str(voice))
            await tone_comes(listening, 1100)

    asyncio.run(work())
