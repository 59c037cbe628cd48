"""The certificate by which phones know this node: of its home address, signed by itself.

It proves nothing alone: its fingerprint goes through SIP, as RFC 6193 has it. So it does not run out either.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from ipaddress import IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from mobility.ipsec.ike.certificate_files import load_credential
from mobility.ipsec.ike.certificates import Credential, names
from mobility.ipsec.ike.payloads import Identity
from mobility.state_files import keep, set_aside

log = logging.getLogger(__name__)

FILE = "application-certificate.pem"
"In the state directory: private key and certificate."
_FROM, _TO = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"A clock that is wrong is no reason not to talk; the end is that of RFC 5280 section 4.1.2.5: none."


def node_certificate(directory: Path, home: IPv6Address) -> Credential:
    """The one in ``directory``, or a new one if there is none of this home address. Raises OSError: cannot be kept."""
    path = directory / FILE
    if path.exists():
        try:
            found = load_credential(path, path)
            if names(found.certificate, Identity.of(str(home))):
                return found
            log.info("%s: is not of %s: another one is made", path, home)
        except ValueError as error:
            log.warning("%s; another one is made, and this one is now %s", error, set_aside(path))
    made = self_signed(home)
    key = made.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    keep(path, key + made.certificate.public_bytes(Encoding.PEM))
    return made


def self_signed(home: IPv6Address) -> Credential:
    """A new certificate of this home address, and its key (P-256)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "roamphone")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), _FROM, _TO)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(home)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    return Credential(certificate, key)
