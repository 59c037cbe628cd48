"""What a configuration says of keys that are negotiated, and with whom which are (docs/configuration.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Address
from pathlib import Path

from mobility.ipsec.algorithms import Algorithm


class KeyUse(StrEnum):
    """What keys are negotiated for."""

    MOBILE = "mobile"
    "Between terminal and home agent."
    APPLICATION = "application"
    "With a correspondent."
    MAP = "map"
    "Of a terminal with mobility anchor points."


WHICHEVER = IPv6Address(0)
"In place of the address of a home agent, or of a MAP: any that there is."


@dataclass(frozen=True, slots=True)
class KeyExchange:
    """A table ``[[ike]]``: the associations with a peer get their keys from IKE."""

    peer: IPv6Address
    "The home agent, or the home address of a terminal; of the application: a correspondent; a MAP; or `WHICHEVER`."
    token: bytes | None = field(repr=False)
    "The secret of both ends; None: they have certificates."
    certificate: Path | None
    private_key: Path | None
    authorities: tuple[Path, ...]
    revocations: tuple[Path, ...]
    algorithm: Algorithm
    lifetime: int
    "Seconds."
    use: KeyUse = KeyUse.MOBILE
    home: IPv6Address | None = None
    "Of a terminal: the home address that it is for; None: every one that has no other."
    where: str = field(default="", compare=False)
    "File and key, for messages."


@dataclass(frozen=True, slots=True)
class CallKeys:
    """The keys that are negotiated for calls of phones (``[application_keys]``)."""

    algorithm: Algorithm
    "Of ESP."
    lifetime: int
    "Seconds."


class KeyExchanges:
    """All of a node. What says most of whom it is for counts."""

    def __init__(self, exchanges: Iterable[KeyExchange]) -> None:
        self._known = {(each.use, each.peer, each.home): each for each in exchanges}

    def of_terminal(self, home: IPv6Address) -> KeyExchange | None:
        """At a home agent or MAP: with this terminal."""
        return self._known.get((KeyUse.MOBILE, home, None))

    def of_home(self, home: IPv6Address, agent: IPv6Address) -> KeyExchange | None:
        """At a terminal: of this home address, with this home agent."""
        for address, peer in ((home, agent), (home, WHICHEVER), (None, agent), (None, WHICHEVER)):
            found = self._known.get((KeyUse.MOBILE, peer, address))
            if found is not None:
                return found
        return None

    def of_map(self, anchor: IPv6Address) -> KeyExchange | None:
        """At a terminal: with this MAP, or `WHICHEVER`."""
        return self._known.get((KeyUse.MAP, anchor, None))
