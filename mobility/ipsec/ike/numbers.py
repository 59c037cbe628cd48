"""Numbers that IANA keeps for IKEv2, as far as they are used here (RFC 7296 section 3)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

HEADER_SIZE = 28
IKE_PORT = 500
NAT_PORT = 4500
"Where IKE and ESP share datagrams; IKE begins with four octets of zero there (RFC 3948 section 2.2)."
NON_ESP_MARKER = bytes(4)


class Exchange(IntEnum):
    """Exchange types (RFC 7296 section 3.1, RFC 9242)."""

    IKE_SA_INIT = 34
    IKE_AUTH = 35
    CREATE_CHILD_SA = 36
    INFORMATIONAL = 37
    IKE_INTERMEDIATE = 43


class Flag(IntFlag):
    """Of the header (RFC 7296 section 3.1)."""

    INITIATOR = 0x08
    "From the original initiator of the IKE SA."
    VERSION = 0x10
    RESPONSE = 0x20


class PayloadType(IntEnum):
    """RFC 7296 section 3.2, RFC 7383."""

    NONE = 0
    SA = 33
    KE = 34
    IDI = 35
    IDR = 36
    CERT = 37
    CERTREQ = 38
    AUTH = 39
    NONCE = 40
    NOTIFY = 41
    DELETE = 42
    VENDOR_ID = 43
    TSI = 44
    TSR = 45
    SK = 46
    CP = 47
    SKF = 53


class Protocol(IntEnum):
    """Security protocol identifiers (RFC 7296 section 3.3.1)."""

    NONE = 0
    IKE = 1
    AH = 2
    ESP = 3

    @property
    def spi_size(self) -> int:
        """Octets of an SPI."""
        return 0 if self is Protocol.NONE else 8 if self is Protocol.IKE else 4


class TransformType(IntEnum):
    """RFC 7296 section 3.3.2, RFC 9370."""

    ENCR = 1
    PRF = 2
    INTEG = 3
    KE = 4
    ESN = 5
    ADDITIONAL_KE_1 = 6


class Encr(IntEnum):
    """Encryption algorithms."""

    NULL = 11
    AES_CBC = 12
    AES_GCM_16 = 20
    CHACHA20_POLY1305 = 28


class Prf(IntEnum):
    """Pseudo-random functions (RFC 4868)."""

    HMAC_SHA2_256 = 5
    HMAC_SHA2_384 = 6
    HMAC_SHA2_512 = 7

    @property
    def hash_name(self) -> str:
        """Of the hash function, as hashlib calls it."""
        return {5: "sha256", 6: "sha384", 7: "sha512"}[self]

    @property
    def size(self) -> int:
        """Octets of its output and of the keys that are made for it."""
        return {5: 32, 6: 48, 7: 64}[self]


class Integ(IntEnum):
    """Integrity algorithms (RFC 4868)."""

    NONE = 0
    HMAC_SHA2_256_128 = 12


class Group(IntEnum):
    """Key exchange methods (RFC 3526, 5903, 8031, FIPS 203)."""

    NONE = 0
    MODP2048 = 14
    P256 = 19
    X25519 = 31
    ML_KEM_768 = 36


class Esn(IntEnum):
    """Extended sequence numbers; there are none here (mobility/ipsec)."""

    NO = 0
    YES = 1


class AuthMethod(IntEnum):
    """RFC 7296 section 3.8, RFC 7427."""

    SHARED_KEY = 2
    DIGITAL_SIGNATURE = 14


class IdType(IntEnum):
    """Identification types (RFC 7296 section 3.5)."""

    IPV4_ADDR = 1
    FQDN = 2
    RFC822_ADDR = 3
    IPV6_ADDR = 5
    DER_ASN1_DN = 9
    KEY_ID = 11


class Notification(IntEnum):
    """Notify message types; below 16384 are errors (RFC 7296 section 3.10.1)."""

    UNSUPPORTED_CRITICAL_PAYLOAD = 1
    INVALID_IKE_SPI = 4
    INVALID_MAJOR_VERSION = 5
    INVALID_SYNTAX = 7
    INVALID_MESSAGE_ID = 9
    INVALID_SPI = 11
    NO_PROPOSAL_CHOSEN = 14
    INVALID_KE_PAYLOAD = 17
    AUTHENTICATION_FAILED = 24
    SINGLE_PAIR_REQUIRED = 34
    NO_ADDITIONAL_SAS = 35
    INTERNAL_ADDRESS_FAILURE = 36
    FAILED_CP_REQUIRED = 37
    TS_UNACCEPTABLE = 38
    INVALID_SELECTORS = 39
    TEMPORARY_FAILURE = 43
    CHILD_SA_NOT_FOUND = 44
    STATE_NOT_FOUND = 47
    INITIAL_CONTACT = 16384
    NAT_DETECTION_SOURCE_IP = 16388
    NAT_DETECTION_DESTINATION_IP = 16389
    COOKIE = 16390
    USE_TRANSPORT_MODE = 16391
    REKEY_SA = 16393
    MOBIKE_SUPPORTED = 16396
    UPDATE_SA_ADDRESSES = 16400
    COOKIE2 = 16401
    IKEV2_FRAGMENTATION_SUPPORTED = 16430
    SIGNATURE_HASH_ALGORITHMS = 16431
    INTERMEDIATE_EXCHANGE_SUPPORTED = 16438

    @classmethod
    def word(cls, number: int) -> str:
        """The name of a notification, or its number, for people."""
        return cls(number).name if number in cls._value2member_map_ else f"notification {number}"


class HashAlgorithm(IntEnum):
    """For signatures (RFC 7427 section 4, RFC 8420)."""

    SHA2_256 = 2
    SHA2_384 = 3
    SHA2_512 = 4
    IDENTITY = 5


class TsType(IntEnum):
    """Traffic selector types (RFC 7296 section 3.13.1)."""

    IPV4_ADDR_RANGE = 7
    IPV6_ADDR_RANGE = 8


class ConfigurationType(IntEnum):
    """RFC 7296 section 3.15."""

    REQUEST = 1
    REPLY = 2
    SET = 3
    ACK = 4


class Attribute(IntEnum):
    """Configuration attributes (RFC 7296 section 3.15.1, RFC 5026)."""

    INTERNAL_IP4_ADDRESS = 1
    INTERNAL_IP6_ADDRESS = 8
    INTERNAL_IP6_DNS = 10
    MIP6_HOME_PREFIX = 16
