"""Terminal, home agent and MAP with negotiated keys, and somebody on the way who edits copies of all they say."""

from __future__ import annotations

from mobility.ipsec.ike.authentication import SharedKey
from mobility.ipsec.ike.events import IkeUp
from mobility.key_source import KeySource
from mobility.mipv6.tunnel import TunnelForm
from mobility.negotiated import no_keys
from mobility.net.memory import Station
from mobility.wire import ip6, udp
from tests.fuzz.reader import Reader, put_right
from tests.mobility.domain import MAP, DomainNetwork
from tests.mobility.whole import HA, Network

SECRET = SharedKey(bytes(range(32)))
SPOKEN = (ip6.UDP, ip6.ESP, ip6.DEST_OPTIONS, ip6.ROUTING)
NEGOTIATED_ANEW = 1
"IKE SAs beside the first that may come of it: what is not proven makes a terminal begin one in five seconds."


def domain(data: bytes) -> None:
    """The same of a terminal and a MAP. Octets: to whom, and when; which packet, its edits; and so on."""
    source = KeySource(SECRET, SECRET)
    network = DomainNetwork(1, regional_form=TunnelForm.ESP, map_keys=source, keys=source)
    network.start_agent()
    network.plug(network.a)
    network.run(3.0)
    mn, anchor = network.world.stations["mn"], network.world.stations["map"]
    below = network.terminal.parts.below
    if below is None or below.regional.domain is None or below.regional.domain.access is None:
        raise AssertionError("the terminal is not bound at the MAP")
    mn.carry_out(network.terminal.command("rekey", network.world.now))
    network.run(0.5)
    wire = [frame for frame in (*network.a.frames, *network.anchor.frames) if frame.packet[6] in SPOKEN]
    forged = no_keys(network.world.random_bytes("somebody"))
    hint = udp.packet(MAP.packed + below.regional.domain.access.address.packed, (500, 500), forged)
    reader = Reader(data)
    while reader:
        kind, number = reader.byte(), reader.byte()
        packet = _edited(reader, [hint, *(frame.packet for frame in wire)], number)
        if kind & 1:
            mn.receive("wlan0", packet, bytes(6))
        else:
            anchor.receive("eth0", packet, bytes(6))
        network.run((kind >> 1) / 2000)
    _goes_on(network, mn, 2 + 2 * NEGOTIATED_ANEW)


def nodes(data: bytes) -> None:
    """Nothing raises, nothing ends, and packets go on. Octets: which packet, its edits; and so on.

    The first octet's lowest bit: natively or through a NAT.
    """
    network = Network(keys=KeySource(SECRET, SECRET))
    network.start_agent()
    reader = Reader(data)
    if reader.byte() & 1:
        network.join(network.hotspot)
    else:
        network.plug(network.a)
    network.run(3.0)
    mn, ha = network.world.stations["mn"], network.world.stations["ha"]
    keys, present = network.terminal.parts.keys, network.terminal.mobile_node.present
    if keys is None or present is None or not network.terminal.mobile_node.registration.bound:
        raise AssertionError("the terminal is not bound")
    mn.carry_out(keys.rekey(network.world.now))
    network.run(0.5)
    wire = [frame for frame in (*network.a.frames, *network.home.frames) if frame.packet[6] in SPOKEN]
    forged = no_keys(network.world.random_bytes("somebody"))
    native = udp.packet(HA.packed + present.address.packed, (500, 500), forged)
    while reader:
        kind = reader.byte()
        number = reader.byte()
        if present.udp:
            payloads = [bytes(4) + forged, *(frame.packet[48:] for frame in wire if frame.packet[6] == ip6.UDP)]
            payload = reader.edited(payloads[number % len(payloads)])
            if kind & 1:
                endpoint = network.terminal.uplinks.endpoint_of(present.link) or b""
                mn.receive(present.link, payload, endpoint)
            else:
                ha.receive(f"udp/{next(iter(ha.endpoints)).partition('/')[2]}", payload, bytes(16) + b"\x12\x34")
        else:
            packet = _edited(reader, [native, *(frame.packet for frame in wire)], number)
            if kind & 1:
                mn.receive("wlan0", packet, bytes(6))
            else:
                ha.receive("home0", packet, bytes(6))
        network.run((kind >> 1) / 2000)
    _goes_on(network, mn, 1 + NEGOTIATED_ANEW)


def _edited(reader: Reader, packets: list[bytes], number: int) -> bytes:
    packet = put_right(reader.edited(packets[number % len(packets)]))
    # It came through a router.
    return packet if len(packet) < 8 else b"%b%c%b" % (packet[:7], min(packet[7], 64), packet[8:])


def _goes_on(network: Network, mn: Station, most: int) -> None:
    """Packets flow as before, under IKE SAs that are no more than so many."""
    network.run(1.0)
    network.talk(0.4)
    network.run(1.0)
    if network.to_mn.lost() or network.to_cn.lost():
        raise AssertionError(f"lost: {network.to_mn.lost()} and {network.to_cn.lost()}")
    if len(mn.events_of(IkeUp)) > most:
        raise AssertionError("negotiated again and again")
