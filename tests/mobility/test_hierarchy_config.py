"""What configurations say of mobility anchor points, and what mistakes are answered with; the nodes that come of it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from mobility.anchor_point import AnchorPointNode
from mobility.assembly import build
from mobility.config import Configuration, ConfigurationError, Role, parse
from mobility.hmipv6.map_list import MapPolicy
from mobility.hmipv6.regional_settings import RegionalSettings
from mobility.key_settings import WHICHEVER
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.netlink import LinkState
from mobility.sequences import SequenceFile
from mobility.terminal import Terminal
from mobility.wire.map_option import MapOption
from tests.mobility.configurations import MN, PAIRS, pair

PATH = Path("node.toml")
MAP, HOME = IPv6Address("2001:db8:9::9"), IPv6Address("2001:db8:1::100")
ANCHOR = f"""
[node]
role = "map"
[map]
address = "{MAP}"
interface = "eth0"
"""
TERMINAL = f"""
[[map.terminal]]
home_address = "{HOME}"
"""
ADVERTISE = f"""
[[map.advertise]]
interface = "link0"
router = "fe80::1"
prefixes = ["2001:db8:a::/64"]
[[map.advertise.map]]
address = "{MAP}"
type = 2
distance = 3
"""
KEYS = pair("signalling", 0x1001, f'peer = "{HOME}"')


def anchor(text: str = TERMINAL + KEYS) -> Configuration:
    return parse(ANCHOR + text, PATH)


def terminal(keys: str, text: str = "") -> Configuration:
    return parse(MN.replace("[mobile_node]\n", f"[mobile_node]\n{keys}\n", 1) + PAIRS + text, PATH)


@pytest.fixture
def sequences(tmp_path: Path) -> Iterator[SequenceFile]:
    file = SequenceFile(tmp_path / "sequences")
    file.open()
    yield file
    file.close()


def link(name: str) -> LinkState:
    return LinkState(1, name, bytes.fromhex("020000000001"), 1500, up=True, ethernet=True)


def test_a_map_with_a_terminal_becomes_its_node(sequences: SequenceFile) -> None:
    configuration = anchor(TERMINAL + ADVERTISE + KEYS)
    assert configuration.role is Role.MAP
    assert configuration.interfaces == ("eth0", "link0")
    assert configuration.host_os is None
    node = build(configuration, {name: link(name) for name in configuration.interfaces}, sequences)
    assert isinstance(node, AnchorPointNode)
    assert node.engine is not None
    assert node.engine.settings.prefix == IPv6Network("2001:db8:9::/64")
    (advertiser,) = node.advertisers.values()
    assert advertiser.advertising.router_lifetime == 1800
    assert advertiser.advertising.options == (MapOption(MAP, 1800, 3, 15, must_use_source=True),)


def test_an_announcer_needs_no_map_of_its_own(sequences: SequenceFile) -> None:
    configuration = parse('[node]\nrole = "map"\n[map]\n' + ADVERTISE, PATH)
    assert configuration.interfaces == ("link0",)
    node = build(configuration, {"link0": link("link0")}, sequences)
    assert isinstance(node, AnchorPointNode)
    assert node.engine is None


def test_a_terminal_with_maps_has_keys_with_each(sequences: SequenceFile) -> None:
    text = (
        f'[[mobile_node.map]]\naddress = "{MAP}"\ntunnel = "esp"\n'
        + pair("signalling", 0x5001, f'peer = "{MAP}"\nname = "s"')
        + pair("tunnel", 0x7001, f'peer = "{MAP}"\nname = "t"')
    )
    configuration = terminal('maps = "nearest"\nmap_lifetime = 120', text)
    node = build(configuration, {"wlan0": link("wlan0"), "eth0": link("eth0")}, sequences)
    assert isinstance(node, Terminal)
    regional = node.settings.regional
    assert regional is not None
    assert (regional.policy, regional.lifetime, regional.others) == (MapPolicy.NEAREST, 120, None)
    assert regional.anchors[MAP].form is TunnelForm.ESP
    assert regional.anchors[MAP].associations.signalling_out is not None


def test_without_a_word_no_map_is_used(sequences: SequenceFile) -> None:
    node = build(parse(MN + PAIRS, PATH), {"wlan0": link("wlan0"), "eth0": link("eth0")}, sequences)
    assert isinstance(node, Terminal)
    assert node.settings.regional is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "with certified = true, or all with open = true"),
        (TERMINAL, 'association: one with use = "signalling"'),
        (TERMINAL + TERMINAL + KEYS, "is there twice"),
        (TERMINAL + 'signalling = "none"\n', "open = true"),
        (TERMINAL + KEYS + pair("application", 0x3001, f'peer = "{HOME}"'), "a MAP has no applications"),
        (TERMINAL + KEYS + ADVERTISE + ADVERTISE, "link0 is there twice"),
        (TERMINAL + KEYS + ADVERTISE.replace('router = "fe80::1"\n', ""), "link-local address of the router"),
        (TERMINAL + KEYS + ADVERTISE.replace("fe80::1", "2001:db8::1"), 'such as "fe80::1"'),
        (TERMINAL + KEYS + ADVERTISE.replace("type = 2", "type = 4"), "1 (both ways"),
        (TERMINAL + KEYS + ADVERTISE.replace("distance = 3", "distance = 0"), "between 1 and 15"),
        (TERMINAL + KEYS + ADVERTISE.replace("/64", "/48"), "networks with 64 bits"),
        (TERMINAL + KEYS + ADVERTISE.replace("router =", "interval = [5.0, 2.0]\nrouter ="), "shortest interval"),
        (TERMINAL + KEYS + ADVERTISE.replace("router =", "preferred_lifetime = 9000\nrouter ="), "longer than"),
        ("nonsense = 1\n" + TERMINAL + KEYS, "nonsense"),
    ],
)
def test_mistakes_of_a_map(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        anchor(text)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'[map]\naddress = "{MAP}"\n' + TERMINAL, "goes with address"),
        ("[map]\n", "what is advertised"),
        ("[map]\nopen = true\n" + ADVERTISE, "needs an address"),
    ],
)
def test_mistakes_of_an_announcer(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse('[node]\nrole = "map"\n' + text, PATH)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("keys", "text", "words"),
    [
        ('maps = "farthest"', "", "needs a table [[mobile_node.map]]"),
        ("unknown_maps = true", "", "which of the MAPs"),
        ('maps = "best"', "", "farthest"),
        ('maps = "farthest"', f'[[mobile_node.map]]\naddress = "{MAP}"\n', 'peer = "2001:db8:9::9" is missing'),
        ('maps = "farthest"', f'[[mobile_node.map]]\naddress = "{MAP}"\nsignalling = "none"\n' * 2, "twice"),
        ('maps = "farthest"', '[[mobile_node.map]]\naddress = "2001:db8:1::a"\nsignalling = "none"\n', "home agent"),
        ("", pair("signalling", 0x5001, f'peer = "{MAP}"\nname = "s"'), "has to be the home agent"),
    ],
)
def test_mistakes_of_a_terminal(keys: str, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        terminal(keys, text)
    assert words in str(raised.value)


TOKEN = bytes(range(32)).hex()
KNOWN = f'[[mobile_node.map]]\naddress = "{MAP}"\ntunnel = "esp"\n'
FOR_ALL = f'[[ike]]\nuse = "map"\ntoken = "{TOKEN}"\n'
WITH_ONE = f'[[ike]]\nuse = "map"\npeer = "{MAP}"\ntoken = "{TOKEN}"\nlifetime = 600\n'


def regional(keys: str, text: str, sequences: SequenceFile) -> RegionalSettings:
    node = build(terminal(keys, text), {"wlan0": link("wlan0"), "eth0": link("eth0")}, sequences)
    assert isinstance(node, Terminal)
    assert node.settings.regional is not None
    return node.settings.regional


def test_keys_with_maps_that_are_negotiated(sequences: SequenceFile) -> None:
    found = regional('maps = "nearest"', KNOWN + FOR_ALL, sequences)
    assert found.others is None
    assert found.anchors[MAP].source is not None
    assert found.anchors[MAP].associations.signalling_out is None
    found = regional('maps = "nearest"\nunknown_maps = true\nmap_tunnel = "esp"', FOR_ALL, sequences)
    assert found.others is not None
    assert (found.others.form, found.others.source is not None) == (TunnelForm.ESP, True)
    found = regional('maps = "nearest"\nunknown_maps = true', KNOWN + WITH_ONE, sequences)
    assert found.others is not None
    assert found.others.source is None
    source = found.anchors[MAP].source
    assert source is not None
    assert source.lifetime == 600.0


def test_a_map_whose_keys_are_written_down_keeps_them(sequences: SequenceFile) -> None:
    typed = pair("signalling", 0x5001, f'peer = "{MAP}"\nname = "s"')
    typed += pair("tunnel", 0x7001, f'peer = "{MAP}"\nname = "t"')
    found = regional('maps = "nearest"\nunknown_maps = true', KNOWN + typed + FOR_ALL, sequences)
    assert found.anchors[MAP].source is None
    assert found.anchors[MAP].associations.tunnel_in is not None
    assert found.others is not None
    assert found.others.source is not None


def test_a_map_that_negotiates(sequences: SequenceFile) -> None:
    keys = f'[[ike]]\npeer = "{HOME}"\ntoken = "{TOKEN}"\n'
    node = build(anchor(TERMINAL + 'tunnel = "esp"\n' + keys), {"eth0": link("eth0")}, sequences)
    assert isinstance(node, AnchorPointNode)
    (ike,) = node.negotiations()
    assert list(ike.peers) == [str(HOME)]
    node = build(anchor(), {"eth0": link("eth0")}, sequences)
    assert isinstance(node, AnchorPointNode)
    assert node.negotiations() == []


@pytest.mark.parametrize(
    ("keys", "text", "why"),
    [
        ("", FOR_ALL, "is for terminals with `maps`"),
        ('maps = "nearest"\nunknown_maps = true', WITH_ONE, "there is no .*map.* with this address"),
        ('maps = "nearest"', KNOWN + 'signalling = "none"\n' + WITH_ONE, 'signalling = "esp" only'),
        ('maps = "nearest"', KNOWN + FOR_ALL + FOR_ALL, "with whichever there is already"),
        ('maps = "nearest"\nunknown_maps = true\nmap_tunnel = "esp"', "", "map_tunnel: needs keys"),
        (
            'maps = "nearest"',
            KNOWN + WITH_ONE + pair("signalling", 0x5001, f'peer = "{MAP}"\nname = "s"'),
            "come from IKE",
        ),
    ],
)
def test_what_does_not_fit_together_with_negotiated_keys(keys: str, text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        terminal(keys, text)


def test_a_map_says_with_whom(sequences: SequenceFile) -> None:
    with pytest.raises(ConfigurationError, match="there is no terminal with this home address"):
        anchor(TERMINAL + KEYS + f'[[ike]]\npeer = "{MAP}"\ntoken = "{TOKEN}"\n')
    with pytest.raises(ConfigurationError, match="is for terminals"):
        anchor(TERMINAL + KEYS + FOR_ALL)


SHOWN = '[[ike]]\ncertificate = "map.pem"\nprivate_key = "map.key"\nauthorities = ["terminals.pem"]\n'


def test_a_map_for_whoever_has_a_certificate() -> None:
    settings = anchor('certified = true\ntunnel = "esp"\n' + SHOWN).anchor_point
    assert settings is not None
    assert (settings.certified, settings.tunnel) == (True, TunnelForm.ESP)
    listed = anchor("certified = true\n" + TERMINAL + f'[[ike]]\npeer = "{HOME}"\ntoken = "{TOKEN}"\n' + SHOWN)
    assert [each.peer for each in listed.key_exchanges] == [HOME, WHICHEVER]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("certified = true\n", "map.certified: wants an"),
        (f'certified = true\n[[ike]]\ntoken = "{TOKEN}"\n', "map.certified: wants an"),
        ('tunnel = "esp"\nopen = true\n', "map.tunnel: goes with certified"),
        (TERMINAL + KEYS + SHOWN, "ike.*peer: is missing"),
    ],
)
def test_certificates_at_a_map_that_do_not_fit(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        anchor(text)
