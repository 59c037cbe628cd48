"""Foreign decoders judge what our nodes have put on the wire: tshark all of it, scapy what it knows."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Container, Sequence
from functools import cache
from pathlib import Path

from scapy.layers.inet6 import IPv6, MIP6MH_Generic, _MobilityHeader
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Packet
from scapy.utils import PcapNgReader

from sip_test_env.capture import dissect

WRONG = "_ws.malformed || _ws.expert.severity >= warning"
CHECKED = [part for protocol in ("ip", "tcp", "udp") for part in ("-o", f"{protocol}.check_checksum:TRUE")]
SPOKEN = {"sip", "dns"}
"Of what it guesses in datagrams."
_STATUS = ("esp.icv_bad", "icmpv6.checksum.status", "udp.checksum.status", "tcp.checksum.status", "ip.checksum.status")
_BAD = " || ".join(f"{name} == {1 if name == 'esp.icv_bad' else 0}" for name in _STATUS)
WHY_NOT = {
    r"Wrong Sequence Number for SPI \w+ - \d+ (missing|less than expected|repeated)": (
        "packets that a handover swallowed, overtook or had sent again; the window of the receiver judges them"
    ),
    r"(Previous segment\(s\) not captured|D-SACK Sequence|This frame is a \(suspected\) ).*": (
        "TCP repeats what a handover swallowed"
    ),
    r"Connection reset \(RST\)": "a TLS carrier of a care-of address that has gone is given up",
}
"Why a complaint is none: everything else is."
_WARNING = 0x600000
_LOST = 40
"Complaints about numbers of ESP that a few handovers explain; more would be a fault."


@cache
def _no_guesses() -> list[str]:
    """tshark guesses by its first octets what a datagram is, and takes ciphertext for one thing or another: only what
    our nodes speak may be found in it, and of that not RTCP: it does not know SRTCP under AES-GCM (RFC 7714: the index
    comes last)."""
    told = subprocess.run(["tshark", "-G", "heuristic-decodes"], capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in told.stdout.splitlines()]
    names = {name for below, name, enabled in rows if (below, enabled) == ("udp", "T")}
    assert "rtcp" in names, "tshark has other words for what it guesses"
    return [part for name in sorted(names - SPOKEN) for part in ("--disable-protocol", name)]


def no_complaints(
    capture: Path,
    table: Path | None,
    *,
    tls_keys: Path | None = None,
    options: Sequence[str] = (),
    keyless: Container[int] = (),
) -> None:
    """tshark finds nothing malformed and nothing to warn of, but for what `WHY_NOT` explains; checksums and integrity
    check values are right; with a table all ESP is opened, but for SPIs in ``keyless``."""
    wanted = f"{WRONG} || {_BAD}" + ("" if table is None else " || esp")
    fields = [
        "frame.number",
        "frame.protocols",
        "_ws.expert.severity",
        "_ws.expert.message",
        "esp.spi",
        "esp.protocol",
        *_STATUS,
    ]
    rows = dissect(capture, table, fields, wanted, tls_keys=tls_keys, options=[*CHECKED, *_no_guesses(), *options])
    complaints: list[list[str]] = []
    explained: Counter[str] = Counter()
    for row in rows:
        _, _, severities, said, spis, opened, sealed, *checksums = row
        unexplained = []
        for message in _messages(said, severities):
            why = next((why for why in WHY_NOT if re.fullmatch(why, message)), None)
            if why is not None:
                explained[why] += 1
            else:
                unexplained.append(message)
        closed = [spi for spi in _values(spis) if int(spi, 16) not in keyless][len(_values(opened)) :]
        wrong = {"1", "True"} & set(_values(sealed)) or any("0" in _values(checks) for checks in checksums)
        if unexplained or wrong or (closed and table is not None):
            complaints.append(row)
    assert complaints == [], complaints[:5]
    assert all(count <= _LOST for why, count in explained.items() if why.startswith("Wrong")), explained


def _values(joined: str) -> list[str]:
    return joined.split(",") if joined else []


def _messages(joined: str, severities: str) -> list[str]:
    """Those that are warnings or worse. tshark joins the messages of a packet by commas, which they may contain."""
    messages = re.split(r",(?=[A-Z])", joined) if joined else []
    levels = [int(level) for level in _values(severities)]
    if len(messages) != len(levels):
        return messages
    return [message for message, level in zip(messages, levels, strict=True) if level >= _WARNING]


def scapy_reads(capture: Path, table: Path, each: int = 40) -> Counter[str]:
    """Opens ESP with scapy, to the innermost layer, and makes mobility messages anew from what it has read in them,
    octet for octet; how many there were of each. ``each``: packets of a flow that are looked at, for scapy is slow."""
    associations = _associations(table)
    seen: Counter[int] = Counter()
    messages: Counter[str] = Counter()
    with PcapNgReader(str(capture)) as reader:
        for frame in reader:
            if IPv6 not in frame or (ESP in frame and frame[ESP].spi not in associations):
                continue
            packet = frame[IPv6]
            if ESP in packet:
                seen[packet[ESP].spi] += 1
                if seen[packet[ESP].spi] > each:
                    continue
            while ESP in packet:
                # Behind a header of its own: scapy 2.6 does not expect extension headers around ESP.
                bare = IPv6(src=packet.src, dst=packet.dst) / ESP(bytes(packet[ESP]))
                packet = associations[bare[ESP].spi].decrypt(bare)  # raises: authentication, padding
            layer: Packet | None = packet.getlayer(_MobilityHeader, _subclass=True)
            if layer is not None:
                assert not isinstance(layer, MIP6MH_Generic), "a message that scapy does not know"
                original, again = bytes(layer), layer.copy()
                again.clear_cache()
                assert bytes(again) == original
                messages[type(layer).__name__] += 1
    assert sum(seen.values()) > 0
    return messages


def _associations(table: Path) -> dict[int, SecurityAssociation]:
    found = {}
    for line in table.read_text().splitlines():
        if line.startswith('"IPv6"'):
            _, _, _, spi, algorithm, key, _, _ = (field.strip('"') for field in line.split(","))
            assert algorithm.startswith("AES-GCM"), "the demos use no other"
            found[int(spi, 16)] = SecurityAssociation(
                ESP, spi=int(spi, 16), crypt_algo="AES-GCM", crypt_key=bytes.fromhex(key.removeprefix("0x"))
            )
    return found
