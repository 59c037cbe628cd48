"""The real thing to measure: the test network with home agent, correspondent and a bound terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sip_test_env.demo import Movements, bound
from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.network import TestNetwork


@dataclass(frozen=True, slots=True)
class Laboratory:
    network: TestNetwork
    nodes: MobilityNodes
    movements: Movements


@contextlib.asynccontextmanager
async def laboratory(instance: str, tunnel: str = "esp") -> AsyncIterator[Laboratory]:
    """Up for the time of the block. Raises RuntimeError without root."""
    if os.geteuid() != 0:
        raise RuntimeError("needs root to make network namespaces; use `make bench` or sudo")
    with TestNetwork(instance) as network:
        nodes = MobilityNodes(network, tunnel)
        nodes.start()
        control = nodes.runtime("mn") / "control.sock"
        await bound(control)
        async with Movements.follow(control) as movements:
            yield Laboratory(network, nodes, movements)
            nodes.stop()
