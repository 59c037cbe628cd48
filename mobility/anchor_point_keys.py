"""A MAP's end of IKE: terminals in its domain negotiate their keys from where they are (RFC 5380 section 12)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from ipaddress import IPv6Address

from mobility.hmipv6.map import MobilityAnchorPoint
from mobility.hmipv6.map_settings import MapTerminal
from mobility.ipsec.ike.events import Send
from mobility.ipsec.ike.numbers import IKE_PORT
from mobility.ipsec.ike.settings import Endpoint
from mobility.ipsec.renewable import RenewableInbound
from mobility.negotiated import Renewal, map_peer, mobile_ends, no_keys
from mobility.outputs import Output
from mobility.serving_keys import ServingKeys


class AnchorPointKeys(ServingKeys):
    """Negotiates the keys of all terminals that want it."""

    def __init__(
        self,
        engine: MobilityAnchorPoint,
        put: Callable[[bytes, float], list[Output]],
        random: Callable[[int], bytes],
        utc: Callable[[], datetime],
    ) -> None:
        settings = engine.settings
        lifetimes = (each.keys.lifetime for each in settings.terminals if each.keys is not None)
        super().__init__(settings.address, max(lifetimes, default=3600.0), engine.knows, put, random, utc)
        self._engine = engine
        self._names: dict[str, str] = {}
        "Of the terminals, to those of their peers."
        for terminal in settings.terminals:
            if terminal.keys is not None and terminal.home_address is not None:
                home = terminal.home_address
                other = map_peer(terminal.keys, home, settings.address, terminal.form, at_terminal=False)
                self._names[terminal.name] = other.name
                self._admit(other, Renewal(mobile_ends(terminal.associations), self._learner(terminal), self._forget))

    def moved(self, regional: IPv6Address, local: IPv6Address, now: float) -> list[Output]:
        """A local binding update told where a terminal is (the K bit, RFC 6275 section 10.3.1)."""
        name = self._names.get(self._engine.whose(regional) or "")
        if name is None:
            return []
        ends = Endpoint(self._address, IKE_PORT), Endpoint(local, IKE_PORT)
        return self._carry_out(self.ike.move(name, *ends, now, tell=False), now)

    def unknown_spi(self, spi: bytes, source: IPv6Address, now: float) -> list[Output]:
        """ESP came under an SPI that is not known here: its sender may have agreed on it with us before a restart."""
        if not self._hints.take(now):
            return []
        ends = Endpoint(self._address, IKE_PORT), Endpoint(source, IKE_PORT)
        return self._send(Send(no_keys(self._random, spi), *ends), now)

    def _learner(self, terminal: MapTerminal) -> Callable[[str, int, RenewableInbound], None]:
        return lambda _name, spi, sa: self._engine.learn(terminal.name, spi, sa)

    def _forget(self, _name: str, spi: int) -> None:
        self._engine.forget(spi)
