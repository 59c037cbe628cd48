"""Home registration: who is bound where, and what binding updates are answered (RFC 6275 section 10.3, RFC 5648)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from mobility.discards import Discard
from mobility.host.alarms import Alarms
from mobility.ipsec.processing import IpsecProcessing
from mobility.links import endpoint_address, mapped
from mobility.mipv6.again import Progress
from mobility.mipv6.binding_cache import Binding, BindingCache, CacheFull, newer
from mobility.mipv6.binding_events import (
    BindingCreated,
    BindingEnded,
    BindingRebound,
    BindingRefreshed,
    BindingRemoved,
    BindingRestored,
    UpdateRefused,
)
from mobility.mipv6.binding_records import BindingRecord
from mobility.mipv6.home_paths import Outlet, Path, Reply
from mobility.mipv6.home_settings import HomeAgentSettings
from mobility.mipv6.ipv4_homes import IPv4Homes
from mobility.mipv6.registration import status_name
from mobility.mipv6.served_terminal import NEVER, Departure, ServedTerminal
from mobility.mipv6.signalling import to_terminal
from mobility.mipv6.update_request import UpdateRequest
from mobility.nemo.authorisation import NotAuthorised, wanted_networks
from mobility.nemo.mobile_networks import Prefixes
from mobility.nemo.nest import Nest, NestingRefused
from mobility.outputs import Discarded, Output
from mobility.wire import mh

REMINDER = 0.1
"Fraction of a binding's lifetime that is left when the terminal is reminded, once (section 10.6.1 leaves when)."
CONFLICT_MEMORY = 60.0
"Seconds for which registrations are refused after another node claimed the home address on the home link."
DETECTION_TIME = 2.0
"Seconds after the first binding in which duplicate address detection has come to its end (RFC 4862 section 5.4)."
MINIMUM_LIFETIME = 4
"Seconds; the unit of the wire format, below it a lifetime means deregistration."
NAT_REFRESH = 110
"Seconds between packets that keep a NAT's mapping; told to terminals behind one (RFC 5555 section 4.3)."


class Registrar:
    """Keeps the binding cache by what terminals ask for and by time."""

    def __init__(
        self,
        settings: HomeAgentSettings,
        cache: BindingCache,
        security: IpsecProcessing,
        link: Nest,
        outlet: Outlet,
        answer: Callable[[Reply, float], list[Output]],
    ) -> None:
        """Raises `ValueError` as `IPv4Homes`."""
        self.cache = cache
        self.homes4 = IPv4Homes(settings.ipv4_pool, settings.terminals)
        self.standing_in = True
        "Whether bound home addresses are proxied on the home link; not while on standby."
        self._settings = settings
        self._security = security
        self._link = link
        self._outlet = outlet
        self._answer = answer
        self._prefix = IPv6Network((settings.address, settings.prefix_length), strict=False)
        self._alarms = Alarms()
        self._due: list[Output] = []

    @property
    def timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return self._alarms.next

    def handle_timer(self, now: float) -> list[Output]:
        """Bindings expire, terminals are reminded."""
        self._alarms.run(now)
        outputs, self._due = self._due, []
        return outputs

    # ------------------------------------------------------------ updates

    def update(self, terminal: ServedTerminal, request: UpdateRequest, now: float) -> list[Output]:
        """Judges an update that IPsec let in, and answers it."""
        if terminal.settings.keys is None and not self._settings.key_management:
            # Keys that were made by hand have no key management that could follow the terminal (section 6.1.8).
            request = replace(request, flags=request.flags & ~mh.UpdateFlag.KEY_MANAGEMENT)
        last = self._last_sequence(terminal, request)
        if last is not None and not newer(request.sequence, last):
            return self._refuse(request, mh.Status.SEQUENCE_OUT_OF_WINDOW, now, last)
        status = self._judge(terminal, request, now)
        if status is not None:
            return self._refuse(request, status, now)
        if request.is_release:
            return self._deregister(terminal, request, now)
        try:
            networks = wanted_networks(request, terminal.settings, self.cache.of(terminal.home))
            place = request.care_of_address if request.path.native else endpoint_address(request.path.source)
            self._link.check_place(mapped(place).packed, terminal, Prefixes(networks))
        except NotAuthorised as refusal:
            return self._refuse(request, refusal.status, now, why=str(refusal))
        except NestingRefused as refusal:
            return self._refuse(request, mh.Status.INVALID_CARE_OF_ADDRESS, now, why=str(refusal))
        return self._register(terminal, request, networks, now)

    def _last_sequence(self, terminal: ServedTerminal, request: UpdateRequest) -> int | None:
        """Number of the last update about this binding; also when it was taken away."""
        if request.identifier:
            row = self.cache.get(terminal.home, request.identifier)
        else:
            row = self.cache.find(terminal.home)
        return terminal.retired.get(request.identifier) if row is None else row.sequence

    def _judge(self, terminal: ServedTerminal, request: UpdateRequest, now: float) -> int | None:
        """The status of a refusal, in the order of section 10.3; None: nothing speaks against it."""
        if not self._settings.serving:
            return mh.Status.HOME_REGISTRATION_NOT_SUPPORTED
        if request.home_address not in self._prefix:
            return mh.Status.NOT_HOME_SUBNET
        if not terminal.settings.admitted:
            return mh.Status.ADMINISTRATIVELY_PROHIBITED
        if request.malformed is not None:
            return request.malformed
        if request.is_release:
            terminal.conflict_until = NEVER  # it was the terminal itself that was heard on the home link
            if request.identifier:
                known = self.cache.get(terminal.home, request.identifier) is not None
                return None if known else mh.Status.MCOA_UNKNOWN_COA
            return None if self.cache.find(terminal.home) is not None else mh.Status.NOT_HOME_AGENT
        if not _usable_care_of(request.care_of_address):
            return mh.Status.INVALID_CARE_OF_ADDRESS
        if request.care_of_address in (self._settings.address, request.home_address):
            return mh.Status.INVALID_CARE_OF_ADDRESS
        if terminal.conflict_until > now:
            return mh.Status.DAD_FAILED
        return None

    def _register(
        self, terminal: ServedTerminal, request: UpdateRequest, networks: tuple[IPv6Network, ...], now: float
    ) -> list[Output]:
        granted = max(min(request.lifetime, self._settings.max_lifetime) // 4 * 4, MINIMUM_LIFETIME)
        present = Binding(
            request.home_address,
            request.care_of_address,
            granted,
            now + granted,
            request.sequence,
            request.identifier,
            b"" if request.path.native else request.path.source,
            request.path.link,
            networks,
        )
        before = self.cache.find(terminal.home)
        lost = request.loss is not None and not request.late and not _is_known(request.loss, terminal)
        try:
            ended = self._enter(present, request, lost=lost)
        except CacheFull:
            return self._refuse(request, mh.Status.INSUFFICIENT_RESOURCES, now)
        terminal.retired.pop(request.identifier, None)
        if before is None:
            terminal.unchecked_until = now + DETECTION_TIME
        self._watch(terminal, present, now)
        again = self._take_lost(terminal, request, now)
        options = (*self._asked_for(request), *self._progress(terminal, request))
        for row in ended:
            terminal.retire(row.identifier, request.sequence)
            self._unwatch(row)
        overlap = self._settings.overlap if request.identifier else 0.0
        departure = Departure.LOST if lost else Departure.REPLACED
        terminal.follow(self.cache.of(terminal.home), now, departure, overlap)
        outputs = self._acknowledge(request, mh.Status.ACCEPTED, request.sequence, granted, options, now)
        if self.standing_in:
            outputs += self._link.add_proxy(request.home_address, now)
        why = "lost" if lost else "replaced"
        outputs += [BindingEnded(row.home_address, row.identifier, row.care_of_address, why) for row in ended]
        if before is None or terminal.path != Path(before.source, before.link):
            outputs.append(_created(present, before, len(again)))
        else:
            outputs.append(BindingRefreshed(request.home_address, request.identifier, granted))
        return outputs + self._send_again(terminal, again, now)

    def _enter(self, present: Binding, request: UpdateRequest, *, lost: bool) -> list[Binding]:
        """Writes the binding into the cache; returns the others that it replaces. Raises `CacheFull`."""
        if not request.identifier or lost:
            return self.cache.put_alone(present)
        if request.late:
            self.cache.put_behind(present)
            return []
        self.cache.put(present)
        # The terminal has gone over from one binding without an identifier to several.
        without = self.cache.remove(present.home_address.packed, 0)
        return [] if without is None else [without]

    def _deregister(self, terminal: ServedTerminal, request: UpdateRequest, now: float) -> list[Output]:
        rows = self.cache.of(terminal.home)
        ended = [row for row in rows if request.identifier in (0, row.identifier)]
        for row in ended:
            self.cache.remove(terminal.home, row.identifier)
            terminal.retire(row.identifier, request.sequence)
            self._unwatch(row)
        terminal.retire(request.identifier, request.sequence)
        left = self.cache.of(terminal.home)
        again = self._take_lost(terminal, request, now)
        departure = Departure.DEREGISTERED if request.identifier else Departure.REPLACED
        terminal.follow(left, now, departure)
        outputs: list[Output]
        if left:
            outputs = [
                BindingEnded(row.home_address, row.identifier, row.care_of_address, "deregistered") for row in ended
            ]
        else:
            # The defence of the home address ends before the answer: the terminal may use it when the answer comes.
            outputs = self._unbound(terminal, "deregistered", now)
        options = self._progress(terminal, request)
        outputs += self._acknowledge(request, mh.Status.ACCEPTED, request.sequence, 0, options, now)
        if left:
            return outputs + self._send_again(terminal, again, now)
        if request.at_home:
            # Where the acknowledgement went; nobody else knows yet that the terminal is there.
            for packet in again:
                outputs += self._answer(Reply(packet, at_home=True), now)
        return outputs

    def _unbound(self, terminal: ServedTerminal, why: str, now: float) -> list[Output]:
        """After the last binding of a home address has gone from the cache."""
        home_address = terminal.settings.home_address
        terminal.unchecked_until = NEVER
        self.homes4.release(home_address)
        return [*self._link.remove_proxy(home_address, now), BindingRemoved(home_address, why)]

    # ------------------------------------------------------------ what is told

    def _refuse(
        self, request: UpdateRequest, status: int, now: float, sequence: int | None = None, why: str = ""
    ) -> list[Output]:
        number = request.sequence if sequence is None else sequence
        outputs = self._acknowledge(request, status, number, 0, (), now)
        return [*outputs, UpdateRefused(request.home_address, status_name(status), why)]

    def _asked_for(self, request: UpdateRequest) -> list[mh.Option]:
        """What an acknowledgement says of NAT, IPv4 home address and refreshing."""
        options: list[mh.Option] = []
        if request.behind_nat:
            options.append(mh.NatDetection(NAT_REFRESH))
        if request.address4 is not None:
            assigned = self.homes4.request(request.home_address, request.address4)
            options.append(mh.IPv4AddressAcknowledgement(int(assigned.status), assigned.address))
        advice = self._settings.refresh_advice
        if advice is not None and advice < min(request.lifetime, self._settings.max_lifetime):
            options.append(mh.BindingRefreshAdvice(advice))
        return options

    def _progress(self, terminal: ServedTerminal, request: UpdateRequest) -> tuple[mh.Option, ...]:
        """Tells the terminal what came through the tunnel: nothing more will be taken from its last place."""
        if terminal.association_in is None or not request.under_ipsec:
            return ()
        _, again = (0, 0) if terminal.loss is None else terminal.loss
        return (Progress(terminal.association_in.top, again).option(),)

    def _acknowledge(
        self,
        request: UpdateRequest,
        status: int,
        sequence: int,
        lifetime: int,
        options: tuple[mh.Option, ...],
        now: float,
    ) -> list[Output]:
        if status < 128 and not request.flags & mh.UpdateFlag.ACKNOWLEDGE:
            return []
        if request.identifier:
            options = (mh.BindingIdentifier(request.identifier), *options)
        flags = mh.NO_FLAGS
        if status < 128 and request.flags & mh.UpdateFlag.KEY_MANAGEMENT:
            flags |= mh.AckFlag.KEY_MANAGEMENT
        if status < 128 and request.is_router:
            flags |= mh.AckFlag.MOBILE_ROUTER
        acknowledgement = mh.BindingAcknowledgement(status, sequence, lifetime, flags, options)
        return self._try_to_tell(acknowledgement, request.home_address, request.path, now)

    def request_refresh(self, home_address: IPv6Address, path: Path, now: float) -> list[Output]:
        """Asks a terminal to register again (section 9.5.5)."""
        return self._try_to_tell(mh.BindingRefreshRequest(), home_address, path, now)

    def tell_unknown(self, terminal: ServedTerminal, path: Path, now: float) -> list[Output]:
        """A message of a type that this home agent does not know (section 9.2)."""
        home_address = terminal.settings.home_address
        error = mh.BindingError(mh.ErrorStatus.UNRECOGNIZED_TYPE, home_address)
        return self._try_to_tell(error, home_address, path, now)

    def _try_to_tell(self, message: mh.Message, home_address: IPv6Address, path: Path, now: float) -> list[Output]:
        """What has been decided holds, even if the terminal cannot be told."""
        try:
            return self._tell(message, home_address, path, now)
        except Discard as discard:
            return [Discarded.of(discard, "home-agent")]

    def _tell(self, message: mh.Message, home_address: IPv6Address, path: Path, now: float) -> list[Output]:
        """By the way that updates came (section 9.5.4). Raises `Discard`: the association is at its end."""
        if path.native:
            back = IPv6Address(path.source)
            packet = to_terminal(message, self._settings.address, home_address, back, self._security)
            if isinstance(message, mh.BindingAcknowledgement):
                return self._answer(Reply(packet, back == home_address), now)
            return self._link.send(packet, now)
        packet = to_terminal(message, self._settings.address, home_address, home_address, self._security)
        return self._outlet.datagram(packet, path, now)

    # ------------------------------------------------------------ what was lost

    def _take_lost(self, terminal: ServedTerminal, request: UpdateRequest, now: float) -> list[bytes]:
        """The packets that the terminal did not get before its last care-of address was lost; once for each loss."""
        if request.loss is None or _is_known(request.loss, terminal):
            return []
        highest, number = request.loss
        packets = terminal.sent_lately.after(highest, now)
        terminal.loss = number, len(packets)
        return packets

    def _send_again(self, terminal: ServedTerminal, packets: list[bytes], now: float) -> list[Output]:
        outputs: list[Output] = []
        for packet in packets:
            try:
                outputs += terminal.send(packet, now)
            except Discard as discard:
                outputs.append(Discarded.of(discard, "home-agent"))
        return outputs

    # ------------------------------------------------------------ what happens by itself

    def rebind(self, terminal: ServedTerminal, path: Path, now: float) -> list[Output]:
        """Authenticated packets of a terminal come by another path, which a NAT has chosen: its binding follows."""
        row = self._rebound(terminal, path)
        if row is None:
            return []
        previous = str(Path(row.endpoint))
        self.cache.amend(replace(row, endpoint=path.source, link=path.link))
        terminal.follow(self.cache.of(terminal.home), now)
        return [BindingRebound(row.home_address, row.identifier, str(path), previous)]

    def _rebound(self, terminal: ServedTerminal, path: Path) -> Binding | None:
        """Whose mapping has changed: that of the primary binding, unless another one has this very address."""
        rows = self.cache.of(terminal.home)
        others = [row for row in rows[1:] if row.endpoint[:16] == path.source[:16]]
        if len(others) == 1 and rows[0].endpoint[:16] != path.source[:16]:
            return others[0]
        return rows[0] if rows and not rows[0].native else None

    def conflict(self, terminal: ServedTerminal, now: float) -> list[Output]:
        """Another node on the home link claims the home address.

        Soon after the first binding that is a failure of duplicate address detection (section 10.3.1), which runs while
        the binding is used already. Later anybody on the link could end bindings that way: nothing changes.
        """
        path = terminal.path
        if path is None or terminal.unchecked_until <= now:
            return []
        terminal.conflict_until = now + CONFLICT_MEMORY
        # The terminal is told to ask again; the answer will be status 134.
        outputs = self.request_refresh(terminal.settings.home_address, path, now)
        return outputs + self.drop(terminal, "duplicate address on the home link", now)

    def drop(self, terminal: ServedTerminal, why: str, now: float) -> list[Output]:
        """Ends all bindings of a terminal."""
        rows = self.cache.delete(terminal.home)
        for row in rows:
            self._unwatch(row)
        terminal.follow((), now)
        return self._unbound(terminal, why, now) if rows else []

    def _watch(self, terminal: ServedTerminal, row: Binding, now: float) -> None:
        key = (terminal.home, row.identifier)
        self._alarms.set(("expiry", *key), row.expires, lambda then: self._expired(terminal, row, then))
        remind_at = row.expires - row.lifetime * REMINDER
        if remind_at > now:
            self._alarms.set(("reminder", *key), remind_at, lambda then: self._remind(terminal, row, then))

    def _unwatch(self, row: Binding) -> None:
        for what in ("expiry", "reminder"):
            self._alarms.cancel((what, row.home_address.packed, row.identifier))

    def _remind(self, terminal: ServedTerminal, row: Binding, now: float) -> None:
        present = self.cache.get(terminal.home, row.identifier)
        if present is not None:
            self._due += self.request_refresh(row.home_address, Path(present.source, present.link), now)

    def _expired(self, terminal: ServedTerminal, row: Binding, now: float) -> None:
        self.cache.remove(terminal.home, row.identifier)
        self._unwatch(row)
        left = self.cache.of(terminal.home)
        terminal.follow(left, now)
        if left:
            self._due.append(BindingEnded(row.home_address, row.identifier, row.care_of_address, "lifetime over"))
        else:
            self._due += self._unbound(terminal, "lifetime over", now)

    # ------------------------------------------------------------ before and after this process

    def record(self, terminal: ServedTerminal, wall_offset: float) -> BindingRecord | None:
        """What has to be known of a terminal elsewhere; None: it is not bound."""
        rows = self.cache.of(terminal.home)
        if not rows:
            return None
        home_address = terminal.settings.home_address
        return BindingRecord(
            home_address,
            tuple(replace(row, expires=row.expires + wall_offset) for row in rows),
            self.homes4.of(home_address),
            None if terminal.loss is None else terminal.loss[0],
        )

    def restore(self, terminal: ServedTerminal, record: BindingRecord, wall_offset: float, now: float) -> list[Output]:
        """The bindings of a record go on, unless they are over or the terminal has told something newer."""
        rows = [replace(row, expires=row.expires - wall_offset) for row in record.bindings]
        # A wall clock that was set back must not make bindings eternal.
        rows = [replace(row, expires=min(row.expires, now + row.lifetime)) for row in rows if row.expires > now]
        # A mobile router may have been given other networks meanwhile: then it has to ask again.
        allowed = terminal.settings.mobile_networks
        rows = [row for row in rows if all(any(each.subnet_of(own) for own in allowed) for each in row.mobile_networks)]
        if not rows or self.cache.find(terminal.home) is not None:
            return []
        try:
            for row in reversed(rows):
                self.cache.put(row)
        except CacheFull:
            self.cache.delete(terminal.home)
            return [UpdateRefused(record.home_address, status_name(mh.Status.INSUFFICIENT_RESOURCES))]
        for row in rows:
            self._watch(terminal, row, now)
        if record.home_address4 is not None:
            self.homes4.resume(record.home_address, record.home_address4)
        if record.loss is not None:
            terminal.loss = record.loss, 0
        terminal.follow(rows, now)
        outputs: list[Output] = [BindingRestored(record.home_address, rows[0].care_of_address)]
        return [*self._link.add_proxy(record.home_address, now), *outputs] if self.standing_in else outputs

    def stand_in(self, terminals: list[ServedTerminal], now: float) -> list[Output]:
        """From standby to service: the bound home addresses are ours to answer for."""
        self.standing_in = True
        outputs: list[Output] = []
        for terminal in terminals:
            outputs += self._link.add_proxy(terminal.settings.home_address, now)
        return outputs

    def stand_by(self, terminals: list[ServedTerminal], now: float) -> list[Output]:
        """Another home agent serves: everything is forgotten here, and nothing told, for there it goes on."""
        self.standing_in = False
        outputs: list[Output] = []
        for terminal in terminals:
            for row in self.cache.delete(terminal.home):
                self._unwatch(row)
            terminal.follow((), now)
            self.homes4.release(terminal.settings.home_address)
            outputs += self._link.remove_proxy(terminal.settings.home_address, now)
        return outputs


def _created(present: Binding, before: Binding | None, sent_again: int) -> BindingCreated:
    return BindingCreated(
        present.home_address,
        present.care_of_address,
        None if before is None else before.care_of_address,
        present.lifetime,
        sent_again,
        present.identifier,
        "native" if present.native else "udp",
        present.behind_nat,
        " ".join(str(network) for network in present.mobile_networks),
    )


def _is_known(loss: tuple[int, int], terminal: ServedTerminal) -> bool:
    return terminal.loss is not None and terminal.loss[0] == loss[1]


def _usable_care_of(address: IPv6Address | IPv4Address) -> bool:
    return not (address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local)
