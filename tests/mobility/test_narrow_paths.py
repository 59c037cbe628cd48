"""Paths that carry no more than every link has to, 1280 octets: tunnels are fragmented, and what is inside arrives."""

from __future__ import annotations

import pytest

from mobility.discards import Reason
from mobility.host.fragments import TIMEOUT, fragment
from mobility.mipv6.tunnel import TunnelForm
from mobility.outputs import Discarded
from mobility.wire import ip6
from tests.mobility.domain import DomainNetwork
from tests.mobility.nemo.train import Train
from tests.mobility.whole import CN, MN, Network, udp

FORMS = list(TunnelForm)


def narrowed(network: Network) -> Network:
    """The link of the access router says nothing of it: it is found out by Packet Too Big only."""
    network.routers["r-a"].interfaces["edge"].mtu = 1280
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    for _ in range(2):  # each tunnel, and then the correspondent, loses a packet to the discovery of the path
        network.talk(0.2, size=1232)
        network.run(1)
    return network


def all_arrives(network: Network) -> None:
    for size in (1232, 1150):  # with and without the correspondent having to split what its IPsec makes longer
        network.talk(0.2, size=size)
        network.run(1)
        assert network.to_cn.lost() == network.to_mn.lost() == []
        assert (network.to_cn.repeated, network.to_mn.repeated) == (0, 0)


def forget_losses(network: Network) -> None:
    for traffic in (network.to_mn, network.to_cn):
        traffic.sent.clear()
        traffic.received.clear()


@pytest.mark.parametrize("form", FORMS)
def test_what_every_link_carries_reaches_a_terminal_on_the_narrowest_path(form: TunnelForm) -> None:
    network = narrowed(Network(form))
    forget_losses(network)
    all_arrives(network)
    assert network.discards("mn").get("esp-fragment") is None


@pytest.mark.parametrize("kind", [1, 2, 3])
@pytest.mark.parametrize("form", [TunnelForm.PLAIN, TunnelForm.ESP])
def test_and_through_a_mobility_anchor_point(kind: int, form: TunnelForm) -> None:
    network = narrowed(DomainNetwork(kind, regional_form=form))
    forget_losses(network)
    all_arrives(network)


@pytest.mark.parametrize("form", FORMS)
def test_and_nodes_behind_a_mobile_router(form: TunnelForm) -> None:
    train = Train(form)
    train.routers["r-a"].interfaces["edge"].mtu = 1280
    train.with_passenger()
    passenger, correspondent = train.world.stations["passenger"], train.world.stations["cn"]
    for _ in range(4):
        correspondent.send(udp(CN, train.seat, bytes(1232)))
        train.run(0.5)
    # The first one told the home agent how narrow the path is.
    assert [len(packet) for _, packet in passenger.delivered if packet[6] == ip6.UDP] == [1280] * 3


def test_a_fragment_of_protected_speech_that_stays_alone_is_forgotten_in_time() -> None:
    network = Network()
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    protected = network.correspondent.application.protect(udp(CN, MN, bytes(1232)))
    first, last = fragment(protected, 1280, 7)
    terminal, now = network.terminal, network.world.now
    assert terminal.receiving.out_of_tunnel(first, now) == []
    assert terminal.receiving.timer == now + TIMEOUT
    (gone,) = terminal.receiving.handle_timer(now + TIMEOUT)
    assert isinstance(gone, Discarded)
    assert gone.reason is Reason.FRAGMENT_TIMEOUT
    assert terminal.receiving.out_of_tunnel(last, now + TIMEOUT) == []
    assert terminal.receiving.timer == now + 2 * TIMEOUT
