"""What the terminal's regional part has to know from its configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Address

from mobility.hmipv6.map_list import MapPolicy
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm


@dataclass(frozen=True, slots=True)
class AnchorKeys:
    """How the traffic with one MAP is protected."""

    form: TunnelForm = TunnelForm.PLAIN
    associations: MobileAssociations = field(default_factory=MobileAssociations)


@dataclass(frozen=True, slots=True)
class RegionalSettings:
    """Of a terminal that uses mobility anchor points."""

    policy: MapPolicy = MapPolicy.FARTHEST
    anchors: dict[IPv6Address, AnchorKeys] = field(default_factory=dict)
    "MAPs that are known."
    others: bool = False
    "MAPs that are not known may be used as well, without protection."
    lifetime: int = 600
    "Seconds that local binding updates ask for; a multiple of four."
