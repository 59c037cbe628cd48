"""What operators of a gateway want to see, taken from its counters when somebody asks. Labels have few values."""

from __future__ import annotations

from mobility.gateway.server import GatewayServer
from mobility.metrics import Family, counter, gauge


def families(engine: GatewayServer) -> list[Family]:
    """For `mobility.metrics.exposition`."""
    counts = engine.counters
    open_ = [carrier for carrier in engine.carriers.values() if carrier.established]
    waiting = [tunnel for tunnel in engine.tunnels.values() if tunnel.carrier is None]

    def by_cause(prefix: str) -> list[tuple[dict[str, str], float]]:
        return [
            ({"cause": name.removeprefix(prefix)}, float(number))
            for name, number in sorted(counts.items())
            if name.startswith(prefix)
        ]

    return [
        gauge("roamphone_gateway_sessions", "Outer sessions that stand.", ({}, len(open_))),
        gauge(
            "roamphone_gateway_tunnels",
            "Connections to destinations, by whether their session stands.",
            ({"state": "open"}, len(engine.tunnels) - len(waiting)),
            ({"state": "waiting"}, len(waiting)),
        ),
        counter("roamphone_gateway_connections_total", "TCP connections accepted.", ({}, counts["connections"])),
        counter(
            "roamphone_gateway_sessions_total",
            "Outer sessions, by whether an earlier TLS session was resumed.",
            ({"resumed": "yes"}, counts["sessions-resumed"]),
            ({"resumed": "no"}, counts["sessions"] - counts["sessions-resumed"]),
        ),
        counter("roamphone_gateway_sessions_lost_total", "Outer sessions that ended, by cause.", *by_cause("lost-")),
        counter("roamphone_gateway_tunnels_total", "Connections to destinations.", ({}, counts["tunnels"])),
        counter(
            "roamphone_gateway_tunnels_resumed_total",
            "How often one went on in another outer session.",
            ({}, counts["tunnels-resumed"]),
        ),
        counter("roamphone_gateway_refused_total", "Requests that were refused, by cause.", *by_cause("refused-")),
        counter("roamphone_gateway_broken_total", "Connections that broke, by cause.", *by_cause("broken-")),
    ]
