"""The domain of a MAP: the terminal moves among its three access routers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from mobility.client import ControlClient
from sip_test_env.domain import TYPES, Domain
from sip_test_env.extensions.hmip import DOMAIN, HMIP, MAP
from sip_test_env.movements import Movements
from sip_test_env.scenes.scene import Scene, Settings


class HmipScene(Scene):
    extension = HMIP
    building = "Kamailio, routers, home link, the domain of a MAP with three access routers"
    whose = "terminal, MAP"

    domain: Domain

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.map_type not in TYPES:
            raise ValueError(f"--map-type is one of {', '.join(map(str, TYPES))}")
        self._sequence = 0

    def build(self, stack: ExitStack) -> None:
        super().build(stack)
        self.network.move(DOMAIN[0].name)

    def configure(self) -> None:
        super().configure()
        self.domain = Domain(self.nodes, self.settings.map_type, self.settings.map_tunnel)

    def start(self, stack: ExitStack) -> None:
        self.domain.start()
        super().start(stack)

    async def ready(self) -> str:
        await super().ready()
        self._sequence = await self._last_update()
        plan, place = self.plan, DOMAIN[0].name
        return (
            f"the terminal is bound: {plan.home_address} is reachable in {place} through {plan.home_agent},"
            f" and {MAP} knows where it is (type {self.settings.map_type})"
        )

    async def move(self, number: int) -> tuple[str, str, float]:
        """The ``number``-th movement: to the next access router."""
        moved = self.network.move(DOMAIN[(number + 1) % len(DOMAIN)].name)
        return str(moved.source), moved.target, moved.cut

    async def moved(self, movements: Movements, moment: float) -> float:
        """With types 1 and 2 it is the MAP's acknowledgement that counts, with type 3 the home agent's."""
        if self.settings.map_type == 3:
            return await movements.bound_after(moment)
        return (await movements.after(moment, "MapBound"))[0]

    async def complaints(self) -> list[str]:
        heard, moves = await self._heard(), self.settings.handovers
        expected = moves if self.settings.map_type == 3 else 0
        if heard == expected:
            return []
        return [f"the home agent heard {heard} binding updates during the call, and not {expected}"]

    async def facts(self) -> list[str]:
        seen = (await self._heard(), self.settings.handovers)
        return [
            f"MAP type {self.settings.map_type}: the home agent heard {seen[0]} binding updates of {seen[1]} movements"
        ]

    async def _heard(self) -> int:
        return (await self._last_update() - self._sequence) & 0xFFFF

    async def _last_update(self) -> int:
        """Number of the last binding update that the home agent accepted."""
        async with ControlClient(self.nodes.runtime("ha") / "control.sock") as control:
            status: dict[str, Any] = await control.status()
        (row,) = status["node"]["binding_cache"]
        return int(row["sequence"])
