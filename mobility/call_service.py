"""What a data plane offers to phones: keys for their calls, by the control socket; and leases of calls that outlive it.

A call's policy has to hold before the phone speaks again: a data plane that was restarted would send in clear what it
had protected before. So leases are in a file, with their ends on the wall clock.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path
from typing import Protocol, runtime_checkable

from mobility.application_events import ApplicationKeysFailed, ApplicationProtected, ApplicationUnprotected
from mobility.application_keys import ApplicationKeys, CallLease
from mobility.control import Operation, Refused
from mobility.ipsec.ike.fingerprint import Fingerprint
from mobility.net.data_plane import DataPlane
from mobility.node import Node
from mobility.outputs import Event, Output
from mobility.state_files import keep, set_aside

log = logging.getLogger(__name__)

FILE = "calls.json"
"In the state directory."
LONGEST_LEASE = 3600.0
"Seconds."
LONGEST_NAME = 256
MOST_FINGERPRINTS = 16
Negotiation = Callable[[ApplicationKeys], list[Output]]


@runtime_checkable
class HasApplicationKeys(Protocol):
    """A node that may have keys with correspondents."""

    @property
    def application_keys(self) -> ApplicationKeys | None:
        """None: all of them are in its configuration."""

    def negotiate(self, operation: Negotiation, now: float) -> list[Output]:
        """Has its application keys do something; only where there are some. Raises ValueError, for people."""


class LeaseFile:
    """Leases of the calls of one address. Times are on the wall clock here."""

    def __init__(self, path: Path, address: IPv6Address) -> None:
        self._path = path
        self._address = str(address)
        self.failures = 0
        "Writes that did not succeed."

    def load(self) -> list[CallLease]:
        """Those that were kept; none of a file that cannot be used, which is set aside."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("%s: cannot be read: %s; calls that went on are in clear until their phone speaks again",
                        self._path, error.strerror)  # fmt: skip
            return []
        try:
            kept = json.loads(content)
            if kept["address"] != self._address:
                return []
            return [_lease(each) for each in kept["calls"]]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            log.warning("%s: cannot be used (%s), and is now %s; calls that went on are in clear until their phone"
                        " speaks again", self._path, error, self._set_aside())  # fmt: skip
            return []

    def keep(self, leases: list[CallLease]) -> None:
        """Writes them."""
        calls = [
            {
                "call": each.call,
                "peer": str(each.peer),
                "fingerprints": [str(one) for one in each.fingerprints],
                "active": each.active,
                "until": round(each.until, 3),
            }
            for each in leases
        ]
        content = json.dumps({"address": self._address, "calls": calls}, indent=1).encode() + b"\n"
        try:
            keep(self._path, content)
        except OSError as error:
            self.failures += 1
            log.warning("%s: cannot be written: %s; a restart in mid call would send in clear until the phone speaks"
                        " again", self._path, error.strerror)  # fmt: skip

    def _set_aside(self) -> Path:
        try:
            return set_aside(self._path)
        except OSError:
            return self._path


class CallService:
    """Of a node that does nothing of the kind: refusals. Order: `operations`, `start`, `turned` after each turn."""

    def __init__(self, node: Node, directory: Path, clock: Callable[[], float] = time.time) -> None:
        """``directory``: where the node keeps what outlives it; ``clock``: of the wall."""
        self._node = node if isinstance(node, HasApplicationKeys) else None
        self._clock = clock
        self._plane: DataPlane | None = None
        self._changed = False
        "Leases are others than those in the file."
        keys = None if self._node is None else self._node.application_keys
        with_calls = keys is not None and keys.settings.calls
        self._file = LeaseFile(directory / FILE, keys.address) if keys is not None and with_calls else None

    def operations(self) -> dict[str, Operation]:
        """What the control socket offers; docs/configuration.md describes each."""
        return {
            "application-keys": self._application_keys,
            "offer-call": self._offer,
            "secure-call": self._secure,
            "release-call": self._release,
            "protection": self._protection,
        }

    def start(self, plane: DataPlane) -> None:
        """``plane`` runs the node, and has not moved a packet yet: the calls of before go on."""
        self._plane = plane
        if self._file is None:
            return
        now, wall = plane.now(), self._clock()
        # A clock that was set back makes no lease longer than one may be.
        leases = [replace(each, until=now + min(each.until - wall, LONGEST_LEASE)) for each in self._file.load()]
        going_on = [each for each in leases if each.until > now]
        for lease in going_on:
            try:
                self._keys().restore([lease], now)
            except ValueError as error:  # by the configuration of now
                log.warning("a call with %s cannot go on: %s", lease.peer, error)
        if going_on:
            log.info("calls of before go on, and stay protected: %d", len(self._keys().calls()))

    def turned(self) -> None:
        """The loop has turned: what changed is written, after the packets of the turn went."""
        plane, file = self._plane, self._file
        if self._changed and plane is not None and file is not None:
            self._changed = False
            now, wall = plane.now(), self._clock()
            file.keep([replace(each, until=wall + each.until - now) for each in self._keys().calls()])

    def happened(self, event: Event) -> None:
        """An event of the node: what becomes of keys with correspondents is for the log."""
        fields = {"fields": event.describe()}
        match event:
            case ApplicationProtected(peer=peer, algorithm=algorithm, calls=calls):
                why = f", for call {calls}" if calls else ""
                log.info("packets with %s are protected from now on (%s)%s", peer, algorithm, why, extra=fields)
            case ApplicationUnprotected(peer=peer, reason=reason):
                log.info("the keys with %s have ended: %s", peer, reason, extra=fields)
            case ApplicationKeysFailed(peer=peer, reason=reason):
                log.warning("no keys with %s: %s; packets wait, and it is tried again", peer, reason, extra=fields)

    # ------------------------------------------------------------ operations

    def _application_keys(self, _request: Mapping[str, object]) -> object:
        keys = self._keys()
        credential = keys.settings.credential
        if credential is None:
            raise _no_keys()
        return {"address": str(keys.address), "fingerprint": str(Fingerprint.of(credential.certificate))}

    def _offer(self, request: Mapping[str, object]) -> object:
        call, lease = _call(request), _lease_time(request)
        self._negotiate(lambda keys, now: keys.offer(call, now + lease, now))
        return {}

    def _secure(self, request: Mapping[str, object]) -> object:
        call, lease = _call(request), _lease_time(request)
        peer, fingerprints, active = _peer(request), _fingerprints(request), request.get("active")
        if not isinstance(active, bool):
            raise Refused("active is true or false: whether this end begins")
        self._negotiate(
            lambda keys, now: keys.secure(call, peer, fingerprints, active=active, until=now + lease, now=now)
        )
        self._changed = True
        return self._protection(request)

    def _release(self, request: Mapping[str, object]) -> object:
        call = _call(request)
        self._negotiate(lambda keys, now: keys.release(call, now))
        self._changed = True
        return {}

    def _protection(self, request: Mapping[str, object]) -> object:
        keys, peer = self._keys(), _peer(request)
        return {"state": keys.state(peer), "algorithm": keys.algorithm(peer)}

    def _negotiate(self, operation: Callable[[ApplicationKeys, float], list[Output]]) -> None:
        self._keys()
        node, plane = self._node, self._plane
        if node is None or plane is None:
            raise _no_keys()
        now = plane.now()
        try:
            outputs = node.negotiate(lambda keys: operation(keys, now), now)
        except ValueError as error:
            raise Refused(str(error)) from error
        plane.carry_out(outputs)

    def _keys(self) -> ApplicationKeys:
        keys = None if self._node is None else self._node.application_keys
        if keys is None or self._file is None:
            raise _no_keys()
        return keys


def _no_keys() -> Refused:
    return Refused(
        "this node has no keys for calls: it takes a terminal with one home address and a home agent that is named, or"
        " a correspondent, without calls = false in [application_keys]"
    )


def _call(request: Mapping[str, object]) -> str:
    call = request.get("call")
    if not isinstance(call, str) or not 0 < len(call) <= LONGEST_NAME or not call.isprintable():
        raise Refused(f"call names the call: a text of 1 to {LONGEST_NAME} characters")
    return call


def _lease_time(request: Mapping[str, object]) -> float:
    lease = request.get("lease")
    if isinstance(lease, bool) or not isinstance(lease, int | float) or not 1 <= lease <= LONGEST_LEASE:
        raise Refused(f"lease is how long it holds unless it is said again: 1 to {LONGEST_LEASE:.0f} seconds")
    return float(lease)


def _peer(request: Mapping[str, object]) -> IPv6Address:
    try:
        return _address(request.get("peer"))
    except ValueError:
        raise Refused('peer is the home address of the other end: an IPv6 address such as "2001:db8::1"') from None


def _fingerprints(request: Mapping[str, object]) -> tuple[Fingerprint, ...]:
    texts = request.get("fingerprints")
    if not isinstance(texts, list) or not 0 < len(texts) <= MOST_FINGERPRINTS:
        raise Refused(f"fingerprints is a list of 1 to {MOST_FINGERPRINTS} texts")
    try:
        return _parsed(texts)
    except ValueError as error:
        raise Refused(str(error)) from error


def _lease(kept: Mapping[str, object]) -> CallLease:
    """Of the file. Raises ValueError, TypeError, KeyError."""
    call, active, until, texts = kept["call"], kept["active"], kept["until"], kept["fingerprints"]
    if not isinstance(call, str) or not isinstance(active, bool) or not isinstance(texts, list):
        raise ValueError("not a lease")
    if isinstance(until, bool) or not isinstance(until, int | float):
        raise ValueError("no time")
    return CallLease(call, _address(kept["peer"]), _parsed(texts), active, float(until))


def _address(value: object) -> IPv6Address:
    if not isinstance(value, str) or "%" in value:
        raise ValueError("no address")
    return IPv6Address(value)


def _parsed(texts: list[object]) -> tuple[Fingerprint, ...]:
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a fingerprint is a text")
    return tuple(dict.fromkeys(Fingerprint.parse(str(text)) for text in texts))
