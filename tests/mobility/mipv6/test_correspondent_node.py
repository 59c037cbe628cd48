"""The correspondent's engine: tests without state, updates judged in the order of section 9.5.1, bounded tables."""

from __future__ import annotations

from ipaddress import IPv6Address
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobility.discards import Discard, Reason
from mobility.mipv6 import direct
from mobility.mipv6.again_direct import HEARD, heard_in, heard_option
from mobility.mipv6.correspondent_node import Correspondent, DirectBinding, DirectBindingEnded
from mobility.mipv6.return_routability import authorized, binding_key, is_authorized
from mobility.mipv6.signalling import UNPROTECTED, from_terminal, logical, message_of
from mobility.outputs import Discarded, Output, Transmit
from mobility.wire import icmp6, ip6, mh

HOME = IPv6Address("2001:db8:1::100")
CARE_OF = IPv6Address("2001:db8:a::1")
ELSEWHERE = IPv6Address("2001:db8:b::1")
CORRESPONDENT = IPv6Address("2001:db8:c::c")
NOBODY = IPv6Address("::")
A = mh.UpdateFlag.ACKNOWLEDGE


class Bench:
    """A correspondent, and a terminal by hand."""

    def __init__(self, limit: int = 1024) -> None:
        self.problems: list[icmp6.Error] = []
        self.heard: dict[int, int] = {}
        self.correspondent = Correspondent(
            CORRESPONDENT, Random(3).randbytes, self._send, self._report, lambda _home: self.heard, limit=limit
        )
        self.now = 0.0
        self.sequence = 0

    def _send(self, packet: bytes, now: float) -> list[Output]:
        return [Transmit(packet, b"", "eth0")]

    def _report(self, error: icmp6.Error, now: float) -> list[Output]:
        self.problems.append(error)
        return []

    def receive(self, packet: bytes) -> list[Output]:
        outputs, data = self.correspondent.receive(packet, self.now)
        assert data is None
        return outputs

    def rejects(self, packet: bytes, reason: Reason) -> None:
        before = self.correspondent.snapshot(self.now)
        with pytest.raises(Discard) as caught:
            self.receive(packet)
        assert caught.value.reason is reason
        assert self.correspondent.snapshot(self.now) == before

    def tokens(self, home: IPv6Address = HOME, care_of: IPv6Address = CARE_OF) -> tuple[mh.HomeTest, mh.CareOfTest]:
        """Both tests, answered."""
        outputs = self.receive(message(mh.HomeTestInit(b"cookie-1"), home))
        outputs += self.receive(message(mh.CareOfTestInit(b"cookie-2"), care_of))
        first, second = (sent(output) for output in outputs)
        assert isinstance(first, mh.HomeTest)
        assert isinstance(second, mh.CareOfTest)
        return first, second

    def update(
        self,
        *,
        home: IPv6Address = HOME,
        care_of: IPv6Address = CARE_OF,
        lifetime: int = 400,
        sequence: int | None = None,
        tests: tuple[mh.HomeTest, mh.CareOfTest] | None = None,
        flags: mh.UpdateFlag = A,
        options: tuple[mh.Option, ...] = (),
        key: bytes | None = None,
    ) -> bytes:
        """A binding update as a terminal makes it, with new tests unless ``tests`` are given."""
        first, second = self.tokens(home, care_of) if tests is None else tests
        self.sequence = (self.sequence + 1) & 0xFFFF if sequence is None else sequence
        ends = lifetime == 0 or care_of == home
        if key is None:
            key = binding_key(first.token, b"" if ends else second.token)
        indices = mh.NonceIndices(first.nonce_index, second.nonce_index)
        plain = mh.BindingUpdate(self.sequence, flags, lifetime, (indices, *options))
        covered = (home if ends else care_of).packed
        return from_terminal(
            authorized(plain, key, covered, CORRESPONDENT.packed), home, care_of, CORRESPONDENT, UNPROTECTED
        )

    def answer(self, packet: bytes) -> mh.BindingAcknowledgement:
        answers = [sent(output) for output in self.receive(packet) if isinstance(output, Transmit)]
        (acknowledgement,) = answers
        assert isinstance(acknowledgement, mh.BindingAcknowledgement)
        return acknowledgement


def message(content: mh.Message, source: IPv6Address, to: IPv6Address = CORRESPONDENT) -> bytes:
    return ip6.packet(source, to, ip6.MOBILITY, mh.payload(content, source, to))


def sent(output: Output) -> mh.Message:
    assert isinstance(output, Transmit)
    return message_of(logical(output.packet)[0])


def is_signed(packet: bytes, key: bytes, covered: IPv6Address) -> bool:
    return is_authorized(logical(packet)[0][40:], key, covered.packed, CORRESPONDENT.packed)


def test_tests_are_answered_where_they_were_asked_and_nothing_is_kept() -> None:
    bench = Bench()
    for _ in range(3000):
        home, care_of = bench.tokens()
    assert (home.cookie, care_of.cookie) == (b"cookie-1", b"cookie-2")
    assert home.token != care_of.token
    (output,) = bench.receive(message(mh.HomeTestInit(b"cookie-1"), HOME))
    assert isinstance(output, Transmit)
    assert (output.packet[8:24], output.packet[24:40], output.packet[6]) == (
        CORRESPONDENT.packed, HOME.packed, ip6.MOBILITY,
    )  # fmt: skip
    assert bench.correspondent.snapshot(0.0) == []
    # Even if there is a binding the home test goes to the home address (section 9.4.3).
    bench.answer(bench.update())
    (output,) = bench.receive(message(mh.HomeTestInit(b"cookie-1"), HOME))
    assert isinstance(output, Transmit)
    assert (output.packet[24:40], output.packet[6]) == (HOME.packed, ip6.MOBILITY)


def test_binding_is_made_renewed_moved_and_ended() -> None:
    bench = Bench()
    tests = bench.tokens()
    outputs = bench.receive(bench.update(tests=tests))
    assert DirectBinding(HOME, CARE_OF, 400, False) in outputs
    (packet,) = [output.packet for output in outputs if isinstance(output, Transmit)]
    assert (packet[6], packet[24:40]) == (ip6.ROUTING, CARE_OF.packed)
    assert is_signed(packet, binding_key(tests[0].token, tests[1].token), CARE_OF)
    assert bench.correspondent.route(HOME.packed) == CARE_OF.packed
    assert DirectBinding(HOME, CARE_OF, 400, True) in bench.receive(bench.update(tests=tests))
    assert DirectBinding(HOME, ELSEWHERE, 420, False) in bench.receive(
        bench.update(care_of=ELSEWHERE, lifetime=3600)
    )  # never longer than MAX_RR_BINDING_LIFETIME
    outputs = bench.receive(bench.update(care_of=ELSEWHERE, lifetime=0))
    assert DirectBindingEnded(HOME, "the terminal ended it") in outputs
    assert bench.correspondent.route(HOME.packed) is None
    # From the home address, through the tunnel or at home: without option and routing header.
    bench.receive(bench.update())
    outputs = bench.receive(bench.update(care_of=HOME, lifetime=0))
    (packet,) = [output.packet for output in outputs if isinstance(output, Transmit)]
    assert (packet[6], packet[24:40]) == (ip6.MOBILITY, HOME.packed)
    assert len(bench.correspondent) == 0


def test_update_without_the_a_flag_is_accepted_in_silence() -> None:
    bench = Bench()
    outputs = bench.receive(bench.update(flags=mh.UpdateFlag(0)))
    assert outputs == [DirectBinding(HOME, CARE_OF, 400, False)]


def test_alternate_care_of_address_is_the_one_that_counts() -> None:
    bench = Bench()
    first, second = bench.tokens(care_of=ELSEWHERE)
    plain = mh.BindingUpdate(
        1, A, 400, (mh.NonceIndices(first.nonce_index, second.nonce_index), mh.AlternateCareOfAddress(ELSEWHERE))
    )
    key = binding_key(first.token, second.token)
    signed = authorized(plain, key, ELSEWHERE.packed, CORRESPONDENT.packed)
    bench.receive(from_terminal(signed, HOME, CARE_OF, CORRESPONDENT, UNPROTECTED))
    assert bench.correspondent.confirms(HOME.packed, ELSEWHERE.packed)


@pytest.mark.parametrize("sequence", [100, 99, 100 - 0x7FFF])
def test_old_sequence_number_is_told_under_the_authenticator(sequence: int) -> None:
    bench = Bench()
    tests = bench.tokens()
    bench.answer(bench.update(sequence=100, tests=tests))
    answer = bench.answer(bench.update(sequence=sequence & 0xFFFF, care_of=CARE_OF, tests=tests))
    assert (answer.status, answer.sequence) == (mh.Status.SEQUENCE_OUT_OF_WINDOW, 100)
    assert isinstance(answer.options[-1], mh.BindingAuthorizationData)
    assert bench.answer(bench.update(sequence=101, tests=tests)).status == mh.Status.ACCEPTED


def test_replayed_update_does_not_bring_an_ended_binding_back() -> None:
    """The sequence number is kept while the nonces are known (section 5.2.8)."""
    bench = Bench()
    old = bench.update()
    bench.receive(old)
    bench.receive(bench.update(care_of=HOME, lifetime=0))
    for later in (0.0, 100.0, 100.0):
        bench.now += later
        bench.correspondent.handle_timer(bench.now)
        statuses = [sent(output) for output in bench.receive(old) if isinstance(output, Transmit)]
        assert [status.status for status in statuses if isinstance(status, mh.BindingAcknowledgement)] == [135]
        assert len(bench.correspondent) == 0
    bench.now += 60.0
    bench.correspondent.handle_timer(bench.now)
    assert bench.answer(old).status == mh.Status.EXPIRED_NONCES
    assert bench.correspondent.timer is None


def test_expired_nonces_are_told_one_by_one() -> None:
    bench = Bench()
    old = bench.tokens()
    bench.now = 250.0
    new = bench.tokens()
    for tests, status in (
        ((old[0], new[1]), mh.Status.EXPIRED_HOME_NONCE_INDEX),
        ((new[0], old[1]), mh.Status.EXPIRED_CARE_OF_NONCE_INDEX),
        (old, mh.Status.EXPIRED_NONCES),
    ):
        outputs = bench.receive(bench.update(tests=tests))
        (answer,) = [sent(output) for output in outputs if isinstance(output, Transmit)]
        assert isinstance(answer, mh.BindingAcknowledgement)
        assert answer.status == status
        assert answer.options == ()  # no authenticator: there is no key
        assert [output.reason for output in outputs if isinstance(output, Discarded)] == [Reason.NONCE_EXPIRED]
    # To end a binding the care-of nonce is not looked at.
    bench.receive(bench.update(tests=new))
    assert bench.answer(bench.update(tests=(new[0], old[1]), lifetime=0)).status == mh.Status.ACCEPTED


def test_home_registration_is_for_home_agents() -> None:
    bench = Bench()
    answer = bench.answer(bench.update(flags=A | mh.UpdateFlag.HOME_REGISTRATION))
    assert answer.status == mh.Status.HOME_REGISTRATION_NOT_SUPPORTED


def test_refusals_to_those_who_have_proven_nothing_are_few() -> None:
    bench = Bench()
    tests = bench.tokens()
    bench.now = 250.0
    answers = sum(
        isinstance(output, Transmit) for _ in range(100) for output in bench.receive(bench.update(tests=tests))
    )
    assert answers == 10


def test_forged_updates_change_nothing() -> None:
    bench = Bench()
    tests = bench.tokens()
    bench.receive(bench.update(tests=tests))
    first, second = tests
    for key in (bytes(20), binding_key(first.token), binding_key(second.token, first.token)):
        bench.rejects(bench.update(tests=tests, key=key), Reason.AUTHENTICATOR_WRONG)
        bench.rejects(bench.update(tests=tests, key=key, care_of=ELSEWHERE), Reason.AUTHENTICATOR_WRONG)
    bench.rejects(bench.update(tests=tests, key=bytes(20), lifetime=0), Reason.AUTHENTICATOR_WRONG)
    # With the tokens of one place for another; with one's own tokens for somebody else's home address.
    bench.rejects(bench.update(tests=tests, care_of=ELSEWHERE), Reason.AUTHENTICATOR_WRONG)
    mine = bench.tokens(home=ELSEWHERE, care_of=ELSEWHERE)
    bench.rejects(bench.update(tests=mine), Reason.AUTHENTICATOR_WRONG)
    # Without what proves anything.
    for options in ((), (mh.NonceIndices(first.nonce_index, second.nonce_index),)):
        plain = mh.BindingUpdate(9, A, 400, options)
        bench.rejects(from_terminal(plain, HOME, CARE_OF, CORRESPONDENT, UNPROTECTED), Reason.AUTHENTICATOR_WRONG)
    unsigned = mh.BindingUpdate(9, A, 400, (mh.BindingAuthorizationData(bytes(12)),))
    bench.rejects(from_terminal(unsigned, HOME, CARE_OF, CORRESPONDENT, UNPROTECTED), Reason.AUTHENTICATOR_WRONG)


@pytest.mark.parametrize("bad", ["ff02::1", "fe80::1", "::", "::1"])
def test_addresses_without_a_meaning_are_not_bound(bad: str) -> None:
    address = IPv6Address(bad)
    bench = Bench()
    tests = bench.tokens()
    key = binding_key(tests[0].token, tests[1].token)
    for home, care_of in ((address, CARE_OF), (HOME, address)):
        packet = bench.update(home=home, care_of=care_of, tests=tests, key=key)
        bench.rejects(packet, Reason.SOURCE_INVALID)
    for init in (mh.HomeTestInit(b"cookie-1"), mh.CareOfTestInit(b"cookie-2")):
        bench.rejects(message(init, address), Reason.SOURCE_INVALID)
    alternate = mh.AlternateCareOfAddress(address)
    bench.rejects(bench.update(tests=tests, key=key, options=(alternate,)), Reason.SOURCE_INVALID)


def test_table_is_bounded_and_holds_what_it_has() -> None:
    bench = Bench(limit=2)
    homes = [IPv6Address(f"2001:db8:1::{number}") for number in range(1, 4)]
    statuses = [bench.answer(bench.update(home=home)).status for home in homes]
    assert statuses == [mh.Status.ACCEPTED, mh.Status.ACCEPTED, mh.Status.INSUFFICIENT_RESOURCES]
    assert bench.answer(bench.update(home=homes[0])).status == mh.Status.ACCEPTED
    bench.now = 421.0
    outputs = bench.correspondent.handle_timer(bench.now)
    assert [type(output) for output in outputs] == [DirectBindingEnded] * 2
    assert bench.answer(bench.update(home=homes[2])).status == mh.Status.ACCEPTED


def test_home_address_option_without_a_binding_is_told_of_but_not_without_end() -> None:
    bench = Bench()
    data = ip6.packet(HOME, CORRESPONDENT, ip6.UDP, bytes(8))
    packet = direct.to_correspondent(data, CARE_OF.packed, HOME.packed)
    outputs, inner = bench.correspondent.receive(packet, 0.0)
    assert inner is None
    (told, discarded) = outputs
    assert sent(told) == mh.BindingError(mh.ErrorStatus.UNKNOWN_BINDING, HOME)
    assert isinstance(told, Transmit)
    assert told.packet[24:40] == CARE_OF.packed
    assert isinstance(discarded, Discarded)
    assert discarded.reason is Reason.HOME_ADDRESS_UNVERIFIED
    errors = sum(isinstance(o, Transmit) for _ in range(100) for o in bench.correspondent.receive(packet, 0.0)[0])
    assert errors == 9
    bench.receive(bench.update())
    assert bench.correspondent.receive(packet, 0.0) == ([], data)
    # From another place than the one that is bound, or about a nonsense address: no.
    stray = direct.to_correspondent(data, ELSEWHERE.packed, HOME.packed)
    assert bench.correspondent.receive(stray, 1.0)[1] is None
    for home in ("ff02::1", "::1", "fe80::1"):
        nonsense = direct.to_correspondent(data, CARE_OF.packed, IPv6Address(home).packed)
        outputs, inner = bench.correspondent.receive(nonsense, 2.0)
        assert inner is None
        assert [type(output) for output in outputs] == [Discarded]


def test_unknown_type_is_told_with_status_2() -> None:
    bench = Bench()
    unknown = mh.UnknownMessage(99, bytes(2))
    (told, discarded) = bench.receive(message(unknown, CARE_OF))
    assert sent(told) == mh.BindingError(mh.ErrorStatus.UNRECOGNIZED_TYPE, NOBODY)
    assert isinstance(discarded, Discarded)
    assert discarded.reason is Reason.TYPE_UNKNOWN
    (told, _) = bench.receive(from_terminal(unknown, HOME, CARE_OF, CORRESPONDENT, UNPROTECTED))
    assert sent(told) == mh.BindingError(mh.ErrorStatus.UNRECOGNIZED_TYPE, HOME)


def test_messages_that_are_not_for_a_correspondent() -> None:
    bench = Bench()
    strays: list[mh.Message] = [
        mh.BindingRefreshRequest(),
        mh.HomeTest(1, bytes(8), bytes(8)),
        mh.CareOfTest(1, bytes(8), bytes(8)),
        mh.BindingAcknowledgement(0, 1, 400),
        mh.BindingError(1, HOME),
    ]
    for stray in strays:
        bench.rejects(message(stray, CARE_OF), Reason.MESSAGE_UNEXPECTED)
    for init in (mh.HomeTestInit(b"cookie-1"), mh.CareOfTestInit(b"cookie-2")):
        # Tests never have a home address option (section 9.4.1).
        bench.rejects(from_terminal(init, HOME, CARE_OF, CORRESPONDENT, UNPROTECTED), Reason.MESSAGE_UNEXPECTED)


def test_malformed_headers_are_reported_where_the_rfc_says_so() -> None:
    bench = Bench()
    good = message(mh.CareOfTestInit(b"cookie-2"), CARE_OF)
    for at, value in ((40, ip6.UDP), (41, 9)):
        bad = good[:at] + bytes((value,)) + good[at + 1 :]
        outputs = bench.receive(bad)
        assert [output.reason for output in outputs if isinstance(output, Discarded)] == [Reason.MALFORMED]
        problem = bench.problems.pop()
        assert isinstance(problem, icmp6.ParameterProblem)
        assert (problem.code, problem.pointer) == (icmp6.ERRONEOUS_HEADER_FIELD, at)
    wrong_checksum = good[:-1] + b"?"
    assert [type(output) for output in bench.receive(wrong_checksum)] == [Discarded]
    assert bench.problems == []


def test_terminal_is_asked_to_renew_what_is_in_use_and_only_that() -> None:
    for used in (True, False):
        bench = Bench()
        bench.receive(bench.update(lifetime=100))
        if used:
            bench.correspondent.route(HOME.packed)
        assert bench.correspondent.timer == 90.0
        outputs = bench.correspondent.handle_timer(90.0)
        assert [type(sent(output)) for output in outputs] == ([mh.BindingRefreshRequest] if used else [])
        assert bench.correspondent.timer == 100.0
        assert bench.correspondent.handle_timer(100.0) == [DirectBindingEnded(HOME, "lifetime over")]


def test_what_a_lost_place_did_not_receive_is_sent_again_in_order() -> None:
    bench = Bench()
    bench.heard = {0x777: 41}
    bench.receive(bench.update())
    esp = [ip6.packet(CORRESPONDENT, HOME, ip6.ESP, b"\0\0\3\x09" + n.to_bytes(4) + bytes(24)) for n in range(1, 8)]
    plain = ip6.packet(CORRESPONDENT, HOME, ip6.UDP, bytes(8))
    for number, packet in enumerate((*esp, plain)):
        bench.correspondent.sent_directly.keep(HOME.packed, packet, number * 0.2)
    bench.now = 1.5
    outputs = bench.receive(bench.update(care_of=ELSEWHERE, options=heard_option({0x309: 3, 0x30A: 0})))
    again = [o.packet for o in outputs if isinstance(o, Transmit) and o.packet[40] == ip6.ESP]
    # 1 to 3 were received, of the rest all is younger than a second.
    assert again == [direct.to_terminal(packet, ELSEWHERE.packed) for packet in esp[3:]]
    (answer,) = [sent(o) for o in outputs if isinstance(o, Transmit) and o.packet[40] == ip6.MOBILITY]
    assert isinstance(answer, mh.BindingAcknowledgement)
    assert heard_in(answer.options) == {0x777: 41}
    assert len(bench.correspondent.sent_directly) == 0


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(12), bytes(17 * 8)])
def test_nonsense_about_what_was_received_is_skipped(data: bytes) -> None:
    bench = Bench()
    bench.correspondent.sent_directly.keep(HOME.packed, ip6.packet(CORRESPONDENT, HOME, ip6.ESP, bytes(32)), 0.0)
    option = mh.VendorSpecific(32473, HEARD, data)
    assert heard_in((option,)) is None
    (signed,) = bench.answer(bench.update(options=(option,))).options
    assert isinstance(signed, mh.BindingAuthorizationData)
    assert len(bench.correspondent.sent_directly) == 1


@settings(max_examples=300)
@given(st.binary(max_size=120), st.sampled_from([ip6.MOBILITY, ip6.DEST_OPTIONS, ip6.ROUTING]), st.booleans())
def test_noise_changes_nothing(body: bytes, protocol: int, framed: bool) -> None:
    bench = _noise
    before = bench.correspondent.snapshot(0.0)
    packet = ip6.packet(CARE_OF, CORRESPONDENT, protocol, body)
    if framed:
        packet = direct.to_correspondent(packet, CARE_OF.packed, HOME.packed)
    try:
        _, inner = bench.correspondent.receive(packet, 0.0)
    except Discard:
        inner = None
    # Only data of the terminal that is bound comes through, and what has neither option nor mobility header.
    assert inner is None or inner[8:24] in (HOME.packed, CARE_OF.packed)
    assert bench.correspondent.snapshot(0.0) == before


@settings(max_examples=300)
@given(st.integers(0, 103), st.integers(1, 255))
def test_every_changed_octet_of_an_update_is_noticed(at: int, change: int) -> None:
    bench = _noise
    before = bench.correspondent.snapshot(0.0)
    packet = bench.update(care_of=ELSEWHERE, tests=_tests)
    at %= len(packet)
    damaged = packet[:at] + bytes((packet[at] ^ change,)) + packet[at + 1 :]
    # Class, label, hop limit; the host knows its own address; what pads the option.
    harmless = at in (0, 1, 2, 3, 7) or 24 <= at < 40 or 42 <= at < 46
    try:
        bench.correspondent.receive(damaged, 0.0)
    except Discard:
        pass
    if not harmless:
        assert bench.correspondent.snapshot(0.0) == before


_noise = Bench()
_noise.receive(_noise.update())
_tests = _noise.tokens(care_of=ELSEWHERE)
