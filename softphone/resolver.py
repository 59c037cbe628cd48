"""Names to addresses by way of the host OS: the queries leave with the home address, like the calls that follow.

dnspython asks, retries and understands; the sockets are those that the host OS makes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.resolver

T = TypeVar("T")

SECONDS = 10.0
"For an answer, all attempts at all servers included."
ATTEMPT_SECONDS = 1.5
"Until a query is repeated: a handover may have swallowed it."

MakeSocket = Callable[[socket.SocketKind, socket.AddressFamily], socket.socket]
"Makes a non-blocking, unbound socket; raises OSError."


class HomeResolver:
    """Asks ``servers`` (numeric addresses), in their order."""

    def __init__(self, servers: Sequence[str], make: MakeSocket, *, port: int = 53) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        self._resolver.nameservers = list(servers)
        self._resolver.port = port
        self._resolver.timeout = ATTEMPT_SECONDS
        self._resolver.lifetime = SECONDS
        self._backend = _Backend(make)

    async def resolve(self, name: str, family: int) -> str:
        """The first address of the family. Raises OSError."""
        kind = "AAAA" if family == socket.AF_INET6 else "A"
        try:
            answer = await self._resolver.resolve(name, kind, search=False, backend=self._backend)
        except dns.resolver.NXDOMAIN as error:
            raise socket.gaierror(socket.EAI_NONAME, f"the DNS does not know {name}") from error
        except dns.resolver.NoAnswer as error:
            raise socket.gaierror(socket.EAI_NONAME, f"{name} has no {kind} record") from error
        except dns.exception.DNSException as error:
            asked = ", ".join(str(server) for server in self._resolver.nameservers)
            raise socket.gaierror(
                socket.EAI_AGAIN, f"no answer about {name} from {asked} (host_os.dns): {error}"
            ) from error
        return str(answer[0])


class _Backend(dns.asyncbackend.Backend):
    """asyncio, with sockets of our making."""

    def __init__(self, make: MakeSocket) -> None:
        self._make = make

    def name(self) -> str:
        return "asyncio"

    async def make_socket(
        self, af: int, socktype: int, proto: int = 0, source: Any = None, destination: Any = None,
        timeout: float | None = None, ssl_context: Any = None, server_hostname: str | None = None,
    ) -> _Datagrams | _Stream:  # fmt: skip
        made = self._make(socket.SocketKind(socktype), socket.AddressFamily(af))
        if socktype == socket.SOCK_DGRAM:
            return _Datagrams(af, made)
        try:
            await _within(asyncio.get_running_loop().sock_connect(made, destination), timeout)
        except BaseException:
            made.close()
            raise
        return _Stream(af, made)

    async def sleep(self, interval: float) -> None:
        await asyncio.sleep(interval)

    async def wait_for(self, awaitable: Awaitable[Any], timeout: float | None) -> Any:
        return await _within(awaitable, timeout)


class _Datagrams(dns.asyncbackend.DatagramSocket):
    def __init__(self, family: int, made: socket.socket) -> None:
        super().__init__(family, socket.SOCK_DGRAM)
        self._socket = made

    async def sendto(self, what: bytes, destination: Any, timeout: float | None) -> int:
        return await _within(asyncio.get_running_loop().sock_sendto(self._socket, what, destination), timeout)

    async def recvfrom(self, size: int, timeout: float | None) -> tuple[bytes, Any]:
        return await _within(asyncio.get_running_loop().sock_recvfrom(self._socket, size), timeout)

    async def getpeername(self) -> Any:
        return self._socket.getpeername()

    async def getsockname(self) -> Any:
        return self._socket.getsockname()

    async def close(self) -> None:
        self._socket.close()


class _Stream(dns.asyncbackend.StreamSocket):
    def __init__(self, family: int, made: socket.socket) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._socket = made

    async def sendall(self, what: bytes, timeout: float | None) -> None:
        await _within(asyncio.get_running_loop().sock_sendall(self._socket, what), timeout)

    async def recv(self, size: int, timeout: float | None) -> bytes:
        return await _within(asyncio.get_running_loop().sock_recv(self._socket, size), timeout)

    async def getpeername(self) -> Any:
        return self._socket.getpeername()

    async def getsockname(self) -> Any:
        return self._socket.getsockname()

    async def close(self) -> None:
        self._socket.close()


async def _within(awaitable: Awaitable[T], seconds: float | None) -> T:
    try:
        return await asyncio.wait_for(awaitable, seconds)
    except TimeoutError as error:
        raise dns.exception.Timeout(timeout=seconds) from error  # type: ignore[no-untyped-call]
