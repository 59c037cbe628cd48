"""Route optimization as users run it: three processes in namespaces, commands, a handover."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from sip_test_env.mobility_nodes import MobilityNodes

from .running import Nodes, mobility, running

pytestmark = [pytest.mark.root, pytest.mark.interop]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with running(f"rro-{os.getpid()}", on_demand) as made:
        yield made


def on_demand(nodes: MobilityNodes) -> None:
    path = nodes.configurations["mn"]
    wanted = 'route_optimization = "never"\n[[mobile_node.correspondent]]\n'
    wanted += f'network = "{nodes.network.plan.cn}/128"\nroute_optimization = "asked"\n'
    path.write_text(path.read_text().replace("[host_os]", wanted + "\n[host_os]"))


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


def at_terminal(nodes: Nodes, *arguments: str) -> subprocess.CompletedProcess[str]:
    return mobility(*arguments, "--runtime", str(nodes.nodes.runtime("mn")))


def test_on_demand_through_a_handover_and_back(nodes: Nodes) -> None:
    network = nodes.nodes.network
    correspondent = str(network.plan.cn)
    for _ in range(10):
        nodes.round_trip(2)
    assert routes(nodes) == []

    assert at_terminal(nodes, "command", "optimize", correspondent).stderr == ""
    before = until_direct(nodes, 5)
    assert f"directly   {correspondent}: direct, " in at_terminal(nodes, "status").stdout
    (binding,) = bindings(nodes)
    assert binding["home_address"] == str(network.plan.home_address)

    network.move("visited-b")
    after = until_direct(nodes, 10)
    (moved,) = bindings(nodes)
    assert moved["care_of_address"] != binding["care_of_address"]
    assert int(str(after["sequence"])) != int(str(before["sequence"]))

    assert at_terminal(nodes, "command", "tunnel", correspondent).stderr == ""
    nodes.round_trip(2)
    assert routes(nodes)[0]["state"] == "tunnel"
    # The correspondent is told at once, unless it was sent three updates within this second.
    began = time.monotonic()
    while bindings(nodes):
        nodes.round_trip(2)
        assert time.monotonic() - began < 3
    refused = at_terminal(nodes, "command", "optimize", "2001:db8::77")
    assert refused.returncode == 1
    assert "never" in refused.stderr
