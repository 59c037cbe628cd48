"""A call of a terminal in a train that moves, and of one that walks through the train (Figs. 34 and 36)."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

from sip_test_env import cables, namespace
from sip_test_env.echoes import Echoes, echo_socket
from sip_test_env.extensions.nemo import CARRIAGE, NEMO, ROUTERS, SEAT, TRAIN, TRAINS_CABLE, wait_for_seat
from sip_test_env.mobile_routers import MobileRouters
from sip_test_env.movements import Movements, bound
from sip_test_env.plan import Extension
from sip_test_env.scenes.scene import Scene


class NemoScene(Scene):
    extension: ClassVar[Extension] = NEMO
    building: ClassVar[str] = "Kamailio, routers, home link, two visited links; a train with two networks in it"
    captured = TRAINS_CABLE.port
    whose = "terminal, and the routers of the train"

    routers: MobileRouters

    def configure(self) -> None:
        super().configure()
        self.routers = MobileRouters(self.nodes)

    @property
    def controls(self) -> tuple[Path, ...]:
        return (self.control, *(self.routers.runtime(name) / "control.sock" for name in ROUTERS))

    def start(self, stack: ExitStack) -> None:
        self.network.move(TRAIN.name)
        stack.callback(self.routers.stop)
        stack.callback(self.nodes.stop)
        self.nodes.start("ha", "cn")
        self.routers.start()
        self.nodes.start("mn")
        self.seat = wait_for_seat(self.plan)

    async def ready(self) -> str:
        for control in self.controls:
            await bound(control)
        plan = self.plan
        # All the time, through every movement: one lost echo says that the network behind the router was gone.
        self._echoes = Echoes(namespace.run_in(plan.namespace(SEAT), echo_socket), plan.proxy)
        return (
            f"the terminal is bound: {plan.home_address} is reachable in the train, which is in visited-a, "
            f"through {plan.home_agent}; an ordinary host in the train has the address {self.seat}"
        )

    async def move(self, number: int) -> tuple[str, str, float]:
        """First the train moves on; then the terminal walks to the other network of the train; and so on."""
        if number % 2 == 0:
            moved = cables.move(self.plan, TRAINS_CABLE, "visited-b" if number % 4 == 0 else "visited-a")
            return f"the train in {moved.source}", moved.target, moved.cut
        moved = self.network.move(CARRIAGE.name if number % 4 == 1 else TRAIN.name)
        return str(moved.source), moved.target, moved.cut

    async def moved(self, movements: Movements, moment: float) -> float:
        # Whoever moved registers; nobody else in the train does, or the movement was noticed.
        return await movements.bound_after(moment)

    async def complaints(self) -> list[str]:
        sent, answered = await self._echoes.end()
        if sent < 10 or answered < sent:
            return [f"the ordinary host in the train: {answered} of {sent} echo requests were answered"]
        return []

    def keys(self, capture: Path) -> list[Path]:
        tables = super().keys(capture)
        self.routers.esp_sa(tables[0])
        return tables
