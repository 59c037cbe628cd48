"""One IPsec processing part: security policies, security associations, and packets between them (RFC 4301 section 5).

A terminal has two of these, the application's and the mobile tunnel's, which share nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Protocol, TypeVar

from mobility.discards import Discard, Reason
from mobility.ipsec.ah import InboundAH, OutboundAH
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.renewable import RenewableInbound
from mobility.ipsec.sa import InboundSA, Mode, OutboundSA
from mobility.ipsec.spd import Action, Policy, SecurityPolicyDatabase
from mobility.wire import ip4, ip6
from mobility.wire.errors import WireError

PLAN_LIMIT = 4096
"Flows whose decision is remembered, per direction."


class Tap(Protocol):
    """Looks at packets before and after they were processed; must neither block nor raise."""

    def __call__(self, mode: Mode, outbound: bool, before: bytes, after: bytes, /) -> None:
        """``mode``: of the processing that made ``after`` out of ``before``; what was bypassed is as it was."""


class IpsecProcessing:
    """Protects and accepts whole IPv6 packets by policy.

    The decision for UDP, TCP and ESP flows is remembered (a *plan*): such packets have all that selectors look at in
    octets 6 and 8 to 43. `replace` forgets the plans.
    """

    def __init__(self, spd: SecurityPolicyDatabase, sad: Iterable[InboundSA | InboundAH] | None = None) -> None:
        """``sad``: the inbound associations; None: those that the policies name. Raises `ValueError`: an SPI twice."""
        self.tap: Tap | None = None
        "Is shown every packet while somebody watches."
        self.to_come: tuple[Algorithm, ...] = ()
        "Of associations in transport mode that policies may get some time."
        self.replace(spd, sad)

    def replace(self, spd: SecurityPolicyDatabase, sad: Iterable[InboundSA | InboundAH] | None = None) -> None:
        """Other policies or associations from now on. Raises `ValueError`: two associations with one SPI."""
        if sad is None:
            sad = [policy.inbound_sa for policy in spd.policies if policy.inbound_sa is not None]
        associations: dict[bytes, InboundSA | InboundAH] = {}
        bundled: dict[bytes, InboundSA] = {}
        for sa in sad:
            spis = sa.spis if isinstance(sa, InboundSA) else (sa.spi,)
            if any(associations.setdefault(spi.to_bytes(4, "big"), sa) is not sa for spi in spis):
                raise _spi_twice(sa)
            if isinstance(sa, InboundAH) and sa.inside is not None:
                bundled[sa.inside.spi.to_bytes(4, "big")] = sa.inside
        for spi, inside in bundled.items():
            if spi in associations:
                raise _spi_twice(inside)
        self.spd = spd
        self._sad = {spi: sa for spi, sa in associations.items() if isinstance(sa, InboundSA)}
        self._authenticating = {spi: sa for spi, sa in associations.items() if isinstance(sa, InboundAH)}
        self._bundled = frozenset(bundled)
        "SPIs of ESP that only comes inside AH."
        # A plan for the way out is the association, or None for bypass.
        self._outbound: dict[int, dict[bytes, OutboundSA | None]] = {p: {} for p in _PLANNED}
        self._tunnelled: dict[int, dict[bytes, OutboundSA | None]] = {p: {} for p in _PLANNED}
        # For the way in it is the association that the packet must have come by, or None for none.
        self._inbound: dict[int, dict[bytes, InboundSA | InboundAH | None]] = {p: {} for p in _PLANNED}

    def learn(self, spi: int, sa: InboundSA) -> None:
        """What comes by this SPI is for an association of a policy, from now on. Raises `ValueError`: it is taken."""
        if self._sad.setdefault(spi.to_bytes(4), sa) is not sa:
            raise _spi_twice(sa)

    def knows(self, spi: int) -> bool:
        """Whether something comes by this SPI."""
        return spi.to_bytes(4) in self._sad

    def forget(self, spi: int) -> None:
        """Nothing comes by this SPI any more."""
        self._sad.pop(spi.to_bytes(4), None)

    def room(self, size: int) -> int:
        """Octets of the largest packet that has at most ``size`` of them after `protect`, whichever its policy is."""
        present = [policy.outbound_sa for policy in self.spd.policies]
        algorithms = {sa.algorithm for sa in present if sa is not None and sa.mode is Mode.TRANSPORT}
        body = size - ip6.HEADER_SIZE
        return min((ip6.HEADER_SIZE + each.room(body) for each in algorithms.union(self.to_come)), default=size)

    # ------------------------------------------------------------ transport mode

    def protect(self, packet: bytes) -> bytes:
        """The packet as the policy wants it on the wire: as it is, or with ESP, AH, or AH and ESP in transport mode.

        They go behind all extension headers there are, so a Home Address option stays readable for the receiver and
        the selectors are home addresses. Raises `Discard`: MALFORMED, POLICY_DISCARD, SA_MISSING, ESP_FRAGMENT,
        SEQUENCE_EXHAUSTED; with AH also HEADER_UNKNOWN.
        """
        try:
            protocol = packet[6]
            sa = self._outbound[protocol][packet[8:44]]
        except (KeyError, IndexError):
            return self._protect(packet)
        if packet[4] << 8 | packet[5] != len(packet) - 40 or packet[0] >> 4 != 6:
            return self._protect(packet)
        if sa is None:
            protected = packet
        else:
            esp = sa.seal(protocol, packet[40:])
            if len(esp) > 0xFFFF:
                raise _too_large(esp)
            protected = b"%b%b\x32%b%b" % (packet[:4], _LENGTH(len(esp)), packet[7:40], esp)
        if self.tap is not None:
            self.tap(Mode.TRANSPORT, True, packet, protected)
        return protected

    def accept(self, packet: bytes) -> bytes:
        """The packet without its AH and ESP of transport mode, if it had any, once the policy is satisfied.

        Raises `Discard`: MALFORMED, ESP_MALFORMED, ESP_FRAGMENT, ESP_DUMMY, SA_UNKNOWN, REPLAYED,
        AUTHENTICATION_FAILED, POLICY_DISCARD, POLICY_VIOLATED; with AH also AH_MALFORMED, HEADER_UNKNOWN.
        """
        size = len(packet)
        if size < 44 or packet[4] << 8 | packet[5] != size - 40 or packet[0] >> 4 != 6 or packet[6] != 50:
            return self._accept(packet)
        sa = self._sad.get(packet[40:44])
        if sa is None or sa.mode is not Mode.TRANSPORT:
            return self._accept(packet)
        next_header, payload = sa.open(packet[40:])
        plain = b"%b%b%c%b%b" % (packet[:4], _LENGTH(len(payload)), next_header, packet[7:40], payload)
        try:
            known = self._inbound[next_header][plain[8:44]] is sa
        except KeyError:
            known = False
        if not known:
            self.check(plain, sa)
        if self.tap is not None:
            self.tap(Mode.TRANSPORT, False, packet, plain)
        return plain

    # ------------------------------------------------------------ tunnel mode, for the forwarding part

    def policy_for(self, packet: bytes, *, outbound: bool, tunnelled: bool = False) -> Policy:
        """The policy for a packet as it is. Raises `Discard` MALFORMED.

        ``tunnelled``: in the tunnel that this part guards, home addresses of options and routing headers are not ours
        to swap in: they may be those of other nodes, which use this tunnel as a piece of their way (RFC 3963).
        """
        try:
            headers = ip6.walk(packet)
            flow = ip6.flow(packet, headers, swapped=not tunnelled)
        except WireError as error:
            raise Discard(Reason.MALFORMED, str(error)) from None
        return self.spd.lookup(flow, outbound=outbound, hidden=headers.later_fragment)

    def tunnel_for(self, inner: bytes) -> OutboundSA | None:
        """The tunnel-mode association for a packet that is about to enter the tunnel, or None for bypass.

        Remembers its answer per flow. Raises `Discard`: MALFORMED, POLICY_DISCARD, SA_MISSING.
        """
        try:
            return self._tunnelled[inner[6]][inner[8:44]]
        except (KeyError, IndexError):
            policy = self.policy_for(_checked(inner), outbound=True, tunnelled=True)
            sa = _outbound_sa(policy, Mode.TUNNEL)
            if isinstance(sa, OutboundAH):
                raise Discard(Reason.SA_MISSING, f"{policy.name}: AH is for transport mode") from None
            _remember(self._tunnelled, inner, sa)
            return sa

    def unseal(self, packet: bytes, at: int = ip6.HEADER_SIZE) -> tuple[InboundSA, int, bytes]:
        """Opens the ESP that begins at ``at``: association, next header, payload. No policy is checked yet.

        Raises `Discard`: SA_UNKNOWN, ESP_MALFORMED, ESP_DUMMY, REPLAYED, AUTHENTICATION_FAILED.
        """
        sa = self._sad.get(packet[at : at + 4])
        if sa is None:
            raise _unknown(packet, at)
        next_header, payload = sa.open(packet[at:])
        if next_header == ip6.NO_NEXT:
            raise Discard(Reason.ESP_DUMMY, f"SPI {sa.spi:#010x}")
        return sa, next_header, payload

    def decapsulate(self, packet: bytes, at: int = ip6.HEADER_SIZE) -> bytes:
        """The inner packet of a tunnel-mode packet whose ESP begins at ``at``, once the policy is satisfied.

        The caller has checked the outer addresses. Policies are about IPv6: whether the association may bring an inner
        IPv4 packet, and from whom, is for the caller to check. Raises `Discard` as `unseal` and `check` do.
        """
        sa, next_header, inner = self.unseal(packet, at)
        if next_header == ip6.IPV4 and sa.mode is Mode.TUNNEL:
            return _checked4(inner)
        if next_header != ip6.IPV6 or sa.mode is not Mode.TUNNEL:
            raise Discard(
                Reason.POLICY_VIOLATED, f"SPI {sa.spi:#010x} ({sa.mode.value}) brought next header {next_header}"
            )
        # What the peer added to hide the length goes (RFC 4303 section 2.7).
        inner = _checked(inner)
        if packet[1] & 0x30 == 0x30 and inner[1] & 0x30:
            # The congestion that routers marked on the tunnel concerns the inner flow (RFC 6040 section 4.2).
            inner = b"%c%c%b" % (inner[0], inner[1] | 0x30, inner[2:])
        self.check(inner, sa, tunnelled=True)
        if self.tap is not None:
            self.tap(Mode.TUNNEL, False, packet, inner)
        return inner

    def check(self, packet: bytes, sa: InboundSA | InboundAH | None, *, tunnelled: bool = False) -> None:
        """Whether policy lets in a packet that came by ``sa`` (None: unprotected); ``tunnelled`` as in `policy_for`.

        Raises `Discard`: MALFORMED, ESP_DUMMY, POLICY_DISCARD, POLICY_VIOLATED.
        """
        try:
            if self._inbound[packet[6]][packet[8:44]] is sa:
                return
        except (KeyError, IndexError):
            pass
        packet = _checked(packet)
        if packet[6] == ip6.NO_NEXT and sa is not None:
            raise Discard(Reason.ESP_DUMMY, f"SPI {sa.spi:#010x}")
        policy = self.policy_for(packet, outbound=False, tunnelled=tunnelled)
        if policy.action is Action.DISCARD:
            raise Discard(Reason.POLICY_DISCARD, policy.name)
        wanted = policy.inbound_sa if policy.action is Action.PROTECT else None
        if policy.action is Action.PROTECT and wanted is None:
            raise Discard(Reason.SA_MISSING, f"{policy.name}: nothing to come by")
        if wanted is not sa and not (wanted is None and isinstance(sa, RenewableInbound) and sa.provisional):
            raise Discard(Reason.POLICY_VIOLATED, f"{policy.name}: wants {wanted}, came by {sa}")
        _remember(self._inbound, packet, sa)

    # ------------------------------------------------------------ all packets without a plan

    def _protect(self, packet: bytes) -> bytes:
        protected = self._protected(packet)
        if self.tap is not None:
            self.tap(Mode.TRANSPORT, True, packet, protected)
        return protected

    def _protected(self, packet: bytes) -> bytes:
        packet = _checked(packet)
        try:
            headers = ip6.walk(packet)
            flow = ip6.flow(packet, headers)
        except WireError as error:
            raise Discard(Reason.MALFORMED, str(error)) from None
        policy = self.spd.lookup(flow, outbound=True, hidden=headers.later_fragment)
        sa = _outbound_sa(policy, Mode.TRANSPORT)
        if sa is None:
            _remember(self._outbound, packet, None)
            return packet
        if headers.fragment is not None:
            raise Discard(Reason.ESP_FRAGMENT, f"{policy.name}: outbound fragment")
        if isinstance(sa, OutboundAH):
            if sa.inside is not None:
                packet = _sealed(packet, headers, sa.inside)
                headers = ip6.walk(packet)
            return sa.seal(packet, headers)
        _remember(self._outbound, packet, sa)
        return _sealed(packet, headers, sa)

    def _accept(self, packet: bytes) -> bytes:
        plain = self._accepted(packet)
        if self.tap is not None:
            self.tap(Mode.TRANSPORT, False, packet, plain)
        return plain

    def _accepted(self, packet: bytes) -> bytes:
        packet = _checked(packet)
        try:
            headers = ip6.walk(packet)
        except WireError as error:
            raise Discard(Reason.MALFORMED, str(error)) from None
        if headers.protocol == ip6.AH and self._authenticating:
            return self._accept_authentic(packet, headers)
        if headers.protocol != ip6.ESP:
            self.check(packet, None)
            return packet
        if headers.fragment is not None:
            raise Discard(Reason.ESP_FRAGMENT, "inbound fragment with ESP: reassemble first")
        at = headers.offset
        sa = self._sad.get(packet[at : at + 4])
        if sa is None:
            if packet[at : at + 4] in self._bundled:
                # Not opened: the window of its association moves only with what AH has let through.
                raise Discard(Reason.POLICY_VIOLATED, f"SPI 0x{packet[at : at + 4].hex()} came without its AH")
            policy = self.policy_for(packet, outbound=False)
            if policy.action is Action.BYPASS and policy.selector.protocol == ip6.ESP:
                # Of the other processing part of this terminal: this one's policy says, by name, to leave it alone.
                return packet
            raise _unknown(packet, at)
        if sa.mode is not Mode.TRANSPORT:
            raise Discard(Reason.POLICY_VIOLATED, f"SPI {sa.spi:#010x} is for tunnel mode")
        _, next_header, payload = self.unseal(packet, at)
        plain = _replaced(packet, headers.next_header_at, next_header, at, payload)
        self.check(plain, sa)
        return plain

    def _accept_authentic(self, packet: bytes, headers: ip6.Headers) -> bytes:
        """AH is outermost (RFC 4301 section 5.2), ESP inside it if the association says so."""
        if headers.fragment is not None:
            raise Discard(Reason.ESP_FRAGMENT, "inbound fragment with AH: reassemble first")
        spi = packet[headers.offset + 4 : headers.offset + 8]
        sa = self._authenticating.get(spi)
        if sa is None:
            policy = self.policy_for(packet, outbound=False)
            if policy.action is Action.BYPASS and policy.selector.protocol == ip6.AH:
                return packet
            raise Discard(Reason.SA_UNKNOWN, f"AH SPI 0x{spi.hex()}")
        plain = sa.open(packet, headers)
        if sa.inside is not None:
            headers = ip6.walk(plain)
            if headers.protocol != ip6.ESP:
                raise Discard(Reason.POLICY_VIOLATED, f"AH SPI {sa.spi:#010x} came without ESP inside")
            next_header, payload = sa.inside.open(plain[headers.offset :])
            plain = _replaced(plain, headers.next_header_at, next_header, headers.offset, payload)
        self.check(plain, sa)
        return plain


_SA = TypeVar("_SA")
_PLANNED = (ip6.TCP, ip6.UDP, ip6.ESP)
_LENGTH = Struct("!H").pack


def encapsulate(inner: bytes, sa: OutboundSA, source: bytes, destination: bytes) -> bytes:
    """An IPv6 packet in ESP tunnel mode; the addresses are the 16 octets of the outer header.

    Traffic class and flow label are the inner packet's, so voice is still marked as voice outside (RFC 4301 section
    5.1.2). Raises `Discard`: MALFORMED (too large), SEQUENCE_EXHAUSTED.
    """
    esp = sa.seal(ip6.IPV6, inner)
    if len(esp) > 0xFFFF:
        raise _too_large(esp)
    return b"%b%b\x32\x40%b%b%b" % (inner[:4], _LENGTH(len(esp)), source, destination, esp)


def _remember(plans: dict[int, dict[bytes, _SA]], packet: bytes, sa: _SA) -> None:
    flows = plans.get(packet[6])
    if flows is None:
        return
    if len(flows) >= PLAN_LIMIT:
        flows.clear()
    flows[packet[8:44]] = sa


def _checked(packet: bytes) -> bytes:
    try:
        return ip6.check(packet)
    except WireError as error:
        raise Discard(Reason.MALFORMED, str(error)) from None


def _checked4(packet: bytes) -> bytes:
    try:
        return ip4.check(packet)
    except WireError as error:
        raise Discard(Reason.MALFORMED, str(error)) from None


def _outbound_sa(policy: Policy, mode: Mode) -> OutboundSA | OutboundAH | None:
    if policy.action is Action.BYPASS:
        return None
    if policy.action is Action.DISCARD:
        raise Discard(Reason.POLICY_DISCARD, policy.name)
    sa = policy.outbound_sa
    if sa is None or sa.mode is not mode:
        raise Discard(Reason.SA_MISSING, f"{policy.name}: no {mode.value} mode association, but {sa}")
    return sa


def _sealed(packet: bytes, headers: ip6.Headers, sa: OutboundSA) -> bytes:
    """With ESP behind the extension headers."""
    esp = sa.seal(headers.protocol, packet[headers.offset :])
    return _replaced(packet, headers.next_header_at, ip6.ESP, headers.offset, esp)


def _replaced(packet: bytes, named_at: int, next_header: int, at: int, payload: bytes) -> bytes:
    """The packet with other content from ``at`` on, which the octet at ``named_at`` names."""
    length = at - ip6.HEADER_SIZE + len(payload)
    if length > 0xFFFF:
        raise _too_large(payload)
    out = bytearray(packet[:at])
    out[4:6] = _LENGTH(length)
    out[named_at] = next_header
    return bytes(out + payload)


def _too_large(payload: bytes) -> Discard:
    return Discard(Reason.MALFORMED, f"{len(payload)} octets are too large for one packet with ESP")


def _spi_twice(sa: InboundSA | InboundAH) -> ValueError:
    return ValueError(f"two inbound associations have SPI {sa.spi:#010x}: give each its own")


def _unknown(packet: bytes, at: int) -> Discard:
    return Discard(Reason.SA_UNKNOWN, f"SPI 0x{packet[at : at + 4].hex()}")
