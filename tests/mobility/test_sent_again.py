"""Handovers that break before they make lose nothing: both ends send again what the old place lost."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from mobility.ipsec.sa import Mode
from mobility.mipv6.again import LIMIT, LOSS, VENDOR, Loss, SentLately
from mobility.mipv6.home_agent import BindingCreated
from mobility.mipv6.movement import HandoverFinished
from mobility.mipv6.signalling import from_terminal
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.memory import Port, Segment
from mobility.outputs import Output
from mobility.wire import ip6, mh
from tests.mobility.whole import HA, MN, Network, association

PROTECTED = [TunnelForm.ESP, TunnelForm.ESP_MOBILE]


def settled(form: TunnelForm, delay: float) -> Network:
    """A network whose visited links have this delay (seconds), with a terminal that is bound."""
    network = Network(form)
    network.a.delay = network.b.delay = delay
    network.start_agent()
    network.plug(network.a)
    network.run(3)
    return network


def drop_first(segment: Segment, *, to_agent: bool) -> list[bytes]:
    """The first binding update, or the first acknowledgement, does not pass this link; the list shows it."""
    carry, dropped = segment.transmit, list[bytes]()

    def lossy(sender: Port, packet: bytes, to: bytes) -> None:
        mark = ip6.DEST_OPTIONS if to_agent else ip6.ROUTING
        if packet[6] == mark and not dropped and (packet[24:40] == HA.packed) is to_agent:
            dropped.append(packet)
        else:
            carry(sender, packet, to)

    segment.transmit = lossy  # type: ignore[method-assign]
    return dropped


def assert_whole(network: Network) -> None:
    for traffic in (network.to_cn, network.to_mn):
        assert traffic.lost() == []
        assert traffic.repeated == 0


@pytest.mark.parametrize("interval", [0.02, 0.002])
@pytest.mark.parametrize("delay", [0.005, 0.025, 0.075])
@pytest.mark.parametrize("form", PROTECTED)
def test_break_before_make_loses_and_repeats_nothing(form: TunnelForm, delay: float, interval: float) -> None:
    network = settled(form, delay)
    network.talk(4, interval)
    network.run(1)
    network.move(network.b)
    network.run(1.5)
    network.move(network.a)
    network.run(4)
    assert_whole(network)
    finished = network.world.stations["mn"].events_of(HandoverFinished)
    created = network.world.stations["ha"].events_of(BindingCreated)
    assert [event.received_again for _, event in finished] == [event.sent_again for _, event in created[1:]]
    assert all(event.received_again > 0 for _, event in finished)
    assert network.terminal.sent_lately.gone == 0


@pytest.mark.parametrize("to_agent", [True, False])
@pytest.mark.parametrize("form", PROTECTED)
def test_lost_signalling_neither_loses_nor_repeats(form: TunnelForm, to_agent: bool) -> None:
    network = settled(form, 0.005)
    network.talk(4)
    network.run(1)
    dropped = drop_first(network.b, to_agent=to_agent)
    network.move(network.b)
    network.run(5)
    assert len(dropped) == 1
    assert_whole(network)


def test_without_numbers_nothing_is_sent_again() -> None:
    network = settled(TunnelForm.PLAIN, 0.025)
    network.talk(3)
    network.run(1)
    network.move(network.b)
    network.run(4)
    assert 0 < len(network.to_mn.lost()) < 20
    assert network.to_mn.repeated == network.to_cn.repeated == 0
    ((_, finished),) = network.world.stations["mn"].events_of(HandoverFinished)
    assert (finished.sent_again, finished.received_again) == (0, 0)


def test_after_a_long_outage_only_the_last_second_is_sent_again_and_the_rest_counted() -> None:
    network = settled(TunnelForm.ESP, 0.005)
    network.talk(6)
    network.run(1)
    network.move(network.b, gap=3)
    network.run(8)
    lost = network.to_mn.lost()
    assert 90 < len(lost) < 120
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert network.to_mn.repeated == 0
    terminals = network.agent.snapshot(network.world.now)["terminals"]
    assert isinstance(terminals, list)
    assert terminals[0]["sent_lately"]["not_sent_again"] == len(lost)


def test_the_ring_is_bounded_and_forgets_what_it_gave() -> None:
    out, _ = association(0x900, Mode.TUNNEL)
    lately = SentLately(out)
    for number in range(LIMIT + 100):
        out.seal(ip6.IPV6, bytes(60))
        lately.sealed(number.to_bytes(2), 1.0)
    assert len(lately) == LIMIT
    assert lately.after(50, 2.0) == [number.to_bytes(2) for number in range(100, LIMIT + 100)]
    assert lately.gone == 50
    assert lately.after(50, 2.0) == []
    assert len(lately) == 0


class Home:
    """A terminal that is bound at A and the packets that its home agent sealed for it."""

    def __init__(self, *, signalling: bool = True) -> None:
        self.network = Network(TunnelForm.ESP, signalling=signalling)
        self.network.start_agent()
        self.network.plug(self.network.a)
        self.network.run(2)
        self.network.talk(0.5)
        self.network.run(0.5)

    def update(self, *options: mh.Option, number: int = 1, care_of: str = "2001:db8:b::99") -> list[Output]:
        """What the home agent answers to a binding update of the terminal with these options."""
        update = mh.BindingUpdate(
            self.network.terminal.mobile_node.registration.sequence + number,
            mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.HOME_REGISTRATION,
            400,
            (mh.AlternateCareOfAddress(IPv6Address(care_of)), *options),
        )
        protection = self.network.terminal.forwarding.security
        packet = from_terminal(update, MN, IPv6Address(care_of), HA, protection)
        return self.network.agent.engine.signalling(packet, self.network.world.now)


def again(outputs: list[Output]) -> int:
    (created,) = (output for output in outputs if isinstance(output, BindingCreated))
    return created.sent_again


def test_option_of_a_loss_makes_the_home_agent_send_again_once() -> None:
    loss = Loss(0, 77, IPv6Address("::")).option()
    home = Home()
    assert again(home.update(loss)) == 25
    assert again(home.update(loss, number=2, care_of="2001:db8:b::98")) == 0


@pytest.mark.parametrize(
    "option",
    [
        mh.VendorSpecific(VENDOR, LOSS, b"\0\0\0\0\1"),
        mh.VendorSpecific(VENDOR, LOSS, bytes(7)),
        mh.VendorSpecific(VENDOR, 99, bytes(6)),
        mh.VendorSpecific(9, LOSS, bytes(6)),
        mh.UnknownMobilityOption(200, bytes(6)),
        Loss(0xFFFFFFFF, 1, IPv6Address("::")).option(),
    ],
)
def test_other_options_are_skipped(option: mh.Option) -> None:
    assert again(Home().update(option)) == 0


def test_option_without_ipsec_around_it_is_not_believed() -> None:
    assert again(Home(signalling=False).update(Loss(0, 77, IPv6Address("::")).option())) == 0


@pytest.mark.parametrize("interval", [0.02, 0.002])
@pytest.mark.parametrize("form", PROTECTED)
def test_what_was_sent_between_the_cut_and_its_being_noticed_is_sent_again(form: TunnelForm, interval: float) -> None:
    network = settled(form, 0.005)
    network.talk(4, interval)
    network.run(1)
    swallowed: list[bytes] = []

    def cut(sender: Port, packet: bytes, to: bytes) -> None:
        swallowed.append(packet)

    network.a.transmit = cut  # type: ignore[method-assign]
    network.run(0.1)
    network.move(network.b)
    network.run(5)
    upward = [packet for packet in swallowed if packet[6] == ip6.ESP and packet[24:40] == HA.packed]
    assert len(upward) >= 0.1 / interval - 1
    assert_whole(network)
    ((_, finished),) = network.world.stations["mn"].events_of(HandoverFinished)
    assert finished.sent_again == network.terminal.sent_lately.sent_again == len(upward)
    assert list(network.to_cn.received) == sorted(network.to_cn.received)
