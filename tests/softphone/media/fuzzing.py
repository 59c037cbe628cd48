"""Promises about the media of a call, as functions that take any bytes and fail when one is broken."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from ipaddress import IPv6Address

from aioice import stun

from softphone.media.codecs import L16, OPUS, PACKET_TIME, PCMU
from softphone.media.drops import DropCounter
from softphone.media.dtls import Certificate, DtlsAssociation, DtlsPeer, Fingerprint
from softphone.media.dtmf import parse_info
from softphone.media.ice import malformed_stun
from softphone.media.ike_description import IkeEnd
from softphone.media.keying import Keying, NotAcceptable
from softphone.media.offer_answer import Negotiation, SrtpMode
from softphone.media.sdp import SdpError
from softphone.media.settings import MediaSettings
from softphone.media.srtp import MediaDropped
from softphone.media.stream import Stream
from tests.fuzz.reader import Reader
from tests.softphone.media.support import seeded
from tests.softphone.media.test_offer_answer import PEER, agree, side

CODECS = (OPUS, PCMU, L16)
MOST = 64
"Packets of one input."


IKE = IkeEnd(IPv6Address(PEER), Fingerprint("sha-256", bytes(32)))


def _side(seed: int) -> Negotiation:
    return side(PEER, offered_keying=tuple(Keying), ike=IKE, seed=seed)


@cache
def _offers() -> tuple[bytes, ...]:
    both = _side(1).offer()
    return both.encode(), side(srtp=SrtpMode.OFF).offer().encode(), _side(2).answer(both).encode()


def description(data: bytes) -> None:
    """A changed description is taken or refused with a reason, and a refused one changes nothing."""
    reader = Reader(data)
    negotiation = _side(3)
    negotiation.offer()
    kind = reader.byte()
    text = reader.edited(reader.chosen(_offers())).decode("utf-8", "replace")
    before = negotiation.result
    try:
        negotiation.accept(text) if kind & 1 else negotiation.answer(text)
    except (SdpError, NotAcceptable):
        assert negotiation.result is before
    else:
        assert negotiation.result is not None
        if (ike := negotiation.result.ike) is not None:
            assert str(ike.address) == negotiation.result.remote_address or before is not None
            assert ike.fingerprints
        Stream(negotiation.result, MediaSettings(random=seeded(1)), DropCounter(), 0.0, 0.0)


@cache
def _packets() -> tuple[bytes, ...]:
    stream = _stream(0)
    made = [stream.packet(None, PACKET_TIME * n, begins=False) for n in range(3)]
    stream.send_digits("5", None, 0.1)
    made.append(stream.packet(None, 0.1, begins=False))
    report = stream.reports.make(0.2, stream.transmission, stream.reception, bye=True)
    return (*(packet for packet in made if packet is not None), report, b"\x80\x0d" + bytes(10) + b"\x32")


def _stream(which: int) -> Stream:
    codec = CODECS[which % len(CODECS)]
    ours, _ = agree(side(codecs=(codec,), srtp=SrtpMode.OFF), side(PEER, codecs=(codec,), srtp=SrtpMode.OFF, seed=2))
    settings = MediaSettings(codecs=(codec,), srtp=SrtpMode.OFF, detect_tones=True, random=seeded(3))
    return Stream(ours, settings, DropCounter(), 0.0, 0.0)


def packets(data: bytes) -> None:
    """Whatever comes as RTP and RTCP, in whatever order and at whatever times: sound comes out, 20 ms at a time."""
    reader = Reader(data)
    stream, now = _stream(reader.byte()), 0.0
    for _ in range(MOST):
        if not reader:
            break
        step = reader.byte()
        now += (step & 15) * PACKET_TIME / 4
        packet = reader.edited(reader.chosen(_packets()))
        with suppress(MediaDropped):
            if step & 16:
                stream.take_rtcp(packet, (PEER, 1), now)
            else:
                stream.take_rtp(packet, (PEER, 1), now)
        samples, digits = stream.pull(now)
        assert len(samples) == stream.player.codec.frame
        assert len(digits) <= 2
        assert len(stream.player.buffer) <= 200
    stream.measure(now)
    if (metrics := stream.metrics()) is not None:
        assert len(bytes(metrics)) == 36
    stream.statistics("")


def binding(data: bytes) -> None:
    """A datagram of STUN is read, or malformed in a way that is expected of aioice."""
    reader = Reader(data)
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, b"\1" * 12)
    request.attributes["USERNAME"] = "abcd:efgh"
    request.attributes["PRIORITY"] = 5
    request.attributes["ICE-CONTROLLING"] = 9
    request.add_message_integrity(b"x" * 22)
    datagram = reader.edited(bytes(request))
    if len(datagram) >= 4:
        datagram = datagram[:2] + max(0, len(datagram) - 20).to_bytes(2) + datagram[4:]
    with suppress(ValueError, *malformed_stun):
        stun.parse_message(datagram)


@cache
def _certificates() -> tuple[Certificate, Certificate]:
    return Certificate.generate(), Certificate.generate()


def handshake(data: bytes) -> None:
    """What comes in the middle of a handshake of DTLS makes no keys that are not the other side's."""
    reader = Reader(data)
    ours, theirs = _certificates()
    client = DtlsAssociation(ours, DtlsPeer((theirs.fingerprint,), True), 0.0)
    server = DtlsAssociation(theirs, DtlsPeer((ours.fingerprint,), False), 0.0)
    for _ in range(6):
        for sender, receiver in ((client, server), (server, client)):
            datagrams, sender.outgoing = sender.outgoing, []
            for datagram in datagrams:
                with suppress(MediaDropped):
                    receiver.receive(reader.edited(datagram), 0.0)
    if client.keys is not None and server.keys is not None:
        assert client.keys.send == server.keys.receive
        assert client.keys.receive == server.keys.send


def info(data: bytes) -> None:
    """The body of an INFO request is a digit or a ValueError."""
    with suppress(ValueError):
        assert len(parse_info("application/dtmf-relay", data.decode("utf-8", "replace")).digit) == 1


TARGETS: dict[str, Callable[[bytes], None]] = {
    "media-sdp": description,
    "media-packets": packets,
    "media-stun": binding,
    "media-dtls": handshake,
    "media-info": info,
}


def seeds() -> list[bytes]:
    """Inputs that reach every template unchanged."""
    return [bytes((kind, step, template, 0)) * 3 for kind in range(3) for step in (1, 17) for template in range(6)]
