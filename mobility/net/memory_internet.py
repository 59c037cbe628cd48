"""UDP in the simulated world: networks that carry datagrams between endpoints, boxes that translate addresses and
ports, and the gateway to the segments with whole IPv6 packets.

    internet = world.internet("internet", delay=0.01)
    hotspot = world.nat("hotspot", internet, IPv4Address("203.0.113.7"), timeout=30.0)
    world.attach_udp("ha", "udp/198.51.100.10", internet, IPv4Address("198.51.100.10"), 4191)
    world.attach_udp("mn", "wlan0/udp4", hotspot, IPv4Address("192.168.0.2"))
    hotspot.rebind()

A datagram pays delay and loss of every network on its way. Endpoints are those of `mobility.links`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from itertools import count
from typing import TYPE_CHECKING

from mobility.discards import Reason
from mobility.host.fragments import FragmentProblem, Reassembly, fragment
from mobility.host.interface import Interface
from mobility.links import describe_endpoint, endpoint, endpoint_address
from mobility.net.memory_impairments import Impaired
from mobility.outputs import Discarded
from mobility.wire import ip6
from mobility.wire.errors import WireError

if TYPE_CHECKING:
    from mobility.net.memory import Station

FIRST_EPHEMERAL_PORT = 40000
_HEADERS = {4: 28, 6: 48}
"Octets of IP and UDP header, by version of IP."


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram as a capture on the network saw it, before any impairment."""

    time: float
    network: str
    source: bytes
    destination: bytes
    payload: bytes

    def __str__(self) -> str:
        ends = f"{describe_endpoint(self.source)} > {describe_endpoint(self.destination)}"
        return f"{self.time:.6f} {self.network} {ends} {len(self.payload)}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A station's socket on a network."""

    station: Station
    link: str
    network: Internet
    here: bytes
    "18 octets."


@dataclass(eq=False)
class Internet(Impaired):
    """Carries datagrams between the endpoints on it and those of the networks behind it (`Internet.outside`)."""

    outside: Internet | None = None
    "Where what is not for an endpoint here goes; None: nowhere."
    blocked: bool = False
    "Passes no datagram: UDP blocked, or a captive portal before the user has logged in."
    datagrams: list[Datagram] = field(default_factory=list)
    "The capture: every datagram that was sent into this network."
    in_pieces: int = 0
    "Datagrams that were longer than the MTU; each piece of them has the loss of a frame of its own."
    unreachable: int = 0
    "Datagrams to endpoints that there are not."
    endpoints: dict[bytes, Endpoint] = field(default_factory=dict)
    behind: dict[bytes, Internet] = field(default_factory=dict)
    "Networks that have an address here, by 16 octets of address."
    gateways: list[Gateway] = field(default_factory=list)
    _ports: count[int] = field(default_factory=lambda: count(FIRST_EPHEMERAL_PORT))

    def open(self, station: Station, link: str, address: IPv4Address | IPv6Address, port: int) -> Endpoint:
        """A socket on this network; ``port`` 0: a free one. Raises `ValueError` when the endpoint is taken."""
        here = endpoint(address, port or next(self._ports))
        if here in self.endpoints:
            raise ValueError(f"{self.name}: {describe_endpoint(here)} is taken already")
        opened = self.endpoints[here] = Endpoint(station, link, self, here)
        if self.outside is not None:
            self.announce(here[:16])
        return opened

    def close(self, opened: Endpoint) -> None:
        """What is under way to the endpoint is lost."""
        self.endpoints.pop(opened.here, None)

    def announce(self, address: bytes) -> None:
        """Has the networks outside send what is for an address on this one."""
        if self.outside is not None:
            self.outside.behind[address] = self
            self.outside.announce(address)

    def transmit(self, source: bytes, destination: bytes, payload: bytes, *, inward: bool = False) -> None:
        """Carries a datagram on its way to ``destination``; ``inward``: it came from outside and does not go back."""
        if self.capturing:
            self.datagrams.append(Datagram(self.world.now, self.name, source, destination, payload))
        size = len(payload) + _HEADERS[4 if endpoint_address(source).ipv4_mapped else 6]
        pieces = -(-size // self.mtu)
        self.in_pieces += pieces > 1
        if self.blocked or any(self.world.dice.random() < self.loss for _ in range(pieces - 1)):
            self.lost += 1
            return
        for when in self.arrivals((source, destination)):
            self.world.at(when, lambda: self._arrive(source, destination, payload, inward))

    def _arrive(self, source: bytes, destination: bytes, payload: bytes, inward: bool) -> None:
        here = self.endpoints.get(destination)
        if here is not None:
            here.station.receive(here.link, payload, source)
            return
        network = self.behind.get(destination[:16])
        if network is not None:
            network.inbound(source, destination, payload)
            return
        for gateway in self.gateways:
            if gateway.inbound(source, destination, payload):
                return
        if inward or self.outside is None:
            self.unreachable += 1
        else:
            self.outbound(source, destination, payload)

    def inbound(self, source: bytes, destination: bytes, payload: bytes) -> None:
        """A datagram came from outside."""
        self.transmit(source, destination, payload, inward=True)

    def outbound(self, source: bytes, destination: bytes, payload: bytes) -> None:
        """A datagram leaves this network for the one outside."""
        if self.outside is not None:
            self.outside.transmit(source, destination, payload)


@dataclass(slots=True)
class _Mapping:
    inside: bytes
    port: int
    until: float
    peers: set[bytes]
    "Endpoints that were sent to: the only ones let in by endpoint-dependent filtering."


@dataclass(eq=False)
class Nat(Internet):
    """A network behind a box that translates addresses and ports (RFC 4787): endpoint-independent mapping, refreshed by
    what goes out. What comes in without a mapping is counted in `refused`."""

    public: IPv4Address = IPv4Address("203.0.113.1")
    "The box's address outside."
    timeout: float = 120.0
    "Seconds without outbound datagrams after which a mapping is forgotten."
    strict: bool = False
    "Address and port-dependent filtering: lets in only what comes from endpoints that were sent to."
    refused: int = 0
    _by_inside: dict[bytes, _Mapping] = field(default_factory=dict)
    _by_port: dict[int, _Mapping] = field(default_factory=dict)

    def announce(self, address: bytes) -> None:
        """Nobody outside knows addresses on the inside."""

    def rebind(self, public: IPv4Address | None = None) -> None:
        """Forgets every mapping (the box was restarted): new ports from now on, and a new address if one is given.

        Raises `ValueError` when that is taken.
        """
        self._by_inside.clear()
        self._by_port.clear()
        if public is not None:
            self.plug_in(public)

    def plug_in(self, public: IPv4Address) -> None:
        """Takes a public address outside, and leaves the former. Raises `ValueError` when it is taken."""
        if self.outside is None:
            raise ValueError(f"{self.name}: nothing is outside")
        address, former = endpoint(public, 0)[:16], endpoint(self.public, 0)[:16]
        taken = address in self.outside.behind or any(known[:16] == address for known in self.outside.endpoints)
        if taken and self.outside.behind.get(address) is not self:
            raise ValueError(f"{self.outside.name}: {public} is taken already")
        if self.outside.behind.get(former) is self:
            del self.outside.behind[former]
        self.public = public
        self.outside.behind[address] = self
        self.outside.announce(address)

    def mapping(self, inside: bytes) -> bytes | None:
        """The public endpoint of an endpoint inside; None: it has none now."""
        found = self._by_inside.get(inside)
        return None if found is None or found.until <= self.world.now else endpoint(self.public, found.port)

    def outbound(self, source: bytes, destination: bytes, payload: bytes) -> None:
        if self.outside is None:
            return
        now = self.world.now
        mapping = self._by_inside.get(source)
        if mapping is None or mapping.until <= now:
            if mapping is not None:
                self._by_port.pop(mapping.port, None)
            mapping = _Mapping(source, next(self._ports), now, set())
            self._by_inside[source] = self._by_port[mapping.port] = mapping
        mapping.until = now + self.timeout
        mapping.peers.add(destination)
        self.outside.transmit(endpoint(self.public, mapping.port), destination, payload)

    def inbound(self, source: bytes, destination: bytes, payload: bytes) -> None:
        mapping = self._by_port.get(int.from_bytes(destination[16:]))
        if (
            mapping is None
            or mapping.until <= self.world.now
            or destination[:16] != endpoint(self.public, 0)[:16]
            or (self.strict and source not in mapping.peers)
        ):
            self.refused += 1
            return
        self.transmit(source, mapping.inside, payload, inward=True)


class Gateway:
    """Joins an internet to the segments: a router's packets for ``networks`` become datagrams there, and datagrams to
    any other IPv6 address become packets that the router forwards. Only UDP crosses."""

    def __init__(self, internet: Internet, station: Station, networks: Sequence[IPv6Network]) -> None:
        self._internet = internet
        self._station = station
        self._networks = tuple(networks)
        self._interface = Interface("gateway", bytes(6), internet.mtu, internet.world.random_bytes("gateway"))
        self._reassembly = Reassembly(self._interface, lambda _first, _now: None)
        self._identifications = count(1)

    def inbound(self, source: bytes, destination: bytes, payload: bytes) -> bool:
        """A datagram from the internet; whether it goes this way."""
        if endpoint_address(destination).ipv4_mapped is not None or self._beyond(destination[:16]):
            return False
        header = source[16:] + destination[16:] + (8 + len(payload)).to_bytes(2)
        addresses = source[:16], destination[:16]
        checksum = ip6.checksum(*addresses, ip6.UDP, header + b"\0\0" + payload)
        packet = ip6.packet(*addresses, ip6.UDP, header + checksum.to_bytes(2) + payload)
        pieces = (
            [packet]
            if len(packet) <= self._internet.mtu
            else fragment(packet, self._internet.mtu, next(self._identifications))
        )
        for piece in pieces:
            self._station.send(piece)
        return True

    def outbound(self, packet: bytes) -> None:
        """A packet that the router has for the internet."""
        if not self._beyond(packet[24:40]):
            self._discard(Reason.NOT_FORWARDED, "a packet for the router itself")
            return
        try:
            headers = ip6.walk(packet)
            if headers.fragment is not None:
                whole = self._reassembly.add(packet, headers, headers.fragment, self._internet.world.now)
                self._interface.take()
                if whole is None:
                    return
                packet, headers = whole, ip6.walk(whole)
        except (WireError, FragmentProblem) as error:
            self._discard(Reason.MALFORMED, str(error))
            return
        source, destination, datagram = packet[8:24], packet[24:40], packet[headers.offset :]
        if headers.protocol != ip6.UDP or len(datagram) < 8:
            self._discard(Reason.NOT_FORWARDED, f"next header {headers.protocol}: only UDP crosses the gateway")
        elif ip6.checksum(source, destination, ip6.UDP, datagram) or int.from_bytes(datagram[4:6]) != len(datagram):
            self._discard(Reason.MALFORMED, "checksum or length of UDP")
        else:
            self._internet.transmit(source + datagram[:2], destination + datagram[2:4], datagram[8:])

    def _beyond(self, address: bytes) -> bool:
        return any(IPv6Address(address) in network for network in self._networks)

    def _discard(self, reason: Reason, detail: str) -> None:
        self._station.carry_out([Discarded(reason, "gateway", detail)])
