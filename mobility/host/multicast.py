"""Multicast groups the host listens to, and their reports (MLDv2, RFC 3810)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from mobility.host.interface import Interface
from mobility.wire import mld, ndisc

ALL_NODES = ndisc.ALL_NODES.packed
_REPORT_TO = ndisc.ethernet_multicast(mld.ALL_MLDV2_ROUTERS.packed)
REPEAT_WITHIN = 1.0
"Seconds within which a report is repeated once (Unsolicited Report Interval and Robustness Variable, section 9)."


class MulticastGroups:
    """Groups with the number of their users; all-nodes is always there and never reported."""

    def __init__(self, interface: Interface, source: Callable[[], bytes]) -> None:
        """``source``: a link-local address that is known to be ours alone, or the unspecified one (RFC 3590)."""
        self._interface = interface
        self._source = source
        self._users: dict[bytes, int] = {}

    def __contains__(self, group: bytes) -> bool:
        return group == ALL_NODES or group in self._users

    def join(self, group: bytes, now: float) -> None:
        """One more part of the host wants the group."""
        self._users[group] = self._users.get(group, 0) + 1
        if self._users[group] == 1 and self._interface.up:
            self._report(group, mld.RecordType.TO_EXCLUDE)
            self._repeat_later(group, now)

    def leave(self, group: bytes, now: float) -> None:
        """One user less; the last one's going is reported."""
        if group not in self._users:
            return
        self._users[group] -= 1
        if self._users[group] == 0:
            del self._users[group]
            self._interface.alarms.cancel(("mld-repeat", group))
            self._interface.alarms.cancel(("mld-answer", group))
            if self._interface.up:
                self._report(group, mld.RecordType.TO_INCLUDE)

    def link_up(self, now: float) -> None:
        """Tell the switches of the new link."""
        for group in self._users:
            self._report(group, mld.RecordType.TO_EXCLUDE)
            self._repeat_later(group, now)

    def link_down(self) -> None:
        """Nobody is there to tell."""
        for group in (bytes(16), *self._users):
            self._interface.alarms.cancel(("mld-repeat", group))
            self._interface.alarms.cancel(("mld-answer", group))

    def queried(self, group: bytes, delay: float, now: float) -> None:
        """A router asks (all zeros: for every group); the answer comes within ``delay`` seconds, at random."""
        if group != bytes(16) and group not in self._users:
            return
        key = ("mld-answer", group)
        if key not in self._interface.alarms:
            self._interface.alarms.set(key, now + self._interface.uniform(0, delay), lambda _now: self._answer(group))

    def snapshot(self) -> list[str]:
        return [str(IPv6Address(group)) for group in (ALL_NODES, *self._users)]

    def _answer(self, group: bytes) -> None:
        groups = self._users if group == bytes(16) else self._users.keys() & {group}
        if groups:
            records = tuple(mld.Record(mld.RecordType.MODE_IS_EXCLUDE, IPv6Address(value)) for value in groups)
            for at in range(0, len(records), 50):  # 50 records of 20 octets fit into 1280
                self._send(mld.Report(records[at : at + 50]))

    def _repeat_later(self, group: bytes, now: float) -> None:
        when = now + self._interface.uniform(0, REPEAT_WITHIN)
        self._interface.alarms.set(
            ("mld-repeat", group), when, lambda _now: self._report(group, mld.RecordType.TO_EXCLUDE)
        )

    def _report(self, group: bytes, kind: mld.RecordType) -> None:
        self._send(mld.Report((mld.Record(kind, IPv6Address(group)),)))

    def _send(self, report: mld.Report) -> None:
        self._interface.transmit(mld.packet(self._source(), report), _REPORT_TO)
