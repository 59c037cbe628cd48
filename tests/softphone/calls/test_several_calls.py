"""Several calls at once, conferences, redirects, and what the phone decides by itself."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from softphone.calls.call import CallState
from softphone.config import AutoAnswer
from softphone.errors import CallError, CallRejected
from softphone.events import (
    CallEnded,
    CallIncoming,
    CallRedirected,
    CallRefused,
    ConferenceChanged,
    EndedBy,
    MessageReceived,
)
from softphone.media.mixer import Port
from softphone.phone import Softphone
from softphone.sip.headers import Headers
from softphone.sip.identity import Diversion, Reason
from softphone.sip.uri import SipUri
from tests.softphone.calls.test_transfer import answered, at, carol
from tests.softphone.peers import SDP, Pair, Peer, between, with_peer
from tests.softphone.support import FakeMedia, account, simulate


def test_call_waiting_and_switching_between_calls() -> None:
    async def test(pair: Pair) -> None:
        async with carol() as third:
            events = pair.bob.events()
            first, at_bob = await pair.talk()
            second = await third.dial(at(pair.bob))
            waiting = await anext(pair.bob.incoming())
            assert [(await events.wait_for(CallIncoming)).waiting for _ in range(2)] == [False, True]
            await waiting.ring()
            await second.ringing(1)
            await pair.bob.focus(waiting)
            await second.answered(1)
            assert (at_bob.on_hold, waiting.on_hold, first.held) == (True, False, True)
            await pair.bob.focus(at_bob)
            assert (at_bob.on_hold, waiting.on_hold, second.held) == (False, True, True)
            await pair.bob.focus(at_bob)
            assert not at_bob.on_hold

    between(test)


def test_a_waiting_caller_hears_so() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        await (await peer.ask(peer.invite(), bob)).next()
        await (await anext(bob.incoming())).answer()
        transaction = await peer.ask(peer.invite(("Call-ID", "second")), bob)
        await (await anext(bob.incoming())).ring()
        while (response := await transaction.next()) is None or response.status != 180:
            assert response is not None
        assert response.headers.get("Alert-Info") == "<urn:alert:service:call-waiting>"

    with_peer(test)


def test_a_conference_of_three() -> None:
    async def test(pair: Pair) -> None:
        async with carol() as third:
            events = pair.bob.events()
            _, with_alice = await pair.talk()
            await with_alice.hold()
            answering = asyncio.create_task(answered(third))
            with_carol = await pair.bob.dial(at(third))
            await with_carol.answered(1)
            at_carol = await answering
            conference = await pair.bob.conference(with_alice, with_carol)
            await conference.add(with_carol)
            assert not with_alice.on_hold
            assert (await events.wait_for(ConferenceChanged)).calls == (with_alice.id,)
            alice, carols = (media.source for media in pair.b_media)
            assert isinstance(alice, Port)
            assert isinstance(carols, Port)
            assert [media.sink for media in pair.b_media] == [alice, carols]
            for speaker, value in ((alice, 1), (carols, 10), (conference.local, 100)):
                speaker.write(np.full(960, value, np.int16))
            assert [port.read(960)[0] for port in (alice, carols, conference.local)] == [110, 101, 11]
            await at_carol.hangup()
            await with_carol.ended(1)
            assert list(conference.calls) == [with_alice]
            with pytest.raises(CallError, match="not in the conference"):
                conference.remove(with_carol)
            conference.close()
            assert not conference.calls
            assert with_alice.state is CallState.CONFIRMED
            assert (pair.b_media[0].source, pair.b_media[0].sink) == (None, None)

    between(test)


def test_only_answered_calls_come_into_a_conference() -> None:
    async def test(pair: Pair) -> None:
        call, _ = await pair.dial()
        with pytest.raises(TimeoutError):
            await pair.alice.conference(call)

    between(test)


# redirects


async def redirecting(peer: Peer, status: int, *contacts: str) -> SipUri:
    invite = await peer.requests.get()
    invite.respond(status, to_tag="p", headers=Headers.of(*(("Contact", contact) for contact in contacts)))
    assert isinstance(invite.request.uri, SipUri)
    return invite.request.uri


def test_redirects_by_preference_then_the_next_target() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        events = bob.events()
        port = peer.endpoint.port
        call = await bob.dial(f"sip:peer@[::1]:{port}")
        there = [f"<sip:{user}@[::1]:{port}>" for user in "abc"]
        await redirecting(peer, 302, f"{there[0]};q=0.2, {there[1]};q=0.7")
        second = await peer.requests.get()
        assert str(second.request.uri) == there[1].strip("<>")
        assert second.request.cseq.number == 2
        assert second.request.call_id == call.id
        assert second.request.to.tag is None
        second.respond(486, to_tag="b")
        assert (await redirecting(peer, 301, there[1], there[2])).user == "a"
        last = await peer.requests.get()
        assert str(last.request.uri) == there[2].strip("<>")
        last.respond(200, to_tag="c", headers=Headers.of(("Contact", str(peer.contact)), SDP), body=b"answer")
        await call.answered(1)
        assert (await peer.acks.get()).cseq.number == 4
        assert [(await events.wait_for(CallRedirected)).target[4] for _ in range(3)] == ["b", "a", "c"]

    with_peer(test)


def test_redirects_in_circles_end_with_what_was_answered_last() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call = await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}")
        for number in range(8):
            await redirecting(peer, 302, f"<sip:{number}@[::1]:{peer.endpoint.port}>", str(peer.contact))
        with pytest.raises(CallRejected, match="302"):
            await call.answered(1)

    with_peer(test)


def test_redirects_are_not_followed_against_the_users_will() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call = await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}")
        await redirecting(peer, 302, "<sip:elsewhere@[::1]>")
        with pytest.raises(CallRejected, match="302 Moved Temporarily"):
            await call.answered(1)

    with_peer(test, follow_redirects=False)


def test_a_6xx_ends_the_search() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call = await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}")
        await redirecting(peer, 300, *(f"<sip:{user}@[::1]:{peer.endpoint.port}>" for user in "ab"))
        await redirecting(peer, 603)
        with pytest.raises(CallRejected, match="603"):
            await call.answered(1)
        assert peer.requests.empty()

    with_peer(test)


# decided by the phone itself


def test_do_not_disturb() -> None:
    async def test(pair: Pair) -> None:
        events = pair.bob.events()
        pair.bob.do_not_disturb = True
        call = await pair.alice.dial(at(pair.bob))
        with pytest.raises(CallRejected, match="486"):
            await call.answered(1)
        assert await events.wait_for(CallRefused) == CallRefused(
            call.id, "sip:alice@example.org", 486, "do not disturb"
        )
        pair.bob.do_not_disturb = False
        await pair.talk()

    between(test)


@pytest.mark.parametrize(
    ("policy", "headers", "seconds"),
    [
        (AutoAnswer.NEVER, [("Call-Info", "<sip:x>;answer-after=0")], None),
        (AutoAnswer.ASKED, [], None),
        (AutoAnswer.ASKED, [("Call-Info", "<sip:x>;answer-after=5")], 5.0),
        (AutoAnswer.ASKED, [("Alert-Info", "<http://x>;info=alert-autoanswer")], 0.0),
        (AutoAnswer.ALWAYS, [], 0.0),
    ],
)
def test_auto_answer(policy: AutoAnswer, headers: list[tuple[str, str]], seconds: float | None) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        transaction = await peer.ask(peer.invite(*headers), bob)
        call = await anext(bob.incoming())
        assert call.answers_itself_after == seconds
        if seconds is None:
            await asyncio.sleep(30)
            assert call.state is CallState.CALLING
            return
        assert (await transaction.final()).status == 200
        assert loop.time() - began == pytest.approx(seconds, abs=0.1)

    with_peer(test, auto_answer=policy)


def test_who_calls_and_for_whom() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        lines = [
            ("P-Asserted-Identity", '"The boss" <sip:boss@example.org>'),
            ("Diversion", "<sip:carol@x>;reason=away"),
        ]
        await peer.ask(peer.invite(*lines), bob)
        call = await anext(bob.incoming())
        assert call.asserted == ()  # anybody can write that; only our own proxy is believed
        assert [(str(d.by.uri), d.reason) for d in call.diversions] == [("sip:carol@x", "away")]
        assert isinstance(call.diversions[0], Diversion)
        await call.reject(486)
        bob._running()._proxies.add("::1")
        await peer.ask(peer.invite(*lines, ("Privacy", "id"), ("Call-ID", "other")), bob)
        call = await anext(bob.incoming())
        assert call.privacy == {"id"}
        assert [who.display for who in call.asserted] == ["The boss"]

    with_peer(test)


def test_only_the_addresses_that_our_proxy_had_are_trusted() -> None:
    async def work() -> None:
        async with Peer() as peer:
            settings = account("bob", outbound_proxy=f"sip:[::1]:{peer.endpoint.port}")
            async with Softphone(settings, media=FakeMedia.factory([])) as bob:
                await bob.dial("sip:somebody@192.0.2.1")
                (await peer.requests.get()).respond(603)
                await peer.ask(peer.invite(("P-Asserted-Identity", "<sip:boss@example.org>")), bob)
                assert (await anext(bob.incoming())).asserted

    simulate(work)


def test_a_call_that_hides_who_makes_it() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}", anonymous=True)
        invite = await peer.requests.get()
        headers = invite.request.headers
        assert str(invite.request.from_.uri) == "sip:anonymous@anonymous.invalid"
        assert (headers.get("Privacy"), headers.get("P-Preferred-Identity")) == ("id", "<sip:bob@example.org>")
        shown = (
            bytes(invite.request.start_line().encode())
            + str([value for name, value in headers if name != "P-Preferred-Identity"]).encode()
        )
        assert b"bob" not in shown
        invite.respond(486)

    with_peer(test)


def test_reasons_both_ways() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        transaction = await peer.ask(peer.invite(), bob)
        call = await anext(bob.incoming())
        await transaction.cancel(Reason("SIP", 200, "Call completed elsewhere").headers())
        end = await call.ended(1)
        assert (end.elsewhere, end.causes[0].text) == (True, "Call completed elsewhere")

        transaction = await peer.ask(peer.invite(("Call-ID", "two")), bob)
        call = await anext(bob.incoming())
        await call.reject(603, "Not now", Reason("Q.850", 21))
        response = await transaction.final()
        assert (response.reason, response.headers.get("Reason")) == ("Not now", "Q.850;cause=21")

        outgoing = await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}")
        invite = await peer.requests.get()
        told: list[str | None] = []
        invite.on_cancel = lambda cancel: told.append(cancel.headers.get("Reason"))
        invite.respond(180, to_tag="p", headers=Headers.of(("Contact", str(peer.contact))))
        await outgoing.ringing(1)
        hanging_up = asyncio.create_task(outgoing.hangup(Reason("SIP", 480, "gone")))
        await asyncio.sleep(0.1)
        assert told == ['SIP;cause=480;text="gone"']
        invite.respond(487, to_tag="p")
        await hanging_up

    with_peer(test)


def test_the_reason_of_a_bye() -> None:
    async def test(pair: Pair) -> None:
        call, incoming = await pair.talk()
        await call.hangup(Reason("Q.850", 16, "Terminated"))
        assert await incoming.ended(1) == CallEnded(
            incoming.id, EndedBy.REMOTE, 200, "Terminated", (Reason("Q.850", 16, "Terminated"),)
        )

    between(test)


def test_messages() -> None:
    async def test(pair: Pair) -> None:
        events = pair.bob.events()
        await pair.alice.message(at(pair.bob), "Grüße")
        heard = await events.wait_for(MessageReceived)
        assert (heard.remote, heard.content_type, heard.body.decode()) == (
            "sip:alice@example.org",
            "text/plain",
            "Grüße",
        )
        with pytest.raises(CallError, match="1300 bytes"):
            await pair.alice.message(at(pair.bob), "x" * 1301)
        with pytest.raises(CallRejected, match="408"):
            await pair.alice.message("sip:nobody@[::1]:9", "x")

    between(test)
