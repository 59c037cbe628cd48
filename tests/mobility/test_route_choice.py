"""With whom packets go directly, and since when; correspondents that cannot or will not."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from mobility.discards import Reason
from mobility.mipv6 import direct
from mobility.mipv6.correspondent_node import DirectBinding, DirectBindingEnded
from mobility.mipv6.route_events import RouteEnded, RouteOptimized, RouteRefused
from mobility.mipv6.route_rules import RoutePolicy, RouteRules
from mobility.outputs import Discarded
from mobility.wire import icmp6, ip6, mh
from tests.mobility.optimized import Optimized, events, intact, signalling
from tests.mobility.whole import CN, CORRESPONDENT, HA, MN, udp

SENDER = bytes.fromhex("020000001201")


# ---------------------------------------------------------------- with whom, and when


def test_nobody_is_told_unless_the_rules_say_so() -> None:
    for rules in (RouteRules(), RouteRules(RoutePolicy.ALWAYS, ((CORRESPONDENT, RoutePolicy.NEVER),))):
        network = Optimized(rules=rules)
        network.start_agent()
        network.plug(network.a)
        network.run(2)
        network.talk(1)
        network.run(2)
        assert intact(network)
        assert not network.is_direct()
        assert signalling(network) == []
        # Nor is anything believed that comes from there directly.
        care_of = network.care_of
        assert care_of is not None
        stray = direct.to_terminal(network.cn_application.protect(udp(CN, MN, b"x")), care_of.packed)
        outputs = network.terminal.from_link("wlan0", stray, b"\2\0\0\0\x12\1", network.world.now)
        assert [output.reason for output in outputs if isinstance(output, Discarded)] == [Reason.NOT_TUNNELLED]


def test_commands_begin_and_end_it() -> None:
    network = Optimized(rules=RouteRules(RoutePolicy.ASKED))
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(6)
    network.run(1)
    assert not network.is_direct()
    station, terminal = network.world.stations["mn"], network.terminal
    station.carry_out(terminal.command(f"optimize {CN}", network.world.now))
    network.run(1)
    assert network.is_direct()
    said = signalling(network)
    assert sorted(said[:4]) == [
        mh.Type.HOME_TEST_INIT, mh.Type.CARE_OF_TEST_INIT, mh.Type.HOME_TEST, mh.Type.CARE_OF_TEST,
    ]  # fmt: skip
    assert said[4:6] == [mh.Type.BINDING_UPDATE, mh.Type.BINDING_ACKNOWLEDGEMENT]
    assert set(said[6:]) == {mh.Type.CARE_OF_TEST_INIT, mh.Type.CARE_OF_TEST}  # whether it still works
    station.carry_out(terminal.command(f"tunnel {CN}", network.world.now))
    network.run(1)
    assert not network.is_direct()
    correspondent = network.correspondent.optimization
    assert correspondent is not None
    assert len(correspondent) == 0
    network.run(4)
    assert intact(network)
    assert not network.is_direct()
    with pytest.raises(ValueError, match="no correspondent"):
        terminal.command(f"optimize {HA}", network.world.now)
    with pytest.raises(ValueError, match="nonsense"):
        terminal.command("optimize nonsense", network.world.now)
    never = Optimized(rules=RouteRules(RoutePolicy.NEVER))
    with pytest.raises(ValueError, match="never"):
        never.terminal.command(f"optimize {CN}", 0.0)


def test_single_questions_are_not_worth_it() -> None:
    network = Optimized()
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(25, interval=5.0)
    network.run(26)
    assert intact(network)
    assert signalling(network) == []


def test_scenario_decides_live() -> None:
    network = Optimized()
    network.terminal.scenarios.enable(10021, False)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(8)
    network.run(1)
    assert signalling(network) == []
    network.terminal.scenarios.enable(10021, True)
    network.run(1)
    assert network.is_direct()
    network.terminal.scenarios.enable(10021, False)
    network.run(1)
    assert not network.is_direct()
    assert events(network, RouteEnded) == ["the scenario is disabled"]
    network.run(6)
    assert intact(network)


def test_row_disabled_between_update_and_acknowledgement() -> None:
    network = Optimized()
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(2)
    while not network.world.stations["cn"].events_of(DirectBinding):
        network.run(0.001)
    network.terminal.scenarios.enable(10021, False)
    network.run(3)
    assert not network.is_direct()
    assert network.discards("mn")["scenario-disabled"] == 1
    correspondent = network.correspondent.optimization
    assert correspondent is not None
    assert len(correspondent) == 0
    assert network.to_cn.lost() == []


def test_binding_in_use_is_renewed_and_an_idle_one_lapses() -> None:
    network = Optimized()
    network.start()
    network.talk(900, interval=0.5)
    network.run(900)
    assert network.is_direct()
    assert intact(network)
    assert events(network, RouteEnded) == []
    bindings = [event for _, event in network.world.stations["cn"].events_of(DirectBinding)]
    assert [event.renewed for event in bindings] == [False, True, True]
    network.run(900)
    assert not network.is_direct()
    assert events(network, RouteEnded) == ["lifetime over"]
    assert [event.why for _, event in network.world.stations["cn"].events_of(DirectBindingEnded)] == ["lifetime over"]
    network.talk(2)
    network.run(3)
    assert network.is_direct()


def test_binding_never_outlives_the_home_agents() -> None:
    network = Optimized(lifetime=60)
    network.start()
    ((_, bound),) = network.world.stations["mn"].events_of(RouteOptimized)
    assert 40 <= bound.lifetime <= 60
    network.talk(200, interval=0.5)
    network.run(201)
    assert network.is_direct()
    assert intact(network)


def test_correspondent_asks_for_a_refresh_of_what_is_in_use() -> None:
    network = Optimized()
    network.start()
    peer = network.optimization._peers[CN.packed]
    peer.registration._refresh_at = peer.registration.timer = 10_000.0  # the terminal forgets to renew it
    network.talk(410, interval=0.5)
    network.run(411)
    assert mh.Type.BINDING_REFRESH_REQUEST in signalling(network)
    assert [event.renewed for _, event in network.world.stations["cn"].events_of(DirectBinding)] == [False, True]
    assert network.is_direct()
    assert intact(network)


# ---------------------------------------------------------------- correspondents that cannot or will not


def test_silent_correspondent_is_spoken_to_through_the_tunnel() -> None:
    network = Optimized()
    network.correspondent.optimization = None
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(60)
    network.run(61)
    assert intact(network)
    assert set(events(network, RouteRefused)) == {"no answer"}
    # 3 transmissions, then 10 s, 20 s, 40 s of peace.
    holds = [event.retry_in for _, event in network.world.stations["mn"].events_of(RouteRefused)]
    assert holds == [10.0, 20.0, 40.0]
    assert network.discards("cn").get("app-ipsec", 0) == 0


def test_refusal_is_told_with_its_reason_and_not_asked_again_soon() -> None:
    network = Optimized()
    correspondent = network.correspondent.optimization
    assert correspondent is not None
    correspondent.limit = 0
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.talk(30)
    network.run(31)
    assert intact(network)
    ((_, refused),) = network.world.stations["mn"].events_of(RouteRefused)
    assert (refused.why, refused.retry_in) == ("refused: insufficient-resources", 600.0)
    assert network.discards("mn")["binding-refused"] == 1
    assert signalling(network).count(mh.Type.BINDING_UPDATE) == 1


def test_correspondent_that_forgot_the_option_is_spoken_to_through_the_tunnel_until_it_answers() -> None:
    network = Optimized()
    network.start()
    network.talk(6)
    network.run(3)
    care_of = network.care_of
    assert care_of is not None
    sent = [f.packet for f in network.a.frames if f.packet[24:40] == CN.packed and f.packet[6] == ip6.DEST_OPTIONS]
    assert ip6.walk(sent[-1]).home_address == MN.packed
    problem = icmp6.packet(CN, care_of, icmp6.ParameterProblem(icmp6.UNKNOWN_OPTION, 42, sent[-1]))
    outputs = network.terminal.from_link("wlan0", problem, SENDER, network.world.now)
    network.world.stations["mn"].carry_out(outputs)
    assert [output.why for output in outputs if isinstance(output, RouteEnded)] == ["binding error"]
    again = network.terminal.from_link("wlan0", problem, SENDER, network.world.now)
    assert Reason.ICMP_IGNORED in [output.reason for output in again if isinstance(output, Discarded)]
    network.run(4)
    assert intact(network)
    assert network.is_direct()


def test_host_without_mobile_ipv6_answers_with_a_parameter_problem() -> None:
    network = Optimized()
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    for number in range(4):
        network.world.stations["mn"].send(udp(MN, CN, number.to_bytes(4)))
    care_of = network.care_of
    assert care_of is not None
    (asked,) = [
        frame.packet for frame in network.a.frames if frame.packet[24:40] == CN.packed and frame.packet[6] == 135
    ]
    problem = icmp6.ParameterProblem(icmp6.UNKNOWN_NEXT_HEADER, 6, asked)
    outputs = network.terminal.from_link("wlan0", icmp6.packet(CN, care_of, problem), SENDER, network.world.now)
    assert [output.why for output in outputs if isinstance(output, RouteRefused)] == ["knows nothing of Mobile IPv6"]
    # Somebody who has not seen the cookie is not believed.
    forged = asked[:48] + bytes(8) + asked[56:]
    problem = icmp6.ParameterProblem(icmp6.UNKNOWN_NEXT_HEADER, 6, forged)
    outputs = network.terminal.from_link("wlan0", icmp6.packet(CN, care_of, problem), SENDER, network.world.now)
    assert [output.reason for output in outputs if isinstance(output, Discarded)] == [Reason.ICMP_IGNORED]


def test_correspondent_of_an_older_kind_answers_with_a_binding_error() -> None:
    network = Optimized()
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    network.correspondent.optimization = None
    network.talk(1)
    network.run(0.2)
    care_of = network.care_of
    assert care_of is not None
    error = mh.BindingError(mh.ErrorStatus.UNRECOGNIZED_TYPE, IPv6Address(0))
    packet = ip6.packet(CN, care_of, ip6.MOBILITY, mh.payload(error, CN, care_of))
    outputs = network.terminal.from_link("wlan0", packet, SENDER, network.world.now)
    assert [output.why for output in outputs if isinstance(output, RouteRefused)] == [
        "knows nothing of route optimization"
    ]
    network.run(3)
    assert intact(network)
