"""Autoconfiguration, duplicate address detection, lifetimes (RFC 4862, 4429, 7217, 7527)."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest

from mobility.discards import Reason
from mobility.host import AddressConflict, AddressDeprecated, AddressLost, AddressReady, Host
from mobility.host.identifiers import RESERVED, eui64, stable_opaque
from mobility.wire import ndisc
from tests.mobility.host.rig import (
    FAR,
    OTHER_PREFIX,
    OTHER_ROUTER,
    OWN_MAC,
    PREFIX,
    ROUTER,
    STRANGER,
    STRANGER_MAC,
    Rig,
    settled,
    udp,
)

UNSPECIFIED = IPv6Address("::")
CONFIGURED = IPv6Address("2001:db8:5::5")


def test_the_link_local_address_is_checked_and_its_groups_are_reported() -> None:
    rig = Rig()
    probes = [o for m, o in rig.discovery(ndisc.NeighborSolicitation) if not any(o.packet[8:24])]
    assert len(probes) == 1
    assert rig.state_of(rig.link_local) == "optimistic"
    assert str(ndisc.solicited_node(rig.link_local)) in str(rig.host.snapshot(0.0)["groups"])
    assert [o.packet[6] for o in rig.transmitted].count(0) == 1  # hop-by-hop: the MLD report
    rig.run(1.0)
    assert rig.state_of(rig.link_local) == "preferred"


def test_an_advertised_prefix_gives_an_address_that_can_be_used_at_once() -> None:
    rig = Rig()
    rig.advertise()
    (ready,) = rig.events(AddressReady)
    assert ready.address in IPv6Network("2001:db8:a::/64")
    assert (ready.prefix_length, ready.router, ready.link) == (64, ROUTER, "wlan0")
    assert rig.state_of(ready.address) == "optimistic"
    rig.send(udp(ready.address))
    assert len(rig.transmitted) == 1
    rig.run(1.0)
    assert rig.state_of(ready.address) == "preferred"
    assert rig.all_events(AddressReady) == [ready]


def test_while_optimistic_nothing_overrides_the_neighbours_caches() -> None:
    rig = Rig()
    (solicitation,) = rig.discovery(ndisc.RouterSolicitation)
    assert ndisc.link_address(solicitation[0]) is None
    rig.advertise()
    address = rig.events(AddressReady)[0].address
    rig.neighbour_asks(address, ROUTER)
    ((answer, _),) = rig.discovery(ndisc.NeighborAdvertisement)
    assert isinstance(answer, ndisc.NeighborAdvertisement)
    assert (answer.solicited, answer.override) == (True, False)
    rig.run(1.1)
    rig.neighbour_asks(address, ROUTER)
    ((answer, _),) = rig.discovery(ndisc.NeighborAdvertisement)
    assert isinstance(answer, ndisc.NeighborAdvertisement)
    assert (answer.solicited, answer.override) == (True, True)


@pytest.mark.parametrize("by", ["advertisement", "probe"])
def test_a_conflict_removes_the_address_and_the_next_identifier_is_tried(by: str) -> None:
    rig = Rig()
    rig.advertise()
    address = rig.events(AddressReady)[0].address
    if by == "advertisement":
        rig.neighbour_advertises(address, STRANGER_MAC, solicited=False)
    else:
        rig.neighbour_asks(address, UNSPECIFIED)
    assert rig.events(AddressConflict) == [AddressConflict("wlan0", address, STRANGER_MAC.hex(":"))]
    assert [event.address for event in rig.events(AddressLost)] == [address]
    (second,) = rig.events(AddressReady)
    assert second.address != address
    assert rig.state_of(address) is None
    rig.run(1.0)
    assert rig.state_of(second.address) == "preferred"


def test_three_conflicts_end_the_attempts_until_the_next_link() -> None:
    rig = Rig()
    rig.advertise()
    for _ in range(3):
        rig.neighbour_advertises(rig.all_events(AddressReady)[-1].address, STRANGER_MAC, solicited=False)
    assert rig.events(AddressReady) == []
    assert len(rig.all_events(AddressConflict)) == 3
    rig.advertise()
    assert rig.events(AddressReady) == []
    rig.link(True)
    rig.advertise()
    assert len(rig.events(AddressReady)) == 1


def test_an_echo_of_our_own_probe_is_no_conflict() -> None:
    rig = Rig()
    own = [o.packet for _, o in rig.discovery(ndisc.NeighborSolicitation)]
    for packet in own:
        rig.receive(packet, OWN_MAC)
        assert rig.events(AddressConflict) == []
    rig.neighbour_asks(rig.link_local, UNSPECIFIED, nonce=b"theirs")
    assert len(rig.events(AddressConflict)) == 1


def test_a_settled_address_is_defended_and_not_given_up() -> None:
    rig, address = settled()
    rig.neighbour_asks(address, UNSPECIFIED)
    ((answer, output),) = rig.discovery(ndisc.NeighborAdvertisement)
    assert isinstance(answer, ndisc.NeighborAdvertisement)
    assert (answer.target, answer.solicited, answer.override) == (address, False, True)
    assert output.to == bytes.fromhex("333300000001")
    rig.neighbour_advertises(address, STRANGER_MAC, solicited=False)
    assert rig.reasons == [Reason.NDISC_UNEXPECTED]
    assert rig.state_of(address) == "preferred"


def test_identifiers_are_stable_in_a_network_and_unrelated_in_others() -> None:
    first = [settled()[1] for _ in range(2)]
    assert first[0] == first[1]
    rig, address = settled()
    rig.advertise(OTHER_PREFIX)
    other = rig.events(AddressReady)[0].address
    assert other.packed[8:] != address.packed[8:]
    assert settled(secret=b"another")[1] != address
    assert settled(interface_identifier=eui64(OWN_MAC))[1] == IPv6Address("2001:db8:a:0:0:ff:fe00:1")


def test_identifiers_avoid_reserved_values_and_bad_arguments_are_told() -> None:
    for conflicts in range(50):
        number = int.from_bytes(stable_opaque(b"s", PREFIX.packed[:8], OWN_MAC, conflicts))
        assert not any(low <= number <= high for low, high in RESERVED)
    with pytest.raises(ValueError, match="6 octets"):
        eui64(b"12345")
    with pytest.raises(ValueError, match="6 octets"):
        Host("l", b"", 1500, bytes)
    with pytest.raises(ValueError, match="1280"):
        Host("l", OWN_MAC, 1000, bytes)
    with pytest.raises(ValueError, match="8 octets"):
        Host("l", OWN_MAC, 1500, bytes, interface_identifier=b"short")


def test_addresses_are_deprecated_and_removed_in_time() -> None:
    rig = Rig()
    rig.advertise(valid=200, preferred=100)
    address = rig.events(AddressReady)[0].address
    rig.run(99.0)
    assert rig.state_of(address) == "preferred"
    rig.run(2.0)
    assert [event.address for event in rig.events(AddressDeprecated)] == [address]
    assert rig.state_of(address) == "deprecated"
    rig.receive(udp(FAR, address))
    assert len(rig.arrived) == 1  # still valid
    rig.advertise(valid=200, preferred=100)
    assert [event.address for event in rig.events(AddressReady)] == [address]
    rig.run(201.0)
    assert [event.address for event in rig.events(AddressLost)] == [address]
    assert rig.state_of(address) is None


def test_nobody_can_take_an_address_away_by_a_short_lifetime() -> None:
    """The two-hour rule, RFC 4862 section 5.5.3 e."""
    rig = Rig()
    rig.advertise(valid=86400)
    address = rig.events(AddressReady)[0].address
    rig.advertise(valid=0, preferred=0)
    assert rig.state_of(address) == "optimistic"
    rig.run(7199.0)
    assert rig.state_of(address) == "deprecated"
    rig.run(2.0)
    assert rig.state_of(address) is None


def test_infinite_lifetimes_and_foreign_prefixes() -> None:
    rig = Rig()
    rig.advertise(valid=ndisc.INFINITE, preferred=ndisc.INFINITE)
    address = rig.events(AddressReady)[0].address
    for refused in (IPv6Address("fe80::"), IPv6Address("ff05::")):
        rig.advertise(refused)
        assert rig.events(AddressReady) == []
    rig.advertise(OTHER_PREFIX, preferred=100, valid=50)
    assert rig.events(AddressReady) == []
    rig.advertise(OTHER_PREFIX, autonomous=False)
    assert rig.events(AddressReady) == []
    rig.receive(
        ndisc.packet(
            ROUTER,
            ndisc.ALL_NODES,
            ndisc.RouterAdvertisement(1800, options=(ndisc.PrefixInformation(OTHER_PREFIX, 48, 600, 600),)),
        )
    )
    assert rig.events(AddressReady) == []
    rig.run(10_000_000.0)
    assert rig.state_of(address) == "preferred"


def test_a_flood_of_prefixes_is_bounded() -> None:
    rig = Rig()
    for number in range(100):
        rig.advertise(IPv6Address(f"2001:db8:{number:x}::"), router=OTHER_ROUTER if number % 2 else ROUTER)
    assert len(rig.all_events(AddressReady)) == 32
    assert all(len(router["prefixes"]) <= 32 for router in rig.entries("routers"))  # type: ignore[arg-type]


def test_a_configured_address_is_usable_at_once_or_when_checked() -> None:
    rig = Rig()
    rig.note(rig.host.add_address(CONFIGURED, rig.now))
    assert [event.router for event in rig.events(AddressReady)] == [None]
    late = IPv6Address("2001:db8:5::6")
    rig.note(rig.host.add_address(late, rig.now, optimistic=False))
    assert rig.events(AddressReady) == []
    rig.receive(udp(FAR, late))
    assert rig.reasons == [Reason.NOT_OURS]
    rig.neighbour_asks(late)
    assert rig.reasons == [Reason.NDISC_UNEXPECTED]
    rig.run(1.0)
    assert [event.address for event in rig.events(AddressReady)] == [late]
    rig.note(rig.host.remove_address(CONFIGURED, rig.now))
    assert [event.address for event in rig.events(AddressLost)] == [CONFIGURED]
    rig.note(rig.host.remove_address(rig.link_local, rig.now))
    assert rig.latest == []


def test_a_configured_address_outlives_the_link_and_a_conflict_removes_it() -> None:
    rig = Rig(up=False)
    rig.note(rig.host.add_address(CONFIGURED, rig.now))
    assert rig.latest == []
    rig.link(True)
    assert [event.address for event in rig.events(AddressReady)] == [CONFIGURED]
    rig.run(2.0)
    rig.link(False)
    assert [event.address for event in rig.events(AddressLost)] == [CONFIGURED]
    rig.receive(udp(FAR, CONFIGURED))
    assert rig.reasons == [Reason.LINK_DOWN]
    rig.link(True)
    rig.neighbour_asks(CONFIGURED, UNSPECIFIED)
    assert [event.address for event in rig.events(AddressConflict)] == [CONFIGURED]
    assert rig.state_of(CONFIGURED) is None
    rig.send(udp(rig.link_local, IPv6Address("2001:db8:5::7")))
    assert rig.reasons == [Reason.NO_ROUTE]


def test_an_address_that_the_home_agent_still_defends_is_used_quietly() -> None:
    rig, _ = settled()
    home = IPv6Address("2001:db8:a::77")
    rig.note(rig.host.add_address(home, rig.now, quiet=True))
    assert rig.discovery() == []
    assert [event.address for event in rig.events(AddressReady)] == [home]
    rig.neighbour_asks(home, UNSPECIFIED)
    assert rig.discovery() == []
    rig.neighbour_asks(home, STRANGER)  # the home agent, for example, which wants to acknowledge
    ((message, output),) = rig.discovery()
    assert isinstance(message, ndisc.NeighborAdvertisement)
    assert (message.target, message.solicited, output.to) == (home, True, STRANGER_MAC)
    rig.neighbour_advertises(home, STRANGER_MAC, solicited=False)
    assert rig.state_of(home) == "quiet"
    rig.send(udp(home))
    assert len(rig.transmitted) == 1
    rig.note(rig.host.announce(home, rig.now))
    ((message, output),) = rig.discovery(ndisc.NeighborAdvertisement)
    assert isinstance(message, ndisc.NeighborAdvertisement)
    assert (message.target, message.override, message.solicited) == (home, True, False)
    assert output.to == bytes.fromhex("333300000001")
    rig.neighbour_asks(home, STRANGER)
    assert len(rig.discovery(ndisc.NeighborAdvertisement)) == 1


def test_without_duplicate_detection_addresses_are_preferred_from_the_start() -> None:
    rig = Rig(duplicate_detection=False)
    assert rig.state_of(rig.link_local) == "preferred"
    ((solicitation, _),) = rig.discovery()
    assert ndisc.link_address(solicitation) == OWN_MAC
