"""One correspondent seen by the terminal, against a real correspondent's engine: losses, ages, rates, corrections."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address
from random import Random

import pytest

from mobility.discards import Discard, Reason
from mobility.mipv6.correspondent_node import Correspondent
from mobility.mipv6.correspondent_registration import CorrespondentRegistration, Stage
from mobility.mipv6.route_events import Granted, NotHeard, RouteEnded, RouteOptimized, RouteRefused, Say, Way
from mobility.mipv6.signalling import UNPROTECTED, from_terminal, logical, message_of
from mobility.outputs import Output, Transmit
from mobility.wire import icmp6, ip6, mh

HOME = IPv6Address("2001:db8:1::100")
PLACES = [IPv6Address(f"2001:db8:a::{number}") for number in range(1, 20)]
CN = IPv6Address("2001:db8:c::c")
TRIP = 0.02
"Seconds, each way, whichever way."


class Pair:
    """A registration and a correspondent, with the network between them by hand."""

    def __init__(self) -> None:
        self.heard: dict[int, int] = {}
        self.registration = CorrespondentRegistration(HOME, CN, Random(1).randbytes, lambda: self.heard)
        self.correspondent = self.new_correspondent(2)
        self.now = 100.0
        self.said: list[tuple[float, mh.Message, Way]] = []
        self.events: list[Output] = []
        self.lose: set[type[mh.Message]] = set()
        self.in_use = True

    def new_correspondent(self, seed: int) -> Correspondent:
        def send(packet: bytes, now: float) -> list[Output]:
            return [Transmit(packet, b"", "")]

        def report(error: icmp6.Error, now: float) -> list[Output]:
            raise AssertionError(error)

        def nothing(_home: bytes) -> Mapping[int, int]:
            return {0x77: 12}

        return Correspondent(CN, Random(seed).randbytes, send, report, nothing)

    def begin(self, place: int = 0, longest: int = 420) -> None:
        self.registration.care_of = PLACES[place]
        self.carry(self.registration.begin(longest, self.now))

    def move(self, place: int | None, *, lost: bool) -> None:
        care_of = None if place is None else PLACES[place]
        self.carry(self.registration.moved(care_of, lost, self.now))

    def carry(self, outputs: list[Output]) -> None:
        """Brings what is said to the correspondent, and back what it answers."""
        waiting = list(outputs)
        while waiting:
            output = waiting.pop(0)
            if not isinstance(output, Say):
                self.events.append(output)
                continue
            self.said.append((self.now, output.message, output.way))
            if type(output.message) in self.lose:
                continue
            place = self.registration.care_of
            if output.way is Way.HOME:
                source = HOME
            else:
                assert place is not None
                source = place
            if output.way is Way.WITH_HOME_ADDRESS:
                packet = from_terminal(output.message, HOME, source, CN, UNPROTECTED)
            else:
                packet = ip6.packet(source, CN, ip6.MOBILITY, mh.payload(output.message, source, CN))
            answers, _ = self.correspondent.receive(packet, self.now + TRIP)
            for answer in answers:
                if isinstance(answer, Transmit):
                    waiting += self.answer(answer.packet)

    def answer(self, packet: bytes) -> list[Output]:
        plain, _ = logical(packet)
        message = message_of(plain)
        if type(message) in self.lose:
            return []
        then = self.now + 2 * TRIP
        match message:
            case mh.HomeTest():
                return self.registration.home_test(message, then)
            case mh.CareOfTest():
                return self.registration.care_of_test(message, packet[24:40], then)
            case mh.BindingAcknowledgement():
                return self.registration.acknowledged(message, plain[40:], then)
            case other:
                raise AssertionError(other)

    def until(self, time: float) -> None:
        """Timers, up to ``time``."""
        while (due := self.registration.due) is not None and due <= time:
            self.now = max(due, self.now)
            self.carry(self.registration.handle_timer(self.now, in_use=self.in_use))
            self.correspondent.handle_timer(self.now)
        self.now = time

    def names(self) -> list[str]:
        return [type(message).__name__ for _, message, _ in self.said]

    def of(self, kind: type[Output]) -> list[Output]:
        return [event for event in self.events if isinstance(event, kind)]


FIRST = ["HomeTestInit", "CareOfTestInit", "BindingUpdate"]


def bound() -> Pair:
    pair = Pair()
    pair.begin()
    assert pair.registration.bound
    pair.said.clear()
    pair.events.clear()
    return pair


def test_first_time() -> None:
    pair = Pair()
    pair.begin()
    assert pair.names() == FIRST
    assert [way for _, _, way in pair.said] == [Way.HOME, Way.DIRECT, Way.WITH_HOME_ADDRESS]
    (granted,) = pair.of(Granted)
    assert isinstance(granted, Granted)
    assert (granted.care_of_address, granted.lifetime) == (PLACES[0], 420)
    assert len(pair.of(RouteOptimized)) == 1


@pytest.mark.parametrize(
    ("lost", "again"),
    [
        (mh.HomeTestInit, "HomeTestInit"),
        (mh.CareOfTest, "CareOfTestInit"),
        (mh.BindingUpdate, "BindingUpdate"),
        (mh.BindingAcknowledgement, "BindingUpdate"),
    ],
)
def test_what_is_lost_is_said_again_with_new_cookies_and_numbers(lost: type[mh.Message], again: str) -> None:
    pair = Pair()
    pair.lose = {lost}
    pair.begin()
    assert pair.of(Granted) == []
    pair.until(pair.now + 0.1)
    pair.lose = set()
    pair.until(pair.now + 1.5)
    assert pair.registration.bound
    assert pair.names().count(again) == 2
    twice = [message for _, message, _ in pair.said if type(message).__name__ == again]
    match twice:
        case [mh.BindingUpdate(sequence=one), mh.BindingUpdate(sequence=two)]:
            assert two == (one + 1) & 0xFFFF
        case [mh.HomeTestInit(cookie=one), mh.HomeTestInit(cookie=two)]:
            assert one != two
        case [mh.CareOfTestInit(cookie=one), mh.CareOfTestInit(cookie=two)]:
            assert one != two
        case other:
            raise AssertionError(other)


def test_after_three_transmissions_there_is_peace_for_a_while() -> None:
    pair = Pair()
    pair.lose = {mh.CareOfTestInit}
    pair.begin()
    pair.until(pair.now + 60)
    assert pair.names() == ["HomeTestInit", *["CareOfTestInit"] * 3]
    times = [time for time, message, _ in pair.said if isinstance(message, mh.CareOfTestInit)]
    assert [round(time - times[0], 3) for time in times] == [0.0, 1.0, 3.0]
    (refused,) = pair.of(RouteRefused)
    assert isinstance(refused, RouteRefused)
    assert (refused.why, refused.retry_in) == ("no answer", 10.0)
    # Another place may be better.
    pair.move(1, lost=False)
    assert pair.registration.hold_until == 0.0


def test_refresh_needs_new_tests_and_home_tokens_are_kept_young() -> None:
    pair = bound()
    pair.until(pair.now + 330)
    # Home tests between: a good home token makes a handover quick.
    assert pair.names() == ["HomeTestInit", "HomeTestInit"]
    pair.said.clear()
    pair.until(pair.now + 10)
    assert pair.names()[-2:] == ["CareOfTestInit", "BindingUpdate"]
    pair.until(pair.now + 3000)
    assert pair.registration.bound
    assert pair.of(RouteEnded) == []


def test_what_is_not_used_is_not_renewed() -> None:
    pair = bound()
    pair.in_use = False
    pair.until(pair.now + 500)
    assert pair.said == []
    assert [type(event) for event in pair.events] == [RouteEnded]
    assert pair.registration.due is None


def test_new_place_costs_a_care_of_test_and_an_update() -> None:
    pair = bound()
    pair.now += 30
    pair.move(1, lost=False)
    pair.begin(1)
    assert pair.names() == ["CareOfTestInit", "BindingUpdate"]
    assert pair.correspondent.confirms(HOME.packed, PLACES[1].packed)


def test_lost_place_is_ended_first_and_what_was_heard_is_told() -> None:
    pair = bound()
    pair.heard = {0x99: 1000}
    pair.now += 30
    pair.move(None, lost=True)
    assert pair.said == []
    pair.move(1, lost=False)
    ((_, message, way),) = pair.said
    assert isinstance(message, mh.BindingUpdate)
    assert (message.lifetime, way) == (0, Way.WITH_HOME_ADDRESS)
    assert len(pair.correspondent) == 0
    (told,) = pair.of(NotHeard)
    assert isinstance(told, NotHeard)
    assert told.highest == {0x77: 12}
    pair.begin(1)
    assert pair.names() == ["BindingUpdate", "CareOfTestInit", "BindingUpdate"]
    assert pair.registration.bound


def test_place_without_a_direct_way_ends_it_by_way_of_home() -> None:
    pair = bound()
    pair.move(None, lost=True)
    assert pair.registration.may_send_elsewhere(pair.now)
    pair.lose = {mh.BindingAcknowledgement}
    pair.carry(pair.registration.end("no way", pair.now))
    pair.lose = set()
    pair.until(pair.now + 5)
    assert pair.names() == ["BindingUpdate", "BindingUpdate"]
    assert {way for _, _, way in pair.said} == {Way.HOME}
    assert len(pair.correspondent) == 0
    assert not pair.registration.may_send_elsewhere(pair.now)


def test_old_home_token_is_renewed_before_the_binding_is_ended() -> None:
    pair = bound()
    pair.in_use = False
    pair.now += 250
    pair.carry(pair.registration.end("no way", pair.now))
    assert pair.names() == ["HomeTestInit", "BindingUpdate"]
    assert len(pair.correspondent) == 0


def test_end_that_nobody_answers_is_given_up() -> None:
    pair = bound()
    pair.lose = {mh.BindingUpdate}
    pair.carry(pair.registration.end("no way", pair.now))
    pair.until(pair.now + 60)
    assert pair.names() == ["BindingUpdate"] * 3
    assert pair.registration.stage is Stage.REST
    assert pair.registration.told_end


def test_correspondent_with_a_later_number_corrects_ours() -> None:
    pair = bound()
    later = pair.registration._numbers.last
    # A terminal that was started again begins with any number.
    pair.registration = CorrespondentRegistration(HOME, CN, Random(5).randbytes, lambda: {})
    pair.registration._numbers.last = (later - 100) & 0xFFFF
    pair.begin()
    assert pair.registration.bound
    assert pair.registration._numbers.last == (later + 1) & 0xFFFF


def test_restarted_correspondent_costs_new_tests() -> None:
    pair = bound()
    pair.correspondent = pair.new_correspondent(99)
    pair.carry(pair.registration.error(pair.now))
    assert pair.names() == ["BindingUpdate", *FIRST]
    assert pair.registration.bound
    assert not pair.registration.suspended
    assert len(pair.correspondent) == 1


def test_doubt_ends_with_a_packet_that_comes() -> None:
    pair = bound()
    pair.lose = {mh.BindingUpdate}
    pair.carry(pair.registration.error(pair.now))
    assert pair.registration.suspended
    assert pair.registration.error(pair.now) == []
    assert pair.registration.works()
    assert not pair.registration.works()
    assert pair.registration.bound


def test_no_more_than_three_updates_a_second() -> None:
    pair = bound()
    pair.lose = {mh.BindingAcknowledgement}
    began = pair.now
    for step in range(60):
        pair.now = began + step * 0.05
        place = step % 19
        pair.move(place, lost=step % 2 == 0)
        pair.begin(place)
        pair.until(pair.now + 0.02)
    times = [time for time, message, _ in pair.said if isinstance(message, mh.BindingUpdate)]
    assert len(times) > 5
    for first, fourth in zip(times, times[3:], strict=False):
        assert fourth - first >= 1.0 - 1e-9


def test_refusal_of_a_renewal_ends_the_route() -> None:
    pair = bound()
    pair.correspondent = pair.new_correspondent(7)
    pair.correspondent.limit = 0
    pair.carry(pair.registration.error(pair.now))
    assert not pair.registration.bound
    (refused,) = pair.of(RouteRefused)
    assert isinstance(refused, RouteRefused)
    assert refused.why == "refused: insufficient-resources"
    assert pair.registration.hold_until == pytest.approx(pair.now + 600, abs=1)


@pytest.mark.parametrize("status", [136, 137, 138])
def test_correspondent_that_never_knows_its_nonces_is_left(status: int) -> None:
    pair = Pair()
    answered: list[int] = []

    def refuse(packet: bytes) -> list[Output]:
        message = message_of(logical(packet)[0])
        if isinstance(message, mh.BindingAcknowledgement):
            answered.append(message.status)
            refused = mh.BindingAcknowledgement(status, message.sequence, 0)
            return pair.registration.acknowledged(refused, mh.payload(refused, CN, HOME), pair.now)
        return Pair.answer(pair, packet)

    pair.answer = refuse  # type: ignore[method-assign]
    pair.begin()
    pair.until(pair.now + 5)
    assert len(answered) == 4
    assert [type(event) for event in pair.events] == [RouteRefused]


def test_acknowledgement_without_authenticator_is_none() -> None:
    pair = Pair()
    pair.lose = {mh.BindingAcknowledgement}
    pair.begin()
    update = pair.said[-1][1]
    assert isinstance(update, mh.BindingUpdate)
    unsigned = mh.BindingAcknowledgement(0, update.sequence, 400)
    for header in (mh.payload(unsigned, CN, HOME), mh.payload(unsigned, CN, HOME) + bytes(16)):
        with pytest.raises(Discard) as caught:
            pair.registration.acknowledged(unsigned, header, pair.now)
        assert caught.value.reason is Reason.AUTHENTICATOR_WRONG
    assert pair.registration.stage is Stage.UPDATING


def test_for_people() -> None:
    pair = bound()
    shown = pair.registration.snapshot(pair.now)
    assert (shown["state"], shown["stage"]) == ("direct", "rest")
    assert "token" not in str(shown["home_token"])
    pair.lose = {mh.CareOfTestInit}
    pair.carry(pair.registration.silent("nothing comes", pair.now))
    shown = pair.registration.snapshot(pair.now)
    assert (shown["state"], shown["held_because"]) == ("tunnel", "nothing comes")
