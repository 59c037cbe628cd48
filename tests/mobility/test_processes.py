"""Home agent, mobile node and correspondent as they are started by users, on the test network."""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobility.client import CommandRefused, ControlClient

from .running import Nodes, mobility, running
from .test_trace import tshark

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.alone]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with running(f"rnet-{os.getpid()}") as made:
        yield made


def test_a_killed_data_plane_is_registered_again_within_two_seconds(nodes: Nodes) -> None:
    for role in ("mn", "mn", "ha", "cn"):
        pid = nodes.pid(role)
        os.kill(pid, signal.SIGKILL)
        assert nodes.round_trip(2.0) < 2.0
        assert nodes.pid(role) != pid
        assert nodes.registered()


def test_commands(nodes: Nodes) -> None:
    async def talk() -> None:
        async with ControlClient(nodes.nodes.runtime("mn") / "control.sock") as control:
            stream = control.events()
            event = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            await control.command("reregister")
            assert (await asyncio.wait_for(event, 5))["event"]
            with pytest.raises(CommandRefused, match=r"reregister, .*move LINK, .*return-home"):
                await control.command("dance")
        async with ControlClient(nodes.nodes.runtime("cn") / "control.sock") as control:
            with pytest.raises(CommandRefused, match="no command 'reregister'; there is: rekey"):
                await control.command("reregister")

    asyncio.run(talk())


def test_the_host_os_gets_the_mtu_that_fits(nodes: Nodes) -> None:
    mtu = nodes.host_os.information()["mtu"]
    assert isinstance(mtu, int)
    assert 1280 < mtu < 1500
    with nodes.host_os.socket(bind=(nodes.host_os.address(), 0)) as ours:
        mark = os.urandom(mtu - 48)
        ours.sendto(mark, nodes.cn.getsockname()[:2])
        arrived = b""
        while arrived != mark:  # what is left of earlier tests comes first
            assert select.select([nodes.cn], [], [], 5)[0]
            arrived = nodes.cn.recv(2000)


def test_the_command_line_talks_to_a_running_node(nodes: Nodes) -> None:
    runtime, configuration = str(nodes.nodes.runtime("mn")), str(nodes.nodes.configurations["mn"])
    shown = mobility("status", "--runtime", runtime)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "bindings   in use: eth0 " in shown.stdout
    assert "binding_update_list" in mobility("status", "--all", "--runtime", runtime).stdout
    agent = ["--runtime", str(nodes.nodes.runtime("ha"))]
    assert " serves: 1 terminal, 1 away\n" in mobility("status", *agent).stdout
    assert mobility("reload", *agent).stdout == "The configuration was read anew.\n"
    assert mobility("reload", "--runtime", runtime).returncode == 1
    assert "correspondent" in mobility("status", "--runtime", str(nodes.nodes.runtime("cn"))).stdout
    status = json.loads(mobility("status", "--json", "--config", configuration).stdout)
    assert status["process"]["role"] == "mn"
    assert mobility("command", "reregister", "--runtime", runtime).returncode == 0
    refused = mobility("command", "move", "eth9", "--runtime", runtime)
    assert refused.returncode == 1
    assert refused.stderr.startswith("mobility: ")
    assert "Traceback" not in refused.stderr


def test_no_secret_is_shown(nodes: Nodes) -> None:
    for role in ("mn", "ha", "cn"):
        text = nodes.nodes.configurations[role].read_text()
        keys = set(re.findall(r'"([0-9a-f]{32,})"', text))
        assert keys
        shown = json.dumps(nodes.status(role)) + nodes.nodes.log(role).read_text()
        assert not [key for key in keys if key in shown]


def test_a_capture_of_the_node_is_decrypted_by_tshark(nodes: Nodes, tmp_path: Path) -> None:
    capture = tmp_path / "capture.pcapng"

    async def trace(path: str | None) -> dict[str, object]:
        async with ControlClient(nodes.nodes.runtime("mn") / "control.sock") as control:
            return await control.trace(capture=path)

    with pytest.raises(CommandRefused, match="absolute path"):
        asyncio.run(trace("capture"))
    assert asyncio.run(trace(str(capture)))["capture"] is True
    nodes.round_trip(2)
    assert asyncio.run(trace(None))["capture"] is False
    profile = tmp_path / "config" / "wireshark"
    profile.mkdir(parents=True)
    table = mobility("esp-sa", "--config", str(nodes.nodes.configurations["mn"]), "--output", str(profile / "esp_sa"))
    assert table.returncode == 0
    options = ("-o", "esp.enable_encryption_decode:TRUE", "-Y", "udp.port == 4000", "-e", "frame.interface_name")
    rows = tshark(capture, *options, "-e", "esp.spi", "-e", "frame.packet_flags_direction", home=tmp_path)
    assert ["eth0", "0x00002001,0x00003001", "0x00000002"] in rows
    assert ["eth0", "0x00002002,0x00003002", "0x00000001"] in rows
    assert ["host", "", "0x00000002"] in rows
    assert ["host", "", "0x00000001"] in rows
