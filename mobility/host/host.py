"""A user-space IPv6 host on one link with neighbours: what it is told to do, and how packets leave."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from mobility.discards import Reason
from mobility.host import messages
from mobility.host.addresses import AddressTable, Origin
from mobility.host.discovery import Discovery
from mobility.host.interface import Interface
from mobility.host.neighbour_discovery import NeighbourDiscovery
from mobility.host.networks import KnownNetworks
from mobility.host.node import MLD_QUERY, Ipv6Node
from mobility.host.proxies import Proxies
from mobility.host.routers import RouterList
from mobility.outputs import Output
from mobility.wire import ip6, ndisc

_UNSPECIFIED = messages.UNSPECIFIED


class Host(Ipv6Node):
    """One node on one link. It owns its addresses; no kernel knows them. All times are monotonic seconds.

    Link-local and autoconfigured addresses come by themselves when the link is up (RFC 4862, optimistic RFC 4429).
    """

    has_neighbours = True

    def __init__(
        self,
        link: str,
        link_address: bytes,
        mtu: int,
        random: Callable[[int], bytes],
        *,
        interface_identifier: bytes | None = None,
        secret: bytes | None = None,
        duplicate_detection: bool = True,
        router: bool = False,
    ) -> None:
        """``interface_identifier``: 8 octets for all autoconfigured addresses (for example `identifiers.eui64`).

        Without one they are stable and opaque (RFC 7217): made from ``secret``, or from a random one for the life of
        this object. ``duplicate_detection=False``: addresses are taken for granted (RFC 4862 section 5.1, transmits 0).
        ``router``: the owner forwards packets; the host then listens to all-routers, says in its neighbour
        advertisements that it is a router, hands router solicitations up and ignores other routers' advertisements.
        """
        if len(link_address) != 6:
            raise ValueError(f"link {link}: a link-layer address has 6 octets, got {len(link_address)}")
        if interface_identifier is not None and len(interface_identifier) != 8:
            raise ValueError(f"link {link}: an interface identifier has 8 octets, got {len(interface_identifier)}")
        interface = Interface(link, link_address, mtu, random)
        self._addresses = AddressTable(
            interface,
            identifier=interface_identifier,
            secret=random(32) if secret is None else secret,
            duplicate_detection=duplicate_detection,
        )
        self._groups = self._addresses.groups
        self._proxies = Proxies(interface, self._groups, self._own_link_local)
        super().__init__(interface, self._addresses.usable, self._proxies.addresses)
        self._router = router
        self._routers = RouterList(self._interface)
        self._networks = KnownNetworks()
        self._discovery = Discovery(
            self._interface, self._addresses, self._routers, self._networks, self._path_mtus.clear
        )
        self._neighbours = self._discovery.neighbours
        self._neighbour_discovery = NeighbourDiscovery(
            self._interface,
            self._addresses,
            self._proxies,
            self._routers,
            self._discovery,
            self._arrive,
            router=router,
        )
        self._resolved = self._interface.resolved

    # ---------------------------------------------------------------- entry points

    def link_changed(self, up: bool, now: float) -> list[Output]:
        """The carrier came or went. Up without a down before it means: perhaps another link."""
        if self._interface.up:
            self._interface.up = False
            self._addresses.link_down(now)
            self._proxies.link_down()
            self._discovery.link_down(now)
        if up:
            self._interface.up = True
            if self._router and messages.ALL_ROUTERS not in self._groups:
                self._groups.join(messages.ALL_ROUTERS, now)
            self._addresses.link_up(now)
            self._proxies.link_up(now)
            if not self._router:
                self._discovery.link_up(now)
        return self._finish()

    def send_via(self, packet: bytes, hop: bytes, now: float) -> list[Output]:
        """Sends a packet that the owner forwards: to the neighbour ``hop``, whatever our own routes say."""
        if len(packet) < ip6.HEADER_SIZE:
            self._interface.discard(Reason.MALFORMED, f"{len(packet)} octets are no IPv6 packet")
        elif self._interface.up:
            self._neighbours.send(packet, hop, now)
        else:
            self._interface.discard(Reason.LINK_DOWN, f"to {IPv6Address(packet[24:40])}")
        return self._finish()

    def next_hop(self, destination: bytes) -> bytes | None:
        """Link-layer address for packets to ``destination`` as the latest `send` to it decided; None: ask `send`.

        Who transmits by this keeps to `path_mtu` himself.
        """
        return self._resolved.get(destination)

    @property
    def link_local(self) -> bytes | None:
        """The link-local address, once it may be used (16 octets): what router advertisements come from."""
        address = self._addresses.link_local()
        return None if address is None else address.value

    def add_address(
        self,
        address: IPv6Address,
        now: float,
        optimistic: bool = True,
        *,
        prefix_length: int = 64,
        quiet: bool = False,
    ) -> list[Output]:
        """A configured address; `AddressReady` tells when it is usable: at once if ``optimistic``.

        The first ``prefix_length`` bits are on-link. ``quiet``: without duplicate address detection or defence until
        `announce`: a mobile node that returns home while the home agent still stands in (RFC 6275 section 11.5.5).
        Solicitations are answered: the home agent has to find us to acknowledge.
        """
        existing = self._addresses.get(address.packed)
        if existing is None:
            self._routers.configure_prefix(address.packed, prefix_length, on_link=True)
            self._addresses.add(address.packed, prefix_length, now, optimistic=optimistic, quiet=quiet)
        return self._finish()

    def remove_address(self, address: IPv6Address, now: float) -> list[Output]:
        """Takes a configured address away. One that is not there, or not configured, is left alone."""
        existing = self._addresses.get(address.packed)
        if existing is not None and existing.origin is Origin.CONFIGURED:
            self._routers.configure_prefix(address.packed, existing.prefix_length, on_link=False)
            self._addresses.remove(address.packed, now, "removed")
        return self._finish()

    def announce(self, address: IPv6Address, now: float) -> list[Output]:
        """Tell all neighbours that the address is ours now (unsolicited, overriding); ends `quiet`."""
        self._addresses.announce(address.packed, now)
        return self._finish()

    def add_proxy(self, address: IPv6Address, now: float) -> list[Output]:
        """Stand in for an absent node: announce, answer and defend its address; its packets come as `Arrived`."""
        self._proxies.add(address.packed, now)
        return self._finish()

    def remove_proxy(self, address: IPv6Address, now: float) -> list[Output]:
        """The node is back: answer for it no more."""
        self._proxies.remove(address.packed, now)
        return self._finish()

    def confirm(self, destination: bytes, now: float, source: bytes = _UNSPECIFIED) -> list[Output]:
        """An answer came from ``destination``: the next hop towards it works, no probe needed (RFC 4861 section 7.3.1).

        ``source``: our address that the answer was for, which chooses the router as in `send`.
        """
        hop = self._routers.next_hop(source, destination, now)
        if hop is not None:
            self._neighbours.confirm(hop, now)
        return self._finish()

    def suspect(self, now: float) -> list[Output]:
        """Nothing comes through although the link is up: ask the present routers and look for others."""
        if self._interface.up:
            self._discovery.suspect(now)
        return self._finish()

    def source_for(self, destination: bytes) -> bytes | None:
        """An address of ours to talk to ``destination`` from: same scope, preferred before deprecated."""
        return self._addresses.error_source(destination)

    def snapshot(self, now: float) -> dict[str, object]:
        """Tables and counters, JSON-ready."""
        interface = self._interface
        return {
            "link": self.link,
            "link_address": interface.mac.hex(":"),
            "up": interface.up,
            "mtu": interface.mtu,
            "addresses": self._addresses.snapshot(now),
            "proxied": sorted(str(IPv6Address(address)) for address in self._proxied),
            "routers": self._routers.snapshot(now),
            "neighbours": self._neighbours.snapshot(),
            "known_networks": self._networks.snapshot(),
            "path_mtus": self._path_mtus.snapshot(now),
            "groups": self._groups.snapshot(),
            "counters": {"arrived": self._arrived, **interface.counters},
        }

    # ---------------------------------------------------------------- sending

    def _leave(self, packet: bytes, source: bytes, now: float) -> None:
        interface, destination = self._interface, packet[24:40]
        multicast = destination[0] == 0xFF
        hop = destination if multicast else self._routers.next_hop(source, destination, now)
        if hop is None:
            interface.discard(Reason.NO_ROUTE, f"to {IPv6Address(destination)}")
            return
        if hop == destination and not multicast:
            hop = self._detour(hop, packet[8:24], now)
        for piece in self._fit(packet, destination):
            if multicast:
                interface.transmit(piece, ndisc.ethernet_multicast(destination))
            else:
                self._neighbours.send(piece, hop, now)

    def _own_link_local(self) -> bytes:
        return self.link_local or _UNSPECIFIED

    def _detour(self, hop: bytes, source: bytes, now: float) -> bytes:
        """While every address is optimistic nobody may be asked for a link-layer address: the router is, if known.

        RFC 4429 section 3.3. Not from a quiet address: the answer would reach the node that still stands in for us.
        """
        neighbour = self._neighbours.get(hop)
        if (neighbour is not None and neighbour.mac is not None) or messages.is_link_local(hop):
            return hop
        address = self._addresses.get(source)
        if address is None or not address.being_checked or self._addresses.solicitation_source(source) is not None:
            return hop
        router = self._routers.default(source, now)
        known = None if router is None else self._neighbours.get(router)
        return hop if router is None or known is None or known.mac is None else router

    # ---------------------------------------------------------------- receiving

    def _receive_other(self, packet: bytes, sender: bytes, now: float) -> None:
        destination = packet[24:40]
        if destination[0] == 0xFF and destination in self._groups:
            self._process(packet, sender, now)
        elif self.forwards(destination):
            self._arrive(packet)
        else:
            self._interface.discard(Reason.NOT_OURS, f"to {IPv6Address(destination)}")

    def _receive_for_absent(self, packet: bytes, sender: bytes, now: float) -> None:
        """Everything for a proxied address goes up, but the questions of its neighbours."""
        if packet[6] == ip6.ICMPV6 and packet[7] == ndisc.HOP_LIMIT and packet[40:41] in (b"\x87", b"\x88"):
            self._neighbour_discovery.receive(packet, ip6.HEADER_SIZE, sender, now)
        else:
            self._arrive(packet)

    def _link_message(self, packet: bytes, offset: int, sender: bytes, now: float) -> None:
        if packet[offset] == MLD_QUERY:
            self._mld_query(packet, packet[offset:], now)
        else:
            self._neighbour_discovery.receive(packet, offset, sender, now)

    def _mld_query(self, packet: bytes, data: bytes, now: float) -> None:
        if packet[7] != 1 or not messages.is_link_local(packet[8:24]) or len(data) < 24:
            self._interface.discard(Reason.ICMP_IGNORED, "MLD query: hop limit, source or size")
            return
        code = int.from_bytes(data[4:6])
        if len(data) > 24 and code >= 0x8000:  # floating point of MLDv2 (RFC 3810 section 5.1.3)
            code = (code & 0xFFF | 0x1000) << ((code >> 12 & 7) + 3)
        self._groups.queried(data[8:24], code / 1000, now)
