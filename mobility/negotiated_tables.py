"""Negotiated keys as Wireshark wants them; made only when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from mobility.ipsec.ike.decryption import decryption_row
from mobility.ipsec.ike.endpoint import Ike
from mobility.ipsec.sa import Mode
from mobility.settings import Association
from mobility.trace import esp_sa_line

IKE_TABLE, ESP_TABLE = "ikev2_decryption_table", "esp_sa"
"Names of Wireshark's tables."


@runtime_checkable
class Negotiates(Protocol):
    """A node some of whose keys come from IKE."""

    def negotiations(self) -> Iterable[Ike]:
        """Its endpoints of IKE; none where nothing is negotiated."""


def tables(endpoints: Iterable[Ike]) -> dict[str, str]:
    """The text of both tables for what there is at present. They hold keys: for files of mode 0600.

    What Wireshark 4 cannot decrypt (ChaCha20-Poly1305) is left out.
    """
    ike: dict[str, None] = {}
    esp: dict[str, None] = {}
    for endpoint in endpoints:
        for sa in endpoint.secrets():
            ike |= {row: None for row in [decryption_row(sa)] if row is not None}
            for child in sa.children.values():
                known = child.sa
                for spi, keys in (
                    (known.inbound_spi, known.inbound_keys),
                    (known.outbound_spi, known.outbound_keys),
                ):
                    association = Association(spi, known.algorithm, keys)
                    versions = (6, 4) if known.mode is Mode.TUNNEL else (6,)
                    rows = (esp_sa_line(association, version) for version in versions)
                    esp |= {row: None for row in rows if row is not None}
    return {IKE_TABLE: "".join(f"{row}\n" for row in ike), ESP_TABLE: "".join(f"{row}\n" for row in esp)}
