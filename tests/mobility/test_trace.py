"""Traces: the ring, JSON lines, pcapng and the table of keys, the latter two by tshark's judgement."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from mobility.config import Association, Configuration, parse
from mobility.discards import Reason
from mobility.ipsec.algorithms import Algorithm, Keys
from mobility.ipsec.processing import encapsulate
from mobility.ipsec.sa import Mode, OutboundSA
from mobility.links import endpoint
from mobility.net.udp_socket import UdpSocket
from mobility.outputs import Discarded, Event
from mobility.pcapng import PcapngWriter
from mobility.trace import Trace, esp_sa_line, esp_sa_table, write_esp_sa
from tests.mobility.net.networks import udp_packet

from .configurations import APPLICATION, MN, PAIRS

CARE_OF, AGENT = "2001:db8:2::99", "2001:db8:1::a"
HOME, PEER = "2001:db8:1::100", "2001:db8:5::2"


@dataclass(frozen=True, slots=True)
class Moved(Event):
    link: str
    address: IPv6Address


def configuration() -> Configuration:
    return parse(MN + PAIRS + APPLICATION, Path("mn.toml"))


def tshark(capture: Path, *options: str, home: Path) -> list[list[str]]:
    done = subprocess.run(
        ["tshark", "-r", str(capture), "-T", "fields", "-E", "separator=|", *options],
        env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [line.split("|") for line in done.stdout.splitlines()]


def test_events_get_into_the_ring_and_to_subscribers() -> None:
    trace = Trace(wall_clock=lambda: 1000.25, ring=2)
    seen: list[object] = []
    trace.subscribe(seen.append)
    for link in ("eth0", "eth1", "eth2"):
        trace.event(Moved(link, IPv6Address(CARE_OF)))
    assert trace.recent() == [
        {"time": 1000.25, "event": "Moved", "link": link, "address": CARE_OF} for link in ("eth1", "eth2")
    ]
    assert len(seen) == 3


def test_a_flood_of_discards_is_no_flood_of_messages() -> None:
    trace = Trace(wall_clock=lambda: 0.0)
    seen: list[object] = []
    trace.subscribe(lambda entry: seen.append(entry["count"]))
    for _ in range(1000):
        trace.discarded(Discarded(Reason.REPLAYED, "app-ipsec", "17"))
    assert seen == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert trace.recent()[-1] == {
        "time": 0.0,
        "event": "Discarded",
        "reason": "replayed",
        "where": "app-ipsec",
        "detail": "17",
        "count": 1000,
    }


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "events"
    trace = Trace(wall_clock=lambda: 5.0)
    trace.event(Moved("before", IPv6Address(CARE_OF)))
    trace.start_lines(path)
    trace.event(Moved("eth0", IPv6Address(CARE_OF)))
    trace.discarded(Discarded(Reason.MALFORMED, "host", ""))
    assert trace.state() == {"events": True, "capture": False}
    trace.stop_lines()
    trace.event(Moved("after", IPv6Address(CARE_OF)))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["Moved", "Discarded"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk_ends_the_file_and_not_the_process(caplog: pytest.LogCaptureFixture) -> None:
    trace = Trace()
    trace.start_lines(Path("/dev/full"))
    trace.event(Moved("eth0", IPv6Address(CARE_OF)))
    assert trace.state() == {"events": False, "capture": False}
    trace.event(Moved("eth1", IPv6Address(CARE_OF)))
    assert "ends here" in caplog.text
    assert len(trace.recent()) == 2


def test_packets_are_only_wanted_while_captured(tmp_path: Path) -> None:
    trace = Trace()
    assert not trace.wants_packets
    trace.packet("eth0", True, b"ignored", b"ignored")
    trace.start_capture(tmp_path / "capture")
    wanted = [trace.wants_packets]
    trace.close()
    assert [*wanted, trace.wants_packets] == [True, False]
    assert stat.S_IMODE((tmp_path / "capture").stat().st_mode) == 0o600


@pytest.mark.interop
def test_tshark_reads_the_capture(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcapng"
    with path.open("wb") as file:
        writer = PcapngWriter(file)
        writer.write("eth0", udp_packet(HOME, PEER, 1, 5060, b"abc"), 1_700_000_000.5, outbound=True)
        writer.write("host", udp_packet(PEER, HOME, 5060, 1, b"defgh"), 1_700_000_001.25, comment="the answer ✓")
        writer.flush()
    fields = ("frame.time_epoch", "frame.interface_name", "frame.packet_flags_direction", "frame.comment", "ipv6.src")
    rows = tshark(path, *(part for field in fields for part in ("-e", field)), home=tmp_path)
    assert rows == [
        ["1700000000.500000000", "eth0", "0x00000002", "", HOME],
        ["1700000001.250000000", "host", "", "the answer ✓", PEER],
    ]


def encrypted(algorithm: Algorithm) -> tuple[Association, Association, bytes]:
    """Two layers of ESP, as the terminal sends them, with their associations."""
    layers = [
        Association(
            spi,
            algorithm,
            Keys(os.urandom(algorithm.key_lengths[-1]), os.urandom(algorithm.authentication_key_length)),
        )
        for spi in (0x3001, 0xF0002001)
    ]
    application, tunnel = (
        OutboundSA(layer.spi, algorithm, layer.keys, mode, random=os.urandom, fresh_keys=True)
        for layer, mode in zip(layers, (Mode.TRANSPORT, Mode.TUNNEL), strict=True)
    )
    plain = udp_packet(HOME, PEER, 4000, 9999, b"speech")
    esp = application.seal(17, plain[40:])
    inner = plain[:4] + len(esp).to_bytes(2, "big") + b"\x32" + plain[7:40] + esp
    outer = encapsulate(inner, tunnel, IPv6Address(CARE_OF).packed, IPv6Address(AGENT).packed)
    return layers[0], layers[1], outer


@pytest.mark.interop
@pytest.mark.parametrize(
    "algorithm",
    [each for each in Algorithm if each is not Algorithm.CHACHA20_POLY1305 and not each.is_for_ah],
)
def test_tshark_decrypts_both_layers_with_the_table(tmp_path: Path, algorithm: Algorithm) -> None:
    application, tunnel, packet = encrypted(algorithm)
    capture = tmp_path / "capture.pcapng"
    with capture.open("wb") as file:
        PcapngWriter(file).write("eth0", packet, 1.0)
        file.flush()
    lines = [esp_sa_line(application), esp_sa_line(tunnel)]
    profile = tmp_path / "config" / "wireshark"
    profile.mkdir(parents=True)
    profile.joinpath("esp_sa").write_text("".join(f"{line}\n" for line in lines))
    fields = ("-e", "ipv6.src", "-e", "esp.spi", "-e", "udp.dstport", "-e", "data.data", "-e", "esp.icv_good")
    options = ("-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE")
    [[sources, spis, port, data, good]] = tshark(capture, *options, *fields, home=tmp_path)
    assert sources == f"{CARE_OF},{HOME}"
    assert spis == "0xf0002001,0x00003001"
    assert (port, bytes.fromhex(data)) == ("9999", b"speech")
    if not algorithm.aead:
        assert good == "1,1"


@pytest.mark.interop
@pytest.mark.parametrize("local", [IPv4Address("192.0.2.1"), IPv6Address("2001:db8:9::1")])
def test_tshark_decrypts_the_tunnel_in_datagrams(tmp_path: Path, local: IPv4Address | IPv6Address) -> None:
    application, tunnel, packet = encrypted(Algorithm.AES_CBC_HMAC_SHA2_256_128)
    agent = IPv4Address("198.51.100.10") if local.version == 4 else IPv6Address(AGENT)
    link = UdpSocket("wlan0/udp", local, 1500, port=40000)
    capture = tmp_path / "capture.pcapng"
    with capture.open("wb") as file:
        PcapngWriter(file).write("wlan0/udp", link.wrapped(packet[40:], endpoint(agent, 4191), outbound=True), 1.0)
        file.flush()
    lines = [esp_sa_line(application), esp_sa_line(tunnel, local.version)]
    profile = tmp_path / "config" / "wireshark"
    profile.mkdir(parents=True)
    profile.joinpath("esp_sa").write_text("".join(f"{line}\n" for line in lines))
    options = ("-o", "esp.enable_encryption_decode:TRUE", "-d", "udp.port==4191,udpencap")
    fields = ("-e", "esp.spi", "-e", "udp.dstport", "-e", "data.data")
    assert tshark(capture, *options, *fields, home=tmp_path) == [
        ["0xf0002001,0x00003001", "4191,9999", b"speech".hex()]
    ]


def test_the_table_of_a_configuration(tmp_path: Path) -> None:
    table = esp_sa_table([configuration(), configuration()])
    lines = table.splitlines()
    assert len(lines) == 8
    assert [line[1:5] for line in lines if "0x00002001" in line] == ["IPv6", "IPv4"]
    assert lines[0] == (
        f'"IPv6","*","*","0x00001001","AES-CBC [RFC3602]","0x{"01" * 32}","HMAC-SHA-256-128 [RFC4868]","0x{"01" * 32}"'
    )
    path = tmp_path / "esp_sa"
    path.write_text("old")
    path.chmod(0o644)
    write_esp_sa(path, [configuration()])
    assert path.read_text() == table
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_wireshark_cannot_decrypt_is_left_out() -> None:
    keys = Keys(bytes(36))
    assert esp_sa_line(Association(0x1000, Algorithm.CHACHA20_POLY1305, keys)) is None
