"""What a configuration says of IPsec: security associations, policies, and whether they suit the rest of it."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from mobility import config_homes, config_keys, values
from mobility.ipsec.algorithms import Algorithm, KeyingError, Keys
from mobility.ipsec.spd import Action
from mobility.mipv6.tunnel import TunnelForm
from mobility.settings import (
    Association,
    AssociationPair,
    Configuration,
    KeyLife,
    MobileNodeSettings,
    PolicyRow,
    RegionalTerminal,
    ServedTerminal,
    Signalling,
    Use,
)
from mobility.values import ConfigurationError, Table


def association_pair(table: Table, mobile_node: MobileNodeSettings | None) -> AssociationPair:
    """A table ``[[association]]``; ``mobile_node``: whose, if it is one. Raises ConfigurationError."""
    use = table.required("use", values.one_of(Use))
    if mobile_node is None or use is Use.APPLICATION:
        peer, home = table.required("peer", values.address), None
    else:
        peer, home = config_homes.ends(table, mobile_node)
    session_keys = table.optional("keys", values.one_of(KeyLife), KeyLife.STATIC) is KeyLife.SESSION
    pair = AssociationPair(
        name=table.optional("name", values.text, f"{use}-{peer}" if home is None else f"{use}-{peer}-{home}"),
        use=use,
        peer=peer,
        outbound=_association(table.table("outbound"), session_keys),
        inbound=_association(table.table("inbound"), session_keys),
        session_keys=session_keys,
        where=table.where,
        home=home,
    )
    table.end()
    for way, one in (("outbound", pair.outbound), ("inbound", pair.inbound)):
        if one.algorithm.is_for_ah != (use is Use.SIGNALLING_AH):
            known = (each.value for each in Algorithm if each.is_for_ah == (use is Use.SIGNALLING_AH))
            raise table.error(
                f"{way}.algorithm", f"{one.algorithm.value} is not for {use}, which takes {', '.join(known)}"
            )
    if use in (Use.TUNNEL, Use.HOME_TEST):
        for way, one in (("outbound", pair.outbound), ("inbound", pair.inbound)):
            if one.spi >> 28 in (4, 6):
                raise table.error(
                    f"{way}.spi",
                    f"{one.spi:#010x} begins with the digit {one.spi >> 28} of eight, which in a datagram of the tunnel"
                    " means a packet of this version of IP: choose another",
                )
    if pair.outbound.keys == pair.inbound.keys and (pair.outbound.keys.encryption or use is Use.SIGNALLING_AH):
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


def policy(table: Table, pairs: tuple[AssociationPair, ...]) -> PolicyRow:
    """A table ``[[policy]]``, which may name one of ``pairs``. Raises ConfigurationError."""
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


def check_whole(configuration: Configuration) -> None:
    """What only shows when all tables are known: every need has its pair, every pair its need, no SPI comes twice.

    Raises ConfigurationError.
    """
    config_keys.check(configuration)
    needs: dict[tuple[Use, IPv6Address, IPv6Address | None], str] = {}
    may: set[tuple[Use, IPv6Address, IPv6Address | None]] = set()
    node, agent = configuration.mobile_node, configuration.home_agent
    for peer, home in () if node is None else config_homes.peers(node, configuration):
        if node is not None:
            needs |= dict.fromkeys(_needs(peer, node.tunnel, node.signalling, home), str(configuration.path))
            may |= _may(peer, node.tunnel, home)
    for known in () if node is None else node.maps.known:
        if configuration.map_key_exchange(known) is None:
            needs |= dict.fromkeys(_needs(known.address, known.tunnel, known.signalling), str(configuration.path))
    served: list[ServedTerminal | RegionalTerminal] = [*(() if agent is None else agent.terminals)]
    served += () if configuration.anchor_point is None else configuration.anchor_point.terminals
    for terminal in served:
        file, _, _ = terminal.where.partition(": ")
        if configuration.key_exchange(terminal.home_address) is not None:
            continue
        needs |= dict.fromkeys(_needs(terminal.home_address, terminal.tunnel, terminal.signalling), file)
        if isinstance(terminal, ServedTerminal):
            may |= _may(terminal.home_address, terminal.tunnel)
    for (use, peer, home), file in needs.items():
        if configuration.pair(use, peer, home) is None:
            protocol = "AH" if use is Use.SIGNALLING_AH else "ESP"
            whose = f'peer = "{peer}"' if home is None else f'peer = "{peer}", home_address = "{home}"'
            raise ConfigurationError(
                f'{file}: association: one with use = "{use}" and {whose} is missing; write one, or choose'
                f" a {'tunnel' if use is Use.TUNNEL else 'signalling'} without {protocol}"
            )
    names: set[str] = set()
    spis: set[tuple[bool, int]] = set()
    for pair in configuration.associations:
        key = pair.where
        if pair.use is Use.APPLICATION and configuration.host_os is None:
            who = "a home agent" if agent is not None else "a MAP"
            raise ConfigurationError(f"{key}.use: {who} has no applications")
        if pair.use is not Use.APPLICATION and (pair.use, pair.peer, pair.home) not in needs.keys() | may:
            raise ConfigurationError(f"{key}.use: nothing here uses a {pair.use} association with {pair.peer}")
        if configuration.pair(pair.use, pair.peer, pair.home) is not pair and pair.use is not Use.APPLICATION:
            raise ConfigurationError(f"{key}.peer: there is a {pair.use} association with {pair.peer} already")
        if pair.name in names:
            raise ConfigurationError(f"{key}.name: {pair.name!r} is taken already")
        spi = (pair.use is Use.APPLICATION, pair.inbound.spi)
        if spi in spis:
            raise ConfigurationError(f"{key}.inbound.spi: {pair.inbound.spi:#x} is taken already")
        names.add(pair.name)
        spis.add(spi)


def _may(
    peer: IPv6Address, tunnel: TunnelForm, home: IPv6Address | None = None
) -> set[tuple[Use, IPv6Address, IPv6Address | None]]:
    """Home tests go under the tunnel's ESP where it has one; in the form ``plain`` they may have their own."""
    return {(Use.HOME_TEST, peer, home)} if tunnel is TunnelForm.PLAIN else set()


def _needs(
    peer: IPv6Address, tunnel: TunnelForm, signalling: Signalling, home: IPv6Address | None = None
) -> list[tuple[Use, IPv6Address, IPv6Address | None]]:
    needs = []
    if signalling in (Signalling.ESP, Signalling.AH_ESP):
        needs.append((Use.SIGNALLING, peer, home))
    if signalling in (Signalling.AH, Signalling.AH_ESP):
        needs.append((Use.SIGNALLING_AH, peer, home))
    return needs if tunnel is TunnelForm.PLAIN else [*needs, (Use.TUNNEL, peer, home)]
