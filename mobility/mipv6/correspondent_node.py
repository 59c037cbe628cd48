"""What a correspondent node does for route optimization (RFC 6275 sections 9.1 to 9.5): tests, bindings, errors.

Home and care-of tests are answered without keeping anything. A binding is made, renewed or ended only by a binding
update whose authenticator proves that both tests arrived. The sequence number of a binding that ended is kept for as
long as the nonces are known that could authorise an old update again (section 5.2.8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address

from mobility.discards import Discard, Reason
from mobility.host.errors import TokenBucket
from mobility.mipv6 import direct
from mobility.mipv6.again_direct import SentDirectly, heard_in, heard_option
from mobility.mipv6.binding_cache import newer
from mobility.mipv6.return_routability import (
    MAX_NONCE_LIFETIME,
    MAX_RR_BINDING_LIFETIME,
    Nonces,
    authorized,
    binding_key,
    is_authorized,
)
from mobility.mipv6.signalling import UNPROTECTED, to_terminal
from mobility.outputs import Discarded, Event, Output
from mobility.wire import icmp6, ip6, mh
from mobility.wire.errors import WireError

LIMIT = 1024
"Home addresses with a binding, or one that ended lately. Beyond that, updates are refused with status 130."
REFRESH_REQUEST_AT = 0.9
"Fraction of the lifetime after which a terminal is asked to renew a binding that is in use."
WHERE = "correspondent"


@dataclass(frozen=True, slots=True)
class DirectBinding(Event):
    """A terminal has proven where it is; packets go there directly."""

    home_address: IPv6Address
    care_of_address: IPv6Address
    lifetime: int
    renewed: bool
    "It was at this care-of address before."


@dataclass(frozen=True, slots=True)
class DirectBindingEnded(Event):
    """Packets go to the home address again."""

    home_address: IPv6Address
    why: str


@dataclass(slots=True)
class _Row:
    """Of the binding cache."""

    home: bytes
    care_of: bytes
    "Empty: ended, the sequence number alone is kept."
    sequence: int
    lifetime: int
    expires: float
    kept_until: float
    ask_at: float | None = None
    "When the terminal is to be asked to renew it."


@dataclass(frozen=True, slots=True)
class _Answered:
    """How a binding update that is genuine is answered."""

    key: bytes
    covered: bytes
    "The address that the authenticator covers."
    home: bytes
    source: bytes
    "Where it came from."


class Correspondent:
    """Bindings of terminals with this node. Data goes through `opened` and `route`; the rest is signalling."""

    def __init__(
        self,
        address: IPv6Address,
        random: Callable[[int], bytes],
        send: Callable[[bytes, float], list[Output]],
        report: Callable[[icmp6.Error, float], list[Output]],
        heard: Callable[[bytes], Mapping[int, int]],
        *,
        limit: int = LIMIT,
    ) -> None:
        """``send``: puts a packet on the link, as it is; ``report``: an ICMPv6 error; ``heard``: SPIs and highest
        numbers of the application's ESP that came from a home address."""
        self.address = address
        self.limit = limit
        self.sent_directly = SentDirectly()
        self._own = address.packed
        self._nonces = Nonces(random)
        self._send = send
        self._report = report
        self._heard = heard
        self._rows: dict[bytes, _Row] = {}
        self._routes: dict[bytes, bytes] = {}
        "Home to care-of address, of the bindings that hold: what data is looked up in."
        self._used: set[bytes] = set()
        "Home addresses that packets went to directly since the last look."
        self.timer: float | None = None
        "When `handle_timer` wants to be called."
        self._errors = TokenBucket()
        self._refusals = TokenBucket()

    # ------------------------------------------------------------ data

    def route(self, home: bytes) -> bytes | None:
        """The care-of address of a home address (16 octets each), which is noted as in use; None: no binding."""
        care_of = self._routes.get(home)
        if care_of is not None:
            self._used.add(home)
        return care_of

    def confirms(self, home: bytes, care_of: bytes) -> bool:
        """Whether a packet from ``care_of`` may speak for ``home`` (section 9.3.1)."""
        return self._routes.get(home) == care_of

    def receive(self, packet: bytes, now: float) -> tuple[list[Output], bytes | None]:
        """A packet with options or a mobility message: what to do, and the packet of the home address, if it is data.

        Raises `Discard`.
        """
        plain, headers = direct.opened(packet)
        if headers.routing_address is not None:
            raise Discard(Reason.HOME_ADDRESS_NOT_OURS, "a routing header for a node that never moves")
        if headers.protocol == ip6.MOBILITY:
            return self._message(packet, plain, headers, now), None
        if headers.home_address is None:
            return [], packet
        if not self.confirms(headers.home_address, packet[8:24]):
            return self._unverified(packet, headers.home_address, now), None
        return [], plain

    def _unverified(self, packet: bytes, home: bytes, now: float) -> list[Output]:
        detail = f"{IPv6Address(home)} from {IPv6Address(packet[8:24])}"
        told = self._error(packet, mh.ErrorStatus.UNKNOWN_BINDING, home, now)
        return [*told, Discarded(Reason.HOME_ADDRESS_UNVERIFIED, WHERE, detail)]

    def _error(self, packet: bytes, status: mh.ErrorStatus, home: bytes, now: float) -> list[Output]:
        """A binding error to the sender (section 9.3.3), if it has an address and not too many were sent lately."""
        source = packet[8:24]
        if not (routable(source) and (not any(home) or routable(home)) and self._errors.take(now)):
            return []
        error = mh.BindingError(status, IPv6Address(home))
        return self._send(_packet(error, self._own, source), now)

    # ------------------------------------------------------------ signalling

    def _message(self, packet: bytes, plain: bytes, headers: ip6.Headers, now: float) -> list[Output]:
        body = plain[ip6.HEADER_SIZE :]
        try:
            message = mh.parse(body, plain[8:24], plain[24:40])
        except WireError as error:
            outputs: list[Output] = [Discarded(Reason.MALFORMED, WHERE, str(error))]
            if error.what == "mobility header" and error.at in (0, 1) and len(body) >= 8:  # section 9.2
                at = headers.offset + error.at
                outputs += self._report(icmp6.ParameterProblem(icmp6.ERRONEOUS_HEADER_FIELD, at, packet), now)
            return outputs
        if not routable(plain[8:24]) or not routable(packet[8:24]):
            raise Discard(Reason.SOURCE_INVALID, f"{IPv6Address(plain[8:24])} by {IPv6Address(packet[8:24])}")
        match message:
            case mh.HomeTestInit() if headers.home_address is None:
                index, token = self._nonces.home_token(packet[8:24], now)
                # To the home address itself, even if there is a binding (section 9.4.3).
                return self._answer(mh.HomeTest(index, message.cookie, token), packet[8:24], now)
            case mh.CareOfTestInit() if headers.home_address is None:
                index, token = self._nonces.care_of_token(packet[8:24], now)
                return self._answer(mh.CareOfTest(index, message.cookie, token), packet[8:24], now)
            case mh.BindingUpdate():
                return self._update(message, body, plain[8:24], packet[8:24], now)
            case mh.UnknownMessage():
                home = headers.home_address or bytes(16)
                told = self._error(packet, mh.ErrorStatus.UNRECOGNIZED_TYPE, home, now)
                return [*told, Discarded(Reason.TYPE_UNKNOWN, WHERE, f"type {message.type}")]
            case _:
                raise Discard(Reason.MESSAGE_UNEXPECTED, f"mobility header type {int(message.type)}")

    def _answer(self, message: mh.Message, to: bytes, now: float) -> list[Output]:
        return self._send(_packet(message, self._own, to), now)

    def _update(self, update: mh.BindingUpdate, header: bytes, home: bytes, source: bytes, now: float) -> list[Output]:
        """Section 9.5.1, in its order; ``source``: where the packet came from, and where it is answered."""
        if update.flags & mh.UpdateFlag.HOME_REGISTRATION:
            return self._refuse(update, mh.Status.HOME_REGISTRATION_NOT_SUPPORTED, home, source, now)
        alternate = update.alternate_care_of
        care_of = source if alternate is None else alternate.packed
        ends = update.lifetime == 0 or care_of == home
        if not routable(care_of):
            raise Discard(Reason.SOURCE_INVALID, f"care-of address {IPv6Address(care_of)}")
        key = self._key(update, home, b"" if ends else care_of, now)
        if isinstance(key, mh.Status):
            return self._refuse(update, key, home, source, now)
        covered = home if ends else care_of
        if not is_authorized(header, key, covered, self._own):
            raise Discard(Reason.AUTHENTICATOR_WRONG, f"binding update of {IPv6Address(home)}")
        # From here on the terminal has proven who and where it is.
        row = self._rows.get(home)
        answered = _Answered(key, covered, home, source)
        if row is not None and not newer(update.sequence, row.sequence):
            answer = mh.BindingAcknowledgement(mh.Status.SEQUENCE_OUT_OF_WINDOW, row.sequence, 0)
            return self._acknowledge(answer, answered, now)
        if row is None and len(self._rows) >= self.limit:
            answer = mh.BindingAcknowledgement(mh.Status.INSUFFICIENT_RESOURCES, update.sequence, 0)
            return self._acknowledge(answer, answered, now)
        lifetime = 0 if ends else min(update.lifetime, MAX_RR_BINDING_LIFETIME) // 4 * 4
        outputs: list[Output] = []
        if ends:
            outputs += self._end(home, update.sequence, now)
        else:
            outputs.append(self._bind(home, care_of, update.sequence, lifetime, now))
        heard = heard_in(update.options)
        if update.flags & mh.UpdateFlag.ACKNOWLEDGE:
            told = () if heard is None else heard_option(self._heard(home))
            answer = mh.BindingAcknowledgement(mh.Status.ACCEPTED, update.sequence, lifetime, options=told)
            outputs += self._acknowledge(answer, answered, now)
        return outputs if heard is None else outputs + self._send_again(home, heard, now)

    def _key(self, update: mh.BindingUpdate, home: bytes, care_of: bytes, now: float) -> bytes | mh.Status:
        """Kbm made anew from the indices, or the status that says which nonce is not known any more."""
        indices = next((option for option in update.options if isinstance(option, mh.NonceIndices)), None)
        if indices is None or not isinstance(update.options[-1], mh.BindingAuthorizationData):
            raise Discard(Reason.AUTHENTICATOR_WRONG, f"binding update of {IPv6Address(home)} has none")
        home_token = self._nonces.home_token_again(indices.home, home, now)
        care_of_token = self._nonces.care_of_token_again(indices.care_of, care_of, now) if care_of else b""
        if home_token is not None and care_of_token is not None:
            return binding_key(home_token, care_of_token)
        if home_token is None and care_of_token is None:
            return mh.Status.EXPIRED_NONCES
        return mh.Status.EXPIRED_HOME_NONCE_INDEX if home_token is None else mh.Status.EXPIRED_CARE_OF_NONCE_INDEX

    def _refuse(
        self, update: mh.BindingUpdate, status: mh.Status, home: bytes, source: bytes, now: float
    ) -> list[Output]:
        """An answer to somebody who has proven nothing: without authenticator (section 9.5.4), and not too often."""
        reason = Reason.MESSAGE_UNEXPECTED if status < mh.Status.EXPIRED_HOME_NONCE_INDEX else Reason.NONCE_EXPIRED
        discarded = Discarded(reason, WHERE, f"binding update of {IPv6Address(home)}: status {int(status)}")
        if not self._refusals.take(now):
            return [discarded]
        answer = mh.BindingAcknowledgement(status, update.sequence, 0)
        return [*self._to_terminal(answer, home, source, now), discarded]

    def _acknowledge(self, answer: mh.BindingAcknowledgement, to: _Answered, now: float) -> list[Output]:
        signed = authorized(answer, to.key, to.covered, self._own)
        return self._to_terminal(signed, to.home, to.source, now)

    def _to_terminal(self, answer: mh.BindingAcknowledgement, home: bytes, to: bytes, now: float) -> list[Output]:
        packet = to_terminal(answer, self.address, IPv6Address(home), IPv6Address(to), UNPROTECTED)
        return self._send(packet, now)

    # ------------------------------------------------------------ the binding cache

    def _bind(self, home: bytes, care_of: bytes, sequence: int, lifetime: int, now: float) -> Event:
        before = self._routes.get(home)
        expires = now + lifetime
        self._rows[home] = _Row(
            home,
            care_of,
            sequence,
            lifetime,
            expires,
            max(expires, now + MAX_NONCE_LIFETIME),
            now + lifetime * REFRESH_REQUEST_AT,
        )
        self._routes[home] = care_of
        self._used.discard(home)
        self._set_timer()
        return DirectBinding(IPv6Address(home), IPv6Address(care_of), lifetime, before == care_of)

    def _end(self, home: bytes, sequence: int, now: float) -> list[Output]:
        was_bound = self._routes.pop(home, None) is not None
        self._rows[home] = _Row(home, b"", sequence, 0, now, now + MAX_NONCE_LIFETIME)
        self._set_timer()
        return [DirectBindingEnded(IPv6Address(home), "the terminal ended it")] if was_bound else []

    def _set_timer(self) -> None:
        self.timer = min((_due(row) for row in self._rows.values()), default=None)

    def handle_timer(self, now: float) -> list[Output]:
        """Bindings end; terminals are asked to renew those that are in use (section 9.5.5)."""
        if self.timer is None or now < self.timer:
            return []
        outputs: list[Output] = []
        for row in [row for row in self._rows.values() if _due(row) <= now]:
            home = row.home
            if row.care_of and row.expires <= now:
                row.care_of, row.ask_at = b"", None
                del self._routes[home]
                outputs.append(DirectBindingEnded(IPv6Address(home), "lifetime over"))
            if not row.care_of and row.kept_until <= now:
                del self._rows[home]
            elif row.ask_at is not None and row.ask_at <= now:
                row.ask_at = None
                if home in self._used:
                    request = _packet(mh.BindingRefreshRequest(), self._own, home)
                    outputs += self._send(direct.to_terminal(request, row.care_of), now)
        self._set_timer()
        return outputs

    def _send_again(self, home: bytes, heard: Mapping[int, int], now: float) -> list[Output]:
        """What went to a care-of address that the terminal has lost goes on the way that it has now."""
        outputs: list[Output] = []
        care_of = self._routes.get(home)
        for packet in self.sent_directly.after(home, heard, now):
            outputs += self._send(packet if care_of is None else direct.to_terminal(packet, care_of), now)
        return outputs

    def __len__(self) -> int:
        return len(self._routes)

    def snapshot(self, now: float) -> list[dict[str, object]]:
        """The binding cache for people, JSON-ready."""
        return [
            {
                "home_address": str(IPv6Address(row.home)),
                "care_of_address": str(IPv6Address(row.care_of)),
                "lifetime": row.lifetime,
                "remaining": round(max(row.expires - now, 0.0), 3),
                "sequence": row.sequence,
            }
            for row in self._rows.values()
            if row.care_of
        ]


def routable(address: bytes) -> bool:
    """A unicast address with a meaning beyond the link: not multicast, link-local, unspecified or loopback."""
    first = address[0]
    if first == 0xFF or (first == 0xFE and address[1] & 0xC0 == 0x80):
        return False
    return address[:15] != bytes(15) or address[15] > 1


def _packet(message: mh.Message, source: bytes, to: bytes) -> bytes:
    return ip6.packet(source, to, ip6.MOBILITY, mh.payload(message, source, to))


def _due(row: _Row) -> float:
    if not row.care_of:
        return row.kept_until
    return row.expires if row.ask_at is None else min(row.ask_at, row.expires)
