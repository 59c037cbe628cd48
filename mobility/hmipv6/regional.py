"""The terminal's HMIPv6 part 251: below the Mobile IPv6 part, which knows nothing of it (Fig. 28; RFC 5380 section 6).

It hears what the hosts of the access links hear, chooses access link and MAP, and tells the part above of places to be
at: in the domain of a MAP of type 1 or 2 one more link with the RCoA in place of the LCoAs, else the LCoAs themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from math import inf
from typing import Protocol

from mobility.hmipv6.domain import Domain
from mobility.hmipv6.map_list import MapList
from mobility.hmipv6.regional_events import MapLeft, RegionalRegistration
from mobility.hmipv6.regional_settings import RegionalSettings, Secured
from mobility.host.events import AddressDeprecated, AddressLost, AddressReady, MapsHeard, RouterFound, RouterLost
from mobility.host.host import Host
from mobility.ipsec.processing import IpsecProcessing
from mobility.links import interface_of
from mobility.mipv6.binding_update_list import BindingUpdateList
from mobility.mipv6.movement import Attachment, CareOfAddressChanged, Movement
from mobility.mipv6.registration import SequenceNumbers
from mobility.outputs import Output
from mobility.scenario.situation import Situation
from mobility.wire import ip6
from mobility.wire.map_option import MapOption, RegistrationType

WITHHELD = 0.5
"Seconds for which an LCoA is not told above, because a MAP may answer: then it is used, and left for the RCoA later."
HOLD = 3.0
"Seconds for which an RCoA is kept while there is no access link at all, and no other place for the part above."
GRACE = 0.3
"Seconds within which a new access link has to tell of the MAP, before the domain counts as left."
OVERLAP = 6.0
"Seconds at most for which the domain that was left is kept beside the new one."
SETTLED = 1.0
"Seconds for which it is kept at least: packets may be on their way."
REFUSED_RETRY = 60.0


class Station(Protocol):
    """What a link can do for who is above it; a `Host` is one, and so is a `Domain`."""

    def send(self, packet: bytes, now: float) -> list[Output]: ...

    def next_hop(self, destination: bytes) -> bytes | None: ...

    def path_mtu(self, destination: bytes) -> int: ...

    def confirm(self, destination: bytes, now: float) -> list[Output]: ...

    def suspect(self, now: float) -> list[Output]: ...


class Above(Protocol):
    """The part that is told where the terminal may be (`Movement` of the Mobile IPv6 part)."""

    preferred: str | None

    def interfaces_changed(self, interfaces: Sequence[str]) -> None: ...

    def address_ready(self, link: str, address: IPv6Address, now: float, deprecated: bool = False) -> None: ...

    def address_lost(self, link: str, address: IPv6Address, now: float) -> None: ...

    def router_found(self, link: str, router: IPv6Address) -> None: ...

    def router_lost(self, link: str, router: IPv6Address) -> None: ...

    def alternatives(self, place: Attachment) -> bool: ...


@dataclass(slots=True)
class _Former:
    """A domain that is left, as soon as the part above has left it."""

    domain: Domain
    since: float


class Regional:
    """Owns no clock, socket or dice."""

    def __init__(
        self,
        settings: RegionalSettings,
        hosts: Mapping[str, Host],
        stations: MutableMapping[str, Station],
        above: Above,
        places_in_use: Callable[[], Collection[Attachment]],
        interfaces: Sequence[str],
        home_address: IPv6Address,
        home_prefix: IPv6Network,
        secret: bytes,
        secured: Callable[[IPv6Address], Secured],
        *,
        sequence: int = 0,
        again: bool = False,
    ) -> None:
        """``hosts``: of the access links; ``stations``: all links of the part above, where domains come and go;
        ``places_in_use``: of the part above; ``secured``: how the traffic with a MAP is protected that is about to be
        used; ``again``: what comes twice is removed further up."""
        self.settings = settings
        self.maps = MapList(settings.policy, settings.anchors if settings.others is None else None)
        self.access = Movement(interfaces, home_prefix)
        self.domain: Domain | None = None
        self.former: _Former | None = None
        self.updates = BindingUpdateList()
        "Step 604: the list of this part, beside that of the Mobile IPv6 part."
        self.moved = False
        "The part above has been told something; whoever acts on that resets it."
        self._hosts = hosts
        self._stations = stations
        self._above = above
        self._in_use = places_in_use
        self._home = home_address
        self._secret = secret
        self._secured = secured
        self._again = again
        self._numbers = SequenceNumbers(sequence)
        self._addresses: dict[str, dict[IPv6Address, bool]] = {}
        "Of the access links; True: deprecated."
        self._since: dict[str, float] = {}
        "When a link got its first address."
        self._told: dict[str, dict[IPv6Address, bool]] = {}
        self._order: tuple[str, ...] = ()
        self._preferred: str | None = None
        self._lost_at: float | None = None
        self._wake: float | None = None
        self._dirty = False
        self._outputs: list[Output] = []

    # ------------------------------------------------------------ what is heard

    def hears(self, output: Output, now: float) -> bool:
        """Whether this is something of an access link, which the part above is told of by this part alone."""
        match output:
            case AddressReady(link=link, address=address) | AddressDeprecated(link=link, address=address):
                if address == self._home:
                    return True
                deprecated = isinstance(output, AddressDeprecated)
                self.access.address_ready(link, address, now, deprecated)
                self._since.setdefault(link, now)
                self._addresses.setdefault(link, {})[address] = deprecated
            case AddressLost(link=link, address=address):
                self.access.address_lost(link, address, now)
                self._addresses.get(link, {}).pop(address, None)
                if not self._addresses.get(link):
                    self._since.pop(link, None)
            case RouterFound(link=link, router=router):
                self.access.router_found(link, router)
                self._above.router_found(link, router)
                self.moved = True
            case RouterLost(link=link, router=router):
                self.access.router_lost(link, router)
                self._above.router_lost(link, router)
                self.moved = True
            case MapsHeard():
                self._outputs += self.maps.heard(output, now)
            case CareOfAddressChanged():
                self._dirty = True
                return False
            case _:
                return False
        self._dirty = True
        return True

    def interfaces_changed(self, interfaces: Sequence[str]) -> None:
        """Another order of preference."""
        self.access.interfaces_changed(interfaces)
        self._dirty = True

    def prefer(self, name: str | None) -> None:
        """The user prefers an interface or link, or none any more."""
        self._preferred = name
        if name is None:
            self.access.prefer(None)
        elif name in self._hosts:
            self.access.prefer(name)
        self._dirty = True

    def overlapping(self, now: float) -> bool:
        """Whether a MAP may have sent something a second time."""
        return any(now < domain.overlapping_until for domain in self.domains())

    def lasts(self, link: str, now: float) -> float:
        """Seconds for which the address on a link of the part above is bound to lead here (RFC 5380 section 6.1)."""
        for domain in self.domains():
            if domain.link == link:
                return domain.bound_until - now
        return inf

    def refresh_before(self, link: str, due: float, lifetime: float) -> None:
        """The part above is going to refresh its binding of the address on a link."""
        domain = self.domain
        if domain is not None and domain.link == link:
            domain.refresh_before(due, lifetime)

    def domain_of(self, anchor: bytes) -> Domain | None:
        """Whose packet this source address (16 octets) makes it."""
        for domain in self.domains():
            if domain.anchor.packed == anchor:
                return domain
        return None

    def receive(self, domain: Domain, packet: bytes, link: str, now: float) -> tuple[list[Output], Situation | None]:
        """A packet of a MAP. Raises `Discard`. The acknowledgement, if it is one, is for scenario processing."""
        outputs, situation = domain.receive(packet, now)
        if packet[6] not in (ip6.IPV6, ip6.ESP):
            self._dirty = True
        if situation is not None:
            self.maps.works(domain.anchor)
            outputs += self._hosts[link].confirm(packet[8:24], now)
        return outputs, situation

    def registered(self, registration: RegionalRegistration) -> None:
        """Step 609: scenario processing has taken the acknowledgement, and hands it on: the RCoA may be used."""
        domain = self.domain
        if domain is not None and domain.rcoa == registration.rcoa:
            domain.established = True
            self._dirty = True

    def unusable(self, anchor: IPv6Address, why: str, now: float) -> list[Output]:
        """Scenario processing has no use for this MAP, or there are no keys for it."""
        domain = self.domain
        if domain is None or domain.anchor != anchor:
            return []
        self._dirty = True
        return self._failed(domain, why, now, REFUSED_RETRY)

    # ------------------------------------------------------------ time

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        times = [self._wake, self.access.timer, self.updates.timer, *(domain.timer for domain in self.domains())]
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, now: float) -> list[Output]:
        """Registrations are refreshed and repeated; MAPs that do not answer are left."""
        outputs: list[Output] = []
        for domain in self.domains():
            if domain.timer is not None and domain.timer <= now:
                outputs += domain.handle_timer(now)
                self._dirty = True
        self.updates.expire(now)
        if (self._wake is not None and self._wake <= now) or (self.access.timer or now + 1) <= now:
            self._dirty = True
        return outputs + self.settle(now)

    def settle(self, now: float) -> list[Output]:
        """Decides anew, if anything was heard: where the terminal is, by which MAP, and what the part above may use."""
        if not self._dirty:
            return []
        self._dirty = False
        outputs, self._outputs = self._outputs, []
        domain = self.domain
        if domain is not None and domain.refused:
            outputs += self._failed(domain, "it refuses", now, REFUSED_RETRY)
        elif domain is not None and domain.impatient_at is not None and domain.impatient_at <= now:
            outputs += self._failed(domain, "it does not answer", now)
        self._wake = self.maps.timer(now)
        outputs += self._follow(now)
        outputs += self._let_go(now)
        self._tell(now)
        return outputs

    def _wake_at(self, time: float) -> None:
        self._wake = time if self._wake is None else min(self._wake, time)

    # ------------------------------------------------------------ choice of access link and MAP

    def _follow(self, now: float) -> list[Output]:
        place = self.access.decide(now)
        self.access.present = place
        domain, option = self.domain, None
        if place is not None and not place.at_home:
            option = self._map_of(place.link, now)
        outputs: list[Output] = []
        if place is not None:
            self._lost_at = None
        if domain is not None and (option is None or option.address != domain.anchor):
            if not self._works(domain):
                domain.lost(now)
            if self._waits(domain, place, option, now):
                return outputs
            outputs += self._retire(domain, place, option, now)
        if option is None or place is None:
            return outputs
        former = self.former
        if self.domain is None and former is not None and former.domain.anchor == option.address:
            self.domain, self.former = former.domain, None
        if self.domain is None:
            self.domain = self._new(option, now)
        domain = self.domain
        domain.option = option
        if domain.access is not None and domain.access != place and not self._works(domain):
            domain.old_access_lost()
        return outputs + domain.be_at(place, now, old_works=self._works(domain))

    def _map_of(self, link: str, now: float) -> MapOption | None:
        present = None if self.domain is None else self.domain.anchor
        return self.maps.choose(link, present, now)

    def _works(self, domain: Domain) -> bool:
        """Whether packets come and go by the access link that the domain uses at the moment."""
        return domain.access is not None and not self.access.is_lost(domain.access)

    def _waits(self, domain: Domain, place: Attachment | None, option: MapOption | None, now: float) -> bool:
        """Whether it is too early to say that the domain is left."""
        if place is None:
            if self._above.alternatives(Attachment(domain.link, domain.rcoa, at_home=False)):
                return False  # somewhere else packets go on at once
            if self._lost_at is None:
                self._lost_at = now
            until = self._lost_at + HOLD
        elif option is None and not place.at_home:
            until = self._since.get(place.link, now) + GRACE
        else:
            return False
        if now >= until:
            return False
        self._wake_at(until)
        return True

    def _new(self, option: MapOption, now: float) -> Domain:
        return Domain(
            option,
            self._secured(option.address),
            self._hosts,
            self._secret,
            self._numbers,
            self.settings.lifetime,
            self.updates,
            now,
            again=self._again,
        )

    def _retire(self, domain: Domain, place: Attachment | None, option: MapOption | None, now: float) -> list[Output]:
        """Another MAP, or none: this one is kept until the part above has gone over, if it still works."""
        outputs: list[Output] = []
        if self.former is not None:
            outputs += self._drop(self.former.domain, "another domain", now)
        self.domain = None
        if self._works(domain) and domain.established and domain.virtual and place is not None:
            self.former = _Former(domain, now)
            return outputs
        why = (
            "no access link" if place is None else "its domain was left" if option is None else "another MAP is better"
        )
        return outputs + self._drop(domain, why, now)

    def _let_go(self, now: float) -> list[Output]:
        """The domain that was left, once nobody uses it."""
        former = self.former
        if former is None:
            return []
        used = any(place.link == former.domain.link for place in self._in_use())
        silent = former.domain.impatient_at is not None and former.domain.impatient_at <= now
        if silent or not self._works(former.domain) or now >= former.since + (OVERLAP if used else SETTLED):
            return self._drop(former.domain, "its domain was left", now)
        self._wake_at(former.since + (OVERLAP if used else SETTLED))
        return []

    def _failed(self, domain: Domain, why: str, now: float, retry: float | None = None) -> list[Output]:
        wait = self.maps.failed(domain.anchor, now, retry)
        return self._drop(domain, why, now, wait)

    def _drop(self, domain: Domain, why: str, now: float, retry: float = 0.0) -> list[Output]:
        outputs = domain.leave(now)
        if self.former is not None and self.former.domain is domain:
            self.former = None
        if self.domain is domain:
            self.domain = None
        self.updates.delete(domain.anchor)
        return [*outputs, MapLeft(domain.anchor, domain.rcoa, why, retry)]

    def ipsec_parts(self) -> list[IpsecProcessing]:
        """Those of the tunnels to MAPs."""
        return [domain.security for domain in self.domains()]

    def domains(self) -> list[Domain]:
        """The one that the terminal is in, and the one that it is leaving."""
        former = None if self.former is None else self.former.domain
        return [domain for domain in (self.domain, former) if domain is not None]

    # ------------------------------------------------------------ what the part above is told

    def _tell(self, now: float) -> None:
        wanted: dict[str, dict[IPv6Address, bool]] = {}
        used = self._in_use()
        for link, addresses in self._addresses.items():
            shown = {each: old for each, old in addresses.items() if self._shows(link, each, used, now)}
            if shown:
                wanted[link] = shown
        offered = {each.link: each for each in self.domains() if each.established and each.virtual}
        for link, domain in offered.items():
            wanted[link] = {domain.rcoa: False}
            self._stations[link] = domain
        self._rank(offered)
        before, self._told = self._told, wanted
        for link, addresses in wanted.items():
            for address, deprecated in addresses.items():
                if before.get(link, {}).get(address) != deprecated:
                    self._above.address_ready(link, address, now, deprecated)
                    self.moved = True
        for link, addresses in before.items():
            for address in addresses:
                if address not in wanted.get(link, {}):
                    self._above.address_lost(link, address, now)
                    self.moved = True
            if link not in self._hosts and link not in offered:
                self._stations.pop(link, None)

    def _shows(self, link: str, address: IPv6Address, used: Collection[Attachment], now: float) -> bool:
        """Whether the part above may use this LCoA itself."""
        if address in self.access.home_prefix:
            return True
        if any((place.link, place.address) == (link, address) for place in used):
            return True  # until it has gone over
        option, domain = self._map_of(link, now), self.domain
        if option is None:
            until = self._since.get(link, now) + GRACE  # perhaps it is about to tell
        elif domain is None or domain.established:
            return option.registration_type is RegistrationType.DIRECT
        else:
            until = domain.since + WITHHELD
        if domain is not None and now < until:
            self._wake_at(until)
            return False
        return True

    def _rank(self, offered: Mapping[str, Domain]) -> None:
        """A domain has the rank of its access link; the one that is being left comes last."""
        order: list[str] = []
        present = self.domain if self.domain is not None and self.domain.link in offered else None
        below = None if present is None or present.access is None else interface_of(present.access.link)
        for interface in self.access.interfaces:
            if present is not None and below in (interface, None) and present.link not in order:
                order.append(present.link)
            order.append(interface)
        if present is not None and present.link not in order:
            order.insert(0, present.link)
        order += [link for link in offered if link not in order]
        if tuple(order) != self._order:
            self._order = tuple(order)
            self._above.interfaces_changed(order)
            self.moved = True
        if self._preferred is not None:
            chosen = present is not None and below in (self._preferred, None) and self._preferred in self._hosts
            self._above.preferred = present.link if present is not None and chosen else self._preferred

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "policy": self.settings.policy.value,
            "maps": self.maps.snapshot(now),
            "domains": [domain.snapshot(now) for domain in self.domains()],
            "binding_update_list": self.updates.snapshot(now),
            "access": self.access.snapshot(now),
        }
