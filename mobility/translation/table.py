"""IPv4-IPv6 translation table 230 (Fig. 6) with its two pools of virtual addresses."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from math import inf

from mobility.discards import Discard, Reason
from mobility.outputs import Event

IDLE = 3600.0
"Seconds for which a row that nobody uses is kept; more than programs remember the answer of a name server."
ROWS = 4096
"Rows of correspondents at most, however large the pools are."
GRAIN = 1.0
"Seconds; the time of last use is no more exact than this, so that most packets do not write it."


class Origin(StrEnum):
    """Why a row exists."""

    HOME = "home"
    "The home address and the virtual IPv4 address of interface 19; lives as long as the binding."
    FIXED = "fixed"
    "Home agent and name servers: for ever, so that configuration files may name their virtual addresses."
    ASKED = "asked"
    "A program asked for it: by a packet to it, a name that it looked up, or SIP."
    STRANGER = "stranger"
    "Only ever sent to us. Goes before all others when there is no room."


@dataclass(frozen=True, slots=True)
class RowRemoved(Event):
    """A row of the translation table is gone; its virtual address will later be somebody else's."""

    ipv4: IPv4Address
    ipv6: IPv6Address
    why: str
    "``expired``, ``pool-exhausted``, or ``scenario``: nothing is translated any more."


@dataclass(slots=True, eq=False)
class Row:
    """One pair of addresses."""

    ipv6: bytes
    ipv4: bytes
    origin: Origin
    used: float
    "When it was last used, to `GRAIN`."
    until: float
    "End of its lifetime (233 in Fig. 6)."


class _Pool:
    """Addresses that are handed out in order; given back, they wait as long as possible before they come again."""

    def __init__(self, network: IPv4Network | IPv6Network, without: Iterable[bytes] = ()) -> None:
        self._size = len(network.network_address.packed)
        self._next = int(network.network_address) + 1
        self._end = int(network.broadcast_address)
        "Neither the first nor the last address is handed out: hosts take them for the network's own."
        self._without = frozenset(without)
        self._returned: deque[bytes] = deque()

    def take(self) -> bytes | None:
        """The next address; None: all are in use."""
        while self._next < self._end:
            address = self._next.to_bytes(self._size)
            self._next += 1
            if address not in self._without:
                return address
        return self._returned.popleft() if self._returned else None

    def give_back(self, address: bytes) -> None:
        self._returned.append(address)


class TranslationTable:
    """Rows of (IPv6 address, IPv4 address, lifetime), each address in one row only.

    ``pool4``: virtual IPv4 addresses that stand for IPv6 correspondents. ``pool6``: virtual IPv6 addresses that stand
    for IPv4 destinations; with 32 or more bits to hand out, the IPv4 address itself is in the last 32, so that a
    translator in the home network that knows the prefix can go on from there.
    """

    def __init__(
        self, pool4: IPv4Network, pool6: IPv6Network, reserved: Iterable[IPv4Address] = (), rows: int = ROWS
    ) -> None:
        """``reserved``: never handed out. Raises `ValueError`: a pool without room for two addresses."""
        if pool4.num_addresses < 4 or pool6.num_addresses < 4:
            raise ValueError(f"the pools {pool4} and {pool6} need room for two addresses each; take shorter prefixes")
        self.pool4 = pool4
        self.pool6 = pool6
        self.rows = rows
        self.version = 0
        "Another number after every change of which addresses belong together."
        self._free4 = _Pool(pool4, (address.packed for address in reserved))
        self._free6 = _Pool(pool6)
        self._embeds = pool6.prefixlen <= 96
        self._prefix6 = pool6.network_address.packed[:12]
        self._by4: dict[bytes, Row] = {}
        self._by6: dict[bytes, Row] = {}
        self._home: Row | None = None
        # The one that was used longest ago is first.
        self._idle: dict[Origin, OrderedDict[bytes, Row]] = {
            Origin.STRANGER: OrderedDict(),
            Origin.ASKED: OrderedDict(),
        }
        self._events: list[RowRemoved] = []

    def __len__(self) -> int:
        return len(self._by4)

    # ------------------------------------------------------------ the home address

    def set_home(self, ipv6: IPv6Address, ipv4: IPv4Address, until: float, now: float) -> bool:
        """Steps 64 and 82: the row of the home address is made or its lifetime renewed; whether it was made."""
        home = self._home
        if home is not None and (home.ipv6, home.ipv4) == (ipv6.packed, ipv4.packed):
            home.used, home.until = now, until
            return False
        for row in (home, self._by6.get(ipv6.packed), self._by4.get(ipv4.packed)):
            if row is not None and self._by4.get(row.ipv4) is row:
                self._remove(row)
        self._home = self._add(Row(ipv6.packed, ipv4.packed, Origin.HOME, now, until))
        return True

    def forget_home(self) -> None:
        """The home address is used as it is from now on."""
        if self._home is not None:
            self._remove(self._home, "scenario")

    @property
    def home(self) -> Row | None:
        """The row of the home address, while there is one."""
        return self._home

    # ------------------------------------------------------------ correspondents

    def fix(self, ipv6: IPv6Address, now: float) -> IPv4Address:
        """A row that never goes; its virtual IPv4 address. Raises `Discard` TRANSLATION_POOL_EXHAUSTED."""
        row = self._by6.get(ipv6.packed)
        if row is None or row.origin is not Origin.FIXED:
            if row is not None:
                self._remove(row)
            self._add(row := Row(ipv6.packed, self._take4(), Origin.FIXED, now, inf))
        return IPv4Address(row.ipv4)

    def known4(self, ipv4: bytes) -> Row | None:
        """The row with this IPv4 address, if there is one; it does not count as used."""
        return self._by4.get(ipv4)

    def known6(self, ipv6: bytes) -> Row | None:
        """The row with this IPv6 address, if there is one; it does not count as used."""
        return self._by6.get(ipv6)

    def of_ipv6(self, ipv6: bytes, now: float, *, asked: bool = False) -> Row:
        """The row of an IPv6 correspondent; one that is not known gets a virtual IPv4 address (step 511).

        ``asked``: a program wants it, rather than a stranger having sent something. Raises `Discard`
        TRANSLATION_POOL_EXHAUSTED.
        """
        row = self._by6.get(ipv6)
        if row is None:
            origin = Origin.ASKED if asked else Origin.STRANGER
            # From a translator in the home network: the sender has an IPv4 address of its own.
            embedded = ipv6[12:] if self._embeds and ipv6[:12] == self._prefix6 else None
            if embedded is None or embedded in self._by4 or not self._real(embedded):
                embedded = self._take4()
            else:
                self._make_room()
            return self._add(Row(ipv6, embedded, origin, now, now + IDLE))
        self.touch(row, now, asked=asked)
        return row

    def of_ipv4(self, ipv4: bytes, now: float) -> Row:
        """The row of an IPv4 destination; one that is not known gets a virtual IPv6 address (step 513).

        Raises `Discard`: TRANSLATION_NO_ROW for an address of the pool that stands for nobody (any more),
        TRANSLATION_POOL_EXHAUSTED.
        """
        row = self._by4.get(ipv4)
        if row is None:
            if IPv4Address(ipv4) in self.pool4:
                raise Discard(Reason.TRANSLATION_NO_ROW, f"{IPv4Address(ipv4)} stands for nobody")
            if self._embeds:
                self._make_room()
                ipv6 = self._prefix6 + ipv4
            else:
                ipv6 = self._take6()
            return self._add(Row(ipv6, ipv4, Origin.ASKED, now, now + IDLE))
        self.touch(row, now, asked=True)
        return row

    def touch(self, row: Row, now: float, *, asked: bool) -> None:
        """A packet used the row."""
        if row.origin is Origin.STRANGER and asked:
            del self._idle[Origin.STRANGER][row.ipv4]
            row.origin = Origin.ASKED
        elif now - row.used < GRAIN:
            return
        idle = self._idle.get(row.origin)
        if idle is not None:
            idle[row.ipv4] = row
            idle.move_to_end(row.ipv4)
            row.used, row.until = now, now + IDLE

    # ------------------------------------------------------------ time and room

    @property
    def timer(self) -> float | None:
        """When the next row expires, at the earliest."""
        times = [next(iter(rows.values())).until for rows in self._idle.values() if rows]
        if self._home is not None and self._home.until != inf:
            times.append(self._home.until)
        return min(times, default=None)

    def expire(self, now: float) -> None:
        """Rows whose lifetime is over go."""
        for rows in self._idle.values():
            while rows and (row := next(iter(rows.values()))).until <= now:
                self._remove(row, "expired")
        if self._home is not None and self._home.until <= now:
            self._remove(self._home, "expired")

    def take_events(self) -> list[RowRemoved]:
        """The rows that went since the last call."""
        events, self._events = self._events, []
        return events

    def snapshot(self, now: float) -> dict[str, object]:
        """Table 230 for people, JSON-ready."""
        return {
            "pool4": str(self.pool4),
            "pool6": str(self.pool6),
            "rows": [
                {
                    "ipv6": str(IPv6Address(row.ipv6)),
                    "ipv4": str(IPv4Address(row.ipv4)),
                    "lifetime": None if row.until == inf else round(row.until - now, 1),
                    "origin": row.origin.value,
                }
                for row in self._by4.values()
            ],
        }

    def _add(self, row: Row) -> Row:
        self._by4[row.ipv4] = self._by6[row.ipv6] = row
        idle = self._idle.get(row.origin)
        if idle is not None:
            idle[row.ipv4] = row
        self.version += 1
        return row

    def _remove(self, row: Row, why: str | None = None) -> None:
        del self._by4[row.ipv4], self._by6[row.ipv6]
        idle = self._idle.get(row.origin)
        if idle is not None:
            del idle[row.ipv4]
        if row is self._home:
            self._home = None
        elif IPv4Address(row.ipv4) in self.pool4:
            self._free4.give_back(row.ipv4)
        elif not self._embeds:
            self._free6.give_back(row.ipv6)
        self.version += 1
        if why is not None:
            self._events.append(RowRemoved(IPv4Address(row.ipv4), IPv6Address(row.ipv6), why))

    def _make_room(self) -> None:
        if sum(map(len, self._idle.values())) >= self.rows:
            self._evict(lambda _row: True)

    def _take4(self) -> bytes:
        self._make_room()
        if (address := self._free4.take()) is None:
            self._evict(lambda row: IPv4Address(row.ipv4) in self.pool4)
            address = self._free4.take()
        if address is None:
            raise Discard(Reason.TRANSLATION_POOL_EXHAUSTED, f"no address of {self.pool4} is free")
        return address

    def _take6(self) -> bytes:
        self._make_room()
        if (address := self._free6.take()) is None:
            self._evict(lambda row: IPv6Address(row.ipv6) in self.pool6)
            address = self._free6.take()
        if address is None:
            raise Discard(Reason.TRANSLATION_POOL_EXHAUSTED, f"no address of {self.pool6} is free")
        return address

    def _evict(self, fits: Callable[[Row], bool]) -> None:
        """The oldest idle row that frees the right kind of address goes; strangers' first."""
        for rows in self._idle.values():
            for row in rows.values():
                if fits(row):
                    self._remove(row, "pool-exhausted")
                    return

    def _real(self, ipv4: bytes) -> bool:
        """Whether somebody can have this IPv4 address: one host, and not a virtual one."""
        return 0 < ipv4[0] < 224 and ipv4[0] != 127 and IPv4Address(ipv4) not in self.pool4
