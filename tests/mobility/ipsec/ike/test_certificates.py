"""Peers that show who they are by certificates."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mobility.ipsec.ike.certificates import Credential, Distrusted, Trust
from mobility.ipsec.ike.events import IkeDown, IkeFailed, IkeUp
from mobility.ipsec.ike.payloads import Identity
from tests.mobility.ipsec.ike.authority import Authority
from tests.mobility.ipsec.ike.world import NOON, SECRET, World, peers

PHONE, AGENT = "laptop@example.org", "ha.example.org"


def world_of(
    phone: Credential, agent: Credential, trust: Trust, *, phone_trust: Trust | None = None, **more: float
) -> World:
    world = World(
        known=peers(proofs=(phone, agent), beliefs=(phone_trust or trust, trust)), seed=int(more.get("seed", 1))
    )
    world.loss = more.get("loss", 0.0)
    world.begin()
    return world


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa", "ed25519"])
def test_every_kind_of_key(kind: str) -> None:
    authority = Authority()
    world = world_of(authority.issue(PHONE, kind), authority.issue(AGENT, kind), Trust((authority.certificate,)))
    world.run(5.0)
    assert world.established()
    world.passes()


def test_large_messages_go_in_fragments_and_get_through_loss() -> None:
    root = Authority("Root")
    middle = Authority("Middle", root)
    phone, agent = middle.issue(PHONE, "rsa"), middle.issue(AGENT, "rsa")
    for seed in range(6):
        world = world_of(phone, agent, Trust((root.certificate,)), seed=seed, loss=0.3)
        world.run(300.0)
        assert world.established()
        assert max(len(send.data) for send in world.wire) <= 1232
        assert sum(len(send.data) > 1000 for send in world.wire) >= 2
        world.passes()


def test_one_end_by_secret_and_the_other_by_certificate() -> None:
    authority = Authority()
    trust = Trust((authority.certificate,))
    world = World(known=peers(proofs=(SECRET, authority.issue(AGENT)), beliefs=(trust, SECRET)))
    world.begin()
    world.run(5.0)
    assert world.established()


@pytest.mark.parametrize("who", ["phone", "agent"])
@pytest.mark.parametrize(
    ("defect", "words"),
    [
        ("expired", "renew it, or set the clock"),
        ("early", "renew it, or set the clock"),
        ("name", "is not of"),
        ("stranger", "no authority that is trusted here"),
        ("revoked", "was revoked on"),
        ("other key", "the signature of"),
        ("secret", "a certificate was agreed"),
    ],
)
def test_certificates_that_prove_nothing(who: str, defect: str, words: str) -> None:
    authority = Authority()
    name = PHONE if who == "phone" else AGENT
    other = AGENT if who == "phone" else PHONE
    good, bad = authority.issue(other), authority.issue(name)
    revoked: tuple[Credential, ...] = ()
    match defect:
        case "expired":
            bad = authority.issue(name, until=NOON - timedelta(minutes=1))
        case "early":
            bad = authority.issue(name, since=NOON + timedelta(minutes=30))
        case "name":
            bad = authority.issue("mallory@example.org" if "@" in name else "ha.example.net")
        case "stranger":
            bad = Authority("Test CA").issue(name)
        case "revoked":
            revoked = (bad,)
        case "other key":
            bad = Credential(bad.certificate, authority.issue(name).private_key)
    trust = Trust((authority.certificate,), (authority.revoke(*revoked),))
    proof = SECRET if defect == "secret" else bad
    proofs = (proof, good) if who == "phone" else (good, proof)
    world = World(known=peers(proofs=proofs, beliefs=(trust, trust)))
    world.begin()
    world.run(100.0)
    assert not world.phone.of(IkeUp)
    assert not world.phone.inbound
    assert not world.agent.inbound
    judge = world.agent if who == "phone" else world.phone
    assert words in judge.of(IkeFailed)[0].reason
    if who == "agent":
        assert "does not believe" in world.agent.of(IkeDown)[0].reason


def test_authorities_as_openssl_makes_them() -> None:
    plain = Authority(usage=False)
    Trust((plain.certificate,)).public_key([der(plain.issue(AGENT))], Identity.of(AGENT), NOON)
    root = Authority("Root")
    for pretender in (Authority("Pretender", root, usage=False, ca=False), Authority("Pretender", root, ca=False)):
        chain = [der(pretender.issue(AGENT)), *(each.public_bytes(Encoding.DER) for each in pretender.above)]
        with pytest.raises(Distrusted, match="no authority"):
            Trust((root.certificate,)).public_key(chain, Identity.of(AGENT), NOON)


def der(credential: Credential) -> bytes:
    return credential.certificate.public_bytes(Encoding.DER)


def test_an_address_is_a_name_as_well() -> None:
    authority = Authority()
    trust = Trust((authority.certificate,))
    leaf = authority.issue("2001:db8::1")
    chain = [leaf.certificate.public_bytes(Encoding.DER)]
    assert trust.public_key(chain, Identity.of("2001:db8::1"), NOON) == leaf.private_key.public_key()
    with pytest.raises(Distrusted, match="it names 2001:db8::1"):
        trust.public_key(chain, Identity.of("2001:db8::2"), NOON)
    with pytest.raises(Distrusted, match="cannot be read"):
        trust.public_key([b"\x30\x00"], Identity.of("2001:db8::1"), NOON)
    with pytest.raises(Distrusted, match="no certificate"):
        trust.public_key([], Identity.of("2001:db8::1"), NOON)
