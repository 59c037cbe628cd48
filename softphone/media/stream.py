"""What of one call's audio exists once codec, keys and addresses are agreed on. Sans-IO; `session` moves its bytes."""

from __future__ import annotations

from ipaddress import ip_address
from types import MappingProxyType

import numpy as np

from softphone.media.adaptation import RateControl
from softphone.media.audio import Drain, Feed
from softphone.media.codecs import G722, OPUS, PCMA, PCMU, Codec, Encoder, Samples
from softphone.media.comfort_noise import PAYLOAD_TYPE as NOISE_PAYLOAD_TYPE
from softphone.media.comfort_noise import SilenceDetector
from softphone.media.drops import Drop, DropCounter
from softphone.media.dtls import Certificate, DtlsAssociation
from softphone.media.dtmf import DigitMethod, DigitReceived, DigitReceiver, DigitSender
from softphone.media.emodel import burst_ratio, mos_of, mouth_to_ear, r_factor
from softphone.media.jitter import MediaPacket
from softphone.media.keying import SrtpMode
from softphone.media.monitor import Monitor
from softphone.media.offer_answer import Agreed
from softphone.media.opus import DTX_LENGTH, GREATEST_BIT_RATE, OpusSettings
from softphone.media.opus import RATE as OPUS_RATE
from softphone.media.playout import Player
from softphone.media.rtp import Address, PacketLog, PeerReport, Reception, Reports, Transmission, parse_rtp
from softphone.media.settings import MediaSettings, MediaStatistics
from softphone.media.srtp import MediaDropped, Protector, Unprotector
from softphone.media.tones import ToneDetector, ToneSender
from softphone.media.voip_metrics import VoipMetrics

_WITH_NOISE = (PCMU, PCMA, G722)
"Codecs whose silence is replaced by comfort noise; Opus has a way of its own."


class Stream:
    """One stream to and from the other side."""

    def __init__(
        self, agreed: Agreed, settings: MediaSettings, drops: DropCounter, now: float, ntp_offset: float
    ) -> None:
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
        self.digits = DigitSender()
        self.tones: ToneSender | None = None
        self.detector: ToneDetector | None = None
        self.associations: dict[bool, DtlsAssociation] = {}
        "DTLS: False for RTP (and RTCP with it), True for RTCP on a port of its own."
        self._received_digits = DigitReceiver()
        self._settings = settings
        self._drops = drops
        self._adjusted_before = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._protectors: dict[bytes, Protector] = {}
        self._unprotectors: dict[bytes, Unprotector] = {}
        cname = settings.random(12).hex()  # RFC 7022: a name that says nothing about the person
        self.reports = Reports(settings.random, cname, ntp_offset)
        self.transmission = Transmission(settings.random, agreed.codec.clock_rate)
        self.reception = Reception(agreed.codec.clock_rate)
        self.monitor = Monitor(agreed.codec.name, now, settings.timeout)
        self._use(agreed)
        self._encode_with(agreed)
        self.player = self._player(self.codec)

    # -- agreement ----------------------------------------------------------------------------------------------------

    def change(self, agreed: Agreed, now: float) -> None:
        """A new agreement in a running call: what stays the same goes on undisturbed."""
        codec, self.codec = self.codec, agreed.codec
        resumed = agreed.direction.receives and not self.agreed.direction.receives
        same_wishes = agreed.parameters == self.agreed.parameters and agreed.noise == self.agreed.noise
        self._use(agreed)
        self.monitor.codec = self.codec.name
        self.monitor.resumed(now)
        if resumed:
            # What waited in the jitter buffer when the call was put on hold is of the past.
            self.renew_player(self.player.codec)
        if codec is not self.codec or not same_wishes:
            self._encode_with(agreed)
        if codec.clock_rate != self.codec.clock_rate:
            # One source has one clock rate (RFC 7160 section 4.1).
            self.sent_before += self.transmission.packets
            self.transmission = Transmission(self._settings.random, self.codec.clock_rate)

    def _encode_with(self, agreed: Agreed) -> None:
        settings = self._opus_settings(agreed)
        self.encoder = Encoder(self.codec, settings)
        self.control = RateControl(settings.greatest_bit_rate)
        self.silence = np.zeros(self.codec.frame, np.int16)
        self.tones = None
        wanted = self._settings.dtx and agreed.noise and self.codec in _WITH_NOISE
        self._silence = SilenceDetector() if wanted else None
        self._rested = False

    def _opus_settings(self, agreed: Agreed) -> OpusSettings:
        def number(name: str, otherwise: int) -> int:
            text = agreed.parameters.get(name, "")
            return int(text) if text.isascii() and text.isdigit() and len(text) <= 7 else otherwise

        greatest = number("maxaveragebitrate", GREATEST_BIT_RATE)
        if self._settings.greatest_bit_rate is not None:
            greatest = min(greatest, self._settings.greatest_bit_rate)
        return OpusSettings(
            fec=agreed.parameters.get("useinbandfec") == "1",
            dtx=self._settings.dtx and agreed.parameters.get("usedtx") == "1",
            constant=agreed.parameters.get("cbr") == "1",
            rate=number("maxplaybackrate", OPUS_RATE),
            greatest_bit_rate=min(GREATEST_BIT_RATE, greatest),
        )

    def _use(self, agreed: Agreed) -> None:
        before, self.agreed = self.agreed.dtls, agreed
        self.remote_rtp: Address = (agreed.remote_address, agreed.remote_rtp_port)
        self.remote_rtcp: Address = (agreed.remote_address, agreed.remote_rtcp_port)
        self._latched: str | None = None
        detect = self._settings.detect_tones
        self._detects = not agreed.events if detect is None else detect
        if agreed.dtls is not None:
            if before is None or before != agreed.dtls:
                self.associations.clear()
            self._use_associations()
            return
        self.associations.clear()
        self.protector: Protector | None = None
        self._unprotector: Unprotector | None = None
        # A key that is agreed on again keeps its session: its indices must never begin anew (RFC 3711 section 9.1).
        if agreed.send_key is not None:
            key = agreed.send_key
            self.protector = self._protectors.setdefault(key.key, Protector(key))
        if agreed.receive_key is not None:
            key = agreed.receive_key
            self._unprotector = self._unprotectors.setdefault(key.key, Unprotector(key))
        self.rtcp_protector, self._rtcp_unprotector = self.protector, self._unprotector

    # -- DTLS ---------------------------------------------------------------------------------------------------------

    def begin_dtls(self, certificate: Certificate, now: float) -> None:
        """Open the associations that are agreed on and not open yet."""
        peer = self.agreed.dtls
        if peer is None:
            return
        for rtcp in (False,) if self.agreed.rtcp_mux else (False, True):
            if rtcp not in self.associations:
                self.associations[rtcp] = DtlsAssociation(certificate, peer, now)

    def take_dtls(self, data: bytes, sender: Address, *, rtcp: bool, now: float) -> bool:
        """A datagram of a handshake; True: with it, sound can flow. Raises `MediaDropped`."""
        association = self.associations.get(rtcp)
        host = sender[0].partition("%")[0]
        if association is None or (host != self.agreed.remote_address and not self._may_latch and not self.agreed.ice):
            raise MediaDropped(Drop.DTLS_FAILED)
        before = association.keys
        association.receive(data, now)
        if association.keys is None or before is not None:
            return False
        self._use_associations()
        return not rtcp

    def _use_associations(self) -> None:
        protectors: list[Protector | None] = []
        unprotectors: list[Unprotector | None] = []
        for rtcp in (False, not self.agreed.rtcp_mux):
            association = self.associations.get(rtcp)
            keys = association.keys if association is not None else None
            if keys is None:
                protectors.append(None)
                unprotectors.append(None)
                continue
            send, receive = keys.send, keys.receive
            protectors.append(self._protectors.setdefault(send.key, Protector(send)))
            unprotectors.append(self._unprotectors.setdefault(receive.key, Unprotector(receive)))
        self.protector, self.rtcp_protector = protectors
        self._unprotector, self._rtcp_unprotector = unprotectors

    @property
    def suite(self) -> str:
        """The SRTP suite in use; empty: not encrypted, or no keys yet."""
        return self.protector.line.suite.name if self.protector is not None else ""

    # -- receiving ----------------------------------------------------------------------------------------------------

    def _player(self, codec: Codec) -> Player:
        if self._detects:
            self.detector = ToneDetector(codec.sample_rate)
        return Player(codec, self._drops, self._settings.least_delay, self._settings.greatest_delay)

    def renew_player(self, codec: Codec) -> None:
        self._adjusted_before = self.adjusted()
        self.player = self._player(codec)

    def adjusted(self) -> tuple[float, float, float, float, float]:
        """Seconds of sound concealed, shortened, stretched, recovered, and of comfort noise."""
        counters, rate = self.player.counters, self.player.codec.sample_rate
        now = (counters.concealed, counters.shortened, counters.stretched, counters.recovered, counters.noise)
        one, two, three, four, five = (b + n / rate for b, n in zip(self._adjusted_before, now, strict=True))
        return one, two, three, four, five

    @property
    def _may_latch(self) -> bool:
        """Whoever speaks first may be followed without authentication."""
        return self._settings.symmetric and self._settings.srtp is not SrtpMode.MANDATORY

    def _check_sender(self, sender: Address) -> None:
        """Without authentication only the negotiated (or latched) address may speak."""
        if self.agreed.encrypted:
            if self._unprotector is None:
                raise MediaDropped(Drop.NOT_READY)
            return
        if self.agreed.ice is not None or (self._may_latch and self._latched is None):
            return
        host = sender[0].partition("%")[0]
        if host != (self._latched or self.agreed.remote_address):
            raise MediaDropped(Drop.UNKNOWN_SOURCE)

    def take_rtp(self, data: bytes, sender: Address, at: float) -> tuple[bool, list[DigitReceived]]:
        """A packet on the RTP port: whether the player is another one now, and digits. Raises `MediaDropped`."""
        self._check_sender(sender)
        if self._unprotector is not None:
            data = self._unprotector.rtp(data)
        packet = parse_rtp(data)
        agreed = self.agreed
        codec = agreed.receive.get(packet.payload_type)
        event_rate = agreed.events.get(packet.payload_type)
        noise = codec is None and agreed.noise and packet.payload_type == NOISE_PAYLOAD_TYPE
        if codec is None and event_rate is None and not noise:
            raise MediaDropped(Drop.UNKNOWN_PAYLOAD)
        if codec is not None and codec.clock_rate != self.reception.clock_rate and self.reception.ssrc is None:
            self.reception = Reception(codec.clock_rate)
        known, highest = self.reception.ssrc, self.reception.highest
        sequence, began = self.reception.receive(packet, at, timed=event_rate is None)
        self.monitor.heard(at, sound=True)
        if self.arrivals is not None:
            self.arrivals.add(at, sequence)
        if began:
            # Its timestamps may be anywhere: what is known of the digits before says nothing about them.
            self._received_digits = DigitReceiver()
        if began or sequence > highest:
            self._follow(sender)
        if event_rate is not None:
            self.events += 1
            self.player.keys(at)
            return False, self._received_digits.receive(packet.payload, packet.timestamp, event_rate, at)
        if not agreed.direction.receives:
            raise MediaDropped(Drop.ON_HOLD)
        renewed = (codec is not None and codec is not self.player.codec) or (known is not None and known != packet.ssrc)
        if renewed:
            self.renew_player(codec or self.player.codec)
        media = MediaPacket(sequence, packet.timestamp, packet.payload_type, packet.payload, noise)
        self.player.put(media, at)
        return renewed, []

    def _follow(self, sender: Address) -> None:
        """Send to where the newest packet came from: if it is authenticated, or if the first one counts."""
        if self.agreed.ice is not None or sender == self.remote_rtp:
            return
        if self._unprotector is not None:
            self.remote_rtp = sender
        elif self._may_latch and self._latched is None:
            self._latched = sender[0].partition("%")[0]
            self.remote_rtp = sender

    def take_rtcp(self, data: bytes, sender: Address, at: float) -> PeerReport | None:
        """A packet of RTCP: what it says of our stream. Raises `MediaDropped`."""
        self._check_sender(sender)
        if self.agreed.encrypted:
            if self._rtcp_unprotector is None:
                raise MediaDropped(Drop.NOT_READY)
            data = self._rtcp_unprotector.rtcp(data)
        report = self.reports.receive(data, at, self.transmission, self.reception)
        self.monitor.heard(at, sound=False)
        if self._rtcp_unprotector is not None and self.agreed.ice is None:
            self.remote_rtcp = sender
        if report is not None:
            self.monitor.reported(report, self.transmission.packets, at)
            opus = self.encoder.opus
            if opus is not None and report.highest is not None:
                self.control.reported(report.fraction_lost)
                opus.adapt(self.control.bit_rate, self.control.expected_loss)
        return report

    def pull(self, now: float) -> tuple[Samples, list[DigitReceived]]:
        """The next 20 ms to be heard, and digits that were found in them or ended by silence."""
        samples = self.player.pull(now)
        digits = self._received_digits.silent_since(now, self.codec.clock_rate)
        if self._detects and self.detector is not None:
            digits += self.detector.hear(samples)
        return samples, digits

    # -- sending ------------------------------------------------------------------------------------------------------

    def send_digits(self, digits: str, method: DigitMethod | None, duration: float) -> DigitMethod:
        """Queue digits; how they go. Raises `ValueError`."""
        method = method or (DigitMethod.TONE if self.agreed.send_events is None else DigitMethod.EVENT)
        match method:
            case DigitMethod.EVENT:
                if self.agreed.send_events is None:
                    raise ValueError("the other side does not understand telephone events; send tones or INFO")
                self.digits.add(digits, duration)
            case DigitMethod.TONE:
                self.tones = self.tones or ToneSender(self.codec.sample_rate)
                self.tones.add(digits, duration)
            case DigitMethod.INFO:
                raise ValueError("INFO requests are sent by the call, not by the media session")
        return method

    def packet(self, samples: Samples | None, now: float, *, begins: bool) -> bytes | None:
        """The packet of this 20 ms; None: nothing is sent. ``samples`` None: nobody speaks."""
        ticks, transmission = self.codec.ticks, self.transmission
        event = self.digits.next(ticks) if self.agreed.send_events is not None else None
        if event is not None and self.agreed.send_events is not None:
            payload_type = self.agreed.send_events
            return transmission.next(payload_type, event.payload, ticks, now, event.first, event.age * ticks)
        tone = self.tones.next() if self.tones is not None else None
        sound = tone if tone is not None else self.silence if samples is None else samples
        marker = transmission.packets == 0 or (samples is not None and begins)
        if self._silence is not None:
            noise = self._silence.judge(sound)
            if noise is not None:
                self._rested = True
                if not noise:
                    transmission.skip(ticks)
                    return None
                return transmission.next(NOISE_PAYLOAD_TYPE, noise, ticks, now)
        # Silence is sent too: it keeps the way open and lets the other side count what is lost.
        payload = self.encoder.encode(sound)
        if self.codec is OPUS and len(payload) <= DTX_LENGTH:
            if self._rested:
                transmission.skip(ticks)
                return None
            # The first of them tells the other side that what does not come is not lost.
            self._rested = True
            return transmission.next(self.agreed.payload_type, payload, ticks, now)
        marker, self._rested = marker or self._rested, False
        return transmission.next(self.agreed.payload_type, payload, ticks, now, marker)

    # -- what is known ------------------------------------------------------------------------------------------------

    def measure(self, now: float) -> None:
        """Once a second."""
        self.monitor.measure(now, self.player.bursts, self._jitter, self.player.buffer.delay, self.reports.round_trip)

    @property
    def _jitter(self) -> float:
        return self.reception.jitter / self.reception.clock_rate

    def metrics(self) -> VoipMetrics | None:
        """What we tell the other side of its sound (RFC 3611 section 4.7); None: there was none."""
        reception, bursts, buffer = self.reception, self.player.bursts, self.player.buffer
        if reception.ssrc is None or not bursts.packets:
            return None
        expected = max(1, reception.received + reception.lost)
        missing = bursts.missing / bursts.packets
        ratio = burst_ratio(bursts.missing, bursts.runs, bursts.packets)
        delay = mouth_to_ear(self.reports.round_trip, buffer.delay)
        conversational = r_factor(self.codec.name, missing, ratio, delay)
        burst_density, gap_density = bursts.densities()
        burst, gap = bursts.lengths()
        packet_ms = 20
        return VoipMetrics(
            ssrc=reception.ssrc,
            loss_rate=reception.lost / expected,
            discard_rate=self._drops[Drop.LATE] / expected,
            burst_density=burst_density,
            gap_density=gap_density,
            burst_ms=round(burst * packet_ms),
            gap_ms=round(gap * packet_ms),
            round_trip_ms=round(1000 * (self.reports.round_trip or 0.0)),
            end_system_ms=round(1000 * buffer.delay) + packet_ms,
            r_factor=round(conversational),
            mos_lq=mos_of(r_factor(self.codec.name, missing, ratio, 0.0)),
            mos_cq=mos_of(conversational),
            jitter_buffer_ms=round(1000 * buffer.delay),
            jitter_buffer_greatest_ms=round(1000 * self._settings.greatest_delay),
        )

    def statistics(self, path: str) -> MediaStatistics:
        """The counters as they are now; ``path``: the pair of addresses that ICE chose."""
        concealed, shortened, stretched, recovered, noise = self.adjusted()
        round_trip, remote, opus = self.reports.round_trip, self.reports.metrics, self.encoder.opus
        opinions = [quality.mos for quality in self.monitor.history]
        return MediaStatistics(
            codec=self.codec.name,
            srtp_suite=self.suite,
            sent=self.sent_before + self.transmission.packets,
            received=self.reception.received,
            lost=self.reception.lost,
            late=self._drops[Drop.LATE],
            duplicates=self.reception.duplicates,
            events=self.events,
            concealed_ms=1000 * concealed,
            shortened_ms=1000 * shortened,
            stretched_ms=1000 * stretched,
            jitter_ms=1000 * self._jitter,
            delay_ms=1000 * self.player.buffer.delay,
            round_trip_ms=None if round_trip is None else 1000 * round_trip,
            remote_lost=self.reports.remote_lost,
            drops=MappingProxyType(dict(self._drops)),
            arrivals=self.arrivals,
            departures=self.departures,
            recovered_ms=1000 * recovered,
            noise_ms=1000 * noise,
            mos=opinions[-1] if opinions else None,
            mos_mean=sum(opinions) / len(opinions) if opinions else None,
            mos_least=min(opinions, default=None),
            remote_mos=remote.mos_cq if remote is not None and remote.mos_cq <= 5 else None,
            bit_rate=opus.bit_rate if opus is not None else 0,
            expected_loss=opus.expected_loss if opus is not None else 0,
            path=path,
        )

    @property
    def reachable(self) -> bool:
        """There is an address to send to: the old form of hold has none (RFC 3264 section 8.4)."""
        return not ip_address(self.agreed.remote_address).is_unspecified
