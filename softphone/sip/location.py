"""Where a SIP URI leads: transports, servers, addresses in the order to try them (RFC 3263, RFC 2782). Does no I/O."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from ipaddress import ip_address
from typing import NamedTuple, Protocol

from softphone.errors import TransportError
from softphone.sip.transport import Address, Target, Transport
from softphone.sip.uri import SipUri

LOCATION_SECONDS = 30.0
"How long what the DNS said about a name is used."
MAX_TARGETS = 16
"More addresses of one name are not tried."


class Naptr(NamedTuple):
    """A NAPTR record (RFC 3403)."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


class Srv(NamedTuple):
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


class Names(Protocol):
    """The DNS as one network knows it."""

    async def naptr(self, name: str) -> list[Naptr]:
        """None where there are none; raises OSError when nobody answers."""

    async def srv(self, name: str) -> list[Srv]:
        """None where there are none; raises OSError when nobody answers."""

    async def addresses(self, name: str, version: int) -> list[str]:
        """Numeric addresses of that IP version (4 or 6), at least one; raises OSError."""


SERVICES = {
    "SIP+D2U": Transport.UDP,
    "SIP+D2T": Transport.TCP,
    "SIPS+D2T": Transport.TLS,
    "SIP+D2W": Transport.WS,
    "SIPS+D2W": Transport.WSS,
}
"NAPTR services (RFC 3263 section 4.1, RFC 7118 section 9)."
SRV_PREFIX = {Transport.UDP: "_sip._udp.", Transport.TCP: "_sip._tcp.", Transport.TLS: "_sips._tcp."}
SECURE = {Transport.TCP: Transport.TLS, Transport.WS: Transport.WSS}


def transport_of(uri: SipUri, prefer: Transport) -> Transport | None:
    """The transport that the URI, or the wish of the user, demands; None: the DNS may choose.

    UDP as a wish is none: it is what there is without one. ``sips:`` never yields one without TLS. Raises
    TransportError.
    """
    wanted = (uri.parameter("transport") or "").lower()
    if wanted:
        try:
            transport = Transport(wanted)
        except ValueError:
            raise TransportError(f"{uri}: the transport {wanted!r} is not supported; use udp, tcp, tls or ws") from None
    elif prefer is not Transport.UDP:
        transport = prefer
    else:
        return None
    if not uri.secure or transport.secure:
        return transport
    if transport in SECURE:
        return SECURE[transport]
    if wanted:
        raise TransportError(f"{uri} demands TLS and {transport} at once; take ;transport={transport} away")
    return None


async def locate(uri: SipUri, names: Names, version: int, prefer: Transport, draw: Callable[[], float]) -> list[Target]:
    """All targets, best first, at least one. Raises TransportError.

    ``version`` is that of our addresses, 4 or 6; ``draw`` gives numbers from 0 up to 1.
    """
    name = uri.parameter("maddr") or uri.host
    transport = transport_of(uri, prefer)
    if (numeric := _version(name)) is not None:
        if numeric != version:
            raise TransportError(
                f"{name} cannot be reached: the IP versions differ, the phone speaks IP version {version}"
            )
        chosen = transport or (Transport.TLS if uri.secure else Transport.UDP)
        return [Target(chosen, Address(name, chosen.default_port if uri.port is None else uri.port), uri.host)]
    try:
        found: list[Target] = []
        async for way, host, port in _servers(uri, name, transport, names, draw):
            try:
                addresses = await names.addresses(host, version)
            except OSError:
                if host == name:
                    raise
                continue  # the next server may have one
            found += [Target(way, Address(address, port), uri.host) for address in addresses]
    except (OSError, UnicodeError) as exc:
        raise TransportError(f"the name {name!r} has no address: {exc}; check it and the resolver") from exc
    if not found:
        raise TransportError(f"no server of {name!r} has an address of the phone's IP version; check its SRV records")
    return list(dict.fromkeys(found))[:MAX_TARGETS]


def _version(name: str) -> int | None:
    try:
        return ip_address(name).version
    except ValueError:
        return None


async def _servers(
    uri: SipUri, name: str, transport: Transport | None, names: Names, draw: Callable[[], float]
) -> AsyncIterator[tuple[Transport, str, int]]:
    """Transport, host and port of every server (section 4.1 and 4.2)."""
    default = transport or (Transport.TLS if uri.secure else Transport.UDP)
    if uri.port is not None:
        yield default, name, uri.port
        return
    try:
        if transport is None:
            records = await names.naptr(name)
            services = [r for r in sorted(records) if _usable(r, uri)]
            for record in services:
                way = SERVICES[record.service.upper()]
                if record.flags.lower() == "a":
                    yield way, record.replacement, way.default_port
                for server in ordered(await names.srv(record.replacement), draw) if record.flags.lower() == "s" else ():
                    yield way, server.target, server.port
            if services:
                return
        for way in _candidates(uri, transport):
            if servers := await names.srv(SRV_PREFIX[way] + name):
                for server in ordered(servers, draw):
                    yield way, server.target, server.port
                return
    except OSError:
        pass  # some name servers never answer such questions; that for an address decides
    yield default, name, default.default_port


def _usable(record: Naptr, uri: SipUri) -> bool:
    way = SERVICES.get(record.service.upper())
    return way is not None and (way.secure or not uri.secure)


def _candidates(uri: SipUri, transport: Transport | None) -> list[Transport]:
    if transport is not None:
        return [transport] if transport in SRV_PREFIX else []
    return [Transport.TLS] if uri.secure else [Transport.UDP, Transport.TCP, Transport.TLS]


def ordered(records: Iterable[Srv], draw: Callable[[], float]) -> list[Srv]:
    """By priority; among equals by chance, in proportion to the weights (RFC 2782). The target ``.`` means none."""
    rest = sorted(record for record in records if record.target not in (".", ""))
    found: list[Srv] = []
    while rest:
        equals = [record for record in rest if record.priority == rest[0].priority]
        mark = draw() * sum(record.weight for record in equals)
        for record in equals:
            mark -= record.weight
            if mark < 0:
                break
        else:
            record = equals[0]
        found.append(record)
        rest.remove(record)
    return found


class Locator:
    """Remembers for a while what the DNS said, and which targets failed.

    ``names`` gives the DNS when it is needed, ``version`` is that of our addresses, ``random`` the dice.
    """

    def __init__(self, names: Callable[[], Names], version: int, random: Callable[[int], bytes]) -> None:
        self.names = names
        self.down: dict[Target, float] = {}
        "Targets that are tried after all others, until then."
        self._version = version
        self._random = random
        self._known: dict[tuple[SipUri, Transport], tuple[float, list[Target]]] = {}

    async def targets(self, uri: SipUri, prefer: Transport, now: float) -> list[Target]:
        """As `locate`, targets that failed lately last. Raises TransportError."""
        key = SipUri(uri.host, None, uri.port, uri.parameters, (), uri.scheme), prefer
        until, targets = self._known.get(key, (now, []))
        if until <= now:
            targets = await locate(uri, self.names(), self._version, prefer, self._draw)
            self._known = {key: entry for key, entry in self._known.items() if entry[0] > now}
            self._known[key] = (now + LOCATION_SECONDS, targets)
        self.down = {target: until for target, until in self.down.items() if until > now}
        return sorted(targets, key=lambda target: target in self.down)

    def failed(self, target: Target, until: float) -> None:
        """Do not try it first before then."""
        self.down[target] = until

    def _draw(self) -> float:
        return int.from_bytes(self._random(4), "big") / 2**32
