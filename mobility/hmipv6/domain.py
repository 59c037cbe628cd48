"""The terminal in the domain of one MAP: its RCoA, where it is bound, and the tunnel (steps 601 to 604, 610 to 634).

To what is above, the Mobile IPv6 part, this is a link with one address, the RCoA (types 1 and 2). Which access link is
below changes without its noticing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.hmipv6.lately import Lately
from mobility.hmipv6.options import again_option
from mobility.hmipv6.regional_events import LocalUpdateSent, MapBound, MapRefused, RegionalHandover
from mobility.hmipv6.regional_settings import Secured
from mobility.host.fragments import Reassembly, put_together
from mobility.host.host import Host
from mobility.host.identifiers import stable_opaque
from mobility.host.interface import Interface
from mobility.host.path_mtu import PathMtus
from mobility.mipv6.binding_update_list import BindingUpdateList, ListEntry
from mobility.mipv6.movement import Attachment
from mobility.mipv6.registration import (
    BindingRefused,
    BindingRequested,
    Bound,
    Registration,
    SequenceNumbers,
    State,
)
from mobility.mipv6.signalling import from_terminal, open_message
from mobility.mipv6.tunnel import TunnelForm, decapsulate, encapsulate, room
from mobility.outputs import Arrived, Discarded, Output, Transmit
from mobility.scenario.situation import Situation
from mobility.waiting import WaitingRoom
from mobility.wire import icmp6, ip6, mh
from mobility.wire.errors import WireError
from mobility.wire.map_option import MapOption, RegistrationType

PATIENCE = 3.0
"Seconds in which a MAP that was never heard of has to answer."
PATIENCE_FOR_KEYS = 10.0
"The same where keys are to be negotiated before: some round trips more, each of which may be lost."
PATIENCE_IN_USE = 1.5
"The same of one that has answered before: the quick retransmissions are over by then."
ATTEMPTS = 3
"RCoAs that are tried when other nodes turn out to have them (RFC 7217 section 6)."
HINT_INTERVAL = 1.0
"Seconds between registrations that binding errors cause: nobody knows who sent those."
LEAD = 2.0
"Seconds by which the local binding is refreshed before the home one: a MAP that lives has answered by then."
OVERLAP = 2.0
"Seconds in which what the MAP sends again may still come."
MARGIN = 0.02
"Seconds by which more is sent again than is known to be lost."
_WHERE = "regional"


@dataclass(slots=True)
class _Move:
    """Within the domain, from the moment it was noticed."""

    origin: Attachment
    noticed: float
    make_before_break: bool
    updated: float
    lost: float | None = None
    "Seconds that nothing arrived for when the update left; None: nothing was lost."


class Domain:
    """One MAP, as one terminal uses it. Owns no clock, socket or dice."""

    def __init__(
        self,
        option: MapOption,
        secured: Secured,
        hosts: Mapping[str, Host],
        secret: bytes,
        numbers: SequenceNumbers,
        lifetime: int,
        updates: BindingUpdateList,
        now: float,
        *,
        again: bool,
    ) -> None:
        """``hosts``: those of the access links; ``numbers``: of all local binding updates of this terminal;
        ``again``: what a lost LCoA lost is sent again; the tunnel inside removes what comes twice."""
        self.option = option
        self.anchor = option.address
        self.link = f"map-{option.address}"
        "Name of the link that this is to the Mobile IPv6 part."
        self.since = now
        self.rcoa = IPv6Address(0)
        self.access: Attachment | None = None
        "Where packets go out: bound at the MAP; None: at the moment nowhere."
        self.established = False
        "The MAP has acknowledged the present RCoA, and scenario processing has taken it."
        self.impatient_at: float | None = None
        "When this MAP counts as dead, unless it answers."
        self.bound_until = 0.0
        "When the local binding ends, whichever LCoA it leads to."
        self.overlapping_until = 0.0
        "Packets may come twice until then."
        self.updates = updates
        self._registration = Registration(self.anchor, lifetime, numbers)
        self.target: Attachment | None = None
        "Where the terminal is, or is to be: registered there, or being registered."
        self._hosts = hosts
        self._form = secured.form
        self._anchor = self.anchor.packed
        self._protocol = ip6.IPV6 if secured.form is TunnelForm.PLAIN else ip6.ESP
        self.security = secured.security
        self._patience = PATIENCE_FOR_KEYS if secured.negotiated else PATIENCE
        self._flags = mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.MAP_REGISTRATION
        if secured.negotiated:
            self._flags |= mh.UpdateFlag.KEY_MANAGEMENT
        self._secret = secret
        self._conflicts = 0
        self._again = again
        self._heard = 0.0
        self._hinted = float("-inf")
        self._move: _Move | None = None
        self._lately = Lately()
        self._waiting = WaitingRoom()
        # Of what is above: paths that begin at the RCoA.
        self._interface = Interface(self.link, bytes(6), 0xFFFF, lambda size: bytes(size))
        self._paths = PathMtus(self._interface)
        self._reassembly = Reassembly(self._interface, lambda _first, _now: None)
        self._mtu = ip6.MINIMUM_MTU
        self._form_address()

    @property
    def kind(self) -> RegistrationType:
        """As the MAP wants it at the moment."""
        return self.option.registration_type

    @property
    def virtual(self) -> bool:
        """Whether the Mobile IPv6 part uses the RCoA (types 1 and 2)."""
        return self.kind is not RegistrationType.DIRECT

    @property
    def refused(self) -> bool:
        """Whether the MAP said no, and there is nothing left to try."""
        return self._registration.state is State.REFUSED

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        times = (self._registration.timer, self.impatient_at, self._waiting.timer, self._interface.alarms.next)
        return min((time for time in times if time is not None), default=None)

    def _form_address(self) -> None:
        """Step 601: the RCoA, always the same for the same MAP, whatever the access link."""
        prefix = self.anchor.packed[:8]
        self.rcoa = IPv6Address(prefix + stable_opaque(self._secret, prefix, b"regional", self._conflicts))

    # ------------------------------------------------------------ where the terminal is

    def be_at(self, place: Attachment, now: float, *, old_works: bool) -> list[Output]:
        """Step 602: the terminal is at this LCoA, or is to be. ``old_works``: packets still come and go by the former
        one, which is used until the MAP has answered (make before break)."""
        if place == self.target:
            return []
        origin = self.access or self.target
        self.target = place
        if self.established and origin is not None and (self._move is None or self._move.make_before_break):
            self._move = _Move(origin, now, old_works, now)
        if self._move is not None:
            self._move.updated = now
            if not old_works:
                self._move.make_before_break = False
                self._move.lost = now - self._heard
        if not old_works:
            self.access = None
        self._be_patient(now)
        return self._carry_out(self._registration.bind(place.address, now), now)

    def old_access_lost(self) -> None:
        """While the MAP is asked about another LCoA, the one that was used meanwhile is lost as well."""
        if self.access != self.target:
            self.access = None
            if self._move is not None:
                self._move.make_before_break = False

    def lost(self, now: float) -> None:
        """Nothing comes or goes by the access link any more; packets wait for the next one."""
        origin = self.access or self.target
        self.access = self.target = None
        if self._move is None and self.established and origin is not None:
            self._move = _Move(origin, now, make_before_break=False, updated=now)
        self._registration.abandon()
        self.impatient_at = None

    def refresh(self, now: float) -> list[Output]:
        """Register again now: somebody doubts whether the MAP knows us."""
        if self.target is None:
            return []
        self._be_patient(now)
        return self._carry_out(self._registration.refresh(now), now)

    def refresh_before(self, due: float, lifetime: float) -> None:
        """The home binding is refreshed at ``due``, for ``lifetime`` seconds, and must not outlast ours (RFC 5380
        section 6.1): ours is refreshed first, if it would."""
        if self.bound_until < due + lifetime and self._registration.sent_at < due - LEAD:
            self._registration.refresh_by(due - LEAD)

    def leave(self, now: float) -> list[Output]:
        """Deregisters, once and without waiting for an answer; the lifetime ends it anyway."""
        why = f"the domain of {self.anchor} is left"
        outputs: list[Output] = [Discarded(Reason.HANDOVER_QUEUE, _WHERE, why) for _ in self._waiting.take()]
        via = self.access
        if via is None or not self.established:
            return outputs
        requests = self._registration.release(self.rcoa, now)
        for request in requests:
            if isinstance(request, BindingRequested):
                outputs += self._send_update(request, via, now)
        self.updates.delete(self.anchor)
        self._registration.abandon()
        return outputs

    def handle_timer(self, now: float) -> list[Output]:
        """Refresh, retransmit. Whether `impatient_at` has come is for the owner to see."""
        self._interface.alarms.run(now)
        outputs: list[Output] = [*self._interface.take(), *self._waiting.expire(now)]
        if self._registration.expire(now):
            self.access = None
            self.updates.delete(self.anchor)
        if self._registration.timer is not None and self._registration.timer <= now and self.impatient_at is None:
            self._be_patient(now)
        return outputs + self._carry_out(self._registration.handle_timer(now), now)

    def _be_patient(self, now: float) -> None:
        if self.impatient_at is None:
            self.impatient_at = now + (PATIENCE_IN_USE if self.established else self._patience)

    def _carry_out(self, events: list[Output], now: float) -> list[Output]:
        outputs: list[Output] = []
        for event in events:
            if isinstance(event, BindingRequested) and self.target is not None:
                outputs += self._send_update(event, self.target, now)
        self._write_list(now)
        return outputs

    def _send_update(self, request: BindingRequested, via: Attachment, now: float) -> list[Output]:
        # RFC 5380 does without the option; under ESP it is what guards the LCoA (RFC 6275 section 11.7.1).
        options: list[mh.Option] = [mh.AlternateCareOfAddress(via.address)]
        move = self._move
        if self._again and move is not None and move.lost is not None and request.lifetime:
            way = self._registration.round_trip.smoothed or 0.0
            options.append(again_option(move.lost + (now - move.updated) + way + MARGIN))
        update = mh.BindingUpdate(request.sequence, self._flags, request.lifetime, tuple(options))
        try:
            packet = from_terminal(update, self.rcoa, via.address, self.anchor, self.security)
        except Discard as discard:
            return [Discarded.of(discard, _WHERE)]
        sent = LocalUpdateSent(
            self.anchor, self.rcoa, via.address, request.sequence, request.lifetime, request.transmission
        )
        return [sent, *self._hosts[via.link].send(packet, now)]

    def _write_list(self, now: float) -> None:
        """Step 604: the MAP entry of the binding update list."""
        registration, target = self._registration, self.target
        if target is None or (registration.expires is None and registration.timer is None):
            self.updates.delete(self.anchor)
            return
        granted = registration.granted if registration.expires is not None else registration.wanted_lifetime
        expires = registration.expires
        self.updates.put(
            ListEntry(
                self.anchor,
                self.rcoa,
                target.address,
                granted,
                max(registration.sent_at + granted, now + 1.0) if expires is None else expires,
                registration.sequence,
                registration.state.name.lower(),
                sent_at=registration.sent_at,
                retransmissions=max(registration.transmissions - 1, 0),
                link=target.link,
            )
        )

    # ------------------------------------------------------------ what the MAP says

    def receive(self, packet: bytes, now: float) -> tuple[list[Output], Situation | None]:
        """A packet of the MAP: an acknowledgement, or one out of the tunnel. Raises `Discard`."""
        if packet[6] in (ip6.IPV6, ip6.ESP):
            return self.above(self.opened(packet, now), now), None
        if packet[6] == ip6.MOBILITY:
            return self._doubted(packet, now), None
        received = open_message(packet, self.security)
        if received.source != self.anchor:
            raise Discard(Reason.ACKNOWLEDGEMENT_UNEXPECTED, f"from {received.source}")
        if received.destination != self.rcoa:
            raise Discard(Reason.HOME_ADDRESS_NOT_OURS, f"{received.destination} is not the RCoA {self.rcoa}")
        match received.message:
            case mh.BindingAcknowledgement() as acknowledgement:
                if received.outer_destination != self._registration.care_of_address:
                    raise Discard(Reason.ACKNOWLEDGEMENT_UNEXPECTED, f"by {received.outer_destination}, left long ago")
                situation = Situation(
                    acknowledgement,
                    received.source,
                    received.outer_destination,
                    received.destination,
                    from_home_agent=False,
                    under_ipsec=received.under_ipsec,
                    registration=self.kind,
                )
                outputs = self._acknowledged(acknowledgement, now)
                return outputs, situation if any(isinstance(each, MapBound) for each in outputs) else None
            case mh.BindingRefreshRequest():
                return self.refresh(now), None
            case other:
                raise Discard(Reason.MESSAGE_UNEXPECTED, f"mobility header type {int(other.type)}")

    def _acknowledged(self, acknowledgement: mh.BindingAcknowledgement, now: float) -> list[Output]:
        outputs: list[Output] = []
        requests: list[Output] = []
        for event in self._registration.acknowledged(acknowledgement, now):
            match event:
                case Bound(lifetime=lifetime, round_trip=round_trip):
                    outputs += self._bound(lifetime, round_trip, now)
                case BindingRefused(status=status, why=why):
                    outputs.append(MapRefused(self.anchor, self.rcoa, status, why))
                    requests += self._said_no(acknowledgement.status, now)
                case _:
                    requests.append(event)
        return outputs + self._carry_out(requests, now)

    def _said_no(self, status: int, now: float) -> list[Output]:
        self.impatient_at = None
        if status != mh.Status.DAD_FAILED or self._conflicts + 1 >= ATTEMPTS or self.target is None:
            return []
        self._conflicts += 1
        self._form_address()
        self.established = False
        self._be_patient(now)
        return self._registration.bind(self.target.address, now)

    def _bound(self, lifetime: int, round_trip: float, now: float) -> list[Output]:
        """Step 603 has arrived: packets go by the new LCoA."""
        target = self.target
        if target is None:
            return []
        self.impatient_at = None
        self.bound_until = self._registration.sent_at + lifetime
        self.access = target
        self._heard = now
        outputs: list[Output] = [MapBound(self.anchor, self.rcoa, target.address, int(self.kind), lifetime, round_trip)]
        move, self._move = self._move, None
        again: list[bytes] = []
        if move is not None:
            if self._again and move.lost is not None:
                self.overlapping_until = now + OVERLAP
                again = self._lately.take(move.lost + (now - move.updated) + round_trip + MARGIN, now)
            outputs.append(
                RegionalHandover(
                    self.anchor,
                    move.origin.link,
                    move.origin.address,
                    target.link,
                    target.address,
                    round((now - move.noticed) * 1000, 3),
                    round((now - move.updated) * 1000, 3),
                    len(again),
                    move.make_before_break,
                )
            )
        for packet in (*again, *self._waiting.take()):
            outputs += self.send(packet, now)
        return outputs

    def _doubted(self, packet: bytes, now: float) -> list[Output]:
        """A binding error: the MAP may have been restarted, or somebody plays a trick. Asking the MAP does no harm."""
        try:
            message = mh.parse(packet[ip6.HEADER_SIZE :], packet[8:24], packet[24:40])
        except WireError as error:
            raise Discard(Reason.MALFORMED, str(error)) from error
        if not isinstance(message, mh.BindingError) or message.home_address != self.rcoa:
            raise Discard(
                Reason.MESSAGE_UNEXPECTED, f"mobility header type {int(message.type)} without an RCoA of ours"
            )
        if now - self._hinted < HINT_INTERVAL or self._registration.unanswered_for:
            raise Discard(Reason.RATE_LIMITED, "a binding error: the MAP was asked lately")
        self._hinted = now
        return self.refresh(now)

    def brings(self, packet: bytes, link: str) -> bool:
        """Whether this is a packet of the tunnel that comes to where the terminal is, as far as can be seen outside."""
        access = self.access
        return (
            access is not None
            and link == access.link
            and packet[8:24] == self._anchor
            and packet[24:40] == access.address.packed
            and packet[6] == self._protocol
            and packet[4] << 8 | packet[5] == len(packet) - ip6.HEADER_SIZE
            and packet[0] >> 4 == 6
        )

    def opened(self, packet: bytes, now: float) -> bytes:
        """Steps 611, 612, 622, 623: what came for the RCoA. Raises `Discard`."""
        inner = decapsulate(packet, self._form, self.security)
        if inner[0] >> 4 != 6 or inner[24:40] != self.rcoa.packed:
            raise Discard(Reason.HOME_ADDRESS_NOT_OURS, "inner destination of a packet out of the regional tunnel")
        if not self.virtual:
            raise Discard(Reason.NOT_OURS, f"to {self.rcoa}, which the Mobile IPv6 part does not use (type 3)")
        self._heard = now
        return inner

    def above(self, inner: bytes, now: float) -> list[Output]:
        """What came for the RCoA, for the Mobile IPv6 part. Raises `Discard`."""
        if inner[6] == ip6.FRAGMENT:
            whole = put_together(self._reassembly, inner, now)  # as a host does for its own addresses
            if whole is None:
                return self._interface.take()
            inner = whole
        if inner[6] == ip6.ICMPV6:
            self._hear_error(inner, now)
        return [*self._interface.take(), Arrived(inner, self.link)]

    def _hear_error(self, packet: bytes, now: float) -> None:
        """A router beyond the MAP says what fits."""
        try:
            icmp6.verify(packet[8:24], packet[24:40], packet[ip6.HEADER_SIZE :])
            message = icmp6.parse(packet[ip6.HEADER_SIZE :])
        except WireError:
            return
        if isinstance(message, icmp6.PacketTooBig) and message.invoking[8:24] == self.rcoa.packed:
            if message.mtu >= ip6.MINIMUM_MTU:
                self._paths.lower(message.invoking[24:40], message.mtu, now)

    # ------------------------------------------------------------ the link that this is to the Mobile IPv6 part

    def send(self, packet: bytes, now: float) -> list[Output]:
        """Steps 610, 613, 621, 624: a packet from the RCoA, by the type of the registration."""
        if packet[8:24] != self.rcoa.packed:
            return [Discarded(Reason.INNER_SOURCE_WRONG, _WHERE, f"{IPv6Address(packet[8:24])} is not the RCoA")]
        access = self.access
        if access is None:
            return list(self._waiting.add(packet, now))
        host = self._hosts[access.link]
        if self.kind is RegistrationType.REGIONAL_SOURCE:
            self._lately.keep(packet, now)
            if len(packet) <= (limit := self.path_mtu(packet[24:40])):
                return _put(host, packet, packet[24:40], access, now)
            try:  # to the host it is not a packet of its own
                pieces = host.split(packet, limit)
            except Discard as discard:
                return [Discarded.of(discard, _WHERE)]
            return [output for piece in pieces for output in _put(host, piece, packet[24:40], access, now)]
        try:
            outer = encapsulate(packet, access.address.packed + self._anchor, self._form, self.security)
        except Discard as discard:
            return [Discarded.of(discard, _WHERE)]
        self._lately.keep(packet, now)
        return _put(host, outer, self._anchor, access, now)

    def next_hop(self, _destination: bytes) -> bytes | None:
        """There is more to do than to name a neighbour: whoever sends has to call `send`."""
        return None

    def path_mtu(self, destination: bytes) -> int:
        """Octets of the largest packet from the RCoA."""
        if self.access is not None:
            host = self._hosts[self.access.link]
            if self.kind is RegistrationType.TUNNEL:
                self._mtu = room(host.path_mtu(self.anchor.packed), self._form, self.security, self.rcoa)
            else:
                self._mtu = host.path_mtu(destination)
        return min(self._mtu, self._paths.get(destination))

    def confirm(self, _destination: bytes, now: float) -> list[Output]:
        """An answer came through the MAP, so the router on the access link works."""
        if self.access is None:
            return []
        return self._hosts[self.access.link].confirm(self.anchor.packed, now, self.access.address.packed)

    def suspect(self, now: float) -> list[Output]:
        """Nothing comes through: does the MAP know us, does it live, is the access link the one that it was?"""
        outputs = self.refresh(now)
        if self.access is not None:
            outputs += self._hosts[self.access.link].suspect(now)
        return outputs

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        access = self.access
        return {
            "link": self.link,
            "anchor": str(self.anchor),
            "type": int(self.kind),
            "rcoa": str(self.rcoa),
            "lcoa": None if access is None else str(access.address),
            "access": None if access is None else access.link,
            "tunnel": self._form.value,
            "registration": self._registration.snapshot(now),
            "waiting": len(self._waiting),
            "sent_again": self._lately.sent_again,
        }


def _put(host: Host, packet: bytes, destination: bytes, access: Attachment, now: float) -> list[Output]:
    to = host.next_hop(destination)
    if to is None or len(packet) > host.path_mtu(destination):
        return host.send(packet, now, access.address.packed)
    return [Transmit(packet, to, access.link)]
