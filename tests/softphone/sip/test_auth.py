"""Digest: the vectors of the RFCs, choice among challenges, counters, stale nonces."""

from __future__ import annotations

from dataclasses import replace

import pytest

from softphone.sip.auth import MOST_REALMS, Authenticator, Challenge, Credentials, digest_response, parse_digest, verify
from softphone.sip.errors import SipParseError
from softphone.sip.headers import Headers
from softphone.sip.message import Request, Response
from softphone.sip.uri import SipUri
from tests.softphone.support import counting

MUFASA = Credentials("Mufasa", "Circle of Life")
RFC7616_NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
RFC7616_CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


def challenged_by(*values: str, proxy: bool = False) -> Response:
    name = "Proxy-Authenticate" if proxy else "WWW-Authenticate"
    return Response(status=407 if proxy else 401, reason="", headers=Headers.of(*((name, value) for value in values)))


def register(to: str = "sip:alice@example.org", method: str = "REGISTER") -> Request:
    return Request(method=method, uri=SipUri("example.org"), headers=Headers.of(("To", f"<{to}>")), body=b"hello")


def client(password: str = "secret") -> Authenticator:
    return Authenticator(Credentials("alice", password), counting())


@pytest.mark.parametrize(
    ("challenge", "credentials", "uri", "qop", "cnonce", "response"),
    [
        (  # RFC 2617 section 3.5
            Challenge("testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093"),
            Credentials("Mufasa", "Circle Of Life"), "/dir/index.html", "auth", "0a4f113b",
            "6629fae49393a05397450978507c4ef1",
        ),
        (  # RFC 7616 section 3.9.1
            Challenge("http-auth@example.org", RFC7616_NONCE), MUFASA, "/dir/index.html", "auth", RFC7616_CNONCE,
            "8ca523f5e9506fed4657c9700eebdbec",
        ),
        (
            Challenge("http-auth@example.org", RFC7616_NONCE, "SHA-256"), MUFASA, "/dir/index.html",
            "auth", RFC7616_CNONCE,
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ],
)  # fmt: skip
def test_vectors(
    challenge: Challenge, credentials: Credentials, uri: str, qop: str, cnonce: str, response: str
) -> None:
    assert digest_response(challenge, credentials, "GET", uri, qop=qop, count=1, cnonce=cnonce) == response


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256", "MD5-sess", "SHA-256-sess", "SHA-512-256-sess"])
@pytest.mark.parametrize("qop", ["", ', qop="auth"', ', qop="auth-int"', ', qop="auth,auth-int"'])
def test_a_server_accepts_what_we_compute_and_nothing_else(algorithm: str, qop: str) -> None:
    text = f'Digest realm="r", nonce="n", algorithm={algorithm}{qop}'
    challenge = Challenge.parse(text)
    alice = client()
    request = register()
    assert alice.challenged(request, challenged_by(text))
    authorised = alice.authorize(request)
    assert verify(authorised.headers, "Authorization", "REGISTER", alice.credentials, challenge, request.body)
    assert not verify(authorised.headers, "Authorization", "INVITE", alice.credentials, challenge, request.body)
    wrong = Credentials("alice", "wrong")
    assert not verify(authorised.headers, "Authorization", "REGISTER", wrong, challenge, request.body)


def test_the_topmost_challenge_that_we_know_is_answered() -> None:
    """RFC 8760 section 2.4: the server's order is its preference."""
    auth = client()
    made = [
        f'Digest realm="r", nonce="{name}", algorithm={name}' for name in ("SHA-3", "SHA-256", "MD5", "SHA-512-256")
    ]
    assert auth.challenged(register(), challenged_by(*made))
    [sent] = auth.authorize(register()).headers.raw("Authorization")
    assert parse_digest(sent)["algorithm"] == "SHA-256"


def test_two_realms_and_a_proxy_get_their_own_credentials() -> None:
    alice = client()
    assert alice.challenged(register(), challenged_by('Digest realm="a", nonce="1"', 'Digest realm="b", nonce="2"'))
    assert alice.challenged(alice.authorize(register()), challenged_by('Digest realm="p", nonce="3"', proxy=True))
    headers = alice.authorize(register()).headers
    assert [parse_digest(value)["realm"] for value in headers.raw("Authorization")] == ["a", "b"]
    assert [parse_digest(value)["nonce"] for value in headers.raw("Proxy-Authorization")] == ["3"]


def test_nobody_but_the_server_that_asked_gets_credentials() -> None:
    alice = client()
    alice.challenged(register(), challenged_by('Digest realm="r", nonce="1"'), "2001:db8::1")
    assert alice.authorize(register(), "2001:db8::1").headers.raw("Authorization")
    assert not alice.authorize(register(), "2001:db8::2").headers.raw("Authorization")


def test_a_call_carries_the_credentials_that_calls_were_asked_for_and_not_those_of_the_registration() -> None:
    alice, invite = client(), register("sip:bob@example.org", "INVITE")
    alice.challenged(register(), challenged_by('Digest realm="r", nonce="1"'))
    assert not alice.authorize(invite).headers.raw("Authorization")
    alice.challenged(invite, challenged_by('Digest realm="r", nonce="2"'))
    alice.challenged(invite, challenged_by('Digest realm="r", nonce="3"', proxy=True))
    for request, nonces in ((register(), ["1"]), (invite, ["2"]), (register("sip:carol@example.org", "INVITE"), [])):
        headers = alice.authorize(request).headers
        assert [parse_digest(value)["nonce"] for value in headers.raw("Authorization")] == nonces
        assert [parse_digest(value)["nonce"] for value in headers.raw("Proxy-Authorization")] == ["3"]


def test_challenges_of_many_are_not_remembered_for_ever() -> None:
    alice = client()
    for number in range(MOST_REALMS + 1):
        alice.challenged(register(f"sip:{number}@example.org"), challenged_by('Digest realm="r", nonce="1"'))
    assert not alice.authorize(register("sip:0@example.org")).headers.raw("Authorization")
    assert alice.authorize(register("sip:1@example.org")).headers.raw("Authorization")


def test_nonce_count_rises_and_client_nonces_differ() -> None:
    alice = client()
    alice.challenged(register(), challenged_by('Digest realm="r", nonce="1", qop="auth"'))
    sent = [parse_digest(alice.authorize(register()).headers.raw("Authorization")[0]) for _ in range(3)]
    assert [values["nc"] for values in sent] == ["00000001", "00000002", "00000003"]
    assert len({values["cnonce"] for values in sent}) == 3


def test_refused_credentials_are_not_tried_again() -> None:
    alice = client("wrong")
    assert alice.challenged(register(), challenged_by('Digest realm="r", nonce="1"'))
    tried = alice.authorize(register())
    assert not alice.challenged(tried, challenged_by('Digest realm="r", nonce="2"'))


def test_a_stale_nonce_is_replaced_but_not_for_ever() -> None:
    alice = client()
    alice.challenged(register(), challenged_by('Digest realm="r", nonce="0", qop="auth"'))
    outcomes = []
    for n in range(1, 6):
        tried = alice.authorize(register())
        outcomes.append(
            alice.challenged(tried, challenged_by(f'Digest realm="r", nonce="{n}", qop="auth", stale=TRUE'))
        )
    assert outcomes == [True, True, True, False, False]
    alice.accepted(tried, Response(status=200, reason=""))
    tried = alice.authorize(register())
    assert alice.challenged(tried, challenged_by('Digest realm="r", nonce="x", stale=true'))
    assert parse_digest(alice.authorize(register()).headers.raw("Authorization")[0])["nonce"] == "x"


@pytest.mark.parametrize("proxy", [True, False])
def test_the_server_names_the_next_nonce(proxy: bool) -> None:
    alice = client()
    answer, info = (
        ("Proxy-Authorization", "Proxy-Authentication-Info") if proxy else ("Authorization", "Authentication-Info")
    )
    alice.challenged(register(), challenged_by('Digest realm="r", nonce="one", qop="auth"', proxy=proxy))

    def sent() -> tuple[str, str]:
        values = parse_digest(alice.authorize(register()).headers.raw(answer)[0])
        return values["nonce"], values["nc"]

    def accept(request: Request, *headers: tuple[str, str]) -> None:
        alice.accepted(request, Response(status=200, reason="", headers=Headers.of(*headers)))

    accept(register(), (info, 'nextnonce="nobody asked"'))
    assert sent() == ("one", "00000001")
    request = alice.authorize(register())
    accept(request, ("Authentication-Info" if proxy else "Proxy-Authentication-Info", 'nextnonce="not for us"'))
    accept(request, (info, 'nextnonce="two'))
    assert sent() == ("one", "00000003")
    accept(alice.authorize(register()), (info, 'qop=auth, nextnonce="two"'))
    assert [sent(), sent()] == [("two", "00000001"), ("two", "00000002")]


@pytest.mark.parametrize(
    "text",
    ["", "Digest", "Basic realm=x", 'Digest realm="a"', 'Digest nonce="a"', 'Digest realm="a, nonce="b"',
     'Digest realm="a", nonce="b", realm="c"', 'Digest realm="a" x, nonce="b"', "Digest realm"],
)  # fmt: skip
def test_nonsense_is_no_challenge(text: str) -> None:
    with pytest.raises(SipParseError):
        Challenge.parse(text)
    assert not client().challenged(register(), challenged_by(text))


def test_quotes_in_values_come_back_escaped() -> None:
    alice = Authenticator(Credentials('al"ice', "x"), counting())
    alice.challenged(register(), challenged_by('Digest realm="a\\"b", nonce="n", opaque="o"'))
    text = alice.authorize(register()).headers.raw("Authorization")[0]
    assert 'realm="a\\"b"' in text
    assert 'opaque="o"' in text
    assert parse_digest(text)["username"] == 'al"ice'


def test_the_password_shows_nowhere() -> None:
    assert "secret" not in repr(Credentials("alice", "secret"))
    alice = client()
    alice.challenged(register(), challenged_by('Digest realm="r", nonce="1"'))
    assert b"secret" not in bytes(replace(alice.authorize(register()), body=b""))
