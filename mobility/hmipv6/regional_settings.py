"""What the terminal's regional part has to know from its configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Address

from mobility.hmipv6.map_list import MapPolicy
from mobility.ipsec.processing import IpsecProcessing
from mobility.key_source import KeySource
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm


@dataclass(frozen=True, slots=True)
class AnchorKeys:
    """How the traffic with one MAP is protected."""

    form: TunnelForm = TunnelForm.PLAIN
    associations: MobileAssociations = field(default_factory=MobileAssociations)
    source: KeySource | None = None
    "Where the keys come from, in place of the associations."


@dataclass(frozen=True, slots=True)
class Secured:
    """The same, ready to be used."""

    form: TunnelForm
    security: IpsecProcessing
    negotiated: bool = False
    "The MAP is asked to have its keys follow the terminal (the K bit)."


@dataclass(frozen=True, slots=True)
class RegionalSettings:
    """Of a terminal that uses mobility anchor points."""

    policy: MapPolicy = MapPolicy.FARTHEST
    anchors: dict[IPv6Address, AnchorKeys] = field(default_factory=dict)
    "MAPs that are known."
    others: AnchorKeys | None = None
    "How the traffic with MAPs is protected that are not known; None: they are not used."
    lifetime: int = 600
    "Seconds that local binding updates ask for; a multiple of four."
