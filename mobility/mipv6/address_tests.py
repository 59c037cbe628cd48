"""Return routability, the terminal's end: cookies to a correspondent, keygen tokens back (RFC 6275 section 11.6)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.mipv6.return_routability import KeygenToken
from mobility.mipv6.route_events import Say, Way
from mobility.wire import mh

HOME_TOKEN_RENEWED_AFTER = 160.0
"Seconds; a good home token makes a handover cost one round trip less."
FRESH = 5.0
"Seconds that a token must be good for when it is used."


class AddressTests:
    """The home test and the care-of test: what was asked, and the halves of a key that came of it."""

    def __init__(self, home_address: IPv6Address, correspondent: IPv6Address, random: Callable[[int], bytes]) -> None:
        self.home: KeygenToken | None = None
        "The last one; `home_token` says whether it is still good."
        self.care_of: KeygenToken | None = None
        self._home_address = home_address.packed
        self._correspondent = correspondent
        self._random = random
        self._home_cookie: bytes | None = None
        self._care_of_cookie: tuple[bytes, bytes, float] | None = None
        "With the care-of address, and when it was sent."

    def home_token(self, now: float) -> KeygenToken | None:
        """The home keygen token, if it is good enough to be used."""
        return self.home if self.home is not None and self.home.usable(now, FRESH) else None

    def care_of_token(self, care_of: IPv6Address | None, now: float) -> KeygenToken | None:
        """The care-of keygen token, if it is of this address and good enough to be used."""
        token = self.care_of
        fits = token is not None and care_of is not None and token.address == care_of.packed
        return token if fits and token is not None and token.usable(now, FRESH) else None

    def home_due(self, now: float) -> float:
        """When to ask for the next home token, so that there always is a good one."""
        return now if self.home is None else self.home.received + HOME_TOKEN_RENEWED_AFTER

    def expects(self, cookie: bytes) -> bool:
        """Whether a test with this cookie is not answered yet."""
        return cookie == self._home_cookie or (self._care_of_cookie is not None and cookie == self._care_of_cookie[0])

    def home_init(self) -> Say:
        """Asks for a home test, which goes through the tunnel (section 11.6.1)."""
        self._home_cookie = self._random(8)
        return Say(mh.HomeTestInit(self._home_cookie), Way.HOME)

    def care_of_init(self, care_of: IPv6Address, now: float) -> Say:
        """Asks for a care-of test at this address (section 11.6.1)."""
        cookie = self._random(8)
        self._care_of_cookie = cookie, care_of.packed, now
        return Say(mh.CareOfTestInit(cookie), Way.DIRECT)

    def moved(self) -> None:
        """The terminal is elsewhere: a care-of test that is under way is of no use."""
        self._care_of_cookie = None

    def home_test(self, message: mh.HomeTest, now: float) -> None:
        """Came through the tunnel (section 11.6.2). Raises `Discard`: it was not asked for."""
        if message.cookie != self._home_cookie:
            raise Discard(Reason.COOKIE_WRONG, f"home test of {self._correspondent}")
        self._home_cookie = None
        self.home = KeygenToken(message.nonce_index, message.token, now, self._home_address)

    def care_of_test(self, message: mh.CareOfTest, to: bytes, now: float) -> float:
        """Came to the care-of address ``to`` (section 11.6.2); the seconds it took. Raises `Discard`: as above."""
        asked = self._care_of_cookie
        if asked is None or message.cookie != asked[0] or to != asked[1]:
            raise Discard(Reason.COOKIE_WRONG, f"care-of test of {self._correspondent}")
        self._care_of_cookie = None
        self.care_of = KeygenToken(message.nonce_index, message.token, now, to)
        return now - asked[2]
