"""Bindings as they are kept outside of the process: for a restart, or for another home agent that takes over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Self

from mobility.links import endpoint, endpoint_address, unmapped
from mobility.mipv6.binding_cache import BINDINGS_PER_HOME, Binding


@dataclass(frozen=True, slots=True)
class BindingRecord:
    """All that a home agent has to know of one home address that is bound. One record is written as a whole."""

    home_address: IPv6Address
    bindings: tuple[Binding, ...]
    "The primary first. Here `Binding.expires` is wall-clock time: seconds since 1970."
    home_address4: IPv4Address | None = None
    "IPv4 home address that the terminal has."
    loss: int | None = None
    "Number of the last loss that the terminal told (`mobility.mipv6.again.Loss`)."

    @property
    def expires(self) -> float:
        """Wall-clock time after which the record is of no use."""
        return max(binding.expires for binding in self.bindings)

    def to_json(self) -> dict[str, object]:
        """Values that `json` writes; `from_json` is the other way round."""
        return {
            "home_address": str(self.home_address),
            "home_address4": None if self.home_address4 is None else str(self.home_address4),
            "loss": self.loss,
            "bindings": [
                {
                    "identifier": each.identifier,
                    "care_of_address": str(each.care_of_address),
                    "endpoint": None if each.native else _endpoint_text(each.endpoint),
                    "link": each.link,
                    "lifetime": each.lifetime,
                    "expires": each.expires,
                    "sequence": each.sequence,
                    "mobile_networks": [str(network) for network in each.mobile_networks],
                }
                for each in self.bindings
            ],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """Raises `ValueError`: not such a record; says what is wrong in it."""
        home_address = IPv6Address(_text(values, "home_address"))
        rows = values.get("bindings")
        if not isinstance(rows, list) or not 0 < len(rows) <= BINDINGS_PER_HOME:
            raise ValueError(
                f"binding record of {home_address}: `bindings` must hold 1 to {BINDINGS_PER_HOME} bindings"
            )
        if len({_number(row, "identifier", 0xFFFF) for row in rows}) < len(rows):
            raise ValueError(f"binding record of {home_address}: a binding identifier twice")
        address4 = values.get("home_address4")
        return cls(
            home_address,
            tuple(_binding(home_address, row) for row in rows),
            None if address4 is None else IPv4Address(_text(values, "home_address4")),
            None if values.get("loss") is None else _number(values, "loss", 0xFFFF),
        )


def _binding(home_address: IPv6Address, row: object) -> Binding:
    if not isinstance(row, Mapping):
        raise ValueError(f"binding record of {home_address}: {row!r} is no binding")
    expires = row.get("expires")
    if not isinstance(expires, int | float):
        raise ValueError(f"binding record of {home_address}: `expires` must be seconds, not {expires!r}")
    return Binding(
        home_address,
        ip_address(_text(row, "care_of_address")),
        _number(row, "lifetime", 0xFFFF * 4),
        float(expires),
        _number(row, "sequence", 0xFFFF),
        _number(row, "identifier", 0xFFFF),
        b"" if row.get("endpoint") is None else _endpoint(_text(row, "endpoint")),
        _text(row, "link"),
        _networks(row.get("mobile_networks", [])),
    )


def _networks(values: object) -> tuple[IPv6Network, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"binding record: `mobile_networks` must be a list of networks, not {values!r}")
    return tuple(IPv6Network(value) for value in values)


def _endpoint_text(value: bytes) -> str:
    return f"{unmapped(endpoint_address(value))} {int.from_bytes(value[16:])}"


def _endpoint(text: str) -> bytes:
    address, _, port = text.partition(" ")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= 0xFFFF:
        raise ValueError(f"binding record: {text!r} is no endpoint; an address, a space and a port were expected")
    return endpoint(ip_address(address), int(port))


def _text(values: object, key: str) -> str:
    value = values.get(key) if isinstance(values, Mapping) else None
    if not isinstance(value, str):
        raise ValueError(f"binding record: `{key}` must be text, not {value!r}")
    return value


def _number(values: object, key: str, largest: int) -> int:
    value = values.get(key) if isinstance(values, Mapping) else None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise ValueError(f"binding record: `{key}` must be a number from 0 to {largest}, not {value!r}")
    return value
