"""How many octets a packet of speech has on the wire, in every form in which the data plane sends it.

Terminal, home agent and correspondent are the real ones, on a network in memory whose captures are looked at where the
terminal is; both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.statistics import measured, microseconds
from mobility.ipsec.spd import Action, SecurityPolicyDatabase
from mobility.links import endpoint_address
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.memory import Internet, Segment
from mobility.wire import udp
from softphone.media.codecs import PACKET_TIME
from softphone.media.opus import BIT_RATE as OPUS_BIT_RATE
from tests.mobility.optimized import Optimized
from tests.mobility.translation import support
from tests.mobility.whole import CN, MN, Network

OPUS = round(OPUS_BIT_RATE * PACKET_TIME / 8)
"Octets that Opus makes of 20 ms at the phone's bit rate; of its sentences the phone's encoder makes 79 on average."
RTP, SRTP_TAG = 12, 16
"Octets of RTP header, and of what SRTP (AES-GCM, the phone's first choice) adds."
SPEECH = RTP + OPUS + SRTP_TAG
"Octets of UDP payload."
PORTS = (5004, 5004)
CALLS = 200
_IPV6, _IPV4, _UDP = 40, 20, 8
PROGRAM = _IPV6 + _UDP + SPEECH
"Octets of the IPv6 packet that the phone sends."


@dataclass(frozen=True, slots=True)
class Octets:
    """Of the IP packet on the wire of the terminal's access, its headers included; that of the link is not.

    ``added``: to the IPv6 packet of the program.
    """

    out: int
    into: int

    def as_json(self) -> dict[str, int]:
        return {"out": self.out, "in": self.into, "added": self.out - PROGRAM}


def measure() -> dict[str, object]:
    return {
        "packet": {"opus": OPUS, "udp_payload": SPEECH, "ipv6": PROGRAM},
        "on_the_wire": {
            name: {"application_esp": with_it.as_json(), "without": without.as_json()}
            for name, (with_it, without) in _forms().items()
        },
    }


def _forms() -> Mapping[str, tuple[Octets, Octets]]:
    """Name of form and access -> with and without the application's ESP."""
    found = {"direct": (_direct(application=True), _direct(application=False))}
    for form in TunnelForm:
        for access in ("native", "udp6", "udp4"):
            both = (_tunnelled(form, access, application=True), _tunnelled(form, access, application=False))
            found[f"{form.value} {access}"] = both
    return found


def _direct(*, application: bool) -> Octets:
    network = Optimized()
    _protect(network, application)
    network.start()
    if not network.is_direct():
        raise RuntimeError("the simulated terminal and correspondent found no direct way")
    return _captured(network, network.a)


def _tunnelled(form: TunnelForm, access: str, *, application: bool) -> Octets:
    network = Network(form)
    _protect(network, application)
    network.start_agent()
    places: dict[str, Segment | Internet] = {"native": network.a, "udp6": network.cafe, "udp4": network.hotspot}
    place = places[access]
    if isinstance(place, Segment):
        network.plug(place)
    else:
        network.join(place)
    network.run(3.0)
    return _captured(network, place)


def _protect(network: Network, application: bool) -> None:
    """``application``: by its ESP, which the network has anyway."""
    if not application:
        for part in (network.mn_application, network.cn_application):
            part.replace(SecurityPolicyDatabase([], Action.BYPASS))


def _captured(network: Network, place: Segment | Internet) -> Octets:
    """One packet each way, once neighbours are known."""
    world = network.world
    mn, cn = world.stations["mn"], world.stations["cn"]

    def out() -> None:
        mn.send(udp.packet(MN.packed + CN.packed, PORTS, bytes(SPEECH)))

    def into() -> None:
        cn.send(udp.packet(CN.packed + MN.packed, PORTS, bytes(SPEECH)))

    def size_of(send: Callable[[], None]) -> int:
        seen = len(_sizes(place))
        receiver = cn if send is out else mn
        receiver.delivered.clear()
        send()
        world.run(world.now + 0.1)
        sizes = [size for size in _sizes(place)[seen:] if size > SPEECH]
        if len(sizes) != 1 or len(receiver.delivered) != 1:
            raise RuntimeError(f"one packet was sent; {sizes} were seen, {len(receiver.delivered)} arrived")
        return sizes[0]

    for send in (out, into):
        send()
    world.run(world.now + 0.5)
    return Octets(size_of(out), size_of(into))


def _sizes(place: Segment | Internet) -> list[int]:
    if isinstance(place, Segment):
        return [len(frame.packet) for frame in place.frames]
    return [
        len(datagram.payload) + _UDP + (_IPV4 if endpoint_address(datagram.source).ipv4_mapped else _IPV6)
        for datagram in place.datagrams
    ]


def translation() -> dict[str, object]:
    """What translation costs a packet of speech: octets (the program's IPv4 header is the smaller one), microseconds.

    ``us_out``, ``us_in``: `Translation.outbound` and `Translation.inbound` with checksums; medians.
    """
    used = support.translation()
    peer = support.known(used)
    lower = support.datagram(PORTS, bytes(SPEECH))
    outgoing, incoming = support.ip4(peer, lower), support.ip6(lower)
    (sent,), (received,) = used.outbound(outgoing, 0.0).network, used.inbound(incoming, 0.0).host
    if (sent[0] >> 4, received[0] >> 4) != (6, 4):
        raise RuntimeError("the packets were not translated")
    return {
        "octets": {"program": len(outgoing), "sent": len(sent), "added": len(sent) - len(outgoing)},
        **measured("us_out", microseconds(lambda: used.outbound(outgoing, 0.0), CALLS), 2),
        **measured("us_in", microseconds(lambda: used.inbound(incoming, 0.0), CALLS), 2),
    }
