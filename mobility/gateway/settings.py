"""What `mobility.gateway.configuration` reads: the gateways of a terminal, and a gateway's own configuration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

Address = IPv4Address | IPv6Address

SOCKET = "gateways.sock"
"Of a terminal, beside ``control.sock``: status and events of its gateways, in the same protocol."

LOCAL = IPv6Network("100:0:0:1::/64")
"Inner names that are given no address have one of these in the host OS (a prefix that no packet may carry, RFC 9780)."


class Via(StrEnum):
    """Which way the outer session takes."""

    HOME = "home"
    "From the home address, through the mobile tunnel: it outlives handovers by itself."
    NETWORK = "network"
    "From the address in the access network; made anew after handovers."


class Protocol(StrEnum):
    """How inner connections share the outer session."""

    H2 = "h2"
    "HTTP/2 CONNECT (RFC 9113 section 8.5)."
    RAW = "raw"
    "One TLS connection for each; the terminator behind knows where to."


class ClientCertificate(StrEnum):
    """Whether terminals have to show one."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Destination:
    """What programs reach through a gateway."""

    host: str
    "As the gateway knows it: a name or an address."
    ports: tuple[int, ...]
    address: Address
    "What it has in the host OS, where the terminal listens for it."
    outer_port: int | None = None
    "Raw only: port of the terminator for this one; None: the gateway's."
    outer_name: str | None = None
    "Raw only: name for SNI and certificate; None: the gateway's."

    @property
    def is_name(self) -> bool:
        return self.host != str(self.address)


@dataclass(frozen=True, slots=True)
class GatewayAccess:
    """A gateway as a terminal uses it."""

    name: str
    host: str
    port: int
    server_name: str
    "What its certificate must prove."
    destinations: tuple[Destination, ...]
    via: Via = Via.HOME
    protocol: Protocol = Protocol.H2
    ca_file: Path | None = None
    "None: the authorities that the system trusts."
    certificate: Path | None = None
    private_key: Path | None = None
    keepalive: float = 20.0
    "Seconds without anything after which a sign of life is asked for."
    hold: float = 60.0
    "Seconds for which open connections of programs wait for a lost session."
    key_log: Path | None = None

    @property
    def via_home(self) -> bool:
        return self.via is Via.HOME


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a gateway lets terminals reach."""

    host: str
    "Name or address, in lower case."
    ports: tuple[int, ...]
    clients: tuple[str, ...] | None = None
    "Names in certificates of terminals; None: everybody."
    address: Address | None = None
    "Of a name; None: it is looked up."


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """A gateway's own."""

    listen: tuple[tuple[Address, int], ...]
    certificate: Path
    private_key: Path
    allowed: tuple[Allowed, ...]
    client_certificate: ClientCertificate = ClientCertificate.NONE
    client_ca: Path | None = None
    keepalive: float = 20.0
    hold: float = 60.0
    sessions: int = 256
    "Outer connections at a time."
    tunnels: int = 64
    "Of one session at a time."
    key_log: Path | None = None
