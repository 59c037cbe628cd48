"""The application-level gateways together: which packets are theirs, and packets around what they write."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

from mobility.discards import Discard, Reason
from mobility.host.fragments import fragment
from mobility.translation.checksums import words
from mobility.translation.dns import DnsGateway
from mobility.translation.settings import TranslationSettings
from mobility.translation.sip import SipGateway
from mobility.translation.streams import Key, Speech, Streams, dns_size, sip_size
from mobility.translation.translator import Translator
from mobility.wire import ip4, ip6, tcp, udp
from mobility.wire.errors import WireError

DNS_PORT = 53
LISTENING = 16
"Ports at which programs were seen to speak SIP; the oldest goes first."

_PORTS = Struct("!HHHH")


class Gateways:
    """DNS and SIP, over UDP and TCP.

    ``virtual4``: the IPv4 address by which a program may know an IPv6 one (``asked``: a program asked for it); raises
    `Discard`. ``standing_for``: the IPv6 address that a virtual IPv4 address stands for.
    """

    def __init__(
        self,
        settings: TranslationSettings,
        translator: Translator,
        virtual4: Callable[[bytes, bool], bytes],
        standing_for: Callable[[bytes], bytes | None],
    ) -> None:
        self._translator = translator
        self._virtual4 = virtual4
        self._standing_for = standing_for
        self._sip_ports = settings.sip_ports
        self._home4 = settings.address4.packed
        self._home6 = settings.home_address.packed
        self._listening: dict[int, None] = {}
        self.dns = DnsGateway(lambda ipv6: virtual4(ipv6, True), standing_for)
        self.sip = SipGateway(self._literal4, self._literal6)
        self.dns_streams = DnsGateway(lambda ipv6: virtual4(ipv6, True), standing_for)
        "Over TCP. Its answers come in a stream, so none is delivered late."
        self.streams = Streams(self._spoken)
        self._now = 0.0

    def concern(self, protocol: int, here: int, there: int) -> bool:
        """Whether packets between these ports, of a program and of a correspondent, are for a gateway."""
        return there in self._sip_ports or here in self._listening or there == DNS_PORT

    def outbound(self, packet: bytes, there: bytes, now: float) -> list[bytes] | None:
        """A whole IPv4 packet without options, of a protocol with ports, to ``there``: the IPv6 packets.

        None: it is for the translator. Raises `Discard`: CHECKSUM_WRONG, TOO_BIG.
        """
        body, protocol = packet[ip4.HEADER_SIZE :], packet[9]
        if not _whole(protocol, body):
            return None
        wrong = _wrong(protocol, body, packet[12:20]) and (protocol == ip6.TCP or body[6:8] != b"\0\0")
        if wrong:
            raise Discard(Reason.CHECKSUM_WRONG, f"protocol {protocol} over IPv4")
        self._now = now
        if protocol == ip6.TCP:
            segments = self.streams.sent(there, tcp.Segment.parse(body))
            if segments is None:
                return None
            ends = self._home6 + there
            hop_limit, traffic_class = packet[8] - 1, packet[1]
            return [
                ip6.packet(self._home6, there, ip6.TCP, _with_checksum(bytes(each), ends), hop_limit, traffic_class)
                for each in segments
            ]
        here, port = body[0] << 8 | body[1], body[2] << 8 | body[3]
        payload = body[udp.HEADER_SIZE :]
        if port == DNS_PORT:
            payloads = self.dns.outbound(payload, here, there, now)
        else:
            payloads = [self._sip_sent(payload)]
        marks = ip4.traffic_class(packet)
        return [made for each in payloads for made in self._datagrams6(there, (here, port), each, marks)]

    def inbound(self, packet: bytes, now: float) -> list[bytes] | None:
        """A whole IPv6 packet without extension headers, of a protocol with ports: the IPv4 packets.

        None: it is for the translator. Raises `Discard`: CHECKSUM_WRONG, TOO_BIG, and those of ``virtual4``.
        """
        body, protocol, source = packet[ip6.HEADER_SIZE :], packet[6], packet[8:24]
        if not _whole(protocol, body):
            return None
        if _wrong(protocol, body, packet[8:40]) or (protocol == ip6.UDP and body[6:8] == b"\0\0"):
            raise Discard(Reason.CHECKSUM_WRONG, f"protocol {protocol} over IPv6")
        self._now = now
        if protocol == ip6.TCP:
            segments = self.streams.received(source, tcp.Segment.parse(body))
            if segments is None:
                return None
            ends = self._virtual4(source, False) + self._home4
            tos = (packet[0] & 15) << 4 | packet[1] >> 4
            return [self._packet4(ends, ip6.TCP, bytes(each), packet[7] - 1, tos) for each in segments]
        there, port = body[0] << 8 | body[1], body[2] << 8 | body[3]
        payload = body[udp.HEADER_SIZE :]
        if there == DNS_PORT:
            payloads = self.dns.inbound(payload, port, source, now)
        else:
            payloads = [self.sip.inbound(payload)]
        return [self.datagram4(source, (there, port), each) for each in payloads]

    @property
    def timer(self) -> float | None:
        """When `expire` wants to be called."""
        times = (self.dns.timer, self.dns_streams.timer)
        return min((time for time in times if time is not None), default=None)

    def expire(self, now: float) -> list[bytes]:
        """Answers of name servers, for programs, for which no better ones came."""
        self.dns_streams.expire(now)
        return [self.datagram4(server, (DNS_PORT, port), payload) for port, server, payload in self.dns.expire(now)]

    def datagram4(self, source: bytes, ports: tuple[int, int], payload: bytes) -> bytes:
        """A datagram for a program from an IPv6 correspondent. Raises `Discard` TOO_BIG."""
        length = udp.HEADER_SIZE + len(payload)
        if length > 0xFFFF - ip4.HEADER_SIZE:
            raise Discard(Reason.TOO_BIG, f"{len(payload)} octets are too large for one datagram of IPv4")
        ends = self._virtual4(source, False) + self._home4
        return self._packet4(ends, ip6.UDP, _PORTS.pack(*ports, length, 0) + payload)

    def snapshot(self) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "dns": {"udp": self.dns.snapshot(), "tcp": self.dns_streams.snapshot()},
            "sip": self.sip.snapshot(),
            "streams": len(self.streams),
        }

    def _datagrams6(self, there: bytes, ports: tuple[int, int], payload: bytes, marks: bytes) -> list[bytes]:
        """A datagram of a program, or its fragments."""
        try:
            made = udp.packet(self._home6 + there, ports, payload, marks)
        except WireError as error:
            raise Discard(Reason.TOO_BIG, str(error)) from error
        if len(made) <= self._translator.mtu:
            return [made]
        return fragment(made, self._translator.mtu, self._translator.next_identification())

    def _packet4(self, ends: bytes, protocol: int, body: bytes, ttl: int = 64, tos: int = 0) -> bytes:
        number = self._translator.next_identification()
        return ip4.packet(ends, protocol, _with_checksum(body, ends, protocol), ttl=ttl, tos=tos, identification=number)

    def _spoken(self, key: Key) -> Speech:
        port, server, there = key
        if there != DNS_PORT:
            return Speech(partial(sip_size, self.sip.is_message), self._sip_sent, self.sip.inbound)

        def asked(message: bytes) -> bytes:
            return _in_stream(self.dns_streams.outbound(message[2:], port, server, self._now))

        def answered(message: bytes) -> bytes:
            try:
                return _in_stream(self.dns_streams.inbound(message[2:], port, server, self._now))
            except Discard:
                return b""  # the rest of the stream is none the worse

        return Speech(dns_size, asked, answered)

    def _sip_sent(self, message: bytes) -> bytes:
        """A message of a program, rewritten. Calls may come to where it wants answers from elsewhere than the proxy."""
        port = self.sip.sent_by(message) if self.sip.is_message(message) else None
        if port is not None and port not in self._listening:
            if len(self._listening) >= LISTENING:
                del self._listening[next(iter(self._listening))]
            self._listening[port] = None
        return self.sip.outbound(message)

    def _literal4(self, ipv6: IPv6Address) -> IPv4Address | None:
        """What to write for an IPv6 address in a message to a program; None: leave it.

        Anybody can write addresses into messages; the program has not asked for them before it uses them.
        """
        try:
            return IPv4Address(self._virtual4(ipv6.packed, False))
        except Discard:
            return None

    def _literal6(self, ipv4: IPv4Address) -> IPv6Address | None:
        """What to write for an IPv4 address in a message of a program; None: leave it."""
        found = self._standing_for(ipv4.packed)
        return None if found is None else IPv6Address(found)


def _in_stream(messages: list[bytes]) -> bytes:
    """Messages of DNS, each with its length before it."""
    return b"".join(len(message).to_bytes(2) + message for message in messages)


def _whole(protocol: int, body: bytes) -> bool:
    """Whether lengths are what they claim to be; what is not goes on as it is, and its receiver will see."""
    if protocol == ip6.UDP:
        return len(body) >= udp.HEADER_SIZE and body[4] << 8 | body[5] == len(body)
    return len(body) >= tcp.HEADER_SIZE and tcp.HEADER_SIZE <= (body[12] >> 4) * 4 <= len(body)


def _wrong(protocol: int, body: bytes, ends: bytes) -> bool:
    return bool((words(ends) + protocol + len(body) + _sum(body)) % 0xFFFF)


def _with_checksum(body: bytes, ends: bytes, protocol: int = ip6.TCP) -> bytes:
    """A segment or datagram whose checksum is still zero, with it."""
    at = 16 if protocol == ip6.TCP else 6
    value = -(words(ends) + protocol + len(body) + _sum(body)) % 0xFFFF
    if not value and protocol == ip6.UDP:
        value = 0xFFFF
    return b"%b%b%b" % (body[:at], value.to_bytes(2), body[at + 2 :])


def _sum(data: bytes) -> int:
    return words(data + b"\0") if len(data) & 1 else words(data)
