"""The TUN device that a host OS sees as its only interface (interface 19 of the source)."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mobility.net.netlink import RouteSocket
from mobility.net.obstacles import Forbidden, forbidden_tun

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
DEVICE_VARIABLE = "ROAMPHONE_TUN_DEVICE"
LARGEST_PACKET = 65535
LONG_QUEUE = 4096
"Packets that may wait while a data plane is busy that carries those of many."


@dataclass(frozen=True, slots=True)
class TunSettings:
    """What the interface of the host OS looks like."""

    name: str
    address: ipaddress.IPv6Address
    "The home address; the interface carries it as /128 and the default route, whatever its prefix."
    mtu: int
    address4: ipaddress.IPv4Address | None = None
    "A virtual IPv4 address for programs that speak only IPv4."


def device_path() -> str:
    """The character device that makes TUN interfaces: ``/dev/net/tun``, or what ``ROAMPHONE_TUN_DEVICE`` says."""
    return os.environ.get(DEVICE_VARIABLE, "/dev/net/tun")


def create(settings: TunSettings, device: str | None = None) -> int:
    """Makes the interface in the current network namespace and returns its descriptor (non-blocking).

    The interface is up, has its addresses, the default route and no link-local address, and lives as long as a copy
    of the descriptor is open. Raises `Forbidden` with the reason (no such device, not permitted, name taken), OSError.
    """
    tun = _open(settings.name, device)
    try:
        _configure(settings)
    except BaseException:
        os.close(tun)
        raise
    return tun


def create_for_pool(name: str, pool: ipaddress.IPv4Network, mtu: int, device: str | None = None) -> int:
    """Makes an interface behind which the addresses of a pool are; the first of them is its own.

    Otherwise as `create`.
    """
    tun = _open(name, device)
    try:
        index = socket.if_nametoindex(name)
        with RouteSocket() as route:
            route.set_properties(index, mtu=mtu)
            route.set_up(index)
            route.add_address(index, str(next(pool.hosts())), 32)
            route.add_route(index, pool)
    except BaseException:
        os.close(tun)
        raise
    return tun


def create_bare(name: str, mtu: int, device: str | None = None) -> int:
    """Makes an interface without any address, for what the kernel is told to route there. Otherwise as `create`."""
    tun = _open(name, device)
    try:
        index = socket.if_nametoindex(name)
        with RouteSocket() as route:
            route.set_properties(index, mtu=mtu, queue=LONG_QUEUE)
            route.set_up(index)
    except BaseException:
        os.close(tun)
        raise
    return tun


def _open(name: str, device: str | None) -> int:
    path = device_path() if device is None else device
    try:
        tun = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Forbidden(error.errno, forbidden_tun(path, error)) from error
    try:
        _attach(tun, path, name)
    except BaseException:
        os.close(tun)
        raise
    return tun


def _attach(tun: int, path: str, name: str) -> None:
    request = struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI)
    try:
        fcntl.ioctl(tun, TUNSETIFF, request)
    except OSError as error:
        raise Forbidden(error.errno, forbidden_tun(path, error)) from error


def set_mtu(name: str, mtu: int) -> None:
    """Changes the MTU of an interface of the current network namespace. Raises OSError."""
    with RouteSocket() as route:
        route.set_properties(socket.if_nametoindex(name), mtu=mtu)


def set_addresses(
    name: str, former: Iterable[ipaddress.IPv6Address], wanted: Mapping[ipaddress.IPv6Address, bool]
) -> None:
    """Gives an interface of the current network namespace these home addresses; True: for what began already.

    Raises OSError.
    """
    index = socket.if_nametoindex(name)
    with RouteSocket() as route:
        for address, deprecated in wanted.items():
            route.age_address(index, str(address), 128, deprecated=deprecated)
        for address in former:
            if address not in wanted:
                route.remove_address(index, str(address), 128)


def set_address4(name: str, former: ipaddress.IPv4Address | None, address: ipaddress.IPv4Address | None) -> None:
    """Gives an interface of the current network namespace another IPv4 address, or none. Raises OSError."""
    index = socket.if_nametoindex(name)
    with RouteSocket() as route:
        if former is not None and former != address:
            route.remove_address(index, str(former), 32)
        if address is not None:
            route.add_address(index, str(address), 32)
            route.add_default_route(index, socket.AF_INET)


def add_local(addresses: Sequence[ipaddress.IPv6Address | ipaddress.IPv4Address]) -> None:
    """Makes addresses local to the current network namespace: programs reach them there, and nowhere else.

    Raises OSError.
    """
    index = socket.if_nametoindex("lo")
    with RouteSocket() as route:
        for address in addresses:
            route.add_address(index, str(address), address.max_prefixlen)


def _configure(settings: TunSettings) -> None:
    index = socket.if_nametoindex(settings.name)
    with RouteSocket() as route:
        # Before it is up: a link-local address would make the kernel solicit routers and speak without home address.
        route.set_properties(index, mtu=settings.mtu)
        route.set_up(index)
        route.set_up(socket.if_nametoindex("lo"))
        route.add_address(index, str(settings.address), 128)
        route.add_default_route(index, socket.AF_INET6)
        if settings.address4 is not None:
            route.add_address(index, str(settings.address4), 32)
            route.add_default_route(index, socket.AF_INET)


class Tunnel:
    """The data plane's end of a TUN device: packets of the host OS."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.write_errors = 0
        "Packets that the host OS did not take (interface down, queue full)."

    def fileno(self) -> int:
        return self._descriptor

    def receive(self, limit: int) -> list[bytes]:
        """Up to ``limit`` packets that the host OS has sent; fewer when there are no more now.

        Raises OSError when the interface has gone for good (its namespace was removed).
        """
        packets: list[bytes] = []
        read, descriptor = os.read, self._descriptor
        try:
            while len(packets) < limit:
                packets.append(read(descriptor, LARGEST_PACKET))
        except BlockingIOError:
            pass
        return packets

    def send(self, packet: bytes) -> bool:
        """Gives a packet to the host OS; False (and counted) if it does not take it."""
        try:
            os.write(self._descriptor, packet)
        except OSError:
            self.write_errors += 1
            return False
        return True

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
