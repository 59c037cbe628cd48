"""Router discovery and movement detection (RFC 4861 section 6.3, RFC 7559, RFC 6059).

Three things tell that the node has moved, and none of them waits for another: a known router answers a unicast probe,
a router advertisement comes, or (no link event at all) a new router appears and the old one no longer answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Address
from math import inf

from mobility.discards import Reason
from mobility.host import messages
from mobility.host.addresses import AddressState, AddressTable
from mobility.host.events import MapsHeard, RouterFound, RouterLost
from mobility.host.interface import Interface
from mobility.host.neighbours import NeighbourCache
from mobility.host.networks import KnownNetworks, Network
from mobility.host.path_mtu import MINIMUM
from mobility.host.routers import LIMIT, PREFIX_LIMIT, Prefix, Router, RouterList, mask
from mobility.wire import ndisc

SOLICIT_FIRST = 0.5
"Seconds to the second router solicitation; RFC 4861's 4 s would be heard in a call when the first one is lost."
SOLICIT_LONGEST = 3600.0
PROBE_INTERVAL = 0.25
"Seconds between the questions to a router that may have been left behind."
PROBES = 3
RENEWALS = 4
"So often `MapsHeard` is told of a MAP within its lifetime."


class Discovery:
    """Finds routers and configures the host by what they say; remembers networks; notices movement."""

    def __init__(
        self,
        interface: Interface,
        addresses: AddressTable,
        routers: RouterList,
        networks: KnownNetworks,
        on_moved: Callable[[], None],
    ) -> None:
        """``on_moved``: paths have changed, forget what was known of them."""
        self._interface = interface
        self._addresses = addresses
        self._routers = routers
        self._networks = networks
        self._on_moved = on_moved
        self._probed: dict[tuple[bytes, bytes], Network] = {}
        self._probes_sent = 0
        self._interval = 0.0
        self.neighbours = NeighbourCache(
            interface,
            addresses,
            failed=self._neighbour_failed,
            reachable=self._neighbour_reachable,
            not_router=self._not_a_router,
        )
        addresses.settled = self.neighbours.retry

    # ---------------------------------------------------------------- the link

    def link_up(self, now: float) -> None:
        """Ask whoever is there, and at the same time the routers that we know by name."""
        self.solicit(now)
        self._probed = {(network.router, network.mac): network for network in self._networks.candidates(now)}
        self._probes_sent = 0
        if self._probed:
            self._probe_known(now)

    def link_down(self, now: float) -> None:
        """Whatever link comes next is another one until it proves to be the same."""
        self._stop_solicitation()
        self._stop_probes()
        for router in self._routers:
            self._interface.alarms.cancel(("router", router.address))
            if router.default_until > now and not router.unreachable:
                self._tell_lost(router, "link down")
            self._tell_maps(router, (), now)
        self._routers.clear()
        self.neighbours.clear()
        self._interface.reset_parameters()
        self._on_moved()

    # ---------------------------------------------------------------- solicitation

    def solicit(self, now: float) -> None:
        """A router solicitation now, and again with growing intervals until a router answers (RFC 7559)."""
        self._interval = 0.0
        self._solicit(now)

    def _solicit(self, now: float) -> None:
        address = self._addresses.link_local()
        if address is None:
            messages.router_solicitation(self._interface, messages.UNSPECIFIED, tell_mac=False)
        else:
            # From an address, even an optimistic one: such an answer is unicast and not rate limited.
            settled = address.state is AddressState.PREFERRED
            messages.router_solicitation(self._interface, address.value, tell_mac=settled)
        spread = self._interface.uniform(-0.1, 0.1)
        if self._interval == 0.0:
            self._interval = SOLICIT_FIRST * (1 + spread)
        else:
            self._interval = self._interval * (2 + spread)
            if self._interval > SOLICIT_LONGEST:
                self._interval = SOLICIT_LONGEST * (1 + spread)
        self._interface.alarms.set("router-solicitation", now + self._interval, self._solicit)

    def _stop_solicitation(self) -> None:
        self._interface.alarms.cancel("router-solicitation")

    # ---------------------------------------------------------------- known networks

    def _probe_known(self, now: float) -> None:
        own = self._addresses.link_local()
        if self._probes_sent >= PROBES or not self._probed:
            self._stop_probes()
            return
        self._probes_sent += 1
        if own is not None:
            settled = own.state is AddressState.PREFERRED
            for router, mac in self._probed:
                messages.neighbour_solicitation(self._interface, own.value, router, mac, tell_mac=settled)
        self._interface.alarms.set("known-networks", now + PROBE_INTERVAL, self._probe_known)

    def _stop_probes(self) -> None:
        self._probed = {}
        self._interface.alarms.cancel("known-networks")

    def probe_answered(self, target: bytes, mac: bytes, now: float) -> bool:
        """A solicited advertisement for ``target`` came from ``mac``: are we back in a known network?"""
        network = self._probed.pop((target, mac), None)
        if network is None:
            return False
        if self._routers.get(target) is not None:
            return True  # its advertisement was faster
        router = Router(target, mac, network.preference, network.default_until)
        prefixes = [prefix for prefix in network.prefixes if prefix.valid_until > now]
        router.prefixes = {(prefix.network, prefix.length): prefix for prefix in prefixes}
        router.recalled = set(router.prefixes)
        self._interface.mtu = min(network.mtu, self._interface.hardware_mtu)
        self._interface.hop_limit = network.hop_limit
        self._interface.retrans_timer, self._interface.reachable_time = network.retrans_timer, network.reachable_time
        self._routers.add(router)
        self._set_ageing(router, now)
        self.neighbours.establish(target, mac, now, router=True)
        self._recall_maps(router, network, now)
        if router.default_until > now:
            self._interface.emit(RouterFound(self._interface.name, IPv6Address(target), router.networks()))
        for prefix in prefixes:
            if prefix.autonomous:
                self._addresses.autoconfigure(
                    prefix.network,
                    target,
                    prefix.valid_until - now,
                    prefix.preferred_until - now,
                    now,
                    authentic=True,
                )
        return True

    # ---------------------------------------------------------------- advertisements

    def advertised(self, source: bytes, message: ndisc.RouterAdvertisement, sender: bytes, now: float) -> None:
        """A valid router advertisement (RFC 4861 section 6.3.4)."""
        router = self._routers.get(source)
        found = router is None or router.unreachable or router.default_until <= now
        if router is None:
            if len(self._routers) >= LIMIT:
                self._interface.discard(Reason.TABLE_FULL, f"routers: {LIMIT}")
                return
            router = Router(source, None)
            self._routers.add(router)
        mac = ndisc.link_address(message)
        if router.mac not in (None, mac or sender):
            # The same address with another link-layer address: most likely another network (fe80::1 is popular).
            router.recalled |= router.prefixes.keys()
            found = True
            self._on_moved()
        router.mac = mac or sender
        router.unreachable = False
        router.preference = message.preference
        self._apply_parameters(message)
        advertised = self._apply_prefixes(router, message, now)
        self._drop_unconfirmed(router, advertised, now)
        had_lifetime = router.default_until > now
        router.default_until = now + message.router_lifetime
        if mac is not None:
            self.neighbours.learn(source, mac, now, router=True)
        self._interface.forget()
        self._set_ageing(router, now)
        self._hear_maps(router, message, now)
        if message.router_lifetime:
            self._stop_solicitation()
            if found:
                self._interface.emit(RouterFound(self._interface.name, IPv6Address(source), router.networks()))
        elif had_lifetime:
            self._tell_lost(router, "withdrawn")
        for prefix in message.prefixes:
            self._autoconfigure(router, prefix, now)
        self._remember(router)
        if found and message.router_lifetime:
            self._doubt_others(router, now)

    def _apply_parameters(self, message: ndisc.RouterAdvertisement) -> None:
        interface = self._interface
        if message.hop_limit:
            interface.hop_limit = message.hop_limit
        if message.reachable_time and message.reachable_time <= 3_600_000:
            interface.reachable_time = message.reachable_time / 1000
        if message.retransmission_time:
            # A hostile millisecond would make us flood, a hostile week would stop us.
            interface.retrans_timer = min(max(message.retransmission_time / 1000, 0.1), 10.0)
        for option in message.options:
            if isinstance(option, ndisc.Mtu) and MINIMUM <= option.mtu <= interface.hardware_mtu:
                interface.mtu = option.mtu

    def _hear_maps(self, router: Router, message: ndisc.RouterAdvertisement, now: float) -> None:
        maps = tuple(option for option in message.options if isinstance(option, ndisc.MapOption))
        # Said again and again; told when something changed, and often enough to keep the lifetimes from ending.
        renew_at = router.maps_heard + min((option.lifetime for option in maps), default=0) / RENEWALS
        if maps != router.maps or (maps and now >= renew_at):
            self._tell_maps(router, maps, now)

    def _tell_maps(self, router: Router, maps: tuple[ndisc.MapOption, ...], now: float) -> None:
        if maps or router.maps:
            router.maps, router.maps_heard = maps, now
            self._interface.emit(MapsHeard(self._interface.name, IPv6Address(router.address), maps))

    def _recall_maps(self, router: Router, network: Network, now: float) -> None:
        """As the router told of them when the host was here last, as far as that is still true."""
        passed = int(now - network.maps_heard)
        maps = tuple(
            option if option.lifetime == ndisc.INFINITE else replace(option, lifetime=option.lifetime - passed)
            for option in network.maps
            if option.lifetime > passed
        )
        self._tell_maps(router, maps, now)

    def _apply_prefixes(self, router: Router, message: ndisc.RouterAdvertisement, now: float) -> set[tuple[bytes, int]]:
        advertised: set[tuple[bytes, int]] = set()
        for option in message.prefixes:
            network = mask(option.prefix.packed, option.length)
            if messages.is_link_local(network) or network[0] == 0xFF or option.length == 0:
                continue
            key = (network, option.length)
            advertised.add(key)
            if option.valid_lifetime == 0:
                router.prefixes.pop(key, None)
            elif key in router.prefixes or len(router.prefixes) < PREFIX_LIMIT:
                router.prefixes[key] = Prefix(
                    network,
                    option.length,
                    option.on_link,
                    _is_autonomous(option),
                    _until(option.valid_lifetime, now),
                    _until(option.preferred_lifetime, now),
                )
        return advertised

    def _drop_unconfirmed(self, router: Router, advertised: set[tuple[bytes, int]], now: float) -> None:
        gone, router.recalled = router.recalled - advertised, set()
        prefixes = [router.prefixes.pop(key) for key in gone if key in router.prefixes]
        self._drop_addresses(prefixes, "the router no longer has this prefix", now)

    def _autoconfigure(self, router: Router, option: ndisc.PrefixInformation, now: float) -> None:
        network = mask(option.prefix.packed, option.length)
        if _is_autonomous(option) and not messages.is_link_local(network) and network[0] != 0xFF:
            valid, preferred = _until(option.valid_lifetime, 0.0), _until(option.preferred_lifetime, 0.0)
            self._addresses.autoconfigure(network, router.address, valid, preferred, now)

    def _remember(self, router: Router) -> None:
        if router.mac is None or not router.prefixes:
            return
        interface = self._interface
        self._networks.remember(
            Network(
                router.address,
                router.mac,
                router.default_until,
                router.preference,
                tuple(router.prefixes.values()),
                interface.mtu,
                interface.hop_limit,
                interface.retrans_timer,
                interface.reachable_time,
                router.maps,
                router.maps_heard,
            )
        )

    # ---------------------------------------------------------------- movement without a link event

    def suspect(self, now: float) -> None:
        """Perhaps the link is another one, although its carrier never went."""
        for router in self._routers:
            if not router.unreachable:
                self.neighbours.probe(router.address, now, PROBE_INTERVAL)
        self.solicit(now)

    def _doubt_others(self, fresh: Router, now: float) -> None:
        """A router appeared. Those that share no prefix with it are asked whether they are still there."""
        if not fresh.prefixes:
            return
        for router in list(self._routers):
            if router is fresh or router.prefixes.keys() & fresh.prefixes.keys():
                continue
            if router.unreachable:
                self._leave(router, "left behind", now)
            else:
                self.neighbours.probe(router.address, now, PROBE_INTERVAL)

    def _neighbour_failed(self, address: bytes, now: float) -> None:
        self._routers.forget_redirects_to(address)
        router = self._routers.get(address)
        if router is None:
            return
        if any(other is not router and not other.unreachable and other.default_until > now for other in self._routers):
            self._leave(router, "unreachable", now)
            return
        if not router.unreachable:
            router.unreachable = True
            if router.default_until > now:
                self._tell_lost(router, "unreachable")
            self.solicit(now)

    def _neighbour_reachable(self, address: bytes, now: float) -> None:
        router = self._routers.get(address)
        if router is not None and router.unreachable:
            router.unreachable = False
            self._interface.forget()
            if router.default_until > now:
                self._interface.emit(RouterFound(self._interface.name, IPv6Address(address), router.networks()))

    def _not_a_router(self, address: bytes, now: float) -> None:
        router = self._routers.get(address)
        if router is not None and router.default_until > now:
            router.default_until = now
            self._interface.forget()
            self._tell_lost(router, "is no router any more")

    def _leave(self, router: Router, why: str, now: float) -> None:
        """The router is not on our link any more, and so are the addresses that only it stood for."""
        self._interface.alarms.cancel(("router", router.address))
        self._routers.remove(router.address)
        self.neighbours.remove(router.address)
        if router.default_until > now and not router.unreachable:
            self._tell_lost(router, why)
        self._tell_maps(router, (), now)
        said = f"router {IPv6Address(router.address)} {why}"
        self._drop_addresses(list(router.prefixes.values()), said, now)
        # Addresses whose prefix the router had withdrawn, but which live on by the two-hour rule.
        kept = {key for other in self._routers for key in other.prefixes}
        for address in list(self._addresses):
            prefix = mask(address.value, 64)
            if address.router == router.address and (prefix, 64) not in kept:
                self._addresses.drop_prefix(prefix, said, now)
        self._on_moved()

    def _drop_addresses(self, prefixes: list[Prefix], why: str, now: float) -> None:
        kept = {key for router in self._routers for key in router.prefixes}
        for prefix in prefixes:
            if prefix.autonomous and (prefix.network, prefix.length) not in kept:
                self._addresses.drop_prefix(prefix.network, why, now)

    # ---------------------------------------------------------------- ageing

    def _set_ageing(self, router: Router, now: float) -> None:
        times = [router.default_until, *(prefix.valid_until for prefix in router.prefixes.values())]
        upcoming = min((when for when in times if when > now), default=inf)
        key = ("router", router.address)
        if upcoming == inf:
            self._interface.alarms.cancel(key)
        else:
            self._interface.alarms.set(key, upcoming, lambda then: self._aged(router, upcoming, then))

    def _aged(self, router: Router, due: float, now: float) -> None:
        router.prefixes = {key: prefix for key, prefix in router.prefixes.items() if prefix.valid_until > now}
        self._interface.forget()
        if router.default_until == due and not router.unreachable:
            self._tell_lost(router, "expired")
        if router.default_until <= now and not router.prefixes:
            self._routers.remove(router.address)
            self._tell_maps(router, (), now)
        self._set_ageing(router, now)
        if not any(other.default_until > now for other in self._routers):
            self.solicit(now)

    def _tell_lost(self, router: Router, why: str) -> None:
        self._interface.emit(RouterLost(self._interface.name, IPv6Address(router.address), why))


def _is_autonomous(option: ndisc.PrefixInformation) -> bool:
    """Whether an address may be made from the prefix (RFC 4862 section 5.5.3)."""
    return option.autonomous and option.length == 64 and option.preferred_lifetime <= option.valid_lifetime


def _until(lifetime: int, now: float) -> float:
    return inf if lifetime == ndisc.INFINITE else now + lifetime
