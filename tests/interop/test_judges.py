"""The judges see what is there: everything that a simulated network sends, decrypted; and a single wrong octet."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobility.ipsec.algorithms import Algorithm
from mobility.mipv6.tunnel import TunnelForm
from mobility.pcapng import PcapngWriter
from mobility.wire import icmp6, ip6
from tests.interop.judges import no_complaints, scapy_reads
from tests.mobility.optimized import Optimized
from tests.mobility.whole import CN, MN, keys_of

pytestmark = pytest.mark.interop

SPIS = (*range(0x1000, 0x1004), 0x100, 0x101)


def conversation(form: TunnelForm) -> list[bytes]:
    """Registration, echo requests both by the tunnel and directly, and a handover: packets between the routers."""
    network = Optimized(form)
    network.start_agent()
    network.plug(network.a)
    network.run(2)
    station = network.world.stations["mn"]
    for number in range(40):
        if number == 20:
            network.move(network.b)
        station.send(icmp6.packet(MN, CN, icmp6.Echo(7, number, bytes(40))))
        network.run(0.2)
    assert network.is_direct()
    return [frame.packet for frame in network.core.frames]


def write(packets: list[bytes], directory: Path) -> tuple[Path, Path]:
    """The capture and its table of keys."""
    capture, table = directory / "seen.pcapng", directory / "seen.esp_sa"
    with capture.open("wb") as file:
        writer = PcapngWriter(file)
        for number, packet in enumerate(packets):
            writer.write("core", packet, 1_700_000_000.0 + number / 100)
        writer.flush()
    lines = []
    for spi in SPIS:
        key = keys_of(spi, Algorithm.AES_GCM_16).encryption.hex()
        lines.append(f'"IPv6","*","*","{spi:#010x}","AES-GCM with 16 octet ICV [RFC4106]","0x{key}","NULL",""\n')
    table.write_text("".join(lines))
    return capture, table


@pytest.mark.parametrize("form", list(TunnelForm))
def test_everything_is_read_and_a_wrong_octet_is_seen(form: TunnelForm, tmp_path: Path) -> None:
    packets = conversation(form)
    capture, table = write(packets, tmp_path)
    no_complaints(capture, table)
    messages = scapy_reads(capture, table)
    assert set(messages) >= {
        *("MIP6MH_BU", "MIP6MH_BA", "MIP6MH_HoTI", "MIP6MH_HoT", "MIP6MH_CoTI", "MIP6MH_CoT"),
    }  # fmt: skip
    kinds = [ip6.ICMPV6, ip6.DEST_OPTIONS] + ([ip6.ESP] if form is not TunnelForm.PLAIN else [ip6.IPV6])
    for kind in kinds:
        at = next(number for number, packet in enumerate(packets) if packet[6] == kind)
        changed = bytearray(packets[at])
        changed[-1] ^= 1
        capture, table = write([*packets[:at], bytes(changed), *packets[at + 1 :]], tmp_path)
        with pytest.raises(AssertionError):
            no_complaints(capture, table)
