"""Names to servers and addresses; by way of the host OS queries leave with the home address, like the calls then.

dnspython asks, retries and understands; the sockets are those that the host OS makes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, TypeVar

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.resolver

from softphone.sip.location import Naptr, Srv

T = TypeVar("T")

SECONDS = 10.0
"For an answer, all attempts at all servers included."
OPTIONAL_SECONDS = 3.0
"For an answer about NAPTR and SRV: some name servers never give one."
ATTEMPT_SECONDS = 1.5
"Until a query is repeated: a handover may have swallowed it."

MakeSocket = Callable[[socket.SocketKind, socket.AddressFamily], socket.socket]
"Makes a non-blocking, unbound socket; raises OSError."


class Resolver:
    """Asks ``servers`` (numeric addresses), or those of this machine, in their order; ``make`` makes the sockets."""

    def __init__(self, servers: Sequence[str] | None = None, make: MakeSocket | None = None, *, port: int = 53) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        if servers is None:
            try:
                self._resolver.read_resolv_conf("/etc/resolv.conf")
            except dns.resolver.NoResolverConfiguration:
                self._resolver.nameservers = []
        else:
            self._resolver.nameservers = list(servers)
            self._resolver.port = port
        self._resolver.timeout = ATTEMPT_SECONDS
        self._backend = None if make is None else _Backend(make)

    async def naptr(self, name: str) -> list[Naptr]:
        """None where there are none. Raises OSError when nobody answers."""
        return [
            Naptr(r.order, r.preference, r.flags.decode(), r.service.decode(), _text(r.replacement))
            for r in await self._optional(name, "NAPTR")
        ]

    async def srv(self, name: str) -> list[Srv]:
        """None where there are none. Raises OSError when nobody answers."""
        return [Srv(r.priority, r.weight, r.port, _text(r.target)) for r in await self._optional(name, "SRV")]

    async def addresses(self, name: str, version: int) -> list[str]:
        """All addresses of an IP version (4 or 6), at least one. Raises OSError."""
        kind = "AAAA" if version == 6 else "A"
        return [str(record) for record in await self._ask(name, kind, SECONDS)]

    async def _optional(self, name: str, kind: str) -> Sequence[Any]:
        try:
            return await self._ask(name, kind, OPTIONAL_SECONDS)
        except socket.gaierror as error:
            if error.errno == socket.EAI_NONAME:
                return []
            raise

    async def _ask(self, name: str, kind: str, seconds: float) -> Sequence[Any]:
        try:
            return list(await self._resolver.resolve(name, kind, search=False, backend=self._backend, lifetime=seconds))
        except dns.resolver.NXDOMAIN as error:
            raise socket.gaierror(socket.EAI_NONAME, f"the DNS does not know {name}") from error
        except dns.resolver.NoAnswer as error:
            raise socket.gaierror(socket.EAI_NONAME, f"{name} has no {kind} record") from error
        except dns.exception.DNSException as error:
            asked = ", ".join(str(server) for server in self._resolver.nameservers)
            raise socket.gaierror(
                socket.EAI_AGAIN, f"no answer about {name} from {asked} (host_os.dns): {error}"
            ) from error


def _text(name: Any) -> str:
    return str(name.to_text(omit_final_dot=len(name) > 1))


class MachineNames(Resolver):
    """As this machine resolves: addresses also from its hosts file, the rest from its name servers."""

    async def addresses(self, name: str, version: int) -> list[str]:
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        found = await asyncio.get_running_loop().getaddrinfo(name, None, family=family, type=socket.SOCK_DGRAM)
        return [str(entry[4][0]) for entry in found]


class KnownNames:
    """Names that are known with their addresses, which no name server has to be asked about; then ``others``."""

    def __init__(self, known: Mapping[str, str], others: Resolver) -> None:
        self._known = {name.lower(): address for name, address in known.items()}
        self._others = others

    async def naptr(self, name: str) -> list[Naptr]:
        """As `Resolver.naptr`."""
        return [] if self._is_known(name) else await self._others.naptr(name)

    async def srv(self, name: str) -> list[Srv]:
        """As `Resolver.srv`."""
        _service, _, rest = name.partition("._")
        return [] if self._is_known(rest.partition(".")[2]) else await self._others.srv(name)

    async def addresses(self, name: str, version: int) -> list[str]:
        """As `Resolver.addresses`."""
        if not self._is_known(name):
            return await self._others.addresses(name, version)
        address = self._known[name.rstrip(".").lower()]
        if ip_address(address).version != version:
            raise socket.gaierror(socket.EAI_NONAME, f"{name} has no address of IPv{version} in the host OS")
        return [address]

    def _is_known(self, name: str) -> bool:
        return name.rstrip(".").lower() in self._known


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
