"""A link that is UDP: the kernel carries it, and nobody needs a privilege for it (RFC 5555, RFC 3948).

Payloads of datagrams come and go; the other side's "link-layer address" is its endpoint of 18 octets
(`mobility.links`). The kernel makes pieces of what is longer than the path takes. The outer header has no marking: the
payload is ESP, so that the marking inside is not seen here, and to set it for each packet would cost a system call.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import Counter
from ipaddress import IPv4Address, IPv6Address

from mobility.links import endpoint, unmapped
from mobility.wire import ip6

IP_FREEBIND, IPV6_FREEBIND = 15, 78
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DONT = 10, 23, 0
IP_MTU, IPV6_MTU = 14, 24
SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32
BUFFER = 4 << 20
"Octets that the kernel may keep for us each way while we or the network are busy; as far as it permits."
REMEMBERED = 4096
"Endpoints whose conversion is kept."
LARGEST = 65536

_Name = tuple[str, int]


class UdpSocket:
    """A `mobility.net.packet_socket.Link` on one local address.

    With a ``device`` it sends and receives through that interface only, whatever routes say about others.
    """

    def __init__(
        self,
        name: str,
        local: IPv4Address | IPv6Address,
        mtu: int,
        *,
        port: int = 0,
        device: str | None = None,
        before_the_address: bool = False,
    ) -> None:
        """``port`` 0: any. ``before_the_address``: opens although the address may come only later."""
        self.name = name
        self.local = local
        self.mtu = mtu
        self.address = endpoint(local, port)
        "Our endpoint."
        self.errors: Counter[str] = Counter()
        "What went wrong, by errno name, and how often."
        self._device = device
        self._before_the_address = before_the_address
        self._version4 = isinstance(local, IPv4Address)
        self._socket: socket.socket | None = None
        self._names: dict[bytes, _Name] = {}
        self._endpoints: dict[_Name, bytes] = {}
        self._buffer = bytearray(LARGEST)
        self._view = memoryview(self._buffer)

    def open(self) -> None:
        """Raises OSError: the address is not ours, the port is taken, the interface has gone."""
        opened = udp_socket(self.local, self._device)
        try:
            if self._version4:
                opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DONT)
                opened.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, self._before_the_address)
            else:
                opened.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DONT)
                opened.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, self._before_the_address)
            _enlarge(opened, SO_RCVBUFFORCE, socket.SO_RCVBUF)
            _enlarge(opened, SO_SNDBUFFORCE, socket.SO_SNDBUF)
            opened.bind((str(self.local), int.from_bytes(self.address[16:])))
            self.address = endpoint(self.local, opened.getsockname()[1])
        except BaseException:
            opened.close()
            raise
        self._socket = opened

    def fileno(self) -> int:
        if self._socket is None:
            raise RuntimeError(f"the link {self.name} is not open")
        return self._socket.fileno()

    def send(self, packet: bytes, to: bytes) -> bool:
        if self._socket is None:
            return self._failed("ENODEV")
        name = self._names.get(to) or self._name(to)
        if name is None:
            return self._failed("EAFNOSUPPORT")
        try:
            self._socket.sendto(packet, name)
        except OSError as error:  # no route, the address went, a firewall, a full queue
            return self._failed(errno.errorcode.get(error.errno or 0, str(error.errno)))
        return True

    def receive(self, limit: int) -> list[tuple[bytes, bytes]]:
        arrived: list[tuple[bytes, bytes]] = []
        if self._socket is None:
            return arrived
        receive, buffer, view, endpoints = self._socket.recvfrom_into, self._buffer, self._view, self._endpoints
        while len(arrived) < limit:
            try:
                length, source = receive(buffer)
            except BlockingIOError:
                break
            except OSError as error:
                self._failed(errno.errorcode.get(error.errno or 0, str(error.errno)))
                limit -= 1
                continue
            arrived.append((bytes(view[:length]), endpoints.get(source[:2]) or self._endpoint(source[:2])))
        return arrived

    def wrapped(self, payload: bytes, other: bytes, *, outbound: bool) -> bytes:
        """The datagram as IP packet, for captures; without identification, options and pieces of the real one."""
        source, destination = (self.address, other) if outbound else (other, self.address)
        udp = b"%b%b%b\0\0%b" % (source[16:], destination[16:], (8 + len(payload)).to_bytes(2), payload)
        if not self._version4:
            checksum = ip6.checksum(source[:16], destination[:16], ip6.UDP, udp)
            udp = b"%b%b%b" % (udp[:6], checksum.to_bytes(2), payload)
            return ip6.packet(source[:16], destination[:16], ip6.UDP, udp)
        head = b"\x45\0%b\0\0\0\0\x40\x11\0\0%b%b" % ((20 + len(udp)).to_bytes(2), source[12:16], destination[12:16])
        total = sum(int.from_bytes(head[at : at + 2]) for at in range(0, 20, 2))
        return b"%b%b%b%b" % (head[:10], (-total % 0xFFFF).to_bytes(2), head[12:], udp)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _name(self, to: bytes) -> _Name | None:
        """An endpoint as the kernel's interface wants it; None: of the other version of IP."""
        address = unmapped(IPv6Address(to[:16]))
        if isinstance(address, IPv4Address) is not self._version4:
            return None
        if len(self._names) >= REMEMBERED:
            self._names.clear()
        name = self._names[to] = (str(address), int.from_bytes(to[16:]))
        return name

    def _endpoint(self, source: _Name) -> bytes:
        host, _, _scope = source[0].partition("%")
        address = IPv4Address(host) if self._version4 else IPv6Address(host)
        if len(self._endpoints) >= REMEMBERED:
            self._endpoints.clear()
        made = self._endpoints[source] = endpoint(address, source[1])
        return made

    def _failed(self, what: str) -> bool:
        self.errors[what] += 1
        return False


def udp_socket(local: IPv4Address | IPv6Address, device: str | None) -> socket.socket:
    """A socket of the address's version, not bound yet, for one interface only. Raises OSError."""
    family = socket.AF_INET if isinstance(local, IPv4Address) else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if device is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(device) + b"\0")
    except BaseException:
        made.close()
        raise
    return made


def _enlarge(opened: socket.socket, force: int, ask: int) -> None:
    try:
        opened.setsockopt(socket.SOL_SOCKET, force, BUFFER)
    except PermissionError:  # without CAP_NET_ADMIN: up to net.core.rmem_max and wmem_max
        opened.setsockopt(socket.SOL_SOCKET, ask, BUFFER)
