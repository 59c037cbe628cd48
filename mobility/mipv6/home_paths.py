"""The ways between a home agent and the places where its terminals are: native, or in datagrams."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import NamedTuple, Protocol

from mobility.discards import Discard, Reason
from mobility.links import describe_endpoint
from mobility.mipv6.tunnel import around
from mobility.outputs import Output, Transmit
from mobility.wire import ip4, ip6, udp
from mobility.wire.errors import WireError

KERNEL_MTU = 1500
"Octets; the kernel that carries a datagram splits what is too large for the path."
_IPV4_AND_UDP, _IPV6_AND_UDP = 28, 48
_NO_MARKS = b"\x60\0"
_MAPPED = bytes(10) + b"\xff\xff"
"How the address of an endpoint begins that is one of IPv4."


class HomeLink(Protocol):
    """What the engine needs of its node on the home link."""

    link: str

    @property
    def has_neighbours(self) -> bool:
        """False: it is not physical, and no terminal can be at home on it."""

    def next_hop(self, destination: bytes) -> bytes | None: ...

    def send(self, packet: bytes, now: float) -> list[Output]: ...

    def add_proxy(self, address: IPv6Address, now: float) -> list[Output]: ...

    def remove_proxy(self, address: IPv6Address, now: float) -> list[Output]: ...

    def path_mtu(self, destination: bytes) -> int: ...

    def send_via(self, packet: bytes, hop: bytes, now: float) -> list[Output]: ...

    def receive_inner(self, packet: bytes, now: float) -> list[Output]: ...

    def split(self, packet: bytes, limit: int) -> list[bytes]: ...


class Path(NamedTuple):
    """One way to a terminal, and back."""

    source: bytes
    "What marks packets that come by it: outer source address (16 octets), or endpoint (18)."
    link: str = ""
    "Link of the endpoint; empty: UDP of the home agent's own IPv6 address."

    @property
    def native(self) -> bool:
        return len(self.source) == 16

    def __str__(self) -> str:
        return str(IPv6Address(self.source)) if self.native else describe_endpoint(self.source)


@dataclass(frozen=True, slots=True)
class Reply:
    """A native signalling packet for one terminal. At home it goes to the link-layer address that asked."""

    packet: bytes
    at_home: bool


class Outlet:
    """Puts packets for terminals on their way."""

    def __init__(self, address: IPv6Address, link: HomeLink, udp_port: int) -> None:
        self._address = address.packed
        self._link = link
        self._port = udp_port

    def carry(self, inner: bytes, next_header: int, body: bytes, path: Path, now: float) -> list[Output]:
        """The body of the tunnel (`tunnel.seal`) that has ``inner`` in it. Raises `Discard` MALFORMED: too large."""
        source, link = path
        if link:
            return [Transmit(body, source, link)]
        marks = ip4.traffic_class(inner) if inner[0] >> 4 == 4 else inner
        if len(source) == 16:
            return self.onto_link(around(marks, self._address + source, next_header, body), now)
        return self._own(marks, body, source, now)

    def onto_link(self, packet: bytes, now: float) -> list[Output]:
        """A whole packet to wherever it has to go; the short way while its next hop is known."""
        destination = packet[24:40]
        to = self._link.next_hop(destination)
        if to is None or len(packet) > self._link.path_mtu(destination):
            return self._link.send(packet, now)
        return [Transmit(packet, to, self._link.link)]

    def datagram(self, payload: bytes, path: Path, now: float) -> list[Output]:
        """A signalling packet, or a message of IKE, in a datagram. Raises `Discard` MALFORMED: too large."""
        if path.link:
            return [Transmit(payload, path.source, path.link)]
        return self._own(payload if payload[0] >> 4 == 6 else _NO_MARKS, payload, path.source, now)

    def body_room(self, path: Path) -> int:
        """Octets of tunnel body that fit into one packet on this path."""
        source, link = path
        if len(source) == 16:
            return self._link.path_mtu(source) - ip6.HEADER_SIZE
        if not link:
            return self._link.path_mtu(source[:16]) - _IPV6_AND_UDP
        return KERNEL_MTU - (_IPV4_AND_UDP if source.startswith(_MAPPED) else _IPV6_AND_UDP)

    def _own(self, first: bytes, payload: bytes, endpoint: bytes, now: float) -> list[Output]:
        try:
            ports = self._port, int.from_bytes(endpoint[16:])
            packet = udp.packet(self._address + endpoint[:16], ports, payload, first)
        except WireError as error:
            raise Discard(Reason.MALFORMED, str(error)) from error
        return self.onto_link(packet, now)
