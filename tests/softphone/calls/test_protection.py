"""Calls whose packets IPsec protects from end to end: who is asked for keys when, what is sent when, what fails how.

The media is real, the mobility processes are control sockets. SIP goes directly from phone to phone here; where a test
wants it to go by a proxy, it says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from softphone.calls.call import CallState
from softphone.calls.dialog_call import DialogCall
from softphone.calls.incoming import IncomingCall
from softphone.config import AutoAnswer
from softphone.errors import CallError, CallRejected
from softphone.events import CallIpsec, IpsecState
from softphone.media.ike_description import IkeDescriptions, IpsecMode, is_ike
from softphone.media.sdp import SessionDescription
from softphone.network.sockets import DirectSockets
from softphone.phone import Softphone
from tests.softphone.mobility_process import LoopbackHome, MobilityProcess
from tests.softphone.support import account, simulate

PRINTS = {name: "sha-256 " + ":".join([text] * 32) for name, text in (("alice", "A1"), ("bob", "B2"))}


class Two:
    """Alice and Bob with a mobility process each; ``sent`` are the moments of packets of media that left a phone."""

    def __init__(self, directory: Path, *, bob_mobile: bool = True, **settings: Any) -> None:
        self.processes: dict[str, MobilityProcess] = {}
        self.sent: dict[str, list[float]] = {"alice": [], "bob": []}
        phones = {}
        for name in ("alice", "bob"):
            (directory / name).mkdir()
            self.processes[name] = MobilityProcess(directory / name, fingerprint=PRINTS[name])
            mobile = name == "alice" or bob_mobile
            sockets = LoopbackHome(self.processes[name]) if mobile else DirectSockets()
            phones[name] = Softphone(account(name, **settings), sockets, media_trace=self._traced(name))
        self.alice, self.bob = phones["alice"], phones["bob"]

    def _traced(self, name: str) -> Callable[..., None]:
        def trace(sent: bool, *_: object) -> None:
            if sent:
                self.sent[name].append(asyncio.get_running_loop().time())

        return trace

    async def __aenter__(self) -> Two:
        for process in self.processes.values():
            await process.__aenter__()
        await self.alice.start()
        await self.bob.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.alice.close()
        await self.bob.close()
        for process in self.processes.values():
            await process.__aexit__(None, None, None)

    def state(self, state: str) -> None:
        for process in self.processes.values():
            process.state = state

    def asked(self, name: str) -> list[str]:
        """The operations of a phone on calls."""
        told = ("application-keys", "protection")
        return [str(request["op"]) for request in self.processes[name].asked if request["op"] not in told]

    def tell(self, event: str, **values: object) -> None:
        for process in self.processes.values():
            process.tell(event, peer="::1", **values)

    async def dial(self, **options: Any) -> tuple[DialogCall, IncomingCall]:
        call = await self.alice.dial(f"sip:bob@[::1]:{self.bob.port}", **options)
        return call, await anext(self.bob.incoming())

    async def talk(self, **options: Any) -> tuple[DialogCall, IncomingCall]:
        call, incoming = await self.dial(**options)
        await incoming.answer()
        await call.answered(5)
        await incoming.answered(5)
        return call, incoming


def two(tmp_path: Path, test: Callable[[Two], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def work() -> None:
        async with Two(tmp_path, **settings) as both:
            await test(both)

    simulate(work)


@pytest.fixture
def by_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIP does not go between the two addresses themselves."""
    monkeypatch.setattr(IncomingCall, "_direct", False)


def states(*calls: DialogCall) -> list[IpsecState | None]:
    return [None if call.ipsec is None else call.ipsec.state for call in calls]


def ports(text: str) -> list[int]:
    return [media.port for media in SessionDescription.parse(text).media if is_ike(media)]


BOTH = [IpsecState.PROTECTED] * 2
NEITHER = [IpsecState.NONE] * 2


def test_keys_are_made_while_it_rings_and_count_before_the_first_packet(tmp_path: Path, by_proxy: None) -> None:
    async def test(both: Two) -> None:
        events = both.bob.events()
        call, incoming = await both.dial()
        assert both.asked("alice") == ["offer-call"]
        asked = both.processes["bob"].requests("secure-call")
        assert [(a["peer"], a["fingerprints"], a["active"]) for a in asked] == [("::1", [PRINTS["alice"]], True)]
        await asyncio.sleep(3)
        both.processes["bob"].tell("ApplicationProtected", peer="::1", algorithm="aes-gcm-16", calls="x")
        told = [await events.wait_for(CallIpsec, 5), await events.wait_for(CallIpsec, 5)]
        assert [each.state for each in told] == [IpsecState.NEGOTIATING, IpsecState.PROTECTED]
        before = asyncio.get_running_loop().time()
        both.processes["alice"].state = "protected"
        await incoming.answer()
        assert asyncio.get_running_loop().time() - before < 0.1
        await call.answered(5)
        asked = both.processes["alice"].requests("secure-call")
        assert [(a["fingerprints"], a["active"]) for a in asked] == [([PRINTS["bob"]], False)]
        await asyncio.sleep(1)
        assert states(call, incoming) == BOTH
        assert incoming.ipsec == CallIpsec(incoming.id, IpsecState.PROTECTED, "::1", "aes-gcm-16", "")
        assert both.asked("alice") == ["offer-call", "secure-call", "release-call"]
        assert both.processes["alice"].requests("release-call")[0]["call"] == call.id
        assert len(both.sent["alice"]) > 40
        assert len(both.sent["bob"]) > 40
        await call.hangup()
        await asyncio.sleep(2)
        assert both.asked("alice")[3:] == ["release-call"]
        assert both.asked("bob") == ["secure-call", "release-call"]

    two(tmp_path, test)


def test_a_phone_that_answers_by_itself_waits_for_the_keys(tmp_path: Path, by_proxy: None) -> None:
    async def test(both: Two) -> None:
        call = await both.alice.dial(f"sip:bob@[::1]:{both.bob.port}")
        await asyncio.sleep(1)
        assert call.state is not CallState.CONFIRMED
        both.state("protected")
        both.tell("ApplicationProtected", algorithm="aes-gcm-16", calls="x")
        await call.answered(0.2)
        assert states(call) == [IpsecState.PROTECTED]

    two(tmp_path, test, auto_answer=AutoAnswer.ALWAYS)


def test_nothing_is_sent_before_the_mobility_process_has_agreed(tmp_path: Path) -> None:
    async def test(both: Two) -> None:
        call, incoming = await both.dial()
        both.processes["alice"].delay = 1.0
        loop = asyncio.get_running_loop()
        answered = loop.time()
        await incoming.answer()
        await asyncio.sleep(3)
        assert min(both.sent["alice"]) >= answered + 1.0
        assert max(both.sent["alice"]) > answered + 2.9
        assert states(call, incoming) == BOTH

    two(tmp_path, prepared(test))


def prepared(test: Callable[[Two], Coroutine[Any, Any, None]]) -> Callable[[Two], Coroutine[Any, Any, None]]:
    """The keys are there at once."""

    async def work(both: Two) -> None:
        both.state("protected")
        await test(both)

    return work


def test_where_sip_goes_directly_the_answerer_begins_after_its_answer(tmp_path: Path) -> None:
    async def test(both: Two) -> None:
        call, incoming = await both.dial()
        await incoming.ring()
        await asyncio.sleep(1)
        assert both.asked("bob") == []
        await incoming.answer()
        await call.answered(5)
        assert both.asked("bob") == ["secure-call"]
        assert both.processes["bob"].requests("secure-call")[0]["active"] is True
        assert states(call, incoming) == BOTH

    two(tmp_path, prepared(test))


def test_without_keys_an_answer_leaves_ipsec_out_and_the_call_goes_on(tmp_path: Path, by_proxy: None) -> None:
    async def test(both: Two) -> None:
        call, incoming = await both.dial()
        await incoming.ring()
        before = asyncio.get_running_loop().time()
        await incoming.answer()
        assert 1.9 < asyncio.get_running_loop().time() - before < 2.1
        await call.answered(5)
        assert ports(incoming.local_sdp) == [0]
        assert states(call, incoming) == NEITHER
        assert incoming.ipsec is not None
        assert incoming.ipsec.reason == "no keys within 2 s"
        assert call.ipsec is not None
        assert call.ipsec.reason == "the other side does not take part"
        await asyncio.sleep(1)
        assert both.asked("alice") == ["offer-call", "release-call"]
        assert both.asked("bob") == ["secure-call", "release-call"]
        assert len(both.sent["alice"]) > 40
        await call.hold()
        assert states(call, incoming) == NEITHER

    two(tmp_path, test)


def test_who_does_not_take_part_may_be_protected_by_the_configuration(tmp_path: Path) -> None:
    async def test(both: Two) -> None:
        both.processes["alice"].configured = True
        call, _ = await both.talk()
        for _ in range(2):
            assert call.ipsec is not None
            assert (call.ipsec.state, call.ipsec.peer) == (IpsecState.PROTECTED, "::1")
            await call.hold()
        await asyncio.sleep(1)
        assert both.asked("alice") == ["offer-call", "release-call"]

    two(tmp_path, test, bob_mobile=False)


def test_keys_that_fail_while_it_rings_are_not_waited_for(tmp_path: Path, by_proxy: None) -> None:
    async def test(both: Two) -> None:
        call, incoming = await both.dial()
        both.processes["bob"].tell("ApplicationKeysFailed", peer="::1", reason="its certificate is another one")
        await asyncio.sleep(1)
        before = asyncio.get_running_loop().time()
        await incoming.answer()
        assert asyncio.get_running_loop().time() - before < 0.1
        await call.answered(5)
        assert incoming.ipsec is not None
        assert incoming.ipsec.reason == "its certificate is another one"
        assert ports(incoming.local_sdp) == [0]

    two(tmp_path, test)


def test_keys_that_never_come_after_the_answer_are_given_up_on_both_sides(tmp_path: Path) -> None:
    async def test(both: Two) -> None:
        call, incoming = await both.talk()
        await asyncio.sleep(5)
        assert states(call, incoming) == [IpsecState.NEGOTIATING] * 2
        await asyncio.sleep(10)
        assert states(call, incoming) == NEITHER
        assert ports(call.local_sdp) == ports(incoming.local_sdp) == [0]
        assert both.asked("alice")[-1] == both.asked("bob")[-1] == "release-call"
        assert call.state is incoming.state is CallState.CONFIRMED

    two(tmp_path, test)


def test_one_side_alone_fails_and_the_other_learns_it(tmp_path: Path) -> None:
    async def test(both: Two) -> None:
        both.processes["bob"].state = "protected"
        call, incoming = await both.talk()
        both.processes["alice"].tell("ApplicationKeysFailed", peer="::1", reason="it does not answer")
        await asyncio.sleep(3)
        assert states(call, incoming) == NEITHER
        assert call.ipsec is not None
        assert call.ipsec.reason == "it does not answer"
        sent = {name: len(moments) for name, moments in both.sent.items()}
        await asyncio.sleep(1)
        assert all(len(both.sent[name]) > count + 40 for name, count in sent.items())

    two(tmp_path, test)


def test_who_breaks_the_keys_in_mid_call_does_not_bring_us_to_speak_without(tmp_path: Path) -> None:
    async def test(both: Two) -> None:
        call, incoming = await both.talk()
        both.tell("ApplicationUnprotected", reason="the other side has deleted them")
        both.tell("ApplicationKeysFailed", reason="it does not answer")
        await asyncio.sleep(20)
        assert states(call, incoming) == [IpsecState.NEGOTIATING] * 2
        assert call.ipsec is not None
        assert call.ipsec.reason == "it does not answer"
        assert both.asked("alice") == ["offer-call", "secure-call", "release-call"]
        both.tell("ApplicationProtected", algorithm="aes-gcm-16", calls="x")
        await asyncio.sleep(1)
        assert states(call, incoming) == BOTH

    two(tmp_path, prepared(test))


def test_hold_and_resume_leave_the_protection_as_it_is(tmp_path: Path) -> None:
    async def test(both: Two) -> None:
        call, incoming = await both.talk()
        for side in (call, incoming):
            await side.hold()
            await side.resume()
        assert ports(call.local_sdp) == ports(incoming.local_sdp) == [500]
        await asyncio.sleep(1)
        assert both.asked("alice") == ["offer-call", "secure-call", "release-call"]
        assert both.asked("bob") == ["secure-call"]
        count = len(both.sent["alice"])
        await asyncio.sleep(1)
        assert len(both.sent["alice"]) > count + 40

    two(tmp_path, prepared(test))


def test_the_caller_lets_the_other_side_offer(tmp_path: Path) -> None:
    async def test(both: Two) -> None:
        call, incoming = await both.talk(late_offer=True)
        await asyncio.sleep(1)
        assert states(call, incoming) == BOTH
        assert both.asked("bob") == ["offer-call", "secure-call", "release-call"]
        assert both.asked("alice") == ["secure-call"]
        assert both.processes["alice"].requests("secure-call")[0]["active"] is True
        assert len(both.sent["bob"]) > 40

    two(tmp_path, prepared(test))


@pytest.mark.parametrize("settings", [{"bob_mobile": False}, {"ipsec": IpsecMode.OFF}])
def test_with_a_phone_that_has_no_keys_the_call_is_as_before(tmp_path: Path, settings: dict[str, Any]) -> None:
    async def test(both: Two) -> None:
        call, incoming = await both.talk()
        assert states(incoming) == [None]
        assert states(call) == [None if "ipsec" in settings else IpsecState.NONE]
        assert "secure-call" not in both.asked("alice")
        await asyncio.sleep(1)
        assert len(both.sent["alice"]) > 40
        assert len(both.sent["bob"]) > 40

    two(tmp_path, prepared(test), **settings)


def test_the_process_cannot_protect_and_it_is_said(tmp_path: Path, by_proxy: None) -> None:
    async def test(both: Two) -> None:
        both.processes["bob"].refused["secure-call"] = "the address is our own"
        call, incoming = await both.talk()
        assert incoming.ipsec is not None
        assert incoming.ipsec.reason == "the address is our own"
        assert states(call, incoming) == NEITHER
        assert ports(incoming.local_sdp) == [0]

    two(tmp_path, test)


def test_the_process_of_the_caller_cannot_protect_and_the_other_side_learns_it(tmp_path: Path) -> None:
    async def test(both: Two) -> None:
        both.processes["alice"].refused["secure-call"] = "too many calls"
        call, incoming = await both.talk()
        await asyncio.sleep(2)
        assert states(call, incoming) == NEITHER
        assert ports(call.local_sdp) == ports(incoming.local_sdp) == [0]
        assert call.ipsec is not None
        assert call.ipsec.reason == "too many calls"

    two(tmp_path, prepared(test))


def test_mandatory_means_no_call_without_keys_of_ones_own(tmp_path: Path) -> None:
    async def test(both: Two) -> None:
        process = both.processes["alice"]
        process.refused["offer-call"] = "too many offers"
        with pytest.raises(CallError, match=r"mandatory.*too many offers"):
            await both.dial()
        await process.__aexit__(None, None, None)
        await asyncio.sleep(1)
        with pytest.raises(CallError, match=r"mandatory.*has gone"):
            await both.dial()
        call = await both.bob.dial(f"sip:alice@[::1]:{both.alice.port}")
        with pytest.raises(CallRejected, match=r"488.*mandatory.*nobody who makes the keys"):
            await call.answered(5)

    two(tmp_path, prepared(test), ipsec=IpsecMode.MANDATORY)


def test_mandatory_means_no_call_with_who_has_none(tmp_path: Path) -> None:
    async def work() -> None:
        (tmp_path / "x").mkdir()
        async with (
            MobilityProcess(tmp_path / "x") as process,
            Softphone(account("alice", ipsec=IpsecMode.MANDATORY), LoopbackHome(process)) as alice,
            Softphone(account("bob", auto_answer=AutoAnswer.ALWAYS)) as bob,
        ):
            call = await alice.dial(f"sip:bob@[::1]:{bob.port}")
            over = await call.ended(5)
            assert (over.status, "mandatory" in over.reason) == (488, True)
            with pytest.raises(CallRejected, match=r"488.*mandatory.*does not take part"):
                await (await bob.dial(f"sip:alice@[::1]:{alice.port}")).answered(5)
            await bob.dial(f"sip:alice@[::1]:{alice.port}", late_offer=True)
            incoming = await anext(alice.incoming())
            await incoming.answer()
            over = await incoming.ended(5)
            assert (over.status, "mandatory" in over.reason) == (488, True)

    simulate(work)


def test_mandatory_keys_that_fail_refuse_or_end_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(both: Two) -> None:
        call, incoming = await both.talk()  # directly: it fails after the answer
        both.processes["alice"].tell("ApplicationKeysFailed", peer="::1", reason="it does not answer")
        over = await call.ended(5)
        assert (over.status, over.reason) == (488, "IPsec is mandatory for this account: it does not answer")
        await incoming.ended(5)
        monkeypatch.setattr(IncomingCall, "_direct", False)
        call, incoming = await both.dial()
        both.processes["bob"].tell("ApplicationKeysFailed", peer="::1", reason="its certificate is another one")
        await asyncio.sleep(0.1)
        with pytest.raises(CallError, match="another one"):
            await incoming.answer()
        with pytest.raises(CallRejected, match=r"488.*another one"):
            await call.answered(5)

    two(tmp_path, test, ipsec=IpsecMode.MANDATORY)


def test_mandatory_keys_may_take_longer_than_the_answer_waits(tmp_path: Path, by_proxy: None) -> None:
    async def test(both: Two) -> None:
        call, incoming = await both.talk()
        assert states(call, incoming) == [IpsecState.NEGOTIATING] * 2
        both.tell("ApplicationProtected", algorithm="aes-gcm-16", calls="x")
        await asyncio.sleep(15)
        assert states(call, incoming) == BOTH

    two(tmp_path, test, ipsec=IpsecMode.MANDATORY)


def test_a_caller_who_gives_up_while_keys_are_waited_for(tmp_path: Path, by_proxy: None) -> None:
    async def test(both: Two) -> None:
        call, incoming = await both.dial()
        answering = asyncio.create_task(incoming.answer())
        await asyncio.sleep(0.5)
        await call.hangup()
        with pytest.raises(CallError):
            await answering
        await asyncio.sleep(2)
        assert both.asked("bob") == ["secure-call", "release-call"]
        assert both.asked("alice") == ["offer-call", "release-call"]

    two(tmp_path, test)


def test_a_section_that_cannot_be_used_is_told_to_the_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(both: Two) -> None:
        call, incoming = await both.talk()
        assert states(incoming) == [IpsecState.NONE]
        assert incoming.ipsec is not None
        assert "port 4500" in incoming.ipsec.reason
        assert states(call) == [IpsecState.NONE]
        assert both.bob.counters["ipsec-section-unusable"] == 1

    made = IkeDescriptions._section
    monkeypatch.setattr(IkeDescriptions, "_section", staticmethod(lambda *of: replace(made(*of), port=4500)))
    two(tmp_path, prepared(test))
