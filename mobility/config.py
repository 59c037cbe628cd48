"""Configuration files (TOML) read into checked values. What may stand in them: docs/configuration.md.

Every complaint names the file, the key and what is expected there. Nothing is opened or started here.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path

from mobility import values
from mobility.ipsec.algorithms import Algorithm, KeyingError, Keys
from mobility.ipsec.spd import Action
from mobility.mipv6.tunnel import TunnelForm
from mobility.values import ConfigurationError as ConfigurationError
from mobility.values import Table


class Role(StrEnum):
    MOBILE_NODE = "mn"
    HOME_AGENT = "ha"
    CORRESPONDENT = "cn"


class Signalling(StrEnum):
    """How binding updates and acknowledgements are protected."""

    ESP = "esp"
    "ESP transport mode (RFC 3776)."
    NONE = "none"


class Use(StrEnum):
    """What a pair of security associations is for."""

    SIGNALLING = "signalling"
    TUNNEL = "tunnel"
    APPLICATION = "application"


class KeyLife(StrEnum):
    """How long keys are used."""

    STATIC = "static"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Association:
    """One direction of a pair: an SPI with its keys."""

    spi: int
    algorithm: Algorithm
    keys: Keys


@dataclass(frozen=True, slots=True)
class AssociationPair:
    """Two security associations, there and back. ``outbound`` is what this node sends with."""

    name: str
    use: Use
    peer: IPv6Address
    "The other end: home agent, home address of a terminal, or correspondent."
    outbound: Association
    inbound: Association
    session_keys: bool
    "The keys are made for this session, never used in another: the condition for AEAD algorithms."


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A row of the application's security policy database, seen from this node."""

    name: str
    remote: IPv6Network
    protocol: int | None
    local_port: int | range | None
    remote_port: int | range | None
    action: Action
    association: str | None
    "Name of the pair that protects."


@dataclass(frozen=True, slots=True)
class MobileNodeSettings:
    home_address: IPv6Interface
    home_agent: IPv6Address
    interfaces: tuple[str, ...]
    "In order of preference."
    tunnel: TunnelForm
    signalling: Signalling
    lifetime: int
    "Seconds asked for in binding updates."
    scenarios: frozenset[int] | None
    "Numbers of the enabled rows of the scenario policy table; None: all."


@dataclass(frozen=True, slots=True)
class ServedTerminal:
    """A mobile node that the home agent serves."""

    home_address: IPv6Address
    tunnel: TunnelForm
    signalling: Signalling


@dataclass(frozen=True, slots=True)
class HomeAgentSettings:
    address: IPv6Interface
    interface: str
    max_lifetime: int
    "Seconds; longer wishes are granted this much."
    terminals: tuple[ServedTerminal, ...]


@dataclass(frozen=True, slots=True)
class CorrespondentSettings:
    interface: str
    address: IPv6Interface


@dataclass(frozen=True, slots=True)
class HostOsSettings:
    """The network namespace in which programs run."""

    namespace: str | None
    interface: str
    mtu: int | None
    "At most this; None: as much as goes through both layers of IPsec."
    address4: IPv4Address | None


@dataclass(frozen=True, slots=True)
class Configuration:
    """One node. Exactly one of the three role settings is present, the one of ``role``."""

    path: Path
    role: Role
    runtime: Path
    "Directory of ``control.sock`` and ``host.sock``."
    state: Path
    "Directory of what outlives a reboot: the sequence numbers of security associations."
    mobile_node: MobileNodeSettings | None
    home_agent: HomeAgentSettings | None
    correspondent: CorrespondentSettings | None
    host_os: HostOsSettings | None
    associations: tuple[AssociationPair, ...]
    policies: tuple[PolicyRow, ...]

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Names of all interfaces that the node uses."""
        if self.mobile_node is not None:
            return self.mobile_node.interfaces
        if self.home_agent is not None:
            return (self.home_agent.interface,)
        return () if self.correspondent is None else (self.correspondent.interface,)

    @property
    def host_address(self) -> IPv6Address | None:
        """What programs in the host OS have as their address; None for a node without host OS."""
        if self.mobile_node is not None:
            return self.mobile_node.home_address.ip
        return None if self.correspondent is None else self.correspondent.address.ip

    def pair(self, use: Use, peer: IPv6Address) -> AssociationPair | None:
        """The pair for a use and a peer, or None."""
        return next((pair for pair in self.associations if (pair.use, pair.peer) == (use, peer)), None)


def load(path: Path, *, role: Role | None = None) -> Configuration:
    """Reads a file. ``role``: what it must be for. Raises ConfigurationError."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from error
    configuration = parse(text, path)
    if role is not None and configuration.role is not role:
        raise ConfigurationError(
            f"{path}: is for role {configuration.role}: start it with `mobility {configuration.role} --config {path}`"
        )
    if configuration.associations and mode & 0o077:
        raise ConfigurationError(f"{path}: holds keys and can be read by others: chmod 600 {path}")
    return configuration


def parse(text: str, path: Path) -> Configuration:
    """Checks the text of a file; ``path`` is for messages. Raises ConfigurationError."""
    try:
        top = Table(path, "", tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}") from error
    node = top.table("node")
    role = node.required("role", values.one_of(Role))
    runtime = node.optional("runtime", values.runtime_directory, default_runtime(role))
    state = node.optional("state", values.directory, default_state(role))
    node.end()
    mobile_node, home_agent, correspondent, host_os = None, None, None, None
    if role is Role.MOBILE_NODE:
        mobile_node = _mobile_node(top.table("mobile_node"))
    elif role is Role.HOME_AGENT:
        home_agent = _home_agent(top.table("home_agent"))
    else:
        correspondent = _correspondent(top.table("correspondent"))
    if role is not Role.HOME_AGENT:
        host_os = _host_os(top.table("host_os", missing={}))
    peer = None if mobile_node is None else mobile_node.home_agent
    pairs = tuple(_association_pair(table, peer) for table in top.tables("association"))
    policies = tuple(_policy(table, pairs) for table in top.tables("policy"))
    top.end()
    configuration = Configuration(
        path, role, runtime, state, mobile_node, home_agent, correspondent, host_os, pairs, policies
    )
    _check_whole(configuration)
    return configuration


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
    settings = MobileNodeSettings(
        home_address=table.required("home_address", values.address_with_prefix),
        home_agent=table.required("home_agent", values.address),
        interfaces=table.required("interfaces", values.interfaces),
        tunnel=table.optional("tunnel", values.one_of(TunnelForm), TunnelForm.ESP),
        signalling=table.optional("signalling", values.one_of(Signalling), Signalling.ESP),
        lifetime=table.optional("lifetime", values.lifetime, 420),
        scenarios=table.optional("scenarios", values.scenarios, None),
    )
    table.end()
    if settings.home_agent == settings.home_address.ip:
        raise table.error("home_agent", "is the home address itself")
    return settings


def _home_agent(table: Table) -> HomeAgentSettings:
    settings = HomeAgentSettings(
        address=table.required("address", values.address_with_prefix),
        interface=table.required("interface", values.interface),
        max_lifetime=table.optional("max_lifetime", values.lifetime, 420),
        terminals=tuple(_served_terminal(row) for row in table.tables("terminal")),
    )
    table.end()
    seen: set[IPv6Address] = set()
    for number, terminal in enumerate(settings.terminals):
        key = f"terminal[{number}].home_address"
        if terminal.home_address in seen or terminal.home_address == settings.address.ip:
            raise table.error(key, f"{terminal.home_address} is taken already")
        if terminal.home_address not in settings.address.network:
            raise table.error(key, f"{terminal.home_address} is not in the home network {settings.address.network}")
        seen.add(terminal.home_address)
    return settings


def _served_terminal(table: Table) -> ServedTerminal:
    terminal = ServedTerminal(
        home_address=table.required("home_address", values.address),
        tunnel=table.optional("tunnel", values.one_of(TunnelForm), TunnelForm.ESP),
        signalling=table.optional("signalling", values.one_of(Signalling), Signalling.ESP),
    )
    table.end()
    return terminal


def _correspondent(table: Table) -> CorrespondentSettings:
    settings = CorrespondentSettings(
        interface=table.required("interface", values.interface),
        address=table.required("address", values.address_with_prefix),
    )
    table.end()
    return settings


def _host_os(table: Table) -> HostOsSettings:
    settings = HostOsSettings(
        namespace=table.optional("namespace", values.namespace, None),
        interface=table.optional("interface", values.interface, "home0"),
        mtu=table.optional("mtu", values.mtu, None),
        address4=table.optional("address4", values.address4, None),
    )
    table.end()
    return settings


def _association_pair(table: Table, home_agent: IPv6Address | None) -> AssociationPair:
    use = table.required("use", values.one_of(Use))
    implied = home_agent if use is not Use.APPLICATION else None
    peer = (
        table.required("peer", values.address) if implied is None else table.optional("peer", values.address, implied)
    )
    session_keys = table.optional("keys", values.one_of(KeyLife), KeyLife.STATIC) is KeyLife.SESSION
    pair = AssociationPair(
        name=table.optional("name", values.text, f"{use}-{peer}"),
        use=use,
        peer=peer,
        outbound=_association(table.table("outbound"), session_keys),
        inbound=_association(table.table("inbound"), session_keys),
        session_keys=session_keys,
    )
    table.end()
    if implied is not None and peer != implied:
        raise table.error("peer", f"has to be the home agent {implied}, or to be left out")
    if pair.outbound.keys == pair.inbound.keys and pair.outbound.keys.encryption:
        raise table.error("inbound", "has the keys of outbound; each direction needs its own (`mobility keys`)")
    return pair


def _association(table: Table, session_keys: bool) -> Association:
    spi = table.required("spi", values.spi)
    algorithm = table.required("algorithm", values.algorithm)
    if algorithm.aead and not session_keys:
        raise table.error(
            "algorithm",
            f"{algorithm.value} must never see a key again after a restart (RFC 8221 section 5): use"
            f" {Algorithm.AES_CBC_HMAC_SHA2_256_128.value} for static keys, or make keys anew for every session and"
            ' say keys = "session"',
        )
    keys = Keys(
        table.optional("encryption", values.key_material, b""),
        table.optional("authentication", values.key_material, b""),
    )
    table.end()
    try:
        algorithm.check(keys)
    except KeyingError as error:
        key = "authentication" if "authentication" in str(error) else "encryption"
        raise table.error(key, str(error)) from None
    return Association(spi, algorithm, keys)


def _policy(table: Table, pairs: tuple[AssociationPair, ...]) -> PolicyRow:
    names = {pair.name for pair in pairs if pair.use is Use.APPLICATION}
    row = PolicyRow(
        name=table.optional("name", values.text, "policy"),
        remote=table.optional("remote", values.network, IPv6Network("::/0")),
        protocol=table.optional("protocol", values.protocol, None),
        local_port=table.optional("local_port", values.ports, None),
        remote_port=table.optional("remote_port", values.ports, None),
        action=table.required("action", values.one_of(Action)),
        association=table.optional("association", values.text, None),
    )
    table.end()
    if row.action is Action.PROTECT and row.association not in names:
        known = ", ".join(sorted(names)) or "none yet"
        raise table.error("association", f'has to name an association with use = "application"; there is {known}')
    if row.action is not Action.PROTECT and row.association is not None:
        raise table.error("association", 'only goes with action = "protect"')
    if (row.local_port is not None or row.remote_port is not None) and row.protocol not in (6, 17):
        raise table.error("protocol", 'has to be "udp" or "tcp" where ports are given')
    return row


def _check_whole(configuration: Configuration) -> None:
    """What only shows when all tables are known: every need has its pair, every pair its need, no SPI comes twice."""
    path = configuration.path
    needs: set[tuple[Use, IPv6Address]] = set()
    node, agent = configuration.mobile_node, configuration.home_agent
    if node is not None:
        needs |= _needs(node.home_agent, node.tunnel, node.signalling)
    for terminal in () if agent is None else agent.terminals:
        needs |= _needs(terminal.home_address, terminal.tunnel, terminal.signalling)
    there = [(pair.use, pair.peer) for pair in configuration.associations]
    for use, peer in sorted(needs - set(there)):
        raise ConfigurationError(
            f'{path}: association: one with use = "{use}" and peer = "{peer}" is missing; write one, or choose a'
            f" {use} without ESP"
        )
    names: set[str] = set()
    spis: set[tuple[bool, int]] = set()
    for number, pair in enumerate(configuration.associations):
        key = f"{path}: association[{number}]"
        if pair.use is Use.APPLICATION and agent is not None:
            raise ConfigurationError(f"{key}.use: a home agent has no applications")
        if pair.use is not Use.APPLICATION and (pair.use, pair.peer) not in needs:
            raise ConfigurationError(f"{key}.use: nothing here uses a {pair.use} association with {pair.peer}")
        if there.index((pair.use, pair.peer)) != number and pair.use is not Use.APPLICATION:
            raise ConfigurationError(f"{key}.peer: there is a {pair.use} association with {pair.peer} already")
        if pair.name in names:
            raise ConfigurationError(f"{key}.name: {pair.name!r} is taken already")
        spi = (pair.use is Use.APPLICATION, pair.inbound.spi)
        if spi in spis:
            raise ConfigurationError(f"{key}.inbound.spi: {pair.inbound.spi:#x} is taken already")
        names.add(pair.name)
        spis.add(spi)


def _needs(peer: IPv6Address, tunnel: TunnelForm, signalling: Signalling) -> set[tuple[Use, IPv6Address]]:
    needs = {(Use.TUNNEL, peer)} if tunnel is not TunnelForm.PLAIN else set()
    return needs | ({(Use.SIGNALLING, peer)} if signalling is Signalling.ESP else set())
