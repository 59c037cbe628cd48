"""Messages as bytes: our own way there and back, and what scapy makes of them."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.ikev2 import IKEv2, IKEv2_KE, IKEv2_Nonce, IKEv2_Notify, IKEv2_SA

from mobility.ipsec.ike import numbers
from mobility.ipsec.ike.message import Header, Message, parse_payloads, write_payloads
from mobility.ipsec.ike.numbers import Exchange, Flag, Group, Notification, PayloadType
from mobility.ipsec.ike.payloads import (
    AuthPayload,
    CertificatePayload,
    ConfigurationPayload,
    DeletePayload,
    IdentificationPayload,
    Identity,
    KeyExchangePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    UnknownPayload,
    VendorIdPayload,
)
from mobility.ipsec.ike.proposals import SaPayload, choose, esp_offer, ike_offer
from mobility.ipsec.ike.traffic import TrafficSelector, TrafficSelectorPayload, narrow, within
from mobility.wire.errors import WireError
from tests.mobility.ipsec.ike.world import HOME, World

EVERYTHING: tuple[Payload, ...] = (
    SaPayload(tuple(each.with_spi(b"\1\2\3\4") for each in esp_offer(groups=(Group.P256,)))),
    KeyExchangePayload(Group.X25519, bytes(32)),
    IdentificationPayload(PayloadType.IDI, Identity.of("laptop@example.org")),
    IdentificationPayload(PayloadType.IDR, Identity.of("2001:db8::1")),
    CertificatePayload(PayloadType.CERT, 4, b"DER"),
    CertificatePayload(PayloadType.CERTREQ, 4, bytes(20)),
    AuthPayload(2, bytes(32)),
    NoncePayload(bytes(32)),
    NotifyPayload(Notification.REKEY_SA, b"", 3, b"\1\2\3\4"),
    NotifyPayload(Notification.COOKIE, b"cookie"),
    DeletePayload(3, (b"\1\2\3\4", b"\5\6\7\x08")),
    DeletePayload(1),
    VendorIdPayload(b"somebody"),
    TrafficSelectorPayload(
        PayloadType.TSI,
        (TrafficSelector.of(HOME), TrafficSelector.of(IPv4Network("10.0.0.0/8"), 17, range(5060, 5062))),
    ),
    TrafficSelectorPayload(PayloadType.TSR, (TrafficSelector.of_mobility_header(IPv6Network("::/0"), 5),)),
    ConfigurationPayload.request(),
    UnknownPayload(200, True, b"what is this"),
    UnknownPayload(201, False, b""),
)


def test_there_and_back() -> None:
    header = Header(b"initiate", b"responds", Exchange.IKE_AUTH, Flag.INITIATOR, 1)
    message = Message.parse(bytes(Message(header, EVERYTHING)))
    assert message.payloads == EVERYTHING
    assert message.header.from_initiator
    assert not message.header.is_response


@given(st.permutations(EVERYTHING), st.data())
def test_what_is_cut_off_is_refused(payloads: list[Payload], data: st.DataObject) -> None:
    first, whole = write_payloads(payloads)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(WireError):
        list(parse_payloads(first, whole[:cut]))


def test_scapy_reads_the_first_message() -> None:
    world = World()
    world.begin()
    world.run(1.0)
    for index, send in enumerate(world.wire[:2]):
        read = IKEv2(send.data)
        assert read.exch_type == 34
        assert read.length == len(send.data)
        ours = Message.parse(send.data)
        exchange = ours.needed(KeyExchangePayload)
        assert (read[IKEv2_KE].group, read[IKEv2_KE].ke) == (exchange.group, exchange.data)
        assert read[IKEv2_Nonce].nonce == ours.needed(NoncePayload).data
        assert read[IKEv2_SA].prop.proposal == ours.needed(SaPayload).proposals[0].number
        assert read[IKEv2_SA].prop.trans_nb == len(ours.needed(SaPayload).proposals[0].transforms)
        assert read[IKEv2_Notify].type == next(ours.all(NotifyPayload)).notification
        assert bool(read.flags & 0x20) is bool(index)


def test_choices() -> None:
    wide, narrow_one = ike_offer(), ike_offer((Group.P256,), aead=False)
    chosen = choose(wide, narrow_one)
    assert str(chosen) == "AES_CBC_256/HMAC_SHA2_256/HMAC_SHA2_256_128/P256"
    assert choose(ike_offer((Group.X25519,)), narrow_one) is None
    preferred = choose(wide, wide, Group.MODP2048)
    assert "MODP2048" in str(preferred)
    hybrid = choose(ike_offer(hybrid=True), ike_offer(hybrid=True))
    assert str(hybrid).endswith("ML_KEM_768")
    assert choose(ike_offer(hybrid_only=True), ike_offer()) is None


def test_narrowing() -> None:
    anything = TrafficSelector.of(IPv6Network("::/0"))
    voice = TrafficSelector.of(IPv6Network("2001:db8::/32"), 17, range(1000, 2000))
    assert narrow([anything], [voice]) == (voice,)
    assert narrow([voice], [TrafficSelector.of(IPv6Network("2001:db8:1::/48"), 6)]) == ()
    assert narrow([voice], [TrafficSelector.of(IPv4Network("0.0.0.0/0"))]) == ()
    assert within([voice], [anything])
    assert not within([anything], [voice])
    assert not within([], [anything])
    update = TrafficSelector.of_mobility_header(IPv6Network("::/0"), 5)
    assert (update.protocol, update.first_port, update.last_port) == (135, 0x0500, 0x05FF)


@pytest.mark.parametrize("text", ["", " ha", "hä.example"])
def test_no_identity(text: str) -> None:
    with pytest.raises(ValueError, match="no identity"):
        Identity.of(text)


def test_notifications_have_names() -> None:
    assert numbers.Notification.word(24) == "AUTHENTICATION_FAILED"
    assert numbers.Notification.word(8192) == "notification 8192"
