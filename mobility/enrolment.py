"""A new terminal of a home agent: its keys, its address, and the two files that both ends need.

::

    enrolled = enrol(configuration, Wishes(name="alice"))
    enrolled.home_agent_file     # for the home agent's directory of terminals
    enrolled.terminal_file       # for the terminal; `invitation` makes one line of it

What is made here is secret. Randomness is passed in.
"""

from __future__ import annotations

import base64
import binascii
import os
import tomllib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

from mobility.config import Configuration, ConfigurationError, Role, Use, parse
from mobility.ipsec.algorithms import Algorithm
from mobility.links import MOBILITY_PORT
from mobility.mipv6.tunnel import TunnelForm
from mobility.net.namespace import valid_name
from mobility.settings import HomeAgentSettings

Random = Callable[[int], bytes]

SCHEME = "roamphone:"
LARGEST_FILE = 1 << 16
"Octets that a line may unpack to."
ALGORITHM = Algorithm.AES_CBC_HMAC_SHA2_256_128
TOKEN_SIZE = 32
"Octets of the secret that both ends of IKE have."
_TRIES = 1000
_RESERVED = 128
"Interface identifiers at the end of a network that are anycast addresses (RFC 2526)."


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator says about a new terminal; None: chosen here."""

    name: str
    home_address: IPv6Address | None = None
    home_agent4: IPv4Address | None = None
    "Where the home agent is reached over IPv4."
    home_address4: IPv4Address | None = None
    tunnel: TunnelForm = TunnelForm.ESP
    dns: tuple[IPv4Address | IPv6Address, ...] = ()
    mobile_networks: tuple[IPv6Network, ...] = ()
    "Prefixes of 64 bits that it takes along as a mobile router; empty: it is a mobile host."
    ingress: str = "eth1"
    "On which interface of a mobile router its networks are."
    static_keys: bool = False
    "Both ends get the keys of IPsec themselves; otherwise a token, by which they agree on keys (IKEv2)."


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What has been made."""

    name: str
    home_address: IPv6Address
    home_agent_file: str
    terminal_file: str


def enrol(configuration: Configuration, wishes: Wishes, random: Random = os.urandom) -> Enrolled:
    """Makes keys and files for a terminal of this home agent. Raises ConfigurationError; nothing is written."""
    agent = configuration.home_agent
    if agent is None:
        raise ConfigurationError(f"{configuration.path}: is not for a home agent: only they have terminals")
    check_name(wishes.name)
    if wishes.name in {terminal.name for terminal in agent.terminals}:
        raise ConfigurationError(
            f"{configuration.path}: there is a terminal {wishes.name} already: `mobility remove-terminal` takes it away"
        )
    if wishes.home_address4 is not None and (agent.ipv4_pool is None or wishes.home_address4 not in agent.ipv4_pool):
        raise ConfigurationError(f"{wishes.home_address4} is not in home_agent.ipv4_pool of {configuration.path}")
    address = _address(agent, wishes.home_address, random)
    taken = {side.spi for pair in configuration.associations for side in (pair.outbound, pair.inbound)}
    ours, theirs = [], []
    if not wishes.static_keys:
        token = random(TOKEN_SIZE).hex()
        ours.append(f'[[ike]]\npeer = "{address}"\ntoken = "{token}"\n')
        theirs.append(f'[[ike]]\ntoken = "{token}"\n')
    uses = (Use.SIGNALLING, Use.HOME_TEST if wishes.tunnel is TunnelForm.PLAIN else Use.TUNNEL)
    for use in uses if wishes.static_keys else ():
        there, back = _association(taken, random), _association(taken, random)
        ours.append(_pair(use, address, outbound=back, inbound=there))
        theirs.append(_pair(use, None, outbound=there, inbound=back))
    enrolled = Enrolled(
        wishes.name,
        address,
        "\n".join([_home_agent_table(wishes, address), *ours]),
        "\n".join([_terminal_tables(agent, wishes, address), *theirs]),
    )
    parse(enrolled.terminal_file, Path(f"{wishes.name}.toml"))  # what the terminal would refuse is not handed out
    return enrolled


ROLES = (Role.MOBILE_NODE, Role.MOBILE_ROUTER)
"Of those who get an invitation."


def check_name(name: str) -> None:
    """Raises ConfigurationError for a name that cannot be that of a terminal's file."""
    if not valid_name(name):
        raise ConfigurationError(f"{name!r} cannot name a terminal: use letters, digits, dots, dashes, underscores")


def invitation(terminal_file: str) -> str:
    """The terminal's file as one line, to be pasted or scanned: ``roamphone:`` and base64url of its zlib stream."""
    bare = "\n".join(line for line in terminal_file.splitlines() if line and not line.startswith("#"))
    packed = zlib.compress(bare.encode(), 9)
    return SCHEME + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def accept_invitation(line: str, path: Path) -> str:
    """The text of the file that such a line carries, checked; ``path`` is where it is to be, for messages.

    Raises ConfigurationError: damaged, not for a terminal, or something in it that only the user should say.
    """
    scheme, colon, packed = "".join(line.split()).partition(":")  # mail programs break lines
    if f"{scheme.lower()}{colon}" != SCHEME:
        raise ConfigurationError(f"this is no invitation: it begins with {SCHEME}, followed by letters and digits")
    try:
        data = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(data, LARGEST_FILE).decode()
        complete = unpacker.eof
    except (ValueError, binascii.Error, zlib.error):
        complete = False
    if not complete:
        raise ConfigurationError("this invitation is damaged: copy the whole line, from roamphone: to its end")
    if parse(text, path).role not in ROLES:
        raise ConfigurationError("this invitation is not for a terminal")
    top = tomllib.loads(text)
    if set(top["node"]) != {"role"} or "policy" in top or set(top.get("host_os", {})) - {"dns"}:
        # Where files are written and what is encrypted is not for somebody else to say.
        raise ConfigurationError("this invitation sets more than an operator has to; take the file from them instead")
    return text + "\n"


def _address(agent: HomeAgentSettings, wanted: IPv6Address | None, random: Random) -> IPv6Address:
    network = agent.address.network
    taken = {agent.address.ip, *(terminal.home_address for terminal in agent.terminals)}
    if wanted is not None:
        if wanted not in network:
            raise ConfigurationError(f"{wanted} is not in the home network {network}")
        if wanted in taken:
            raise ConfigurationError(f"{wanted} is taken already")
        return wanted
    for _ in range(_TRIES if network.num_addresses > 1 else 0):
        address = _random_address(network, random)
        if address not in taken:
            return address
    raise ConfigurationError(f"no free address was found in {network}: name one with --home-address")


def _random_address(network: IPv6Network, random: Random) -> IPv6Address:
    """One that neither counts up from 1 nor stems from a MAC address, so that hardly anybody else has it."""
    size = network.num_addresses
    usable = size - 1 - (_RESERVED if size > 2 * _RESERVED else 0)  # the first is every router's (RFC 4291)
    return network.network_address + (1 + int.from_bytes(random(16), "big") % usable)


def association(spi: int, algorithm: Algorithm, random: Random = os.urandom) -> str:
    """One direction of a pair with new keys, as it stands in a configuration file."""
    fields = [f"spi = {spi:#x}", f'algorithm = "{algorithm.value}"']
    for name, length in (
        ("encryption", algorithm.key_lengths[-1]),
        ("authentication", algorithm.authentication_key_length),
    ):
        if length:
            fields.append(f'{name} = "{random(length).hex()}"')
    return f"{{ {', '.join(fields)} }}"


def _association(taken: set[int], random: Random) -> str:
    """One direction, with an SPI that nothing else has here."""
    while True:
        spi = int.from_bytes(random(4), "big")
        # A first digit of 4 or 6 would look like an IP packet in a datagram; 0 is for what people number themselves.
        if spi >> 28 not in (0, 4, 6) and spi not in taken:
            taken.add(spi)
            return association(spi, ALGORITHM, random)


def _pair(use: Use, peer: IPv6Address | None, *, outbound: str, inbound: str) -> str:
    of = "" if peer is None else f'peer = "{peer}"\n'
    return f'[[association]]\nuse = "{use}"\n{of}outbound = {outbound}\ninbound = {inbound}\n'


def _home_agent_table(wishes: Wishes, address: IPv6Address) -> str:
    lines = [
        "# Made by `mobility add-terminal`, removed by `mobility remove-terminal`. Holds keys.",
        "[[home_agent.terminal]]",
        f'name = "{wishes.name}"',
        f'home_address = "{address}"',
        f'tunnel = "{wishes.tunnel}"',
    ]
    if wishes.home_address4 is not None:
        lines.append(f'home_address4 = "{wishes.home_address4}"')
    if wishes.mobile_networks:
        networks = ", ".join(f'"{network}"' for network in wishes.mobile_networks)
        lines.append(f"mobile_networks = [{networks}]")
    return "\n".join(lines) + "\n"


def _terminal_tables(agent: HomeAgentSettings, wishes: Wishes, address: IPv6Address) -> str:
    lines = [
        f"# Terminal {wishes.name} of the home agent {agent.address.ip}. Holds keys: for its user alone (mode 0600).",
        "[node]",
        f'role = "{Role.MOBILE_ROUTER if wishes.mobile_networks else Role.MOBILE_NODE}"',
        "",
        "[mobile_node]",
        f'home_address = "{address}/{agent.address.network.prefixlen}"',
        f'home_agent = "{agent.address.ip}"',
        f'tunnel = "{wishes.tunnel}"',
    ]
    home_agent4 = wishes.home_agent4
    if home_agent4 is None:  # where it listens, as far as others can reach that
        home_agent4 = next((one for one in agent.udp if isinstance(one, IPv4Address) and one.is_global), None)
    if home_agent4 is not None:
        lines.append(f'home_agent4 = "{home_agent4}"')
    if agent.udp_port not in (0, MOBILITY_PORT):
        lines.append(f"udp_port = {agent.udp_port}")
    if agent.ipv4_pool is not None:
        lines.append('home_address4 = "request"')
    for network in wishes.mobile_networks:
        lines += ["", "[[mobile_router.network]]", f'prefix = "{network}"', f'interface = "{wishes.ingress}"']
    if wishes.dns:
        servers = ", ".join(f'"{server}"' for server in wishes.dns)
        lines += ["", "[host_os]", f"dns = [{servers}]"]
    return "\n".join(lines) + "\n"
