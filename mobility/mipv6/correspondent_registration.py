"""One correspondent, as the terminal sees it: return routability, updates, refresh (RFC 6275 sections 11.6, 11.7.2).

Two tests (home and care-of) give two halves of a key; a binding update signed with it makes the correspondent send
directly. The home half stays good while the terminal moves, so a new place costs one care-of test and one update. Where
the old place was lost, an update signed with the home half alone ends the old binding before that: the correspondent
sends through the home agent meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.mipv6.address_tests import AddressTests
from mobility.mipv6.again_direct import heard_in, heard_option
from mobility.mipv6.registration import RoundTrip, SequenceNumbers, status_name
from mobility.mipv6.return_routability import (
    MAX_RR_BINDING_LIFETIME,
    KeygenToken,
    authorized,
    binding_key,
    is_authorized,
)
from mobility.mipv6.route_events import Granted, NotHeard, RouteEnded, RouteOptimized, RouteRefused, Say, Way
from mobility.outputs import Output
from mobility.wire import mh

FIRST_TIMEOUT = 1.0
"Seconds (INITIAL_BINDACK_TIMEOUT, RFC 6275 section 12), until a round trip was measured."
SHORTEST_TIMEOUT = 0.1
TRANSMISSIONS = 3
"Of a test or an update, each after twice the time; without an answer the correspondent counts as unable."
MAX_UPDATE_RATE = 3
"Binding updates a second to one correspondent (section 12)."
REFRESH_AT = 0.8
"Fraction of the lifetime after which a binding that is in use is renewed."
HOME_TEST_RETRY = 10.0
"Seconds until a home test of a binding that holds is asked for again."
FIRST_HOLD, LONGEST_HOLD = 10.0, 600.0
"Seconds until the next attempt after one that failed; doubled each time."
REFUSED_HOLD = 600.0
"Seconds after a refusal: a matter of configuration or resources."
CORRECTIONS = 3
"Answers that ask for the same again (sequence number, nonces) are followed so many times at once."


class Stage(Enum):
    """What is under way."""

    REST = auto()
    TESTING = auto()
    "Home test, care-of test or both are asked for."
    UPDATING = auto()
    "A binding update is to be acknowledged."
    ENDING = auto()
    "The correspondent is to forget the binding."


@dataclass(frozen=True, slots=True)
class _Sent:
    """A binding update that may be acknowledged."""

    key: bytes
    covered: bytes
    at: float
    lifetime: int
    believed_until: float
    "What it was before: a refusal changes nothing."


class CorrespondentRegistration:
    """Answers with `Say`, `Granted` and events; whoever owns it makes packets and routes of them."""

    def __init__(
        self,
        home_address: IPv6Address,
        correspondent: IPv6Address,
        random: Callable[[int], bytes],
        heard: Callable[[], Mapping[int, int]],
    ) -> None:
        """``heard``: SPIs and highest numbers of the ESP that came from the correspondent."""
        self.correspondent = correspondent
        self.stage = Stage.REST
        self.timer: float | None = None
        "Of the stage; at rest, of the next refresh."
        self.hold_until = 0.0
        "No new attempt before, after one that failed."
        self.hold_reason = ""
        self.began = 0.0
        "When what is or was under way began."
        self.told_end = False
        "It was told from this place that the binding ends, or it could not be told."
        self.round_trip = RoundTrip()
        self.bound_until: float | None = None
        "When the correspondent's binding ends, as far as is known; None: it has none."
        self.suspended = False
        "The correspondent may have lost the binding: packets go through the tunnel until it is clear."
        self.care_of: IPv6Address | None = None
        "Where the terminal is; None: nowhere that a correspondent could send to."
        self._believed_until = 0.0
        "Until then the correspondent may have a binding, of this place or an earlier one."
        self._refresh_at = 0.0
        self._tests = AddressTests(home_address, correspondent, random)
        self._heard = heard
        self._numbers = SequenceNumbers(int.from_bytes(random(2)))
        self._sent: dict[int, _Sent] = {}
        self._updates: deque[float] = deque(maxlen=MAX_UPDATE_RATE)
        "When the last updates left."
        self._transmissions = 0
        self._corrections = 0
        self._hold = FIRST_HOLD
        self._held_by_place = False
        "The failure may be one of the place where the terminal was."
        self._longest = MAX_RR_BINDING_LIFETIME
        self._lost = False
        "The last place was lost: what went there is asked for in the next update."

    # ------------------------------------------------------------ what is wanted

    @property
    def due(self) -> float | None:
        """When `handle_timer` wants to be called."""
        times = (self.timer, self.bound_until)
        return min((time for time in times if time is not None), default=None)

    def expects(self, cookie: bytes) -> bool:
        """Whether a test with this cookie is under way."""
        return self.stage is Stage.TESTING and self._tests.expects(cookie)

    def needs_home(self, now: float) -> bool:
        """Whether a home test has to come first, which needs the tunnel."""
        return self._tests.home_token(now) is None

    @property
    def bound(self) -> bool:
        """Whether the correspondent has a binding for the place where the terminal is."""
        return self.bound_until is not None

    def may_send_elsewhere(self, now: float) -> bool:
        """Whether the correspondent may send to a place where the terminal is not."""
        return self.bound_until is None and now < self._believed_until

    def begin(self, longest: int, now: float) -> list[Output]:
        """Have the correspondent send to ``care_of``, for ``longest`` seconds at most (the home registration's)."""
        self._longest = min(longest, MAX_RR_BINDING_LIFETIME)
        self.began = now
        self._corrections = 0
        return self._test(now)

    def moved(self, care_of: IPv6Address | None, lost: bool, now: float) -> list[Output]:
        """The terminal is elsewhere; ``care_of`` None: at no place that a correspondent could send to.

        ``lost``: nothing that goes to the former place arrives. Returns messages; whether to begin anew is for the
        owner to say.
        """
        was_bound = self.bound_until is not None
        outputs: list[Output] = self._ended("moved") if was_bound else []
        self.care_of = care_of
        self._tests.moved()
        self._lost = self._lost or (lost and was_bound)
        self._sent.clear()
        self.stage, self.timer, self.told_end = Stage.REST, None, False
        if self._held_by_place:
            self.hold_until, self._hold = 0.0, FIRST_HOLD
        elsewhere = self._lost and now < self._believed_until
        if elsewhere and care_of is not None and (token := self._tests.home_token(now)) is not None:
            outputs += self._say_ended(token, Way.WITH_HOME_ADDRESS, now)
        return outputs

    def end(self, why: str, now: float) -> list[Output]:
        """Have the correspondent forget the binding, by way of the home address."""
        outputs: list[Output] = self._ended(why) if self.bound_until is not None else []
        self.began, self._transmissions, self._corrections = now, 0, 0
        self.stage, self.told_end = Stage.ENDING, True
        return outputs + self._send_end(now)

    def abandon(self, why: str) -> list[Output]:
        """Forget everything without a word."""
        outputs: list[Output] = self._ended(why) if self.bound_until is not None else []
        self.stage, self.timer = Stage.REST, None
        self._sent.clear()
        return outputs

    def probe(self, now: float) -> list[Output]:
        """Ask for a care-of test, only to see whether anything comes through."""
        if self.care_of is None or self.stage is not Stage.REST:
            return []
        return [self._tests.care_of_init(self.care_of, now)]

    def refresh(self, now: float) -> list[Output]:
        """Renew the binding now; the correspondent asked for it."""
        if self.bound_until is None or self.stage is not Stage.REST:
            return []
        return self._again(now)

    # ------------------------------------------------------------ what the correspondent says

    def home_test(self, message: mh.HomeTest, now: float) -> list[Output]:
        """Came through the tunnel (section 11.6.2). Raises `Discard`."""
        self._tests.home_test(message, now)
        if self.stage is Stage.ENDING:
            return self._send_end(now)
        return self._tested(now)

    def care_of_test(self, message: mh.CareOfTest, to: bytes, now: float) -> list[Output]:
        """Came to the care-of address ``to`` (section 11.6.2). Raises `Discard`."""
        self.round_trip.measured(self._tests.care_of_test(message, to, now))
        return self._tested(now)

    def acknowledged(self, message: mh.BindingAcknowledgement, header: bytes, now: float) -> list[Output]:
        """A binding acknowledgement (section 11.7.3). Raises `Discard`: of nothing under way, or not authentic."""
        status = message.status
        expired = mh.Status.EXPIRED_HOME_NONCE_INDEX <= status <= mh.Status.EXPIRED_NONCES
        sent = self._sent.get(message.sequence)
        if status == mh.Status.SEQUENCE_OUT_OF_WINDOW:
            if not any(is_authorized(header, each.key, each.covered, self._peer) for each in self._sent.values()):
                raise Discard(Reason.AUTHENTICATOR_WRONG, f"acknowledgement of {self.correspondent}")
            return self._renumber(message.sequence, now)
        if sent is None:
            raise Discard(Reason.SEQUENCE_UNEXPECTED, f"{message.sequence} of {self.correspondent}")
        # Who does not know the nonces any more cannot sign (section 9.5.4).
        if not expired and not is_authorized(header, sent.key, sent.covered, self._peer):
            raise Discard(Reason.AUTHENTICATOR_WRONG, f"acknowledgement of {self.correspondent}")
        del self._sent[message.sequence]
        if expired:
            self._believed_until = sent.believed_until
            return self._retest(status, now)
        self.round_trip.measured(now - sent.at)
        heard = heard_in(message.options)
        outputs: list[Output] = [] if heard is None else [NotHeard(heard)]
        if sent.lifetime == 0:
            if self.bound_until is None and all(each.lifetime == 0 for each in self._sent.values()):
                self._believed_until, self._lost = 0.0, False
            if self.stage is Stage.ENDING:
                self.stage, self.timer = Stage.REST, None
            return outputs
        self._sent.clear()
        if status >= mh.Status.REASON_UNSPECIFIED or message.lifetime <= 0:
            self._believed_until = sent.believed_until
            return self._fail(f"refused: {status_name(status)}", now, REFUSED_HOLD)
        return outputs + self._accepted(message, sent, now)

    def _accepted(self, message: mh.BindingAcknowledgement, sent: _Sent, now: float) -> list[Output]:
        care_of = IPv6Address(sent.covered)
        lifetime = min(message.lifetime, sent.lifetime)
        renewed = self.bound_until is not None and not self.suspended
        self.bound_until = sent.at + lifetime
        self.suspended, self._lost = False, False
        self.stage, self._hold = Stage.REST, FIRST_HOLD
        self._refresh_at = sent.at + lifetime * REFRESH_AT
        self._rest(now)
        outputs: list[Output] = [Granted(care_of, lifetime, self.bound_until, message.sequence)]
        if not renewed:
            milliseconds = round((now - self.began) * 1000, 3)
            outputs.append(RouteOptimized(self.correspondent, care_of, lifetime, milliseconds))
        return outputs

    def error(self, now: float) -> list[Output]:
        """A binding error says that there is no binding: the tunnel until that is clear (sections 9.3.3, 11.3.6).

        It proves nothing, so it does no more than that: a binding that is there is renewed in one round trip.
        """
        if self.bound_until is None or self.suspended:
            return []
        self.suspended = True
        self.began, self._corrections = now, 0
        outputs: list[Output] = [RouteEnded(self.correspondent, "binding error")]
        return outputs + self._again(now) if self.stage is Stage.REST else outputs

    def works(self) -> bool:
        """A packet came directly although the binding is in doubt; whether the doubt is over by that."""
        was, self.suspended = self.suspended, False
        return was and self.bound_until is not None

    def unable(self, why: str, now: float) -> list[Output]:
        """The correspondent, or its network, says that it does not know what it was sent."""
        return self._fail(why, now, REFUSED_HOLD)

    def silent(self, why: str, now: float) -> list[Output]:
        """Nothing comes directly any more: the tunnel at once, and the correspondent is told by way of it."""
        self._put_off(why, now, None)
        return self.end(why, now)

    # ------------------------------------------------------------ time

    def handle_timer(self, now: float, *, in_use: bool) -> list[Output]:
        """The time in `timer` may have come. ``in_use``: packets went directly lately, so the binding is renewed."""
        if self.bound_until is not None and self.bound_until <= now:
            self._sent.clear()
            self.stage, self.timer = Stage.REST, None
            return self._ended("lifetime over")
        if self.timer is None or now < self.timer:
            return []
        match self.stage:
            case Stage.REST:
                return self._renew(in_use, now)
            case Stage.TESTING if self._transmissions >= TRANSMISSIONS and self._answers_directly(now):
                # The way through the home agent is at fault: the direct one is used for as long as the binding lasts.
                self.stage = Stage.REST
                self._refresh_at = self.timer = now + HOME_TEST_RETRY
                return []
            case Stage.TESTING | Stage.UPDATING if self._transmissions >= TRANSMISSIONS:
                return self._fail("no answer", now, None)
            case Stage.TESTING:
                return self._send_tests(now)
            case Stage.UPDATING:
                return self._send_update(now)
            case Stage.ENDING:
                if self._transmissions >= TRANSMISSIONS:
                    self.stage, self.timer = Stage.REST, None
                    return []
                return self._send_end(now)

    def _answers_directly(self, now: float) -> bool:
        """Whether there is a binding, not in doubt, and only the home test was not answered."""
        return self.bound_until is not None and not self.suspended and self._care_of_token(now) is not None

    def _rest(self, now: float) -> None:
        """Bound, and nothing is under way: wait until the binding or the home token has to be renewed."""
        self.timer = max(min(self._refresh_at, self._tests.home_due(now)), now)

    def _renew(self, in_use: bool, now: float) -> list[Output]:
        if not in_use:
            self.timer = self.bound_until
            return []
        if now >= self._refresh_at:
            return self._again(now)
        if self._tests.home_due(now) > now:
            self._rest(now)
            return []
        self.timer = min(self._refresh_at, now + HOME_TEST_RETRY)
        return [self._tests.home_init()]

    # ------------------------------------------------------------ tests

    def _again(self, now: float) -> list[Output]:
        self.began, self._corrections = now, 0
        return self._test(now)

    def _test(self, now: float) -> list[Output]:
        """Asks for what is missing; if nothing is, goes on at once."""
        self.stage = Stage.TESTING
        self._transmissions = 0
        return self._tested(now) or self._send_tests(now)

    def _send_tests(self, now: float) -> list[Output]:
        if self.care_of is None:
            self.stage, self.timer = Stage.REST, None
            return []
        self.timer = now + self._timeout()
        self._transmissions += 1
        outputs: list[Output] = []
        if self._tests.home_token(now) is None:
            outputs.append(self._tests.home_init())
        if self._care_of_token(now) is None:
            outputs.append(self._tests.care_of_init(self.care_of, now))
        return outputs

    def _tested(self, now: float) -> list[Output]:
        if self.stage is not Stage.TESTING or self._tests.home_token(now) is None or self._care_of_token(now) is None:
            return []
        self.stage = Stage.UPDATING
        self._transmissions = 0
        return self._send_update(now)

    def _care_of_token(self, now: float) -> KeygenToken | None:
        return self._tests.care_of_token(self.care_of, now)

    # ------------------------------------------------------------ updates

    def _send_update(self, now: float) -> list[Output]:
        home, care_of = self._tests.home_token(now), self._care_of_token(now)
        if home is None or care_of is None:
            return self._test(now)
        wait = self._until_rate_allows(now)
        if wait > now:
            self.timer = wait
            return []
        self.timer = now + self._timeout()
        self._transmissions += 1
        key = binding_key(home.token, care_of.token)
        lifetime = max(self._longest // 4 * 4, 4)
        indices = mh.NonceIndices(home.index, care_of.index)
        update = self._update(lifetime, indices, key, care_of.address, now)
        return [Say(update, Way.WITH_HOME_ADDRESS)]

    def _send_end(self, now: float) -> list[Output]:
        """One transmission of what ends the binding, by way of the home address; first the home test, if need be."""
        wait = self._until_rate_allows(now)
        if wait > now:
            self.timer = wait
            return []
        self.timer = now + self._timeout()
        self._transmissions += 1
        token = self._tests.home_token(now)
        return [self._tests.home_init()] if token is None else self._say_ended(token, Way.HOME, now)

    def _say_ended(self, token: KeygenToken, way: Way, now: float) -> list[Output]:
        if self._until_rate_allows(now) > now:
            return []
        key = binding_key(token.token)
        return [Say(self._update(0, mh.NonceIndices(token.index, 0), key, token.address, now), way)]

    def _update(
        self, lifetime: int, indices: mh.NonceIndices, key: bytes, covered: bytes, now: float
    ) -> mh.BindingUpdate:
        sequence = self._numbers.next()
        self._updates.append(now)
        self._sent[sequence] = _Sent(key, covered, now, lifetime, self._believed_until)
        if lifetime:
            self._believed_until = max(self._believed_until, now + lifetime)
        while len(self._sent) > TRANSMISSIONS + CORRECTIONS:
            del self._sent[next(iter(self._sent))]
        heard = heard_option(self._heard()) if self._lost else ()
        update = mh.BindingUpdate(sequence, mh.UpdateFlag.ACKNOWLEDGE, lifetime, (indices, *heard))
        return authorized(update, key, covered, self._peer)

    def _until_rate_allows(self, now: float) -> float:
        return self._updates[0] + 1.0 if len(self._updates) == MAX_UPDATE_RATE else now

    def _renumber(self, last: int, now: float) -> list[Output]:
        """The correspondent knows a later number than ours: on from there."""
        self._numbers.last = last
        self._sent.clear()
        if self._too_often():
            return self._fail("corrects the sequence number again and again", now, None)
        match self.stage:
            case Stage.UPDATING:
                return self._send_update(now)
            case Stage.ENDING:
                return self._send_end(now)
            case _:
                return []

    def _retest(self, status: int, now: float) -> list[Output]:
        """The correspondent does not know the nonces any more: tests anew."""
        if status != mh.Status.EXPIRED_CARE_OF_NONCE_INDEX:
            self._tests.home = None
        if status != mh.Status.EXPIRED_HOME_NONCE_INDEX:
            self._tests.care_of = None
        if self._too_often():
            return self._fail("knows no nonce for long", now, None)
        match self.stage:
            case Stage.UPDATING:
                return self._test(now)
            case Stage.ENDING:
                return self._send_end(now)
            case Stage.TESTING if self._tests.home is None:
                return [self._tests.home_init()]
            case _:
                return []

    def _too_often(self) -> bool:
        self._corrections += 1
        return self._corrections > CORRECTIONS

    # ------------------------------------------------------------ failure

    def _fail(self, why: str, now: float, hold: float | None) -> list[Output]:
        was_ending = self.stage is Stage.ENDING
        outputs: list[Output] = self._ended(why) if self.bound_until is not None else []
        self._sent.clear()
        self.stage, self.timer = Stage.REST, None
        if was_ending:
            return outputs
        self._put_off(why, now, hold)
        outputs.append(RouteRefused(self.correspondent, why, round(self.hold_until - now, 3)))
        # It may still send directly: it is told not to, if it can be told.
        return outputs + self.end(why, now) if self.may_send_elsewhere(now) else outputs

    def _put_off(self, why: str, now: float, hold: float | None) -> None:
        self.hold_until = now + (self._hold if hold is None else hold)
        self.hold_reason, self._held_by_place = why, hold is None
        self._hold = min(self._hold * 2, LONGEST_HOLD)

    def _ended(self, why: str) -> list[Output]:
        told, self.suspended = self.suspended, False
        self.bound_until = None
        return [] if told else [RouteEnded(self.correspondent, why)]

    def _timeout(self) -> float:
        smoothed = self.round_trip.smoothed
        if smoothed is None:
            first = FIRST_TIMEOUT
        else:
            first = min(max(2 * smoothed + 4 * self.round_trip.variation, SHORTEST_TIMEOUT), FIRST_TIMEOUT)
        return first * 2.0**self._transmissions

    @property
    def _peer(self) -> bytes:
        return self.correspondent.packed

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "correspondent": str(self.correspondent),
            "state": "suspended" if self.suspended else "direct" if self.bound else "tunnel",
            "stage": self.stage.name.lower(),
            "remaining": None if self.bound_until is None else round(max(self.bound_until - now, 0.0), 3),
            "sequence": self._numbers.last,
            "home_token": _age(self._tests.home, now),
            "care_of_token": _age(self._tests.care_of, now),
            "round_trip": None if self.round_trip.smoothed is None else round(self.round_trip.smoothed, 4),
            "held_for": round(max(self.hold_until - now, 0.0), 3),
            "held_because": self.hold_reason if self.hold_until > now else "",
        }


def _age(token: KeygenToken | None, now: float) -> float | None:
    return None if token is None else round(now - token.received, 3)
