"""The tables about gateways in configuration files: ``[[gateway]]`` of a terminal, ``[gateway]`` of a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from mobility import values
from mobility.gateway.settings import (
    LOCAL,
    Address,
    Allowed,
    ClientCertificate,
    Destination,
    GatewayAccess,
    GatewaySettings,
    Protocol,
    Via,
)
from mobility.values import Table

TLS_PORT = 443


def gateways(tables: list[Table], file: Path, ours: frozenset[Address | None]) -> tuple[GatewayAccess, ...]:
    """Those of a terminal. ``ours``: addresses that the host OS has already. Raises ConfigurationError."""
    spare = iter(LOCAL.hosts())
    found: list[GatewayAccess] = []
    taken: dict[tuple[Address, int], str] = {}
    names: dict[str, Address] = {}
    for table in tables:
        access = _access(table, file, spare, names)
        if access.name in {other.name for other in found}:
            raise table.error("name", f"{access.name!r} is taken already")
        for destination in access.destinations:
            if destination.address in ours:
                raise table.error("destination", f"{destination.address} is an address of the host OS itself")
            for port in destination.ports:
                if (destination.address, port) in taken:
                    raise table.error(
                        "destination",
                        f"{destination.host} port {port} goes through {taken[destination.address, port]} already",
                    )
                taken[destination.address, port] = access.name
        found.append(access)
    return tuple(found)


def _access(table: Table, file: Path, spare: Iterator[Address], names: dict[str, Address]) -> GatewayAccess:
    host, port = table.required("server", values.host_and_port)
    protocol = table.optional("protocol", values.one_of(Protocol), Protocol.H2)
    destinations = tuple(_destination(row, protocol, spare, names) for row in table.tables("destination"))
    certificate, key = (_path(table, name, file) for name in ("certificate", "private_key"))
    access = GatewayAccess(
        name=table.optional("name", values.text, host),
        host=host,
        port=TLS_PORT if port is None else port,
        server_name=table.optional("server_name", values.host, host),
        destinations=destinations,
        via=table.optional("via", values.one_of(Via), Via.HOME),
        protocol=protocol,
        ca_file=_path(table, "ca_file", file),
        certificate=certificate,
        private_key=key,
        keepalive=table.optional("keepalive", values.keepalive, 20.0),
        hold=table.optional("hold", values.hold, 60.0),
        key_log=_path(table, "key_log", file),
    )
    table.end()
    if not destinations:
        raise table.error("destination", "is missing: write [[gateway.destination]], once for each server inside")
    if (certificate is None) != (key is None):
        raise table.error("private_key", "goes with certificate: give both, or neither")
    return access


def _destination(table: Table, protocol: Protocol, spare: Iterator[Address], names: dict[str, Address]) -> Destination:
    host = table.required("host", values.host)
    address = table.optional("address", values.unicast_any, None)
    try:
        own: Address | None = ip_address(host)
    except ValueError:
        own = None
    if own is not None and address not in (None, own):
        raise table.error("address", f"only goes with a name: programs connect to {own} itself")
    if own is None:
        own = address or names.get(host) or next(spare)
        if names.setdefault(host, own) != own:
            raise table.error("address", f"{host} has the address {names[host]} already")
    destination = Destination(
        host,
        table.required("ports", values.port_list),
        own,
        table.optional("outer_port", values.port, None),
        table.optional("outer_name", values.host, None),
    )
    table.end()
    if protocol is not Protocol.RAW and (destination.outer_port is not None or destination.outer_name is not None):
        raise table.error("outer_port", 'and outer_name only go with protocol = "raw"')
    if protocol is Protocol.RAW and len(destination.ports) != 1:
        raise table.error("ports", 'is one port where protocol = "raw": the terminator is not told which one is meant')
    return destination


def gateway(table: Table, file: Path) -> GatewaySettings:
    """That of a gateway. Raises ConfigurationError."""
    listen = table.required("listen", values.listen_at)
    certificate, key = table.required("certificate", values.path), table.required("private_key", values.path)
    allowed = tuple(
        Allowed(
            row.required("host", values.host), row.required("ports", values.port_list),
            row.optional("clients", values.texts, None), row.optional("address", values.unicast_any, None),
        )
        for row in _ending(table.tables("allow"))
    )  # fmt: skip
    settings = GatewaySettings(
        listen=listen,
        certificate=file.parent / certificate,
        private_key=file.parent / key,
        allowed=allowed,
        client_certificate=table.optional(
            "client_certificate", values.one_of(ClientCertificate), ClientCertificate.NONE
        ),
        client_ca=_path(table, "client_ca", file),
        keepalive=table.optional("keepalive", values.keepalive, 20.0),
        hold=table.optional("hold", values.hold, 60.0),
        sessions=table.optional("sessions", values.count, 256),
        tunnels=table.optional("tunnels", values.count, 64),
        key_log=_path(table, "key_log", file),
    )
    table.end()
    if not allowed:
        raise table.error("allow", "is missing: without [[gateway.allow]] nothing can be reached through this gateway")
    if (settings.client_certificate is ClientCertificate.NONE) != (settings.client_ca is None):
        raise table.error("client_ca", 'goes with client_certificate = "optional" or "required"')
    if settings.client_certificate is ClientCertificate.NONE and any(row.clients for row in allowed):
        raise table.error("allow", 'with clients only goes with client_certificate = "optional" or "required"')
    return settings


def _ending(rows: list[Table]) -> Iterator[Table]:
    """Each, and the complaint about unknown keys after it was read."""
    for row in rows:
        yield row
        row.end()


def _path(table: Table, key: str, file: Path) -> Path | None:
    named = table.optional(key, values.path, None)
    return None if named is None else file.parent / named
