"""The mobility anchor point's engine: local registration, and the tunnel both ways (Fig. 27; RFC 5380 section 7).

Beside the home agent's engine and without it: what both share are the formats, the tunnel and the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Protocol

from mobility.discards import Discard, Reason
from mobility.hmipv6.map_cache import MapCache, RegionalBinding
from mobility.hmipv6.map_events import (
    LocalUpdateRefused,
    RegionalBindingCreated,
    RegionalBindingMoved,
    RegionalBindingRemoved,
)
from mobility.hmipv6.map_settings import MapSettings, MapTerminal
from mobility.hmipv6.options import again_in
from mobility.host.alarms import Alarms
from mobility.host.errors import TokenBucket
from mobility.host.identifiers import RESERVED
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA
from mobility.ipsec.spd import ANYWHERE
from mobility.mipv6.binding_cache import newer
from mobility.mipv6.home_errors import SenderTold
from mobility.mipv6.registration import status_name
from mobility.mipv6.signalling import Received, open_message, to_terminal
from mobility.mipv6.tunnel import (
    MobileAssociations,
    TunnelForm,
    agent_policies,
    checked,
    decapsulate,
    encapsulate,
    room,
)
from mobility.outputs import Discarded, Output, Transmit
from mobility.wire import icmp6, ip6, mh
from mobility.wire.errors import WireError

CONFLICT_MEMORY = 60.0
"Seconds for which an RCoA is refused after another node claimed it."
DETECTION_TIME = 2.0
"Seconds after the first binding in which duplicate address detection has come to its end (RFC 4862 section 5.4)."
RETIRED_LIMIT = 1024
"RCoAs that were bound, whose last sequence number is remembered."
MINIMUM_LIFETIME = 4
ERRORS_PER_SECOND = 100.0
"ICMP errors to senders, all together."
_WHERE = "map"


class MapLink(Protocol):
    """What the engine needs of the host on its link."""

    link: str

    def next_hop(self, destination: bytes) -> bytes | None: ...

    def send(self, packet: bytes, now: float) -> list[Output]: ...

    def add_proxy(self, address: IPv6Address, now: float) -> list[Output]: ...

    def remove_proxy(self, address: IPv6Address, now: float) -> list[Output]: ...

    def path_mtu(self, destination: bytes) -> int: ...


@dataclass(frozen=True, slots=True)
class _Client:
    """Whose keys a packet came by."""

    name: str
    form: TunnelForm
    security: IpsecProcessing
    associations: MobileAssociations
    negotiated: bool
    "IKE makes its keys, and follows it (the K bit, RFC 6275 section 10.3.1)."

    @classmethod
    def of(cls, settings: MapSettings, terminal: MapTerminal) -> _Client:
        # Any address: which ones a terminal may bind is for `_judge` to say, so that it hears why not.
        security = agent_policies(settings.address, ((ANYWHERE, terminal.form, terminal.associations, ()),))
        return cls(terminal.name, terminal.form, security, terminal.associations, terminal.keys is not None)


class MobilityAnchorPoint:
    """Binds RCoAs of its prefix to LCoAs, and carries packets between the two. Owns no clock, socket or dice."""

    def __init__(self, settings: MapSettings, link: MapLink) -> None:
        """Raises `ValueError`: associations that do not suit the tunnel, or a name or an SPI twice."""
        self.settings = settings
        self.cache = MapCache(settings.cache_limit, settings.cache_limit_per_terminal)
        self._link = link
        self._address = settings.address.packed
        self._clients: dict[str, _Client] = {}
        self._by_spi: dict[bytes, _Client] = {}
        if settings.open:
            self._clients[""] = _Client.of(settings, MapTerminal(""))
        for terminal in settings.terminals:
            self.admit(terminal)
        self._retired: dict[bytes, int] = {}
        self._claimed: dict[bytes, float] = {}
        "RCoAs that another node has, and until when that is remembered."
        self._alarms = Alarms()
        self._due: list[Output] = []
        self._errors = TokenBucket(ERRORS_PER_SECOND, ERRORS_PER_SECOND)
        self._binding_errors = TokenBucket(settings.error_rate, settings.error_rate)

    def admit(self, terminal: MapTerminal) -> None:
        """One more may register. Raises `ValueError`: its name, or an SPI, is taken."""
        if terminal.name in self._clients:
            raise ValueError(f"terminal {terminal.name!r} is configured twice; give each a name of its own")
        client = self._clients[terminal.name] = _Client.of(self.settings, terminal)
        for association in (terminal.associations.signalling_in, terminal.associations.tunnel_in):
            if association is None or client.negotiated:
                continue
            if self._by_spi.setdefault(association.spi.to_bytes(4), client) is not client:
                raise ValueError(f"SPI {association.spi:#x} is configured for two terminals")

    def dismiss(self, name: str) -> None:
        """One that has neither bindings nor keys may not any more."""
        del self._clients[name]

    def serves(self, name: str) -> bool:
        """Whether one of this name may register."""
        return name in self._clients

    def associations(self) -> list[MobileAssociations]:
        """Of all that may register."""
        return [client.associations for client in self._clients.values()]

    # ------------------------------------------------------------ keys that are negotiated

    def learn(self, name: str, spi: int, sa: InboundSA) -> None:
        """What comes by this SPI is of the terminal of this name. Raises `ValueError`: it is taken."""
        client = self._clients[name]
        client.security.learn(spi, sa)
        self._by_spi[spi.to_bytes(4)] = client

    def forget(self, spi: int) -> None:
        """Nothing comes by this SPI any more."""
        client = self._by_spi.pop(spi.to_bytes(4), None)
        if client is not None:
            client.security.forget(spi)

    def knows(self, spi: int) -> bool:
        """Whether something comes by this SPI."""
        return spi.to_bytes(4) in self._by_spi

    def whose(self, regional: IPv6Address) -> str | None:
        """Name of the terminal that has bound an RCoA; None: nobody has."""
        row = self.cache.find(regional.packed)
        return None if row is None else row.client

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return self._alarms.next

    def handle_timer(self, now: float) -> list[Output]:
        """Bindings expire."""
        self._alarms.run(now)
        due, self._due = self._due, []
        return due

    def is_bound(self, regional: bytes) -> bool:
        """Whether packets for this address are intercepted."""
        return self.cache.find(regional) is not None

    # ------------------------------------------------------------ local registration

    def signalling(self, packet: bytes, now: float) -> list[Output]:
        """Step 602: a packet with a mobility message for this MAP. Raises `Discard`: not answered, nothing changes."""
        client = self._sender(packet)
        received = open_message(packet, client.security)
        if received.destination != self.settings.address:
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"mobility message to {received.destination}")
        update = received.message
        if not isinstance(update, mh.BindingUpdate):
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"mobility header type {int(update.type)}")
        told = [each.address for each in update.options if isinstance(each, mh.AlternateCareOfAddress)]
        if any(address != received.outer_source for address in told):
            # ESP does not guard the source of the packet, but it guards the option (RFC 6275 section 11.7.1).
            raise Discard(Reason.OUTER_SOURCE_WRONG, f"{received.outer_source}, the update says {told[0]}")
        return self._update(client, update, received, now)

    def _sender(self, packet: bytes) -> _Client:
        """Whose keys the packet names. Raises `Discard`."""
        try:
            headers = ip6.walk(packet)
        except WireError as error:
            raise Discard(Reason.MALFORMED, str(error)) from error
        if headers.protocol in (ip6.ESP, ip6.AH):
            at = headers.offset + (4 if headers.protocol == ip6.AH else 0)
            client = self._by_spi.get(packet[at : at + 4])
            if client is None:
                raise Discard(Reason.SA_UNKNOWN, f"SPI 0x{packet[at : at + 4].hex()}")
            return client
        anybody = self._clients.get("")
        if anybody is None:
            raise Discard(Reason.NOT_PROTECTED, f"a mobility message of {IPv6Address(packet[8:24])}")
        return anybody

    def _update(self, client: _Client, update: mh.BindingUpdate, received: Received, now: float) -> list[Output]:
        regional, local = received.source, received.outer_source
        row = self.cache.find(regional.packed)
        if row is not None and row.client != client.name:
            # To whoever asks it is an address that somebody else has.
            return self._refuse(client, update, received, mh.Status.DAD_FAILED, now)
        last = self._retired.get(regional.packed) if row is None else row.sequence
        if last is not None and not newer(update.sequence, last):
            return self._refuse(client, update, received, mh.Status.SEQUENCE_OUT_OF_WINDOW, now, last)
        status = self._judge(client, update, received, row, now)
        if status is not None:
            return self._refuse(client, update, received, status, now)
        if update.lifetime == 0 or local == regional:
            if row is not None:
                self._retire(row, update.sequence)
            ended = self._end(regional, "deregistered", now)
            return ended + self._acknowledge(client, update, received, mh.Status.ACCEPTED, 0, now)
        return self._bind(client, update, received, row, now)

    def _judge(
        self, client: _Client, update: mh.BindingUpdate, received: Received, row: RegionalBinding | None, now: float
    ) -> int | None:
        """The status of a refusal; None: nothing speaks against it."""
        regional, local = received.source, received.outer_source
        if update.flags & mh.UpdateFlag.HOME_REGISTRATION:
            return mh.Status.HOME_REGISTRATION_NOT_SUPPORTED
        if not update.flags & mh.UpdateFlag.MAP_REGISTRATION:
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"binding update of {regional} without the M flag")
        if regional not in self.settings.prefix:
            return mh.Status.NOT_HOME_SUBNET
        if update.lifetime == 0:
            return mh.Status.NOT_HOME_AGENT if row is None else None
        if self._claimed.get(regional.packed, now) > now or not _free(regional, self.settings.address):
            return mh.Status.DAD_FAILED
        if not ip6.forwardable(local.packed) or local in (regional, self.settings.address):
            return mh.Status.INVALID_CARE_OF_ADDRESS
        if row is None and not self.cache.has_room(client.name):
            return mh.Status.INSUFFICIENT_RESOURCES
        return None

    def _bind(
        self,
        client: _Client,
        update: mh.BindingUpdate,
        received: Received,
        row: RegionalBinding | None,
        now: float,
    ) -> list[Output]:
        regional, local = received.source, received.outer_source
        granted = max(min(update.lifetime, self.settings.max_lifetime) // 4 * 4, MINIMUM_LIFETIME)
        expires = now + granted
        again: list[bytes] = []
        outputs: list[Output] = []
        event: Output | None = None
        if row is None:
            row = RegionalBinding(regional, local, client.name, granted, expires, update.sequence, now)
            self.cache.put(row)
            self._retired.pop(regional.packed, None)
            outputs += self._link.add_proxy(regional, now)
            event = RegionalBindingCreated(regional, local, client.name, granted)
        else:
            if local != row.local:
                again = row.lately.take(again_in(update.options), now)
                event = RegionalBindingMoved(regional, local, row.local, len(again))
            row.move(local, now)
            row.lifetime, row.expires, row.sequence = granted, expires, update.sequence
        self._alarms.set(regional, expires, lambda then: self._expired(regional, then))
        outputs += self._acknowledge(client, update, received, mh.Status.ACCEPTED, granted, now)
        if event is not None:
            outputs.append(event)
        for packet in again:
            outputs += self._tunnel(packet, row, now)
        return outputs

    def _refuse(
        self,
        client: _Client,
        update: mh.BindingUpdate,
        received: Received,
        status: int,
        now: float,
        sequence: int | None = None,
    ) -> list[Output]:
        outputs = self._acknowledge(client, update, received, status, 0, now, sequence)
        return [*outputs, LocalUpdateRefused(received.source, received.outer_source, status_name(status))]

    def _acknowledge(
        self,
        client: _Client,
        update: mh.BindingUpdate,
        received: Received,
        status: int,
        lifetime: int,
        now: float,
        sequence: int | None = None,
    ) -> list[Output]:
        """Step 603: with a type 2 routing header that carries the RCoA, to where the update came from."""
        number = update.sequence if sequence is None else sequence
        follows = client.negotiated and status < 128 and mh.UpdateFlag.KEY_MANAGEMENT in update.flags
        flags = mh.AckFlag.KEY_MANAGEMENT if follows else mh.NO_FLAGS
        acknowledgement = mh.BindingAcknowledgement(status, number, lifetime, flags)
        return self._tell(client, acknowledgement, received.source, received.outer_source, now)

    def _tell(
        self, client: _Client, message: mh.Message, regional: IPv6Address, local: IPv6Address, now: float
    ) -> list[Output]:
        try:
            packet = to_terminal(message, self.settings.address, regional, local, client.security)
        except Discard as discard:  # the association is at its end; what was decided holds
            return [Discarded.of(discard, _WHERE)]
        return self._link.send(packet, now)

    # ------------------------------------------------------------ ends of bindings

    def _retire(self, row: RegionalBinding, sequence: int) -> None:
        """No update that is older may bring this RCoA back."""
        self._retired.pop(row.regional.packed, None)
        self._retired[row.regional.packed] = sequence
        if len(self._retired) > RETIRED_LIMIT:
            del self._retired[next(iter(self._retired))]

    def _end(self, regional: IPv6Address, why: str, now: float) -> list[Output]:
        if self.cache.remove(regional.packed) is None:
            return []
        self._alarms.cancel(regional)
        return [*self._link.remove_proxy(regional, now), RegionalBindingRemoved(regional, why)]

    def _expired(self, regional: IPv6Address, now: float) -> None:
        row = self.cache.find(regional.packed)
        if row is not None:
            self._retire(row, row.sequence)
            self._due += self._end(regional, "lifetime over", now)

    def conflict(self, regional: IPv6Address, now: float) -> list[Output]:
        """Another node on the link claims an RCoA.

        Soon after the first binding that is a failure of duplicate address detection, which runs while the binding is
        used already: the terminal is told to ask again, and the answer will be status 134. Later anybody on the link
        could end bindings that way, and nothing changes.
        """
        row = self.cache.find(regional.packed)
        if row is None or now - row.made > DETECTION_TIME:
            return []
        self._claimed = {address: until for address, until in self._claimed.items() if until > now}
        self._claimed[regional.packed] = now + CONFLICT_MEMORY
        ended = self._end(regional, "duplicate address on the link of the MAP", now)
        return ended + self._tell(self._clients[row.client], mh.BindingRefreshRequest(), regional, row.local, now)

    # ------------------------------------------------------------ to the terminal (steps 611, 612, 622, 623)

    def intercept(self, packet: bytes, now: float) -> list[Output]:
        """A packet for an RCoA: into the tunnel with it. Raises `Discard`."""
        row = self.cache.find(packet[24:40])
        if row is None:
            raise Discard(Reason.BINDING_UNKNOWN, f"to {IPv6Address(packet[24:40])}")
        return self._into_tunnel(self._hop(packet, now), row, now)

    def _into_tunnel(self, packet: bytes, row: RegionalBinding, now: float) -> list[Output]:
        client = self._clients[row.client]
        fits = room(self._link.path_mtu(row.local.packed), client.form, client.security, row.regional)
        # What every link has to carry goes through in any case: the host fragments the outer packet.
        fits = max(fits, ip6.MINIMUM_MTU)
        if len(packet) > fits:
            told = self._error(packet, icmp6.PacketTooBig(fits, packet), now)
            return [*told, Discarded(Reason.TOO_BIG, _WHERE, f"{len(packet)} octets to {row.regional}, {fits} fit")]
        row.lately.keep(packet, now)
        return self._tunnel(packet, row, now)

    def _tunnel(self, packet: bytes, row: RegionalBinding, now: float) -> list[Output]:
        client = self._clients[row.client]
        try:
            outer = encapsulate(packet, self._address + row.local.packed, client.form, client.security)
        except Discard as discard:
            return [Discarded.of(discard, _WHERE)]
        return self._send(outer, now)

    def _send(self, packet: bytes, now: float) -> list[Output]:
        destination = packet[24:40]
        to = self._link.next_hop(destination)
        if to is None or len(packet) > self._link.path_mtu(destination):
            return self._link.send(packet, now)
        return [Transmit(packet, to, self._link.link)]

    # ------------------------------------------------------------ from the terminal (steps 610, 613)

    def is_signalling(self, packet: bytes) -> bool:
        """Whether a packet for this MAP holds a mobility message, as far as can be seen from outside."""
        return packet[6] not in (ip6.ESP, ip6.IPV6, ip6.IPV4)

    def reverse(self, packet: bytes, now: float) -> list[Output]:
        """A tunnelled packet for this MAP: sent on from the RCoA. Raises `Discard`."""
        match packet[6]:
            case ip6.ESP:
                client = self._by_spi.get(packet[40:44])
                if client is None:
                    raise Discard(Reason.SA_UNKNOWN, f"SPI 0x{packet[40:44].hex()}")
            case ip6.IPV6:
                row = self.cache.find(checked(packet[ip6.HEADER_SIZE :])[8:24])
                if row is None:
                    return self._not_bound(packet, packet[ip6.HEADER_SIZE :], now)
                client = self._clients[row.client]
                if client.form is not TunnelForm.PLAIN:
                    raise Discard(Reason.NOT_PROTECTED, f"from {row.regional}, whose tunnel is {client.form.value}")
            case other:
                raise Discard(Reason.NOT_TUNNELLED, f"next header {other} from {IPv6Address(packet[8:24])}")
        inner = decapsulate(packet, client.form, client.security)
        if inner[0] >> 4 != 6:
            raise Discard(Reason.NOT_TUNNELLED, "an IPv4 packet")
        row = self.cache.find(inner[8:24])
        if row is None:
            return self._not_bound(packet, inner, now)
        if row.client != client.name:
            raise Discard(Reason.INNER_SOURCE_WRONG, f"{row.regional} is not of {client.name}")
        if not row.takes(packet[8:24], now):
            raise Discard(Reason.OUTER_SOURCE_WRONG, f"{IPv6Address(packet[8:24])} is not the LCoA of {row.regional}")
        return self._forward(inner, row, now)

    def _forward(self, inner: bytes, row: RegionalBinding, now: float) -> list[Output]:
        if inner[24:40] == self._address:
            return self._for_us(inner, row, now)
        inner = self._hop(inner, now)
        other = self.cache.find(inner[24:40])
        if other is not None:
            return self._into_tunnel(inner, other, now)
        if len(inner) > (mtu := self._link.path_mtu(inner[24:40])):
            told = self._error(inner, icmp6.PacketTooBig(mtu, inner), now)
            return [*told, Discarded(Reason.TOO_BIG, _WHERE, f"{len(inner)} octets, {mtu} fit")]
        return self._send(inner, now)

    def _for_us(self, inner: bytes, row: RegionalBinding, now: float) -> list[Output]:
        """The terminal asks whether the tunnel works: echo is answered."""
        if inner[6] == ip6.ICMPV6:
            try:
                reply = icmp6.echo_reply(inner)
            except WireError as error:
                raise Discard(Reason.MALFORMED, str(error)) from error
            if reply is not None:
                return self._tunnel(reply, row, now)
        raise Discard(Reason.MESSAGE_UNEXPECTED, f"protocol {inner[6]} for the MAP itself")

    def _not_bound(self, packet: bytes, inner: bytes, now: float) -> list[Output]:
        """A terminal believes that it is bound, but this MAP was restarted: a binding error says so at once.

        It proves nothing, and the terminal does nothing but register again (RFC 6275 section 11.3.6); the answer to
        that is authentic. Smaller than what caused it, and few: it cannot be used to flood anybody.
        """
        regional, local = IPv6Address(inner[8:24]), IPv6Address(packet[8:24])
        unknown = Discarded(Reason.BINDING_UNKNOWN, _WHERE, f"from {regional} by {local}")
        if regional not in self.settings.prefix or not ip6.forwardable(packet[8:24]):
            return [unknown]
        if not self._binding_errors.take(now):
            return [unknown]
        error = mh.BindingError(mh.ErrorStatus.UNKNOWN_BINDING, regional)
        body = mh.payload(error, self.settings.address, local)
        return [unknown, *self._link.send(ip6.packet(self._address, packet[8:24], ip6.MOBILITY, body), now)]

    # ------------------------------------------------------------ both ways

    def _hop(self, packet: bytes, now: float) -> bytes:
        """The packet with one hop less. Raises `Discard`: it ends here, or may not be forwarded at all."""
        if not (ip6.forwardable(packet[8:24]) and ip6.forwardable(packet[24:40])):
            raise Discard(Reason.NOT_FORWARDED, f"{IPv6Address(packet[8:24])} to {IPv6Address(packet[24:40])}")
        if packet[7] <= 1:
            told = self._error(packet, icmp6.TimeExceeded(icmp6.HOP_LIMIT_EXCEEDED, packet), now)
            raise SenderTold(Reason.HOP_LIMIT, told)
        return b"%b%c%b" % (packet[:7], packet[7] - 1, packet[8:])

    def _error(self, packet: bytes, message: icmp6.Error, now: float) -> list[Output]:
        if not icmp6.may_be_answered_with_error(packet) or not self._errors.take(now):
            return []
        error = icmp6.packet(self.settings.address, IPv6Address(packet[8:24]), message)
        row = self.cache.find(packet[8:24])
        return self._link.send(error, now) if row is None else self._tunnel(error, row, now)

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "address": str(self.settings.address),
            "prefix": str(self.settings.prefix),
            "open": self.settings.open,
            "map_cache": self.cache.snapshot(now),
            "terminals": [
                {"name": client.name, "tunnel": client.form.value, "policies": client.security.spd.describe()}
                for client in self._clients.values()
                if client.name
            ],
        }


def _free(regional: IPv6Address, own: IPv6Address) -> bool:
    """Whether a host may have this address: not the MAP's own, nor a reserved one (RFC 5453)."""
    number = int.from_bytes(regional.packed[8:])
    return regional != own and not any(first <= number <= last for first, last in RESERVED)
