"""IKE_SA_INIT, IKE_INTERMEDIATE and IKE_AUTH of the end that answers (RFC 7296 sections 1.2, 2.21)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hmac import digest

from mobility.ipsec.ike import authentication, groups, nat, negotiation, proposals
from mobility.ipsec.ike.authentication import AuthenticationError
from mobility.ipsec.ike.certificates import Trust
from mobility.ipsec.ike.channel import Channel, Received
from mobility.ipsec.ike.events import ChildFailed, IkeFailed
from mobility.ipsec.ike.groups import KeyExchangeError, plausible
from mobility.ipsec.ike.ike_sa import Context, IkeSa, State
from mobility.ipsec.ike.initiation import certificate_chain, certificates, int_auth
from mobility.ipsec.ike.keying import ike_keys, next_skeyseed, skeyseed
from mobility.ipsec.ike.message import Message
from mobility.ipsec.ike.negotiation import NONCE, Refused
from mobility.ipsec.ike.numbers import Group, Notification, PayloadType, TransformType
from mobility.ipsec.ike.payloads import (
    X509_SIGNATURE,
    AuthPayload,
    CertificatePayload,
    ConfigurationPayload,
    IdentificationPayload,
    Identity,
    KeyExchangePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
)
from mobility.ipsec.ike.proposals import SaPayload
from mobility.ipsec.ike.settings import Endpoint, Peer
from mobility.wire.errors import WireError

Stranger = Callable[[Identity, Endpoint, list[bytes]], Peer | None]
"Who somebody is to us that we do not know: its identity, where it is, its certificates (DER); None: nobody."
MOST_HASHES = 20 * 20
"Octets of CERTREQ: IKE_SA_INIT cannot go in fragments."


def begin(
    context: Context,
    data: bytes,
    message: Message,
    local: Endpoint,
    remote: Endpoint,
    now: float,
    peers: Iterable[Peer] = (),
) -> IkeSa:
    """Answers IKE_SA_INIT with a half-open IKE SA; ``peers``: who may be behind it.

    Raises `Refused` with the notification to be sent in clear, `WireError`.
    """
    intermediate = message.notification(Notification.INTERMEDIATE_EXCHANGE_SUPPORTED) is not None
    allowed = context.settings.proposals
    if not intermediate or not groups.ml_kem_available():
        allowed = tuple(each for each in allowed if not each.of(TransformType.ADDITIONAL_KE_1))
    offered = message.needed(SaPayload).proposals
    exchange = message.needed(KeyExchangePayload)
    nonce = message.needed(NoncePayload).data
    chosen = proposals.choose(offered, allowed, exchange.group)
    if chosen is None:
        words = f"offered {proposals.describe(offered)}, allowed here {proposals.describe(allowed)}"
        raise Refused(Notification.NO_PROPOSAL_CHOSEN, f"no common algorithms: {words}")
    suite = proposals.suite_of(chosen)
    if exchange.group != suite.group:
        raise Refused(Notification.INVALID_KE_PAYLOAD, f"wants {suite.group.name}", suite.group.to_bytes(2, "big"))
    try:
        if not plausible(suite.group, exchange.data):
            raise KeyExchangeError(f"{suite.group.name}: {len(exchange.data)} octets")
        public, shared = groups.answer(suite.group, exchange.data, context.random)
    except KeyExchangeError as wrong:
        raise Refused(Notification.INVALID_SYNTAX, str(wrong)) from None
    spis = message.header.initiator_spi, context.ike_spi()
    channel = Channel(False, spis, context.settings, context.random)
    sa = IkeSa(context, channel, State.HALF_OPEN, local, remote, None)
    handshake = sa.handshake
    handshake.message_i, handshake.nonce_i, handshake.nonce_r = data, nonce, context.random(NONCE)
    handshake.peer_hashes = authentication.hashes_of(message.notification(Notification.SIGNATURE_HASH_ALGORITHMS))
    sa.nat_here, sa.nat_there = nat.detected(message, local, remote)
    sa.expires_at = now + context.settings.half_open
    sa.heard = sa.born = now
    context.sas[sa.spi] = sa
    fragments = message.notification(Notification.IKEV2_FRAGMENTATION_SUPPORTED) is not None
    answer: list[Payload] = [
        SaPayload((chosen.with_spi(b""),)),
        KeyExchangePayload(suite.group, public),
        NoncePayload(handshake.nonce_r),
        *nat.notifications(spis[0] + spis[1], local, remote, _hide(context)),
        authentication.accepted_hashes(),
    ]
    answer += _wanted_certificates(peers)
    answer += [NotifyPayload(Notification.IKEV2_FRAGMENTATION_SUPPORTED)] if fragments else []
    answer += [NotifyPayload(Notification.INTERMEDIATE_EXCHANGE_SUPPORTED)] if intermediate else []
    handshake.message_r = sa.answer(message.header, answer, now)
    sa.nonces = nonce + handshake.nonce_r
    sa.suite = suite
    sa.keys = ike_keys(suite, skeyseed(suite.prf.hash_name, shared, sa.nonces), sa.nonces, spis[0] + spis[1])
    channel.expected = 1
    channel.fragmentation = fragments
    channel.protect(suite, sa.keys)
    return sa


def _wanted_certificates(peers: Iterable[Peer]) -> list[Payload]:
    """CERTREQ with all authorities that any peer may have its certificate from (RFC 7296 section 1.2)."""
    known = {id(peer.belief): peer.belief.hashes() for peer in peers if isinstance(peer.belief, Trust)}
    hashes = b"".join(dict.fromkeys(known.values()))[:MOST_HASHES]
    return [CertificatePayload(PayloadType.CERTREQ, X509_SIGNATURE, hashes)] if hashes else []


def _hide(context: Context) -> bytes:
    return context.random(20) if context.settings.encapsulate else b""


def on_intermediate(sa: IkeSa, received: Received, now: float) -> None:
    """Answers IKE_INTERMEDIATE with the additional key exchange (RFC 9370 section 2.2.2)."""
    suite, keys = sa.agreed
    handshake = sa.handshake
    try:
        if suite.additional is Group.NONE or handshake.intermediate_i:
            raise WireError("IKE_INTERMEDIATE", at=0, why="nothing was agreed that it could be for")
        exchange = received.message.needed(KeyExchangePayload)
        if exchange.group != suite.additional:
            raise WireError("KE", at=0, why="of another group")
        public, shared = groups.answer(suite.additional, exchange.data, sa.context.random)
    except (WireError, KeyExchangeError, ValueError) as wrong:
        refuse(sa, received, Notification.INVALID_SYNTAX, str(wrong), now)
        return
    name = suite.prf.hash_name
    handshake.intermediate_i = digest(keys.pi, received.covered, name)
    covered = sa.answer(received.message.header, [KeyExchangePayload(suite.additional, public)], now)
    handshake.intermediate_r = digest(keys.pr, covered, name)
    spis = sa.channel.initiator_spi + sa.channel.responder_spi
    sa.keys = ike_keys(suite, next_skeyseed(name, keys.d, shared, sa.nonces), sa.nonces, spis)
    sa.channel.protect(suite, sa.keys)


def on_auth(sa: IkeSa, received: Received, peers: Iterable[Peer], stranger: Stranger | None, now: float) -> None:
    """Answers IKE_AUTH: who is it, and what does it want? ``stranger``: asked about who is none of ``peers``."""
    message = received.message
    suite, keys = sa.agreed
    handshake = sa.handshake
    if received.fault is not None:
        refuse(sa, received, Notification(received.fault.notification), "IKE_AUTH that cannot be read", now)
        return
    try:
        if suite.additional is not Group.NONE and not handshake.intermediate_i:
            raise AuthenticationError("the additional key exchange that was agreed did not take place")
        auth = message.needed(AuthPayload)
        identity = message.identity(PayloadType.IDI)
        if identity is None:
            raise WireError("IKE_AUTH", at=0, why="has no IDi")
        ours = message.identity(PayloadType.IDR)
        chain = certificate_chain(message)
        peer = next((each for each in peers if each.remote == identity), None)
        if stranger is not None and (peer is None or not authentication.may_be(peer.belief, chain)):
            peer = stranger(identity, sa.remote, chain) or peer
        if peer is None:
            raise AuthenticationError(f"{identity} is nobody that we know: add it, or correct its identity")
        sa.peer = peer
        if ours is not None and ours != peer.identity:
            raise AuthenticationError(f"{identity} wants to talk to {ours}, and we are {peer.identity} to it")
        number = int_auth(sa, message.header.message_id)
        octets = authentication.signed_octets(
            suite.prf, keys.pi, handshake.message_i, handshake.nonce_r, identity, number
        )
        at = sa.context.utc()
        authentication.check_auth(peer.belief, suite.prf, octets, auth, identity, chain, at)
        sa.certificates = chain
        octets = authentication.signed_octets(
            suite.prf, keys.pr, handshake.message_r, handshake.nonce_i, peer.identity, number
        )
        proof = authentication.auth_payload(peer.proof, suite.prf, octets, handshake.peer_hashes)
    except AuthenticationError as wrong:
        refuse(sa, received, Notification.AUTHENTICATION_FAILED, f"AUTHENTICATION_FAILED: {wrong}", now)
        return
    except WireError as wrong:
        refuse(sa, received, Notification.INVALID_SYNTAX, str(wrong), now)
        return
    _authenticated(sa, received, peer, proof, now)


def _authenticated(sa: IkeSa, received: Received, peer: Peer, proof: AuthPayload, now: float) -> None:
    message = received.message
    sa.remote_identity = peer.remote
    sa.only = message.notification(Notification.INITIAL_CONTACT) is not None
    if sa.only:
        for other in list(sa.context.sas.values()):
            # What was established after this one was begun, the other end has, too: it begins while we do.
            if other is not sa and other.since <= sa.born and other.peer_name == peer.name:
                other.close("the other end has begun anew (INITIAL_CONTACT)")
    payloads: list[Payload] = [IdentificationPayload(PayloadType.IDR, peer.identity), *certificates(peer), proof]
    asked = next(message.all(ConfigurationPayload), None)
    address = None
    if asked is not None and peer.assigns is not None:
        payloads.append(ConfigurationPayload.reply(*peer.assigns))
        address = str(peer.assigns[0])
    sa.mobike = sa.context.settings.mobike and message.notification(Notification.MOBIKE_SUPPORTED) is not None
    payloads += [NotifyPayload(Notification.MOBIKE_SUPPORTED)] if sa.mobike else []
    sa.establish(now, address)
    if message.one(SaPayload) is not None:
        try:
            answer, child = negotiation.respond(sa, message, now, first_nonces=sa.nonces)
            payloads += answer
            # Who has sent IKE_AUTH waits for nothing but the answer.
            sa.install(child, send=True)
        except Refused as refused:
            payloads.append(refused.payload)
            sa.tell(ChildFailed(sa.peer_name, "first child SA", refused.words))
    sa.answer(message.header, payloads, now)


def refuse(sa: IkeSa, received: Received, notification: Notification, words: str, now: float) -> None:
    """Says no to who has sent IKE_AUTH or IKE_INTERMEDIATE, and says so again when it asks again."""
    sa.answer(received.message.header, [NotifyPayload(notification)], now)
    if sa.peer is None:
        sa.tell(IkeFailed(sa.peer_name, sa.remote, words))
    sa.linger(words, now)
