"""What clients of the daemon may do with its phones. Knows nothing of sockets."""

from __future__ import annotations

import asyncio
import logging
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from softphone.accounts.accounts import Network, Phones
from softphone.daemon.accounts import Accounts
from softphone.daemon.calls import Calls
from softphone.daemon.hooks import Hooks
from softphone.daemon.mobility import MobilityNetworks
from softphone.daemon.operations import Ground, Operation, Part
from softphone.daemon.people import People
from softphone.daemon.presence import Presences
from softphone.daemon.protocol import Arguments, RequestError
from softphone.daemon.sound import Sound
from softphone.daemon.topics import Audience, Topic
from softphone.daemon.watching import SipLog, Watching
from softphone.errors import SoftphoneError
from softphone.event_names import described
from softphone.events import Listener
from softphone.telephone import Telephone

log = logging.getLogger(__name__)

PATIENCE = 2.0
"Seconds in which the events of phones that were closed are told."


class PhoneService:
    """The running phones of all accounts; ``audience`` gets everything that happens as JSON objects.

    Each of its parts adds operations; what it needs it gets when it is made.
    """

    def __init__(self, phones: Phones, audience: Audience, contacts: Path) -> None:
        self.phones = phones
        self.ground = Ground(phones, audience)
        self.people = People(self.ground, contacts)
        self.calls = Calls(self.ground, self.people)
        self.hooks = Hooks(self.ground, self.people)
        self._accounts = Accounts(self.ground)
        self._sip = SipLog(self.ground)
        self._watching = Watching(self.ground, self.calls)
        self._sound = Sound(self.ground, self.calls, self.perform)
        self._mobility = MobilityNetworks(self.ground)
        parts: tuple[Part, ...] = (
            self.calls, self.people, Presences(self.ground), self._accounts, self._sip, self._sound,
            self._mobility,
        )  # fmt: skip
        self.operations: dict[str, Operation] = {
            "status": self._status, "stay": self._stay, "shutdown": self._shutdown,
        }  # fmt: skip
        for part in parts:
            self.operations |= part.operations
        self.on_shutdown = asyncio.Event()
        "Somebody wants the daemon to end."
        self.stays = False
        "It goes on although no client is there."
        self._tasks: set[asyncio.Task[None]] = set()
        audience.on_change(self._wishes_changed)
        phones.on_start.append(self._begin)
        phones.on_apply = self._configured

    async def start(self) -> None:
        """Before the phones start."""
        await self.people.start()
        await self._sound.start()

    async def close(self) -> None:
        """After the phones were closed: until all events were told."""
        await self._accounts.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=PATIENCE)
            for task in late:  # of a phone whose end somebody has cut short: its events never end
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.hooks.close()
        await self._watching.close()
        await self._sound.close()
        await self._mobility.close()

    def _wishes_changed(self) -> None:
        """A client subscribed or left."""
        self._watching.changed()
        self._mobility.changed()

    def _configured(self) -> None:
        """Another configuration counts."""
        self._sound.configured()
        self._mobility.changed()

    async def perform(self, operation: str, arguments: Arguments) -> object:
        """The result, as JSON values. Raises SoftphoneError, ValueError, RuntimeError, OSError for the client."""
        if (perform := self.operations.get(operation)) is None:
            raise RequestError(f"there is no operation {operation!r}; there are {', '.join(self.operations)}")
        return await perform(arguments)

    def _begin(self, name: str, phone: Telephone) -> None:
        """Look after a phone that starts."""
        phone.watch_messages(self._sip.of(name))
        for what, work in (("events", self._watch(name, phone.events())), ("bell", self._ring(phone))):
            task = asyncio.create_task(work, name=f"{what} of {name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _watch(self, name: str, events: Listener) -> None:
        async for event in events:
            self.people.happened(name, event)
            self._sound.happened(event)
            self.hooks.happened(name, event)
            self._accounts.happened(event)
            self.ground.audience.tell(Topic.EVENTS, described(event, name))

    async def _ring(self, phone: Telephone) -> None:
        """Callers hear that it rings, whether somebody is attached or not."""
        async for call in phone.incoming():
            try:
                await call.ring()
            except SoftphoneError as exc:
                log.info("call %s: %s", call.id, exc)  # it is over already, or answers itself

    async def _status(self, arguments: Arguments) -> object:
        arguments.end()
        entries = self.phones.configuration.entries
        accounts = [
            {
                "account": name, "address": str(phone.account.aor), "registered": phone.is_registered,
                "register": phone.account.register,
                "host": phone.host, "port": phone.port, "do_not_disturb": phone.do_not_disturb,
                "network": str(entries[name].network if name in entries else Network.DIRECT),
                "voicemail": phone.voicemail,
                "calls": [self.calls.described(name, call) for call in phone.calls],
            }
            for name, phone in self.phones.running.items()
        ]  # fmt: skip
        failures = {name: str(why) for name, why in self.phones.failures.items()}
        return {"accounts": accounts, "failures": failures, "version": _version(), "hooks": self.hooks.status}

    async def _stay(self, arguments: Arguments) -> object:
        arguments.end()
        self.stays = True
        return None

    async def _shutdown(self, arguments: Arguments) -> object:
        arguments.end()
        self.on_shutdown.set()
        return None


def _version() -> str:
    try:
        return version("roamphone")
    except PackageNotFoundError:
        return ""
