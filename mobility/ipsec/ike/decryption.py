"""Rows of Wireshark's ``ikev2_decryption_table``, with which it decrypts what an IKE SA says. They hold keys."""

from __future__ import annotations

from mobility.ipsec.ike.ike_sa import IkeSa
from mobility.ipsec.ike.numbers import Encr

_CIPHERS = {
    (Encr.AES_GCM_16, 128): "AES-GCM-128 with 16 octet ICV [RFC5282]",
    (Encr.AES_GCM_16, 256): "AES-GCM-256 with 16 octet ICV [RFC5282]",
    (Encr.AES_CBC, 128): "AES-CBC-128 [RFC3602]",
    (Encr.AES_CBC, 256): "AES-CBC-256 [RFC3602]",
}


def decryption_row(sa: IkeSa) -> str | None:
    """The row of one IKE SA with its present keys; None: there are none, or Wireshark does not know the algorithm."""
    suite, keys = sa.suite, sa.keys
    cipher = None if suite is None else _CIPHERS.get((suite.encr, suite.key_bits))
    if suite is None or keys is None or cipher is None:
        return None
    integrity = "NONE [RFC4306]" if suite.aead else "HMAC_SHA2_256_128 [RFC4868]"
    spis = sa.channel.initiator_spi.hex(), sa.channel.responder_spi.hex()
    fields = (*spis, keys.ei.hex(), keys.er.hex(), cipher, keys.ai.hex(), keys.ar.hex(), integrity)
    return ",".join(f'"{field}"' if " " in field else field for field in fields)
