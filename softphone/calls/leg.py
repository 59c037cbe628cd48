"""One dialog of a call: what was agreed in it, and what its other side understands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from softphone.media.offer_answer import Direction, NotAcceptable
from softphone.sip.dialog import Dialog
from softphone.sip.errors import SipParseError
from softphone.sip.exchange import Exchange, Turn
from softphone.sip.headers import Headers
from softphone.sip.message import Message, Request, Response
from softphone.sip.reliable import ReliableReceiver
from softphone.sip.transport import Flow
from softphone.user_agent.agent import Agent, Media
from softphone.user_agent.capabilities import SDP

CREDENTIALS = ("Authorization", "Proxy-Authorization")


class Leg:
    """One dialog of a call. A call that forks has several until one of them answers."""

    def __init__(self, agent: Agent, dialog: Dialog, media: Media | None, turn: Turn, local_sdp: str = "") -> None:
        self.dialog = dialog
        self.media = media
        "Shared with other legs where all of them answer one offer of ours."
        self.exchange = Exchange(turn)
        self.received = ReliableReceiver()
        self.wish = Direction.SENDRECV
        "Ours for the speech; SENDONLY: we hold the other side."
        self.held = False
        "The other side holds us."
        self.local_sdp = local_sdp
        "The latest session description that we sent."
        self.remote_sdp = ""
        self.preview = b""
        "An answer that came in a provisional response that is not reliable: the 2xx repeats it, or may leave it out."
        self.allowed: frozenset[str] = frozenset()
        "Methods that the other side takes."
        self._agent = agent
        self._acks: dict[int, tuple[bytes, Flow]] = {}

    def learn(self, message: Message) -> None:
        """What the other side says about itself in INVITE, UPDATE and their responses."""
        try:
            methods = message.headers.values("Allow")
        except SipParseError:
            return  # it says nothing that can be understood
        if methods:
            self.allowed = frozenset(method.upper() for method in methods)

    # session descriptions; all of these raise NotAcceptable and SdpError, and then nothing has changed

    def offer(self) -> str:
        """A description to offer. Who is held and holds in turn wants nothing (RFC 3264 section 8.4)."""
        direction = self.wish
        if self.held and direction is Direction.SENDONLY:
            direction = Direction.INACTIVE
        self.local_sdp = self._media.offer(direction)
        self.exchange.offered(Turn.OURS)
        return self.local_sdp

    def offered(self, offer: bytes) -> str:
        """The other side's offer; the answer is made at once, and `Exchange.settled` when it is sent."""
        text = offer.decode("utf-8", "replace")
        self.local_sdp = self._media.answer(text, self.wish)
        self.remote_sdp = text
        self.held = not self._media.remote_direction.receives
        self.exchange.offered(Turn.THEIRS)
        return self.local_sdp

    def answer(self, offer: bytes) -> str:
        """The answer to an offer that came, to be sent at once."""
        text = self.offered(offer)
        self.exchange.settled()
        return text

    def accept(self, answer: bytes) -> None:
        """The other side's answer to our offer."""
        self.exchange.settled()
        if not answer:
            raise NotAcceptable("the answer to our offer is missing")
        text = answer.decode("utf-8", "replace")
        self._media.accept(text)
        self.remote_sdp = text
        if not (self.held and self.wish is Direction.SENDONLY):  # then we offered nothing, and the answer says nothing
            self.held = not self._media.remote_direction.receives

    @property
    def _media(self) -> Media:
        if self.media is None:
            raise NotAcceptable("there is no audio any more")
        return self.media

    # requests

    async def request(self, method: str, headers: Callable[[], Headers] = Headers, body: bytes = b"") -> Response:
        """The final response to a request in the dialog other than INVITE. Raises TransportError, SipStateError.

        ``headers`` are asked for again after every challenge.
        """
        return await self._agent.complete(lambda: self.dialog.request(method, headers(), body), self.dialog.first_hop)

    def acknowledge(self, invite: Request, body: str = "") -> Awaitable[None]:
        """Send the ACK for a 2xx, with our answer where the 2xx had the offer."""
        headers = Headers.of(("Content-Type", SDP)) if body else Headers()
        ack = self.dialog.request("ACK", headers, body.encode(), sequence=invite.cseq.number)
        lines = ack.headers
        for name in CREDENTIALS:
            lines = lines.add(name, *invite.headers.raw(name))
        return self._send_ack(replace(ack, headers=lines))

    async def _send_ack(self, ack: Request) -> None:
        flow = await self._agent.flow_to(self.dialog.first_hop)
        self._acks[ack.cseq.number] = (self._agent.endpoint.send_ack(ack, flow), flow)

    def acknowledged(self, response: Response) -> bool:
        """Whether a 2xx was acknowledged already: then that ACK was lost, and is sent again."""
        ack = self._acks.get(response.cseq.number)
        if ack is not None:
            self._agent.endpoint.send_raw(*ack)
        return ack is not None
