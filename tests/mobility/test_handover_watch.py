"""What a handover costs, as measured at the terminal, against what the simulated network knows."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest

from mobility.handover_watch import HandoverWatch
from mobility.mipv6.tunnel import TunnelForm

from .whole import Network


class Measured:
    """A network whose terminal is watched at every millisecond."""

    def __init__(self, form: TunnelForm = TunnelForm.ESP) -> None:
        self.network = network = Network(form)
        self.told: list[Mapping[str, object]] = []
        self.watch = HandoverWatch(network.terminal, self.told.append)
        self._seen = 0
        network.start_agent()
        network.plug(network.a)
        network.run(3)
        network.world.every(0.001, self._turned, until=30.0)

    def _turned(self) -> None:
        station = self.network.world.stations["mn"]
        for _, event in station.events[self._seen :]:
            self.watch.happened(event)
        self._seen = len(station.events)
        now = self.network.world.now
        self.watch.turned(now, self.network.terminal.receiving.delivered, lambda: 1000.0 + now)

    def longest(self) -> float:
        times = sorted(self.network.to_mn.received.values())
        return max(b - a for a, b in pairwise(times))


@pytest.mark.parametrize("form", list(TunnelForm))
def test_break_before_make(form: TunnelForm) -> None:
    measured = Measured(form)
    network = measured.network
    network.talk(6)
    network.run(2)
    network.move(network.b, gap=0.3)
    network.run(1)
    (handover,) = measured.watch.handovers
    assert "silence_ms" not in handover  # it is still watched
    network.run(5)
    (handover,) = measured.watch.handovers
    assert (handover["from_link"], handover["to_link"]) == ("wlan0", "wlan0")
    lost = len(network.to_mn.lost())
    assert handover["lost"] == lost
    assert (lost > 5) is (form is TunnelForm.PLAIN)  # with numbers in the tunnel they are sent again
    assert handover["silence_ms"] == pytest.approx(measured.longest() * 1000, abs=2)
    assert measured.longest() > 0.3
    assert [event["event"] for event in measured.told] == ["HandoverMeasured"]
    assert measured.told[0]["delivered"] == handover["delivered"]
    assert 1003 < float(str(handover["time"])) < 1020


def test_make_before_break_loses_nothing_and_says_so() -> None:
    measured = Measured()
    network = measured.network
    network.plug(network.b, "wlan1")
    network.talk(6)
    network.run(2)
    station = network.world.stations["mn"]
    station.carry_out(network.terminal.command("move wlan1", network.world.now))
    network.run(1.5)
    station.carry_out(network.terminal.command("roam", network.world.now))  # wlan0 is the first of the interfaces
    network.run(5)
    there, back = measured.watch.handovers
    assert (there["to_link"], back["to_link"]) == ("wlan1", "wlan0")
    for handover in (there, back):
        assert handover["make_before_break"] is True
        assert handover["lost"] == 0
        assert 20 <= float(str(handover["silence_ms"])) < 40


def test_nobody_talks() -> None:
    measured = Measured()
    network = measured.network
    network.run(1)
    network.move(network.b)
    network.run(4)
    (handover,) = measured.watch.handovers
    assert (handover["silence_ms"], handover["lost"]) == (None, 0)
