"""The seam between an engine that is a whole node and whatever moves its bytes.

Three shells run nodes: the event loop of a process (`mobility.net.loop`), the simulated world
(`mobility.net.memory`) and tests that call the methods by hand.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Protocol, runtime_checkable

from mobility.outputs import Output


class Node(Protocol):
    """A terminal, home agent, correspondent... Owns no clock, socket or dice. ``now``: monotonic seconds."""

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called next; None: never. Read again after every call."""

    def start(self, now: float) -> list[Output]:
        """The node begins its life; its links are down until `link_changed` says otherwise."""

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        """The carrier of a link came or went."""

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """An IPv6 packet arrived on a link from the link-layer address ``sender``. Never raises on bad input."""

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """The host OS (a program) sends an IP packet. Never raises on bad input."""

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come."""

    def snapshot(self, now: float) -> dict[str, object]:
        """All tables and counters, JSON-ready, for status displays. No secrets."""


@runtime_checkable
class UsesUdp(Protocol):
    """A node that can do with UDP where it has no link of its own (RFC 5555).

    Its datagrams come by `Node.from_link` (packet: the payload; sender: an endpoint, see `mobility.links`) and go as
    `Transmit` (to: an endpoint).
    """

    def udp_changed(self, link: str, address: IPv4Address | IPv6Address | None, mtu: int, now: float) -> list[Output]:
        """``link`` (``wlan0/udp4``) has a socket with this local address, or another one than before; None: none any
        more. ``mtu``: octets of IP packet that the interface takes."""


@runtime_checkable
class PrefersInterfaces(Protocol):
    """A node that prefers some interfaces to others."""

    def interfaces_changed(self, order: tuple[str, ...], now: float) -> list[Output]:
        """The interfaces that may be used, by name, the preferred one first."""


@runtime_checkable
class NoticesSleep(Protocol):
    """A node that has to look around when the machine was suspended."""

    def resumed(self, now: float) -> list[Output]:
        """It was, until now; ``now`` has gone on meanwhile."""


@runtime_checkable
class SaysGoodbye(Protocol):
    """A node that has something to say before it ends."""

    def stopping(self, now: float) -> list[Output]:
        """The process ends in good order; nothing is asked of the node after this."""
