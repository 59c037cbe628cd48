"""Keys of the application: somebody on the way in mid call, and strangers who say anything while a call is offered."""

from __future__ import annotations

from functools import cache
from ipaddress import IPv6Address

from cryptography.hazmat.primitives.serialization import Encoding

from mobility.application_keys import ApplicationKeys
from mobility.application_strangers import PER_OFFER
from mobility.ipsec.ike.certificates import Credential
from mobility.ipsec.ike.message import Header, write_payloads
from mobility.ipsec.ike.numbers import AuthMethod, Exchange, Flag, Notification, PayloadType
from mobility.ipsec.ike.payloads import (
    X509_SIGNATURE,
    AuthPayload,
    CertificatePayload,
    IdentificationPayload,
    Identity,
    NotifyPayload,
    Payload,
)
from mobility.key_source import ApplicationKeySettings, no_clock
from mobility.node_certificate import self_signed
from mobility.outputs import Discarded, Event, Output
from mobility.wire import udp
from tests.fuzz.reader import Reader, put_right
from tests.mobility.protected import away, by_calls, certificate, fingerprint
from tests.mobility.whole import CN, MN, randomness, unprotected

ENDS = {MN.packed, CN.packed}


def nodes(data: bytes) -> None:
    """Nothing raises, nothing ends, and packets go on, never in clear. Octets: which packet, its edits; and so on.

    The first octet's lowest bit: in mid call, or while it rings.
    """
    network = away(by_calls())
    reader = Reader(data)
    answered = not reader.byte() & 1
    network.offer("mn")
    network.secure("cn", active=True)
    network.run(1.0)
    if answered:
        network.secure("mn")
        network.talk(0.1)
        network.run(0.5)
    frames = [frame.packet for frame in (*network.office.frames, *network.home.frames)]
    wire = [packet for packet in frames if {packet[8:24], packet[24:40]} == ENDS]
    while reader:
        kind = reader.byte()
        packet = put_right(reader.edited(wire[reader.byte() % len(wire)]))
        if len(packet) > 7:
            packet = b"%b%c%b" % (packet[:7], min(packet[7], 64), packet[8:])  # it came through a router
        network.world.stations["cn" if kind & 1 else "ha"].receive("eth0" if kind & 1 else "home0", packet, bytes(6))
        network.run((kind >> 1) / 2000)
    network.run(1.0)
    strangers = len(network.end("mn")._strangers.present)
    if strangers > PER_OFFER or (not answered and strangers == 0):
        raise AssertionError(f"{strangers} strangers")
    network.secure("mn")
    network.run(0.1)
    network.talk(0.4)
    network.run(1.0)
    if network.to_mn.lost() or network.to_cn.lost() or network.in_clear():
        raise AssertionError(f"lost: {network.to_mn.lost()} and {network.to_cn.lost()}, or in clear")
    if len(network.mn_application.spd.policies) != 1 or len(network.cn_application.spd.policies) != 1:
        raise AssertionError("somebody has changed the policies")


@cache
def _caller() -> ApplicationKeySettings:
    return ApplicationKeySettings(certificate("mn"))


def stranger(data: bytes) -> None:
    """Anybody who says anything in IKE_AUTH while a call is offered: it is answered, nothing breaks, and nobody is let
    in that has not signed. Octets: which payloads, their edits; and so on."""
    now, sent, back = 0.0, list[bytes](), list[bytes]()
    called = _end(MN, _caller(), back)
    called.offer("call", 60.0, now)
    reader = Reader(data)
    while reader:
        payloads = PAYLOADS[reader.byte() % len(PAYLOADS)]
        first, content = write_payloads(payloads)
        content = reader.edited(content)
        sent.clear()
        back.clear()
        caller = _end(CN, ApplicationKeySettings(_others()), sent)
        caller.secure("call", MN, fingerprint(certificate("mn")), active=True, until=60.0, now=now)
        for _ in range(2):  # IKE_SA_INIT, IKE_INTERMEDIATE
            _take(called, sent, now)
            _take(caller, back, now)
        (sa,) = caller.ike.secrets()
        spis = sa.channel.initiator_spi, sa.channel.responder_spi
        if sa.channel.sealer is None:
            raise AssertionError
        sealed = sa.channel.sealer.seal(Header(*spis, Exchange.IKE_AUTH, Flag.INITIATOR, 2), first, content)
        outputs = _take(called, [udp.packet(CN.packed + MN.packed, (500, 500), sealed)], now)
        if not all(isinstance(each, Discarded | Event) for each in outputs) or not back:
            raise AssertionError("it was not answered")
        if called._strangers.present or any(row["state"] == "established" for row in called.ike.status()):
            raise AssertionError("somebody was let in who has not signed")
        now += 31.0  # what is half open is forgotten
        called.handle_timer(now)
        called.offer("call", now + 60.0, now)


def _end(address: IPv6Address, settings: ApplicationKeySettings, sent: list[bytes]) -> ApplicationKeys:
    def put(packet: bytes, _now: float) -> list[Output]:
        sent.append(packet)
        return []

    return ApplicationKeys(address, unprotected(), settings, put, randomness(str(address)), no_clock)


def _take(keys: ApplicationKeys, packets: list[bytes], now: float) -> list[Output]:
    """Hands over what has been sent."""
    waiting, packets[:] = packets[:], []
    return [output for packet in waiting for output in keys.packet(packet, now)]


@cache
def _others() -> Credential:
    return self_signed(CN)


_LEAF = certificate("cn").certificate.public_bytes(Encoding.DER)
_IDENTITY = IdentificationPayload(PayloadType.IDI, Identity.of(str(CN)))
_AUTH = AuthPayload(AuthMethod.DIGITAL_SIGNATURE, bytes.fromhex("0c300a06082a8648ce3d040302") + bytes(70))
_CERTIFICATE = CertificatePayload(PayloadType.CERT, X509_SIGNATURE, _LEAF)
PAYLOADS: tuple[tuple[Payload, ...], ...] = (
    (_IDENTITY, _CERTIFICATE, _AUTH),
    (_IDENTITY, _CERTIFICATE, NotifyPayload(Notification.INITIAL_CONTACT), _AUTH),
    (_IDENTITY, CertificatePayload(PayloadType.CERT, X509_SIGNATURE, b"0"), _CERTIFICATE, _AUTH),
    (_IDENTITY, _AUTH),
    (_CERTIFICATE, _AUTH),
    (),
)
