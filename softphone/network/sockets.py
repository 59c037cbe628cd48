"""Where the phone's sockets come from: it never asks which network they are in.

`DirectSockets` makes them here; `HomeSockets` gets them from the terminal's host OS, bound to the home address.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Protocol

from mobility.client import HostClient, MobilityError, SocketType
from softphone.errors import TransportError
from softphone.network.resolver import KnownNames, MachineNames, Resolver
from softphone.sip.location import Names

BACKLOG = 64


class Sockets(Protocol):
    """The socket factory (docs/design.md, "Phone"). Raises TransportError when the network does not let it."""

    async def udp(self, host: str, port: int) -> socket.socket:
        """A datagram socket bound to ``host`` and ``port`` (0: any), non-blocking."""

    async def tcp(self, host: str) -> socket.socket:
        """An unconnected stream socket bound to ``host``, non-blocking."""

    async def listen(self, host: str, port: int) -> socket.socket:
        """A listening stream socket, non-blocking."""

    def local_address(self, family: int) -> str:
        """The address for Contact, Via and SDP; ``family`` is ``socket.AF_INET6`` or ``AF_INET``."""

    def names(self) -> Names:
        """The DNS as this network knows it."""


def family_of(host: str) -> socket.AddressFamily:
    """The address family of a numeric address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class DirectSockets:
    """Sockets in the network that this process is in.

    ``addresses`` fixes what `local_address` answers; otherwise the address towards the default route, else loopback.
    """

    def __init__(self, *addresses: str) -> None:
        self._addresses = {int(family_of(address)): address for address in addresses}

    async def udp(self, host: str, port: int) -> socket.socket:
        return self._make(host, port, socket.SOCK_DGRAM)

    async def tcp(self, host: str) -> socket.socket:
        return self._make(host, 0, socket.SOCK_STREAM)

    async def listen(self, host: str, port: int) -> socket.socket:
        sock = self._make(host, port, socket.SOCK_STREAM)
        try:
            sock.listen(BACKLOG)
        except OSError as exc:
            sock.close()
            raise TransportError(f"cannot listen on {host} port {port}: {exc.strerror}") from exc
        return sock

    def local_address(self, family: int) -> str:
        if family in self._addresses:
            return self._addresses[family]
        far, near = ("2001:db8::1", "::1") if family == socket.AF_INET6 else ("192.0.2.1", "127.0.0.1")
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((far, 9))  # sends nothing: only asks the routing table
                return str(probe.getsockname()[0])
            except OSError:
                return near

    def names(self) -> Names:
        return MachineNames()

    def _make(self, host: str, port: int, kind: socket.SocketKind) -> socket.socket:
        sock = socket.socket(family_of(host), kind)
        try:
            sock.setblocking(False)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.bind((host, port))
        except OSError as exc:
            sock.close()
            raise TransportError(
                f"cannot bind {host} port {port}: {exc.strerror}; "
                "check that the address is on this machine and the port is free"
            ) from exc
        return sock


class HomeSockets:
    """Sockets of the terminal's host OS: they carry the home address wherever the terminal is."""

    def __init__(self, host: HostClient | str | os.PathLike[str]) -> None:
        """``host``: a client of the mobility process, or the path of its ``host.sock``. Opens nothing yet."""
        self._host = host if isinstance(host, HostClient) else HostClient(host)
        self.control = None if isinstance(host, HostClient) else Path(host).with_name("control.sock")
        "Where the mobility process tells what happens; None: not known."

    async def udp(self, host: str, port: int) -> socket.socket:
        return self._make("dgram", host, port)

    async def tcp(self, host: str) -> socket.socket:
        return self._make("stream", host, 0)

    async def listen(self, host: str, port: int) -> socket.socket:
        return self._make("stream", host, port, BACKLOG)

    def local_address(self, family: int) -> str:
        try:
            address = self._host.address()
        except MobilityError as exc:
            raise TransportError(f"no home address: {exc}") from exc
        if family_of(address) != family:
            raise TransportError(f"the home address {address} is of another IP version; choose the other one")
        return address

    def names(self) -> Names:
        """What the host OS knows itself (servers behind a gateway); then through the home network where the host OS
        names servers (``host_os.dns``), else as this machine does.
        """
        try:
            information = self._host.information()
        except MobilityError as exc:
            raise TransportError(f"no name server: {exc}") from exc
        servers, hosts = information.get("dns"), information.get("hosts")
        names = (
            Resolver([str(server) for server in servers], self._unbound)
            if isinstance(servers, list) and servers
            else MachineNames()
        )
        if not isinstance(hosts, dict) or not hosts:
            return names
        return KnownNames({str(name): str(address) for name, address in hosts.items()}, names)

    def _unbound(self, kind: socket.SocketKind, family: socket.AddressFamily) -> socket.socket:
        return self._host.socket("stream" if kind == socket.SOCK_STREAM else "dgram", family=family)

    def _make(self, kind: SocketType, host: str, port: int, listen: int | None = None) -> socket.socket:
        try:
            return self._host.socket(
                kind, family=family_of(host), bind=(host, port), listen=listen, reuse_address=listen is not None
            )
        except MobilityError as exc:
            raise TransportError(f"no socket on {host} port {port} from the host OS: {exc}") from exc


async def connect(sock: socket.socket, host: str, port: int, seconds: float) -> None:
    """Connect a stream socket within ``seconds``; closes it and raises TransportError on failure."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException as exc:
        sock.close()
        if isinstance(exc, TimeoutError):
            raise TransportError(f"no connection to {host} port {port} within {seconds:g} s") from exc
        if isinstance(exc, OSError):
            raise TransportError(f"cannot connect to {host} port {port}: {exc.strerror}") from exc
        raise
