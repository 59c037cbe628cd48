"""Configuration files (TOML) read into checked values. What may stand in them: docs/configuration.md.

Every complaint names the file, the key and what is expected there. Nothing is opened or started here.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

from mobility import config_homes, config_keys, config_security, hierarchy_config, values
from mobility.gateway import configuration as gateway_tables
from mobility.gateway.settings import GatewayAccess, GatewaySettings
from mobility.links import MOBILITY_PORT
from mobility.mipv6.home_advertising import INTERVAL
from mobility.mipv6.home_prefixes import MAX_INTERVAL, MIN_INTERVAL
from mobility.mipv6.route_rules import RoutePolicy, RouteRules
from mobility.mipv6.tunnel import TunnelForm
from mobility.router_config import mobile_router as _mobile_router
from mobility.settings import ANY_INTERFACE as ANY_INTERFACE
from mobility.settings import Access as Access
from mobility.settings import AnchorPointSettings as AnchorPointSettings
from mobility.settings import Association as Association
from mobility.settings import AssociationPair as AssociationPair
from mobility.settings import CallKeys as CallKeys
from mobility.settings import Configuration as Configuration
from mobility.settings import CorrespondentSettings as CorrespondentSettings
from mobility.settings import HomeAgentSettings as HomeAgentSettings
from mobility.settings import HomeLink as HomeLink
from mobility.settings import HostOsSettings as HostOsSettings
from mobility.settings import KeyExchange as KeyExchange
from mobility.settings import KeyLife as KeyLife
from mobility.settings import KeyUse as KeyUse
from mobility.settings import LogFormat as LogFormat
from mobility.settings import MetricsSettings as MetricsSettings
from mobility.settings import MobileNodeSettings as MobileNodeSettings
from mobility.settings import MobileRouterSettings as MobileRouterSettings
from mobility.settings import PolicyRow as PolicyRow
from mobility.settings import RegionalTerminal as RegionalTerminal
from mobility.settings import Role as Role
from mobility.settings import ServedTerminal as ServedTerminal
from mobility.settings import Signalling as Signalling
from mobility.settings import StoreKind as StoreKind
from mobility.settings import StoreSettings as StoreSettings
from mobility.settings import Use as Use
from mobility.settings import WithoutStore as WithoutStore
from mobility.translation.settings import POOL4, POOL6, SIP_PORT, TranslationSettings
from mobility.values import ConfigurationError as ConfigurationError
from mobility.values import Table

Files = Callable[[Path], Iterable[tuple[Path, str]]]
"Gives the files in a directory, with their text. Raises ConfigurationError."


def load(path: Path, *, role: Role | None = None) -> Configuration:
    """Reads a file, and those of a home agent's terminals. ``role``: what it must be for. Raises ConfigurationError."""
    text, open_to_others = _read(path)
    configuration = parse(text, path, _files)
    if role is not None and configuration.role is not role:
        raise ConfigurationError(
            f"{path}: is for role {configuration.role}: start it with `mobility {configuration.role} --config {path}`"
        )
    store = configuration.store
    secrets = [each.where for each in configuration.associations]
    secrets += [each.where for each in configuration.key_exchanges if each.token is not None]
    keys = any(where.startswith(f"{path}: ") for where in secrets)  # not in further files
    if (keys or (store is not None and store.url is not None and "@" in store.url)) and open_to_others:
        raise _open_to_others(path)
    return configuration


def parse(text: str, path: Path, files: Files = lambda _directory: ()) -> Configuration:
    """Checks the text of a file; ``path`` is for messages, and ``files`` gives the home agent's further files.

    Raises ConfigurationError.
    """
    top = _top(text, path)
    node = top.table("node")
    role = node.required("role", values.one_of(Role))
    runtime = node.optional("runtime", values.runtime_directory, default_runtime(role))
    state = node.optional("state", values.directory, default_state(role))
    node.end()
    mobile_node, home_agent, correspondent, host_os, store = None, None, None, None, None
    metrics = _metrics(top.table("metrics")) if "metrics" in top else None
    translation: TranslationSettings | None = None
    anchor_point: AnchorPointSettings | None = None
    gateway: GatewaySettings | None = None
    gateways: tuple[GatewayAccess, ...] = ()
    router: MobileRouterSettings | None = None
    further: list[AssociationPair] = []
    further_exchanges: list[KeyExchange] = []
    if role in (Role.MOBILE_NODE, Role.MOBILE_ROUTER):
        mobile_node = _mobile_node(top.table("mobile_node"))
        if role is Role.MOBILE_ROUTER:
            router = _mobile_router(top.table("mobile_router"), mobile_node)
    elif role is Role.HOME_AGENT:
        home_agent = _home_agent(top.table("home_agent"), path, files, further, further_exchanges)
        store = _store(top.table("store", missing={}), state)
        if home_agent.prefixes and store.unreachable is WithoutStore.SERVE:
            raise ConfigurationError(
                f'{path}: store.unreachable: "serve" needs an Ethernet home link, on which home agents hear each other'
            )
    elif role is Role.MAP:
        anchor_point = hierarchy_config.anchor_point(top.table("map"))
    elif role is Role.CORRESPONDENT:
        correspondent = _correspondent(top.table("correspondent"))
    else:
        gateway = gateway_tables.gateway(top.table("gateway"), path)
    call_keys: CallKeys | None = None
    if mobile_node is not None or correspondent is not None:
        call_keys = config_keys.call_keys(top.table("application_keys", missing={}), mobile_node)
        host_os = _host_os(top.table("host_os", missing={}), mobile_node)
    if role is Role.MOBILE_NODE and mobile_node is not None and host_os is not None and "translation" in top:
        translation = _translation(top.table("translation"), mobile_node, host_os)
        host_os = replace(host_os, address4=translation.address4)
    if mobile_node is not None and host_os is not None:
        ours = frozenset((mobile_node.home_address.ip, host_os.address4))
        gateways = gateway_tables.gateways(top.tables("gateway"), path, ours)
    logging = top.table("log", missing={})
    log = logging.optional("format", values.one_of(LogFormat), LogFormat.TEXT)
    logging.end()
    pairs = tuple(config_security.association_pair(table, mobile_node) for table in top.tables("association"))
    strangers = anchor_point is not None and anchor_point.certified
    exchanges = [config_keys.key_exchange(row, mobile_node, strangers=strangers) for row in top.tables("ike")]
    policies = tuple(config_security.policy(table, pairs) for table in top.tables("policy"))
    top.end()
    configuration = Configuration(
        path,
        role,
        runtime,
        state,
        mobile_node,
        home_agent,
        correspondent,
        host_os,
        (*pairs, *further),
        policies,
        store,
        metrics,
        log,
        translation,
        anchor_point,
        gateway,
        gateways,
        router,
        (*exchanges, *further_exchanges),
        call_keys,
    )
    config_security.check_whole(configuration)
    return configuration


def _read(path: Path) -> tuple[str, bool]:
    """The text, and whether others may read it."""
    try:
        return path.read_text(encoding="utf-8"), bool(path.stat().st_mode & 0o077)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from error


def _files(directory: Path) -> Iterable[tuple[Path, str]]:
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".toml" and path.name[0] != ".")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"{directory}: cannot be read: {error.strerror}") from error
    for path in paths:
        text, open_to_others = _read(path)
        if open_to_others:
            raise _open_to_others(path)
        yield path, text


def _open_to_others(path: Path) -> ConfigurationError:
    return ConfigurationError(f"{path}: holds keys and can be read by others: chmod 600 {path}")


def _top(text: str, path: Path) -> Table:
    try:
        return Table(path, "", tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}") from error


def default_runtime(role: Role) -> Path:
    """``/run/roamphone/ROLE``, or in the user's own runtime directory."""
    if os.geteuid() == 0:
        return Path("/run/roamphone") / role
    own = os.environ.get("XDG_RUNTIME_DIR")
    return default_state(role) / "run" if own is None else Path(own) / "roamphone" / role


def default_state(role: Role) -> Path:
    """``/var/lib/roamphone/ROLE``, or in the user's own state directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/roamphone") / role
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local/state")) / "roamphone" / role


# ---------------------------------------------------------------- tables


def _mobile_node(table: Table) -> MobileNodeSettings:
    any_interface: tuple[str, ...] = (ANY_INTERFACE,)
    interfaces = table.optional("interfaces", values.interfaces, any_interface)
    settings = MobileNodeSettings(
        home_address=table.required("home_address", values.address_with_prefix),
        home_agent=table.required("home_agent", values.home_agent),
        interfaces=tuple(name for name in interfaces if name != ANY_INTERFACE),
        others=ANY_INTERFACE in interfaces,
        access=table.optional("access", values.one_of(Access), Access.AUTO),
        home_agent4=table.optional("home_agent4", values.unicast4, None),
        udp_port=table.optional("udp_port", values.port, MOBILITY_PORT),
        home_address4=table.optional("home_address4", values.home_address4, None),
        overlap=table.optional("overlap", values.overlap, 0.5),
        keepalive=table.optional("keepalive", values.keepalive, 20.0),
        tunnel=table.optional("tunnel", values.one_of(TunnelForm), TunnelForm.ESP),
        signalling=table.optional("signalling", values.one_of(Signalling), Signalling.ESP),
        lifetime=table.optional("lifetime", values.lifetime, 420),
        scenarios=table.optional("scenarios", values.scenarios, None),
        route_optimization=RouteRules(
            table.optional("route_optimization", values.one_of(RoutePolicy), RoutePolicy.NEVER),
            tuple(_route_rule(row) for row in table.tables("correspondent")),
        ),
        maps=hierarchy_config.map_use(table),
    )
    settings = replace(settings, further=config_homes.further(table, settings))
    table.end()
    config_homes.check(table, settings)
    if any(known.address == settings.home_agent for known in settings.maps.known):
        raise table.error("map", f"{settings.home_agent} is the home agent")
    if settings.access is Access.NATIVE and settings.others:
        raise table.error(
            "interfaces", f'has to name each interface where access = "native": "{ANY_INTERFACE}" is for UDP'
        )
    return settings


def _route_rule(table: Table) -> tuple[IPv6Network, RoutePolicy]:
    rule = (
        table.required("network", values.network),
        table.required("route_optimization", values.one_of(RoutePolicy)),
    )
    table.end()
    return rule


def _home_agent(
    table: Table, path: Path, files: Files, pairs: list[AssociationPair], exchanges: list[KeyExchange]
) -> HomeAgentSettings:
    """Adds the associations of further files to ``pairs``, and what is negotiated to ``exchanges``."""
    default = path.with_suffix(".d")
    named = table.optional("terminals", values.path, None)
    directory = default if named is None else path.parent / named
    if named is not None and not directory.is_dir():
        raise table.error("terminals", f"there is no directory {directory}: make it with `mkdir -m 700 {directory}`")
    terminals = [_served_terminal(row) for row in table.tables("terminal")]
    for file, text in files(directory):
        top = _top(text, file)
        agent = top.table("home_agent", missing={})
        terminals += [_served_terminal(row) for row in agent.tables("terminal")]
        agent.end()
        pairs += [config_security.association_pair(row, None) for row in top.tables("association")]
        exchanges += [config_keys.key_exchange(row, None) for row in top.tables("ike")]
        top.end()
    home_link = table.optional("home_link", values.one_of(HomeLink), HomeLink.ETHERNET)
    routed = home_link is HomeLink.ROUTED
    address = table.required("address", values.address_with_prefix)
    settings = HomeAgentSettings(
        address=address,
        interface=table.optional("interface", values.interface, "roam6")
        if routed
        else table.required("interface", values.interface),
        max_lifetime=table.optional("max_lifetime", values.lifetime, 420),
        udp=table.optional("udp", values.unicast_addresses, ()),
        udp_port=table.optional("udp_port", values.port_or_none, MOBILITY_PORT),
        udp_interface=table.optional("udp_interface", values.interface, None),
        overlap=table.optional("overlap", values.overlap, 1.0),
        ipv4_pool=table.optional("ipv4_pool", values.network4, None),
        ipv4_interface=table.optional("ipv4_interface", values.interface, "roam4"),
        directory=directory,
        terminals=tuple(terminals),
        preference=table.optional("preference", values.preference, 0),
        advertise=table.optional("advertise", values.advertise, 0.0 if routed else INTERVAL),
        prefix_intervals=table.optional("prefix_intervals", values.home_prefix_intervals, (MIN_INTERVAL, MAX_INTERVAL)),
        home_link=home_link,
        prefixes=table.optional("prefixes", values.mobile_networks, (address.network,) if routed else ()),
    )
    table.end()
    if settings.address.ip in settings.udp:
        raise table.error("udp", f"{settings.address.ip} need not be listed: the home agent itself listens there")
    if settings.udp_interface is not None and not any(isinstance(each, IPv4Address) for each in settings.udp):
        raise table.error("udp_interface", "is for the IPv4 addresses in udp, and there are none")
    if settings.udp and not settings.udp_port:
        raise table.error("udp_port", "has to be a port where addresses to listen at are listed in udp")
    if routed:
        _check_routed(table, settings)
    elif settings.prefixes:
        raise table.error("prefixes", 'only goes with home_link = "routed"')
    _check_terminals(settings)
    return settings


def _check_routed(table: Table, settings: HomeAgentSettings) -> None:
    if settings.advertise:
        raise table.error("advertise", 'is for other home agents on the link; home_link = "routed" has none')
    if not any(settings.address.network.subnet_of(prefix) for prefix in settings.prefixes):
        raise table.error("prefixes", f"has to contain the home network {settings.address.network}")
    if settings.interface == settings.ipv4_interface and settings.ipv4_pool is not None:
        raise table.error("interface", f"{settings.interface} is ipv4_interface already")
    for terminal in settings.terminals:
        for network in terminal.mobile_networks:
            if not any(network.subnet_of(prefix) for prefix in settings.prefixes):
                raise ConfigurationError(
                    f"{terminal.where}.mobile_networks: {network} is in none of home_agent.prefixes, so nothing would"
                    " bring its packets here"
                )


def _check_terminals(settings: HomeAgentSettings) -> None:
    addresses: set[IPv6Address | IPv4Address] = {settings.address.ip}
    names: set[str] = set()
    mobile: list[IPv6Network] = []
    for terminal in settings.terminals:
        at, home, home4 = terminal.where, terminal.home_address, terminal.home_address4
        if home in addresses:
            raise ConfigurationError(f"{at}.home_address: {home} is taken already")
        if home not in settings.address.network:
            raise ConfigurationError(f"{at}.home_address: {home} is not in the home network {settings.address.network}")
        if terminal.name in names:
            raise ConfigurationError(f"{at}.name: {terminal.name!r} is taken already")
        addresses.add(home)
        names.add(terminal.name)
        for network in terminal.mobile_networks:
            other = settings.address.network if network.overlaps(settings.address.network) else None
            other = next((each for each in mobile if each.overlaps(network)), other)
            if other is not None:
                raise ConfigurationError(
                    f"{at}.mobile_networks: {network} overlaps {other}; it needs a prefix of its own"
                )
            mobile.append(network)
        if home4 is None:
            continue
        if settings.ipv4_pool is None or home4 not in settings.ipv4_pool:
            known = "there is none" if settings.ipv4_pool is None else f"it is {settings.ipv4_pool}"
            raise ConfigurationError(f"{at}.home_address4: {home4} is not in home_agent.ipv4_pool ({known})")
        if home4 in addresses:
            raise ConfigurationError(f"{at}.home_address4: {home4} is taken already")
        addresses.add(home4)


def _served_terminal(table: Table) -> ServedTerminal:
    home_address = table.required("home_address", values.address)
    terminal = ServedTerminal(
        home_address=home_address,
        tunnel=table.optional("tunnel", values.one_of(TunnelForm), TunnelForm.ESP),
        signalling=table.optional("signalling", values.one_of(Signalling), Signalling.ESP),
        name=table.optional("name", values.text, str(home_address)),
        home_address4=table.optional("home_address4", values.unicast4, None),
        admitted=table.optional("admitted", values.truth, True),
        networks=table.optional("networks", values.networks, None),
        mobile_networks=table.optional("mobile_networks", values.mobile_networks, ()),
        implicit=table.optional("implicit", values.truth, True),
        where=table.where,
    )
    table.end()
    if not terminal.implicit and not terminal.mobile_networks:
        raise table.error("implicit", "is for mobile routers, which have mobile_networks")
    return terminal


def _correspondent(table: Table) -> CorrespondentSettings:
    settings = CorrespondentSettings(
        interface=table.required("interface", values.interface),
        address=table.required("address", values.address_with_prefix),
        route_optimization=table.optional("route_optimization", values.truth, True),
    )
    table.end()
    return settings


def _store(table: Table, state: Path) -> StoreSettings:
    settings = StoreSettings(
        kind=table.optional("kind", values.one_of(StoreKind), StoreKind.SQLITE),
        path=state / "bindings.sqlite",
        url=table.optional("url", values.store_url, None),
        unreachable=table.optional("unreachable", values.one_of(WithoutStore), WithoutStore.STOP),
    )
    table.end()
    if settings.kind is StoreKind.REDIS and settings.url is None:
        raise table.error("url", f'is missing; kind = "redis" needs {values.expectation(values.store_url)}')
    if settings.kind is not StoreKind.REDIS and settings.url is not None:
        raise table.error("url", 'only goes with kind = "redis"')
    if settings.kind is not StoreKind.REDIS and settings.unreachable is not WithoutStore.STOP:
        raise table.error("unreachable", 'only goes with kind = "redis"')
    return settings


def _metrics(table: Table) -> MetricsSettings:
    address, port = table.required("listen", values.listen)
    table.end()
    return MetricsSettings(address, port)


def _host_os(table: Table, mobile_node: MobileNodeSettings | None) -> HostOsSettings:
    settings = HostOsSettings(
        namespace=table.optional("namespace", values.namespace, None),
        interface=table.optional("interface", values.interface, "home0"),
        mtu=table.optional("mtu", values.mtu, None),
        address4=table.optional("address4", values.address4, None),
        dns=table.optional("dns", values.unicast_addresses, ()),
    )
    table.end()
    home4 = None if mobile_node is None else mobile_node.home_address4
    if home4 is not None and settings.address4 is not None:
        raise table.error("address4", "is what mobile_node.home_address4 gives; leave one of the two out")
    for server in settings.dns:
        if isinstance(server, IPv4Address) and home4 is None:
            raise table.error("dns", f"{server} can only be asked with mobile_node.home_address4")
    return settings


def _translation(table: Table, mobile_node: MobileNodeSettings, host_os: HostOsSettings) -> TranslationSettings:
    if mobile_node.home_agent is None or mobile_node.further:
        raise table.error(
            "pool4", "translation wants one home address and a home agent that is named in mobile_node.home_agent"
        )
    pool4 = table.optional("pool4", values.network4, POOL4)
    settings = TranslationSettings(
        home_address=mobile_node.home_address.ip,
        address4=pool4.network_address + 1 if host_os.address4 is None else host_os.address4,
        home_agent=mobile_node.home_agent,
        pool4=pool4,
        pool6=table.optional("pool6", values.network, POOL6),
        servers=tuple(server for server in host_os.dns if isinstance(server, IPv6Address)),
        sip_ports=table.optional("sip_ports", values.port_set, frozenset((SIP_PORT,))),
    )
    table.end()
    if mobile_node.home_address4 is not None:
        raise table.error("pool4", "does not go with mobile_node.home_address4, a real IPv4 address; leave one out")
    try:
        settings.new_table()
    except ValueError as error:
        raise table.error("pool4", str(error)) from error
    return settings
