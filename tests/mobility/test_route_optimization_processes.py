"""Route optimization as users run it: three processes in namespaces, commands, a handover."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from sip_test_env.mobility_nodes import MobilityNodes
from sip_test_env.network import TestNetwork

from .test_processes import Nodes

pytestmark = [pytest.mark.root, pytest.mark.interop]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with TestNetwork(f"rro-{os.getpid()}") as network:
        network.move("visited-a")
        processes = MobilityNodes(network, "esp")
        path = processes.configurations["mn"]
        wanted = 'route_optimization = "never"\n[[mobile_node.correspondent]]\n'
        wanted += f'network = "{network.plan.cn}/128"\nroute_optimization = "asked"\n'
        path.write_text(path.read_text().replace("[host_os]", wanted + "\n[host_os]"))
        try:
            processes.start()
            made = Nodes(processes)
            made.round_trip(10)
            yield made
            made.close()
        finally:
            processes.stop()


def routes(nodes: Nodes) -> list[dict[str, object]]:
    node = nodes.status("mn")["node"]
    assert isinstance(node, dict)
    found = node["route_optimization"]["correspondents"]
    assert isinstance(found, list)
    return found


def bindings(nodes: Nodes) -> list[dict[str, object]]:
    """Of the correspondent."""
    node = nodes.status("cn")["node"]
    assert isinstance(node, dict)
    found = node["direct_bindings"]
    assert isinstance(found, list)
    return found


def until_direct(nodes: Nodes, seconds: float) -> dict[str, object]:
    """Packets flow until the status says so."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        nodes.round_trip(2)
        if any(route["state"] == "direct" and route["received"] for route in routes(nodes)):
            return routes(nodes)[0]
    raise AssertionError(f"not direct in {seconds} s: {routes(nodes)}")


def mobility(nodes: Nodes, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mobility", *arguments, "--runtime", str(nodes.nodes.runtime("mn"))]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_on_demand_through_a_handover_and_back(nodes: Nodes) -> None:
    network = nodes.nodes.network
    correspondent = str(network.plan.cn)
    for _ in range(10):
        nodes.round_trip(2)
    assert routes(nodes) == []

    assert mobility(nodes, "command", "optimize", correspondent).stderr == ""
    before = until_direct(nodes, 5)
    assert f"directly   {correspondent}: direct, " in mobility(nodes, "status").stdout
    (binding,) = bindings(nodes)
    assert binding["home_address"] == str(network.plan.home_address)

    network.move("visited-b")
    after = until_direct(nodes, 10)
    (moved,) = bindings(nodes)
    assert moved["care_of_address"] != binding["care_of_address"]
    assert int(str(after["sequence"])) != int(str(before["sequence"]))

    assert mobility(nodes, "command", "tunnel", correspondent).stderr == ""
    nodes.round_trip(2)
    assert routes(nodes)[0]["state"] == "tunnel"
    # The correspondent is told at once, unless it was sent three updates within this second.
    began = time.monotonic()
    while bindings(nodes):
        nodes.round_trip(2)
        assert time.monotonic() - began < 3
    refused = mobility(nodes, "command", "optimize", "2001:db8::77")
    assert refused.returncode == 1
    assert "never" in refused.stderr
