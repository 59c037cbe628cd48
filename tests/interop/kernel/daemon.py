"""Mobile IPv6's signalling beside the guest's kernel, in place of a daemon such as UMIP. All data is the kernel's.

    python -m tests.interop.kernel.daemon serve ADDRESS ORDERS      home agent and correspondent
    python -m tests.interop.kernel.daemon register HOME AGENT CARE_OF SEQUENCE
    python -m tests.interop.kernel.daemon esp-in-udp PORT
    python -m tests.interop.kernel.daemon optimize HOME CORRESPONDENT CARE_OF SEQUENCE

Runs in the guest. The kernel carries messages under its IPsec, with its home address options and routing headers.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from ipaddress import IPv6Address
from pathlib import Path
from typing import TypeVar

from mobility.mipv6.return_routability import Nonces, authorized, binding_key, is_authorized
from mobility.wire import mh
from mobility.wire.errors import WireError

_PROTOCOL = 135
_ROUTING = struct.Struct("!BBBB4x16s")
_UDP_ENCAP, _UDP_ENCAP_ESPINUDP = 100, 2
_PATIENCE = 5.0
_LEAP = 10_000
"More packets than a test sends between two registrations."
_Kind = TypeVar("_Kind")


class Messages:
    """A raw socket for mobility headers. The kernel fills in and checks their checksums."""

    def __init__(self, address: IPv6Address) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_RAW, _PROTOCOL)
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVDSTOPTS, 1)
        self._socket.bind((str(address), 0))

    def receive(self, timeout: float | None = None) -> tuple[bytes, IPv6Address, IPv6Address]:
        """A mobility header, the home address that it is of, and the address that it came from."""
        self._socket.settimeout(timeout)
        data, ancillary, _, (source, *_) = self._socket.recvmsg(2048, 512)
        home = came_from = IPv6Address(source.partition("%")[0])
        for _, kind, value in ancillary:
            if kind == socket.IPV6_DSTOPTS:
                # The kernel has exchanged the addresses: the option holds the care-of address now.
                came_from = IPv6Address(value[value.index(b"\xc9\x10") + 2 :][:16])
        return data, home, came_from

    def send(self, message: mh.Message, to: IPv6Address, by: IPv6Address | None = None) -> None:
        """``by``: the care-of address that a type 2 routing header goes by."""
        ancillary = []
        if by is not None and by != to:
            ancillary.append((socket.IPPROTO_IPV6, socket.IPV6_RTHDR, _ROUTING.pack(0, 2, 2, 1, by.packed)))
        self._socket.sendmsg([bytes(message)], ancillary, 0, (str(to), 0))


class Daemon:
    """Answers to terminals, and tells the kernel where they are."""

    def __init__(self, address: IPv6Address, orders: Path) -> None:
        self.messages = Messages(address)
        self._orders = orders
        "What to do for a binding: commands of ip(8) with places for addresses, see `MobilityDaemon`."
        self._test = ""
        self._nonces = Nonces(os.urandom)
        self._bindings = 0
        self._at: dict[tuple[str, IPv6Address], IPv6Address] = {}
        "Kind of binding and home address to care-of address."

    def serve(self) -> None:
        """For good."""
        _say("listening")
        while True:
            data, home, care_of = self.messages.receive()
            try:
                message = mh.parse(data, home, self.messages.address)
            except WireError as error:
                _say(str(error))
                continue
            _say(f"{type(message).__name__} of {home} at {care_of}")
            self._take(message, data, home, care_of)

    def _take(self, message: mh.Message, data: bytes, home: IPv6Address, care_of: IPv6Address) -> None:
        now = time.monotonic()
        match message:
            case mh.HomeTestInit():
                index, token = self._nonces.home_token(home.packed, now)
                self.messages.send(mh.HomeTest(index, message.cookie, token), home)
            case mh.CareOfTestInit():
                index, token = self._nonces.care_of_token(home.packed, now)
                self.messages.send(mh.CareOfTest(index, message.cookie, token), home)
            case mh.BindingUpdate() if message.flags & mh.UpdateFlag.HOME_REGISTRATION:
                ends = message.lifetime == 0 or care_of == home
                self._follow("home", home, None if ends else care_of)
                answer = mh.BindingAcknowledgement(
                    mh.Status.ACCEPTED, message.sequence, 0 if ends else message.lifetime
                )
                self.messages.send(answer, home, care_of)
            case mh.BindingUpdate():
                self._bind(message, data, home, care_of, now)
            case _:
                pass

    def _follow(self, kind: str, home: IPv6Address, care_of: IPv6Address | None) -> None:
        """Data of a home address goes to another place from now on; None: to the home address itself."""
        orders = json.loads(self._orders.read_text())
        if orders["test"] != self._test:
            self._test = orders["test"]
            self._at.clear()  # another test: the kernel knows of nothing
        before = self._at.get((kind, home))
        if before == care_of:
            return
        steps: list[str] = []
        if before is not None:
            del self._at[kind, home]
            steps += [command.format(care_of=before) for command in orders[kind]["release"]]
        if care_of is not None:
            self._at[kind, home] = care_of
            # A new association would begin at 1, and the terminal has seen such numbers.
            self._bindings += 1
            values = {"care_of": care_of, "sequence": self._bindings * _LEAP}
            steps += [command.format(**values) for command in orders[kind]["bind"]]
        done = subprocess.run(
            ["ip", "-6", "-batch", "-"], input="\n".join(steps), text=True, capture_output=True, check=False
        )
        if done.returncode:
            _say("\n".join([done.stderr.strip(), *steps]))

    def _bind(self, update: mh.BindingUpdate, data: bytes, home: IPv6Address, care_of: IPv6Address, now: float) -> None:
        own = self.messages.address
        ends = update.lifetime == 0 or care_of == home
        (indices,) = (option for option in update.options if isinstance(option, mh.NonceIndices))
        home_token = self._nonces.home_token_again(indices.home, home.packed, now)
        care_of_token = b"" if ends else self._nonces.care_of_token_again(indices.care_of, care_of.packed, now)
        if home_token is None or care_of_token is None:
            _say("nonces are too old")
            return
        key, covered = binding_key(home_token, care_of_token), (home if ends else care_of).packed
        if not is_authorized(data, key, covered, own.packed):
            _say("not authentic")
            return
        self._follow("direct", home, None if ends else care_of)
        lifetime = 0 if ends else update.lifetime
        answer = mh.BindingAcknowledgement(mh.Status.ACCEPTED, update.sequence, lifetime)
        # While there is a binding the kernel puts the routing header into all that goes to the home address.
        self.messages.send(authorized(answer, key, covered, own.packed), home, care_of if ends else None)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def register(home: IPv6Address, agent: IPv6Address, care_of: IPv6Address, sequence: int) -> None:
    """The kernel's terminal tells its home agent where it is; prints the status of the answer."""
    messages = Messages(home)
    flags = mh.UpdateFlag.HOME_REGISTRATION | mh.UpdateFlag.ACKNOWLEDGE
    messages.send(mh.BindingUpdate(sequence, flags, 420, (mh.AlternateCareOfAddress(care_of),)), agent)
    _say(str(_answer(messages, mh.BindingAcknowledgement, agent).status))


def optimize(home: IPv6Address, correspondent: IPv6Address, care_of: IPv6Address, sequence: int) -> None:
    """Return routability with a correspondent; prints the status of its answer."""
    from_home, from_here = Messages(home), Messages(care_of)
    cookies = os.urandom(8), os.urandom(8)
    from_home.send(mh.HomeTestInit(cookies[0]), correspondent)
    from_here.send(mh.CareOfTestInit(cookies[1]), correspondent)
    home_test = _answer(from_home, mh.HomeTest, correspondent)
    care_of_test = _answer(from_here, mh.CareOfTest, correspondent)
    assert (home_test.cookie, care_of_test.cookie) == cookies
    key = binding_key(home_test.token, care_of_test.token)
    indices = mh.NonceIndices(home_test.nonce_index, care_of_test.nonce_index)
    update = mh.BindingUpdate(sequence, mh.UpdateFlag.ACKNOWLEDGE, 400, (indices,))
    from_home.send(authorized(update, key, care_of.packed, correspondent.packed), correspondent)
    _say(str(_answer(from_home, mh.BindingAcknowledgement, correspondent).status))


def _answer(messages: Messages, kind: type[_Kind], of: IPv6Address) -> _Kind:
    """The next message of a kind. Raises TimeoutError."""
    while True:
        data, source, _ = messages.receive(_PATIENCE)
        message = mh.parse(data, source, messages.address)
        if source == of and isinstance(message, kind):
            return message


def open_ports(port: int) -> None:
    """Tells the kernel that datagrams to a port are ESP (RFC 3948), for as long as this runs."""
    opened = []
    for family in (socket.AF_INET, socket.AF_INET6):
        taken = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(("", port))
        taken.setsockopt(socket.IPPROTO_UDP, _UDP_ENCAP, _UDP_ENCAP_ESPINUDP)
        opened.append(taken)
    _say("open")
    signal.pause()


def main() -> None:
    match sys.argv[1:]:
        case ["esp-in-udp", port]:
            open_ports(int(port))
        case ["serve", address, orders]:
            Daemon(IPv6Address(address), Path(orders)).serve()
        case [("register" | "optimize") as what, home, to, care_of, sequence]:
            steps = {"register": register, "optimize": optimize}
            steps[what](IPv6Address(home), IPv6Address(to), IPv6Address(care_of), int(sequence))
        case other:
            raise SystemExit(f"what is {other}?")


if __name__ == "__main__":
    main()
