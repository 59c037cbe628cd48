"""A home agent's end of IKE: terminals negotiate their keys from wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from ipaddress import IPv6Address

from mobility.host.errors import TokenBucket
from mobility.ipsec.ike.events import Send
from mobility.ipsec.ike.numbers import IKE_PORT, NON_ESP_MARKER
from mobility.ipsec.ike.settings import Endpoint
from mobility.ipsec.renewable import RenewableInbound
from mobility.links import endpoint
from mobility.mipv6.home_agent import HomeAgent
from mobility.mipv6.home_paths import Path
from mobility.mipv6.home_settings import AuthorisedTerminal
from mobility.negotiated import SIGNALLING, Renewal, as_endpoint, mobile_ends, no_keys, peer
from mobility.outputs import Output
from mobility.serving_keys import PORTS, ServingKeys

FIRST_CALL, LAST_CALL = 0.2, 30.0
"Seconds between two calls of a terminal that has keys which we do not have; doubled, and given up beyond the last."
CALLS_PER_SECOND = 50.0
"Terminals that are called."
MOST_WAYS = 4096
"Endpoints of datagrams whose link is remembered."


class AgentKeys(ServingKeys):
    """Negotiates the keys of all terminals that want it, natively and in the datagrams of tunnels."""

    def __init__(
        self,
        engine: HomeAgent,
        terminals: Iterable[AuthorisedTerminal],
        random: Callable[[int], bytes],
        utc: Callable[[], datetime],
    ) -> None:
        terminals = tuple(terminals)
        lifetime = max((each.keys.lifetime for each in terminals if each.keys is not None), default=3600.0)
        super().__init__(engine.settings.address, lifetime, engine.security.knows, engine.link.send, random, utc)
        self._engine = engine
        self._bereft: dict[IPv6Address, tuple[float, float]] = {}
        "Terminals that have keys which we do not have: when they are told again, and after which interval."
        self._calls = TokenBucket(CALLS_PER_SECOND, CALLS_PER_SECOND)
        self._links: dict[Endpoint, str] = {}
        "Link of UDP by which an endpoint was heard last."
        self.reconfigure(terminals, 0.0)

    def reconfigure(self, terminals: Iterable[AuthorisedTerminal], now: float) -> list[Output]:
        """Other terminals from now on; what is agreed with one that has gone, or has another secret, ends."""
        wanted = {}
        for each in terminals:
            if each.keys is not None and each.admitted:
                other = peer(
                    each.keys, each.home_address, self._address, each.form, each.mobile_networks, at_terminal=False
                )
                wanted[other.name] = other, each
        outputs: list[Output] = []
        for name, known in list(self.ike.peers.items()):
            after = wanted.get(name)
            if after is None or after[0] != known or self._renewals[name].ends != mobile_ends(after[1].associations):
                outputs += self._dismiss(name, "its configuration has changed", now)
        for name, (other, terminal) in wanted.items():
            if name not in self.ike.peers:
                self._admit(other, Renewal(mobile_ends(terminal.associations), self._learner(terminal), self._forget))
        return outputs

    # ------------------------------------------------------------ what comes

    def datagram(self, payload: bytes, sender: bytes, link: str, port: int, now: float) -> list[Output]:
        """As `packet`, in a datagram of tunnels, with its marker; ``link``: of UDP, empty: to our own address."""
        remote = as_endpoint(sender, port)
        self._links.pop(remote, None)
        self._links[remote] = link
        if len(self._links) > MOST_WAYS:
            del self._links[next(iter(self._links))]
        return self._carry_out(self.ike.receive(payload, Endpoint(self._address, port), remote, now), now)

    def moved(self, home_address: IPv6Address, path: Path | None, now: float) -> list[Output]:
        """A binding update told where a terminal is (the K bit, RFC 6275 section 10.3.1)."""
        name = str(home_address)
        if path is None or name not in self.ike.peers:
            return []
        remote = as_endpoint(path.source, IKE_PORT)
        port = IKE_PORT if path.native else self._engine.settings.udp_port
        if not path.native:
            self._links[remote] = path.link
        return self._carry_out(self.ike.move(name, Endpoint(self._address, port), remote, now, tell=False), now)

    def stand_by(self) -> None:
        """Another home agent serves: all that was agreed is forgotten, without a word to anybody."""
        for name in self._renewals:
            for output in self.ike.forget(name, "another home agent serves"):
                self._renewals[name].follow(output)
        self._bereft.clear()

    # ------------------------------------------------------------ terminals whose keys are not here

    def bereft(self, home_addresses: Iterable[IPv6Address], now: float) -> None:
        """These were bound before us, with keys that nobody has kept: they are told, until they have agreed on others.

        Otherwise those that are silent would not notice before their next binding update, and nothing would reach them.
        """
        for home in home_addresses:
            name = str(home)
            if name in self._renewals and not self._renewals[name].complete:
                self._bereft[home] = now + FIRST_CALL, FIRST_CALL

    def unknown_spi(self, spi: bytes, path: Path, now: float) -> list[Output]:
        """ESP came under an SPI that is not known here: whoever sent it is told."""
        return self._tell(no_keys(self._random, spi), path, now) if self._hints.take(now) else []

    def _call(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        for home, (due, interval) in list(self._bereft.items()):
            if due > now:
                continue
            path = self._engine.path_of(home)
            renewal = self._renewals.get(str(home))
            if path is None or renewal is None or renewal.complete or interval > LAST_CALL:
                del self._bereft[home]
            elif self._calls.take(now):
                self._bereft[home] = now + 2 * interval, 2 * interval
                outputs += self._tell(no_keys(self._random), path, now)
            else:
                self._bereft[home] = now + FIRST_CALL, interval
        return outputs

    def _tell(self, message: bytes, path: Path, now: float) -> list[Output]:
        remote = as_endpoint(path.source, IKE_PORT)
        if path.native:
            return self._send(Send(message, Endpoint(self._address, IKE_PORT), remote), now)
        local = Endpoint(self._address, self._engine.settings.udp_port)
        self._links[remote] = path.link
        return self._send(Send(NON_ESP_MARKER + message, local, remote), now)

    # ------------------------------------------------------------ time

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        times = [due for due, _ in self._bereft.values()]
        times += [] if self.ike.timer is None else [self.ike.timer]
        return min(times, default=None)

    def handle_timer(self, now: float) -> list[Output]:
        """Something is sent again, or ends."""
        outputs = super().handle_timer(now)
        return outputs + self._call(now) if self._bereft else outputs

    # ------------------------------------------------------------ what IKE says

    def _send(self, send: Send, now: float) -> list[Output]:
        if send.local.port in PORTS and isinstance(send.remote.address, IPv6Address):
            return super()._send(send, now)
        path = Path(endpoint(send.remote.address, send.remote.port), self._links.get(send.remote, ""))
        return self._engine.send_datagram(send.data, path, now)

    def _learner(self, terminal: AuthorisedTerminal) -> Callable[[str, int, RenewableInbound], None]:
        def learn(name: str, spi: int, sa: RenewableInbound) -> None:
            self._engine.learn(terminal.home_address, spi, sa, tunnel=name != SIGNALLING)

        return learn

    def _forget(self, name: str, spi: int) -> None:
        self._engine.forget(spi)
