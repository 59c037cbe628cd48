"""Calls in simulated time over loopback sockets: how they begin and end."""

from __future__ import annotations

import asyncio
import random
import socket
from functools import partial
from typing import Any

import pytest

from softphone.calls.call import CallState
from softphone.errors import CallError, CallRejected, SoftphoneError, TransportError
from softphone.events import CallEnded, EndedBy
from softphone.network.sockets import DirectSockets
from softphone.phone import Softphone
from softphone.sip.headers import Headers, NameAddr
from softphone.sip.transport import Transport
from softphone.sip.uri import SipUri
from tests.softphone.peers import SDP, Pair, Peer, accepted, between, with_peer
from tests.softphone.support import FakeMedia, account, simulate


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("caller_ends", [True, False])
def test_a_call(host: str, transport: str, caller_ends: bool) -> None:
    async def test(pair: Pair) -> None:
        address = f"[{host}]" if ":" in host else host
        call = await pair.alice.dial(f"sip:bob@{address}:{pair.bob.port};transport={transport}")
        incoming = await anext(pair.bob.incoming())
        await incoming.ring()
        await call.ringing(5)
        assert (call.state, incoming.state) == (CallState.RINGING, CallState.RINGING)
        await incoming.answer()
        await call.answered(5)
        await incoming.answered(5)
        [a], [b] = pair.a_media, pair.b_media
        assert (a.running, b.running) == (True, True)
        assert call.remote_sdp == incoming.local_sdp == f"answer 1 of b@{host}"
        ends, hears = (call, incoming) if caller_ends else (incoming, call)
        await ends.hangup()
        assert (await ends.ended(5)).by is EndedBy.LOCAL
        assert (await hears.ended(5)).by is EndedBy.REMOTE
        assert (a.closed, b.closed) == (True, True)
        assert call.statistics() == {"closed": True}
        assert not pair.alice.counters
        assert not pair.bob.counters

    between(test, local_host=host, transport=Transport(transport))


def test_reject() -> None:
    async def test(pair: Pair) -> None:
        call, incoming = await pair.dial()
        await incoming.reject(486)
        with pytest.raises(CallRejected, match="486 Busy Here"):
            await call.answered(5)
        assert await incoming.ended(1) == CallEnded(incoming.id, EndedBy.LOCAL, 486, "Busy Here")
        with pytest.raises(CallError, match="the call is ended"):
            await incoming.answer()
        with pytest.raises(CallError, match="no refusal"):
            await incoming.reject(200)

    between(test)


@pytest.mark.parametrize("rings", [True, False])
def test_cancel(rings: bool) -> None:
    async def test(pair: Pair) -> None:
        call, incoming = await pair.dial()
        if rings:
            await incoming.ring()
            await call.ringing(5)
        await call.hangup()
        assert (await call.ended(5)).status == 487
        end = await incoming.ended(5)
        assert (end.by, end.status) == (EndedBy.REMOTE, 487)
        await asyncio.sleep(40)
        assert not pair.alice.endpoint.layer.transactions
        assert not pair.bob.endpoint.layer.transactions

    between(test)


def test_cancel_before_any_answer_waits_for_one() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call = await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}")
        hanging_up = asyncio.create_task(call.hangup())
        invite = await peer.requests.get()
        cancelled = asyncio.Event()
        invite.on_cancel = lambda cancel: cancelled.set()
        await asyncio.sleep(3)
        assert not cancelled.is_set()
        invite.respond(180, to_tag="p")
        await cancelled.wait()
        invite.respond(487, to_tag="p")
        await hanging_up
        assert (await call.ended(1)).by is EndedBy.LOCAL

    with_peer(test)


def test_a_cancel_that_crosses_a_200_ends_in_ack_and_bye() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call = await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}")
        invite = await peer.requests.get()
        invite.respond(180, to_tag="p")
        await call.ringing(1)
        hanging_up = asyncio.create_task(call.hangup())
        headers = Headers.of(("Contact", str(peer.contact)), SDP)
        invite.respond(200, to_tag="p", headers=headers, body=b"answer")
        await peer.acks.get()
        bye = await peer.requests.get()
        assert bye.request.method == "BYE"
        bye.respond(200)
        await hanging_up
        assert (await call.ended(1)).status == 487

    with_peer(test)


def test_nobody_answers() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call = await bob.dial("sip:nobody@[::1]:9")
        with pytest.raises(CallRejected, match="408"):
            await call.answered(40)

    with_peer(test)


def test_who_cannot_be_reached_is_told_at_once() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        with pytest.raises(TransportError, match="cannot connect to ::1 port 9"):
            await bob.dial("sip:nobody@[::1]:9;transport=tcp")
        with pytest.raises(TransportError, match="IP versions differ"):
            await bob.dial("sip:nobody@192.0.2.1")
        with pytest.raises(TransportError, match="'sctp' is not supported"):
            await bob.dial("sip:nobody@[::1];transport=sctp")
        with pytest.raises(SoftphoneError):
            await bob.dial("sip:[nonsense")
        assert bob.calls == []
        await asyncio.sleep(0)
        assert all(m.closed for m in media)

    with_peer(test)


def test_two_branches_of_a_fork_answer_and_the_second_is_hung_up() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call = await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}")
        invite = await peer.requests.get()
        headers = Headers.of(("Contact", str(peer.contact)), SDP)
        invite.respond(180, to_tag="one", headers=headers)
        invite.respond(180, to_tag="two", headers=headers)
        invite.respond(200, to_tag="two", headers=headers, body=b"answer two")
        await call.answered(5)
        assert call.remote_sdp == "answer two"
        invite.send(invite.respond(200, to_tag="one", headers=headers, body=b"answer one"))
        assert {(await peer.acks.get()).to.tag for _ in range(2)} == {"one", "two"}
        bye = await peer.requests.get()
        assert (bye.request.method, bye.request.to.tag) == ("BYE", "one")
        bye.respond(200)
        assert call.state is CallState.CONFIRMED
        invite.respond(200, to_tag="two", headers=headers, body=b"answer two")
        while (await peer.acks.get()).to.tag != "two":
            pass
        hanging_up = asyncio.create_task(call.hangup())
        last = await peer.requests.get()
        assert last.request.to.tag == "two"
        last.respond(200)
        await hanging_up

    with_peer(test)


def test_the_answer_may_have_come_in_a_provisional_response_only() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call = await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}")
        invite = await peer.requests.get()
        headers = Headers.of(("Contact", str(peer.contact)))
        invite.respond(183, to_tag="p", headers=headers.add(*SDP), body=b"early answer")
        invite.respond(200, to_tag="p", headers=headers)
        await call.answered(5)
        assert call.remote_sdp == "early answer"

    with_peer(test)


def test_an_answer_that_cannot_be_used_is_acknowledged_and_hung_up() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call = await bob.dial(f"sip:peer@[::1]:{peer.endpoint.port}")
        invite = await peer.requests.get()
        headers = Headers.of(("Contact", str(peer.contact)), SDP)
        invite.respond(200, to_tag="p", headers=headers, body=b"incompatible")
        await peer.acks.get()
        (await peer.requests.get()).respond(200)
        end = await call.ended(5)
        assert (end.by, end.status, end.reason) == (EndedBy.FAILURE, 488, "no codec in common")

    with_peer(test)


@pytest.mark.parametrize(
    ("extra", "body", "status", "field"),
    [
        ([], b"incompatible", 488, "Warning"),
        ([], b"broken", 400, "Warning"),
        ([("Require", "100rel, precondition, nonsense")], b"offer", 420, "Unsupported"),
        ([("Content-Type", "text/plain")], b"offer", 415, "Accept"),
        ([("Content-Encoding", "gzip")], b"offer", 415, "Accept-Encoding"),
        ([("To", "<sip:bob@example.org>;tag=unknown")], b"offer", 481, "To"),
        ([("Contact", "*")], b"offer", 400, "To"),
    ],
)
def test_invites_that_are_refused(extra: list[tuple[str, str]], body: bytes, status: int, field: str) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        response = await peer.final(peer.invite(*extra, body=body), bob)
        assert response.status == status
        assert response.headers.get(field)
        assert response.to.tag
        assert bob.calls == []
        if status == 420:
            assert response.headers.values("Unsupported") == ["precondition", "nonsense"]

    with_peer(test)


@pytest.mark.parametrize(
    ("method", "status"),
    [("OPTIONS", 200), ("BYE", 481), ("SUBSCRIBE", 405), ("REGISTER", 405), ("UNHEARD", 501)],
)
def test_requests_outside_dialogs(method: str, status: int) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        response = await peer.final(peer.invite(method=method, body=b""), bob)
        assert response.status == status
        if status in (200, 405, 501):
            assert "INVITE" in response.headers.values("Allow")
        if status == 200:
            assert response.headers.values("Accept") == ["application/sdp"]

    with_peer(test)


def test_too_many_calls_are_busy() -> None:
    async def test(pair: Pair) -> None:
        await pair.dial()
        second = await pair.alice.dial(f"sip:bob@[::1]:{pair.bob.port}")
        with pytest.raises(CallRejected, match="486"):
            await second.answered(5)

    between(test, max_calls=1)


def test_a_late_offer() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, dialog, response = await accepted(peer, bob, b"")
        assert response.body == b"offer 1 of b@::1"
        assert not media[0].running
        await peer.ack(dialog, bob, b"late answer")
        await call.answered(5)
        assert (media[0].running, call.remote_sdp) == (True, "late answer")

    with_peer(test)


@pytest.mark.parametrize("answer", [b"", b"incompatible"])
def test_a_late_offer_without_usable_answer_is_hung_up(answer: bytes) -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, dialog, _ = await accepted(peer, bob, b"")
        await peer.ack(dialog, bob, answer)
        (await peer.requests.get()).respond(200)
        assert (await call.ended(5)).status == 488

    with_peer(test)


def test_a_200_is_repeated_until_its_ack_and_given_up_with_bye() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        invite = await peer.ask(peer.invite(), bob)
        call = await anext(bob.incoming())
        await call.answer()
        loop = asyncio.get_running_loop()
        began = loop.time()
        moments: list[float] = []
        while len(moments) < 5:
            response = await invite.next()
            assert response is not None
            if response.success:
                moments.append(loop.time() - began)
        assert moments == pytest.approx([0, 0.5, 1.5, 3.5, 7.5])
        bye = await peer.requests.get()
        assert bye.request.method == "BYE"
        assert loop.time() - began == pytest.approx(32)
        bye.respond(200)
        assert (await call.ended(5)).by is EndedBy.FAILURE

    with_peer(test)


def test_the_callee_does_not_say_bye_before_the_ack() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, dialog, _ = await accepted(peer, bob)
        hanging_up = asyncio.create_task(call.hangup())
        await asyncio.sleep(1)
        assert peer.requests.empty()
        await peer.ack(dialog, bob)
        bye = await peer.requests.get()
        assert bye.request.method == "BYE"
        bye.respond(200)
        await hanging_up

    with_peer(test)


def test_reinvites() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, dialog, _ = await accepted(peer, bob)
        early = await peer.final(dialog.request("INVITE", Headers.of(SDP), b"too early"), bob)
        assert early.status == 491
        dialog.local_sequence = 1
        await peer.ack(dialog, bob)
        await call.answered(5)
        dialog.local_sequence = 2

        moved = NameAddr(SipUri("::1", "moved", peer.endpoint.port))
        dialog.contact = moved
        again = await peer.final(dialog.request("INVITE", Headers.of(SDP), b"new offer"), bob)
        assert (again.status, again.body) == (200, b"answer 2 of b@::1")
        await peer.ack(dialog, bob)
        assert call.remote_sdp == "new offer"

        refused = await peer.final(dialog.request("INVITE", Headers.of(SDP), b"incompatible"), bob)
        assert (refused.status, call.state) == (488, CallState.CONFIRMED)

        late = await peer.final(dialog.request("INVITE"), bob)
        assert late.body == b"offer 3 of b@::1"
        await peer.ack(dialog, bob, b"answer in ACK")
        await asyncio.sleep(0.1)
        assert call.remote_sdp == "answer in ACK"

        options = await peer.final(dialog.request("OPTIONS"), bob)
        assert options.status == 200
        old = await peer.final(dialog.request("OPTIONS", sequence=2), bob)
        assert old.status == 500
        unknown = await peer.final(dialog.request("SUBSCRIBE"), bob)
        assert unknown.status == 405

        hanging_up = asyncio.create_task(call.hangup())
        bye = await peer.requests.get()
        assert bye.request.uri == moved.uri
        bye.respond(200)
        await hanging_up
        gone = await peer.final(dialog.request("OPTIONS"), bob)
        assert gone.status == 481

    with_peer(test)


def test_shutting_down_ends_calls_politely() -> None:
    async def work() -> None:
        pair = Pair()
        async with pair:
            _, talking = await pair.talk()
            _, ringing = await pair.dial()
            await ringing.ring()
            await pair.alice.close()
            assert (await talking.ended(5)).by is EndedBy.REMOTE
            assert (await ringing.ended(5)).status == 487
            with pytest.raises(SoftphoneError, match="not running"):
                await pair.alice.dial("bob")

    simulate(work)


def test_shutting_down_does_not_wait_for_a_dead_peer() -> None:
    async def work() -> float:
        pair = Pair()
        async with pair:
            await pair.talk()
            await pair.bob.endpoint.close()
            began = asyncio.get_running_loop().time()
            await pair.alice.close()
            return asyncio.get_running_loop().time() - began

    assert simulate(work) <= 4


def test_a_cancelled_dial_leaves_nothing_behind() -> None:
    async def test(pair: Pair) -> None:
        dialling = asyncio.create_task(pair.alice.dial("sip:bob@[2001:db8::1];transport=tcp"))
        for _ in range(3):
            await asyncio.sleep(0)
        dialling.cancel()
        with pytest.raises((asyncio.CancelledError, TransportError)):
            await dialling
        assert pair.alice.calls == []

    between(test)


def test_rings_again_every_minute_so_that_proxies_wait() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        invite = await peer.ask(peer.invite(), bob)
        call = await anext(bob.incoming())
        await call.ring()
        loop = asyncio.get_running_loop()
        began = loop.time()
        rings: list[float] = []
        while len(rings) < 3:
            response = await invite.next()
            if response is not None and response.status == 180:
                rings.append(loop.time() - began)
        assert rings == pytest.approx([0, 60, 120])

    with_peer(test)


class LossySocket(socket.socket):
    """A datagram socket on a bad network: things get lost, doubled or overtaken, but one in three gets through."""

    dice: random.Random
    late: list[tuple[bytes, Any]]
    lost = 0
    missed = 0
    "In a row: without a bound, all tries of a request are lost now and then, and the call fails as it must."

    def sendto(self, data: Any, *to: Any) -> int:
        fate = self.dice.random() if self.missed < 2 else 0.9
        self.missed = self.missed + 1 if fate < 0.5 else 0
        if fate < 0.2:
            self.late.append((bytes(data), to[-1]))
        elif fate < 0.5:
            self.lost += 1
        else:
            super().sendto(data, *to)
            if fate > 0.8:
                super().sendto(data, *to)
            while self.late:
                super().sendto(*self.late.pop())
        return len(data)


class LossySockets(DirectSockets):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.dice = random.Random(seed)
        self.made: list[LossySocket] = []

    async def udp(self, host: str, port: int) -> socket.socket:
        made = await super().udp(host, port)
        lossy = LossySocket(made.family, made.type, made.proto, made.detach())
        lossy.setblocking(False)
        lossy.dice, lossy.late = self.dice, []
        self.made.append(lossy)
        return lossy


def test_calls_over_a_network_that_loses_a_third() -> None:
    networks = [LossySockets(seed) for seed in range(20)]

    async def work(number: int, sockets: LossySockets) -> None:
        media: list[FakeMedia] = []
        async with (
            Softphone(account("bob"), sockets, media=FakeMedia.factory(media)) as bob,
            Softphone(account("alice"), sockets, media=FakeMedia.factory(media)) as alice,
        ):
            call = await alice.dial(f"sip:bob@[::1]:{bob.port}")
            async with asyncio.timeout(32):
                incoming = await anext(bob.incoming())
            await incoming.ring()
            await asyncio.sleep(3)
            await incoming.answer()
            await call.answered(31)
            await incoming.answered(31)
            assert [m.running for m in media] == [True, True]
            await (call if number % 2 else incoming).hangup()
            await call.ended(31)
            await incoming.ended(31)
            await asyncio.sleep(70)
            assert not alice.endpoint.layer.transactions
            assert not bob.endpoint.layer.transactions
            assert not alice._running().dialogs
            assert not bob._running().dialogs
        assert all(m.closed for m in media)

    for number, sockets in enumerate(networks):
        simulate(partial(work, number, sockets))
    # Which packets meet the dice first is not the same in every run; that many of them do is.
    assert sum(sock.lost + len(sock.late) for sockets in networks for sock in sockets.made) > 40


def test_a_flood_of_calls_is_bounded_and_spares_the_one_in_progress() -> None:
    async def test(peer: Peer, bob: Softphone, media: list[FakeMedia]) -> None:
        call, dialog, _ = await accepted(peer, bob)
        await peer.ack(dialog, bob)
        await call.answered(5)
        flow = await peer.endpoint.flow((await peer.endpoint.locate(SipUri("::1", None, bob.port), Transport.UDP))[0])
        for number in range(2000):
            invite = peer.invite(("Call-ID", f"flood{number}"), ("Via", f"SIP/2.0/UDP [::1]:9;branch=z9hG4bK{number}"))
            flow.send(bytes(invite))
            if number % 50 == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        assert len(bob.calls) == 8
        assert len(media) == 8
        assert len(bob.endpoint.layer.transactions) <= 1001
        assert call.state is CallState.CONFIRMED
        await asyncio.sleep(40)
        assert (await peer.final(dialog.request("OPTIONS"), bob)).status == 200

    with_peer(test)
