"""The host OS of an ordinary user, with a home network behind it that is a namespace: a peer, and a name server."""

from __future__ import annotations

import os
import secrets
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from mobility.client import HostClient
from mobility.net import namespace, tun
from mobility.net.tun import TunSettings
from tests.ordinary import PROJECT, OrdinaryUser

HOME, HOME4 = "2001:db8:77::1", "192.0.2.1"
PEER, PEER4 = "2001:db8:77::2", "192.0.2.2"
NAMES = {
    ("peer.example.", "AAAA"): PEER,
    ("peer.example.", "A"): PEER4,
    ("long.example.", "AAAA"): "2001:db8:77::3",
    ("only4.example.", "A"): PEER4,
}
"What the name server knows. It answers about the long one by TCP only."


@dataclass(frozen=True, slots=True)
class Home:
    user: OrdinaryUser
    host: HostClient
    holder: subprocess.Popen[bytes]
    network: str
    "The named namespace in which the peer is."
    asked: list[tuple[str, str]]
    "What the name server was asked: by whom, about what."

    def exec(self, *command: str, timeout: float = 30.0, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a program of the user in the host OS."""
        return self.user.run("mobility", "exec", "--", *command, timeout=timeout, text=text)

    def peer_socket(self, kind: socket.SocketKind, address: str = PEER, port: int = 0) -> socket.socket:
        return _peer_socket(self.network, kind, address, port)


def start_holder(user: OrdinaryUser, *dns_servers: str, **environment: str) -> subprocess.Popen[bytes]:
    command = user.command(
        "python", "-m", "tests.mobility.holder_process", str(user.runtime), HOME, HOME4, *dns_servers,
        PYTHONPATH=str(PROJECT), **environment,
    )  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=user.home)


@contextmanager
def home_of(user: OrdinaryUser) -> Iterator[Home]:
    """The holder runs as the user; this process carries packets between the two TUN devices, as a data plane would."""
    network = f"roam-exec-{os.getpid()}-{secrets.token_hex(2)}"
    holder = start_holder(user, PEER)
    try:
        assert holder.stdout is not None
        assert select.select([holder.stdout], [], [], 20)[0]
        assert holder.stdout.readline() == b"ready\n"
        subprocess.run(["ip", "netns", "add", network], check=True, timeout=20)
        settings = TunSettings("peer0", IPv6Address(PEER), 1400, IPv4Address(PEER4))
        with namespace.inside(network):
            peer = tun.create(settings, str(user.tun))
        host = HostClient(user.runtime / "host.sock")
        asked: list[tuple[str, str]] = []
        ours = host.tunnel()
        stop, stopping = os.pipe()
        threads = [
            threading.Thread(target=_carry, args=(ours, peer, stop)),
            threading.Thread(target=_serve_names, args=(network, asked, stop)),
        ]
        try:
            for thread in threads:
                thread.start()
            yield Home(user, host, holder, network, asked)
        finally:
            os.close(stopping)
            for thread in threads:
                thread.join()
            for descriptor in (ours, peer, stop):
                os.close(descriptor)
    finally:
        holder.terminate()
        holder.communicate(timeout=20)
        subprocess.run(["ip", "netns", "del", network], check=False, capture_output=True, timeout=20)


def _carry(one: int, other: int, stop: int) -> None:
    while True:
        ready, _, _ = select.select([one, other, stop], [], [])
        if stop in ready:
            return
        for descriptor in ready:
            try:
                os.write(other if descriptor == one else one, os.read(descriptor, 65535))
            except OSError:
                pass  # the other end does not want it: a packet lost


def _peer_socket(network: str, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    with namespace.inside(network):
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.settimeout(10.0)
    return made


def _serve_names(network: str, asked: list[tuple[str, str]], stop: int) -> None:
    with (
        _peer_socket(network, socket.SOCK_DGRAM, PEER, 53) as datagrams,
        _peer_socket(network, socket.SOCK_STREAM, PEER, 53) as listener,
    ):
        listener.listen(5)
        while True:
            watched: list[socket.socket | int] = [datagrams, listener, stop]
            ready, _, _ = select.select(watched, [], [])
            if stop in ready:
                return
            if datagrams in ready:
                query, sender = datagrams.recvfrom(4096)
                datagrams.sendto(_answer(query, sender[0], asked, stream=False), sender)
            if listener in ready:
                connection, sender = listener.accept()
                with connection, connection.makefile("rb") as stream:
                    query = stream.read(int.from_bytes(stream.read(2), "big"))
                    answer = _answer(query, sender[0], asked, stream=True)
                    connection.sendall(len(answer).to_bytes(2, "big") + answer)


def _answer(data: bytes, sender: str, asked: list[tuple[str, str]], *, stream: bool) -> bytes:
    query = dns.message.from_wire(data)
    question = query.question[0]
    name, kind = question.name.to_text(), question.rdtype.name
    asked.append((sender, name))
    response = dns.message.make_response(query)
    if name.startswith("long.") and not stream:
        response.flags |= dns.flags.TC
    elif (name, kind) in NAMES:
        response.answer.append(dns.rrset.from_text(name, 60, "IN", kind, NAMES[name, kind]))
    elif not any(known == name for known, _ in NAMES):
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire()


def write_page(directory: Path, text: str) -> None:
    """What an HTTP server has to show."""
    directory.mkdir()
    (directory / "page").write_text(text)
