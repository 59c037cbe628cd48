"""IKEv2 and ESP with Debian's strongSwan: both roles, secrets and certificates, rekeys by either end, and a NAT."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv6Address, IPv6Network

import pytest

from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.ike.authentication import Belief, Proof, SharedKey
from mobility.ipsec.ike.certificates import Trust
from mobility.ipsec.ike.events import ChildUp, IkeDown, IkeFailed, IkeRekeyed, IkeUp
from mobility.ipsec.ike.numbers import Group
from mobility.ipsec.ike.payloads import Identity
from mobility.ipsec.ike.proposals import esp_offer, ike_offer
from mobility.ipsec.ike.settings import ChildSettings, Peer, Settings
from mobility.ipsec.ike.traffic import TrafficSelector
from mobility.net.namespace import inside
from mobility.wire import icmp6
from tests.interop import strongswan
from tests.interop.ike_shell import Shell
from tests.interop.strongswan import (
    OUR_ADDRESS,
    OUR_ADDRESS4,
    OUR_INNER,
    OURS,
    THEIR_ADDRESS,
    THEIR_ADDRESS4,
    THEIR_INNER,
    THEIRS,
    Charon,
)
from tests.mobility.ipsec.ike.authority import Authority

pytestmark = [pytest.mark.root, pytest.mark.interop]

SECRET = SharedKey(bytes(range(32)))
NAMES = Identity.of("ours.example.org"), Identity.of("swan.example.org")
CHILD = f"""
  local_ts = {THEIR_INNER}/128
  remote_ts = {OUR_INNER}/128
  mode = tunnel
  esp_proposals = aes256gcm16-x25519, chacha20poly1305-ecp256, aes256-sha256-modp2048
"""
CONNECTIONS = f"""
connections {{
  secret {{
    version = 2
    local_addrs = {THEIR_ADDRESS}
    remote_addrs = {OUR_ADDRESS}
    proposals = aes256gcm16-prfsha256-x25519, chacha20poly1305-prfsha384-ecp256, aes256-sha256-modp2048
    local {{ auth = psk
      id = swan.example.org }}
    remote {{ auth = psk
      id = ours.example.org }}
    children {{ by-secret {{ {CHILD} }} }}
  }}
  certificate {{
    version = 2
    fragmentation = yes
    local_addrs = {THEIR_ADDRESS}, {THEIR_ADDRESS4}
    remote_addrs = {OUR_ADDRESS}, 0.0.0.0/0
    proposals = aes256gcm16-prfsha256-x25519, chacha20poly1305-prfsha384-ecp256, aes256-sha256-modp2048
    local {{ auth = pubkey
      certs = swan.pem
      id = swan.example.org }}
    remote {{ auth = pubkey
      cacerts = ca.pem
      id = ours.example.org }}
    children {{ by-certificate {{ {CHILD} }} }}
  }}
}}
secrets {{ ike-1 {{
  id-1 = ours.example.org
  id-2 = swan.example.org
  secret = 0x{SECRET.secret.hex()}
}} }}
"""
SUITES = {
    "x25519": (ike_offer((Group.X25519,), cbc=False), esp_offer((Algorithm.AES_GCM_16,), (Group.X25519,))),
    "p256": (ike_offer((Group.P256,), cbc=False), esp_offer((Algorithm.CHACHA20_POLY1305,), (Group.P256,))),
    "modp2048": (
        ike_offer((Group.MODP2048,), aead=False),
        esp_offer((Algorithm.AES_CBC_HMAC_SHA2_256_128,), (Group.MODP2048,)),
    ),
}


class Setting:
    """A running charon, an authority whom both trust, and shells of ours."""

    def __init__(self, charon: Charon, authority: Authority) -> None:
        self.charon = charon
        self.trust = Trust((authority.certificate,))
        now = datetime.now(UTC)
        self.credential = authority.issue("ours.example.org", "p256", at=now)
        self.their_credential = authority.issue("swan.example.org", "rsa", at=now)
        self._shells: list[Shell] = []

    def shell(
        self, suite: str, *, certificates: bool = False, address: str = OUR_ADDRESS, secret: SharedKey = SECRET
    ) -> Shell:
        ike, esp = SUITES[suite]
        ends = (TrafficSelector.of(IPv6Network(each)) for each in (OUR_INNER, THEIR_INNER))
        local, remote = ((each,) for each in ends)
        proof: Proof = self.credential if certificates else secret
        belief: Belief = self.trust if certificates else secret
        child = ChildSettings("tunnel", local, remote, proposals=esp)
        peer = Peer("swan", *NAMES, proof, belief, (child,), ike)
        made = Shell(
            OURS,
            address,
            IPv6Address(OUR_INNER),
            peer,
            Settings(proposals=ike, longest_retransmission=0.5, grace=1.0),
        )
        self._shells.append(made)
        return made

    def close(self) -> None:
        for shell in self._shells:
            shell.close()
        self._shells.clear()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    authority = Authority(at=datetime.now(UTC))
    charon = Charon(tmp_path_factory.mktemp("swan"))
    setting = Setting(charon, authority)
    with strongswan.network(), charon.running():
        charon.load(CONNECTIONS, authority, [("swan", setting.their_credential)])
        yield setting


@pytest.fixture
def setting(running: Setting) -> Iterator[Setting]:
    begin = running.charon.log.stat().st_size
    yield running
    running.close()
    sys.stderr.write(running.charon.log.read_text()[begin:])  # shown where a test has failed
    running.charon.swanctl("--terminate", "--ike", "secret", "--force", check=False)
    running.charon.swanctl("--terminate", "--ike", "certificate", "--force", check=False)


def begin(shell: Shell, address: str) -> None:
    """Begins, and once more if nothing came of it, as a terminal does.

    A charon that is busy asks for a cookie, and may then take the request without it as well, when it comes again.
    Which of the two its answer is to cannot be seen, and AUTH covers the request (RFC 7296 section 2.15).
    """
    shell.initiate(address)
    shell.run(lambda: shell.of(ChildUp) or shell.of(IkeFailed))
    if not shell.of(ChildUp):
        shell.initiate(address)
        shell.run(lambda: shell.of(ChildUp))


def traffic(shell: Shell) -> None:
    """Echo requests of both ends come back through the tunnel."""
    before = shell.answered
    shell.echoes.clear()
    for number in range(3):
        shell.ping(IPv6Address(THEIR_INNER), number)
    shell.run(lambda: len(shell.echoes) == 3)
    with inside(THEIRS), socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as there:
        there.bind((THEIR_INNER, 0))
        there.setblocking(False)
        answers = 0
        for number in range(3):
            there.sendto(bytes(icmp6.Echo(7, number, b"strongswan")), (OUR_INNER, 0))
        while answers < 3:
            shell.run(lambda: select.select([there], (), (), 0)[0])
            answers += there.recv(100)[0] == icmp6.ECHO_REPLY
    assert shell.answered - before == 3
    assert not shell.dropped


def rekeys(shell: Shell, charon: Charon, name: str) -> None:
    """Child SA and IKE SA get new keys, at the wish of either end; traffic flows after each."""

    def children() -> int:
        return len(shell.of(ChildUp))

    def ikes() -> int:
        return len(shell.of(IkeRekeyed))

    def grown(count: Callable[[], int], before: int) -> bool:
        return count() > before and shell.settled()

    for step in ("ours", "theirs"):
        before = children(), ikes()
        if step == "ours":
            shell.carry_out(shell.ike.rekey("swan", shell.now(), children=True))
        else:
            charon.swanctl("--rekey", "--child", f"by-{name}")
        shell.run(partial(grown, children, before[0]))
        traffic(shell)
        if step == "ours":
            shell.carry_out(shell.ike.rekey("swan", shell.now()))
        else:
            charon.swanctl("--rekey", "--ike", name)
        shell.run(partial(grown, ikes, before[1]))
        traffic(shell)
    assert charon.sas().count("ESTABLISHED") == 1
    assert charon.sas().count("INSTALLED") == 1


@pytest.mark.parametrize("suite", SUITES)
def test_we_begin_by_secret(setting: Setting, suite: str) -> None:
    shell = setting.shell(suite)
    begin(shell, THEIR_ADDRESS)
    (up,) = shell.of(ChildUp)
    assert up.child.encapsulated  # kernel-libipsec takes no other
    traffic(shell)
    rekeys(shell, setting.charon, "secret")
    shell.carry_out(shell.ike.close("swan", "enough", shell.now()))
    shell.run(lambda: shell.of(IkeDown))
    assert "ESTABLISHED" not in setting.charon.sas()


def test_they_begin_by_certificate(setting: Setting) -> None:
    shell = setting.shell("x25519", certificates=True)
    begun = setting.charon.start("--initiate", "--child", "by-certificate", "--timeout", "10")
    shell.run(lambda: begun.poll() is not None)
    words = begun.communicate()[0]
    assert begun.returncode == 0, words
    assert shell.of(IkeUp)[0].peer == "swan"
    traffic(shell)
    rekeys(shell, setting.charon, "certificate")
    ended = setting.charon.start("--terminate", "--ike", "certificate", "--timeout", "10")
    shell.run(lambda: shell.of(IkeDown) and ended.poll() is not None)
    assert "completed" in ended.communicate()[0]


def test_we_begin_by_certificate_from_behind_a_nat(setting: Setting) -> None:
    shell = setting.shell("p256", certificates=True, address=OUR_ADDRESS4)
    begin(shell, THEIR_ADDRESS4)
    assert "here" in str(shell.ike.status()[0]["nat"])
    traffic(shell)
    rekeys(shell, setting.charon, "certificate")
    shell.carry_out(shell.ike.close("swan", "enough", shell.now()))
    shell.run(lambda: shell.of(IkeDown))


def test_failures_are_told_in_words(setting: Setting) -> None:
    wrong = setting.shell("x25519", secret=SharedKey(bytes(32)))
    wrong.initiate(THEIR_ADDRESS)
    wrong.run(lambda: wrong.of(IkeFailed))
    assert "AUTHENTICATION_FAILED" in wrong.of(IkeFailed)[0].reason
    setting.close()
    strange = setting.shell("x25519")
    offer = ike_offer((Group.X25519,), aead=False)
    strange.ike.peers["swan"] = replace(strange.peer, proposals=offer)
    strange.initiate(THEIR_ADDRESS)
    strange.run(lambda: strange.of(IkeFailed), 30.0)
    assert "NO_PROPOSAL_CHOSEN" in strange.of(IkeFailed)[0].reason
