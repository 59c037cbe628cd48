"""A telephone whose calls PJSUA2 makes, in a process of its own, over IPv4. A crash there ends its calls, no more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from importlib.util import find_spec
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from softphone.calls.call import Call, CallState
from softphone.config import Account
from softphone.errors import CallError, ConfigError, RegistrationError, SoftphoneError, TransportError, Unsupported
from softphone.events import (
    CallIncoming,
    CallRefused,
    EngineLost,
    EventHub,
    MessageReceived,
    Registered,
    RegistrationFailed,
    Unregistered,
)
from softphone.media.codecs import Samples
from softphone.media.ike_description import IpsecMode
from softphone.media.keying import Keying, SrtpMode
from softphone.people.call_log import CallLog
from softphone.pjsua.call import PjsuaCall
from softphone.pjsua.process import EngineError, EngineProcess
from softphone.pjsua.wire import MOST_CALLS
from softphone.sip.endpoint import Traced
from softphone.sip.errors import SipParseError
from softphone.sip.headers import NameAddr
from softphone.sip.transport import Transport
from softphone.sip.uri import SipUri
from softphone.telephone import Telephone
from softphone.user_agent.agent import USER_AGENT, SoundSession, loose, peer_uri
from softphone.user_agent.changes import Changes

log = logging.getLogger(__name__)

ENGINE = "pjsua2"
CODECS = ("G722", "PCMA", "PCMU", "L16")
"Those that the wheel and we know."
TRANSPORTS = (Transport.UDP, Transport.TCP)
FATAL = frozenset([401, 403, 404, 407])
"Statuses of a registration that asking again does not change."
RETRY = 300.0
"Seconds after which the library registers again."
LONGEST_PAUSE = 30.0
"Seconds before the engine is started again: 1, 2, 4... after each end; it begins with 1 again when it ran so long."
GOODBYE_SECONDS = 3.0


def check(account: Account) -> None:
    """Raises ConfigError for what an account wants and the engine cannot do."""
    hosts = [account.local_host, account.domain, account.registrar_uri.host]
    hosts += [] if account.proxy_uri is None else [account.proxy_uri.host]
    wrong = next((host for host in hosts if host is not None and _is_ipv6(host)), None)
    if wrong is not None:
        raise ConfigError(f"the engine pjsua2 was compiled without IPv6: {wrong} needs the engine roamphone")
    if account.transport not in TRANSPORTS:
        raise ConfigError(
            f"the engine pjsua2 does not use {account.transport.value}: its OpenSSL (1.0.2) gets no more repairs; "
            "use udp or tcp, or the engine roamphone"
        )
    if not set(account.codecs) & set(CODECS):
        raise ConfigError(f"the engine pjsua2 has none of these codecs: add one of {', '.join(CODECS)}")
    if account.srtp is SrtpMode.MANDATORY and Keying.SDES not in account.srtp_keying:
        raise ConfigError("the engine pjsua2 has no DTLS: allow sdes in srtp_keying, or use the engine roamphone")
    if account.ipsec is IpsecMode.MANDATORY:
        raise ConfigError("IPsec from end to end needs the engine roamphone: set ipsec to optional or off")
    if account.ice is not None:
        raise ConfigError("ICE needs the engine roamphone: take the table ice out")


class PjsuaPhone(Telephone):
    """``mobility``: the runtime directory of a mobility process: the engine lives in its host OS, on the IPv4 side.

    ``log`` puts the calls into a history.
    """

    engine = ENGINE

    def __init__(self, account: Account, *, mobility: Path | None = None, log: CallLog | None = None) -> None:
        super().__init__(account)
        self.counters: Counter[str] = Counter()
        self._log = log
        self._prefix: tuple[str, ...] = ()
        if mobility is not None:
            self._prefix = (sys.executable, "-m", "mobility.cli", "exec", "--runtime", str(mobility), "--")
        self._process: EngineProcess | None = None
        self._running: set[Call] = set()
        self._by_number: dict[int, PjsuaCall] = {}
        self._dialling: dict[int, NameAddr] = {}
        self._next = 0
        self._arrived: asyncio.Queue[Call | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._freeing: set[asyncio.Task[None]] = set()
        "Those of them that are to come to their end."
        self._changes = Changes()
        self._registration: tuple[int, str] | None = None
        "Status and reason of the latest answer of the registrar."
        self._registered = self._closing = False
        self._address: tuple[str, int] = ("", 0)

    # -- its life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        check(self.account)
        if find_spec("pjsua2") is None:
            raise ConfigError("the engine pjsua2 is not installed: pip install 'roamphone[pjsua2]'")
        self._closing = False
        await self._begin()

    async def _begin(self) -> None:
        process = EngineProcess(self, self._prefix)
        try:
            await process.start()
            found = await process.order("start", account=self._settings())
        except EngineError as exc:
            await process.close()
            raise TransportError(f"the engine pjsua2 does not start: {exc}") from exc
        self._process = process
        self._address = str(found["host"]), int(found["port"])

    def _settings(self) -> dict[str, object]:
        account = self.account
        identity = NameAddr(account.aor, account.display_name)
        proxies = [] if account.proxy_uri is None else [loose(account.proxy_uri)]
        return {
            "identity": str(identity), "register": account.register,
            "registrar": str(self._over(account.registrar_uri)), "expires": account.expires,
            "proxies": [str(self._over(proxy)) for proxy in proxies],
            "auth_user": account.user if account.auth_user is None else account.auth_user,
            "password": account.password, "local_host": account.local_host, "local_port": account.local_port,
            "codecs": [name for name in account.codecs if name in CODECS], "srtp": account.srtp.value,
            "dtx": account.dtx, "user_agent": f"{USER_AGENT} pjsua2",
        }  # fmt: skip

    async def close(self) -> None:
        self._closing = True
        process = self._process
        try:
            if process is not None:
                with contextlib.suppress(TimeoutError, EngineError):
                    async with asyncio.timeout(GOODBYE_SECONDS):
                        await self._goodbye(process)
        finally:
            for call in list(self._running):
                call.abandon()
            for task in self._tasks - self._freeing:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if process is not None:
                self._process = None
                await process.close()
            self._arrived.put_nowait(None)
            self._hub.close()

    async def _goodbye(self, process: EngineProcess) -> None:
        for call in list(self._running):
            await call.hangup()
        if self._registered:
            await process.order("unregister")
        await self._changes.until(lambda: not self._registered and not self._by_number, None)

    def process_ended(self, why: str) -> None:
        """By itself; one that does not even start is told by `start`."""
        if self._process is None:
            return
        log.warning("the engine pjsua2 has ended: %s", why)
        self._process = None
        self._registered, self._registration = False, None
        for call in list(self._by_number.values()):
            call.engine_ended(why)
        self._by_number.clear()
        self._dialling.clear()
        self.counters["engine-lost"] += 1
        self._hub.emit(EngineLost(ENGINE, why))
        self._changes.tell()
        if not self._closing:
            self.spawn(self._again(), "engine pjsua2 again")

    async def _again(self) -> None:
        pause = 1.0
        while self._process is None:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                await self._begin()
            except SoftphoneError as exc:
                log.warning("%s", exc)
            else:
                await asyncio.sleep(LONGEST_PAUSE)  # one that ends before is started more slowly

    # -- what calls need (`CallHost`) ---------------------------------------------------------------------------------

    def begins(self, call: Call) -> None:
        self._running.add(call)
        if self._log is not None:
            self._log.began(call)

    def over(self, call: Call) -> None:
        self._running.discard(call)

    @property
    def hub(self) -> EventHub:
        return self._hub

    def spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def free(self, media: SoundSession) -> None:
        task = self.spawn(media.close(), "close media")
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)

    def speak(self, number: int, samples: Samples) -> None:
        """20 ms for a call."""
        if self._process is not None:
            self._process.speak(number, samples)

    def look(self, call: PjsuaCall) -> None:
        """Ask for the counters of a call."""

        async def ask() -> None:
            with contextlib.suppress(EngineError):
                if (found := await self.order("statistics", call=call.number)) is not None:
                    call.session.told(found)

        self.spawn(ask(), f"statistics {call.id}")

    async def order(self, what: str, **values: object) -> Any:
        """Raises EngineError."""
        if self._process is None:
            raise EngineError("the engine pjsua2 does not run: it is being started again")
        return await self._process.order(what, **values)

    def failed(self, why: str) -> None:
        """Something that nobody waits for."""
        self.counters["order-failed"] += 1
        log.info("pjsua2: %s", why)

    # -- what the process tells ---------------------------------------------------------------------------------------

    def sound(self, number: int, samples: Samples) -> None:
        """Of a call."""
        if (call := self._by_number.get(number)) is not None:
            call.session.received.write(samples)

    def event(self, what: str, values: dict[str, Any]) -> None:
        """Anything else."""
        match what:
            case "registration":
                self._register(values["status"], values["reason"], values["expires"])
            case "incoming":
                self._incoming(values["call"], values["remote"], values["call_id"])
            case "message":
                body = values["body"].encode("utf-8", "replace")
                self._hub.emit(MessageReceived(values["remote"], values["content_type"], body))
            case _:
                self._of_call(what, values)
        self._changes.tell()

    def _of_call(self, what: str, values: dict[str, Any]) -> None:
        number = values["call"]
        if number in self._dialling and number not in self._by_number:
            self._by_number[number] = PjsuaCall(
                self, number, values["call_id"], self._dialling.pop(number), incoming=False
            )
        if (call := self._by_number.get(number)) is None:
            return
        call.happened(what, values)
        if values.get("state") == "DISCONNECTED":
            del self._by_number[number]

    def _register(self, status: int, reason: str, expires: int) -> None:
        self._registration = status, reason
        if status != 200:
            self._registered = False
            self._hub.emit(RegistrationFailed(status, reason, None if status in FATAL else RETRY))
        elif expires > 0 and not self._closing:
            self._registered = True
            host, port = self._address
            self._hub.emit(Registered(f"<sip:{self.account.user}@{host}:{port}>", expires))
        else:
            self._registered = False
            self._hub.emit(Unregistered())

    def _incoming(self, number: int, remote: str, call_id: str) -> None:
        try:
            caller = NameAddr.parse(remote)
        except SipParseError:
            caller = NameAddr(SipUri("invalid", "unknown"))
        busy = self.do_not_disturb or len(self._running) >= min(self.account.max_calls, MOST_CALLS)
        if busy:
            why = "do not disturb" if self.do_not_disturb else "too many calls"
            self.spawn(self._refuse(number), f"refuse {call_id}")
            self._hub.emit(CallRefused(call_id, str(caller.uri), 486, why))
            if self._log is not None:
                self._log.refused(call_id, caller, 486, why)
            return
        waiting = any(call.state is CallState.CONFIRMED for call in self._running)
        call = PjsuaCall(self, number, call_id, caller, incoming=True)
        self._by_number[number] = call
        self._hub.emit(CallIncoming(call.id, str(caller.uri), waiting))
        self._arrived.put_nowait(call)
        if call.answers_itself_after is not None:
            self.spawn(self._answer(call), f"answer {call_id}")

    async def _refuse(self, number: int) -> None:
        with contextlib.suppress(EngineError):
            await self.order("answer", call=number, status=486)

    async def _answer(self, call: PjsuaCall) -> None:
        with contextlib.suppress(CallError):
            await call.answer()

    # -- use ----------------------------------------------------------------------------------------------------------

    async def dial(self, target: str, *, anonymous: bool = False, late_offer: bool = False) -> Call:
        if anonymous or late_offer:
            raise Unsupported(ENGINE, "anonymous calls" if anonymous else "late offers")
        if len(self._running) >= MOST_CALLS:
            raise Unsupported(ENGINE, f"more than {MOST_CALLS} calls")
        uri = self.uri(target)
        self._next += 1
        number = self._next
        self._dialling[number] = NameAddr(SipUri.parse(uri))
        try:
            await self.order("dial", call=number, target=uri)
        except EngineError as exc:
            if (begun := self._by_number.pop(number, None)) is not None:
                begun.engine_refused(str(exc))
            raise
        finally:
            self._dialling.pop(number, None)
        if (call := self._by_number.get(number)) is None:
            raise TransportError(f"the call to {target} ended before it began")
        return call

    def uri(self, target: str) -> str:
        """What a person typed, for the engine. Raises TransportError, SipParseError, Unsupported."""
        uri = peer_uri(self.account, target)
        if _is_ipv6(uri.host):
            raise Unsupported(ENGINE, "IPv6")
        if uri.secure:
            raise Unsupported(ENGINE, "sips")
        return str(self._over(uri))

    async def incoming(self) -> AsyncIterator[Call]:
        while (call := await self._arrived.get()) is not None:
            yield call
        self._arrived.put_nowait(None)

    async def registered(self, timeout: float | None = None) -> None:
        await self._changes.until(lambda: self._registered or self._refused, timeout)
        if not self._registered:
            raise RegistrationError(*(self._registration or (0, "")))

    @property
    def _refused(self) -> bool:
        return self._registration is not None and self._registration[0] in FATAL

    @property
    def is_registered(self) -> bool:
        return self._registered

    @property
    def calls(self) -> list[Call]:
        return list(self._running)

    @property
    def host(self) -> str:
        return self._address[0]

    @property
    def port(self) -> int:
        return self._address[1]

    @property
    def pid(self) -> int | None:
        """Of the engine's process; None: it does not run now."""
        return None if self._process is None else self._process.pid

    def watch_messages(self, tell: Callable[[Traced], Any]) -> None:
        """None come: the engine keeps its messages to itself."""

    def _over(self, uri: SipUri) -> SipUri:
        """With the account's transport, where it names none."""
        if self.account.transport is not Transport.TCP or any(name == "transport" for name, _ in uri.parameters):
            return uri
        return SipUri(uri.host, uri.user, uri.port, (*uri.parameters, ("transport", "tcp")), uri.headers, uri.scheme)


def _is_ipv6(host: str) -> bool:
    try:
        return isinstance(ip_address(host), IPv6Address)
    except ValueError:
        return False
