"""An IKE endpoint: all IKE SAs of a node, as an engine without clock, sockets or dice.

::

    ike = Ike(Settings(), peers, random=os.urandom, utc=lambda: datetime.now(UTC))
    outputs = ike.initiate("home agent", local, remote, now)
    outputs = ike.receive(datagram, local, remote, now)       # also for what comes to port 4500, marker and all
    outputs = ike.handle_timer(now)                           # when ike.timer says so

Outputs are those of `events`: `Send`, `ChildUp` and so on, and `Discarded` for what was dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from heapq import heapify, heappop, heappush

from mobility.discards import Discard, Reason
from mobility.ipsec.ike import acceptance, serving
from mobility.ipsec.ike.channel import Received, Repeat
from mobility.ipsec.ike.children import Child, ChildState
from mobility.ipsec.ike.cookies import Cookies
from mobility.ipsec.ike.description import described
from mobility.ipsec.ike.doubles import Doubled, sorted_out
from mobility.ipsec.ike.events import Output, PeerForgot, Send
from mobility.ipsec.ike.ike_sa import Context, IkeSa, State
from mobility.ipsec.ike.initiation import Initiation
from mobility.ipsec.ike.message import NO_SPI, VERSION, Header, Message
from mobility.ipsec.ike.negotiation import Refused
from mobility.ipsec.ike.numbers import (
    IKE_PORT,
    NON_ESP_MARKER,
    Exchange,
    Flag,
    Notification,
)
from mobility.ipsec.ike.payloads import NoncePayload, NotifyPayload, Payload, UnknownPayload
from mobility.ipsec.ike.settings import Endpoint, Peer, Settings
from mobility.ipsec.ike.tasks import CreateChild, DeleteChild, DeleteIke, Probe, RekeyIke, UpdateAddresses
from mobility.outputs import Discarded
from mobility.wire.errors import WireError

KEEPALIVE = b"\xff"
BEGINNING = (State.INIT_SENT, State.INTERMEDIATE_SENT, State.AUTH_SENT)
TOLD_A_SECOND = 16
"Answers to requests for IKE SAs that are not here."


class Ike:
    """All IKE SAs of a node."""

    def __init__(
        self,
        settings: Settings,
        peers: Iterable[Peer] = (),
        *,
        random: Callable[[int], bytes],
        utc: Callable[[], datetime],
        esp_spi: Callable[[], int] | None = None,
    ) -> None:
        """``utc``: the wall clock, for certificates only; ``esp_spi``: makes SPIs for what we receive."""
        self._context = Context(settings, random, utc, self._esp_spi if esp_spi is None else esp_spi)
        self.peers: dict[str, Peer] = {peer.name: peer for peer in peers}
        "By name; may be changed at any time. What was agreed with a former one stays until its end."
        self.stranger: acceptance.Stranger | None = None
        "Is asked who somebody is that is none of the peers; whoever it names has to prove it like them."
        self.expects: Callable[[Endpoint], bool] = _everybody
        "Whether anybody is worth an answer that begins an IKE SA from there; others are told so, without any work."
        self._initiations: dict[bytes, Initiation] = {}
        self._half_open: dict[tuple[bytes, Endpoint], IkeSa] = {}
        self._cookies = Cookies(random)
        self._alarms: list[tuple[float, bytes]] = []
        self.timer: float | None = None
        "When `handle_timer` is due; None: never."
        self._told_at, self._told = 0.0, 0

    def _esp_spi(self) -> int:
        taken = {spi for sa in self._context.sas.values() for spi in sa.children}
        while True:
            spi = int.from_bytes(self._context.random(4), "big")
            if spi >= 256 and spi not in taken:
                return spi

    # ------------------------------------------------------------ what the owner wants

    def initiate(self, peer: str, local: Endpoint, remote: Endpoint, now: float) -> list[Output]:
        """Begins an IKE SA with a peer. Raises `KeyError`: it is not known."""
        begun = Initiation(self._context, self.peers[peer], local, remote, now)
        self._initiations[begun.sa.spi] = begun
        return self._outputs((begun.sa,))

    def create_child(self, peer: str, name: str, now: float) -> list[Output]:
        """Asks for one more child SA of the peer's settings. Raises `KeyError`: no such peer, settings or IKE SA."""
        sa = self._established(peer)
        settings = next((each for each in sa.known.children if each.name == name), None)
        if settings is None:
            raise KeyError(name)
        sa.enqueue(CreateChild(settings), now)
        return self._outputs((sa,))

    def rekey(self, peer: str, now: float, *, children: bool = False) -> list[Output]:
        """New keys at once, for the IKE SA or for its child SAs. Raises `KeyError`: there is no IKE SA."""
        sa = self._established(peer)
        if children:
            for child in list(sa.children.values()):
                self._rekey_child(sa, child, now)
        else:
            sa.rekey_at = None
            sa.enqueue(RekeyIke(), now)
        return self._outputs((sa,))

    def close(self, peer: str, reason: str, now: float) -> list[Output]:
        """Ends all that there is with a peer, and tells it."""
        mine = [sa for sa in self._context.sas.values() if sa.peer_name == peer]
        for sa in mine:
            if sa.state in (State.ESTABLISHED, State.REPLACED):
                sa.tasks.clear()
                sa.later.clear()
                sa.enqueue(DeleteIke(reason), now)
            elif sa.state is not State.DELETING:
                sa.close(reason)
        return self._outputs(mine)

    def move(self, peer: str, local: Endpoint, remote: Endpoint, now: float, *, tell: bool = True) -> list[Output]:
        """We, or the peer, have another address: the IKE SA goes on there.

        ``tell`` says so to the peer (RFC 4555); not needed if something else does, such as a binding update with the
        K bit (RFC 6275 section 10.3.1).
        """
        mine = [sa for sa in self._context.sas.values() if sa.peer_name == peer and sa.state is not State.LINGERING]
        for sa in mine:
            sa.follow(local, remote)
            waiting = sa.channel.outstanding
            if waiting is not None:  # what was sent from the old place is lost
                sa.transmit(waiting.datagrams, now)
            if tell and sa.mobike and sa.state is State.ESTABLISHED:
                sa.enqueue(UpdateAddresses(), now, first=True)
        return self._outputs(mine)

    def forget(self, peer: str, reason: str) -> list[Output]:
        """Ends all that there is with a peer without a word to it."""
        mine = [sa for sa in self._context.sas.values() if sa.peer_name == peer]
        for sa in mine:
            sa.close(reason)
        return self._outputs(mine)

    def probe(self, peer: str, now: float) -> list[Output]:
        """Asks whether the other end is there, unless something has been asked already."""
        mine = [sa for sa in self._context.sas.values() if sa.peer_name == peer and sa.state is State.ESTABLISHED]
        for sa in mine:
            if sa.doing is None:
                sa.enqueue(Probe(), now)
        return self._outputs(mine)

    def ask_again(self, peer: str, now: float) -> list[Output]:
        """What has been sent last of IKE SAs that are being set up is sent once more, before its time."""
        mine = [each.sa for each in self._initiations.values() if each.sa.peer_name == peer]
        for sa in mine:
            waiting = sa.channel.outstanding
            if waiting is not None:
                sa.transmit(waiting.datagrams, now)
        return self._outputs(mine)

    def supersede(self, peer: str, ike: str) -> list[Output]:
        """Of all that there is with a peer only this IKE SA is left: the others end without a word to the peer."""
        mine = [sa for sa in self._context.sas.values() if sa.peer_name == peer and sa.name != ike]
        for sa in mine:
            if sa.state is not State.LINGERING and sa.successor is None:
                sa.close("another one has taken its place")
        return self._outputs(mine)

    def doubled(self, peer: str) -> Doubled | None:
        """What is to become of several IKE SAs with a peer; None: there are not several."""
        return sorted_out(sa for sa in self._context.sas.values() if sa.peer_name == peer)

    def end(self, sa: IkeSa, reason: str, now: float) -> list[Output]:
        """Ends one IKE SA, and tells the peer."""
        sa.enqueue(DeleteIke(reason), now)
        return self._outputs((sa,))

    def adopt(self, name: str, peer: Peer) -> None:
        """What is agreed with the peer of this name is agreed with this one from now on."""
        for sa in self._context.sas.values():
            if sa.peer_name == name:
                sa.peer = peer

    def certificates(self, peer: str) -> list[bytes]:
        """Those (DER) with which it has shown who it is, its own first; none without an IKE SA."""
        found = (sa for sa in self._context.sas.values() if sa.peer_name == peer and sa.state is State.ESTABLISHED)
        return next((sa.certificates for sa in found if sa.certificates), [])

    def beginning(self, peer: str) -> bool:
        """Whether an IKE SA with it is being set up by us."""
        return any(
            each.sa.peer_name == peer and each.sa.spi in self._context.sas for each in self._initiations.values()
        )

    def status(self, now: float = 0.0) -> list[dict[str, object]]:
        """All IKE SAs, JSON-ready, without keys; their seconds count from ``now``."""
        return [described(sa, now) for sa in self._context.sas.values() if sa.state is not State.LINGERING]

    def established(self, peer: str) -> bool:
        """Whether there is an IKE SA with it."""
        return any(sa.peer_name == peer and sa.state is State.ESTABLISHED for sa in self._context.sas.values())

    def has(self, message: bytes) -> bool:
        """Whether a message, without its marker, names an IKE SA that is here."""
        try:
            header = Header.parse(message)
        except WireError:
            return False
        return _ours(header) in self._context.sas

    def secrets(self) -> list[IkeSa]:
        """The IKE SAs with their keys, for a decryption table that somebody has asked for."""
        return [sa for sa in self._context.sas.values() if sa.keys is not None]

    def _established(self, peer: str) -> IkeSa:
        for sa in self._context.sas.values():
            if sa.peer_name == peer and sa.state is State.ESTABLISHED:
                return sa
        raise KeyError(peer)

    # ------------------------------------------------------------ time

    def _next(self) -> float | None:
        while self._alarms:
            when, spi = self._alarms[0]
            sa = self._context.sas.get(spi)
            due = None if sa is None else sa.timer
            if due is not None and due == when:
                return when
            heappop(self._alarms)
            if due is not None:
                heappush(self._alarms, (due, spi))
        return None

    def handle_timer(self, now: float) -> list[Output]:
        """Does all that is due."""
        touched = []
        for _ in range(len(self._context.sas)):
            due = self._next()
            if due is None or due > now:
                break
            _, spi = heappop(self._alarms)
            sa = self._context.sas[spi]
            self._tick(sa, now)
            touched.append(sa)
        return self._outputs(touched)

    def _tick(self, sa: IkeSa, now: float) -> None:
        settings = self._context.settings
        if sa.expires_at is not None and now >= sa.expires_at:
            if sa.state is State.ESTABLISHED and sa.doing is None and sa.told:
                sa.expires_at = None
                sa.enqueue(DeleteIke("its lifetime is over"), now)
            else:
                sa.close("its lifetime is over" if sa.established else "did not show who it is in time")
                return
        datagrams = sa.channel.retransmit(now)
        if datagrams is None:
            reason = f"{sa.remote} does not answer"
            sa.close(sa.reason or sa.handshake.tampered or reason)
            return
        if datagrams:
            sa.transmit(datagrams, now)
        for row in [row for row in sa.later if row[0] <= now]:
            sa.later.remove(row)
            sa.enqueue(row[1], now)
        for child in list(sa.children.values()):
            self._tick_child(sa, child, now)
        if sa.state is not State.ESTABLISHED or not sa.told:
            return
        if sa.rekey_at is not None and now >= sa.rekey_at:
            sa.rekey_at = None
            sa.enqueue(RekeyIke(), now)
        if sa.doing is None and now >= sa.heard + settings.dead_peer_after:
            sa.enqueue(Probe(), now)
        if sa.nat_here and now >= sa.sent + settings.keepalive:
            sa.sent = now
            sa.tell(Send(KEEPALIVE, sa.local, sa.remote))

    def _tick_child(self, sa: IkeSa, child: Child, now: float) -> None:
        if child.state is ChildState.RETIRED:
            if child.closes_at is not None and now >= child.closes_at:
                sa.remove(child, "replaced")
            return
        if child.expires_at is not None and now >= child.expires_at:
            child.rekey_at = child.expires_at = None
            sa.enqueue(DeleteChild(child, "its lifetime is over"), now)
            if sa.initiator and not child.settings.on_demand:  # a rekey was refused, but it is wanted all the same
                sa.enqueue(CreateChild(child.settings, if_lacking=True), now)
        elif child.rekey_at is not None and now >= child.rekey_at:
            self._rekey_child(sa, child, now)

    def _rekey_child(self, sa: IkeSa, child: Child, now: float) -> None:
        child.rekey_at = None
        if child.state is ChildState.INSTALLED and child.successor is None:
            child.state = ChildState.REKEYING
            sa.enqueue(CreateChild(child.settings, child), now)

    # ------------------------------------------------------------ what comes

    def receive(self, datagram: bytes, local: Endpoint, remote: Endpoint, now: float) -> list[Output]:
        """A datagram; on other ports than 500 with the marker in front of it (ESP is not for here)."""
        touched: list[IkeSa] = []
        try:
            if local.port != IKE_PORT:
                if datagram == KEEPALIVE:
                    raise Discard(Reason.KEEPALIVE)
                if datagram[:4] != NON_ESP_MARKER:
                    raise Discard(Reason.IKE_MALFORMED, "no marker: not IKE")
                datagram = datagram[4:]
            try:
                header = Header.parse(datagram)
            except WireError as error:
                raise Discard(Reason.IKE_MALFORMED, str(error)) from None
            sa = self._context.sas.get(_ours(header))
            if sa is not None:
                touched.append(sa)
                self._on_message(sa, datagram, header, local, remote, now)
            elif header.exchange == Exchange.IKE_SA_INIT and not header.is_response and header.from_initiator:
                touched += self._on_stranger(datagram, header, local, remote, now)
            else:
                if not header.is_response and header.version >> 4 == VERSION >> 4 and self._may_tell(now):
                    self._not_here(header, local, remote)
                raise Discard(Reason.IKE_SPI_UNKNOWN, f"{header.name} from {remote}")
        except Discard as discard:
            self._context.out.append(Discarded.of(discard, "ike"))
        return self._outputs(touched)

    def _may_tell(self, now: float) -> bool:
        """Anybody can ask, so answers are few."""
        if now - self._told_at >= 1.0:
            self._told_at, self._told = now, 0
        self._told += 1
        return self._told <= TOLD_A_SECOND

    def _not_here(self, header: Header, local: Endpoint, remote: Endpoint) -> None:
        """The IKE SA of this request is not here (RFC 7296 section 1.5); in clear, for there are no keys."""
        flags = Flag.RESPONSE | (0 if header.from_initiator else Flag.INITIATOR)
        spis = header.initiator_spi, header.responder_spi
        answer = Header(*spis, header.exchange, flags, header.message_id)
        self._send_clear(Message(answer, (NotifyPayload(Notification.INVALID_IKE_SPI),)), local, remote)

    def _on_stranger(self, data: bytes, header: Header, local: Endpoint, remote: Endpoint, now: float) -> list[IkeSa]:
        if header.responder_spi != NO_SPI or header.message_id != 0:
            raise Discard(Reason.IKE_SPI_UNKNOWN, f"{header.name} from {remote}")
        if header.version >> 4 > VERSION >> 4:
            self._clear(header, NotifyPayload(Notification.INVALID_MAJOR_VERSION), local, remote)
            return []
        key = header.initiator_spi, remote
        known = self._half_open.get(key)
        if known is not None:
            if known.state is State.CLOSED:
                del self._half_open[key]
            elif known.handshake.message_i == data and known.state is State.HALF_OPEN and known.channel.expected == 1:
                self._repeat_init(known, local, remote)
                return [known]
            else:
                raise Discard(Reason.IKE_UNEXPECTED, f"{header.name} once more")
        try:
            message = Message.parse(data)
            nonce = message.needed(NoncePayload).data
        except WireError as error:
            raise Discard(Reason.IKE_MALFORMED, str(error)) from None
        if any(isinstance(each, UnknownPayload) and each.critical for each in message.payloads):
            kind = next(each.type for each in message.payloads if isinstance(each, UnknownPayload) and each.critical)
            self._clear(header, NotifyPayload(Notification.UNSUPPORTED_CRITICAL_PAYLOAD, bytes((kind,))), local, remote)
            return []
        if not self.expects(remote):
            if self._may_tell(now):
                self._clear(header, NotifyPayload(Notification.NO_PROPOSAL_CHOSEN), local, remote)
            raise Discard(Reason.IKE_UNEXPECTED, f"{remote} is nobody that anything is to be agreed with")
        half_open = self._count_half_open()
        settings = self._context.settings
        if half_open >= settings.cookies_above:
            cookie = message.notification(Notification.COOKIE)
            if cookie is None or not self._cookies.right(cookie.data, nonce, remote, header.initiator_spi, now):
                made = self._cookies.make(nonce, remote, header.initiator_spi, now)
                self._clear(header, NotifyPayload(Notification.COOKIE, made), local, remote)
                raise Discard(Reason.IKE_HALF_OPEN, f"{remote} was asked for a cookie")
        if half_open >= settings.most_half_open:
            raise Discard(Reason.IKE_HALF_OPEN, f"{half_open} have not shown who they are")
        try:
            sa = acceptance.begin(self._context, data, message, local, remote, now, self.peers.values())
        except Refused as refused:
            self._clear(header, refused.payload, local, remote)
            raise Discard(Reason.IKE_UNEXPECTED, f"{remote}: {refused.words}") from None
        except (WireError, ValueError) as error:
            raise Discard(Reason.IKE_MALFORMED, str(error)) from None
        self._half_open[key] = sa
        return [sa]

    def _repeat_init(self, sa: IkeSa, local: Endpoint, remote: Endpoint) -> None:
        marker = b"" if local.port == IKE_PORT else NON_ESP_MARKER
        sa.tell(Send(marker + sa.handshake.message_r, local, remote))

    def _count_half_open(self) -> int:
        """Those that have not shown who they are, or have tried and failed."""
        unknown = (State.HALF_OPEN, State.LINGERING)
        for key in [key for key, sa in self._half_open.items() if sa.established or sa.state not in unknown]:
            del self._half_open[key]
        return len(self._half_open)

    def _clear(self, header: Header, payload: Payload, local: Endpoint, remote: Endpoint) -> None:
        """An answer to IKE_SA_INIT without any state."""
        answer = Header(header.initiator_spi, NO_SPI, header.exchange, Flag.RESPONSE, header.message_id)
        self._send_clear(Message(answer, (payload,)), local, remote)

    def _send_clear(self, message: Message, local: Endpoint, remote: Endpoint) -> None:
        marker = b"" if local.port == IKE_PORT else NON_ESP_MARKER
        self._context.out.append(Send(marker + bytes(message), local, remote))

    def _on_message(
        self, sa: IkeSa, data: bytes, header: Header, local: Endpoint, remote: Endpoint, now: float
    ) -> None:
        received = sa.channel.receive(data)
        if sa.state is State.INIT_SENT:
            if isinstance(received, Received) and header.exchange == Exchange.IKE_SA_INIT:
                self._initiations[sa.spi].on_init(received, now)
            return
        if received is None:
            return
        if isinstance(received, Received) and not received.covered:
            if (
                received.message.notification(Notification.INVALID_IKE_SPI) is not None
                and sa.state is State.ESTABLISHED
            ):
                sa.tell(PeerForgot(sa.peer_name, sa.name))
            return
        sa.heard = now
        if isinstance(received, Repeat):
            before = sa.local, sa.remote
            sa.local, sa.remote = local, remote
            sa.repeat(received, now)
            sa.local, sa.remote = before
            return
        if (local, remote) != (sa.local, sa.remote) and self._may_follow(sa):
            # Authentic and new: the other end, or the NAT in front of it, has moved (RFC 7296 section 2.23).
            sa.follow(local, remote)
        self._dispatch(sa, received, header, local, remote, now)

    def _may_follow(self, sa: IkeSa) -> bool:
        if sa.state is State.HALF_OPEN:
            return True
        return not sa.nat_here and sa.peer is not None and sa.peer.follow

    def _dispatch(
        self, sa: IkeSa, received: Received, header: Header, local: Endpoint, remote: Endpoint, now: float
    ) -> None:
        match sa.state, header.exchange, header.is_response:
            case State.INTERMEDIATE_SENT, Exchange.IKE_INTERMEDIATE, True:
                self._initiations[sa.spi].on_intermediate(received, now)
            case State.AUTH_SENT, Exchange.IKE_AUTH, True:
                self._initiations[sa.spi].on_auth(received, now)
            case State.HALF_OPEN, Exchange.IKE_INTERMEDIATE, False:
                acceptance.on_intermediate(sa, received, now)
            case State.HALF_OPEN, Exchange.IKE_AUTH, False:
                acceptance.on_auth(sa, received, self.peers.values(), self.stranger, now)
            case State.ESTABLISHED | State.REPLACED | State.DELETING, _, True:
                sa.responded(received.message, now)
            case State.ESTABLISHED | State.REPLACED | State.DELETING, Exchange.CREATE_CHILD_SA, False:
                serving.on_create_child(sa, received, now)
            case State.ESTABLISHED | State.REPLACED | State.DELETING, Exchange.INFORMATIONAL, False:
                serving.on_informational(sa, received, local, remote, now)
            case _, _, False if sa.established:
                sa.answer(header, [NotifyPayload(Notification.INVALID_SYNTAX)], now)
            case _:
                raise Discard(Reason.IKE_UNEXPECTED, f"{header.name} in state {sa.state.name}")

    def _outputs(self, touched: Iterable[IkeSa]) -> list[Output]:
        context = self._context
        context.touched += touched
        for sa in dict.fromkeys(context.touched):
            if sa.state not in BEGINNING:
                self._initiations.pop(sa.spi, None)
            due = sa.timer
            if due is not None and sa.spi in context.sas:
                heappush(self._alarms, (due, sa.spi))
        context.touched.clear()
        if len(self._alarms) > 64 + 4 * len(context.sas):
            self._alarms = [(due, spi) for spi, sa in context.sas.items() if (due := sa.timer) is not None]
            heapify(self._alarms)
        self.timer = self._next()
        out, context.out = context.out, []
        return out


def _everybody(_remote: Endpoint) -> bool:
    return True


def _ours(header: Header) -> bytes:
    return header.responder_spi if header.from_initiator else header.initiator_spi
