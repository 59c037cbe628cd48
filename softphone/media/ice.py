"""Connectivity checks (RFC 8445) for the socket of one stream, by aioice. Optional; off where no account asks for it.

aioice makes its own sockets in the network that the process is in. Ours may be in another one (the host OS of a
terminal), so `_OnSocket` replaces that one step. What remains as it is: STUN servers over IPv4 only, and TURN over a
socket of aioice's own, that is in the network of the process: so relays are for phones without a mobile home address.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

import aioice
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import ConnectionClosed, StunProtocol, relayed_candidate, server_reflexive_candidate

from softphone.media.ice_description import IceDescription, IceSettings

logger = logging.getLogger(__name__)

GATHERING = 2.0
"Seconds for the answers of STUN and TURN servers; the phone rings no earlier."
CONNECTING = 15.0
"Seconds for the checks."

malformed_stun = (AssertionError, IndexError, KeyError, UnicodeError, struct.error)
"What aioice raises beside ValueError: it reads some attributes without a look at their length."


class _Protocol(StunProtocol):
    """Hands on at once what is no STUN (RFC 7983), and lets nothing that is malformed out."""

    receiver: _OnSocket

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        if not isinstance(data, bytes) or not data:
            return
        if data[0] > 3:
            if self.receiver.knows((addr[0], addr[1])):
                self.receiver.on_data(data)
            else:
                self.receiver.strangers += 1
            return
        try:
            super().datagram_received(data, addr)
        except malformed_stun:
            self.receiver.malformed += 1


class _OnSocket(aioice.Connection):
    """aioice's connection on a socket that is there already."""

    def __init__(self, sock: socket.socket, settings: IceSettings) -> None:
        super().__init__(
            ice_controlling=True,
            stun_server=settings.stun,
            turn_server=settings.turn,
            turn_username=settings.turn_user or None,
            turn_password=settings.turn_password or None,
            turn_transport=settings.turn_transport,
        )
        self.sock = sock
        self.on_data: Callable[[bytes], None] = lambda data: None
        self.malformed = self.strangers = 0

    def knows(self, address: tuple[str, int]) -> bool:
        """Whether this is an address of the other side: of the chosen pair, or of one that is or was checked."""
        chosen = self._nominated.get(1)
        if chosen is not None and chosen.remote_addr == address:
            return True
        return any(pair.remote_addr == address for pair in self._check_list)

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> list[aioice.Candidate]:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_datagram_endpoint(lambda: _Protocol(self), sock=self.sock)
        host, port = self.sock.getsockname()[:2]
        protocol.local_candidate = aioice.Candidate(
            candidate_foundation("host", "udp", host), component, "udp", candidate_priority(component, "host"),
            host, port, "host",
        )  # fmt: skip
        self._protocols.append(protocol)
        candidates = [protocol.local_candidate]
        tasks: list[asyncio.Task[tuple[aioice.Candidate, StunProtocol | None]]] = []
        if self.stun_server is not None and self.sock.family == socket.AF_INET:
            tasks.append(asyncio.create_task(server_reflexive_candidate(protocol, self.stun_server)))
        if self.turn_server is not None:
            relay = relayed_candidate(
                component=component,
                hide_related_address=False,
                protocol_factory=lambda: _Protocol(self),
                turn_server=self.turn_server,
                turn_username=self.turn_username,
                turn_password=self.turn_password,
                turn_ssl=False,
                turn_transport=self.turn_transport,
            )
            tasks.append(asyncio.create_task(relay))
        if tasks:
            done, pending = await asyncio.wait(tasks, timeout=GATHERING)
            for task in pending:
                task.cancel()
            for task in done:
                if (failure := task.exception()) is not None:
                    logger.warning("no candidate from a STUN or TURN server: %s", failure)
                    continue
                candidate, relay_protocol = task.result()
                if (candidate.host, candidate.port) != (host, port):
                    candidates.append(candidate)
                if relay_protocol is not None:
                    self._protocols.append(relay_protocol)
        return candidates

    def data_received(self, data: bytes, component: int) -> None:
        """What begins like STUN and is none."""
        self.malformed += 1

    def send_now(self, data: bytes) -> bool:
        """Send by the chosen pair; False: there is none."""
        pair = self._nominated.get(1)
        if pair is None:
            return False
        pair.protocol.transport.sendto(data, pair.remote_addr)
        return True

    @property
    def chosen(self) -> str:
        pair = self._nominated.get(1)
        if pair is None:
            return ""
        local, remote = pair.local_candidate, pair.remote_candidate
        return f"{local.host}:{local.port} ({local.type}) -> {remote.host}:{remote.port} ({remote.type})"


class IceAgent:
    """ICE of one stream. `gather` before the first description, `connect` after the agreement."""

    def __init__(self, sock: socket.socket, settings: IceSettings) -> None:
        """``sock`` is duplicated: the caller's stays usable when the other side turns out not to use ICE."""
        self._connection = _OnSocket(sock.dup(), settings)
        self._connection.sock.setblocking(False)
        self._watch: asyncio.Task[None] | None = None
        self.on_failure: Callable[[str], None] = lambda why: None
        self.on_connected: Callable[[], None] = lambda: None
        self.connected = False

    async def gather(self) -> IceDescription:
        """What our description says."""
        await self._connection.gather_candidates()
        candidates = tuple(c.to_sdp() for c in self._connection.local_candidates)
        return IceDescription(self._connection.local_username, self._connection.local_password, candidates)

    def connect(self, remote: IceDescription, *, controlling: bool, on_data: Callable[[bytes], None]) -> None:
        """Begin the checks; `on_connected` or `on_failure` is called when they end."""
        self._connection.on_data = on_data
        self._connection.ice_controlling = controlling or remote.lite
        self._connection.remote_is_lite = remote.lite
        self._connection.remote_username = remote.fragment
        self._connection.remote_password = remote.password
        self._watch = asyncio.get_running_loop().create_task(self._run(remote), name="ICE")

    def send(self, data: bytes) -> bool:
        """False: there is no way (yet)."""
        return self._connection.send_now(data)

    @property
    def malformed(self) -> int:
        """Datagrams that began like STUN and were none, or malformed."""
        return self._connection.malformed

    @property
    def strangers(self) -> int:
        """Packets from addresses that are none of the other side's."""
        return self._connection.strangers

    @property
    def path(self) -> str:
        """The chosen pair, for people."""
        return self._connection.chosen

    async def _run(self, remote: IceDescription) -> None:
        connection = self._connection
        try:
            async with asyncio.timeout(CONNECTING):
                for candidate in remote.candidates:
                    await connection.add_remote_candidate(aioice.Candidate.from_sdp(candidate))
                await connection.add_remote_candidate(None)
                await connection.connect()
        except (OSError, TimeoutError, ValueError) as exc:
            self.on_failure(f"no way to the other side was found: {exc or 'the checks take too long'}")
            return
        self.connected = True
        self.on_connected()
        if isinstance(await connection.get_event(), ConnectionClosed):
            # RFC 7675: who does not answer any more does not want to be sent to.
            self.connected = False
            self.on_failure("the other side does not answer connectivity checks any more")

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._connection.close()
        self._connection.sock.close()
