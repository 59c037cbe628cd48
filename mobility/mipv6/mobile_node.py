"""The mobile node: movement, binding updates, acknowledgements (IPv6 processing part 25; RFC 6275, RFC 5648).

A terminal whose new place is on another link than the old one, which still works, makes before it breaks: it
registers the new place beside the old one, goes on with the old one until the home agent's acknowledgement has come
through the new one, and takes the old binding away a little later. In all other cases the new place replaces the old.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from mobility.discards import Discard, Reason
from mobility.mipv6.again import Loss, Progress, progress_in
from mobility.mipv6.binding_update_list import BindingUpdateList
from mobility.mipv6.movement import (
    Attachment,
    CareOfAddressChanged,
    HandoverAbandoned,
    HandoverFinished,
    HandoverStarted,
    Movement,
)
from mobility.mipv6.place_binding import (
    Handover,
    HomeAddress4Assigned,
    HomeAddress4Refused,
    NatFound,
    PlaceBinding,
    identifier_in,
    update_options,
)
from mobility.mipv6.place_bindings import PlaceBindings
from mobility.mipv6.refusals import why_refused, why_refused4
from mobility.mipv6.registration import (
    BindingRequested,
    BindingWithdrawn,
    Registration,
    ReturnedHome,
    RoundTrip,
    SequenceNumbers,
)
from mobility.mipv6.signalling import Protection, Received, from_terminal
from mobility.outputs import Discarded, Output
from mobility.scenario.policy import ScenarioPolicy
from mobility.scenario.situation import HandedOn, Situation
from mobility.wire import mh

Send = Callable[[str, bytes, float], list[Output]]
"Puts a packet on a link: name of the link, packet, now."

CANDIDATE_PATIENCE = 4.0
"Seconds in which a new place has to prove that it works, while the old one is in use or there are others."
WITHDRAWALS = 3
"Binding updates that take an old binding away; after so many without an answer its lifetime has to end it."
CLOSE_ENOUGH = 0.01
"Seconds that make no difference to a lifetime."


@dataclass(frozen=True, slots=True)
class MobileNodeSettings:
    """What a mobile node has to know."""

    home_address: IPv6Address
    home_agent: IPv6Address
    interfaces: Sequence[str]
    "In order of preference."
    home_prefix_length: int = 64
    lifetime: int = 420
    "Seconds that binding updates ask for."
    key_management: bool = False
    "The K flag: key management follows the care-of address."
    overlap: float = 0.5
    "Seconds for which the old place is kept after the new one has proven to work; 0: always break before make."
    home_address4: IPv4Address | None = None
    "To ask for; 0.0.0.0: any; None: none is wanted."
    router: bool = False
    "It registers as a mobile router (RFC 3963)."
    prefixes: Sequence[IPv6Network] = ()
    "That its binding updates name (explicit mode)."


class MobileNode:
    """Knows where the terminal is and tells the home agent. Data is none of its business."""

    def __init__(
        self,
        settings: MobileNodeSettings,
        protection: Protection,
        updates: BindingUpdateList,
        scenarios: ScenarioPolicy,
        send: Send,
        sequence: int = 0,
        received: Callable[[], int] | None = None,
        lasts: Callable[[str, float], float] | None = None,
    ) -> None:
        """``received``: the highest sequence number that came through the tunnel; None: it has no numbers.

        ``lasts``: for how many seconds from a time on the address on a link leads here; None: for as long as we want.
        """
        self.settings = settings
        self.updates = updates
        network = IPv6Network((settings.home_address, settings.home_prefix_length), strict=False)
        self.movement = Movement(settings.interfaces, network)
        self._numbers = SequenceNumbers(sequence)
        self._round_trip = RoundTrip()
        self._protection = protection
        self._scenarios = scenarios
        self._send = send
        self._received = received
        self._lasts = lasts
        self._idle = Registration(settings.home_agent, settings.lifetime, self._numbers)
        self._bindings = PlaceBindings(
            settings.home_address, settings.home_agent, updates, self._register, several=settings.overlap > 0
        )
        self._handover: Handover | None = None
        self.loss: Loss | None = None
        "Of the last care-of address that was lost."
        self._untold = False
        "The home agent has not acknowledged that it heard of the loss."
        self._between_places = False
        "Moved, and not acknowledged yet."
        self.progress: Progress | None = None
        "What the home agent of this new place had received; whoever sends again takes it away."
        self.home_address4: IPv4Address | None = None
        "Handed out by the home agent."
        self.undecided = False
        "`moved` is to be called: by the passing of time another place may be better."

    @property
    def present(self) -> Attachment | None:
        """Where the terminal is; None: nowhere."""
        return self.movement.present

    @property
    def places(self) -> list[Attachment]:
        """The place in use, and the one that is to be next."""
        return [each.place for each in (self._bindings.current, self._bindings.candidate) if each is not None]

    @property
    def registration(self) -> Registration:
        """Of the place in use."""
        current = self._bindings.current
        return self._idle if current is None else current.registration

    @property
    def nat(self) -> mh.NatDetection | None:
        """What the home agent said of a NAT on the way from the place in use."""
        current = self._bindings.current
        return None if current is None else current.nat

    def overlapping(self, now: float) -> bool:
        """Whether the same packet may come by two places, or may have been on its way by a place that was left."""
        return self._bindings.overlapping(now)

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        times = [binding.registration.timer for binding in self._bindings.all()]
        times += [self.updates.timer, self._bindings.leave_at, self.movement.timer, self._patience()]
        return min((time for time in times if time is not None), default=None)

    # ------------------------------------------------------------ moving

    def moved(self, now: float) -> list[Output]:
        """An address came or went, or the preference changed: decide anew where to be."""
        self.undecided = False
        old, new = self.movement.present, self.movement.decide(now)
        if new == old:
            return self._stay(now)
        if old is not None and new is not None and self._can_make_before_break(old, new):
            return self._begin_beside(old, new, now)
        return self._replace(old, new, now)

    def would_replace(self, now: float) -> bool:
        """Whether `moved` is about to leave the present place at once."""
        old, new = self.movement.present, self.movement.decide(now)
        return new != old and not (old is not None and new is not None and self._can_make_before_break(old, new))

    def _can_make_before_break(self, old: Attachment, new: Attachment) -> bool:
        return (
            self._bindings.several
            and old.link != new.link
            and not (old.at_home or new.at_home)
            and not self.movement.is_lost(old)
            and self.registration.bound
        )

    def _stay(self, now: float) -> list[Output]:
        """The present place is the best (again)."""
        if self._bindings.candidate is None:
            return []
        outputs = self._give_up(self._bindings.candidate, "the old place is better again", now)
        # The home agent may have begun to send to the other place.
        return outputs + self.refresh(now)

    def _begin_beside(self, old: Attachment, new: Attachment, now: float) -> list[Output]:
        """Make before break: the new place is registered beside the old one."""
        outputs: list[Output] = []
        beside = self._bindings.candidate
        if beside is not None:
            if beside.place == new:
                return []
            outputs = self._give_up(beside, f"{new.link} is better", now)
        self._handover = Handover(old, now, make_before_break=True, updated=now)
        outputs.append(HandoverStarted(old.link, old.address, new.link, make_before_break=True))
        candidate = self._bindings.begin_beside(new, now)
        return outputs + self._carry_out(candidate, candidate.registration.bind(new.address, now), now)

    def _replace(self, old: Attachment | None, new: Attachment | None, now: float) -> list[Output]:
        """Break before make, and everything that concerns the home link."""
        lost = old is not None and self.movement.is_lost(old)
        outputs: list[Output] = []
        if old is not None and (self._handover is None or self._handover.make_before_break):
            self._handover = Handover(old, now, make_before_break=False)
            outputs.append(HandoverStarted(old.link, old.address, new.link if new is not None else ""))
        if old is not None and lost:
            highest = 0 if self._received is None else self._received()
            self.loss = Loss(highest, self._numbers.last, old.address)
            self._untold = True
        self.movement.present = new
        self._between_places = True
        self.progress = None
        outputs.append(
            CareOfAddressChanged(
                "" if new is None else new.link,
                None if new is None else new.address,
                None if old is None else old.address,
                new is not None and new.at_home,
            )
        )
        current = self._bindings.replace(new, now)
        if current is None or new is None:
            return outputs
        if self._handover is not None:
            self._handover.updated = now
        if new.at_home:
            requests = current.registration.release(self.settings.home_address, now)
        else:
            requests = current.registration.bind(new.address, now)
        return outputs + self._carry_out(current, requests, now)

    def _register(self, link: str) -> Registration:
        lasts = self._lasts
        return Registration(
            self.settings.home_agent,
            self.settings.lifetime,
            self._numbers,
            round_trip=self._round_trip,
            lasts=None if lasts is None else lambda now: lasts(link, now),
        )

    def _give_up(self, binding: PlaceBinding, why: str, now: float) -> list[Output]:
        """A place that was to be the next one is not."""
        event = self._abandoned(binding, why)
        return [event, *self._leave(binding, now)]

    def _abandoned(self, candidate: PlaceBinding, why: str) -> HandoverAbandoned:
        present = self.movement.present
        self._handover, self._bindings.candidate = None, None
        return HandoverAbandoned("" if present is None else present.link, candidate.place.link, why)

    def _leave(self, binding: PlaceBinding, now: float) -> list[Output]:
        """Takes the binding of a place away at the home agent, by the place in use."""
        self._bindings.leave(binding)
        return self._carry_out(binding, binding.registration.withdraw(now), now)

    # ------------------------------------------------------------ time

    def refresh(self, now: float) -> list[Output]:
        """Register again now; the user asks for it, or the path is in doubt."""
        current = self._bindings.current
        return [] if current is None else self._carry_out(current, current.registration.refresh(now), now)

    def outlasted(self, now: float) -> list[Output]:
        """An address may last less long than was said before: then the binding must not, either."""
        current, lasts = self._bindings.current, self._lasts
        if current is None or lasts is None or current.place.at_home or not current.registration.bound:
            return []
        expires, until = current.registration.expires, now + lasts(current.place.link, now)
        return self.refresh(now) if expires is not None and expires > until + CLOSE_ENOUGH else []

    def handle_timer(self, now: float) -> list[Output]:
        """Refresh, retransmit; leave old places; give up new ones that do not work; forget what has expired."""
        outputs: list[Output] = []
        bindings = self._bindings
        for binding in bindings.all():
            bindings.expire(binding, now)
            outputs += self._carry_out(binding, binding.registration.handle_timer(now), now)
        former = bindings.former
        if bindings.leave_at is not None and bindings.leave_at <= now and former is not None:
            outputs += self._leave(former, now)
        elif former is not None and former.registration.unanswered_for > WITHDRAWALS:
            bindings.forget_former()
        patience = self._patience()
        if patience is not None and patience <= now:
            outputs += self._out_of_patience(now)
        if self.movement.timer is not None and self.movement.timer <= now:
            self.undecided = True
        self.updates.expire(now)
        return outputs

    def _patience(self) -> float | None:
        """When a place counts as one where nothing comes through."""
        current, candidate = self._bindings.current, self._bindings.candidate
        if candidate is not None:
            return candidate.since + CANDIDATE_PATIENCE
        if current is None or current.proven or current.place.at_home or not self.movement.alternatives(current.place):
            return None
        return current.since + CANDIDATE_PATIENCE

    def _out_of_patience(self, now: float) -> list[Output]:
        binding = self._bindings.candidate or self._bindings.current
        if binding is None:
            return []
        binding.since = now
        outputs: list[Output] = [self.movement.dead(binding.place.link, now)]
        if binding is self._bindings.candidate:
            outputs += self._give_up(binding, "the home agent does not answer through it", now)
        self.undecided = True
        return outputs

    def dead(self, now: float) -> list[Output]:
        """Nothing comes through the place in use: leave it if there is another, else ask the home agent there."""
        present = self.movement.present
        if present is None or present.at_home:
            return []
        if not self.movement.alternatives(present):
            self.movement.doubt(present)
            return self.refresh(now)
        self.undecided = True
        return [self.movement.dead(present.link, now)]

    # ------------------------------------------------------------ acknowledgements

    def receive(self, received: Received, now: float, link: str = "") -> tuple[list[Output], HandedOn | None]:
        """Routine 70: a mobility message that passed IPsec (steps 71 to 74). Raises `Discard` (step 77).

        ``link``: where it came; for a packet that came in a datagram, its link of UDP.
        Returns what to do now, and what scenario processing has to judge.
        """
        if received.destination != self.settings.home_address:
            raise Discard(Reason.HOME_ADDRESS_NOT_OURS, str(received.destination))
        if received.source != self.settings.home_agent:
            raise Discard(Reason.ACKNOWLEDGEMENT_UNEXPECTED, f"from {received.source}, which was sent no update")
        match received.message:
            case mh.BindingAcknowledgement() as acknowledgement:
                return self._acknowledged(acknowledgement, received, now, link)
            case mh.BindingRefreshRequest():
                if not self.registration.bound:
                    raise Discard(Reason.MESSAGE_UNEXPECTED, "binding refresh request without a binding")
                return self.refresh(now), None
            case other:
                raise Discard(Reason.MESSAGE_UNEXPECTED, f"mobility header type {int(other.type)}")

    def settle(self, now: float, sent_again: int = 0, received_again: int = 0) -> list[Output]:
        """The forwarding follows the present place: the handover, if there was one, is over."""
        present, handover = self.movement.present, self._handover
        if present is None or handover is None or self._bindings.candidate is not None:
            return []
        self._handover = None
        since_update = now - (handover.noticed if handover.updated is None else handover.updated)
        return [
            HandoverFinished(
                handover.origin.link,
                handover.origin.address,
                present.link,
                present.address,
                round((now - handover.noticed) * 1000, 3),
                round(since_update * 1000, 3),
                sent_again,
                received_again,
                handover.make_before_break,
            )
        ]

    def _acknowledged(
        self, acknowledgement: mh.BindingAcknowledgement, received: Received, now: float, link: str
    ) -> tuple[list[Output], HandedOn | None]:
        if self.settings.router and acknowledgement.accepted and not acknowledgement.flags & mh.AckFlag.MOBILE_ROUTER:
            # Nothing would be sent to the networks behind us (RFC 3963 section 5.3): as good as a refusal.
            acknowledgement = replace(acknowledgement, status=int(mh.Status.MOBILE_ROUTER_NOT_PERMITTED))
        binding = self._bindings.meant(acknowledgement)
        via = self._bindings.via(binding)
        if via is None:
            raise Discard(Reason.ACKNOWLEDGEMENT_UNEXPECTED, "the terminal is nowhere")
        if via.place.udp:
            here = link == via.place.link
        else:
            here = received.outer_destination in (via.registration.care_of_address, self.settings.home_address)
        if not here:
            # It may have been sent for an update of an earlier place; this one is still to be acknowledged.
            raise Discard(Reason.ACKNOWLEDGEMENT_UNEXPECTED, f"by {link or received.outer_destination}, left long ago")
        situation = Situation(
            acknowledgement,
            received.source,
            binding.place.address if binding.place.udp else received.outer_destination,
            received.destination,
            from_home_agent=True,
            under_ipsec=received.under_ipsec,
        )
        events = binding.registration.acknowledged(acknowledgement, now)
        asked_again = any(isinstance(event, BindingRequested) for event in events)
        outputs: list[Output] = []
        if not asked_again:
            outputs += self._settled(binding, acknowledgement, received, now)
        outputs += self._carry_out(binding, events, now)  # step 75
        if asked_again or any(isinstance(event, ReturnedHome | BindingWithdrawn) for event in events):
            return outputs, None
        try:
            return outputs, self._scenarios.choose(situation)  # step 76
        except Discard as discard:
            outputs.append(Discarded.of(discard, "scenario"))
            if acknowledgement.accepted:
                outputs.append(self._scenarios.none_fits(discard.detail))
            return outputs, None

    def _settled(
        self, binding: PlaceBinding, acknowledgement: mh.BindingAcknowledgement, received: Received, now: float
    ) -> list[Output]:
        """What an answer says beside the state of the registration."""
        outputs: list[Output] = []
        bindings = self._bindings
        if binding is bindings.former:
            bindings.left(now)
            return outputs
        if acknowledgement.accepted:
            binding.proven = True
            self.movement.proven(binding.place.link)
            if binding.identifier and identifier_in(acknowledgement) is None:
                bindings.only_one(binding)
            if binding is not bindings.candidate:
                self._heard_of_progress(acknowledgement, received)
            outputs += self._options(binding, acknowledgement)
        if binding is bindings.candidate:
            if not acknowledgement.accepted:
                outputs.append(self.movement.dead(binding.place.link, now))
                binding.registration.abandon()
                why = f"the home agent refuses it: {why_refused(acknowledgement.status)}"
                return [*outputs, self._abandoned(binding, why)]
            # The new place works: it is the present one from now on, and the old one is left a little later.
            self.movement.present = binding.place
            old = bindings.change_over(now + self.settings.overlap)
            if old is not None:
                place = binding.place
                outputs.append(CareOfAddressChanged(place.link, place.address, old.place.address, False))
        return outputs

    def _options(self, binding: PlaceBinding, acknowledgement: mh.BindingAcknowledgement) -> list[Output]:
        outputs: list[Output] = []
        nat: mh.NatDetection | None = None
        for option in acknowledgement.options:
            match option:
                case mh.NatDetection():
                    nat = option
                    if binding.nat is None:
                        outputs.append(NatFound(binding.place.link, option.refresh_time))
                case mh.IPv4AddressAcknowledgement(status=status) if status >= 128:
                    self.home_address4 = None
                    outputs.append(HomeAddress4Refused(status, why_refused4(status)))
                case mh.IPv4AddressAcknowledgement(address=address, prefix_length=length):
                    if self.home_address4 != address:
                        self.home_address4 = address
                        outputs.append(HomeAddress4Assigned(address, length))
                case _:
                    pass
        binding.nat = nat
        return outputs

    def _heard_of_progress(self, acknowledgement: mh.BindingAcknowledgement, received: Received) -> None:
        self._untold = False
        if self._between_places and self._received is not None and received.under_ipsec:
            self.progress = progress_in(acknowledgement.options)
        # Later acknowledgements overtake packets that are on their way: nothing may be sent again for them.
        self._between_places = False

    # ------------------------------------------------------------ updates

    def _carry_out(self, binding: PlaceBinding, events: list[Output], now: float) -> list[Output]:
        """Sends what is requested and writes the list; every event is passed on as well."""
        outputs: list[Output] = []
        for event in events:
            outputs.append(event)
            if isinstance(event, BindingRequested):
                outputs += self._send_update(binding, event, now)
        self._bindings.write_down(binding, now)
        return outputs

    def _send_update(self, binding: PlaceBinding, request: BindingRequested, now: float) -> list[Output]:
        via = self._bindings.via(binding)
        if via is None:
            return []
        settings = self.settings
        flags = mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.HOME_REGISTRATION
        if settings.key_management:
            flags |= mh.UpdateFlag.KEY_MANAGEMENT
        if settings.router:
            flags |= mh.UpdateFlag.MOBILE_ROUTER
        used = binding is self._bindings.current
        options = update_options(
            request,
            binding.identifier,
            self._wanted4() if used and request.lifetime else None,
            self.loss if used and self._untold else None,
        )
        if request.lifetime:
            options += tuple(mh.MobileNetworkPrefix.of(network) for network in settings.prefixes)
        update = mh.BindingUpdate(request.sequence, flags, request.lifetime, options)
        # In a datagram it goes from the home address itself (RFC 5555 section 4.3.1).
        source = settings.home_address if via.place.udp or via.place.at_home else via.place.address
        try:
            packet = from_terminal(update, settings.home_address, source, settings.home_agent, self._protection)
        except Discard as discard:
            return [Discarded.of(discard, "mobile-node")]
        return self._send(via.place.link, packet, now)

    def _wanted4(self) -> IPv4Address | None:
        """The IPv4 home address to ask for: the one that was handed out, if there is one already."""
        return self.settings.home_address4 if self.home_address4 is None else self.home_address4

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "home_address": str(self.settings.home_address),
            "home_address4": None if self.home_address4 is None else str(self.home_address4),
            "movement": self.movement.snapshot(now),
            "registration": self.registration.snapshot(now),
            "places": self._bindings.snapshot(now),
            "several_bindings": self._bindings.several,
            "binding_update_list": self.updates.snapshot(now),
            "handover_under_way": self._handover is not None,
        }
