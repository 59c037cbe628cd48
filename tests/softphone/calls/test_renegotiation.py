"""A running call changes: hold and resume, glare, refresh of the session, peers that are gone."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from softphone.calls.call import CallState
from softphone.calls.dialog_call import DialogCall
from softphone.calls.incoming import IncomingCall
from softphone.errors import CallError, CallRejected, ChangeRefused
from softphone.events import CallDigit, CallHold, CallMedia, EndedBy, InfoReceived
from softphone.media.codecs import Samples
from softphone.media.dtmf import DigitMethod
from softphone.media.events import MediaEvent, MediaFailed, PlaybackEnded
from softphone.media.monitor import MediaTimeout
from softphone.media.session import MediaSession
from softphone.phone import Softphone
from softphone.sip.dialog import Dialog
from softphone.sip.endpoint import ServerTransaction
from softphone.sip.headers import Headers
from softphone.sip.message import Request
from tests.softphone.peers import SDP, Pair, Peer, accepted, between, with_peer
from tests.softphone.support import FakeMedia, account, simulate


class Tone:
    """A source of sound."""

    rate = 8000

    def read(self, count: int) -> Samples:
        return np.zeros(count, np.int16)


async def talking(peer: Peer, bob: Softphone) -> tuple[IncomingCall, Dialog]:
    """The peer has called Bob."""
    call, dialog, _ = await accepted(peer, bob)
    await peer.ack(dialog, bob)
    await call.answered(1)
    return call, dialog


async def talking_to(peer: Peer, bob: Softphone, *headers: tuple[str, str]) -> tuple[DialogCall, Dialog]:
    """Bob has called the peer."""
    call = await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}")
    invite = await peer.requests.get()
    dialog = Dialog.as_callee(invite.request, "p", peer.contact)
    invite.respond(200, to_tag="p", headers=peer_says(peer, *headers), body=b"answer")
    await peer.acks.get()
    await call.answered(1)
    dialog.accepts(invite.request)
    return call, dialog


def peer_says(peer: Peer, *headers: tuple[str, str]) -> Headers:
    return Headers.of(("Contact", str(peer.contact)), SDP, *headers)


def accept(peer: Peer, transaction: ServerTransaction, body: bytes, *headers: tuple[str, str]) -> None:
    transaction.respond(200, headers=peer_says(peer, *headers), body=body)


def test_hold_and_resume() -> None:
    async def test(pair: Pair) -> None:
        events = pair.bob.events()
        call, incoming = await pair.talk()
        [a], [b] = pair.a_media, pair.b_media
        speech, music = Tone(), Tone()
        call.play(speech)
        await call.hold(music)
        assert (call.on_hold, call.held, incoming.on_hold, incoming.held) == (True, False, False, True)
        assert await events.wait_for(CallHold) == CallHold(incoming.id, local=False, remote=True)
        assert call.local_sdp.endswith("sendonly")
        assert call.remote_sdp.endswith("recvonly")
        assert [a.source] == [music]
        other = Tone()
        call.play(other)  # is heard when the hold ends
        assert [a.source] == [music]
        await call.hold()  # nothing to agree on
        assert [a.source] == [None]
        await incoming.hold()
        assert (incoming.on_hold, call.held, incoming.held) == (True, True, True)
        assert incoming.local_sdp.endswith("inactive")
        await call.resume()
        assert (call.on_hold, call.held, incoming.held) == (False, True, False)
        assert [a.source] == [other]
        await incoming.resume()
        assert (incoming.on_hold, call.held, incoming.held) == (False, False, False)
        assert b.running
        assert not pair.alice.counters
        assert not pair.bob.counters

    between(test)


def test_a_refused_change_leaves_all_as_it_was() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, dialog = await talking(peer, bob)
        speech = Tone()
        call.play(speech)
        for status in (488, 500):
            holding = asyncio.create_task(call.hold())
            (await peer.requests.get()).respond(status)
            with pytest.raises(ChangeRefused, match=f"hold was refused: {status}"):
                await holding
        assert (call.on_hold, call.state, media[0].source) == (False, CallState.CONFIRMED, speech)
        # The other side may offer again: our own offer is closed.
        assert (await peer.final(dialog.request("INVITE", Headers.of(SDP), b"theirs"), bob)).status == 200

    with_peer(test)


def test_an_answer_that_cannot_be_used_ends_the_call() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, _ = await talking(peer, bob)
        holding = asyncio.create_task(call.hold())
        accept(peer, await peer.requests.get(), b"incompatible")
        await peer.acks.get()
        (await peer.requests.get()).respond(200)
        with pytest.raises(CallError, match="no codec in common"):
            await holding
        assert (await call.ended(1)).status == 488

    with_peer(test)


def test_what_cannot_be_changed() -> None:
    async def test(pair: Pair) -> None:
        call, incoming = await pair.dial()
        for half in (call, incoming):
            with pytest.raises(CallError, match="cannot hold: the call is calling"):
                await half.hold()
        await incoming.reject()
        with pytest.raises(CallRejected):
            await call.answered(1)
        with pytest.raises(CallError, match="cannot transfer: the call is ended"):
            await call.transfer("sip:x@y")

    between(test)


@pytest.mark.parametrize("caller", [True, False])
def test_glare_is_tried_again_after_the_wait_of_our_role(caller: bool) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, dialog = await (talking_to if caller else talking)(peer, bob)
        loop = asyncio.get_running_loop()
        holding = asyncio.create_task(call.hold())
        ours = await peer.requests.get()
        theirs = await peer.final(dialog.request("INVITE", Headers.of(SDP), b"theirs"), bob)
        update = await peer.final(dialog.request("UPDATE", Headers.of(SDP), b"theirs"), bob)
        assert (theirs.status, update.status) == (491, 491)
        began = loop.time()
        ours.respond(491)
        # Now the way is free for them, while we wait.
        again = await peer.final(dialog.request("INVITE", Headers.of(SDP), b"theirs"), bob)
        assert again.status == 200
        await peer.ack(dialog, bob)
        ours = await peer.requests.get()
        waited = loop.time() - began
        assert (2.1 <= waited <= 4.0) if caller else (0 <= waited <= 2.0)
        accept(peer, ours, b"answer recvonly")
        await holding
        assert call.on_hold

    with_peer(test)


def test_glare_between_two_phones_of_ours() -> None:
    async def test(pair: Pair) -> None:
        call, incoming = await pair.talk()
        await asyncio.gather(call.hold(), incoming.hold())
        assert (call.on_hold, incoming.on_hold, call.held, incoming.held) == (True, True, True, True)
        await asyncio.gather(call.resume(), incoming.resume())
        assert (call.on_hold, incoming.on_hold, call.held, incoming.held) == (False, False, False, False)

    between(test)


def test_endless_glare_ends() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, _ = await talking(peer, bob)
        holding = asyncio.create_task(call.hold())
        for _ in range(5):
            (await peer.requests.get()).respond(491)
        with pytest.raises(ChangeRefused, match="491"):
            await holding

    with_peer(test)


def test_retry_after_is_waited_for() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, _ = await talking(peer, bob)
        holding = asyncio.create_task(call.hold())
        (await peer.requests.get()).respond(500, headers=Headers.of(("Retry-After", "7")))
        began = asyncio.get_running_loop().time()
        accept(peer, await peer.requests.get(), b"answer recvonly")
        await holding
        assert asyncio.get_running_loop().time() - began == pytest.approx(7, abs=0.1)

    with_peer(test)


def test_the_2xx_of_a_reinvite_is_acknowledged_again() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, _ = await talking(peer, bob)
        holding = asyncio.create_task(call.hold())
        reinvite = await peer.requests.get()
        for _ in range(3):
            accept(peer, reinvite, b"answer recvonly")
            assert (await peer.acks.get()).cseq.number == reinvite.request.cseq.number
        await holding

    with_peer(test)


@pytest.mark.parametrize("status", [408, 481])
def test_who_does_not_know_the_call_any_more_has_ended_it(status: int) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, _ = await talking(peer, bob)
        holding = asyncio.create_task(call.hold())
        (await peer.requests.get()).respond(status)
        (await peer.requests.get()).respond(481)
        with pytest.raises(CallError, match="the other side is gone"):
            await holding
        assert (await call.ended(1)).status == status

    with_peer(test)


def test_who_loses_interest_in_a_change_leaves_nothing_unfinished() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, _ = await talking(peer, bob)
        holding = asyncio.create_task(call.hold())
        reinvite = await peer.requests.get()
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding
        accept(peer, reinvite, b"answer recvonly")
        assert (await peer.acks.get()).cseq.number == reinvite.request.cseq.number
        await asyncio.sleep(0)
        assert call.on_hold
        hanging_up = asyncio.create_task(call.hangup())
        await asyncio.sleep(0)
        hanging_up.cancel()
        bye = await peer.requests.get()
        bye.respond(401, headers=Headers.of(("WWW-Authenticate", 'Digest realm="r", nonce="n"')))
        (await peer.requests.get()).respond(200)
        await asyncio.gather(hanging_up, return_exceptions=True)

    with_peer(test)


def test_shutting_down_in_mid_change_is_told() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, _ = await talking(peer, bob)
        counters = bob.counters
        holding = asyncio.create_task(call.hold())
        await peer.requests.get()
        closing = asyncio.create_task(bob.close())
        (await peer.requests.get()).respond(200)
        with pytest.raises(CallError, match="shut down"):
            await holding
        await closing
        assert counters["task-failed"] == 0

    with_peer(test)


def test_a_hangup_in_mid_change() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, _ = await talking(peer, bob)
        holding = asyncio.create_task(call.hold())
        reinvite = await peer.requests.get()
        hanging_up = asyncio.create_task(call.hangup())
        bye = await peer.requests.get()
        assert bye.request.method == "BYE"
        bye.respond(200)
        await hanging_up
        reinvite.respond(487)
        with pytest.raises(CallError):
            await holding

    with_peer(test)


def test_an_old_peer_holds_with_an_address_of_zeros() -> None:
    """With real descriptions: c=0.0.0.0 means that the other side does not listen."""

    def described(address: str) -> bytes:
        return (
            f"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n"
        ).encode()

    async def work() -> None:
        async with Peer("127.0.0.1") as peer, Softphone(account("bob", local_host="127.0.0.1")) as bob:
            transaction = await peer.ask(peer.invite(body=described("192.0.2.1")), bob)
            call = await anext(bob.incoming())
            await call.answer()
            dialog = Dialog.as_caller(transaction.request, await transaction.final(), peer.contact)
            await peer.ack(dialog, bob)
            await call.answered(1)
            session = call.media
            assert isinstance(session, MediaSession)
            for address, held in (("0.0.0.0", True), ("192.0.2.1", False)):
                offer = dialog.request("INVITE", Headers.of(SDP), described(address))
                response = await peer.final(offer, bob)
                assert b"a=recvonly" in response.body or not held
                await peer.ack(dialog, bob)
                await asyncio.sleep(0)
                assert session.agreed is not None
                assert (call.held, session.agreed.direction.sends) == (held, not held)

    simulate(work)


# session timers


def test_the_session_is_refreshed_by_update_or_reinvite() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        loop = asyncio.get_running_loop()
        expires = ("Session-Expires", "100;refresher=uac")
        call, _ = await talking_to(peer, bob, ("Allow", "INVITE, ACK, BYE, UPDATE"), expires)
        began = loop.time()
        refresh = await peer.requests.get()
        assert loop.time() - began == pytest.approx(50, abs=0.1)
        assert (refresh.request.method, refresh.request.body) == ("UPDATE", b"")
        assert refresh.request.headers.get("Session-Expires") == "100;refresher=uac"
        refresh.respond(200, headers=Headers.of(("Allow", "INVITE, ACK, BYE"), expires))
        refresh = await peer.requests.get()
        assert refresh.request.method == "UPDATE"
        refresh.respond(500)
        bye = await peer.requests.get()  # it was the only refresh: the session expires
        assert bye.request.method == "BYE"
        bye.respond(200)
        end = await call.ended(1)
        assert (end.by, end.status) == (EndedBy.FAILURE, 408)

    with_peer(test)


def test_a_peer_without_update_gets_the_same_offer_again() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        expires = ("Session-Expires", "100;refresher=uac")
        call, _ = await talking_to(peer, bob, ("Allow", "INVITE, ACK, BYE"), expires)
        refresh = await peer.requests.get()
        assert (refresh.request.method, refresh.request.body[:5]) == ("INVITE", b"offer")
        accept(peer, refresh, b"answer", expires)
        assert (await peer.acks.get()).cseq.number == refresh.request.cseq.number
        await asyncio.sleep(49)
        assert peer.requests.empty()
        assert call.state is CallState.CONFIRMED

    with_peer(test)


def test_a_peer_that_should_refresh_and_does_not_is_hung_up() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, dialog = await talking_to(peer, bob, ("Session-Expires", "90;refresher=uas"))
        await asyncio.sleep(45)
        update = dialog.request("UPDATE", Headers.of(("Supported", "timer"), ("Session-Expires", "90;refresher=uac")))
        refreshed = await peer.final(update, bob)
        assert refreshed.headers.get("Session-Expires") == "90;refresher=uac"
        assert refreshed.headers.get("Require") == "timer"
        await asyncio.sleep(59)
        assert call.state is CallState.CONFIRMED
        bye = await asyncio.wait_for(peer.requests.get(), 2)
        assert bye.request.method == "BYE"
        bye.respond(200)
        assert "session expired" in (await call.ended(1)).reason

    with_peer(test)


def test_an_interval_too_small_for_them_and_for_us() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call = await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}")
        (await peer.requests.get()).respond(422, to_tag="p", headers=Headers.of(("Min-SE", "4000")))
        again = (await peer.requests.get()).request
        assert (again.cseq.number, again.headers.raw("Session-Expires")) == (2, ["4000"])
        assert again.headers.raw("Min-SE") == ["4000"]
        await bob.close()
        assert call.state is CallState.ENDED

    with_peer(test)

    async def theirs(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        invite = peer.invite(("Supported", "timer"), ("Session-Expires", "90"))
        response = await peer.final(invite, bob)
        assert (response.status, response.headers.get("Min-SE")) == (422, "120")
        assert bob.calls == []

    with_peer(theirs, least_session_expires=120)


def test_two_phones_of_ours_stay_in_a_long_call_and_notice_when_one_is_gone() -> None:
    async def test(pair: Pair) -> None:
        call, incoming = await pair.talk()
        await asyncio.sleep(3600)
        assert (call.state, incoming.state) == (CallState.CONFIRMED, CallState.CONFIRMED)
        await pair.alice.endpoint.close()  # its cable is cut
        end = await incoming.ended(200)
        assert (end.by, end.status) == (EndedBy.FAILURE, 408)

    between(test, session_expires=100)


# INFO, digits, what media tells


def test_info_and_digits() -> None:
    async def test(pair: Pair) -> None:
        events = pair.bob.events()
        call, incoming = await pair.talk()
        await call.info("text/plain", b"hello")
        assert await events.wait_for(InfoReceived) == InfoReceived(incoming.id, "text/plain", b"hello")
        assert await call.send_dtmf("1#") is DigitMethod.EVENT
        assert pair.a_media[0].log[-1] == "dtmf 1#"
        assert await call.send_dtmf("5*", DigitMethod.INFO, 0.25) is DigitMethod.INFO
        for digit in "5*":
            assert await events.wait_for(CallDigit) == CallDigit(incoming.id, digit, 0.25, DigitMethod.INFO)
        with pytest.raises(ValueError, match="not on the keypad"):
            await call.send_dtmf("x", DigitMethod.INFO)
        with pytest.raises(ChangeRefused, match="400"):
            await call.info("application/dtmf-relay", b"Signal=nonsense")

    between(test)

    async def package(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        _, dialog = await talking(peer, bob)
        response = await peer.final(dialog.request("INFO", Headers.of(("Info-Package", "foo"))), bob)
        assert (response.status, response.headers.get("Recv-Info")) == (469, "")

    with_peer(package)


@pytest.mark.parametrize(
    ("event", "why"),
    [(MediaTimeout(30.0), "nothing came for 30 s"), (MediaFailed("no way"), "no sound is possible: no way")],
)
def test_a_call_without_sound_ends(event: MediaEvent, why: str) -> None:
    async def test(pair: Pair) -> None:
        events = pair.alice.events()
        call, incoming = await pair.talk()
        await incoming.hold()
        if isinstance(event, MediaTimeout):
            pair.a_media[0].on_event(event)  # who is on hold may hear nothing
            await asyncio.sleep(1)
            assert call.state is CallState.CONFIRMED
        await incoming.resume()
        pair.a_media[0].on_event(event)
        end = await call.ended(1)
        assert (end.by, why in end.reason) == (EndedBy.FAILURE, True)
        assert (await events.wait_for(CallMedia)).event == event
        assert (await incoming.ended(1)).by is EndedBy.REMOTE

    between(test)


def test_a_source_that_has_ended_does_not_begin_again_after_a_hold() -> None:
    async def test(pair: Pair) -> None:
        call, _ = await pair.talk()
        speech = Tone()
        call.play(speech)
        await call.hold()
        pair.a_media[0].on_event(PlaybackEnded(speech, 1))
        await call.resume()
        assert pair.a_media[0].source is None

    between(test)


# bad input


@pytest.mark.parametrize(
    "line",
    [
        ("Require", '"timer, x'),
        ("Session-Expires", "soon"),
        ("Min-SE", "-1"),
        ("Supported", '"timer, x'),
        ("Allow", '"INVITE, x'),
        ("Content-Encoding", '"x, y'),
    ],
)
def test_malformed_values_in_requests_are_answered_and_do_no_harm(line: tuple[str, str]) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        harmless = line[0] == "Allow"
        for number in range(10):  # more than there may be calls
            ask = await peer.ask(peer.invite(line, ("Call-ID", f"bad{number}")), bob)
            if harmless:
                await (await anext(bob.incoming())).reject(486)
            assert (await ask.final()).status == (486 if harmless else 400)
        assert bob.calls == []
        call, dialog = await talking(peer, bob)
        for method in ("INVITE", "UPDATE"):
            response = await peer.final(dialog.request(method, Headers.of(SDP, line), b"offer"), bob)
            assert response.status == (200 if harmless else 400)
            if response.success and method == "INVITE":
                await peer.ack(dialog, bob)
        assert call.state is CallState.CONFIRMED
        assert bob.counters["task-failed"] == 0

    with_peer(test)


@pytest.mark.parametrize("line", [("Session-Expires", "soon"), ("Allow", '"INVITE, x'), ("Min-SE", "x")])
def test_malformed_values_in_an_answer_do_no_harm(line: tuple[str, str]) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, _ = await talking_to(peer, bob, line)
        assert call.state is CallState.CONFIRMED
        await asyncio.sleep(2000)
        assert call.state is CallState.CONFIRMED

    with_peer(test)


@pytest.mark.parametrize("answers_cancel", [True, False])
def test_a_reinvite_that_comes_to_no_end(answers_cancel: bool) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, _ = await talking(peer, bob)
        holding = asyncio.create_task(call.hold())
        reinvite = await peer.requests.get()
        assert "100rel" not in reinvite.request.headers.values("Supported")

        def cancelled(cancel: Request) -> None:
            if answers_cancel:
                reinvite.respond(487)

        reinvite.on_cancel = cancelled
        reinvite.respond(180)
        if answers_cancel:
            with pytest.raises(ChangeRefused, match="487"):
                await holding
            assert call.state is CallState.CONFIRMED
            return
        with pytest.raises(CallError, match="the other side is gone"):
            await holding
        (await peer.requests.get()).respond(200)
        assert call.state is CallState.ENDED

    with_peer(test)
