"""What an `Ike` endpoint answers with, beside `Discarded`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.association import Mode, SequenceState
from mobility.ipsec.ike.settings import Endpoint
from mobility.ipsec.ike.traffic import TrafficSelector
from mobility.ipsec.sa import InboundSA, OutboundSA
from mobility.outputs import Discarded, Event


class Send(NamedTuple):
    """A datagram, whole: with its marker where there is one."""

    data: bytes
    local: Endpoint
    remote: Endpoint


@dataclass(frozen=True, slots=True)
class ChildSa:
    """A child SA that was agreed: two associations and what they are for (RFC 7296 section 1.3)."""

    name: str
    "Of the settings that it comes from."
    inbound_spi: int
    outbound_spi: int
    algorithm: Algorithm
    inbound_keys: Keys
    outbound_keys: Keys
    mode: Mode
    local: tuple[TrafficSelector, ...]
    remote: tuple[TrafficSelector, ...]
    encapsulated: bool
    "ESP goes in UDP datagrams, between the endpoints of IKE."

    def inbound(self, state: SequenceState | None = None) -> InboundSA:
        """The association that opens what comes."""
        return InboundSA(self.inbound_spi, self.algorithm, self.inbound_keys, self.mode, state=state)

    def outbound(self, random: Callable[[int], bytes], state: SequenceState | None = None) -> OutboundSA:
        """The association that seals what is sent. To be made once: its numbers are nonces."""
        return OutboundSA(
            self.outbound_spi,
            self.algorithm,
            self.outbound_keys,
            self.mode,
            random=random,
            state=state,
            fresh_keys=True,
        )

    def __str__(self) -> str:
        return (
            f"{self.name} {self.inbound_spi:#010x}/{self.outbound_spi:#010x} {self.algorithm.value} {self.mode.value}"
            f" {', '.join(map(str, self.local))} <-> {', '.join(map(str, self.remote))}"
        )


@dataclass(frozen=True, slots=True)
class IkeUp(Event):
    """Both ends have shown who they are; its first child SA is told beside it."""

    peer: str
    ike: str
    "The IKE SA: its SPIs."
    remote: Endpoint
    suite: str
    address: str | None = None
    "The home address that the other end has assigned."


@dataclass(frozen=True, slots=True)
class IkeRekeyed(Event):
    """An IKE SA has taken the place of another, child SAs and all."""

    peer: str
    old: str
    ike: str


@dataclass(frozen=True, slots=True)
class IkeDown(Event):
    """An IKE SA has ended, and all its child SAs with it (each of them is told as `ChildDown`)."""

    peer: str
    ike: str
    reason: str


@dataclass(frozen=True, slots=True)
class IkeFailed(Event):
    """Nothing came of an attempt, ours or somebody else's: why, and what to do about it."""

    peer: str
    remote: Endpoint
    reason: str


@dataclass(frozen=True, slots=True)
class ChildUp(Event):
    """To be installed: inbound at once; outbound if ``send``, else with `ChildSwitched`.

    One that replaces another is for new packets; the other stays for what is on its way, until `ChildDown`.
    """

    peer: str
    child: ChildSa
    send: bool
    replaces: ChildSa | None = None


@dataclass(frozen=True, slots=True)
class ChildSwitched(Event):
    """The other end has what it needs: from now on packets go out by this child SA."""

    peer: str
    child: ChildSa


@dataclass(frozen=True, slots=True)
class ChildDown(Event):
    """To be removed."""

    peer: str
    child: ChildSa
    reason: str


@dataclass(frozen=True, slots=True)
class ChildFailed(Event):
    """A child SA was not agreed, or could not be rekeyed: why. The IKE SA goes on."""

    peer: str
    child: str
    reason: str


@dataclass(frozen=True, slots=True)
class PeerMoved(Event):
    """The other end is at another endpoint now; ESP in datagrams goes there, too."""

    peer: str
    ike: str
    remote: Endpoint


@dataclass(frozen=True, slots=True)
class PeerForgot(Event):
    """Somebody says that the other end does not have this IKE SA: it may have been restarted. Nothing proves it."""

    peer: str
    ike: str


Output = Send | Discarded | Event
