"""What a configuration says of keys that are negotiated: ``[[ike]]`` and ``[application_keys]``."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

from mobility import values
from mobility.ipsec.algorithms import Algorithm
from mobility.ipsec.ike.authentication import SHORTEST_SECRET
from mobility.key_settings import WHICHEVER, CallKeys, KeyExchange, KeyUse
from mobility.mipv6.tunnel import TunnelForm
from mobility.settings import (
    MOBILE_USES,
    Configuration,
    MapChoice,
    MobileNodeSettings,
    RegionalTerminal,
    ServedTerminal,
    Signalling,
    Use,
)
from mobility.values import ConfigurationError, Table

SHORTEST_LIFETIME = 60
"Seconds of negotiated keys: both ends do more than rekey."
OR_CORRESPONDENT = f'; with a correspondent: use = "{KeyUse.APPLICATION}"'
ONE_HOME = "goes with one home address, and a home agent that is named"


def key_exchange(table: Table, mobile_node: MobileNodeSettings | None, *, strangers: bool = False) -> KeyExchange:
    """A table ``[[ike]]``; ``strangers``: of a MAP that takes whoever has a certificate. Raises ConfigurationError."""
    use = table.optional("use", values.one_of(KeyUse), KeyUse.MOBILE)
    home = None
    if use is KeyUse.MAP or strangers:
        peer = table.optional("peer", values.address, WHICHEVER)
    elif use is KeyUse.APPLICATION or mobile_node is None:
        peer = table.required("peer", values.address)
    else:
        only = None if mobile_node.further else mobile_node.home_agent
        peer = table.optional("peer", values.address, WHICHEVER if only is None else only)
        home = table.optional("home_address", values.address, None)
    token = table.optional("token", values.key_material, None)
    certificate = table.optional("certificate", values.path, None)
    private_key = table.optional("private_key", values.path, None)
    nothing: tuple[str, ...] = ()
    authorities = tuple(map(Path, table.optional("authorities", values.texts, nothing)))
    revocations = tuple(map(Path, table.optional("revocations", values.texts, nothing)))
    algorithm, lifetime = _algorithm_and_lifetime(table)
    table.end()
    certified = (certificate, private_key, *authorities)
    if token is not None and any(each is not None for each in certified):
        raise table.error("token", "does not go with certificates; leave one of the two out")
    if token is None and (certificate is None or private_key is None or not authorities):
        made = "`mobility add-terminal` has made" if use is KeyUse.MOBILE else "`openssl rand -hex 32` makes"
        raise table.error("token", f"is missing: write what {made}, or certificate, private_key and authorities")
    if token is not None and len(token) < SHORTEST_SECRET:
        raise table.error("token", f"has to have {2 * SHORTEST_SECRET} hexadecimal digits at least, chosen at random")
    return KeyExchange(
        peer,
        token,
        None if certificate is None else table.beside(certificate),
        None if private_key is None else table.beside(private_key),
        tuple(map(table.beside, authorities)),
        tuple(map(table.beside, revocations)),
        algorithm,
        lifetime,
        use,
        home,
        table.where,
    )


def call_keys(table: Table, mobile_node: MobileNodeSettings | None) -> CallKeys | None:
    """The table ``[application_keys]``; None: phones get no keys from this node. Raises ConfigurationError."""
    possible = mobile_node is None or _one_home(mobile_node)
    calls = table.optional("calls", values.truth, possible)
    keys = CallKeys(*_algorithm_and_lifetime(table))
    table.end()
    if calls and not possible:
        raise table.error("calls", ONE_HOME)
    return keys if calls else None


def _algorithm_and_lifetime(table: Table) -> tuple[Algorithm, int]:
    algorithm = table.optional("algorithm", values.algorithm, Algorithm.AES_GCM_16)
    lifetime = table.optional("lifetime", values.seconds, 3600)
    if algorithm.is_for_ah:
        raise table.error("algorithm", f"{algorithm.value} is for AH; IKE makes keys of ESP here")
    if lifetime < SHORTEST_LIFETIME:
        raise table.error("lifetime", f"has to be {SHORTEST_LIFETIME} seconds at least")
    return algorithm, lifetime


def _one_home(settings: MobileNodeSettings) -> bool:
    return settings.home_agent is not None and not settings.further


def check(configuration: Configuration) -> None:
    """Whether what is negotiated suits the rest, once all tables are known. Raises ConfigurationError."""
    node = configuration.mobile_node
    if node is not None and node.maps.tunnel is not TunnelForm.PLAIN and configuration.map_key_exchange(None) is None:
        raise ConfigurationError(
            f'{configuration.path}: mobile_node.map_tunnel: needs keys; write an [[ike]] with use = "{KeyUse.MAP}"'
        )
    _check_certified(configuration)
    known: set[tuple[KeyUse, IPv6Address, IPv6Address | None]] = set()
    for each in configuration.key_exchanges:
        if (each.use, each.peer, each.home) in known:
            whom = "whichever there is" if each.peer == WHICHEVER else each.peer
            raise ConfigurationError(f"{each.where}.peer: there is an [[ike]] with {whom} already")
        known.add((each.use, each.peer, each.home))
        if each.use is KeyUse.APPLICATION:
            _check_application(configuration, each)
            uses: tuple[Use, ...] = (Use.APPLICATION,)
        else:
            (_check_map if each.use is KeyUse.MAP else _check_mobile)(configuration, each)
            uses = MOBILE_USES
        first = configuration.host_address
        pair = next(
            (
                row
                for row in configuration.associations
                if row.peer == each.peer and row.use in uses and each.home in (None, row.home or first)
            ),
            None,
        )
        if pair is not None:
            raise ConfigurationError(f"{pair.where}: the keys with {each.peer} come from IKE ({each.where})")


def _check_mobile(configuration: Configuration, exchange: KeyExchange) -> None:
    if configuration.mobile_node is not None:
        _check_home(configuration.mobile_node, exchange)
        return
    agent, anchor = configuration.home_agent, configuration.anchor_point
    if exchange.peer == WHICHEVER and anchor is not None and anchor.certified:
        return
    served: tuple[ServedTerminal | RegionalTerminal, ...] = ()
    for serving in (agent, anchor):
        served += () if serving is None else serving.terminals
    terminal = next((row for row in served if row.home_address == exchange.peer), None)
    if terminal is None:
        other = "" if configuration.host_os is None else OR_CORRESPONDENT
        raise ConfigurationError(
            f"{exchange.where}.peer: there is no terminal with this home address here: {exchange.peer}{other}"
        )
    _check_signalling(terminal.signalling, exchange)


def _check_certified(configuration: Configuration) -> None:
    anchor = configuration.anchor_point
    if anchor is None or not anchor.certified:
        return
    exchange = configuration.key_exchange(WHICHEVER)
    if exchange is None or exchange.token is not None:
        raise ConfigurationError(
            f"{configuration.path}: map.certified: wants an [[ike]] without peer that has certificate, private_key and"
            " authorities"
        )


def _check_home(node: MobileNodeSettings, exchange: KeyExchange) -> None:
    homes = [home for home in node.homes if exchange.home in (None, home.address.ip)]
    if not homes:
        known = ", ".join(str(home.address.ip) for home in node.homes)
        raise ConfigurationError(f"{exchange.where}.home_address: has to be one of the home addresses {known}")
    peer = exchange.peer
    if peer != WHICHEVER and not any(home.may_have(peer) for home in homes):
        raise ConfigurationError(
            f"{exchange.where}.peer: there is no home agent with this address here: {peer}{OR_CORRESPONDENT}"
        )
    _check_signalling(node.signalling, exchange)


def _check_signalling(signalling: Signalling, exchange: KeyExchange) -> None:
    if signalling is not Signalling.ESP:
        raise ConfigurationError(f'{exchange.where}: IKE makes keys for signalling = "{Signalling.ESP}" only')


def _check_map(configuration: Configuration, exchange: KeyExchange) -> None:
    node = configuration.mobile_node
    if node is None or node.maps.choice is MapChoice.OFF:
        raise ConfigurationError(f'{exchange.where}.use: "{KeyUse.MAP}" is for terminals with `maps` in [mobile_node]')
    known = next((row for row in node.maps.known if row.address == exchange.peer), None)
    if known is None and exchange.peer != WHICHEVER:
        raise ConfigurationError(f"{exchange.where}.peer: there is no [[mobile_node.map]] with this address")
    if known is not None:
        _check_signalling(known.signalling, exchange)


def _check_application(configuration: Configuration, exchange: KeyExchange) -> None:
    node = configuration.mobile_node
    if configuration.host_os is None:
        raise ConfigurationError(f"{exchange.where}.use: a node of role {configuration.role} has no applications")
    if node is not None and not _one_home(node):
        raise ConfigurationError(f'{exchange.where}: use = "{KeyUse.APPLICATION}" {ONE_HOME}')
    if exchange.peer == configuration.host_address:
        raise ConfigurationError(f"{exchange.where}.peer: {exchange.peer} is this node itself")
    if node is not None and exchange.peer == node.home_agent:
        raise ConfigurationError(f'{exchange.where}.peer: is the home agent, which has use = "{KeyUse.MOBILE}"')
