"""A home agent in service: restarts, its configuration read anew, metrics; with a call in mid air."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import stat
import time
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mobility.client import CommandRefused
from mobility.net import namespace

from .home_agents import FIRST, EspWatch, HomeAgents, eventually, home_agents

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.alone]

PORT = 9464
TO_TERMINAL = 0x2002


@pytest.fixture(scope="module")
def agents_and_watch() -> Iterator[tuple[HomeAgents, EspWatch]]:
    with home_agents(f'\n[metrics]\nlisten = "127.0.0.1:{PORT}"\n') as (agents, watch):
        agents.start(FIRST)
        agents.begin()
        yield agents, watch


@pytest.fixture
def agents(agents_and_watch: tuple[HomeAgents, EspWatch]) -> HomeAgents:
    return agents_and_watch[0]


def metrics(agents: HomeAgents) -> dict[tuple[str, ...], float]:
    """As Prometheus fetches and reads them: name and values of labels -> value."""
    with namespace.inside(agents.namespaces[FIRST]):
        answer = urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=5).read().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer)
        for sample in family.samples
    }


def test_bindings_outlive_restarts(agents_and_watch: tuple[HomeAgents, EspWatch]) -> None:
    agents, watch = agents_and_watch
    updates = agents.updates_sent()

    def kill() -> None:
        agents.kill(FIRST)
        agents.start(FIRST)

    def stop() -> None:
        assert agents.terminate(FIRST) == 0
        agents.start(FIRST)

    for restart in (kill, stop):
        began = time.monotonic()
        call = agents.call(15.0, disturb=restart, until=lambda call: len(call.heard["down"]) > 100)
        assert call.longest_pause < time.monotonic() - began - 0.5
        assert len(call.heard["down"]) > 100, "half of them before the restart"
        assert "1 bindings of before go on" in agents.log(FIRST)
    assert agents.updates_sent() == updates, "no terminal may have to register again"
    numbers = watch.sent(TO_TERMINAL)
    assert len(numbers) == len(set(numbers)) > 100


def test_a_killed_data_plane_goes_on_in_mid_call(agents: HomeAgents) -> None:
    updates = agents.updates_sent()
    pid = agents.data_plane(FIRST)
    call = agents.call(2.0, disturb=lambda: os.kill(pid, signal.SIGKILL))
    assert call.longest_pause < 1.0
    assert agents.updates_sent() == updates


def test_a_damaged_file_of_bindings_only_costs_a_registration(agents: HomeAgents) -> None:
    path = agents.directories[FIRST] / "state" / "bindings.sqlite"
    agents.kill(FIRST)
    for file in path.parent.glob("bindings.sqlite*"):
        file.write_bytes(os.urandom(20_000))
    agents.start(FIRST)
    agents.call(5.0, until=lambda call: bool(call.heard["up"] and call.heard["down"]))
    assert "unusable-1" in agents.log(FIRST)
    assert "Traceback" not in agents.log(FIRST)


def test_the_file_holds_no_keys_and_is_private(agents: HomeAgents) -> None:
    path = agents.directories[FIRST] / "state" / "bindings.sqlite"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = database.execute("SELECT record FROM binding").fetchall()
    database.close()
    assert len(rows) == 1
    assert json.loads(rows[0][0])["bindings"]
    keys = re.findall(r'"([0-9a-f]{32,})"', agents.configurations[FIRST].read_text())
    content = b"".join(file.read_bytes() for file in path.parent.glob("bindings.sqlite*"))
    assert not [key for key in keys if key.encode() in content]


def test_metrics_tell_what_happens(agents: HomeAgents) -> None:
    before = metrics(agents)
    call = agents.call(1.0)
    after = metrics(agents)
    for direction in ("in", "out"):
        name = ("roamphone_ha_tunnel_packets_total", direction)
        assert after[name] - before[name] >= len(call.heard["up"]) - 5
    assert after["roamphone_ha_bound_terminals",] == 1
    assert after["roamphone_ha_terminals", "true"] == 1
    assert after["process_cpu_seconds_total",] > before["process_cpu_seconds_total",] > 0
    assert 1e7 < after["process_resident_memory_bytes",] < 1e9
    assert abs(after["process_start_time_seconds",] - time.time()) < 3600
    moved = after["roamphone_ha_handovers_total",]
    agents.nodes.network.move("visited-b")
    eventually(lambda: metrics(agents)["roamphone_ha_handovers_total",] == moved + 1)
    agents.nodes.network.move("visited-a")
    eventually(lambda: metrics(agents)["roamphone_ha_handovers_total",] == moved + 2)
    assert agents.control("metrics")


def test_a_reload_keeps_bindings_and_takes_new_terminals(agents: HomeAgents) -> None:
    updates = agents.updates_sent()
    path = agents.configurations[FIRST]
    before = path.read_text()
    association = '{ spi = %d, algorithm = "aes-cbc-hmac-sha2-256-128", encryption = "%s", authentication = "%s" }'
    out, back = (association % (spi, f"{spi:032x}", f"{spi:064x}") for spi in (0x5001, 0x5002))
    home = "2001:db8:1::77"
    more = (
        f'\n[[home_agent.terminal]]\nhome_address = "{home}"\ntunnel = "plain"\n'
        f'[[association]]\nname = "new"\nuse = "signalling"\npeer = "{home}"\noutbound = {out}\ninbound = {back}\n'
    )
    try:
        path.write_text(before + more)
        call = agents.call(1.5, disturb=lambda: agents.signal(FIRST, signal.SIGHUP))
        assert call.longest_pause < 0.2
        eventually(lambda: metrics(agents)["roamphone_ha_terminals", "true"] == 2)
        pid = agents.data_plane(FIRST)
        os.kill(pid, signal.SIGKILL)  # the next data plane starts with what was read anew
        eventually(lambda: agents.try_data_plane(FIRST) not in (None, pid))
        assert metrics(agents)["roamphone_ha_terminals", "true"] == 2
        path.write_text(before)
        assert agents.control("reload") == {"added": [], "removed": [home], "changed": []}
        assert metrics(agents)["roamphone_ha_terminals", "true"] == 1
        assert metrics(agents)["roamphone_ha_bound_terminals",] == 1
    finally:
        path.write_text(before)
    assert agents.updates_sent() == updates


def test_a_reload_that_cannot_be_changes_nothing(agents: HomeAgents) -> None:
    path = agents.configurations[FIRST]
    before = path.read_text()
    address = re.search(r'^address = "(.*)"$', before, re.MULTILINE)
    assert address is not None
    try:
        for text, complaint in (
            ("nonsense", "is not TOML"),
            (before.replace("[home_agent]\n", "[home_agent]\nwings = 2\n"), "wings: is not known here"),
            (before.replace(address[1], "2001:db8:1::b/64", 1), "needs a restart.*home_agent.address"),
            (before.replace(f":{PORT}", ":9465"), "needs a restart.*metrics"),
        ):
            path.write_text(text)
            with pytest.raises(CommandRefused, match=complaint):
                agents.control("reload")
            agents.signal(FIRST, signal.SIGHUP)
            eventually(lambda complaint=complaint: re.search(complaint, agents.log(FIRST)) is not None)  # type: ignore[misc]
            call = agents.call(0.5)
            assert len(call.heard["up"]) > 30
    finally:
        path.write_text(before)
    assert agents.control("reload") == {"added": [], "removed": [], "changed": []}
