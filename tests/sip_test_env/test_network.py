"""The network stands, is what the plan says, and goes without a trace."""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv6Address

import pytest

from sip_test_env import namespace
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.network import TestNetwork, is_router_advertisement
from sip_test_env.plan import INTERFACE, NODES, Plan
from sip_test_env.state import ROOT, Store, instances

pytestmark = [pytest.mark.root, pytest.mark.interop]

ETH_P_IPV6 = 0x86DD
ALL_ROUTERS = IPv6Address("ff02::2")


def traces(instance: str) -> list[str]:
    """All that is left of an instance: namespaces, files, processes that name it."""
    left = [name for name in os.listdir(namespace.NAMED) if name.startswith(f"roam-{instance}-")]
    left += [name for name in instances() if name == instance]
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as command:
                    if f"/{instance}/".encode() in (line := command.read()):
                        left.append(line.decode())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return left


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether a condition that other processes bring about comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def ping(network: TestNetwork, node: str, target: IPv6Address) -> bool:
    """An ICMPv6 echo from the kernel of a node to another, answered within a second."""

    def run() -> bool:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as echo:
            payload = secrets.token_bytes(12)
            echo.sendto(struct.pack("!BBHI", 128, 0, 0, 0x00070001) + payload, (str(target), 0))
            deadline = time.monotonic() + 1
            while (left := deadline - time.monotonic()) > 0 and select.select([echo], [], [], left)[0]:
                reply, sender = echo.recvfrom(200)
                if reply[0] == 129 and reply[8:] == payload:
                    return IPv6Address(sender[0]) == target
        return False

    return namespace.run_in(network.plan.namespace(node), run)


@contextmanager
def packet_socket(network: TestNetwork, node: str) -> Iterator[socket.socket]:
    """IPv6 packets of the node's interface."""

    def run() -> socket.socket:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        opened.bind((INTERFACE, ETH_P_IPV6))
        return opened

    with closing(namespace.run_in(network.plan.namespace(node), run)) as opened:
        yield opened


def router_solicitation(source: IPv6Address, link_address: bytes) -> bytes:
    """RFC 4861 section 4.1, with the source's link-layer address: radvd answers by unicast and has to know where to."""
    option = bytes([1, 1]) + link_address
    message = struct.pack("!BBHI", 133, 0, 0, 0) + option
    pseudo = source.packed + ALL_ROUTERS.packed + struct.pack("!II", len(message), 58) + message
    total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    message = struct.pack("!BBHI", 133, 0, ~total & 0xFFFF, 0) + option
    return struct.pack("!IHBB", 6 << 28, len(message), 58, 255) + source.packed + ALL_ROUTERS.packed + message


def solicit(opened: socket.socket) -> tuple[bytes, float]:
    """Sends a router solicitation; returns the advertisement and how many seconds it took."""
    while select.select([opened], [], [], 0)[0]:
        opened.recv(2048)
    sent = time.monotonic()
    solicitation = router_solicitation(IPv6Address("fe80::ff:fe00:1"), opened.getsockname()[4])
    opened.sendto(solicitation, (INTERFACE, ETH_P_IPV6, 0, 0, b"\x33\x33\0\0\0\x02"))
    while select.select([opened], [], [], 4)[0]:
        packet = opened.recv(2048)
        if is_router_advertisement(packet):
            return packet, time.monotonic() - sent
    raise AssertionError("no router advertisement within four seconds")


def advertises(packet: bytes, router: IPv6Address) -> bool:
    """Whether an advertisement has a prefix option, on-link and for addresses, that holds the router's whole address
    (R bit, RFC 6275 section 7.2).
    """
    lifetimes = struct.pack("!III", 7200, 3600, 0)
    return bytes([3, 4, 64, 0b1110_0000]) + lifetimes + router.packed in packet


def has_carrier(network: TestNetwork, node: str) -> bool:
    state = namespace.run_in(
        network.plan.namespace(node),
        lambda: subprocess.run(["ip", "-j", "link", "show", INTERFACE], capture_output=True, check=True).stdout,
    )
    return "LOWER_UP" in json.loads(state)[0]["flags"]


def test_every_router_and_the_proxy_reach_each_other(network: TestNetwork) -> None:
    plan = network.plan
    for link in plan.access_links:
        assert ping(network, "proxy", link.router_address)
        assert ping(network, link.router, plan.proxy)
        assert ping(network, link.router, plan.cn_router)
    assert ping(network, "ar-a", plan.visited_b.router_address)


@pytest.mark.parametrize("node", ["mn", "ha", "cn"])
def test_the_kernel_keeps_out_of_ipv6_where_it_is_ours(network: TestNetwork, node: str) -> None:
    addresses = network.run(node, ["ip", "-6", "-o", "addr", "show", "dev", INTERFACE])
    assert (addresses.returncode, addresses.stdout) == (0, "")


def test_every_interface_has_an_index_of_its_own(network: TestNetwork) -> None:
    """Otherwise the kernel may report a lost carrier a second late (see `links`)."""
    indexes = []
    for node in NODES:
        links = json.loads(network.run(node, ["ip", "-j", "link"]).stdout)
        indexes += [link["ifindex"] for link in links if link["ifname"] != "lo"]
    assert len(indexes) == len(set(indexes))


def test_routers_answer_solicitations_on_every_link(network: TestNetwork) -> None:
    """Each move brings the carrier back, and the router of the new link says its prefix at once."""
    plan = network.plan
    fastest = []
    with packet_socket(network, "mn") as opened:
        for link in (plan.visited_b, plan.home, plan.visited_a):
            moved = network.move(link.name)
            assert moved.target == network.location == link.name
            assert moved.cut <= moved.restored
            assert eventually(lambda: has_carrier(network, "mn"))
            answers = [solicit(opened) for _ in range(3)]
            for packet, _ in answers:
                assert IPv6Address(packet[8:24]).is_link_local
                assert advertises(packet, link.router_address)
            fastest.append(min(seconds for _, seconds in answers))
    assert max(fastest) < 0.1


def test_the_correspondents_router_answers_too(network: TestNetwork) -> None:
    with packet_socket(network, "cn") as opened:
        assert advertises(solicit(opened)[0], network.plan.cn_router)


def test_a_pulled_cable_is_noticed(network: TestNetwork) -> None:
    assert has_carrier(network, "mn")
    network.unplug()
    assert network.location is None
    assert eventually(lambda: not has_carrier(network, "mn"))
    assert network.move("visited-a").source is None
    assert eventually(lambda: has_carrier(network, "mn"))


def test_frames_carry_full_checksums(network: TestNetwork) -> None:
    """What the kernel of the proxy sends can be verified where it arrives (offloads are off)."""
    plan = network.plan

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"ping", (str(plan.cn4), 9))

    def receive() -> socket.socket:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        opened.bind((INTERFACE, 0x0800))
        return opened

    with closing(namespace.run_in(plan.namespace("cn"), receive)) as opened:
        opened.settimeout(2)
        namespace.run_in(plan.namespace("proxy"), send)
        packet = opened.recv(2048)
    udp = packet[20:]
    pseudo = packet[12:20] + struct.pack("!HH", 17, len(udp)) + udp
    total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def test_two_instances_side_by_side_and_gone_without_a_trace() -> None:
    names = [f"pair{index}-{os.getpid()}" for index in (1, 2)]
    with TestNetwork(names[0]) as first:
        with TestNetwork(names[1]) as second:
            first.move("home")
            assert (first.location, second.location) == ("home", "visited-a")
            assert first.account("6001").password != second.account("6001").password
            straggler = second.popen("mn", ["sleep", "60"])
        assert straggler.returncode == -signal.SIGTERM
        assert traces(names[1]) == []
        assert ping(first, "ar-a", first.plan.proxy)
    assert traces(names[0]) == []


def test_up_twice_is_refused_and_harmless(network: TestNetwork) -> None:
    with pytest.raises(EnvironmentFailure, match="is up already"):
        TestNetwork(network.plan.instance).up()
    assert ping(network, "ar-a", network.plan.proxy)


def test_a_failing_start_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = f"fails-{os.getpid()}"
    monkeypatch.setattr("sip_test_env.kamailio.local_config", lambda *_: "nonsense\n")
    with pytest.raises(EnvironmentFailure, match="Kamailio does not answer"):
        TestNetwork(instance).up()
    assert traces(instance) == []


def test_a_kernel_that_refuses_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = f"refused-{os.getpid()}"
    monkeypatch.setattr("sip_test_env.links.ROUTER_INTERFACE", "a-name-that-is-too-long-for-the-kernel")
    with pytest.raises(EnvironmentFailure, match="the kernel refused"):
        TestNetwork(instance).up()
    assert traces(instance) == []


def test_a_missing_program_is_explained(network: TestNetwork) -> None:
    with pytest.raises(EnvironmentFailure, match="make setup"):
        network.popen("core", ["no-such-program"])


OWNER = """
import sys, time
from sip_test_env import namespace
from sip_test_env.network import TestNetwork
with TestNetwork(sys.argv[1]) as network:
    network.popen("ar-a", ["sleep", "60"])
    namespace.create((network.plan.host_namespace("mn"),))  # as a mobility process does
    print("up", flush=True)
    time.sleep(60)
"""


@contextmanager
def owner(instance: str) -> Iterator[subprocess.Popen[str]]:
    """A process that owns an instance."""
    with subprocess.Popen([sys.executable, "-c", OWNER, instance], stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "up\n":
                raise AssertionError("the owner did not get its network up")
            yield process
        finally:
            process.kill()


def test_the_guardian_clears_up_after_a_crash() -> None:
    instance = f"crash-{os.getpid()}"
    with owner(instance) as process:
        assert len(traces(instance)) > len(NODES)
        process.kill()
        process.wait()
        assert eventually(lambda: traces(instance) == []), traces(instance)


def test_the_next_up_clears_up_when_the_guardian_was_killed_too(network: TestNetwork) -> None:
    instance = f"ruins-{os.getpid()}"
    with owner(instance) as process:
        guardians = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with open(f"/proc/{entry}/cmdline", "rb") as command:
                    line = command.read().split(b"\0")
                if b"sip_test_env.guardian" in line and instance.encode() in line:
                    guardians.append(int(entry))
        assert len(guardians) == 1
        os.kill(guardians[0], signal.SIGKILL)
        process.kill()
        process.wait()
    assert Store(instance).read().stale
    with TestNetwork(f"next-{os.getpid()}"):
        assert traces(instance) == []


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sip_test_env", *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def test_the_command_line() -> None:
    instance = f"cli-{os.getpid()}"
    options = ["--instance", instance, "--json"]
    try:
        up = command_line("up", *options)
        assert up.returncode == 0, up.stderr
        assert json.loads(up.stdout)["location"] == "visited-a"
        again = command_line("up", *options)
        assert (again.returncode, again.stdout) == (2, "")
        assert "is up already" in again.stderr
        assert json.loads(command_line("move", "visited-b", *options).stdout)["from"] == "visited-a"
        assert json.loads(command_line("status", *options).stdout)["location"] == "visited-b"
        hotspot = json.loads(command_line("move", "hotspot", "--interface", "wwan0", *options).stdout)
        assert (hotspot["from"], hotspot["to"]) == (None, "hotspot")
        assert json.loads(command_line("access", "hotspot", "captive", *options).stdout) == {"hotspot": "captive"}
        assert command_line("nat-rebind", *options).returncode == 0
        network = TestNetwork.attach(instance)
        bad = json.loads(command_line("impair", "ha", "--loss", "1", "--way", "back", *options).stdout)
        assert bad["impaired"] == "loss 1"
        ping(network, "proxy", network.plan.home_agent)  # nobody answers, but neighbours ask for it
        mended = json.loads(command_line("impair", "ha", *options).stdout)
        assert mended["impaired"] == "perfect"
        assert mended["back"]["frames"] == mended["back"]["lost"] > 0
        ping(network, "proxy", network.plan.home_agent)
        seen = json.loads(command_line("impair", "ha", "--way", "forth", *options).stdout)["back"]
        assert seen["frames"] > seen["lost"] == mended["back"]["lost"]
        nonsense = command_line("impair", "ha", "--loss", "5", *options)
        assert (nonsense.returncode, "between 0 and 1" in nonsense.stderr) == (2, True)
        assert json.loads(command_line("move", "nowhere", "--interface", "wwan0", *options).stdout)["from"] == "hotspot"
        assert json.loads(command_line("status", *options).stdout)["cables"] == {
            "eth0": "visited-b",
            "wlan0": None,
            "wwan0": None,
        }
        inside = command_line("exec", "--instance", instance, "proxy", "--", "ip", "-6", "-o", "addr")
        assert str(Plan(instance).proxy) in inside.stdout
        assert command_line("exec", "--instance", instance, "proxy", "--", "false").returncode == 1
        missing = command_line("exec", "--instance", instance, "proxy", "--", "no-such-program")
        assert missing.returncode == 2
        assert "no-such-program" in missing.stderr
    finally:
        down = command_line("down", *options)
    assert json.loads(down.stdout) == {"instance": instance, "was_up": True}
    assert traces(instance) == []
    assert command_line("status", *options).returncode == 1
    nothing = command_line("move", "home", *options)
    assert nothing.returncode == 2
    assert "is not up" in nothing.stderr
    assert not (ROOT / instance).exists()
