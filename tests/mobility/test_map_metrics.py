"""What Prometheus fetches of a mobility anchor point, with the numbers of a simulated network."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mobility.config import parse
from mobility.control import Refused
from mobility.map_metrics import MapMetrics
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.data_plane import DataPlane
from mobility.net.loop import Loop
from mobility.node_metrics import MetricsService
from mobility.settings import MetricsSettings
from mobility.trace import Trace
from tests.mobility.domain import MAP, MAP2, DomainNetwork


def values(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_bindings_moves_and_packets_are_counted() -> None:
    network = DomainNetwork(1, regional_form=TunnelForm.ESP)
    plane = DataPlane(Loop(), network.anchors[MAP], {}, Trace())
    metrics = MapMetrics(network.anchors[MAP], plane)
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    network.talk(1.0)
    network.run(0.5)
    network.move(network.b)
    network.run(3)
    for _, event in network.world.stations["map"].events:
        metrics.happened(event)
    found = values(metrics.text())
    assert found["roamphone_map_bindings",] == found["roamphone_map_terminals",] == 1
    assert found["roamphone_map_binding_updates_total", "created"] == 1
    assert found["roamphone_map_handovers_total",] == 1
    assert found["roamphone_map_intercepted_packets_total",] >= 50 <= found["roamphone_map_reversed_packets_total",]
    assert found["roamphone_map_authentication_failures_total",] == 0
    assert found["roamphone_internal_errors_total",] == 0
    assert found["process_start_time_seconds",] > 0
    before = found["roamphone_map_intercepted_packets_total",]
    engine = network.anchors[MAP].engine
    assert engine is not None
    network.world.detach("mn", "wlan0")
    network.run(700)
    ended = [event for _, event in network.world.stations["map"].events][-1:]
    for event in ended:
        metrics.happened(event)
    found = values(metrics.text())
    assert found["roamphone_map_bindings",] == 0
    assert found["roamphone_map_bindings_ended_total", "lifetime over"] == 1
    assert found["roamphone_map_intercepted_packets_total",] >= before


def test_it_is_served_and_of_other_nodes_there_is_nothing() -> None:
    network = DomainNetwork(1)
    loop = Loop()
    node = network.anchors[MAP2]
    plane, trace = DataPlane(loop, node, {}, Trace()), Trace()
    service = MetricsService(node, MetricsSettings(IPv4Address("127.0.0.1"), 0), loop)
    assert service.present
    with pytest.raises(Refused):
        service.metrics()
    service.start(plane, trace)
    assert values(service.metrics())["roamphone_map_bindings",] == 0
    service.turned()
    service.close()
    other = MetricsService(network.agent, None, loop)
    other.start(plane, trace)
    assert not other.present
    loop.close()


def test_the_configuration_of_a_map_says_where() -> None:
    text = '[node]\nrole = "map"\n[map]\naddress = "2001:db8:9::9"\ninterface = "eth0"\nopen = true\n'
    path = Path("/etc/roamphone/map.toml")
    assert parse(text, path).metrics is None
    listen = '[metrics]\nlisten = "127.0.0.1:9464"\n'
    assert parse(text + listen, path).metrics == MetricsSettings(IPv4Address("127.0.0.1"), 9464)
