"""IKE: messages as formats, and endpoints that anybody may send to."""

from __future__ import annotations

from ipaddress import IPv6Address

from mobility.ipsec.ike.events import Send
from mobility.ipsec.ike.message import Header, parse_payloads, write_payloads
from mobility.ipsec.ike.numbers import HEADER_SIZE, Exchange, Flag, Notification, PayloadType
from mobility.ipsec.ike.payloads import (
    ConfigurationPayload,
    DeletePayload,
    KeyExchangePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    UnknownPayload,
    VendorIdPayload,
)
from mobility.ipsec.ike.proposals import SaPayload, esp_offer, ike_offer
from mobility.ipsec.ike.settings import Endpoint, Settings
from mobility.ipsec.ike.traffic import TrafficSelectorPayload
from mobility.outputs import Discarded, Event
from mobility.wire.errors import WireError
from tests.fuzz.reader import Reader
from tests.mobility.ipsec.ike.world import TUNNEL, World

LIMIT = 24
"Half-open IKE SAs."


def message(data: bytes) -> None:
    """`parse_payloads`: the first octet is the type of the first payload; what is read says the same when written."""
    try:
        payloads: list[Payload] = list(parse_payloads(data[0] if data else 0, data[1:]))
    except WireError as error:
        if not (error.at >= 0 and error.what and error.why):
            raise AssertionError(f"unhelpful error {error!r}") from error
        return
    first, written = write_payloads(payloads)
    again = list(parse_payloads(first, written))
    if again != payloads:
        raise AssertionError(f"{payloads!r} came back as {again!r}")


def endpoint(data: bytes) -> None:
    """Two endpoints with an IKE SA, to one of which edited copies of all their messages are sent.

    Nothing that anybody can send ends it, or changes what it has, and half-open IKE SAs stay bounded.
    """
    world = World(settings=Settings(most_half_open=LIMIT, cookies_above=LIMIT // 2))
    world.begin()
    world.run(1.0)
    world.carry("phone", world.phone.ike.rekey("agent", world.now, children=True))
    world.run(30.0)
    wire = [send.data for send in world.wire]
    before = sorted(world.agent.inbound)
    reader = Reader(data)
    while reader:
        kind = reader.byte()
        template = wire[kind % len(wire)]
        sent = reader.edited(template)
        if kind & 0x80 and len(sent) >= HEADER_SIZE:
            sent = sent[:24] + len(sent).to_bytes(4, "big") + sent[28:]
        if sent in wire and Header.parse(sent).flags & Flag.RESPONSE:
            continue
        source = Endpoint(IPv6Address(0x20010DB8 << 96 | kind), 500)
        outputs = world.agent.ike.receive(sent, world.at["agent"], source, world.now)
        for output in outputs:
            if not isinstance(output, Send | Discarded | Event):
                raise AssertionError(f"{output!r} is no output")
        world.carry("agent", [each for each in outputs if not isinstance(each, Send)])
    half_open = [each for each in world.agent.ike.status() if each["state"] == "half-open"]
    if len(half_open) > LIMIT:
        raise AssertionError(f"{len(half_open)} half-open IKE SAs")
    if sorted(world.agent.inbound) != before or not world.established():
        raise AssertionError("somebody has changed an IKE SA")
    world.passes()


def peer(data: bytes) -> None:
    """An authentic peer that says anything, in sealed requests: each is answered, and nothing breaks.

    Octets: exchange, payloads to begin with, their edits; and so on.
    """
    world = World(settings=Settings(dead_peer_after=1e9))
    world.begin()
    world.run(1.0)
    (sa,) = world.phone.ike.secrets()
    reader = Reader(data)
    while reader:
        kind = reader.byte()
        exchange = (Exchange.CREATE_CHILD_SA, Exchange.INFORMATIONAL, Exchange.IKE_AUTH, 200)[kind & 3]
        payloads = PAYLOADS[reader.byte() % len(PAYLOADS)]
        first, content = write_payloads(payloads)
        content = reader.edited(content)
        # The engine of the peer only seals: what it makes of answers is not asked.
        header = Header(
            sa.channel.initiator_spi, sa.channel.responder_spi, exchange, Flag.INITIATOR, sa.channel.next_id
        )
        sealer = sa.channel.sealer
        if sealer is None:
            raise AssertionError
        sealed = sealer.seal(header, first, content)
        outputs = world.agent.ike.receive(sealed, world.at["agent"], world.at["phone"], world.now)
        if not any(isinstance(each, Send) for each in outputs) and world.established():
            raise AssertionError("an authentic request was not answered")
        sa.channel.next_id += 1
        world.carry("agent", [each for each in outputs if not isinstance(each, Send)])
        if not world.agent.ike.established("phone"):
            return
        world.now += 1.0
        world.carry("agent", world.agent.ike.handle_timer(world.now))


_OFFER = tuple(each.with_spi(b"\1\2\3\4") for each in esp_offer())
_IKE_OFFER = tuple(each.with_spi(b"new spi.") for each in ike_offer())
_SELECTORS = (
    TrafficSelectorPayload(PayloadType.TSI, TUNNEL.local),
    TrafficSelectorPayload(PayloadType.TSR, TUNNEL.remote),
)
PAYLOADS: tuple[tuple[Payload, ...], ...] = (
    (),
    (SaPayload(_OFFER), NoncePayload(bytes(32)), *_SELECTORS),
    (SaPayload(_IKE_OFFER), NoncePayload(bytes(32)), KeyExchangePayload(31, b"\x09" + bytes(31))),
    (DeletePayload(3, (b"\1\2\3\4",)), NotifyPayload(Notification.REKEY_SA, b"", 3, b"\1\2\3\4")),
    (NotifyPayload(Notification.UPDATE_SA_ADDRESSES), NotifyPayload(Notification.COOKIE2, b"cookie")),
    (DeletePayload(1),),
    (ConfigurationPayload.request(), VendorIdPayload(b"x"), UnknownPayload(200, True, b"")),
)
