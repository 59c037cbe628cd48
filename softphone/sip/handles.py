"""A transaction as the user agent holds it: a request of ours and what comes back, a peer's request to be answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from softphone.errors import TransportError
from softphone.sip.headers import Headers
from softphone.sip.message import Request, Response, respond
from softphone.sip.transaction import Key
from softphone.sip.transport import Flow, Target


class Sender(Protocol):
    """What the handles need of the endpoint."""

    def new_tag(self) -> str: ...

    def send_cancel(self, invite: ClientTransaction, headers: Headers | None) -> None: ...

    def send_response(self, key: Key, response: Response) -> None: ...


class ClientTransaction:
    """A request of ours and what comes back.

    No answer reads as a 408, a dead transport as a 503 (RFC 3261 section 8.1.3.1). While there are ``alternatives``,
    these two, and a 503 of the server, are not told: the request goes to the next target instead (RFC 3263 section
    4.3).
    """

    def __init__(self, request: Request, alternatives: Sequence[Target], sender: Sender) -> None:
        self.unsent = request
        "Without Via, as it goes to the next target."
        self.alternatives = list(alternatives)
        self.settled = False
        "No other target any more: a response came, or the request was given up."
        self._sender = sender
        self._queue: asyncio.Queue[Response | None] = asyncio.Queue()
        self._over = False
        self.key: Key
        self.request: Request
        "As it was sent, to the latest target."
        self.flow: Flow
        self.flows: dict[Key, Flow] = {}
        "The ways of this transaction and of those before it, which may still have to acknowledge."

    def begin(self, key: Key, request: Request, flow: Flow) -> None:
        """It goes to a target, in a transaction of the layer of its own."""
        self.key, self.request, self.flow = key, request, flow
        self.flows[key] = flow

    async def responses(self) -> AsyncIterator[Response]:
        """All responses until the transaction is over; a 2xx to INVITE may come more than once (forking)."""
        while (response := await self.next()) is not None:
            yield response

    async def next(self) -> Response | None:
        """The next response; None when there will be no more."""
        if self._over:
            return None
        response = await self._queue.get()
        self._over = response is None
        return response

    async def final(self) -> Response:
        """The first final response."""
        async for response in self.responses():
            if response.final:
                return response
        raise TransportError("the transaction was given up before an answer came")

    async def cancel(self, headers: Headers | None = None) -> None:
        """Send CANCEL for this INVITE; its outcome shows as the INVITE's final response (487, as a rule)."""
        self.settled = True
        self._sender.send_cancel(self, headers)

    def put(self, response: Response | None) -> None:
        """A response came, or (None) the last one has."""
        self._queue.put_nowait(response)


class ServerTransaction:
    """A peer's request, to be answered."""

    def __init__(self, key: Key, request: Request, sender: Sender, flow: Flow) -> None:
        self.key = key
        self.request = request
        self.flow = flow
        self.final: Response | None = None
        "The final response, once sent."
        self.on_cancel: Callable[[Request], None] | None = None
        self._sender = sender

    def respond(
        self, status: int, reason: str | None = None, *,
        to_tag: str | None = None, headers: Headers | None = None, body: bytes = b"",
    ) -> Response:  # fmt: skip
        """Answer. After a final response only the same 2xx may be sent again."""
        tag = to_tag if to_tag is not None else self._sender.new_tag()
        response = respond(self.request, status, reason, to_tag=tag, headers=headers, body=body)
        self.send(response)
        return response

    def send(self, response: Response) -> None:
        if response.final:
            self.final = response
        self._sender.send_response(self.key, response)
