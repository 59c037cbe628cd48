"""A home binding must not outlast the local one (RFC 5380 section 6.1), and what that means for refreshing both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mobility.hmipv6.regional_events import MapBound
from mobility.hmipv6.regional_settings import RegionalSettings
from mobility.mipv6.binding_events import BindingCreated
from mobility.mipv6.movement import CareOfAddressChanged
from mobility.mipv6.registration import Bound
from tests.mobility.domain import MAP, DomainNetwork


def started(kind: int, lifetime: int) -> DomainNetwork:
    network = DomainNetwork(kind, settings=RegionalSettings(lifetime=lifetime))
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    return network


def ends(network: DomainNetwork) -> tuple[float, float]:
    """When the binding at the home agent ends, and the one at the MAP, by their own tables."""
    (home,) = network.agent.engine.cache.bindings()
    engine = network.anchors[MAP].engine
    assert engine is not None
    assert isinstance(home.care_of_address.packed, bytes)
    local = engine.cache.find(home.care_of_address.packed)
    assert local is not None
    return home.expires, local.expires


def watch(network: DomainNetwork, seconds: int) -> None:
    for _ in range(seconds):
        network.run(1)
        home, local = ends(network)
        # Both count from when an update came to them: it takes longer to the home agent, by the way between.
        assert home <= local + 0.1, network.world.now


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("lifetime", [16, 60, 420, 600, 4000])
def test_the_home_binding_ends_before_the_local_one(kind: int, lifetime: int) -> None:
    network = started(kind, lifetime)
    watch(network, 900)
    station = network.world.stations["mn"]
    bound, local = station.events_of(Bound), station.events_of(MapBound)
    assert len(station.events_of(CareOfAddressChanged)) == 1
    # Refreshed in step: the local one shortly before the home one where it is the shorter one.
    assert abs(len(bound) - len(local)) <= (2 if lifetime < 4000 else 4)
    assert {event.lifetime for _, event in bound} <= {min(420, lifetime), min(420, lifetime) - 4}


def test_and_so_it_is_after_moves_within_the_domain() -> None:
    network = started(1, 60)
    for segment in (network.b, network.c, network.a):
        network.move(segment)
        network.run(2)
        watch(network, 70)
    assert len(network.world.stations["ha"].events_of(BindingCreated)) == 1


def test_a_map_that_grants_less_than_before() -> None:
    network = started(1, 600)
    engine = network.anchors[MAP].engine
    assert engine is not None
    engine.settings = replace(engine.settings, max_lifetime=40)
    before = len(network.world.stations["mn"].events_of(Bound))
    network.move(network.b)
    network.run(3)
    assert len(network.world.stations["mn"].events_of(Bound)) == before + 1
    watch(network, 100)


def test_a_home_registration_by_the_lcoa_lasts_as_long_as_it_likes() -> None:
    network = started(3, 60)
    ((_, bound),) = network.world.stations["mn"].events_of(Bound)
    assert bound.lifetime == 420
