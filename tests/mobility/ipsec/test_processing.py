"""One IPsec processing part: transport mode, tunnel mode, policy in both directions."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import IPv6

from mobility.discards import Discard, Reason
from mobility.ipsec import processing
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.processing import IpsecProcessing, encapsulate
from mobility.ipsec.sa import InboundSA, Mode, OutboundSA
from mobility.ipsec.spd import Action, Policy, SecurityPolicyDatabase, Selector
from mobility.wire import ip6, mh
from tests.mobility.ipsec.keying import (
    AGENT,
    CARE_OF,
    HOME,
    OF_ESP,
    PEER,
    SPI,
    discarded,
    only,
    pair,
    scapy_twin,
)

GCM = Algorithm.AES_GCM_16
every_algorithm = pytest.mark.parametrize("algorithm", OF_ESP)


def udp(
    body: bytes = b"voice",
    source: IPv6Address = HOME,
    destination: IPv6Address = PEER,
    port: int = 5004,
    protocol: int = ip6.UDP,
) -> bytes:
    """A packet with ports (the checksum is no concern of IPsec)."""
    payload = port.to_bytes(2, "big") * 2 + (8 + len(body)).to_bytes(2, "big") + b"\1\1" + body
    return ip6.packet(source, destination, protocol, payload, hop_limit=63, traffic_class=0xB8)


def part(
    outbound: OutboundSA | None,
    inbound: InboundSA | None,
    local: IPv6Address = HOME,
    remote: IPv6Address = PEER,
    *,
    protocol: int | None = None,
    default: Action = Action.DISCARD,
    before: tuple[Policy, ...] = (),
) -> IpsecProcessing:
    """A part with one protecting policy between two addresses."""
    selector = Selector(only(local), only(remote), protocol)
    policy = Policy(selector, Action.PROTECT, outbound, inbound, "secret")
    return IpsecProcessing(SecurityPolicyDatabase([*before, policy], default))


def both_ends(
    algorithm: Algorithm = GCM, mode: Mode = Mode.TRANSPORT, *, spi: int = SPI, seed: int = 1
) -> tuple[IpsecProcessing, IpsecProcessing]:
    """Home's part and the peer's; associations in both directions."""
    there = pair(algorithm, mode=mode, spi=spi, seed=seed)
    back = pair(algorithm, mode=mode, spi=spi + 1, seed=seed + 1)
    return part(there[0], back[1]), part(back[0], there[1], PEER, HOME)


class TestTransport:
    @every_algorithm
    @given(body=st.binary(max_size=300), protocol=st.sampled_from([ip6.UDP, ip6.TCP, ip6.SCTP]))
    def test_comes_out_as_it_went_in(self, algorithm: Algorithm, body: bytes, protocol: int) -> None:
        home, peer = both_ends(algorithm)
        for _ in range(3):  # by policy, then by plan
            packet = udp(body, protocol=protocol)
            protected = home.protect(packet)
            assert (protected[6], protected[7:40]) == (ip6.ESP, packet[7:40])
            assert ip6.check(protected) == protected
            assert peer.accept(protected) == packet
            answer = udp(body, PEER, HOME, protocol=protocol)
            assert home.accept(peer.protect(answer)) == answer

    @every_algorithm
    def test_scapy_understands_it_and_is_understood(self, algorithm: Algorithm) -> None:
        home, peer = both_ends(algorithm)
        twin = scapy_twin(algorithm)
        for _ in range(2):
            packet = udp()
            assert bytes(twin.decrypt(IPv6(home.protect(packet)))) == packet
            assert peer.accept(bytes(twin.encrypt(IPv6(packet)))) == packet

    @every_algorithm
    def test_home_address_option_stays_outside_and_selects(self, algorithm: Algorithm) -> None:
        # A binding update as RFC 3776 section 3.1 wants it: IPv6, home address option, ESP, mobility header.
        there = pair(algorithm)
        selector = Selector(only(HOME), only(AGENT), ip6.MOBILITY, local_type=5, remote_type=6)
        mirrored = Selector(only(AGENT), only(HOME), ip6.MOBILITY, local_type=6, remote_type=5)
        terminal = IpsecProcessing(SecurityPolicyDatabase([Policy(selector, Action.PROTECT, there[0])], Action.DISCARD))
        agent = IpsecProcessing(
            SecurityPolicyDatabase([Policy(mirrored, Action.PROTECT, None, there[1])], Action.DISCARD)
        )
        update = mh.payload(mh.BindingUpdate(7, mh.UpdateFlag.ACKNOWLEDGE, 60), HOME, AGENT)
        headers = ip6.home_address_option(HOME, ip6.MOBILITY)
        packet = ip6.packet(CARE_OF, AGENT, ip6.DEST_OPTIONS, headers + update)
        protected = terminal.protect(packet)
        walked = ip6.walk(protected)
        assert (walked.home_address, walked.protocol, walked.offset) == (HOME.packed, ip6.ESP, 64)
        assert (update in protected) == (algorithm is Algorithm.NULL_HMAC_SHA2_256_128)
        assert agent.accept(protected) == packet
        # Unprotected it is refused, and so is another mobility message under the same association.
        discarded(Reason.POLICY_VIOLATED, lambda: agent.accept(packet))
        other = mh.payload(mh.HomeTestInit(bytes(8)), HOME, AGENT)
        discarded(
            Reason.POLICY_DISCARD,
            lambda: terminal.protect(ip6.packet(CARE_OF, AGENT, ip6.DEST_OPTIONS, headers + other)),
        )

    @every_algorithm
    def test_routing_header_stays_outside_and_selects(self, algorithm: Algorithm) -> None:
        there = pair(algorithm)
        agent = part(there[0], None, AGENT, HOME)
        terminal = part(None, there[1], HOME, AGENT)
        answer = mh.payload(mh.BindingAcknowledgement(0, 7, 60), AGENT, HOME)
        headers = ip6.routing_header(HOME, ip6.MOBILITY)
        packet = ip6.packet(AGENT, CARE_OF, ip6.ROUTING, headers + answer)
        protected = agent.protect(packet)
        assert ip6.walk(protected).protocol == ip6.ESP
        assert terminal.accept(protected) == packet

    def test_addresses_swapped_by_the_host_satisfy_the_policy_too(self) -> None:
        there = pair(GCM)
        agent, terminal = part(there[0], None, AGENT, HOME), part(None, there[1], HOME, AGENT)
        headers = ip6.routing_header(HOME, ip6.UDP)
        protected = agent.protect(ip6.packet(AGENT, CARE_OF, ip6.ROUTING, headers + bytes(8)))
        swapped = bytearray(protected)
        swapped[24:40], swapped[48:64], swapped[43] = HOME.packed, CARE_OF.packed, 0
        assert ip6.flow(terminal.accept(bytes(swapped))).destination == HOME.packed

    def test_bypass_leaves_the_packet_alone(self) -> None:
        bypass = Policy(Selector(protocol=ip6.ICMPV6), Action.BYPASS)
        bypass_udp = Policy(Selector(protocol=ip6.UDP, local_port=53), Action.BYPASS)
        home = part(*pair(GCM), before=(bypass, bypass_udp))
        echo = ip6.packet(HOME, PEER, ip6.ICMPV6, b"\x80\0\0\0\0\0\0\0")
        name = udp(port=53)
        for _ in range(2):
            assert home.protect(echo) == echo
            assert home.protect(name) == name
            assert home.accept(udp(source=PEER, destination=HOME, port=53)) == udp(
                source=PEER, destination=HOME, port=53
            )

    def test_ethernet_padding_is_no_part_of_the_packet(self) -> None:
        home, peer = both_ends()
        packet = udp()
        assert home.protect(packet) != packet
        assert peer.accept(home.protect(packet + bytes(9)) + bytes(3)) == packet
        assert peer.accept(home.protect(packet + bytes(9)) + bytes(3)) == packet


class TestPolicy:
    def test_no_policy(self) -> None:
        home, peer = both_ends()
        stranger = IPv6Address("2001:db8:bad::1")
        discarded(Reason.POLICY_DISCARD, lambda: home.protect(udp(destination=stranger)))
        discarded(Reason.POLICY_DISCARD, lambda: peer.accept(udp(source=stranger, destination=PEER)))

    def test_unprotected_where_protection_is_demanded(self) -> None:
        home, peer = both_ends()
        peer.accept(home.protect(udp()))
        for _ in range(2):
            discarded(Reason.POLICY_VIOLATED, lambda: peer.accept(udp()))

    def test_protected_where_none_is_wanted(self) -> None:
        there = pair(GCM)
        sender = part(there[0], None)
        receiver = IpsecProcessing(SecurityPolicyDatabase([], Action.BYPASS), [there[1]])
        for _ in range(2):
            discarded(Reason.POLICY_VIOLATED, lambda: receiver.accept(sender.protect(udp())))

    def test_by_an_association_of_another_policy(self) -> None:
        # Who holds the keys of one policy cannot speak in the name of another.
        first, second = pair(GCM, spi=0x1000, seed=1), pair(GCM, spi=0x2000, seed=2)
        other = IPv6Address("2001:db8:99::9")
        receiver = IpsecProcessing(
            SecurityPolicyDatabase(
                [
                    Policy(Selector(only(PEER), only(HOME)), Action.PROTECT, None, first[1]),
                    Policy(Selector(only(PEER), only(other)), Action.PROTECT, None, second[1]),
                ],
                Action.DISCARD,
            )
        )
        assert receiver.accept(part(first[0], None).protect(udp())) == udp()
        for _ in range(2):
            discarded(Reason.POLICY_VIOLATED, lambda: receiver.accept(part(second[0], None).protect(udp())))
        # The ESP of the one with the addresses of the other.
        forged = bytearray(part(second[0], None, other).protect(udp(source=other)))
        forged[8:24] = HOME.packed
        discarded(Reason.POLICY_VIOLATED, lambda: receiver.accept(bytes(forged)))

    def test_missing_association(self) -> None:
        home = part(None, None)
        discarded(Reason.SA_MISSING, lambda: home.protect(udp()))
        discarded(Reason.SA_MISSING, lambda: home.tunnel_for(udp()))
        discarded(Reason.SA_MISSING, lambda: home.accept(udp(source=PEER, destination=HOME)))

    def test_association_of_the_other_mode(self) -> None:
        tunnel, _ = both_ends(mode=Mode.TUNNEL)
        transport, peer = both_ends()
        for _ in range(2):
            assert "no transport mode" in discarded(Reason.SA_MISSING, lambda: tunnel.protect(udp())).detail
            assert tunnel.tunnel_for(udp()) is not None
            assert "no tunnel mode" in discarded(Reason.SA_MISSING, lambda: transport.tunnel_for(udp())).detail
        packet = transport.protect(udp())
        discarded(Reason.POLICY_VIOLATED, lambda: peer.decapsulate(packet))

    def test_unknown_spi(self) -> None:
        home, _ = both_ends()
        _, stranger = both_ends(spi=0x7000)
        assert "0xc0ffee01" in discarded(Reason.SA_UNKNOWN, lambda: stranger.accept(home.protect(udp()))).detail
        discarded(Reason.SA_UNKNOWN, lambda: stranger.decapsulate(home.protect(udp())))

    def test_esp_of_the_other_part_passes_only_by_name(self) -> None:
        home, peer = both_ends()
        protected = home.protect(udp())
        named = Policy(Selector(protocol=ip6.ESP), Action.BYPASS)
        outer = IpsecProcessing(SecurityPolicyDatabase([named], Action.DISCARD))
        assert peer.accept(outer.accept(outer.protect(protected))) == udp()
        anyone = IpsecProcessing(SecurityPolicyDatabase([], Action.BYPASS))
        discarded(Reason.SA_UNKNOWN, lambda: anyone.accept(protected))

    def test_two_associations_with_one_spi(self) -> None:
        first, second = pair(GCM), pair(GCM, seed=2)
        with pytest.raises(ValueError, match=r"SPI 0xc0ffee01: give each its own"):
            IpsecProcessing(SecurityPolicyDatabase([], Action.DISCARD), [first[1], second[1]])

    def test_replace_forgets_plans(self) -> None:
        home, peer = both_ends()
        protected = home.protect(udp())
        peer.accept(protected)
        again = home.protect(udp())
        nothing = SecurityPolicyDatabase([], Action.DISCARD)
        home.replace(nothing)
        peer.replace(nothing)
        discarded(Reason.POLICY_DISCARD, lambda: home.protect(udp()))
        discarded(Reason.SA_UNKNOWN, lambda: peer.accept(again))

    def test_a_failed_replace_changes_nothing(self) -> None:
        home, peer = both_ends()
        first, second = pair(GCM), pair(GCM, seed=2)
        with pytest.raises(ValueError, match="give each its own"):
            peer.replace(SecurityPolicyDatabase([], Action.DISCARD), [first[1], second[1]])
        assert peer.accept(home.protect(udp())) == udp()

    def test_plans_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processing, "PLAN_LIMIT", 10)
        home, peer = both_ends()
        for port in range(25):
            assert peer.accept(home.protect(udp(port=port))) == udp(port=port)
        assert len(home._outbound[ip6.UDP]) <= 10
        assert len(peer._inbound[ip6.UDP]) <= 10


class TestFragments:
    @pytest.mark.parametrize("offset", [0, 8])
    def test_outbound_fragment_cannot_be_protected(self, offset: int) -> None:
        home, _ = both_ends()
        body = b"%c\0%b\0\0\0\1" % (ip6.UDP, (offset | 1).to_bytes(2, "big")) + udp()[40:48]
        discarded(Reason.ESP_FRAGMENT, lambda: home.protect(ip6.packet(HOME, PEER, ip6.FRAGMENT, body)))

    def test_inbound_esp_must_be_reassembled_first(self) -> None:
        home, peer = both_ends()
        esp = home.protect(udp())[40:]
        first = ip6.packet(HOME, PEER, ip6.FRAGMENT, b"%c\0\0\1\0\0\0\1" % ip6.ESP + esp[:24])
        later = ip6.packet(HOME, PEER, ip6.FRAGMENT, b"%c\0\0\x18\0\0\0\1" % ip6.ESP + esp[24:])
        for fragment in (first, later):
            discarded(Reason.ESP_FRAGMENT, lambda fragment=fragment: peer.accept(fragment))  # type: ignore[misc]

    def test_inbound_fragment_does_not_slip_past_a_policy_on_ports(self) -> None:
        inbound = pair(GCM)[1]
        spd = SecurityPolicyDatabase(
            [
                Policy(Selector(protocol=ip6.UDP, local_port=5060), Action.PROTECT, None, inbound),
                Policy(Selector(), Action.BYPASS),
            ],
            Action.DISCARD,
        )
        later = ip6.packet(PEER, HOME, ip6.FRAGMENT, b"%c\0\0\x08\0\0\0\1" % ip6.UDP + bytes(8))
        discarded(Reason.POLICY_VIOLATED, lambda: IpsecProcessing(spd).accept(later))

    def test_a_fragment_may_enter_the_tunnel(self) -> None:
        home, peer = both_ends(mode=Mode.TUNNEL)
        fragment = ip6.packet(HOME, PEER, ip6.FRAGMENT, b"%c\0\0\x08\0\0\0\1" % ip6.UDP + bytes(8))
        sa = home.tunnel_for(fragment)
        assert sa is not None
        assert peer.decapsulate(encapsulate(fragment, sa, CARE_OF.packed, AGENT.packed)) == fragment


class TestTunnel:
    @every_algorithm
    @given(body=st.binary(max_size=300))
    def test_comes_out_as_it_went_in(self, algorithm: Algorithm, body: bytes) -> None:
        home, peer = both_ends(algorithm, Mode.TUNNEL)
        packet = udp(body)
        for _ in range(3):
            sa = home.tunnel_for(packet)
            assert sa is not None
            outer = encapsulate(packet, sa, CARE_OF.packed, AGENT.packed)
            seen = ip6.parse(outer)
            assert (seen.source, seen.destination, seen.next_header) == (CARE_OF, AGENT, ip6.ESP)
            assert seen.traffic_class == 0xB8
            assert peer.decapsulate(outer) == packet

    @every_algorithm
    def test_scapy_understands_it_and_is_understood(self, algorithm: Algorithm) -> None:
        home, peer = both_ends(algorithm, Mode.TUNNEL)
        twin = scapy_twin(algorithm, tunnel=(CARE_OF, AGENT))
        sa = home.tunnel_for(udp())
        assert sa is not None
        assert bytes(twin.decrypt(IPv6(encapsulate(udp(), sa, CARE_OF.packed, AGENT.packed)))) == udp()
        assert peer.decapsulate(bytes(twin.encrypt(IPv6(udp())))) == udp()

    def test_double_ipsec_of_figure_26(self) -> None:
        application, far = both_ends()
        tunnel, agent = both_ends(mode=Mode.TUNNEL, spi=0x9000, seed=8)
        for _ in range(3):
            inner = application.protect(udp())
            sa = tunnel.tunnel_for(inner)
            assert sa is not None
            outer = encapsulate(inner, sa, CARE_OF.packed, AGENT.packed)
            assert far.accept(agent.decapsulate(outer)) == udp()

    def test_mobile_header_of_figure_25(self) -> None:
        tunnel, agent = both_ends(mode=Mode.TUNNEL)
        sa = tunnel.tunnel_for(udp())
        assert sa is not None
        mobile = ip6.packet(CARE_OF, AGENT, ip6.IPV6, udp())
        came_by, next_header, inside = agent.unseal(encapsulate(mobile, sa, CARE_OF.packed, AGENT.packed))
        assert (next_header, inside) == (ip6.IPV6, mobile)
        agent.check(inside[40:], came_by)
        discarded(Reason.POLICY_DISCARD, lambda: agent.check(inside, came_by))

    def test_padding_that_hides_the_length_goes(self) -> None:
        # Traffic flow confidentiality: octets after the inner packet, within the payload (RFC 4303 section 2.7).
        sealing, opening = pair(GCM, mode=Mode.TUNNEL)
        agent = part(None, opening, PEER, HOME)
        outer = ip6.packet(CARE_OF, AGENT, ip6.ESP, sealing.seal(ip6.IPV6, udp() + bytes(100)))
        assert agent.decapsulate(outer) == udp()

    @pytest.mark.parametrize(("inner", "expected"), [(0, 0), (1, 3), (2, 3), (3, 3)])
    def test_congestion_seen_outside_is_told_inside(self, inner: int, expected: int) -> None:
        sealing, opening = pair(GCM, mode=Mode.TUNNEL)
        agent = part(None, opening, PEER, HOME)
        packet = ip6.packet(HOME, PEER, ip6.ICMPV6, bytes(8), traffic_class=0xB8 | inner)
        outer = bytearray(encapsulate(packet, sealing, CARE_OF.packed, AGENT.packed))
        outer[1] |= 0x30
        assert ip6.parse(agent.decapsulate(bytes(outer))).traffic_class == 0xB8 | expected

    def test_inner_packet_is_checked(self) -> None:
        sealing, opening = pair(GCM, mode=Mode.TUNNEL)
        agent = part(None, opening, PEER, HOME)

        def tunnelled(next_header: int, inner: bytes) -> bytes:
            return ip6.packet(CARE_OF, AGENT, ip6.ESP, sealing.seal(next_header, inner))

        for size in range(40 + 4):
            whole = udp()[:size]
            discarded(Reason.MALFORMED, lambda whole=whole: agent.decapsulate(tunnelled(ip6.IPV6, whole)))  # type: ignore[misc]
        discarded(Reason.POLICY_VIOLATED, lambda: agent.decapsulate(tunnelled(ip6.UDP, udp())))
        discarded(Reason.POLICY_DISCARD, lambda: agent.decapsulate(tunnelled(ip6.IPV6, udp(source=AGENT))))
        discarded(Reason.POLICY_VIOLATED, lambda: agent.accept(tunnelled(ip6.IPV6, udp())))

    def test_an_association_of_transport_mode_opens_no_tunnel(self) -> None:
        sealing, opening = pair(GCM, mode=Mode.TRANSPORT)
        agent = part(None, opening, PEER, HOME)
        outer = ip6.packet(CARE_OF, AGENT, ip6.ESP, sealing.seal(ip6.IPV6, udp()))
        discarded(Reason.POLICY_VIOLATED, lambda: agent.decapsulate(outer))


@pytest.mark.parametrize("mode", Mode)
def test_dummy_packets_are_dropped_by_their_own_name(mode: Mode) -> None:
    sealing, opening = pair(GCM, mode=mode)
    peer = part(None, opening, PEER, HOME)
    dummy = ip6.packet(HOME, PEER, ip6.ESP, sealing.seal(ip6.NO_NEXT, b"noise"))
    discarded(Reason.ESP_DUMMY, lambda: peer.accept(dummy) if mode is Mode.TRANSPORT else peer.decapsulate(dummy))
    if mode is Mode.TRANSPORT:
        behind = ip6.routing_header(PEER, ip6.ESP) + sealing.seal(ip6.NO_NEXT, b"noise")
        discarded(Reason.ESP_DUMMY, lambda: peer.accept(ip6.packet(HOME, AGENT, ip6.ROUTING, behind)))


class TestBadInput:
    @every_algorithm
    def test_every_changed_octet_of_the_esp_is_noticed_and_changes_nothing(self, algorithm: Algorithm) -> None:
        home, peer = both_ends(algorithm)
        peer.accept(home.protect(udp()))
        good = home.protect(udp())
        for at in range(40, len(good)):
            bad = bytearray(good)
            bad[at] ^= 0x40
            with pytest.raises(Discard) as caught:
                peer.accept(bytes(bad))
            assert caught.value.reason in (Reason.AUTHENTICATION_FAILED, Reason.SA_UNKNOWN)
        assert peer.accept(good) == udp()
        discarded(Reason.REPLAYED, lambda: peer.accept(good))

    def test_changed_addresses_do_not_satisfy_the_policy(self) -> None:
        home, peer = both_ends()
        for at in range(8, 40):
            bad = bytearray(home.protect(udp()))
            bad[at] ^= 1
            discarded(Reason.POLICY_DISCARD, lambda bad=bad: peer.accept(bytes(bad)))  # type: ignore[misc]

    def test_truncated_everywhere(self) -> None:
        home, peer = both_ends()
        packet = udp()
        protected = home.protect(packet)
        for size in range(len(packet)):
            discarded(Reason.MALFORMED, lambda size=size: home.protect(packet[:size]))  # type: ignore[misc]
        for size in range(len(protected)):
            discarded(Reason.MALFORMED, lambda size=size: peer.accept(protected[:size]))  # type: ignore[misc]
            if size >= 40:
                honest = ip6.packet(HOME, PEER, ip6.ESP, protected[40:size])
                with pytest.raises(Discard) as caught:
                    peer.accept(honest)
                assert caught.value.reason in (
                    Reason.SA_UNKNOWN,
                    Reason.ESP_MALFORMED,
                    Reason.AUTHENTICATION_FAILED,
                )
        assert peer.accept(protected) == packet

    @given(st.sampled_from([0, 6, 17, 43, 44, 50, 51, 58, 59, 60, 135, 255]), st.binary(max_size=120))
    def test_random_bytes_only_discard(self, next_header: int, body: bytes) -> None:
        home, peer = both_ends()
        tunnel, agent = both_ends(mode=Mode.TUNNEL)
        spi = SPI.to_bytes(4, "big")
        for packet in (
            body,
            ip6.packet(HOME, PEER, next_header, body),
            ip6.packet(HOME, PEER, next_header, spi + body),
        ):
            for call in (peer.accept, agent.decapsulate, agent.accept):
                with pytest.raises(Discard):
                    call(packet)
            try:
                assert ip6.check(home.protect(packet))
            except Discard:
                pass
            try:
                tunnel.tunnel_for(packet)
            except Discard:
                pass

    def test_too_large_for_esp(self) -> None:
        home, _ = both_ends()
        tunnel, _ = both_ends(mode=Mode.TUNNEL)
        large = udp(bytes(65535 - 8))
        for _ in range(2):
            assert "too large" in discarded(Reason.MALFORMED, lambda: home.protect(large)).detail
        behind = ip6.packet(CARE_OF, PEER, ip6.DEST_OPTIONS, ip6.home_address_option(HOME, 17) + large[40:-24])
        assert "too large" in discarded(Reason.MALFORMED, lambda: home.protect(behind)).detail
        sa = tunnel.tunnel_for(large)
        assert sa is not None
        discarded(Reason.MALFORMED, lambda: encapsulate(large, sa, CARE_OF.packed, AGENT.packed))
        assert home.protect(udp())
