"""The security policy database (RFC 4301 section 4.4.1): which packets are protected, and by what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from heapq import merge
from ipaddress import IPv6Network
from operator import itemgetter

from mobility.ipsec.ah import InboundAH, OutboundAH
from mobility.ipsec.sa import InboundSA, OutboundSA
from mobility.wire.ip6 import Flow

ANYWHERE = IPv6Network("::/0")

Numbers = int | range | frozenset[int] | None
"What a port or type may be; None: anything."


class Action(Enum):
    """RFC 4301 section 4.4.1."""

    PROTECT = "protect"
    BYPASS = "bypass"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class Selector:
    """Which packets a policy is about; seen from this node, so that one selector serves both directions.

    ``local`` is the source of outbound packets and the destination of inbound ones. The addresses are home addresses
    where a packet carries a Home Address option or type 2 routing header (RFC 3776 section 4.2).
    """

    local: IPv6Network = ANYWHERE
    remote: IPv6Network = ANYWHERE
    protocol: int | None = None
    "Upper-layer protocol; None: any."
    local_port: Numbers = None
    remote_port: Numbers = None
    local_type: Numbers = None
    "ICMPv6 or mobility header type of outbound packets (RFC 4877 section 5: local_mh_type)."
    remote_type: Numbers = None
    "ICMPv6 or mobility header type of inbound packets."
    code: Numbers = None
    "ICMPv6 code."

    def matches(self, flow: Flow, outbound: bool, *, when_hidden: bool = False) -> bool:
        """Whether a packet in the given direction is meant.

        ``when_hidden``: what to say when a port or type is asked for that a later fragment does not show.
        """
        if self.protocol is not None and self.protocol != flow.protocol:
            return False
        if outbound:
            local, remote, local_port, remote_port = flow[0], flow[1], flow[3], flow[4]
            kind = self.local_type
        else:
            local, remote, local_port, remote_port = flow[1], flow[0], flow[4], flow[3]
            kind = self.remote_type
        return (
            _within(local, self.local)
            and _within(remote, self.remote)
            and _fits(local_port, self.local_port, when_hidden)
            and _fits(remote_port, self.remote_port, when_hidden)
            and _fits(flow.type, kind, when_hidden)
            and _fits(flow.code, self.code, when_hidden)
        )

    def describe(self) -> str:
        """For people, for example ``2001:db8::1/128 <-> ::/0 protocol 17 local port 5060``."""
        words = [f"{self.local} <-> {self.remote}"]
        for name in ("protocol", "local_port", "remote_port", "local_type", "remote_type", "code"):
            value = getattr(self, name)
            if isinstance(value, range):
                value = f"{value.start}-{value.stop - 1}"
            elif isinstance(value, frozenset):
                value = ",".join(str(number) for number in sorted(value))
            if value is not None:
                words.append(f"{name.replace('_', ' ')} {value}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do with the packets of a selector: ESP, AH, or AH around ESP (`OutboundAH.inside`).

    PROTECT without an association discards the packets until a new database brings one.
    """

    selector: Selector
    action: Action
    outbound_sa: OutboundSA | OutboundAH | None = None
    inbound_sa: InboundSA | InboundAH | None = None
    name: str = ""
    "For traces and displays."

    def describe(self) -> dict[str, object]:
        """JSON-ready, without keys."""
        return {
            "name": self.name,
            "selector": self.selector.describe(),
            "action": self.action.value,
            "outbound_sa": None if self.outbound_sa is None else self.outbound_sa.describe(),
            "inbound_sa": None if self.inbound_sa is None else self.inbound_sa.describe(),
        }


class SecurityPolicyDatabase:
    """Policies in order; the first that matches decides, else the owner's default. Changes make a new database.

    A search looks only at the policies whose remote network holds the packet's remote address, so that a home agent
    with a thousand terminals finds those of one as fast as with one.
    """

    __slots__ = ("_by_remote", "_inbound", "_outbound", "default", "policies")

    CACHE_LIMIT = 4096

    def __init__(self, policies: Iterable[Policy], default: Action) -> None:
        """Raises `ValueError`: a default cannot be PROTECT, for it names no association."""
        if default is Action.PROTECT:
            raise ValueError("the default action is BYPASS or DISCARD; protect all with a policy that selects all")
        self.policies = tuple(policies)
        self.default = Policy(Selector(), default, name="default")
        self._outbound: dict[Flow, Policy] = {}
        self._inbound: dict[Flow, Policy] = {}
        self._by_remote: dict[int, dict[int, list[tuple[int, Policy]]]] = {}
        "Bits behind the remote network -> bits of that network -> policies with their places in the order."
        for row in enumerate(self.policies):
            remote = row[1].selector.remote
            shift = 128 - remote.prefixlen
            self._by_remote.setdefault(shift, {}).setdefault(int(remote.network_address) >> shift, []).append(row)

    def lookup(self, flow: Flow, *, outbound: bool, hidden: bool = False) -> Policy:
        """The policy for a packet with these selectors.

        ``hidden``: a later fragment, whose ports or types cannot be seen. Policies that ask for them then count if they
        protect or discard, and do not if they bypass: what is unseen is never let through.
        """
        if hidden:
            return self._search(flow, outbound, hidden)
        cache = self._outbound if outbound else self._inbound
        policy = cache.get(flow)
        if policy is None:
            policy = self._search(flow, outbound, hidden)
            if len(cache) >= self.CACHE_LIMIT:
                cache.clear()
            cache[flow] = policy
        return policy

    def _search(self, flow: Flow, outbound: bool, hidden: bool) -> Policy:
        remote = int.from_bytes(flow.destination if outbound else flow.source)
        found = (rows.get(remote >> shift, ()) for shift, rows in self._by_remote.items())
        for _, policy in merge(*found, key=itemgetter(0)):
            strict = hidden and policy.action is not Action.BYPASS
            if policy.selector.matches(flow, outbound, when_hidden=strict):
                return policy
        return self.default

    def describe(self) -> list[dict[str, object]]:
        """JSON-ready, in order, the default last; without keys."""
        return [policy.describe() for policy in (*self.policies, self.default)]


def _within(address: bytes, network: IPv6Network) -> bool:
    shift = 128 - network.prefixlen
    return int.from_bytes(address, "big") >> shift == int(network.network_address) >> shift


def _fits(value: int | None, wanted: Numbers, when_hidden: bool) -> bool:
    if wanted is None:
        return True
    if value is None:
        return when_hidden
    return value == wanted if isinstance(wanted, int) else value in wanted
