"""Two home agents with one address, on one Redis: one dies in mid call, the other goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobility.net import namespace

from .home_agents import FIRST, SECOND, EspWatch, HomeAgents, eventually, home_agents
from .store.support import RedisServer

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.alone]

TO_TERMINAL = 0x2002
"SPI of the tunnel from the home agent."
FLOATING = "203.0.113.77"
"Where terminals on IPv4 send to; the kernel of the home agent that serves has it."


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def both(redis: RedisServer) -> Iterator[tuple[HomeAgents, EspWatch]]:
    keys = f'udp = ["{FLOATING}"]\nudp_interface = "eth0"'
    with home_agents(f'\n[store]\nkind = "redis"\nurl = "{redis.url}"\n', keys, second=True) as (agents, watch):
        agents.start(FIRST, SECOND)
        agents.begin()
        time.sleep(1.5)  # until the standby has followed
        yield agents, watch


def other(name: str) -> str:
    return SECOND if name == FIRST else FIRST


def one_that_serves(agents: HomeAgents) -> str:
    eventually(lambda: len(agents.serving()) == 1)
    return agents.serving()[0]


def test_a_killed_home_agent_is_replaced_within_a_second(both: tuple[HomeAgents, EspWatch]) -> None:
    agents, watch = both
    updates = agents.updates_sent()
    pauses = []
    for _ in range(3):
        active = one_that_serves(agents)
        call = agents.call(2.5, disturb=lambda active=active: agents.kill(active))  # type: ignore[misc]
        pauses.append(call.longest_pause)
        assert call.longest_pause < 1.0
        assert one_that_serves(agents) == other(active)
        for heard in call.heard.values():
            assert len(heard) == len(set(heard)) > call.sent - 100
        agents.start(active)
        time.sleep(1.2)
    assert statistics.median(pauses) < 0.5
    assert agents.updates_sent() == updates, "no terminal may have to register again"
    numbers = watch.sent(TO_TERMINAL)
    assert len(numbers) == len(set(numbers)) > 500


def test_a_home_agent_that_hangs_is_replaced_and_does_not_come_back_by_itself(
    both: tuple[HomeAgents, EspWatch],
) -> None:
    agents, watch = both
    active = one_that_serves(agents)
    pid = agents.data_plane(active)
    call = agents.call(2.0, disturb=lambda: os.kill(pid, signal.SIGSTOP))
    try:
        assert call.longest_pause < 1.0
        assert agents.shared(other(active))["standing"] == "serving"
    finally:
        os.kill(pid, signal.SIGCONT)
    after = agents.call(1.0, disturb=lambda: None)
    assert after.longest_pause < 0.2
    assert agents.shared(active)["standing"] == "standby"
    assert "was stopped for a while" in agents.log(active)
    numbers = watch.sent(TO_TERMINAL)
    assert len(numbers) == len(set(numbers))


def test_the_ipv4_address_goes_with_the_service(both: tuple[HomeAgents, EspWatch]) -> None:
    agents, _ = both
    router = agents.nodes.network.plan.namespace("home-router")

    def reachable() -> bool:
        with namespace.inside(router):
            icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        with icmp:
            icmp.settimeout(0.5)
            icmp.sendto(bytes.fromhex("0800f7ff00000000"), (FLOATING, 0))  # an echo request
            with contextlib.suppress(TimeoutError):
                return icmp.recv(100)[20] == 0
        return False

    def has_it(name: str) -> bool:
        shown = ["ip", "-n", agents.namespaces[name], "-4", "-o", "address", "show", "dev", "eth0"]
        return FLOATING in subprocess.run(shown, capture_output=True, text=True, check=True).stdout

    for _ in range(2):
        active = one_that_serves(agents)
        eventually(reachable)
        assert has_it(active)
        assert not has_it(other(active))
        agents.kill(active)
        eventually(lambda active=active: has_it(other(active)), 1.0)  # type: ignore[misc]
        assert reachable()
        eventually(lambda active=active: not has_it(active), 4.0)  # type: ignore[misc] # the loan is over
        assert reachable()
        agents.start(active)


def test_a_home_agent_that_is_stopped_hands_over_at_once(both: tuple[HomeAgents, EspWatch]) -> None:
    agents, _ = both
    active = one_that_serves(agents)
    call = agents.call(1.5, disturb=lambda: agents.terminate(active))
    assert call.longest_pause < 0.3
    assert one_that_serves(agents) == other(active)
    agents.start(active)


def test_a_killed_data_plane_takes_its_own_lease_again(both: tuple[HomeAgents, EspWatch]) -> None:
    """The supervisor has it back before the other one may serve."""
    agents, watch = both
    active = one_that_serves(agents)
    pid = agents.data_plane(active)
    call = agents.call(2.0, disturb=lambda: os.kill(pid, signal.SIGKILL))
    assert call.longest_pause < 1.0
    assert len(agents.serving()) == 1
    numbers = watch.sent(TO_TERMINAL)
    assert len(numbers) == len(set(numbers))


def test_without_a_store_nobody_serves_and_then_it_goes_on(
    both: tuple[HomeAgents, EspWatch], redis: RedisServer
) -> None:
    """All that was in the store is lost with it: what the home agents know is put there again."""
    agents, watch = both
    one_that_serves(agents)
    time.sleep(1.2)
    updates = agents.updates_sent()
    redis.stop()
    eventually(lambda: not agents.serving(), 2.0)
    call = agents.call(0.5)
    assert not call.heard["up"]
    redis.start()
    eventually(lambda: len(agents.serving()) == 1)
    call = agents.call(1.0, disturb=lambda: None)
    assert call.longest_pause < 0.3
    assert agents.updates_sent() == updates
    numbers = watch.sent(TO_TERMINAL)
    assert len(numbers) == len(set(numbers))
    for name in (FIRST, SECOND):
        assert "Traceback" not in agents.log(name)
        assert not agents.ask(name, "counters")["internal_errors"]


def test_rubbish_in_the_store_is_replaced(both: tuple[HomeAgents, EspWatch], redis: RedisServer) -> None:
    agents, watch = both
    one_that_serves(agents)
    keys = redis.ask("KEYS", "roamphone:*")
    assert isinstance(keys, list)
    assert len(keys) == 5
    for key in keys:
        redis.ask("DEL", key)
        redis.ask("LPUSH", key, "rubbish")
    call = agents.call(1.5, disturb=lambda: None)
    assert call.longest_pause < 1.0
    assert len(agents.serving()) == 1
    sequences = next(key for key in keys if key.endswith(b":sequences"))
    for name in redis.ask("HKEYS", sequences):  # type: ignore[attr-defined]
        redis.ask("HSET", sequences, name, "nan")
    bindings = next(key for key in keys if key.endswith(b":bindings"))
    redis.ask("HSET", bindings, "2001:db8:1::666", '{"home_address": "nobody"}')
    time.sleep(1.2)
    active = one_that_serves(agents)
    call = agents.call(2.0, disturb=lambda: agents.kill(active))
    assert call.longest_pause < 1.0
    numbers = watch.sent(TO_TERMINAL)
    assert len(numbers) == len(set(numbers))
    agents.start(active)


def test_one_that_is_told_to_serves_on_without_the_store(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--requirepass", "a word")
    url = f"unix://:a%20word@{server.socket}"
    extra = f'\n[store]\nkind = "redis"\nurl = "{url}"\nunreachable = "serve"\n'
    try:
        with home_agents(extra) as (agents, watch):
            agents.start(FIRST)
            agents.begin()
            updates = agents.updates_sent()
            call = agents.call(2.0, disturb=server.stop)
            assert call.longest_pause < 0.2
            assert agents.shared(FIRST)["standing"] == "alone"
            server.start()
            eventually(lambda: agents.shared(FIRST)["standing"] == "serving", 10.0)
            heard = len(call.heard["down"])
            call = agents.call(2.0, disturb=server.pause)
            heard += len(call.heard["down"])  # a busy machine sends less in two seconds
            assert call.longest_pause < 0.2
            assert agents.shared(FIRST)["standing"] == "alone"
            server.go_on()
            eventually(lambda: agents.shared(FIRST)["standing"] == "serving", 10.0)
            assert agents.updates_sent() == updates
            numbers = watch.sent(TO_TERMINAL)
            assert len(numbers) == len(set(numbers)) >= heard > 100
            assert "a word" not in agents.log(FIRST)
            assert "a%20word" not in agents.log(FIRST)
            assert "ServingAlone" in agents.log(FIRST)
    finally:
        server.stop()


def test_a_wrong_password_is_told_and_nothing_is_served(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--requirepass", "right")
    try:
        with home_agents(f'\n[store]\nkind = "redis"\nurl = "unix://:wrong@{server.socket}"\n') as (agents, _):
            agents.start(FIRST)
            eventually(lambda: "WRONGPASS" in agents.log(FIRST))
            assert agents.serving() == []
            assert "WRONGPASS" in str(agents.shared(FIRST)["store"])
    finally:
        server.stop()


def test_keys_that_were_negotiated_with_the_one_that_died_are_negotiated_with_the_other(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        redis = RedisServer(tmp_path)
        stack.callback(redis.stop)
        store = f'\n[store]\nkind = "redis"\nurl = "{redis.url}"\n'
        agents, _ = stack.enter_context(home_agents(store, second=True, negotiate=True))
        agents.start(FIRST, SECOND)
        agents.begin()
        time.sleep(1.5)  # until the standby has followed
        active = one_that_serves(agents)
        (before,) = agents.ask("mn", "node")["ike"]
        call = agents.call(4.0, disturb=lambda: agents.kill(active))
        assert one_that_serves(agents) == other(active)
        assert call.longest_pause < 2.0, call.pauses
        (after,) = agents.ask("mn", "node")["ike"]
        assert after["ike"] != before["ike"]
