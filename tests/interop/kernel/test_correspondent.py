"""Application IPsec of our correspondent and of Linux, in transport mode: every algorithm, AH, AH around ESP.

Both refuse the same: replays, changed packets, clear text.
"""

from __future__ import annotations

import select
from dataclasses import dataclass
from ipaddress import IPv6Address
from random import Random

import pytest

from mobility.correspondent import CorrespondentNode, CorrespondentSettings
from mobility.ipsec.ah import InboundAH, OutboundAH
from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.association import Mode
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA, OutboundSA
from mobility.ipsec.spd import Action, Policy, SecurityPolicyDatabase
from mobility.links import LinkSettings
from mobility.net.memory import World
from mobility.outputs import Transmit
from mobility.wire import icmp6, ip6
from tests.interop.kernel.peer import Kernel, Live, answered, chatter, echo, echo_request, policy, state, template

pytestmark = pytest.mark.interop

OURS, THEIRS = IPv6Address("2001:db8:c::c"), IPv6Address("2001:db8:c::2")
MAC = bytes.fromhex("02000000cc01")
AH = Algorithm.HMAC_SHA2_256_128


@dataclass(frozen=True)
class Suite:
    """What protects: AH, ESP, or AH around ESP; ESP with a key of so many octets."""

    esp: Algorithm | None
    size: int = 0
    ah: bool = False

    def __str__(self) -> str:
        esp = [] if self.esp is None else [f"{self.esp.value}-{self.size * 8}"]
        return "+".join((["ah"] if self.ah else []) + esp)


SUITES = [
    *(Suite(algorithm, size) for algorithm in Algorithm if not algorithm.is_for_ah for size in algorithm.key_lengths),
    Suite(None, ah=True),
    Suite(Algorithm.AES_CBC_HMAC_SHA2_256_128, 16, ah=True),
]


class Pair:
    """Our correspondent and the kernel on one wire, echo requests and replies protected."""

    def __init__(self, kernel: Kernel, suite: Suite) -> None:
        self.kernel = kernel
        self.keys: dict[int, Keys] = {}
        "Of ESP, by SPI."
        self.world = World()
        self.live = Live(self.world)
        wire = self.world.segment("wire")
        self.node = CorrespondentNode(
            CorrespondentSettings(OURS, LinkSettings("eth0", MAC)), self._ipsec(suite), self.world.random_bytes("cn")
        )
        self.station = self.world.add("cn", self.node)
        self.world.attach("cn", "eth0", wire, MAC)
        self.peer = self.live.add("kernel", kernel)
        self.world.attach("kernel", "eth0", wire, kernel.mac)
        self.world.run(2.0)  # our address is there

    def _ipsec(self, suite: Suite) -> IpsecProcessing:
        dice = Random(str(suite))
        commands = [f"addr add {THEIRS}/64 dev {self.kernel.interface} nodad"]
        ends: list[tuple[OutboundSA | OutboundAH | None, InboundSA | InboundAH | None]] = []
        for direction, source, destination, base in (("in", OURS, THEIRS, 0x1000), ("out", THEIRS, OURS, 0x2000)):
            templates = []
            out: OutboundSA | OutboundAH | None = None
            inbound: InboundSA | InboundAH | None = None
            if suite.esp is not None:
                keys = Keys(dice.randbytes(suite.size), dice.randbytes(suite.esp.authentication_key_length))
                commands.append(state(source, destination, base, suite.esp, keys))
                self.keys[base] = keys
                templates.append(template(source, destination, base))
                out = OutboundSA(base, suite.esp, keys, Mode.TRANSPORT, random=dice.randbytes, fresh_keys=True)
                inbound = InboundSA(base, suite.esp, keys, Mode.TRANSPORT)
            if suite.ah:
                keys = Keys(b"", dice.randbytes(32))
                commands.append(state(source, destination, base + 1, AH, keys))
                templates.append(template(source, destination, base + 1, ah=True))
                out = OutboundAH(base + 1, AH, keys, inside=out if isinstance(out, OutboundSA) else None)
                inbound = InboundAH(base + 1, AH, keys, inside=inbound if isinstance(inbound, InboundSA) else None)
            ends.append((out, inbound))
            for kind in (icmp6.ECHO_REQUEST, icmp6.ECHO_REPLY):
                what = f"proto ipv6-icmp type {kind} code 0"
                commands.append(policy(direction, source, destination, templates, what))
        self.kernel.ip(*commands)
        protect = Policy(echo(OURS, THEIRS), Action.PROTECT, ends[0][0], ends[1][1], "echo")
        return IpsecProcessing(SecurityPolicyDatabase([protect], Action.BYPASS))

    def ask(self, sequence: int, size: int = 56) -> bool:
        """Whether a request of ours is answered."""
        self.station.send(echo_request(OURS, THEIRS, sequence, size))
        return self.live.until(lambda: sequence in answered(self.station), 3.0)

    def discards(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for _, discard in self.station.discards:
            found[discard.reason.value] = found.get(discard.reason.value, 0) + 1
        return found


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_both_ways_and_what_is_refused(kernel: Kernel, suite: Suite) -> None:
    pair = Pair(kernel, suite)
    assert pair.ask(1)
    assert pair.ask(2, 1200)
    assert kernel.refusals() == {}
    request, reply = ([p for p in packets if not chatter(p)][-1] for packets in (kernel.received, kernel.sent))
    assert request[6] == reply[6] == (ip6.AH if suite.ah else ip6.ESP)

    def to_kernel(packet: bytes) -> None:
        kernel.from_link("eth0", packet, MAC, 0.0)

    def to_us(packet: bytes) -> None:
        pair.station.receive("eth0", packet, kernel.mac)

    kernel.sent.clear()
    to_kernel(request)
    changed = bytearray(pair.node.application.protect(echo_request(OURS, THEIRS, 9)))
    changed[-1] ^= 1
    to_kernel(bytes(changed))
    to_kernel(echo_request(OURS, THEIRS, 9))  # in the clear
    pair.live.run(0.05)
    assert [packet for packet in kernel.sent if not chatter(packet)] == [], (
        "it has answered to what it must not believe"
    )
    assert kernel.refusals() == {"XfrmInStateSeqError": 1, "XfrmInStateProtoError": 1, "XfrmInTmplMismatch": 1}
    pair.station.discards.clear()
    to_us(reply)
    changed = bytearray(_held_back(kernel, pair))
    changed[-1] ^= 1
    to_us(bytes(changed))
    to_us(echo_request(THEIRS, OURS, 9))
    assert pair.discards() == {"replayed": 1, "authentication-failed": 1, "policy-violated": 1}
    assert pair.ask(3)


def test_windows(kernel: Kernel) -> None:
    """Each takes what comes late and is within its window (Linux: 128, ours: 1024) once, and nothing older."""
    pair = Pair(kernel, SUITES[0])
    sealed = [pair.node.application.protect(echo_request(OURS, THEIRS, number)) for number in range(200)]
    for number in (199, *range(80, 199), 60):
        kernel.from_link("eth0", sealed[number], MAC, 0.0)
    assert pair.live.until(lambda: len(answered(pair.station)) >= 120)
    assert sorted(answered(pair.station)) == list(range(80, 200))
    assert kernel.refusals() == {"XfrmInStateSeqError": 1}

    def from_kernel(last: int) -> bytes:
        """A packet that is sealed with the number after ``last``."""
        algorithm, keys = Algorithm.AES_GCM_16, pair.keys[0x2000]
        kernel.ip(
            f"xfrm state delete src {THEIRS} dst {OURS} proto esp spi {0x2000}",
            state(THEIRS, OURS, 0x2000, algorithm, keys, more=f"replay-oseq {last}"),
        )
        return _held_back(kernel, pair)

    pair.station.delivered.clear()
    pair.station.discards.clear()
    old, recent, new = from_kernel(5_000), from_kernel(5_977), from_kernel(7_000)
    for packet in (new, old, recent, recent, new):
        pair.station.receive("eth0", packet, kernel.mac)
    assert len(answered(pair.station)) == 2
    assert pair.discards() == {"replayed": 3}


def _held_back(kernel: Kernel, pair: Pair) -> bytes:
    """A protected reply of the kernel that has not arrived here."""
    kernel.from_link("eth0", pair.node.application.protect(echo_request(OURS, THEIRS, 8)), MAC, 0.0)
    for _ in range(1000):
        for output in kernel.transmitted("eth0"):
            assert isinstance(output, Transmit)
            if output.packet[6] in (ip6.ESP, ip6.AH):
                return output.packet
        select.select([kernel.frames], [], [], 0.005)
    raise AssertionError("the kernel does not answer")
