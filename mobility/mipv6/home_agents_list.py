"""The home agents of one home link, and what they answer to who asks for them (RFC 6275 sections 10.1, 10.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from mobility.discards import Discard, Reason
from mobility.host.errors import TokenBucket
from mobility.outputs import Discarded, Event, Output
from mobility.wire import ndisc
from mobility.wire.mobile_icmp import AGENTS_LIMIT, HomeAgentsReply, HomeAgentsRequest

LIMIT = 32
"Other home agents on one link."
ADDRESSES_LIMIT = 4
"Of one home agent."
REPLIES_PER_SECOND = 10.0
"Requests come from anybody, and a reply is longer than what it answers."
DEFAULT_PREFERENCE = 0
_MOBILE_HOME_AGENTS = 126
"Anycast identifier (RFC 2526 section 3)."


def anycast(prefix: IPv6Network) -> IPv6Address:
    """The address that all home agents of a home link share (RFC 2526 section 2).

    Raises `ValueError`: a prefix that leaves no room for the identifier.
    """
    bits = 128 - prefix.prefixlen
    if bits < 8:
        raise ValueError(f"{prefix} has no anycast addresses: its prefix is longer than 120 bits")
    identifier = (1 << bits) - 128 + _MOBILE_HOME_AGENTS
    if prefix.prefixlen == 64:
        identifier &= ~(1 << 57)  # no universal address: that bit of an EUI-64 is zero
    return IPv6Address(int(prefix.network_address) | identifier)


@dataclass(frozen=True, slots=True)
class HomeAgentHeard(Event):
    """Another home agent advertises itself on the home link, or with another preference."""

    address: IPv6Address
    preference: int


@dataclass(frozen=True, slots=True)
class HomeAgentGone(Event):
    """Another home agent does not advertise itself any more, or took its word back."""

    address: IPv6Address


@dataclass(frozen=True, slots=True)
class _Entry:
    addresses: tuple[IPv6Address, ...]
    preference: int
    until: float
    router: bool
    "It serves mobile routers."


class HomeAgentsList:
    """Other home agents by their link-local addresses, from their router advertisements; and this one.

    Router advertisements carry no proof, as usual on a link: what a stranger there says ends with its lifetime, and
    only changes whom a terminal asks for a binding; it is IPsec that tells the terminal who answers.
    """

    def __init__(
        self,
        own: IPv6Address,
        prefix: IPv6Network,
        random: Callable[[int], bytes],
        preference: int = DEFAULT_PREFERENCE,
    ) -> None:
        """``preference``: -32768 to 32767, more is better."""
        self.own = own
        self.prefix = prefix
        self.preference = preference
        self.serves_routers = False
        "Whether this home agent has mobile routers (RFC 3963 section 7)."
        self.requests = 0
        "Answered ones."
        self._random = random
        self._others: dict[IPv6Address, _Entry] = {}
        self._replies = TokenBucket(REPLIES_PER_SECOND, REPLIES_PER_SECOND)

    def __len__(self) -> int:
        """Of other home agents."""
        return len(self._others)

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return min((entry.until for entry in self._others.values()), default=None)

    def handle_timer(self, now: float) -> list[Output]:
        """Forgets home agents that were not heard for their lifetime."""
        outputs: list[Output] = []
        for source, entry in list(self._others.items()):
            if entry.until <= now:
                del self._others[source]
                outputs.append(HomeAgentGone(entry.addresses[0]))
        return outputs

    def heard(self, source: IPv6Address, advertisement: ndisc.RouterAdvertisement, now: float) -> list[Output]:
        """A valid router advertisement on the home link (section 10.5.1)."""
        information = next((o for o in advertisement.options if isinstance(o, ndisc.HomeAgentInformation)), None)
        lifetime = advertisement.router_lifetime if information is None else information.lifetime
        preference = DEFAULT_PREFERENCE if information is None else information.preference
        if preference >= 0x8000:
            preference -= 0x10000
        router = information is not None and information.router
        told = (option.prefix for option in advertisement.prefixes if option.router_address)
        addresses = tuple(dict.fromkeys(a for a in told if a in self.prefix and a != self.own))[:ADDRESSES_LIMIT]
        before = self._others.get(source)
        if not advertisement.home_agent or not lifetime or not addresses:
            if before is None:
                return []
            if advertisement.home_agent and lifetime:
                # Options may be spread over several advertisements: this one is without the address.
                self._others[source] = _Entry(before.addresses, preference, now + lifetime, router)
                return []
            del self._others[source]
            return [HomeAgentGone(before.addresses[0])]
        if before is None and len(self._others) >= LIMIT:
            return [Discarded(Reason.TABLE_FULL, "home-agents-list", f"{addresses[0]}: {LIMIT} home agents are known")]
        self._others[source] = _Entry(addresses, preference, now + lifetime, router)
        if before is not None and (before.addresses, before.preference) == (addresses, preference):
            return []
        return [HomeAgentHeard(addresses[0], preference)]

    def in_order(self, now: float, *, routers: bool = False) -> tuple[IPv6Address, ...]:
        """Addresses of all home agents: preferred ones first, equal ones in random order, so that they share.

        ``routers``: of those that serve mobile routers.
        """
        agents: list[tuple[int, tuple[IPv6Address, ...]]] = []
        if self.serves_routers or not routers:
            agents.append((self.preference, (self.own,)))
        agents += [
            (entry.preference, entry.addresses)
            for entry in self._others.values()
            if entry.until > now and (entry.router or not routers)
        ]
        dice = [self._random(4) for _ in agents]
        ordered = sorted(zip(agents, dice, strict=True), key=lambda each: (-each[0][0], each[1]))
        addresses = (address for (_, several), _ in ordered for address in several)
        return tuple(dict.fromkeys(addresses))

    def answer(self, request: HomeAgentsRequest, source: IPv6Address, now: float) -> HomeAgentsReply:
        """To a request that came to the anycast address; to be sent from `own`. Raises `Discard`."""
        if source.is_multicast or source.is_unspecified or source.is_link_local or source.is_loopback:
            raise Discard(Reason.SOURCE_INVALID, f"home agents request from {source}")
        if not self._replies.take(now):
            raise Discard(Reason.RATE_LIMITED, f"home agents request from {source}")
        self.requests += 1
        # Whatever the path, the reply fits (section 10.5.1). A mobile router that nobody serves hears of all.
        fit = self.in_order(now, routers=True) if request.router else ()
        return HomeAgentsReply(request.identifier, (fit or self.in_order(now))[:AGENTS_LIMIT], bool(fit))

    def snapshot(self, now: float) -> list[dict[str, object]]:
        """For people, JSON-ready; this home agent first."""
        rows: list[dict[str, object]] = [
            {"addresses": [str(self.own)], "preference": self.preference, "own": True, "seconds": None}
        ]
        for source, entry in self._others.items():
            rows.append(
                {
                    "addresses": [str(address) for address in entry.addresses],
                    "preference": entry.preference,
                    "own": False,
                    "seconds": round(entry.until - now, 1),
                    "link_local": str(source),
                }
            )
        return rows
