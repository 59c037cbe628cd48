"""Metrics of whoever is no home agent: of a terminal or a correspondent; and the service that offers them.

Labels have few values, whatever strangers send.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version

from mobility.agent import HomeAgentNode
from mobility.anchor_point import AnchorPointNode
from mobility.application_keys import ApplicationKeys
from mobility.call_service import HasApplicationKeys
from mobility.control import Refused
from mobility.map_metrics import MapMetrics
from mobility.metrics import Family, MetricsServer, counter, exposition, gauge
from mobility.net.data_plane import DataPlane
from mobility.net.loop import Loop
from mobility.node import Node
from mobility.outputs import Event
from mobility.plane_metrics import of_plane, of_process
from mobility.settings import MetricsSettings
from mobility.trace import Trace


class NodeMetrics:
    """What the data plane counts, and the keys that it negotiates with correspondents."""

    def __init__(self, node: Node, plane: DataPlane) -> None:
        self._node = node
        self._plane = plane

    def happened(self, event: Event) -> None:
        """An event of the node: none is counted here."""

    def text(self) -> str:
        """The text that Prometheus fetches."""
        info = gauge("roamphone_info", "The program.", ({"version": version("roamphone")}, 1))
        keys = self._node.application_keys if isinstance(self._node, HasApplicationKeys) else None
        with_others = () if keys is None else _of_keys(keys, self._plane.now())
        return exposition([info, *with_others, *of_plane(self._plane), *of_process()])


def _of_keys(keys: ApplicationKeys, now: float) -> Iterable[Family]:
    states = Counter(str(row["state"]) for row in keys.describe(now))
    yield gauge(
        "roamphone_application_peers",
        "Correspondents with whom keys are negotiated; idle: as soon as a packet wants it.",
        *(
            ({"state": name}, states[state])
            for name, state in (("protected", "protected"), ("negotiating", "negotiating"), ("idle", "configured"))
        ),
    )
    yield gauge("roamphone_application_calls", "Calls that want their packets protected.", ({}, len(keys.calls())))
    yield counter(
        "roamphone_application_negotiations_total",
        "IKE with correspondents, by what became of it.",
        *(({"result": result}, keys.tally[tally]) for result, tally in (("keys", "negotiated"), ("failed", "failed"))),
    )
    yield counter(
        "roamphone_application_waited_packets_total",
        "Packets that waited for keys; those in vain are roamphone_discarded_packets_total, keys-awaited.",
        ({}, keys.tally["waited"]),
    )
    yield counter(
        "roamphone_application_strangers_total",
        "Who negotiated while a call was offered, before the answer told who was called.",
        ({"result": "let in"}, keys.tally["strangers"]),
        ({"result": "too many"}, keys.tally["strangers-refused"]),
    )


class MetricsService:
    """What the data plane of a node has beside it; a home agent has metrics of its own (`mobility.home_service`)."""

    def __init__(self, node: Node, settings: MetricsSettings | None, loop: Loop) -> None:
        self._node = None if isinstance(node, HomeAgentNode) else node
        self._settings = settings
        self._loop = loop
        self._metrics: MapMetrics | NodeMetrics | None = None
        self._server: MetricsServer | None = None

    @property
    def present(self) -> bool:
        """Whether the node has metrics from here."""
        return self._node is not None

    def start(self, plane: DataPlane, trace: Trace) -> None:
        """``plane`` runs the node. Raises OSError: the address to listen at."""
        node = self._node
        if node is None:
            return
        self._metrics = MapMetrics(node, plane) if isinstance(node, AnchorPointNode) else NodeMetrics(node, plane)
        trace.listen(self._metrics.happened)
        if self._settings is not None:
            self._server = MetricsServer(self._loop, self._settings, self.metrics, plane.now)
            self._server.open()

    def turned(self) -> None:
        """The loop has turned."""
        if self._server is not None:
            self._server.tidy()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def metrics(self) -> str:
        """The text that Prometheus fetches. Raises Refused: not here, or not yet."""
        if self._metrics is None:
            raise Refused("the metrics of a home agent are asked for elsewhere")
        return self._metrics.text()
