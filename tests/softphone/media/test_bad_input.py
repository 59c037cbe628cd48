"""Malformed input in the middle of a call: it is counted by name, and the call goes on."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softphone.media.codecs import KNOWN, OPUS, PCMU, Codec
from softphone.media.drops import DropCounter
from softphone.media.keying import Keying
from softphone.media.offer_answer import NotAcceptable, SrtpMode
from softphone.media.sdp import SdpError
from softphone.media.session import MediaSession, MediaSettings
from softphone.media.srtp import MediaDropped
from softphone.media.stream import Stream
from tests.softphone.media.support import Loopback, seeded
from tests.softphone.media.test_offer_answer import CRYPTO, PEER, agree, side
from tests.softphone.media.test_session import ended, pair, run, until

WORDS = st.sampled_from(
    """m=audio a=rtpmap:96 opus/48000/2 a=fmtp:96 a=crypto:1 a=fingerprint:sha-256 a=setup:actpass a=candidate:1
    a=rtcp:9 a=ptime:20 RTP/AVP RTP/SAVP UDP/TLS/RTP/SAVP 0 8 13 96 101 telephone-event/8000 a=sendonly
    c=IN IP4 0.0.0.0 b=AS:1
    a=ice-ufrag:abcd a=rtcp-xr:voip-metrics a=rtcp-mux inline: \xff 99999999999999999999 -1 :: a= m= c=""".split()
)


@given(st.data())
def test_damaged_descriptions_leave_the_agreement_as_it_is(data: st.DataObject) -> None:
    """Of a real offer lines vanish, come twice, change places, and get words that belong elsewhere."""
    one, other = (side(a, offered_keying=tuple(Keying), seed=n) for n, a in ((1, "2001:db8:6::1"), (2, PEER)))
    agree(one, other)
    lines = one.offer().split("\r\n")
    for _ in range(data.draw(st.integers(1, 6))):
        n = data.draw(st.integers(0, len(lines) - 1))
        match data.draw(st.integers(0, 4)):
            case 0:
                del lines[n]
                lines = lines or [""]
            case 1:
                lines.insert(n, lines[data.draw(st.integers(0, len(lines) - 1))])
            case 2:
                words = lines[n].split(" ")
                words[data.draw(st.integers(0, len(words) - 1))] = data.draw(WORDS)
                lines[n] = " ".join(words)
            case 3:
                lines[n] = lines[n][: data.draw(st.integers(0, len(lines[n])))]
            case _:
                lines.insert(n, data.draw(WORDS) + data.draw(st.text(max_size=10)))
    before = other.result
    try:
        other.answer("\r\n".join(lines))
    except (SdpError, NotAcceptable):
        assert other.result is before
    with suppress(SdpError, NotAcceptable):
        one.accept("\r\n".join(lines))


@pytest.mark.parametrize("codec", KNOWN, ids=str)
@settings(max_examples=60)
@given(data=st.data())
def test_any_packets_leave_the_stream_playing(codec: Codec, data: st.DataObject) -> None:
    ours, _ = agree(side(codecs=(codec,), srtp=SrtpMode.OFF), side(PEER, codecs=(codec,), srtp=SrtpMode.OFF, seed=2))
    drops = DropCounter()
    stream = Stream(ours, MediaSettings(codecs=(codec,), srtp=SrtpMode.OFF, random=seeded(3)), drops, 0.0, 0.0)
    types = [*ours.receive, *ours.events, 13, 127]
    now = 0.0
    for _ in range(data.draw(st.integers(1, 12))):
        header = bytes([0x80, data.draw(st.sampled_from(types)) | data.draw(st.sampled_from((0, 128)))])
        header += data.draw(st.integers(0, 65_535)).to_bytes(2) + data.draw(st.integers(0, 2**32 - 1)).to_bytes(4)
        header += data.draw(st.sampled_from((1, 2))).to_bytes(4)
        packet = header + data.draw(st.binary(max_size=200))
        with suppress(MediaDropped):
            stream.take_rtp(packet, (PEER, 1), now)
        with suppress(MediaDropped):
            stream.take_rtcp(
                b"\x81" + data.draw(st.sampled_from((b"\xc8", b"\xc9"))) + data.draw(st.binary()), (PEER, 1), now
            )
        now += 0.02
        samples, _ = stream.pull(now)
        assert len(samples) == stream.player.codec.frame
    stream.measure(now)
    assert stream.packet(None, now, begins=False) is not None
    if (metrics := stream.metrics()) is not None:
        assert len(bytes(metrics)) == 36


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_running_call_survives_a_storm_of_nonsense(encrypted: bool) -> None:
    async def work() -> None:
        mode = SrtpMode.MANDATORY if encrypted else SrtpMode.OFF
        session_settings = MediaSettings(codecs=(OPUS, PCMU), srtp=mode)
        caller, callee = await pair(session_settings, session_settings)
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        await caller.start()
        await callee.start()
        await until(lambda: callee.statistics().received > 5)
        dice = Random(9)
        agreed = caller.agreed
        assert agreed is not None
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as stranger:
            for n in range(600):
                first = dice.choice((0x80, 0x90, 0xA0, 0xBF, 20, 22, 63, 0, 1, dice.randrange(256)))
                second = dice.choice((0, 96, 101, 13, 200, 201, 207, dice.randrange(256)))
                data = bytes([first, second]) + dice.randbytes(dice.choice((0, 1, 6, 10, 14, 60, 180, 1400)))
                stranger.sendto(data, ("::1", agreed.remote_rtp_port))
                if n % 50 == 49:
                    await asyncio.sleep(0.01)
        for body in ("", "v=0", "v=0\r\no=- 1 1 IN IP6 ::1\r\ns=-\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n" + CRYPTO):
            with pytest.raises((SdpError, NotAcceptable)):
                callee.answer(body)
        before = callee.statistics()
        await until(lambda: callee.statistics().received > before.received + 15)
        after = callee.statistics()
        if encrypted:
            # Without SRTP the stranger, who has the right address here, may be taken for a new source.
            assert after.lost == 0
        assert sum(after.drops.values()) > 100
        assert not failures
        await ended(caller, callee)

    run(work())


def test_input_before_there_is_an_agreement() -> None:
    async def work() -> None:
        session = await MediaSession.open(Loopback(), "::1", MediaSettings(codecs=(PCMU,)))
        with pytest.raises(SdpError):
            session.accept("v=0\r\n")
        with pytest.raises(RuntimeError):
            session.send_dtmf("1")
        with pytest.raises(ValueError, match="carries no digit"):
            session.take_info("text/plain", "hello")
        assert session.quality() == []
        await session.close()

    run(work())
