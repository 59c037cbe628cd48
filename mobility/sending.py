"""What programs send, on its way to the network: application IPsec, send routine 100, and the direct way.

The short way of a terminal (`Terminal.from_host`) takes the same steps for packets that need no thought.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from mobility.application_keys import ApplicationKeys
from mobility.discards import Discard, Reason
from mobility.forwarding import Forwarding
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import OutboundSA
from mobility.links import link_scope
from mobility.mipv6.again import SentLately
from mobility.mipv6.again_direct import highest_received
from mobility.mipv6.mobile_node import MobileNode, Send
from mobility.mipv6.route_optimization import RouteOptimization
from mobility.mipv6.tunnel import checked, checked4
from mobility.outputs import Deliver, Discarded, Output
from mobility.scenario.policy import ScenarioPolicy
from mobility.terminal_settings import TerminalSettings
from mobility.waiting import WaitingRoom
from mobility.wire import icmp6, ip6


class Sending:
    """Of one terminal. Decides which way each packet goes, keeps what may have to be sent again, lets packets wait."""

    def __init__(
        self,
        settings: TerminalSettings,
        application: IpsecProcessing,
        forwarding: Forwarding,
        mobile_node: MobileNode,
        scenarios: ScenarioPolicy,
        tunnel_out: OutboundSA | None,
        put: Send,
        random: Callable[[int], bytes],
    ) -> None:
        """``put``: puts a packet on a link, and acts on what the link says to it."""
        self.sent = 0
        "Packets of the host OS that went to the network."
        self.host_mtu = ip6.MINIMUM_MTU
        "Octets of the largest packet that the host OS may send."
        self.network_mtu = ip6.MINIMUM_MTU
        "The same of nodes in a mobile network, whose packets the application's IPsec passes by."
        self.sent_lately = SentLately(tunnel_out)
        self.waiting = WaitingRoom()
        self.finished = WaitingRoom()
        "Those that the application's IPsec is done with."
        self.optimization = RouteOptimization(
            settings.home_address,
            settings.home_agent,
            settings.route_optimization,
            scenarios,
            forwarding,
            self.from_care_of_address,
            self.from_home_address,
            self.protected_again,
            lambda correspondent: highest_received(application, correspondent),
            random,
        )
        self.optimizes = settings.route_optimization.ever
        self.application_keys: ApplicationKeys | None = None
        "Negotiates them, if that is to be done."
        self._application = application
        self._forwarding = forwarding
        self._mobile_node = mobile_node
        self._tunnel_out = tunnel_out
        self._put = put
        self._home = settings.home_address.packed
        self._agent = settings.home_agent.packed

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """A program sends a packet, of which nothing is known yet."""
        try:
            if packet[:1] and packet[0] >> 4 == 4:
                return self._from_host4(checked4(packet), now)
            packet = checked(packet)
            self._check_addresses(packet)
        except Discard as discard:
            return [Discarded.of(discard, "terminal")]
        if len(packet) > self.host_mtu:
            return self._too_big(packet)
        if not self._forwarding.ready:
            return list(self.waiting.add(packet, now))
        return self._outbound(packet, now)

    def from_network(self, packet: bytes, now: float) -> list[Output]:
        """A packet from a network behind this terminal, which the caller has looked at (RFC 3963 section 5.5)."""
        if not self._forwarding.ready:
            return list(self.waiting.add(packet, now))
        return self._outbound(packet, now)

    def what_waited(self, now: float) -> list[Output]:
        """There is a binding again: what the old place lost goes first, then what waited for the new one."""
        outputs = self._send_again(now)
        for packet in self.finished.take():
            outputs += self.as_it_is(packet, now)
        for packet in self.waiting.take():
            outputs += self._outbound4(packet, now) if packet[0] >> 4 == 4 else self._outbound(packet, now)
        return outputs

    def on_its_way(self, protected: bytes, link: str, now: float) -> list[Output]:
        """Send routine 100 for a packet that the application's IPsec is done with. Raises `Discard`."""
        outer = self._forwarding.send(protected)
        if outer[6] == ip6.DEST_OPTIONS and outer[24:40] == protected[24:40] and outer is not protected:
            self.optimization.sent(protected, now)
        elif not self._forwarding.at_home:
            self.sent_lately.sealed(protected, now)
        self.sent += 1
        return self._put(link, outer, now)

    def measure(self, path_mtu: int) -> bool:
        """Whether `host_mtu` is another one now: what both IPsec layers leave of the narrowest link or path."""
        inner = self._forwarding.tunnel_room(path_mtu)
        self.network_mtu = max(inner, ip6.MINIMUM_MTU)
        before = self.host_mtu
        # A link of IPv6 carries 1280 octets; where the tunnel does not, the host fragments the outer packet.
        self.host_mtu = max(self._application.room(inner), ip6.MINIMUM_MTU)
        return self.host_mtu != before

    # ------------------------------------------------------------ what the application's keys are negotiated by

    def as_it_is(self, packet: bytes, now: float) -> list[Output]:
        """A packet of the home address that the application's IPsec has done with, or has nothing to do with."""
        return self.protected_again(packet, now) if self._forwarding.ready else list(self.finished.add(packet, now))

    def unsealed(self, packet: bytes, discard: Discard, now: float) -> list[Output]:
        """A packet could not be sent: it may be that its keys are negotiated, and that it can wait for them."""
        if discard.reason is Reason.SA_MISSING and self.application_keys is not None:
            return self.application_keys.wanted(packet, now)
        return [Discarded.of(discard, "send-routine")]

    # ------------------------------------------------------------ what route optimization sends

    def from_care_of_address(self, packet: bytes, now: float) -> list[Output]:
        """A packet from the care-of address, as it is."""
        present = self._mobile_node.present
        return [] if present is None else self._put(present.link, packet, now)

    def from_home_address(self, packet: bytes, now: float) -> list[Output]:
        """A message from the home address, through the tunnel if the terminal is away."""
        present = self._mobile_node.present
        if present is None or not self._forwarding.ready:
            return []
        try:
            outer = self._forwarding.send_tunnelled(packet)
        except Discard as discard:
            return [Discarded.of(discard, "send-routine")]
        return self._put(present.link, outer, now)

    def protected_again(self, protected: bytes, now: float) -> list[Output]:
        """A packet again that the application's IPsec is done with, by whichever way there is."""
        present = self._mobile_node.present
        if present is None or not self._forwarding.ready:
            return []
        try:
            return self.on_its_way(protected, present.link, now)
        except Discard as discard:
            return [Discarded.of(discard, "send-routine")]

    # ------------------------------------------------------------ inside

    def _from_host4(self, packet: bytes, now: float) -> list[Output]:
        """A program sends IPv4: into the tunnel with it, if the home agent hands out an address. Raises `Discard`."""
        address = self._mobile_node.home_address4
        if address is None or packet[12:16] != address.packed:
            raise Discard(Reason.SOURCE_NOT_HOST_ADDRESS, str(IPv4Address(packet[12:16])))
        if not self._forwarding.ready:
            return list(self.waiting.add(packet, now))
        return self._outbound4(packet, now)

    def _outbound4(self, packet: bytes, now: float) -> list[Output]:
        present = self._mobile_node.present
        if present is None:
            return [Discarded(Reason.NO_BINDING, "send-routine", "the terminal is on no link")]
        try:
            outer = self._forwarding.send4(packet, self._tunnel_out)
        except Discard as discard:
            return [Discarded.of(discard, "send-routine")]
        self.sent += 1
        return self._put(present.link, outer, now)

    def _check_addresses(self, packet: bytes) -> None:
        source, destination = packet[8:24], packet[24:40]
        if link_scope(source) or link_scope(destination) or not any(source):
            raise Discard(Reason.LINK_LOCAL_CHATTER, f"{IPv6Address(source)} to {IPv6Address(destination)}")
        if source != self._home:
            raise Discard(Reason.SOURCE_NOT_HOST_ADDRESS, str(IPv6Address(source)))

    def _outbound(self, packet: bytes, now: float) -> list[Output]:
        present = self._mobile_node.present
        if present is None:
            return [Discarded(Reason.NO_BINDING, "send-routine", "the terminal is on no link")]
        try:
            if packet[8:24] != self._home:
                # The application's IPsec is the home address's own, and so is the direct way.
                return self._tunnelled(packet, present.link, now)
            outputs = self.on_its_way(self._application.protect(packet), present.link, now)
        except Discard as discard:
            return self.unsealed(packet, discard, now)
        if self.optimizes and packet[24:40] not in self.optimization.ways and not self._forwarding.at_home:
            outputs += self.optimization.noticed(packet[24:40], now)
        return outputs

    def _tunnelled(self, packet: bytes, link: str, now: float) -> list[Output]:
        """Send routine 100 for a packet of a network behind us. Raises `Discard`."""
        outer = self._forwarding.send_tunnelled(packet)
        if not self._forwarding.at_home:
            self.sent_lately.sealed(packet, now)
        self.sent += 1
        return self._put(link, outer, now)

    def _send_again(self, now: float) -> list[Output]:
        """What the home agent did not receive from the place that was left."""
        mobile_node = self._mobile_node
        progress, present = mobile_node.progress, mobile_node.present
        if progress is None or present is None:
            return mobile_node.settle(now)
        mobile_node.progress = None
        packets = self.sent_lately.after(progress.highest, now)
        outputs = mobile_node.settle(now, len(packets), progress.sent_again)
        for packet in packets:
            try:
                way = self.on_its_way if packet[8:24] == self._home else self._tunnelled
                outputs += way(packet, present.link, now)
            except Discard as discard:
                outputs.append(Discarded.of(discard, "send-routine"))
        return outputs

    def _too_big(self, packet: bytes) -> list[Output]:
        """Tell the program, in the name of the home agent, which is the first router on its way."""
        outputs: list[Output] = []
        if icmp6.may_be_answered_with_error(packet):
            error = icmp6.PacketTooBig(self.host_mtu, packet)
            outputs.append(Deliver(icmp6.packet(self._agent, self._home, error)))
        detail = f"{len(packet)} octets, {self.host_mtu} fit"
        return [*outputs, Discarded(Reason.TOO_BIG, "terminal", detail)]
