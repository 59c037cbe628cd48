"""Path MTU cache (RFC 8201)."""

from __future__ import annotations

from ipaddress import IPv6Address

from mobility.host.events import PathMtuChanged
from mobility.host.interface import Interface

MINIMUM = 1280
AGE = 600.0
"Seconds after which a larger packet is tried again (RFC 8201 section 5.3)."
LIMIT = 256
"Destinations; the oldest goes first."


class PathMtus:
    """Destinations to which less than the link's MTU fits."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._paths: dict[bytes, tuple[int, float]] = {}

    def get(self, destination: bytes) -> int:
        """Octets of the largest packet to ``destination``, IPv6 header included."""
        path = self._paths.get(destination)
        return min(path[0], self._interface.mtu) if path else self._interface.mtu

    def lower(self, destination: bytes, mtu: int, now: float) -> None:
        """A router said that no more than ``mtu`` fits. Never below 1280, never up (RFC 8201 section 4)."""
        mtu = max(mtu, MINIMUM)
        if mtu >= self.get(destination):
            return
        if destination not in self._paths and len(self._paths) >= LIMIT:
            oldest = next(iter(self._paths))
            self._remove(oldest)
        self._paths.pop(destination, None)
        self._paths[destination] = (mtu, now + AGE)
        self._interface.alarms.set(("path-mtu", destination), now + AGE, lambda _now: self._aged(destination))
        self._tell(destination)

    def clear(self) -> None:
        """Another link: other paths."""
        for destination in list(self._paths):
            self._remove(destination)

    def snapshot(self, now: float) -> dict[str, object]:
        return {
            str(IPv6Address(destination)): {"mtu": mtu, "seconds_left": round(until - now, 1)}
            for destination, (mtu, until) in self._paths.items()
        }

    def _aged(self, destination: bytes) -> None:
        self._remove(destination)
        self._tell(destination)

    def _remove(self, destination: bytes) -> None:
        del self._paths[destination]
        self._interface.alarms.cancel(("path-mtu", destination))

    def _tell(self, destination: bytes) -> None:
        interface = self._interface
        interface.emit(PathMtuChanged(interface.name, IPv6Address(destination), self.get(destination)))
