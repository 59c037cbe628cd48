"""What operators of a mobility anchor point want to see: taken from counters that are there anyway.

Labels have few values, whatever strangers send: links, reasons of `mobility.discards`, statuses of acknowledgements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version

from mobility.anchor_point import AnchorPointNode
from mobility.hmipv6.map_events import (
    LocalUpdateRefused,
    RegionalBindingCreated,
    RegionalBindingMoved,
    RegionalBindingRemoved,
)
from mobility.ike_metrics import IkeMetrics
from mobility.metrics import Family, counter, exposition, gauge
from mobility.net.data_plane import DataPlane
from mobility.outputs import Event
from mobility.plane_metrics import of_plane, of_process, totals


class MapMetrics:
    """Counts events, and puts all together."""

    def __init__(self, node: AnchorPointNode, plane: DataPlane) -> None:
        self._node = node
        self._plane = plane
        self._updates: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._ike = IkeMetrics("roamphone_map")
        self._sent_again = 0

    def happened(self, event: Event) -> None:
        """An event of the node."""
        self._ike.happened(event)
        match event:
            case RegionalBindingCreated():
                self._updates["created"] += 1
            case RegionalBindingMoved(sent_again=sent_again):
                self._updates["moved"] += 1
                self._sent_again += sent_again
            case LocalUpdateRefused(status=status):
                self._updates[status] += 1
            case RegionalBindingRemoved(why=why):
                self._ended[why] += 1

    def text(self) -> str:
        """The text that Prometheus fetches."""
        anchor = () if self._node.engine is None else (*self._bindings(), *self._packets())
        keys = () if self._node.keys is None else self._ike.families(self._node.keys.ike)
        return exposition([*self._node_itself(), *anchor, *keys, *of_plane(self._plane), *of_process()])

    def _node_itself(self) -> Iterable[Family]:
        yield gauge("roamphone_info", "The program.", ({"version": version("roamphone")}, 1))
        yield counter(
            "roamphone_map_advertisements_total",
            "Router advertisements sent.",
            *(({"link": link}, advertiser.sent) for link, advertiser in self._node.advertisers.items()),
        )

    def _bindings(self) -> Iterable[Family]:
        engine = self._node.engine
        if engine is None:
            return
        yield gauge("roamphone_map_terminals", "Terminals in the configuration.", ({}, len(engine.settings.terminals)))
        yield gauge("roamphone_map_bindings", "RCoAs that are bound.", ({}, len(engine.cache)))
        yield counter(
            "roamphone_map_binding_updates_total",
            "Local binding updates that were more than a refresh, by what became of them.",
            *(({"result": what}, self._updates[what]) for what in sorted({"created", "moved", *self._updates})),
        )
        yield counter("roamphone_map_handovers_total", "Moves within the domain.", ({}, self._updates["moved"]))
        yield counter(
            "roamphone_map_bindings_ended_total",
            "Bindings that ended, by reason.",
            *(({"why": why}, count) for why, count in sorted(self._ended.items())),
        )

    def _packets(self) -> Iterable[Family]:
        engine = self._node.engine
        if engine is None:
            return
        total = totals(engine.associations())
        yield counter("roamphone_map_intercepted_packets_total", "For RCoAs.", ({}, self._node.intercepted))
        yield counter(
            "roamphone_map_reversed_packets_total", "Through tunnels, from terminals.", ({}, self._node.reversed)
        )
        yield counter(
            "roamphone_map_packets_sent_again_total", "Lost by a handover and sent again.", ({}, self._sent_again)
        )
        yield counter(
            "roamphone_map_replayed_packets_total", "Refused: seen before, or too old.", ({}, total["replayed"])
        )
        yield counter("roamphone_map_authentication_failures_total", "Refused: not authentic.", ({}, total["failed"]))
