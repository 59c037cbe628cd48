"""Agreement on one audio stream (RFC 3264): codecs, addresses, keys of SRTP (RFC 4568), IPsec (RFC 6193). Sans-IO.

`Negotiation` belongs to one call. It makes and reads the session descriptions and says in `result` what was agreed; of
sockets it only knows the numbers of their ports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from softphone.media.codecs import CODECS, OPUS, Codec
from softphone.media.comfort_noise import CLOCK_RATE as NOISE_CLOCK_RATE
from softphone.media.comfort_noise import PAYLOAD_TYPE as NOISE_PAYLOAD_TYPE
from softphone.media.dtls import Certificate, DtlsPeer
from softphone.media.ice_description import IceDescription
from softphone.media.ike_description import IkeDescriptions, IkeEnd, IkePeer, IpsecMode
from softphone.media.keying import PROFILES, KeyDescriptions, Keying, Keys, NotAcceptable, SrtpMode, secure
from softphone.media.sdp import Attribute, Connection, Media, Origin, SdpError, SessionDescription
from softphone.media.srtp import CryptoLine, Random, Suite, offered_suites

__all__ = ["Agreed", "Direction", "LocalStream", "Negotiation", "NotAcceptable", "SrtpMode", "direction_of"]

PACKET_MILLISECONDS = 20
_FIRST_EVENT_PAYLOAD = 101


class Direction(StrEnum):
    """From the speaker's own point of view (RFC 3264 section 6.1)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    def reply(self, wish: Direction) -> Direction:
        """The answer to this direction of an offer by one who would like ``wish``."""
        return direction_of(sends=wish.sends and self.receives, receives=wish.receives and self.sends)


def direction_of(*, sends: bool, receives: bool) -> Direction:
    if sends:
        return Direction.SENDRECV if receives else Direction.SENDONLY
    return Direction.RECVONLY if receives else Direction.INACTIVE


@dataclass(frozen=True, slots=True)
class LocalStream:
    """Our side of the stream: what does not change during a call, except for the direction."""

    address: str
    "The only address that ever appears in a description: on a terminal the home address."
    rtp_port: int
    rtcp_port: int
    codecs: tuple[Codec, ...] = CODECS
    srtp: SrtpMode = SrtpMode.OPTIONAL
    rtcp_mux: bool = True
    suites: tuple[Suite, ...] = field(default_factory=offered_suites)
    keying: tuple[Keying, ...] = (Keying.SDES, Keying.DTLS)
    "Accepted, in the order of preference."
    offered_keying: tuple[Keying, ...] = (Keying.SDES,)
    comfort_noise: bool = True
    "Say that we understand comfort noise (RFC 3389)."
    opus_parameters: str = OPUS.parameters
    "Our ``fmtp`` of Opus (RFC 7587 section 6.1)."
    ice: IceDescription | None = None
    ipsec: IpsecMode = IpsecMode.OPTIONAL
    ike: IkeEnd | None = None
    "Who makes the keys of IPsec for us; None: nobody."


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the two sides agreed on."""

    codec: Codec
    "What we send."
    payload_type: int
    "Under which number we send it."
    receive: Mapping[int, Codec]
    "Payload types that the other side may send."
    events: Mapping[int, int]
    "Payload types of telephone-event (RFC 4733) that may arrive, and their clock rates."
    send_events: int | None
    "Payload type under which we may send telephone-event."
    remote_address: str
    remote_rtp_port: int
    remote_rtcp_port: int
    rtcp_mux: bool
    direction: Direction
    "Ours."
    remote_direction: Direction
    "The other side's, as it said it itself; one that names no address to send to does not receive."
    keys: Keys
    noise: bool = False
    "Comfort noise (RFC 3389) may be sent, under its static payload type."
    parameters: Mapping[str, str] = field(default_factory=dict)
    "The other side's ``fmtp`` of `codec`."
    ice: IceDescription | None = None
    "The other side's, where both use it."
    reports: bool = False
    "The other side reads extended reports with VoIP metrics (RFC 3611 section 5)."
    ike: IkePeer | None = None
    "With whom all packets to `remote_address` are to be protected by IPsec; None: they are not."

    @property
    def send_key(self) -> CryptoLine | None:
        return self.keys.send

    @property
    def receive_key(self) -> CryptoLine | None:
        return self.keys.receive

    @property
    def dtls(self) -> DtlsPeer | None:
        """The keys are made by this handshake."""
        return self.keys.dtls

    @property
    def encrypted(self) -> bool:
        return self.keys != Keys()

    @property
    def suite(self) -> str:
        """The SRTP suite out of the descriptions; empty: not encrypted, or its keys are made by DTLS."""
        return self.send_key.suite.name if self.send_key is not None else ""


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A codec of the other side under its payload type."""

    payload_type: int
    codec: Codec


class Negotiation:
    """Offers and answers of one call. Every method leaves `result` untouched when it raises."""

    def __init__(self, local: LocalStream, random: Random) -> None:
        self.local = local
        self.result: Agreed | None = None
        self._random = random
        self._session = int.from_bytes(random(4)) >> 1
        self._version = 0
        self._last = ""
        "The body that we sent last, to know whether the version must grow (RFC 3264 section 8)."
        self._offered: SessionDescription | None = None
        self._keys = KeyDescriptions(local.srtp, local.suites, local.keying, local.offered_keying, random)
        self._ike = IkeDescriptions(local.ipsec, local.ike)
        self._remote: SessionDescription | None = None
        self._place = 0
        "Where among the m-lines our stream stands."

    @property
    def certificate(self) -> Certificate:
        """Ours for DTLS; its fingerprint stands in our descriptions."""
        return self._keys.certificate

    @property
    def offers_ike(self) -> bool:
        """Our descriptions have a section for IKE, where the other side has one."""
        return self._ike.possible

    @property
    def ike_refusal(self) -> str:
        """Why the other side's section for IKE could not be used; empty: it could, or there was none."""
        return self._ike.refusal

    def give_up_ike(self) -> None:
        """The descriptions that follow want no IPsec."""
        self._ike.give_up()

    # -- offering -----------------------------------------------------------------------------------------------------

    def offer(self, direction: Direction = Direction.SENDRECV) -> str:
        """A description to offer, the first or a changed one; a changed one begins with what is in use."""
        agreed, codecs = self.result, list(self.local.codecs)
        if agreed is None or self._remote is None:
            protocol, attributes = self._keys.offer()
        else:
            protocol, attributes = self._keys.offer_again(agreed.keys, self._remote.media[self._place].protocol)
            codecs.sort(key=lambda codec: codec is not agreed.codec)
        numbered = [_Numbered(codec.payload_type, codec) for codec in codecs]
        events = dict(
            zip(dict.fromkeys(c.clock_rate for c in self.local.codecs), range(_FIRST_EVENT_PAYLOAD, 128), strict=False)
        )
        noise = self.local.comfort_noise and any(c.clock_rate == NOISE_CLOCK_RATE for c in self.local.codecs)
        audio = self._stream(
            protocol, numbered, events, attributes, direction, self.local.rtcp_mux, noise, self.local.ice
        )
        ike = self._ike.offer()
        if self._remote is None:
            media = [audio] if ike is None else [audio, ike]
        else:
            # A changed offer keeps the m-lines of the session in their places (RFC 3264 section 8).
            media = [_refused(m) for m in self._remote.media]
            media[self._place] = audio
            place = self._ike.place(self._remote)
            if place is not None and ike is not None and agreed is not None and agreed.ike is not None:
                media[place] = ike
        self._offered = self._describe(media)
        return str(self._offered)

    def accept(self, answer: str) -> None:
        """Read the answer to our latest offer; another one, of another branch of a fork, takes the place of the first.

        Raises `SdpError`, `NotAcceptable`.
        """
        if self._offered is None:
            raise SdpError("an answer, but nothing was offered")
        remote = SessionDescription.parse(answer)
        ike_place = self._ike.place(self._offered)
        # Phones that know nothing of IKE may leave its section out, instead of refusing it.
        if len(remote.media) != len(self._offered.media) and len(remote.media) != ike_place:
            raise SdpError(f"the answer has {len(remote.media)} media, the offer {len(self._offered.media)}")
        ours, theirs = self._offered.media[self._place], remote.media[self._place]
        if theirs.kind != ours.kind:
            raise SdpError(f"the answer to {ours.kind} is {theirs.kind}")
        if theirs.port == 0:
            raise NotAcceptable("the other side does not want the audio stream")
        keys = self._keys.answered(ours, theirs, remote)
        direction = _direction(ours, self._offered)
        offered = {codec.payload_type: codec for codec in self.local.codecs}
        mux = ours.has("rtcp-mux") and theirs.has("rtcp-mux")
        agreed = self._agree(remote, theirs, offered, _events(ours), keys, direction, mux)
        section = None
        if ike_place is not None and self._offered.media[ike_place].port and ike_place < len(remote.media):
            section = remote.media[ike_place]
        ike = self._ike.answered(section, remote, agreed.remote_address, self._ike_before)
        self.result = replace(agreed, ike=ike)
        self._remote = remote

    # -- answering ----------------------------------------------------------------------------------------------------

    def answer(self, offer: str, direction: Direction = Direction.SENDRECV) -> str:
        """The answer to an offer, the first or a changed one. Raises `SdpError`, `NotAcceptable`."""
        remote = SessionDescription.parse(offer)
        place = self._choose(remote)
        theirs = remote.media[place]
        keys, attributes = self._keys.take(self._keys.usable(theirs, remote))
        chosen = self._common(theirs)[:1]
        ours_direction = _remote_direction(theirs, remote).reply(direction)
        mux = self.local.rtcp_mux and theirs.has("rtcp-mux")
        events = {rate: pt for pt, rate in _events(theirs).items() if rate == chosen[0].codec.clock_rate}
        receive = {n.payload_type: n.codec for n in chosen}
        agreed = self._agree(remote, theirs, receive, {p: r for r, p in events.items()}, keys, ours_direction, mux)
        ike_place = self._ike.place(remote)
        section = None if ike_place is None else remote.media[ike_place]
        ike, ours = self._ike.taken(section, remote, agreed.remote_address, self._ike_before)
        agreed = replace(agreed, ike=ike)
        ice = self.local.ice if agreed.ice is not None else None
        audio = self._stream(theirs.protocol, chosen, events, attributes, ours_direction, mux, agreed.noise, ice)
        media = [audio if n == place else _refused(m) for n, m in enumerate(remote.media)]
        if ike_place is not None and ours is not None:
            media[ike_place] = ours
        self.result, self._remote, self._place = agreed, remote, place
        return str(self._describe(media))

    def refuse(self, offer: str) -> str:
        """An answer that takes none of the streams (RFC 3264 section 6). Raises `SdpError`."""
        return str(self._describe([_refused(m) for m in SessionDescription.parse(offer).media]))

    def _choose(self, remote: SessionDescription) -> int:
        """The place of the audio stream to take; secured ones go first."""
        why = "the offer has no audio stream"
        order = sorted(range(len(remote.media)), key=lambda n: not secure(remote.media[n].protocol))
        for place in order:
            media = remote.media[place]
            if media.kind != "audio" or media.port == 0:
                continue
            if media.protocol.upper() not in PROFILES:
                why = f"the transport {media.protocol} is not supported, only {', '.join(PROFILES)}"
            elif not self._common(media):
                why = f"no common codec; here there are {', '.join(c.name for c in self.local.codecs)}"
            else:
                try:
                    self._keys.usable(media, remote)
                    _remote_address(remote, media)
                except NotAcceptable as exc:
                    why = str(exc)
                else:
                    return place
        raise NotAcceptable(why)

    @property
    def _ike_before(self) -> IkePeer | None:
        return None if self.result is None else self.result.ike

    # -- pieces of descriptions ---------------------------------------------------------------------------------------

    def _stream(
        self,
        protocol: str,
        codecs: Iterable[_Numbered],
        events: Mapping[int, int],
        security: Iterable[Attribute],
        direction: Direction,
        mux: bool,
        noise: bool,
        ice: IceDescription | None,
    ) -> Media:
        formats: list[str] = []
        attributes: list[Attribute] = []
        for number, codec in ((n.payload_type, n.codec) for n in codecs):
            formats.append(str(number))
            channels = f"/{codec.channels}" if codec.channels != 1 else ""
            attributes.append(Attribute("rtpmap", f"{number} {codec.name}/{codec.clock_rate}{channels}"))
            parameters = self.local.opus_parameters if codec is OPUS else codec.parameters
            if parameters:
                attributes.append(Attribute("fmtp", f"{number} {parameters}"))
        for rate, number in events.items():
            formats.append(str(number))
            attributes.append(Attribute("rtpmap", f"{number} telephone-event/{rate}"))
            attributes.append(Attribute("fmtp", f"{number} 0-15"))
        if noise:
            formats.append(str(NOISE_PAYLOAD_TYPE))
        attributes.append(Attribute("ptime", str(PACKET_MILLISECONDS)))
        attributes.append(Attribute(direction.value))
        attributes.extend(security)
        if mux:
            attributes.append(Attribute("rtcp-mux"))
        if self.local.rtcp_port != self.local.rtp_port + 1:
            attributes.append(Attribute("rtcp", str(self.local.rtcp_port)))
        attributes.append(Attribute("rtcp-xr", "voip-metrics"))
        if ice is not None:
            attributes.extend(ice.attributes())
        return Media("audio", self.local.rtp_port, protocol, tuple(formats), tuple(attributes))

    def _describe(self, media: Iterable[Media]) -> SessionDescription:
        origin = Origin(self._session, self._version, self.local.address)
        described = SessionDescription(origin, "-", Connection(self.local.address), tuple(media))
        if self._last and str(described) != self._last:
            self._version += 1
            described = replace(described, origin=replace(origin, version=self._version))
        self._last = str(described)
        return described

    def _agree(
        self,
        remote: SessionDescription,
        theirs: Media,
        receive: Mapping[int, Codec],
        events: Mapping[int, int],
        keys: Keys,
        direction: Direction,
        mux: bool,
    ) -> Agreed:
        common = self._common(theirs)
        if not common:
            raise NotAcceptable("the answer has no codec that was offered")
        send = common[0]
        remote_events = {rate: number for number, rate in _events(theirs).items()}
        remote_direction = _remote_direction(theirs, remote)
        return Agreed(
            codec=send.codec,
            payload_type=send.payload_type,
            receive=dict(receive),
            events=dict(events),
            send_events=remote_events.get(send.codec.clock_rate),
            remote_address=_remote_address(remote, theirs),
            remote_rtp_port=theirs.port,
            remote_rtcp_port=theirs.port if mux else _rtcp_port(theirs),
            rtcp_mux=mux,
            direction=remote_direction.reply(direction),
            remote_direction=remote_direction,
            keys=keys,
            noise=self._noise(theirs, send.codec),
            parameters=theirs.fmtp(send.payload_type),
            # One component only: RTCP has to go with RTP.
            ice=IceDescription.of(theirs, remote) if mux and self.local.ice is not None else None,
            reports=any("voip-metrics" in value for value in _both("rtcp-xr", theirs, remote)),
        )

    def _noise(self, theirs: Media, codec: Codec) -> bool:
        wanted = self.local.comfort_noise and codec.clock_rate == NOISE_CLOCK_RATE
        return wanted and str(NOISE_PAYLOAD_TYPE) in theirs.formats

    def _common(self, theirs: Media) -> list[_Numbered]:
        """The codecs of both sides in the other side's order (RFC 3264 section 6.1)."""
        found: list[_Numbered] = []
        for text in theirs.formats:
            if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) < 128:
                codec = self._codec_of(theirs, int(text))
                if codec is not None and all(n.codec is not codec for n in found):
                    found.append(_Numbered(int(text), codec))
        return found

    def _codec_of(self, media: Media, payload_type: int) -> Codec | None:
        mapped = media.rtpmap(payload_type)
        for codec in self.local.codecs:
            if mapped is None:
                # Only the static payload types may stand without a mapping (RFC 3551 section 6).
                if payload_type < 96 and codec.payload_type == payload_type:
                    return codec
            elif (mapped.encoding.lower(), mapped.clock_rate) == (codec.name.lower(), codec.clock_rate) and (
                mapped.channels == codec.channels
            ):
                return codec
        return None


def _refused(media: Media) -> Media:
    """A stream that we do not want: port 0, and nothing that a stranger wrote except for its formats."""
    return Media(media.kind, 0, media.protocol, media.formats)


_DIRECTIONS = frozenset(direction.value for direction in Direction)


def _direction(media: Media, session: SessionDescription) -> Direction:
    for attribute in (*media.attributes, *session.attributes):
        if attribute.name in _DIRECTIONS:
            return Direction(attribute.name)
    return Direction.SENDRECV


def _both(name: str, media: Media, session: SessionDescription) -> Iterator[str]:
    yield from media.values(name)
    yield from session.values(name)


def _remote_direction(media: Media, session: SessionDescription) -> Direction:
    """What the other side does; ``c=0.0.0.0`` is how hold was said before directions (RFC 3264 section 8.4)."""
    direction = _direction(media, session)
    connection = media.connection or session.connection
    if connection is not None and connection.ip is not None and connection.ip.is_unspecified:
        return direction_of(sends=direction.sends, receives=False)
    return direction


def _events(media: Media) -> dict[int, int]:
    """Payload types of telephone-event and their clock rates."""
    found = {}
    for text in media.formats:
        if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) < 128:
            mapped = media.rtpmap(int(text))
            if mapped is not None and mapped.encoding.lower() == "telephone-event":
                found[int(text)] = mapped.clock_rate
    return found


def _remote_address(session: SessionDescription, media: Media) -> str:
    connection = media.connection or session.connection
    if connection is None:
        raise SdpError("no connection line (c=) says where to send the audio")
    ip = connection.ip
    if ip is None:
        raise NotAcceptable(f"the audio is wanted at {connection.address!r}; only IP addresses are supported")
    if ip.is_multicast:
        raise NotAcceptable(f"the audio is wanted at the multicast address {ip}")
    return str(ip)


def _rtcp_port(media: Media) -> int:
    """Where RTCP goes (RFC 3605); its address, if given, is ignored: it would let one side aim RTCP at a third."""
    value = media.value("rtcp")
    if value is not None:
        port = value.split()[0] if value.split() else ""
        if port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65_535:
            return int(port)
        raise SdpError(f"{value!r} is not a port for RTCP")
    return min(media.port + 1, 65_535)
