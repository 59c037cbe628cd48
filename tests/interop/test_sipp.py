"""sipp against our phone on loopback: the scenarios are in ``sipp/``; sipp fails when a message is not as they say."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from softphone import config
from softphone.calls.call import Call, CallState
from softphone.calls.incoming import IncomingCall
from softphone.config import Account, Consent
from softphone.events import CallDigit, CallTransferred, EndedBy
from softphone.media.offer_answer import SrtpMode
from softphone.phone import Softphone
from softphone.sip import session_timer
from softphone.sip.transport import Transport
from tests.interop.sipp_process import SECONDS, Sipp

pytestmark = pytest.mark.interop
SCENARIOS = Path(__file__).with_name("sipp")


def phone(host: str = "::1", **settings: Any) -> Softphone:
    return Softphone(
        Account(
            user="alice", domain="example.org", password="secret", register=False, local_host=host,
            srtp=SrtpMode.OFF, **settings,
        )
    )  # fmt: skip


@asynccontextmanager
async def playing(
    folder: Path, scenario: str, *more: str, to: str | None = None, host: str = "::1",
    transport: Transport = Transport.UDP,
) -> AsyncIterator[Sipp]:  # fmt: skip
    """A sipp that plays the scenario; when the block ends, it must have succeeded. ``to``: it calls."""
    sipp = Sipp(folder, SCENARIOS / f"{scenario}.xml", host, transport)
    await sipp.start(to, *more)
    try:
        yield sipp
        await sipp.succeeded()
    finally:
        await sipp.stop()


def at(phone: Softphone) -> str:
    return f"[{phone.host}]:{phone.port}" if ":" in phone.host else f"{phone.host}:{phone.port}"


Deed = Callable[[Softphone, Call], Awaitable[None]]


def phone_calls(folder: Path, scenario: str, deed: Deed, *, late_offer: bool = False, **settings: Any) -> None:
    """Our phone calls sipp, and does something."""

    async def work() -> None:
        async with phone(**settings) as alice, playing(folder, scenario) as sipp:
            call = await alice.dial(sipp.uri, late_offer=late_offer)
            await deed(alice, call)
            await sipp.succeeded()
            assert alice.counters["task-failed"] == 0

    asyncio.run(work())


def phone_answers(folder: Path, scenario: str, deed: Callable[[Softphone, IncomingCall], Awaitable[None]]) -> None:
    """sipp calls our phone, which does something."""

    async def work() -> None:
        async with phone() as alice, playing(folder, scenario, to=at(alice)) as sipp:
            async with asyncio.timeout(5):
                call = await anext(alice.incoming())
            await deed(alice, call)
            await sipp.succeeded()
            assert alice.counters["task-failed"] == 0

    asyncio.run(work())


async def answer(alice: Softphone, call: IncomingCall) -> None:
    await call.ring()
    await call.answer()
    await call.answered(5)


async def hang_up(alice: Softphone, call: Call) -> None:
    await call.answered(5)
    await call.hangup()


@pytest.mark.parametrize(
    ("scenario", "late_offer"),
    [("auth", False), ("forked_100rel", False), ("late_offer_from_phone", True), ("redirect", False)],
)
def test_calls_of_the_phone(tmp_path: Path, scenario: str, late_offer: bool) -> None:
    phone_calls(tmp_path, scenario, hang_up, late_offer=late_offer)


def test_of_two_branches_that_answer_the_second_is_hung_up(tmp_path: Path) -> None:
    async def deed(alice: Softphone, call: Call) -> None:
        await call.answered(5)
        await asyncio.sleep(0.3)  # the second answer comes, and is hung up
        assert call.state is CallState.CONFIRMED
        await call.hangup()

    phone_calls(tmp_path, "forked_200", deed)


def test_a_cancel_that_crosses_a_200(tmp_path: Path) -> None:
    async def deed(alice: Softphone, call: Call) -> None:
        await call.ringing(5)
        await call.hangup()
        assert (await call.ended(5)).by is EndedBy.LOCAL

    phone_calls(tmp_path, "cancel_against_200", deed)


def test_late_offer_to_the_phone(tmp_path: Path) -> None:
    async def deed(alice: Softphone, call: IncomingCall) -> None:
        await answer(alice, call)
        await call.hangup()

    phone_answers(tmp_path, "late_offer_to_phone", deed)
    phone_answers(tmp_path, "strict_route", deed)


def test_glare(tmp_path: Path) -> None:
    async def deed(alice: Softphone, call: IncomingCall) -> None:
        await answer(alice, call)
        await call.hold()
        assert call.on_hold
        await call.hangup()

    phone_answers(tmp_path, "glare", deed)


def test_prack_with_sdp(tmp_path: Path) -> None:
    async def deed(alice: Softphone, call: IncomingCall) -> None:
        await call.early_media()
        await call.answer()  # waits for the PRACK
        await call.answered(5)
        await call.hangup()

    phone_answers(tmp_path, "prack_with_sdp", deed)


@pytest.mark.parametrize("scenario", ["refresh_by_phone", "refresh_by_sipp"])
def test_session_refresh(tmp_path: Path, scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The RFC allows no interval below 90 s: too long for a test.
    for module in (session_timer, config):
        monkeypatch.setattr(module, "SHORTEST", 4)

    async def deed(alice: Softphone, call: Call) -> None:
        await call.answered(5)
        if scenario == "refresh_by_phone":
            await asyncio.sleep(4.5)
            assert call.state is CallState.CONFIRMED
            await call.hangup()
        else:
            assert (await call.ended(SECONDS)).status == 408

    phone_calls(tmp_path, scenario, deed, least_session_expires=4)


def test_the_phone_transfers(tmp_path: Path) -> None:
    async def deed(alice: Softphone, call: Call) -> None:
        await call.answered(5)
        await call.transfer("sip:carol@example.org")
        assert (await call.ended(1)).by is EndedBy.LOCAL

    phone_calls(tmp_path, "transferee", deed)


def test_the_phone_is_transferred(tmp_path: Path) -> None:
    async def work() -> None:
        async with phone(transfers=Consent.ACCEPT) as alice, playing(tmp_path, "answers") as target:
            events = alice.events()
            async with playing(tmp_path, "transferor", "-key", "target", target.uri, to=at(alice)):
                call = await anext(alice.incoming())
                await answer(alice, call)
                moved = await events.wait_for(CallTransferred, 5)
                assert (await call.ended(5)).by is EndedBy.REMOTE
            [fresh] = alice.calls
            assert fresh.id == moved.to
            await hang_up(alice, fresh)

    asyncio.run(work())


class Rechunker:
    """A TCP relay that cuts what it passes into small pieces, or lets it pile up and sends several messages at once."""

    def __init__(self, to: Softphone, piece: int | None) -> None:
        self._to = to
        self._piece = piece
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Rechunker:
        self._server = await asyncio.start_server(self._accept, "::1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._to.host, self._to.port)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            sink.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._tasks.add(asyncio.create_task(self._pass(source, sink)))

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if self._piece is None:
                    await asyncio.sleep(0.05)  # what comes meanwhile goes out in one piece with it
                    data += await self._more(source)
                for start in range(0, len(data), self._piece or len(data)):
                    sink.write(data[start : start + (self._piece or len(data))])
                    await sink.drain()
                    await asyncio.sleep(0)
        finally:
            sink.close()

    @staticmethod
    async def _more(source: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(0.01):
                return await source.read(65536)
        except TimeoutError:
            return b""


@pytest.mark.parametrize("piece", [7, None], ids=["fragments", "coalesced"])
def test_tcp_in_pieces_and_in_lumps(tmp_path: Path, piece: int | None) -> None:
    """Three calls over one connection, with INFO and BYE, through a relay that respects no borders of messages."""

    async def work() -> None:
        async with phone() as alice, Rechunker(alice, piece) as relay:
            events = alice.events()
            calling = playing(
                tmp_path, "calls", "-m", "3", "-r", "50", to=f"[::1]:{relay.port}", transport=Transport.TCP
            )
            async with calling:
                for _ in range(3):
                    await (await anext(alice.incoming())).answer()
                for _ in range(3):
                    assert (await events.wait_for(CallDigit, 5)).digit == "5"
            assert not {name: count for name, count in alice.counters.items() if name != "keepalive"}

    asyncio.run(work())


def test_a_flood_of_invites_is_refused_and_a_call_in_progress_goes_on(tmp_path: Path) -> None:
    async def work() -> None:
        async with phone(max_calls=1) as alice, playing(tmp_path, "answers") as other:
            call = await alice.dial(other.uri)
            await call.answered(5)
            async with playing(tmp_path, "flood", "-m", "1000", "-r", "500", "-l", "1000", to=at(alice)):
                pass
            assert alice.calls == [call]
            assert call.state is CallState.CONFIRMED
            await call.hangup()
            assert alice.counters["bye-unanswered"] == 0

    asyncio.run(work())


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
def test_a_call_both_ways(tmp_path: Path, host: str) -> None:
    async def work() -> None:
        async with phone(host) as alice:
            async with playing(tmp_path, "calls", to=at(alice), host=host):
                await (await anext(alice.incoming())).answer()
            async with playing(tmp_path, "answers", host=host) as sipp:
                await hang_up(alice, await alice.dial(sipp.uri))

    asyncio.run(work())
