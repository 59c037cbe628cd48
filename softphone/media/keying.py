"""How the keys of SRTP stand in session descriptions: SDES (RFC 4568) and DTLS-SRTP (RFC 5763). Sans-IO.

`KeyDescriptions` belongs to one call; it makes the attributes of our offers and answers and reads those of the other
side. Which of the two ways is used, and whether at all, says the policy of the account.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from softphone.media.dtls import Certificate, DtlsPeer, Fingerprint
from softphone.media.sdp import Attribute, Media, SessionDescription
from softphone.media.srtp import CryptoError, CryptoLine, Random, Suite


class NotAcceptable(Exception):
    """Understood, but no audio stream can come of it: SIP status 488 (RFC 3261 section 21.4.26)."""


class SrtpMode(StrEnum):
    """Whether the audio stream is encrypted."""

    MANDATORY = "mandatory"
    "``RTP/SAVP``, else no call."
    OPTIONAL = "optional"
    "Offered as ``RTP/AVP`` with keys (RFC 8643), accepted either way."
    OFF = "off"


class Keying(StrEnum):
    """Where the keys come from."""

    SDES = "sdes"
    "Out of the session description: whoever sees the signalling can listen."
    DTLS = "dtls"
    "Out of a handshake on the way of the media; the description has a fingerprint only."


@dataclass(frozen=True, slots=True)
class Keys:
    """What was agreed on; nothing at all: the stream is not encrypted."""

    send: CryptoLine | None = None
    receive: CryptoLine | None = None
    dtls: DtlsPeer | None = None


PROFILES = {
    "RTP/AVP": False,
    "RTP/AVPF": False,
    "RTP/SAVP": True,
    "RTP/SAVPF": True,
    "UDP/TLS/RTP/SAVP": True,
    "UDP/TLS/RTP/SAVPF": True,
}
"Transports that we speak, and whether they are encrypted. (AVPF without ``rtcp-fb`` is AVP with early RTCP.)"


def secure(protocol: str) -> bool:
    return PROFILES.get(protocol.upper(), False)


class KeyDescriptions:
    """The keys of one call in its descriptions."""

    def __init__(
        self,
        mode: SrtpMode,
        suites: tuple[Suite, ...],
        accepted: tuple[Keying, ...],
        offered: tuple[Keying, ...],
        random: Random,
    ) -> None:
        """``accepted`` in the order of preference."""
        self.mode = mode
        self._suites, self._accepted, self._offered, self._random = suites, accepted, offered, random
        self._keys: dict[Suite, CryptoLine] = {}
        "Our key for every suite; a new offer in the same call keeps it."
        self._certificate: Certificate | None = None
        self._association: DtlsPeer | None = None
        "The DTLS association that there is; our part in it stays (RFC 8842 section 5.3)."

    @property
    def certificate(self) -> Certificate:
        """Ours, made when it is needed for the first time."""
        if self._certificate is None:
            self._certificate = Certificate.generate()
        return self._certificate

    # -- offering -----------------------------------------------------------------------------------------------------

    def offer(self) -> tuple[str, list[Attribute]]:
        """The transport and the attributes of an offer."""
        if self.mode is SrtpMode.OFF:
            return "RTP/AVP", []
        attributes: list[Attribute] = []
        if Keying.SDES in self._offered:
            attributes += [Attribute("crypto", str(self._own(s, n))) for n, s in enumerate(self._suites, 1)]
        if Keying.DTLS in self._offered:
            attributes += self._dtls_attributes("actpass")
        if self.mode is SrtpMode.OPTIONAL:
            return "RTP/AVP", attributes
        return ("RTP/SAVP" if Keying.SDES in self._offered else "UDP/TLS/RTP/SAVP"), attributes

    def offer_again(self, keys: Keys, protocol: str) -> tuple[str, list[Attribute]]:
        """The same for a changed offer in a running session: keys and transport go on as they were agreed on.

        Not all phones that choose another suite then really use it.
        """
        if keys.send is not None:
            return protocol, [Attribute("crypto", str(self._own(keys.send.suite, 1)))]
        return protocol, self._dtls_attributes("actpass") if keys.dtls is not None else []

    def answered(self, ours: Media, theirs: Media, session: SessionDescription) -> Keys:
        """The keys of an answer to our offer. Raises `NotAcceptable`."""
        if secure(theirs.protocol) != secure(ours.protocol):
            raise NotAcceptable(f"{ours.protocol} was offered, {theirs.protocol} answered")
        if ours.has("crypto") and theirs.has("crypto"):
            return self._answered_crypto(ours, theirs)
        if ours.has("fingerprint") and (fingerprints := _fingerprints(theirs, session)):
            if self._association is not None and fingerprints == self._association.fingerprints:
                # Still the same. Answers in mid call often misstate the parts: baresip with actpass, linphone with
                # the one that it does not have.
                return Keys(dtls=self._association)
            setup = _attribute("setup", theirs, session) or "active"
            if setup not in ("active", "passive"):
                raise NotAcceptable(f"the answer has a=setup:{setup[:20]} instead of active or passive")
            self._association = DtlsPeer(fingerprints, setup == "passive")
            return Keys(dtls=self._association)
        if self.mode is SrtpMode.MANDATORY:
            raise NotAcceptable("SRTP was offered, but the answer has no key for it")
        return Keys()

    def _answered_crypto(self, ours: Media, theirs: Media) -> Keys:
        values = list(theirs.values("crypto"))
        if len(values) != 1:
            raise NotAcceptable(f"the answer has {len(values)} crypto attributes instead of one")
        try:
            line = CryptoLine.parse(values[0])
        except CryptoError as exc:
            raise NotAcceptable(f"the answer's key cannot be used: {exc}") from exc
        offered = [CryptoLine.parse(value) for value in ours.values("crypto")]
        own = [o for o in offered if (o.tag, o.suite) == (line.tag, line.suite)]
        if not own:
            raise NotAcceptable(f"the answer chose crypto {line.tag} {line.suite}, which was not offered")
        if own[0].key == line.key:
            # Both directions under one key would use the same key stream twice.
            raise NotAcceptable("the answer repeats our own key")
        return Keys(send=self._own(line.suite, line.tag), receive=line)

    # -- answering ----------------------------------------------------------------------------------------------------

    def usable(self, theirs: Media, session: SessionDescription) -> CryptoLine | DtlsPeer | None:
        """What of an offer we take; None: the stream is not encrypted. Raises `NotAcceptable`."""
        demanded = secure(theirs.protocol)
        if self.mode is SrtpMode.OFF:
            if demanded:
                raise NotAcceptable("the other side demands SRTP, which is switched off here")
            return None
        why = "it sends no key"
        for keying in self._accepted:
            try:
                found = self._crypto(theirs) if keying is Keying.SDES else self._peer(theirs, session)
            except CryptoError as exc:
                why = str(exc)
            else:
                if found is not None:
                    return found
        if demanded or self.mode is SrtpMode.MANDATORY:
            raise NotAcceptable(f"SRTP is needed, but the offer cannot be used for it: {why}")
        return None

    def take(self, found: CryptoLine | DtlsPeer | None) -> tuple[Keys, list[Attribute]]:
        """The keys and the attributes of our answer to what is `usable`."""
        match found:
            case CryptoLine():
                # Our own key under the tag of the line that we accept (RFC 4568 section 5.1.2).
                own = self._own(found.suite, found.tag)
                return Keys(send=own, receive=found), [Attribute("crypto", str(own))]
            case DtlsPeer():
                self._association = found
                return Keys(dtls=found), self._dtls_attributes("active" if found.client else "passive")
            case None:
                return Keys(), []

    @staticmethod
    def _crypto(theirs: Media) -> CryptoLine | None:
        """The first usable crypto line. Raises `CryptoError` if there are others only."""
        failure: CryptoError | None = None
        for value in theirs.values("crypto"):
            try:
                return CryptoLine.parse(value)
            except CryptoError as exc:
                failure = exc
        if failure is not None:
            raise failure
        return None

    def _peer(self, theirs: Media, session: SessionDescription) -> DtlsPeer | None:
        fingerprints = _fingerprints(theirs, session)
        if not fingerprints:
            return None
        setup = _attribute("setup", theirs, session) or "active"
        match setup:
            case "actpass":
                # Active is quicker: our first packet goes with the answer (RFC 5763 section 5).
                client = self._association is None or self._association.client
            case "active" | "passive":
                client = setup == "passive"
            case _:
                raise CryptoError(f"a=setup:{setup[:20]} opens no association")
        return DtlsPeer(fingerprints, client)

    # -- ours ---------------------------------------------------------------------------------------------------------

    def _own(self, suite: Suite, tag: int) -> CryptoLine:
        if suite not in self._keys:
            self._keys[suite] = CryptoLine.create(tag, suite, self._random)
        return replace(self._keys[suite], tag=tag)

    def _dtls_attributes(self, setup: str) -> list[Attribute]:
        return [Attribute("setup", setup), Attribute("fingerprint", str(self.certificate.fingerprint))]


def _attribute(name: str, media: Media, session: SessionDescription) -> str | None:
    value = media.value(name)
    value = session.value(name) if value is None else value
    return None if value is None else value.strip().lower()


def _fingerprints(media: Media, session: SessionDescription) -> tuple[Fingerprint, ...]:
    """Those that can be checked here; those of the media description replace those of the session (RFC 8122)."""

    def read(values: Iterator[str]) -> tuple[Fingerprint, ...]:
        found = (Fingerprint.parse(value) for value in values)
        return tuple(f for f in found if f is not None)

    return read(media.values("fingerprint") if media.has("fingerprint") else session.values("fingerprint"))
