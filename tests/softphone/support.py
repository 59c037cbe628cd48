"""Helpers for tests of the phone: a loop with simulated time, fake audio, a small registrar."""

from __future__ import annotations

import asyncio
import itertools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from softphone.config import Account
from softphone.media.audio import AudioSink, AudioSource
from softphone.media.dtmf import DURATION, DigitMethod, parse_info
from softphone.media.events import MediaEvent
from softphone.media.ike_description import IkePeer
from softphone.media.offer_answer import Agreed, Direction, NotAcceptable
from softphone.media.recorder import CallRecorder
from softphone.media.sdp import SdpError
from softphone.network.sockets import DirectSockets, Sockets
from softphone.sip.auth import Challenge, Credentials, verify
from softphone.sip.endpoint import Endpoint, ServerTransaction
from softphone.sip.headers import Headers, NameAddr
from softphone.sip.location import Naptr, Srv
from softphone.sip.message import Request

Result = TypeVar("Result")


class _Leap(selectors.DefaultSelector):
    """Never waits: when no socket is ready, time jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            return super().select(5)  # only other threads or the kernel can wake us
        self.now += timeout
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps; traffic over loopback sockets takes no time in it."""

    def __init__(self) -> None:
        self._leap = _Leap()
        super().__init__(self._leap)

    def time(self) -> float:
        return self._leap.now

    def stand_still(self, seconds: float) -> None:
        """As if the process had not been given the processor so long."""
        self._leap.now += seconds


def simulate(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a test in simulated time and see that it leaves no task behind."""

    async def whole() -> Result:
        result = await work()
        for _ in range(5):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left behind: {left}"
        return result

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(whole())


def counting() -> Callable[[int], bytes]:
    """Reproducible 'randomness' that never repeats."""
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


class FakeMedia:
    """Audio without sound: session descriptions are lines of text.

    ``incompatible`` and ``broken`` ones are refused; a direction other than sendrecv is named at the end.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.log: list[str] = []
        self.running = False
        self.closed = False
        self.remote_direction = Direction.SENDRECV
        self.on_event: Callable[[MediaEvent], None] = lambda event: None
        self.muted = False
        self.agreed: Agreed | None = None
        self.ike: IkePeer | None = None
        self.ike_refusal = ""
        self.offers_ike = False
        self.source: AudioSource | None = None
        self.sink: AudioSink | None = None
        self._version = 0

    @classmethod
    def factory(
        cls, made: list[FakeMedia], name: str = "fake"
    ) -> Callable[[Sockets, str], Coroutine[Any, Any, FakeMedia]]:
        async def open_media(sockets: Sockets, host: str) -> FakeMedia:
            media = cls(f"{name}@{host}")
            made.append(media)
            return media

        return open_media

    def offer(self, direction: Direction = Direction.SENDRECV) -> str:
        self._version += 1
        self.log.append("offer")
        return f"offer {self._version} of {self.name}{_named(direction)}"

    def answer(self, offer: str, direction: Direction = Direction.SENDRECV) -> str:
        self._check(offer)
        self._version += 1
        self.log.append(f"answer({offer})")
        self.remote_direction = _direction(offer)
        return f"answer {self._version} of {self.name}{_named(self.remote_direction.reply(direction))}"

    def accept(self, answer: str) -> None:
        self._check(answer)
        self.remote_direction = _direction(answer)
        self.log.append(f"accept({answer})")

    def give_up_ike(self) -> None:
        self.log.append("give_up_ike")

    def let_flow(self, peer: IkePeer | None) -> None:
        self.log.append(f"let_flow({peer})")

    def refuse(self, offer: str) -> str:
        self.log.append(f"refuse({offer})")
        return f"refusal of {self.name}"

    async def start(self) -> None:
        self.running = True

    async def close(self) -> None:
        self.running = False
        self.closed = True

    def play(self, source: AudioSource | None) -> None:
        self.source = source

    def record(self, sink: AudioSink | None) -> None:
        self.sink = sink

    def record_call(self, recorder: CallRecorder | None) -> None:
        if recorder is not None:
            self.log.append("record_call")

    def send_dtmf(self, digits: str, method: DigitMethod | None = None, duration: float = DURATION) -> DigitMethod:
        self.log.append(f"dtmf {digits}")
        return DigitMethod.EVENT if method is None else method

    def take_info(self, content_type: str, body: str) -> None:
        self.on_event(parse_info(content_type, body))

    def statistics(self) -> object:
        return {"closed": self.closed}

    @staticmethod
    def _check(text: str) -> None:
        if "incompatible" in text:
            raise NotAcceptable("no codec in common")
        if "broken" in text:
            raise SdpError("line 1: nonsense")


def _named(direction: Direction) -> str:
    return "" if direction is Direction.SENDRECV else f" {direction}"


def _direction(text: str) -> Direction:
    last = text.rpartition(" ")[2]
    return Direction(last) if last in list(Direction) else Direction.SENDRECV


class Registrar:
    """A registrar with digest on an endpoint of its own; ``log`` keeps the REGISTERs that came."""

    def __init__(self, password: str, *, algorithm: str = "SHA-256", granted: int | None = None) -> None:
        self.credentials = Credentials("alice", password)
        self.algorithm = algorithm
        self.granted = granted
        self.least = 0
        self.extra = Headers()
        self.log: list[Request] = []
        self.contacts: list[NameAddr] = []
        self.answer_with: int | None = None
        self.nonce = 0
        self.endpoint: Endpoint

    async def start(self, host: str = "::1", port: int = 0) -> Self:
        self.endpoint = Endpoint(DirectSockets(), host, port, on_request=self._on_request, on_ack=lambda ack: None)
        await self.endpoint.start()
        return self

    @property
    def uri(self) -> str:
        return str(self.endpoint.contact(None, _flow(self.endpoint)))

    def _on_request(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        self.log.append(request)
        if self.answer_with is not None:
            transaction.respond(self.answer_with)
            return
        challenge = Challenge("test", f"nonce{self.nonce}", self.algorithm, ("auth",))
        if not verify(request.headers, "Authorization", request.method, self.credentials, challenge):
            stale = ", stale=true" if f'nonce="nonce{self.nonce - 1}"' in str(request.headers) else ""
            value = f'Digest realm="test", nonce="nonce{self.nonce}", algorithm={self.algorithm}, qop="auth"{stale}'
            transaction.respond(401, headers=Headers.of(("WWW-Authenticate", value)))
            return
        wanted = request.number("Expires") or 0
        if 0 < wanted < self.least:
            transaction.respond(423, headers=Headers.of(("Min-Expires", str(self.least))))
            return
        granted = wanted if self.granted is None or wanted == 0 else self.granted
        self.contacts = [c.with_parameter("expires", str(granted)) for c in request.contacts if granted]
        lines = [("Contact", str(contact)) for contact in self.contacts]
        transaction.respond(200, headers=Headers.of(*lines, *self.extra))


def _flow(endpoint: Endpoint) -> Any:
    return endpoint.connections.udp_flow(endpoint.host, endpoint.port)


class FixedNames:
    """A DNS that knows what it was told; ``dead``: nobody answers. ``asked`` keeps the questions."""

    def __init__(
        self, *, naptr: dict[str, list[Naptr]] | None = None, srv: dict[str, list[Srv]] | None = None,
        addresses: dict[str, list[str]] | None = None,
    ) -> None:  # fmt: skip
        self.records: dict[str, dict[str, Any]] = {"NAPTR": naptr or {}, "SRV": srv or {}, "A": addresses or {}}
        self.dead = False
        self.asked: list[tuple[str, str]] = []

    async def naptr(self, name: str) -> list[Naptr]:
        return list(self._find("NAPTR", name))

    async def srv(self, name: str) -> list[Srv]:
        return list(self._find("SRV", name))

    async def addresses(self, name: str, version: int) -> list[str]:
        found = [text for text in self._find("A", name) if (":" in text) == (version == 6)]
        if not found:
            raise OSError("unknown name")
        return found

    def _find(self, kind: str, name: str) -> list[Any]:
        self.asked.append((kind, name))
        if self.dead:
            raise OSError("no answer")
        return list(self.records[kind].get(name, []))


def account(user: str = "alice", **settings: Any) -> Account:
    """An account for direct calls on ::1, changed by ``settings``."""
    return Account(**{"user": user, "domain": "example.org", "local_host": "::1", "register": False, **settings})
