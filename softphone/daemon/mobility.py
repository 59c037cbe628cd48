"""The mobility processes of accounts whose network is the home network: what they tell, and requests passed on to them.

They come and go as they like: a process that is gone is told (``mobility-lost``), and looked for until it is back
(``mobility-found``). Nobody is connected to one while no client wants to hear of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mobility.client import CommandRefused, ControlClient, MobilityError
from softphone.accounts.accounts import AccountEntry, Network
from softphone.daemon.operations import Ground, Operation, absolute
from softphone.daemon.protocol import Arguments, RequestError
from softphone.daemon.topics import Topic
from softphone.paths import default_home_socket

AGAIN = 1.0
"Seconds after which a process that is not there is looked for again."
PERIOD = 5.0
"Seconds after which its state is told again although nothing happened."
SETTLED = 0.3
"Seconds after an event until the state that came of it is told: events come in groups."


class MobilityNetworks:
    """Operations ``mobility`` and ``capture``, topics ``mobility`` and ``packets``."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._links: dict[Path, _Link] = {}

    @property
    def operations(self) -> dict[str, Operation]:
        return {"mobility": self._mobility, "capture": self._capture}

    def changed(self) -> None:
        """Somebody subscribed or left, or the accounts are others."""
        audience = self._ground.audience
        wanted = self._paths() if audience.wants(Topic.MOBILITY) or audience.wants(Topic.PACKETS) else {}
        for path in [path for path in self._tasks if path not in wanted]:
            self._tasks.pop(path).cancel()
            del self._links[path]
        for path, account in wanted.items():
            if path not in self._tasks:
                link = self._links[path] = _Link(self._ground, path, account)
                self._tasks[path] = asyncio.create_task(link.run(), name=f"mobility of {account}")
            self._links[path].changed.set()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _paths(self) -> dict[Path, str]:
        """The control sockets, each with the first account that goes there."""
        found: dict[Path, str] = {}
        for name, entry in self._ground.phones.configuration.entries.items():
            if entry.network is Network.HOME:
                found.setdefault(control_socket(entry), name)
        return found

    def _path(self, account: str | None) -> Path:
        """Of the account that is named, or of the first that has one. Raises RequestError."""
        if account is None:
            if (path := next(iter(self._paths()), None)) is None:
                raise RequestError('no account uses the home network: give one network = "home"')
            return path
        entry = self._ground.phones.configuration.entries.get(account)
        if entry is None or entry.network is not Network.HOME:
            raise RequestError(f'account {account} does not use the home network: give it network = "home"')
        return control_socket(entry)

    async def _mobility(self, arguments: Arguments) -> object:
        """The answer of the mobility process to ``request``, which is one of docs/configuration.md."""
        account, request = arguments.optional("account"), arguments.table("request", {"op": "status"})
        arguments.end()
        operation = request.pop("op", None)
        if not isinstance(operation, str) or operation in ("subscribe", "unsubscribe"):
            raise RequestError(
                'request is an object such as {"op": "status"} or {"op": "command", "name": "reregister"}'
            )
        request.pop("id", None)
        return await self._ask(account, operation, request)

    async def _capture(self, arguments: Arguments) -> object:
        """All packets of the mobility process, into a file from now on; without one: no more."""
        account, file = arguments.optional("account"), arguments.optional("file")
        arguments.end()
        return await self._ask(account, "trace", {"capture": None if file is None else str(absolute(file))})

    async def _ask(self, account: str | None, operation: str, values: Mapping[str, object]) -> object:
        try:
            async with ControlClient(self._path(account)) as client:
                return await client.request(operation, **values)
        except CommandRefused as refused:
            raise RequestError(str(refused)) from refused
        except MobilityError as error:
            raise RequestError(str(error)) from error


class _Link:
    """One mobility process, for as long as somebody wants to hear of it."""

    def __init__(self, ground: Ground, path: Path, account: str) -> None:
        self.changed = asyncio.Event()
        "Clients may want packets now, or no more."
        self._audience = ground.audience
        self._path = path
        self._account = account
        self._happened = asyncio.Event()

    async def run(self) -> None:
        lost = False
        while True:
            try:
                async with ControlClient(self._path) as client:
                    self._tell("mobility-found")
                    lost = False
                    await self._follow(client)
            except (MobilityError, OSError) as error:
                if not lost:
                    lost = True
                    self._tell("mobility-lost", why=str(error))
            await asyncio.sleep(AGAIN)

    async def _follow(self, client: ControlClient) -> None:
        """Until it is gone."""
        await self._subscribe(client)
        work = [asyncio.create_task(each) for each in (self._topics(client), self._state(client), self._news(client))]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _topics(self, client: ControlClient) -> None:
        while True:
            await self.changed.wait()
            await self._subscribe(client)
            self._happened.set()  # whoever has come wants to know the state

    async def _subscribe(self, client: ControlClient) -> None:
        self.changed.clear()
        await client.subscribe(packets=self._audience.wants(Topic.PACKETS))

    async def _state(self, client: ControlClient) -> None:
        while True:
            self._happened.clear()
            if self._audience.wants(Topic.MOBILITY):
                status = await client.status()
                self._tell("mobility", status=status, **protection(status))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._happened.wait(), PERIOD)
                await asyncio.sleep(SETTLED)

    async def _news(self, client: ControlClient) -> None:
        async for event in client.events():
            if event.get("event") in ("packets", "packets-missed"):
                self._audience.tell(Topic.PACKETS, {**event, "account": self._account})
            else:
                self._tell("mobility-event", happened=event)
                self._happened.set()
        raise MobilityError(f"the mobility process behind {self._path} has gone")

    def _tell(self, event: str, **values: object) -> None:
        self._audience.tell(Topic.MOBILITY, {"event": event, "account": self._account, **values})


def control_socket(entry: AccountEntry) -> Path:
    """``control.sock`` of the mobility process that an account goes through."""
    return (default_home_socket() if entry.home_socket is None else entry.home_socket).with_name("control.sock")


def protection(status: Mapping[str, object]) -> dict[str, object]:
    """What a call is protected with below SRTP: ``tunnel``, its form (empty: none in use, at home or nowhere), and
    whether there is ``application_ipsec``."""
    node = status.get("node")
    node = node if isinstance(node, dict) else {}
    forwarding, application = node.get("forwarding"), node.get("application")
    tunnel = ""
    if isinstance(forwarding, dict) and isinstance(forwarding.get("tunnel"), dict):
        tunnel = str(forwarding.get("form", ""))
    policies = application if isinstance(application, list) else []
    return {
        "tunnel": tunnel,
        "application_ipsec": any(isinstance(row, dict) and row.get("action") == "protect" for row in policies),
    }
