"""What operators of a home agent, or of a MAP, want to see of keys that are negotiated with terminals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.ike.events import ChildFailed, ChildUp, IkeFailed, IkeRekeyed, IkeUp
from mobility.metrics import Family, counter, gauge
from mobility.outputs import Event


class IkeMetrics:
    """Counts events. Labels have few values, whatever strangers send."""

    def __init__(self, prefix: str) -> None:
        """``prefix``: of the names, as ``roamphone_ha``."""
        self._prefix = prefix
        self._results: Counter[str] = Counter()

    def happened(self, event: Event) -> None:
        """An event of the node."""
        match event:
            case IkeUp():
                self._results["established"] += 1
            case IkeRekeyed():
                self._results["rekeyed"] += 1
            case ChildUp(replaces=replaces) if replaces is not None:
                self._results["child-rekeyed"] += 1
            case IkeFailed() | ChildFailed():
                self._results["failed"] += 1

    def families(self, ike: Ike) -> Iterable[Family]:
        """The text that Prometheus fetches, in parts."""
        states = Counter(str(row["state"]) for row in ike.status())
        yield gauge(
            f"{self._prefix}_ike_sas",
            "IKE SAs with terminals; half-open ones have not shown who they are.",
            *(({"state": state}, states[state]) for state in ("established", "half-open")),
        )
        results = ("established", "rekeyed", "child-rekeyed", "failed")
        yield counter(
            f"{self._prefix}_ike_negotiations_total",
            "Keys that were negotiated, by what became of it: IKE SAs established and rekeyed, child SAs rekeyed.",
            *(({"result": what}, self._results[what]) for what in results),
        )
