"""IKE endpoints that face each other over a network that loses, delays, repeats and changes what they send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from ipaddress import IPv6Address, IPv6Network
from itertools import count
from math import inf
from random import Random
from typing import TypeVar

from mobility.discards import Reason
from mobility.ipsec.association import Mode
from mobility.ipsec.ike.authentication import Belief, Proof, SharedKey
from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.ike.events import ChildDown, ChildSa, ChildSwitched, ChildUp, Output, Send
from mobility.ipsec.ike.payloads import Identity
from mobility.ipsec.ike.settings import ChildSettings, Endpoint, Peer, Settings
from mobility.ipsec.ike.traffic import TrafficSelector
from mobility.ipsec.sa import InboundSA, OutboundSA
from mobility.outputs import Discarded

PHONE, AGENT = IPv6Address("2001:db8:5b::1"), IPv6Address("2001:db8:6::f")
HOME = IPv6Network("2001:db8:6::1/128")
ANYWHERE = IPv6Network("::/0")
SECRET = SharedKey(bytes(range(32)))
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
_T = TypeVar("_T")

TUNNEL = ChildSettings("tunnel", (TrafficSelector.of(HOME),), (TrafficSelector.of(ANYWHERE),))
SIGNALLING = ChildSettings(
    "signalling",
    (TrafficSelector.of_mobility_header(HOME),),
    (TrafficSelector.of_mobility_header(IPv6Network(AGENT)),),
    Mode.TRANSPORT,
)


def mirrored(settings: ChildSettings) -> ChildSettings:
    """The same child SA, from the other end."""
    return replace(settings, local=settings.remote, remote=settings.local)


def peers(
    *children: ChildSettings,
    proofs: tuple[Proof, Proof] = (SECRET, SECRET),
    beliefs: tuple[Belief, Belief] = (SECRET, SECRET),
) -> tuple[Peer, Peer]:
    """What the phone knows of the home agent, and the other way round; ``proofs`` and ``beliefs``: theirs."""
    phone, agent = Identity.of("laptop@example.org"), Identity.of("ha.example.org")
    wanted = children or (TUNNEL,)
    return (
        Peer("agent", phone, agent, proofs[0], beliefs[0], wanted),
        Peer("phone", agent, phone, proofs[1], beliefs[1], tuple(mirrored(each) for each in wanted)),
    )


@dataclass
class End:
    """One endpoint, with the associations that its events tell to install."""

    name: str
    ike: Ike
    seen: list[Output] = field(default_factory=list)
    inbound: dict[int, InboundSA] = field(default_factory=dict)
    outbound: dict[int, OutboundSA] = field(default_factory=dict)
    sends_by: dict[str, list[OutboundSA]] = field(default_factory=dict)
    "Name of settings -> associations for new packets; the last one is used."
    lost: int = 0

    def of(self, kind: type[_T]) -> list[_T]:
        """The events of one class, so far."""
        return [each for each in self.seen if isinstance(each, kind)]

    def discards(self, reason: Reason) -> int:
        return sum(each.reason is reason for each in self.of(Discarded))

    def take(self, output: Output, random: Random) -> None:
        self.seen.append(output)
        match output:
            case ChildUp(_, child, send, _):
                self.inbound[child.inbound_spi] = child.inbound()
                self.outbound[child.inbound_spi] = child.outbound(random.randbytes)
                if send:
                    self._use(child)
            case ChildSwitched(_, child):
                self._use(child)
            case ChildDown(_, child, _):
                del self.inbound[child.inbound_spi]
                sealer = self.outbound.pop(child.inbound_spi)
                rows = self.sends_by.get(child.name, [])
                if sealer in rows:
                    rows.remove(sealer)

    def _use(self, child: ChildSa) -> None:
        rows = self.sends_by.setdefault(child.name, [])
        sealer = self.outbound[child.inbound_spi]
        if sealer in rows:
            rows.remove(sealer)
        rows.append(sealer)


class World:
    """A network between two endpoints, in simulated time."""

    def __init__(
        self,
        *children: ChildSettings,
        seed: int = 1,
        loss: float = 0.0,
        jitter: float = 0.0,
        duplicates: float = 0.0,
        settings: Settings | None = None,
        agent_settings: Settings | None = None,
        known: tuple[Peer, Peer] | None = None,
        port: int = 500,
    ) -> None:
        self.random = Random(seed)
        self.loss, self.jitter, self.duplicates = loss, jitter, duplicates
        self.settings = settings or Settings()
        self.known = known or peers(*children)
        self.now = 1000.0
        self.clock = NOON
        self.tamper: Callable[[Send], list[Send]] = lambda send: [send]
        self.wire: list[Send] = []
        "All that was sent, in order."
        self.at = {"phone": Endpoint(PHONE, port), "agent": Endpoint(AGENT, port)}
        self.ends = {
            "phone": End("phone", self.endpoint(self.known[0], self.settings)),
            "agent": End("agent", self.endpoint(self.known[1], agent_settings or self.settings)),
        }
        self._queue: list[tuple[float, int, str, Send]] = []
        self._count = count()

    def endpoint(self, peer: Peer, settings: Settings) -> Ike:
        return Ike(settings, [peer], random=self.random.randbytes, utc=self.utc)

    def utc(self) -> datetime:
        return self.clock + timedelta(seconds=self.now - 1000)

    @property
    def phone(self) -> End:
        return self.ends["phone"]

    @property
    def agent(self) -> End:
        return self.ends["agent"]

    def begin(self) -> None:
        """The phone begins an IKE SA with the home agent."""
        self.carry("phone", self.phone.ike.initiate("agent", self.at["phone"], self.at["agent"], self.now))

    def carry(self, name: str, outputs: list[Output]) -> None:
        """Does what an endpoint says."""
        for output in outputs:
            if not isinstance(output, Send):
                self.ends[name].take(output, self.random)
                continue
            self.wire.append(output)
            for send in self.tamper(output):
                copies = 1 + (self.random.random() < self.duplicates)
                for _ in range(copies):
                    if self.random.random() >= self.loss:
                        when = self.now + 0.02 + self.jitter * self.random.random()
                        heappush(self._queue, (when, next(self._count), name, send))

    def run(self, seconds: float) -> None:
        """Time goes on."""
        until = self.now + seconds
        for _ in range(100_000):
            alarms = {name: end.ike.timer for name, end in self.ends.items()}
            due = min((when for when in alarms.values() if when is not None), default=inf)
            if self._queue and self._queue[0][0] <= min(due, until):
                self.now, _, sender, send = heappop(self._queue)
                self._arrive(sender, send)
            elif due <= until:
                self.now = max(self.now, due)
                for name, when in alarms.items():
                    if when is not None and when <= self.now:
                        self.carry(name, self.ends[name].ike.handle_timer(self.now))
            else:
                self.now = until
                return
        raise AssertionError("endless")

    def _arrive(self, sender: str, send: Send) -> None:
        receiver = "agent" if sender == "phone" else "phone"
        if send.remote.address == self.at[receiver].address:
            self.carry(receiver, self.ends[receiver].ike.receive(send.data, send.remote, send.local, self.now))

    def established(self) -> bool:
        return self.phone.ike.established("agent") and self.agent.ike.established("phone")

    def passes(self, name: str = "tunnel", *, both: bool = True) -> None:
        """A packet each way is sealed by the one and opened by the other."""
        for sender, receiver in (("phone", "agent"), ("agent", "phone"))[: 2 if both else 1]:
            sealed = self.seal(sender, name)
            assert self.open(receiver, sealed) == (17, b"speech")

    def seal(self, sender: str, name: str = "tunnel") -> bytes:
        return self.ends[sender].sends_by[name][-1].seal(17, b"speech")

    def open(self, receiver: str, sealed: bytes) -> tuple[int, bytes]:
        return self.ends[receiver].inbound[int.from_bytes(sealed[:4], "big")].open(sealed)
