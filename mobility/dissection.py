"""What the layers of a packet are, for displays: pure functions of octets, which may have been cut off behind.

Public, as `mobility.client`: whoever listens to packets there wants to show them. Nothing is checked here and nothing
decided; octets that make no sense become a layer ``data``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import dropwhile
from struct import error as StructError
from struct import unpack_from
from typing import Self

TUNNEL_PORT = 4191
"UDP port of the mobile tunnel (RFC 5555)."


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer."""

    kind: str
    "``ipv6``, ``ipv4``, ``option``, ``esp``, ``ah``, ``mobility``, ``icmp``, ``udp``, ``tcp``, ``rtp``, ``rtcp``,"
    " ``sip``, ``data``."
    name: str
    "As people write it."
    summary: str
    "What matters of it, in a few words."
    fields: tuple[tuple[str, str], ...] = ()
    "Everything that was understood."
    ends: tuple[str, str] | None = None
    "Source and destination, of IP."

    @property
    def opaque(self) -> bool:
        """What is inside of it can only be told by who has the keys."""
        return self.kind == "esp"


@dataclass(frozen=True, slots=True)
class Stage:
    """A packet at one of the stages that it passes (`mobility.packet_stream`)."""

    number: int
    "Of the packet, the same at all its stages."
    time: float
    "Seconds since 1970."
    stage: str
    where: str
    "Link, or which part discarded it."
    outbound: bool
    length: int
    octets: bytes
    "From its beginning; not all of them where the packet is long."
    reason: str = ""
    "Why it was discarded, by name."
    detail: str = ""

    @classmethod
    def of(cls, told: Mapping[str, object]) -> Self:
        """From an element of an event ``packets``. Raises ValueError, KeyError or TypeError: it is none."""

        def number(name: str) -> float:
            value = told.get(name, 0)
            if not isinstance(value, int | float):
                raise ValueError(f"{name} is no number")
            return value

        return cls(
            int(number("packet")), float(number("time")), str(told["stage"]), str(told.get("where", "")),
            told.get("outbound") is True, int(number("length")), bytes.fromhex(str(told.get("octets", ""))),
            str(told.get("reason", "")), str(told.get("detail", "")),
        )  # fmt: skip


def unfolded(stages: Iterable[Stage]) -> tuple[Layer, ...]:
    """All layers of a packet from the outermost to the innermost, with what was decrypted in its place.

    ``stages``: those of one packet, in the order in which it passed them.
    """
    passed = [stage for stage in stages if stage.octets]
    if passed and passed[0].outbound:
        passed.reverse()
    layers: tuple[Layer, ...] = ()
    for stage in passed:
        inside = dissect(stage.octets)
        if not layers:
            layers = inside
        elif layers[-1].opaque and inside != layers[-len(inside) :]:
            layers += _new(layers, inside)
    return layers


def _new(layers: tuple[Layer, ...], inside: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """What ``inside``, the next stage inwards, has that is not outside of it."""
    addresses = next((layer.ends for layer in reversed(layers) if layer.ends is not None), None)
    if inside[0].ends is None or inside[0].ends != addresses:
        return inside  # a tunnel: another header
    return tuple(dropwhile(lambda layer: layer in layers or layer.ends is not None, inside))


def dissect(octets: bytes) -> tuple[Layer, ...]:
    """The layers of a packet, or of a datagram of the mobile tunnel, as far as they can be read; at least one."""
    layers: list[Layer] = []
    try:
        _content(octets, layers)
    except (IndexError, ValueError, StructError):
        layers.append(_data(octets) if not layers else Layer("data", "…", "cut off here"))
    return tuple(layers)


# ---------------------------------------------------------------- IP

_EXTENSIONS = {0: "Hop-by-Hop Options", 43: "Routing Header", 44: "Fragment", 60: "Destination Options"}


def _content(octets: bytes, layers: list[Layer]) -> None:
    """What begins with an IP header or, in a datagram of the tunnel, with an SPI."""
    match octets[0] >> 4:
        case 6:
            _ipv6(octets, layers)
        case 4:
            _ipv4(octets, layers)
        case _ if octets == b"\xff":
            layers.append(Layer("data", "keepalive", "one octet, for NATs on the way"))
        case _:
            _esp(octets, layers)


def _ipv6(octets: bytes, layers: list[Layer]) -> None:
    source, destination = str(IPv6Address(octets[8:24])), str(IPv6Address(octets[24:40]))
    length, protocol = unpack_from("!HB", octets, 4)
    layers.append(
        Layer(
            "ipv6", "IPv6", f"{source} → {destination}",
            (
                ("source", source), ("destination", destination), ("payload", f"{length} octets"),
                ("traffic class", f"0x{(octets[0] << 4 | octets[1] >> 4) & 0xFF:02x}"), ("hop limit", str(octets[7])),
            ),
            (source, destination),
        )
    )  # fmt: skip
    at, end = 40, min(40 + length, len(octets))
    while protocol in _EXTENSIONS:
        size = 8 if protocol == 44 else 8 + 8 * octets[at + 1]
        layers.append(_extension(protocol, octets[at : at + size]))
        if protocol == 44 and unpack_from("!H", octets, at + 2)[0] & 0xFFF8:
            layers.append(Layer("data", "fragment", f"{end - at - 8} octets from the middle of a packet"))
            return
        protocol, at = octets[at], at + size
    _transport(protocol, octets[at:end], layers)


def _ipv4(octets: bytes, layers: list[Layer]) -> None:
    source, destination = str(IPv4Address(octets[12:16])), str(IPv4Address(octets[16:20]))
    length = unpack_from("!H", octets, 2)[0]
    fields = (
        ("source", source), ("destination", destination), ("length", f"{length} octets"),
        ("time to live", str(octets[8])),
    )  # fmt: skip
    layers.append(Layer("ipv4", "IPv4", f"{source} → {destination}", fields, (source, destination)))
    if unpack_from("!H", octets, 6)[0] & 0x1FFF:
        layers.append(Layer("data", "fragment", "from the middle of a packet"))
        return
    _transport(octets[9], octets[4 * (octets[0] & 15) : length], layers)


def _extension(protocol: int, header: bytes) -> Layer:
    name = _EXTENSIONS[protocol]
    if protocol == 43 and header[2] == 2:
        address = str(IPv6Address(header[8:24]))
        return Layer("option", "Routing Header type 2", f"for {address}", (("home address", address),))
    if protocol == 60 and (at := header.find(b"\xc9\x10", 2)) >= 0:
        address = str(IPv6Address(header[at + 2 : at + 18]))
        return Layer("option", "Home Address option", f"from {address}", (("home address", address),))
    if protocol == 44:
        place, identification = unpack_from("!HI", header, 2)
        return Layer("option", name, f"at {place & 0xFFF8} of packet 0x{identification:08x}")
    return Layer("option", name, f"{len(header)} octets")


def _transport(protocol: int, body: bytes, layers: list[Layer]) -> None:
    handlers: dict[int, Callable[[bytes, list[Layer]], None]] = {
        4: _content, 41: _content, 6: _tcp, 17: _udp, 50: _esp, 51: _ah, 58: _icmp6, 135: _mobility,
    }  # fmt: skip
    handler = handlers.get(protocol)
    if handler is not None:
        handler(body, layers)
    elif protocol == 59:
        layers.append(Layer("data", "nothing", "no next header"))
    else:
        layers.append(Layer("data", f"protocol {protocol}", f"{len(body)} octets"))


# ---------------------------------------------------------------- IPsec and Mobile IPv6


def _esp(octets: bytes, layers: list[Layer]) -> None:
    spi, sequence = unpack_from("!II", octets) if len(octets) >= 8 else _short()
    fields = (("SPI", f"0x{spi:08x}"), ("sequence number", str(sequence)))
    layers.append(Layer("esp", "ESP", f"SPI 0x{spi:08x} #{sequence}", fields))


def _ah(octets: bytes, layers: list[Layer]) -> None:
    spi, sequence = unpack_from("!II", octets, 4) if len(octets) >= 12 else _short()
    fields = (("SPI", f"0x{spi:08x}"), ("sequence number", str(sequence)))
    layers.append(Layer("ah", "AH", f"SPI 0x{spi:08x} #{sequence}", fields))
    _transport(octets[0], octets[4 * (octets[1] + 2) :], layers)


_MOBILITY = (
    "Binding Refresh Request", "Home Test Init", "Care-of Test Init", "Home Test", "Care-of Test", "Binding Update",
    "Binding Acknowledgement", "Binding Error",
)  # fmt: skip
_FLAGS = "AHLKMRPFTB"
"Of a binding update, from the highest bit (RFC 6275, 5380, 3963, 5213, 5555, 5648 have given them out)."


def _mobility(octets: bytes, layers: list[Layer]) -> None:
    kind = octets[2]
    name = _MOBILITY[kind] if kind < len(_MOBILITY) else f"mobility header {kind}"
    summary = ""
    fields: tuple[tuple[str, str], ...] = ()
    if kind == 5:
        sequence, bits, units = unpack_from("!HHH", octets, 6)
        flags = "".join(letter for at, letter in enumerate(_FLAGS) if bits & 0x8000 >> at)
        summary = f"#{sequence} {flags}, {4 * units} s" if units else f"#{sequence} {flags}, ends the binding"
        fields = (("sequence number", str(sequence)), ("flags", flags), ("lifetime", f"{4 * units} s"))
    elif kind == 6:
        status, _flags, sequence, units = unpack_from("!BBHH", octets, 6)
        summary = f"#{sequence} {'accepted' if status < 128 else 'refused'} ({status}), {4 * units} s"
        fields = (("sequence number", str(sequence)), ("status", str(status)), ("lifetime", f"{4 * units} s"))
    elif kind == 7:
        summary = f"status {octets[6]}"
    layers.append(Layer("mobility", name, summary, fields))


_ICMP6 = {
    1: "Destination Unreachable", 2: "Packet Too Big", 3: "Time Exceeded", 4: "Parameter Problem",
    128: "Echo Request", 129: "Echo Reply", 133: "Router Solicitation", 134: "Router Advertisement",
    135: "Neighbor Solicitation", 136: "Neighbor Advertisement", 137: "Redirect", 143: "Multicast Listener Report",
    144: "Home Agents Request", 145: "Home Agents Reply", 146: "Mobile Prefix Solicitation",
    147: "Mobile Prefix Advertisement",
}  # fmt: skip


def _icmp6(octets: bytes, layers: list[Layer]) -> None:
    kind, code = octets[0], octets[1]
    summary = ""
    if kind in (128, 129):
        identifier, sequence = unpack_from("!HH", octets, 4)
        summary = f"{identifier}, #{sequence}"
    elif kind in (135, 136):
        summary = f"for {IPv6Address(octets[8:24])}"
    elif kind == 2:
        summary = f"{unpack_from('!I', octets, 4)[0]} octets fit"
    layers.append(
        Layer("icmp", _ICMP6.get(kind, f"ICMPv6 {kind}"), summary, (("type", str(kind)), ("code", str(code))))
    )


# ---------------------------------------------------------------- what programs send

_SIP = re.compile(rb"(?:SIP/2\.0 \d{3} [^\r\n]*|[A-Z]{3,12} sips?:[^\r\n]* SIP/2\.0|[A-Z]{3,12} sips?:[^\r\n]{20,})")


def _udp(octets: bytes, layers: list[Layer]) -> None:
    source, destination, length = unpack_from("!HHH", octets) if len(octets) >= 8 else _short()
    layers.append(
        Layer(
            "udp", "UDP", f"{source} → {destination}",
            (("source port", str(source)), ("destination port", str(destination)), ("length", f"{length} octets")),
        )
    )  # fmt: skip
    body = octets[8:]
    if not body:
        return
    if TUNNEL_PORT in (source, destination):
        _content(body, layers)
    elif (text := _SIP.match(body)) is not None:
        _sip(text.group(), layers)
    elif 53 in (source, destination):
        layers.append(Layer("data", "DNS", "answer" if body[2] & 0x80 else "question"))
    else:
        _media(body, length - 8, layers)


def _tcp(octets: bytes, layers: list[Layer]) -> None:
    source, destination, sequence, _acknowledged, offset, bits = unpack_from("!HHIIBB", octets)
    flags = " ".join(name for at, name in enumerate(("FIN", "SYN", "RST", "PSH", "ACK")) if bits & 1 << at)
    body = octets[4 * (offset >> 4) :]
    fields = (("source port", str(source)), ("destination port", str(destination)), ("sequence number", str(sequence)))
    layers.append(Layer("tcp", "TCP", f"{source} → {destination} {flags}, {len(body)} octets", fields))
    if (text := _SIP.match(body)) is not None:
        _sip(text.group(), layers)
    elif body[:1] in (b"\x14", b"\x15", b"\x16", b"\x17") and body[1:2] == b"\x03":
        layers.append(Layer("data", "TLS", f"{len(body)} octets"))


def _sip(line: bytes, layers: list[Layer]) -> None:
    layers.append(Layer("sip", "SIP", line.decode("utf-8", "replace")))


def _media(body: bytes, length: int, layers: list[Layer]) -> None:
    """By the first octet, as RFC 7983 has it; secured or not, RTP looks the same."""
    first = body[0]
    if 128 <= first < 192 and len(body) >= 8:
        if 192 <= body[1] <= 223:
            kinds = {200: "sender report", 201: "receiver report", 202: "names", 203: "goodbye", 207: "extended report"}
            source = unpack_from("!I", body, 4)[0]
            summary = f"{kinds.get(body[1], body[1])} from 0x{source:08x}"
            layers.append(Layer("rtcp", "(S)RTCP", summary, (("type", str(body[1])), ("octets", str(length)))))
            return
        sequence, timestamp, source = unpack_from("!HII", body, 2)
        mark = " mark" if body[1] & 0x80 else ""
        fields = (
            ("payload type", str(body[1] & 0x7F)), ("sequence number", str(sequence)), ("timestamp", str(timestamp)),
            ("source", f"0x{source:08x}"), ("octets", f"{length - 12} of sound"),
        )  # fmt: skip
        layers.append(
            Layer("rtp", "(S)RTP", f"type {body[1] & 0x7F} #{sequence}{mark}, {length - 12} octets of sound", fields)
        )
    elif first < 4 and body[4:8] == b"\x21\x12\xa4\x42":
        layers.append(Layer("data", "STUN", f"type 0x{unpack_from('!H', body)[0]:04x}"))
    elif 20 <= first < 64:
        layers.append(Layer("data", "DTLS", f"{length} octets"))
    else:
        layers.append(_data(body[: max(length, 0)]))


def _data(octets: bytes) -> Layer:
    return Layer("data", "data", f"{len(octets)} octets")


def _short() -> tuple[int, ...]:
    raise ValueError("cut off")
