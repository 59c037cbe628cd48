"""Every reason for which a media packet is dropped, with its meaning. Nothing is dropped without one."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum


class Drop(StrEnum):
    """Stable names; they appear in statistics and the user interface."""

    MALFORMED_RTP = "malformed-rtp"
    "Not an RTP packet (RFC 3550 appendix A.1)."
    MALFORMED_RTCP = "malformed-rtcp"
    "Not a compound RTCP packet (RFC 3550 appendix A.2)."
    UNKNOWN_PAYLOAD = "unknown-payload"
    "A payload type that was not negotiated, or a payload that its codec cannot decode."
    UNKNOWN_SOURCE = "unknown-source"
    "Not authenticated and not from the address that the other side named in its session description."
    UNEXPECTED_SSRC = "unexpected-ssrc"
    "From another synchronization source, not (yet) confirmed by a second packet in sequence (RFC 3550 appendix A.1)."
    SEQUENCE_JUMP = "sequence-jump"
    "Far away from the sequence, not (yet) confirmed by a second packet (RFC 3550 appendix A.1)."
    MALFORMED_EVENT = "malformed-event"
    "A telephone event that is too short (RFC 4733 section 2.3)."
    UNKNOWN_EVENT = "unknown-event"
    "A telephone event that is no digit."
    ON_HOLD = "on-hold"
    "Sound that was not asked for: our side is on hold, or holds the other."
    DUPLICATE = "duplicate"
    "The same sequence number again."
    LATE = "late"
    "Arrived after its time to be played had passed."
    OVERFLOW = "overflow"
    "The jitter buffer holds more than it may."
    SRTP_AUTHENTICATION = "srtp-authentication-failed"
    "The authentication tag of an SRTP or SRTCP packet does not match."
    SRTP_REPLAYED = "srtp-replayed"
    "An SRTP or SRTCP index that was seen before or is too old (RFC 3711 section 3.3.2)."
    SRTP_FAILED = "srtp-failed"
    "libsrtp refused the packet for another reason (too short, no context)."
    DTLS_FAILED = "dtls-failed"
    "A datagram of DTLS where there is no handshake, or none that can still succeed."
    STUN_UNEXPECTED = "stun-unexpected"
    "A datagram of STUN where there is no ICE (RFC 7983)."
    MALFORMED_STUN = "malformed-stun"
    "It begins like STUN (RFC 8489) and is none."
    NOT_READY = "not-ready"
    "Arrived before the sessions were negotiated, or their keys made."
    SEND_FAILED = "send-failed"
    "The socket refused an outgoing packet (no route, queue full), or there was no way for it yet."


DropCounter = Counter[Drop]
