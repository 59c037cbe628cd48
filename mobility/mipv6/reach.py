"""Access policy of a home agent: which networks a terminal may talk to."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address

REMEMBERED = 4096
"Addresses whose judgement is remembered."


class Reach:
    """Networks, of either version of IP. Answers for an address of 4 or 16 octets."""

    __slots__ = ("_judged", "networks")

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        self.networks = tuple(networks)
        self._judged: dict[bytes, bool] = {}

    def __contains__(self, address: bytes) -> bool:
        judged = self._judged.get(address)
        if judged is None:
            parsed = ip_address(address)
            judged = any(parsed.version == network.version and parsed in network for network in self.networks)
            if len(self._judged) >= REMEMBERED:
                self._judged.clear()
            self._judged[address] = judged
        return judged
