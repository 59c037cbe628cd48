"""One IKE SA: its state, its child SAs, what it still has to ask, and when (RFC 7296 section 2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from math import inf
from typing import Protocol

from mobility.discards import Discard, Reason
from mobility.ipsec.ike.channel import Channel, Repeat
from mobility.ipsec.ike.children import Child, ChildState
from mobility.ipsec.ike.events import (
    ChildDown,
    ChildSwitched,
    ChildUp,
    IkeDown,
    IkeFailed,
    IkeRekeyed,
    IkeUp,
    Output,
    PeerMoved,
    Send,
)
from mobility.ipsec.ike.keying import IkeKeys
from mobility.ipsec.ike.message import Header, Message
from mobility.ipsec.ike.numbers import IKE_PORT, NON_ESP_MARKER, Exchange
from mobility.ipsec.ike.payloads import Identity, Payload
from mobility.ipsec.ike.proposals import Suite
from mobility.ipsec.ike.settings import Endpoint, Peer, Settings

Random = Callable[[int], bytes]
LINGER = 30.0
"Seconds for which an answer is given again after the end."
FORGOTTEN = 60.0
"Seconds that the other end has for deleting an IKE SA that another one has replaced."


class State(Enum):
    """Of an IKE SA."""

    INIT_SENT = auto()
    INTERMEDIATE_SENT = auto()
    AUTH_SENT = auto()
    HALF_OPEN = auto()
    "We have answered IKE_SA_INIT and do not know yet who it is."
    ESTABLISHED = auto()
    REPLACED = auto()
    "By a rekeyed one; it only waits for being deleted."
    DELETING = auto()
    LINGERING = auto()
    "It has ended; what was answered last is answered again for a while, in case the answer got lost."
    CLOSED = auto()


MOVES = {
    State.INIT_SENT: {State.INTERMEDIATE_SENT, State.AUTH_SENT, State.CLOSED},
    State.INTERMEDIATE_SENT: {State.AUTH_SENT, State.CLOSED},
    State.AUTH_SENT: {State.ESTABLISHED, State.DELETING, State.CLOSED},
    State.HALF_OPEN: {State.ESTABLISHED, State.LINGERING, State.CLOSED},
    State.ESTABLISHED: {State.REPLACED, State.DELETING, State.LINGERING, State.CLOSED},
    State.REPLACED: {State.DELETING, State.LINGERING, State.CLOSED},
    State.DELETING: {State.LINGERING, State.CLOSED},
    State.LINGERING: {State.CLOSED},
    State.CLOSED: set[State](),
}
"All that may follow a state."


class Task(Protocol):
    """A request of ours on an established IKE SA, which waits for its turn (the window is one)."""

    def request(self, sa: IkeSa, now: float) -> tuple[Exchange, list[Payload]] | None:
        """What to send; None: there is no need any more."""

    def response(self, sa: IkeSa, message: Message, now: float) -> None:
        """What the other end says to it; a message without payloads if nothing of it could be read."""


@dataclass(slots=True)
class Context:
    """What all IKE SAs of an endpoint share."""

    settings: Settings
    random: Random
    utc: Callable[[], datetime]
    esp_spi: Callable[[], int]
    "A new SPI for what we receive."
    out: list[Output] = field(default_factory=list)
    sas: dict[bytes, IkeSa] = field(default_factory=dict)
    "By our SPI."
    touched: list[IkeSa] = field(default_factory=list)
    "Whose alarms may be others than before."

    def ike_spi(self) -> bytes:
        """A new SPI of ours."""
        while True:
            spi = self.random(8)
            if spi not in self.sas and any(spi):
                return spi

    def moment(self, lifetime: float, now: float) -> float:
        """When to rekey what lives so long: early enough, and hardly ever when the other end does."""
        early = lifetime * self.settings.rekey_early
        return now + lifetime - early + early / 2 * int.from_bytes(self.random(2), "big") / 65536


@dataclass(slots=True)
class Handshake:
    """What is only needed until both ends are authenticated."""

    nonce_i: bytes = b""
    nonce_r: bytes = b""
    message_i: bytes = b""
    "IKE_SA_INIT, as it went over the wire."
    message_r: bytes = b""
    intermediate_i: bytes = b""
    "IntAuth_i so far (RFC 9242)."
    intermediate_r: bytes = b""
    peer_hashes: tuple[int, ...] = ()
    tampered: str = ""
    "What somebody who need not be the peer has answered."


class IkeSa:
    """One IKE SA. Its exchanges are in `initiation`, `acceptance`, `tasks` and `serving`."""

    def __init__(
        self,
        context: Context,
        channel: Channel,
        state: State,
        local: Endpoint,
        remote: Endpoint,
        peer: Peer | None,
    ) -> None:
        self.context = context
        self.channel = channel
        self._state = state
        self.local = local
        self.remote = remote
        self.peer = peer
        self.handshake = Handshake()
        self.established = False
        "It is, or was."
        self.told = False
        "Its owner knows of it."
        self.suite: Suite | None = None
        self.keys: IkeKeys | None = None
        self.nonces = b""
        "Ni | Nr of the exchange that made it."
        self.remote_identity: Identity | None = None
        self.certificates: list[bytes] = []
        "With which the other end has shown who it is (DER), its own first."
        self.born = 0.0
        "When its first message was sent, or came."
        self.since = inf
        "When it was established."
        self.beginner = (local if channel.initiator else remote).address
        "Of whoever began it, whoever has rekeyed it since."
        self.only = False
        "Who began it had no other one with the other end (INITIAL_CONTACT)."
        self.mobike = False
        self.nat_here = False
        "There is a NAT in front of us."
        self.nat_there = False
        self.children: dict[int, Child] = {}
        "By inbound SPI."
        self.tasks: deque[Task] = deque()
        self.later: list[tuple[float, Task]] = []
        self.doing: Task | None = None
        self.successor: IkeSa | None = None
        self.rival: IkeSa | None = None
        "What the other end made of a rekey at the same time as ours."
        self.lowest_nonce = b""
        self.heard = 0.0
        self.sent = 0.0
        self.rekey_at: float | None = None
        self.expires_at: float | None = None
        self.reason = ""
        "Why it is being deleted."

    # ------------------------------------------------------------ what it is

    @property
    def state(self) -> State:
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if state not in MOVES[self._state]:
            raise ValueError(f"an IKE SA does not go from {self._state.name} to {state.name}")
        self._state = state

    @property
    def initiator(self) -> bool:
        return self.channel.initiator

    @property
    def spi(self) -> bytes:
        """Ours."""
        return self.channel.initiator_spi if self.initiator else self.channel.responder_spi

    @property
    def name(self) -> str:
        """Both SPIs."""
        return f"{self.channel.initiator_spi.hex()}_{self.channel.responder_spi.hex()}"

    @property
    def peer_name(self) -> str:
        return "somebody" if self.peer is None else self.peer.name

    @property
    def agreed(self) -> tuple[Suite, IkeKeys]:
        """Suite and keys. Raises `Discard` IKE_UNEXPECTED: there are none yet."""
        if self.suite is None or self.keys is None:
            raise Discard(Reason.IKE_UNEXPECTED, "no keys yet")
        return self.suite, self.keys

    @property
    def known(self) -> Peer:
        """Who the other end is. Raises `Discard` IKE_UNEXPECTED: nobody knows yet."""
        if self.peer is None:
            raise Discard(Reason.IKE_UNEXPECTED, "before IKE_AUTH")
        return self.peer

    @property
    def encapsulated(self) -> bool:
        """Whether ESP goes in datagrams."""
        return self.nat_here or self.nat_there or self.context.settings.encapsulate

    # ------------------------------------------------------------ sending

    def transmit(self, datagrams: Iterable[bytes], now: float) -> None:
        """Datagrams to the other end, with a marker unless both ends are at port 500."""
        self.sent = now
        self.context.touched.append(self)
        marker = b"" if self.local.port == IKE_PORT else NON_ESP_MARKER
        self.context.out += [Send(marker + data, self.local, self.remote) for data in datagrams]

    def ask(self, exchange: Exchange, payloads: Iterable[Payload], now: float) -> bytes:
        """Sends our next request; returns what AUTH covers of it."""
        datagrams, covered = self.channel.request(exchange, payloads, now)
        self.transmit(datagrams, now)
        return covered

    def answer(self, request: Header, payloads: Iterable[Payload], now: float) -> bytes:
        """Answers a request; returns what AUTH covers of the answer."""
        datagrams, covered = self.channel.answer(request, payloads)
        self.transmit(datagrams, now)
        return covered

    def repeat(self, again: Repeat, now: float) -> None:
        self.transmit(again.datagrams, now)

    def tell(self, event: Output) -> None:
        self.context.out.append(event)

    # ------------------------------------------------------------ our requests, one after the other

    def enqueue(self, task: Task, now: float, *, first: bool = False, after: float = 0.0) -> None:
        """A request when its turn comes; ``after``: not before so many seconds."""
        if after:
            self.later.append((now + after, task))
        elif first:
            self.tasks.appendleft(task)
        else:
            self.tasks.append(task)
        self.proceed(now)

    def proceed(self, now: float) -> None:
        """Sends the next request that waits, if there is room in the window."""
        while self.doing is None and self.tasks and self.state in (State.ESTABLISHED, State.REPLACED, State.DELETING):
            task = self.tasks.popleft()
            wanted = task.request(self, now)
            if wanted is not None:
                self.doing = task
                self.ask(wanted[0], wanted[1], now)

    def responded(self, message: Message, now: float) -> None:
        """The answer to what is under way."""
        task, self.doing = self.doing, None
        if task is not None:
            task.response(self, message, now)
        self.proceed(now)

    # ------------------------------------------------------------ its life

    def establish(self, now: float, address: str | None = None) -> None:
        """Both ends are authenticated."""
        self.state = State.ESTABLISHED
        self.established = self.told = True
        self.since = now
        suite, _ = self.agreed
        self.begin_life(now)
        self.tell(IkeUp(self.peer_name, self.name, self.remote, suite.describe(), address))

    def begin_life(self, now: float) -> None:
        """Sets the alarms of a new IKE SA."""
        lifetime = self.context.settings.lifetime
        self.heard = now
        self.rekey_at, self.expires_at = self.context.moment(lifetime, now), now + lifetime

    def close(self, reason: str) -> None:
        """Ends it at once, without another word to the other end."""
        if self.state is State.CLOSED:
            return
        if self.state is not State.LINGERING:
            self._end(reason)
        self.state = State.CLOSED
        self.context.sas.pop(self.spi, None)

    def linger(self, reason: str, now: float) -> None:
        """Ends it, and only answers again what it has answered last."""
        self._end(reason)
        self.state = State.LINGERING
        self.rekey_at, self.expires_at = None, now + LINGER

    def _end(self, reason: str) -> None:
        for child in list(self.children.values()):
            self.remove(child, reason)
        self.tasks.clear()
        self.later.clear()
        self.doing = None
        self.channel.outstanding = None
        if self.told and self.successor is None:
            self.tell(IkeDown(self.peer_name, self.name, reason))
        elif not self.established and (self.initiator or self.peer is not None):
            self.tell(IkeFailed(self.peer_name, self.remote, reason))

    def replace(self, new: IkeSa, now: float) -> None:
        """A rekeyed IKE SA inherits all that is here (RFC 7296 section 2.8)."""
        self.successor, new.told = new, True
        self.context.touched.append(new)
        new.born, new.since, new.beginner, new.only = self.born, self.since, self.beginner, self.only
        new.certificates = self.certificates
        new.children = self.children
        self.children = {}
        new.later += self.later
        new.tasks.extend(task for task in self.tasks if not getattr(task, "only_here", False))
        self.tasks.clear()
        self.later.clear()
        self.rekey_at = None
        self.expires_at = now + FORGOTTEN
        self.tell(IkeRekeyed(self.peer_name, self.name, new.name))
        new.proceed(now)

    # ------------------------------------------------------------ child SAs

    def install(self, child: Child, *, send: bool, replaces: Child | None = None) -> None:
        """A child SA that was agreed."""
        self.children[child.sa.inbound_spi] = child
        child.sending, child.told = send, True
        self.tell(ChildUp(self.peer_name, child.sa, send, None if replaces is None else replaces.sa))
        if replaces is not None:
            replaces.successor = child
            if send:
                replaces.sending = False

    def by_outbound(self, spi: bytes) -> Child | None:
        """The child SA whose other half has this SPI: what the other end names it by."""
        number = int.from_bytes(spi, "big")
        everywhere = [*self.children.values(), *(() if self.successor is None else self.successor.children.values())]
        return next((child for child in everywhere if child.sa.outbound_spi == number), None)

    def retire(self, child: Child, reason: str, now: float) -> None:
        """Both ends have agreed to end a child SA; if it was replaced, what is on its way is still taken."""
        follower = child.successor
        while follower is not None and follower.state in (ChildState.GONE, ChildState.RETIRED):
            follower = follower.successor
        if child.sending and follower is not None and not follower.sending:
            follower.sending = True
            self.tell(ChildSwitched(self.peer_name, follower.sa))
        child.sending = False
        if follower is None:
            self.remove(child, reason)
        elif child.state is not ChildState.RETIRED:
            child.state = ChildState.RETIRED
            child.closes_at = now + self.context.settings.grace

    def remove(self, child: Child, reason: str) -> None:
        """Ends a child SA at once."""
        for sa in (self, self.successor):
            if sa is not None and sa.children.pop(child.sa.inbound_spi, None) is not None:
                child.state = ChildState.GONE
                if child.told:
                    self.tell(ChildDown(self.peer_name, child.sa, reason))

    def follow(self, local: Endpoint, remote: Endpoint) -> None:
        """The other end is, or we are, somewhere else."""
        if (local, remote) != (self.local, self.remote):
            moved = remote != self.remote
            self.local, self.remote = local, remote
            if moved and self.state is State.ESTABLISHED:
                self.tell(PeerMoved(self.peer_name, self.name, remote))

    # ------------------------------------------------------------ time

    @property
    def timer(self) -> float | None:
        """When something is due."""
        due = [self.channel.timer, self.expires_at]
        due += [when for when, _ in self.later]
        due += [when for child in self.children.values() for when in child.alarms]
        if self.state is State.ESTABLISHED and self.told:
            due.append(self.rekey_at)
            if self.doing is None:
                due.append(self.heard + self.context.settings.dead_peer_after)
            if self.nat_here:
                due.append(self.sent + self.context.settings.keepalive)
        return min((when for when in due if when is not None), default=None)
