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
    ESP_DUMMY = "esp-dummy"
    "A dummy packet of the peer's traffic flow confidentiality: no fault, dropped by design (RFC 4303 section 2.6)."
    ESP_FRAGMENT = "esp-fragment"
    "A fragment, but ESP in transport mode works on whole packets (RFC 4303 sections 3.3.4, 3.4.1)."
    # mobile IPv6
    ACKNOWLEDGEMENT_UNEXPECTED = "acknowledgement-unexpected"
    "A binding acknowledgement that nobody waits for, or from somebody who was not asked (RFC 6275 section 11.7.3)."
    SEQUENCE_UNEXPECTED = "sequence-unexpected"
    "The sequence number of a binding acknowledgement answers no binding update under way (RFC 6275 section 11.7.3)."
    HOME_ADDRESS_NOT_OURS = "home-address-not-ours"
    "The home address in a type 2 routing header or inside a tunnel is not that of this terminal (steps 71, 123)."
    HOME_ADDRESS_MISSING = "home-address-missing"
    "A binding message without the home address option or routing header that it needs (RFC 6275 section 9.5.1)."
    NOT_PROTECTED = "not-protected"
    "A binding message that must come under IPsec came without (RFC 6275 sections 5.1, 10.3.1; step 74)."
    WRONG_ASSOCIATION = "wrong-association"
    "A valid security association, but one that is not for this home address (RFC 6275 section 10.3.1)."
    MESSAGE_UNEXPECTED = "message-unexpected"
    "A mobility header message, or another packet, that this role has no use for."
    SCENARIO_DISABLED = "scenario-disabled"
    "No enabled row of the scenario policy table fits the acknowledgement (steps 61, 67)."
    BINDING_REFUSED = "binding-refused"
    "The status of the binding acknowledgement is a refusal, 128 or more (steps 62, 67)."
    BINDING_UNKNOWN = "binding-unknown"
    "A tunnelled packet for or from a home address that has no binding."
    # tunnel
    OUTER_SOURCE_WRONG = "outer-source-wrong"
    "The outer source of a tunnelled packet is not the home agent, or not the registered care-of address (step 128)."
    INNER_SOURCE_WRONG = "inner-source-wrong"
    "The inner source of a reverse-tunnelled packet is not the home address of its sender (RFC 6275 section 10.4.5)."
    NOT_TUNNELLED = "not-tunnelled"
    "A packet that may only come through the tunnel arrived outside of it."
    NO_BINDING = "no-binding"
    "There is no tunnel to send through: the terminal is not registered and nothing waits for a binding."
    SOURCE_NOT_HOME_ADDRESS = "source-not-home-address"
    "A program sent from an address that is not the home address of the host OS."
    LINK_LOCAL_CHATTER = "link-local-chatter"
    "The kernel of the host OS talks to its own link (neighbour discovery, MLD); nothing is lost."
    HANDOVER_QUEUE = "handover-queue"
    "Too many packets, or for too long, waited for the end of a handover."
    TOO_BIG = "too-big"
    "Does not fit the path after encapsulation; the sender was told (ICMPv6 Packet Too Big)."
    HOP_LIMIT = "hop-limit"
    "The hop limit is used up (RFC 8200 section 3)."
    NOT_FORWARDED = "not-forwarded"
    "A link-local, multicast or unspecified address, which a home agent never forwards (RFC 6275 section 10.4.2)."
    NOT_OURS = "not-ours"
    "The destination is no address of this node and no registered home address."


class Discard(Exception):
    """Raised inside an engine when a packet cannot go on; the engine's entry point turns it into an output."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
