"""What operators of a home agent want to see: taken from counters that are there anyway, when somebody asks.

Labels have few values, whatever strangers send: links, reasons of `mobility.discards`, statuses of acknowledgements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import version

from mobility.agent import HomeAgentNode, ServiceChanged
from mobility.ike_metrics import IkeMetrics
from mobility.metrics import Family, counter, exposition, gauge
from mobility.mipv6.binding_events import (
    BindingCreated,
    BindingEnded,
    BindingRebound,
    BindingRefreshed,
    BindingRemoved,
    BindingRestored,
    UpdateRefused,
)
from mobility.mipv6.home_settings import AuthorisedTerminal
from mobility.net.data_plane import DataPlane
from mobility.outputs import Event
from mobility.plane_metrics import of_plane, of_process, totals
from mobility.store.shared import SharedAgent, Standing


class HomeMetrics:
    """Counts events, and puts all together."""

    def __init__(
        self, node: HomeAgentNode, plane: DataPlane, shared: SharedAgent | None, store_failures: Callable[[], int]
    ) -> None:
        self._node = node
        self._plane = plane
        self._shared = shared
        self._store_failures = store_failures
        self._events: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._ike = IkeMetrics("roamphone_ha")
        self._ended: Counter[str] = Counter()
        self._sent_again = 0
        self._past: Counter[str] = Counter()
        "Of associations that are no longer there: a counter never goes back."

    def happened(self, event: Event) -> None:
        """An event of the node."""
        self._ike.happened(event)
        match event:
            case BindingCreated(previous=previous, sent_again=sent_again):
                self._events["created" if previous is None else "moved"] += 1
                self._sent_again += sent_again
            case BindingRefreshed():
                self._events["refreshed"] += 1
            case BindingRebound():
                self._events["rebound"] += 1
            case BindingRestored():
                self._events["restored"] += 1
            case BindingEnded() | BindingRemoved():
                self._ended[event.why] += 1
            case UpdateRefused(status=status):
                self._refused[status] += 1
            case ServiceChanged(active=active):
                self._events["active" if active else "standby"] += 1

    def replaced(self, terminals: Iterable[AuthorisedTerminal]) -> None:
        """The associations of these terminals are used no longer."""
        self._past += totals(terminal.associations for terminal in terminals)

    def text(self, terminals: Iterable[AuthorisedTerminal]) -> str:
        """The text that Prometheus fetches."""
        terminals = tuple(terminals)
        return exposition(
            [
                *self._home_agent(terminals),
                *self._signalling(),
                *self._ike.families(self._node.keys.ike),
                *self._packets(terminals),
                *self._store(),
                *of_process(),
            ]
        )

    def _home_agent(self, terminals: tuple[AuthorisedTerminal, ...]) -> Iterable[Family]:
        cache = self._node.engine.cache
        ways = Counter("native" if row.native else "udp" for row in cache.bindings())
        admitted = sum(terminal.admitted for terminal in terminals)
        yield gauge("roamphone_info", "The program.", ({"version": version("roamphone")}, 1))
        yield gauge(
            "roamphone_ha_active", "1 if this home agent serves, 0 if it stands by.", ({}, int(self._node.active))
        )
        yield gauge(
            "roamphone_ha_terminals",
            "Terminals in the configuration.",
            ({"admitted": "true"}, admitted),
            ({"admitted": "false"}, len(terminals) - admitted),
        )
        yield gauge("roamphone_ha_bound_terminals", "Terminals that are away from home and bound.", ({}, len(cache)))
        yield gauge(
            "roamphone_ha_bindings",
            "Bindings; a terminal may have several.",
            *(({"way": way}, ways[way]) for way in ("native", "udp")),
        )
        networks = sum(len(terminal.mobile_networks) for terminal in terminals)
        away = {network for row in cache.bindings() for network in row.mobile_networks}
        yield gauge(
            "roamphone_ha_mobile_networks",
            "Prefixes that mobile routers take along; configured, or bound somewhere now.",
            ({"state": "configured"}, networks),
            ({"state": "bound"}, len(away)),
        )

    def _signalling(self) -> Iterable[Family]:
        accepted = [({"result": what}, self._events[what]) for what in ("created", "moved", "refreshed")]
        refused = [({"result": status}, count) for status, count in sorted(self._refused.items())]
        yield counter(
            "roamphone_ha_binding_updates_total", "Binding updates, by what became of them.", *accepted, *refused
        )
        yield counter("roamphone_ha_handovers_total", "Terminals that moved on.", ({}, self._events["moved"]))
        yield counter(
            "roamphone_ha_nat_rebindings_total", "NAT mappings that were followed.", ({}, self._events["rebound"])
        )
        yield counter(
            "roamphone_ha_bindings_ended_total",
            "Bindings that ended, by reason.",
            *(({"why": why}, count) for why, count in sorted(self._ended.items())),
        )
        yield counter(
            "roamphone_ha_bindings_restored_total", "Bindings taken from the store.", ({}, self._events["restored"])
        )

    def _packets(self, terminals: tuple[AuthorisedTerminal, ...]) -> Iterable[Family]:
        total = self._past + totals(terminal.associations for terminal in terminals)
        for what in ("packets", "octets"):
            yield counter(
                f"roamphone_ha_tunnel_{what}_total",
                f"Inner {what} through protected tunnels.",
                *(({"direction": direction}, total[f"{what}-{direction}"]) for direction in ("in", "out")),
            )
        yield counter(
            "roamphone_ha_intercepted_packets_total", "For terminals that are away.", ({}, self._node.intercepted)
        )
        yield counter(
            "roamphone_ha_reversed_packets_total", "Through tunnels, from terminals.", ({}, self._node.reversed)
        )
        yield counter(
            "roamphone_ha_packets_sent_again_total", "Lost by a handover and sent again.", ({}, self._sent_again)
        )
        yield counter(
            "roamphone_ha_replayed_packets_total", "Refused: seen before, or too old.", ({}, total["replayed"])
        )
        yield counter("roamphone_ha_authentication_failures_total", "Refused: not authentic.", ({}, total["failed"]))
        yield from of_plane(self._plane)

    def _store(self) -> Iterable[Family]:
        yield counter(
            "roamphone_store_failures_total", "Writes of bindings that did not succeed.", ({}, self._store_failures())
        )
        shared = self._shared
        if shared is None:
            return
        described = shared.describe(self._plane.now())
        left = described["lease_left"]
        yield gauge(
            "roamphone_store_connected", "Whether the shared store answers.", ({}, described["store"] == "connected")
        )
        yield gauge(
            "roamphone_ha_standing",
            "1 for what this home agent is among the others.",
            *(({"standing": str(each)}, int(shared.standing is each)) for each in Standing),
        )
        yield gauge(
            "roamphone_ha_lease_seconds",
            "Left of the lease.",
            ({}, left if isinstance(left, float) and left > 0 else 0.0),
        )
        yield counter(
            "roamphone_ha_takeovers_total", "Times that this home agent began to serve.", ({}, shared.takeovers)
        )
