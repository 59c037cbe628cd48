"""Mobile prefix solicitations and advertisements as packets (RFC 6275 sections 6.7, 6.8).

As binding updates and acknowledgements (`signalling`): with the home address option or type 2 routing header, and as
IPsec wants it, whose policies tell them by their ICMPv6 types from everything else (RFC 4877 section 5.2).
"""

from __future__ import annotations

from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.mipv6.signalling import Protection
from mobility.wire import icmp6, ip6
from mobility.wire.errors import WireError
from mobility.wire.mobile_icmp import PrefixAdvertisement, PrefixSolicitation


def solicitation_packet(
    message: PrefixSolicitation,
    home_address: IPv6Address,
    care_of: IPv6Address,
    to: IPv6Address,
    protection: Protection,
) -> bytes:
    """From a terminal to its home agent; in a datagram ``care_of`` is the home address. Raises `Discard`."""
    body = icmp6.payload(home_address, to, message)
    if care_of == home_address:
        return protection.protect(ip6.packet(home_address, to, ip6.ICMPV6, body))
    option = ip6.home_address_option(home_address, ip6.ICMPV6)
    return protection.protect(ip6.packet(care_of, to, ip6.DEST_OPTIONS, option + body))


def advertisement_packet(
    message: PrefixAdvertisement,
    source: IPv6Address,
    home_address: IPv6Address,
    care_of: IPv6Address,
    protection: Protection,
) -> bytes:
    """From a home agent to a terminal; in a datagram ``care_of`` is the home address. Raises `Discard`."""
    body = icmp6.payload(source, home_address, message)
    if care_of == home_address:
        return protection.protect(ip6.packet(source, home_address, ip6.ICMPV6, body))
    routing = ip6.routing_header(home_address, ip6.ICMPV6)
    return protection.protect(ip6.packet(source, care_of, ip6.ROUTING, routing + body))


def solicitation_in(clear: bytes) -> PrefixSolicitation:
    """The message in a packet that `signalling.unwrap` has opened. Raises `Discard` MALFORMED."""
    body = _checked(clear)
    try:
        return PrefixSolicitation.parse(body)
    except WireError as error:
        raise Discard(Reason.MALFORMED, str(error)) from error


def advertisement_in(clear: bytes) -> PrefixAdvertisement:
    """The message in a packet that `signalling.unwrap` has opened. Raises `Discard` MALFORMED."""
    body = _checked(clear)
    try:
        return PrefixAdvertisement.parse(body)
    except WireError as error:
        raise Discard(Reason.MALFORMED, str(error)) from error


def _checked(clear: bytes) -> bytes:
    body = clear[ip6.HEADER_SIZE :]
    try:
        icmp6.verify(clear[8:24], clear[24:40], body)
    except WireError as error:
        raise Discard(Reason.CHECKSUM_WRONG, str(error)) from error
    return body
