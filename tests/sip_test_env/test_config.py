"""The generated configurations: right in themselves, and accepted by the programs they are for."""

from __future__ import annotations

import ssl
import stat
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from sip_test_env import certificates, kamailio, routers
from sip_test_env.kamailio import ProxySettings
from sip_test_env.plan import Plan

SETTINGS = ProxySettings(
    "roamphone.test",
    (ip_address("::1"), ip_address("127.0.0.1")),
    {"6001": "secret-1", "6002": "secret-2"},
    15060,
    15061,
)


def test_local_config_listens_on_every_transport_and_address(tmp_path: Path) -> None:
    text = kamailio.local_config(SETTINGS, tmp_path)
    listening = [line.removeprefix("listen=") for line in text.splitlines() if line.startswith("listen=")]
    assert sorted(listening) == sorted(
        f"{transport}:{host}:{port}"
        for host in ("[::1]", "127.0.0.1")
        for transport, port in (("udp", 15060), ("tcp", 15060), ("tls", 15061))
    )
    assert "secret" not in text


def test_passwords_are_in_one_private_file_only(tmp_path: Path) -> None:
    kamailio.write(SETTINGS, tmp_path)
    holders = {path.name for path in tmp_path.iterdir() if b"secret-1" in path.read_bytes()}
    assert holders == {"users.cfg"}
    for name in ("users.cfg", "server.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_certificates_outlive_a_restart_of_the_proxy(tmp_path: Path) -> None:
    kamailio.write(SETTINGS, tmp_path)
    before = (tmp_path / "server.pem").read_bytes()
    kamailio.write(SETTINGS, tmp_path)
    assert (tmp_path / "server.pem").read_bytes() == before


@pytest.mark.parametrize("word", ["", 'a"b', "a b", "a\nb", "a;b", "$var(x)"])
def test_words_that_would_change_the_configuration_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="use letters"):
        ProxySettings("roamphone.test", (), {"6001": word})
    with pytest.raises(ValueError, match="use letters"):
        ProxySettings("roamphone.test", (), {word: "secret"})
    with pytest.raises(ValueError, match="use letters"):
        ProxySettings(word, (), {})


@pytest.mark.interop
@pytest.mark.parametrize("digest", ["MD5", "SHA-256"])
def test_kamailio_accepts_the_configuration(tmp_path: Path, digest: kamailio.DigestAlgorithm) -> None:
    settings = ProxySettings(SETTINGS.domain, SETTINGS.addresses, SETTINGS.passwords, digest=digest)
    config = kamailio.write(settings, tmp_path)
    check = subprocess.run(["kamailio", "-c", "-f", config], capture_output=True, text=True, timeout=20, check=False)
    assert check.returncode == 0, check.stderr
    assert "ERROR" not in check.stderr


@pytest.mark.interop
@pytest.mark.parametrize("node", sorted(routers.advertised(Plan())))
def test_radvd_accepts_the_configuration(tmp_path: Path, node: str) -> None:
    interface, prefix, address = routers.advertised(Plan())[node]
    config = tmp_path / "radvd.conf"
    config.write_text(routers.radvd_config(interface, prefix, address))
    check = subprocess.run(
        ["radvd", "-c", "-C", config, "-m", "stderr"], capture_output=True, text=True, timeout=20, check=False
    )
    assert check.returncode == 0, check.stderr
    assert f"prefix {address}/64\n" in config.read_text()


def test_the_server_certificate_is_good_for_its_names_and_no_others(tmp_path: Path) -> None:
    certificates.write(tmp_path, ["roamphone.test"], [ip_address("2001:db8:8::8")])
    server = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["roamphone.test"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("2001:db8:8::8")]

    assert _handshake(tmp_path, "roamphone.test") is None
    assert _handshake(tmp_path, "2001:db8:8::8") is None
    assert "verify failed" in str(_handshake(tmp_path, "elsewhere.test"))


def _handshake(directory: Path, name: str) -> ssl.SSLError | None:
    """A TLS handshake in memory with a client that expects ``name``; returns its error."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(directory / "server.pem", directory / "server.key")
    client_context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return error
    return None
