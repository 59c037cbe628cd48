"""Keys of the application that are negotiated, in configurations."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobility.application_keys import ApplicationKeys
from mobility.assembly import build
from mobility.call_service import HasApplicationKeys
from mobility.config import CallKeys, Configuration, ConfigurationError, KeyUse, parse
from mobility.ipsec.algorithms import Algorithm
from mobility.node_certificate import FILE as CERTIFICATE
from mobility.node_certificate import node_certificate
from mobility.sequences import SequenceFile
from tests.mobility.configurations import APPLICATION, CN, HA, HA_PAIRS, MN, PAIRS, pair
from tests.mobility.test_assembly import interfaces, sequences  # noqa: F401
from tests.mobility.test_config_homes import DISCOVER, OF_SECOND, SECOND

TOKEN = bytes(range(32)).hex()
PEER = "2001:db8:5::20"
OF_SECOND_PAIRS = pair("signalling", 0x5001, OF_SECOND) + pair("tunnel", 0x6001, OF_SECOND)


def application(peer: str = PEER, more: str = "") -> str:
    return f'[[ike]]\nuse = "application"\npeer = "{peer}"\ntoken = "{TOKEN}"\n{more}\n'


def read(text: str) -> Configuration:
    return parse(text, Path("node.toml"))


def test_a_correspondent_with_whom_keys_are_negotiated() -> None:
    for base in (MN + PAIRS, CN):
        configuration = read(base + application(more='algorithm = "chacha20-poly1305"\nlifetime = 600'))
        (exchange,) = configuration.key_exchanges
        assert exchange.use is KeyUse.APPLICATION
        assert (str(exchange.peer), exchange.lifetime) == (PEER, 600)
        assert configuration.key_exchange(exchange.peer) is None  # that is about the home agent
        assert TOKEN not in repr(configuration)


def test_both_uses_of_ike_go_together() -> None:
    configuration = read(MN + f'[[ike]]\ntoken = "{TOKEN}"\n' + application())
    assert [each.use for each in configuration.key_exchanges] == [KeyUse.MOBILE, KeyUse.APPLICATION]


def test_calls_get_keys_unless_somebody_says_no() -> None:
    assert read(MN + PAIRS).call_keys == CallKeys(Algorithm.AES_GCM_16, 3600)
    assert read(CN + "[application_keys]\ncalls = true").call_keys is not None
    assert read(CN + "[application_keys]\ncalls = false").call_keys is None
    chosen = read(MN + PAIRS + '[application_keys]\nalgorithm = "chacha20-poly1305"\nlifetime = 600')
    assert chosen.call_keys == CallKeys(Algorithm.CHACHA20_POLY1305, 600)
    assert read(HA + HA_PAIRS).call_keys is None


@pytest.mark.parametrize("text", [DISCOVER + PAIRS, MN + SECOND + PAIRS + OF_SECOND_PAIRS])
def test_a_home_that_may_change_has_none(text: str) -> None:
    assert read(text).call_keys is None
    with pytest.raises(ConfigurationError, match=r"application_keys.calls: goes with one home address"):
        read(text + "[application_keys]\ncalls = true")
    with pytest.raises(ConfigurationError, match=r'ike\[0\]: use = "application" goes with one home address'):
        read(text + application())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            MN + PAIRS + application() + application(),
            r"ike\[1\].peer: there is an \[\[ike\]\] with 2001:db8:5::20 already",
        ),
        (MN + PAIRS + APPLICATION + application("2001:db8:5::2"), r"come from IKE \(node.toml: ike\[0\]\)"),
        (CN + application("2001:db8:5::2"), "is this node itself"),
        (MN + PAIRS + application("2001:db8:1::a"), 'is the home agent, which has use = "mobile"'),
        (HA + HA_PAIRS + application(), "role ha has no applications"),
        (MN + PAIRS + '[[ike]]\nuse = "application"\ntoken = "00"', "peer: is missing"),
        (CN + f'[[ike]]\nuse = "application"\npeer = "{PEER}"', "openssl rand -hex 32"),
        (MN + PAIRS + f'[[ike]]\npeer = "{PEER}"\ntoken = "{TOKEN}"', 'with a correspondent: use = "application"'),
        (MN + PAIRS + '[[ike]]\nuse = "everything"', 'one of "mobile", "application"'),
        (CN + '[application_keys]\nalgorithm = "hmac-sha2-256-128"', "is for AH"),
        (CN + "[application_keys]\nlifetime = 5", "60 seconds at least"),
        (CN + "[application_keys]\ncalls = 1", "application_keys.calls"),
        (HA + "[application_keys]\ncalls = false", "application_keys: is not known here"),
    ],
)
def test_mistakes_are_named(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        read(text)


def built(text: str, numbers: SequenceFile) -> ApplicationKeys | None:
    made = read(text)
    node = build(made, interfaces(made), numbers)
    return node.application_keys if isinstance(node, HasApplicationKeys) else None


def test_the_nodes_of_a_configuration_have_keys(sequences: SequenceFile) -> None:  # noqa: F811
    for base, home in ((MN + PAIRS, "2001:db8:1::100"), (CN, "2001:db8:5::2")):
        chosen = '[application_keys]\nalgorithm = "chacha20-poly1305"\nlifetime = 600\n'
        keys = built(base + chosen + application(more="lifetime = 900"), sequences)
        assert keys is not None
        settings = keys.settings
        assert (str(keys.address), settings.algorithm, settings.lifetime) == (home, Algorithm.CHACHA20_POLY1305, 600)
        ((peer, source),) = settings.peers
        assert (str(peer), source.algorithm, source.lifetime) == (PEER, Algorithm.AES_GCM_16, 900)
        assert settings.credential is not None
        assert settings.credential.certificate == node_certificate(sequences.directory, keys.address).certificate
        assert keys.state(peer) == "configured"


def test_without_calls_there_is_no_certificate(sequences: SequenceFile) -> None:  # noqa: F811
    off = "[application_keys]\ncalls = false\n"
    assert built(CN + off, sequences) is None
    keys = built(CN + off + application(), sequences)
    assert keys is not None
    assert keys.settings.credential is None
    assert not (sequences.directory / CERTIFICATE).exists()
    assert built(DISCOVER + PAIRS, sequences) is None
    (sequences.directory / CERTIFICATE).mkdir()
    with pytest.raises(ConfigurationError, match=r"certificate for calls cannot be kept: Is a directory; see `state`"):
        built(CN, sequences)
