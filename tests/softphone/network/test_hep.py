"""HEPv3: the packet, and what a phone sends to a collector."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from struct import unpack_from

import pytest

from softphone.errors import ConfigError
from softphone.network.hep import HepSender, hep3
from softphone.network.traced_text import call_id_of, without_keys
from softphone.phone import Softphone
from softphone.sip.endpoint import Traced
from softphone.sip.transport import Address, Transport
from tests.softphone.support import account, simulate

MESSAGE = (
    b"INVITE sip:bob@example.org SIP/2.0\r\nCall-ID: 5f@here\r\n\r\n"
    b"m=audio 9 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0IGtleQ|2^20\r\n"
)


def chunks(packet: bytes) -> dict[int, bytes]:
    magic, length = unpack_from("!4sH", packet)
    assert (magic, length) == (b"HEP3", len(packet))
    found: dict[int, bytes] = {}
    position = 6
    while position < len(packet):
        vendor, kind, size = unpack_from("!HHH", packet, position)
        assert vendor == 0
        assert size >= 6
        found[kind] = packet[position + 6 : position + size]
        position += size
    assert position == len(packet)
    return found


@pytest.mark.parametrize(
    ("sent", "transport", "here", "there", "family", "protocol", "first"),
    [
        (True, Transport.UDP, "2001:db8::1", "2001:db8::2", 10, 17, 5),
        (False, Transport.TLS, "192.0.2.1", "192.0.2.2", 2, 6, 3),
    ],
)
def test_a_packet(
    *, sent: bool, transport: Transport, here: str, there: str, family: int, protocol: int, first: int
) -> None:
    message = Traced(0.0, sent, transport, Address(here, 5062), Address(there, 5060), MESSAGE)
    found = chunks(hep3(message, 1_700_000_000.000123))
    assert (found[1], found[2]) == (bytes([family]), bytes([protocol]))
    one, other = (here, there) if sent else (there, here)
    version = socket.AF_INET6 if family == 10 else socket.AF_INET
    assert (found[first], found[first + 1]) == (socket.inet_pton(version, one), socket.inet_pton(version, other))
    ports = (5062, 5060) if sent else (5060, 5062)
    assert (int.from_bytes(found[7]), int.from_bytes(found[8])) == ports
    assert (int.from_bytes(found[9]), int.from_bytes(found[10])) == (1_700_000_000, 123)
    assert found[11] == b"\x01"
    assert found[17] == b"5f@here"
    assert found[15] == MESSAGE.replace(b"c2VjcmV0IGtleQ", b"*" * 14)


def test_what_is_shown_of_messages() -> None:
    assert call_id_of(b"OPTIONS sip:a SIP/2.0\r\ni:  abc \r\n\r\n") == "abc"
    assert call_id_of(b"nonsense") == ""
    several = b"a=crypto:1 X inline:AAAA|2^20|1:4;inline:BBBB|2^20|1:4\r\n"
    assert b"AAAA" not in without_keys(several)
    assert b"BBBB" not in without_keys(several)
    assert len(without_keys(several)) == len(several)


def test_every_message_of_a_phone_goes_to_the_collector_and_calls_do_without_one() -> None:
    collector = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    collector.bind(("::1", 0))
    collector.setblocking(False)

    async def work() -> None:
        with closing(HepSender(f"[::1]:{collector.getsockname()[1]}")) as hep:
            async with Softphone(account("alice")) as alice, Softphone(account("bob")) as bob:
                alice.watch_messages(hep.sip)
                await alice.message(f"sip:bob@[::1]:{bob.port}", "hello")
                first, second = (chunks(collector.recv(65_536)) for _ in range(2))
                assert first[15].startswith(b"MESSAGE sip:bob@")
                assert second[15].startswith(b"SIP/2.0 200")
                assert first[17] == second[17] != b""
                assert int.from_bytes(second[8]) == alice.port
                collector.close()
                for _ in range(3):  # the kernel tells that nobody is there
                    await alice.message(f"sip:bob@[::1]:{bob.port}", "still there?")
                assert hep.lost

    simulate(work)


def test_a_collector_that_is_none() -> None:
    async def work() -> None:
        for wrong in ("[::1", "no host at all:9060", "::1:9060:x"):
            with pytest.raises(ConfigError, match="say HOST:PORT"):
                HepSender(wrong)

    asyncio.run(work())
