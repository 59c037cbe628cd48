"""What the neighbour discovery messages of others do to a host's tables (RFC 4861, 4862, 6275 section 10.4.1)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from mobility.discards import Reason
from mobility.host import messages
from mobility.host.addresses import AddressState, AddressTable, Origin
from mobility.host.discovery import Discovery
from mobility.host.interface import Interface
from mobility.host.proxies import Proxies
from mobility.host.redirect import REDIRECT, Redirect
from mobility.host.routers import RouterList
from mobility.wire import ndisc
from mobility.wire.errors import WireError

_UNSPECIFIED = messages.UNSPECIFIED


class NeighbourDiscovery:
    """Reads the messages, checks who may say what, and hands each to the table that it concerns."""

    def __init__(
        self,
        interface: Interface,
        addresses: AddressTable,
        proxies: Proxies,
        routers: RouterList,
        discovery: Discovery,
        arrive: Callable[[bytes], None],
        *,
        router: bool,
    ) -> None:
        """``arrive``: takes the router solicitations when the host is a router's (``router``)."""
        self._interface = interface
        self._addresses = addresses
        self._proxies = proxies
        self._routers = routers
        self._discovery = discovery
        self._neighbours = discovery.neighbours
        self._arrive = arrive
        self._router = router

    def receive(self, packet: bytes, offset: int, sender: bytes, now: float) -> None:
        """A packet whose ICMPv6 message at ``offset`` is one of neighbour discovery; everything is checked here."""
        source = packet[8:24]
        try:
            if packet[offset] == REDIRECT:
                self._redirect(packet, Redirect.parse(packet[offset:]), now)
                return
            message = ndisc.parse(packet, offset)
        except WireError as error:
            self._interface.discard(Reason.NDISC_INVALID, str(error))
            return
        match message:
            case ndisc.NeighborSolicitation():
                self._solicited(message, source, sender, now)
            case ndisc.NeighborAdvertisement():
                self._advertised(message, sender, now)
            case ndisc.RouterAdvertisement() if not self._router:
                self._discovery.advertised(source, message, sender, now)
            case ndisc.RouterSolicitation() if self._router:
                if (mac := ndisc.link_address(message)) is not None:
                    self._neighbours.learn(source, mac, now, router=False)
                self._arrive(packet)
            case _:
                self._interface.discard(Reason.NDISC_UNEXPECTED, type(message).__name__)

    def _solicited(self, message: ndisc.NeighborSolicitation, source: bytes, sender: bytes, now: float) -> None:
        interface = self._interface
        target = message.target.packed
        address = self._addresses.get(target)
        nonces = [option.value for option in message.options if isinstance(option, ndisc.Nonce)]
        if address is None and target not in self._proxies.addresses:
            interface.discard(Reason.NDISC_UNEXPECTED, f"solicitation for {message.target}")
            return
        mac = ndisc.link_address(message)
        if source != _UNSPECIFIED and mac is not None and self._routers.is_on_link(source, now):
            # A source that is not on-link gets its answer, but no entry in our cache.
            self._neighbours.learn(source, mac, now)
        reply_to = sender if mac is None else mac
        if address is None:
            self._proxies.solicited(target, source, reply_to, nonces)
        elif source == _UNSPECIFIED:
            if self._addresses.probed(target, nonces):
                self._conflict(target, sender, now)
        elif address.state is AddressState.TENTATIVE:
            interface.discard(Reason.NDISC_UNEXPECTED, f"{message.target} is tentative: no answer yet")
        else:
            messages.neighbour_advertisement(
                interface,
                target,
                target,
                (source, reply_to),
                override=not address.being_checked,
                router=self._router,
            )

    def _advertised(self, message: ndisc.NeighborAdvertisement, sender: bytes, now: float) -> None:
        interface = self._interface
        target = message.target.packed
        mac = ndisc.link_address(message)
        if sender == interface.mac:
            interface.discard(Reason.NDISC_UNEXPECTED, "an echo of our own advertisement")
            return
        if (address := self._addresses.get(target)) is not None:
            if address.being_checked:
                self._conflict(target, sender, now)
            else:
                interface.discard(Reason.NDISC_UNEXPECTED, f"{sender.hex(':')} advertises our {message.target}")
            return
        if target in self._proxies.addresses and not message.solicited:
            self._proxies.claimed(target, sender)
            return
        used = False
        if message.solicited and mac in (None, sender):
            used = self._discovery.probe_answered(target, sender, now)
        used |= self._neighbours.advertised(
            target,
            mac,
            now,
            router=message.router,
            solicited=message.solicited,
            override=message.override,
        )
        if not used:
            interface.discard(Reason.NDISC_UNEXPECTED, f"advertisement of {message.target}")

    def _conflict(self, value: bytes, sender: bytes, now: float) -> None:
        address = self._addresses.get(value)
        if address is not None and address.origin is Origin.CONFIGURED:
            self._routers.configure_prefix(value, address.prefix_length, on_link=False)
        self._addresses.conflict(value, sender, now)

    def _redirect(self, packet: bytes, redirect: Redirect, now: float) -> None:
        """RFC 4861 section 8: only the router that we use for the destination may say so."""
        interface = self._interface
        source = packet[8:24]
        if packet[7] != ndisc.HOP_LIMIT or not messages.is_link_local(source):
            interface.discard(Reason.NDISC_INVALID, "redirect: hop limit is not 255, or source not link-local")
            return
        neighbour = redirect.target == redirect.destination
        if not neighbour and not messages.is_link_local(redirect.target):
            interface.discard(Reason.NDISC_INVALID, "redirect: target is neither a router nor the destination")
            return
        sender_in_use = source in (
            self._routers.next_hop(packet[24:40], redirect.destination, now),
            self._routers.next_hop(_UNSPECIFIED, redirect.destination, now),
        )
        if self._router or not sender_in_use or self._routers.get(source) is None:
            interface.discard(Reason.NDISC_UNEXPECTED, f"redirect from {IPv6Address(source)}, not the router in use")
            return
        if redirect.mac is not None:
            self._neighbours.learn(redirect.target, redirect.mac, now, router=None if neighbour else True)
        self._routers.redirect(redirect.destination, redirect.target)
