"""Which of several terminals on the same links (`mobility.homes`) a packet is for: what says so by itself."""

from __future__ import annotations

from collections.abc import Iterable

from mobility.ipsec.ike.numbers import NON_ESP_MARKER
from mobility.negotiated import says_no_keys
from mobility.terminal import Terminal
from mobility.terminal_keys import is_ike
from mobility.wire import ip6, udp


class Owners:
    """All terminals, each with its home address, its security associations and its IKE SAs."""

    def __init__(self) -> None:
        self._terminals: tuple[Terminal, ...] = ()
        self._by_home: dict[bytes, Terminal] = {}

    def update(self, terminals: Iterable[Terminal]) -> None:
        """These there are from now on."""
        self._terminals = tuple(terminals)
        self._by_home = {terminal.settings.home_address.packed: terminal for terminal in self._terminals}

    def at_home(self, address: bytes) -> Terminal | None:
        """The one with this home address."""
        return self._by_home.get(address)

    def of_packet(self, packet: bytes) -> Terminal | None:
        """Whose a packet on a native link is; None: it does not say, or is of nobody."""
        match packet[6:7]:
            case b"\x32":  # ESP
                return self._by_spi(packet[40:44]) or self._by_home.get(packet[24:40])
            case b"\x2b":  # routing header, whose address begins eight octets into it
                return self._by_home.get(packet[48:64])
            case b"\x29":  # IPv6
                return self._by_home.get(packet[64:80])
            case _:
                return self._by_home.get(packet[24:40])

    def of_datagram(self, payload: bytes) -> Terminal | None:
        """The same of a datagram of tunnels."""
        whole = payload[:1] and payload[0] >> 4 == 6
        return self._by_home.get(payload[24:40]) if whole else self._by_spi(payload[:4])

    def negotiating(self, packet: bytes) -> list[Terminal] | None:
        """Who has to hear what a packet for a care-of address says about keys; None: nobody negotiates any, or it is
        about something else."""
        if packet[24:40] in self._by_home or not is_ike(packet):
            return None
        return self._of_ike(packet[ip6.HEADER_SIZE + udp.HEADER_SIZE :]) or None

    def negotiating_in(self, payload: bytes) -> list[Terminal] | None:
        """The same of a datagram."""
        return self._of_ike(payload[len(NON_ESP_MARKER) :]) or None if payload[:4] == NON_ESP_MARKER else None

    def _by_spi(self, spi: bytes) -> Terminal | None:
        number = int.from_bytes(spi)
        return next((terminal for terminal in self._terminals if terminal.receives_by(number)), None)

    def _of_ike(self, message: bytes) -> list[Terminal]:
        """Whose IKE SA it belongs to; if of nobody, one, to say so. Whoever says that keys have gone may mean any."""
        having = [each for each in self._terminals if each.parts.keys is not None]
        if says_no_keys(message):
            return having
        owners = [each for each in having if any(ike.has(message) for ike in each.negotiations())]
        return (owners or having)[:1]
