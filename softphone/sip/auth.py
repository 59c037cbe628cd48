"""Digest authentication, the client's side (RFC 3261 section 22, RFC 7616, RFC 8760)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from softphone.sip.errors import SipParseError
from softphone.sip.headers import TOKEN, Headers, parse_number, quote, quoted_end, split_values, unquote
from softphone.sip.message import Request, Response

HASHES: dict[str, Callable[[bytes], str]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    "SHA-512-256": lambda data: hashlib.new("sha512_256", data).hexdigest(),
}
MAX_STALE = 3
MOST_REALMS = 64
"That challenges are remembered of; then the oldest goes."


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to a server."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate or Proxy-Authenticate value."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    "As the server wrote it, for example ``SHA-256-sess``."
    qop: tuple[str, ...] = ()
    opaque: str | None = None
    stale: bool = False

    @classmethod
    def parse(cls, text: str) -> Challenge:
        """Raises SipParseError; also for schemes other than Digest."""
        values = parse_digest(text)
        for name in ("realm", "nonce"):
            if name not in values:
                raise SipParseError("challenge", 0, f"{name} is missing")
        qop = tuple(word.strip().lower() for word in values.get("qop", "").split(",") if word.strip())
        return cls(
            values["realm"], values["nonce"], values.get("algorithm", "MD5"), qop, values.get("opaque"),
            values.get("stale", "").lower() == "true",
        )  # fmt: skip

    @property
    def hash_name(self) -> str:
        return self.algorithm.upper().removesuffix("-SESS")

    @property
    def session(self) -> bool:
        return self.algorithm.upper().endswith("-SESS")

    @property
    def usable(self) -> bool:
        """We know its algorithm and one of its qop values."""
        return self.hash_name in HASHES and (not self.qop or "auth" in self.qop or "auth-int" in self.qop)


def parse_digest(text: str) -> dict[str, str]:
    """``Digest name=value, ...`` to a dictionary with lower-case names. Raises SipParseError."""
    match = re.match(r"\s*(\S+)\s+", text)
    if match is None or match[1].lower() != "digest":
        raise SipParseError("challenge", 0, f"the scheme of {text[:20]!r} is not Digest")
    values: dict[str, str] = {}
    for part in split_values(text[match.end() :], "challenge"):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not TOKEN.match(name):
            raise SipParseError("challenge", match.end(), f"{part[:40]!r} is not name=value")
        if value.startswith('"') and quoted_end(value, 0, "challenge") != len(value):
            raise SipParseError("challenge", match.end(), f"unexpected text behind the value of {name!r}")
        if name.lower() in values:
            raise SipParseError("challenge", match.end(), f"{name!r} occurs twice")
        values[name.lower()] = unquote(value)
    return values


def digest_response(
    challenge: Challenge, credentials: Credentials, method: str, uri: str, *,
    qop: str | None, count: int, cnonce: str, body: bytes = b"",
) -> str:  # fmt: skip
    """The ``response`` value (RFC 7616 section 3.4.1)."""
    digest = HASHES[challenge.hash_name]

    def joined(*parts: str) -> str:
        return digest(":".join(parts).encode("utf-8", "surrogateescape"))

    secret = joined(credentials.username, challenge.realm, credentials.password)
    if challenge.session:
        secret = joined(secret, challenge.nonce, cnonce)
    if qop == "auth-int":
        action = joined(method, uri, digest(body))
    else:
        action = joined(method, uri)
    if qop is None:
        return joined(secret, challenge.nonce, action)
    return joined(secret, challenge.nonce, f"{count:08x}", cnonce, qop, action)


@dataclass(slots=True)
class _Realm:
    challenge: Challenge
    header: str
    count: int = 0
    refreshed: int = 0
    "How often in a row the server called our nonce stale."


class Authenticator:
    """Answers challenges and remembers them, so that later requests carry credentials at once.

    ``server`` names who challenged: nobody else sees the credentials. Those for a proxy go with everything through it,
    those for who is at the other end (Authorization) only to whom that was asked for: the same To (RFC 3261 section
    22.2). So a call does not carry those of the registration. ``random`` gives the client nonces.
    """

    def __init__(self, credentials: Credentials, random: Callable[[int], bytes]) -> None:
        self.credentials = credentials
        self._random = random
        self._realms: dict[tuple[str, str, str, str], _Realm] = {}
        "By server, header, realm and, for Authorization, who was asked."

    def challenged(self, request: Request, response: Response, server: str = "") -> bool:
        """Take the challenges of a 401 or 407. False: trying again is pointless.

        Pointless is: no challenge that we can compute, or the server refused the credentials that ``request`` carried
        and does not call the nonce stale (a wrong password must not lock the account out).
        """
        offered = [*_challenges(response, "WWW-Authenticate", "Authorization")]
        offered += _challenges(response, "Proxy-Authenticate", "Proxy-Authorization")
        best: dict[tuple[str, str], Challenge] = {}
        for header, challenge in offered:
            key = (header, challenge.realm)
            if challenge.usable:
                best.setdefault(key, challenge)  # the topmost: a server lists what it likes best first (RFC 8760)
        progress = False
        for (header, realm), challenge in best.items():
            tried = _nonces(request, header, realm)
            place = (server, header, realm, _asked(request, header))
            known = self._realms.get(place)
            if tried and not challenge.stale and not (known and known.challenge.nonce not in tried):
                continue
            refreshed = known.refreshed + 1 if known and tried else 0
            if refreshed > MAX_STALE:
                continue
            self._realms[place] = _Realm(challenge, header, 0, refreshed)
            progress = True
        while len(self._realms) > MOST_REALMS:
            del self._realms[next(iter(self._realms))]
        return progress

    def accepted(self, request: Request, response: Response, server: str = "") -> None:
        """A request went through; the server may name the nonce that it wants next (RFC 7616 section 3.5)."""
        for (known, header, name, asked), realm in self._realms.items():
            realm.refreshed = 0
            used = (known, asked) == (server, _asked(request, header)) and realm.challenge.nonce in _nonces(
                request, header, name
            )
            if used and (nonce := _next_nonce(response, header)) is not None:
                realm.challenge, realm.count = replace(realm.challenge, nonce=nonce), 0

    def authorize(self, request: Request, server: str = "") -> Request:
        """The request with credentials for every realm that has asked such a request for them through that server."""
        headers = request.headers.without("Authorization", "Proxy-Authorization")
        for (known, header, _, asked), realm in self._realms.items():
            if (known, asked) == (server, _asked(request, header)):
                headers = headers.add(realm.header, self._credentials(realm, request))
        return replace(request, headers=headers)

    def _credentials(self, realm: _Realm, request: Request) -> str:
        challenge = realm.challenge
        qop = "auth" if "auth" in challenge.qop else "auth-int" if "auth-int" in challenge.qop else None
        realm.count += 1
        cnonce = self._random(16).hex()
        uri = str(request.uri)
        response = digest_response(
            challenge,
            self.credentials,
            request.method,
            uri,
            qop=qop,
            count=realm.count,
            cnonce=cnonce,
            body=request.body,
        )
        parts = [
            f"username={quote(self.credentials.username)}",
            f"realm={quote(challenge.realm)}",
            f"nonce={quote(challenge.nonce)}",
            f"uri={quote(uri)}",
            f'response="{response}"',
            f"algorithm={challenge.algorithm}",
        ]
        if challenge.opaque is not None:
            parts.append(f"opaque={quote(challenge.opaque)}")
        if qop is not None:
            parts += [f"qop={qop}", f"nc={realm.count:08x}"]
        if qop is not None or challenge.session:
            parts.append(f'cnonce="{cnonce}"')
        return "Digest " + ", ".join(parts)


def verify(
    headers: Headers, header: str, method: str, credentials: Credentials, challenge: Challenge, body: bytes = b""
) -> bool:
    """Whether a request's credentials are right for a challenge: the server's half."""
    for text in headers.raw(header):
        try:
            values = parse_digest(text)
            count = int(values.get("nc", "0"), 16)
        except (SipParseError, ValueError):
            continue
        if (values.get("realm"), values.get("nonce"), values.get("username")) != (
            challenge.realm, challenge.nonce, credentials.username,
        ):  # fmt: skip
            continue
        expected = digest_response(
            challenge, credentials, method, values.get("uri", ""),
            qop=values.get("qop"), count=count, cnonce=values.get("cnonce", ""), body=body,
        )  # fmt: skip
        if expected == values.get("response"):
            return True
    return False


def _asked(request: Request, header: str) -> str:
    """Who is at the other end, for credentials that are for it; empty: they are for a proxy on the way."""
    return "" if header == "Proxy-Authorization" else str(request.to.uri)


def _challenges(response: Response, name: str, answer: str) -> list[tuple[str, Challenge]]:
    found = []
    for value in response.headers.raw(name):
        try:
            found.append((answer, Challenge.parse(value)))
        except SipParseError:
            continue  # another scheme, or nonsense: as if it had not been offered
    return found


def _next_nonce(response: Response, header: str) -> str | None:
    """From Authentication-Info, or Proxy-Authentication-Info for a proxy's credentials."""
    text = response.headers.get(header.removesuffix("orization") + "entication-Info")
    try:
        return None if text is None else parse_digest(f"Digest {text}").get("nextnonce")
    except SipParseError:
        return None


def _nonces(request: Request, header: str, realm: str) -> set[str]:
    """The nonces that the request used for this realm."""
    found = set()
    for text in request.headers.raw(header):
        values = parse_digest(text)
        if values.get("realm") == realm:
            found.add(values.get("nonce", ""))
    return found


def retry_after(response: Response) -> int:
    """Seconds of Retry-After; 0 if there is none or it is no number."""
    text = (response.headers.get("Retry-After") or "0").partition(";")[0].partition("(")[0]
    try:
        return parse_number(text, "Retry-After")
    except SipParseError:
        return 0
