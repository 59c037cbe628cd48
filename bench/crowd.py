"""A crowd of terminals at one home agent, and the correspondents of those among them that talk: one lean process.

    python -m bench.crowd SPECIFICATION

Plays the terminals with the project's own formats and associations over one UDP socket each. Orders come as JSON lines,
``{"register": SEQUENCE}`` or ``{"talk": SECONDS}``, and are answered in JSON. What costs time is done before and after:
packets are sealed before they are sent, and what came is opened when all is over. So this process takes little of the
processors that the home agent is measured on.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from bench.statistics import percentile
from mobility.discards import Discard
from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA, Mode, OutboundSA
from mobility.links import MOBILITY_PORT
from mobility.mipv6.signalling import from_terminal, open_message
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm, from_datagram, seal, terminal_policies
from mobility.net.loop import prefer_this_process, settle_memory
from mobility.wire import mh, udp
from sip_test_env import namespace

PORT = 7000
INTERVAL = 0.02
"Seconds between two packets of one direction of a call."
SIZE = 200
"Octets of the inner packet."
WARM = 1.0
"Seconds of talk that are not counted: neighbours find each other."
LINGER = 0.5
WINDOW = 64
"Binding updates under way at a time."
PATIENCE = 1.0
"Seconds until an update is sent again."
LIFETIME = 420
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33
_TIMESTAMP = struct.Struct("qq")
_NUMBER = struct.Struct("!HI")
_FLAGS = mh.UpdateFlag.ACKNOWLEDGE | mh.UpdateFlag.HOME_REGISTRATION


@dataclass(frozen=True, slots=True)
class Specification:
    """Who takes part, as the file says."""

    home_agent: IPv6Address
    home_agent4: IPv4Address
    correspondent: IPv6Address
    terminals_at: tuple[str, IPv4Address]
    "Namespace and address of the terminals' sockets."
    correspondents_at: str
    "Namespace of the correspondents' socket."
    members: Sequence[tuple[IPv6Address, Sequence[Sequence[Any]]]]
    "Home address; SPI and key (hexadecimal) of signalling out, in, tunnel out, in."
    calls: int

    @classmethod
    def read(cls, path: Path) -> Specification:
        values = json.loads(path.read_text())
        return cls(
            IPv6Address(values["home_agent"]),
            IPv4Address(values["home_agent4"]),
            IPv6Address(values["correspondent"]),
            (values["terminals_at"][0], IPv4Address(values["terminals_at"][1])),
            values["correspondents_at"],
            [(IPv6Address(home), keys) for home, keys in values["members"]],
            values["calls"],
        )


class Member:
    """One terminal."""

    def __init__(self, home: IPv6Address, keys: Sequence[Sequence[Any]], agent: IPv6Address, opened: socket.socket):
        self.home = home
        self.socket = opened
        self._agent = agent
        self._ends = home.packed + agent.packed
        signalling_out, signalling_in, tunnel_out, tunnel_in = keys
        associations = MobileAssociations(
            _out(signalling_out, Mode.TRANSPORT),
            _in(signalling_in, Mode.TRANSPORT),
            _out(tunnel_out, Mode.TUNNEL),
            _in(tunnel_in, Mode.TUNNEL),
        )
        self._security: IpsecProcessing = terminal_policies(home, agent, TunnelForm.ESP, associations)

    def update(self, sequence: int, care_of: IPv4Address) -> bytes:
        message = mh.BindingUpdate(sequence, _FLAGS, LIFETIME, (mh.IPv4CareOfAddress(care_of),))
        return from_terminal(message, self.home, self.home, self._agent, self._security)

    def acknowledged(self, payload: bytes, sequence: int) -> bool:
        """Whether this says that the home agent accepted the update."""
        try:
            message = open_message(payload, self._security).message
        except Discard:
            return False
        return isinstance(message, mh.BindingAcknowledgement) and message.sequence == sequence and message.status < 128

    def sealed(self, inner: bytes) -> bytes:
        return seal(inner, self._ends, TunnelForm.ESP, self._security)[1]

    def number_in(self, payload: bytes) -> int | None:
        """The number of the packet that a datagram of the tunnel carries; None: no genuine packet."""
        try:
            inner = from_datagram(payload, self._ends, TunnelForm.ESP, self._security)
        except Discard:
            return None
        return int(_NUMBER.unpack_from(inner, 48)[1])


def _out(key: Sequence[Any], mode: Mode) -> OutboundSA:
    spi, text = key
    keys = Keys(bytes.fromhex(text), b"")
    return OutboundSA(spi, Algorithm.AES_GCM_16, keys, mode, random=os.urandom, fresh_keys=True)


def _in(key: Sequence[Any], mode: Mode) -> InboundSA:
    spi, text = key
    return InboundSA(spi, Algorithm.AES_GCM_16, Keys(bytes.fromhex(text), b""), mode)


class Crowd:
    """All of them."""

    def __init__(self, specification: Specification) -> None:
        self._to = (str(specification.home_agent4), MOBILITY_PORT)
        self._care_of = specification.terminals_at[1]
        self._correspondent = specification.correspondent
        self._calls = specification.calls
        sockets = namespace.run_in(
            specification.terminals_at[0],
            lambda: [_socket(socket.AF_INET, str(self._care_of), 0) for _ in specification.members],
        )
        self.members = [
            Member(home, keys, specification.home_agent, opened)
            for (home, keys), opened in zip(specification.members, sockets, strict=True)
        ]
        self._answers = namespace.run_in(
            specification.correspondents_at, lambda: _socket(socket.AF_INET6, str(self._correspondent), PORT)
        )
        self._answers.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 24)
        self._epoll = select.epoll()
        self._by_descriptor = {member.socket.fileno(): index for index, member in enumerate(self.members)}
        for descriptor in (*self._by_descriptor, self._answers.fileno()):
            self._epoll.register(descriptor, select.EPOLLIN)

    def register(self, sequence: int) -> dict[str, Any]:
        """All members register; as many under way at a time as `WINDOW`."""
        updates = [member.update(sequence, self._care_of) for member in self.members]
        waiting = list(range(len(updates)))[::-1]
        under_way: dict[int, float] = {}
        answers: dict[int, bytes] = {}
        trips: list[float] = []
        repeated = 0
        begin = last = time.monotonic()
        while (waiting or under_way) and time.monotonic() - last < 10:
            while waiting and len(under_way) < WINDOW:
                index = waiting.pop()
                under_way[index] = time.monotonic()
                self.members[index].socket.sendto(updates[index], self._to)
            for descriptor, _ in self._epoll.poll(0.1):
                index = self._by_descriptor.get(descriptor, -1)
                payload, at, _ = _receive(self._answers if index < 0 else self.members[index].socket)
                sent = under_way.pop(index, None)
                if sent is not None:
                    answers[index] = payload
                    trips.append(at - sent)
                    last = at
            now = time.monotonic()
            for index in [index for index, sent in under_way.items() if now - sent > PATIENCE]:
                del under_way[index]
                waiting.append(index)
                repeated += 1
        lasted = last - begin
        accepted = sum(self.members[index].acknowledged(payload, sequence) for index, payload in answers.items())
        return {
            "registered": accepted,
            "seconds": round(lasted, 3),
            "per_second": round(accepted / lasted, 1) if lasted > 0 else 0.0,
            "repeated": repeated,
            "round_trip_ms": _percentiles([trip * 1000 for trip in trips]),
        }

    def talk(self, seconds: float) -> dict[str, Any]:
        """The first members talk; both directions are counted after `WARM` seconds."""
        rounds = round((seconds + WARM) / INTERVAL)
        counted = round(WARM / INTERVAL)
        out = [self._packets(index, rounds) for index in range(self._calls)]
        padding = bytes(SIZE - 48 - _NUMBER.size)
        homes = [(str(member.home), PORT) for member in self.members[: self._calls]]
        departed: dict[str, dict[tuple[int, int], float]] = {"out": {}, "in": {}}
        heard: list[tuple[bytes, float]] = []
        received: list[tuple[int, bytes, float]] = []
        step = INTERVAL / self._calls
        due, number, call = time.monotonic() + 0.1, 0, 0
        began_counting = 0.0
        end = float("inf")
        while (now := time.monotonic()) < end:
            while number < rounds and due <= now:
                if number == counted and not call:
                    began_counting = time.monotonic()
                    _say({"counting": True})
                departed["out"][call, number] = time.monotonic()
                with suppress(BlockingIOError):
                    self.members[call].socket.sendto(out[call][number], self._to)
                departed["in"][call, number] = time.monotonic()
                with suppress(BlockingIOError):
                    self._answers.sendto(_NUMBER.pack(call, number) + padding, homes[call])
                call += 1
                due += step
                if call == self._calls:
                    call, number = 0, number + 1
                    if number == rounds:
                        end = now + LINGER
                        _say({"counting": False, "seconds": time.monotonic() - began_counting})
                    break  # let what came have its turn
            wait = (end if number == rounds else due) - time.monotonic()
            for descriptor, _ in self._epoll.poll(max(0.0, wait)):
                index = self._by_descriptor.get(descriptor, -1)
                opened = self._answers if index < 0 else self.members[index].socket
                with suppress(BlockingIOError):
                    while True:
                        payload, at, _ = _receive(opened)
                        if index < 0:
                            heard.append((payload, at))
                        else:
                            received.append((index, payload, at))
        arrived: dict[str, dict[tuple[int, int], float]] = {"out": {}, "in": {}}
        duplicates = 0
        for payload, at in heard:
            key = _NUMBER.unpack_from(payload)
            duplicates += key in arrived["out"]
            arrived["out"][key[0], key[1]] = at
        for index, payload, at in received:
            found = self.members[index].number_in(payload)
            if found is not None:
                duplicates += (index, found) in arrived["in"]
                arrived["in"][index, found] = at
        result: dict[str, Any] = {"duplicates": duplicates}
        for direction, log in departed.items():
            sent = {key: at for key, at in log.items() if key[1] >= counted}
            trips = [(arrived[direction][key] - at) * 1000 for key, at in sent.items() if key in arrived[direction]]
            result[direction] = {"sent": len(sent), "lost": len(sent) - len(trips), "latency_ms": _percentiles(trips)}
        return result

    def _packets(self, index: int, rounds: int) -> list[bytes]:
        member = self.members[index]
        ends = member.home.packed + self._correspondent.packed
        padding = bytes(SIZE - 48 - _NUMBER.size)
        return [
            member.sealed(udp.packet(ends, (PORT, PORT), _NUMBER.pack(index, number) + padding))
            for number in range(rounds)
        ]


def _percentiles(samples: list[float]) -> dict[str, float]:
    if not samples:
        return {}
    shares = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("longest", 1.0))
    return {name: round(percentile(samples, share), 3) for name, share in shares}


def _socket(family: int, address: str, port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    opened.bind((address, port))
    return opened


_BEHIND = time.time() - time.monotonic()


def _receive(opened: socket.socket) -> tuple[bytes, float, Any]:
    """Payload, the kernel's timestamp as monotonic seconds, and the sender."""
    payload, ancillary, _, sender = opened.recvmsg(2048, 64)
    seconds, nanoseconds = _TIMESTAMP.unpack_from(ancillary[0][2])
    return payload, seconds + nanoseconds / 1e9 - _BEHIND, sender


def _say(words: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def main() -> None:
    crowd = Crowd(Specification.read(Path(sys.argv[1])))
    _say({"ready": len(crowd.members)})
    prefer_this_process()
    settle_memory()
    for line in sys.stdin:
        match json.loads(line):
            case {"register": sequence}:
                _say(crowd.register(sequence))
            case {"talk": seconds}:
                _say(crowd.talk(seconds))


if __name__ == "__main__":
    main()
