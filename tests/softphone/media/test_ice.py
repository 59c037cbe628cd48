"""ICE: descriptions (RFC 8839), and two sessions that find each other on the loopback device."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roamphone_pytest.ports import free_port
from softphone.media.codecs import PCMU
from softphone.media.drops import Drop
from softphone.media.ice_description import GREATEST_CANDIDATES, IceDescription, IceSettings
from softphone.media.keying import Keying
from softphone.media.offer_answer import SrtpMode
from softphone.media.sdp import SessionDescription
from softphone.media.session import MediaEvent, MediaFailed, MediaSession, MediaSettings, RemoteLeft
from tests.softphone.media.support import Loopback
from tests.softphone.media.test_offer_answer import PEER, agree, an_offer, side
from tests.softphone.media.test_session import ended, pair, run, until

ICE = IceDescription("abcd", "x" * 22, ("1 1 udp 2130706431 2001:db8:6::1 4000 typ host",))
SETTINGS = MediaSettings(codecs=(PCMU,), ice=IceSettings())


def test_both_sides_say_how_they_can_be_reached() -> None:
    theirs = replace(ICE, fragment="efgh", candidates=(f"1 1 udp 2130706431 {PEER} 5000 typ host",))
    ours, remote = agree(side(ice=ICE), side(PEER, 5000, ice=theirs, seed=2))
    assert ours.ice == theirs
    assert remote.ice == ICE


def test_whoever_does_not_use_it_is_called_without() -> None:
    one, other = side(ice=ICE), side(PEER, 5000, seed=2)
    answer = other.answer(one.offer())
    assert "ice" not in answer
    one.accept(answer)
    assert one.result is not None
    assert one.result.ice is None
    # RTCP on a port of its own would need checks of its own.
    ours, _ = agree(side(ice=ICE), side(PEER, 5000, ice=ICE, rtcp_mux=False, seed=2))
    assert ours.ice is None


MEDIA = "m=audio 6000 RTP/AVP 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:" + "p" * 22 + "\r\n"
GOOD = f"a=candidate:1 1 UDP 1 {PEER} 6000 typ host\r\n"


@pytest.mark.parametrize(
    ("lines", "candidates"),
    [
        (GOOD, 1),
        (GOOD + f"a=candidate:1 2 UDP 1 {PEER} 6001 typ host\r\n", 1),
        (GOOD + "a=candidate:2 1 UDP 1 b6a1.local 6000 typ host\r\n", 1),
        (GOOD + "a=candidate:2 1 TCP 1 192.0.2.1 9 typ host tcptype active\r\n", 1),
        (GOOD + "a=candidate:2 1 UDP 1 192.0.2.1 70000 typ host\r\n", 1),
        (GOOD + "a=candidate:2 1 UDP 1 239.1.1.1 6000 typ host\r\n", 1),
        (GOOD + "a=candidate:\r\n", 1),
        (
            GOOD + "".join(f"a=candidate:2 1 UDP 1 192.0.2.1 {n} typ host\r\n" for n in range(1, 99)),
            GREATEST_CANDIDATES,
        ),
        ("", None),
        (f"a=candidate:1 1 UDP 1 {PEER} 6002 typ host\r\n", None),
    ],
)
def test_what_can_be_used_of_a_description(lines: str, candidates: int | None) -> None:
    remote = SessionDescription.parse(an_offer(MEDIA + lines))
    found = IceDescription.of(remote.media[0], remote)
    assert (None if found is None else len(found.candidates)) == candidates


@given(st.text(max_size=60), st.text(max_size=30))
def test_any_attribute_is_read_or_ignored(candidate: str, password: str) -> None:
    keep = {ord(c): None for c in "\r\n\0"}
    lines = f"a=candidate:{candidate.translate(keep)}\r\na=ice-pwd:{password.translate(keep)}\r\n"
    remote = SessionDescription.parse(an_offer("m=audio 6000 RTP/AVP 0\r\na=ice-ufrag:abcd\r\n" + lines))
    IceDescription.of(remote.media[0], remote)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="numeric IPv4 address"):
        IceSettings(stun=("stun.example.com", 3478))
    with pytest.raises(ValueError, match="udp or tcp"):
        IceSettings(turn_transport="sctp")
    assert "secret" not in repr(IceSettings(turn_password="secret"))


# -- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        ("127.0.0.1", SETTINGS),
        ("::1", SETTINGS),
        ("::1", replace(SETTINGS, srtp=SrtpMode.MANDATORY, offered_keying=(Keying.DTLS,))),
    ],
    ids=["IPv4", "IPv6", "with DTLS"],
)
def test_sound_flows_over_the_pair_that_was_found(host: str, settings: MediaSettings) -> None:
    async def work() -> None:
        caller, callee = await pair(settings, settings, host)
        events: list[MediaEvent] = []
        caller.on_event = events.append
        await callee.start()
        await caller.start()
        await until(lambda: callee.statistics().received > 10 and caller.statistics().received > 10, 8)
        assert "(host) -> " in caller.statistics().path
        assert callee.statistics().lost == 0
        await callee.close()
        await until(lambda: RemoteLeft() in events)
        await caller.close()

    run(work())


def test_the_way_that_was_found_counts_and_not_the_description() -> None:
    async def work() -> None:
        caller = await MediaSession.open(Loopback(), "127.0.0.1", SETTINGS)
        callee = await MediaSession.open(Loopback(), "127.0.0.1", SETTINGS)
        # Both call themselves something unreachable, as behind NATs; checks show the address behind it.
        offer, there = caller.offer(), "192.0.2.1"
        answer = callee.answer(offer.replace("127.0.0.1", there))
        caller.accept(answer)
        await callee.start()
        await caller.start()
        await until(lambda: callee.statistics().received > 5 and caller.statistics().received > 5, 8)
        assert "127.0.0.1" in callee.statistics().path.partition("->")[2]
        await ended(caller, callee)

    run(work())


def test_nobody_to_be_found_is_told() -> None:
    async def work() -> None:
        caller, callee = await pair(SETTINGS, SETTINGS, "127.0.0.1")
        events: list[MediaEvent] = []
        caller.on_event = events.append
        await callee.close()
        await caller.start()
        await asyncio.sleep(0.1)
        assert caller.statistics().sent == 0, "nothing is sent to where nobody said that he wants it (RFC 8445)"
        stream = caller._ice
        assert stream is not None
        stream.on_failure("the checks take too long")
        assert events == [MediaFailed("the checks take too long")]
        await caller.close()

    run(work())


def test_a_peer_without_ice_is_called_as_ever() -> None:
    async def work() -> None:
        caller, callee = await pair(SETTINGS, replace(SETTINGS, ice=None), "127.0.0.1")
        await callee.start()
        await caller.start()
        await until(lambda: callee.statistics().received > 5 and caller.statistics().received > 5)
        assert caller.statistics().path == ""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            assert caller.agreed is not None
            stranger.sendto(b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12), ("127.0.0.1", caller.agreed.remote_rtp_port))
            await until(lambda: callee.statistics().drops.get(Drop.STUN_UNEXPECTED, 0) == 1)
        await ended(caller, callee)

    run(work())


def test_strangers_are_not_heard_even_without_srtp() -> None:
    async def work() -> None:
        plain = replace(SETTINGS, srtp=SrtpMode.OFF)
        caller, callee = await pair(plain, plain, "127.0.0.1")
        await callee.start()
        await caller.start()
        await until(lambda: callee.statistics().received > 5, 8)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            assert caller.agreed is not None
            for n in range(5):
                packet = bytes([0x80, 0, 0, n]) + bytes(168)
                stranger.sendto(packet, ("127.0.0.1", caller.agreed.remote_rtp_port))
        await until(lambda: callee.statistics().drops.get(Drop.UNKNOWN_SOURCE, 0) == 5)
        before = callee.statistics()
        await until(lambda: callee.statistics().received > before.received + 5)
        assert Drop.UNEXPECTED_SSRC not in callee.statistics().drops
        await ended(caller, callee)

    run(work())


def test_stun_nonsense_does_not_stop_a_running_call() -> None:
    async def work() -> None:
        caller, callee = await pair(SETTINGS, SETTINGS, "127.0.0.1")
        await callee.start()
        await caller.start()
        await until(lambda: callee.statistics().received > 5, 8)
        dice = Random(7)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            assert caller.agreed is not None
            to = ("127.0.0.1", caller.agreed.remote_rtp_port)
            for n in range(200):
                body = dice.randbytes(dice.randrange(0, 60))
                kind = dice.choice((1, 0x101, 0x111, 0x11, dice.randrange(0x400)))
                header = kind.to_bytes(2) + (len(body) if n % 2 else n).to_bytes(2) + b"\x21\x12\xa4\x42"
                stranger.sendto(header + dice.randbytes(12) + body, to)
                stranger.sendto(dice.randbytes(dice.randrange(0, 80)), to)
            # An attribute that says it has no octets, where aioice reads four.
            stranger.sendto(b"\0\1\0\4\x21\x12\xa4\x42" + bytes(12) + b"\0\x24\0\0", to)
        await until(lambda: callee.statistics().drops.get(Drop.MALFORMED_STUN, 0) > 0)
        before = callee.statistics().received
        await until(lambda: callee.statistics().received > before + 10)
        await ended(caller, callee)

    run(work())


# -- a real server ----------------------------------------------------------------------------------------------------


@pytest.fixture
def coturn(tmp_path: Path) -> Iterator[int]:
    """Debian's STUN and TURN server on a port of the loopback device."""
    port = free_port()
    command = [
        "turnserver", "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={port}",
        "--min-port=43000", "--max-port=43100", "--lt-cred-mech", "--user=phone:secret", "--realm=example.com",
        "--allow-loopback-peers", "--no-cli", "--no-tls", "--no-dtls", "--simple-log", "--log-file=stdout",
        f"--pidfile={tmp_path}/pid", f"--userdb={tmp_path}/db", "--cli-password=x",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path) as server:
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.settimeout(0.1)
                for _ in range(100):
                    asking.sendto(b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12), ("127.0.0.1", port))
                    try:
                        asking.recv(500)
                        break
                    except (TimeoutError, ConnectionError):
                        time.sleep(0.05)
                else:
                    raise AssertionError("coturn did not start")
            yield port
        finally:
            server.terminate()


@pytest.mark.interop
def test_a_relay_carries_the_call_where_nothing_else_does(coturn: int) -> None:
    async def work() -> None:
        relayed = IceSettings(
            stun=("127.0.0.1", coturn), turn=("127.0.0.1", coturn), turn_user="phone", turn_password="secret"
        )
        caller = await MediaSession.open(Loopback(), "127.0.0.1", replace(SETTINGS, ice=relayed))
        callee = await MediaSession.open(Loopback(), "127.0.0.1", SETTINGS)
        offer = caller.offer()
        relay = next(line for line in offer.splitlines() if "typ relay" in line).split()
        host = next(line for line in offer.splitlines() if "typ host" in line)
        # The callee learns of the relay only.
        offer = offer.replace(host + "\r\n", "").replace(f"m=audio {host.split()[5]} ", f"m=audio {relay[5]} ")
        answer = callee.answer(offer)
        # And the caller's own socket cannot reach the callee: what comes from it says so by the chosen pair.
        caller.accept(answer)
        assert caller._ice is not None
        direct = caller._ice._connection._protocols.pop(0)
        await callee.start()
        await caller.start()
        await until(lambda: callee.statistics().received > 10 and caller.statistics().received > 10, 10)
        assert "(relay) ->" in caller.statistics().path
        assert callee.statistics().path.endswith("(relay)")
        await direct.close()
        await ended(caller, callee)

    run(work())
