"""Texts: configuration files, and what comes over the control socket."""

from __future__ import annotations

import json
import socket
import tempfile
from pathlib import Path

from mobility.assembly import build
from mobility.call_service import CallService
from mobility.config import ConfigurationError, parse
from mobility.control import LONGEST_REQUEST, ControlServer, Later, Operation
from mobility.handover_watch import HandoverWatch
from mobility.net.data_plane import DataPlane
from mobility.net.loop import Loop
from mobility.sequences import SequenceFile
from mobility.service import node_operations
from mobility.trace import Trace
from tests.fuzz.reader import Reader
from tests.mobility.configurations import APPLICATION, CN, HA, HA_PAIRS, MN, PAIRS
from tests.mobility.protected import by_calls
from tests.mobility.test_assembly import interfaces
from tests.mobility.whole import Network

_TRANSLATION = '[host_os]\nnamespace = "home"\n[translation]\naddress = "198.18.0.1"\npool4 = "198.18.0.0/16"\n'
_POLICY = (
    '[[policy]]\nname = "audio"\nremote = "2001:db8:5::/64"\nprotocol = "udp"\nlocal_port = "16384-32767"\n'
    'remote_port = 5060\naction = "protect"\nassociation = "cn"\n'
)
_OPERATOR = '[store]\nkind = "sqlite"\n[metrics]\nlisten = "[::1]:9000"\n[log]\nformat = "json"\n'
_KEYS_OF_CALLS = (
    '[application_keys]\ncalls = true\nalgorithm = "aes-gcm-16"\nlifetime = 600\n[[ike]]\nuse = "application"\n'
    f'peer = "2001:db8:1::100"\ntoken = "{bytes(range(16)).hex()}"\n'
)
_BASES = (
    MN + PAIRS + APPLICATION + _POLICY,
    MN + PAIRS + _TRANSLATION,
    HA + HA_PAIRS + _OPERATOR,
    CN + _POLICY,
    CN + _KEYS_OF_CALLS,
)
_VALUES = (
    "0", "-1", "1.5", "nan", "inf", "true", '""', '"x"', "[]", "[[]]", "[1]", "{}", "{a = 1}", "1979-05-27",
    "99999999999999999999", '"::"', '"::1"', '"ff02::1"', '"fe80::1%eth0"', '"::/0"', '"2001:db8:1::100/64"',
    '"2001:db8:1::a"', '"0.0.0.0"', '"198.18.0.0/30"', '"1-70000"', '"*"', '["*", "eth0"]', '"\\u0000"', '"plain"',
    '"esp-mobile"', '"none"', '"ah"', '"ah+esp"', '"session"', '"request"', '["2001:db8:9::/48", "0.0.0.0/0"]',
)  # fmt: skip
_KEYS = (
    "tunnel", "signalling", "lifetime", "home_agent4", "home_address4", "udp_port", "overlap", "keepalive", "mtu",
    "scenarios", "route_optimization", "access", "terminals", "max_lifetime", "ipv4_pool", "listen", "networks", "dns",
    "name", "pool6", "sip_ports", "keys", "standby", "url", "without_store", "protocol", "local_port", "peer", "use",
    "calls", "algorithm", "token", "certificate", "authorities",
)  # fmt: skip


def configuration(data: bytes) -> None:
    """A file with some lines changed, or any text."""
    reader = Reader(data)
    lines = _BASES[reader.byte() % len(_BASES)].splitlines()
    for _ in range(reader.byte() & 7):
        at = reader.byte() % len(lines)
        key = lines[at].partition("=")[0]
        match reader.byte() & 7:
            case 0 | 1 | 2:
                lines[at] = f"{key}= {_VALUES[reader.byte() % len(_VALUES)]}"
            case 3:
                lines[at] = f"{key}= {reader.take(reader.byte()).decode(errors='replace')}"
            case 4 | 5:
                lines.insert(at, f"{_KEYS[reader.byte() % len(_KEYS)]} = {_VALUES[reader.byte() % len(_VALUES)]}")
            case 6:
                lines.append(lines.pop(at))
            case _:
                del lines[at]
                lines = lines or [""]
    text = "\n".join(lines) + reader.rest().decode(errors="replace")
    try:
        _built(text)
    except ConfigurationError as error:
        if not str(error).startswith("node.toml: "):
            raise AssertionError(f"does not say where: {error}") from error


def _built(text: str) -> None:
    read = parse(text, Path("node.toml"))
    with tempfile.TemporaryDirectory() as directory:
        sequences = SequenceFile(Path(directory) / "sequences")
        sequences.open()
        try:
            node = build(read, interfaces(read), sequences)
            node.start(0.0)
            node.snapshot(0.0)
        finally:
            sequences.close()


def control(data: bytes) -> None:
    """Octets of clients, in pieces: each line gets one answer, and nobody can make the server keep without end."""
    reader = Reader(data)
    count = 1 + (reader.byte() & 1)
    with tempfile.TemporaryDirectory() as directory:
        loop, network, trace = Loop(), Network(application_keys=by_calls()), Trace()
        plane = DataPlane(loop, network.terminal, {}, trace, clock=lambda: network.world.now)
        offered = node_operations(plane, trace, {"role": "mn"}, HandoverWatch(plane.node, trace.note))
        operations: dict[str, Operation] = {
            name: operation
            for name, operation in offered.items()
            if name != "trace"  # writes files
        }
        calls = CallService(plane.node, Path(directory))
        calls.start(plane)
        operations |= calls.operations()
        operations["later"] = lambda _request: Later()
        server = ControlServer(loop, Path(directory) / "control.sock", operations)
        server.open()
        clients = [socket.socket(socket.AF_UNIX) for _ in range(count)]
        try:
            for client in clients:
                client.connect(str(Path(directory) / "control.sock"))
                client.setblocking(False)
                loop.turn(0)
            asked = [b""] * count
            while reader:
                which = reader.byte()
                times = 1 if which & 128 else 1 + reader.byte() * 8
                piece = reader.take(which >> 1) * times
                which &= count - 1
                try:
                    sent = clients[which].send(piece)
                except OSError:
                    sent = 0
                asked[which] += piece[:sent]
                for _ in range(4):
                    loop.turn(0)
                    calls.turned()
                if max(server.backlogs(), default=0) > 2 * LONGEST_REQUEST:
                    raise AssertionError(f"keeps {server.backlogs()} octets that nobody has answered yet")
            for client, lines in zip(clients, asked, strict=True):
                _answered(client, server, loop, lines)
            if loop.failures:
                raise AssertionError(f"failures {loop.failures}")
        finally:
            for client in clients:
                client.close()
            server.close()
            loop.close()


def _answered(client: socket.socket, server: ControlServer, loop: Loop, lines: bytes) -> None:
    """Whether there are as many answers as requests, up to one that takes its time."""
    answers = b""
    while True:
        before = server.backlogs()
        loop.turn(0)
        try:
            octets = client.recv(1 << 20)
        except BlockingIOError:
            if server.backlogs() == before:
                break
            continue
        except OSError:
            return
        if not octets:
            return  # cut off
        answers += octets
    requests = [line for line in lines.split(b"\n")[:-1] if line.strip()]
    read = [json.loads(line) for line in answers.splitlines()]
    patient = any(b"later" in line or b"\\u" in line for line in requests)
    if not all(isinstance(answer, dict) for answer in read) or (len(read) != len(requests) and not patient):
        raise AssertionError(f"{len(read)} answers to {len(requests)} requests")
