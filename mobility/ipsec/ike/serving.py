"""What the other end asks on an established IKE SA (RFC 7296 sections 1.3, 1.4, 2.8, 2.25)."""

from __future__ import annotations

from mobility.ipsec.ike import groups, nat, negotiation, proposals
from mobility.ipsec.ike.channel import Received
from mobility.ipsec.ike.children import ChildState
from mobility.ipsec.ike.events import ChildFailed
from mobility.ipsec.ike.groups import KeyExchangeError
from mobility.ipsec.ike.ike_sa import IkeSa, State
from mobility.ipsec.ike.message import Message
from mobility.ipsec.ike.negotiation import NONCE, Refused
from mobility.ipsec.ike.numbers import Notification, Protocol, TransformType
from mobility.ipsec.ike.payloads import DeletePayload, KeyExchangePayload, NoncePayload, NotifyPayload, Payload
from mobility.ipsec.ike.proposals import SaPayload
from mobility.ipsec.ike.settings import Endpoint
from mobility.ipsec.ike.tasks import PATIENCE, CreateChild, DeleteChild, RekeyIke, rekeyed
from mobility.wire.errors import WireError

BUSY = NotifyPayload(Notification.TEMPORARY_FAILURE)


def on_create_child(sa: IkeSa, received: Received, now: float) -> None:
    """CREATE_CHILD_SA: a child SA, one in place of another, or a new IKE SA."""
    message = received.message
    if received.fault is not None:
        sa.answer(message.header, [received.fault], now)
        return
    if sa.state is not State.ESTABLISHED:
        sa.answer(message.header, [BUSY], now)
        return
    try:
        offered = message.needed(SaPayload).proposals
        if any(each.protocol == Protocol.IKE for each in offered):
            answer = _rekey_ike(sa, message, now)
        else:
            answer = _create_child(sa, message, now)
    except Refused as refused:
        answer = [refused.payload]
        if refused.payload.notification not in (Notification.INVALID_KE_PAYLOAD, Notification.TEMPORARY_FAILURE):
            sa.tell(ChildFailed(sa.peer_name, "asked for by the other end", refused.words))
    except WireError as wrong:
        answer = [NotifyPayload(Notification.INVALID_SYNTAX, str(wrong).encode()[:64])]
    sa.answer(message.header, answer, now)
    if sa.successor is not None and sa.state is State.ESTABLISHED:
        sa.state = State.REPLACED
        sa.replace(sa.successor, now)


def _create_child(sa: IkeSa, message: Message, now: float) -> list[Payload]:
    if isinstance(sa.doing, RekeyIke):
        return [BUSY]
    notify = message.notification(Notification.REKEY_SA)
    if notify is None:
        answer, child = negotiation.respond(sa, message, now)
        sa.install(child, send=True)
        return answer
    old = sa.by_outbound(notify.spi)
    if old is None or old.state in (ChildState.RETIRED, ChildState.GONE):
        return [NotifyPayload(Notification.CHILD_SA_NOT_FOUND, b"", Protocol.ESP, notify.spi)]
    if old.state is ChildState.DELETING and old.successor is None:
        return [BUSY]
    ours = old.successor
    answer, child = negotiation.respond(sa, message, now, replaces=old)
    if ours is not None and ours.lowest_nonce >= child.lowest_nonce:
        # We have replaced it, too, and ours stays: the other end ends what it has just made (section 2.8.1).
        sa.children[child.sa.inbound_spi] = child
        child.rekey_at = None
        child.successor = ours
        return answer
    old.rival = child
    sa.install(child, send=False, replaces=old)
    if ours is not None:
        ours.successor = child
        sa.enqueue(DeleteChild(ours, "a rekey at the same time was better"), now)
    return answer


def _rekey_ike(sa: IkeSa, message: Message, now: float) -> list[Payload]:
    if isinstance(sa.doing, CreateChild | DeleteChild):
        return [BUSY]
    if sa.rival is not None:
        return [BUSY]
    offered = message.needed(SaPayload).proposals
    nonce = message.needed(NoncePayload).data
    exchange = message.needed(KeyExchangePayload)
    everything = (*sa.context.settings.proposals, *sa.known.proposals)
    allowed = tuple(each for each in everything if not each.of(TransformType.ADDITIONAL_KE_1))
    chosen = proposals.choose(offered, allowed, exchange.group)
    if chosen is None or len(chosen.spi) != 8 or not any(chosen.spi):
        words = f"rekey: offered {proposals.describe(offered)}, allowed here {proposals.describe(allowed)}"
        raise Refused(Notification.NO_PROPOSAL_CHOSEN, words)
    group = proposals.group_of(chosen)
    if exchange.group != group:
        raise Refused(Notification.INVALID_KE_PAYLOAD, f"rekey: wants {group.name}", group.to_bytes(2, "big"))
    try:
        public, shared = groups.answer(group, exchange.data, sa.context.random)
    except (KeyExchangeError, ValueError) as wrong:
        raise Refused(Notification.INVALID_SYNTAX, str(wrong)) from None
    ours, spi = sa.context.random(NONCE), sa.context.ike_spi()
    new = rekeyed(sa, chosen, (chosen.spi, spi), False, shared, nonce + ours, now)
    new.lowest_nonce = min(nonce, ours)
    if isinstance(sa.doing, RekeyIke):
        sa.rival = new  # which of the two stays shows when ours is answered
    else:
        sa.successor = new
    return [SaPayload((chosen.with_spi(spi),)), NoncePayload(ours), KeyExchangePayload(group, public)]


def on_informational(sa: IkeSa, received: Received, local: Endpoint, remote: Endpoint, now: float) -> None:
    """INFORMATIONAL: something ends, the other end has moved, or it only asks whether we are there."""
    message = received.message
    if received.fault is not None:
        sa.answer(message.header, [received.fault], now)
        return
    answer: list[Payload] = []
    ended = ""
    for delete in message.all(DeletePayload):
        if delete.protocol == Protocol.IKE:
            ended = "the other end has ended it"
            continue
        spis = [spi for spi in (_deleted(sa, each, now) for each in delete.spis) if spi]
        if spis:
            answer.append(DeletePayload(Protocol.ESP, tuple(spis)))
    if message.notification(Notification.AUTHENTICATION_FAILED) is not None:
        ended = "AUTHENTICATION_FAILED: the other end does not believe who we are"
    if message.notification(Notification.UPDATE_SA_ADDRESSES) is not None and sa.mobike:
        sa.follow(local, remote)
        sa.nat_here, sa.nat_there = nat.detected(message, local, remote)
        spis_of = sa.channel.initiator_spi + sa.channel.responder_spi
        answer += nat.notifications(spis_of, local, remote)
    cookie = message.notification(Notification.COOKIE2)
    if cookie is not None:  # RFC 4555 section 3.7
        answer.append(NotifyPayload(Notification.COOKIE2, cookie.data))
    sa.answer(message.header, answer, now)
    if ended:
        if sa.rival is not None and sa.successor is None:
            if sa.state is State.ESTABLISHED:
                sa.state = State.REPLACED
            sa.replace(sa.rival, now)
        sa.linger(ended, now)


def _deleted(sa: IkeSa, spi: bytes, now: float) -> bytes:
    """Ends our half of a child SA whose other half has ended; its SPI, or nothing if it was known already."""
    child = sa.by_outbound(spi)
    if child is None or child.state in (ChildState.RETIRED, ChildState.GONE):
        return b""
    asked = child.state is ChildState.DELETING and sa.doing is not None
    sa.retire(child, "the other end has ended it", now)
    if child.successor is None and sa.initiator and not child.settings.on_demand:
        sa.enqueue(CreateChild(child.settings, if_lacking=True), now, after=PATIENCE)  # it is wanted all the same
    return b"" if asked and isinstance(sa.doing, DeleteChild) else child.sa.inbound_spi.to_bytes(4, "big")
