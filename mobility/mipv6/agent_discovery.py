"""Which home agents there are: how a terminal asks (RFC 6275 sections 5.3, 11.4.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from mobility.discards import Discard, Reason
from mobility.mipv6.home_agents_list import anycast
from mobility.outputs import Event, Output
from mobility.wire.mobile_icmp import HomeAgentsReply, HomeAgentsRequest

INITIAL_TIMEOUT = 3.0
"Seconds until the first repetition, then twice as many each time (INITIAL_DHAAD_TIMEOUT, section 12)."
RETRIES = 4
"Repetitions before it counts as failed (DHAAD_RETRIES, section 12)."
PAUSE = 256.0
"Seconds until it is tried anew after it failed; as long as the longest interval of binding updates is."
AGENTS_LIMIT = 16
"Home agents that are remembered of one reply."


@dataclass(frozen=True, slots=True)
class AskForHomeAgents(Event):
    """This message is to be sent from a care-of address, without a Home Address option."""

    to: IPv6Address
    care_of_address: IPv6Address
    message: HomeAgentsRequest


@dataclass(frozen=True, slots=True)
class HomeAgentsFound(Event):
    """The home link said which home agents it has; the first is to be asked for a binding first."""

    agents: tuple[IPv6Address, ...]


@dataclass(frozen=True, slots=True)
class HomeAgentsNotFound(Event):
    """Nobody at the home link answers; it is tried anew in some minutes."""

    prefix: IPv6Network


class AgentDiscovery:
    """Asks the anycast address of the home prefix until a reply comes; one request at a time.

    Nothing proves a reply but its identifier, and that only addresses of the home prefix are believed: whoever forges
    one gets a terminal to send binding updates to another node of its home link, which cannot answer under IPsec.
    """

    def __init__(self, prefix: IPv6Network, random: Callable[[int], bytes]) -> None:
        """Raises `ValueError`: the prefix is too long to have anycast addresses."""
        self.prefix = prefix
        self.agents: tuple[IPv6Address, ...] = ()
        "Of the last reply, best first, without those that `refused` the terminal."
        self._anycast = anycast(prefix)
        self._random = random
        self._care_of: IPv6Address | None = None
        self._identifier: int | None = None
        "Of the request that is not answered yet."
        self._sent = 0
        self._fruitless = 0
        "So many replies in a row named nobody who serves."
        self._at: float | None = None

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return self._at

    @property
    def asking(self) -> bool:
        """Whether a reply is waited for."""
        return self._identifier is not None

    def begin(self, care_of: IPv6Address, now: float) -> list[Output]:
        """Asks from this address; also after a move. What is under way goes on with its intervals, from there."""
        if self.asking and care_of == self._care_of:
            return []
        self._care_of = care_of
        if self._identifier is None:
            self._sent = 0
        return self._ask(now)

    def stop(self) -> None:
        """There is no care-of address, or no more need to know."""
        self._care_of, self._identifier, self._at = None, None, None

    def accepted(self) -> None:
        """A home agent serves: nobody is asked until it is `refused`."""
        self._fruitless = 0
        self.stop()

    def expects(self, reply: HomeAgentsReply) -> bool:
        """Whether this answers the request that is under way."""
        return self._identifier is not None and reply.identifier == self._identifier

    def handle_timer(self, now: float) -> list[Output]:
        """Repeats the request, gives up, begins anew."""
        if self._at is None or self._at > now:
            return []
        if self._identifier is not None and self._sent > RETRIES:
            self._identifier, self._at = None, now + PAUSE
            return [HomeAgentsNotFound(self.prefix)]
        if self._identifier is None:
            self._sent = 0
        return self._ask(now)

    def receive(self, reply: HomeAgentsReply, destination: IPv6Address, now: float) -> list[Output]:
        """A reply with a right checksum, to this address of ours. Raises `Discard`: it was not asked for."""
        if self._identifier is None or destination != self._care_of or reply.identifier != self._identifier:
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"home agents reply {reply.identifier:#06x}, not asked for")
        known = tuple(dict.fromkeys(agent for agent in reply.agents if agent in self.prefix))
        agents = tuple(agent for agent in known if agent != self._anycast)[:AGENTS_LIMIT]
        if not agents:
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"home agents reply without an address in {self.prefix}")
        self.agents = agents
        self._identifier, self._at = None, None
        return [HomeAgentsFound(agents)]

    def refused(self, agent: IPv6Address, now: float, care_of: IPv6Address | None = None) -> list[Output]:
        """This home agent does not serve, or does not answer: the next one; after the last, the link is asked anew.

        ``care_of``: where the terminal is, if it may have moved since it asked last.
        """
        if not self.asking and care_of is not None:
            self._care_of = care_of
        self.agents = tuple(each for each in self.agents if each != agent)
        if self.agents or self.asking or self._care_of is None or self._at is not None:
            return []
        # Not at once, and later each time: agents that all refuse would be asked without end.
        self._at = now + min(INITIAL_TIMEOUT * 2.0**self._fruitless, PAUSE)
        self._fruitless = min(self._fruitless + 1, 8)
        return []

    def _ask(self, now: float) -> list[Output]:
        care_of = self._care_of
        if care_of is None:
            return []
        self._identifier = int.from_bytes(self._random(2))
        self._at = now + INITIAL_TIMEOUT * 2.0 ** min(self._sent, RETRIES)
        self._sent += 1
        return [AskForHomeAgents(self._anycast, care_of, HomeAgentsRequest(self._identifier))]

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "anycast": str(self._anycast),
            "asking": self.asking,
            "requests": self._sent,
            "agents": [str(agent) for agent in self.agents],
            "next_seconds": None if self._at is None else round(self._at - now, 1),
        }
