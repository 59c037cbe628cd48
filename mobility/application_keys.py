"""Keys of the application's IPsec that two ends negotiate: peers of the configuration, and those that calls bring.

IKE goes between the two home addresses, inside whatever carries packets of ours, and past the application's own
policies. So it never moves: a handover is below it. A call tells whose certificate the peer has to have (RFC 6193);
while a call is offered, strangers may negotiate in advance, and their keys count when the answer has told that they
are the right ones. Until then what comes under them is as good as unprotected, and nothing is sent under them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from ipaddress import IPv6Address

from mobility.application_events import ApplicationKeysFailed, ApplicationProtected, ApplicationUnprotected
from mobility.application_partner import CHILD, FIRST_RETRY, Partner, algorithms_of, check_lease, peer_of
from mobility.application_partner import CallLease as CallLease
from mobility.application_strangers import Strangers
from mobility.discards import Discard, Reason
from mobility.ipsec.ike.authentication import Belief
from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.ike.events import (
    ChildDown,
    ChildFailed,
    ChildUp,
    IkeDown,
    IkeFailed,
    IkeUp,
    PeerForgot,
    Send,
)
from mobility.ipsec.ike.events import Output as IkeOutput
from mobility.ipsec.ike.fingerprint import Fingerprint, Fingerprints
from mobility.ipsec.ike.numbers import IKE_PORT
from mobility.ipsec.ike.settings import Endpoint, Peer
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA
from mobility.ipsec.spd import Action, SecurityPolicyDatabase
from mobility.key_source import ApplicationKeySettings, KeySource
from mobility.negotiated import Failures, datagram, esp_spi, ike_settings
from mobility.outputs import Discarded, Event, Output
from mobility.wire import ip6, udp

MOST_CALLS = 512
PASSIVE = 2.0
"Seconds for which the end that is to begin may take its time before the other one does."
LINGER = 5.0
"Seconds for which keys stay after the last call: what is still on its way does not go in clear."
SORTING = 2.0
"Seconds for which two IKE SAs with one peer are beside each other: what is on its way under either arrives."
NUDGE = 0.2
"Seconds between requests that are sent again because their answer seems to be lost."
DEAD_AFTER = 60.0
"Seconds of silence of IKE after which a peer is asked whether it is there."
ANEW = 5.0
"Seconds between attempts that somebody has caused who says that the other end does not know us."
_PORTS = bytes((*IKE_PORT.to_bytes(2), *IKE_PORT.to_bytes(2)))


class ApplicationKeys:
    """Of one home address, or of a node that stays where it is."""

    def __init__(
        self,
        address: IPv6Address,
        application: IpsecProcessing,
        settings: ApplicationKeySettings,
        put: Callable[[bytes, float], list[Output]],
        random: Callable[[int], bytes],
        utc: Callable[[], datetime],
    ) -> None:
        """``application``: with the policies of the configuration; ``put``: sends a whole packet of ours as it is, past
        its policies."""
        self.address = address
        self.settings = settings
        self.tally: Counter[str] = Counter()
        "What came of it so far."
        sources: list[KeySource | ApplicationKeySettings] = [source for _, source in settings.peers]
        sources += [settings] if self._takes_calls else []
        lifetime = max((source.lifetime for source in sources), default=settings.lifetime)
        self.ike = Ike(
            replace(ike_settings(lifetime, at_terminal=True), dead_peer_after=DEAD_AFTER),
            random=random,
            utc=utc,
            esp_spi=lambda: esp_spi(random, application.knows),
        )
        self.ike.expects = self._expects
        self.failures = Failures(self.ike.established)
        self._application = application
        self._static = application.spd
        "The policies of the configuration, which go before ours."
        self._put = put
        self._random = random
        self._partners: dict[bytes, Partner] = {}
        "By the 16 octets of their addresses; in the order of their policies."
        self._strangers = Strangers(
            lambda there: there.packed not in self._partners and self._decided(there) is None,
            self._partner,
            self._peer_of_calls,
            self.tally,
        )
        self._leases: dict[str, CallLease] = {}
        self._timer: float | None = None
        for there, source in settings.peers:
            partner = self._partner(str(there), there, source)
            self._partners[there.packed] = partner
            self._introduce(peer_of(partner, address, source.proof, source.belief, source.lifetime))
        if self._takes_calls:
            self.ike.stranger = self._strangers.ask
        application.to_come = tuple(dict.fromkeys(source.algorithm for source in sources))
        self._set_policies()

    # ------------------------------------------------------------ what calls want

    def offer(self, call: str, until: float, now: float) -> list[Output]:
        """A call is offered to somebody, until then: strangers may negotiate in advance. Raises `ValueError`: no keys
        for calls, or too many of them."""
        self._check_calls()
        self._strangers.offer(call, until)
        return self._done([])

    def secure(
        self,
        call: str,
        peer: IPv6Address,
        fingerprints: tuple[Fingerprint, ...],
        *,
        active: bool,
        until: float,
        now: float,
    ) -> list[Output]:
        """From now on, and until then, everything between us and the peer of a call is protected; ``active``: we begin.

        Repeated, it lasts longer; with another peer or fingerprint it takes the place of what it was before. Raises
        `ValueError`: no keys for calls, too many of them, or no peer that could have keys.
        """
        lease = CallLease(call, peer, fingerprints, active, until)
        self._check(lease)
        before = self._leases.get(call)
        outputs = self._give_back(call, now) if before is not None and before.peer != peer else []
        outputs += self._lend(lease, now)
        partner = self._partners.get(peer.packed)
        return self._done(outputs if partner is None else outputs + self._try(partner, now))

    def release(self, call: str, now: float) -> list[Output]:
        """A call is over, or does without; one that is not known is, too."""
        self._strangers.offers.pop(call, None)
        return self._done(self._give_back(call, now) + self._dismiss(self._strangers.unwanted(), now))

    def calls(self) -> list[CallLease]:
        """What has to be kept over a restart."""
        return list(self._leases.values())

    def restore(self, leases: Iterable[CallLease], now: float) -> None:
        """The calls of before a restart: what is to be protected is from now on, though there are no keys yet.

        Raises as `secure` does.
        """
        for lease in leases:
            if lease.until > now:
                self._check(lease)
                self._lend(lease, now)
                partner = self._partners.get(lease.peer.packed)
                if partner is not None:
                    partner.again_at = now  # the other end may not know that we have no keys
        self._done([])

    # ------------------------------------------------------------ for people

    def state(self, peer: IPv6Address) -> str:
        """``none``; ``configured``, ``bypassed``, ``discarded``: a policy of the configuration decides, or keys of the
        configuration do; ``negotiating``; ``protected``."""
        decided = self._decided(peer)
        if decided is not None:
            return {Action.PROTECT: "configured", Action.BYPASS: "bypassed", Action.DISCARD: "discarded"}[decided]
        partner = self._partners.get(peer.packed)
        if partner is None:
            return "none"
        if partner.out.keyed:
            return "protected"
        return "negotiating" if partner.leases or self.ike.beginning(partner.name) else "configured"

    def algorithm(self, peer: IPv6Address) -> str:
        """That of the negotiated keys with a peer; empty: there are none."""
        partner = self._partners.get(peer.packed)
        return partner.out.algorithm.value if partner is not None and partner.out.keyed else ""

    def describe(self, now: float) -> list[dict[str, object]]:
        """With whom there are keys, or shall be; JSON-ready, without keys."""
        return [
            {
                "peer": str(partner.address),
                "why": "call" if partner.source is None else "configured",
                "calls": list(partner.leases),
                "state": self.state(partner.address),
                "since": None if partner.since is None else round(now - partner.since, 1),
                "until": None
                if not partner.leases
                else round(max(lease.until for lease in partner.leases.values()) - now, 1),
                "packets_waiting": len(partner.waiting),
            }
            for partner in self._partners.values()
        ]

    def counters(self) -> list[dict[str, object]]:
        """As `Renewal.counters`, of all that have keys."""
        return [
            row
            for partner in self._partners.values()
            if partner.renewal.complete
            for row in partner.renewal.counters(partner.name)
        ]

    def rekey(self, now: float) -> list[Output]:
        """New keys of ESP at once, with everybody."""
        outputs: list[Output] = []
        for partner in list(self._partners.values()):
            if partner.out.keyed and self.ike.established(partner.name):
                outputs += self._carry_out(self.ike.rekey(partner.name, now, children=True), now)
        return self._done(outputs)

    # ------------------------------------------------------------ packets

    def wanted(self, packet: bytes, now: float) -> list[Output]:
        """The policies want a packet protected, and there are no keys: it waits, and they are negotiated."""
        partner = self._partners.get(packet[24:40])
        if partner is None or partner.out.keyed:
            return [Discarded(Reason.SA_MISSING, "app-ipsec", f"to {IPv6Address(packet[24:40])}")]
        self.tally["waited"] += 1
        return self._done([*partner.waiting.add(packet, now), *self._try(partner, now)])

    def unknown(self, packet: bytes, discard: Discard, now: float) -> list[Output]:
        """ESP came under an SPI that is not known here (``discard``).

        If we have just asked its sender for keys, it has them already, and its answer is late or lost: then the packet
        waits. If we should have keys and have none, we have lost them by a restart: it cannot know.
        """
        partner = self._partners.get(packet[8:24])
        dropped: list[Output] = [Discarded.of(discard, "app-ipsec")]
        if partner is None:
            return dropped
        if not self.ike.beginning(partner.name):
            return self._done([*dropped, *self._try(partner, now)])
        outputs: list[Output] = [*partner.early.add(packet, now)]
        if now >= partner.nudged_at + NUDGE:
            partner.nudged_at = now
            outputs += self._carry_out(self.ike.ask_again(partner.name, now), now)
        return self._done(outputs)

    def packet(self, packet: bytes, now: float) -> list[Output]:
        """A UDP packet from and to the port of IKE, for our address. Raises `Discard`."""
        payload, _ = datagram(packet)
        here, there = Endpoint(self.address), Endpoint(IPv6Address(packet[8:24]))
        return self._done(self._carry_out(self.ike.receive(payload, here, there, now), now))

    # ------------------------------------------------------------ time

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return self._timer

    def handle_timer(self, now: float) -> list[Output]:
        """Something is sent again, renewed, or over."""
        outputs = self._carry_out(self.ike.handle_timer(now), now)
        self._strangers.expire(now)
        outputs += self._dismiss(self._strangers.unwanted(), now)
        for lease in [lease for lease in self._leases.values() if lease.until <= now]:
            outputs += self._give_back(lease.call, now)
        for partner in list(self._partners.values()):
            outputs += [*partner.waiting.expire(now), *partner.early.expire(now)]
            if partner.sorted_at is not None and partner.sorted_at <= now:
                outputs += self._sort_out(partner, now)
            if partner.ends_at is not None and partner.ends_at <= now:
                outputs += self._part(partner, now)
            elif partner.leases:
                outputs += self._try(partner, now)
        return self._done(outputs)

    def _done(self, outputs: list[Output]) -> list[Output]:
        """Every way out that may change it: `timer` is set, which nodes ask for with many a packet."""
        times = [*self._strangers.offers.values(), *(lease.until for lease in self._leases.values())]
        for partner in self._partners.values():
            wanted = partner.leases and not partner.out.keyed and not self.ike.beginning(partner.name)
            rooms = partner.waiting.timer, partner.early.timer
            due = (*rooms, partner.ends_at, partner.sorted_at, partner.again_at if wanted else None)
            times += [each for each in due if each is not None]
        times += [] if self.ike.timer is None else [self.ike.timer]
        self._timer = min(times, default=None)
        return outputs

    # ------------------------------------------------------------ partners

    def _partner(self, name: str, there: IPv6Address, source: KeySource | None = None) -> Partner:
        algorithms = algorithms_of(self.settings.algorithm) if source is None else (source.algorithm,)
        return Partner(name, self.address, there, algorithms, self._application, self._random, source)

    def _introduce(self, peer: Peer) -> None:
        """IKE knows it from now on, and what is under way with it is with whom it is now."""
        self.ike.peers[peer.name] = peer
        self.ike.adopt(peer.name, peer)

    def _peer_of_calls(self, partner: Partner, belief: Belief) -> Peer:
        credential = self.settings.credential
        if credential is None:
            raise ValueError("without a certificate there are no keys for calls")
        return peer_of(partner, self.address, credential, belief, self.settings.lifetime)

    def _set_policies(self) -> None:
        ours = [partner.policy for partner in self._partners.values()]
        static = [policy.inbound_sa for policy in self._static.policies if policy.inbound_sa is not None]
        inbound: list[InboundSA] = [each.into for each in (*self._partners.values(), *self._strangers.present.values())]
        policies = SecurityPolicyDatabase((*self._static.policies, *ours), self._static.default.action)
        self._application.replace(policies, [*static, *inbound])

    def _lend(self, lease: CallLease, now: float) -> list[Output]:
        """A call has a partner; who has negotiated in advance becomes it, or goes."""
        there = lease.peer
        self._leases[lease.call] = lease
        if self._decided(there) is not None:
            return []
        partner = self._partners.get(there.packed)
        outputs: list[Output] = []
        if partner is None:
            partner = self._strangers.recognise(lease, self.ike.certificates)
            if partner is None:
                partner = self._partner(str(there), there)
            else:
                before, partner.name, partner.into.provisional = partner.name, str(there), False
                self.ike.adopt(before, self._peer_of_calls(partner, Fingerprints(lease.fingerprints)))
            self._partners[there.packed] = partner
            self._set_policies()
        if lease.call not in partner.leases and not lease.active:
            partner.again_at = max(partner.again_at, now + PASSIVE)
        partner.ends_at = None
        partner.leases[lease.call] = lease
        outputs += self._believe(partner, now)
        if partner.since is None and partner.out.keyed:
            outputs += self._protected(partner, now)
        return outputs + self._dismiss(self._strangers.unwanted(there), now)

    def _give_back(self, call: str, now: float) -> list[Output]:
        """A call does not want keys any more."""
        lease = self._leases.pop(call, None)
        partner = None if lease is None else self._partners.get(lease.peer.packed)
        if partner is None or partner.leases.pop(call, None) is None:
            return []
        if partner.leases or partner.source is not None:
            return self._believe(partner, now)
        if not partner.out.keyed:
            return self._part(partner, now)
        partner.ends_at = now + LINGER
        return []

    def _believe(self, partner: Partner, now: float) -> list[Output]:
        """The fingerprints of all calls count; what was agreed with somebody whom none of them tells ends."""
        if partner.source is not None:
            return []
        told = dict.fromkeys(each for lease in partner.leases.values() for each in lease.fingerprints)
        belief = Fingerprints(tuple(told))
        self._introduce(self._peer_of_calls(partner, belief))
        shown = self.ike.certificates(partner.name)
        if not shown or belief.expect(shown):
            return []
        return self._carry_out(self.ike.close(partner.name, "its calls tell of another certificate now", now), now)

    def _part(self, partner: Partner, now: float) -> list[Output]:
        """Nobody wants keys with it any more."""
        del self._partners[partner.address.packed]
        self._set_policies()
        outputs: list[Output] = [
            Discarded(Reason.KEYS_AWAITED, "app-ipsec", f"nobody wants keys with {partner.address} any more")
            for _ in partner.waiting.take()
        ]
        keyed = partner.out.keyed
        outputs += self._carry_out(self.ike.close(partner.name, "the call is over", now), now)
        self.ike.peers.pop(partner.name, None)
        self.failures.forget(partner.name)
        return [*outputs, ApplicationUnprotected(str(partner.address), "the call is over")] if keyed else outputs

    def _dismiss(self, strangers: list[Partner], now: float) -> list[Output]:
        """They have negotiated in vain."""
        outputs: list[Output] = []
        for each in strangers:
            outputs += self._carry_out(self.ike.close(each.name, "it is not who was called", now), now)
        if strangers:
            self._set_policies()
        return outputs

    # ------------------------------------------------------------ what IKE says

    def _expects(self, remote: Endpoint) -> bool:
        return bool(self._strangers.offers) or remote.address.packed in self._partners

    def _try(self, partner: Partner, now: float) -> list[Output]:
        """Keys are wanted."""
        if partner.out.keyed or now < partner.again_at or self.ike.beginning(partner.name):
            return []
        partner.begun(now)
        if self.ike.established(partner.name):
            return self._carry_out(self.ike.create_child(partner.name, CHILD, now), now)
        return self._begin(partner, now)

    def _begin(self, partner: Partner, now: float) -> list[Output]:
        ends = Endpoint(self.address), Endpoint(partner.address)
        return self._carry_out(self.ike.initiate(partner.name, *ends, now), now)

    def _named(self, name: str) -> Partner | None:
        everybody = (*self._partners.values(), *self._strangers.present.values())
        return next((each for each in everybody if each.name == name), None)

    def _carry_out(self, outputs: list[IkeOutput], now: float) -> list[Output]:
        result: list[Output] = []
        new: list[Partner] = []
        for output in outputs:
            if isinstance(output, Send):
                ends = self.address.packed + output.remote.address.packed
                result += self._put(udp.packet(ends, (IKE_PORT, IKE_PORT), output.data), now)
                continue
            result.append(output)
            if isinstance(output, Discarded):
                continue
            partner = self._named(getattr(output, "peer", ""))
            if not isinstance(output, IkeDown) or (partner is not None and not partner.into.provisional):
                self.failures.note(output)  # that somebody goes who is wanted no more is none
            if partner is not None:
                result += self._act(partner, output, new, now)
        for partner in new:  # behind the answer, without which the other end has no keys
            if partner.out.keyed and partner.since is None:
                result += self._protected(partner, now)
            result += partner.open_early(self._application)
        return result

    def _act(self, partner: Partner, event: Event, new: list[Partner], now: float) -> list[Output]:
        provisional, keyed = partner.into.provisional, partner.out.keyed
        partner.renewal.follow(event)
        match event:
            case IkeUp():
                partner.succeeded()
                self.tally["negotiated"] += 1
                if self.ike.doubled(partner.name) is not None:
                    partner.sorted_at = now + SORTING
            case ChildUp():
                self._prefer(partner)
                if not provisional:
                    new.append(partner)
            case ChildDown(reason=reason) if keyed and not partner.out.keyed and not provisional:
                partner.since = None
                return [ApplicationUnprotected(str(partner.address), reason)]
            case IkeFailed() | IkeDown() if provisional:
                del self._strangers.present[partner.name]
            case IkeFailed(reason=reason) | ChildFailed(reason=reason) if not partner.out.keyed:
                self.tally["failed"] += 1
                partner.again_at = max(partner.again_at, now + FIRST_RETRY)
                return [ApplicationKeysFailed(str(partner.address), reason)]
            case IkeDown() if not partner.out.keyed:
                partner.again_at = max(partner.again_at, now + FIRST_RETRY)
            case PeerForgot() if now >= partner.anew_at and not (provisional or self.ike.beginning(partner.name)):
                partner.anew_at = now + ANEW
                return self._begin(partner, now)
        return []

    def _protected(self, partner: Partner, now: float) -> list[Output]:
        """It has keys: what waited for them goes on its way."""
        partner.since = now
        told = ApplicationProtected(str(partner.address), partner.out.algorithm.value, partner.calls)
        return [told, *partner.send_waiting(self._application, self._put, now)]

    # ------------------------------------------------------------ two IKE SAs with one partner

    def _prefer(self, partner: Partner) -> None:
        """Both ends send by the one that stays, so nothing is lost when the other one ends."""
        doubled = self.ike.doubled(partner.name)
        for child in [] if doubled is None else doubled.stays.children.values():
            if child.sending:
                partner.renewal.switch(child.sa)

    def _sort_out(self, partner: Partner, now: float) -> list[Output]:
        partner.sorted_at = None
        doubled = self.ike.doubled(partner.name)
        outputs: list[Output] = []
        if doubled is not None:
            for sa in doubled.ours:
                outputs += self._carry_out(self.ike.end(sa, "another one has taken its place", now), now)
        return outputs

    # ------------------------------------------------------------ whether

    @property
    def _takes_calls(self) -> bool:
        return self.settings.calls and self.settings.credential is not None

    def _check_calls(self) -> None:
        if not self._takes_calls:
            raise ValueError("this node negotiates no keys for calls; see [application_keys] in its configuration")

    def _check(self, lease: CallLease) -> None:
        self._check_calls()
        check_lease(lease, self.address)
        if lease.call not in self._leases and len(self._leases) >= MOST_CALLS:
            raise ValueError(f"{MOST_CALLS} calls have keys already; release those that are over")

    def _decided(self, peer: IPv6Address) -> Action | None:
        """What the configuration says of speech with a peer, if it does."""
        for policy in self._static.policies:
            selector = policy.selector
            ports = selector.local_port, selector.remote_port
            if peer in selector.remote and selector.protocol in (None, ip6.UDP) and ports == (None, None):
                return policy.action
        return None


def application_snapshot(keys: ApplicationKeys | None, now: float) -> dict[str, object]:
    """What a node tells of them beside what it tells of all negotiated keys, JSON-ready."""
    return {
        "application_keys": [] if keys is None else keys.describe(now),
        "application_key_counters": {} if keys is None else dict(keys.tally),
    }


def is_ike(packet: bytes) -> bool:
    """Whether a packet is UDP from and to the port of IKE, as far as its first octets say."""
    return packet[6] == ip6.UDP and packet[40:44] == _PORTS
