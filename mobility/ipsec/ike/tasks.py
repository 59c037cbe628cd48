"""What we ask on an established IKE SA: CREATE_CHILD_SA and INFORMATIONAL (RFC 7296 sections 1.3, 1.4, 2.8)."""

from __future__ import annotations

from mobility.ipsec.ike import nat, negotiation, proposals
from mobility.ipsec.ike.channel import Channel
from mobility.ipsec.ike.children import Child, ChildState
from mobility.ipsec.ike.events import ChildFailed
from mobility.ipsec.ike.groups import KeyExchange, KeyExchangeError
from mobility.ipsec.ike.ike_sa import FORGOTTEN, IkeSa, State
from mobility.ipsec.ike.keying import ike_keys, next_skeyseed
from mobility.ipsec.ike.message import Message
from mobility.ipsec.ike.negotiation import NONCE, Offer, Refused
from mobility.ipsec.ike.numbers import Exchange, Group, Notification, Protocol, TransformType
from mobility.ipsec.ike.payloads import DeletePayload, KeyExchangePayload, NoncePayload, NotifyPayload, Payload
from mobility.ipsec.ike.proposals import Proposal, SaPayload
from mobility.ipsec.ike.settings import ChildSettings
from mobility.wire.errors import WireError

PATIENCE = 2.0
"Seconds until something is asked again that the other end has no time for (TEMPORARY_FAILURE); up to double that."


def _later(sa: IkeSa) -> float:
    return PATIENCE * (1 + sa.context.random(1)[0] / 256)


class CreateChild:
    """A new child SA, or one in place of another."""

    __slots__ = ("_group", "_if_lacking", "_offer", "_settings", "replaces")

    def __init__(
        self,
        settings: ChildSettings,
        replaces: Child | None = None,
        group: Group | None = None,
        *,
        if_lacking: bool = False,
    ) -> None:
        """``group``: that the other end wants; ``if_lacking``: not if there is another one of this name by then."""
        self._settings = settings
        self._if_lacking = if_lacking
        self.replaces = replaces
        self._group = group
        self._offer: Offer | None = None

    def request(self, sa: IkeSa, now: float) -> tuple[Exchange, list[Payload]] | None:
        old = self.replaces
        if old is not None and (old.successor is not None or old.state is not ChildState.REKEYING):
            return None
        alive = (each for each in sa.children.values() if each.state in (ChildState.INSTALLED, ChildState.REKEYING))
        if self._if_lacking and any(each.settings.name == self._settings.name for each in alive):
            return None
        self._offer = negotiation.offer(sa, self._settings, replaces=old, group=self._group)
        return Exchange.CREATE_CHILD_SA, self._offer.payloads

    def response(self, sa: IkeSa, message: Message, now: float) -> None:
        old, offered = self.replaces, self._offer
        if offered is None:
            return
        try:
            child = negotiation.conclude(sa, offered, message, now)
        except Refused as refused:
            self._refused(sa, refused, now)
            if message.one(SaPayload) is not None:
                sa.enqueue(DeleteUnwanted(offered.spi), now)
            return
        rival = None if old is None else old.rival
        if rival is not None and child.lowest_nonce < rival.lowest_nonce:
            # Both have replaced the same one; ours goes (RFC 7296 section 2.8.1). It was never told to anybody here.
            sa.enqueue(DeleteUnwanted(offered.spi), now)
            return
        sa.install(child, send=True, replaces=old)
        if old is not None:
            sa.enqueue(DeleteChild(old, "replaced"), now)

    def _refused(self, sa: IkeSa, refused: Refused, now: float) -> None:
        old = self.replaces
        if old is not None and (old.rival is not None or old.state is not ChildState.REKEYING):
            return  # the other end has replaced or ended it meanwhile
        kind = refused.payload.notification
        if kind == Notification.TEMPORARY_FAILURE:
            sa.enqueue(CreateChild(self._settings, old, self._group), now, after=_later(sa))
            return
        if kind == Notification.INVALID_KE_PAYLOAD and self._group is None:
            group = wanted_group(refused.payload, self._settings.proposals)
            if group is not None:
                sa.enqueue(CreateChild(self._settings, old, group), now, first=True)
                return
        if kind == Notification.CHILD_SA_NOT_FOUND and old is not None:
            sa.remove(old, "the other end does not have it any more")
            sa.enqueue(CreateChild(self._settings), now)
            return
        if old is not None:
            old.state = ChildState.INSTALLED  # until its lifetime is over
        sa.tell(ChildFailed(sa.peer_name, self._settings.name, refused.words))


def wanted_group(refusal: NotifyPayload, offered: tuple[Proposal, ...]) -> Group | None:
    """The group that INVALID_KE_PAYLOAD asks for, if it was offered."""
    number = int.from_bytes(refusal.data, "big")
    known = {each.number for proposal in offered for each in proposal.of(TransformType.KE)}
    return Group(number) if len(refusal.data) == 2 and number in known else None


class DeleteChild:
    """Ends one child SA."""

    __slots__ = ("_child", "_reason")

    def __init__(self, child: Child, reason: str) -> None:
        self._child = child
        self._reason = reason
        if child.state in (ChildState.INSTALLED, ChildState.REKEYING):
            child.state = ChildState.DELETING

    def request(self, sa: IkeSa, now: float) -> tuple[Exchange, list[Payload]] | None:
        if self._child.state is not ChildState.DELETING:
            return None
        spi = self._child.sa.inbound_spi.to_bytes(4, "big")
        return Exchange.INFORMATIONAL, [DeletePayload(Protocol.ESP, (spi,))]

    def response(self, sa: IkeSa, message: Message, now: float) -> None:
        if self._child.state is ChildState.DELETING:
            sa.retire(self._child, self._reason, now)


class DeleteUnwanted:
    """Ends a child SA that the other end has, and that was never installed here."""

    __slots__ = ("_spi",)

    def __init__(self, spi: int) -> None:
        self._spi = spi

    def request(self, sa: IkeSa, now: float) -> tuple[Exchange, list[Payload]] | None:
        return Exchange.INFORMATIONAL, [DeletePayload(Protocol.ESP, (self._spi.to_bytes(4, "big"),))]

    def response(self, sa: IkeSa, message: Message, now: float) -> None:
        pass


class RekeyIke:
    """A new IKE SA in place of this one."""

    __slots__ = ("_exchange", "_group", "_nonce", "_offer", "_spi")
    only_here = True

    def __init__(self, group: Group | None = None) -> None:
        self._group = group
        self._exchange: KeyExchange | None = None
        self._offer: tuple[Proposal, ...] = ()
        self._nonce = b""
        self._spi = b""

    def request(self, sa: IkeSa, now: float) -> tuple[Exchange, list[Payload]] | None:
        if sa.state is not State.ESTABLISHED:
            return None
        self._spi = sa.context.ike_spi()
        # An additional key exchange would need exchanges of its own (RFC 9370 section 2.2.4).
        plain = (each for each in sa.known.proposals if not each.of(TransformType.ADDITIONAL_KE_1))
        self._offer = tuple(each.with_spi(self._spi, number) for number, each in enumerate(plain, 1))
        if not self._offer:
            sa.rekey_at = None
            return None
        suite, _ = sa.agreed
        groups = {each.number for each in self._offer[0].of(TransformType.KE)}
        group = self._group or (suite.group if suite.group in groups else proposals.group_of(self._offer[0]))
        self._exchange = KeyExchange(group, sa.context.random)
        self._nonce = sa.context.random(NONCE)
        public = KeyExchangePayload(group, self._exchange.public)
        return Exchange.CREATE_CHILD_SA, [SaPayload(self._offer), NoncePayload(self._nonce), public]

    def response(self, sa: IkeSa, message: Message, now: float) -> None:
        rival = sa.rival
        try:
            new = self._concluded(sa, message, now)
        except Refused as refused:
            if rival is not None:
                sa.state = State.REPLACED
                sa.replace(rival, now)
            elif refused.payload.notification == Notification.INVALID_KE_PAYLOAD and self._group is None:
                sa.enqueue(RekeyIke(wanted_group(refused.payload, self._offer)), now, first=True)
            elif refused.payload.notification == Notification.TEMPORARY_FAILURE:
                sa.enqueue(RekeyIke(self._group), now, after=_later(sa))
            return
        sa.state = State.REPLACED
        if rival is not None and new.lowest_nonce < rival.lowest_nonce:
            # Both have rekeyed at once: ours goes, and the other end ends the old one (RFC 7296 section 2.8.1).
            sa.replace(rival, now)
            new.enqueue(DeleteIke("a rekey at the same time was better"), now)
        else:
            if rival is not None:  # its maker ends it, unless our word about the old one reaches it before our answer
                rival.expires_at = now + FORGOTTEN
                sa.context.touched.append(rival)
            sa.replace(new, now)
            sa.enqueue(DeleteIke("replaced"), now)

    def _concluded(self, sa: IkeSa, message: Message, now: float) -> IkeSa:
        error = message.error
        if error is not None or self._exchange is None:
            words = "nothing" if error is None else Notification.word(error.notification)
            refused = Refused(Notification.NO_PROPOSAL_CHOSEN, f"the other end says {words} to a rekey")
            refused.payload = error or refused.payload
            raise refused
        try:
            chosen = proposals.answer_to(self._offer, message.needed(SaPayload))
            nonce = message.needed(NoncePayload).data
            exchange = message.needed(KeyExchangePayload)
            if chosen is None or len(chosen.spi) != 8 or exchange.group != self._exchange.group:
                raise WireError("SA", at=0, why="something was chosen that was not offered")
            shared = self._exchange.shared(exchange.data)
        except (WireError, KeyExchangeError) as wrong:
            raise Refused(Notification.INVALID_SYNTAX, str(wrong)) from None
        nonces = self._nonce + nonce
        new = rekeyed(sa, chosen, (self._spi, chosen.spi), True, shared, nonces, now)
        new.lowest_nonce = min(self._nonce, nonce)
        return new


def rekeyed(
    sa: IkeSa, chosen: Proposal, spis: tuple[bytes, bytes], initiator: bool, shared: bytes, nonces: bytes, now: float
) -> IkeSa:
    """The IKE SA that comes out of a rekey (RFC 7296 section 2.18); ``initiator``: whether we have asked for it."""
    old_suite, old_keys = sa.agreed
    channel = Channel(initiator, spis, sa.context.settings, sa.context.random)
    new = IkeSa(sa.context, channel, State.AUTH_SENT, sa.local, sa.remote, sa.peer)
    new.suite = proposals.suite_of(chosen)
    seed = next_skeyseed(old_suite.prf.hash_name, old_keys.d, shared, nonces)
    new.keys, new.nonces = ike_keys(new.suite, seed, nonces, spis[0] + spis[1]), nonces
    channel.protect(new.suite, new.keys)
    channel.fragmentation = sa.channel.fragmentation
    new.remote_identity, new.mobike = sa.remote_identity, sa.mobike
    new.nat_here, new.nat_there = sa.nat_here, sa.nat_there
    new.state, new.established = State.ESTABLISHED, True
    new.begin_life(now)
    sa.context.sas[new.spi] = new
    return new


class DeleteIke:
    """Ends the IKE SA, and what it has."""

    __slots__ = ("_reason",)
    only_here = True

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def request(self, sa: IkeSa, now: float) -> tuple[Exchange, list[Payload]] | None:
        if sa.state in (State.ESTABLISHED, State.REPLACED):
            sa.state, sa.reason = State.DELETING, self._reason
        return Exchange.INFORMATIONAL, [DeletePayload(Protocol.IKE)]

    def response(self, sa: IkeSa, message: Message, now: float) -> None:
        sa.close(self._reason)


class Refuse:
    """Tells the other end that it has not shown who it is, which ends the IKE SA."""

    __slots__ = ()

    def request(self, sa: IkeSa, now: float) -> tuple[Exchange, list[Payload]] | None:
        return Exchange.INFORMATIONAL, [NotifyPayload(Notification.AUTHENTICATION_FAILED)]

    def response(self, sa: IkeSa, message: Message, now: float) -> None:
        sa.close(sa.reason)


class Probe:
    """Asks whether the other end is there (RFC 7296 section 2.4)."""

    __slots__ = ()
    only_here = True

    def request(self, sa: IkeSa, now: float) -> tuple[Exchange, list[Payload]] | None:
        return Exchange.INFORMATIONAL, []

    def response(self, sa: IkeSa, message: Message, now: float) -> None:
        pass


class UpdateAddresses:
    """Tells the other end that we have moved (RFC 4555 section 3.5)."""

    __slots__ = ()

    def request(self, sa: IkeSa, now: float) -> tuple[Exchange, list[Payload]] | None:
        spis = sa.channel.initiator_spi + sa.channel.responder_spi
        where = nat.notifications(spis, sa.local, sa.remote)
        return Exchange.INFORMATIONAL, [NotifyPayload(Notification.UPDATE_SA_ADDRESSES), *where]

    def response(self, sa: IkeSa, message: Message, now: float) -> None:
        if message.notification(Notification.NAT_DETECTION_DESTINATION_IP) is not None:
            sa.nat_here, sa.nat_there = nat.detected(message, sa.local, sa.remote)
