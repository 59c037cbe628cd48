"""Packets on their way through a node, stage by stage, for whoever watches: bounded, sampled, no work without watchers.

A packet has one number at all stages that it passes: ``host`` (the programs' side), ``translation``, ``application``
(after the application's IPsec), ``tunnel`` (after the mobile tunnel and its IPsec), ``regional`` (after that of a MAP),
``signalling`` (a message after its IPsec), ``wire`` (on a link, with the headers of UDP where it is one), and
``discarded``. ``node`` is what the node itself has made. What comes in passes them the other way round.

The hot path only appends to a queue. Lines are made between two turns of the loop, a few records at a time.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

from mobility.host.errors import TokenBucket
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import Mode
from mobility.outputs import Discarded

RATE, BURST = 500.0, 500.0
"Packets that are followed in a second, and at once; all stages of a packet are told, or none."
OCTETS = 256
"Of each packet, from its beginning."
QUEUE = 2048
"Records that wait; beyond it packets are missed."
BATCH = 24
"Records of one line, which takes some 45 us to make."
SOON = 0.05
"Seconds after which a line goes out that is not full."
WAITING = 512
"Packets of programs that have not left yet, whose numbers are kept."

HOST = "host"
_STAGES = {
    ("application", Mode.TRANSPORT): "application",
    ("tunnel", Mode.TUNNEL): "tunnel",
    ("tunnel", Mode.TRANSPORT): "signalling",
    ("regional", Mode.TUNNEL): "regional",
    ("regional", Mode.TRANSPORT): "signalling",
}


@runtime_checkable
class HasIpsec(Protocol):
    """A node whose IPsec can be watched."""

    def ipsec_parts(self) -> Iterable[tuple[str, IpsecProcessing]]:
        """Those that it has now, each as ``application``, ``tunnel`` or ``regional``."""


class _Record(NamedTuple):
    number: int
    time: float
    stage: str
    where: str
    outbound: bool
    length: int
    octets: bytes
    reason: str = ""
    detail: str = ""


class PacketStream:
    """Follows packets. ``publish`` gets lines, each with its number of records; ``clock``: seconds since 1970."""

    def __init__(
        self,
        node: object,
        publish: Callable[[bytes, int], None],
        clock: Callable[[], float],
        *,
        rate: float = RATE,
    ) -> None:
        self.watching = False
        self._node = node
        self._publish = publish
        self._clock = clock
        self._bucket = TokenBucket(rate, BURST)
        self._tapped: list[IpsecProcessing] = []
        self._look_again = 0.0
        self._records: deque[_Record] = deque()
        self._number = 0
        self._missed = 0
        self._quoted: dict[str, str] = {}
        # Of the packet that the node is busy with: number (0: not followed), direction, and what has not been seen yet.
        self._current: int | None = None
        self._outbound = False
        self._entered: bytes | None = None
        self._known: dict[bytes, int] = {}
        "Octets at the latest stage -> number, of packets that the node is busy with."
        self._waiting: dict[bytes, int] = {}
        "The same of packets of programs that the node keeps for later."

    def watch(self, on: bool) -> None:
        """Somebody looks, or nobody any more."""
        if on == self.watching:
            return
        self.watching = on
        if on:
            self._tap()
            return
        for processing in self._tapped:
            processing.tap = None
        self._tapped.clear()
        self._records.clear()
        self._known.clear()
        self._waiting.clear()
        self._current, self._entered, self._missed = None, None, 0

    @property
    def wait(self) -> float | None:
        """Seconds until `turned` has something to do; None: nothing is waiting."""
        if not self._records:
            return 1.0 if self._missed else None
        if len(self._records) >= BATCH:
            return 0.0
        return min(max(self._records[0].time + SOON - self._clock(), 0.0), SOON)

    def turned(self) -> None:
        """The loop has a moment: sends a line if there is a full one, or one has waited long enough."""
        if not self.watching:
            return
        if self._clock() >= self._look_again:
            self._tap()
            if self._missed and not self._records:
                self._tell([])
        if self.wait != 0.0:
            return
        records = self._records
        self._tell([records.popleft() for _ in range(min(len(records), BATCH))])

    # ------------------------------------------------------------ what the data plane says

    def packet(self, where: str, outbound: bool, packet: bytes, inside: bytes) -> None:
        """A packet enters or leaves the node; ``inside``: what the node sees of it."""
        at_host = where == HOST
        if at_host is outbound:
            number = self._current = self._new()
            self._outbound, self._entered = outbound, inside
            self._known.clear()
        else:
            found = self._found(inside, outbound)
            number = self._new() if found is None else found
            self._entered = None
        self._note(number, HOST if at_host else "wire", where, outbound, packet)

    def discarded(self, discarded: Discarded) -> None:
        """The node, or something before it, dropped a packet."""
        number = self._new() if self._current is None else self._current
        self._entered = None
        if number:
            self._records.append(
                _Record(
                    number, self._clock(), "discarded", discarded.where, self._outbound, 0, b"",
                    str(discarded.reason), discarded.detail,
                )
            )  # fmt: skip

    def carried_out(self) -> None:
        """What the node answered is done."""
        if self._entered is not None and self._outbound and self._current is not None:
            self._waiting[self._entered] = self._current
            if len(self._waiting) > WAITING:
                del self._waiting[next(iter(self._waiting))]
        self._current, self._entered = None, None
        self._known.clear()

    # ------------------------------------------------------------ inside

    def _tap(self) -> None:
        """Also looks at parts that a node has got since."""
        self._look_again = self._clock() + 1.0
        if isinstance(self._node, HasIpsec):
            for kind, processing in self._node.ipsec_parts():
                if processing.tap is None:
                    processing.tap = partial(self._passed, kind)
                    self._tapped.append(processing)

    def _passed(self, kind: str, mode: Mode, outbound: bool, before: bytes, after: bytes) -> None:
        number = self._found(before, outbound)
        if number is None:
            number = self._new()
            self._note(number, "node" if outbound else "wire", "", outbound, before)
        elif self._entered is not None and outbound and before != self._entered:
            self._note(number, "translation", "", outbound, before)
        self._entered = None
        self._known[after] = number
        self._note(number, _STAGES.get((kind, mode), kind), "", outbound, after)

    def _found(self, octets: bytes, outbound: bool) -> int | None:
        """The number of a packet that was seen before, by its octets, or as what the node is busy with."""
        number = self._known.get(octets)
        if number is None and self._waiting:
            number = self._waiting.pop(octets, None)
        if number is None and outbound == self._outbound:
            number = self._current
        return number

    def _new(self) -> int:
        if len(self._records) >= QUEUE or not self._bucket.take(self._clock()):
            self._missed += 1
            return 0
        self._number += 1
        return self._number

    def _note(self, number: int, stage: str, where: str, outbound: bool, packet: bytes) -> None:
        if number:
            self._records.append(_Record(number, self._clock(), stage, where, outbound, len(packet), packet[:OCTETS]))

    def _tell(self, records: list[_Record]) -> None:
        missed, self._missed = self._missed, 0
        packets = ",".join(map(self._told, records))
        behind = f',"missed":{missed}' if missed else ""
        self._publish(f'{{"event":"packets","packets":[{packets}]{behind}}}\n'.encode(), len(records))

    def _told(self, record: _Record) -> str:
        """JSON by hand: a quarter of the time, and what comes from outside is either hexadecimal or quoted once."""
        where = self._quoted.get(record.where)
        if where is None:
            where = self._quoted[record.where] = json.dumps(record.where)
        head = (
            f'{{"packet":{record.number},"time":{record.time:.6f},"stage":"{record.stage}","where":{where},'
            f'"outbound":{"true" if record.outbound else "false"},'
        )
        if record.reason:
            return f'{head}"reason":"{record.reason}","detail":{json.dumps(record.detail)}}}'
        return f'{head}"length":{record.length},"octets":"{record.octets.hex()}"}}'
