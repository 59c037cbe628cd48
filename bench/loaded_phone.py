"""Our phone under load: a process that answers every call, and calls as often as it is told.

    python -m bench.loaded_phone ORDERS

``ORDERS`` is JSON: ``processor`` (which one it may use), ``codec``, ``srtp`` (an `SrtpMode`), ``media`` (false:
signalling only), ``play`` (a WAV file, over and over; empty: silence). It writes its port, then answers each line of
its input with one: ``{"dial": URI, "calls": N}`` with ``{"calls": N}`` once they are answered, ``{}`` with what
`Loaded.count` says.
`bench.loaded_pjsua` understands the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.loaded import HOST, undisturbed
from softphone.calls.call import Call
from softphone.calls.incoming import IncomingCall
from softphone.config import Account
from softphone.errors import CallError
from softphone.media.audio import AudioSink, AudioSource
from softphone.media.codecs import codec_named
from softphone.media.dtmf import DURATION, DigitMethod
from softphone.media.files import LoopedSource, read_sound
from softphone.media.ike_description import IkePeer
from softphone.media.keying import SrtpMode
from softphone.media.offer_answer import Agreed, Direction
from softphone.media.recorder import CallRecorder
from softphone.media.session import MediaEvent, MediaStatistics
from softphone.network.sockets import Sockets
from softphone.phone import Softphone


class NoMedia:
    """A call's media without sockets and sound: what remains is signalling."""

    remote_direction = Direction.SENDRECV
    agreed: Agreed | None = None
    ike: IkePeer | None = None
    ike_refusal = ""
    offers_ike = False

    def __init__(self) -> None:
        self.on_event: Callable[[MediaEvent], None] = lambda event: None
        self.muted = False

    def offer(self, direction: Direction = Direction.SENDRECV) -> str:
        return (
            f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
            "m=audio 9 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
        )

    def answer(self, offer: str, direction: Direction = Direction.SENDRECV) -> str:
        return self.offer()

    def accept(self, answer: str) -> None: ...

    def refuse(self, offer: str) -> str:
        return self.offer()

    def give_up_ike(self) -> None: ...

    def let_flow(self, peer: IkePeer | None) -> None: ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def play(self, source: AudioSource | None) -> None: ...

    def record(self, sink: AudioSink | None) -> None: ...

    def record_call(self, recorder: CallRecorder | None) -> None: ...

    def send_dtmf(self, digits: str, method: DigitMethod | None = None, duration: float = DURATION) -> DigitMethod:
        raise RuntimeError("no media, no digits")

    def take_info(self, content_type: str, body: str) -> None: ...

    def statistics(self) -> None: ...


async def no_media(sockets: Sockets, host: str) -> NoMedia:
    return NoMedia()


class Loaded:
    """The phone and its calls."""

    def __init__(self, orders: dict[str, Any]) -> None:
        codec = codec_named(orders["codec"])
        self._sound = read_sound(orders["play"], codec.sample_rate) if orders["play"] else None
        account = Account(
            user="phone", domain=HOST, register=False, local_host=HOST, codecs=(codec.name,),
            srtp=SrtpMode(orders["srtp"]), max_calls=100_000,
        )  # fmt: skip
        self.phone = Softphone(account, media=None if orders["media"] else no_media)
        self._tasks: set[asyncio.Task[None]] = set()
        self._made = 0

    def _talk(self, call: Call) -> None:
        if self._sound is None:
            return
        samples, rate = self._sound
        call.play(LoopedSource(samples, rate, self._made * rate))
        self._made += 1

    async def answer_all(self) -> None:
        async for call in self.phone.incoming():
            task = asyncio.create_task(self._answer(call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, call: IncomingCall) -> None:
        self._talk(call)
        with contextlib.suppress(CallError):  # the caller may have given up
            await call.answer()

    async def dial(self, target: str, calls: int) -> int:
        for _ in range(calls):
            call = await self.phone.dial(target)
            self._talk(call)
            await call.answered(10)
        return len(self.phone.calls)

    def count(self) -> dict[str, float]:
        known = [call.statistics() for call in self.phone.calls]
        of = [one for one in known if isinstance(one, MediaStatistics)]
        return {
            "calls": len(known),
            "sent": sum(one.sent for one in of),
            "received": sum(one.received for one in of),
            "missing": sum(one.lost + one.late for one in of),
            "processor": time.process_time(),
            "at": time.monotonic(),
        }


async def _main(orders: dict[str, Any]) -> None:
    undisturbed(orders["processor"])
    loaded = Loaded(orders)
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)

    def tell(what: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    async with loaded.phone as phone:
        answering = asyncio.create_task(loaded.answer_all())
        tell({"port": phone.port})
        while line := await lines.readline():
            order = json.loads(line)
            tell({"calls": await loaded.dial(order["dial"], order["calls"])} if "dial" in order else loaded.count())
        answering.cancel()


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
