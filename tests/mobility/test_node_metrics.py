"""What operators and people see of keys with correspondents."""

from __future__ import annotations

from importlib.metadata import version
from ipaddress import IPv4Address

import pytest

from mobility.commands.view import negotiated, overview
from mobility.config import parse
from mobility.control import Refused
from mobility.net.data_plane import DataPlane
from mobility.net.loop import Loop
from mobility.node_metrics import MetricsService
from mobility.settings import MetricsSettings
from mobility.trace import Trace
from tests.mobility.configurations import CN, MN, PAIRS, PATH
from tests.mobility.protected import Protected, away, by_calls, by_token
from tests.mobility.test_map_metrics import values

PREFIX = "roamphone_application_"


def metrics(network: Protected) -> dict[tuple[str, ...], float]:
    loop = Loop()
    trace = Trace()
    plane = DataPlane(loop, network.terminal, {}, trace, clock=lambda: network.world.now)
    service = MetricsService(network.terminal, None, loop)
    with pytest.raises(Refused):
        service.metrics()
    service.start(plane, trace)
    text = service.metrics()
    loop.close()
    return values(text)


def shown(network: Protected, whose: str = "mn") -> str:
    node = network.terminal if whose == "mn" else network.correspondent
    return " ".join(" ".join(negotiated({"node": node.snapshot(network.world.now)})).split())


def test_packets_that_waited_are_counted() -> None:
    network = away(by_token())
    assert metrics(network)[f"{PREFIX}peers", "idle"] == 1
    assert "application with 2001:db8:c::c: configured, wanted by the configuration" in shown(network)
    network.talk(1.0)
    network.run(2.0)
    after = metrics(network)
    assert after[f"{PREFIX}peers", "protected"] == 1
    assert after[f"{PREFIX}negotiations_total", "keys"] >= 1  # both ends may have begun
    assert after[f"{PREFIX}waited_packets_total",] > 0
    assert after["roamphone_info", version("roamphone")] == 1
    assert "IKE with 2001:db8:c::c at [2001:db8:c::c]:500, established" in shown(network)
    assert "application with 2001:db8:c::c: protected for 2 s, wanted by the configuration" in shown(network)


def test_calls_are_shown_with_the_time_that_they_have_left() -> None:
    network = away(by_calls())
    network.secure("mn", active=True, call="a")
    network.secure("mn", call="b", lease=20.0)
    network.talk(0.5)
    network.run(0.1)
    after = metrics(network)
    assert after[f"{PREFIX}calls",] == 2
    assert after[f"{PREFIX}peers", "negotiating"] == 1
    assert "negotiating, wanted by call a and call b for 300 s more at least, 6 packets wait" in shown(network)
    network.run(45.0)  # the other end knows nothing of a call, and refuses
    assert metrics(network)[f"{PREFIX}negotiations_total", "failed"] >= 1
    assert "no keys with 2001:db8:c::c: " in shown(network)
    status = {"node": network.correspondent.snapshot(network.world.now)}
    assert not any("application with" in line for line in overview(status))


def test_strangers_are_counted() -> None:
    network = away(by_calls())
    network.offer("mn")
    network.secure("cn", active=True)
    network.run(1.0)
    assert metrics(network)[f"{PREFIX}strangers_total", "let in"] == 1
    assert "protected for 1 s, wanted by call call" in shown(network, "cn")


def test_every_role_may_have_metrics() -> None:
    for text in (MN + PAIRS, CN):
        read = parse(text + '[metrics]\nlisten = "127.0.0.1:9464"\n', PATH)
        assert read.metrics == MetricsSettings(IPv4Address("127.0.0.1"), 9464)
