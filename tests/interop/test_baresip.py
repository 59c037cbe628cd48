"""Debian's baresip and our phone call each other through Kamailio over IPv6: hold, digits, transfers, SRTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from softphone.call import Call
from softphone.config import Consent
from softphone.events import CallDigit, CallHold, CallTransferred, EndedBy, Listener
from softphone.media.dtmf import DigitMethod
from softphone.media.offer_answer import SrtpMode
from softphone.media.session import MediaStatistics
from softphone.phone import Softphone
from tests.interop.loopback import DOMAIN, Proxy, answered, free_port, run_proxy

pytestmark = pytest.mark.interop
MODULES = ("g711", "srtp", "dtls_srtp", "ice", "ausine", "aufile")


class Baresip:
    """A running baresip, account bob, that is told what to do over its control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def close(self) -> None:
        self._writer.close()

    def do(self, command: str, parameters: str = "") -> None:
        order = json.dumps({"command": command, "params": parameters}).encode()
        self._writer.write(b"%d:%b," % (len(order), order))

    async def until(self, kind: str, parameter: str | None = None) -> dict[str, Any]:
        """The next event of this kind. Raises TimeoutError."""
        async with asyncio.timeout(10):
            while True:
                length = int((await self._reader.readuntil(b":"))[:-1])
                event: dict[str, Any] = json.loads((await self._reader.readexactly(length + 1))[:-1])
                if event.get("type") == kind and parameter in (None, event.get("param")):
                    return event


@asynccontextmanager
async def baresip(proxy: Proxy, folder: Path, media: str = "") -> AsyncIterator[Baresip]:
    """It has registered."""
    control = free_port()
    settings = folder / "baresip"
    settings.mkdir()
    modules = "".join(f"module {name}.so\n" for name in MODULES)
    (settings / "config").write_text(
        f"module_path /usr/lib/baresip/modules\n{modules}"
        "module_app account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n"
        f"ctrl_tcp_listen [::1]:{control}\nsip_listen [::1]:{free_port()}\nnet_interface ::1\nnet_af ipv6\n"
        "audio_source ausine,440\naudio_player aufile,/dev/null\nausrc_srate 48000\nauplay_srate 8000\n"
        "ausrc_channels 2\nauplay_channels 1\n"
    )
    (settings / "accounts").write_text(
        f"<sip:bob@{DOMAIN};transport=udp>;auth_user=bob;auth_pass=secret-bob;regint=300;audio_codecs=PCMU/8000/1"
        f';outbound="sip:[::1]:{proxy.sip_port}"{media}\n'
    )
    (settings / "contacts").touch()
    with (folder / "log").open("wb") as log:
        program = await asyncio.create_subprocess_exec(
            "baresip", "-f", str(settings), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            made = Baresip(*await connected(control))
            try:
                await registered(folder / "log")
                yield made
            finally:
                made.close()
        finally:
            program.terminate()
            await asyncio.wait_for(program.wait(), 10)


async def registered(log: Path) -> None:
    """Its control socket may be there too late to tell."""
    async with asyncio.timeout(10):
        while True:
            if says(log, b"200 OK (kamailio)"):
                return
            await asyncio.sleep(0.05)


def says(log: Path, text: bytes) -> bool:
    return text in log.read_bytes()


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(10):
        while True:
            try:
                return await asyncio.open_connection("::1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    yield from run_proxy(tmp_path_factory.mktemp("kamailio-baresip"), 25090, "MD5")


def statistics(call: Call) -> MediaStatistics:
    found = call.statistics()
    assert isinstance(found, MediaStatistics)
    return found


async def heard(call: Call) -> MediaStatistics:
    """Until sound has come, from now on. Raises TimeoutError."""
    before = statistics(call)
    async with asyncio.timeout(5):
        while True:
            now = statistics(call)
            if now.received > before.received + 5:
                return now
            await asyncio.sleep(0.02)


async def silent(call: Call) -> None:
    """Until none comes any more. Raises TimeoutError."""
    async with asyncio.timeout(5):
        while True:
            before = statistics(call)
            await asyncio.sleep(0.2)
            if statistics(call).received == before.received:
                return


async def called(alice: Softphone, bob: Baresip, *, by_bob: bool) -> Call:
    """Alice and Bob talk."""
    if by_bob:
        bob.do("dial", "alice")
        call: Call = await answered(alice)
    else:
        call = await alice.dial("bob")
        await bob.until("CALL_INCOMING")
        bob.do("accept")
        await call.answered(5)
    await bob.until("CALL_ESTABLISHED")
    await heard(call)
    return call


async def held(events: Listener) -> tuple[bool, bool]:
    change = await events.wait_for(CallHold, 5)
    return change.local, change.remote


@pytest.mark.parametrize("by_bob", [True, False])
@pytest.mark.parametrize("secure", [True, False])
def test_hold_and_digits(proxy: Proxy, tmp_path: Path, by_bob: bool, secure: bool) -> None:
    async def work() -> None:
        srtp = SrtpMode.MANDATORY if secure else SrtpMode.OFF
        async with (
            proxy.phone("alice", srtp=srtp) as alice,
            baresip(proxy, tmp_path, ";mediaenc=srtp-mand" if secure else "") as bob,
        ):
            await alice.registered(5)
            events = alice.events()
            call = await called(alice, bob, by_bob=by_bob)
            assert (statistics(call).srtp_suite != "") is secure
            await call.hold()
            assert await held(events) == (True, False)
            await silent(call)
            await call.resume()
            assert await held(events) == (False, False)
            await heard(call)
            bob.do("hold")
            assert await held(events) == (False, True)
            bob.do("resume")
            assert await held(events) == (False, False)
            await heard(call)

            bob.do("sndcode", "5")
            bob.do("sndcode", "")
            digit = await events.wait_for(CallDigit, 5)
            assert (digit.digit, digit.method) == ("5", DigitMethod.EVENT)
            assert await call.send_dtmf("4") is DigitMethod.EVENT
            await bob.until("CALL_DTMF_START", "4")
            await call.send_dtmf("#", DigitMethod.INFO)
            await bob.until("CALL_DTMF_START", "#")

            if by_bob:
                bob.do("hangup")
                assert (await call.ended(5)).by is EndedBy.REMOTE
            else:
                await call.hangup()
                await bob.until("CALL_CLOSED")
            assert not {name: count for name, count in alice.counters.items() if name != "response-stray"}

    asyncio.run(work())


@pytest.mark.parametrize("by_bob", [True, False])
def test_baresip_is_transferred(proxy: Proxy, tmp_path: Path, by_bob: bool) -> None:
    async def work() -> None:
        off = SrtpMode.OFF
        async with (
            proxy.phone("alice", srtp=off) as alice,
            proxy.phone("carol", srtp=off) as carol,
            baresip(proxy, tmp_path) as bob,
        ):
            await alice.registered(5)
            await carol.registered(5)
            call = await called(alice, bob, by_bob=by_bob)
            answering = asyncio.create_task(answered(carol))
            await call.transfer("carol")
            assert (await call.ended(1)).by is EndedBy.LOCAL
            talking = await answering
            assert str(talking.remote.uri) == f"sip:bob@{DOMAIN}"
            await heard(talking)
            await talking.hangup()

    asyncio.run(work())


def test_baresip_transfers_the_phone(proxy: Proxy, tmp_path: Path) -> None:
    async def work() -> None:
        off = SrtpMode.OFF
        async with (
            proxy.phone("alice", srtp=off, transfers=Consent.ACCEPT) as alice,
            proxy.phone("carol", srtp=off) as carol,
            baresip(proxy, tmp_path) as bob,
        ):
            await alice.registered(5)
            await carol.registered(5)
            events = alice.events()
            call = await called(alice, bob, by_bob=True)
            bob.do("transfer", f"sip:carol@{DOMAIN}")
            talking = await answered(carol)
            fresh = await events.wait_for(CallTransferred, 5)
            assert (await call.ended(10)).by is EndedBy.REMOTE
            assert [one.id for one in alice.calls] == [fresh.to]
            await heard(talking)
            await talking.hangup()

    asyncio.run(work())
