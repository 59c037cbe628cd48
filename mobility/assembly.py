"""Configuration -> node: the one place that knows both."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

from mobility import negotiated
from mobility import settings as anchor_settings
from mobility.agent import AgentSettings, HomeAgentNode
from mobility.anchor_point import AnchorPointNode, AnchorPointSettings, Announcement
from mobility.config import AssociationPair, Configuration, ConfigurationError, StoreKind, Use
from mobility.correspondent import CorrespondentNode, CorrespondentSettings
from mobility.extensions import scenarios_of_third_parties
from mobility.hmipv6.map_list import MapPolicy
from mobility.hmipv6.map_settings import CertifiedTerminals, MapSettings, MapTerminal
from mobility.hmipv6.regional_settings import AnchorKeys, RegionalSettings
from mobility.homes import Equip, Homes
from mobility.ipsec.ah import InboundAH, OutboundAH
from mobility.ipsec.algorithms import KeyingError
from mobility.ipsec.ike.authentication import Belief, Proof, SharedKey
from mobility.ipsec.ike.certificate_files import load_credential, load_trust
from mobility.ipsec.processing import IpsecProcessing
from mobility.ipsec.sa import InboundSA, Mode, OutboundSA
from mobility.ipsec.spd import Action, Policy, SecurityPolicyDatabase, Selector
from mobility.key_settings import WHICHEVER
from mobility.key_source import ApplicationKeySettings, KeySource
from mobility.links import LinkSettings
from mobility.mipv6.home_agents_list import anycast
from mobility.mipv6.home_settings import AuthorisedTerminal, HomeAgentSettings
from mobility.mipv6.tunnel import MobileAssociations, TunnelForm
from mobility.mobile_router import MobileRouter
from mobility.net.netlink import LinkState
from mobility.node import Node
from mobility.node_certificate import node_certificate
from mobility.residence import Equipment, Home
from mobility.sequences import SequenceFile
from mobility.settings import (
    MOBILE_USES,
    HomeLink,
    KeyExchange,
    KeyUse,
    MapChoice,
    MapUse,
    MobileNodeSettings,
    ServedTerminal,
    Signalling,
    When,
)
from mobility.state_files import keep
from mobility.terminal import Terminal, TerminalSettings
from mobility.translating import TranslatingTerminal
from mobility.translation.translation import Translation

_SECRET_SIZE = 32
_ANY4 = IPv4Address(0)


def build(configuration: Configuration, interfaces: Mapping[str, LinkState], sequences: SequenceFile) -> Node:
    """The node of a configuration, with sequence numbers that go on where they were.

    ``interfaces``: those on which it has packet sockets. Raises ConfigurationError, SequenceFileError.
    """
    links = {name: LinkSettings(name, state.address, state.mtu) for name, state in interfaces.items()}
    try:
        if configuration.mobile_node is not None:
            return _terminal(configuration, links, sequences)
        if configuration.home_agent is not None:
            return _home_agent(configuration, links, sequences)
        if configuration.anchor_point is not None:
            return _anchor_point(configuration, configuration.anchor_point, links, sequences)
        return _correspondent(configuration, links, sequences)
    except (KeyingError, ValueError) as error:
        raise ConfigurationError(f"{configuration.path}: {error}") from error


def _terminal(
    configuration: Configuration, links: Mapping[str, LinkSettings], sequences: SequenceFile
) -> Terminal | TranslatingTerminal | Homes | MobileRouter:
    settings, router = configuration.mobile_node, configuration.mobile_router
    if settings is None:
        raise ConfigurationError(f"{configuration.path}: mobile_node: is missing")
    extensions = scenarios_of_third_parties()
    shared = anycast(settings.home_address.network) if settings.home_agent is None else settings.home_agent
    source = key_source(configuration.home_key_exchange(settings.home_address.ip, shared))
    node = TerminalSettings(
        home_address=settings.home_address.ip,
        home_agent=shared,
        links=tuple(links[name] for name in settings.interfaces if name in links),
        interfaces=settings.interfaces,
        home_prefix_length=settings.home_address.network.prefixlen,
        tunnel=settings.tunnel,
        lifetime=settings.lifetime,
        scenarios=extensions.enabled(settings.scenarios),
        more_scenarios=extensions.scenarios,
        home_agent4=settings.home_agent4,
        udp_port=settings.udp_port,
        overlap=settings.overlap,
        home_address4=_ANY4 if settings.home_address4 == "request" else settings.home_address4,
        keepalive=settings.keepalive,
        route_optimization=settings.route_optimization,
        regional=_regional(configuration, settings.maps, sequences),
        mobile_networks=() if router is None else tuple(network.prefix for network in router.networks),
        explicit=router is not None and router.explicit,
        keys=source,
        key_management=source is not None,
        application_keys=application_key_settings(configuration, sequences.directory),
    )
    # Numbers of binding updates go on after a restart without being written down: up to 16 updates a second are
    # behind the clock. Where it was set back meanwhile, the home agent's correction costs one round trip.
    sequence = int(time.time() * 16) & 0xFFFF
    secret = identifier_secret(sequences.directory)
    if settings.home_agent is None or settings.further:
        homes = [Home(each.address.ip, each.address.network.prefixlen, each.agent, each.when is When.RENUMBERED)
                 for each in settings.homes]  # fmt: skip
        equip = _equipment(configuration, settings, sequences)
        return Homes(node, homes, equip, os.urandom, sequence=sequence, secret=secret, utc=utc)
    terminal = Terminal(
        node,
        application_processing(configuration, settings.home_address.ip, sequences),
        mobile_associations(configuration, settings.home_agent, sequences)
        if source is None
        else negotiated.associations(settings.tunnel, source.algorithm, os.urandom),
        os.urandom,
        sequence=sequence,
        secret=secret,
        utc=utc,
    )
    if router is not None:
        ingress = [(links[name], networks) for name, networks in router.interfaces.items()]
        return MobileRouter(terminal, ingress, os.urandom, secret)
    if configuration.translation is None:
        return terminal
    return TranslatingTerminal(terminal, Translation(configuration.translation, os.urandom))


def _equipment(configuration: Configuration, settings: MobileNodeSettings, sequences: SequenceFile) -> Equip:
    """Both layers of IPsec for home addresses and home agents as they turn up.

    What was made once is kept: two associations with the same keys would use numbers twice. Those of the application
    are the same for all home addresses.
    """
    bare = settings.signalling is Signalling.NONE and settings.tunnel is TunnelForm.PLAIN
    application = application_associations(configuration, sequences)
    policies: dict[IPv6Address, IpsecProcessing] = {}
    made: dict[tuple[IPv6Address, IPv6Address], MobileAssociations] = {}
    sources = cache(key_source)  # certificates are read at the start, and not again in mid call
    for exchange in configuration.key_exchanges:
        sources(exchange)

    def equip(home: IPv6Address, agent: IPv6Address) -> Equipment | None:
        named = None if home == settings.home_address.ip else home
        network = next((each.address.network for each in settings.homes if each.address.ip == home), None)
        peers = [agent] if network is None else [agent, anycast(network)]
        known = [peer for peer in peers for use in MOBILE_USES if configuration.pair(use, peer, named) is not None]
        source = None if known else sources(configuration.home_key_exchange(home, agent))
        if not known and not bare and source is None:
            return None
        if home not in policies:
            policies[home] = application_processing(configuration, home, sequences, application)
        if source is not None:
            fresh = negotiated.associations(settings.tunnel, source.algorithm, os.urandom)
            return Equipment(policies[home], fresh, source)
        peer = known[0] if known else agent
        if (home, peer) not in made:
            made[home, peer] = mobile_associations(configuration, peer, sequences, named)
        return Equipment(policies[home], made[home, peer])

    return equip


def identifier_secret(directory: Path) -> bytes:
    """What interface identifiers are made from (RFC 7217): made once, so that a restart keeps the care-of address and
    with it the binding. Raises ConfigurationError when it can be neither read nor kept.
    """
    path = directory / "identifier-secret"
    try:
        if not path.exists() or path.stat().st_size != _SECRET_SIZE:
            keep(path, os.urandom(_SECRET_SIZE))
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be kept: {error.strerror}; see `state` in [node]") from error


def _home_agent(
    configuration: Configuration, links: Mapping[str, LinkSettings], sequences: SequenceFile
) -> HomeAgentNode:
    settings = configuration.home_agent
    if settings is None:
        raise ConfigurationError(f"{configuration.path}: home_agent: is missing")
    engine = HomeAgentSettings(
        settings.address.ip,
        authorised_terminals(configuration, sequences),
        settings.address.network.prefixlen,
        max_lifetime=settings.max_lifetime,
        udp_port=settings.udp_port,
        overlap=settings.overlap,
        ipv4_pool=settings.ipv4_pool,
        preference=settings.preference,
        advertise=settings.advertise,
        prefix_intervals=settings.prefix_intervals,
    )
    store = configuration.store
    standby = store is not None and store.kind is StoreKind.REDIS  # until it has the lease
    routed = settings.home_link is HomeLink.ROUTED
    return HomeAgentNode(AgentSettings(engine, links[settings.interface], standby, routed), os.urandom, utc)


def key_source(exchange: KeyExchange | None) -> KeySource | None:
    """Where keys come from, as a configuration says. Raises ConfigurationError: certificates cannot be used."""
    if exchange is None:
        return None
    proof: Proof
    belief: Belief
    try:
        if exchange.token is not None:
            proof = belief = SharedKey(exchange.token)
        elif exchange.certificate is None or exchange.private_key is None:
            raise ValueError("neither a token nor a certificate")
        else:
            proof = load_credential(exchange.certificate, exchange.private_key)
            belief = load_trust(exchange.authorities, exchange.revocations)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{exchange.where}: {error}") from error
    return KeySource(proof, belief, exchange.algorithm, float(exchange.lifetime))


def application_key_settings(configuration: Configuration, directory: Path) -> ApplicationKeySettings | None:
    """How keys with correspondents are negotiated; None: not at all. ``directory``: of what outlives the node.

    Raises ConfigurationError: certificates cannot be used, or our own one cannot be kept.
    """
    home, calls = configuration.host_address, configuration.call_keys
    negotiated_with = [each for each in configuration.key_exchanges if each.use is KeyUse.APPLICATION]
    peers = tuple((each.peer, source) for each in negotiated_with if (source := key_source(each)) is not None)
    if home is None or (calls is None and not peers):
        return None
    if calls is None:
        return ApplicationKeySettings(peers=peers, calls=False)
    try:
        credential = node_certificate(directory, home)
    except OSError as error:
        raise ConfigurationError(
            f"{directory}: the certificate for calls cannot be kept: {error.strerror}; see `state` in [node]"
        ) from error
    return ApplicationKeySettings(credential, peers, True, calls.algorithm, float(calls.lifetime))


def utc() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def authorised_terminals(
    configuration: Configuration,
    sequences: SequenceFile,
    before: Configuration | None = None,
    present: Iterable[AuthorisedTerminal] = (),
) -> tuple[AuthorisedTerminal, ...]:
    """The terminals of a home agent.

    When a configuration is read anew: ``before`` is the former one and ``present`` are its terminals. Where the keys
    are the same, so are the associations: counters, replay windows and numbers go on.

    Raises KeyingError, SequenceFileError.
    """
    known = {terminal.home_address: terminal for terminal in present}

    def associations(served: ServedTerminal) -> tuple[MobileAssociations, KeySource | None]:
        peer = served.home_address
        exchange = configuration.key_exchange(peer)
        if (
            before is not None
            and all(_same(before.pair(use, peer), configuration.pair(use, peer)) for use in MOBILE_USES)
            and before.key_exchange(peer) == exchange
        ):
            kept = known.get(peer)
            if kept is not None and (exchange is None or kept.form is served.tunnel):
                return kept.associations, kept.keys
        source = key_source(exchange)
        if source is not None:
            return negotiated.associations(served.tunnel, source.algorithm, os.urandom), source
        return mobile_associations(configuration, peer, sequences), None

    served = () if configuration.home_agent is None else configuration.home_agent.terminals
    equipped = ((each, *associations(each)) for each in served)
    return tuple(
        AuthorisedTerminal(
            each.home_address,
            each.tunnel,
            its_associations,
            each.admitted,
            each.name,
            each.home_address4,
            each.networks,
            each.mobile_networks,
            each.implicit,
            source,
        )
        for each, its_associations, source in equipped
    )


def _same(before: AssociationPair | None, after: AssociationPair | None) -> bool:
    """Whether both are the same but for the name."""
    if before is None or after is None:
        return before is after
    return (before.outbound, before.inbound, before.session_keys) == (after.outbound, after.inbound, after.session_keys)


def _correspondent(
    configuration: Configuration, links: Mapping[str, LinkSettings], sequences: SequenceFile
) -> CorrespondentNode:
    settings = configuration.correspondent
    if settings is None:
        raise ConfigurationError(f"{configuration.path}: correspondent: is missing")
    address = settings.address
    return CorrespondentNode(
        CorrespondentSettings(
            address.ip,
            links[settings.interface],
            address.network.prefixlen,
            settings.route_optimization,
            application_key_settings(configuration, sequences.directory),
        ),
        application_processing(configuration, address.ip, sequences),
        os.urandom,
        utc,
    )


def _regional(configuration: Configuration, use: MapUse, sequences: SequenceFile) -> RegionalSettings | None:
    if use.choice is MapChoice.OFF:
        return None
    keys = {}
    for known in use.known:
        source = key_source(configuration.map_key_exchange(known))
        typed = MobileAssociations()
        if source is None:
            typed = mobile_associations(configuration, known.address, sequences)
        keys[known.address] = AnchorKeys(known.tunnel, typed, source)
    others = AnchorKeys(use.tunnel, source=key_source(configuration.map_key_exchange(None))) if use.unknown else None
    return RegionalSettings(MapPolicy(use.choice), keys, others, use.lifetime)


def _anchor_point(
    configuration: Configuration,
    settings: anchor_settings.AnchorPointSettings,
    links: Mapping[str, LinkSettings],
    sequences: SequenceFile,
) -> AnchorPointNode:
    anchor = None
    if settings.address is not None:
        terminals = tuple(_regional_terminal(configuration, each, sequences) for each in settings.terminals)
        shown = key_source(configuration.key_exchange(WHICHEVER)) if settings.certified else None
        certified = None if shown is None else CertifiedTerminals(shown, settings.tunnel)
        anchor = MapSettings(settings.address, terminals, settings.open, certified, settings.max_lifetime)
    announcements = tuple(
        Announcement(links[each.interface], each.advertising, each.router) for each in settings.advertised
    )
    link = None if settings.interface is None else links[settings.interface]
    return AnchorPointNode(AnchorPointSettings(anchor, link, announcements), os.urandom, utc)


def _regional_terminal(
    configuration: Configuration, terminal: anchor_settings.RegionalTerminal, sequences: SequenceFile
) -> MapTerminal:
    home, form = terminal.home_address, terminal.tunnel
    source = key_source(configuration.key_exchange(home))
    if source is None:
        return MapTerminal(terminal.name, form, mobile_associations(configuration, home, sequences))
    known = negotiated.associations(form, source.algorithm, os.urandom, home_tests=False)
    return MapTerminal(terminal.name, form, known, home, source)


def mobile_associations(
    configuration: Configuration, peer: IPv6Address, sequences: SequenceFile, home: IPv6Address | None = None
) -> MobileAssociations:
    """The associations with a home agent or of a terminal, as far as configured; ``home``: if it is not the first."""
    signalling_out, signalling_in = _signalling(configuration, peer, sequences, home)
    tunnel_out, tunnel_in = _both(configuration.pair(Use.TUNNEL, peer, home), Mode.TUNNEL, sequences)
    home_test_out, home_test_in = _both(configuration.pair(Use.HOME_TEST, peer, home), Mode.TUNNEL, sequences)
    return MobileAssociations(signalling_out, signalling_in, tunnel_out, tunnel_in, home_test_out, home_test_in)


def _signalling(
    configuration: Configuration, peer: IPv6Address, sequences: SequenceFile, home: IPv6Address | None
) -> tuple[OutboundSA | OutboundAH | None, InboundSA | InboundAH | None]:
    esp_out, esp_in = _both(configuration.pair(Use.SIGNALLING, peer, home), Mode.TRANSPORT, sequences)
    pair = configuration.pair(Use.SIGNALLING_AH, peer, home)
    if pair is None:
        return esp_out, esp_in
    there, back = pair.outbound, pair.inbound
    out_state, in_state = sequences.state(there, "outbound"), sequences.state(back, "inbound")
    return (
        OutboundAH(there.spi, there.algorithm, there.keys, inside=esp_out, state=out_state),
        InboundAH(back.spi, back.algorithm, back.keys, inside=esp_in, state=in_state),
    )


Ends = tuple[OutboundSA, InboundSA] | tuple[None, None]
"Of a pair of associations."


def application_associations(configuration: Configuration, sequences: SequenceFile) -> dict[str, Ends]:
    """Those with correspondents, by their names."""
    pairs = (pair for pair in configuration.associations if pair.use is Use.APPLICATION)
    return {pair.name: _both(pair, Mode.TRANSPORT, sequences) for pair in pairs}


def application_processing(
    configuration: Configuration,
    local: IPv6Address,
    sequences: SequenceFile,
    shared: Mapping[str, Ends] | None = None,
) -> IpsecProcessing:
    """The application's IPsec: the rows of ``[[policy]]``, then all traffic with the peers that no row names.

    What no row and no association is about passes as it is. ``shared``: the associations, where another address of
    this node has them as well.
    """
    here = IPv6Network(local)
    pairs = {pair.name: pair for pair in configuration.associations if pair.use is Use.APPLICATION}
    associations = application_associations(configuration, sequences) if shared is None else shared
    policies = []
    for row in configuration.policies:
        outbound, inbound = (None, None) if row.association is None else associations[row.association]
        selector = Selector(here, row.remote, row.protocol, row.local_port, row.remote_port)
        policies.append(Policy(selector, row.action, outbound, inbound, row.name))
    named = {row.association for row in configuration.policies}
    for name, pair in pairs.items():
        if name not in named:
            selector = Selector(here, IPv6Network(pair.peer))
            outbound, inbound = associations[name]
            policies.append(Policy(selector, Action.PROTECT, outbound, inbound, name))
    return IpsecProcessing(SecurityPolicyDatabase(policies, Action.BYPASS))


def _both(pair: AssociationPair | None, mode: Mode, sequences: SequenceFile) -> Ends:
    if pair is None:
        return None, None
    there, back = pair.outbound, pair.inbound
    outbound = OutboundSA(
        there.spi,
        there.algorithm,
        there.keys,
        mode,
        random=os.urandom,
        state=sequences.state(there, "outbound"),
        fresh_keys=pair.session_keys,
    )
    inbound = InboundSA(back.spi, back.algorithm, back.keys, mode, state=sequences.state(back, "inbound"))
    return outbound, inbound
