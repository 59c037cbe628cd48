"""Real namespaces and nodes small enough to see through, for tests of the I/O rooms."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mobility.net import namespace, netlink
from mobility.net.netlink import LinkState
from mobility.outputs import Deliver, Discarded, Event, Output, Transmit

OURS = "2001:db8:77::1"
PEER = "2001:db8:77::2"
OUR_MAC = "02:00:00:00:77:01"
PEER_MAC = "02:00:00:00:77:02"


@dataclass(frozen=True, slots=True)
class Cable:
    """Two namespaces and a veth pair; the kernel speaks only at the peer's end."""

    ours: str
    peer: str

    def ip(self, arguments: str, where: str | None = None) -> None:
        run("ip", "-n", self.ours if where is None else where, *arguments.split())

    def interface(self) -> LinkState:
        with namespace.inside(self.ours):
            return netlink.read_links()["eth0"]

    def peer_socket(self, kind: socket.SocketKind = socket.SOCK_DGRAM, port: int = 0) -> socket.socket:
        """A socket of the peer's kernel, bound to its address."""
        with namespace.inside(self.peer):
            made = socket.socket(socket.AF_INET6, kind)
        made.settimeout(5.0)
        try:
            made.bind((PEER, port))
        except OSError:
            made.close()
            raise
        return made

    def address_peer(self) -> None:
        """Gives the peer's end its address; the kernel takes it away whenever the interface goes down."""
        # Our end answers no neighbour solicitations in these tests: hence the entry.
        self.ip(f"addr replace {PEER}/64 dev eth0 nodad", self.peer)
        self.ip(f"neigh replace {OURS} lladdr {OUR_MAC} dev eth0 nud permanent", self.peer)


@contextmanager
def cable() -> Iterator[Cable]:
    ours, peer = (f"rnet-{os.getpid()}-{secrets.token_hex(2)}-{end}" for end in "ab")
    try:
        for name in (ours, peer):
            run("ip", "netns", "add", name)
        connect(ours, peer)
        made = Cable(ours, peer)
        made.address_peer()
        yield made
    finally:
        for name in (ours, peer):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def connect(ours: str, peer: str) -> None:
    """The veth pair itself, with our end deaf to IPv6."""
    run("ip", "-n", ours, *f"link add eth0 address {OUR_MAC} type veth peer name eth0".split(), "netns", peer)
    run("ip", "-n", peer, *f"link set eth0 address {PEER_MAC}".split())
    with namespace.inside(ours), open("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "w") as file:
        file.write("1")
    for name in (ours, peer):
        run("ip", "-n", name, *"link set lo up".split())
        run("ip", "-n", name, *"link set eth0 up".split())


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def udp_packet(source: str, destination: str, source_port: int, destination_port: int, data: bytes) -> bytes:
    """With a right checksum, computed the slow way."""
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    length = 8 + len(data)
    head = source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big") + length.to_bytes(2, "big")
    checksum = internet_checksum(ends + length.to_bytes(4, "big") + b"\0\0\0\x11" + head + b"\0\0" + data)
    return b"\x60\0\0\0" + length.to_bytes(2, "big") + b"\x11\x40" + ends + head + checksum.to_bytes(2, "big") + data


def internet_checksum(data: bytes) -> int:
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def transport_sum(packet: bytes) -> int:
    """0 where the transport checksum is right (no extension headers)."""
    payload = packet[40:]
    return internet_checksum(packet[8:40] + len(payload).to_bytes(4, "big") + bytes([0, 0, 0, packet[6]]) + payload)


@dataclass(frozen=True, slots=True)
class LinkSeen(Event):
    link: str
    up: bool


class Bridge:
    """A node that passes everything on: host OS to link, link to host OS. ``to``: who gets what the host OS sends."""

    def __init__(self, to: bytes = bytes.fromhex(PEER_MAC.replace(":", ""))) -> None:
        self.to = to
        self.link: str | None = None
        self.timer: float | None = None
        self.seen: list[tuple[str, bool]] = []
        self.fails_on = b"never seen on this link"

    def start(self, now: float) -> list[Output]:
        return []

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        self.seen.append((link, up))
        self.link = link if up else None
        return [LinkSeen(link, up)]

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        if self.fails_on in packet:
            raise ZeroDivisionError("on purpose")
        return [Deliver(packet)]

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        # The host OS's kernel speaks of multicast listeners; nobody else does here.
        return [] if packet[24] == 0xFF or self.link is None else [Transmit(packet, self.to, self.link)]

    def handle_timer(self, now: float) -> list[Output]:
        self.timer = None
        return []

    def snapshot(self, now: float) -> dict[str, object]:
        return {"link": self.link}


class Notes:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.wants_packets = False
        self.events: list[Event] = []
        self.discards: list[Discarded] = []
        self.packets: list[tuple[str, bool, bytes]] = []

    def carried_out(self) -> None:
        pass

    def packet(self, where: str, outbound: bool, packet: bytes, _inside: bytes) -> None:
        self.packets.append((where, outbound, packet))

    def discarded(self, discarded: Discarded) -> None:
        self.discards.append(discarded)

    def event(self, event: Event) -> None:
        self.events.append(event)
