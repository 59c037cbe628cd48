"""Mobility header messages as packets: home address option, type 2 routing header, then AH, ESP or both.

To IPsec a packet between home agent and terminal is always one between home agent and home address: the home
address option and the type 2 routing header swap the care-of address in and out (RFC 6275 section 11.3.2, RFC 3776).
They are there before IPsec is, because AH authenticates them.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Protocol

from mobility.discards import Discard, Reason
from mobility.wire import ip6, mh
from mobility.wire.errors import WireError


class Protection(Protocol):
    """The IPsec processing that guards the signalling."""

    def protect(self, packet: bytes) -> bytes: ...

    def accept(self, packet: bytes) -> bytes: ...


class _Unprotected:
    """For messages between terminal and correspondent, whose protection is their authenticator."""

    def protect(self, packet: bytes) -> bytes:
        return packet

    def accept(self, packet: bytes) -> bytes:
        return packet


UNPROTECTED: Protection = _Unprotected()


@dataclass(frozen=True, slots=True)
class Received:
    """A message after its packet passed routing header or home address option, IPsec and checksum."""

    message: mh.Message
    source: IPv6Address
    "Logical: the home address where an option carried it."
    destination: IPv6Address
    "Logical: the home address where a routing header carried it."
    outer_source: IPv6Address
    outer_destination: IPv6Address
    under_ipsec: bool


def from_terminal(
    message: mh.Message, home_address: IPv6Address, care_of: IPv6Address, to: IPv6Address, protection: Protection
) -> bytes:
    """A message of the terminal: with home address option, unless it is sent from the home address itself."""
    body = mh.payload(message, home_address, to)
    if care_of == home_address:
        return protection.protect(ip6.packet(home_address, to, ip6.MOBILITY, body))
    option = ip6.home_address_option(home_address, ip6.MOBILITY)
    return protection.protect(ip6.packet(care_of, to, ip6.DEST_OPTIONS, option + body))


def to_terminal(
    message: mh.Message, source: IPv6Address, home_address: IPv6Address, care_of: IPv6Address, protection: Protection
) -> bytes:
    """A message for the terminal: with type 2 routing header, unless it is at home."""
    body = mh.payload(message, source, home_address)
    if care_of == home_address:
        return protection.protect(ip6.packet(source, home_address, ip6.MOBILITY, body))
    routing = ip6.routing_header(home_address, ip6.MOBILITY)
    return protection.protect(ip6.packet(source, care_of, ip6.ROUTING, routing + body))


def logical(packet: bytes) -> tuple[bytes, ip6.Headers]:
    """The packet as IPsec sees it, without options and routing header. Raises `Discard`."""
    try:
        packet = ip6.check(packet)
        headers = ip6.walk(packet)
    except WireError as error:
        raise Discard(Reason.MALFORMED, str(error)) from error
    if headers.fragment is not None:
        raise Discard(Reason.MALFORMED, "a fragment; mobility messages are never fragmented")
    if headers.routing_address is not None and headers.segments_left != 1:
        raise Discard(Reason.MALFORMED, "type 2 routing header with segments left 0 at its first destination")
    source = headers.home_address or packet[8:24]
    destination = headers.routing_address or packet[24:40]
    body = packet[headers.offset :]
    return ip6.fast_packet(source + destination, headers.protocol, body, packet[7]), headers


def message_of(packet: bytes) -> mh.Message:
    """The mobility message in a packet that IPsec is done with. Raises `Discard`."""
    if packet[6] != ip6.MOBILITY:
        raise Discard(Reason.MESSAGE_UNEXPECTED, f"protocol {packet[6]} where a mobility header was expected")
    try:
        return mh.parse(packet[ip6.HEADER_SIZE :], packet[8:24], packet[24:40])
    except WireError as error:
        raise Discard(Reason.MALFORMED, str(error)) from error


def unwrap(packet: bytes, protection: Protection) -> tuple[bytes, bool]:
    """The packet without AH and ESP, with the home address swapped in, and whether it came under IPsec.

    Policy is satisfied then. Raises `Discard`.
    """
    _, headers = logical(packet)  # what is malformed is so before anything is decrypted
    under_ipsec = headers.protocol in (ip6.ESP, ip6.AH)
    try:
        clear, _ = logical(protection.accept(packet))
    except Discard as discard:
        if discard.reason is Reason.POLICY_VIOLATED and not under_ipsec:
            raise Discard(Reason.NOT_PROTECTED, discard.detail) from discard
        raise
    return clear, under_ipsec


def open_message(packet: bytes, protection: Protection) -> Received:
    """Removes AH and ESP, swaps the home address in, checks the policy and the checksum. Raises `Discard`."""
    return received(packet, *unwrap(packet, protection))


def received(packet: bytes, clear: bytes, under_ipsec: bool) -> Received:
    """The mobility message of a packet that `unwrap` has opened. Raises `Discard`."""
    return Received(
        message_of(clear),
        IPv6Address(clear[8:24]),
        IPv6Address(clear[24:40]),
        IPv6Address(packet[8:24]),
        IPv6Address(packet[24:40]),
        under_ipsec,
    )
