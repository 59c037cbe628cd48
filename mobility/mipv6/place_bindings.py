"""The places where a terminal is registered at the same time (RFC 5648), and their rows of the binding update list."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from zlib import crc32

from mobility.discards import Discard, Reason
from mobility.mipv6.binding_update_list import BindingUpdateList
from mobility.mipv6.movement import Attachment
from mobility.mipv6.place_binding import PlaceBinding, identifier_in
from mobility.mipv6.registration import Registration
from mobility.wire import mh

STRAGGLERS = 2.0
"Seconds in which packets may still come by a place whose binding was taken away."


class PlaceBindings:
    """At most three: the place in use, the one that is to be next while it works, and the one that was left."""

    def __init__(
        self,
        home_address: IPv6Address,
        home_agent: IPv6Address,
        updates: BindingUpdateList,
        register: Callable[[str], Registration],
        *,
        several: bool,
    ) -> None:
        """``register``: a new registration for a place on this link; ``several``: more than one is wanted."""
        self.current: PlaceBinding | None = None
        "Of the place in use."
        self.candidate: PlaceBinding | None = None
        "Of the place that is to be next, while the present one works."
        self.former: PlaceBinding | None = None
        "Of the place that was left, until it is taken away at the home agent."
        self.leave_at: float | None = None
        "When to begin with that."
        self.several = several
        "The home agent knows RFC 5648, as far as is known, and it is wanted."
        self._home_address = home_address
        self._home_agent = home_agent
        self._updates = updates
        self._register = register
        self._stragglers_until = 0.0

    def all(self) -> list[PlaceBinding]:
        """Those that there are."""
        return [each for each in (self.current, self.candidate, self.former) if each is not None]

    def overlapping(self, now: float) -> bool:
        """Whether the same packet may come by two places, or may have been on its way by a place that was left."""
        return self.candidate is not None or self.former is not None or now < self._stragglers_until

    def via(self, binding: PlaceBinding) -> PlaceBinding | None:
        """By which place the messages about a binding go: its own, or where that was left, the one in use."""
        return self.current if binding is self.former else binding

    def meant(self, acknowledgement: mh.BindingAcknowledgement) -> PlaceBinding:
        """Which of them an acknowledgement is about. Raises `Discard`."""
        bindings = self.all()
        for binding in bindings:
            if binding.registration.answers(acknowledgement):
                return binding
        named = identifier_in(acknowledgement)
        for binding in bindings:
            if named is None or named.identifier == binding.identifier:
                return binding
        raise Discard(Reason.ACKNOWLEDGEMENT_UNEXPECTED, "no such binding is under way")

    # ------------------------------------------------------------ coming and going

    def begin_beside(self, place: Attachment, now: float) -> PlaceBinding:
        """A place that is to be the next one."""
        self.candidate = self._binding(place, now)
        return self.candidate

    def replace(self, place: Attachment | None, now: float) -> PlaceBinding | None:
        """The terminal is at another place at once, or nowhere: what else there was is forgotten."""
        former, candidate = self.current, self.candidate
        self.forget_former()
        self.candidate = None
        if place is None:
            self._forget(candidate)
            if former is not None:
                former.registration.abandon()
                self.write_down(former, now)
            return None
        if candidate is not None and candidate.place == place:
            self._forget(former)
            self.current = candidate
            return candidate
        self._forget(candidate)
        if former is not None and former.place.link == place.link and not place.at_home and not former.place.at_home:
            former.place, former.nat, former.proven, former.since = place, None, False, now
            return former
        self._forget(former)
        self.current = self._binding(place, now)
        return self.current

    def change_over(self, leave_at: float) -> PlaceBinding | None:
        """The candidate is in use from now on; returns the one that was."""
        old = self.current
        self.current, self.candidate = self.candidate, None
        self.forget_former()
        if self.several:
            self.former, self.leave_at = old, leave_at
        else:
            self._forget(old)
        return old

    def leave(self, binding: PlaceBinding) -> None:
        """It is being taken away at the home agent."""
        if self.former is not binding:
            self.forget_former()
        self.former, self.leave_at = binding, None

    def left(self, now: float) -> None:
        """The home agent has taken the former one away."""
        self.former = None
        self._stragglers_until = now + STRAGGLERS

    def forget_former(self) -> None:
        """Without a word to the home agent."""
        self._forget(self.former)
        self.former, self.leave_at = None, None

    def only_one(self, binding: PlaceBinding) -> None:
        """The home agent does not know RFC 5648: it has replaced all bindings by this one."""
        self.several = False
        self._updates.delete(self._home_agent, binding.identifier)
        binding.identifier = 0

    def _forget(self, binding: PlaceBinding | None) -> None:
        if binding is not None:
            binding.registration.abandon()
            self._updates.delete(self._home_agent, binding.identifier)

    def _binding(self, place: Attachment, now: float) -> PlaceBinding:
        return PlaceBinding(place, self._identifier(place), self._register(place.link), now)

    def _identifier(self, place: Attachment) -> int:
        """The same for the same link, whenever and however often the terminal is started."""
        if not self.several or place.at_home:
            return 0
        taken = {each.identifier for each in self.all() if each.place.link != place.link}
        identifier = crc32(place.link.encode()) % 0xFFFF + 1
        while identifier in taken:
            identifier = identifier % 0xFFFF + 1
        return identifier

    # ------------------------------------------------------------ the binding update list

    def expire(self, binding: PlaceBinding, now: float) -> None:
        """Takes the row away if the binding's lifetime is over."""
        if binding.registration.expire(now):
            self._updates.delete(self._home_agent, binding.identifier)

    def write_down(self, binding: PlaceBinding, now: float) -> None:
        """Keeps the row true."""
        entry = binding.entry(self._home_address, now)
        if entry is not None:
            self._updates.put(entry)
        elif binding.registration.care_of_address is not None:
            self._updates.delete(self._home_agent, binding.identifier)

    def snapshot(self, now: float) -> list[dict[str, object]]:
        """For people, JSON-ready."""
        roles = (("in use", self.current), ("next", self.candidate), ("former", self.former))
        return [binding.snapshot(role, now) for role, binding in roles if binding is not None]
