"""One terminal as its home agent sees it: where packets for it go, and where its packets may come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from math import inf

from mobility.discards import Discard, Reason
from mobility.ipsec.processing import IpsecProcessing
from mobility.mipv6.again import SentLately
from mobility.mipv6.binding_cache import Binding
from mobility.mipv6.home_paths import Outlet, Path
from mobility.mipv6.home_settings import AuthorisedTerminal
from mobility.mipv6.reach import Reach
from mobility.mipv6.tunnel import TunnelForm, seal, seal4
from mobility.nemo.mobile_networks import Prefixes
from mobility.outputs import Output
from mobility.wire import ip6

NEVER = -inf
LATE = 2.0
"Seconds for which packets are taken from a place that was deregistered: they were on their way."
LOST_LIMIT = 8
"Lost places that are remembered; likewise binding identifiers that were taken away."
SOURCES_LIMIT = 32
"Places that packets are taken from: bound ones and those deregistered lately."


class Departure(Enum):
    """How a place ceased to be one of a terminal's."""

    REPLACED = auto()
    "What comes from there comes again by itself (`again.Progress`), or is none of the terminal's any more."
    DEREGISTERED = auto()
    "By the terminal: what was on its way is waited for."
    LOST = auto()
    "What comes from there was or will be sent again elsewhere."


class ServedTerminal:
    """A terminal that may register, and what was made of its bindings for the data path."""

    __slots__ = (
        "_agent",
        "_body",
        "_ends",
        "_former",
        "_former_until",
        "_native_ends",
        "_outlet",
        "_room",
        "_security",
        "association_in",
        "association_out",
        "conflict_until",
        "form",
        "home",
        "loss",
        "lost",
        "networks",
        "path",
        "reach",
        "retired",
        "sent_lately",
        "settings",
        "signalling_top",
        "sources",
        "unchecked_until",
        "woken_until",
    )

    def __init__(self, settings: AuthorisedTerminal, agent: bytes, security: IpsecProcessing, outlet: Outlet) -> None:
        self.home = settings.home_address.packed
        self.form = settings.form
        self.association_in = settings.associations.tunnel_in
        self.association_out = settings.associations.tunnel_out
        self.renew(settings)
        self.path: Path | None = None
        "That of the primary binding; None: not bound."
        self.sources: dict[bytes, float] = {}
        "Sources that packets are taken from, and until when."
        self.networks = Prefixes()
        "That it takes along as a mobile router, by its primary binding."
        self.lost: dict[bytes, None] = {}
        self.retired: dict[int, int] = {}
        "Binding identifiers that were taken away, with the sequence number of the update that did it."
        self.sent_lately = SentLately(self.association_out)
        self.loss: tuple[int, int] | None = None
        "Number of the last loss that was told, and how many packets were sent again for it."
        self.signalling_top = 0
        "Highest ESP sequence number of the signalling so far."
        self.woken_until = NEVER
        self.conflict_until = NEVER
        self.unchecked_until = NEVER
        "Until when duplicate address detection may still fail."
        self._agent = agent
        self._security = security
        self._outlet = outlet
        self._ends = agent + self.home
        self._native_ends = b""
        self._former: Path | None = None
        self._former_until = NEVER
        self._body = self._room = -1

    def renew(self, settings: AuthorisedTerminal) -> None:
        """Other settings from now on, but for form and associations."""
        self.settings = settings
        self.reach = None if settings.networks is None else Reach(settings.networks)
        "Whom it may talk to; None: everybody."

    # ------------------------------------------------------------ where it is

    def follow(
        self, rows: Sequence[Binding], now: float, departure: Departure = Departure.REPLACED, overlap: float = 0.0
    ) -> None:
        """Takes over the bindings, the primary first. ``overlap``: seconds in which the former path is used as well."""
        bound = {row.source for row in rows}
        for source, until in list(self.sources.items()):
            if source in bound or until <= now:
                del self.sources[source]
            elif until == inf:
                self._left(source, now, departure)
        for source in bound:
            self.sources[source] = inf
            self.lost.pop(source, None)
        while len(self.sources) > SOURCES_LIMIT:
            del self.sources[next(iter(self.sources))]
        before = self.path
        self.path = Path(rows[0].source, rows[0].link) if rows else None
        if self.path != before:
            both = overlap > 0 and departure is Departure.REPLACED and self.form is TunnelForm.ESP
            self._former, self._former_until = before if both else None, now + overlap
        elif self._former is not None and departure is not Departure.REPLACED and self._former.source not in bound:
            self._former = None
        self._native_ends = self._agent + self.path.source if self.path is not None else b""
        self.networks = Prefixes(rows[0].mobile_networks if rows else ())
        self._body = -1

    def retire(self, identifier: int, sequence: int) -> None:
        """No update that is older than ``sequence`` may bring this identifier back."""
        self.retired.pop(identifier, None)
        self.retired[identifier] = sequence
        if len(self.retired) > LOST_LIMIT:
            del self.retired[next(iter(self.retired))]

    def _left(self, source: bytes, now: float, departure: Departure) -> None:
        del self.sources[source]
        match departure:
            case Departure.DEREGISTERED:
                self.sources[source] = now + LATE
            case Departure.LOST:
                self.lost[source] = None
                if len(self.lost) > LOST_LIMIT:
                    del self.lost[next(iter(self.lost))]
            case Departure.REPLACED:
                pass

    def places(self) -> Iterable[bytes]:
        """Addresses of 16 octets at which it is bound."""
        return [source[:16] for source, until in self.sources.items() if until == inf]

    # ------------------------------------------------------------ packets for it

    def send(self, packet: bytes, now: float) -> list[Output]:
        """Through the tunnel to where the terminal is; the caller keeps to `room`.

        Raises `Discard`: BINDING_UNKNOWN, and as `tunnel.seal`.
        """
        path = self.path
        if path is None:
            raise Discard(Reason.BINDING_UNKNOWN, f"to {self.settings.home_address}")
        ends = self._native_ends if len(path.source) == 16 else self._ends
        next_header, body = self._seal(packet, ends)
        self.sent_lately.sealed(packet, now)
        outputs = self._outlet.carry(packet, next_header, body, path, now)
        if self._former is not None:
            if now < self._former_until:
                outputs = outputs + self._outlet.carry(packet, next_header, body, self._former, now)
            else:
                self._former = None
        return outputs

    def send_by(self, packet: bytes, path: Path, now: float) -> list[Output]:
        """Through the tunnel by a path of the caller's choice: an answer. Raises `Discard` as `tunnel.seal`."""
        ends = self._agent + path.source if path.native else self._ends
        next_header, body = self._seal(packet, ends)
        return self._outlet.carry(packet, next_header, body, path, now)

    def _seal(self, packet: bytes, ends: bytes) -> tuple[int, bytes]:
        if packet[0] >> 4 == 4:
            return seal4(packet, ends, self.form, self.association_out)
        return seal(packet, ends, self.form, self._security)

    def room(self) -> int:
        """Octets of the largest packet; where less than IPv6's minimum fits, the outer packet is split."""
        body = -1 if self.path is None else self._outlet.body_room(self.path)
        if body != self._body:
            self._body = body
            room = body if self.association_out is None else self.association_out.algorithm.room(body)
            if self.form is TunnelForm.ESP_MOBILE:
                room -= ip6.HEADER_SIZE
            self._room = max(room, ip6.MINIMUM_MTU)
        return self._room

    def snapshot(self) -> dict[str, object]:
        """For people, JSON-ready."""
        known = self.settings.associations
        tunnel = (known.tunnel_in, known.tunnel_out, known.home_test_in, known.home_test_out)
        return {
            "home_address": str(self.settings.home_address),
            "name": self.settings.name,
            "tunnel": self.form.value,
            "admitted": self.settings.admitted,
            "networks": None if self.reach is None else [str(network) for network in self.reach.networks],
            "mobile_networks": [str(network) for network in self.settings.mobile_networks],
            "sent_lately": self.sent_lately.snapshot(),
            "associations": [each.describe() for each in tunnel if each is not None],
        }
