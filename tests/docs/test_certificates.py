"""The commands by which operators make certificates, as they stand in docs/home-agent.md."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mobility.assembly import key_source
from mobility.config import parse
from mobility.ipsec.ike.certificates import Credential, Distrusted, Trust
from mobility.ipsec.ike.payloads import Identity
from mobility.key_source import KeySource
from tests.docs.blocks import DOCS, Block, blocks

HA = '[node]\nrole = "ha"\n[home_agent]\naddress = "2001:db8:1::a/64"\ninterface = "eth0"\n'
TERMINAL = '[[home_agent.terminal]]\nhome_address = "2001:db8:1::100"\n'
MN = '[node]\nrole = "mn"\n[mobile_node]\nhome_address = "2001:db8:1::100/64"\nhome_agent = "2001:db8:1::a"\n'


def source(text: str, directory: Path) -> KeySource:
    (exchange,) = parse(text, directory / "node.toml").key_exchanges
    made = key_source(exchange)
    assert made is not None
    return made


def believes(one: KeySource, other: KeySource, name: str) -> None:
    assert isinstance(one.belief, Trust)
    assert isinstance(other.proof, Credential)
    chain = [other.proof.certificate.public_bytes(Encoding.DER)]
    one.belief.public_key(chain, Identity.of(name), datetime.now(UTC))


def run(block: Block, directory: Path) -> None:
    subprocess.run(["sh", "-euc", block.text], cwd=directory, check=True, capture_output=True, timeout=60)


def test_both_ends_believe_each_other_until_one_is_revoked(tmp_path: Path) -> None:
    page = (DOCS / "home-agent.md").read_text()
    first = 1 + page.count("\n", 0, page.index("## Certificates in place of tokens"))
    make, configuration, revoke = [each for each in blocks(DOCS / "home-agent.md") if each.line > first][:3]
    run(make, tmp_path)
    for key in tmp_path.glob("*.key"):
        assert key.stat().st_mode & 0o077 == 0
    theirs = configuration.text.replace('peer = "2001:db8:1::100"\n', "").replace("ha.", "laptop.")
    agent, terminal = source(HA + TERMINAL + configuration.text, tmp_path), source(MN + theirs, tmp_path)
    believes(agent, terminal, "2001:db8:1::100")
    believes(terminal, agent, "2001:db8:1::a")
    run(revoke, tmp_path)
    agent = source(HA + TERMINAL + configuration.text + 'revocations = ["revoked.pem"]\n', tmp_path)
    with pytest.raises(Distrusted, match="was revoked"):
        believes(agent, terminal, "2001:db8:1::100")
