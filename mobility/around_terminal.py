"""What stands around a `Terminal`, as a `Node`: what happens goes to the terminal, what it answers is looked at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address

from mobility.application_keys import ApplicationKeys
from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.processing import IpsecProcessing
from mobility.outputs import Discarded, Output
from mobility.terminal import Terminal


class AroundTerminal(ABC):
    """All of a `Node` but `timer`, `handle_timer` and `snapshot`; whoever is around adds those, and `_passed`."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.counters: Counter[str] = Counter()

    @abstractmethod
    def _passed(self, outputs: list[Output], now: float) -> list[Output]:
        """What the terminal answers, and what becomes of it."""

    @property
    def host_mtu(self) -> int:
        """As `Terminal.host_mtu`."""
        return self.terminal.host_mtu

    def start(self, now: float) -> list[Output]:
        """As `Terminal.start`."""
        return self._passed(self.terminal.start(now), now)

    def link_changed(self, link: str, up: bool, now: float) -> list[Output]:
        """As `Terminal.link_changed`."""
        return self._passed(self.terminal.link_changed(link, up, now), now)

    def udp_changed(self, link: str, address: IPv4Address | IPv6Address | None, mtu: int, now: float) -> list[Output]:
        """As `Terminal.udp_changed`."""
        return self._passed(self.terminal.udp_changed(link, address, mtu, now), now)

    def interfaces_changed(self, order: tuple[str, ...], now: float) -> list[Output]:
        """As `Terminal.interfaces_changed`."""
        return self._passed(self.terminal.interfaces_changed(order, now), now)

    def resumed(self, now: float) -> list[Output]:
        """As `Terminal.resumed`."""
        return self._passed(self.terminal.resumed(now), now)

    def command(self, name: str, now: float) -> list[Output]:
        """As `Terminal.command`."""
        return self._passed(self.terminal.command(name, now), now)

    def from_host(self, packet: bytes, now: float) -> list[Output]:
        """As `Terminal.from_host`."""
        return self._passed(self.terminal.from_host(packet, now), now)

    def from_link(self, link: str, packet: bytes, sender: bytes, now: float) -> list[Output]:
        """As `Terminal.from_link`."""
        return self._passed(self.terminal.from_link(link, packet, sender, now), now)

    @property
    def application_keys(self) -> ApplicationKeys | None:
        """As `Terminal.application_keys`."""
        return self.terminal.application_keys

    def negotiate(self, operation: Callable[[ApplicationKeys], list[Output]], now: float) -> list[Output]:
        """As `Terminal.negotiate`."""
        return self._passed(self.terminal.negotiate(operation, now), now)

    def negotiations(self) -> list[Ike]:
        """As `Terminal.negotiations`."""
        return self.terminal.negotiations()

    def ipsec_parts(self) -> list[tuple[str, IpsecProcessing]]:
        """As `Terminal.ipsec_parts`."""
        return self.terminal.ipsec_parts()

    def _counted(self, outputs: Iterable[Output]) -> list[Output]:
        result = list(outputs)
        for output in result:
            if isinstance(output, Discarded):
                self.counters[f"discarded-{output.reason}"] += 1
        return result
