"""IKE_SA_INIT, IKE_INTERMEDIATE and IKE_AUTH of the end that begins (RFC 7296 section 1.2, RFC 9242, RFC 9370)."""

from __future__ import annotations

from hmac import digest

from cryptography.hazmat.primitives.serialization import Encoding

from mobility.discards import Discard, Reason
from mobility.ipsec.ike import authentication, nat, negotiation, proposals
from mobility.ipsec.ike.authentication import AuthenticationError
from mobility.ipsec.ike.certificates import Credential, Trust
from mobility.ipsec.ike.channel import Channel, Received
from mobility.ipsec.ike.events import ChildFailed
from mobility.ipsec.ike.groups import KeyExchange, KeyExchangeError, plausible
from mobility.ipsec.ike.ike_sa import Context, IkeSa, State
from mobility.ipsec.ike.keying import ike_keys, next_skeyseed, skeyseed
from mobility.ipsec.ike.message import NO_SPI, Message
from mobility.ipsec.ike.negotiation import NONCE, Refused
from mobility.ipsec.ike.numbers import (
    IKE_PORT,
    NAT_PORT,
    Exchange,
    Group,
    Notification,
    PayloadType,
    TransformType,
)
from mobility.ipsec.ike.payloads import (
    X509_SIGNATURE,
    AuthPayload,
    CertificatePayload,
    ConfigurationPayload,
    IdentificationPayload,
    KeyExchangePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
)
from mobility.ipsec.ike.proposals import SaPayload
from mobility.ipsec.ike.settings import Endpoint, Peer
from mobility.ipsec.ike.tasks import CreateChild, DeleteUnwanted, Refuse
from mobility.wire.errors import WireError

MOST_RESTARTS = 4
"How often IKE_SA_INIT is sent with another cookie or group."
TRIES_LEFT = 3
"How often IKE_SA_INIT is still sent after an error that anybody may have sent."


class Initiation:
    """What the initiator has to remember until its IKE SA is established."""

    __slots__ = ("_cookie", "_exchange", "_hybrid", "_offer", "_restarts", "sa")

    def __init__(self, context: Context, peer: Peer, local: Endpoint, remote: Endpoint, now: float) -> None:
        """Sends IKE_SA_INIT. Raises `ValueError`: the peer's proposals have no key exchange."""
        channel = Channel(True, (context.ike_spi(), NO_SPI), context.settings, context.random)
        self.sa = IkeSa(context, channel, State.INIT_SENT, local, remote, peer)
        self._exchange = KeyExchange(proposals.group_of(peer.proposals[0]), context.random)
        self._hybrid: KeyExchange | None = None
        self._cookie: NotifyPayload | None = None
        self._restarts = 0
        self._offer: negotiation.Offer | None = None
        self.sa.handshake.nonce_i = context.random(NONCE)
        context.sas[self.sa.spi] = self.sa
        self.sa.heard = self.sa.born = now
        self.sa.handshake.message_i = self.sa.ask(Exchange.IKE_SA_INIT, self._init(), now)

    def _init(self) -> list[Payload]:
        sa = self.sa
        peer = sa.known
        hide = sa.context.random(20) if sa.context.settings.encapsulate else b""
        payloads: list[Payload] = [] if self._cookie is None else [self._cookie]
        payloads += [
            SaPayload(peer.proposals),
            KeyExchangePayload(self._exchange.group, self._exchange.public),
            NoncePayload(sa.handshake.nonce_i),
            *nat.notifications(sa.spi + NO_SPI, sa.local, sa.remote, hide),
            NotifyPayload(Notification.IKEV2_FRAGMENTATION_SUPPORTED),
            authentication.accepted_hashes(),
        ]
        if any(each.of(TransformType.ADDITIONAL_KE_1) for each in peer.proposals):
            payloads.append(NotifyPayload(Notification.INTERMEDIATE_EXCHANGE_SUPPORTED))
        return payloads

    def on_init(self, received: Received, now: float) -> None:
        """The answer to IKE_SA_INIT; nothing shows yet whose it is. Raises `Discard`."""
        message = received.message
        try:
            self._on_init(message, received.covered, now)
        except (WireError, KeyExchangeError, ValueError) as wrong:
            raise Discard(Reason.IKE_MALFORMED, str(wrong)) from None

    def _on_init(self, message: Message, covered: bytes, now: float) -> None:
        sa = self.sa
        cookie = message.notification(Notification.COOKIE)
        if cookie is not None and message.one(SaPayload) is None:
            if not 1 <= len(cookie.data) <= 64:
                raise WireError("COOKIE", at=0, why="has to have 1 to 64 octets")
            self._cookie = NotifyPayload(Notification.COOKIE, cookie.data)
            self._restart(now)
            return
        error = message.error
        if error is not None:
            self._on_error(error, now)
            return
        chosen = proposals.answer_to(sa.known.proposals, message.needed(SaPayload))
        if chosen is None:
            raise WireError("SA", at=0, why="something was chosen that was not offered")
        suite = proposals.suite_of(chosen)
        exchange = message.needed(KeyExchangePayload)
        nonce = message.needed(NoncePayload).data
        intermediate = message.notification(Notification.INTERMEDIATE_EXCHANGE_SUPPORTED) is not None
        if (
            suite.group != self._exchange.group
            or exchange.group != suite.group
            or not plausible(suite.group, exchange.data)
        ):
            raise WireError("KE", at=0, why="of another group")
        if suite.additional is not Group.NONE and not intermediate:
            raise WireError("SA", at=0, why="an additional key exchange without IKE_INTERMEDIATE")
        if message.header.responder_spi == NO_SPI:
            raise WireError("IKE header", at=8, why="the responder's SPI is zero")
        shared = self._exchange.shared(exchange.data)
        sa.channel.answered()
        handshake = sa.handshake
        handshake.nonce_r, handshake.message_r = nonce, covered
        handshake.peer_hashes = authentication.hashes_of(message.notification(Notification.SIGNATURE_HASH_ALGORITHMS))
        sa.channel.responder_spi = message.header.responder_spi
        sa.channel.fragmentation = message.notification(Notification.IKEV2_FRAGMENTATION_SUPPORTED) is not None
        sa.nonces = handshake.nonce_i + nonce
        sa.suite = suite
        spis = sa.channel.initiator_spi + sa.channel.responder_spi
        sa.keys = ike_keys(suite, skeyseed(suite.prf.hash_name, shared, sa.nonces), sa.nonces, spis)
        sa.channel.protect(suite, sa.keys)
        sa.nat_here, sa.nat_there = nat.detected(message, sa.local, sa.remote)
        if sa.encapsulated and sa.local.port == IKE_PORT:
            sa.local, sa.remote = sa.local._replace(port=NAT_PORT), sa.remote._replace(port=NAT_PORT)
        if suite.additional is Group.NONE:
            self._authenticate(now)
            return
        self._hybrid = KeyExchange(suite.additional, sa.context.random)
        sa.state = State.INTERMEDIATE_SENT
        public = KeyExchangePayload(suite.additional, self._hybrid.public)
        covered = sa.ask(Exchange.IKE_INTERMEDIATE, [public], now)
        handshake.intermediate_i = digest(sa.keys.pi, covered, suite.prf.hash_name)

    def _on_error(self, error: NotifyPayload, now: float) -> None:
        sa = self.sa
        offered = {each.number for proposal in sa.known.proposals for each in proposal.of(TransformType.KE)}
        if error.notification == Notification.INVALID_KE_PAYLOAD:
            group = int.from_bytes(error.data, "big")
            if len(error.data) != 2 or group not in offered or group == self._exchange.group:
                raise WireError("INVALID_KE_PAYLOAD", at=0, why=f"group {group} was not offered")
            self._exchange = KeyExchange(Group(group), sa.context.random)
            self._restart(now)
            return
        # Anybody on the way can have sent it: the answer of the real peer is waited for a little longer.
        if error.notification == Notification.NO_PROPOSAL_CHOSEN:
            words = "NO_PROPOSAL_CHOSEN: keys with us are nothing that it wants, or it takes none of"
            words += f" {proposals.describe(sa.known.proposals)}"
        else:
            words = Notification.word(error.notification)
        sa.handshake.tampered = f"{sa.remote} refuses with {words}"
        waiting = sa.channel.outstanding
        if waiting is not None:
            waiting.tries = max(waiting.tries, sa.context.settings.tries - TRIES_LEFT)

    def _restart(self, now: float) -> None:
        if self._restarts == MOST_RESTARTS:
            raise Discard(Reason.IKE_UNEXPECTED, "asked for another IKE_SA_INIT once more")
        self._restarts += 1
        sa = self.sa
        datagrams, sa.handshake.message_i = sa.channel.again(self._init(), now)
        sa.transmit(datagrams, now)

    def on_intermediate(self, received: Received, now: float) -> None:
        """The answer to IKE_INTERMEDIATE: the keys are made anew, with what both key exchanges gave."""
        sa = self.sa
        suite, keys = sa.agreed
        try:
            exchange = received.message.needed(KeyExchangePayload)
            if self._hybrid is None or exchange.group != self._hybrid.group:
                raise WireError("KE", at=0, why="of another group")
            shared = self._hybrid.shared(exchange.data)
        except (WireError, KeyExchangeError) as wrong:
            sa.close(f"{sa.remote} answers IKE_INTERMEDIATE with what cannot be used: {wrong}")
            return
        name = suite.prf.hash_name
        sa.handshake.intermediate_r = digest(keys.pr, received.covered, name)
        spis = sa.channel.initiator_spi + sa.channel.responder_spi
        sa.keys = ike_keys(suite, next_skeyseed(name, keys.d, shared, sa.nonces), sa.nonces, spis)
        sa.channel.protect(suite, sa.keys)
        self._authenticate(now)

    def _authenticate(self, now: float) -> None:
        sa = self.sa
        peer = sa.known
        suite, keys = sa.agreed
        handshake = sa.handshake
        octets = authentication.signed_octets(
            suite.prf, keys.pi, handshake.message_i, handshake.nonce_r, peer.identity, int_auth(sa, sa.channel.next_id)
        )
        try:
            auth = authentication.auth_payload(peer.proof, suite.prf, octets, handshake.peer_hashes)
        except AuthenticationError as wrong:
            sa.close(f"{sa.remote}: {wrong}")
            return
        payloads: list[Payload] = [IdentificationPayload(PayloadType.IDI, peer.identity), *certificates(peer)]
        if isinstance(peer.belief, Trust):
            payloads.append(CertificatePayload(PayloadType.CERTREQ, X509_SIGNATURE, peer.belief.hashes()))
        if not any(other.established and other.peer_name == peer.name for other in sa.context.sas.values()):
            payloads.append(NotifyPayload(Notification.INITIAL_CONTACT))
            sa.only = True
        payloads += [IdentificationPayload(PayloadType.IDR, peer.remote), auth]
        payloads += [ConfigurationPayload.request()] if peer.wants_address else []
        first = next((each for each in peer.children if not each.on_demand), None)
        if first is not None:
            self._offer = negotiation.offer(sa, first, first_nonce=handshake.nonce_i)
            payloads += self._offer.payloads
        payloads += [NotifyPayload(Notification.MOBIKE_SUPPORTED)] if sa.context.settings.mobike else []
        sa.state = State.AUTH_SENT
        sa.ask(Exchange.IKE_AUTH, payloads, now)

    def on_auth(self, received: Received, now: float) -> None:
        """The answer to IKE_AUTH."""
        sa = self.sa
        peer, message = sa.known, received.message
        suite, keys = sa.agreed
        handshake = sa.handshake
        try:
            auth = message.one(AuthPayload)
            identity = message.identity(PayloadType.IDR)
            if auth is None or identity is None:
                sa.close(_unauthenticated(sa, received))
                return
            if identity != peer.remote:
                raise AuthenticationError(f"{sa.remote} is {identity}, not {peer.remote}")
            octets = authentication.signed_octets(
                suite.prf,
                keys.pr,
                handshake.message_r,
                handshake.nonce_i,
                identity,
                int_auth(sa, sa.channel.next_id - 1),
            )
            chain = certificate_chain(message)
            authentication.check_auth(peer.belief, suite.prf, octets, auth, identity, chain, sa.context.utc())
            sa.certificates = chain
        except (AuthenticationError, WireError) as wrong:
            # The other end believes us: it has to hear that we do not believe it (RFC 7296 section 2.21.2).
            sa.reason = f"AUTHENTICATION_FAILED: {wrong}"
            sa.state = State.DELETING
            sa.enqueue(Refuse(), now)
            return
        sa.remote_identity = identity
        sa.mobike = sa.context.settings.mobike and message.notification(Notification.MOBIKE_SUPPORTED) is not None
        reply = next(message.all(ConfigurationPayload), None)
        address = None if reply is None else reply.address
        sa.establish(now, None if address is None else str(address))
        offered = self._offer
        if offered is not None:
            try:
                child = negotiation.conclude(sa, offered, message, now, first_nonce=handshake.nonce_r)
                sa.install(child, send=True)
            except Refused as refused:
                sa.tell(ChildFailed(sa.peer_name, offered.settings.name, refused.words))
                if message.one(SaPayload) is not None:  # the other end has it, and must not keep it
                    sa.enqueue(DeleteUnwanted(offered.spi), now)
        for settings in peer.children:
            if not settings.on_demand and (offered is None or settings is not offered.settings):
                sa.enqueue(CreateChild(settings), now)
        sa.proceed(now)


def int_auth(sa: IkeSa, message_id: int) -> bytes:
    """IntAuth (RFC 9242 section 3.3.2): empty without IKE_INTERMEDIATE; ``message_id``: of the first IKE_AUTH."""
    handshake = sa.handshake
    if not handshake.intermediate_i:
        return b""
    return handshake.intermediate_i + handshake.intermediate_r + message_id.to_bytes(4, "big")


def certificates(peer: Peer) -> list[Payload]:
    """Our CERT payloads, if we have a certificate."""
    if not isinstance(peer.proof, Credential):
        return []
    chain = (peer.proof.certificate, *peer.proof.intermediates)
    return [CertificatePayload(PayloadType.CERT, X509_SIGNATURE, each.public_bytes(Encoding.DER)) for each in chain]


def certificate_chain(message: Message) -> list[bytes]:
    """The certificates of a message, the sender's own first (RFC 7296 section 3.6)."""
    found = message.all(CertificatePayload)
    return [each.data for each in found if each.type == PayloadType.CERT and each.encoding == X509_SIGNATURE]


def _unauthenticated(sa: IkeSa, received: Received) -> str:
    error = received.message.error or received.fault
    if error is None:
        return f"{sa.remote} answers IKE_AUTH without showing who it is"
    if error.notification == Notification.AUTHENTICATION_FAILED:
        identity = sa.known.identity
        return (
            f"{sa.remote} says AUTHENTICATION_FAILED: it does not know {identity}, or has another key or no trust in"
            " our certificate; its log says which"
        )
    return f"{sa.remote} refuses IKE_AUTH with {Notification.word(error.notification)}"
