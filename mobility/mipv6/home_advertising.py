"""What a home agent tells the home link of itself, for other home agents' lists (RFC 6275 sections 7.1, 7.2, 7.4).

It is no router of the link and says so: a router lifetime of zero, and a prefix that nobody can use for anything but
to read the home agent's address in it.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

from mobility.host.advertiser import Advertising
from mobility.wire import ndisc

INTERVAL = 60.0
"Seconds between two advertisements, at most."
_LIFETIMES = 3
"So many intervals an advertisement holds good."


def advertising(address: IPv6Address, prefix_length: int, preference: int, interval: float) -> Advertising:
    """``preference``: -32768 to 32767; ``interval``: seconds. Raises `ValueError`: out of range."""
    if not -0x8000 <= preference <= 0x7FFF:
        raise ValueError(f"the preference {preference} is not between -32768 and 32767")
    return Advertising(
        router_lifetime=0,
        prefixes=(ndisc.PrefixInformation(address, prefix_length, 0, 0, False, False, router_address=True),),
        max_interval=interval,
        min_interval=interval / 3,
        hop_limit=0,
        home_agent=True,
        options=(ndisc.HomeAgentInformation(preference & 0xFFFF, min(0xFFFF, round(_LIFETIMES * interval))),),
    )


def farewell(before: Advertising) -> Advertising:
    """It is no home agent any more: without the H flag, because the option has no lifetime of zero (section 7.4)."""
    return replace(before, home_agent=False, options=())
