"""Debian's strongSwan (charon with kernel-libipsec) in a namespace, ours in another, a NAT for IPv4 between them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mobility.ipsec.ike.certificates import Credential
from tests.mobility.ipsec.ike.authority import Authority

OURS, NAT, THEIRS = (f"ike-{name}-{os.getpid()}" for name in ("ours", "nat", "swan"))
OUR_ADDRESS, THEIR_ADDRESS = "2001:db8:1::1", "2001:db8:1::2"
OUR_ADDRESS4, THEIR_ADDRESS4 = "192.168.77.2", "192.0.2.2"
OUR_INNER, THEIR_INNER = "2001:db8:88::1", "2001:db8:99::1"

_CONF = """
charon-systemd {{
  load = random nonce openssl pem pkcs1 pkcs8 x509 pubkey constraints curve25519 kdf hmac sha1 sha2 aes gcm chapoly \
drbg kernel-libipsec kernel-netlink socket-default vici
  plugins {{ vici {{ socket = unix://{socket} }} }}
  filelog {{ log {{ path = {log}
    default = 1
    flush_line = yes }} }}
  journal {{ default = -1 }}
}}
swanctl {{ load = pem pkcs1 pkcs8 x509 pubkey openssl random sha1 sha2 }}
"""


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def _ip(namespace: str, *words: str) -> None:
    run("ip", "-n", namespace, *words)


@contextmanager
def network() -> Iterator[None]:
    """Three namespaces: IPv6 directly between the ends, IPv4 by way of the NAT."""
    for name in (OURS, NAT, THEIRS):
        run("ip", "netns", "del", name, check=False)
    try:
        for name in (OURS, NAT, THEIRS):
            run("ip", "netns", "add", name)
            _ip(name, "link", "set", "lo", "up")
        for (one, address), (other, address_there), link in (
            ((OURS, f"{OUR_ADDRESS}/64"), (THEIRS, f"{THEIR_ADDRESS}/64"), "direct"),
            ((OURS, f"{OUR_ADDRESS4}/24"), (NAT, "192.168.77.1/24"), "inside"),
            ((NAT, "192.0.2.1/24"), (THEIRS, f"{THEIR_ADDRESS4}/24"), "outside"),
        ):
            _ip(one, "link", "add", link, "type", "veth", "peer", "name", link, "netns", other)
            for name, mine in ((one, address), (other, address_there)):
                _ip(name, "addr", "add", mine, "dev", link, *(["nodad"] if ":" in mine else []))
                _ip(name, "link", "set", link, "up")
        _ip(OURS, "route", "add", "default", "via", "192.168.77.1")
        _ip(THEIRS, "addr", "add", f"{THEIR_INNER}/128", "dev", "lo")
        run("ip", "netns", "exec", NAT, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        chain = "add table ip n; add chain ip n post { type nat hook postrouting priority 100; }"
        rules = f"{chain}; add rule ip n post oifname outside masquerade random"
        run("ip", "netns", "exec", NAT, "nft", rules)
        yield
    finally:
        for name in (OURS, NAT, THEIRS):
            run("ip", "netns", "del", name, check=False)


class Charon:
    """A running charon with the connections of a file, and swanctl for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "charon.log"
        self._socket = directory / "charon.vici"
        conf = directory / "strongswan.conf"
        conf.write_text(_CONF.format(socket=self._socket, log=self.log))
        self._environment = {**os.environ, "STRONGSWAN_CONF": str(conf)}
        for name in ("x509", "x509ca", "private"):
            (directory / name).mkdir()

    @contextmanager
    def running(self) -> Iterator[None]:
        command = ["ip", "netns", "exec", THEIRS, "/usr/sbin/charon-systemd"]
        with (self.directory / "output").open("w") as output:
            process = subprocess.Popen(command, env=self._environment, stdout=output, stderr=output)
            try:
                end = monotonic() + 15
                while not self._socket.exists():
                    if process.poll() is not None or monotonic() > end:
                        raise AssertionError(f"charon did not start: {(self.directory / 'output').read_text()}")
                    sleep(0.05)
                yield
            finally:
                process.terminate()
                process.wait(15)

    def swanctl(self, *words: str, check: bool = True) -> str:
        command = ["/usr/sbin/swanctl", *words, "--uri", f"unix://{self._socket}"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=30, check=False)
        if check and done.returncode:
            raise AssertionError(f"swanctl {' '.join(words)}: {done.stdout}{done.stderr}; log: {self.log.read_text()}")
        return done.stdout

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command that waits for the other end."""
        command = ["/usr/sbin/swanctl", *words, "--uri", f"unix://{self._socket}"]
        return subprocess.Popen(
            command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def load(self, connections: str, authority: Authority, credentials: Sequence[tuple[str, Credential]]) -> None:
        """Connections and secrets; the certificates are those of the files' names."""
        (self.directory / "swanctl.conf").write_text(connections)
        (self.directory / "x509ca" / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        for name, each in credentials:
            (self.directory / "x509" / f"{name}.pem").write_bytes(each.certificate.public_bytes(Encoding.PEM))
            key = each.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (self.directory / "private" / f"{name}.pem").write_bytes(key)
        self.swanctl("--load-all", "--file", str(self.directory / "swanctl.conf"))

    def sas(self) -> str:
        return self.swanctl("--list-sas")
