"""How the audio of a call is to be, and what is known of it while it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from softphone.media.codecs import CODECS, OPUS, Codec
from softphone.media.drops import Drop
from softphone.media.ice_description import IceSettings
from softphone.media.ike_description import IkeEnd, IpsecMode
from softphone.media.jitter import GREATEST_DELAY, LEAST_DELAY
from softphone.media.keying import Keying, SrtpMode
from softphone.media.rtp import PacketLog
from softphone.media.srtp import Random, Suite, offered_suites


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """How the audio of a call is to be."""

    codecs: tuple[Codec, ...] = CODECS
    "In the order of preference."
    srtp: SrtpMode = SrtpMode.OPTIONAL
    suites: tuple[Suite, ...] = field(default_factory=offered_suites)
    keying: tuple[Keying, ...] = (Keying.SDES, Keying.DTLS)
    "Ways to SRTP keys that are accepted, in the order of preference."
    offered_keying: tuple[Keying, ...] = (Keying.SDES,)
    "Those that our offers contain; two make an INVITE longer than a datagram may be."
    rtcp_mux: bool = True
    symmetric: bool = False
    """Without SRTP: send to where packets come from, whatever the description said. Anybody who sends the first packet
    gets the sound then; never where SRTP is mandatory. With SRTP, authenticated packets are always followed."""
    ice: IceSettings | None = None
    "Find the way by connectivity checks (RFC 8445); None: send where the description says."
    ipsec: IpsecMode = IpsecMode.OPTIONAL
    ike: IkeEnd | None = None
    "Who makes keys for IPsec with the other side; None: nobody."
    ports: tuple[int, int] | None = None
    "The first and the last UDP port that may be used; None: any."
    least_delay: float = LEAST_DELAY
    greatest_delay: float = GREATEST_DELAY
    "Seconds between which the jitter buffer chooses its delay."
    dtx: bool = False
    "Send nothing (Opus) or comfort noise (G.711, G.722) in silence, where the other side understands it."
    comfort_noise: bool = True
    "Say that comfort noise (RFC 3389) is understood."
    playback_rate: int = OPUS.sample_rate
    "Samples a second beyond which we hear nothing: the other side need not send more (Opus)."
    greatest_bit_rate: int | None = None
    "Bits a second of Opus, both ways; None: what quality and losses ask for."
    detect_tones: bool | None = None
    "Look for keypad tones in the received sound; None: where telephone events were not agreed on."
    timeout: float | None = 30.0
    "Seconds without sound and reports after which `MediaTimeout` is told; None: never."
    log_packets: bool = False
    "Remember when every packet was sent and arrived; for measurements."
    random: Random = os.urandom

    def ike_of(self, host: str) -> IkeEnd | None:
        """Our end of IKE for a call at this address; None with ICE, which may find a way that is not protected."""
        return self.ike if self.ike is not None and self.ice is None and str(self.ike.address) == host else None

    @property
    def opus_parameters(self) -> str:
        """Our ``fmtp`` of Opus (RFC 7587 section 6.1)."""
        parameters = [OPUS.parameters]
        if self.dtx:
            parameters.append("usedtx=1")
        if self.playback_rate < OPUS.sample_rate:
            parameters.append(f"maxplaybackrate={self.playback_rate}")
        if self.greatest_bit_rate is not None:
            parameters.append(f"maxaveragebitrate={self.greatest_bit_rate}")
        return ";".join(parameters)


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
    recovered_ms: float = 0.0
    "Sound of lost packets that came by forward error correction."
    noise_ms: float = 0.0
    "Comfort noise."
    mos: float | None = None
    "Estimated quality of the last second (E-model), 1 to 4.4; None: nothing was to be heard."
    mos_mean: float | None = None
    mos_least: float | None = None
    remote_mos: float | None = None
    "What the other side says of our sound (RTCP XR)."
    bit_rate: int = 0
    "That the Opus encoder is set to; 0: another codec."
    expected_loss: int = 0
    "Per cent that its forward error correction is ready for."
    path: str = ""
    "The pair of addresses that ICE chose; empty: no ICE."
