"""What terminal and home agent, or MAP, share whose keys come from IKE: what is negotiated, what becomes of it.

RFC 4877; with MAPs RFC 5380 section 12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, Protocol

from mobility.discards import Discard, Reason
from mobility.hmipv6.map_settings import PREFIX_LENGTH
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.ike.events import ChildDown, ChildFailed, ChildSa, ChildSwitched, ChildUp, IkeDown, IkeFailed, IkeUp
from mobility.ipsec.ike.message import NO_SPI, Header, Message
from mobility.ipsec.ike.numbers import Exchange, Flag, Notification
from mobility.ipsec.ike.payloads import Identity, NotifyPayload
from mobility.ipsec.ike.proposals import esp_offer, ike_offer
from mobility.ipsec.ike.settings import ChildSettings, Endpoint, Peer, Settings
from mobility.ipsec.ike.traffic import TrafficSelector
from mobility.ipsec.renewable import RenewableInbound, RenewableOutbound
from mobility.ipsec.sa import Mode
from mobility.key_source import KeySource
from mobility.links import unmapped
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm
from mobility.wire import ip6, mh, udp
from mobility.wire.errors import WireError

SIGNALLING, TUNNEL, HOME_TEST = "signalling", "tunnel", "home-test"
"Names of the child SAs."
MOST_FAILURES = 64
"Peers whose last failure is remembered."
PATIENT = 2.0
"So many times as long as the terminal the home agent waits before it rekeys: the terminal knows where both are."
_ALL = IPv6Network("::/0")
_ANYWHERE = (TrafficSelector.of(_ALL), TrafficSelector.of(IPv4Network("0.0.0.0/0")))


def associations(
    form: TunnelForm, algorithm: Algorithm, random: Callable[[int], bytes], *, home_tests: bool = True
) -> MobileAssociations:
    """The associations of one terminal, at either end, which are without keys for the time being.

    ``home_tests``: in the form ``plain`` they have associations of their own; nothing to a MAP.
    """
    signalling = RenewableOutbound(algorithm, Mode.TRANSPORT, random), RenewableInbound(algorithm, Mode.TRANSPORT)
    if form is TunnelForm.PLAIN and not home_tests:
        return MobileAssociations(*signalling)
    inside = RenewableOutbound(algorithm, Mode.TUNNEL, random), RenewableInbound(algorithm, Mode.TUNNEL)
    if form is TunnelForm.PLAIN:
        return MobileAssociations(*signalling, None, None, *inside)
    return MobileAssociations(*signalling, *inside)


_Wanted = tuple[str, tuple[TrafficSelector, ...], tuple[TrafficSelector, ...], Mode]
"A child SA: name, what is the terminal's and what the other end's, mode."


def peer(
    source: KeySource,
    home: IPv6Address,
    agent: IPv6Address,
    form: TunnelForm,
    networks: Iterable[IPv6Network] = (),
    *,
    at_terminal: bool,
) -> Peer:
    """The other end, as IKE has to know it. Both ends are named by their addresses; so are their certificates."""
    here = IPv6Network(home)
    ours = tuple(TrafficSelector.of(here, protocol) for protocol in (ip6.MOBILITY, ip6.ICMPV6))
    theirs = tuple(TrafficSelector.of(IPv6Network(agent), protocol) for protocol in (ip6.MOBILITY, ip6.ICMPV6))
    init, answer = mh.Type.HOME_TEST_INIT, mh.Type.HOME_TEST
    tests = (TrafficSelector.of_mobility_header(here, init),), (TrafficSelector.of_mobility_header(_ALL, answer),)
    behind = (*(TrafficSelector.of(each) for each in (here, *networks)), _ANYWHERE[1])
    wanted: list[_Wanted] = [(SIGNALLING, ours, theirs, Mode.TRANSPORT)]
    if form is TunnelForm.PLAIN:
        wanted.append((HOME_TEST, *tests, Mode.TUNNEL))
    else:
        wanted.append((TUNNEL, behind, _ANYWHERE, Mode.TUNNEL))
    return _peer(source, home, agent, wanted, at_terminal=at_terminal)


def map_peer(source: KeySource, home: IPv6Address, anchor: IPv6Address, form: TunnelForm, *, at_terminal: bool) -> Peer:
    """The same between terminal and MAP.

    An RCoA may turn out to be somebody else's, and be followed by another one, so the selectors have the prefix that
    they are all of; which of them are whose the MAP knows from its bindings.
    """
    here = IPv6Network((anchor, PREFIX_LENGTH), strict=False)
    ours, theirs = (TrafficSelector.of_mobility_header(each) for each in (here, IPv6Network(anchor)))
    wanted: list[_Wanted] = [(SIGNALLING, (ours,), (theirs,), Mode.TRANSPORT)]
    if form is not TunnelForm.PLAIN:
        wanted.append((TUNNEL, (TrafficSelector.of(here),), (TrafficSelector.of(_ALL),), Mode.TUNNEL))
    return _peer(source, home, anchor, wanted, at_terminal=at_terminal)


def _peer(
    source: KeySource, home: IPv6Address, agent: IPv6Address, wanted: Iterable[_Wanted], *, at_terminal: bool
) -> Peer:
    lifetime = source.lifetime if at_terminal else PATIENT * source.lifetime
    children = tuple(
        ChildSettings(
            name,
            *((local, remote) if at_terminal else (remote, local)),
            mode,
            proposals=esp_offer((source.algorithm,)),
            lifetime=lifetime,
        )
        for name, local, remote, mode in wanted
    )
    names = Identity.of(str(home)), Identity.of(str(agent))
    own, other = names if at_terminal else names[::-1]
    # The home agent stays where it is; where the terminal is, it says itself.
    return Peer(
        str(agent if at_terminal else home),
        own,
        other,
        source.proof,
        source.belief,
        children,
        proposals=ike_offer(hybrid=True),
        follow=not at_terminal,
    )


def ike_settings(lifetime: float, *, at_terminal: bool) -> Settings:
    """Of the endpoint, for keys of ESP that last ``lifetime`` seconds."""
    return Settings(
        proposals=ike_offer(hybrid=True),
        lifetime=4 * lifetime * (1.0 if at_terminal else PATIENT),
        # The tunnel tells whether the other end is there, and keeps the mappings of NAT.
        dead_peer_after=1e9,
        keepalive=1e9,
        tries=8,
        longest_retransmission=4.0,
        mobike=False,
    )


def esp_spi(random: Callable[[int], bytes], taken: Callable[[int], bool]) -> int:
    """An SPI for what we receive; its first digit does not look like an IP packet in a datagram."""
    while True:
        spi = int.from_bytes(random(4))
        if spi >> 28 not in (0, 4, 6) and not taken(spi):
            return spi


class Ends(NamedTuple):
    """What a child SA gives keys to."""

    out: RenewableOutbound
    into: RenewableInbound


def mobile_ends(known: MobileAssociations) -> dict[str, Ends]:
    """By the names of their child SAs."""
    ways = {
        SIGNALLING: (known.signalling_out, known.signalling_in),
        TUNNEL: (known.tunnel_out, known.tunnel_in),
        HOME_TEST: (known.home_test_out, known.home_test_in),
    }
    return {
        name: Ends(out, into)
        for name, (out, into) in ways.items()
        if isinstance(out, RenewableOutbound) and isinstance(into, RenewableInbound)
    }


class Renewal:
    """Hands what IKE agrees on with one peer to the associations that take it."""

    def __init__(
        self,
        ends: Mapping[str, Ends],
        learn: Callable[[str, int, RenewableInbound], None],
        forget: Callable[[str, int], None],
    ) -> None:
        """``ends``: by the names of their child SAs; ``learn`` and ``forget``: an SPI of a child SA (its name) is there
        from now on, or is not any more."""
        self.ends = ends
        self._learn = learn
        self._forget = forget
        self._sending: dict[str, int] = {}
        "Inbound SPI of the child SA whose other half we send by."
        self._usable: dict[str, list[ChildSa]] = {}
        "What may be sent by, the latest last: more than one while two IKE SAs are beside each other."

    @property
    def complete(self) -> bool:
        """Everything has keys."""
        return all(each.out.keyed and each.into.keyed for each in self.ends.values())

    def counters(self, peer: str) -> list[dict[str, object]]:
        """Packets under negotiated keys of whatever age, JSON-ready."""
        rows: list[dict[str, object]] = []
        for name, (out, into) in self.ends.items():
            counts = {"sent": out.packets, "received": into.packets}
            counts |= {"replayed": into.replayed, "failed": into.failed}
            rows.append({"peer": peer, "name": name, **counts})
        return rows

    def follow(self, output: object) -> bool:
        """What IKE said of this peer; whether something has other keys by it, or none. Raises `ValueError`: an SPI is
        taken."""
        match output:
            case ChildUp():
                self._up(output)
            case ChildSwitched(child=child):
                self.switch(child)
            case ChildDown():
                self._down(output)
            case _:
                return False
        return True

    def _up(self, event: ChildUp) -> None:
        child = event.child
        ends = self.ends.get(child.name)
        if ends is not None:
            self._learn(child.name, child.inbound_spi, ends.into)
            ends.into.renew(child.inbound_spi, child.inbound_keys, child.algorithm)
        if event.send:
            self.switch(child)

    def switch(self, child: ChildSa) -> None:
        """From now on we send by this child SA."""
        ends = self.ends.get(child.name)
        usable = self._usable.setdefault(child.name, [])
        if child not in usable:
            usable.append(child)
        if ends is not None and self._sending.get(child.name) != child.inbound_spi:
            ends.out.renew(child.outbound_spi, child.outbound_keys, child.algorithm)
            self._sending[child.name] = child.inbound_spi

    def _down(self, event: ChildDown) -> None:
        child = event.child
        ends = self.ends.get(child.name)
        if ends is not None:
            ends.into.forget(child.inbound_spi)
            self._forget(child.name, child.inbound_spi)
        usable = self._usable.get(child.name, [])
        if child in usable:
            usable.remove(child)
        if ends is not None and self._sending.get(child.name) == child.inbound_spi:
            del self._sending[child.name]
            if usable:
                self.switch(usable[-1])  # numbers go on over all keys, so none comes twice under these
            else:
                ends.out.end()


def no_keys(random: Callable[[int], bytes], spi: bytes = b"") -> bytes:
    """A message in clear: ``spi``, of ESP, is not known here; without one: all that was agreed is forgotten here.

    RFC 7296 section 1.5. Nothing proves who says it.
    """
    header = Header(random(8), NO_SPI, Exchange.INFORMATIONAL, Flag.INITIATOR, 0)
    return bytes(Message(header, (NotifyPayload(Notification.INVALID_SPI, spi),)))


def says_no_keys(message: bytes) -> bool:
    """Whether a message is one of `no_keys`."""
    try:
        header = Header.parse(message)
        if header.exchange != Exchange.INFORMATIONAL or header.responder_spi != NO_SPI or header.is_response:
            return False
        return Message.parse(message).notification(Notification.INVALID_SPI) is not None
    except WireError:
        return False


class Negotiator(Protocol):
    """What negotiates keys: of a terminal, of a home agent, of the application."""

    ike: Ike
    failures: Failures

    def counters(self) -> list[dict[str, object]]:
        """As `Renewal.counters`, of all its peers."""


def negotiated_snapshot(negotiators: Sequence[Negotiator], now: float) -> dict[str, object]:
    """What a node tells of keys that are negotiated, JSON-ready, without the keys."""
    return {
        "ike": [row for each in negotiators for row in each.ike.status(now)],
        "ike_counters": [row for each in negotiators for row in each.counters()],
        "ike_failures": [row for each in negotiators for row in each.failures.describe()],
    }


class Failures:
    """Why nothing came of attempts, the last reason of each peer."""

    def __init__(self, established: Callable[[str], bool]) -> None:
        """``established``: whether there is an IKE SA with a peer; then the end of another one is no failure."""
        self._established = established
        self._reasons: dict[str, str] = {}

    def note(self, output: object) -> None:
        """What IKE said."""
        match output:
            case IkeDown(peer=peer) if self._established(peer):
                pass
            case IkeFailed(peer=peer, reason=reason) | IkeDown(peer=peer, reason=reason):
                self._put(peer, reason)
            case ChildFailed(peer=peer, reason=reason):
                self._put(peer, reason)
            case IkeUp(peer=peer):
                self._reasons.pop(peer, None)

    def _put(self, peer: str, reason: str) -> None:
        self._reasons.pop(peer, None)
        self._reasons[peer] = reason
        if len(self._reasons) > MOST_FAILURES:
            del self._reasons[next(iter(self._reasons))]

    def forget(self, peer: str) -> None:
        """Nothing is wanted of it any more."""
        self._reasons.pop(peer, None)

    def describe(self) -> list[dict[str, object]]:
        """JSON-ready, the latest last; of peers with whom all is well there is none."""
        return [{"peer": peer, "reason": reason} for peer, reason in self._reasons.items()]


def datagram(packet: bytes) -> tuple[bytes, tuple[int, int]]:
    """What a whole UDP packet carries, and the ports of source and destination. Raises `Discard`."""
    try:
        source_port, port, payload = udp.parse(packet)
    except WireError as error:
        reason = Reason.CHECKSUM_WRONG if error.what == udp.CHECKSUM else Reason.MALFORMED
        raise Discard(reason, str(error)) from error
    return payload, (source_port, port)


def as_endpoint(source: bytes, native_port: int) -> Endpoint:
    """An address of 16 octets, or an endpoint of 18."""
    port = native_port if len(source) == 16 else int.from_bytes(source[16:])
    return Endpoint(_address(source[:16]), port)


def _address(packed: bytes) -> IPv4Address | IPv6Address:
    return unmapped(IPv6Address(packed))
