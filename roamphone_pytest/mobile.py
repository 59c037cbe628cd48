"""A home network, visited networks and a terminal that moves between them: the test network with its three mobility
processes, for all tests of a session.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv6Network, ip_address
from typing import Any

from mobility.client import ControlClient
from roamphone_pytest import needs
from roamphone_pytest.recorder import Recorder
from roamphone_pytest.stage import IN_TIME, Stage
from sip_test_env import namespace
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.network import TestNetwork
from softphone.config import Account
from softphone.events import Handover
from softphone.media.keying import SrtpMode
from softphone.network.sockets import DirectSockets
from softphone.phone import Softphone
from softphone.sip.transport import Transport

NODE = "proxy"
"Where the phones live that do not move: beside Kamailio."


class NamespaceSockets(DirectSockets):
    """Sockets in a network namespace, for a phone that is not in it."""

    def __init__(self, name: str, *addresses: str) -> None:
        super().__init__(*addresses)
        self._namespace = name

    def _make(self, host: str, port: int, kind: Any) -> Any:
        return namespace.run_in(self._namespace, partial(super()._make, host, port, kind))


class StandingNetwork:
    """The network and its processes; the terminal is ``mn``, with Mobile IPv6 itself and one interface."""

    def __init__(self, network: TestNetwork, nodes: MobilityNodes) -> None:
        self.network = network
        self.nodes = nodes

    def reset(self) -> None:
        """As at the beginning: the terminal is in ``visited-a``, nobody is registered."""
        plan = self.network.plan
        if self.network.location != plan.visited_a.name:
            self.network.move(plan.visited_a.name)
        for user in plan.users:
            self.network.run(NODE, ["kamcmd", "-s", self._control, "ul.rm", "location", user])
        asyncio.run(self._away(plan.visited_a.prefix))

    async def _away(self, prefix: IPv6Network) -> None:
        """Until the home agent knows an address of the terminal there. Raises `EnvironmentFailure`."""
        deadline = time.monotonic() + IN_TIME
        async with ControlClient(self.nodes.runtime("mn") / "control.sock") as client:
            while time.monotonic() < deadline:
                status: Any = await client.status()
                terminal = status["node"]["mobile_node"]
                present = terminal["movement"]["present"]
                there = present is not None and ip_address(present["address"]) in prefix
                if there and terminal["registration"]["state"] == "bound" and not terminal["handover_under_way"]:
                    return
                await asyncio.sleep(0.02)
        raise EnvironmentFailure(
            f"the terminal has not arrived in {prefix} within {IN_TIME:g} s; its log:\n"
            f"{self.nodes.log('mn').read_text(errors='replace')[-1500:]}"
        )

    @property
    def _control(self) -> str:
        return f"unix:{self.network.directory}/kamailio/ctl"


class SipNetwork(Stage):
    """One test's view of the network. Users are "6001" to "6004"."""

    def __init__(self, standing: StandingNetwork, recorder: Recorder) -> None:
        super().__init__(recorder)
        self.network = standing.network
        "For what else can happen to a network: `TestNetwork.impair`, `set_access`..."
        self.nodes = standing.nodes

    @property
    def domain(self) -> str:
        return self.network.plan.sip_domain

    def phone(self, user: str, transport: Transport = Transport.UDP, **settings: Any) -> Softphone:
        """One that does not move, in the provider's network. SRTP is mandatory unless ``settings`` say otherwise."""
        plan = self.network.plan
        sockets = NamespaceSockets(plan.namespace(NODE), str(plan.proxy))
        account = self._account(user, transport, {"local_host": str(plan.proxy), **settings})
        return self.recorder.phone(account, sockets)

    def mobile_phone(self, user: str, transport: Transport = Transport.UDP, **settings: Any) -> Softphone:
        """One on the terminal, at its home address: calls go on when the terminal moves."""
        return self.recorder.phone(self._account(user, transport, settings), mobility=self.nodes.runtime("mn"))

    async def move(self, phone: Softphone, link: str) -> Handover:
        """Pull the terminal's cable and plug it in elsewhere: ``home``, ``visited-a``, ``visited-b``.

        ``phone`` is one of the terminal, entered. Returns when packets flow again. Raises TimeoutError,
        `EnvironmentFailure`, ValueError for a link that does not exist.
        """
        events = phone.events()
        try:
            await asyncio.to_thread(self.network.move, link)
            return await events.wait_for(Handover, IN_TIME)
        finally:
            events.close()

    def _account(self, user: str, transport: Transport, settings: dict[str, Any]) -> Account:
        plan, known = self.network.plan, self.network.account(user)
        port = plan.sips_port if transport is Transport.TLS else plan.sip_port
        return Account(**{
            "user": known.user, "domain": known.domain, "password": known.password, "transport": transport,
            "outbound_proxy": f"sip:[{plan.proxy}]:{port};transport={transport};lr",
            "ca_file": self.network.ca_file, "srtp": SrtpMode.MANDATORY, **settings,
        })  # fmt: skip


@contextmanager
def standing_network(tunnel: str = "esp") -> Iterator[StandingNetwork]:
    """``tunnel``: form of the mobile tunnel. Raises `needs.Missing`, `EnvironmentFailure`."""
    needs.require(needs.NETWORK, root=True)
    with TestNetwork(f"pytest-{os.getpid()}-{time.monotonic_ns() % 10_000}") as network:
        nodes = MobilityNodes(network, tunnel)
        try:
            nodes.start()
            yield StandingNetwork(network, nodes)
        finally:
            nodes.stop()
