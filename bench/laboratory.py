"""The real thing to measure: the test network with home agent, correspondent and a bound terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobility.client import ControlClient
from sip_test_env.mobility_nodes import MobilityNodes, Terminal
from sip_test_env.movements import Movements, bound
from sip_test_env.network import TestNetwork
from sip_test_env.plan import BASIC, Extension


@dataclass(frozen=True, slots=True)
class Laboratory:
    network: TestNetwork
    nodes: MobilityNodes
    movements: Movements


@contextlib.asynccontextmanager
async def laboratory(
    instance: str,
    tunnel: str = "esp",
    *,
    terminal: Terminal | None = None,
    plugged: Mapping[str, str] | None = None,
    route_optimization: str = "never",
    extension: Extension = BASIC,
    prepare: Callable[[TestNetwork, MobilityNodes], None] = lambda _network, _nodes: None,
) -> AsyncIterator[Laboratory]:
    """Up for the time of the block; ``plugged``: interface -> link; ``route_optimization``: as configured; ``prepare``:
    runs before the mobility processes are started.

    Raises RuntimeError without root.
    """
    if os.geteuid() != 0:
        raise RuntimeError("needs root to make network namespaces; use `make bench` or sudo")
    with TestNetwork(instance, extension=extension) as network:
        for interface, link in (plugged or {}).items():
            network.move(link, interface)
        nodes = MobilityNodes(network, tunnel, terminal=terminal)
        _add(nodes.configurations["mn"], "[mobile_node]\n", f'route_optimization = "{route_optimization}"\n')
        prepare(network, nodes)
        nodes.start()
        control = nodes.runtime("mn") / "control.sock"
        await bound(control)
        async with Movements.follow(control) as movements:
            yield Laboratory(network, nodes, movements)
            nodes.stop()


async def data_plane(runtime: Path) -> int:
    """Id of the process that packets of a running role pass."""
    async with ControlClient(runtime / "control.sock") as client:
        status: dict[str, Any] = await client.status()
    return int(status["process"]["pid"])


def _add(configuration: Path, table: str, line: str) -> None:
    text = configuration.read_text()
    configuration.write_text(text.replace(table, table + line))
