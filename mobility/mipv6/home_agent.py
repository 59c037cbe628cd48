"""The home agent's engine: binding cache, registration, tunnel both ways (RFC 6275 section 10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Protocol

from mobility.discards import Discard, Reason
from mobility.ipsec.processing import IpsecProcessing
from mobility.mipv6.again import Progress, SentLately, loss_in
from mobility.mipv6.binding_cache import Binding, BindingCache, CacheFull, newer
from mobility.mipv6.binding_events import BindingCreated as BindingCreated
from mobility.mipv6.binding_events import BindingRemoved as BindingRemoved
from mobility.mipv6.binding_events import UpdateRefused as UpdateRefused
from mobility.mipv6.home_settings import AuthorisedTerminal as AuthorisedTerminal
from mobility.mipv6.home_settings import HomeAgentSettings as HomeAgentSettings
from mobility.mipv6.registration import status_name
from mobility.mipv6.signalling import Received, open_message, to_terminal
from mobility.mipv6.tunnel import (
    agent_policies,
    decapsulate,
    encapsulate,
    room,
)
from mobility.outputs import Discarded, Output
from mobility.wire import icmp6, ip6, mh
from mobility.wire.errors import WireError

REFRESH_REQUEST_AT = 0.9
"Fraction of a binding's lifetime after which the terminal is reminded, once (section 10.6.1 leaves when)."
CONFLICT_MEMORY = 60.0
"Seconds for which registrations are refused after another node claimed the home address on the home link."
DETECTION_TIME = 2.0
"Seconds after the first binding in which duplicate address detection has come to its end (RFC 4862 section 5.4)."
WAKE_INTERVAL = 1.0
"Seconds between reminders to a terminal that uses a binding which this home agent does not know."
MINIMUM_LIFETIME = 4
"Seconds; the unit of the wire format, below it a lifetime means deregistration."


class HomeLink(Protocol):
    """What the engine needs of the host on the home link."""

    def send(self, packet: bytes, now: float) -> list[Output]: ...

    def add_proxy(self, address: IPv6Address, now: float) -> list[Output]: ...

    def remove_proxy(self, address: IPv6Address, now: float) -> list[Output]: ...

    def path_mtu(self, destination: bytes) -> int: ...


@dataclass(frozen=True, slots=True)
class Reply:
    """A signalling packet for one terminal. At home it goes to the link-layer address that asked."""

    packet: bytes
    at_home: bool


class HomeAgent:
    """Decides who is bound, and carries packets between the home link and the tunnels."""

    def __init__(
        self, settings: HomeAgentSettings, link: HomeLink, answer: Callable[[Reply, float], list[Output]]
    ) -> None:
        """``answer`` sends a reply to whoever sent the packet that is being handled.

        Raises `ValueError`: associations that do not suit the tunnel, or an SPI or home address twice.
        """
        self.settings = settings
        self.cache = BindingCache(settings.cache_limit)
        self._link = link
        self._answer = answer
        self._prefix = IPv6Network((settings.address, settings.prefix_length), strict=False)
        self._address = settings.address.packed
        self._terminals: dict[bytes, AuthorisedTerminal] = {}
        self._by_tunnel_spi: dict[int, AuthorisedTerminal] = {}
        for terminal in settings.terminals:
            if terminal.home_address.packed in self._terminals:
                raise ValueError(
                    f"home address {terminal.home_address} is configured twice; give each terminal its own"
                )
            self._terminals[terminal.home_address.packed] = terminal
            if terminal.associations.tunnel_in is not None:
                self._by_tunnel_spi[terminal.associations.tunnel_in.spi] = terminal
        self.security: IpsecProcessing = agent_policies(
            settings.address, ((each.home_address, each.form, each.associations) for each in settings.terminals)
        )
        self._reminders: dict[IPv6Address, float] = {}
        self._conflicts: dict[IPv6Address, float] = {}
        self._unchecked: dict[IPv6Address, float] = {}
        "Until when duplicate address detection may still fail."
        self._woken: dict[IPv6Address, float] = {}
        self._sent_lately = {
            address: SentLately(terminal.associations.tunnel_out) for address, terminal in self._terminals.items()
        }
        self._losses: dict[IPv6Address, tuple[int, int]] = {}
        "Number of the last loss that each terminal told, and how many packets were sent again for it."
        self._timer: float | None = None

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return self._timer

    def _set_timer(self) -> None:
        """Only signalling and time move it, so that data does not pay for looking through all bindings."""
        times = [*self._reminders.values(), *self._conflicts.values()]
        times += [binding.expires for binding in self.cache.bindings()]
        self._timer = min(times, default=None)

    def handle_timer(self, now: float) -> list[Output]:
        """Bindings expire, terminals are reminded."""
        outputs: list[Output] = []
        self._conflicts = {address: until for address, until in self._conflicts.items() if until > now}
        for binding in [each for each in self.cache.bindings() if each.expires <= now]:
            self.cache.delete(binding.home_address.packed)
            outputs += self._unbound(binding.home_address, "lifetime over", now)
        for home_address in [address for address, due in self._reminders.items() if due <= now]:
            del self._reminders[home_address]
            outputs += self._remind(home_address, now)
        self._set_timer()
        return outputs

    # ------------------------------------------------------------ signalling (sections 9.5, 10.3)

    def signalling(self, packet: bytes, now: float) -> list[Output]:
        """A packet with a mobility message for this home agent. Raises `Discard`: not answered, nothing changes."""
        received = open_message(packet, self.security)
        match received.message:
            case mh.BindingUpdate() as update:
                try:
                    return self._update(update, received, now)
                finally:
                    self._set_timer()
            case other:
                raise Discard(Reason.MESSAGE_UNEXPECTED, f"mobility header type {int(other.type)}")

    def conflict(self, home_address: IPv6Address, now: float) -> list[Output]:
        """Another node on the home link claims this address.

        Soon after the first binding that is a failure of duplicate address detection (section 10.3.1), which runs while
        the binding is used already. Later anybody on the link could end bindings that way: nothing changes.
        """
        if self._unchecked.get(home_address, now) <= now:
            return []
        rows = self.cache.delete(home_address.packed)
        if not rows:
            return []
        binding = rows[0]
        self._conflicts[home_address] = now + CONFLICT_MEMORY
        # The terminal is told to ask again; the answer will be status 134.
        outputs = self._request_refresh(home_address, binding.care_of_address, now)
        outputs += self._unbound(home_address, "duplicate address on the home link", now)
        self._set_timer()
        return outputs

    def _update(self, update: mh.BindingUpdate, received: Received, now: float) -> list[Output]:
        home_address = received.source
        if received.destination != self.settings.address:
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"binding update to {received.destination}")
        terminal = self._terminals.get(home_address.packed)
        if terminal is None:
            raise Discard(Reason.NOT_OURS, f"{home_address} is no home address of this home agent")
        if not update.flags & mh.UpdateFlag.HOME_REGISTRATION:
            raise Discard(Reason.MESSAGE_UNEXPECTED, f"binding update of {home_address} without the H flag")
        binding = self.cache.find(home_address.packed)
        alternate = update.alternate_care_of
        care_of_address = alternate if alternate is not None else received.outer_source
        if binding is not None and not newer(update.sequence, binding.sequence):
            return self._refuse(update, received, mh.Status.SEQUENCE_OUT_OF_WINDOW, now, binding.sequence)
        status = self._judge(update, terminal, binding, care_of_address, now)
        if status is not None:
            return self._refuse(update, received, status, now)
        if self._is_release(update, home_address, care_of_address):
            return self._deregister(update, received, now)
        return self._register(update, received, binding, care_of_address, now)

    def _judge(
        self,
        update: mh.BindingUpdate,
        terminal: AuthorisedTerminal,
        binding: Binding | None,
        care_of_address: IPv6Address,
        now: float,
    ) -> mh.Status | None:
        """The status of a refusal, in the order of section 10.3; None: nothing speaks against it."""
        home_address = terminal.home_address
        if not self.settings.serving:
            return mh.Status.HOME_REGISTRATION_NOT_SUPPORTED
        if home_address not in self._prefix:
            return mh.Status.NOT_HOME_SUBNET
        if not terminal.admitted:
            return mh.Status.ADMINISTRATIVELY_PROHIBITED
        if self._is_release(update, home_address, care_of_address):
            self._conflicts.pop(home_address, None)  # it was the terminal itself that was heard on the home link
            return mh.Status.NOT_HOME_AGENT if binding is None else None
        if not _usable_care_of(care_of_address) or care_of_address == self.settings.address:
            return mh.Status.INVALID_CARE_OF_ADDRESS
        if self._conflicts.get(home_address, now) > now:
            return mh.Status.DAD_FAILED
        return None

    @staticmethod
    def _is_release(update: mh.BindingUpdate, home_address: IPv6Address, care_of_address: IPv6Address) -> bool:
        return update.lifetime == 0 or care_of_address == home_address

    def _register(
        self,
        update: mh.BindingUpdate,
        received: Received,
        binding: Binding | None,
        care_of_address: IPv6Address,
        now: float,
    ) -> list[Output]:
        home_address = received.source
        granted = max(min(update.lifetime, self.settings.max_lifetime) // 4 * 4, MINIMUM_LIFETIME)
        try:
            present = Binding(home_address, care_of_address, granted, now + granted, update.sequence)
            self.cache.put(present)
        except CacheFull:
            return self._refuse(update, received, mh.Status.INSUFFICIENT_RESOURCES, now)
        self._reminders[home_address] = now + granted * REFRESH_REQUEST_AT
        if binding is None:
            self._unchecked[home_address] = now + DETECTION_TIME
        options: tuple[mh.Option, ...] = ()
        advice = self.settings.refresh_advice
        if advice is not None and advice < granted:
            options = (mh.BindingRefreshAdvice(advice),)
        again = self._lost(update, received, now)
        options += self._progress(received)
        outputs = self._acknowledge(update, received, mh.Status.ACCEPTED, update.sequence, granted, options, now)
        outputs += self._link.add_proxy(home_address, now)
        previous = None if binding is None else binding.care_of_address
        if previous != care_of_address:
            outputs.append(BindingCreated(home_address, care_of_address, previous, granted, len(again)))
        for packet in again:
            try:
                outputs += self._into_tunnel(packet, present, now)
            except Discard as discard:
                outputs.append(Discarded.of(discard, "home-agent"))
        return outputs

    def _lost(self, update: mh.BindingUpdate, received: Received, now: float) -> list[bytes]:
        """The packets that the terminal did not get before its last care-of address was lost; once for each loss."""
        told = loss_in(update.options) if received.under_ipsec else None
        if told is None:
            return []
        highest, number = told
        known = self._losses.get(received.source)
        if known is not None and known[0] == number:
            return []
        packets = self._sent_lately[received.source.packed].after(highest, now)
        self._losses[received.source] = number, len(packets)
        return packets

    def _progress(self, received: Received) -> tuple[mh.Option, ...]:
        """Tells the terminal what came through the tunnel: nothing more will be taken from its last place."""
        association = self._terminals[received.source.packed].associations.tunnel_in
        if association is None or not received.under_ipsec:
            return ()
        _, again = self._losses.get(received.source, (0, 0))
        return (Progress(association.top, again).option(),)

    def _deregister(self, update: mh.BindingUpdate, received: Received, now: float) -> list[Output]:
        home_address = received.source
        self.cache.delete(home_address.packed)
        again = self._lost(update, received, now)
        # The defence of the home address ends before the answer: the terminal may use it when the answer comes.
        outputs = self._unbound(home_address, "deregistered", now)
        options = self._progress(received)
        outputs += self._acknowledge(update, received, mh.Status.ACCEPTED, update.sequence, 0, options, now)
        if received.outer_source == home_address:
            # Where the acknowledgement went; nobody else knows yet that the terminal is there.
            for packet in again:
                outputs += self._answer(Reply(packet, at_home=True), now)
        return outputs

    def _unbound(self, home_address: IPv6Address, why: str, now: float) -> list[Output]:
        self._reminders.pop(home_address, None)
        self._unchecked.pop(home_address, None)
        return [*self._link.remove_proxy(home_address, now), BindingRemoved(home_address, why)]

    def _refuse(
        self, update: mh.BindingUpdate, received: Received, status: mh.Status, now: float, sequence: int | None = None
    ) -> list[Output]:
        number = update.sequence if sequence is None else sequence
        outputs = self._acknowledge(update, received, status, number, 0, (), now)
        return [*outputs, UpdateRefused(received.source, status_name(status))]

    def _acknowledge(
        self,
        update: mh.BindingUpdate,
        received: Received,
        status: mh.Status,
        sequence: int,
        lifetime: int,
        options: tuple[mh.Option, ...],
        now: float,
    ) -> list[Output]:
        if status < 128 and not update.flags & mh.UpdateFlag.ACKNOWLEDGE:
            return []
        # Associations are found by SPI alone, so key management survives every movement: the K flag is granted.
        movable = status < 128 and bool(update.flags & mh.UpdateFlag.KEY_MANAGEMENT)
        flags = mh.AckFlag.KEY_MANAGEMENT if movable else mh.NO_FLAGS
        acknowledgement = mh.BindingAcknowledgement(int(status), sequence, lifetime, flags, options)
        home_address, back = received.source, received.outer_source  # section 9.5.4
        packet = to_terminal(acknowledgement, self.settings.address, home_address, back, self.security)
        return self._answer(Reply(packet, back == home_address), now)

    def _remind(self, home_address: IPv6Address, now: float) -> list[Output]:
        binding = self.cache.find(home_address.packed)
        return [] if binding is None else self._request_refresh(home_address, binding.care_of_address, now)

    def _request_refresh(self, home_address: IPv6Address, care_of_address: IPv6Address, now: float) -> list[Output]:
        request = mh.BindingRefreshRequest()
        try:
            packet = to_terminal(request, self.settings.address, home_address, care_of_address, self.security)
        except Discard as discard:
            return [Discarded.of(discard, "home-agent")]
        return self._link.send(packet, now)

    # ------------------------------------------------------------ data (sections 10.4.2, 10.4.5)

    def intercept(self, packet: bytes, now: float) -> list[Output]:
        """A packet for a home address: into the tunnel with it. Raises `Discard`."""
        packet = self._hop(packet, now)
        binding = self.cache.find(packet[24:40])
        if binding is None:
            raise Discard(Reason.BINDING_UNKNOWN, f"to {IPv6Address(packet[24:40])}")
        return self._into_tunnel(packet, binding, now)

    def reverse(self, packet: bytes, now: float) -> list[Output]:
        """A packet that a terminal tunnelled to this home agent: on its way with it. Raises `Discard`."""
        terminal = self._sender(packet)
        home_address = terminal.home_address.packed
        binding = self.cache.find(home_address)
        if binding is None:
            return self._wake(terminal, packet, now)
        if packet[8:24] != binding.care_of_address.packed:
            raise Discard(
                Reason.OUTER_SOURCE_WRONG,
                f"{IPv6Address(packet[8:24])} is not the care-of address of {terminal.home_address}",
            )
        inner = decapsulate(packet, terminal.form, self.security)
        if inner[8:24] != home_address:
            raise Discard(Reason.INNER_SOURCE_WRONG, f"{IPv6Address(inner[8:24])} is not {terminal.home_address}")
        if inner[24:40] == self._address:
            return self._for_us(inner, binding, now)
        inner = self._hop(inner, now)
        destination = self.cache.find(inner[24:40])
        if destination is not None:
            return self._into_tunnel(inner, destination, now)
        if len(inner) > (mtu := self._link.path_mtu(inner[24:40])):
            return self._too_big(inner, mtu, now)
        return self._link.send(inner, now)

    def _wake(self, terminal: AuthorisedTerminal, packet: bytes, now: float) -> list[Output]:
        """A terminal believes that it is bound, but this home agent was restarted: ask it to register again.

        Without this it would notice at the next refresh only. Once a second at most, and only if the packet is genuine.
        """
        unknown = Discarded(Reason.BINDING_UNKNOWN, "home-agent", f"from {terminal.home_address}")
        inner = decapsulate(packet, terminal.form, self.security)
        if inner[8:24] != terminal.home_address.packed:
            raise Discard(Reason.INNER_SOURCE_WRONG, f"{IPv6Address(inner[8:24])} is not {terminal.home_address}")
        if self._woken.get(terminal.home_address, now) > now:
            return [unknown]
        self._woken[terminal.home_address] = now + WAKE_INTERVAL
        return [unknown, *self._request_refresh(terminal.home_address, IPv6Address(packet[8:24]), now)]

    def _sender(self, packet: bytes) -> AuthorisedTerminal:
        """Whose packet this claims to be; nothing is proven yet."""
        match packet[6]:
            case ip6.ESP:
                terminal = self._by_tunnel_spi.get(int.from_bytes(packet[40:44]))
                if terminal is None:
                    raise Discard(Reason.SA_UNKNOWN, f"SPI {packet[40:44].hex()}")
                return terminal
            case ip6.IPV6:
                terminal = self._terminals.get(packet[48:64])
                if terminal is None:
                    raise Discard(Reason.INNER_SOURCE_WRONG, "the inner source is no home address of this home agent")
                return terminal
            case other:
                raise Discard(Reason.NOT_TUNNELLED, f"next header {other} from {IPv6Address(packet[8:24])}")

    def _into_tunnel(self, packet: bytes, binding: Binding, now: float) -> list[Output]:
        terminal = self._terminals[binding.home_address.packed]
        care_of_address = binding.care_of_address.packed
        path_mtu = self._link.path_mtu(care_of_address)
        largest = max(room(path_mtu, terminal.form, self.security, terminal.home_address), ip6.MINIMUM_MTU)
        if len(packet) > largest:
            return self._too_big(packet, largest, now)
        outer = encapsulate(packet, self._address + care_of_address, terminal.form, self.security)
        self._sent_lately[terminal.home_address.packed].sealed(packet, now)
        return self._link.send(outer, now)

    def _for_us(self, inner: bytes, binding: Binding, now: float) -> list[Output]:
        """A terminal talks to its home agent through the tunnel: echo is answered."""
        if inner[6] == ip6.ICMPV6:
            body = inner[ip6.HEADER_SIZE :]
            try:
                icmp6.verify(inner[8:24], inner[24:40], body)
                message = icmp6.parse(body)
            except WireError as error:
                raise Discard(Reason.MALFORMED, str(error)) from error
            if isinstance(message, icmp6.Echo) and not message.reply:
                reply = icmp6.Echo(message.identifier, message.sequence, message.data, reply=True)
                return self._into_tunnel(icmp6.packet(inner[24:40], inner[8:24], reply), binding, now)
        raise Discard(Reason.MESSAGE_UNEXPECTED, f"protocol {inner[6]} for the home agent itself")

    def _hop(self, packet: bytes, now: float) -> bytes:
        """The packet with one hop less. Raises `Discard`: it ends here, or may not be forwarded at all."""
        if not (_forwardable(packet[8:24]) and _forwardable(packet[24:40])):
            raise Discard(Reason.NOT_FORWARDED, f"{IPv6Address(packet[8:24])} to {IPv6Address(packet[24:40])}")
        if packet[7] <= 1:
            raise HopLimitExceeded(self._error(packet, icmp6.TimeExceeded(icmp6.HOP_LIMIT_EXCEEDED, packet), now))
        return b"%b%c%b" % (packet[:7], packet[7] - 1, packet[8:])

    def _too_big(self, packet: bytes, mtu: int, now: float) -> list[Output]:
        detail = f"{len(packet)} octets to {IPv6Address(packet[24:40])}, {mtu} fit"
        told = self._error(packet, icmp6.PacketTooBig(mtu, packet), now)
        return [*told, Discarded(Reason.TOO_BIG, "home-agent", detail)]

    def _error(self, packet: bytes, message: icmp6.Error, now: float) -> list[Output]:
        if not icmp6.may_be_answered_with_error(packet):
            return []
        sender = IPv6Address(packet[8:24])
        error = icmp6.packet(self.settings.address, sender, message)
        binding = self.cache.find(sender.packed)
        return self._link.send(error, now) if binding is None else self._into_tunnel(error, binding, now)

    def is_bound(self, home_address: bytes) -> bool:
        """Whether packets for this address are intercepted."""
        return self.cache.find(home_address) is not None

    def is_tunnel(self, spi: bytes) -> bool:
        """Whether ESP with this SPI is of a tunnel and not of the signalling."""
        return int.from_bytes(spi) in self._by_tunnel_spi

    def snapshot(self, now: float) -> dict[str, object]:
        """For people, JSON-ready."""
        return {
            "address": str(self.settings.address),
            "binding_cache": self.cache.snapshot(now),
            "terminals": [
                {
                    "home_address": str(each.home_address),
                    "tunnel": each.form.value,
                    "admitted": each.admitted,
                    "sent_lately": self._sent_lately[each.home_address.packed].snapshot(),
                }
                for each in self.settings.terminals
            ],
            "policies": self.security.spd.describe(),
        }


class HopLimitExceeded(Discard):
    """The hop limit is used up; ``told`` is what tells the sender."""

    def __init__(self, told: list[Output]) -> None:
        super().__init__(Reason.HOP_LIMIT)
        self.told = told


def _usable_care_of(address: IPv6Address) -> bool:
    return not (address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local)


def _forwardable(address: bytes) -> bool:
    """Whether packets from or to this address may leave the link: not multicast, link-local, unspecified, loopback."""
    first = address[0]
    if first == 0xFF or (first == 0xFE and address[1] & 0xC0 == 0x80):
        return False
    return address[:15] != bytes(15) or address[15] > 1
