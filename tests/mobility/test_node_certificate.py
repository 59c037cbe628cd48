"""The certificate by which phones know a node."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from cryptography import x509

from mobility.node_certificate import FILE, node_certificate

HOME, OTHER = IPv6Address("2001:db8:1::100"), IPv6Address("2001:db8:1::101")


def test_it_is_made_once_for_one_user_and_one_home_address(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    made = node_certificate(directory, HOME)
    assert stat.S_IMODE((directory / FILE).stat().st_mode) == 0o600
    assert made.private_key.public_key() == made.certificate.public_key()
    alternative = made.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.IPAddress) == [HOME]
    made.certificate.verify_directly_issued_by(made.certificate)
    assert made.certificate.not_valid_before_utc < datetime.now(UTC) < made.certificate.not_valid_after_utc

    again = node_certificate(directory, HOME)
    assert (again.certificate, again.private_key.private_numbers()) == (  # type: ignore[union-attr]
        made.certificate,
        made.private_key.private_numbers(),  # type: ignore[union-attr]
    )
    other = node_certificate(directory, OTHER)
    assert other.certificate.public_key() != made.certificate.public_key()
    assert node_certificate(directory, OTHER).certificate == other.certificate
    assert [path.name for path in directory.iterdir()] == [FILE]


def test_one_that_cannot_be_used_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / FILE
    before = node_certificate(tmp_path, HOME)
    whole = path.read_bytes()
    for content, mode, why in (
        (b"", 0o600, "no certificate in PEM"),
        (whole[: len(whole) // 2], 0o600, "no certificate in PEM"),
        (whole[whole.index(b"-----BEGIN CERT") :], 0o600, "no private key"),
        (whole, 0o644, "can be read by others"),
    ):
        path.write_bytes(content)
        path.chmod(mode)
        assert node_certificate(tmp_path, HOME).certificate != before.certificate
        assert why in caplog.text
        assert (tmp_path / f"{FILE}.broken").read_bytes() == content
        caplog.clear()
        path.chmod(0o600)


def test_a_place_where_nothing_can_be_kept_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(OSError, match="state"):
        node_certificate(tmp_path / "state", HOME)
