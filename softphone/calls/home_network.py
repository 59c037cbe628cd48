"""The mobility process behind a phone at the home address: its handovers, and the IPsec keys that it makes for calls.

One connection serves all calls. When the process was restarted it is found again, and told anew what it has to protect.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

from mobility.client import CommandRefused, ControlClient, MobilityError
from softphone.events import EventHub, Handover, IpsecState
from softphone.media.dtls import Fingerprint
from softphone.media.ike_description import IkeEnd, IkePeer

AGAIN = 2.0
"Seconds after which a mobility process that is gone is looked for again."
ANSWER_SECONDS = 5.0
"How long it may think."
FIRST_SECONDS = 2.0
"How long a call waits until it has been looked for."
LEASE = 300.0
"Seconds for which it protects a call that nobody speaks of any more."
RENEWAL = 100.0
"Seconds after which every lease is taken anew."
LINGER = 0.5
"Seconds between the end of a call and that of its protection: its last packets may still be on their way there."
LONGEST_NAME = 256

Told = Callable[[IpsecState, str, str], None]
"Gets what has become of the keys with a peer: the state, their algorithm, and the reason where there are none."


@dataclass(slots=True)
class _Lease:
    peer: IkePeer
    tell: Told
    heard: int = 0
    "Events of the keys with this peer."


class HomeNetwork:
    """Of one phone. Names of offers and of what is protected are the caller's."""

    def __init__(self, control: Path, hub: EventHub, *, keys: bool = True) -> None:
        """``control``: the ``control.sock`` of the mobility process; ``keys``: ask it for keys."""
        self.why = f"no mobility process serves {control}"
        "Why there are no keys for calls."
        self._control = control
        self._hub = hub
        self._keys = keys
        self._client: ControlClient | None = None
        self._tried = asyncio.Event()
        "The process was looked for."
        self._end: IkeEnd | None = None
        self._offers: set[str] = set()
        self._leases: dict[str, _Lease] = {}
        self._ending: dict[str, asyncio.TimerHandle] = {}
        self._releases: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Follow the process, without end."""
        while True:
            try:
                async with ControlClient(self._control, timeout=ANSWER_SECONDS) as client:
                    await client.subscribe()
                    async with self._following(client):
                        async for event in client.events():
                            self._happened(event)
                self.why = "the mobility process has gone"
            except (MobilityError, OSError) as error:
                self.why = str(error)  # calls go on without; it may come (back)
            self._tried.set()
            await asyncio.sleep(AGAIN)

    @contextlib.asynccontextmanager
    async def _following(self, client: ControlClient) -> AsyncIterator[None]:
        end = await self._own_end(client)
        await self._renew(client)
        self._client, self._end = client, end
        renewing = asyncio.create_task(self._renew_in_time(client), name="leases of calls")
        self._tried.set()
        try:
            yield
        finally:
            self._client = self._end = None
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def close(self) -> None:
        """Nothing is to be protected any more."""
        for handle in self._ending.values():
            handle.cancel()
        names = [*self._ending, *self._offers, *self._leases]
        if names and self._client is not None:
            await asyncio.sleep(LINGER / 5)  # the last packets of calls that have just ended go first
            await asyncio.gather(*(self._release(name) for name in names))
        await asyncio.gather(*self._releases)

    # for calls

    async def end(self) -> IkeEnd | None:
        """Our end of IKE; None: there are no keys for calls, and `why` says why."""
        if not self._keys:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await self._tried.wait()
        return self._end

    async def offer(self, call: str) -> None:
        """A call is offered to somebody, whom we do not know yet. Raises MobilityError."""
        self._offers.add(_name(call))
        await self._connected.offer_call(_name(call), lease=LEASE)

    async def secure(self, call: str, peer: IkePeer, tell: Told) -> None:
        """When this returns no packet goes to the peer in clear; ``tell`` hears of the keys from now on.

        Raises MobilityError: then nothing is protected, and the peer shall not be waited for.
        """
        name = _name(call)
        if (ending := self._ending.pop(name, None)) is not None:
            ending.cancel()
        lease = self._leases[name] = _Lease(peer, tell)
        try:
            await self._secure(self._connected, name, lease)
        except BaseException:
            self._leases.pop(name, None)
            raise

    async def configured(self, peer: str) -> bool:
        """Whether the process protects packets to this address by its configuration, whatever calls agree on."""
        try:
            return (await self._connected.protection(peer)).get("state") == "configured"
        except MobilityError:
            return False

    def release(self, call: str) -> None:
        """An offer was answered or taken back, or what was to be protected is over."""
        name = _name(call)
        if name in self._offers or name in self._leases:
            self._offers.discard(name)
            self._leases.pop(name, None)
            self._release_later(name)

    # the process

    @property
    def _connected(self) -> ControlClient:
        if self._client is None:
            raise MobilityError(self.why)
        return self._client

    async def _own_end(self, client: ControlClient) -> IkeEnd | None:
        if not self._keys:
            return None
        try:
            told = await client.application_keys()
        except CommandRefused as refused:
            self.why = str(refused)
            return None
        fingerprint = Fingerprint.parse(str(told.get("fingerprint")))
        try:
            address = IPv6Address(str(told.get("address")))
        except ValueError:
            fingerprint = None
        if fingerprint is None:
            self.why = "the mobility process named no certificate that can be used: it is another version of roamphone"
            return None
        return IkeEnd(address, fingerprint)

    async def _renew_in_time(self, client: ControlClient) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            await self._renew(client)

    async def _renew(self, client: ControlClient) -> None:
        for name in list(self._offers):
            with contextlib.suppress(MobilityError):
                await client.offer_call(name, lease=LEASE)
        for name, lease in list(self._leases.items()):
            if self._leases.get(name) is lease:
                try:
                    await self._secure(client, name, lease)
                except MobilityError as error:
                    lease.tell(IpsecState.NONE, "", str(error))

    async def _secure(self, client: ControlClient, name: str, lease: _Lease) -> None:
        peer, before = lease.peer, lease.heard
        prints = [str(fingerprint) for fingerprint in peer.fingerprints]
        told = await client.secure_call(name, str(peer.address), prints, active=peer.active, lease=LEASE)
        state, algorithm = str(told.get("state")), str(told.get("algorithm", ""))
        match state:
            case "protected" | "negotiating" if lease.heard != before:
                pass  # events that came with the answer, or before it, say how it has become
            case "protected" | "configured":
                lease.tell(IpsecState.PROTECTED, algorithm, "")
            case "negotiating":
                lease.tell(IpsecState.NEGOTIATING, "", "")
            case _:
                raise MobilityError(f"the mobility process does not protect packets to {peer.address} ({state})")

    def _happened(self, event: dict[str, object]) -> None:
        match event.get("event"):
            case "HandoverFinished":
                self._hub.emit(_handover(event))
            case "ApplicationProtected":
                self._tell(event, IpsecState.PROTECTED)
            case "ApplicationUnprotected":
                self._tell(event, IpsecState.NEGOTIATING)
            case "ApplicationKeysFailed":
                self._tell(event, IpsecState.NONE)

    def _tell(self, event: dict[str, object], state: IpsecState) -> None:
        for lease in list(self._leases.values()):
            if str(lease.peer.address) == event.get("peer"):
                lease.heard += 1
                lease.tell(state, str(event.get("algorithm", "")), str(event.get("reason", "")))

    def _release_later(self, name: str) -> None:
        self._ending[name] = asyncio.get_running_loop().call_later(LINGER, self._release_now, name)

    def _release_now(self, name: str) -> None:
        if self._offers:
            # Whoever is called may be the same one, who counts on the keys that are there.
            self._release_later(name)
            return
        self._ending.pop(name, None)
        task = asyncio.create_task(self._release(name), name=f"release {name}")
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    async def _release(self, name: str) -> None:
        with contextlib.suppress(MobilityError):  # then the lease ends by itself
            await self._connected.release_call(name)


def _name(call: str) -> str:
    """What a call is called there: strangers make Call-IDs of any length."""
    return call if len(call) <= LONGEST_NAME else hashlib.sha256(call.encode("utf-8", "surrogateescape")).hexdigest()


def _handover(event: dict[str, object]) -> Handover:
    def text(name: str) -> str:
        return str(event.get(name, ""))

    def number(name: str) -> float:
        value = event.get(name)
        return float(value) if isinstance(value, int | float) else 0.0

    return Handover(
        from_link=text("from_link"), to_link=text("to_link"),
        from_address=text("from_address"), to_address=text("to_address"),
        since_noticed_ms=number("since_noticed_ms"), since_update_ms=number("since_update_ms"),
        sent_again=int(number("sent_again")), received_again=int(number("received_again")),
        make_before_break=event.get("make_before_break") is True,
    )  # fmt: skip
