"""Packets of both versions of IP in the mobile tunnel (RFC 5555 section 4.4); IPv4 beside `mobility.mipv6.tunnel`.

An IPv4 packet is one of the IPv4 home address. No policy selects it: the tunnel's associations protect all of them, and
in the form ``plain`` it goes as it is. Which version a packet has, its first digit says.
"""

from __future__ import annotations

from mobility.discards import Discard, Reason
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import Mode, OutboundSA
from mobility.mipv6.tunnel import TunnelForm, around, checked, seal
from mobility.wire import ip4, ip6
from mobility.wire.errors import WireError


def seal_any(
    inner: bytes, ends: bytes, form: TunnelForm, security: IpsecProcessing, association: OutboundSA | None
) -> tuple[int, bytes]:
    """What is inside the outer header: its next header and octets. ``association``: the tunnel's, for IPv4.

    Raises `Discard` as `tunnel.seal`.
    """
    if inner[0] >> 4 != 4:
        return seal(inner, ends, form, security)
    if association is None:
        return ip6.IPV4, inner
    if form is TunnelForm.ESP_MOBILE:
        return ip6.ESP, association.seal(ip6.IPV6, around(ip4.traffic_class(inner), ends, ip6.IPV4, inner))
    return ip6.ESP, association.seal(ip6.IPV4, inner)


def marks(inner: bytes) -> bytes:
    """What `tunnel.around` has to look at for the traffic class of the outer header."""
    return ip4.traffic_class(inner) if inner[0] >> 4 == 4 else inner


def open_any(packet: bytes, at: int, ends: bytes, form: TunnelForm, security: IpsecProcessing) -> bytes:
    """The inner packet of the ESP that begins at ``at``, once policy is satisfied.

    ``at`` 0: the payload of a datagram. ``ends``: source and destination that a mobile tunnel header must have; the
    caller has checked the outer ones. For IPv4 he has still to check the inner source.

    Raises `Discard`: POLICY_VIOLATED, NOT_TUNNELLED, OUTER_SOURCE_WRONG (mobile tunnel header), MALFORMED, and those
    of `IpsecProcessing.unseal` and `check`.
    """
    sa, next_header, inner = security.unseal(packet, at)
    if sa.mode is not Mode.TUNNEL:
        raise Discard(Reason.POLICY_VIOLATED, f"SPI {sa.spi:#010x} is for {sa.mode.value} mode")
    if form is TunnelForm.ESP_MOBILE:
        if next_header != ip6.IPV6:
            raise Discard(Reason.POLICY_VIOLATED, f"SPI {sa.spi:#010x} brought next header {next_header}")
        mobile = checked(inner)
        if mobile[6] not in (ip6.IPV6, ip6.IPV4):
            raise Discard(Reason.NOT_TUNNELLED, f"no mobile tunnel header around next header {mobile[6]}")
        if mobile[8:40] != ends:
            raise Discard(Reason.OUTER_SOURCE_WRONG, "the mobile tunnel header has other addresses than ESP's")
        next_header, inner = mobile[6], mobile[ip6.HEADER_SIZE :]
    if next_header == ip6.IPV4:
        return checked4(inner)
    if next_header != ip6.IPV6:
        raise Discard(Reason.POLICY_VIOLATED, f"SPI {sa.spi:#010x} brought next header {next_header}")
    inner = checked(inner)
    if at and packet[1] & 0x30 == 0x30 and inner[1] & 0x30 not in (0, 0x30):
        # The congestion that routers marked on the tunnel concerns the inner flow (RFC 6040 section 4.2).
        inner = b"%c%c%b" % (inner[0], inner[1] | 0x30, inner[2:])
    security.check(inner, sa)
    return inner


def checked4(packet: bytes) -> bytes:
    """A whole IPv4 packet without padding behind it. Raises `Discard` MALFORMED."""
    try:
        return ip4.check(packet)
    except WireError as error:
        raise Discard(Reason.MALFORMED, str(error)) from error
