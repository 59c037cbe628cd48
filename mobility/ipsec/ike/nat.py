"""NAT detection (RFC 7296 section 2.23)."""

from __future__ import annotations

from hashlib import sha1

from mobility.ipsec.ike.message import Header, Message
from mobility.ipsec.ike.numbers import Notification
from mobility.ipsec.ike.payloads import NotifyPayload
from mobility.ipsec.ike.settings import Endpoint


def _hash(spis: bytes, endpoint: Endpoint) -> bytes:
    return sha1(spis + endpoint.address.packed + endpoint.port.to_bytes(2, "big"), usedforsecurity=False).digest()


def notifications(spis: bytes, local: Endpoint, remote: Endpoint, hide: bytes = b"") -> list[NotifyPayload]:
    """Where we think that both ends are; ``hide``: in place of our own hash, so that there seems to be a NAT."""
    return [
        NotifyPayload(Notification.NAT_DETECTION_SOURCE_IP, hide or _hash(spis, local)),
        NotifyPayload(Notification.NAT_DETECTION_DESTINATION_IP, _hash(spis, remote)),
    ]


def detected(message: Message, local: Endpoint, remote: Endpoint) -> tuple[bool, bool]:
    """Whether there is a NAT in front of us, and one in front of the other end. Without notifications: none."""
    header: Header = message.header
    spis = header.initiator_spi + header.responder_spi
    sources = [
        each.data for each in message.all(NotifyPayload) if each.notification == Notification.NAT_DETECTION_SOURCE_IP
    ]
    here = message.notification(Notification.NAT_DETECTION_DESTINATION_IP)
    return (
        here is not None and here.data != _hash(spis, local),
        bool(sources) and _hash(spis, remote) not in sources,
    )
