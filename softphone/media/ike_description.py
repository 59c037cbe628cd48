"""IPsec between the two ends of a call in session descriptions (RFC 6193): where their IKE is, and its certificates.

Sans-IO. `IkeDescriptions` belongs to one call; it makes the section ``m=application 500 udp ike-esp`` of our offers and
answers and reads that of the other side. Keys and policies are made by the mobility layer (`softphone.calls.protection`
asks it): a description only says whose certificate has to be shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Address, ip_address

from softphone.media.dtls import Fingerprint
from softphone.media.keying import NotAcceptable
from softphone.media.sdp import Attribute, Connection, Media, SessionDescription

FORMAT = "ike-esp"
IKE_PORT = 500
"The only one: IKE of the two ends runs between their addresses themselves, without NAT in between."
MOST_FINGERPRINTS = 8
"Of one section; further ones are not looked at."


class IpsecMode(StrEnum):
    """Whether the packets of a call are protected by IPsec from end to end, with keys that the call brings about."""

    MANDATORY = "mandatory"
    "Else no call."
    OPTIONAL = "optional"
    "Offered and accepted where there is a mobility process that makes the keys."
    OFF = "off"


class Setup(StrEnum):
    """Who begins IKE (RFC 6193 section 4)."""

    ACTIVE = "active"
    PASSIVE = "passive"
    ACTPASS = "actpass"


@dataclass(frozen=True, slots=True)
class IkeEnd:
    """Our own end: the address that IKE uses, and the certificate that it shows there."""

    address: IPv6Address
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class IkePeer:
    """With whom the packets of a call are to be protected, as both sides have agreed."""

    address: IPv6Address
    fingerprints: tuple[Fingerprint, ...]
    "Its certificate has to fit one of them."
    active: bool = field(default=False, compare=False)
    "We begin IKE. Who began stays, whatever later descriptions say."


class IkeDescriptions:
    """The section of one call in its descriptions. Results are given back, not kept: an answer may come to nothing."""

    def __init__(self, mode: IpsecMode, own: IkeEnd | None) -> None:
        """``own`` None: nobody here makes keys, nothing is offered."""
        self.mode = mode
        self._own = None if mode is IpsecMode.OFF else own
        self.refusal = ""
        "Why the other side's last section could not be used; empty: it could, or there was none."

    @property
    def possible(self) -> bool:
        """Somebody here makes keys."""
        return self._own is not None

    @staticmethod
    def place(session: SessionDescription) -> int | None:
        """Where among the media descriptions the section stands, also a refused one; the first counts."""
        return next((n for n, media in enumerate(session.media) if is_ike(media)), None)

    def give_up(self) -> None:
        """From now on nothing is offered and everything refused: no keys could be made."""
        self._own = None

    # each of these raises `NotAcceptable` where IPsec is mandatory and does not come about

    def offer(self) -> Media | None:
        """The section to offer; None: none."""
        return None if self._own is None else self._section(self._own, Setup.ACTPASS)

    def answered(
        self, theirs: Media | None, session: SessionDescription, audio: str, before: IkePeer | None
    ) -> IkePeer | None:
        """What the answer to our section comes to. ``audio`` is where the sound goes, ``before`` what was agreed."""
        read = self._usable(theirs, session, audio)
        if read is None:
            return None
        peer, setup = read
        # In the answer passive is the default, and actpass means nothing (RFC 4145 section 4.1).
        return _lasting(IkePeer(peer.address, peer.fingerprints, setup is not Setup.ACTIVE), before)

    def taken(
        self, theirs: Media | None, session: SessionDescription, audio: str, before: IkePeer | None
    ) -> tuple[IkePeer | None, Media | None]:
        """What an offer comes to, and the section of our answer; None in its place: it is refused."""
        read = self._usable(theirs, session, audio)
        if read is None or self._own is None:
            return None, None
        peer, setup = read
        # Whoever answers begins, where it may choose: it knows both fingerprints while it still rings.
        peer = _lasting(IkePeer(peer.address, peer.fingerprints, setup in (Setup.PASSIVE, Setup.ACTPASS)), before)
        match setup:
            case Setup.ACTPASS:
                ours = Setup.ACTIVE if peer.active else Setup.PASSIVE
            case _:
                ours = Setup.ACTIVE if setup is Setup.PASSIVE else Setup.PASSIVE
        return peer, self._section(self._own, ours)

    def _usable(
        self, theirs: Media | None, session: SessionDescription, audio: str
    ) -> tuple[IkePeer, Setup | None] | None:
        self.refusal, why = "", ""
        if self._own is None:
            why = "this phone has nobody who makes the keys"
        elif theirs is None or theirs.port == 0:
            why = "the other side does not take part"
        else:
            try:
                return _read(theirs, session, audio)
            except ValueError as exc:
                why = self.refusal = str(exc)
        if self.mode is IpsecMode.MANDATORY:
            raise NotAcceptable(f"IPsec is mandatory for this account: {why}")
        return None

    @staticmethod
    def _section(own: IkeEnd, setup: Setup) -> Media:
        attributes = (Attribute("ike-setup", setup), Attribute("fingerprint", str(own.fingerprint)))
        return Media("application", IKE_PORT, "udp", (FORMAT,), attributes, Connection(str(own.address)))


def is_ike(media: Media) -> bool:
    """A description of IKE, with a port or refused; that for NAT (``ike-esp-udpencap``) is none."""
    return media.kind == "application" and media.protocol.lower() == "udp" and FORMAT in map(str.lower, media.formats)


def _lasting(peer: IkePeer, before: IkePeer | None) -> IkePeer:
    return before if before is not None and before == peer else peer


def _read(theirs: Media, session: SessionDescription, audio: str) -> tuple[IkePeer, Setup | None]:
    """The other side's end and who is to begin; None: it does not say. Raises `ValueError`."""
    if not is_ike(theirs):
        raise ValueError("in the place of its IKE something else stands")
    if theirs.port != IKE_PORT:
        raise ValueError(f"its IKE is at port {theirs.port}; only {IKE_PORT} is supported")
    connection = theirs.connection or session.connection
    address = None if connection is None else connection.ip
    if not isinstance(address, IPv6Address):
        raise ValueError("its IKE has no IPv6 address")
    if address.is_multicast or address.is_unspecified or address.is_link_local:
        raise ValueError(f"nobody can be reached at {address} by IKE")
    if str(address) != audio and not ip_address(audio).is_unspecified:  # which is how hold was said once
        # What goes elsewhere would not be protected; nor are we to knock at a third party's door.
        raise ValueError(f"its IKE is at {address}, but its sound at {audio}")
    values = list(theirs.values("fingerprint")) or list(session.values("fingerprint"))
    fingerprints = tuple(f for v in values[:MOST_FINGERPRINTS] if (f := Fingerprint.parse(v)) is not None)
    if not fingerprints:
        raise ValueError("it has no fingerprint of a hash function that is accepted here")
    text = theirs.value("ike-setup")
    text = session.value("ike-setup") if text is None else text
    try:
        setup = None if text is None else Setup(text.strip().lower())
    except ValueError:
        raise ValueError(f"a=ike-setup:{(text or '')[:20]} says nothing") from None
    return IkePeer(address, fingerprints), setup
