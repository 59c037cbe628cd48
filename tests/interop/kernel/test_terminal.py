"""Linux as a terminal: our home agent and our correspondent serve it, through the tunnel and directly."""

from __future__ import annotations

import pytest

from mobility.ipsec.algorithms import Algorithm
from mobility.mipv6.tunnel import TunnelForm
from mobility.wire import ip6, mh
from tests.interop.kernel.network import LinuxTerminal, Mixed, Protection
from tests.interop.kernel.peer import UNTRUE, Kernel
from tests.mobility.whole import CN

pytestmark = pytest.mark.interop

CASES = [
    Protection(TunnelForm.ESP, Algorithm.AES_CBC_HMAC_SHA2_256_128, ah=True),
    Protection(TunnelForm.ESP, Algorithm.CHACHA20_POLY1305),
]


@pytest.mark.parametrize("protection", CASES, ids=str)
def test_registrations_and_route_optimization(kernel: Kernel, protection: Protection) -> None:
    network = Mixed(protection)
    network.start_agent()
    terminal = LinuxTerminal(kernel, protection)
    network.instead("mn", kernel, network.a)
    for place in (network.a, network.b):
        care_of = terminal.arrive(network, place)
        assert terminal.register(network, care_of) == mh.Status.ACCEPTED, network.discards("ha")
        kernel.sent.clear()
        assert "1 packets received" in terminal.reach(network, CN), (kernel.refusals(), network.discards("ha"))
        assert {packet[6] for packet in kernel.sent if packet[24:40] != CN.packed} >= {ip6.ESP}
    assert terminal.optimize(network, care_of) == mh.Status.ACCEPTED, network.discards("cn")
    kernel.sent.clear()
    kernel.received.clear()
    assert "1 packets received" in terminal.reach(network, CN), (kernel.refusals(), network.discards("cn"))
    assert ip6.DEST_OPTIONS in {packet[6] for packet in kernel.sent}
    assert ip6.ROUTING in {packet[6] for packet in kernel.received}
    for node in ("ha", "cn"):
        assert not set(network.discards(node)) & UNTRUE
    assert kernel.refusals() == {}
