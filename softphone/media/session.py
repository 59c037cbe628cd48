"""One call's audio: sockets and the clock of 20 ms, in an asyncio loop.

The shell around `Negotiation`, `Stream` and `IceAgent`: it moves bytes and keeps time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections import deque
from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from softphone.media.audio import AudioSink, AudioSource, Drain, Feed
from softphone.media.codecs import PACKET_TIME, Samples
from softphone.media.drops import Drop, DropCounter
from softphone.media.dtls import DtlsAssociation, is_dtls
from softphone.media.dtmf import DURATION, DigitMethod, DigitReceived, parse_info
from softphone.media.events import (
    AudioFailed,
    MediaEvent,
    MediaFailed,
    PlaybackEnded,
    PlaybackStarted,
    RemoteLeft,
    Secured,
)
from softphone.media.ice import IceAgent
from softphone.media.ice_description import IceDescription
from softphone.media.ike_description import IkePeer
from softphone.media.levels import LevelMeter
from softphone.media.monitor import AudioRestored, MediaTimeout, OneWayAudio, Quality
from softphone.media.offer_answer import Agreed, Direction, LocalStream, Negotiation
from softphone.media.recorder import CallRecorder, RecordingEnded, succession
from softphone.media.rtp import Address, is_rtcp
from softphone.media.settings import MediaSettings, MediaStatistics
from softphone.media.sockets import UdpSockets, open_pair, received, stamp_arrivals
from softphone.media.srtp import MediaDropped
from softphone.media.stream import Stream

__all__ = [
    "AudioFailed",
    "AudioRestored",
    "DigitMethod",
    "DigitReceived",
    "MediaEvent",
    "MediaFailed",
    "MediaSession",
    "MediaSettings",
    "MediaStatistics",
    "MediaTimeout",
    "OneWayAudio",
    "PlaybackEnded",
    "PlaybackStarted",
    "RecordingEnded",
    "RemoteLeft",
    "Secured",
]

logger = logging.getLogger(__name__)

_NTP_EPOCH = 2_208_988_800
"Seconds from 1900 to 1970."
_CATCH_UP = 10
"Packets that are sent late at once; after a longer standstill of the process they are left out."
_EARLY = 4
"Datagrams of a handshake that may come before it can begin here."
_SECOND = round(1 / PACKET_TIME)
"Ticks between two looks at the whole."


PacketTrace = Callable[[bool, tuple[str, int], tuple[str, int], bytes], None]
"Whether it was sent, our address, theirs, the UDP payload."


class MediaSession:
    """The audio of one call. Methods are called in the event loop's thread."""

    def __init__(
        self,
        rtp: socket.socket,
        rtcp: socket.socket,
        host: str,
        settings: MediaSettings,
        ice: IceAgent | None = None,
        described: IceDescription | None = None,
    ) -> None:
        self.settings = settings
        self.on_event: Callable[[MediaEvent], None] = lambda event: None
        self.trace: PacketTrace | None = None
        "Told of every packet of RTP and RTCP as it is on the wire; not of those that go by ICE."
        self.muted = False
        "Silence is sent in place of what is played, which goes on all the same."
        self.meter: LevelMeter | None = None
        "Told how loud both sides are, while somebody wants to know."
        self._rtp, self._rtcp = rtp, rtcp
        self._negotiation = Negotiation(
            LocalStream(
                address=host,
                rtp_port=rtp.getsockname()[1],
                rtcp_port=rtcp.getsockname()[1],
                codecs=settings.codecs,
                srtp=settings.srtp,
                rtcp_mux=settings.rtcp_mux,
                suites=settings.suites,
                keying=settings.keying,
                offered_keying=settings.offered_keying,
                comfort_noise=settings.comfort_noise,
                opus_parameters=settings.opus_parameters,
                ice=described,
                ipsec=settings.ipsec,
                ike=settings.ike_of(host),
            ),
            settings.random,
        )
        self._ice = ice
        self._cleared: IkePeer | None = None
        "With whom IPsec is in force; None: packets go as they are."
        self._held_back = False
        "It was agreed on, but is not in force: nothing may go."
        self._early: deque[tuple[bytes, float]] = deque(maxlen=_EARLY)
        "Datagrams of DTLS from an other side that found the way (ICE) before us."
        self._offered_first = False
        self._stream: Stream | None = None
        self._drops = DropCounter()
        self._source: AudioSource | None = None
        self._sink: AudioSink | None = None
        self._recorder: CallRecorder | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began = 0.0
        self._ticks = 0
        self._closed = False
        self._failed = False

    @classmethod
    async def open(cls, sockets: UdpSockets, host: str, settings: MediaSettings | None = None) -> MediaSession:
        """Allocate the ports. ``host`` is bound to and is the address in the descriptions. Raises `TransportError`."""
        settings = settings or MediaSettings()
        rtp, rtcp = await open_pair(sockets, host, settings.ports, settings.random)
        for sock in (rtp, rtcp):
            stamp_arrivals(sock)
        if settings.ice is None:
            return cls(rtp, rtcp, host, settings)
        agent = IceAgent(rtp, settings.ice)
        try:
            described = await agent.gather()
        except BaseException:
            await agent.close()
            rtp.close()
            rtcp.close()
            raise
        return cls(rtp, rtcp, host, settings, agent, described)

    # -- agreement ----------------------------------------------------------------------------------------------------

    def offer(self, direction: Direction = Direction.SENDRECV) -> str:
        """A description to offer; again in a running call for a change: `Direction.SENDONLY` puts it on hold."""
        self._offered_first = self._offered_first or self._stream is None
        return self._negotiation.offer(direction)

    def answer(self, offer: str, direction: Direction = Direction.SENDRECV) -> str:
        """The answer to an offer. Raises `SdpError`, `NotAcceptable`."""
        body = self._negotiation.answer(offer, direction)
        if self._stream is None:
            self._offered_first = False
        self._agreed()
        return body

    def accept(self, answer: str) -> None:
        """Take the answer to our offer. Raises `SdpError`, `NotAcceptable`."""
        self._negotiation.accept(answer)
        self._agreed()

    def refuse(self, offer: str) -> str:
        """An answer to an offer of which nothing can be used. Raises `SdpError`."""
        return self._negotiation.refuse(offer)

    @property
    def remote_direction(self) -> Direction:
        """What the other side wants to do, as it said last; before that, both."""
        agreed = self._negotiation.result
        return Direction.SENDRECV if agreed is None else agreed.remote_direction

    @property
    def agreed(self) -> Agreed | None:
        """What was agreed; None: nothing yet."""
        return self._negotiation.result

    @property
    def ike(self) -> IkePeer | None:
        """With whom IPsec was agreed on for all packets of this call; they wait until `let_flow` is called for it."""
        return None if self.agreed is None else self.agreed.ike

    @property
    def offers_ike(self) -> bool:
        """Our descriptions have a section for IKE, where the other side has one."""
        return self._negotiation.offers_ike

    @property
    def ike_refusal(self) -> str:
        """Why the other side's section for IKE could not be used; empty: it could, or there was none."""
        return self._negotiation.ike_refusal

    def give_up_ike(self) -> None:
        """The descriptions that follow want no IPsec."""
        self._negotiation.give_up_ike()

    def let_flow(self, peer: IkePeer | None) -> None:
        """What was agreed on with this peer is in force now: nothing goes to it in clear. None: it may."""
        self._cleared = peer
        self._held_back = self.ike != peer
        self._way_found()

    def _agreed(self) -> None:
        result = self._negotiation.result
        assert result is not None
        self._held_back = result.ike != self._cleared
        now = asyncio.get_running_loop().time()
        if self._stream is None:
            self._stream = Stream(result, self.settings, self._drops, now, time.time() - time.monotonic() + _NTP_EPOCH)
        else:
            self._stream.change(result, now)
        self._attach()
        if self._loop is not None:
            self._begin_dtls(self._stream)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to send and receive. Raises `RuntimeError` before an agreement or after `close`."""
        stream = self._stream
        if stream is None or self._closed:
            raise RuntimeError("a media session starts after offer and answer, and only once")
        if self._loop is not None:
            return
        self._loop = asyncio.get_running_loop()
        if self._ice is not None and stream.agreed.ice is not None:
            self._ice.on_failure = self._fail
            self._ice.on_connected = self._way_found
            self._ice.connect(stream.agreed.ice, controlling=self._offered_first, on_data=self._by_ice)
        else:
            if self._ice is not None:
                # The other side does not use it: our own socket goes on without.
                agent, self._ice = self._ice, None
                await agent.close()
                if self._rtp.fileno() < 0:
                    return  # closed meanwhile
            self._loop.add_reader(self._rtp, self._readable, self._rtp)
        self._loop.add_reader(self._rtcp, self._readable, self._rtcp)
        # All calls of a process tick together: one wake-up serves them all.
        self._began = math.ceil(self._loop.time() / PACKET_TIME) * PACKET_TIME
        stream.reports.start(self._began)
        stream.monitor.resumed(self._began)
        self._begin_dtls(stream)
        self._timer = self._loop.call_at(self._began, self._tick)

    async def close(self) -> None:
        """Say BYE (RTCP) and free the ports. May be called at any time, also twice."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None and self._stream is not None:
            self._report(self._stream, self._loop.time(), bye=True)
            for rtcp, association in self._stream.associations.items():
                self._send_dtls(self._stream, association.close(), rtcp=rtcp)
            self._loop.remove_reader(self._rtp)
            self._loop.remove_reader(self._rtcp)
        if self._ice is not None:
            await self._ice.close()
        self._rtp.close()
        self._rtcp.close()
        if self._recorder is not None:
            over = await asyncio.to_thread(self._recorder.close)
            if over is not None:
                self.on_event(over)

    def _fail(self, why: str) -> None:
        if not self._failed and not self._closed:
            self._failed = True
            logger.warning("no audio: %s", why)
            self.on_event(MediaFailed(why))

    # -- sound --------------------------------------------------------------------------------------------------------

    def play(self, source: AudioSource | None) -> None:
        """Send this source from the next packet on; None: silence."""
        self._source = source
        self._attach()

    def record(self, sink: AudioSink | None) -> None:
        """Give the received sound to this sink; None: to nobody."""
        self._sink = sink
        self._attach()

    def record_call(self, recorder: CallRecorder | None) -> None:
        """Record both sides from now on; None: end it. `RecordingEnded` tells when the file is complete."""
        self._recorder = succession(self._recorder, recorder)

    def send_dtmf(self, digits: str, method: DigitMethod | None = None, duration: float = DURATION) -> DigitMethod:
        """Send digits of the keypad one after the other; how they go. ``method`` None: telephone events (RFC 4733)
        where the other side understands them, else tones. Raises `ValueError`; `RuntimeError` before an agreement."""
        if self._stream is None:
            raise RuntimeError("digits can be sent after offer and answer")
        return self._stream.send_digits(digits, method, duration)

    def take_info(self, content_type: str, body: str) -> None:
        """A SIP INFO request with a digit came: tell it like the others. Raises `ValueError`."""
        self.on_event(parse_info(content_type, body))

    def _attach(self) -> None:
        """Fit source and sink to the codec, which may be agreed on later and may change."""
        stream = self._stream
        if stream is None:
            return
        if self._source is None:
            stream.feed = None
        elif stream.feed is None or stream.feed.source is not self._source or stream.feed_codec is not stream.codec:
            stream.feed = Feed(self._source, stream.codec.sample_rate, stream.codec.frame)
            stream.feed_codec, stream.feed_begins = stream.codec, True
        rate = stream.player.codec.sample_rate
        if self._sink is None:
            stream.drain = None
        elif stream.drain is None or stream.drain.sink is not self._sink or stream.drain_rate != rate:
            stream.drain, stream.drain_rate = Drain(self._sink, rate), rate

    # -- the clock ----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Send and play what is due. The times are multiples of 20 ms from the start: no drift can add up."""
        loop, stream = self._loop, self._stream
        assert loop is not None
        assert stream is not None
        now = loop.time()
        due = int((now - self._began) / PACKET_TIME + 0.02) + 1
        if due - self._ticks > _CATCH_UP:
            stream.transmission.skip((due - 1 - self._ticks) * stream.codec.ticks)
            self._ticks = due - 1
        while self._ticks < due:
            scheduled = self._began + self._ticks * PACKET_TIME
            self._ticks += 1
            spoken = self._send(stream)
            heard = self._play(stream, scheduled)
            if self.meter is not None:
                self.meter.take(spoken, heard)
            if self._recorder is not None:
                self._record(self._recorder, stream, spoken, heard)
            if self._ticks % _SECOND == 0:
                self._look(stream, now)
        if stream.reports.due is not None and now >= stream.reports.due:
            self._report(stream, now)
        if stream.associations:
            self._handshake(stream, now)
        if not self._closed:
            self._timer = loop.call_at(self._began + self._ticks * PACKET_TIME, self._tick)

    def _send(self, stream: Stream) -> Samples | None:
        """Send the next 20 ms; what was said in them."""
        agreed, codec = stream.agreed, stream.codec
        samples, begins = None, stream.feed_begins
        feed = stream.feed
        if feed is not None:
            try:
                samples = feed.next()
            except Exception as exc:
                self._source_failed(feed.source, exc)
            else:
                stream.feed_begins = False
                if samples is None:
                    self._source = stream.feed = None
                    self.on_event(PlaybackEnded(feed.source, stream.transmission.sequence - 1))
                elif self.muted:
                    samples = stream.silence
        if not agreed.direction.sends or (agreed.encrypted and stream.protector is None) or not self._has_way:
            stream.transmission.skip(codec.ticks)
            return None
        now = self._now()
        sequence = stream.transmission.sequence
        packet = stream.packet(samples, now, begins=begins)
        if packet is not None:
            self._transmit(stream, packet)
            if stream.departures is not None:
                stream.departures.add(now, sequence)
        if samples is not None and begins and feed is not None:
            self.on_event(PlaybackStarted(feed.source, sequence))
        return samples

    def _source_failed(self, source: AudioSource, error: Exception) -> None:
        logger.error("the audio source %r failed and was detached: %s", source, error)
        self.play(None)
        self.on_event(AudioFailed(source, error))

    def _play(self, stream: Stream, now: float) -> Samples | None:
        """Play the next 20 ms; what was heard in them."""
        if not stream.agreed.direction.receives:
            return None
        samples, digits = stream.pull(now)
        for digit in digits:
            self.on_event(digit)
        if stream.drain is not None:
            try:
                stream.drain.write(samples)
            except Exception as exc:
                sink = stream.drain.sink
                logger.error("the audio sink %r failed and was detached: %s", sink, exc)
                self.record(None)
                self.on_event(AudioFailed(sink, exc))
        return samples

    def _record(self, recorder: CallRecorder, stream: Stream, spoken: Samples | None, heard: Samples | None) -> None:
        if recorder.ended is not None:
            self._recorder = None
            self.on_event(recorder.ended)
            return
        player = stream.player.codec
        recorder.write(
            stream.silence if spoken is None else spoken,
            stream.codec.sample_rate,
            np.zeros(player.frame, np.int16) if heard is None else heard,
            player.sample_rate,
        )

    def _look(self, stream: Stream, now: float) -> None:
        """Once a second: how good is it, and is everybody still there?"""
        direction = stream.agreed.direction
        if direction.receives:
            stream.measure(now)
        if self._has_way:
            for event in stream.monitor.check(now, receives=direction.receives, sends=direction.sends):
                self.on_event(event)

    def _report(self, stream: Stream, now: float, *, bye: bool = False) -> None:
        metrics = stream.metrics() if stream.agreed.reports else None
        packet = stream.reports.make(now, stream.transmission, stream.reception, metrics=metrics, bye=bye)
        if stream.reachable and not (stream.agreed.encrypted and stream.rtcp_protector is None):
            self._transmit(stream, packet, rtcp=True)

    # -- bytes --------------------------------------------------------------------------------------------------------

    @property
    def _has_way(self) -> bool:
        """ICE has found a pair, or is not used; and what IPsec has to protect it does protect."""
        return (self._ice is None or self._ice.connected) and not self._held_back

    def _transmit(self, stream: Stream, packet: bytes, *, rtcp: bool = False) -> None:
        try:
            protector = stream.rtcp_protector if rtcp else stream.protector
            if protector is not None:
                packet = protector.rtcp(packet) if rtcp else protector.rtp(packet)
        except MediaDropped as exc:
            self._drops[exc.drop] += 1
        else:
            self._dispatch(stream, packet, rtcp=rtcp)

    def _dispatch(self, stream: Stream, data: bytes, *, rtcp: bool) -> None:
        """Send bytes as they are."""
        if self._held_back:
            self._drops[Drop.SEND_FAILED] += 1
            return
        if self._ice is not None:
            if not self._ice.send(data):
                self._drops[Drop.SEND_FAILED] += 1
            return
        separate = rtcp and not stream.agreed.rtcp_mux
        sock, peer = (self._rtcp, stream.remote_rtcp) if separate else (self._rtp, stream.remote_rtp)
        if self.trace is not None:
            self.trace(True, sock.getsockname()[:2], peer, data)
        try:
            sock.sendto(data, peer)
        except OSError:
            # No route in the middle of a handover, or a full queue: the next packet tries again.
            self._drops[Drop.SEND_FAILED] += 1

    def _begin_dtls(self, stream: Stream) -> None:
        if stream.agreed.dtls is not None and self._has_way:
            stream.begin_dtls(self._negotiation.certificate, self._now())
            self._handshake(stream, self._now())

    def _handshake(self, stream: Stream, now: float) -> None:
        """Carry out what the DTLS associations want."""
        for rtcp, association in stream.associations.items():
            if association.timer is not None and now >= association.timer:
                association.handle_timer(now)
            self._send_dtls(stream, _taken(association), rtcp=rtcp)
            if association.failed and not rtcp:
                self._fail(association.failed)

    def _send_dtls(self, stream: Stream, datagrams: list[bytes], *, rtcp: bool) -> None:
        for datagram in datagrams:
            self._dispatch(stream, datagram, rtcp=rtcp)

    def _way_found(self) -> None:
        if self._stream is not None and self._loop is not None and self._has_way and not self._closed:
            self._stream.monitor.resumed(self._now())
            self._begin_dtls(self._stream)
            while self._early:
                data, at = self._early.popleft()
                self._take(data, ("", 0), at, rtcp=False)

    def _now(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    def _by_ice(self, data: bytes) -> None:
        if self._loop is not None and not self._closed:
            self._take(data, ("", 0), self._now(), rtcp=False)

    def _readable(self, sock: socket.socket) -> None:
        for data, sender, at in received(sock, self._now()):
            if self.trace is not None:
                self.trace(False, sock.getsockname()[:2], sender, data)
            self._take(data, sender, at, rtcp=sock is self._rtcp)

    def _take(self, data: bytes, sender: Address, at: float, *, rtcp: bool) -> None:
        stream = self._stream
        try:
            if stream is None:
                raise MediaDropped(Drop.NOT_READY)
            if is_dtls(data) and not self._has_way:
                self._early.append((data, at))
            elif is_dtls(data):
                if stream.take_dtls(data, sender, rtcp=rtcp, now=at):
                    self.on_event(Secured(stream.suite))
                self._handshake(stream, at)
            elif data and data[0] < 4:
                raise MediaDropped(Drop.STUN_UNEXPECTED)
            elif rtcp or (stream.agreed.rtcp_mux and is_rtcp(data)):
                left = stream.reports.left
                stream.take_rtcp(data, sender, at)
                if stream.reports.left and not left:
                    self.on_event(RemoteLeft())
            else:
                renewed, digits = stream.take_rtp(data, sender, at)
                if renewed:
                    self._attach()
                for digit in digits:
                    self.on_event(digit)
        except MediaDropped as exc:
            self._drops[exc.drop] += 1

    # -- what is known ------------------------------------------------------------------------------------------------

    def quality(self) -> list[Quality]:
        """The estimated quality of the received sound, second by second, an hour at most."""
        return list(self._stream.monitor.history) if self._stream is not None else []

    @property
    def latest_quality(self) -> Quality | None:
        """The last second of `quality`."""
        return self._stream.monitor.history[-1] if self._stream is not None and self._stream.monitor.history else None

    def statistics(self) -> MediaStatistics:
        """The counters as they are now."""
        if self._ice is not None:
            for drop, count in (
                (Drop.MALFORMED_STUN, self._ice.malformed),
                (Drop.UNKNOWN_SOURCE, self._ice.strangers),
            ):
                if count:
                    self._drops[drop] = count
        if self._stream is None:
            drops = MappingProxyType(dict(self._drops))
            return MediaStatistics("", "", 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, None, 0, drops, None, None)
        return self._stream.statistics("" if self._ice is None else self._ice.path)


def _taken(association: DtlsAssociation) -> list[bytes]:
    datagrams, association.outgoing = association.outgoing, []
    return datagrams
