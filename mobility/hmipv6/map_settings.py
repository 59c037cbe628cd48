"""What a mobility anchor point has to know from its configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network

from mobility.key_source import KeySource
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm

PREFIX_LENGTH = 64
"Of regional care-of addresses (RFC 5380 section 9)."


@dataclass(frozen=True, slots=True)
class MapTerminal:
    """A terminal that proves by its keys that it may register. Its addresses are not known beforehand."""

    name: str
    "Unique."
    form: TunnelForm = TunnelForm.PLAIN
    associations: MobileAssociations = field(default_factory=MobileAssociations)
    home_address: IPv6Address | None = None
    "Names it where keys are negotiated; the MAP does not use it otherwise."
    keys: KeySource | None = None
    "Where those of the associations come from; None: they have them."


@dataclass(frozen=True, slots=True)
class CertifiedTerminals:
    """Terminals that are not known beforehand: certificates show who they are."""

    keys: KeySource
    form: TunnelForm = TunnelForm.PLAIN


@dataclass(frozen=True, slots=True)
class MapSettings:
    """The mobility anchor point itself."""

    address: IPv6Address
    terminals: tuple[MapTerminal, ...] = ()
    open: bool = False
    "Terminals without keys may register, too. Anybody can then forge their updates: for experiments."
    certified: CertifiedTerminals | None = None
    "Whoever shows one of these certificates may register, too."
    max_lifetime: int = 600
    "Seconds; no binding is granted more."
    cache_limit: int = 4096
    "Bindings at a time."
    cache_limit_per_terminal: int = 4
    error_rate: float = 10.0
    "Binding errors a second to those who are not bound, all together."

    @property
    def prefix(self) -> IPv6Network:
        """That RCoAs are in."""
        return IPv6Network((self.address, PREFIX_LENGTH), strict=False)
