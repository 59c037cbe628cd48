"""AH: against scapy and tshark, what it covers, what it bears, and every way to get it wrong."""

from __future__ import annotations

import subprocess
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import AH, IPSecIntegrityError, SecurityAssociation

from mobility.discards import Discard, Reason
from mobility.ipsec.ah import InboundAH, OutboundAH
from mobility.ipsec.algorithms import AH_SIZE, Algorithm, KeyingError, Keys
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.replay import SIZE
from mobility.ipsec.sa import LAST_SEQUENCE, InboundSA, Mode, OutboundSA, SequenceState
from mobility.ipsec.spd import Action, Policy, SecurityPolicyDatabase, Selector
from mobility.mipv6.signalling import from_terminal, open_message, to_terminal
from mobility.pcapng import PcapngWriter
from mobility.wire import ip6, mh
from tests.mobility.ipsec.keying import AGENT, CARE_OF, HOME, PEER, SPI, discarded, keys_for, only, pair

HMAC = Algorithm.HMAC_SHA2_256_128
CBC = Algorithm.AES_CBC_HMAC_SHA2_256_128
KEYS = keys_for(HMAC)
UPDATE = mh.BindingUpdate(7, mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.HOME_REGISTRATION, 60)
MUTABLE = {0: 0x0F, 1: 0xFF, 2: 0xFF, 3: 0xFF, 7: 0xFF}
"Octets of the header that routers change, with the bits concerned: traffic class, flow label, hop limit."


def ends(
    spi: int = SPI, *, esp: bool = False, seed: int = 1, state: SequenceState | None = None
) -> tuple[OutboundAH, InboundAH]:
    """The two ends of an association, with ESP inside if asked for."""
    out, inbound = pair(CBC, spi=spi + 0x100, seed=seed + 100) if esp else (None, None)
    keys = keys_for(HMAC, seed=seed)
    return OutboundAH(spi, HMAC, keys, inside=out, state=state), InboundAH(spi, HMAC, keys, inside=inbound, state=state)


def part(
    local: IPv6Address, remote: IPv6Address, out: OutboundSA | OutboundAH, inbound: InboundSA | InboundAH
) -> IpsecProcessing:
    """Signalling under these, all else refused."""
    policy = Policy(Selector(only(local), only(remote), ip6.MOBILITY), Action.PROTECT, out, inbound, "signalling")
    return IpsecProcessing(SecurityPolicyDatabase([policy], Action.DISCARD))


def both(*, esp: bool = False) -> tuple[IpsecProcessing, IpsecProcessing]:
    """The terminal's part and the home agent's."""
    there, back = ends(esp=esp), ends(SPI + 1, esp=esp, seed=2)
    return part(HOME, AGENT, there[0], back[1]), part(AGENT, HOME, back[0], there[1])


def twin() -> SecurityAssociation:
    """Scapy's association with the same key."""
    return SecurityAssociation(AH, spi=SPI, seq_num=1, auth_algo="SHA2-256-128", auth_key=KEYS.authentication)


def plain(body: bytes = b"speech", *, hops: bytes = b"") -> bytes:
    """A packet; ``hops``: octets of hop-by-hop options."""
    if not hops:
        return ip6.packet(HOME, PEER, ip6.UDP, body, traffic_class=0xB8, flow_label=0x12345)
    size = len(hops) + 2
    assert size % 8 == 0
    header = bytes((ip6.UDP, size // 8 - 1)) + hops
    return ip6.packet(HOME, PEER, ip6.HOP_BY_HOP, header + body)


def seal(packet: bytes, out: OutboundAH) -> bytes:
    return out.seal(packet, ip6.walk(packet))


def unseal(packet: bytes, inbound: InboundAH) -> bytes:
    return inbound.open(packet, ip6.walk(packet))


PACKETS = {
    "plain": plain(),
    "router alert": plain(hops=b"\x05\x02\0\0\x01\x00"),
    "an option that does not change": plain(hops=b"\x1e\x04abcd"),
    "an option that changes": plain(hops=b"\x3e\x04abcd"),
}


@pytest.mark.parametrize("name", PACKETS)
def test_scapy_understands_it_and_is_understood(name: str) -> None:
    packet = PACKETS[name]
    out, inbound = ends()
    sealed = seal(packet, out)
    assert len(sealed) == len(packet) + AH_SIZE == len(packet) + HMAC.overhead(len(packet))
    assert bytes(twin().encrypt(IPv6(packet), seq_num=1)) == sealed
    assert unseal(sealed, inbound) == packet
    other = InboundAH(SPI, HMAC, KEYS)
    assert unseal(bytes(twin().encrypt(IPv6(packet), seq_num=9)), other) == packet
    assert other.top == 9


def test_scapy_finds_it_authentic_as_the_final_destination_sees_it() -> None:
    terminal, agent = both()
    update = from_terminal(UPDATE, HOME, CARE_OF, AGENT, terminal)
    assert (update[8:24], update[48:64]) == (CARE_OF.packed, HOME.packed)
    swapped = update[:8] + HOME.packed + update[24:48] + CARE_OF.packed + update[64:]
    assert bytes(twin().decrypt(IPv6(swapped)))[64:] == mh.payload(UPDATE, HOME, AGENT)
    with pytest.raises(IPSecIntegrityError):
        twin().decrypt(IPv6(update))
    acknowledgement = mh.BindingAcknowledgement(0, 7, 60)
    answer = to_terminal(acknowledgement, AGENT, HOME, CARE_OF, agent)
    assert (answer[24:40], answer[43], answer[48:64]) == (CARE_OF.packed, 1, HOME.packed)
    swapped = answer[:24] + HOME.packed + answer[40:43] + b"\0" + answer[44:48] + CARE_OF.packed + answer[64:]
    back = twin()
    back.spi, back.auth_key = SPI + 1, keys_for(HMAC, seed=2).authentication
    assert bytes(back.decrypt(IPv6(swapped)))[64:] == mh.payload(acknowledgement, AGENT, HOME)


@pytest.mark.parametrize("esp", [False, True])
def test_binding_messages_there_and_back(esp: bool) -> None:
    terminal, agent = both(esp=esp)
    for care_of in (CARE_OF, HOME):  # abroad; at home, or in a datagram
        update = from_terminal(UPDATE, HOME, care_of, AGENT, terminal)
        assert (mh.payload(UPDATE, HOME, AGENT) in update) != esp
        assert ip6.walk(update).protocol == ip6.AH
        received = open_message(update, agent)
        assert (received.message, received.source, received.outer_source) == (UPDATE, HOME, care_of)
        assert received.under_ipsec
        acknowledgement = mh.BindingAcknowledgement(0, 7, 60)
        answer = open_message(to_terminal(acknowledgement, AGENT, HOME, care_of, agent), terminal)
        assert (answer.message, answer.destination, answer.outer_destination) == (acknowledgement, HOME, care_of)


@pytest.mark.parametrize("esp", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_every_octet_counts_that_routers_leave_alone(esp: bool, there: bool) -> None:
    terminal, agent = both(esp=esp)
    if there:
        packet, receiver = from_terminal(UPDATE, HOME, CARE_OF, AGENT, terminal), agent
    else:
        packet = to_terminal(mh.BindingAcknowledgement(0, 7, 60), AGENT, HOME, CARE_OF, agent)
        receiver = terminal
    dice = Random(4302)
    for at in range(len(packet)):
        bit = 1 << dice.randrange(8)
        if MUTABLE.get(at, 0) & bit:
            continue
        changed = bytearray(packet)
        changed[at] ^= bit
        with pytest.raises(Discard):
            open_message(bytes(changed), receiver)
    # Neither the window moved nor anything else, and what routers change is borne.
    changed = bytearray(packet)
    changed[0:4], changed[7] = b"\x6f\xff\xff\xff", 3
    assert open_message(bytes(changed), receiver).under_ipsec


@given(octets=st.binary(min_size=1, max_size=120), cut=st.integers(0, 120))
def test_nonsense_has_a_name(octets: bytes, cut: int) -> None:
    _, agent = both(esp=True)
    body = (bytes((ip6.MOBILITY, 6, 0, 0)) + SPI.to_bytes(4) + octets)[:cut]
    packet = ip6.packet(HOME, AGENT, ip6.AH, body)
    with pytest.raises(Discard) as caught:
        agent.accept(packet)
    assert caught.value.reason in (
        Reason.AH_MALFORMED,
        Reason.AUTHENTICATION_FAILED,
        Reason.REPLAYED,
        Reason.SA_UNKNOWN,
    )


def test_wrong_in_every_way() -> None:
    out, inbound = ends()
    packet = seal(plain(), out)

    def changed(at: int, value: int) -> bytes:
        return packet[:at] + bytes((value,)) + packet[at + 1 :]

    discarded(Reason.SA_UNKNOWN, lambda: unseal(changed(44, 1), inbound))
    for words in (0, 5, 7, 255):
        discarded(Reason.AH_MALFORMED, lambda words=words: unseal(changed(41, words), inbound))  # type: ignore[misc]
    for size in range(40, 40 + AH_SIZE):
        cut = ip6.packet(HOME, PEER, ip6.AH, packet[40:size])
        discarded(Reason.AH_MALFORMED, lambda cut=cut: unseal(cut, inbound))  # type: ignore[misc]
    first = ip6.packet(HOME, PEER, ip6.FRAGMENT, b"\x33\0\0\x01\0\0\0\x09" + packet[40:])
    discarded(Reason.AH_MALFORMED, lambda: unseal(first, inbound))
    discarded(Reason.AUTHENTICATION_FAILED, lambda: unseal(packet, ends(seed=5)[1]))
    other = ip6.packet(HOME, PEER, ip6.ROUTING, b"\x11\0\0\x01" + bytes(4) + b"speech")
    discarded(Reason.HEADER_UNKNOWN, lambda: seal(other, out))
    assert (inbound.packets, inbound.failed, inbound.top) == (0, 0, 0)
    behind = ip6.packet(HOME, PEER, ip6.AH, bytes(8))
    discarded(Reason.HEADER_UNKNOWN, lambda: unseal(seal(behind, OutboundAH(SPI, HMAC, KEYS)), inbound))
    large = ip6.packet(HOME, PEER, ip6.UDP, bytes(0xFFFF - AH_SIZE + 1))
    discarded(Reason.MALFORMED, lambda: seal(large, out))


def test_replays_and_what_is_too_old() -> None:
    out, inbound = ends()
    packets = [seal(plain(bytes((n & 0xFF,))), out) for n in range(SIZE + 2)]
    late = packets[1]
    unseal(packets[0], inbound)
    discarded(Reason.REPLAYED, lambda: unseal(packets[0], inbound))
    unseal(packets[-1], inbound)
    discarded(Reason.REPLAYED, lambda: unseal(late, inbound))
    assert unseal(packets[2], inbound) == plain(b"\x02")
    discarded(Reason.REPLAYED, lambda: unseal(packets[2], inbound))
    assert (inbound.packets, inbound.replayed) == (3, 3)


def test_a_restart_neither_repeats_a_number_nor_takes_a_replay() -> None:
    state = SequenceState()
    out, inbound = ends(state=state)
    packet = seal(plain(), out)
    unseal(packet, inbound)
    again, inbound_again = ends(state=state)
    discarded(Reason.REPLAYED, lambda: unseal(packet, inbound_again))
    later = seal(plain(), again)
    assert again.sequence > out.sequence
    assert unseal(later, inbound_again) == plain()
    out.resume()
    assert (out.packets, out.sequence >= again.sequence) == (1, True)
    inbound.resume()
    discarded(Reason.REPLAYED, lambda: unseal(later, inbound))
    state.cells[0] = LAST_SEQUENCE
    out.resume()
    discarded(Reason.SEQUENCE_EXHAUSTED, lambda: seal(plain(), out))


def test_a_takeover_goes_on_with_both_numbers_of_a_bundle() -> None:
    out, inbound = ends(esp=True)
    assert out.inside is not None
    assert inbound.inside is not None
    before = out.inside.sequence
    out.inside._state.reserve(5000)
    inbound.inside._cells[1] = 77
    out.resume()
    inbound.resume()
    assert out.inside.sequence > before + 5000
    assert inbound.inside.top == 77


def test_what_the_policy_demands_and_nothing_else() -> None:
    """AH where ESP is demanded, ESP where AH is, one of two, one around the other, nothing at all."""
    ah, esp, bundle = ends(), pair(CBC, spi=0x2001), ends(0x3001, esp=True, seed=3)
    ah_back, esp_back, bundle_back = ends(0x4001), pair(CBC, spi=0x4002), ends(0x4003, esp=True)
    demands: dict[str, tuple[IpsecProcessing, IpsecProcessing]] = {
        "ah": (part(HOME, AGENT, ah[0], ah_back[1]), part(AGENT, HOME, ah_back[0], ah[1])),
        "esp": (part(HOME, AGENT, esp[0], esp_back[1]), part(AGENT, HOME, esp_back[0], esp[1])),
        "ah+esp": (part(HOME, AGENT, bundle[0], bundle_back[1]), part(AGENT, HOME, bundle_back[0], bundle[1])),
    }
    homes = {"ah": HOME, "esp": PEER, "ah+esp": CARE_OF}
    # One home agent that knows all three associations, each demanded of another terminal.
    policies = [
        Policy(Selector(only(AGENT), only(homes[name]), ip6.MOBILITY), Action.PROTECT, None, inbound)
        for name, inbound in (("ah", ah[1]), ("esp", esp[1]), ("ah+esp", bundle[1]))
    ]
    agent = IpsecProcessing(SecurityPolicyDatabase(policies, Action.DISCARD))
    body = mh.payload(UPDATE, HOME, AGENT)
    terminals: dict[str, OutboundSA | OutboundAH] = {"ah": ah[0], "esp": esp[0], "ah+esp": bundle[0]}
    everything = Selector(IPv6Network("::/0"), only(AGENT))
    for name, out in terminals.items():
        sender = IpsecProcessing(SecurityPolicyDatabase([Policy(everything, Action.PROTECT, out)], Action.DISCARD))
        for demanded, home in homes.items():
            packet = sender.protect(ip6.packet(home, AGENT, ip6.MOBILITY, body))
            if demanded == name:
                assert agent.accept(packet) == ip6.packet(home, AGENT, ip6.MOBILITY, body)
            else:
                discarded(Reason.POLICY_VIOLATED, lambda packet=packet: agent.accept(packet))  # type: ignore[misc]
        bare = ip6.packet(homes[name], AGENT, ip6.MOBILITY, body)
        discarded(Reason.POLICY_VIOLATED, lambda bare=bare: agent.accept(bare))  # type: ignore[misc]
        # A message without any protection is called so, and the associations of others are unknown.
        terminal, home_agent = demands[name]
        unprotected = IpsecProcessing(SecurityPolicyDatabase([], Action.BYPASS))
        naked = from_terminal(UPDATE, HOME, CARE_OF, AGENT, unprotected)
        discarded(Reason.NOT_PROTECTED, lambda naked=naked, home_agent=home_agent: open_message(naked, home_agent))  # type: ignore[misc]
        for other, (stranger, _) in demands.items():
            if other != name:
                foreign = from_terminal(UPDATE, HOME, CARE_OF, AGENT, stranger)
                with pytest.raises(Discard) as caught:
                    open_message(foreign, home_agent)
                assert caught.value.reason in (Reason.SA_UNKNOWN, Reason.POLICY_VIOLATED, Reason.POLICY_DISCARD)
        assert open_message(from_terminal(UPDATE, HOME, CARE_OF, AGENT, terminal), home_agent).message == UPDATE


def test_esp_that_lost_its_ah_does_not_move_the_window() -> None:
    terminal, agent = both(esp=True)
    packet = from_terminal(UPDATE, HOME, CARE_OF, AGENT, terminal)
    stripped = bytearray(packet[:64] + packet[64 + AH_SIZE :])
    stripped[4:6] = (len(stripped) - 40).to_bytes(2)
    stripped[40] = ip6.ESP
    caught = discarded(Reason.POLICY_VIOLATED, lambda: open_message(bytes(stripped), agent))
    assert "without its AH" in caught.detail
    assert open_message(packet, agent).message == UPDATE


def test_ah_without_the_esp_that_belongs_inside() -> None:
    _, agent = both(esp=True)
    update = ip6.packet(HOME, AGENT, ip6.MOBILITY, mh.payload(UPDATE, HOME, AGENT))
    discarded(Reason.POLICY_VIOLATED, lambda: agent.accept(seal(update, ends()[0])))


def test_an_association_for_somebody_else_stays_whole() -> None:
    # A part without associations of AH, or whose policy says so by name, lets it through to the programs.
    packet = seal(plain(), ends()[0])
    nothing = IpsecProcessing(SecurityPolicyDatabase([], Action.BYPASS))
    assert nothing.accept(packet) == packet
    named = Policy(Selector(protocol=ip6.AH), Action.BYPASS)
    own = Policy(Selector(only(AGENT)), Action.PROTECT, *ends(0x5001))
    some = IpsecProcessing(SecurityPolicyDatabase([named, own], Action.DISCARD))
    assert some.accept(packet) == packet
    strict = IpsecProcessing(SecurityPolicyDatabase([own], Action.BYPASS))
    discarded(Reason.SA_UNKNOWN, lambda: strict.accept(packet))


def test_ah_is_not_for_tunnels() -> None:
    policy = Policy(Selector(only(HOME)), Action.PROTECT, ends()[0], None, "tunnel")
    security = IpsecProcessing(SecurityPolicyDatabase([policy], Action.DISCARD))
    discarded(Reason.SA_MISSING, lambda: security.tunnel_for(plain()))


def test_plans_of_flows_do_not_leave_ah_out() -> None:
    there = ends(esp=True)
    selector = Selector(protocol=ip6.UDP)
    sender = IpsecProcessing(SecurityPolicyDatabase([Policy(selector, Action.PROTECT, there[0])], Action.DISCARD))
    receiver = IpsecProcessing(
        SecurityPolicyDatabase([Policy(selector, Action.PROTECT, None, there[1])], Action.DISCARD)
    )
    packet = ip6.packet(HOME, PEER, ip6.UDP, bytes(20))
    for _ in range(3):
        protected = sender.protect(packet)
        assert protected[6] == ip6.AH
        assert receiver.accept(protected) == packet
        discarded(Reason.POLICY_VIOLATED, lambda: receiver.accept(packet))


def test_keying() -> None:
    with pytest.raises(KeyingError, match="is for ESP"):
        OutboundAH(SPI, CBC, keys_for(CBC))
    with pytest.raises(KeyingError, match="is for AH"):
        InboundSA(SPI, HMAC, KEYS, Mode.TRANSPORT)
    with pytest.raises(KeyingError, match="authentication key of 32"):
        InboundAH(SPI, HMAC, Keys(b"", bytes(31)))
    with pytest.raises(KeyingError, match="reserved"):
        InboundAH(255, HMAC, KEYS)
    with pytest.raises(KeyingError, match="tunnel mode"):
        OutboundAH(SPI, HMAC, KEYS, inside=pair(CBC, mode=Mode.TUNNEL)[0])
    bundle = ends(esp=True)[1]
    with pytest.raises(ValueError, match="two inbound associations"):
        IpsecProcessing(SecurityPolicyDatabase([], Action.DISCARD), [bundle, pair(CBC, spi=SPI + 0x100)[1]])
    with pytest.raises(ValueError, match="two inbound associations"):
        IpsecProcessing(SecurityPolicyDatabase([], Action.DISCARD), [ends()[1], pair(CBC)[1]])
    for text in (repr(bundle), str(bundle.describe()), repr(ends()[0]), str(ends(esp=True)[0].describe())):
        assert KEYS.authentication.hex() not in text
        assert HMAC.value in text


@pytest.mark.interop
def test_tshark_reads_it_without_complaint(tmp_path: Path) -> None:
    terminal, agent = both()
    capture = tmp_path / "capture.pcapng"
    with capture.open("wb") as file:
        writer = PcapngWriter(file)
        writer.write("eth0", from_terminal(UPDATE, HOME, CARE_OF, AGENT, terminal), 1.0)
        writer.write("eth0", to_terminal(mh.BindingAcknowledgement(0, 7, 60), AGENT, HOME, CARE_OF, agent), 2.0)
        file.flush()
    fields = ("ah.spi", "ah.sequence", "ah.length", "mip6.mhtype", "_ws.malformed", "_ws.expert.message")
    options = [word for name in fields for word in ("-e", name)]
    result = subprocess.run(
        ["tshark", "-r", str(capture), "-T", "fields", *options], capture_output=True, text=True, check=True, timeout=60
    )
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[:4] for row in rows] == [[f"0x{SPI:08x}", "1", "6", "5"], [f"0x{SPI + 1:08x}", "1", "6", "6"]]
    assert [row[4:] for row in rows] == [["", ""], ["", ""]]
