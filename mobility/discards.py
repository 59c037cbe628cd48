"""Every reason for which a packet is dropped, with its meaning. Nothing is dropped without one."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Stable names; they appear in counters, traces and the user interface."""

    # wire
    MALFORMED = "malformed"
    "The bytes are not a valid packet of the format they claim to be."
    # ipsec
    ESP_MALFORMED = "esp-malformed"
    "Too short, or padding or next header of a decrypted ESP packet is invalid (RFC 4303 section 2.4)."
    SA_UNKNOWN = "sa-unknown"
    "No security association has this SPI and destination (RFC 4301 section 5.2)."
    REPLAYED = "replayed"
    "The sequence number was seen before or lies below the anti-replay window (RFC 4303 section 3.4.3)."
    AUTHENTICATION_FAILED = "authentication-failed"
    "The integrity check value does not match: tampered with, or a wrong key (RFC 4303 section 3.4.4)."
    SEQUENCE_EXHAUSTED = "sequence-exhausted"
    "The sequence number of an outbound association would wrap; it needs new keys (RFC 4303 section 3.3.3)."
    POLICY_DISCARD = "policy-discard"
    "The security policy database says discard (RFC 4301 section 4.4.1)."
    POLICY_VIOLATED = "policy-violated"
    "The packet was not protected the way the policy demands (RFC 4301 section 5.2)."
    SA_MISSING = "sa-missing"
    "The policy demands protection and no security association exists for it."


class Discard(Exception):
    """Raised inside an engine when a packet cannot go on; the engine's entry point turns it into an output."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
