"""A Linux kernel in the simulated world, whose clock runs with the real one while the kernel takes part."""

from __future__ import annotations

import select
import time
from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from mobility.discards import Reason
from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.association import Mode
from mobility.ipsec.spd import Selector
from mobility.net.memory import Station, World
from mobility.outputs import Output, Transmit
from mobility.wire import icmp6, ip6
from sip_test_env.linux_guest import LinuxGuest

_ETHERTYPE = b"\x86\xdd"
UNTRUE = frozenset(
    reason.value
    for reason in (
        Reason.MALFORMED,
        Reason.ESP_MALFORMED,
        Reason.AH_MALFORMED,
        Reason.AUTHENTICATION_FAILED,
        Reason.REPLAYED,
        Reason.SA_UNKNOWN,
        Reason.POLICY_VIOLATED,
        Reason.NOT_PROTECTED,
        Reason.CHECKSUM_WRONG,
        Reason.AUTHENTICATOR_WRONG,
    )
)
"Why our nodes discard what they must not believe; no genuine packet of Linux's may be discarded so."
_STEP = 0.001
"Seconds for which the simulated world may be late."
Address = IPv4Address | IPv6Address | str


class Kernel:
    """One interface of the guest in a network namespace of its own, with its own IPsec: a machine. A `Node`."""

    timer: float | None = None

    def __init__(self, guest: LinuxGuest, number: int) -> None:
        self.guest = guest
        self.mac = bytes((2, 0, 0, 0, 0xF0, number))
        self.frames = guest.interfaces[number]
        self.frames.setblocking(False)
        self.namespace, self.interface = f"k{number}", f"eth{number}"
        self._refused_before = f"/run/{self.namespace}-xfrm_stat"
        self.received: list[bytes] = []
        "Packets that were sent to it."
        self.sent: list[bytes] = []
        "Packets that it sent."
        mac = self.mac.hex(":")
        guest.run(f"ip netns add {self.namespace}; ip link set {self.interface} address {mac} netns {self.namespace}")
        self.ip(f"link set {self.interface} up", "link set lo up")  # for good: down, the guest closes its socket
        self.reset()

    def reset(self) -> None:
        """As a machine that was just switched on: no addresses, no routes, no IPsec. It does not wait for DAD."""
        self.ip(
            "xfrm state flush", "xfrm policy flush", "xfrm policy flush ptype sub", "addr flush dev lo scope global"
        )
        self.run(
            "for name in $(ip -o link | sed -n 's/.*: \\(t[0-9]*\\)@.*/\\1/p'); do ip link del $name; done; "
            "cd /proc/sys/net/ipv6/conf; echo 0 >all/forwarding; "
            f"cd {self.interface}; echo 0 >accept_dad; echo 0 >dad_transmits; "
            "echo 1 >disable_ipv6; echo 0 >disable_ipv6; "
            f"cat /proc/net/xfrm_stat >{self._refused_before}"
        )
        self.received.clear()
        self.sent.clear()

    def run(self, script: str) -> str:
        """Lines of shell in this machine."""
        quoted = script.replace("'", "'\\''")
        return self.guest.run(f"ip netns exec {self.namespace} sh -c '{quoted}'")

    def ip(self, *commands: str, family: str = "-6") -> str:
        """Commands of ip(8), all of which have to succeed."""
        lines = "\n".join(commands)
        return self.guest.run(f"ip {family} -n {self.namespace} -batch - <<'END'\n{lines}\nEND")

    def refusals(self) -> dict[str, int]:
        """Why IPsec has dropped packets since `reset`: names of /proc/net/xfrm_stat."""
        text = self.run(f"cat {self._refused_before} /proc/net/xfrm_stat")
        lines = [line.split() for line in text.splitlines()]
        counts: Counter[str] = Counter()
        for sign, half in ((-1, lines[: len(lines) // 2]), (1, lines[len(lines) // 2 :])):
            for name, count in half:
                counts[name] += sign * int(count)
        return {name: count for name, count in counts.items() if count}

    # ---------------------------------------------------------------- Node

    def start(self, now: float) -> list[Output]:
        return []

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        return []

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        to = b"\x33\x33" + packet[36:40] if packet[24] == 0xFF else self.mac
        self.received.append(packet)
        self.frames.send(to + sender + _ETHERTYPE + packet)
        return []

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        raise NotImplementedError("programs of this machine run in it")

    def handle_timer(self, now: float) -> list[Output]:
        return []

    def snapshot(self, now: float) -> dict[str, object]:
        return {}

    def transmitted(self, link: str) -> list[Output]:
        """What the kernel has sent since the last look."""
        found: list[Output] = []
        while True:
            try:
                frame = self.frames.recv(65_536)
            except BlockingIOError:
                return found
            if frame[12:14] == _ETHERTYPE:
                self.sent.append(frame[14:])
                found.append(Transmit(frame[14:], frame[:6], link))


class Live:
    """Runs a world beside the clock, with kernels among its stations."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._kernels: list[tuple[Kernel, Station]] = []

    def add(self, name: str, kernel: Kernel) -> Station:
        """Puts a machine into the world; then plug it in with `World.attach`."""
        station = self.world.add(name, kernel)
        self._kernels.append((kernel, station))
        while kernel.transmitted(""):  # frames of an earlier test
            pass
        kernel.sent.clear()
        return station

    def until(self, condition: Callable[[], object], limit: float = 5.0) -> bool:
        """Runs until ``condition()`` holds, ``limit`` seconds at most; whether it holds."""
        behind = time.monotonic() - self.world.now
        end = self.world.now + limit
        while True:
            self.world.run(max(self.world.now, time.monotonic() - behind))
            if condition():
                return True
            if self.world.now > end:
                return False
            select.select([kernel.frames for kernel, _ in self._kernels], [], [], _STEP)
            for kernel, station in self._kernels:
                for link in station.ports:
                    station.carry_out(kernel.transmitted(link))

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        self.until(lambda: False, seconds)


def state(
    source: Address,
    destination: Address,
    spi: int,
    algorithm: Algorithm,
    keys: Keys,
    mode: Mode = Mode.TRANSPORT,
    more: str = "replay-window 128",
) -> str:
    """An association for ip(8); its template is `template`."""
    protocol = "ah" if algorithm.is_for_ah else "esp"
    return (
        f"xfrm state add src {source} dst {destination} proto {protocol} spi {spi} reqid {spi} mode {mode.value}"
        f" {more} {_algorithms(algorithm, keys)}"
    )


def _algorithms(algorithm: Algorithm, keys: Keys) -> str:
    authentication = f"auth-trunc hmac(sha256) 0x{keys.authentication.hex()} 128"
    match algorithm:
        case Algorithm.AES_GCM_16:
            return f"aead rfc4106(gcm(aes)) 0x{keys.encryption.hex()} 128"
        case Algorithm.CHACHA20_POLY1305:
            return f"aead rfc7539esp(chacha20,poly1305) 0x{keys.encryption.hex()} 128"
        case Algorithm.AES_CBC_HMAC_SHA2_256_128:
            return f"enc cbc(aes) 0x{keys.encryption.hex()} {authentication}"
        case Algorithm.NULL_HMAC_SHA2_256_128:
            return f'enc ecb(cipher_null) "" {authentication}'
        case Algorithm.HMAC_SHA2_256_128:
            return authentication


def template(
    source: Address,
    destination: Address,
    spi: int,
    *,
    ah: bool = False,
    mode: Mode = Mode.TRANSPORT,
) -> str:
    """What a policy demands."""
    return f"tmpl src {source} dst {destination} proto {'ah' if ah else 'esp'} reqid {spi} mode {mode.value}"


def policy(direction: str, source: object, destination: object, templates: Iterable[str], what: str = "") -> str:
    """A policy for ip(8)."""
    return f"xfrm policy add src {source} dst {destination} {what} dir {direction} {' '.join(templates)}"


def echo(local: IPv6Address, remote: IPv6Address) -> Selector:
    """Echo requests and replies, and no neighbour discovery."""
    kinds = frozenset((icmp6.ECHO_REQUEST, icmp6.ECHO_REPLY))
    return Selector(IPv6Network(local), IPv6Network(remote), ip6.ICMPV6, local_type=kinds, remote_type=kinds)


def echo_request(source: IPv6Address, destination: IPv6Address, sequence: int = 1, size: int = 56) -> bytes:
    """A packet."""
    return icmp6.packet(source, destination, icmp6.Echo(7, sequence, bytes(range(size)) if size < 256 else bytes(size)))


def answered(station: Station) -> list[int]:
    """Sequence numbers of the echo replies that the host OS was given, in order."""
    return [
        icmp6.Echo.parse(packet[40:]).sequence
        for _, packet in station.delivered
        if packet[6] == ip6.ICMPV6 and packet[40] == icmp6.ECHO_REPLY
    ]


def chatter(packet: bytes) -> bool:
    """Whether it is about neighbours, routers or groups, which any kernel sends when it likes."""
    return packet[6] == ip6.HOP_BY_HOP or (packet[6] == ip6.ICMPV6 and packet[40] in range(130, 138))
