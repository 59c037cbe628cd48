"""What all parts of one host share: the link, its parameters, the alarms and the outputs of the current call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from mobility.discards import Reason
from mobility.host.alarms import Alarms
from mobility.outputs import Discarded, Event, Output, Transmit

RESOLVED_LIMIT = 1024
"Destinations with a known link-layer address in the fast table."


class Interface:
    """One node's end of one link."""

    def __init__(self, name: str, link_address: bytes, mtu: int, random: Callable[[int], bytes]) -> None:
        self.name = name
        self.mac = link_address
        self.hardware_mtu = mtu
        self.random = random
        self.up = False
        self.mtu = mtu
        "Octets of the largest IPv6 packet: the hardware's, or less by a router's MTU option."
        self.hop_limit = 64
        self.retrans_timer = 1.0
        self.reachable_time = 30.0
        self.alarms = Alarms()
        self.counters: Counter[str] = Counter()
        self.resolved: dict[bytes, bytes] = {}
        "Destination -> link-layer address, for as long as a packet to it needs no further thought."
        self._outputs: list[Output] = []

    def reset_parameters(self) -> None:
        """Forget what routers said: another link begins."""
        self.mtu, self.hop_limit, self.retrans_timer, self.reachable_time = self.hardware_mtu, 64, 1.0, 30.0

    def transmit(self, packet: bytes, mac: bytes) -> None:
        self.counters["transmitted"] += 1
        self._outputs.append(Transmit(packet, mac, self.name))

    def emit(self, output: Output) -> None:
        if isinstance(output, Event):
            self.counters[f"event-{type(output).__name__}"] += 1
        self._outputs.append(output)

    def discard(self, reason: Reason, detail: str = "") -> None:
        self.counters[f"discarded-{reason}"] += 1
        self._outputs.append(Discarded(reason, f"host-{self.name}", detail))

    def take(self) -> list[Output]:
        """The outputs since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def remember(self, destination: bytes, mac: bytes) -> None:
        """Packets to ``destination`` may go to ``mac`` until `forget`."""
        if len(self.resolved) >= RESOLVED_LIMIT:
            self.resolved.clear()
        self.resolved[destination] = mac

    def forget(self) -> None:
        """A table that next hops depend on has changed: decide anew for every destination."""
        self.resolved.clear()

    def uniform(self, low: float, high: float) -> float:
        """A random number of seconds."""
        return low + (high - low) * int.from_bytes(self.random(4)) / 0xFFFFFFFF
