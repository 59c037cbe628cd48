"""The mobility process behind a phone: handovers and keys of calls, over a control socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from mobility.client import MobilityError
from softphone.calls.home_network import HomeNetwork
from softphone.errors import ConfigError
from softphone.events import EventHub, Handover, IpsecState
from softphone.media.dtls import Fingerprint
from softphone.media.ike_description import IkePeer
from softphone.network.sockets import DirectSockets
from softphone.phone import Softphone
from tests.softphone.mobility_process import FINGERPRINT, MobilityProcess
from tests.softphone.support import account, simulate

FINISHED = {
    "event": "HandoverFinished", "from_link": "wlan0", "from_address": "2001:db8:a::1", "to_link": "usb0",
    "to_address": "2001:db8:b::1", "since_noticed_ms": 61.5, "since_update_ms": 50.25, "sent_again": 2,
    "received_again": 3, "make_before_break": True,
}  # fmt: skip


def test_a_handover_becomes_an_event_also_after_the_mobility_process_was_restarted(tmp_path: Path) -> None:
    async def work() -> None:
        hub = EventHub()
        events = hub.listen()
        process = MobilityProcess(tmp_path)
        process.handovers = [{"event": "HandoverStarted"}, FINISHED]
        watching = asyncio.create_task(HomeNetwork(process.path, hub, keys=False).run())
        await asyncio.sleep(5)  # nobody is there yet
        async with process:
            for _ in range(2):
                assert await events.wait_for(Handover, 10) == Handover(
                    "wlan0", "usb0", "2001:db8:a::1", "2001:db8:b::1", 61.5, 50.25, 2, 3, True
                )
            watching.cancel()
            await asyncio.wait([watching])
        assert not process.asked

    simulate(work)


PEER = IkePeer(IPv6Address("2001:db8::2"), (Fingerprint("sha-256", b"\xb2" * 32),), active=True)
SECURED = {
    "op": "secure-call", "call": "one/tag", "peer": "2001:db8::2", "fingerprints": ["sha-256 " + ":".join(["B2"] * 32)],
    "active": True, "lease": 300.0,
}  # fmt: skip


def with_process(
    tmp_path: Path, test: Callable[[MobilityProcess, HomeNetwork], Coroutine[None, None, None]], **changes: object
) -> None:
    async def work() -> None:
        async with MobilityProcess(tmp_path) as process:
            for name, value in changes.items():
                setattr(process, name, value)
            home = HomeNetwork(process.path, EventHub())
            running = asyncio.create_task(home.run())
            try:
                await test(process, home)
            finally:
                await home.close()
                running.cancel()
                await asyncio.wait([running])

    simulate(work)


def test_one_connection_serves_all_calls_and_leases_are_taken_anew_in_time(tmp_path: Path) -> None:
    async def test(process: MobilityProcess, home: HomeNetwork) -> None:
        told: list[tuple[IpsecState, str, str]] = []
        end = await home.end()
        assert end is not None
        assert str(end.fingerprint) == FINGERPRINT
        await home.offer("other")
        await home.secure("one/tag", PEER, lambda *values: told.append(values))
        assert process.requests("secure-call") == [SECURED]
        assert process.requests("offer-call") == [{"op": "offer-call", "call": "other", "lease": 300.0}]
        process.tell("ApplicationProtected", peer="2001:db8::3", algorithm="other", calls="")
        process.tell("ApplicationProtected", peer="2001:db8::2", algorithm="aes-gcm-16", calls="one/tag")
        process.tell("ApplicationUnprotected", peer="2001:db8::2", reason="its lifetime is over")
        process.tell("ApplicationKeysFailed", peer="2001:db8::2", reason="it does not answer")
        await asyncio.sleep(250)
        assert told[:4] == [
            (IpsecState.NEGOTIATING, "", ""), (IpsecState.PROTECTED, "aes-gcm-16", ""),
            (IpsecState.NEGOTIATING, "", "its lifetime is over"), (IpsecState.NONE, "", "it does not answer"),
        ]  # fmt: skip
        assert process.requests("secure-call") == [SECURED] * 3
        assert len(process.requests("offer-call")) == 3
        assert process.connections == 1
        home.release("one/tag")
        home.release("other")
        await asyncio.sleep(0.4)
        assert not process.requests("release-call")  # the last packets are still on their way
        await asyncio.sleep(200)
        assert {str(request["call"]) for request in process.requests("release-call")} == {"one/tag", "other"}
        assert len(process.requests("secure-call")) == 3

    with_process(tmp_path, test)


def test_an_event_that_comes_with_the_answer_is_later_than_it(tmp_path: Path) -> None:
    async def test(process: MobilityProcess, home: HomeNetwork) -> None:
        told: list[IpsecState] = []
        await home.end()
        await home.secure("one/tag", PEER, lambda state, *_: told.append(state))
        await asyncio.sleep(1)
        assert told[-1] is IpsecState.PROTECTED

    with_process(tmp_path, test, protects_at_once=True)


def test_after_a_restart_the_process_is_told_what_it_has_to_protect(tmp_path: Path) -> None:
    async def test(process: MobilityProcess, home: HomeNetwork) -> None:
        told: list[IpsecState] = []
        await home.end()
        await home.secure("one/tag", PEER, lambda state, *_: told.append(state))
        process.hang_up()
        await asyncio.sleep(1)
        with pytest.raises(MobilityError, match="has gone"):
            await home.offer("two")
        assert await home.end() is None
        process.state = "protected"
        await asyncio.sleep(2)
        assert process.requests("secure-call") == [SECURED] * 2
        assert process.requests("offer-call")[0]["call"] == "two"
        assert told == [IpsecState.NEGOTIATING, IpsecState.PROTECTED]

    with_process(tmp_path, test)


def test_a_call_that_has_ended_while_the_phone_closes_is_released(tmp_path: Path) -> None:
    async def test(process: MobilityProcess, home: HomeNetwork) -> None:
        await home.end()
        await home.secure("one/tag", PEER, lambda *_: None)
        await home.offer("two")
        home.release("one/tag")
        await home.close()
        assert [request["call"] for request in process.requests("release-call")] == ["one/tag", "two"]

    with_process(tmp_path, test)


def test_keys_that_a_call_being_set_up_may_count_on_stay(tmp_path: Path) -> None:
    async def test(process: MobilityProcess, home: HomeNetwork) -> None:
        await home.end()
        await home.secure("one/tag", PEER, lambda *_: None)
        await home.offer("two")
        home.release("one/tag")
        await asyncio.sleep(5)
        assert not process.requests("release-call")
        home.release("two")
        await asyncio.sleep(2)
        assert {str(request["call"]) for request in process.requests("release-call")} == {"one/tag", "two"}

    with_process(tmp_path, test)


def test_a_call_that_begins_anew_at_once_is_not_released(tmp_path: Path) -> None:
    async def test(process: MobilityProcess, home: HomeNetwork) -> None:
        await home.end()
        await home.secure("one/tag", PEER, lambda *_: None)
        home.release("one/tag")
        await home.secure("one/tag", PEER, lambda *_: None)
        await asyncio.sleep(2)
        assert not process.requests("release-call")

    with_process(tmp_path, test)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"refused": {"application-keys": "this node negotiates no keys for calls"}}, "no keys for calls"),
        ({"keys": {"address": "::1", "fingerprint": "sha-1 AA:BB"}}, "no certificate"),
        ({"keys": {"address": "home", "fingerprint": FINGERPRINT}}, "no certificate"),
        ({"keys": {}}, "no certificate"),
    ],
)
def test_without_a_certificate_there_are_no_keys_and_it_is_said_why(
    tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    async def test(process: MobilityProcess, home: HomeNetwork) -> None:
        assert await home.end() is None
        assert why in home.why

    with_process(tmp_path, test, **changes)


def test_what_is_not_protected_is_refused_and_not_asked_for_again(tmp_path: Path) -> None:
    async def test(process: MobilityProcess, home: HomeNetwork) -> None:
        await home.end()
        with pytest.raises(MobilityError, match="bypassed"):
            await home.secure("one/tag", PEER, lambda *_: None)
        await asyncio.sleep(150)
        assert len(process.requests("secure-call")) == 1

    with_process(tmp_path, test, state="bypassed")


def test_names_that_strangers_make_are_of_a_bounded_length(tmp_path: Path) -> None:
    async def test(process: MobilityProcess, home: HomeNetwork) -> None:
        await home.end()
        await home.offer("x" * 300)
        assert len(str(process.requests("offer-call")[0]["call"])) == 64

    with_process(tmp_path, test)


def test_sockets_and_mobility_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="choose one"):
        Softphone(account(), DirectSockets(), mobility="/run/roamphone/mn")
