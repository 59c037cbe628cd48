"""The laptop of an ordinary user in mid call: between Wi-Fi and an IPv4 hotspot behind a NAT, and what networks do."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from pathlib import Path

import pytest

from mobility.client import ControlClient
from mobility.links import MOBILITY_PORT
from sip_test_env import namespace
from sip_test_env.capture import Capture, dissect
from sip_test_env.faults import Access
from sip_test_env.impairment import Impairment
from sip_test_env.plan import BROADBAND, HOME_AGENT_PORT, INTERFACE, WIFI
from tests.interop.conversation import Conversation, conversation

pytestmark = [pytest.mark.root, pytest.mark.interop]

CHANGES = 20


async def change(call: Conversation, number: int) -> None:
    """Out of the Wi-Fi into the hotspot, and back into the other Wi-Fi; every other time round the old network goes
    before the new one is there.
    """
    network = call.network
    if number % 2 == 0:
        old, new, link = WIFI, BROADBAND, "hotspot"
    else:
        old, new, link = BROADBAND, WIFI, "visited-b" if number % 4 == 1 else "visited-a"
    begin = time.monotonic()
    if number % 4 < 2:
        network.move(link, new)
        await asyncio.sleep(0.5)
        network.unplug(old)
    else:
        network.unplug(old)
        network.move(link, new)
    await call.moved_to(new, begin)
    await asyncio.sleep(0.3)
    await call.calm(0.3)


def test_a_call_survives_twenty_changes_between_wifi_and_an_ipv4_hotspot(tmp_path: Path) -> None:
    asyncio.run(_twenty_changes(tmp_path / "proxy.pcapng"))


async def _twenty_changes(path: Path) -> None:
    async with conversation("test-walk", {WIFI: "visited-a"}, seconds=60) as call:
        plan = call.network.plan
        assert call.sdp_connection == str(plan.home_address)
        with Capture(plan.namespace("proxy"), INTERFACE, path):
            for number in range(CHANGES):
                await change(call, number)
            changed = time.time()
            streams = await call.hang_up()
            await asyncio.sleep(1.0)  # dumpcap looks into the kernel's buffer now and then
        for direction, packets in streams.items():
            assert packets.lost() <= CHANGES, f"{direction}: {packets.lost()} of {len(packets.sent)} packets lost"
        said = dissect(path, None, ["frame.time_epoch", "sip.CSeq.method"], "sip")
        assert [method for at, method in said if float(at) < changed] == [], "SIP noticed something"
        assert {method for _, method in said} == {"BYE"}


def test_the_nat_forgets_its_mappings_in_mid_call() -> None:
    asyncio.run(_nat_forgets())


async def _nat_forgets() -> None:
    async with conversation("test-nat", {BROADBAND: "hotspot"}, seconds=15) as call:
        for _ in range(3):
            forgot = time.monotonic()
            call.network.nat_rebind()
            followed, _ = await call.agent.after(forgot, "BindingRebound")
            assert followed - forgot < 0.5
            await asyncio.sleep(0.1)
            await call.calm(0.4)
        streams = await call.hang_up()
        assert max(packets.lost() for packets in streams.values()) <= 15


def test_a_captive_network_takes_no_call_away() -> None:
    asyncio.run(_captive_is_found())


async def _captive_is_found() -> None:
    async with conversation("test-captive", {BROADBAND: "hotspot"}, seconds=15) as call:
        call.network.set_access("visited-a", Access.CAPTIVE)
        found = time.monotonic()
        call.network.move("visited-a", WIFI)
        await call.movements.after(found, "HandoverAbandoned")
        await call.calm(0.5)
        streams = await call.hang_up()
        assert [packets.lost() for packets in streams.values()] == [0, 0]


def test_a_network_that_begins_to_block_udp_is_left() -> None:
    asyncio.run(_udp_is_blocked())


async def _udp_is_blocked() -> None:
    async with conversation("test-blocked", {WIFI: "visited-a", BROADBAND: "hotspot"}, seconds=20) as call:
        blocked = time.monotonic()
        call.network.set_access("visited-a", Access.NO_UDP)
        await call.moved_to(BROADBAND, blocked)
        await asyncio.sleep(0.3)
        await call.calm(1.0)
        await call.hang_up()


def test_a_loose_contact_and_two_seconds_without_any_network() -> None:
    asyncio.run(_loose_contact())


async def _loose_contact() -> None:
    async with conversation("test-loose", {WIFI: "visited-a", BROADBAND: "hotspot"}, seconds=20) as call:
        began = time.monotonic()
        await asyncio.to_thread(call.network.flap, WIFI, times=4, out=0.1, back=0.2)
        await asyncio.sleep(0.3)
        await call.calm(0.5)
        moves = [event for at, event in call.movements.seen if at >= began and event["event"] == "HandoverFinished"]
        assert len(moves) <= 2, "the terminal goes to and fro"
        for interface in (WIFI, BROADBAND):
            call.network.unplug(interface)
        await asyncio.sleep(2.0)
        back = time.monotonic()
        call.network.move("hotspot", BROADBAND)
        assert await call.movements.bound_after(back) - back < 1.0
        await asyncio.sleep(0.3)
        await call.calm(0.5)
        await call.hang_up()


def test_the_home_agent_is_started_anew_in_mid_call() -> None:
    asyncio.run(_home_agent_restarts())


async def _home_agent_restarts() -> None:
    async with conversation("test-restart", {BROADBAND: "hotspot"}, seconds=20) as call:
        stopped = time.monotonic()
        await asyncio.to_thread(call.nodes.stop, "ha")
        await asyncio.to_thread(call.nodes.start, "ha")
        await asyncio.sleep(0.2)
        await call.calm(1.0)
        await call.hang_up()
        news = {event["event"] for at, event in call.movements.seen if at >= stopped}
        assert not news & {"HandoverStarted", "BindingRefused", "CareOfAddressChanged"}


def test_strangers_who_replay_and_forge_packets_redirect_nothing() -> None:
    asyncio.run(_strangers())


async def _strangers() -> None:
    async with conversation("test-strangers", {BROADBAND: "hotspot"}, seconds=20) as call:
        plan = call.network.plan
        before = await bindings(call)
        began = time.monotonic()
        genuine = await asyncio.to_thread(listen_in, call)
        forged = [bytes([*payload[:-1], payload[-1] ^ 1]) for payload in genuine]
        noise = [os.urandom(len(payload)) for payload in genuine]
        for payload in (*genuine, *forged, *noise):
            send_as(call, "proxy", str(plan.proxy4), payload)
            send_as(call, "core", str(plan.hotspot.backbone[2]), payload)  # the address of the NAT itself
        await call.calm(0.5)
        assert await bindings(call) == before
        assert not [event for at, event in call.agent.seen if at >= began and event["event"] == "BindingRebound"]
        streams = await call.hang_up()
        assert [packets.lost() for packets in streams.values()] == [0, 0]


def test_a_flood_of_forged_updates_leaves_the_call_alone() -> None:
    asyncio.run(_flood())


async def _flood() -> None:
    async with conversation("test-flood", {BROADBAND: "hotspot"}, seconds=20) as call:
        before = await bindings(call)
        pid = (await call.status("ha"))["process"]["pid"]
        memory = resident(pid)
        flood = asyncio.create_task(asyncio.to_thread(forge_updates, call, 2.0, 2000))
        await asyncio.sleep(0.3)
        async with ControlClient(call.nodes.runtime("mn") / "control.sock") as control:
            for _ in range(3):
                asked = time.monotonic()
                await control.command("reregister")
                await call.movements.after(asked, "Bound")
                await call.calm(0.3)
        assert await flood > 1000
        await call.calm(0.5)
        assert await bindings(call) == before
        assert resident(pid) - memory < 8 << 20
        await call.hang_up()


def resident(pid: int) -> int:
    """Octets of a process in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def forge_updates(call: Conversation, seconds: float, rate: int) -> int:
    """Datagrams with what looks like protected binding updates of ever new home addresses; returns how many."""
    plan = call.network.plan
    agent = (str(plan.home_agent4), MOBILITY_PORT)

    def run() -> int:
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(50)]
        begin, count = time.monotonic(), 0
        while (passed := time.monotonic() - begin) < seconds:
            while count < passed * rate:
                home = plan.home_address if count % 2 else plan.home.prefix[count + 0x1000]
                body = os.urandom(88)
                head = struct.pack("!IHBB", 6 << 28, len(body), 50, 64) + home.packed + plan.home_agent.packed
                sockets[count % len(sockets)].sendto(head + body, agent)
                count += 1
            time.sleep(0.005)
        for opened in sockets:
            opened.close()
        return count

    return namespace.run_in(plan.namespace("core"), run)


async def bindings(call: Conversation) -> list[str]:
    """Where the home agent thinks the terminal is."""
    node = (await call.status("ha"))["node"]
    return [str(item["endpoint"]) for item in node["binding_cache"]]


def listen_in(call: Conversation) -> list[bytes]:
    """Payloads of datagrams of the terminal, as somebody on their way sees them."""

    def run() -> list[bytes]:
        payloads: list[bytes] = []
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as tap:
            tap.bind((HOME_AGENT_PORT, 3))  # ETH_P_ALL
            tap.settimeout(5)
            while len(payloads) < 30:
                packet = tap.recv(2048)
                if packet[9] == socket.IPPROTO_UDP and packet[16:20] == call.network.plan.home_agent4.packed:
                    payloads.append(packet[28:])
        return payloads

    return namespace.run_in(call.network.plan.namespace("links"), run)


def send_as(call: Conversation, node: str, source: str, payload: bytes) -> None:
    """Sends a datagram to the home agent from any address, own or not, and a port that no mapping has."""
    agent = str(call.network.plan.home_agent4)

    def run() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            datagram = struct.pack("!HHHH", 7, MOBILITY_PORT, 8 + len(payload), 0) + payload
            addresses = socket.inet_aton(source) + socket.inet_aton(agent)
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 0, 0, 64, socket.IPPROTO_UDP, 0)
            raw.sendto(header + addresses + datagram, (agent, 0))

    namespace.run_in(call.network.plan.namespace(node), run)


def test_a_bad_wire_doubles_and_reorders_packets_of_a_handover() -> None:
    asyncio.run(_bad_wire())


async def _bad_wire() -> None:
    async with conversation("test-bad-wire", {WIFI: "visited-a", BROADBAND: "hotspot"}, seconds=20) as call:
        bad = Impairment(delay_ms=15, jitter_ms=5, duplicate=0.2, reorder=0.1, reorder_ms=10)
        for where in ("hotspot", "visited-a"):
            call.network.impair(where, bad)
        await asyncio.sleep(0.5)
        for interface in (BROADBAND, WIFI, BROADBAND):
            begin = time.monotonic()
            await prefer(call, interface)
            await call.moved_to(interface, begin)
            call.spans.append((begin, time.monotonic()))
            await call.calm(0.8)
        await call.hang_up()


async def prefer(call: Conversation, interface: str) -> None:
    """As a user does who knows better."""
    async with ControlClient(call.nodes.runtime("mn") / "control.sock") as control:
        await control.command(f"move {interface}")
