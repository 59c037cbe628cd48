"""What arrives for the home address, on its way to the programs: receive routine 120, then application IPsec.

The short way of a terminal (`Terminal.from_link`) takes the same steps for packets that need no thought.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from mobility import application_keys
from mobility.application_keys import ApplicationKeys
from mobility.discards import Discard, Reason
from mobility.forwarding import Forwarding
from mobility.host.fragments import Reassembly, put_together
from mobility.host.interface import Interface
from mobility.ipsec.ike.numbers import NON_ESP_MARKER
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA
from mobility.links import describe_endpoint, is_udp
from mobility.mipv6.mobile_node import MobileNode
from mobility.mipv6.route_optimization import RouteOptimization
from mobility.mipv6.tunnel import Content, content
from mobility.outputs import Deliver, Discarded, Output
from mobility.path_watch import PathWatch
from mobility.scenario.policy import ScenarioPolicy
from mobility.terminal_keys import TerminalKeys, is_ike
from mobility.terminal_settings import TerminalSettings
from mobility.uplinks import Uplinks
from mobility.wire import icmp6, ip6
from mobility.wire.errors import WireError
from mobility.wire.mobile_icmp import PREFIX_ADVERTISEMENT

_PREFIX_ADVERTISEMENT = bytes((PREFIX_ADVERTISEMENT,))


class Receiving:
    """Of one terminal. Tells signalling from data, and takes data to the host OS."""

    def __init__(
        self,
        settings: TerminalSettings,
        application: IpsecProcessing,
        forwarding: Forwarding,
        mobile_node: MobileNode,
        scenarios: ScenarioPolicy,
        optimization: RouteOptimization,
        uplinks: Uplinks,
        watch: PathWatch,
        signalling_in: InboundSA | None,
        home_agent_says: Callable[[bytes, str, float], list[Output]],
        counters: Counter[str],
    ) -> None:
        """``signalling_in``: of the home agent's signalling under ESP; None: it comes otherwise. ``home_agent_says``:
        takes signalling of the home agent: packet, link, now."""
        self.delivered = 0
        "Packets for the host OS."
        self.overlapping = mobile_node.overlapping
        "Whether the same packet may come twice at this time."
        self._application = application
        self._forwarding = forwarding
        self._mobile_node = mobile_node
        self._scenarios = scenarios
        self._optimization = optimization
        self._uplinks = uplinks
        self._watch = watch
        self._signalling_in = signalling_in
        self.keys: TerminalKeys | None = None
        "Negotiates them, if that is to be done."
        self.application_keys: ApplicationKeys | None = None
        "Negotiates those of the application, if that is to be done."
        self.keyed: Callable[[list[Output], float], list[Output]] = lambda outputs, _now: outputs
        "Acts on what becomes of keys."
        self._home_agent_says = home_agent_says
        self._counters = counters
        # Of what comes out of the tunnel, which is on no link. Nobody is told of fragments that stay alone: the IPsec
        # of their sender would not let the error in.
        self._interface = Interface("tunnel", bytes(6), 0xFFFF, lambda size: bytes(size))
        self._reassembly = Reassembly(self._interface, lambda _first, _now: None)
        self._home = settings.home_address.packed
        self._agent = settings.home_agent.packed

    def packet(self, packet: bytes, link: str, now: float) -> list[Output]:
        """A whole packet that the host of a link does not handle."""
        if self.keys is not None and packet[8:24] == self._agent and is_ike(packet):
            return self._negotiating(self.keys.packet, packet, now=now)
        behind = packet[24:40] in self._forwarding.networks
        if not behind and self._is_signalling(packet):
            return self._signalling(packet, link, now)
        if not behind and packet[6] == ip6.ICMPV6 and packet[24:40] != self._home:
            return self._icmp(packet, now)
        try:
            inner = self._forwarding.receive(packet)
        except Discard as discard:
            return self.not_received(discard, now)
        outputs = self._received(inner, now)
        if packet[8:24] != self._agent and not self._forwarding.at_home and outputs and type(outputs[0]) is Deliver:
            outputs += self._optimization.heard(packet[8:24], now)
        return outputs

    def datagram(self, link: str, payload: bytes, sender: bytes, now: float) -> list[Output]:
        """The home agent, or somebody else, sent a datagram."""
        local = self._uplinks.address(link)
        if local is None:
            return [Discarded(Reason.NO_SUCH_LINK, "terminal", link)]
        if sender != self._uplinks.endpoint_of(link):
            return [Discarded(Reason.OUTER_SOURCE_WRONG, "terminal", f"a datagram of {describe_endpoint(sender)}")]
        if self.keys is not None and payload[:4] == NON_ESP_MARKER:
            return self._negotiating(self.keys.datagram, payload, link, sender, now=now)
        try:
            match content(payload):
                case Content.KEEPALIVE:
                    self._counters["keepalives"] += 1
                    return []
                case Content.IPV6 if self._is_signalling(payload):
                    return self._signalling(payload, link, now)
                case _:
                    inner = self._forwarding.receive_datagram(payload, local.packed)
        except Discard as discard:
            return self.not_received(discard, now)
        return self._received(inner, now)

    def _negotiating(self, take: Callable[..., list[Output]], *what: object, now: float) -> list[Output]:
        """The home agent talks about keys."""
        try:
            return self.keyed(take(*what, now), now)
        except Discard as discard:
            return [Discarded.of(discard, "ike")]

    def not_received(self, discard: Discard, now: float) -> list[Output]:
        """Receive routine 120 did not like a packet."""
        if discard.reason is Reason.REPLAYED and self.overlapping(now):
            # The home agent sends to the old place and to the new one, or a MAP sends again; this one came second.
            self._counters["duplicates-removed"] += 1
            return []
        return [Discarded.of(discard, "receive-routine")]

    def out_of_tunnel(self, inner: bytes, now: float) -> list[Output]:
        """Receive routine 120 is done: the application's IPsec, then the host OS."""
        if inner[24:40] != self._home and inner[0] >> 4 == 6:
            self.delivered += 1
            return [Deliver(inner)]  # of a network behind us: its IPsec is its own
        if inner[6] == ip6.UDP and self.application_keys is not None and application_keys.is_ike(inner):
            return self._application_negotiates(self.application_keys, inner, now)
        if inner[6] == ip6.ICMPV6 and inner[8:24] == self._agent and self._watch.echoed(inner, now):
            return []
        if inner[6] == ip6.MOBILITY and inner[0] >> 4 == 6:
            return self._of_correspondent(inner, now, tunnelled=True)
        if inner[0] >> 4 == 4:
            self.delivered += 1
            return [Deliver(inner)]
        try:
            plain = self._application.accept(inner)
        except Discard as discard:
            if discard.reason is Reason.ESP_FRAGMENT:
                return self._in_pieces(inner, now)
            return self._not_accepted(inner, discard, now)
        self.delivered += 1
        return [Deliver(plain)]

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return self._interface.alarms.next

    def handle_timer(self, now: float) -> list[Output]:
        """Packets of which fragments are missing for too long are forgotten."""
        self._interface.alarms.run(now)
        return self._interface.take()

    # ------------------------------------------------------------ inside

    def _application_negotiates(self, keys: ApplicationKeys, inner: bytes, now: float) -> list[Output]:
        try:
            return keys.packet(inner, now)
        except Discard as discard:
            return [Discarded.of(discard, "ike")]

    def _not_accepted(self, inner: bytes, discard: Discard, now: float) -> list[Output]:
        if discard.reason is Reason.SA_UNKNOWN and self.application_keys is not None:
            return self.application_keys.unknown(inner, discard, now)
        return [Discarded.of(discard, "app-ipsec")]

    def _in_pieces(self, inner: bytes, now: float) -> list[Output]:
        """A fragment of what the application's IPsec wants whole (RFC 4303 section 3.4.1): its sender made it, because
        the path to the home address was too narrow for packet and IPsec. Others are put together by the host OS."""
        try:
            whole = put_together(self._reassembly, inner, now)
        except Discard as discard:
            return [Discarded.of(discard, "app-ipsec")]
        outputs = self._interface.take()
        return outputs if whole is None else [*outputs, *self.out_of_tunnel(whole, now)]

    def _received(self, inner: bytes, now: float) -> list[Output]:
        """What receive routine 120 hands to scenario processing, if there is a scenario that takes it."""
        if self._scenarios.lacking is not None:
            return [Discarded(Reason.SCENARIO_DISABLED, "scenario", "there is no tunnel that it may come through")]
        return self.out_of_tunnel(inner, now)

    def _icmp(self, packet: bytes, now: float) -> list[Output]:
        """An error about a packet of the care-of address."""
        try:
            message = icmp6.parse(packet[ip6.HEADER_SIZE :])
            if not isinstance(message, icmp6.Error):
                raise Discard(Reason.ICMP_IGNORED, f"type {packet[40]} for the care-of address")
            return self._optimization.problem(message, now)
        except WireError as error:
            return [Discarded(Reason.MALFORMED, "terminal", str(error))]
        except Discard as discard:
            return [Discarded.of(discard, "terminal")]

    def _is_signalling(self, packet: bytes) -> bool:
        try:
            headers = ip6.walk(packet)
        except WireError:
            return False
        if headers.protocol == ip6.ESP:
            spi = int.from_bytes(packet[headers.offset : headers.offset + 4])
            return self._signalling_in is not None and spi in self._signalling_in.spis
        if headers.protocol == ip6.AH:
            return packet[8:24] == self._agent  # Figs. 14, 19 and 20: nothing else comes under AH
        if headers.protocol == ip6.ICMPV6 and packet[headers.offset : headers.offset + 1] == _PREFIX_ADVERTISEMENT:
            return packet[8:24] == self._agent
        return headers.protocol == ip6.MOBILITY

    def _signalling(self, packet: bytes, link: str, now: float) -> list[Output]:
        if packet[8:24] != self._agent and packet[6] != ip6.ESP:
            return self._of_correspondent(packet, now, tunnelled=self._forwarding.at_home or is_udp(link))
        return self._home_agent_says(packet, link, now)

    def _of_correspondent(self, packet: bytes, now: float, *, tunnelled: bool) -> list[Output]:
        """Routine 70 for a mobility message that is not the home agent's."""
        try:
            return self._optimization.receive(packet, now, tunnelled=tunnelled)
        except Discard as discard:
            return [Discarded.of(discard, "ba-routine")]
