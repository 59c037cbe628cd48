"""Mobility headers against scapy in both directions, and against nonsense."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    MIP6MH_BA,
    MIP6MH_BE,
    MIP6MH_BRR,
    MIP6MH_BU,
    IPv6,
    MIP6MH_CoT,
    MIP6MH_CoTI,
    MIP6MH_HoT,
    MIP6MH_HoTI,
    MIP6OptAltCoA,
    MIP6OptBindingAuthData,
    MIP6OptBRAdvice,
    MIP6OptMobNetPrefix,
    MIP6OptNonceIndices,
    Pad1,
    PadN,
)

from mobility.wire import ip6, mh
from mobility.wire.errors import WireError
from tests.mobility.wire.values import cookie, outcome, u8, u16, unicast

A, B = IPv6Address("2001:db8::a"), IPv6Address("2001:db8::b")
lifetimes = st.integers(0, 0xFFFF).map(lambda units: units * 4)
update_flags = st.sets(st.sampled_from(list(mh.UpdateFlag))).map(lambda chosen: mh.UpdateFlag(sum(chosen)))
ack_flags = st.sets(st.sampled_from(list(mh.AckFlag))).map(lambda chosen: mh.AckFlag(sum(chosen)))
unknown_options = st.builds(mh.UnknownMobilityOption, st.integers(40, 255), st.binary(max_size=20))
vendor_options = st.builds(mh.VendorSpecific, st.integers(0, 0xFFFFFFFF), u8, st.binary(max_size=20))
ipv4, prefix_lengths = st.ip_addresses(v=4), st.integers(0, 63)
dual_stack_options = st.one_of(
    st.builds(mh.IPv4HomeAddress, ipv4, prefix_lengths),
    st.builds(mh.IPv4AddressAcknowledgement, u8, ipv4, prefix_lengths),
    st.builds(mh.NatDetection, st.integers(0, 0xFFFFFFFF), st.booleans()),
    st.builds(mh.IPv4CareOfAddress, ipv4),
    st.builds(mh.BindingIdentifier, u16, u8, st.booleans(), st.one_of(st.none(), ipv4, unicast)),
)
# The authorization data must be the last option (RFC 6275 section 6.2.7).
options = st.tuples(
    st.lists(
        st.one_of(
            st.builds(mh.BindingRefreshAdvice, lifetimes),
            st.builds(mh.AlternateCareOfAddress, unicast),
            st.builds(mh.NonceIndices, u16, u16),
            st.builds(mh.MobileNetworkPrefix, unicast, u8),
            unknown_options,
            vendor_options,
            dual_stack_options,
        ),
        max_size=4,
    ),
    st.lists(st.builds(mh.BindingAuthorizationData, st.binary(min_size=12, max_size=12)), max_size=1),
).map(lambda both: (*both[0], *both[1]))
messages = st.one_of(
    st.builds(mh.BindingRefreshRequest, options),
    st.builds(mh.HomeTestInit, cookie, options),
    st.builds(mh.CareOfTestInit, cookie, options),
    st.builds(mh.HomeTest, u16, cookie, cookie, options),
    st.builds(mh.CareOfTest, u16, cookie, cookie, options),
    st.builds(mh.BindingUpdate, u16, update_flags, lifetimes, options),
    st.builds(mh.BindingAcknowledgement, u8, u16, lifetimes, ack_flags, options),
    st.builds(mh.BindingError, u8, unicast, options),
)


def in_scapy(message: mh.Message) -> IPv6:
    """What scapy reads in a packet with the message; its own checksum must agree."""
    seen = IPv6(ip6.packet(A, B, ip6.MOBILITY, mh.payload(message, A, B)))
    again = seen.copy()
    del again.payload.cksum
    assert IPv6(bytes(again)).payload.cksum == seen.payload.cksum
    return seen.payload


def from_scapy(layer: object) -> mh.Message:
    """What we read in a message that scapy built."""
    packet = bytes(IPv6(src=str(A), dst=str(B)) / layer)
    return mh.parse(packet[40:], A, B)


@given(messages)
def test_comes_back_as_it_was_built(message: mh.Message) -> None:
    data = mh.payload(message, A, B)
    assert len(data) % 8 == 0
    assert mh.parse(data, A, B) == message


@given(messages)
def test_scapy_reads_the_same_options_at_their_alignment(message: mh.Message) -> None:
    seen = [option for option in in_scapy(message).options if not isinstance(option, Pad1 | PadN)]
    assert len(seen) == len(message.options)  # type: ignore[union-attr]
    data = bytes(message)
    for ours, theirs in zip(message.options, seen, strict=True):  # type: ignore[union-attr]
        match ours:
            case mh.BindingRefreshAdvice(interval):
                assert isinstance(theirs, MIP6OptBRAdvice)
                assert theirs.rinter * 4 == interval
            case mh.AlternateCareOfAddress(address):
                assert isinstance(theirs, MIP6OptAltCoA)
                assert IPv6Address(theirs.acoa) == address
                assert data.index(b"\x03\x10" + address.packed) % 8 == 6
            case mh.NonceIndices(home, care_of):
                assert isinstance(theirs, MIP6OptNonceIndices)
                assert (theirs.hni, theirs.coni) == (home, care_of)
            case mh.MobileNetworkPrefix(prefix, length):
                assert isinstance(theirs, MIP6OptMobNetPrefix)
                assert (IPv6Address(theirs.prefix), theirs.plen) == (prefix, length)
                assert data.index(b"\x06\x12\0%c%b" % (length, prefix.packed)) % 8 == 4
            case mh.BindingAuthorizationData(authenticator):
                assert isinstance(theirs, MIP6OptBindingAuthData)
                assert data.rindex(b"\x05\x0c" + authenticator) % 8 == 2
                assert data.endswith(authenticator)
            case mh.VendorSpecific(vendor, subtype, body):
                assert (theirs.otype, theirs.olen) == (19, 5 + len(body))
                assert data.index(b"\x13%c%b%c%b" % (5 + len(body), vendor.to_bytes(4), subtype, body)) % 4 == 2
            case mh.UnknownMobilityOption() | mh.BindingIdentifier() | mh.NatDetection():
                kind, body = ours.kind, bytes(ours)
                assert (theirs.otype, theirs.olen) == (kind, len(body))
            case mh.IPv4HomeAddress() | mh.IPv4AddressAcknowledgement() | mh.IPv4CareOfAddress():
                kind, body = ours.kind, bytes(ours)
                assert (theirs.otype, theirs.olen) == (kind, len(body))


class TestScapyReads:
    @given(u16, update_flags, lifetimes)
    def test_binding_update(self, sequence: int, flags: mh.UpdateFlag, lifetime: int) -> None:
        seen = in_scapy(mh.BindingUpdate(sequence, flags, lifetime))
        assert isinstance(seen, MIP6MH_BU)
        assert (seen.seq, seen.mhtime * 4) == (sequence, lifetime)
        letters = {"A": 0x8000, "H": 0x4000, "L": 0x2000, "K": 0x1000, "M": 0x0800, "R": 0x0400, "P": 0x0200}
        for letter, flag in letters.items():
            assert (letter in str(seen.flags)) == bool(flags & flag)

    @given(u8, u16, lifetimes, ack_flags)
    def test_binding_acknowledgement(self, status: int, sequence: int, lifetime: int, flags: mh.AckFlag) -> None:
        seen = in_scapy(mh.BindingAcknowledgement(status, sequence, lifetime, flags))
        assert isinstance(seen, MIP6MH_BA)
        assert (seen.status, seen.seq, seen.mhtime * 4) == (status, sequence, lifetime)
        for letter, flag in {"K": 0x80, "R": 0x40, "P": 0x20}.items():
            assert (letter in str(seen.flags)) == bool(flags & flag)

    @given(u16, cookie, cookie)
    def test_return_routability(self, nonce: int, first: bytes, second: bytes) -> None:
        for init, scapys in ((mh.HomeTestInit, MIP6MH_HoTI), (mh.CareOfTestInit, MIP6MH_CoTI)):
            seen = in_scapy(init(first))
            assert isinstance(seen, scapys)
            assert seen.cookie == first
        home, care_of = in_scapy(mh.HomeTest(nonce, first, second)), in_scapy(mh.CareOfTest(nonce, first, second))
        assert isinstance(home, MIP6MH_HoT)
        assert isinstance(care_of, MIP6MH_CoT)
        for seen in (home, care_of):
            assert (seen.index, seen.cookie, seen.token) == (nonce, first, second)

    @given(u8, unicast)
    def test_error_and_refresh(self, status: int, home: IPv6Address) -> None:
        seen = in_scapy(mh.BindingError(status, home))
        assert isinstance(seen, MIP6MH_BE)
        assert (seen.status, IPv6Address(seen.ha)) == (status, home)
        assert isinstance(in_scapy(mh.BindingRefreshRequest()), MIP6MH_BRR)


class TestScapyBuilds:
    @given(u16, st.integers(0, 0xFFFF), unicast)
    def test_binding_update(self, sequence: int, units: int, care_of: IPv6Address) -> None:
        layer = MIP6MH_BU(seq=sequence, flags="HA", mhtime=units, options=[MIP6OptAltCoA(acoa=str(care_of))])
        message = from_scapy(layer)
        flags = mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.HOME_REGISTRATION
        expected = mh.BindingUpdate(sequence, flags, units * 4, (mh.AlternateCareOfAddress(care_of),))
        assert message == expected
        assert expected.alternate_care_of == care_of

    @given(u8, u16, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
    def test_binding_acknowledgement(self, status: int, sequence: int, units: int, refresh: int) -> None:
        layer = MIP6MH_BA(
            status=status, flags="R", seq=sequence, mhtime=units, options=[MIP6OptBRAdvice(rinter=refresh)]
        )
        message = from_scapy(layer)
        advice = (mh.BindingRefreshAdvice(refresh * 4),)
        assert message == mh.BindingAcknowledgement(status, sequence, units * 4, mh.AckFlag.MOBILE_ROUTER, advice)
        assert isinstance(message, mh.BindingAcknowledgement)
        assert (message.accepted, message.refresh_interval) == (status < 128, refresh * 4)

    @given(u16, u16, st.binary(min_size=12, max_size=12))
    def test_authorized_update(self, home: int, care_of: int, authenticator: bytes) -> None:
        # Scapy's default lengths of these two options are wrong, so they are given.
        authorization = MIP6OptBindingAuthData(olen=12, authenticator=int.from_bytes(authenticator, "big"))
        layer = MIP6MH_BU(options=[MIP6OptNonceIndices(olen=4, hni=home, coni=care_of), authorization])
        message = from_scapy(layer)
        assert isinstance(message, mh.BindingUpdate)
        assert message.options == (mh.NonceIndices(home, care_of), mh.BindingAuthorizationData(authenticator))

    @given(u16, cookie, cookie)
    def test_return_routability(self, nonce: int, first: bytes, second: bytes) -> None:
        assert from_scapy(MIP6MH_HoTI(cookie=first)) == mh.HomeTestInit(first)
        assert from_scapy(MIP6MH_CoTI(cookie=first)) == mh.CareOfTestInit(first)
        assert from_scapy(MIP6MH_HoT(index=nonce, cookie=first, token=second)) == mh.HomeTest(nonce, first, second)
        assert from_scapy(MIP6MH_CoT(index=nonce, cookie=first, token=second)) == mh.CareOfTest(nonce, first, second)

    @given(u8, unicast)
    def test_error_and_refresh(self, status: int, home: IPv6Address) -> None:
        assert from_scapy(MIP6MH_BE(status=status, ha=str(home))) == mh.BindingError(status, home)
        assert from_scapy(MIP6MH_BRR()) == mh.BindingRefreshRequest()


def test_unknown_type_is_kept_to_be_answered() -> None:
    data = mh.payload(mh.UnknownMessage(99, bytes(10)), A, B)
    assert mh.parse(data, A, B) == mh.UnknownMessage(99, bytes(10))


def test_flags_of_later_documents_are_ignored() -> None:
    data = bytearray(bytes(mh.BindingUpdate(1, mh.UpdateFlag.ACKNOWLEDGE, 4)))
    data[9] = 0xFF
    assert mh.BindingUpdate.parse(bytes(data)).flags == mh.UpdateFlag.ACKNOWLEDGE
    data = bytearray(bytes(mh.BindingAcknowledgement(0, 1, 4)))
    data[7] = 0xFF
    known = mh.AckFlag.KEY_MANAGEMENT | mh.AckFlag.MOBILE_ROUTER | mh.AckFlag.PROXY
    assert mh.BindingAcknowledgement.parse(bytes(data)).flags == known


@pytest.mark.parametrize(
    ("seconds", "says"), [(0, 0), (3, 0), (4, 4), (7, 4), (0xFFFF * 4, 0xFFFF * 4), (10**9, 0xFFFF * 4)]
)
def test_lifetime_is_rounded_down_to_what_the_wire_can_say(seconds: int, says: int) -> None:
    assert mh.BindingUpdate.parse(bytes(mh.BindingUpdate(1, mh.UpdateFlag(0), seconds))).lifetime == says


class TestNonsense:
    update = mh.payload(
        mh.BindingUpdate(
            1, mh.UpdateFlag.ACKNOWLEDGE, 60, (mh.AlternateCareOfAddress(A), mh.UnknownMobilityOption(200, b"abc"))
        ),
        A,
        B,
    )

    def test_every_changed_octet_is_noticed(self) -> None:
        for at in range(len(self.update)):
            bad = bytearray(self.update)
            bad[at] ^= 0x20
            with pytest.raises(WireError):
                mh.parse(bytes(bad), A, B)

    def test_other_addresses(self) -> None:
        with pytest.raises(WireError, match="wrong checksum"):
            mh.parse(self.update, A, A)

    def test_payload_follows(self) -> None:
        with pytest.raises(WireError, match="payload proto is 17") as caught:
            mh.parse(b"\x11" + self.update[1:], A, B)
        assert caught.value.at == 0

    @given(messages)
    def test_truncated_everywhere(self, message: mh.Message) -> None:
        data = mh.payload(message, A, B)
        for size in range(len(data)):
            assert outcome(lambda cut: mh.parse(cut, A, B), data[:size]) == "refused"
            if size and size % 8 == 0:
                # With a header that tells the truth about its length: refused, or whole options are missing.
                honest = _with_checksum(data[:1] + bytes((size // 8 - 1,)) + data[2:size])
                outcome(lambda cut: mh.parse(cut, A, B), honest)

    @pytest.mark.parametrize(
        ("kind", "length", "what"),
        [
            (2, 1, "refresh"),
            (3, 15, "alternate"),
            (4, 2, "nonce"),
            (5, 10, "authorization"),
            (19, 4, "vendor"),
            (29, 5, "IPv4 home address"),
            (30, 7, "IPv4 address acknowledgement"),
            (31, 4, "NAT detection"),
            (32, 4, "IPv4 care-of address"),
            (35, 6, "binding identifier"),
            (9, 200, "mobility option"),
        ],
    )
    def test_option_of_wrong_length(self, kind: int, length: int, what: str) -> None:
        body = b"\x3b\0\x05\0\0\0\0\1\0\0\0\4" + bytes((kind, length)) + bytes(length if length < 100 else 10)
        body += bytes(-len(body) % 8)
        with pytest.raises(WireError, match=what) as caught:
            mh.parse(_with_checksum(body[:1] + bytes((len(body) // 8 - 1,)) + body[2:]), A, B)
        assert caught.value.at in (12, 13)

    @pytest.mark.parametrize("kind", list(mh.Type))
    def test_too_short_for_its_type(self, kind: mh.Type) -> None:
        data = _with_checksum(b"\x3b\0%c\0\0\0\0\0" % kind)
        if kind is mh.Type.BINDING_REFRESH_REQUEST:
            assert mh.parse(data, A, B) == mh.BindingRefreshRequest()
        else:
            with pytest.raises(WireError, match="needs"):
                mh.parse(data, A, B)

    @given(u8, st.binary(max_size=60))
    def test_random_bytes_only_raise_wire_error(self, kind: int, body: bytes) -> None:
        outcome(lambda data: mh.parse(data, A, B), body)
        body += bytes(-(len(body) + 6) % 8)
        data = b"\x3b%c%c\0\0\0%b" % ((len(body) + 6) // 8 - 1, kind % 9, body)
        outcome(lambda data: mh.parse(data, A, B), _with_checksum(data))

    def test_values_that_cannot_be_sent(self) -> None:
        with pytest.raises(ValueError, match="cookie has 8 octets, not 7"):
            bytes(mh.HomeTestInit(bytes(7)))
        with pytest.raises(ValueError, match="authenticator has 12 octets"):
            bytes(mh.BindingRefreshRequest((mh.BindingAuthorizationData(bytes(11)),)))
        with pytest.raises(ValueError, match="at most 2048 octets"):
            bytes(mh.BindingRefreshRequest((mh.UnknownMobilityOption(99, bytes(250)),) * 9))


def _with_checksum(data: bytes) -> bytes:
    data = data[:4] + b"\0\0" + data[6:]
    value = ip6.checksum(A.packed, B.packed, ip6.MOBILITY, data)
    return data[:4] + value.to_bytes(2, "big") + data[6:]
