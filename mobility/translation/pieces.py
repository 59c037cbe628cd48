"""Fragments of both versions put together, where a gateway or a checksum needs the whole."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.host.fragments import FragmentProblem, Reassembly
from mobility.host.interface import Interface
from mobility.outputs import Output
from mobility.translation.translator import MORE_FRAGMENTS, OFFSET
from mobility.wire import icmp6, ip4, ip6
from mobility.wire.errors import WireError

_MAPPED = bytes(10) + b"\xff\xff"


class Pieces:
    """Packets whose fragments are still coming in, from programs and from the network."""

    def __init__(self, home_address: IPv6Address, random: Callable[[int], bytes]) -> None:
        self._home_address = home_address
        self._interface = Interface("translation", b"", 0xFFFF, random)
        self._answers: list[bytes] = []
        self._from_network = Reassembly(self._interface, self._timed_out)
        self._from_host = Reassembly(self._interface, lambda _first, _now: None)

    @property
    def timer(self) -> float | None:
        """When `expire` wants to be called."""
        return self._interface.alarms.next

    def expire(self, now: float) -> list[bytes]:
        """What stayed incomplete goes; the errors that tell its senders in the network."""
        self._interface.alarms.run(now)
        answers, self._answers = self._answers, []
        return answers

    def take(self) -> list[Output]:
        """What was discarded since the last call."""
        return self._interface.take()

    def add4(self, packet: bytes, now: float) -> bytes | None:
        """The whole IPv4 packet (without options) when this was its last missing fragment. Raises `Discard`.

        There is one reassembly, which knows IPv6; so the fragment is put into a header of IPv6 for it.
        """
        protocol, bits = packet[9], packet[6] << 8 | packet[7]
        identification = int.from_bytes(packet[4:6]) << 8 | protocol
        piece = ip6.Fragment(
            ip6.HEADER_SIZE, protocol, (bits & OFFSET) * 8, bool(bits & MORE_FRAGMENTS), identification
        )
        source, destination = _MAPPED + packet[12:16], _MAPPED + packet[16:20]
        body = bytes(8) + packet[ip4.HEADER_SIZE :]
        as6 = ip6.packet(source, destination, ip6.FRAGMENT, body, packet[8], packet[1])
        whole = self._add(self._from_host, as6, ip6.Headers(protocol, 48, 40, fragment=piece), piece, now)
        if whole is None:
            return None
        tos = (whole[0] & 15) << 4 | whole[1] >> 4
        try:
            return ip4.packet(packet[12:20], protocol, whole[40:], ttl=whole[7], tos=tos)
        except WireError as error:
            raise Discard(Reason.FRAGMENT_INVALID, str(error)) from error

    def add6(self, packet: bytes, headers: ip6.Headers, piece: ip6.Fragment, now: float) -> bytes | None:
        """The whole IPv6 packet when this was its last missing fragment. Raises `Discard`."""
        return self._add(self._from_network, packet, headers, piece, now)

    def _add(
        self, reassembly: Reassembly, packet: bytes, headers: ip6.Headers, piece: ip6.Fragment, now: float
    ) -> bytes | None:
        try:
            return reassembly.add(packet, headers, piece, now)
        except FragmentProblem as problem:
            raise Discard(Reason.FRAGMENT_INVALID, str(problem)) from problem

    def _timed_out(self, first: bytes, _now: float) -> None:
        if icmp6.may_be_answered_with_error(first):
            error = icmp6.TimeExceeded(icmp6.REASSEMBLY_TIME_EXCEEDED, first)
            self._answers.append(icmp6.packet(self._home_address, first[8:24], error))
