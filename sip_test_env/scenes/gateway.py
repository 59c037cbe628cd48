"""An enterprise behind a TLS gateway (Fig. 38): the terminal's phone registers and is called through TLS inside TLS.

The outer session goes by way of the access network, from the guest side as in Fig. 39, so that each movement breaks it;
the phone's own session inside goes on.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobility.client import ControlClient
from mobility.gateway.process import SOCKET
from sip_test_env.agents import PhoneProcess
from sip_test_env.extensions.gateway import GATEWAY
from sip_test_env.gateway_node import GatewayNode
from sip_test_env.mobility_nodes import Terminal
from sip_test_env.movements import Movements
from sip_test_env.plan import CABLES, WIFI
from sip_test_env.report import PESQ_MARGIN_UNPRIVILEGED
from sip_test_env.scenes.scene import Scene, Settings


class GatewayScene(Scene):
    extension = GATEWAY
    building = "an enterprise with Kamailio, home network and correspondent behind a TLS gateway, and two visited links"
    whose = "terminal, gateway"
    captured = CABLES[WIFI].port
    pesq_margin = PESQ_MARGIN_UNPRIVILEGED  # the laptop's kernel has to find its addresses first; sound is stretched

    gateway: GatewayNode

    def __init__(self, settings: Settings) -> None:
        super().__init__(replace(settings, transport="tls"))

    def build(self, stack: ExitStack) -> None:
        super().build(stack)
        self.network.move(self.plan.visited_a.name, WIFI)

    def terminal(self) -> Terminal:
        return Terminal.laptop()

    def configure(self) -> None:
        super().configure()
        self.gateway = GatewayNode(self.network)
        log = "" if self.settings.capture is None else f'key_log = "{self._outer_keys}"'
        with self.nodes.configurations["mn"].open("a") as file:
            file.write(self.gateway.access("network", extra=log))

    def start(self, stack: ExitStack) -> None:
        stack.callback(self.gateway.stop)
        self.gateway.start()
        super().start(stack)

    async def ready(self) -> str:
        async with ControlClient(self._socket) as client:
            await client.subscribe()
            if (await self._session(client))["state"] != "open":
                async for event in client.events():
                    if event["event"] == "SessionOpened":
                        break
        return f"{await super().ready()}; TLS session with the gateway stands"

    def terminals_phone(self) -> PhoneProcess:
        environment = {}
        if self.settings.capture is not None:
            os.close(os.open(self._inner_keys, os.O_WRONLY | os.O_CREAT, 0o600))
            environment["SSLKEYLOGFILE"] = str(self._inner_keys)
        return PhoneProcess("terminal's phone", self.network.directory / "phone-mn.log", environment=environment)

    def proxy(self, role: str) -> str | None:
        """The terminal's phone knows a name that no name server knows."""
        plan = self.plan
        return f"sip:{plan.sip_domain}:{plan.sips_port};transport=tls;lr" if role == "mn" else None

    def keys(self, capture: Path) -> list[Path]:
        secrets = capture.with_name(capture.name + ".tls_keys")
        secrets.unlink(missing_ok=True)
        secrets.touch(mode=0o600)
        secrets.write_text(self._outer_keys.read_text() + self._inner_keys.read_text())
        return [*super().keys(capture), secrets]

    async def move(self, number: int) -> tuple[str, str, float]:
        moved = self.network.move("visited-b" if number % 2 == 0 else "visited-a", WIFI)
        return str(moved.source), moved.target, moved.cut

    async def moved(self, movements: Movements, moment: float) -> float:
        return await movements.bound_after(moment)

    async def complaints(self) -> list[str]:
        async with ControlClient(self._socket) as client:
            session, recent = await self._session(client), await client.recent()
        found = []
        opened = [event for event in recent if event["event"] == "SessionOpened"]
        if session["state"] != "open" or len(opened) <= self.settings.handovers:
            found.append(f"the session with the gateway was made {len(opened)} times, and is {session['state']}")
        if broken := [event for event in recent if event["event"] == "TunnelBroken"]:
            found.append(f"a connection through the gateway broke: {broken[0]['why']}")
        if sum(event["event"] == "TunnelOpened" for event in recent) != 1:
            found.append("the phone did not keep its one connection to the proxy")
        return found

    @property
    def _socket(self) -> Path:
        return self.nodes.runtime("mn") / SOCKET

    @property
    def _outer_keys(self) -> Path:
        return self.network.directory / "outer.keys"

    @property
    def _inner_keys(self) -> Path:
        return self.network.directory / "inner.keys"

    async def _session(self, client: ControlClient) -> dict[str, Any]:
        status: dict[str, Any] = await client.status()
        (session,) = status["gateways"]
        return dict(session)
