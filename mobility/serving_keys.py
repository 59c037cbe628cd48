"""The end of IKE that answers, as home agents and MAPs have it: terminals negotiate from wherever they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from ipaddress import IPv6Address

from mobility.host.errors import TokenBucket
from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.ike.events import Output as IkeOutput
from mobility.ipsec.ike.events import Send
from mobility.ipsec.ike.numbers import IKE_PORT, NAT_PORT
from mobility.ipsec.ike.settings import Endpoint, Peer
from mobility.negotiated import Failures, Renewal, esp_spi, ike_settings
from mobility.outputs import Output
from mobility.wire import udp

PORTS = (IKE_PORT, NAT_PORT)
HINTS_PER_SECOND = 100.0
"Answers to unknown SPIs: whoever makes us send them may not be who he says."


class ServingKeys:
    """Keys of all terminals that want them, natively. The name of a terminal is that of its peer."""

    def __init__(
        self,
        address: IPv6Address,
        lifetime: float,
        taken: Callable[[int], bool],
        put: Callable[[bytes, float], list[Output]],
        random: Callable[[int], bytes],
        utc: Callable[[], datetime],
    ) -> None:
        """``address``: ours; ``lifetime``: seconds, of keys of ESP; ``taken``: whether an SPI is; ``put``: sends a
        packet."""
        self.ike = Ike(
            ike_settings(lifetime, at_terminal=False), random=random, utc=utc, esp_spi=lambda: esp_spi(random, taken)
        )
        self.failures = Failures(self.ike.established)
        self._address = address
        self._put = put
        self._random = random
        self._renewals: dict[str, Renewal] = {}
        self._hints = TokenBucket(HINTS_PER_SECOND, HINTS_PER_SECOND)

    def _admit(self, other: Peer, renewal: Renewal) -> None:
        self.ike.peers[other.name] = other
        self._renewals[other.name] = renewal

    def _dismiss(self, name: str, why: str, now: float) -> list[Output]:
        outputs = self._carry_out(self.ike.close(name, why, now), now)
        del self.ike.peers[name], self._renewals[name]
        return outputs

    def counters(self) -> list[dict[str, object]]:
        """As `Renewal.counters`, of all terminals that have keys."""
        return [row for name, each in self._renewals.items() if each.complete for row in each.counters(name)]

    def packet(self, payload: bytes, ports: tuple[int, int], source: IPv6Address, now: float) -> list[Output]:
        """What a UDP packet to our own address carries; ``ports``: of source and destination."""
        ends = Endpoint(self._address, ports[1]), Endpoint(source, ports[0])
        return self._carry_out(self.ike.receive(payload, *ends, now), now)

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return self.ike.timer

    def handle_timer(self, now: float) -> list[Output]:
        """Something is sent again, or ends."""
        return self._carry_out(self.ike.handle_timer(now), now)

    def _carry_out(self, outputs: list[IkeOutput], now: float) -> list[Output]:
        result: list[Output] = []
        for output in outputs:
            if isinstance(output, Send):
                result += self._send(output, now)
                continue
            renewal = self._renewals.get(getattr(output, "peer", ""))
            if renewal is not None:
                renewal.follow(output)
            self.failures.note(output)
            result.append(output)
        return result

    def _send(self, send: Send, now: float) -> list[Output]:
        remote = send.remote
        if not isinstance(remote.address, IPv6Address):
            return []
        ends = self._address.packed + remote.address.packed
        return self._put(udp.packet(ends, (send.local.port, remote.port), send.data), now)
