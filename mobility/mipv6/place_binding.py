"""One of the places where a terminal is registered, and what binding updates and acknowledgements say about it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from mobility.mipv6.again import Loss
from mobility.mipv6.binding_update_list import ListEntry
from mobility.mipv6.movement import Attachment
from mobility.mipv6.registration import BindingRequested, Registration
from mobility.outputs import Event
from mobility.wire import mh


@dataclass(frozen=True, slots=True)
class NatFound(Event):
    """The home agent sees another address than the terminal has (RFC 5555 section 3.2.2)."""

    link: str
    refresh_time: int
    "Seconds between packets that keep the mapping."


@dataclass(frozen=True, slots=True)
class HomeAddress4Assigned(Event):
    """The home agent hands out an IPv4 home address (RFC 5555)."""

    address: IPv4Address
    prefix_length: int


@dataclass(frozen=True, slots=True)
class HomeAddress4Refused(Event):
    """The home agent hands out none; ``status`` as in RFC 5555 section 3.2.1."""

    status: int
    why: str
    "And what to do about it, for people."


@dataclass(slots=True)
class Handover:
    """One move, from the moment it was noticed."""

    origin: Attachment
    noticed: float
    make_before_break: bool
    updated: float | None = None


@dataclass(slots=True)
class PlaceBinding:
    """A place with its registration."""

    place: Attachment
    identifier: int
    "Of RFC 5648; 0: the home agent is to know one binding only."
    registration: Registration
    since: float
    nat: mh.NatDetection | None = None
    proven: bool = False
    "The home agent answered through this place."

    def entry(self, home_address: IPv6Address, now: float) -> ListEntry | None:
        """The row of the binding update list; None: there is nothing to write down."""
        registration = self.registration
        care_of, expires = registration.care_of_address, registration.expires
        if care_of is None or (expires is None and registration.timer is None):
            return None
        granted = registration.granted if expires is not None else registration.asked
        return ListEntry(
            registration.home_agent,
            home_address,
            care_of,
            granted,
            expires if expires is not None else max(registration.sent_at + granted, now + 1.0),
            registration.sequence,
            registration.state.name.lower(),
            sent_at=registration.sent_at,
            retransmissions=max(registration.transmissions - 1, 0),
            identifier=self.identifier,
            link=self.place.link,
        )

    def snapshot(self, role: str, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "role": role,
            **self.place.describe(),
            "identifier": self.identifier,
            "nat": self.nat is not None,
            **self.registration.snapshot(now),
        }


def update_options(
    request: BindingRequested, identifier: int, wanted4: IPv4Address | None, loss: Loss | None
) -> tuple[mh.Option, ...]:
    """The options of a binding update. ``wanted4``: an IPv4 home address to ask for; ``loss``: still to be told."""
    address4 = request.care_of_address.ipv4_mapped
    # The care-of address is inside ESP, the source address of the packet is not (RFC 6275 section 11.7.1).
    options: list[mh.Option] = [
        mh.AlternateCareOfAddress(request.care_of_address) if address4 is None else mh.IPv4CareOfAddress(address4)
    ]
    if identifier:
        options.append(mh.BindingIdentifier(identifier))
    if wanted4 is not None:
        options.append(mh.IPv4HomeAddress(wanted4))
    if loss is not None and loss.address != request.care_of_address:
        # Back at the same address packets may still arrive as they are, so there nothing is asked for.
        options.append(loss.option())
    return tuple(options)


def identifier_in(acknowledgement: mh.BindingAcknowledgement) -> mh.BindingIdentifier | None:
    """Which binding an acknowledgement is about; None: the home agent knows one only."""
    return next((each for each in acknowledgement.options if isinstance(each, mh.BindingIdentifier)), None)
