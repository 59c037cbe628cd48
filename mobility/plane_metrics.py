"""Metrics that all roles have: of the data plane, its process, and associations with terminals."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from mobility.metrics import Family, counter, gauge
from mobility.mipv6.tunnel import MobileAssociations
from mobility.net.data_plane import DataPlane

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


def of_plane(plane: DataPlane) -> Iterable[Family]:
    """What every data plane counts: packets of its links, what was dropped, and faults."""
    yield counter(
        "roamphone_discarded_packets_total",
        "Packets that were dropped, by reason.",
        *(({"reason": str(reason)}, count) for reason, count in sorted(plane.discards.items())),
    )
    yield from _moved(plane.packets)
    errors = plane.counters()
    internal = errors["internal_errors"]
    yield counter(
        "roamphone_internal_errors_total",
        "Faults of the program; the log has them.",
        ({}, sum(internal.values()) if isinstance(internal, dict) else 0),
    )


def totals(terminals: Iterable[MobileAssociations]) -> Counter[str]:
    """``packets-`` and ``octets-``, ``in`` and ``out``: of tunnels; ``replayed`` and ``failed``: of all."""
    total: Counter[str] = Counter()
    packets_out = octets_out = packets_in = octets_in = replayed = failed = 0
    for associations in terminals:
        out, inbound, signalling = associations.tunnel_out, associations.tunnel_in, associations.signalling_in
        if out is not None:
            packets_out += out.packets
            octets_out += out.octets
        if inbound is not None:
            packets_in += inbound.packets
            octets_in += inbound.octets
        for association in (inbound, signalling, associations.home_test_in):
            if association is not None:
                replayed += association.replayed
                failed += association.failed
    total.update(
        {"packets-out": packets_out, "octets-out": octets_out, "packets-in": packets_in, "octets-in": octets_in}
    )
    total.update({"replayed": replayed, "failed": failed})
    return total


def _moved(packets: Mapping[str, int]) -> Iterable[Family]:
    """The data plane counts by names such as ``from-eth0`` and ``lost-to-eth0``."""
    moved: list[tuple[Mapping[str, str], float]] = []
    lost: list[tuple[Mapping[str, str], float]] = []
    for name, count in sorted(packets.items()):
        way, _, link = name.removeprefix("lost-").partition("-")
        labels = {"link": link, "direction": "in" if way == "from" else "out"}
        if link:
            (lost if name.startswith("lost-") else moved).append((labels, count))
    yield counter("roamphone_link_packets_total", "Packets, or datagrams, that links carried.", *moved)
    yield counter("roamphone_link_lost_packets_total", "Packets that a link did not take.", *lost)


def of_process() -> Iterable[Family]:
    """What Prometheus wants to know of every process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    statistics = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(statistics[19]) / _TICKS
    yield counter("process_cpu_seconds_total", "Of the data plane.", ({}, usage.ru_utime + usage.ru_stime))
    yield gauge("process_resident_memory_bytes", "Of the data plane.", ({}, int(statistics[21]) * _PAGE))
    yield gauge("process_start_time_seconds", "Since 1970.", ({}, started))
    yield gauge("process_open_fds", "Of the data plane.", ({}, len(os.listdir("/proc/self/fd"))))
