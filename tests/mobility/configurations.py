"""Configurations of nodes, as text, to be put together and changed by tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobility.config import (
    ConfigurationError,
    parse,
)

PATH = Path("node.toml")
CBC = "aes-cbc-hmac-sha2-256-128"
AH = "hmac-sha2-256-128"


def direction(spi: int, fill: int, algorithm: str = CBC) -> str:
    lengths = {
        CBC: (32, 32),
        "aes-gcm-16": (36, 0),
        "chacha20-poly1305": (36, 0),
        "null-hmac-sha2-256-128": (0, 32),
        AH: (0, 32),
    }
    encryption, authentication = (bytes([fill]) * length for length in lengths[algorithm])
    return (
        f'{{ spi = {spi}, algorithm = "{algorithm}", encryption = "{encryption.hex()}",'
        f' authentication = "{authentication.hex()}" }}'
    )


def pair(use: str, spi: int, more: str = "", algorithm: str = CBC) -> str:
    return (
        f'[[association]]\nuse = "{use}"\n{more}\n'
        f"outbound = {direction(spi, 1, algorithm)}\ninbound = {direction(spi + 1, 2, algorithm)}\n"
    )


MN = """
[node]
role = "mn"
runtime = "/run/test/mn"
[mobile_node]
home_address = "2001:db8:1::100/64"
home_agent = "2001:db8:1::a"
interfaces = ["eth0", "wlan0"]
"""
PAIRS = pair("signalling", 0x1001) + pair("tunnel", 0x2001)
APPLICATION = pair("application", 0x3001, 'name = "cn"\npeer = "2001:db8:5::2"')
HA = """
[node]
role = "ha"
[home_agent]
address = "2001:db8:1::a/64"
interface = "eth0"
[[home_agent.terminal]]
home_address = "2001:db8:1::100"
"""
HA_PAIRS = pair("signalling", 0x1001, 'peer = "2001:db8:1::100"') + pair("tunnel", 0x2001, 'peer = "2001:db8:1::100"')
CN = """
[node]
role = "cn"
[correspondent]
address = "2001:db8:5::2/64"
interface = "eth0"
"""


def complaint(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, PATH)
    message = str(caught.value)
    assert message.startswith("node.toml: ")
    return message


def agent(keys: str = "", terminal: str = "", after: str = "") -> str:
    head, _, rest = HA.partition("[[home_agent.terminal]]")
    return f"{head}{keys}\n[[home_agent.terminal]]{rest}{terminal}\n{HA_PAIRS}{after}"


ROUTED = agent(terminal='mobile_networks = ["2001:db8:1:7::/64"]').replace(
    'interface = "eth0"', 'home_link = "routed"\nprefixes = ["2001:db8:1::/56"]'
)
