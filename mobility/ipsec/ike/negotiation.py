"""What two ends say to each other about a child SA (RFC 7296 sections 1.2, 1.3.1, 1.3.3, 2.9, 2.17)."""

from __future__ import annotations

from dataclasses import dataclass

from mobility.ipsec.association import Mode
from mobility.ipsec.ike import groups, proposals
from mobility.ipsec.ike.children import Child
from mobility.ipsec.ike.events import ChildSa
from mobility.ipsec.ike.groups import KeyExchange, KeyExchangeError
from mobility.ipsec.ike.ike_sa import IkeSa
from mobility.ipsec.ike.keying import child_keys
from mobility.ipsec.ike.message import Message
from mobility.ipsec.ike.numbers import Group, Notification, PayloadType, Protocol
from mobility.ipsec.ike.payloads import KeyExchangePayload, NoncePayload, NotifyPayload, Payload
from mobility.ipsec.ike.proposals import Proposal, SaPayload
from mobility.ipsec.ike.settings import ChildSettings
from mobility.ipsec.ike.traffic import TrafficSelector, TrafficSelectorPayload, narrow, within
from mobility.wire.errors import WireError

NONCE = 32
"Octets of our nonces: at least half the key of the largest PRF (RFC 7296 section 2.10)."


class Refused(Exception):
    """One end does not agree: the notification that says so, and words for people."""

    def __init__(self, notification: Notification, words: str, data: bytes = b"") -> None:
        super().__init__(words)
        self.payload = NotifyPayload(notification, data)
        self.words = words


@dataclass(frozen=True, slots=True)
class Offer:
    """A child SA that we ask for."""

    settings: ChildSettings
    spi: int
    proposals: tuple[Proposal, ...]
    nonce: bytes
    "Ours; that of IKE_SA_INIT for the first child SA."
    exchange: KeyExchange | None
    payloads: list[Payload]


def offer(
    sa: IkeSa,
    settings: ChildSettings,
    *,
    first_nonce: bytes = b"",
    replaces: Child | None = None,
    group: Group | None = None,
) -> Offer:
    """``first_nonce``: in IKE_AUTH, which has no nonces of its own; ``group``: the one that the other end wants."""
    spi = sa.context.esp_spi()
    octets = spi.to_bytes(4, "big")
    wanted = proposals.without_groups(settings.proposals) if first_nonce else settings.proposals
    wanted = tuple(each.with_spi(octets) for each in wanted)
    exchange = None
    allowed = [] if first_nonce else [proposals.group_of(each) for each in wanted]
    if group is None and allowed:
        group = allowed[0]
    if group:
        exchange = KeyExchange(group, sa.context.random)
    payloads: list[Payload] = []
    if replaces is not None:
        old = replaces.sa.inbound_spi.to_bytes(4, "big")
        payloads.append(NotifyPayload(Notification.REKEY_SA, b"", Protocol.ESP, old))
    if settings.mode is Mode.TRANSPORT:
        payloads.append(NotifyPayload(Notification.USE_TRANSPORT_MODE))
    payloads.append(SaPayload(wanted))
    nonce = first_nonce or sa.context.random(NONCE)
    if not first_nonce:
        payloads.append(NoncePayload(nonce))
    if exchange is not None:
        payloads.append(KeyExchangePayload(exchange.group, exchange.public))
    payloads += [
        TrafficSelectorPayload(PayloadType.TSI, settings.local),
        TrafficSelectorPayload(PayloadType.TSR, settings.remote),
    ]
    return Offer(settings, spi, wanted, nonce, exchange, payloads)


def conclude(sa: IkeSa, offered: Offer, answered: Message, now: float, *, first_nonce: bytes = b"") -> Child:
    """The child SA that the other end has answered our offer with; ``first_nonce``: its nonce in IKE_SA_INIT.

    Raises `Refused`: an error of the other end, or an answer that was not asked for.
    """
    error = answered.error
    if error is not None:
        raise _refusal(offered, error)
    try:
        chosen = proposals.answer_to(offered.proposals, answered.needed(SaPayload))
        nonce = first_nonce or answered.needed(NoncePayload).data
        ours, theirs = answered.selectors(PayloadType.TSI), answered.selectors(PayloadType.TSR)
        exchange = answered.one(KeyExchangePayload)
    except WireError as wrong:
        raise Refused(Notification.INVALID_SYNTAX, f"{offered.settings.name}: {wrong}") from None
    if chosen is None or len(chosen.spi) != 4:
        raise Refused(
            Notification.NO_PROPOSAL_CHOSEN, f"{offered.settings.name}: the other end chose what was not offered"
        )
    if not (within(ours.selectors, offered.settings.local) and within(theirs.selectors, offered.settings.remote)):
        raise Refused(
            Notification.TS_UNACCEPTABLE,
            f"{offered.settings.name}: the other end answered with more traffic than was offered",
        )
    transport = answered.notification(Notification.USE_TRANSPORT_MODE) is not None
    if transport != (offered.settings.mode is Mode.TRANSPORT):
        raise Refused(Notification.NO_PROPOSAL_CHOSEN, f"{offered.settings.name}: the other end wants another mode")
    shared = b""
    if offered.exchange is not None:
        if exchange is None or exchange.group != offered.exchange.group != Group.NONE:
            raise Refused(
                Notification.INVALID_SYNTAX, f"{offered.settings.name}: forward secrecy was agreed, no KE came"
            )
        try:
            shared = offered.exchange.shared(exchange.data)
        except KeyExchangeError as wrong:
            raise Refused(Notification.INVALID_SYNTAX, str(wrong)) from None
    nonces = offered.nonce + nonce
    lowest = min(offered.nonce, nonce)
    return _child(
        sa, offered.settings, chosen, (offered.spi, int.from_bytes(chosen.spi, "big")), shared, nonces, lowest,
        (ours.selectors, theirs.selectors), True, now,
    )  # fmt: skip


def respond(
    sa: IkeSa, asked: Message, now: float, *, first_nonces: bytes = b"", replaces: Child | None = None
) -> tuple[list[Payload], Child]:
    """Our answer to an offer, and the child SA. ``first_nonces``: Ni | Nr of IKE_SA_INIT. Raises `Refused`."""
    try:
        offered = asked.needed(SaPayload).proposals
        theirs, ours = asked.selectors(PayloadType.TSI).selectors, asked.selectors(PayloadType.TSR).selectors
        nonce_i = b"" if first_nonces else asked.needed(NoncePayload).data
        exchange = asked.one(KeyExchangePayload)
    except WireError as wrong:
        raise Refused(Notification.INVALID_SYNTAX, str(wrong)) from None
    transport = asked.notification(Notification.USE_TRANSPORT_MODE) is not None
    candidates = sa.known.children if replaces is None else (replaces.settings,)
    settings, local, remote = _matching(candidates, ours, theirs, transport)
    allowed = settings.proposals
    if first_nonces:
        allowed, offered = proposals.without_groups(allowed), proposals.without_groups(offered)
    chosen = proposals.choose(offered, allowed, None if exchange is None else exchange.group)
    if chosen is None or len(chosen.spi) != 4:
        raise Refused(
            Notification.NO_PROPOSAL_CHOSEN,
            f"{settings.name}: no common algorithms: offered {proposals.describe(offered)}, allowed here"
            f" {proposals.describe(allowed)}",
        )
    shared, answer = b"", list[Payload]()
    group = proposals.group_of(chosen)
    if group is not Group.NONE:
        if exchange is None or exchange.group != group:
            raise Refused(
                Notification.INVALID_KE_PAYLOAD, f"{settings.name}: wants {group.name}", group.to_bytes(2, "big")
            )
        try:
            public, shared = groups.answer(group, exchange.data, sa.context.random)
        except KeyExchangeError as wrong:
            raise Refused(Notification.INVALID_SYNTAX, str(wrong)) from None
        answer.append(KeyExchangePayload(group, public))
    spi = sa.context.esp_spi()
    nonce_r = b"" if first_nonces else sa.context.random(NONCE)
    nonces = first_nonces or nonce_i + nonce_r
    child = _child(
        sa, settings, chosen, (spi, int.from_bytes(chosen.spi, "big")), shared, nonces,
        min(nonce_i, nonce_r), (local, remote), False, now,
    )  # fmt: skip
    payloads: list[Payload] = [NotifyPayload(Notification.USE_TRANSPORT_MODE)] if transport else []
    payloads.append(SaPayload((chosen.with_spi(spi.to_bytes(4, "big")),)))
    payloads += [] if first_nonces else [NoncePayload(nonce_r)]
    selectors = [TrafficSelectorPayload(PayloadType.TSI, remote), TrafficSelectorPayload(PayloadType.TSR, local)]
    return [*payloads, *answer, *selectors], child


Selectors = tuple[TrafficSelector, ...]


def _matching(
    candidates: tuple[ChildSettings, ...], ours: Selectors, theirs: Selectors, transport: bool
) -> tuple[ChildSettings, Selectors, Selectors]:
    wrong_mode = False
    for settings in candidates:
        local, remote = narrow(ours, settings.local), narrow(theirs, settings.remote)
        if local and remote:
            if transport == (settings.mode is Mode.TRANSPORT):
                return settings, local, remote
            wrong_mode = True
    if wrong_mode:
        mode = "transport" if transport else "tunnel"
        raise Refused(Notification.NO_PROPOSAL_CHOSEN, f"{mode} mode was offered, the other one is agreed on here")
    words = ", ".join(map(str, theirs)), ", ".join(map(str, ours))
    raise Refused(Notification.TS_UNACCEPTABLE, f"nothing here is for the traffic {words[0]} <-> {words[1]}")


def _child(
    sa: IkeSa,
    settings: ChildSettings,
    chosen: Proposal,
    spis: tuple[int, int],
    shared: bytes,
    nonces: bytes,
    lowest: bytes,
    selectors: tuple[Selectors, Selectors],
    asked: bool,
    now: float,
) -> Child:
    suite, keys = sa.agreed
    try:
        algorithm, size = proposals.esp_algorithm(chosen)
    except ValueError as wrong:
        raise Refused(Notification.NO_PROPOSAL_CHOSEN, str(wrong)) from None
    if spis[1] < 256:
        raise Refused(Notification.INVALID_SYNTAX, f"SPI {spis[1]} is reserved")
    first, second = child_keys(suite.prf, keys.d, nonces, algorithm, size, shared)
    outbound, inbound = (first, second) if asked else (second, first)
    made = ChildSa(
        settings.name, spis[0], spis[1], algorithm, inbound, outbound, settings.mode, *selectors, sa.encapsulated
    )
    rekey_at = sa.context.moment(settings.lifetime, now)
    return Child(made, settings, lowest, rekey_at, now + settings.lifetime)


def _refusal(offered: Offer, error: NotifyPayload) -> Refused:
    name = offered.settings.name
    known = error.notification in Notification._value2member_map_
    kind = Notification(error.notification) if known else Notification.NO_PROPOSAL_CHOSEN
    match kind:
        case Notification.NO_PROPOSAL_CHOSEN:
            words = f"{name}: the other end takes none of the algorithms {proposals.describe(offered.proposals)}"
        case Notification.TS_UNACCEPTABLE:
            traffic = ", ".join(map(str, offered.settings.local)), ", ".join(map(str, offered.settings.remote))
            words = f"{name}: the other end has nothing for the traffic {traffic[0]} <-> {traffic[1]}"
        case _:
            words = f"{name}: the other end says {Notification.word(error.notification)}"
    return Refused(kind, words, error.data)
