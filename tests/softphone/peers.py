"""Who calls whom in tests of calls: two phones of ours, or one and a foreign, odd peer made of a bare endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from softphone.calls.dialog_call import DialogCall
from softphone.calls.incoming import IncomingCall
from softphone.network.sockets import DirectSockets
from softphone.phone import Softphone
from softphone.sip.dialog import Dialog
from softphone.sip.endpoint import ClientTransaction, Endpoint, ServerTransaction
from softphone.sip.headers import Headers, NameAddr
from softphone.sip.message import Request, Response
from softphone.sip.transport import Transport
from softphone.sip.uri import SipUri
from tests.softphone.support import FakeMedia, account, counting, simulate

SDP = ("Content-Type", "application/sdp")


class Pair:
    """Alice, Bob, and the audio that they opened."""

    def __init__(self, **settings: Any) -> None:
        self.a_media: list[FakeMedia] = []
        self.b_media: list[FakeMedia] = []
        self.alice = Softphone(account("alice", **settings), media=FakeMedia.factory(self.a_media, "a"))
        self.bob = Softphone(account("bob", **settings), media=FakeMedia.factory(self.b_media, "b"))

    async def __aenter__(self) -> Pair:
        await self.alice.start()
        await self.bob.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.alice.close()
        await self.bob.close()
        assert all(media.closed for media in self.a_media + self.b_media)

    async def dial(self) -> tuple[DialogCall, IncomingCall]:
        call = await self.alice.dial(f"sip:bob@[::1]:{self.bob.port}")
        return call, await anext(self.bob.incoming())

    async def talk(self) -> tuple[DialogCall, IncomingCall]:
        call, incoming = await self.dial()
        await incoming.answer()
        await call.answered(5)
        await incoming.answered(5)
        return call, incoming


def between(test: Callable[[Pair], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def work() -> None:
        async with Pair(**settings) as pair:
            await test(pair)

    simulate(work)


class Peer:
    """A foreign phone: a bare endpoint that does what a test tells it."""

    def __init__(self, host: str = "::1") -> None:
        self.host = host
        self.requests: asyncio.Queue[ServerTransaction] = asyncio.Queue()
        self.acks: asyncio.Queue[Request] = asyncio.Queue()
        self.endpoint = Endpoint(
            DirectSockets(), host, random=counting(),
            on_request=self.requests.put_nowait, on_ack=self.acks.put_nowait,
        )  # fmt: skip

    async def __aenter__(self) -> Peer:
        await self.endpoint.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.endpoint.close()

    @property
    def contact(self) -> NameAddr:
        return NameAddr(SipUri(self.host, "peer", self.endpoint.port))

    def invite(self, *extra: tuple[str, str], body: bytes = b"offer", method: str = "INVITE") -> Request:
        lines = [
            ("From", "<sip:peer@example.org>;tag=p"),
            ("To", "<sip:bob@example.org>"),
            ("Call-ID", "foreign"),
            ("CSeq", f"1 {method}"),
            ("Contact", str(self.contact)),
            *([SDP] if body else []),
        ]
        given = {name for name, _ in extra}
        lines = [line for line in lines if line[0] not in given]
        return Request(method=method, uri=SipUri(self.host, "bob"), headers=Headers.of(*lines, *extra), body=body)

    async def ask(self, request: Request, phone: Softphone) -> ClientTransaction:
        target = (await self.endpoint.locate(SipUri(self.host, None, phone.port), Transport.UDP))[0]
        return await self.endpoint.request(request, await self.endpoint.flow(target))

    async def final(self, request: Request, phone: Softphone) -> Response:
        return await (await self.ask(request, phone)).final()

    async def ack(self, dialog: Dialog, phone: Softphone, body: bytes = b"") -> None:
        target = (await self.endpoint.locate(SipUri(self.host, None, phone.port), Transport.UDP))[0]
        extra = Headers.of(SDP) if body else Headers()
        ack = dialog.request("ACK", extra, body, sequence=dialog.local_sequence)
        self.endpoint.send_ack(ack, await self.endpoint.flow(target))


def with_peer(test: Callable[[Peer, Softphone, list[FakeMedia]], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a test between a peer and Bob, whose account has these settings."""

    async def work() -> None:
        media: list[FakeMedia] = []
        async with Peer() as peer, Softphone(account("bob", **settings), media=FakeMedia.factory(media, "b")) as bob:
            await test(peer, bob, media)

    simulate(work)


async def accepted(peer: Peer, bob: Softphone, body: bytes = b"offer") -> tuple[IncomingCall, Dialog, Response]:
    """A call from the peer that Bob has answered, not yet acknowledged."""
    invite = peer.invite(body=body)
    transaction = await peer.ask(invite, bob)
    call = await anext(bob.incoming())
    await call.answer()
    response = await transaction.final()
    return call, Dialog.as_caller(transaction.request, response, peer.contact), response
