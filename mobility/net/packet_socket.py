"""A link: IPv6 packets on an interface, past the kernel's own IPv6 (which never sees our addresses).

The socket is SOCK_RAW and not SOCK_DGRAM: the Ethernet header comes and goes as bytes, where SOCK_DGRAM makes Python
look up the interface name with a system call for every packet. A filter in the kernel keeps out frames for other
stations, frames of other VLANs and our own.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections import Counter
from typing import Protocol

from mobility.net.netlink import LinkState
from mobility.net.offload import NEEDS_CHECKSUM, OffloadError, finish

ETH_P_IPV6 = 0x86DD
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 1, 15, 23
PACKET_MR_ALLMULTI = 2
SO_ATTACH_FILTER = 26
RECEIVE_BUFFER = 1 << 20
"Bytes the kernel keeps for us while we are busy: about 300 ms of a flood of small packets."

_NO_OFFLOAD = bytes(10)
_ETHERNET = 14
_HEADERS = len(_NO_OFFLOAD) + _ETHERNET
_LARGEST = _HEADERS + 65575

# Classic BPF: accept if the packet type is host, broadcast or multicast and the frame carries no VLAN tag.
_LD_ABS_W, _JGT, _JEQ, _RET = 0x20, 0x25, 0x15, 0x06
_SKF_PKTTYPE, _SKF_VLAN_TAG_PRESENT = 0xFFFFF004, 0xFFFFF030
_PACKET_MULTICAST = 2
_FILTER = (
    (_LD_ABS_W, 0, 0, _SKF_PKTTYPE),
    (_JGT, 3, 0, _PACKET_MULTICAST),
    (_LD_ABS_W, 0, 0, _SKF_VLAN_TAG_PRESENT),
    (_JEQ, 0, 1, 0),
    (_RET, 0, 0, 0x40000),
    (_RET, 0, 0, 0),
)


class Link(Protocol):
    """One link of a node: what the event loop needs of it. The in-memory twin is in `mobility.net.memory`."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> bytes:
        """Our link-layer address."""

    @property
    def mtu(self) -> int: ...

    def fileno(self) -> int: ...

    def send(self, packet: bytes, to: bytes) -> bool:
        """Sends an IPv6 packet to a link-layer address; False (and counted) if the link does not take it."""

    def receive(self, limit: int) -> list[tuple[bytes, bytes]]:
        """Packets with their senders' link-layer addresses: about ``limit`` of them, fewer if there are no more now."""

    def close(self) -> None: ...


class PacketSocket:
    """A `Link` on an Ethernet interface of the kernel. Needs CAP_NET_RAW."""

    def __init__(self, interface: LinkState) -> None:
        self.name = interface.name
        self.index = interface.index
        self.address = interface.address
        self.mtu = interface.mtu
        self.errors: Counter[str] = Counter()
        "What went wrong, by errno name or ``offload``, and how often."
        self._source = interface.address + ETH_P_IPV6.to_bytes(2, "big")
        self._buffer = bytearray(_LARGEST)
        self._view = memoryview(self._buffer)
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Raises PermissionError without CAP_NET_RAW, OSError if the interface has gone meanwhile."""
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            link = socket.socket(socket.AF_PACKET, kind, 0)  # nothing arrives before filter and interface are set
        except PermissionError as error:
            raise PermissionError(
                errno.EPERM, f"a packet socket on {self.name} needs CAP_NET_RAW: start this as root"
            ) from error
        try:
            link.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            link.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            _attach_filter(link)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            membership = struct.pack("iHH8x", self.index, PACKET_MR_ALLMULTI, 0)
            link.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
            link.bind((self.name, ETH_P_IPV6))
        except BaseException:
            link.close()
            raise
        self._socket = link

    def fileno(self) -> int:
        if self._socket is None:
            raise RuntimeError(f"the link on {self.name} is not open")
        return self._socket.fileno()

    def send(self, packet: bytes, to: bytes) -> bool:
        if self._socket is None:
            return self._failed("ENODEV")
        try:
            self._socket.send(b"%b%b%b%b" % (_NO_OFFLOAD, to, self._source, packet))
        except OSError as error:  # ENETDOWN, ENXIO: the link went; EMSGSIZE; ENOBUFS, EAGAIN: its queue is full
            return self._failed(errno.errorcode.get(error.errno or 0, str(error.errno)))
        return True

    def receive(self, limit: int) -> list[tuple[bytes, bytes]]:
        packets: list[tuple[bytes, bytes]] = []
        if self._socket is None:
            return packets
        receive, buffer, view = self._socket.recv_into, self._buffer, self._view
        while len(packets) < limit:
            try:
                length = receive(buffer, 0, socket.MSG_TRUNC)
            except BlockingIOError:
                break
            except OSError as error:  # ENETDOWN once when the interface goes; EINVAL: offload of an unknown kind
                self._failed(errno.errorcode.get(error.errno or 0, str(error.errno)))
                if error.errno in (errno.ENETDOWN, errno.ENODEV, errno.ENXIO):
                    break
                limit -= 1
                continue
            if not _HEADERS <= length <= _LARGEST:
                self._failed("EMSGSIZE")
                limit -= 1
                continue
            packet, sender = bytes(view[_HEADERS:length]), bytes(view[16:22])
            if not buffer[0] & NEEDS_CHECKSUM and not buffer[1]:  # no checksum to complete, nothing to cut up
                packets.append((packet, sender))
                continue
            try:
                packets.extend((part, sender) for part in finish(view[:10], packet, _ETHERNET))
            except OffloadError:
                self._failed("offload")
                limit -= 1
        return packets

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _failed(self, what: str) -> bool:
        self.errors[what] += 1
        return False


def _attach_filter(link: socket.socket) -> None:
    instructions = b"".join(struct.pack("=HBBI", *instruction) for instruction in _FILTER)
    program = ctypes.create_string_buffer(instructions, len(instructions))
    link.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(_FILTER), ctypes.addressof(program)))
