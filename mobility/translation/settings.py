"""What the translation has to know, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from mobility.discards import Discard
from mobility.translation.table import TranslationTable

POOL4 = IPv4Network("198.18.0.0/16")
"Addresses for measurements in closed networks (RFC 2544): no private network and no host of the internet has them."
POOL6 = IPv6Network("64:ff9b:1::/96")
"Of the prefix for translators within one organisation (RFC 8215)."
SIP_PORT = 5060


@dataclass(frozen=True, slots=True)
class TranslationSettings:
    """Addresses and pools."""

    home_address: IPv6Address
    address4: IPv4Address
    "Virtual IPv4 address of interface 19."
    home_agent: IPv6Address
    pool4: IPv4Network = POOL4
    pool6: IPv6Network = POOL6
    servers: tuple[IPv6Address, ...] = ()
    "Name servers that programs ask; see `virtual_servers`."
    sip_ports: frozenset[int] = frozenset((SIP_PORT,))
    "Ports of SIP at correspondents; empty: SIP is carried as it is."

    def new_table(self) -> TranslationTable:
        """The table at the start, with the rows that never go: home agent first, then the name servers.

        Raises `ValueError`: the pools are too small.
        """
        table = TranslationTable(self.pool4, self.pool6, (self.address4,))
        try:
            for address in (self.home_agent, *self.servers):
                table.fix(address, 0.0)
        except Discard as discard:
            raise ValueError(f"the pool {self.pool4} is too small for home agent and name servers") from discard
        return table

    @property
    def virtual_servers(self) -> tuple[IPv4Address, ...]:
        """Under which IPv4 addresses programs find the name servers: always the same for the same settings.

        Raises `ValueError` as `new_table`.
        """
        table = self.new_table()
        return tuple(table.fix(server, 0.0) for server in self.servers)
