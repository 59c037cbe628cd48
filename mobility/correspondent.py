"""A node that stays where it is: application IPsec on a host, and route optimization for terminals; a `Node`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address

from mobility.application_keys import ApplicationKeys, application_snapshot, is_ike
from mobility.discards import Discard, Reason
from mobility.host.host import Host
from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.processing import IpsecProcessing
from mobility.key_source import ApplicationKeySettings, no_clock
from mobility.links import LinkSettings, link_scope
from mobility.mipv6 import direct
from mobility.mipv6.again_direct import highest_received
from mobility.mipv6.correspondent_node import Correspondent
from mobility.mipv6.tunnel import checked
from mobility.negotiated import negotiated_snapshot
from mobility.outputs import Arrived, Deliver, Discarded, Output, Transmit
from mobility.wire import icmp6, ip6


@dataclass(frozen=True, slots=True)
class CorrespondentSettings:
    """What a correspondent node has to know."""

    address: IPv6Address
    "The address of the host OS, configured on the link."
    link: LinkSettings
    prefix_length: int = 64
    route_optimization: bool = True
    "Whether terminals may tell where they are (RFC 6275 section 9)."
    application_keys: ApplicationKeySettings | None = None
    "Of the application's IPsec; None: none are negotiated."


class CorrespondentNode:
    """Programs of the host OS use ``address``; their packets go through application IPsec and straight to the link."""

    def __init__(
        self,
        settings: CorrespondentSettings,
        application: IpsecProcessing,
        random: Callable[[int], bytes],
        utc: Callable[[], datetime] = no_clock,
    ) -> None:
        self.settings = settings
        self.application = application
        link = settings.link
        self.host = Host(link.name, link.link_address, link.mtu, random)
        self.counters: Counter[str] = Counter()
        self.sent = 0
        "Packets of the host OS that went to the network."
        self.delivered = 0
        "Packets for the host OS."
        self._address = settings.address.packed
        self.host.programs.add(self._address)
        self.optimization = (
            Correspondent(settings.address, random, self.host.send, self.host.report, self._heard)
            if settings.route_optimization
            else None
        )
        self.application_keys = (
            ApplicationKeys(settings.address, application, settings.application_keys, self._put, random, utc)
            if settings.application_keys is not None
            else None
        )
        # Room for a routing header is always left: what fits does not change when a terminal moves.
        widest = link.mtu if self.optimization is None else link.mtu - direct.OVERHEAD
        self.host_mtu = max(application.room(widest), ip6.MINIMUM_MTU)
        "Octets of the largest packet that the host OS may send."

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        parts = (self.host, self.optimization, self.application_keys)
        times = (None if part is None else part.timer for part in parts)
        return min((time for time in times if time is not None), default=None)

    def start(self, now: float) -> list[Output]:
        """Takes its address; the link may come up later."""
        settings = self.settings
        return self._absorb(self.host.add_address(settings.address, now, prefix_length=settings.prefix_length), now)

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        """The carrier of the link came or went."""
        if link != self.settings.link.name:
            return self._absorb([Discarded(Reason.NO_SUCH_LINK, "correspondent", link)], now)
        return self._absorb(self.host.link_changed(up, now), now)

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """A program sends a packet: application IPsec, a routing header if its terminal has a binding, the link."""
        try:
            packet = checked(packet)
            if packet[8:24] != self._address or link_scope(packet[24:40]):
                raise _not_ours(packet[8:24], packet[24:40])
            if len(packet) > self.host_mtu:
                return self._absorb(self._too_big(packet), now)
            protected = self.application.protect(packet)
        except Discard as discard:
            if discard.reason is Reason.SA_MISSING and self.application_keys is not None:
                return self._absorb(self.application_keys.wanted(packet, now), now)
            return self._absorb([Discarded.of(discard, "correspondent")], now)
        self.sent += 1
        return self._put(protected, now)

    def _put(self, protected: bytes, now: float) -> list[Output]:
        """What the application's IPsec is done with: a routing header if its terminal has a binding, then the link."""
        destination = protected[24:40]
        optimization = self.optimization
        if optimization is not None and len(optimization) and direct.can_go_direct(protected):
            care_of = optimization.route(destination)
            if care_of is not None:
                optimization.sent_directly.keep(destination, protected, now)
                protected, destination = direct.to_terminal(protected, care_of), care_of
        to = self.host.next_hop(destination)
        if to is not None and len(protected) <= self.host.path_mtu(destination):
            return [Transmit(protected, to, self.settings.link.name)]
        return self._absorb(self.host.send(protected, now), now)

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """A packet arrived on the link."""
        if link != self.settings.link.name:
            return self._absorb([Discarded(Reason.NO_SUCH_LINK, "correspondent", link)], now)
        optimization = self.optimization
        if packet[6:7] == b"\x3c" and optimization is not None and packet[24:40] == self._address:
            # The short way: the same steps as `Host.receive` and `_arrived`.
            inner = direct.quickly_from_terminal(packet)
            if inner is not None and optimization.confirms(inner[8:24], packet[8:24]):
                outputs = self._accepted(inner, now)
                return outputs if outputs and type(outputs[0]) is Deliver else self._absorb(outputs, now)
        return self._absorb(self.host.receive(packet, sender, now), now)

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come."""
        outputs = self._absorb(self.host.handle_timer(now), now)
        if self.optimization is not None:
            outputs += self._absorb(self.optimization.handle_timer(now), now)
        if self.application_keys is not None:
            outputs += self._absorb(self.application_keys.handle_timer(now), now)
        return outputs

    def negotiate(self, operation: Callable[[ApplicationKeys], list[Output]], now: float) -> list[Output]:
        """Has `application_keys` do something, if there are any. Raises what that raises."""
        keys = self.application_keys
        return [] if keys is None else self._absorb(operation(keys), now)

    def command(self, name: str, now: float) -> list[Output]:
        """``rekey``: new keys with everybody with whom they are negotiated. Raises `ValueError` for anything else."""
        keys = self.application_keys
        if name != "rekey" or keys is None:
            known = "rekey" if keys is not None else "none, because no keys are negotiated here"
            raise ValueError(f"there is no command {name!r}; there is: {known}")
        return self._absorb(keys.rekey(now), now)

    def negotiations(self) -> list[Ike]:
        """As `mobility.negotiated_tables.Negotiates`."""
        return [] if self.application_keys is None else [self.application_keys.ike]

    def ipsec_parts(self) -> list[tuple[str, IpsecProcessing]]:
        """As `mobility.packet_stream.HasIpsec` wants it."""
        return [("application", self.application)]

    def snapshot(self, now: float) -> dict[str, object]:
        """All tables and counters, JSON-ready."""
        return {
            "role": "correspondent",
            "address": str(self.settings.address),
            "application": self.application.spd.describe(),
            "direct_bindings": None if self.optimization is None else self.optimization.snapshot(now),
            **negotiated_snapshot([] if self.application_keys is None else [self.application_keys], now),
            **application_snapshot(self.application_keys, now),
            "links": {self.settings.link.name: self.host.snapshot(now)},
            "host_mtu": self.host_mtu,
            "counters": {"sent": self.sent, "delivered": self.delivered, **self.counters},
        }

    def _absorb(self, outputs: Iterable[Output], now: float) -> list[Output]:
        result: list[Output] = []
        for output in outputs:
            if isinstance(output, Arrived):
                result += self._absorb(self._arrived(output.packet, now), now)
                continue
            if isinstance(output, Discarded):
                self.counters[f"discarded-{output.reason}"] += 1
            result.append(output)
        return result

    def _arrived(self, packet: bytes, now: float) -> list[Output]:
        try:
            if packet[24:40] != self._address:
                raise Discard(Reason.NOT_OURS, f"to {IPv6Address(packet[24:40])}")
            if packet[6] in _OPTIMIZED:
                outputs, inner = self._optimized(packet, now)
                if inner is None:
                    return outputs
                packet = inner
        except Discard as discard:
            return [Discarded.of(discard, "correspondent")]
        return self._accepted(packet, now)

    def _accepted(self, packet: bytes, now: float) -> list[Output]:
        """A packet between home address and host OS: the application's IPsec is left."""
        try:
            if packet[6] == _UDP and self.application_keys is not None and is_ike(packet):
                return self.application_keys.packet(packet, now)
            plain = self.application.accept(packet)
        except Discard as discard:
            if discard.reason is Reason.SA_UNKNOWN and self.application_keys is not None:
                return self.application_keys.unknown(packet, discard, now)
            return [Discarded.of(discard, "app-ipsec")]
        self.delivered += 1
        return [Deliver(plain)]

    def _optimized(self, packet: bytes, now: float) -> tuple[list[Output], bytes | None]:
        """What to do, and the packet as the application's IPsec is to see it. Raises `Discard`."""
        if self.optimization is None:
            if direct.opened(packet)[1].home_address is not None:
                raise Discard(Reason.HOME_ADDRESS_UNVERIFIED, "route optimization is switched off")
            return [], packet
        return self.optimization.receive(packet, now)

    def _heard(self, home_address: bytes) -> dict[int, int]:
        return highest_received(self.application, home_address)

    def _too_big(self, packet: bytes) -> list[Output]:
        outputs: list[Output] = []
        if icmp6.may_be_answered_with_error(packet):
            error = icmp6.PacketTooBig(self.host_mtu, packet)
            # From the destination: the one address that the host OS will believe to be on the path.
            outputs.append(Deliver(icmp6.packet(packet[24:40], self._address, error)))
        return [*outputs, Discarded(Reason.TOO_BIG, "correspondent", f"{len(packet)} octets, {self.host_mtu} fit")]


def _not_ours(source: bytes, destination: bytes) -> Discard:
    """Why a program's packet from another address, or to the link only, is not sent."""
    if link_scope(source) or link_scope(destination) or not any(source):
        return Discard(Reason.LINK_LOCAL_CHATTER, f"{IPv6Address(source)} to {IPv6Address(destination)}")
    return Discard(Reason.SOURCE_NOT_HOST_ADDRESS, str(IPv6Address(source)))


_UDP = ip6.UDP
_OPTIMIZED = frozenset((ip6.DEST_OPTIONS, ip6.ROUTING, ip6.MOBILITY))
"Next headers that `Correspondent` looks behind."
