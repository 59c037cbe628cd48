"""Transfers, both roles; calls that take the place of others (RFC 3515, 3891)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from softphone.calls.call import Call, CallState
from softphone.calls.incoming import IncomingCall
from softphone.config import Consent
from softphone.errors import CallError, ChangeRefused
from softphone.events import CallReplaced, CallTransferred, CallTransferRequested, EndedBy, TransferProgress
from softphone.phone import Softphone
from softphone.sip.dialog import Dialog
from softphone.sip.endpoint import ServerTransaction
from softphone.sip.headers import Headers
from softphone.sip.message import Request
from tests.softphone.calls.test_renegotiation import Tone, talking
from tests.softphone.peers import Pair, Peer, between, with_peer
from tests.softphone.support import FakeMedia, account, simulate


@asynccontextmanager
async def carol(**settings: Any) -> AsyncIterator[Softphone]:
    async with Softphone(account("carol", **settings), media=FakeMedia.factory([], "c")) as phone:
        yield phone


def at(phone: Softphone) -> str:
    return f"sip:{phone.account.user}@[::1]:{phone.port}"


async def answered(phone: Softphone) -> IncomingCall:
    call = await anext(phone.incoming())
    await call.ring()
    await call.answer()
    await call.answered(1)
    return call


@pytest.mark.parametrize("consent", [Consent.ACCEPT, Consent.ASK])
def test_blind_transfer(consent: Consent) -> None:
    async def test(pair: Pair) -> None:
        async with carol() as third:
            told, heard = pair.alice.events(), pair.bob.events()
            call, incoming = await pair.talk()
            speech = Tone()
            incoming.play(speech)
            answering = asyncio.create_task(answered(third))
            transferring = asyncio.create_task(call.transfer(at(third)))
            if consent is Consent.ASK:
                asked = await heard.wait_for(CallTransferRequested)
                assert (asked.target, asked.referred_by) == (at(third), "<sip:alice@example.org>")
                request = incoming.transfer_request
                assert request is not None
                fresh = await request.accept()
                assert (await heard.wait_for(CallTransferred)).to == fresh.id
                assert incoming.transfer_request is None
                with pytest.raises(CallError, match="decided already"):
                    request.refuse()
            await transferring
            assert [(await told.wait_for(TransferProgress)).status for _ in range(3)] == [100, 180, 200]
            assert (await call.ended(1)).by is EndedBy.LOCAL
            assert (await incoming.ended(1)).by is EndedBy.REMOTE
            theirs = await answering
            [ours] = pair.bob.calls
            await ours.answered(1)
            assert pair.b_media[-1].source is speech
            assert theirs._invite.request.headers.get("Referred-By") == "<sip:alice@example.org>"
            await theirs.hangup()
            await ours.ended(1)
            assert not pair.alice.counters + pair.bob.counters
            assert not pair.bob._running().dialogs

    between(test, transfers=consent)


@pytest.mark.parametrize("refused_by", ["policy", "person", "target", "nobody decides"])
def test_a_transfer_that_fails_leaves_the_call(refused_by: str) -> None:
    async def test(pair: Pair) -> None:
        async with carol() as third:
            heard = pair.bob.events()
            call, incoming = await pair.talk()
            transferring = asyncio.create_task(call.transfer(at(third)))
            if refused_by == "target":
                await (await anext(third.incoming())).reject(486)
            elif refused_by == "person":
                await heard.wait_for(CallTransferRequested)
                assert incoming.transfer_request is not None
                incoming.transfer_request.refuse()
            with pytest.raises(ChangeRefused, match="486" if refused_by == "target" else "603"):
                await transferring
            await asyncio.sleep(1)
            assert (call.state, incoming.state) == (CallState.CONFIRMED, CallState.CONFIRMED)
            assert incoming.transfer_request is None
            await call.hold()

    between(test, transfers={"policy": Consent.REFUSE, "target": Consent.ACCEPT}.get(refused_by, Consent.ASK))


def test_attended_transfer() -> None:
    async def test(pair: Pair) -> None:
        async with carol() as third:
            replaced = third.events()
            call, incoming = await pair.talk()
            await call.hold()
            answering = asyncio.create_task(answered(third))
            consultation = await pair.alice.dial(at(third))
            await consultation.answered(1)
            asked = await answering
            speech = Tone()
            asked.play(speech)
            await call.transfer_to(consultation)
            for half in (call, consultation, incoming, asked):
                await half.ended(1)
            assert pair.alice.calls == []
            [b], [c] = pair.bob.calls, third.calls
            await b.answered(1)
            await c.answered(1)
            assert asked.replaced_by is c
            assert (await replaced.wait_for(CallReplaced)).by == c.id
            assert b.id == c.id
            assert not b.held
            await c.hangup()
            await b.ended(1)
            assert not pair.alice.counters + pair.bob.counters + third.counters

    between(test, transfers=Consent.ACCEPT)


def test_what_cannot_be_transferred() -> None:
    async def test(pair: Pair) -> None:
        call, _ = await pair.talk()
        ringing, _ = await pair.dial()
        with pytest.raises(CallError, match="not answered"):
            await call.transfer_to(ringing)
        with pytest.raises(CallError, match="not answered"):
            await call.transfer_to(call)
        with pytest.raises(CallError, match="cannot transfer: the call is calling"):
            await ringing.transfer("sip:x@y")
        transferring = asyncio.create_task(call.transfer("sip:x@y"))
        await asyncio.sleep(0)
        with pytest.raises(CallError, match="under way"):
            await call.transfer("sip:x@y")
        transferring.cancel()

    between(test)


# foreign transferees


async def referred(peer: Peer, call: Call) -> tuple[asyncio.Task[None], ServerTransaction]:
    transferring = asyncio.create_task(call.transfer("sip:x@example.org"))
    refer = await peer.requests.get()
    assert refer.request.method == "REFER"
    assert refer.request.headers.get("Refer-To") == "<sip:x@example.org>"
    return transferring, refer


def notify(dialog: Dialog, body: bytes, state: str = "active;expires=60", event: str = "refer") -> Any:
    lines = [("Event", event), ("Subscription-State", state), ("Content-Type", "message/sipfrag;version=2.0")]
    return dialog.request("NOTIFY", Headers.of(*lines), body)


def test_a_peer_that_tells_nothing_is_believed() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, _ = await talking(peer, bob)
        transferring, refer = await referred(peer, call)
        refer.respond(202, headers=Headers.of(("Refer-Sub", "false"), ("Contact", str(peer.contact))))
        bye = await peer.requests.get()
        assert bye.request.method == "BYE"
        bye.respond(200)
        await transferring

    with_peer(test)


@pytest.mark.parametrize("how", ["hangs up", "ends the subscription", "silence", "refuses", "hangs up before 202"])
def test_peers_that_transfer_oddly(how: str) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, dialog = await talking(peer, bob)
        transferring, refer = await referred(peer, call)
        if how == "refuses":
            refer.respond(405)
            with pytest.raises(ChangeRefused, match="405"):
                await transferring
            return
        # A NOTIFY may come before the response to the REFER.
        assert (await peer.final(notify(dialog, b"SIP/2.0 100 Trying\r\n"), bob)).status == 200
        refer.respond(202, headers=Headers.of(("Contact", str(peer.contact))))
        if how == "silence":
            with pytest.raises(ChangeRefused, match="408"):
                await transferring
            assert call.state is CallState.CONFIRMED
            assert (await peer.final(notify(dialog, b"SIP/2.0 200 OK\r\n"), bob)).status == 481
            return
        if how == "ends the subscription":
            assert (await peer.final(notify(dialog, b"nonsense"), bob)).status == 400
            assert (await peer.final(notify(dialog, b"", event="presence"), bob)).status == 489
            last = notify(dialog, b"SIP/2.0 180 Ringing\r\n", "terminated;reason=noresource")
            assert (await peer.final(last, bob)).status == 200
            (await peer.requests.get()).respond(200)
        else:
            await peer.final(dialog.request("BYE"), bob)
        await transferring
        assert call.state is CallState.ENDED

    with_peer(test)


# foreign transferors


def refer(dialog: Dialog, target: str, *more: tuple[str, str]) -> Any:
    return dialog.request("REFER", Headers.of(("Refer-To", target), *more))


def test_the_transferor_is_told_although_it_has_hung_up() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, dialog = await talking(peer, bob)
        async with carol() as third:
            response = await peer.final(refer(dialog, f"<{at(third)}>"), bob)
            assert response.status == 202
            told = await peer.requests.get()
            assert told.request.headers.get("Event") == f"refer;id={response.cseq.number}"
            assert (told.request.content_type, told.request.body) == ("message/sipfrag", b"SIP/2.0 100 Trying\r\n")
            told.respond(200)
            assert (await peer.final(dialog.request("BYE"), bob)).status == 200
            assert call.state is CallState.ENDED
            await answered(third)
            statuses = []
            while True:
                told = await peer.requests.get()
                told.respond(200)
                statuses.append(told.request.body[8:11])
                if (told.request.headers.get("Subscription-State") or "").startswith("terminated"):
                    break
            assert statuses[-1] == b"200"
            await asyncio.sleep(0.1)
            assert dialog.id.call_id not in {known.call_id for known in bob._running().dialogs}

    with_peer(test, transfers=Consent.ACCEPT)


def test_a_transferor_that_does_not_want_to_know_is_not_told() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        _, dialog = await talking(peer, bob)
        async with carol() as third:
            response = await peer.final(
                refer(dialog, f"<{at(third)}>", ("Refer-Sub", "false"), ("Require", "norefersub")), bob
            )
            assert (response.status, response.headers.get("Refer-Sub")) == (202, "false")
            await answered(third)
            await asyncio.sleep(1)
            assert peer.requests.empty()

    with_peer(test, transfers=Consent.ACCEPT)


@pytest.mark.parametrize(
    ("target", "status"), [("nonsense", 400), ("<tel:+1>", 416), ("<sip:x@y;method=BYE>", 403), ("<sip:x@y>", 202)]
)
def test_transfers_that_are_refused_at_once(target: str, status: int) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        _, dialog = await talking(peer, bob)
        assert (await peer.final(refer(dialog, target), bob)).status == status
        if status == 202:
            assert (await peer.final(refer(dialog, target), bob)).status == 603  # one after the other
        outside = peer.invite(("Refer-To", "<sip:x@y>"), ("Call-ID", "other"), method="REFER", body=b"")
        assert (await peer.final(outside, bob)).status == 403

    with_peer(test)


def test_a_target_that_cannot_be_reached_is_told() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, dialog = await talking(peer, bob)
        assert (await peer.final(refer(dialog, "<sip:x@192.0.2.1>"), bob)).status == 202
        while True:
            told = await peer.requests.get()
            told.respond(200)
            if told.request.body != b"SIP/2.0 100 Trying\r\n":
                break
        assert told.request.body == b"SIP/2.0 503 Service Unavailable\r\n"
        assert call.state is CallState.CONFIRMED

    with_peer(test, transfers=Consent.ACCEPT)


# INVITE with Replaces


@pytest.mark.parametrize(
    ("replaces", "status"),
    [("foreign;to-tag={to};from-tag=p;early-only", 486), ("foreign;to-tag={to};from-tag=x", 481), ("nonsense", 400)],
)
def test_replaces_that_is_refused(replaces: str, status: int) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, dialog = await talking(peer, bob)
        text = replaces.format(to=dialog.id.remote_tag)
        response = await peer.final(peer.invite(("Call-ID", "new"), ("Replaces", text)), bob)
        assert response.status == status
        assert bob.calls == [call]

    with_peer(test)


def test_a_call_of_ours_that_still_rings_may_be_replaced_and_one_of_theirs_not() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call = await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}")
        invite = await peer.requests.get()

        def cancelled(cancel: Request) -> None:
            invite.respond(487, to_tag="p")

        invite.on_cancel = cancelled
        invite.respond(180, to_tag="p", headers=Headers.of(("Contact", str(peer.contact))))
        await call.ringing(1)
        text = f"{call.id};to-tag={invite.request.from_.tag};from-tag=p"
        response = await peer.final(peer.invite(("Call-ID", "new"), ("Replaces", text)), bob)
        assert response.status == 200
        assert (await call.ended(1)).status == 487
        assert call.replaced_by in bob.calls

        await peer.ask(peer.invite(("Call-ID", "theirs")), bob)
        ringing = await anext(bob.incoming())
        await ringing.ring()
        tags = ringing._own.dialog.id
        text = f"theirs;to-tag={tags.local_tag};from-tag={tags.remote_tag}"
        response = await peer.final(peer.invite(("Call-ID", "newer"), ("Replaces", text)), bob)
        assert response.status == 481
        assert ringing.state is CallState.RINGING

    with_peer(test)


def test_closing_the_phone_in_the_middle_of_a_transfer_leaves_nothing() -> None:
    async def work() -> None:
        async with Pair(transfers=Consent.ACCEPT) as pair, carol() as third:
            call, _ = await pair.talk()
            transferring = asyncio.create_task(call.transfer(at(third)))
            await anext(third.incoming())
            await pair.bob.close()
            await pair.alice.close()
            await asyncio.gather(transferring, return_exceptions=True)

    simulate(work)
