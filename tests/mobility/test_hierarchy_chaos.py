"""Two minutes of everything that can happen to a terminal among MAPs, in random order; then all is well again."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.mobility.domain import MAP, MAP2, DomainNetwork, option

STEPS = 40


class Chaos:
    """What can happen."""

    def __init__(self, kind: int, seed: int) -> None:
        self.dice = Random(seed)
        self.kind = kind
        self.network = network = DomainNetwork(kind, seed=seed)
        network.tell("r-c", option(kind, MAP2))
        network.start_agent()
        network.plug(network.a)
        network.run(3)
        self.plugged = self.joined = False
        self.map_lives = True

    def move(self) -> None:
        network = self.network
        place = self.dice.choice([network.a, network.b, network.c, network.home])
        network.move(place, gap=self.dice.choice([0.0, 0.0, 0.05, 0.5]))
        network.run(0.6)

    def second_interface(self) -> None:
        network = self.network
        if self.plugged:
            network.world.detach("mn", "wlan1")
        else:
            network.plug(self.dice.choice([network.a, network.b, network.c]), "wlan1")
        self.plugged = not self.plugged

    def hotspot(self) -> None:
        network = self.network
        (network.part if self.joined else network.join)(network.hotspot)
        self.joined = not self.joined

    def map_dies_or_returns(self) -> None:
        if self.map_lives:
            self.network.world.remove("map")
        else:
            self.network.start_map("map", MAP, self.network.anchor)
        self.map_lives = not self.map_lives

    def router_says_otherwise(self) -> None:
        router, kind = self.dice.choice(["r-a", "r-b", "r-c"]), self.kind
        said = [
            (),
            (option(self.dice.randrange(1, 4)),),
            (option(kind, lifetime=0),),
            (option(kind), option(kind, MAP2)),
        ]
        self.network.tell(router, *self.dice.choice(said))
        self.network.advertise(router)

    def user_prefers(self) -> None:
        network = self.network
        link = self.dice.choice(["wlan0", "wlan1"])
        network.world.stations["mn"].carry_out(network.terminal.command(f"move {link}", network.world.now))

    def step(self) -> None:
        happenings: list[Callable[[], None]] = [
            *[self.move] * 3,
            self.second_interface,
            self.hotspot,
            self.map_dies_or_returns,
            self.router_says_otherwise,
            self.user_prefers,
        ]
        self.dice.choice(happenings)()
        self.network.run(self.dice.choice([0.2, 1.0, 3.0]))

    def order(self) -> None:
        """Everything is as it should be again."""
        network = self.network
        if not self.map_lives:
            self.map_dies_or_returns()
        for router in ("r-a", "r-b", "r-c"):
            network.tell(router, option(self.kind))
            network.advertise(router)
        network.move(network.b)
        network.run(150)


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_chaos_and_then_order(kind: int) -> None:
    chaos = Chaos(kind, seed=10 + kind)
    network = chaos.network
    network.talk(120)
    for _ in range(STEPS):
        chaos.step()
        timer = network.terminal.timer
        assert timer is None or timer >= network.world.now - 1e-6  # no alarm is forgotten, none rings for ever
    chaos.order()
    assert network.to_cn.repeated == network.to_mn.repeated == 0
    sent = len(network.to_cn.sent), len(network.to_mn.sent)
    network.talk(2)
    network.run(4)
    assert [number for number in network.to_cn.lost() if number >= sent[0]] == []
    assert [number for number in network.to_mn.lost() if number >= sent[1]] == []
    assert network.terminal.mobile_node.registration.bound
    below = network.terminal.parts.below
    assert below is not None
    assert below.regional.domain is not None
    assert below.regional.former is None
    assert below.regional.domain.anchor in (MAP, MAP2)
