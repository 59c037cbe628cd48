"""What the owner of an `Ike` endpoint says: who the others are, and what may be agreed with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from mobility.ipsec.association import Mode
from mobility.ipsec.ike.authentication import Belief, Proof
from mobility.ipsec.ike.numbers import IKE_PORT
from mobility.ipsec.ike.payloads import Identity
from mobility.ipsec.ike.proposals import Proposal, esp_offer, ike_offer
from mobility.ipsec.ike.traffic import TrafficSelector


class Endpoint(NamedTuple):
    """An address and a UDP port. IKE is marked by four octets of zero on all ports but 500."""

    address: IPv4Address | IPv6Address
    port: int = IKE_PORT

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """One child SA that is wanted, or allowed."""

    name: str
    local: tuple[TrafficSelector, ...]
    remote: tuple[TrafficSelector, ...]
    mode: Mode = Mode.TUNNEL
    proposals: tuple[Proposal, ...] = field(default_factory=esp_offer)
    lifetime: float = 3600.0
    "Seconds; it is rekeyed some time before (`Settings.rekey_early`)."
    on_demand: bool = False
    "Not begun with the IKE SA, but only when the owner, or the other end, asks for it."


@dataclass(frozen=True, slots=True)
class Peer:
    """Another end: who we are towards it, who it has to be, and what for."""

    name: str
    identity: Identity
    "Ours."
    remote: Identity
    "What it has to prove."
    proof: Proof
    belief: Belief
    children: tuple[ChildSettings, ...]
    proposals: tuple[Proposal, ...] = field(default_factory=ike_offer)
    "For the IKE SA, when we begin."
    wants_address: bool = False
    "Ask for a home address (RFC 5026)."
    assigns: tuple[IPv6Address, int] | None = None
    "The home address, and the length of its prefix, that it is given when it asks."
    follow: bool = True
    "Go on at whatever address authentic messages of a peer behind NAT come from (RFC 7296 section 2.23)."


@dataclass(frozen=True, slots=True)
class Settings:
    """Of an endpoint. All times are in seconds."""

    proposals: tuple[Proposal, ...] = field(default_factory=ike_offer)
    "For IKE SAs that others begin."
    lifetime: float = 4 * 3600.0
    "Of an IKE SA."
    rekey_early: float = 0.1
    "The last part of a lifetime, within which a rekey is begun, at a random moment of its first half."
    dead_peer_after: float = 30.0
    "Silence after which a peer is asked whether it is there."
    keepalive: float = 20.0
    "Between octets that keep the mapping of a NAT in front of us (RFC 3948 section 4)."
    half_open: float = 30.0
    "How long a stranger may take to show who it is."
    cookies_above: int = 16
    "Half-open IKE SAs above which a cookie is asked for."
    most_half_open: int = 256
    first_retransmission: float = 0.5
    longest_retransmission: float = 8.0
    tries: int = 12
    "How often a request is sent in all before the peer counts as dead."
    datagram_size: int = 1232
    "Octets of the largest datagram: what fits into the smallest IPv6 packet."
    grace: float = 5.0
    "How long a child SA that was replaced still takes what is on its way."
    encapsulate: bool = False
    "ESP in UDP datagrams, whether there is a NAT or not."
    mobike: bool = True
    "Offer to follow our address without a NAT (RFC 4555)."
