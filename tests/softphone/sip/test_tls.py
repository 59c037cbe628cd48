"""Whom a certificate proves (RFC 5922 section 7)."""

from __future__ import annotations

from typing import Any

import pytest

from softphone.sip.tls import identities, proves

SUBJECT = ((("commonName", "Common.example.org"),), (("organizationName", "x"),))


def certificate(*names: tuple[str, str]) -> dict[str, Any]:
    return {"subject": SUBJECT, "subjectAltName": names} if names else {"subject": SUBJECT}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ((), ["common.example.org"]),
        ((("DNS", "Example.ORG."),), ["example.org"]),
        ((("URI", "sip:example.com"), ("DNS", "example.org")), ["example.com", "example.org"]),
        ((("URI", "sip:alice@example.com"),), []),  # a user, not the domain
        ((("URI", "sips:example.com"), ("URI", "https://example.com"), ("URI", "nonsense")), []),
        ((("IP Address", "2001:DB8:0:0:0:0:0:1"), ("email", "a@example.org")), ["2001:db8::1"]),
    ],
)
def test_identities(names: tuple[tuple[str, str], ...], found: list[str]) -> None:
    assert identities(certificate(*names)) == found


@pytest.mark.parametrize(
    ("san", "name", "good"),
    [
        (("DNS", "example.org"), "EXAMPLE.org.", True),
        (("DNS", "example.org"), "sip.example.org", False),
        (("DNS", "*.example.org"), "sip.example.org", False),
        (("DNS", "example.org"), "common.example.org", False),
        (("URI", "sip:example.org"), "example.org", True),
        (("IP Address", "2001:db8::1"), "2001:db8:0::1", True),
        (("DNS", "2001:db8::1"), "2001:db8::2", False),
    ],
)
def test_names(san: tuple[str, str], name: str, good: bool) -> None:
    assert proves(certificate(san), name) is good


def test_nobody_is_proven_by_nothing() -> None:
    assert not proves({}, "example.org")
