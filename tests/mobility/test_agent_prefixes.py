"""Mobile prefix discovery at the home agent's node: under IPsec, natively and by UDP, with strangers."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest

from mobility.discards import Discard, Reason
from mobility.ipsec.processing import IpsecProcessing
from mobility.mipv6.home_prefixes import HomePrefixChanged, PrefixesUnacknowledged
from mobility.mipv6.prefix_discovery import HomeNetworkRenumbered, PrefixDiscovery, SolicitPrefixes
from mobility.mipv6.prefix_messages import advertisement_in, solicitation_packet
from mobility.mipv6.signalling import UNPROTECTED, from_terminal, unwrap
from mobility.outputs import Output
from mobility.wire import icmp6, ip6, mh, ndisc, udp
from mobility.wire.mobile_icmp import PrefixAdvertisement, PrefixSolicitation
from tests.mobility.test_agent import AH, COA, ROUTER, ROUTER_MAC, Node, reasons, sent
from tests.mobility.whole import HA, HOME, MN, randomness

NEW = IPv6Network("2001:db8:2::/64")
ELSEWHERE = IPv6Address("2001:db8:b::1")


def renumbered(preferred: int = 0) -> bytes:
    old = ndisc.PrefixInformation(HOME[0], 64, 86400, preferred)
    router = ndisc.SourceLinkAddress(ROUTER_MAC)
    options = (old, ndisc.PrefixInformation(NEW[0], 64, 86400, 3600), router)
    return ndisc.packet(ROUTER, ndisc.ALL_NODES, ndisc.RouterAdvertisement(1800, options=options))


def bind(home: Node, sequence: int = 1, now: float = 5.0) -> None:
    update = mh.BindingUpdate(sequence, AH, 4000, ())
    home.arrives(from_terminal(update, MN, COA, HA, home.security), now)


def ask(home: Node, identifier: int = 1, source: IPv6Address = COA) -> bytes:
    return solicitation_packet(PrefixSolicitation(identifier), MN, source, HA, home.security)


def opened(packet: bytes, security: IpsecProcessing) -> PrefixAdvertisement | None:
    """None: another message."""
    try:
        clear, under_ipsec = unwrap(packet, security)
    except Discard:
        return None
    assert under_ipsec
    assert clear[8:40] == HA.packed + MN.packed
    return advertisement_in(clear) if clear[6] == ip6.ICMPV6 else None


def advertised(home: Node, outputs: list[Output], to: IPv6Address = COA) -> list[PrefixAdvertisement]:
    found = [opened(packet, home.security) for packet in sent(outputs) if packet[24:40] == to.packed]
    return [message for message in found if message is not None]


def test_a_terminal_asks_natively_and_under_ipsec() -> None:
    home = Node()
    bind(home)
    packet = ask(home, 0xCAFE)
    assert (packet[6], b"\x92\0" in packet) == (ip6.DEST_OPTIONS, False)
    (message,) = advertised(home, home.arrives(packet, 6.0))
    assert (message.identifier, message.prefixes[0].prefix, message.prefixes[0].router_address) == (0xCAFE, HA, True)


def test_a_terminal_asks_by_udp() -> None:
    home = Node()
    home.bind()
    packet = solicitation_packet(PrefixSolicitation(3), MN, MN, HA, home.security)
    (answer,) = [each for each in sent(home.arrives(home.datagram(packet), 6.0)) if each[6] == ip6.UDP]
    message = opened(udp.parse(answer).payload, home.security)
    assert message is not None
    assert message.identifier == 3


def test_renumbering_is_told_in_time_and_learnt_by_asking() -> None:
    home = Node(max_lifetime=4000)
    mobile = PrefixDiscovery(MN, 64, randomness("prefixes"))
    bind(home)

    def exchange(outputs: list[Output], now: float) -> list[Output]:
        (request,) = [each.message for each in outputs if isinstance(each, SolicitPrefixes)]
        packet = solicitation_packet(request, MN, COA, HA, home.security)
        (answer,) = advertised(home, home.arrives(packet, now))
        return mobile.receive(answer, now)

    exchange(mobile.bound(6.0), 6.0)
    assert any(isinstance(each, HomePrefixChanged) for each in home.arrives(renumbered(), 10.0))
    unsolicited: list[PrefixAdvertisement] = []
    now = 10.0
    while not unsolicited:
        assert home.node.timer is not None
        now = max(now, home.node.timer)
        home.arrives(renumbered(), now)  # as routers do; nothing has changed
        unsolicited = advertised(home, home.node.handle_timer(now))
    assert 610.0 <= now <= 1210.0
    told = [each for each in exchange(mobile.receive(unsolicited[0], now), now)
            if isinstance(each, HomeNetworkRenumbered)]  # fmt: skip
    assert [each.instead for each in told] == [IPv6Address(int(NEW[0]) | int(MN) & (1 << 64) - 1)]
    assert home.node.snapshot(now)["home_link"]["to_be_told"] == []  # type: ignore[index]


def test_who_is_at_home_or_gone_is_not_told() -> None:
    home = Node()
    bind(home)
    home.arrives(renumbered(), 10.0)
    home.node.deactivate(11.0)
    outputs: list[Output] = []
    for now in range(11, 1300, 7):
        outputs += home.node.handle_timer(float(now))
    assert advertised(home, outputs) == []
    assert not any(isinstance(each, PrefixesUnacknowledged) for each in outputs)


@pytest.mark.parametrize("through_udp", [False, True])
def test_without_ipsec_nothing_is_answered(through_udp: bool) -> None:
    home = Node()
    home.bind() if through_udp else bind(home)
    bare = solicitation_packet(PrefixSolicitation(1), MN, MN if through_udp else COA, HA, UNPROTECTED)
    outputs = home.arrives(home.datagram(bare) if through_udp else bare, 6.0)
    assert (reasons(outputs), sent(outputs)) == ([Reason.NOT_PROTECTED], [])


def test_policies_tell_the_types_of_icmpv6_apart() -> None:
    home = Node()
    policies = [policy for policy in home.security.spd.policies if policy.name.startswith("prefix")]
    assert [policy.selector.describe() for policy in policies] == [
        f"{MN}/128 <-> {HA}/128 protocol 58 local type 146 remote type 147"
    ]
    echo = icmp6.packet(MN, HA, icmp6.Echo(1, 1))
    with pytest.raises(Discard, match="no transport mode"):  # an echo request belongs into the tunnel
        home.security.protect(echo)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("unbound", Reason.BINDING_UNKNOWN),
        ("other place", Reason.OUTER_SOURCE_WRONG),
        ("tampered", Reason.AUTHENTICATION_FAILED),
        ("replayed", Reason.REPLAYED),
        ("too often", Reason.RATE_LIMITED),
        ("stranger", Reason.NOT_PROTECTED),
    ],
)
def test_what_is_not_answered(what: str, reason: Reason) -> None:
    home = Node()
    if what != "unbound":
        bind(home)
    packet = ask(home, source=ELSEWHERE if what == "other place" else COA)
    if what == "tampered":
        packet = packet[:-1] + bytes((packet[-1] ^ 1,))
    if what in ("replayed", "too often"):
        home.arrives(packet, 6.0)
        packet = packet if what == "replayed" else ask(home, 2)
    if what == "stranger":
        packet = solicitation_packet(PrefixSolicitation(1), MN, ELSEWHERE, HA, UNPROTECTED)
    outputs = home.arrives(packet, 6.5)
    assert (reasons(outputs), advertised(home, outputs)) == ([reason], [])


def test_malformed_under_ipsec_is_named() -> None:
    home = Node()
    bind(home)
    body = icmp6.payload(MN, HA, PrefixSolicitation(1))
    option = ip6.home_address_option(MN, ip6.ICMPV6)
    for broken, reason in ((body[:-2], Reason.CHECKSUM_WRONG), (body[:-1] + b"\1", Reason.CHECKSUM_WRONG)):
        packet = home.security.protect(ip6.packet(COA, HA, ip6.DEST_OPTIONS, option + broken))
        assert reasons(home.arrives(packet, 6.0)) == [reason]


def test_a_removed_terminal_is_forgotten() -> None:
    home = Node()
    bind(home)
    home.arrives(renumbered(), 10.0)
    home.node.reconfigure((), 11.0)
    assert home.node.snapshot(11.0)["home_link"]["to_be_told"] == []  # type: ignore[index]
