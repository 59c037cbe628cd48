"""One correspondent that packets go to directly, or shall: its registration, its route, and whether the route works."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Address

from mobility.mipv6.correspondent_registration import CorrespondentRegistration, Stage
from mobility.mipv6.liveness import Liveness, Verdict
from mobility.outputs import Output

CONFIRMED_EVERY = 2.0
"Seconds after which a correspondent that packets are sent to is asked whether anything arrives, whatever it sends."


class Route:
    """All that a packet needs to go directly while nothing changes, and what came and went."""

    __slots__ = ("care_of", "correspondent", "heard", "sent")

    def __init__(self, correspondent: bytes, care_of: bytes) -> None:
        self.correspondent = correspondent
        self.care_of = care_of
        self.sent = 0
        self.heard = 0


UNDECIDED = Route(b"", b"")
"Stands for the way to a destination that nothing is known of."


@dataclass(slots=True)
class DirectPeer:
    """Silence is judged twice: that nothing comes, and that nothing arrives there."""

    registration: CorrespondentRegistration
    route: Route | None = None
    wanted: bool = True
    "To be begun anew at the next place."
    _hearing: Liveness = field(default_factory=Liveness)
    "Whether anything comes directly."
    _reaching: Liveness = field(default_factory=lambda: Liveness(CONFIRMED_EVERY))
    "Whether anything arrives there: only answers count, for what comes does not show it."
    _heard: int = -1
    "Packets that had come by the route at the last answer: when none came since, silence is nothing new."
    _used: int = 0
    "Packets of routes up to the last look at whether it is in use."

    def use(self, care_of: IPv6Address, now: float) -> Route:
        """Packets go by a new route from now on."""
        route = self.route = Route(self.registration.correspondent.packed, care_of.packed)
        self._used, self._heard = 0, -1
        self._hearing, self._reaching = Liveness(), Liveness(CONFIRMED_EVERY)
        for liveness in (self._hearing, self._reaching):
            liveness.round_trip = self.registration.round_trip.smoothed
            liveness.begin("", 0.0, now, 0, 0)
        return route

    def answered(self, now: float) -> None:
        """A care-of test came: the route works both ways."""
        for liveness in (self._hearing, self._reaching):
            liveness.reply(liveness.sequence, now)
        self._heard = -1 if self.route is None else self.route.heard

    @property
    def due(self) -> float | None:
        """When `renew`, `look` or `retry_at` has something to do."""
        times = [self.registration.due, self.retry_at]
        if self.route is not None:
            times += [self._hearing.timer, self._reaching.timer]
        return min((time for time in times if time is not None), default=None)

    @property
    def at_rest(self) -> bool:
        """Nothing is under way, and there is no binding."""
        return self.registration.stage is Stage.REST and not self.registration.bound

    @property
    def retry_at(self) -> float | None:
        """Until when nothing is tried after a failure; None: nothing is to be tried again."""
        return self.registration.hold_until or None if self.wanted and self.at_rest else None

    def renew(self, now: float) -> list[Output]:
        """What the registration has to say now; it renews a binding that packets went by since the last time."""
        used = 0 if self.route is None else self.route.sent + self.route.heard
        outputs = self.registration.handle_timer(now, in_use=used != self._used)
        self._used = used
        return outputs

    def look(self, now: float) -> list[Output]:
        """Silence while packets are sent: is anybody there?"""
        registration, route = self.registration, self.route
        if route is None:
            return []
        if registration.stage is not Stage.REST:
            # Its answers, or their absence, say the same.
            self._hearing.begin("", 0.0, now, route.sent, route.heard)
            self._reaching.begin("", 0.0, now, route.sent, 0)
            return []
        if route.heard == self._heard:
            self._hearing.begin("", 0.0, now, route.sent, route.heard)
        verdicts = (self._hearing.look(now, route.sent, route.heard), self._reaching.look(now, route.sent, 0))
        if Verdict.DEAD in verdicts:
            why = "nothing comes directly any more" if verdicts[0] is Verdict.DEAD else "nothing arrives directly"
            return registration.silent(why, now)
        return registration.probe(now) if Verdict.ASK in verdicts else []
