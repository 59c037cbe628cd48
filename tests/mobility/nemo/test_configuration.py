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


ROUTER = """
[node]
role = "router"
[mobile_node]
home_address = "2001:db8:1::1001/64"
home_agent = "2001:db8:1::a"
interfaces = ["wlan0"]
tunnel = "plain"
signalling = "none"
"""


def behind(interface: str = "lan0", prefix: str = "2001:db8:9:1::/64") -> str:
    return f'[[mobile_router.network]]\ninterface = "{interface}"\nprefix = "{prefix}"\n'


def test_a_mobile_router() -> None:
    text = ROUTER + behind() + behind("lan1", "2001:db8:9:2::/64") + behind("lan0", "2001:db8:9:3::/64")
    read = parse(text, Path("router.toml"))
    assert read.mobile_router is not None
    assert read.mobile_router.interfaces == {
        "lan0": (IPv6Network("2001:db8:9:1::/64"), IPv6Network("2001:db8:9:3::/64")),
        "lan1": (IPv6Network("2001:db8:9:2::/64"),),
    }
    assert read.mobile_router.explicit is False
    assert read.interfaces == ("wlan0", "lan0", "lan1")
    assert read.host_address is not None
    explicit = parse(ROUTER + '[mobile_router]\nmode = "explicit"\n' + behind(), Path("router.toml")).mobile_router
    assert explicit is not None
    assert explicit.explicit is True


ROUTER_MISTAKES = {
    "no table": ("", "mobile_router: is missing"),
    "no networks": ("[mobile_router]\n", "mobile_router.network: is missing"),
    "mode": ('[mobile_router]\nmode = "guess"\n' + behind(), "mobile_router.mode: 'guess' is not one of"),
    "not of 64 bits": (behind(prefix="2001:db8:9::/48"), "mobile_router.network[0].prefix: "),
    "the home network": (behind(prefix="2001:db8:1::/64"), "2001:db8:1::/64 is the home network"),
    "twice": (behind() + behind("lan1"), "mobile_router.network[1].prefix: 2001:db8:9:1::/64 is there already"),
    "to the outside": (behind("wlan0"), "mobile_router.network[0].interface: wlan0 leads to the outside"),
    "maps": (
        'maps = "nearest"\nunknown_maps = true\n' + behind(),
        "mobile_router.network: does not go with mobility anchor points",
    ),
    "translation": (behind() + "[translation]\n", "translation: is not known here"),
}


@pytest.mark.parametrize(("text", "expected"), ROUTER_MISTAKES.values(), ids=ROUTER_MISTAKES.keys())
def test_mistakes_of_routers_are_named(text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(ROUTER + text, Path("router.toml"))
    assert expected in str(caught.value)


def test_a_router_names_its_home_agent() -> None:
    text = ROUTER.replace('"2001:db8:1::a"', '"discover"') + behind()
    with pytest.raises(ConfigurationError, match="needs one home address, and a home agent that is named"):
        parse(text, Path("router.toml"))
