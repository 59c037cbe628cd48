"""Our terminal, and Linux as its home agent: IPsec on signalling and tunnel, proxy neighbour discovery, handovers."""

from __future__ import annotations

import pytest

from mobility.ipsec.algorithms import Algorithm
from mobility.mipv6.tunnel import TunnelForm
from tests.interop.kernel.network import INSIDE, Daemons, Mixed, Protection, linux_home_agent
from tests.interop.kernel.peer import UNTRUE, Kernel

pytestmark = pytest.mark.interop

CASES = [
    *(Protection(TunnelForm.ESP, algorithm) for algorithm in Algorithm if not algorithm.is_for_ah),
    Protection(TunnelForm.ESP_MOBILE, ah=True),
    Protection(TunnelForm.PLAIN, Algorithm.AES_CBC_HMAC_SHA2_256_128, esp=False, ah=True),
    Protection(TunnelForm.PLAIN, esp=False, limit="4"),
]


@pytest.mark.parametrize("protection", CASES, ids=str)
def test_registration_traffic_and_a_handover(kernel: Kernel, daemons: Daemons, protection: Protection) -> None:
    network = Mixed(protection)
    daemon = linux_home_agent(kernel, protection, daemons)
    network.instead("ha", kernel, network.home)
    network.plug(network.a)
    for place in (network.a, network.b):
        if place is network.b:
            network.move(place)
        assert network.reach(INSIDE), (daemon.log, kernel.refusals(), network.discards("mn"))
        assert network.converse(0.4), (daemon.log, kernel.refusals(), network.discards("mn"))
    assert kernel.refusals() == {}
    assert not set(network.discards("mn")) & UNTRUE


def test_linux_disturbs_the_way(kernel: Kernel, daemons: Daemons) -> None:
    """netem at the home agent, which our own impaired wires imitate: no packet comes twice, and few are lost."""
    protection = Protection(TunnelForm.ESP)
    network = Mixed(protection)
    linux_home_agent(kernel, protection, daemons)
    network.instead("ha", kernel, network.home)
    network.plug(network.a)
    assert network.reach(INSIDE)
    netem = "netem delay 30ms 5ms loss 5% duplicate 20% reorder 20% 50%"
    kernel.run(f"tc qdisc add dev {kernel.interface} root {netem}")
    try:
        network.talk(2.0)
        network.pass_time(3.0)
    finally:
        kernel.run(f"tc qdisc delete dev {kernel.interface} root")
    for traffic in (network.to_mn, network.to_cn):
        assert len(traffic.sent) == 100
        assert 0 <= len(traffic.lost()) < 30
    assert network.to_mn.repeated == 0, "the tunnel's replay window takes doubles away"
    assert network.discards("mn")["replayed"] > 0
