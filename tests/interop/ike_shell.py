"""An IKE endpoint with UDP sockets and one inner address behind its tunnel, in a network namespace; nothing else."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address
from time import monotonic
from typing import TypeVar

from mobility.discards import Discard
from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.ike.events import ChildDown, ChildSwitched, ChildUp, Output, PeerMoved, Send
from mobility.ipsec.ike.numbers import IKE_PORT, NAT_PORT
from mobility.ipsec.ike.settings import Endpoint, Peer, Settings
from mobility.ipsec.sa import InboundSA, OutboundSA
from mobility.net.namespace import inside
from mobility.wire import icmp6, ip6

_T = TypeVar("_T")


@dataclass
class Shell:
    """Moves bytes and keeps one alarm; answers echo requests to ``inner``."""

    namespace: str
    address: str
    inner: IPv6Address
    peer: Peer
    settings: Settings
    seen: list[Output] = field(default_factory=list)
    echoes: list[int] = field(default_factory=list)
    "Sequence numbers of echo replies that came through the tunnel."
    answered: int = 0
    "Echo requests that came through the tunnel."
    dropped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ike = Ike(self.settings, [self.peer], random=os.urandom, utc=lambda: datetime.now(UTC))
        self.inbound: dict[bytes, InboundSA] = {}
        self._outbound: dict[int, OutboundSA] = {}
        self._sending: OutboundSA | None = None
        self._remote: Endpoint | None = None
        self.sockets: dict[int, socket.socket] = {}
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        with inside(self.namespace):
            for port in (IKE_PORT, NAT_PORT):
                made = socket.socket(family, socket.SOCK_DGRAM)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind((self.address, port))
                made.setblocking(False)
                self.sockets[port] = made

    def close(self) -> None:
        for each in self.sockets.values():
            each.close()

    def of(self, kind: type[_T]) -> list[_T]:
        return [each for each in self.seen if isinstance(each, kind)]

    @staticmethod
    def now() -> float:
        return monotonic()

    def settled(self) -> bool:
        """Nothing is under way."""
        return all(each["state"] == "established" for each in self.ike.status()) and len(self.ike.status()) == 1

    def initiate(self, remote: str) -> None:
        ends = Endpoint(ip_address(self.address)), Endpoint(ip_address(remote))
        self.carry_out(self.ike.initiate(self.peer.name, *ends, monotonic()))

    def run(self, until: Callable[[], object], seconds: float = 15.0) -> None:
        """Until something is so. Raises AssertionError with all that was seen when it does not become so."""
        end = monotonic() + seconds
        while not until():
            now = monotonic()
            if now > end:
                raise AssertionError(f"not within {seconds} s; seen {self.seen}; dropped {self.dropped}")
            alarm = self.ike.timer
            wait = min(0.05, max(0.0, (alarm or end) - now))
            ready, _, _ = select.select(list(self.sockets.values()), (), (), wait)
            for each in ready:
                data, source = each.recvfrom(65535)
                self._received(data, each.getsockname(), source)
            if alarm is not None and alarm <= monotonic():
                self.carry_out(self.ike.handle_timer(monotonic()))

    def carry_out(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            match output:
                case Send(data, local, remote):
                    self.sockets[local.port].sendto(data, (str(remote.address), remote.port))
                    self._remote = remote
                    continue
                case ChildUp(_, child, send, _):
                    self.inbound[child.inbound_spi.to_bytes(4, "big")] = child.inbound()
                    self._outbound[child.inbound_spi] = child.outbound(os.urandom)
                    if send:
                        self._sending = self._outbound[child.inbound_spi]
                case ChildSwitched(_, child):
                    self._sending = self._outbound[child.inbound_spi]
                case ChildDown(_, child, _):
                    del self.inbound[child.inbound_spi.to_bytes(4, "big")]
                    self._outbound.pop(child.inbound_spi)
                case PeerMoved(_, _, remote):
                    self._remote = remote
            self.seen.append(output)

    def ping(self, to: IPv6Address, number: int) -> None:
        """An echo request from the inner address through the tunnel, in a datagram."""
        self._send(icmp6.packet(self.inner, to, icmp6.Echo(0x1234, number, b"roamphone")))

    def _send(self, packet: bytes) -> None:
        if self._sending is None or self._remote is None:
            raise AssertionError("there is no tunnel")
        where = str(self._remote.address), NAT_PORT
        self.sockets[NAT_PORT].sendto(self._sending.seal(ip6.IPV6, packet), where)

    def _received(self, data: bytes, local: tuple[str, int], remote: tuple[str, int]) -> None:
        if local[1] == IKE_PORT or data[:4] == bytes(4) or len(data) < 5:
            ends = Endpoint(ip_address(local[0]), local[1]), Endpoint(ip_address(remote[0]), remote[1])
            self.carry_out(self.ike.receive(data, *ends, monotonic()))
            return
        sa = self.inbound.get(data[:4])
        if sa is None:
            self.dropped.append(f"SPI {data[:4].hex()}")
            return
        try:
            _, packet = sa.open(data)
        except Discard as discard:
            self.dropped.append(str(discard))
            return
        self._arrived(packet)

    def _arrived(self, packet: bytes) -> None:
        reply = icmp6.echo_reply(packet)
        if reply is not None:
            self.answered += 1
            self._send(reply)
            return
        message = icmp6.parse(packet[ip6.HEADER_SIZE :])
        if isinstance(message, icmp6.Echo):
            self.echoes.append(message.sequence)
