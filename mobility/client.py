"""The public interface of the mobility layer: sockets of the host OS; status, events and commands of the data plane.

::

    host = HostClient("/run/roamphone/mn/host.sock")
    udp = host.socket(bind=(host.address(), 5060))        # lives in the host OS, is used here

    async with ControlClient("/run/roamphone/mn/control.sock") as control:
        print(await control.status())
        async for event in control.events():
            print(event["event"])
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from mobility.connection import Connection

LARGEST_MESSAGE = 1 << 16
MOST_DESCRIPTORS = 8
LONGEST_LINE = 1 << 24

SocketType = Literal["dgram", "stream"]


class MobilityError(Exception):
    """Something about the mobility layer; the text says what to do."""


class NotRunning(MobilityError, ConnectionError):
    """No mobility process serves this socket (any more)."""


class HostError(MobilityError, OSError):
    """The host OS refused a socket; ``errno`` says why (for example EADDRINUSE, EADDRNOTAVAIL)."""


class CommandRefused(MobilityError):
    """The data plane understood the request and will not do it."""


class ProtocolError(MobilityError):
    """The other side speaks another language: probably another version of roamphone."""


class HostClient:
    """Makes sockets in the host OS: the network namespace that has the home address.

    A socket keeps the namespace it was made in; this process stays where it is. Methods block for a fraction of a
    millisecond (the holder is on this machine and does nothing else), at most ``timeout`` seconds; in asyncio call
    them directly, or in `asyncio.to_thread` where that is not acceptable. The object keeps no connection open and may
    be used by several threads.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 5.0) -> None:
        self._path = Path(path)
        self._timeout = timeout

    def information(self) -> dict[str, object]:
        """About the host OS: address, prefix length, MTU, interface, namespace, process. Raises MobilityError."""
        answer, descriptors = self._ask({"op": "info"})
        _close(descriptors)
        return answer

    def address(self) -> str:
        """The home address. Raises MobilityError."""
        return str(self.information()["address"])

    def socket(
        self,
        kind: SocketType = "dgram",
        *,
        family: socket.AddressFamily = socket.AF_INET6,
        bind: tuple[str, int] | None = None,
        listen: int | None = None,
        reuse_address: bool = False,
    ) -> socket.socket:
        """A socket of the host OS, non-blocking and not inherited by programs that this process starts.

        ``bind``: local address and port (0: any); None leaves it unbound. ``listen``: backlog, for a stream socket that
        is to accept connections. Raises HostError with the errno of the failed call, NotRunning.
        """
        request: dict[str, object] = {
            "op": "socket",
            "family": "inet6" if family == socket.AF_INET6 else "inet",
            "type": kind,
            "reuse_address": reuse_address,
        }
        if bind is not None:
            request["bind"] = list(bind)
        if listen is not None:
            request["listen"] = listen
        _, descriptors = self._ask(request)
        if len(descriptors) != 1:
            _close(descriptors)
            raise ProtocolError(f"{self._path} answered without a socket")
        made = socket.socket(fileno=descriptors[0])
        made.setblocking(False)
        return made

    def tunnel(self) -> int:
        """A copy of the descriptor of the TUN device, for the data plane. Raises MobilityError."""
        _, descriptors = self._ask({"op": "tun"})
        if len(descriptors) != 1:
            _close(descriptors)
            raise ProtocolError(f"{self._path} answered without the TUN device")
        return descriptors[0]

    def namespaces(self) -> dict[str, int]:
        """Descriptors of the host OS's namespaces, for `setns`: ``net``, and ``user`` if it has its own.

        The caller closes them. Raises MobilityError.
        """
        answer, descriptors = self._ask({"op": "namespaces"})
        names = answer.get("namespaces")
        if not isinstance(names, list) or len(names) != len(descriptors):
            _close(descriptors)
            raise ProtocolError(f"{self._path} answered without its namespaces")
        return dict(zip((str(name) for name in names), descriptors, strict=True))

    def _ask(self, request: Mapping[str, object]) -> tuple[dict[str, object], list[int]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            # A Unix socket whose queue is full refuses a non-blocking connect; a blocking one waits its turn.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(self._timeout))
            try:
                connection.connect(os.fspath(self._path))
                connection.settimeout(self._timeout)
                connection.send(json.dumps(request).encode())
                data, descriptors = _receive(connection)
            except (TimeoutError, BlockingIOError) as error:
                raise MobilityError(f"the host OS at {self._path} does not answer") from error
            except (FileNotFoundError, ConnectionError) as error:
                raise _not_running(self._path) from error
            except OSError as error:
                raise MobilityError(f"cannot talk to the host OS at {self._path}: {error.strerror}") from error
        try:
            return self._understood(data), descriptors
        except BaseException:
            _close(descriptors)
            raise

    def _understood(self, data: bytes) -> dict[str, object]:
        if not data:
            raise _not_running(self._path)
        answer = _decode(data, self._path)
        if answer.get("ok") is True:
            return answer
        number = answer.get("errno")
        refused = _refused(answer)
        raise HostError(number, str(refused)) if isinstance(number, int) else refused


class ControlClient:
    """Talks to the data plane. Use it as an asynchronous context manager, or call `connect` and `close`.

    One client serves one event stream and any number of requests, side by side.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 5.0) -> None:
        self._path = Path(path)
        self._timeout = timeout
        self._connection = Connection(
            path, longest=LONGEST_LINE, gone=lambda: _not_running(self._path), refused=_refused
        )
        self._topics: frozenset[str] = frozenset()

    async def __aenter__(self) -> ControlClient:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Raises NotRunning, MobilityError."""
        try:
            await self._connection.open()
        except (FileNotFoundError, ConnectionError) as error:
            raise _not_running(self._path) from error
        except OSError as error:
            raise MobilityError(f"cannot talk to the mobility process at {self._path}: {error.strerror}") from error

    async def close(self) -> None:
        """Ends the connection; `events` ends too. A second call does nothing."""
        await self._connection.close()

    async def status(self) -> dict[str, object]:
        """All tables and counters of the node. Raises MobilityError."""
        return cast("dict[str, object]", await self.request("status"))

    async def counters(self) -> dict[str, object]:
        """The counters alone. Raises MobilityError."""
        return cast("dict[str, object]", await self.request("counters"))

    async def command(self, name: str, **arguments: object) -> object:
        """Has the node do something (``reregister``...). Raises CommandRefused, MobilityError."""
        return await self.request("command", name=name, arguments=arguments)

    async def application_keys(self) -> dict[str, str]:
        """What a call tells of this node: ``address``, the home address, and ``fingerprint`` of the certificate by
        which others know it (``sha-256 AA:BB:...``, RFC 8122). Raises CommandRefused: no keys for calls here."""
        return cast("dict[str, str]", await self.request("application-keys"))

    async def offer_call(self, call: str, lease: float = 300.0) -> None:
        """A call is offered: those whom we do not know yet may negotiate keys, for ``lease`` seconds at most, which
        count as soon as `secure_call` knows them. Raises CommandRefused, MobilityError."""
        await self.request("offer-call", call=call, lease=lease)

    async def secure_call(
        self, call: str, peer: str, fingerprints: Sequence[str], *, active: bool, lease: float = 300.0
    ) -> dict[str, str]:
        """From now on packets between us and the home address ``peer`` are protected or wait, never in clear, until
        ``lease`` seconds are over: say it again in time, and after a reconnection. ``fingerprints``: one of them is
        that of the peer's certificate; ``active``: we begin. Returns how it stands with this peer: ``state``, one of
        ``negotiating``, ``protected``, and where the configuration decides alone ``configured`` or ``bypassed``;
        ``algorithm`` of the keys that are there. What becomes of it comes as events (ApplicationProtected,
        ApplicationUnprotected, ApplicationKeysFailed). Raises CommandRefused, MobilityError."""
        return cast(
            "dict[str, str]",
            await self.request(
                "secure-call", call=call, peer=peer, fingerprints=list(fingerprints), active=active, lease=lease
            ),
        )

    async def release_call(self, call: str) -> None:
        """A call is over, or does without; so is one that nobody knows. Raises CommandRefused, MobilityError."""
        await self.request("release-call", call=call)

    async def protection(self, peer: str) -> dict[str, str]:
        """How it stands with a home address, as `secure_call` tells it, whether a call asked for it or not; ``none``:
        packets go in clear. Raises CommandRefused, MobilityError."""
        return cast("dict[str, str]", await self.request("protection", peer=peer))

    async def trace(self, **settings: object) -> dict[str, object]:
        """Switches tracing, see docs/configuration.md; without settings only tells the state. Raises MobilityError."""
        return cast("dict[str, object]", await self.request("trace", **settings))

    async def recent(self) -> list[dict[str, object]]:
        """The latest events and discards, the oldest first. Raises MobilityError."""
        return cast("list[dict[str, object]]", await self.request("recent"))

    async def subscribe(self, *, packets: bool = False) -> None:
        """From now on no event is missed, whenever `events` is called. Raises MobilityError.

        ``packets``: packets at the stages that they pass as well (events ``packets``, docs/configuration.md), until
        this is called without. Those come as well as they can: a client that reads too slowly is told what it missed
        (``packets-missed``).
        """
        wanted = frozenset(("events", "packets") if packets else ("events",))
        if wanted != self._topics:
            await self.request("subscribe", topics=sorted(wanted))
            self._topics = wanted

    async def events(self) -> AsyncIterator[dict[str, object]]:
        """Everything that happens from now on, until the connection ends. Raises MobilityError.

        Events are kept from the first call on, or from that of `subscribe`; read them as long as the client is open.
        """
        if not self._topics:
            await self.subscribe()
        async for event in self._connection.events():
            yield event

    async def request(self, operation: str, **arguments: object) -> object:
        """One request; returns its result. Raises CommandRefused, NotRunning, MobilityError."""
        try:
            return await self._connection.request(operation, arguments, self._timeout)
        except TimeoutError as error:
            raise MobilityError(f"the mobility process at {self._path} does not answer") from error


def wait_ready(runtime: str | os.PathLike[str], *, timeout: float = 10.0) -> None:
    """Waits until the mobility process with this runtime directory serves requests.

    ``timeout`` in seconds; raises NotRunning after it.
    """
    path = Path(runtime) / "control.sock"
    deadline = time.monotonic() + timeout
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as attempt:
            attempt.settimeout(1.0)
            try:
                attempt.connect(os.fspath(path))
                return
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise _not_running(path) from error
        time.sleep(0.02)


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("@ll", whole, int((seconds - whole) * 1_000_000))


def _not_running(path: Path) -> NotRunning:
    return NotRunning(
        f"no mobility process serves {path}: start one with `mobility mn --config FILE` (its runtime directory is"
        f" `runtime` in that file), or look into its log"
    )


def _refused(answer: Mapping[str, object]) -> CommandRefused:
    return CommandRefused(str(answer.get("error", "no reason given")))


def _decode(data: bytes, path: Path) -> dict[str, object]:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{path} answered with something that is not JSON") from error
    if not isinstance(answer, dict):
        raise ProtocolError(f"{path} answered with something that is not an object")
    return answer


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """A message with its descriptors. Not `socket.recv_fds`, which in Python 3.11 forgets its flags."""
    descriptors = array.array("i")
    room = socket.CMSG_LEN(MOST_DESCRIPTORS * descriptors.itemsize)
    data, ancillary, _flags, _ = connection.recvmsg(LARGEST_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return data, list(descriptors)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
