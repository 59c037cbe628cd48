"""The mobile tunnel between home agent and terminal in its three forms (Figs. 24, 25, 26; RFC 2473, RFC 3776)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from ipaddress import IPv6Address, IPv6Network
from struct import Struct

from mobility.discards import Discard, Reason
from mobility.ipsec.ah import InboundAH, OutboundAH
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA, Mode, OutboundSA
from mobility.ipsec.spd import ANYWHERE, Action, Policy, SecurityPolicyDatabase, Selector
from mobility.wire import ip4, ip6, mh
from mobility.wire.errors import WireError
from mobility.wire.mobile_icmp import PREFIX_ADVERTISEMENT, PREFIX_SOLICITATION

_LENGTH = Struct("!H").pack


class TunnelForm(StrEnum):
    """What is put around a packet on its way through the tunnel."""

    PLAIN = "plain"
    "An IPv6 header (Fig. 24)."
    ESP_MOBILE = "esp-mobile"
    "A mobile tunnel header, and ESP in tunnel mode with a header of its own around it (Fig. 25)."
    ESP = "esp"
    "ESP in tunnel mode, whose header is the mobile tunnel header as well (Fig. 26)."


@dataclass(frozen=True, slots=True)
class MobileAssociations:
    """The security associations between one terminal and its home agent; the same class at both ends.

    The signalling pair is transport mode (ESP, AH, or AH around ESP), the others are tunnel mode. None, None: not
    protected. Home tests have associations of their own only where the tunnel has none (the form ``plain``).
    """

    signalling_out: OutboundSA | OutboundAH | None = None
    signalling_in: InboundSA | InboundAH | None = None
    tunnel_out: OutboundSA | None = None
    tunnel_in: InboundSA | None = None
    home_test_out: OutboundSA | None = None
    home_test_in: InboundSA | None = None

    def check(self, form: TunnelForm) -> None:
        """Raises `ValueError` when the associations do not suit each other or the form of the tunnel."""
        pairs = (
            ("signalling", self.signalling_out, self.signalling_in, Mode.TRANSPORT),
            ("tunnel", self.tunnel_out, self.tunnel_in, Mode.TUNNEL),
            ("home test", self.home_test_out, self.home_test_in, Mode.TUNNEL),
        )
        for name, out, inbound, mode in pairs:
            if (out is None) != (inbound is None):
                raise ValueError(f"the {name} needs an association in both directions, or none")
            if out is not None and inbound is not None and (out.mode is not mode or inbound.mode is not mode):
                raise ValueError(f"the associations of the {name} must be in {mode.value} mode")
        out, inbound = self.signalling_out, self.signalling_in
        if _layers(out) != _layers(inbound):
            raise ValueError("the signalling needs AH, ESP, or AH around ESP, and the same in both directions")
        if (self.tunnel_out is None) != (form is TunnelForm.PLAIN):
            raise ValueError(
                f"a tunnel of the form {form.value} {'has no' if form is TunnelForm.PLAIN else 'needs'} associations"
            )
        if self.home_test_out is not None and form is not TunnelForm.PLAIN:
            raise ValueError(f"in a tunnel of the form {form.value} home tests go under its own associations")


def _layers(association: OutboundSA | InboundSA | OutboundAH | InboundAH | None) -> tuple[bool, bool]:
    """Whether there is AH, and whether there is ESP inside it."""
    if isinstance(association, OutboundAH | InboundAH):
        return True, association.inside is not None
    return False, False


def terminal_policies(
    home_address: IPv6Address | IPv6Network,
    home_agent: IPv6Address,
    form: TunnelForm,
    associations: MobileAssociations,
    networks: Iterable[IPv6Network] = (),
) -> IpsecProcessing:
    """The second IPsec processing part of a terminal; ``networks``: that it takes along. A network in place of the home
    address: any address of it may turn out to be the terminal's.

    Raises `ValueError` as `MobileAssociations.check`.
    """
    associations.check(form)
    policies = _policies(home_agent, home_address, form, associations, networks, at_terminal=True)
    return IpsecProcessing(SecurityPolicyDatabase(policies, Action.DISCARD))


def agent_policies(
    home_agent: IPv6Address,
    terminals: Iterable[tuple[IPv6Address | IPv6Network, TunnelForm, MobileAssociations, Iterable[IPv6Network]]],
) -> IpsecProcessing:
    """The IPsec processing of a home agent for all its terminals, each with the networks that it may take along.

    Raises `ValueError`: as above, or an SPI twice.
    """
    policies: list[Policy] = []
    for home_address, form, associations, networks in terminals:
        associations.check(form)
        policies += _policies(home_agent, home_address, form, associations, networks, at_terminal=False)
    return IpsecProcessing(SecurityPolicyDatabase(policies, Action.DISCARD))


def _policies(
    home_agent: IPv6Address,
    home_address: IPv6Address | IPv6Network,
    form: TunnelForm,
    associations: MobileAssociations,
    networks: Iterable[IPv6Network],
    *,
    at_terminal: bool,
) -> list[Policy]:
    home, agent = IPv6Network(home_address), IPv6Network(home_agent)
    local, remote, anybody = (home, agent, ANYWHERE) if at_terminal else (agent, home, ANYWHERE)
    signalling = Selector(local, remote, ip6.MOBILITY)
    sent, heard = PREFIX_ADVERTISEMENT, PREFIX_SOLICITATION
    if at_terminal:
        sent, heard = heard, sent
    prefixes = Selector(local, remote, ip6.ICMPV6, local_type=sent, remote_type=heard)  # RFC 4877 section 5.2
    init, answer = int(mh.Type.HOME_TEST_INIT), int(mh.Type.HOME_TEST)
    if not at_terminal:
        init, answer = answer, init
    ends = (home, anybody) if at_terminal else (anybody, home)
    home_tests = Policy(
        Selector(*ends, ip6.MOBILITY, local_type=init, remote_type=answer),
        Action.PROTECT,
        associations.home_test_out,
        associations.home_test_in,
        f"home test {home_address}",
    )
    return [
        Policy(
            signalling,
            Action.BYPASS if associations.signalling_out is None else Action.PROTECT,
            associations.signalling_out,
            associations.signalling_in,
            f"signalling {home_address}",
        ),
        Policy(
            prefixes,
            Action.BYPASS if associations.signalling_out is None else Action.PROTECT,
            associations.signalling_out,
            associations.signalling_in,
            f"prefix discovery {home_address}",
        ),
        *([] if associations.home_test_out is None else [home_tests]),
        *(
            Policy(
                Selector(behind, anybody) if at_terminal else Selector(anybody, behind),
                Action.BYPASS if form is TunnelForm.PLAIN else Action.PROTECT,
                associations.tunnel_out,
                associations.tunnel_in,
                f"tunnel {home_address}",
            )
            for behind in (home, *networks)
        ),
    ]


def encapsulate(inner: bytes, ends: bytes, form: TunnelForm, security: IpsecProcessing) -> bytes:
    """The packet in the tunnel; ``ends`` are outer source and destination, 32 bytes.

    The traffic class is that of the packet, so speech is carried as speech outside too (RFC 4301 section 5.1.2) and
    routers may mark congestion (RFC 6040 section 4.1). The flow label is not: it would tell flows apart.

    Raises `Discard` (step 112): MALFORMED, POLICY_DISCARD, SA_MISSING, SEQUENCE_EXHAUSTED.
    """
    next_header, body = _sealed(inner, ends, form, security)
    outer = around(inner, ends, next_header, body)
    if security.tap is not None:
        security.tap(Mode.TUNNEL, True, inner, outer)
    return outer


def seal(inner: bytes, ends: bytes, form: TunnelForm, security: IpsecProcessing) -> tuple[int, bytes]:
    """What is inside the outer header: its next header (ESP, or IPv6 where nothing is protected) and octets.

    This is also the payload of a datagram when the outer header is that of UDP (RFC 5555 section 4.4, RFC 3948): then
    ``ends`` of the mobile header are home address and home agent, because a NAT may replace the outer ones.
    """
    sealed = _sealed(inner, ends, form, security)
    if security.tap is not None:
        security.tap(Mode.TUNNEL, True, inner, sealed[1])
    return sealed


def _sealed(inner: bytes, ends: bytes, form: TunnelForm, security: IpsecProcessing) -> tuple[int, bytes]:
    sa = security.tunnel_for(inner)  # steps 108, 109
    if sa is None:
        return ip6.IPV6, inner  # step 111, Fig. 24
    if form is TunnelForm.ESP_MOBILE:
        inner = around(inner, ends, ip6.IPV6, inner)  # Fig. 25
    return ip6.ESP, sa.seal(ip6.IPV6, inner)  # step 110, Figs. 25 and 26


def seal4(inner: bytes, ends: bytes, form: TunnelForm, association: OutboundSA | None) -> tuple[int, bytes]:
    """As `seal`, for a packet of the IPv4 home address (RFC 5555); policies are about IPv6, so the caller has chosen.

    Raises `Discard`: SEQUENCE_EXHAUSTED, MALFORMED.
    """
    if association is None:
        return ip6.IPV4, inner
    if form is TunnelForm.ESP_MOBILE:
        return ip6.ESP, association.seal(ip6.IPV6, around(_NO_MARKS, ends, ip6.IPV4, inner))
    return ip6.ESP, association.seal(ip6.IPV4, inner)


def around(inner: bytes, ends: bytes, next_header: int, payload: bytes) -> bytes:
    """A header with the traffic class of ``inner`` around a payload. Raises `Discard` MALFORMED."""
    size = len(payload)
    if size > 0xFFFF:
        raise Discard(Reason.MALFORMED, f"{size} octets are too large for one packet in the tunnel")
    return b"%c%c\0\0%b%c\x40%b%b" % (inner[0], inner[1] & 0xF0, _LENGTH(size), next_header, ends, payload)


def _marked(packet: bytes, inner: bytes) -> bytes:
    """The inner packet with the congestion that routers marked on the outer one (RFC 6040 section 4.2).

    A flow that does not do ECN is left as it is: its senders marked nothing that routers could have changed.
    """
    if packet[1] & 0x30 == 0x30 and inner[1] & 0x30 not in (0, 0x30):
        return b"%c%c%b" % (inner[0], inner[1] | 0x30, inner[2:])
    return inner


def decapsulate(packet: bytes, form: TunnelForm, security: IpsecProcessing) -> bytes:
    """The inner packet, once policy is satisfied; the caller has checked the outer addresses.

    It may be an IPv4 packet: whose it is, is for the caller to check. Raises `Discard` (step 130): NOT_TUNNELLED,
    OUTER_SOURCE_WRONG (mobile tunnel header), and those of IPsec.
    """
    match packet[6]:
        case ip6.ESP if form is TunnelForm.ESP_MOBILE:
            return _without_mobile_header(packet, packet[8:40], security)
        case ip6.ESP:
            return security.decapsulate(packet)  # steps 125, 126
        case ip6.IPV6:
            inner = _marked(packet, checked(packet[40:]))
            security.check(inner, None, tunnelled=True)  # steps 129, 126
            if security.tap is not None:
                security.tap(Mode.TUNNEL, False, packet, inner)
            return inner
        case ip6.IPV4 if form is TunnelForm.PLAIN:
            return checked4(packet[40:])
        case other:
            raise Discard(Reason.NOT_TUNNELLED, f"next header {other} from {IPv6Address(packet[8:24])}")


def from_datagram(payload: bytes, ends: bytes, form: TunnelForm, security: IpsecProcessing) -> bytes:
    """The inner packet of a datagram, once policy is satisfied; ``ends`` as in `seal`, seen from the sender.

    Raises `Discard` as `decapsulate`.
    """
    if payload[0] >> 4 == 6:
        inner = checked(payload)
        security.check(inner, None, tunnelled=True)
        if security.tap is not None:
            security.tap(Mode.TUNNEL, False, payload, inner)
        return inner
    if payload[0] >> 4 == 4 and form is TunnelForm.PLAIN:
        return checked4(payload)
    # IPsec looks at whole packets; these addresses are not what arrived, and nothing looks at them.
    packet = around(_NO_MARKS, ends, ip6.ESP, payload)
    return decapsulate(packet, form, security)


_NO_MARKS = bytes((0x60, 0))


def _without_mobile_header(packet: bytes, ends: bytes, security: IpsecProcessing) -> bytes:
    sa, next_header, mobile = security.unseal(packet)  # step 125
    if sa.mode is not Mode.TUNNEL or next_header != ip6.IPV6:  # step 126
        raise Discard(Reason.POLICY_VIOLATED, f"SPI {sa.spi:#010x} brought next header {next_header}")
    mobile = checked(mobile)
    if mobile[6] not in (ip6.IPV6, ip6.IPV4):  # step 131
        raise Discard(Reason.NOT_TUNNELLED, f"no mobile tunnel header around next header {mobile[6]}")
    if mobile[8:40] != ends:  # step 128
        raise Discard(Reason.OUTER_SOURCE_WRONG, "the mobile tunnel header has other addresses than ESP's")
    if mobile[6] == ip6.IPV4:
        return checked4(mobile[40:])
    inner = _marked(packet, checked(mobile[40:]))
    security.check(inner, sa, tunnelled=True)  # steps 129, 126
    if security.tap is not None:
        security.tap(Mode.TUNNEL, False, packet, inner)
    return inner


class Content(Enum):
    """What a datagram of the mobile tunnel carries, by its first octet (RFC 5555 section 4.1, RFC 3948 section 2)."""

    KEEPALIVE = auto()
    "One octet 0xFF, which only refreshes mappings of NAT on the way."
    IPV6 = auto()
    "A packet: signalling between home agent and home address, or data of the form ``plain``."
    ESP = auto()
    "Data. SPIs of tunnels do not begin with the digits 4 and 6, versions of IP (see `mobility.config_security`)."
    IPV4 = auto()
    "A packet of the IPv4 home address, in the form ``plain``."


def content(payload: bytes) -> Content:
    """Raises `Discard` MALFORMED: an empty datagram."""
    if not payload:
        raise Discard(Reason.MALFORMED, "an empty datagram")
    match payload[0] >> 4:
        case 6:
            return Content.IPV6
        case 4:
            return Content.IPV4
        case 15 if payload == b"\xff":
            return Content.KEEPALIVE
        case _:
            return Content.ESP


def room(mtu: int, form: TunnelForm, security: IpsecProcessing, home_address: IPv6Address) -> int:
    """The largest inner packet, in octets, whose tunnelled form fits into ``mtu``."""
    body = mtu - ip6.HEADER_SIZE
    if form is TunnelForm.PLAIN:
        return body
    smallest = body
    for policy in security.spd.policies:
        sa = policy.outbound_sa
        ends = (policy.selector.local, policy.selector.remote)
        if sa is not None and sa.mode is Mode.TUNNEL and any(home_address in end for end in ends):
            smallest = min(smallest, sa.algorithm.room(body))
    return smallest - ip6.HEADER_SIZE if form is TunnelForm.ESP_MOBILE else smallest


def checked4(packet: bytes) -> bytes:
    """A whole IPv4 packet without padding behind it. Raises `Discard` MALFORMED."""
    try:
        return ip4.check(packet)
    except WireError as error:
        raise Discard(Reason.MALFORMED, str(error)) from error


def checked(packet: bytes) -> bytes:
    """A whole IPv6 packet without padding behind it. Raises `Discard` MALFORMED."""
    try:
        return ip6.check(packet)
    except WireError as error:
        raise Discard(Reason.MALFORMED, str(error)) from error
