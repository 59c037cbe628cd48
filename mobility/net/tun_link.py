"""A link that is a route: a TUN device, at the other end of which is the kernel of the machine with all its ways."""

from __future__ import annotations

from collections import Counter

from mobility.net import netlink, tun
from mobility.net.netlink import LinkState
from mobility.net.tun import Tunnel


class TunLink:
    """A `Link` without link-layer addresses. Needs CAP_NET_ADMIN."""

    address = b""

    def __init__(self, name: str, mtu: int) -> None:
        """Nothing is open yet."""
        self.name = name
        self.mtu = mtu
        self._tunnel: Tunnel | None = None

    def open(self) -> LinkState:
        """Makes the device, which lives as long as this is open. No route leads to it.

        Raises `mobility.net.obstacles.Forbidden`, OSError.
        """
        self._tunnel = Tunnel(tun.create_bare(self.name, self.mtu))
        return netlink.read_links()[self.name]

    @property
    def errors(self) -> Counter[str]:
        """Packets that the kernel did not take."""
        lost = 0 if self._tunnel is None else self._tunnel.write_errors
        return Counter({"EIO": lost} if lost else {})

    def fileno(self) -> int:
        if self._tunnel is None:
            raise RuntimeError(f"the link {self.name} is not open")
        return self._tunnel.fileno()

    def send(self, packet: bytes, to: bytes) -> bool:
        return self._tunnel is not None and self._tunnel.send(packet)

    def receive(self, limit: int) -> list[tuple[bytes, bytes]]:
        if self._tunnel is None:
            return []
        try:
            return [(packet, b"") for packet in self._tunnel.receive(limit)]
        except OSError:  # the device was taken away; the kernel tells that as well
            return []

    def close(self) -> None:
        if self._tunnel is not None:
            self._tunnel.close()
