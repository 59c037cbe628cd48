"""What happens to frames and datagrams under way in the simulated world: delay, loss and so on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobility.net.memory import World


@dataclass(eq=False)
class Impaired:
    """Anything in the world that carries something. The parameters may be changed at any time; they hold for what is
    sent from then on."""

    world: World
    name: str
    delay: float = 0.0005
    "Seconds from sender to receiver."
    jitter: float = 0.0
    "Up to so many seconds more, at random, without changing the order."
    loss: float = 0.0
    "Probability for each frame and receiver; likewise the next two."
    duplication: float = 0.0
    reordering: float = 0.0
    "Such a frame is held back by ``reordering_delay``, so that later ones overtake it."
    reordering_delay: float = 0.01
    mtu: int = 1500
    "Octets of IP packet that go through in one piece."
    capturing: bool = True
    "False: nothing is kept of what was sent, for runs of many packets."
    lost: int = 0
    _latest: dict[object, float] = field(default_factory=dict)
    "When the latest in order arrives, by receiver; a later one must not overtake it by jitter alone."

    def arrivals(self, receiver: object) -> Iterator[float]:
        """When something that is sent now arrives: never, once, or twice."""
        world, dice = self.world, self.world.dice
        if dice.random() < self.loss:
            self.lost += 1
            return
        for _ in range(2 if dice.random() < self.duplication else 1):
            when = world.now + self.delay + self.jitter * dice.random()
            if dice.random() < self.reordering:
                when += self.reordering_delay
            else:
                self._latest[receiver] = when = max(when, self._latest.get(receiver, 0.0))
            yield when
