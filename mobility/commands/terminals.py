"""``mobility add-terminal``, ``remove-terminal`` (home agent) and ``import`` (terminal)."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mobility.commands import files
from mobility.commands.common import DONE, configuration_file, default_configuration, say
from mobility.config import ConfigurationError, Role, load, parse
from mobility.mipv6.tunnel import TunnelForm

if TYPE_CHECKING:
    from mobility.commands.common import Commands
    from mobility.settings import Configuration, HomeAgentSettings

T = TypeVar("T")


def add(commands: Commands) -> None:
    usual = default_configuration(Role.HOME_AGENT)
    made = commands.add_parser("add-terminal", help="home agent: make keys and the configuration of a new terminal")
    made.add_argument("name", help="what you call it: letters, digits, dots, dashes, underscores")
    made.add_argument("--config", type=Path, metavar="FILE", help=f"of the home agent; default: {usual}")
    made.add_argument("--home-address", type=IPv6Address, metavar="ADDRESS", help="default: a free one is chosen")
    made.add_argument("--home-agent4", type=IPv4Address, metavar="ADDRESS", help="the home agent's, seen from outside")
    made.add_argument(
        "--home-address4", type=IPv4Address, metavar="ADDRESS", help="fixed, out of the home agent's pool"
    )
    made.add_argument(
        "--mobile-network", type=IPv6Network, action="append", metavar="PREFIX",
        help="of 64 bits: it is a mobile router and takes this network along; may be repeated",
    )  # fmt: skip
    made.add_argument("--ingress", default="eth1", metavar="NAME", help="the mobile router's interface in its networks")
    made.add_argument("--dns", type=_server, action="append", metavar="ADDRESS", help="name server; may be repeated")
    made.add_argument("--tunnel", type=TunnelForm, choices=list(TunnelForm), default=TunnelForm.ESP)
    made.add_argument(
        "--static-keys", action="store_true",
        help="write all keys into the files, in place of a token by which both ends negotiate and renew them (IKEv2)",
    )  # fmt: skip
    how = made.add_mutually_exclusive_group()
    how.add_argument("--output", type=Path, metavar="FILE", help="write the terminal's configuration there (mode 0600)")
    how.add_argument("--uri", action="store_true", help="print it as one line for `mobility import`")
    how.add_argument("--qr", action="store_true", help="print it as a QR code of that line, and the line")
    made.set_defaults(run=_add_terminal)

    gone = commands.add_parser("remove-terminal", help="home agent: forget a terminal and its keys")
    gone.add_argument("name")
    gone.add_argument("--config", type=Path, metavar="FILE", help=f"of the home agent; default: {usual}")
    gone.set_defaults(run=_remove_terminal)

    own = default_configuration(Role.MOBILE_NODE)
    taken = commands.add_parser("import", help="terminal: take the configuration that your operator gave you")
    taken.add_argument(
        "uri", nargs="?", default="-",
        help="the line that begins with roamphone: ; without it, it is read from standard input (safer: it holds keys)",
    )  # fmt: skip
    taken.add_argument("--output", type=Path, metavar="FILE", help=f"default: {own}")
    taken.add_argument("--force", action="store_true", help="replace a configuration that is there")
    taken.set_defaults(run=_import)


def _server(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text)


_server.__name__ = "address"  # what argparse calls it in complaints


def _add_terminal(options: argparse.Namespace) -> int:
    from mobility.enrolment import Wishes, enrol, invitation

    path = configuration_file(options.config, Role.HOME_AGENT)
    wishes = Wishes(
        options.name, options.home_address, options.home_agent4, options.home_address4, options.tunnel,
        tuple(options.dns or ()), tuple(options.mobile_network or ()), options.ingress, options.static_keys,
    )  # fmt: skip
    if options.output is not None and options.output.exists():
        raise FileExistsError(f"{options.output} exists already: name another file")
    directory = _agent(load(path, role=Role.HOME_AGENT)).directory
    owner = path.stat()
    files.make_directory(directory, owner=owner)
    with files.alone_in(directory):
        enrolled = enrol(load(path, role=Role.HOME_AGENT), wishes)
        file = directory / f"{enrolled.name}.toml"
        files.write(file, enrolled.home_agent_file, owner=owner)
        _undoing(file, lambda: load(path, role=Role.HOME_AGENT))
    if options.output is not None:
        _undoing(file, lambda: files.write(options.output, enrolled.terminal_file))
        _note(f"wrote {options.output}: bring it to the terminal, over a way that nobody reads")
    elif options.uri or options.qr:
        line = invitation(enrolled.terminal_file)
        if options.qr:
            say(_qr_code(line))
        say(line)
        _note("on the terminal: `mobility import`, then paste this line; whoever has it is this terminal")
    else:
        say(enrolled.terminal_file.rstrip("\n"))
    _note(f"{enrolled.name} has the home address {enrolled.home_address}; its keys are in {file}")
    _note(f"a home agent that runs learns of it by `mobility reload --config {path}`")
    return DONE


def _remove_terminal(options: argparse.Namespace) -> int:
    path = configuration_file(options.config, Role.HOME_AGENT)
    agent = _agent(load(path, role=Role.HOME_AGENT))
    found = next((terminal for terminal in agent.terminals if terminal.name == options.name), None)
    if found is None:
        known = ", ".join(sorted(terminal.name for terminal in agent.terminals)) or "none"
        raise ConfigurationError(f"{path}: there is no terminal {options.name}; there are: {known}")
    file = agent.directory / f"{options.name}.toml"
    if not file.exists():
        where, _, _ = found.where.partition(": ")
        raise ConfigurationError(f"{where}: {options.name} stands in this file: remove it there, with its associations")
    file.unlink()
    _note(f"removed {file}")
    _note(f"a home agent that runs learns of it by `mobility reload --config {path}`")
    return DONE


def _import(options: argparse.Namespace) -> int:
    from mobility.enrolment import accept_invitation

    line = options.uri
    if line == "-":
        if sys.stdin.isatty():
            _note("paste the line that begins with roamphone: and press Enter")
        line = sys.stdin.readline(1 << 16)
    path = default_configuration(Role.MOBILE_NODE) if options.output is None else options.output
    text = accept_invitation(line, path)
    role = parse(text, path).role
    if options.output is None:
        path = default_configuration(role)
    files.make_directory(path.parent)
    try:
        files.write(path, text, replace=options.force)
    except FileExistsError:
        raise FileExistsError(f"{path} exists already: --force replaces it, --output FILE names another") from None
    _note(f"wrote {path}")
    _note(f"next: `mobility check` looks whether this machine can do it, `mobility {role}` begins")
    return DONE


def _agent(configuration: Configuration) -> HomeAgentSettings:
    if configuration.home_agent is None:
        raise ConfigurationError(f"{configuration.path}: is not for a home agent")
    return configuration.home_agent


def _undoing(file: Path, work: Callable[[], T]) -> T:
    """If the work fails, the terminal is not there either."""
    try:
        return work()
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _qr_code(line: str) -> str:
    import io

    import segno

    code = segno.make(line, error="l", micro=False, boost_error=False)
    text = io.StringIO()
    code.terminal(text, border=2, compact=True)
    wide, needed = shutil.get_terminal_size().columns, code.symbol_size(border=2)[0]
    if sys.stdout.isatty() and wide < needed:
        _note(f"this terminal has {wide} columns and the code needs {needed}: widen it, or make its letters smaller")
    return text.getvalue().rstrip("\n")


def _note(text: str) -> None:
    sys.stderr.write(f"mobility: {text}\n")
