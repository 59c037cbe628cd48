"""Records for tests."""

from __future__ import annotations

from ipaddress import IPv6Address

from mobility.mipv6.binding_cache import Binding
from mobility.mipv6.binding_records import BindingRecord


def record(
    number: int = 1, *, expires: float = 1000.0, sequence: int = 7, care_of: str = "2001:db8:2::9"
) -> BindingRecord:
    """The terminal with this number, at one place."""
    home = IPv6Address(f"2001:db8:1::{number:x}")
    return BindingRecord(home, (Binding(home, IPv6Address(care_of), 420, expires, sequence),))
