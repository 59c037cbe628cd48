"""The mobile node: movement, binding updates, acknowledgements (IPv6 processing part 25; RFC 6275 section 11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from mobility.discards import Discard, Reason
from mobility.mipv6.again import Loss, Progress, progress_in
from mobility.mipv6.binding_update_list import BindingUpdateList, ListEntry
from mobility.mipv6.movement import Attachment, CareOfAddressChanged, HandoverFinished, HandoverStarted, Movement
from mobility.mipv6.registration import BindingRequested, Registration, ReturnedHome
from mobility.mipv6.signalling import Protection, Received, from_terminal, open_message
from mobility.outputs import Discarded, Output
from mobility.scenario.policy import ScenarioPolicy
from mobility.scenario.situation import HandedOn, Situation
from mobility.wire import mh

Send = Callable[[str, bytes, float], list[Output]]
"Puts a packet on a link: name of the link, packet, now."


@dataclass(frozen=True, slots=True)
class MobileNodeSettings:
    """What a mobile node has to know."""

    home_address: IPv6Address
    home_agent: IPv6Address
    links: Sequence[str]
    "In order of preference."
    home_prefix_length: int = 64
    lifetime: int = 420
    "Seconds that binding updates ask for."
    key_management: bool = False
    "The K flag: key management follows the care-of address."


@dataclass(slots=True)
class Handover:
    """One move, from the moment it was noticed."""

    origin: Attachment
    noticed: float
    updated: float | None = None


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
    ) -> None:
        """``received``: the highest sequence number that came through the tunnel; None: it has no numbers."""
        self.settings = settings
        self.updates = updates
        network = IPv6Network((settings.home_address, settings.home_prefix_length), strict=False)
        self.movement = Movement(settings.links, network)
        self.registration = Registration(settings.home_agent, settings.lifetime, sequence)
        self._protection = protection
        self._scenarios = scenarios
        self._send = send
        self._handover: Handover | None = None
        self._received = received
        self.loss: Loss | None = None
        "Of the last care-of address that was lost."
        self._untold = False
        "The home agent has not acknowledged that it heard of the loss."
        self._between_places = False
        "Moved, and not acknowledged yet."
        self.progress: Progress | None = None
        "What the home agent of this new place had received; whoever sends again takes it away."

    @property
    def present(self) -> Attachment | None:
        """Where the terminal is; None: nowhere."""
        return self.movement.present

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        times = [time for time in (self.registration.timer, self.updates.timer) if time is not None]
        return min(times, default=None)

    def moved(self, now: float) -> list[Output]:
        """An address came or went, or the preference changed: decide anew where to be."""
        old, new = self.movement.present, self.movement.decide()
        if new == old:
            return []
        self.movement.present = new
        self._between_places = True
        self.progress = None
        if old is not None and self._received is not None and self.movement.is_lost(old):
            self.loss = Loss(self._received(), self.registration.sequence, old.address)
            self._untold = True
        outputs: list[Output] = []
        if old is not None and self._handover is None:
            self._handover = Handover(old, now)
            outputs.append(HandoverStarted(old.link, old.address, new.link if new is not None else ""))
        outputs.append(
            CareOfAddressChanged(
                "" if new is None else new.link,
                None if new is None else new.address,
                None if old is None else old.address,
                new is not None and new.at_home,
            )
        )
        if new is None:
            self.registration.abandon()
            self._write_list(now)
            return outputs
        if self._handover is not None:
            self._handover.updated = now
        if new.at_home:
            requests = self.registration.release(self.settings.home_address, now)
        else:
            requests = self.registration.bind(new.address, now)
        return outputs + self._carry_out(requests, now)

    def refresh(self, now: float) -> list[Output]:
        """Register again now; the user asks for it."""
        return self._carry_out(self.registration.refresh(now), now)

    def handle_timer(self, now: float) -> list[Output]:
        """Refresh, retransmit; forget what has expired."""
        if self.registration.expire(now):
            self.updates.delete(self.settings.home_agent)
        outputs = self._carry_out(self.registration.handle_timer(now), now)
        self.updates.expire(now)
        return outputs

    def receive(self, packet: bytes, now: float) -> tuple[list[Output], HandedOn | None]:
        """Routine 70: a packet with a mobility message for this terminal. Raises `Discard` (step 77).

        Returns what to do now, and what scenario processing has to judge.
        """
        received = open_message(packet, self._protection)  # steps 71 to 74
        if received.destination != self.settings.home_address:
            raise Discard(Reason.HOME_ADDRESS_NOT_OURS, str(received.destination))
        if received.source != self.settings.home_agent:
            raise Discard(Reason.ACKNOWLEDGEMENT_UNEXPECTED, f"from {received.source}, which was sent no update")
        match received.message:
            case mh.BindingAcknowledgement() as acknowledgement:
                return self._acknowledged(acknowledgement, received, now)
            case mh.BindingRefreshRequest():
                if not self.registration.bound:
                    raise Discard(Reason.MESSAGE_UNEXPECTED, "binding refresh request without a binding")
                return self.refresh(now), None
            case other:
                raise Discard(Reason.MESSAGE_UNEXPECTED, f"mobility header type {int(other.type)}")

    def settle(self, now: float, sent_again: int = 0, received_again: int = 0) -> list[Output]:
        """The forwarding follows the present place: the handover, if there was one, is over."""
        present, handover = self.movement.present, self._handover
        if present is None or handover is None:
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
            )
        ]

    def _acknowledged(
        self, acknowledgement: mh.BindingAcknowledgement, received: Received, now: float
    ) -> tuple[list[Output], HandedOn | None]:
        registration = self.registration
        if received.outer_destination not in (registration.care_of_address, self.settings.home_address):
            # It may have been sent for an update of an earlier place; this one is still to be acknowledged.
            raise Discard(Reason.ACKNOWLEDGEMENT_UNEXPECTED, f"sent to {received.outer_destination}, left long ago")
        situation = Situation(
            acknowledgement,
            received.source,
            received.outer_destination,
            received.destination,
            from_home_agent=True,
            under_ipsec=received.under_ipsec,
        )
        events = registration.acknowledged(acknowledgement, now)
        if acknowledgement.accepted and not any(isinstance(event, BindingRequested) for event in events):
            self._heard_of_progress(acknowledgement, received)
        outputs = self._carry_out(events, now)  # step 75
        if any(isinstance(event, ReturnedHome | BindingRequested) for event in events):
            return outputs, None
        try:
            return outputs, self._scenarios.choose(situation)  # step 76
        except Discard as discard:
            return [*outputs, Discarded.of(discard, "scenario")], None

    def _heard_of_progress(self, acknowledgement: mh.BindingAcknowledgement, received: Received) -> None:
        self._untold = False
        if self._between_places and self._received is not None and received.under_ipsec:
            self.progress = progress_in(acknowledgement.options)
        # Later acknowledgements overtake packets that are on their way: nothing may be sent again for them.
        self._between_places = False

    def _carry_out(self, events: list[Output], now: float) -> list[Output]:
        """Sends what is requested and writes the list; every event is passed on as well."""
        outputs: list[Output] = []
        for event in events:
            outputs.append(event)
            if isinstance(event, BindingRequested):
                outputs += self._send_update(event, now)
        self._write_list(now)
        return outputs

    def _send_update(self, request: BindingRequested, now: float) -> list[Output]:
        present = self.movement.present
        if present is None:
            return []
        settings = self.settings
        flags = mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.HOME_REGISTRATION
        if settings.key_management:
            flags |= mh.UpdateFlag.KEY_MANAGEMENT
        # The alternate care-of address is inside ESP, the source address of the packet is not (section 11.7.1).
        options: tuple[mh.Option, ...] = (mh.AlternateCareOfAddress(request.care_of_address),)
        if self._untold and self.loss is not None and self.loss.address != request.care_of_address:
            # Back at the same address packets may still arrive as they are, so there nothing is asked for.
            options = (*options, self.loss.option())
        update = mh.BindingUpdate(request.sequence, flags, request.lifetime, options)
        try:
            packet = from_terminal(
                update, settings.home_address, request.care_of_address, settings.home_agent, self._protection
            )
        except Discard as discard:
            return [Discarded.of(discard, "mobile-node")]
        return self._send(present.link, packet, now)

    def _write_list(self, now: float) -> None:
        registration = self.registration
        care_of = registration.care_of_address
        if care_of is None:
            return
        expires = registration.expires
        if expires is None and registration.timer is None:
            self.updates.delete(registration.home_agent)
            return
        granted = registration.granted if expires is not None else registration.wanted_lifetime
        self.updates.put(
            ListEntry(
                registration.home_agent,
                self.settings.home_address,
                care_of,
                granted,
                expires if expires is not None else max(registration.sent_at + granted, now + 1.0),
                registration.sequence,
                registration.state.name.lower(),
                sent_at=registration.sent_at,
                retransmissions=max(registration.transmissions - 1, 0),
            )
        )

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "home_address": str(self.settings.home_address),
            "movement": self.movement.snapshot(),
            "registration": self.registration.snapshot(now),
            "binding_update_list": self.updates.snapshot(now),
            "handover_under_way": self._handover is not None,
        }
