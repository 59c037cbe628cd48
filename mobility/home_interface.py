"""Has the holder keep the host OS's interface as the node says: its MTU, and the IPv4 home address it was given."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

from mobility.homes import HostAddressesChanged
from mobility.mipv6.place_binding import HomeAddress4Assigned, HomeAddress4Refused
from mobility.net.loop import Loop
from mobility.terminal import HostMtuChanged
from mobility.trace import Trace
from mobility.translation.translation import VirtualAddressSet

log = logging.getLogger(__name__)

_WHAT = {"mtu": "the MTU", "address4": "the IPv4 address", "addresses": "what home addresses there are"}


class HomeInterface:
    """Tells the holder what changes, one thing after the other.

    The data plane does not wait for an answer: a holder that hangs must not stop packets. What is overtaken by
    something newer is not told any more.
    """

    def __init__(self, loop: Loop, path: Path, largest_mtu: int | None) -> None:
        self._loop = loop
        self._path = path
        self._largest_mtu = largest_mtu
        self._wanted: dict[str, object] = {}
        self._asking = ""
        self._socket: socket.socket | None = None
        "While an answer is awaited."

    def follow(self, trace: Trace, mtu: int) -> None:
        """Sets the MTU to ``mtu`` now, and then everything to what the node's events say."""
        self._set_mtu(mtu)
        trace.subscribe(self._happened)

    def close(self) -> None:
        if self._socket is not None:
            self._loop.unwatch(self._socket)
            self._socket.close()
            self._socket = None

    def _happened(self, event: Mapping[str, object]) -> None:
        match event:
            case {"event": HostMtuChanged.__name__, "mtu": int(mtu)}:
                self._set_mtu(mtu)
            case {"event": HomeAddress4Assigned.__name__ | VirtualAddressSet.__name__, "address": str(address)}:
                self._want("address4", str(IPv4Address(address)))
            case {"event": HostAddressesChanged.__name__, "preferred": str(preferred), "deprecated": str(deprecated)}:
                self._want("addresses", {"preferred": preferred.split(), "deprecated": deprecated.split()})
            case {"event": HomeAddress4Refused.__name__}:
                self._want("address4", None)

    def _set_mtu(self, mtu: int) -> None:
        self._want("mtu", mtu if self._largest_mtu is None else min(mtu, self._largest_mtu))

    def _want(self, operation: str, value: object) -> None:
        self._wanted[operation] = value
        if self._socket is None:
            self._ask()

    def _ask(self) -> None:
        while self._wanted and self._socket is None:
            self._asking, value = self._wanted.popitem()
            request = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                request.connect(os.fspath(self._path))
                request.send(json.dumps({"op": self._asking, self._asking: value}).encode())
            except OSError as error:
                request.close()
                self._complain(error.strerror or str(error))
                continue
            self._socket = request
            self._loop.watch(request, self._answered)

    def _answered(self, _events: int) -> None:
        if self._socket is None:
            return
        try:
            answer = self._socket.recv(4096)
        except OSError as error:
            answer = str(error).encode()
        self.close()
        try:
            done = json.loads(answer).get("ok")
        except (ValueError, AttributeError):
            done = False
        if not done:
            self._complain(answer.decode(errors="replace"))
        self._ask()

    def _complain(self, why: str) -> None:
        log.warning("%s of the host OS stays as it is: %s", _WHAT[self._asking], why)
