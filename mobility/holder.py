"""The host-OS holder: the process that owns the network namespace in which programs see only the home address.

It makes the namespace and the TUN device, keeps a copy of the TUN descriptor (the device outlives a data plane),
and makes sockets in the namespace for whoever asks at ``host.sock``: SOCK_SEQPACKET, one JSON request, one JSON answer
with the descriptor as SCM_RIGHTS. It does nothing else, so that there is nothing it could die of.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from mobility.control import listen
from mobility.net import namespace, tun
from mobility.net.capabilities import may_make_namespaces
from mobility.net.loop import Loop, StopSignals
from mobility.net.tun import TunSettings

log = logging.getLogger(__name__)

LARGEST_REQUEST = 1 << 16
MOST_CLIENTS = 64
_FAMILIES = {"inet6": socket.AF_INET6, "inet": socket.AF_INET}
_KINDS = {"dgram": socket.SOCK_DGRAM, "stream": socket.SOCK_STREAM}


@dataclass(frozen=True, slots=True)
class HostSettings:
    """The host OS as configured."""

    tun: TunSettings
    namespace: str | None
    "Name under which ``ip netns`` knows it; None: it has none. Only root can have one."
    runtime: Path
    dns: tuple[IPv6Address | IPv4Address, ...] = ()
    "The servers that programs in the host OS ask."
    local: tuple[IPv6Address | IPv4Address, ...] = ()
    "Addresses at which something in the host OS itself answers for others (`mobility.gateway`)."
    hosts: tuple[tuple[str, str], ...] = ()
    "Names that programs find without asking a server, with their addresses."


class BadRequest(Exception):
    """The request is not one that this process understands; the text goes to the client."""


class Holder:
    """Owns the host OS. `enter` moves the calling process into it, for good."""

    def __init__(self, settings: HostSettings, former: Mapping[str, int] | None = None) -> None:
        """``former``: descriptors of the namespaces of a holder that died; programs and sockets in them go on."""
        self._settings = settings
        self._former = dict(former or {})
        self._tun = -1
        self._listener: socket.socket | None = None
        self._clients: dict[int, socket.socket] = {}
        self._ours = False
        self._own_user = False
        "The network namespace belongs to a user namespace of ours."
        self._mtu = settings.tun.mtu
        self._address4 = settings.tun.address4
        self._addresses: dict[IPv6Address, bool] = {settings.tun.address: False}
        "Home addresses; True: for what began already."
        self._marker = settings.runtime / "namespace"

    def enter(self) -> None:
        """Makes or takes over the namespace, moves there, makes the TUN device.

        Who may make namespaces makes one as root does; everybody else by way of a user namespace, where all else is
        the same. Raises `Forbidden` with the reason and the remedy, OSError.
        """
        name = self._settings.namespace
        if self._former:
            namespace.enter_all(self._former)
            self._own_user = "user" in self._former
        elif not may_make_namespaces():
            if name is not None:
                log.warning("the host OS gets no name %s: only root can give it one; use `mobility exec`", name)
            namespace.unshare_user_and_network()
            namespace.open_to_its_user()
            self._own_user = True
        elif name is None:
            namespace.unshare_network()
        elif namespace.exists(name):
            # Prepared by somebody else, or left by a holder that died: programs in it keep running. Ours if marked so.
            self._ours = self._marker.exists() and self._marker.read_text() == name
            descriptor = os.open(namespace.NAMED / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                namespace.enter(descriptor)
            finally:
                os.close(descriptor)
        else:
            namespace.withdraw(name)
            namespace.unshare_network()
            namespace.publish(name)
            self._ours = True
            self._marker.write_text(name)
        self._tun = tun.create(self._settings.tun)
        tun.add_local(self._settings.local)

    def serve(self, loop: Loop) -> None:
        """Begins to answer requests. Raises OSError."""
        self._listener = listen(self._settings.runtime / "host.sock", socket.SOCK_SEQPACKET)
        loop.watch(self._listener, lambda _events: self._accept(loop))

    def close(self, loop: Loop) -> None:
        """Closes all; a namespace that we made loses its name and goes with its last process and socket."""
        for client in list(self._clients.values()):
            self._drop(loop, client)
        if self._listener is not None:
            loop.unwatch(self._listener)
            self._listener.close()
            (self._settings.runtime / "host.sock").unlink(missing_ok=True)
        if self._tun >= 0:
            os.close(self._tun)
            self._tun = -1
        if self._ours and self._settings.namespace is not None:
            namespace.withdraw(self._settings.namespace)
            self._marker.unlink(missing_ok=True)

    def _accept(self, loop: Loop) -> None:
        if self._listener is None:
            return
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        if len(self._clients) >= MOST_CLIENTS:
            # The oldest has hung longest; a client of ours asks and goes within a millisecond.
            self._drop(loop, next(iter(self._clients.values())))
        client.setblocking(False)
        self._clients[client.fileno()] = client
        loop.watch(client, lambda _events: self._ready(loop, client))

    def _ready(self, loop: Loop, client: socket.socket) -> None:
        try:
            request = client.recv(LARGEST_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            request = b""
        if not request:
            self._drop(loop, client)
            return
        answer, made = self.answer(request)
        try:
            descriptors = [item if isinstance(item, int) else item.fileno() for item in made]
            socket.send_fds(client, [json.dumps(answer).encode()], descriptors)
        except OSError:  # gone, or does not read: its own loss
            self._drop(loop, client)
        finally:
            for item in made:
                if isinstance(item, socket.socket):
                    item.close()
                elif item != self._tun:
                    os.close(item)

    def answer(self, request: bytes) -> tuple[dict[str, object], list[socket.socket | int]]:
        """The answer to one request, with what is to be passed along; never raises."""
        try:
            asked = json.loads(request)
            if not isinstance(asked, dict):
                raise BadRequest("a request is a JSON object")
            match asked.get("op"):
                case "info":
                    return {"ok": True, **self._information()}, []
                case "tun":
                    return {"ok": True}, [self._tun]
                case "socket":
                    return {"ok": True}, [_make_socket(asked)]
                case "namespaces":
                    names = ["user", "net"] if self._own_user else ["net"]
                    paths = [f"/proc/self/ns/{name}" for name in names]
                    return {"ok": True, "namespaces": names}, [os.open(path, os.O_RDONLY) for path in paths]
                case "mtu":
                    self._set_mtu(asked.get("mtu"))
                    return {"ok": True}, []
                case "address4":
                    self._set_address4(asked.get("address4"))
                    return {"ok": True}, []
                case "addresses":
                    self._set_addresses(asked.get("addresses"))
                    return {"ok": True}, []
                case operation:
                    known = "address4, addresses, info, mtu, namespaces, socket, tun"
                    raise BadRequest(f"unknown operation {operation!r}; there are {known}")
        except BadRequest as bad:
            return {"ok": False, "error": str(bad)}, []
        except OSError as error:
            return {"ok": False, "errno": error.errno, "error": os.strerror(error.errno or 0)}, []
        except (ValueError, RecursionError):
            return {"ok": False, "error": "not JSON"}, []
        except Exception as error:
            log.exception("internal error while answering a request")
            return {"ok": False, "error": f"internal error: {error}"}, []

    def _set_mtu(self, mtu: object) -> None:
        if not isinstance(mtu, int) or isinstance(mtu, bool) or not 1280 <= mtu <= 65535:
            raise BadRequest("mtu is a number from 1280 to 65535")
        tun.set_mtu(self._settings.tun.name, mtu)
        self._mtu = mtu

    def _set_address4(self, wanted: object) -> None:
        try:
            address = None if wanted is None else IPv4Address(wanted if isinstance(wanted, str) else "")
        except ValueError as error:
            raise BadRequest("address4 is an IPv4 address, or null") from error
        tun.set_address4(self._settings.tun.name, self._address4, address)
        self._address4 = address

    def _set_addresses(self, wanted: object) -> None:
        match wanted:
            case {"preferred": list(preferred), "deprecated": list(deprecated)}:
                try:
                    addresses = {IPv6Address(str(each)): False for each in preferred}
                    addresses |= {IPv6Address(str(each)): True for each in deprecated}
                except ValueError as error:
                    raise BadRequest("addresses are IPv6 addresses") from error
            case _:
                raise BadRequest('addresses is {"preferred": [...], "deprecated": [...]}')
        if not addresses:
            raise BadRequest("the host OS has one home address at least")
        tun.set_addresses(self._settings.tun.name, self._addresses, addresses)
        self._addresses = addresses

    def _information(self) -> dict[str, object]:
        settings = self._settings
        address4 = self._address4
        return {
            "address": str(next(iter(self._addresses))),
            "addresses": [str(address) for address in self._addresses],
            "address4": None if address4 is None else str(address4),
            "mtu": self._mtu,
            "interface": settings.tun.name,
            "dns": [str(server) for server in settings.dns],
            "hosts": dict(settings.hosts),
            "namespace": None if self._own_user else settings.namespace,
            "pid": os.getpid(),
        }

    def _drop(self, loop: Loop, client: socket.socket) -> None:
        self._clients.pop(client.fileno(), None)
        loop.unwatch(client)
        client.close()


def run(
    settings: HostSettings,
    *,
    lifeline: int | None,
    ready: int | None,
    former: Mapping[str, int] | None = None,
) -> None:
    """The life of a holder process: makes the host OS, writes a line to ``ready``, serves until it is told to stop.

    ``lifeline``: a pipe whose other end the parent holds; its end stops the holder. ``former``: see `Holder`. Raises
    OSError at the start.
    """
    parent = os.getppid()
    loop = Loop()
    holder = Holder(settings, former)
    signals = StopSignals(loop, lifeline)
    try:
        holder.enter()
        if lifeline is not None:
            namespace.die_with_parent(signal.SIGTERM, parent)
        holder.serve(loop)
        if ready is not None:
            os.write(ready, b"ready\n")
            os.close(ready)
        while not loop.stopping:
            loop.turn(None)
    finally:
        with contextlib.suppress(OSError):
            holder.close(loop)
        signals.close()
        loop.close()


def _make_socket(asked: Mapping[str, object]) -> socket.socket:
    family, kind = asked.get("family", "inet6"), asked.get("type", "dgram")
    if not isinstance(family, str) or family not in _FAMILIES:
        raise BadRequest(f"family is one of {', '.join(_FAMILIES)}, not {family!r}")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise BadRequest(f"type is one of {', '.join(_KINDS)}, not {kind!r}")
    backlog, reuse = asked.get("listen"), asked.get("reuse_address", False)
    if backlog is not None and (kind != "stream" or not isinstance(backlog, int) or not 0 <= backlog <= 65535):
        raise BadRequest("listen is the backlog of a stream socket, 0 to 65535")
    if not isinstance(reuse, bool):
        raise BadRequest("reuse_address is true or false")
    where = None if asked.get("bind") is None else _bind_address(asked["bind"], family)
    made = socket.socket(_FAMILIES[family], _KINDS[kind] | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == "inet6":
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if where is not None:
            made.bind(where)
        if backlog is not None:
            made.listen(backlog)
    except BaseException:
        made.close()
        raise
    return made


def _bind_address(bind: object, family: str) -> tuple[str, int]:
    match bind:
        case [str(address), int(port)] if 0 <= port <= 65535 and not isinstance(port, bool):
            pass
        case _:
            raise BadRequest('bind is ["address", port], port 0 to 65535')
    try:
        # Parsed here, so that nothing is ever looked up in the DNS on the way.
        checked = IPv6Address(address) if family == "inet6" else IPv4Address(address)
    except ValueError as error:
        raise BadRequest(f"{address!r} is not an address of family {family}") from error
    return str(checked), port
