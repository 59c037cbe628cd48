"""The neighbour discovery packets that a host sends, and where they go."""

from __future__ import annotations

from ipaddress import IPv6Address

from mobility.host.interface import Interface
from mobility.wire import ndisc

UNSPECIFIED = bytes(16)
ALL_NODES = ndisc.ALL_NODES.packed
ALL_ROUTERS = ndisc.ALL_ROUTERS.packed
_SOLICITED_NODE = ndisc.solicited_node(IPv6Address(0)).packed[:13]


def solicited_node(address: bytes) -> bytes:
    """The multicast group of an address (RFC 4291 section 2.7.1)."""
    return _SOLICITED_NODE + address[13:]


def is_link_local(address: bytes) -> bool:
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def router_solicitation(interface: Interface, source: bytes, tell_mac: bool) -> None:
    """``tell_mac``: with our link-layer address, which an optimistic source forbids (RFC 4429 section 3.2)."""
    options = (ndisc.SourceLinkAddress(interface.mac),) if tell_mac else ()
    packet = ndisc.packet(source, ALL_ROUTERS, ndisc.RouterSolicitation(options))
    interface.transmit(packet, ndisc.ethernet_multicast(ALL_ROUTERS))


def neighbour_solicitation(
    interface: Interface, source: bytes, target: bytes, mac: bytes | None, *, tell_mac: bool
) -> None:
    """To ``mac``, or to the target's solicited-node group when it is None."""
    options = (ndisc.SourceLinkAddress(interface.mac),) if tell_mac else ()
    message = ndisc.NeighborSolicitation(IPv6Address(target), options)
    destination = solicited_node(target) if mac is None else target
    interface.transmit(ndisc.packet(source, destination, message), mac or ndisc.ethernet_multicast(destination))


def duplicate_probe(interface: Interface, target: bytes, nonce: bytes) -> None:
    """Duplicate address detection: does anybody have this address? (RFC 4862 section 5.4.2, RFC 7527)."""
    group = solicited_node(target)
    message = ndisc.NeighborSolicitation(IPv6Address(target), (ndisc.Nonce(nonce),))
    interface.transmit(ndisc.packet(UNSPECIFIED, group, message), ndisc.ethernet_multicast(group))


def neighbour_advertisement(
    interface: Interface,
    source: bytes,
    target: bytes,
    destination: tuple[bytes, bytes] | None,
    *,
    override: bool,
    router: bool = False,
) -> None:
    """Solicited, to ``destination`` (address, link-layer address); unsolicited to all nodes when that is None."""
    message = ndisc.NeighborAdvertisement(
        IPv6Address(target),
        router=router,
        solicited=destination is not None,
        override=override,
        options=(ndisc.TargetLinkAddress(interface.mac),),
    )
    address, mac = destination or (ALL_NODES, ndisc.ethernet_multicast(ALL_NODES))
    interface.transmit(ndisc.packet(source, address, message), mac)
