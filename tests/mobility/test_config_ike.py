"""Keys that are negotiated, in configurations."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mobility.assembly import build, key_source
from mobility.config import Configuration, ConfigurationError, load, parse
from mobility.enrolment import Wishes, accept_invitation, enrol, invitation
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.ike.certificates import Credential, Trust
from mobility.mipv6.tunnel import TunnelForm
from mobility.reading import applied, difference
from mobility.sequences import SequenceFile
from mobility.terminal import Terminal
from tests.mobility.ipsec.ike.authority import Authority

TOKEN = bytes(range(32)).hex()
MN = """
[node]
role = "mn"
[mobile_node]
home_address = "2001:db8:1::100/64"
home_agent = "2001:db8:1::a"
[[ike]]
token = "{token}"
{more}
"""
HA = """
[node]
role = "ha"
[home_agent]
address = "2001:db8:1::a/64"
interface = "eth0"
[[home_agent.terminal]]
home_address = "2001:db8:1::100"
{terminal}
[[ike]]
peer = "2001:db8:1::100"
token = "{token}"
{more}
"""


def mn(more: str = "", token: str = TOKEN) -> Configuration:
    return parse(MN.format(token=token, more=more), Path("mn.toml"))


def ha(more: str = "", terminal: str = "", token: str = TOKEN) -> Configuration:
    return parse(HA.format(token=token, more=more, terminal=terminal), Path("ha.toml"))


def test_a_token_stands_for_all_keys(tmp_path: Path) -> None:
    configuration = mn('algorithm = "chacha20-poly1305"\nlifetime = 600')
    (exchange,) = configuration.key_exchanges
    assert str(exchange.peer) == "2001:db8:1::a"
    assert (exchange.algorithm, exchange.lifetime) == (Algorithm.CHACHA20_POLY1305, 600)
    assert TOKEN not in repr(configuration)
    assert not configuration.associations
    sequences = SequenceFile(tmp_path / "sequences")
    terminal = build(replace(configuration, state=tmp_path), {}, sequences)
    assert isinstance(terminal, Terminal)
    assert terminal.parts.keys is not None
    sequences.close()
    assert ha().key_exchange(exchange.peer) is None


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("lifetime = 5", "60 seconds at least"),
        ('algorithm = "hmac-sha2-256-128"', "is for AH"),
        ('certificate = "mn.pem"', "does not go with certificates"),
        ('peer = "2001:db8:1::b"', "there is no home agent with this address"),
        ('[[ike]]\ntoken = "' + TOKEN + '"', "already"),
        (
            '[[association]]\nuse = "tunnel"\noutbound = { spi = 0x1001, algorithm = "null-hmac-sha2-256-128",'
            f' authentication = "{TOKEN}" }}\ninbound = {{ spi = 0x1002, algorithm = "null-hmac-sha2-256-128",'
            f' authentication = "{TOKEN[::-1]}" }}',
            "come from IKE",
        ),
    ],
)
def test_what_does_not_fit_together(more: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        mn(more)


def test_more_that_does_not_fit_together() -> None:
    with pytest.raises(ConfigurationError, match="hexadecimal digits at least"):
        mn(token="0011")
    with pytest.raises(ConfigurationError, match="there is no terminal with this home address"):
        ha('[[ike]]\npeer = "2001:db8:1::200"\ntoken = "' + TOKEN + '"')
    with pytest.raises(ConfigurationError, match='signalling = "esp" only'):
        ha(terminal='signalling = "none"')
    with pytest.raises(ConfigurationError, match="add-terminal"):
        parse(MN.format(token=TOKEN, more="").replace("token", "certificate"), Path("mn.toml"))


def test_certificates_are_read_from_files_beside_the_configuration(tmp_path: Path) -> None:
    authority = Authority(at=datetime.now(UTC))
    credential = authority.issue("2001:db8:1::100", at=datetime.now(UTC))
    (tmp_path / "mn.pem").write_bytes(credential.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "crl.pem").write_bytes(authority.revoke().public_bytes(Encoding.PEM))
    key = credential.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").touch(0o600)
    (tmp_path / "key.pem").write_bytes(key)
    named = 'certificate = "mn.pem"\nprivate_key = "key.pem"\nauthorities = ["ca.pem"]\nrevocations = ["crl.pem"]'
    path = tmp_path / "mn.toml"
    path.write_text(MN.format(token=TOKEN, more=named).replace(f'token = "{TOKEN}"\n', ""))
    (exchange,) = load(path).key_exchanges  # the file itself holds no secret
    source = key_source(exchange)
    assert source is not None
    assert isinstance(source.proof, Credential)
    assert isinstance(source.belief, Trust)
    (tmp_path / "key.pem").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        key_source(exchange)
    (tmp_path / "key.pem").chmod(0o600)
    for name, words in (("mn.pem", "no certificate"), ("key.pem", "no private key"), ("crl.pem", "revocation list")):
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(ConfigurationError, match=words):
            key_source(exchange)
        (tmp_path / name).write_bytes(before)
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        key_source(exchange)


@pytest.mark.parametrize("form", TunnelForm)
def test_a_new_terminal_gets_a_token_in_place_of_keys(form: TunnelForm) -> None:
    agent = parse(HA.format(token=TOKEN, more="", terminal=""), Path("ha.toml"))
    enrolled = enrol(agent, Wishes("alice", tunnel=form))
    text = accept_invitation(invitation(enrolled.terminal_file), Path("mn.toml"))
    terminal = parse(text, Path("mn.toml"))
    files = [(Path("alice.toml"), enrolled.home_agent_file)]
    there = parse(HA.format(token=TOKEN, more="", terminal=""), Path("ha.toml"), lambda _: files)
    mine, theirs = terminal.key_exchanges[0], there.key_exchange(enrolled.home_address)
    assert theirs is not None
    assert mine.token == theirs.token
    assert mine.token is not None
    assert len(mine.token) == 32
    assert "spi" not in enrolled.terminal_file
    assert len(invitation(enrolled.terminal_file)) < 400


def test_what_is_read_anew_knows_of_tokens() -> None:
    before, after = ha(), ha(token=TOKEN[::-1])
    new = pickle.loads(pickle.dumps(difference(before, after)))
    assert [str(each.home_address) for each in new.terminals] == ["2001:db8:1::100"]
    assert applied(before, new).key_exchanges == after.key_exchanges
    assert not difference(before, ha()).terminals
