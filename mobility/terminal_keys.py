"""A terminal's keys come from IKE: begun wherever the terminal is, and never begun again because it moves.

With its home agent, and with MAPs (`mobility.map_keys`), each of which has a `TerminalKeys` of its own.

IKE goes from the care-of address: natively in UDP packets of its own, and where datagrams carry the tunnel, in the
datagrams of the tunnel, marked as RFC 3948 says. A binding update with the K bit moves the other end (RFC 6275 section
10.3.1), so nothing is negotiated when the terminal moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.ike.events import (
    ChildDown,
    ChildUp,
    IkeDown,
    IkeFailed,
    IkeUp,
    PeerForgot,
    Send,
)
from mobility.ipsec.ike.events import Output as IkeOutput
from mobility.ipsec.ike.numbers import IKE_PORT, NAT_PORT, NON_ESP_MARKER
from mobility.ipsec.ike.settings import Endpoint, Peer
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.renewable import RenewableInbound
from mobility.links import endpoint, unmapped
from mobility.mipv6.movement import Attachment
from mobility.mipv6.tunnel import MobileAssociations
from mobility.negotiated import (
    Failures,
    Renewal,
    as_endpoint,
    datagram,
    esp_spi,
    ike_settings,
    mobile_ends,
    says_no_keys,
)
from mobility.outputs import Event, Output
from mobility.uplinks import Uplinks
from mobility.wire import ip6, udp

FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0
"Seconds until it is tried again after a failure; doubled each time."
ANEW = 5.0
"Seconds between attempts that somebody has caused who says that the other end does not know us."
HINT_INTERVAL = 0.5
"Seconds between questions that somebody has caused who says that the other end has no keys."
PORTS = (IKE_PORT, NAT_PORT)


@dataclass(frozen=True, slots=True)
class KeysReady(Event):
    """Signalling and tunnel have keys: the terminal can register."""

    peer: str
    "Home agent or MAP."


class TerminalKeys:
    """Negotiates the keys of one terminal with its home agent, or with a MAP."""

    def __init__(
        self,
        agent: IPv6Address,
        other: Peer,
        lifetime: float,
        known: MobileAssociations,
        security: IpsecProcessing,
        put: Callable[[str, bytes, float], list[Output]],
        random: Callable[[int], bytes],
        utc: Callable[[], datetime],
        uplinks: Uplinks | None = None,
    ) -> None:
        """``other``: what IKE has to know of ``agent``; ``lifetime``: seconds, of keys of ESP; ``security``: of the
        tunnel, with the associations ``known``; ``put``: puts a packet on a link; ``uplinks``: where datagrams may
        carry the tunnel."""
        self._last_child = other.children[-1].name
        self._peer = other.name
        self.ike = Ike(
            ike_settings(lifetime, at_terminal=True),
            [other],
            random=random,
            utc=utc,
            esp_spi=lambda: esp_spi(random, security.knows),
        )
        self.failures = Failures(self.ike.established)
        self.renewal = Renewal(mobile_ends(known), self._learn, self._forget)
        self.changed = False
        "Something has other keys, or none, since this was looked at."
        self.ready = False
        "Everything has got the keys of another IKE SA since this was looked at."
        self._security = security
        self._uplinks = uplinks
        self._put = put
        self._agent = agent
        self._place: Attachment | None = None
        self._again_at = 0.0
        self._retry = FIRST_RETRY
        self._anew_at = 0.0
        self._asked_at = -HINT_INTERVAL
        self._newest = ""
        "IKE SA that is to be the only one as soon as it has everything."

    # ------------------------------------------------------------ where and when

    def follow(self, place: Attachment | None, now: float) -> list[Output]:
        """The terminal is here; nothing if it is nowhere."""
        moved = place != self._place
        self._place = place
        if place is None:
            return []
        if self.agreed or self.ike.beginning(self._peer):
            return self._carry_out(self.ike.move(self._peer, *self._ends(place), now, tell=False), now) if moved else []
        if moved or now >= self._again_at:
            return self._begin(place, now)
        return []

    def unreachable(self, now: float) -> list[Output]:
        """The other end does not answer binding updates: it may have been restarted, and have no keys any more."""
        return self._carry_out(self.ike.probe(self._peer, now), now)

    @property
    def agreed(self) -> bool:
        """There is an IKE SA."""
        return self.ike.established(self._peer)

    def rekey(self, now: float) -> list[Output]:
        """New keys of ESP at once. Raises `ValueError`: there are none that could be renewed."""
        if not self.agreed:
            raise ValueError(f"there is no IKE SA with {self._peer}; `mobility status` tells why")
        return self._carry_out(self.ike.rekey(self._peer, now, children=True), now)

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        due = self.ike.timer
        if self._place is not None and not self.agreed and not self.ike.beginning(self._peer):
            return self._again_at if due is None else min(due, self._again_at)
        return due

    def handle_timer(self, now: float) -> list[Output]:
        """Something is sent again, rekeyed, or begun again."""
        outputs = self._carry_out(self.ike.handle_timer(now), now)
        return outputs + self.follow(self._place, now)

    def _begin(self, place: Attachment, now: float) -> list[Output]:
        self._again_at = now + self._retry
        self._retry = min(2 * self._retry, LONGEST_RETRY)
        return self._carry_out(self.ike.initiate(self._peer, *self._ends(place), now), now)

    def _ends(self, place: Attachment) -> tuple[Endpoint, Endpoint]:
        if not place.udp or self._uplinks is None:
            return Endpoint(place.address, IKE_PORT), Endpoint(self._agent, IKE_PORT)
        there = self._uplinks.endpoint_of(place.link) or endpoint(self._agent, 0)
        remote = as_endpoint(there, 0)
        return Endpoint(unmapped(place.address), remote.port), remote

    def counters(self) -> list[dict[str, object]]:
        """As `Renewal.counters`."""
        return self.renewal.counters(self._peer)

    # ------------------------------------------------------------ what comes

    def packet(self, packet: bytes, now: float) -> list[Output]:
        """A UDP packet of the other end to the care-of address. Raises `Discard`."""
        payload, (source_port, port) = datagram(packet)
        if port not in PORTS or source_port not in PORTS:
            raise Discard(Reason.NOT_TUNNELLED, f"UDP from port {source_port} to port {port}")
        if says_no_keys(payload):
            return self._hinted(now)
        here = Endpoint(IPv6Address(packet[24:40]), port)
        return self._carry_out(self.ike.receive(payload, here, Endpoint(self._agent, source_port), now), now)

    def datagram(self, payload: bytes, link: str, sender: bytes, now: float) -> list[Output]:
        """IKE in a datagram of the tunnel, marker and all."""
        local, remote = None if self._uplinks is None else self._uplinks.address(link), as_endpoint(sender, 0)
        if local is None:
            return []
        if says_no_keys(payload[len(NON_ESP_MARKER) :]):
            return self._hinted(now)
        here = Endpoint(unmapped(local), remote.port)
        return self._carry_out(self.ike.receive(payload, here, remote, now), now)

    def _hinted(self, now: float) -> list[Output]:
        """Somebody says that the other end has no keys: it is asked, under the keys that it should have."""
        if now < self._asked_at + HINT_INTERVAL:
            return []
        self._asked_at = now
        return self.unreachable(now)

    # ------------------------------------------------------------ what IKE says

    def _carry_out(self, outputs: list[IkeOutput], now: float) -> list[Output]:
        result: list[Output] = []
        for output in outputs:
            if isinstance(output, Send):
                result += self._send(output, now)
                continue
            self.changed |= self.renewal.follow(output)
            match output:
                case IkeUp(ike=ike):
                    self._newest, self._retry = ike, FIRST_RETRY
                case ChildUp(child=child) if child.name == self._last_child:
                    if output.replaces is None and self.renewal.complete:
                        self.ready = True
                        result.append(KeysReady(self._peer))
                    if self._newest:
                        only, self._newest = self._newest, ""
                        result += self._carry_out(self.ike.supersede(self._peer, only), now)
                case ChildDown(child=child) if self.agreed and not self.renewal.complete:
                    # Its lifetime was over before another one was agreed, or the other end wants it no more.
                    result += self._carry_out(self.ike.create_child(self._peer, child.name, now), now)
                case IkeDown() | IkeFailed():
                    self._again_at = max(self._again_at, now + FIRST_RETRY)
                case PeerForgot() if now >= self._anew_at and self._place and not self.ike.beginning(self._peer):
                    self._anew_at = now + ANEW
                    result += self._begin(self._place, now)
            if self._place is not None:  # nowhere, nothing can come of anything
                self.failures.note(output)
            result.append(output)
        return result

    def _send(self, send: Send, now: float) -> list[Output]:
        place = self._place
        if place is None:
            return []
        if place.udp and self._uplinks is not None:
            return self._uplinks.send(place.link, send.data, now)
        ends = place.address.packed + self._agent.packed
        return self._put(place.link, udp.packet(ends, (send.local.port, send.remote.port), send.data), now)

    def _learn(self, name: str, spi: int, sa: RenewableInbound) -> None:
        self._security.learn(spi, sa)

    def _forget(self, name: str, spi: int) -> None:
        self._security.forget(spi)


def is_ike(packet: bytes) -> bool:
    """Whether a packet is UDP from and to a port of IKE, as far as its first octets say."""
    if packet[6] != ip6.UDP or len(packet) < ip6.HEADER_SIZE + udp.HEADER_SIZE:
        return False
    return int.from_bytes(packet[40:42]) in PORTS and int.from_bytes(packet[42:44]) in PORTS
