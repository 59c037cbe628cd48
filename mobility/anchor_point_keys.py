"""A MAP's end of IKE: terminals in its domain negotiate their keys from where they are (RFC 5380 section 12)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from ipaddress import IPv6Address

from mobility.hmipv6.map import MobilityAnchorPoint
from mobility.hmipv6.map_settings import MapTerminal
from mobility.ipsec.ike.events import IkeUp, Send
from mobility.ipsec.ike.events import Output as IkeOutput
from mobility.ipsec.ike.numbers import IKE_PORT, IdType
from mobility.ipsec.ike.payloads import Identity
from mobility.ipsec.ike.settings import Endpoint, Peer
from mobility.ipsec.renewable import RenewableInbound
from mobility.negotiated import Renewal, associations, map_peer, mobile_ends, no_keys
from mobility.outputs import Output
from mobility.serving_keys import ServingKeys

MOST_CERTIFIED = 4096
"Terminals that have shown a certificate and are remembered; then those go that are neither bound nor have keys."


class AnchorPointKeys(ServingKeys):
    """Negotiates the keys of all terminals that want it, and of those that a certificate lets in."""

    def __init__(
        self,
        engine: MobilityAnchorPoint,
        put: Callable[[bytes, float], list[Output]],
        random: Callable[[int], bytes],
        utc: Callable[[], datetime],
    ) -> None:
        settings = engine.settings
        certified = settings.certified
        sources = [each.keys for each in settings.terminals] + [None if certified is None else certified.keys]
        lifetime = max((each.lifetime for each in sources if each is not None), default=3600.0)
        super().__init__(settings.address, lifetime, engine.knows, put, random, utc)
        self._engine = engine
        self._certified: dict[str, None] = {}
        "Names of those that were let in, the first one first."
        if certified is not None:
            self.ike.stranger = self._who
        self._names: dict[str, str] = {}
        "Of the terminals, to those of their peers."
        for terminal in settings.terminals:
            self._take(terminal)

    def _take(self, terminal: MapTerminal) -> None:
        if terminal.keys is not None and terminal.home_address is not None:
            other = map_peer(terminal.keys, terminal.home_address, self._address, terminal.form, at_terminal=False)
            self._names[terminal.name] = other.name
            self._admit(other, Renewal(mobile_ends(terminal.associations), self._learner(terminal), self._forget))

    # ------------------------------------------------------------ terminals that are not known beforehand

    def _who(self, identity: Identity, _remote: Endpoint, _chain: list[bytes]) -> Peer | None:
        """Somebody who is to show a certificate; nothing is kept of him before he has (see `Ike.stranger`)."""
        certified = self._engine.settings.certified
        if certified is None or identity.kind != IdType.IPV6_ADDR:
            return None
        home = IPv6Address(identity.data)
        if self._engine.serves(str(home)) or not self._has_room():
            return None
        return map_peer(certified.keys, home, self._address, certified.form, at_terminal=False)

    def _has_room(self) -> bool:
        if len(self._certified) < MOST_CERTIFIED:
            return True
        needed = {sa.peer_name for sa in self.ike.secrets()} | self._engine.cache.clients()
        for name in [name for name in self._certified if name not in needed]:
            del self._certified[name], self._names[name], self.ike.peers[name], self._renewals[name]
            self._engine.dismiss(name)
        return len(self._certified) < MOST_CERTIFIED

    def _let_in(self, name: str) -> None:
        certified = self._engine.settings.certified
        if certified is None or self._engine.serves(name):
            return
        known = associations(certified.form, certified.keys.algorithm, self._random, home_tests=False)
        terminal = MapTerminal(name, certified.form, known, IPv6Address(name), certified.keys)
        self._engine.admit(terminal)
        self._take(terminal)
        self._certified[name] = None

    def _carry_out(self, outputs: list[IkeOutput], now: float) -> list[Output]:
        for output in outputs:
            if isinstance(output, IkeUp) and output.peer not in self._renewals:
                self._let_in(output.peer)
        return super()._carry_out(outputs, now)

    # ------------------------------------------------------------ what becomes of bindings

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
