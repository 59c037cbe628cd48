"""Route optimization at the terminal: with whom, since when, and back to the tunnel at once (RFC 6275 section 11).

A correspondent to which packets flow through the tunnel, and for which the rules say so, is asked to send directly
(`correspondent_registration`). While it does, packets to it go from the care-of address with a Home Address option.
Whenever that is in doubt - a move, a binding error, a refusal, silence - they go through the tunnel, which always is
there, and the correspondent is told by way of it. Only from places with a care-of address of IPv6 that is the
terminal's own; never through UDP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.host.errors import TokenBucket
from mobility.mipv6 import direct
from mobility.mipv6.again_direct import SentDirectly
from mobility.mipv6.binding_update_list import ListEntry
from mobility.mipv6.correspondent_node import routable
from mobility.mipv6.correspondent_registration import CorrespondentRegistration, Stage
from mobility.mipv6.direct_peer import UNDECIDED as UNDECIDED
from mobility.mipv6.direct_peer import DirectPeer
from mobility.mipv6.direct_peer import Route as Route
from mobility.mipv6.movement import Attachment
from mobility.mipv6.return_routability import MAX_RR_BINDING_LIFETIME
from mobility.mipv6.route_events import Granted, NotHeard, RouteEnded, RouteOptimized, RouteRefused, Say, Way
from mobility.mipv6.route_rules import RouteChoice, RoutePolicy
from mobility.mipv6.route_rules import RouteRules as RouteRules
from mobility.mipv6.signalling import UNPROTECTED, from_terminal, message_of
from mobility.outputs import Discarded, Output
from mobility.scenario.policy import ScenarioPolicy
from mobility.scenario.route_optimization import binding_error
from mobility.scenario.situation import Situation, Tunnels
from mobility.scenario.translation import TRANSLATING
from mobility.wire import icmp6, ip6, mh
from mobility.wire.errors import WireError

LIMIT = 256
"Correspondents with a registration; the one that was idle for longest makes room."
WAYS_LIMIT = 1024
"Destinations with a way that is known."
REQUEST_INTERVAL = 10.0
"Seconds between binding refresh requests of one correspondent that are followed: they are not authenticated."
WHERE = "route-optimization"
_ACCEPTED = mh.BindingAcknowledgement(mh.Status.ACCEPTED, 0, 4)


class RouteOptimization:
    """The terminal's part; whoever owns it tells where the terminal is (`follow`) and hands it messages and packets."""

    def __init__(
        self,
        home_address: IPv6Address,
        home_agent: IPv6Address,
        rules: RouteRules,
        scenarios: ScenarioPolicy,
        tunnels: Tunnels,
        send_directly: Callable[[bytes, float], list[Output]],
        send_home: Callable[[bytes, float], list[Output]],
        send_again: Callable[[bytes, float], list[Output]],
        heard: Callable[[bytes], Mapping[int, int]],
        random: Callable[[int], bytes],
    ) -> None:
        """``send_directly``: a packet from the care-of address; ``send_home``: one from the home address, through the
        tunnel or, at home, as it is; ``send_again``: one whichever way there is; ``heard``: SPIs and highest numbers of
        the application's ESP that came from a correspondent."""
        self.rules = rules
        self.ways: dict[bytes, Route | None] = {}
        "Destination (16 octets) to its route; None: the tunnel, and nothing to decide; missing: ask `noticed`."
        self.sent_directly = SentDirectly()
        self._home_address = home_address
        self._home = home_address.packed
        self._agent = home_agent.packed
        self._scenarios = scenarios
        self._tunnels = tunnels
        self._send_directly = send_directly
        self._send_home = send_home
        self._send_again = send_again
        self._heard = heard
        self._random = random
        self._peers: dict[bytes, DirectPeer] = {}
        self._choice = RouteChoice(rules, (self._agent, self._home))
        self._begins = TokenBucket(2.0, 16.0)
        self._errors = TokenBucket()
        self._place: Attachment | None = None
        self._at_home = False
        self._ready = False
        self._was_allowed = False
        self._home_until: float | None = None
        self._unsent: list[bytes] = []
        "To be sent again as soon as there is a way."

    # ------------------------------------------------------------ what is wanted

    def ask(self, correspondent: IPv6Address, now: float) -> list[Output]:
        """The user wants packets to go directly. Raises `ValueError`: the rules forbid it, or it makes no sense."""
        self._choice.ask(correspondent)
        address = correspondent.packed
        self.ways.pop(address, None)
        peer = self._peers.get(address)
        if peer is not None:
            peer.registration.hold_until = now
        return self._begin(address, now)

    def dismiss(self, correspondent: IPv6Address, now: float) -> list[Output]:
        """The user wants packets to go through the tunnel, until `ask`. Raises `ValueError`: too many of them."""
        self._choice.dismiss(correspondent)
        peer = self._peers.get(correspondent.packed)
        if peer is None:
            return []
        return self._stop(peer, "the user wants the tunnel", now)

    def noticed(self, destination: bytes, now: float) -> list[Output]:
        """A packet goes through the tunnel to a destination that is not in `ways`: worth a direct way?"""
        if not self._choice.may(destination):
            self._decided(destination)
            return []
        if not self._choice.worth(destination, now):
            return []
        self._decided(destination)
        return self._begin(destination, now)

    def _decided(self, destination: bytes) -> None:
        if len(self.ways) >= WAYS_LIMIT:
            for to in [to for to, route in self.ways.items() if route is None]:
                del self.ways[to]
        self.ways[destination] = None

    def _begin(self, destination: bytes, now: float) -> list[Output]:
        if not self._possible():
            return []
        peer = self._peers.get(destination)
        if peer is None:
            if not self._begins.take(now):
                self.ways.pop(destination, None)
                return []
            peer = self._new_peer(destination)
        peer.wanted = True
        registration = peer.registration
        if registration.stage in (Stage.TESTING, Stage.UPDATING) or registration.bound or registration.hold_until > now:
            return []
        if registration.needs_home(now) and not self._ready:
            return []  # at the next place, as soon as there is a tunnel
        registration.care_of = None if self._place is None else self._place.address
        return self._carry_out(peer, registration.begin(self._longest(now), now), now)

    def _new_peer(self, destination: bytes) -> DirectPeer:
        if len(self._peers) >= LIMIT:
            self._forget(next((at for at, peer in self._peers.items() if peer.route is None), next(iter(self._peers))))
        correspondent = IPv6Address(destination)
        registration = CorrespondentRegistration(
            self._home_address, correspondent, self._random, lambda: self._heard(destination)
        )
        peer = self._peers[destination] = DirectPeer(registration)
        return peer

    def _forget(self, destination: bytes) -> None:
        peer = self._peers.pop(destination)
        self._carry_out(peer, peer.registration.abandon("too many correspondents"), 0.0)

    def _possible(self) -> bool:
        """Whether this place and the scenario policy allow a direct way."""
        return self._place is not None and self._allowed()

    def _allowed(self) -> bool:
        home = self._home_address
        return self._scenarios.fits(
            Situation(_ACCEPTED, home, home, home, False, False, self._scenarios.present in TRANSLATING)
        )

    def _longest(self, now: float) -> int:
        """A correspondent's binding never outlives that of the home agent (RFC 6275 section 11.7.2)."""
        if self._home_until is None:
            return MAX_RR_BINDING_LIFETIME
        return max(min(int(self._home_until - now), MAX_RR_BINDING_LIFETIME), 4)

    # ------------------------------------------------------------ where the terminal is

    def follow(
        self,
        place: Attachment | None,
        *,
        ready: bool,
        home_until: float | None,
        is_lost: Callable[[Attachment], bool],
        now: float,
    ) -> list[Output]:
        """Where the terminal is. ``ready``: packets of the home address have a way (tunnel, or home itself);
        ``home_until``: when the home agent's binding ends; ``is_lost``: whether nothing arrives at a place any more."""
        at_home = place is not None and place.at_home
        native = None if place is None or place.udp or at_home else place
        if home_until is not None:
            self._home_until = home_until  # else that of the former place, until the new one is acknowledged
        outputs: list[Output] = []
        moved = native != self._place or at_home != self._at_home
        if moved:
            lost = self._place is not None and is_lost(self._place)
            self._place, self._at_home = native, at_home
            self.ways.clear()
            for peer in list(self._peers.values()):
                care_of = None if native is None else native.address
                outputs += self._carry_out(peer, peer.registration.moved(care_of, lost, now), now)
        became_ready = ready and not self._ready
        self._ready = ready
        allowed, before = self._allowed(), self._was_allowed
        self._was_allowed = allowed
        if allowed and not before:
            self.ways.clear()  # the row of the policy table was enabled: worth a second look
        if not allowed:
            for peer in list(self._peers.values()):
                if peer.registration.bound:
                    outputs += self._stop(peer, "the scenario is disabled", now)
        elif moved or became_ready:
            for destination, peer in list(self._peers.items()):
                if peer.wanted:
                    outputs += self._begin(destination, now)
        if ready:
            outputs += self._tell_those_left(now)
            unsent, self._unsent = self._unsent, []
            for packet in unsent:
                outputs += self._send_again(packet, now)
        return outputs

    def _tell_those_left(self, now: float) -> list[Output]:
        """Who still sends to a place that was left, and will not be told of a new one, is told to use the tunnel."""
        outputs: list[Output] = []
        for peer in self._peers.values():
            registration = peer.registration
            if registration.stage is Stage.REST and not registration.told_end and registration.may_send_elsewhere(now):
                outputs += self._carry_out(peer, registration.end("no direct way from here", now), now)
        return outputs

    # ------------------------------------------------------------ data

    def sent(self, packet: bytes, now: float) -> None:
        """A packet of the home address, after the application's IPsec, went directly."""
        route = self.ways.get(packet[24:40])
        if route is not None:
            route.sent += 1
        self.sent_directly.keep(packet[24:40], packet, now)

    def accepts(self, correspondent: bytes) -> bool:
        """Whether its data may come directly. A process that was just started may not know yet to whom its
        predecessor said where it is, so the rules decide and not the table."""
        return self.rules.of(IPv6Address(correspondent)) is not RoutePolicy.NEVER

    def heard(self, correspondent: bytes, now: float) -> list[Output]:
        """A packet of a correspondent came directly and was delivered."""
        route = self.ways.get(correspondent)
        if route is not None:
            route.heard += 1
            return []
        peer = self._peers.get(correspondent)
        if peer is None or not peer.registration.works():
            return []
        return self._again(peer, now)

    def _again(self, peer: DirectPeer, now: float) -> list[Output]:
        """The doubt about a binding is over: it is there."""
        registration = peer.registration
        if registration.care_of is None or registration.bound_until is None:
            return []
        entry = self._entry(peer, registration.care_of, 0, registration.bound_until, now)
        self._tunnels.set_route(entry)
        self._use(peer, registration.care_of, now)
        return [RouteOptimized(registration.correspondent, registration.care_of, entry.lifetime, 0.0)]

    def _use(self, peer: DirectPeer, care_of: IPv6Address, now: float) -> None:
        self.ways[peer.registration.correspondent.packed] = peer.use(care_of, now)

    # ------------------------------------------------------------ messages

    def receive(self, packet: bytes, now: float, *, tunnelled: bool) -> list[Output]:
        """A mobility message that is not the home agent's; ``tunnelled``: it came through it. Raises `Discard`."""
        plain, headers = direct.opened(packet)
        source = packet[8:24]
        if headers.routing_address is not None or headers.home_address is not None:
            direct.check_routing(headers, self._home)
        if headers.protocol != ip6.MOBILITY or not routable(source):
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"protocol {headers.protocol} of {IPv6Address(source)}")
        message = message_of(plain)
        home = plain[24:40] == self._home
        peer = self._peers.get(source)
        match message:
            case mh.UnknownMessage():
                return self._unknown(message, source, now, tunnelled=tunnelled)
            case _ if peer is None:
                raise Discard(Reason.MESSAGE_UNEXPECTED, f"{_name(message)} of {IPv6Address(source)}, a stranger")
            case mh.HomeTest() if home and headers.routing_address is None:
                if not tunnelled:
                    raise Discard(Reason.NOT_TUNNELLED, f"home test of {IPv6Address(source)}")
                return self._carry_out(peer, peer.registration.home_test(message, now), now)
            case mh.CareOfTest() if not (home or tunnelled):
                outputs = self._carry_out(peer, peer.registration.care_of_test(message, packet[24:40], now), now)
                peer.answered(now)
                return outputs
            case mh.BindingAcknowledgement() if home:
                return self._acknowledged(peer, message, plain[ip6.HEADER_SIZE :], now)
            case mh.BindingError() if not tunnelled:
                return self._error(peer, message, now)
            case mh.BindingRefreshRequest() if home:
                registration = peer.registration
                if not registration.bound or now - registration.began < REQUEST_INTERVAL:
                    raise Discard(Reason.MESSAGE_UNEXPECTED, f"refresh request of {IPv6Address(source)}")
                return self._carry_out(peer, registration.refresh(now), now)
            case _:
                raise Discard(Reason.MESSAGE_UNEXPECTED, f"{_name(message)} of {IPv6Address(source)}")

    def _acknowledged(
        self, peer: DirectPeer, message: mh.BindingAcknowledgement, header: bytes, now: float
    ) -> list[Output]:
        """Steps 75, 76, and what scenario processing makes of it (steps 61 to 67, 83, 84)."""
        registration = peer.registration
        outputs = registration.acknowledged(message, header, now)
        granted = next((output for output in outputs if isinstance(output, Granted)), None)
        refused = any(isinstance(output, RouteRefused) for output in outputs)
        if granted is None and not refused:
            return self._carry_out(peer, outputs, now)
        situation = Situation(
            message,
            registration.correspondent,
            self._home_address if granted is None else granted.care_of_address,
            self._home_address,
            from_home_agent=False,
            under_ipsec=False,
            translated=self._scenarios.present in TRANSLATING,
            route=None
            if granted is None
            else self._entry(peer, granted.care_of_address, granted.sequence, granted.expires, now),
        )
        try:
            processed = self._scenarios.process(self._scenarios.choose(situation), self._tunnels)
        except Discard as discard:
            discarded = Discarded.of(discard, "scenario")
            if granted is None:
                return [*self._carry_out(peer, outputs, now), discarded]
            return [discarded, *self._carry_out(peer, registration.end("no scenario is enabled", now), now)]
        if granted is not None and (peer.route is None or peer.route.care_of != granted.care_of_address.packed):
            self._use(peer, granted.care_of_address, now)
        return self._carry_out(peer, outputs, now) + processed

    def _entry(self, peer: DirectPeer, care_of: IPv6Address, sequence: int, expires: float, now: float) -> ListEntry:
        return ListEntry(
            peer.registration.correspondent,
            self._home_address,
            care_of,
            round(expires - now),
            expires,
            sequence,
            "bound",
            home_registration=False,
            sent_at=now,
            link="" if self._place is None else self._place.link,
        )

    def _error(self, peer: DirectPeer, message: mh.BindingError, now: float) -> list[Output]:
        registration = peer.registration
        if message.status == mh.ErrorStatus.UNRECOGNIZED_TYPE:
            if registration.stage is not Stage.TESTING or registration.bound:
                raise Discard(Reason.MESSAGE_UNEXPECTED, f"binding error of {registration.correspondent}")
            return self._carry_out(peer, registration.unable("knows nothing of route optimization", now), now)
        if message.home_address != self._home_address:
            raise Discard(Reason.HOME_ADDRESS_NOT_OURS, f"binding error about {message.home_address}")
        outputs = registration.error(now)
        if not outputs:
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"binding error of {registration.correspondent}")
        return self._carry_out(peer, outputs, now)

    def _unknown(self, message: mh.UnknownMessage, source: bytes, now: float, *, tunnelled: bool) -> list[Output]:
        """RFC 6275 section 9.2: the sender is told, if there are not too many of them."""
        outputs: list[Output] = [Discarded(Reason.TYPE_UNKNOWN, WHERE, f"type {message.type}")]
        if not self._errors.take(now) or self._place is None:
            return outputs
        error = mh.BindingError(mh.ErrorStatus.UNRECOGNIZED_TYPE, IPv6Address(0))
        own = self._home if tunnelled else self._place.address.packed
        packet = _packet(error, own, source)
        return outputs + (self._send_home(packet, now) if tunnelled else self._send_directly(packet, now))

    def problem(self, error: icmp6.Error, now: float) -> list[Output]:
        """An ICMPv6 error for the care-of address (section 11.3.5): a correspondent without Mobile IPv6 answers a test
        so, and data that came directly, if it has forgotten what a home address option is.

        The second proves nothing, so it does no more than a binding error does. Raises `Discard`: it is about nothing
        that is under way.
        """
        invoking = error.invoking
        ignored = Discard(Reason.ICMP_IGNORED, "an error for the care-of address")
        peer = self._peers.get(invoking[24:40])
        if not isinstance(error, icmp6.ParameterProblem) or peer is None:
            raise ignored
        try:
            headers = ip6.walk(invoking)
        except WireError:
            raise ignored from None
        at = headers.offset
        if error.code == icmp6.UNKNOWN_OPTION and headers.home_address == self._home:
            doubt = peer.registration.error(now)
            if not doubt:
                raise ignored
            return self._carry_out(peer, doubt, now)
        if headers.protocol != ip6.MOBILITY or not peer.registration.expects(invoking[at + 8 : at + 16]):
            raise ignored
        return self._carry_out(peer, peer.registration.unable("knows nothing of Mobile IPv6", now), now)

    # ------------------------------------------------------------ time

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        times = (peer.due for peer in self._peers.values())
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, now: float) -> list[Output]:
        """Tests, updates and refreshes that are due; routes on which nothing comes any more."""
        outputs: list[Output] = []
        for destination, peer in list(self._peers.items()):
            registration = peer.registration
            if registration.due is not None and registration.due <= now:
                outputs += self._carry_out(peer, peer.renew(now), now)
                if peer.at_rest and registration.hold_until <= now:
                    # It was not in use any more; the next packets begin it anew.
                    peer.wanted = False
                    self.ways.pop(destination, None)
            outputs += self._carry_out(peer, peer.look(now), now)
            retry_at = peer.retry_at
            if retry_at is not None and retry_at <= now:
                # The next packets begin it anew, if there are any.
                registration.hold_until, peer.wanted = 0.0, False
                self.ways.pop(destination, None)
        return outputs

    # ------------------------------------------------------------ carrying out

    def _stop(self, peer: DirectPeer, why: str, now: float) -> list[Output]:
        peer.wanted = False
        registration = peer.registration
        if registration.bound or registration.may_send_elsewhere(now):
            return self._carry_out(peer, registration.end(why, now), now)
        return self._carry_out(peer, registration.abandon(why), now)

    def _carry_out(self, peer: DirectPeer, wanted: list[Output], now: float) -> list[Output]:
        """Sends what is to be said; keeps list and routes as the events say; passes them on."""
        outputs: list[Output] = []
        registration = peer.registration
        for output in wanted:
            match output:
                case Say():
                    outputs += self._say(registration.correspondent, output, now)
                    continue
                case Granted():
                    continue
                case NotHeard(highest=highest):
                    self._unsent += self.sent_directly.after(registration.correspondent.packed, highest, now)
                    if self._ready:
                        unsent, self._unsent = self._unsent, []
                        for packet in unsent:
                            outputs += self._send_again(packet, now)
                    continue
                case RouteEnded():
                    peer.route = None
                    self.ways[registration.correspondent.packed] = None
                    binding_error(registration.correspondent, self._tunnels)
                case RouteRefused():
                    self.ways[registration.correspondent.packed] = None
                case _:
                    pass
            outputs.append(output)
        return outputs

    def _say(self, correspondent: IPv6Address, say: Say, now: float) -> list[Output]:
        place, home = self._place, self._home_address
        match say.way:
            case Way.HOME:
                return self._send_home(_packet(say.message, self._home, correspondent.packed), now)
            case Way.DIRECT if place is not None:
                return self._send_directly(_packet(say.message, place.address.packed, correspondent.packed), now)
            case Way.WITH_HOME_ADDRESS if place is not None:
                packet = from_terminal(say.message, home, place.address, correspondent, UNPROTECTED)
                return self._send_directly(packet, now)
            case _:
                return []

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "policy": self.rules.default.value,
            "rules": [{"network": str(network), "policy": policy.value} for network, policy in self.rules.networks],
            "possible": self._possible(),
            "sent_again": self.sent_directly.sent_again,
            "correspondents": [
                {
                    **peer.registration.snapshot(now),
                    "sent": 0 if peer.route is None else peer.route.sent,
                    "received": 0 if peer.route is None else peer.route.heard,
                }
                for peer in self._peers.values()
            ],
        }


def _packet(message: mh.Message, source: bytes, to: bytes) -> bytes:
    return ip6.packet(source, to, ip6.MOBILITY, mh.payload(message, source, to))


def _name(message: mh.Message) -> str:
    return mh.Type(message.type).name.lower().replace("_", " ")
