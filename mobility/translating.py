"""A terminal for programs that speak IPv4: scenario processing with translation (Fig. 5) in front of a `Terminal`.

What the programs send is translated and then sent as any packet of the home address; what arrives for the home address
is translated before it is delivered. All else is the terminal's.
"""

from __future__ import annotations

from math import inf

from mobility.around_terminal import AroundTerminal
from mobility.outputs import Deliver, Output
from mobility.scenario.translation import TRANSLATING, HomeAddressTranslated
from mobility.terminal import HostMtuChanged, Terminal
from mobility.translation.icmp import HEADER_GROWS
from mobility.translation.translation import Translated, Translation
from mobility.waiting import WaitingRoom
from mobility.wire import ip6


class TranslatingTerminal(AroundTerminal):
    """A `Node`. Whether it translates is decided by each acknowledgement of the home agent (scenarios 10000, 10010).

    Programs that speak IPv6 work beside those that speak IPv4. While nothing is translated, IPv6 passes as it is.
    """

    def __init__(self, terminal: Terminal, translation: Translation) -> None:
        super().__init__(terminal)
        self.translation = translation
        self.waiting = WaitingRoom()
        "Packets of programs that wait for the first acknowledgement."
        self._scenario: int | None = None
        self._at_home = False
        terminal.scenarios.translates = True
        translation.mtu = terminal.host_mtu

    # ------------------------------------------------------------ Node

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        earliest = self.terminal.timer
        for time in (self.translation.timer, self.waiting.timer):
            if time is not None and (earliest is None or time < earliest):
                earliest = time
        return earliest

    @property
    def host_mtu(self) -> int:
        """Octets of the largest packet that the host OS may send: it fits when its header has grown."""
        return max(self.terminal.host_mtu - HEADER_GROWS, ip6.MINIMUM_MTU)

    def command(self, name: str, now: float) -> list[Output]:
        """As `Terminal.command`."""
        outputs = super().command(name, now)
        # At home no acknowledgement comes that a change of the policy table could wait for.
        return [*outputs, *self._changed(now)] if self._at_home else outputs

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """A program sends a packet of either version of IP (steps 513, 514)."""
        if not packet or packet[0] >> 4 != 4:
            if self.translation.active:
                self.translation.native_sent(packet)
            return self._passed(self.terminal.from_host(packet, now), now)
        if not self.translation.active and self.terminal.scenarios.present is None:
            return self._counted(list(self.waiting.add(packet, now)))
        return self._carried_out(self.translation.outbound(packet, now), now)

    def handle_timer(self, now: float) -> list[Output]:
        """The time in `timer` has come."""
        outputs: list[Output] = []
        if self.terminal.timer is not None and self.terminal.timer <= now:
            outputs += self._passed(self.terminal.handle_timer(now), now)
        if self.translation.timer is not None and self.translation.timer <= now:
            outputs += self._carried_out(self.translation.handle_timer(now), now)
        return outputs + self._counted(list(self.waiting.expire(now)))

    def snapshot(self, now: float) -> dict[str, object]:
        """As `Terminal.snapshot`, with the translation."""
        return {
            **self.terminal.snapshot(now),
            "translation": {**self.translation.snapshot(now), "counters": dict(self.counters)},
        }

    # ------------------------------------------------------------ between the two

    def _carried_out(self, translated: Translated, now: float) -> list[Output]:
        """What the translation has for the network goes through the terminal, what it has for the host OS is done."""
        outputs = self._counted(translated.outputs)
        outputs += map(Deliver, translated.host)
        for packet in translated.network:
            outputs += self._passed(self.terminal.from_host(packet, now), now)
        return outputs

    def _passed(self, outputs: list[Output], now: float) -> list[Output]:
        """What the terminal answers, with what it delivers translated."""
        result: list[Output] = []
        for output in outputs:
            match output:
                case Deliver(packet) if self.translation.active and packet[0] >> 4 == 6:
                    result += self._carried_out(self.translation.inbound(packet, now), now)
                case HostMtuChanged():
                    self.translation.mtu = output.mtu
                    result.append(HostMtuChanged(self.host_mtu))
                case HomeAddressTranslated():
                    result.append(output)
                    result += self._begun(output.lifetime, now)
                case _:
                    result.append(output)
        if self._scenario != self.terminal.scenarios.present or self._at_home is not self.terminal.forwarding.at_home:
            result += self._changed(now)
        return result

    def _begun(self, lifetime: float, now: float) -> list[Output]:
        outputs = self._counted(self.translation.acknowledged(lifetime, now))
        for packet in self.waiting.take():
            outputs += self._carried_out(self.translation.outbound(packet, now), now)
        return outputs

    def _changed(self, now: float) -> list[Output]:
        """The scenario is another one, or the terminal came home, where there are no acknowledgements."""
        scenarios = self.terminal.scenarios
        self._scenario, self._at_home = scenarios.present, self.terminal.forwarding.at_home
        if self._at_home:
            wanted = any(scenarios.is_enabled(number) for number in TRANSLATING)
            return self._begun(inf, now) if wanted else self._counted(self.translation.stop())
        if self._scenario is not None and self._scenario not in TRANSLATING:
            return self._counted(self.translation.stop())
        return []
