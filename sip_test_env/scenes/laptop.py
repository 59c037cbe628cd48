"""The basic network; the terminal is the laptop of an ordinary user, between Wi-Fi and a hotspot."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

from sip_test_env.mobility_nodes import Terminal
from sip_test_env.plan import BROADBAND, HOME_AGENT_PORT, WIFI
from sip_test_env.report import PESQ_MARGIN_UNPRIVILEGED
from sip_test_env.scenes.scene import Scene
from sip_test_env.users import OrdinaryUser


class LaptopScene(Scene):
    pesq_margin = PESQ_MARGIN_UNPRIVILEGED
    captured = HOME_AGENT_PORT

    user: OrdinaryUser

    @property
    def sound(self) -> Path:
        return self.user.folder("sound")

    def build(self, stack: ExitStack) -> None:
        super().build(stack)
        self.user = stack.enter_context(OrdinaryUser())
        self.whose = f"terminal (of {self.user.name}, who is no administrator)"
        self.network.move(self.plan.visited_a.name, WIFI)

    def terminal(self) -> Terminal:
        return Terminal.laptop(self.user)

    async def move(self, number: int) -> tuple[str, str, float]:
        """Out of the Wi-Fi, where only the hotspot is left, and into another one.

        The new network is found before the old one goes; the time is that of the loss. A terminal that has lost an
        interface lately does not trust it at once when it is back, so it is the loss that makes it move.
        """
        hotspot = self.plan.hotspot.name
        wifi = self.network.location_of(WIFI)
        if wifi is not None:
            source, target, old = wifi, self.network.move(hotspot, BROADBAND), WIFI
        else:
            name = "visited-b" if number % 4 == 1 else "visited-a"
            source, target, old = hotspot, self.network.move(name, WIFI), BROADBAND
        await asyncio.sleep(0.5)
        return source, target.target, self.network.unplug(old)
