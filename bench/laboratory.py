"""The real thing to measure: the test network with home agent, correspondent and a bound terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sip_test_env.mobility_nodes import MobilityNodes, Terminal
from sip_test_env.movements import Movements, bound
from sip_test_env.network import TestNetwork


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
) -> AsyncIterator[Laboratory]:
    """Up for the time of the block; ``plugged``: interface -> link; ``route_optimization``: as configured.

    Raises RuntimeError without root.
    """
    if os.geteuid() != 0:
        raise RuntimeError("needs root to make network namespaces; use `make bench` or sudo")
    with TestNetwork(instance) as network:
        for interface, link in (plugged or {}).items():
            network.move(link, interface)
        nodes = MobilityNodes(network, tunnel, terminal=terminal)
        _add(nodes.configurations["mn"], "[mobile_node]\n", f'route_optimization = "{route_optimization}"\n')
        nodes.start()
        control = nodes.runtime("mn") / "control.sock"
        await bound(control)
        async with Movements.follow(control) as movements:
            yield Laboratory(network, nodes, movements)
            nodes.stop()


def _add(configuration: Path, table: str, line: str) -> None:
    text = configuration.read_text()
    configuration.write_text(text.replace(table, table + line))
