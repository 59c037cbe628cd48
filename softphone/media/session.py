"""One call's audio: sockets, RTP, RTCP, SRTP, codec and the clock of 20 ms, in an asyncio loop.

The shell around `Negotiation`, `Transmission`, `Reception`, `Reports` and `Player`: it moves bytes and keeps time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from softphone.media.audio import AudioSink, AudioSource, Drain, Feed
from softphone.media.codecs import CODECS, PACKET_TIME, Codec, Encoder
from softphone.media.drops import Drop, DropCounter
from softphone.media.jitter import GREATEST_DELAY, LEAST_DELAY, MediaPacket
from softphone.media.offer_answer import Agreed, Direction, LocalStream, Negotiation, SrtpMode
from softphone.media.playout import Player
from softphone.media.rtp import PacketLog, Reception, Reports, Transmission, is_rtcp, parse_rtp
from softphone.media.sockets import Address, UdpSockets, open_pair, received, stamp_arrivals
from softphone.media.srtp import MediaDropped, Protector, Random, Suite, Unprotector, offered_suites

logger = logging.getLogger(__name__)

_CATCH_UP = 10
"Packets that are sent late at once; after a longer standstill of the process they are left out."
_NTP_EPOCH = 2_208_988_800
"Seconds from 1900 to 1970."


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """How the audio of a call is to be."""

    codecs: tuple[Codec, ...] = CODECS
    "In the order of preference."
    srtp: SrtpMode = SrtpMode.OPTIONAL
    suites: tuple[Suite, ...] = field(default_factory=offered_suites)
    rtcp_mux: bool = True
    symmetric: bool = False
    "Send to where packets come from, whatever the description said. Never where SRTP is mandatory."
    ports: tuple[int, int] | None = None
    "The first and the last UDP port that may be used; None: any."
    least_delay: float = LEAST_DELAY
    greatest_delay: float = GREATEST_DELAY
    "Seconds between which the jitter buffer chooses its delay."
    log_packets: bool = False
    "Remember when every packet was sent and arrived; for measurements."
    random: Random = os.urandom


@dataclass(frozen=True, slots=True)
class MediaStatistics:
    """Counters of one call, both directions."""

    codec: str
    "Empty: nothing is agreed yet."
    srtp_suite: str
    "Empty: not encrypted."
    sent: int
    received: int
    lost: int
    "Packets that never arrived."
    late: int
    "Packets that arrived too late to be played."
    duplicates: int
    events: int
    "Packets of telephone-event."
    concealed_ms: float
    "Sound that had to be invented."
    shortened_ms: float
    stretched_ms: float
    jitter_ms: float
    "Of arrivals (RFC 3550 section 6.4.1)."
    delay_ms: float
    "The jitter buffer's wanted delay."
    round_trip_ms: float | None
    "From RTCP; None: not known yet."
    remote_lost: int
    "What the other side says it lost."
    drops: Mapping[Drop, int]
    arrivals: PacketLog | None
    "With `MediaSettings.log_packets`: every packet that arrived, once."
    departures: PacketLog | None


@dataclass(frozen=True, slots=True)
class PlaybackStarted:
    """The first frame of a source left; its packet has the marker bit."""

    source: AudioSource
    sequence: int
    "Extended sequence number."


@dataclass(frozen=True, slots=True)
class PlaybackEnded:
    """The last frame of a source left."""

    source: AudioSource
    sequence: int


@dataclass(frozen=True, slots=True)
class AudioFailed:
    """A source or a sink raised an error and was detached."""

    part: AudioSource | AudioSink
    error: Exception


@dataclass(frozen=True, slots=True)
class RemoteLeft:
    """The other side ended its stream (RTCP BYE)."""


MediaEvent = PlaybackStarted | PlaybackEnded | AudioFailed | RemoteLeft


class MediaSession:
    """The audio of one call. Methods are called in the event loop's thread."""

    def __init__(self, rtp: socket.socket, rtcp: socket.socket, host: str, settings: MediaSettings) -> None:
        self.settings = settings
        self.on_event: Callable[[MediaEvent], None] = lambda event: None
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
            ),
            settings.random,
        )
        self._stream: _Stream | None = None
        self._drops = DropCounter()
        self._source: AudioSource | None = None
        self._sink: AudioSink | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began = 0.0
        self._ticks = 0
        self._closed = False

    @classmethod
    async def open(cls, sockets: UdpSockets, host: str, settings: MediaSettings | None = None) -> MediaSession:
        """Allocate the ports. ``host`` is bound to and is the address in the descriptions. Raises `TransportError`."""
        settings = settings or MediaSettings()
        rtp, rtcp = await open_pair(sockets, host, settings.ports, settings.random)
        for sock in (rtp, rtcp):
            stamp_arrivals(sock)
        return cls(rtp, rtcp, host, settings)

    # -- agreement ----------------------------------------------------------------------------------------------------

    def offer(self, direction: Direction = Direction.SENDRECV) -> str:
        """A description to offer; again in a running call for a change."""
        return self._negotiation.offer(direction)

    def answer(self, offer: str, direction: Direction = Direction.SENDRECV) -> str:
        """The answer to an offer. Raises `SdpError`, `NotAcceptable`."""
        body = self._negotiation.answer(offer, direction)
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

    def _agreed(self) -> None:
        result = self._negotiation.result
        assert result is not None
        if self._stream is None:
            self._stream = _Stream(result, self.settings, self._drops)
        else:
            self._stream.change(result)
        self._attach()

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to send and receive. Raises `RuntimeError` before an agreement or after `close`."""
        if self._stream is None or self._closed:
            raise RuntimeError("a media session starts after offer and answer, and only once")
        if self._loop is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._rtp, self._readable, self._rtp)
        self._loop.add_reader(self._rtcp, self._readable, self._rtcp)
        # All calls of a process tick together: one wake-up serves them all.
        self._began = math.ceil(self._loop.time() / PACKET_TIME) * PACKET_TIME
        self._stream.reports.start(self._began)
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
            self._loop.remove_reader(self._rtp)
            self._loop.remove_reader(self._rtcp)
        self._rtp.close()
        self._rtcp.close()

    # -- sound --------------------------------------------------------------------------------------------------------

    def play(self, source: AudioSource | None) -> None:
        """Send this source from the next packet on; None: silence."""
        self._source = source
        self._attach()

    def record(self, sink: AudioSink | None) -> None:
        """Give the received sound to this sink; None: to nobody."""
        self._sink = sink
        self._attach()

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
            self._send(stream)
            self._play(stream, scheduled)
        if stream.reports.due is not None and now >= stream.reports.due:
            self._report(stream, now)
        self._timer = loop.call_at(self._began + self._ticks * PACKET_TIME, self._tick)

    def _send(self, stream: _Stream) -> None:
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
        if not agreed.direction.sends:
            stream.transmission.skip(codec.ticks)
            return
        # Silence is sent too: it keeps the way open and lets the other side count what is lost.
        payload = stream.encoder.encode(stream.silence if samples is None else samples)
        now = self._now()
        sequence = stream.transmission.sequence
        marker = stream.transmission.packets == 0 or (samples is not None and begins)
        packet = stream.transmission.next(agreed.payload_type, payload, codec.ticks, now, marker)
        self._transmit(stream, self._rtp, packet, stream.remote_rtp)
        if stream.departures is not None:
            stream.departures.add(now, sequence)
        if samples is not None and begins and feed is not None:
            self.on_event(PlaybackStarted(feed.source, sequence))

    def _source_failed(self, source: AudioSource, error: Exception) -> None:
        logger.error("the audio source %r failed and was detached: %s", source, error)
        self.play(None)
        self.on_event(AudioFailed(source, error))

    def _play(self, stream: _Stream, now: float) -> None:
        if not stream.agreed.direction.receives:
            return
        samples = stream.player.pull(now)
        if stream.drain is None:
            return
        try:
            stream.drain.write(samples)
        except Exception as exc:
            sink = stream.drain.sink
            logger.error("the audio sink %r failed and was detached: %s", sink, exc)
            self.record(None)
            self.on_event(AudioFailed(sink, exc))

    def _report(self, stream: _Stream, now: float, *, bye: bool = False) -> None:
        packet = stream.reports.make(now, stream.transmission, stream.reception, bye=bye)
        if stream.agreed.rtcp_mux:
            self._transmit(stream, self._rtp, packet, stream.remote_rtp, rtcp=True)
        else:
            self._transmit(stream, self._rtcp, packet, stream.remote_rtcp, rtcp=True)

    def _transmit(
        self, stream: _Stream, sock: socket.socket, packet: bytes, to: Address, *, rtcp: bool = False
    ) -> None:
        try:
            if stream.protector is not None:
                packet = stream.protector.rtcp(packet) if rtcp else stream.protector.rtp(packet)
            sock.sendto(packet, to)
        except MediaDropped as exc:
            self._drops[exc.drop] += 1
        except OSError:
            # No route in the middle of a handover, or a full queue: the next packet tries again.
            self._drops[Drop.SEND_FAILED] += 1

    def _now(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    # -- arrival ------------------------------------------------------------------------------------------------------

    def _readable(self, sock: socket.socket) -> None:
        stream = self._stream
        for data, sender, at in received(sock, self._now()):
            try:
                if stream is None:
                    raise MediaDropped(Drop.NOT_READY)
                if sock is self._rtcp or (stream.agreed.rtcp_mux and is_rtcp(data)):
                    left = stream.reports.left
                    stream.take_rtcp(data, sender, at)
                    if stream.reports.left and not left:
                        self.on_event(RemoteLeft())
                elif stream.take_rtp(data, sender, at):
                    self._attach()
            except MediaDropped as exc:
                self._drops[exc.drop] += 1

    # -- what is known ------------------------------------------------------------------------------------------------

    def statistics(self) -> MediaStatistics:
        """The counters as they are now."""
        stream = self._stream
        drops = MappingProxyType(dict(self._drops))
        if stream is None:
            return MediaStatistics("", "", 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, None, 0, drops, None, None)
        concealed, shortened, stretched = stream.adjusted()
        round_trip = stream.reports.round_trip
        return MediaStatistics(
            codec=stream.codec.name,
            srtp_suite=stream.agreed.suite,
            sent=stream.sent_before + stream.transmission.packets,
            received=stream.reception.received,
            lost=stream.reception.lost,
            late=self._drops[Drop.LATE],
            duplicates=stream.reception.duplicates,
            events=stream.events,
            concealed_ms=1000 * concealed,
            shortened_ms=1000 * shortened,
            stretched_ms=1000 * stretched,
            jitter_ms=1000 * stream.reception.jitter / stream.reception.clock_rate,
            delay_ms=1000 * stream.player.buffer.delay,
            round_trip_ms=None if round_trip is None else 1000 * round_trip,
            remote_lost=stream.reports.remote_lost,
            drops=drops,
            arrivals=stream.arrivals,
            departures=stream.departures,
        )


class _Stream:
    """All that exists once codec, keys and addresses are agreed on."""

    def __init__(self, agreed: Agreed, settings: MediaSettings, drops: DropCounter) -> None:
        self.agreed = agreed
        self.codec = agreed.codec
        self.feed: Feed | None = None
        self.feed_codec = agreed.codec
        self.feed_begins = False
        self.drain: Drain | None = None
        self.drain_rate = 0
        self.sent_before = 0
        self.events = 0
        self.arrivals = PacketLog.empty() if settings.log_packets else None
        self.departures = PacketLog.empty() if settings.log_packets else None
        self._settings = settings
        self._drops = drops
        self._adjusted_before = (0.0, 0.0, 0.0)
        self._protectors: dict[bytes, Protector] = {}
        self._unprotectors: dict[bytes, Unprotector] = {}
        cname = settings.random(12).hex()  # RFC 7022: a name that says nothing about the person
        self.reports = Reports(settings.random, cname, time.time() - time.monotonic() + _NTP_EPOCH)
        self.transmission = Transmission(settings.random, agreed.codec.clock_rate)
        self.reception = Reception(agreed.codec.clock_rate)
        self._use(agreed)
        self.encoder = Encoder(self.codec)
        self.silence = np.zeros(self.codec.frame, np.int16)
        self.player = self._player(self.codec)

    def change(self, agreed: Agreed) -> None:
        """A new agreement in a running call: what stays the same goes on undisturbed."""
        codec, self.codec = self.codec, agreed.codec
        self._use(agreed)
        if codec is not self.codec:
            self.encoder = Encoder(self.codec)
            self.silence = np.zeros(self.codec.frame, np.int16)
            if codec.clock_rate != self.codec.clock_rate:
                # One source has one clock rate (RFC 7160 section 4.1).
                self.sent_before += self.transmission.packets
                self.transmission = Transmission(self._settings.random, self.codec.clock_rate)

    def _use(self, agreed: Agreed) -> None:
        self.agreed = agreed
        self.remote_rtp: Address = (agreed.remote_address, agreed.remote_rtp_port)
        self.remote_rtcp: Address = (agreed.remote_address, agreed.remote_rtcp_port)
        self._latched: str | None = None
        self.protector: Protector | None = None
        self._unprotector: Unprotector | None = None
        # A key that is agreed on again keeps its session: its indices must never begin anew (RFC 3711 section 9.1).
        if agreed.send_key is not None:
            key = agreed.send_key
            self.protector = self._protectors.setdefault(key.key, Protector(key))
        if agreed.receive_key is not None:
            key = agreed.receive_key
            self._unprotector = self._unprotectors.setdefault(key.key, Unprotector(key))

    def _player(self, codec: Codec) -> Player:
        return Player(codec, self._drops, self._settings.least_delay, self._settings.greatest_delay)

    def _renew_player(self, codec: Codec) -> None:
        self._adjusted_before = self.adjusted()
        self.player = self._player(codec)

    def adjusted(self) -> tuple[float, float, float]:
        """Seconds of sound concealed, shortened and stretched."""
        counters, rate = self.player.counters, self.player.codec.sample_rate
        before = self._adjusted_before
        return (
            before[0] + counters.concealed / rate,
            before[1] + counters.shortened / rate,
            before[2] + counters.stretched / rate,
        )

    @property
    def _may_latch(self) -> bool:
        return self._settings.symmetric and self._settings.srtp is not SrtpMode.MANDATORY

    def _check_sender(self, sender: Address) -> None:
        """Without authentication only the negotiated (or latched) address may speak."""
        if self._unprotector is not None or (self._may_latch and self._latched is None):
            return
        host = sender[0].partition("%")[0]
        if host != (self._latched or self.agreed.remote_address):
            raise MediaDropped(Drop.UNKNOWN_SOURCE)

    def take_rtp(self, data: bytes, sender: Address, at: float) -> bool:
        """A packet on the RTP port; True: the player is another one now. Raises `MediaDropped`."""
        self._check_sender(sender)
        if self._unprotector is not None:
            data = self._unprotector.rtp(data)
        packet = parse_rtp(data)
        codec = self.agreed.receive.get(packet.payload_type)
        if codec is None and packet.payload_type not in self.agreed.events:
            raise MediaDropped(Drop.UNKNOWN_PAYLOAD)
        if codec is not None and codec.clock_rate != self.reception.clock_rate and self.reception.ssrc is None:
            self.reception = Reception(codec.clock_rate)
        known = self.reception.ssrc
        sequence, _ = self.reception.receive(packet, at)
        if self.arrivals is not None:
            self.arrivals.add(at, sequence)
        if self._may_latch and self._latched is None:
            self._latched = sender[0].partition("%")[0]
            self.remote_rtp = sender
        if codec is None:
            self.events += 1
            return False
        renewed = codec is not self.player.codec or (known is not None and known != packet.ssrc)
        if renewed:
            self._renew_player(codec)
        self.player.put(MediaPacket(sequence, packet.timestamp, packet.payload_type, packet.payload), at)
        return renewed

    def take_rtcp(self, data: bytes, sender: Address, at: float) -> None:
        """A packet of RTCP. Raises `MediaDropped`."""
        self._check_sender(sender)
        if self._unprotector is not None:
            data = self._unprotector.rtcp(data)
        self.reports.receive(data, at, self.transmission, self.reception)
