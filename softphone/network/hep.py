"""SIP messages sent to a collector such as Homer: HEPv3, the Homer Encapsulation Protocol, over UDP."""

from __future__ import annotations

import asyncio
import socket
import time
from ipaddress import ip_address
from struct import Struct

from softphone.errors import ConfigError
from softphone.network.traced_text import call_id_of, without_keys
from softphone.sip.endpoint import Traced
from softphone.sip.errors import SipParseError
from softphone.sip.transport import Transport
from softphone.sip.uri import split_host_port

PORT = 9060
AGENT = 2026
"Number of this capture agent, where collectors tell several apart."
_HEAD, _CHUNK = Struct("!4sH"), Struct("!HHH")
_U8, _U16, _U32 = Struct("!B"), Struct("!H"), Struct("!I")
_MAGIC = b"HEP3"
_SIP = 1
_FAMILY = {4: 2, 6: 10}
"By IP version, as Linux numbers them."
_MOST = 60_000
"Bytes of a message: all has to fit into one datagram."
_LONGEST_ID = 1000


def hep3(message: Traced, when: float) -> bytes:
    """A packet of chunks (vendor 0): addresses, time, protocol, agent, payload, and the Call-ID for correlation.

    ``when``: seconds since 1970. Keys of SRTP are taken out of the payload: it travels in clear.
    """
    source, target = (message.local, message.peer) if message.sent else (message.peer, message.local)
    one, other = (ip_address(address.host.partition("%")[0]) for address in (source, target))
    seconds, rest = divmod(round(when * 1_000_000), 1_000_000)
    first = 3 if one.version == 4 else 5
    call_id = call_id_of(message.data).encode()[:_LONGEST_ID]
    protocol = socket.IPPROTO_UDP if message.transport is Transport.UDP else socket.IPPROTO_TCP
    chunks = [
        (1, _U8.pack(_FAMILY[one.version])), (2, _U8.pack(protocol)), (first, one.packed), (first + 1, other.packed),
        (7, _U16.pack(source.port)), (8, _U16.pack(target.port)), (9, _U32.pack(seconds)), (10, _U32.pack(rest)),
        (11, _U8.pack(_SIP)), (12, _U32.pack(AGENT)), *([(17, call_id)] if call_id else []),
        (15, without_keys(message.data)[:_MOST]),
    ]  # fmt: skip
    body = b"".join(_CHUNK.pack(0, kind, _CHUNK.size + len(value)) + value for kind, value in chunks)
    return _HEAD.pack(_MAGIC, _HEAD.size + len(body)) + body


class HepSender:
    """Sends what a phone says and hears. Never waits: what the network does not take is counted in `lost`."""

    def __init__(self, collector: str) -> None:
        """``collector``: ``HOST:PORT`` or a host. Raises ConfigError. Make it in the event loop."""
        self.lost = 0
        try:
            host, port = split_host_port(collector)
            found = socket.getaddrinfo(host, PORT if port is None else port, type=socket.SOCK_DGRAM)
        except (SipParseError, OSError) as exc:
            raise ConfigError(f"the collector {collector!r} is not found: {exc}; say HOST:PORT") from None
        family, kind, protocol, _, address = found[0]
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        try:
            self._socket.connect(address)
        except OSError as exc:
            self._socket.close()
            raise ConfigError(f"the collector {collector!r} cannot be reached: {exc.strerror}") from None
        self._epoch = time.time() - asyncio.get_running_loop().time()

    def sip(self, message: Traced) -> None:
        """As `Softphone.watch_messages` takes it."""
        if not message.data.strip():
            return  # keeps a connection open
        try:
            self._socket.send(hep3(message, self._epoch + message.time))
        except OSError:
            self.lost += 1

    def close(self) -> None:
        self._socket.close()
