"""Before the answer: reliable provisional responses, early media, UPDATE, forks with several offers and answers."""

from __future__ import annotations

import asyncio

import pytest

from softphone.calls.call import CallState
from softphone.calls.dialog_call import DialogCall
from softphone.calls.incoming import IncomingCall
from softphone.errors import CallRejected
from softphone.events import CallEarlyMedia, EndedBy
from softphone.phone import Softphone
from softphone.sip.dialog import Dialog
from softphone.sip.endpoint import ClientTransaction, ServerTransaction
from softphone.sip.headers import Headers
from softphone.sip.message import Response
from tests.softphone.peers import SDP, Pair, Peer, between, with_peer
from tests.softphone.support import FakeMedia

RELIABLE = ("Require", "100rel")


def contact(peer: Peer, *more: tuple[str, str]) -> Headers:
    return Headers.of(("Contact", str(peer.contact)), *more)


async def dialled(peer: Peer, bob: Softphone, *, late_offer: bool = False) -> tuple[DialogCall, ServerTransaction]:
    call = await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}", late_offer=late_offer)
    return call, await peer.requests.get()


def test_what_an_invite_says_about_us() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        _, invite = await dialled(peer, bob)
        headers = invite.request.headers
        assert headers.values("Supported") == ["100rel", "replaces", "norefersub", "timer"]
        assert {"PRACK", "UPDATE", "REFER", "NOTIFY", "INFO"} < set(headers.values("Allow"))
        assert (headers.get("Session-Expires"), headers.get("Min-SE")) == ("1800", None)
        invite.respond(603)

    with_peer(test)


@pytest.mark.parametrize("described", [True, False])
def test_a_reliable_response_is_confirmed_once(described: bool) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, invite = await dialled(peer, bob)
        more = (RELIABLE, ("RSeq", "41"), *([SDP] if described else []))
        ringing = invite.respond(180, to_tag="p", headers=contact(peer, *more), body=b"answer" if described else b"")
        invite.send(ringing)
        prack = await peer.requests.get()
        assert prack.request.method == "PRACK"
        assert (prack.request.headers.get("RAck"), prack.request.body) == ("41 1 INVITE", b"")
        prack.respond(200)
        await call.ringing(1)
        assert media[0].running is described
        too_early = invite.respond(183, to_tag="p", headers=contact(peer, RELIABLE, ("RSeq", "43")))
        await asyncio.sleep(1)
        assert peer.requests.empty()
        invite.respond(183, to_tag="p", headers=contact(peer, RELIABLE, ("RSeq", "42")))
        for _ in range(2):
            following = await peer.requests.get()
            following.respond(200)
            invite.send(too_early)
        assert following.request.headers.get("RAck") == "43 1 INVITE"
        # An answer that was given reliably holds; what the 2xx says again does not count.
        body = b"" if described else b"answer"
        invite.respond(200, to_tag="p", headers=contact(peer, *([] if described else [SDP])), body=body)
        await call.answered(1)
        assert call.remote_sdp == "answer"
        assert media[0].log.count("accept(answer)") == 1

    with_peer(test)


def test_early_media_of_two_branches_and_the_one_that_answers_wins() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        events = bob.events()
        call, invite = await dialled(peer, bob)
        for tag, rseq in (("one", "1"), ("two", "9")):
            invite.respond(
                183, to_tag=tag, headers=contact(peer, RELIABLE, ("RSeq", rseq), SDP), body=f"answer {tag}".encode()
            )
            prack = await peer.requests.get()
            assert (prack.request.to.tag, prack.request.headers.get("RAck")) == (tag, f"{rseq} 1 INVITE")
            prack.respond(200)
        await events.wait_for(CallEarlyMedia, 1)
        assert call.state is CallState.CALLING
        [only] = media
        assert only.running
        assert only.log[-1] == "accept(answer two)"
        invite.respond(199, to_tag="three", headers=contact(peer))
        invite.respond(200, to_tag="one", headers=contact(peer))
        await call.answered(1)
        assert (only.log[-1], call.remote_sdp) == ("accept(answer one)", "answer one")
        await asyncio.sleep(40)  # the other branch is forgotten when it can answer no more
        assert len(bob._running().dialogs) == 1

    with_peer(test)


def test_a_branch_that_gives_up_leaves_the_others() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, invite = await dialled(peer, bob)
        early = {}
        for tag in ("one", "two", "three"):
            response = invite.respond(180, to_tag=tag, headers=contact(peer))
            early[tag] = Dialog.as_callee(invite.request, tag, peer.contact)
            assert response.status == 180
        await call.ringing(1)
        assert (await peer.final(early["one"].request("BYE"), bob)).status == 200
        invite.respond(199, to_tag="two")
        await asyncio.sleep(0.1)
        assert {dialog.remote_tag for dialog in bob._running().dialogs} == {"three"}
        assert call.state is CallState.RINGING
        invite.respond(486, to_tag="three")
        with pytest.raises(CallRejected, match="486"):
            await call.answered(1)
        assert not bob._running().dialogs

    with_peer(test)


def test_the_number_of_branches_is_bounded() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, invite = await dialled(peer, bob)
        for number in range(100):
            invite.respond(180, to_tag=f"t{number}", headers=contact(peer))
        await call.ringing(1)
        await asyncio.sleep(0.1)
        assert len(bob._running().dialogs) == 16
        assert bob.counters["early-dialogs-full"] == 84
        invite.respond(200, to_tag="t99", headers=contact(peer, SDP), body=b"answer")
        await call.answered(1)
        assert (await peer.acks.get()).to.tag == "t99"

    with_peer(test)


def test_a_late_offer_of_ours_in_the_2xx() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, invite = await dialled(peer, bob, late_offer=True)
        assert (invite.request.body, invite.request.content_type) == (b"", "")
        invite.respond(200, to_tag="p", headers=contact(peer, SDP), body=b"their offer")
        ack = await peer.acks.get()
        assert (ack.body, ack.content_type) == (b"answer 1 of b@::1", "application/sdp")
        await call.answered(1)
        assert (call.remote_sdp, call.local_sdp) == ("their offer", "answer 1 of b@::1")

    with_peer(test)


@pytest.mark.parametrize("offer", [b"incompatible", b""])
def test_an_offer_that_cannot_be_used_is_refused_in_the_ack(offer: bytes) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, invite = await dialled(peer, bob, late_offer=True)
        invite.respond(200, to_tag="p", headers=contact(peer, *([SDP] if offer else [])), body=offer)
        assert (await peer.acks.get()).body == (b"refusal of b@::1" if offer else b"")
        (await peer.requests.get()).respond(200)
        end = await call.ended(1)
        assert (end.by, end.status) == (EndedBy.FAILURE, 488)

    with_peer(test)


def test_late_offers_of_several_branches_each_get_an_answer() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, invite = await dialled(peer, bob, late_offer=True)
        for tag in ("one", "two"):
            more = contact(peer, RELIABLE, ("RSeq", "1"), SDP)
            invite.respond(183, to_tag=tag, headers=more, body=f"offer {tag}".encode())
            prack = await peer.requests.get()
            assert (prack.request.to.tag, prack.request.body) == (tag, b"answer 1 of b@::1")
            prack.respond(200)
        first, second = media
        invite.respond(200, to_tag="two", headers=contact(peer))
        await call.answered(1)
        assert (await peer.acks.get()).body == b""
        assert call.media is second
        assert (call.remote_sdp, second.running) == ("offer two", True)
        await asyncio.sleep(40)
        assert first.closed
        assert not second.closed

    with_peer(test)


def test_an_update_before_the_answer() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, invite = await dialled(peer, bob)
        invite.respond(180, to_tag="p", headers=contact(peer))
        await call.ringing(1)
        dialog = Dialog.as_callee(invite.request, "p", peer.contact)
        clash = await peer.final(dialog.request("UPDATE", Headers.of(SDP), b"new offer"), bob)
        assert clash.status == 491  # our own offer is open
        refresh = await peer.final(dialog.request("UPDATE"), bob)
        assert (refresh.status, refresh.body) == (200, b"")
        more = contact(peer, RELIABLE, ("RSeq", "1"), SDP)
        invite.respond(183, to_tag="p", headers=more, body=b"answer")
        (await peer.requests.get()).respond(200)
        updated = await peer.final(dialog.request("UPDATE", Headers.of(SDP), b"new offer"), bob)
        assert (updated.status, updated.body) == (200, b"answer 2 of b@::1")
        bad = await peer.final(dialog.request("UPDATE", Headers.of(SDP), b"incompatible"), bob)
        assert bad.status == 488
        invite.respond(200, to_tag="p", headers=contact(peer))
        await call.answered(1)
        assert call.remote_sdp == "new offer"

    with_peer(test)


# the callee's side


async def called(
    peer: Peer, bob: Softphone, *headers: tuple[str, str], body: bytes = b"offer"
) -> tuple[IncomingCall, ClientTransaction]:
    transaction = await peer.ask(peer.invite(*headers, body=body), bob)
    return await anext(bob.incoming()), transaction


async def heard(transaction: ClientTransaction, status: int) -> Response:
    async with asyncio.timeout(60):
        async for response in transaction.responses():
            if response.status == status:
                return response
    raise AssertionError(f"no {status}")


async def prack(peer: Peer, bob: Softphone, dialog: Dialog, response: Response, body: bytes = b"") -> Response:
    rack = ("RAck", f"{response.headers.get('RSeq')} {response.cseq}")
    return await peer.final(dialog.request("PRACK", Headers.of(rack, *([SDP] if body else [])), body), bob)


@pytest.mark.parametrize("demanded", [True, False])
def test_early_media_goes_reliably_where_the_caller_can(demanded: bool) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, transaction = await called(peer, bob, ("Require" if demanded else "Supported", "100rel"))
        ringing = asyncio.create_task(call.ring())
        ring = await heard(transaction, 180)
        assert ("RSeq" in ring.headers, ring.body) == (demanded, b"")  # a ring alone is worth it only on demand
        dialog = Dialog.as_caller(transaction.request, ring, peer.contact)
        if demanded:
            assert (await prack(peer, bob, dialog, ring)).status == 200
        await ringing
        playing = asyncio.create_task(call.early_media())
        early = await heard(transaction, 183)
        assert early.headers.get("Require") == "100rel"
        assert early.body == b"answer 1 of b@::1"
        await playing
        assert media[0].running
        answering = asyncio.create_task(call.answer())
        again = await heard(transaction, 183)
        assert again.headers.get("RSeq") == early.headers.get("RSeq")
        assert not answering.done()  # a 2xx must not overtake the description
        assert (await prack(peer, bob, dialog, early)).status == 200
        assert (await prack(peer, bob, dialog, early)).status == 481
        await answering
        answer = await heard(transaction, 200)
        assert answer.body == b""
        await peer.ack(dialog, bob)
        await call.answered(1)

    with_peer(test)


def test_early_media_for_a_caller_without_100rel_is_said_again_in_the_2xx() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, transaction = await called(peer, bob)
        await call.early_media()
        early = await heard(transaction, 183)
        assert "RSeq" not in early.headers
        await call.answer()
        assert (await heard(transaction, 200)).body == early.body == b"answer 1 of b@::1"

    with_peer(test)


@pytest.mark.parametrize("in_prack", ["a new offer", "incompatible"])
def test_a_prack_may_bring_a_new_offer(in_prack: str) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, transaction = await called(peer, bob, ("Supported", "100rel"))
        await call.early_media()
        early = await heard(transaction, 183)
        dialog = Dialog.as_caller(transaction.request, early, peer.contact)
        confirmed = await prack(peer, bob, dialog, early, in_prack.encode())
        good = in_prack == "a new offer"
        assert (confirmed.status, confirmed.body) == ((200, b"answer 2 of b@::1") if good else (488, b""))
        assert call.remote_sdp == (in_prack if good else "offer")
        await call.answer()
        assert (await heard(transaction, 200)).status == 200

    with_peer(test)


@pytest.mark.parametrize("answer", [b"answer", b"incompatible", b""])
def test_a_late_offer_in_a_reliable_response_is_answered_in_the_prack(answer: bytes) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, transaction = await called(peer, bob, ("Require", "100rel"), body=b"")
        ringing = asyncio.create_task(call.ring())
        ring = await heard(transaction, 180)
        assert ring.body == b"offer 1 of b@::1"
        await ringing
        dialog = Dialog.as_caller(transaction.request, ring, peer.contact)
        confirmed = await prack(peer, bob, dialog, ring, answer)
        if answer != b"answer":
            assert confirmed.status == 488
            assert (await heard(transaction, 488)).final
            assert (await call.ended(1)).status == 488
            return
        await asyncio.sleep(0.01)
        assert (media[0].running, call.remote_sdp) == (True, "answer")
        await call.answer()
        assert (await heard(transaction, 200)).body == b""
        await peer.ack(dialog, bob)
        await call.answered(1)

    with_peer(test)


def test_a_caller_that_never_confirms_gets_a_refusal() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, transaction = await called(peer, bob, ("Require", "100rel"))
        await call.ring()
        began = asyncio.get_running_loop().time()
        assert (await heard(transaction, 504)).final
        assert asyncio.get_running_loop().time() - began == pytest.approx(32)
        assert (await call.ended(1)).by is EndedBy.FAILURE

    with_peer(test)


def test_an_update_while_we_still_owe_the_answer() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, transaction = await called(peer, bob)
        await call.ring()
        dialog = Dialog.as_caller(transaction.request, await heard(transaction, 180), peer.contact)
        clash = await peer.final(dialog.request("UPDATE", Headers.of(SDP), b"new offer"), bob)
        assert clash.status == 500
        assert 0 <= int(clash.headers.get("Retry-After") or "-1") <= 10
        again = await peer.final(dialog.request("INVITE", Headers.of(SDP), b"new offer"), bob)
        assert again.status == 500
        assert (await peer.final(dialog.request("UPDATE"), bob)).status == 200

    with_peer(test)


def test_early_media_between_two_phones_of_ours() -> None:
    async def test(pair: Pair) -> None:
        call, incoming = await pair.dial()
        await incoming.ring()
        await incoming.early_media()
        await call.ringing(1)
        await asyncio.sleep(0.1)
        assert [m.running for m in pair.a_media + pair.b_media] == [True, True]
        await incoming.answer()
        await call.answered(1)
        await incoming.answered(1)
        assert not pair.alice.counters
        assert not pair.bob.counters

    between(test)
