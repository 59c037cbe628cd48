"""Mobile networks in configuration files."""

from __future__ import annotations

from ipaddress import IPv6Network
from pathlib import Path

import pytest

from mobility.config import ConfigurationError, parse

HA = """
[node]
role = "ha"
[home_agent]
address = "2001:db8:1::a/64"
interface = "eth0"
"""


def terminal(number: int, more: str) -> str:
    return f"""
[[home_agent.terminal]]
home_address = "2001:db8:1::{number}"
tunnel = "plain"
signalling = "none"
{more}
"""


def test_networks_that_a_terminal_may_take_along() -> None:
    text = (
        HA
        + terminal(1, 'mobile_networks = ["2001:db8:9::/64", "2001:db8:9:8::/61"]\nimplicit = false')
        + terminal(2, "")
    )
    read = parse(text, Path("ha.toml")).home_agent
    assert read is not None
    first, second = read.terminals
    assert first.mobile_networks == (IPv6Network("2001:db8:9::/64"), IPv6Network("2001:db8:9:8::/61"))
    assert (first.implicit, second.implicit, second.mobile_networks) == (False, True, ())


LIST = "mobile_networks: "
MISTAKES = {
    "an address": ('mobile_networks = ["2001:db8:9::1/64"]', LIST),
    "everything": ('mobile_networks = ["::/0"]', LIST),
    "too long": ('mobile_networks = ["2001:db8:9::/129"]', LIST),
    "multicast": ('mobile_networks = ["ff02::/64"]', LIST),
    "link-local": ('mobile_networks = ["fe80::/64"]', LIST),
    "IPv4": ('mobile_networks = ["10.0.0.0/8"]', LIST),
    "inside each other": ('mobile_networks = ["2001:db8:9::/64", "2001:db8:9::/48"]', LIST),
    "the home network": ('mobile_networks = ["2001:db8:1::/48"]', "2001:db8:1::/48 overlaps 2001:db8:1::/64"),
    "that of another": ('mobile_networks = ["2001:db8:7:8::/64"]', "2001:db8:7:8::/64 overlaps 2001:db8:7::/48"),
    "implicit what": ("implicit = false", "implicit: is for mobile routers, which have mobile_networks"),
}


@pytest.mark.parametrize(("line", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_named(line: str, expected: str) -> None:
    text = HA + terminal(1, 'mobile_networks = ["2001:db8:7::/48"]') + terminal(2, line)
    with pytest.raises(ConfigurationError) as caught:
        parse(text, Path("ha.toml"))
    assert str(caught.value).startswith("ha.toml: home_agent.terminal[1].")
    assert expected in str(caught.value)
