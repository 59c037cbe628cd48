"""IPv6-packet processing part 24: send routine 100 (Fig. 17), receive routine 120 (Fig. 18), tunnel information.

Contains the second IPsec processing part, that of the mobile tunnel. Step numbers are those of the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import OutboundSA
from mobility.links import unmapped
from mobility.mipv6 import direct
from mobility.mipv6.binding_update_list import BindingUpdateList, ListEntry
from mobility.mipv6.tunnel import (
    TunnelForm,
    around,
    checked,
    decapsulate,
    encapsulate,
    from_datagram,
    room,
    seal,
    seal4,
)
from mobility.nemo.mobile_networks import NO_PREFIXES, Prefixes
from mobility.wire import ip6


@dataclass(frozen=True, slots=True)
class TunnelInformation:
    """The ends of the mobile tunnel and how packets go through it (steps 63, 81, 91)."""

    home_agent: IPv6Address
    care_of_address: IPv6Address
    form: TunnelForm


@dataclass(frozen=True, slots=True)
class RegionalInformation:
    """Where the terminal is in the domain of a MAP (steps 95, 98, 99)."""

    anchor: IPv6Address
    rcoa: IPv6Address
    lcoa: IPv6Address


class Forwarding:
    """Takes packets of the home address to the network and back."""

    def __init__(
        self,
        home_address: IPv6Address,
        home_agent: IPv6Address,
        form: TunnelForm,
        security: IpsecProcessing,
        updates: BindingUpdateList,
        networks: Prefixes = NO_PREFIXES,
    ) -> None:
        """``networks``: behind this terminal, if it is a mobile router."""
        self.home_address = home_address
        self.form = form
        self.security = security
        self.updates = updates
        self.networks = networks
        self.tunnel: TunnelInformation | None = None
        self.regional: RegionalInformation | None = None
        self.at_home = False
        self._home = home_address.packed
        self._agent = home_agent.packed
        self.datagrams = False
        "The tunnel is UDP: what is sent and received are payloads of datagrams."
        self.home_address4 = b""
        "Four octets, while the home agent hands one out."
        self._outbound_ends = b""
        self._logical_ends = home_address.packed + home_agent.packed
        self.lost_address = b""
        "Care-of address that was given up as lost (16 bytes): what still comes to it comes again elsewhere."
        self.accepts_direct: Callable[[bytes], bool] = _nobody
        "Whether data of this correspondent (16 octets) may come directly: where the terminal is may be known to it."

    def set_tunnel(self, home_agent: IPv6Address, care_of_address: IPv6Address) -> None:
        """Away from home, with a binding: packets go through the tunnel between these (steps 63, 81, 91)."""
        self.tunnel = TunnelInformation(home_agent, care_of_address, self.form)
        self._outbound_ends = care_of_address.packed + home_agent.packed
        self.at_home = False

    def set_route(self, entry: ListEntry) -> None:
        """Packets for a correspondent go directly, from the care-of address (steps 84, 93)."""
        self.updates.put(entry)

    def clear_route(self, correspondent: IPv6Address) -> None:
        """They go through the tunnel again (steps 85, 94)."""
        self.updates.delete(correspondent)

    def set_regional(self, anchor: IPv6Address, rcoa: IPv6Address, lcoa: IPv6Address) -> bool:
        """Steps 95, 98, 99; whether the RCoA is another one than before (step 96)."""
        before, self.regional = self.regional, RegionalInformation(anchor, rcoa, lcoa)
        return before is None or before.rcoa != rcoa

    def clear_regional(self, rcoa: IPv6Address) -> None:
        """That domain was left."""
        if self.regional is not None and self.regional.rcoa == rcoa:
            self.regional = None

    def clear_tunnel(self) -> None:
        """There is no binding at the moment."""
        self.tunnel = None

    def arrived_home(self) -> None:
        """At home packets go and come as they are."""
        self.tunnel = None
        self.at_home = True

    def left_home(self) -> None:
        """Not at home any more; packets need a tunnel."""
        self.at_home = False

    @property
    def ready(self) -> bool:
        """Whether packets can be sent now."""
        return self.at_home or self.tunnel is not None

    def tunnel_room(self, path_mtu: int) -> int:
        """The largest packet, in octets, that fits into ``path_mtu`` once it is in the tunnel."""
        return room(path_mtu, self.form, self.security, self.home_address)

    def send(self, packet: bytes) -> bytes:
        """Send routine 100: the packet as it goes onto the link. Raises `Discard` (step 112)."""
        if self.at_home:  # step 101
            return packet
        route = self.updates.route(packet[24:40])  # step 102
        here = route is not None and (self.tunnel is None or self.tunnel.care_of_address == route.care_of_address)
        if route is not None and here and direct.can_go_direct(packet):
            # Steps 104 to 106 are done: the application's IPsec came first, the tunnel's is about the tunnel only.
            return direct.to_correspondent(packet, route.care_of_address.packed, self._home)  # steps 103, 107
        return self.send_tunnelled(packet)

    def send_tunnelled(self, packet: bytes) -> bytes:
        """Send routine 100 for what may not go directly, such as home tests. Raises `Discard` (step 112)."""
        if self.at_home:
            return packet
        if self.tunnel is None:
            raise Discard(Reason.NO_BINDING, f"to {IPv6Address(packet[24:40])}")
        if self.datagrams:
            return seal(packet, self._logical_ends, self.form, self.security)[1]
        return encapsulate(packet, self._outbound_ends, self.form, self.security)  # steps 108 to 111, 107

    def send4(self, packet: bytes, association: OutboundSA | None) -> bytes:
        """A packet of the IPv4 home address into the tunnel (RFC 5555). Raises `Discard`."""
        if self.tunnel is None:
            raise Discard(Reason.NO_BINDING, "an IPv4 packet: there is no tunnel")
        ends = self._logical_ends if self.datagrams else self._outbound_ends
        next_header, body = seal4(packet, ends, self.form, association)
        return body if self.datagrams else around(_NO_CLASS, ends, next_header, body)

    def receive(self, packet: bytes) -> bytes:
        """Receive routine 120: the packet for scenario processing (step 127). Raises `Discard` (step 130)."""
        packet = checked(packet)
        if packet[24:40] == self._home or packet[24:40] in self.networks:
            if not self.at_home:  # step 121
                raise Discard(Reason.NOT_TUNNELLED, f"from {IPv6Address(packet[8:24])}")
            return packet
        if packet[6] in (ip6.ROUTING, ip6.DEST_OPTIONS, ip6.HOP_BY_HOP):  # step 122
            packet, headers = direct.opened(packet)
            if headers.routing_address is not None or headers.home_address is not None:
                direct.check_routing(headers, self._home)  # step 123
                self._check_direct(packet)
                return packet  # steps 124 to 126 are the application's IPsec; step 127
        if packet[8:24] != self._agent:  # step 128, before the work of step 125 is spent on a stranger
            raise Discard(Reason.OUTER_SOURCE_WRONG, f"{IPv6Address(packet[8:24])} is not the home agent")
        if packet[24:40] == self.lost_address:
            raise Discard(Reason.CARE_OF_ADDRESS_LOST, str(IPv6Address(packet[24:40])))
        inner = decapsulate(packet, self.form, self.security)  # steps 124 to 126, 128, 129, 131
        self.check_inner(inner)
        return inner  # step 127

    def receive_datagram(self, payload: bytes, local: bytes) -> bytes:
        """Receive routine 120 where the tunnel is UDP; the caller knows that the home agent sent it.

        ``local``: our address that it came to, 16 octets. Raises `Discard` (step 130).
        """
        if local == self.lost_address:
            raise Discard(Reason.CARE_OF_ADDRESS_LOST, str(IPv6Address(local)))
        inner = from_datagram(payload, self._agent + self._home, self.form, self.security)
        self.check_inner(inner)
        return inner  # step 127

    def check_inner(self, inner: bytes) -> None:
        """Raises `Discard` HOME_ADDRESS_NOT_OURS unless a packet out of the tunnel is for an address of ours, or for a
        network behind us (RFC 3963 section 5.5)."""
        if inner[0] >> 4 == 4:
            ours = inner[16:20] == self.home_address4
        else:
            ours = inner[24:40] == self._home or inner[24:40] in self.networks
        if not ours:
            raise Discard(Reason.HOME_ADDRESS_NOT_OURS, "inner destination of a packet out of the tunnel")

    def _check_direct(self, packet: bytes) -> None:
        """Raises `Discard`: data that came directly is from one that has no business to send so."""
        source = packet[8:24]
        if source == self._agent or packet[6] in _TUNNELLED or not self.accepts_direct(source):
            raise Discard(Reason.NOT_TUNNELLED, f"route-optimized data from {IPv6Address(source)}")

    def snapshot(self) -> dict[str, object]:
        """For people, JSON-ready."""
        tunnel = self.tunnel
        return {
            "at_home": self.at_home,
            "form": self.form.value,
            "tunnel": None
            if tunnel is None
            else {
                "home_agent": str(tunnel.home_agent),
                "care_of_address": str(unmapped(tunnel.care_of_address)),
                "udp": self.datagrams,
            },
            "regional": None
            if self.regional is None
            else {
                "map": str(self.regional.anchor),
                "rcoa": str(self.regional.rcoa),
                "lcoa": str(self.regional.lcoa),
            },
            "policies": self.security.spd.describe(),
        }


def _nobody(_correspondent: bytes) -> bool:
    return False


_TUNNELLED = (ip6.IPV6, ip6.IPV4)
_NO_CLASS = bytes((0x60, 0))
