"""``mobility exec``: runs any program in the host OS, where it has the home address and no other network.

This process itself becomes the program: exit status, signals, terminal and job control are the program's own.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import pwd
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from mobility.client import HostClient, MobilityError
from mobility.commands.common import WRONG, add_runtime, runtime
from mobility.config import Role

if TYPE_CHECKING:
    from mobility.commands.common import Commands

CANNOT_RUN, NOT_FOUND = 126, 127
"Exit status, as shells have it."


def add(commands: Commands) -> None:
    what = "run a program with the home address as its only network"
    command = commands.add_parser("exec", help=what, description=f"{what}: mobility exec -- ssh somewhere")
    add_runtime(command)
    command.add_argument(
        "program", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the program and its arguments"
    )
    command.set_defaults(run=_exec)


def _exec(options: argparse.Namespace) -> int:
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        sys.stderr.write("mobility: exec needs a program: mobility exec -- COMMAND ARGUMENTS\n")
        return WRONG
    roles = Role.MOBILE_NODE, Role.MOBILE_ROUTER, Role.CORRESPONDENT
    enter_host_os(HostClient(runtime(options, *roles) / "host.sock"))
    become(program)


def enter_host_os(host: HostClient) -> None:
    """This process moves into the host OS, for good; it must have a single thread. Raises MobilityError, OSError."""
    from mobility.net import surroundings

    information = host.information()
    dns, hosts = information.get("dns"), information.get("hosts")
    namespaces = host.namespaces()
    try:
        if _join(namespaces):
            surroundings.enter(
                [str(server) for server in dns] if isinstance(dns, list) else [],
                {str(name): str(address) for name, address in hosts.items()} if isinstance(hosts, dict) else {},
            )
            if "user" in namespaces:
                surroundings.no_new_privileges()
    finally:
        for descriptor in namespaces.values():
            os.close(descriptor)


def become(program: Sequence[str]) -> NoReturn:
    """This process becomes the program; does not return. A program that cannot be run ends it with 126 or 127."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python; the program expects them as they are
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(program[0], list(program))
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        why = error.strerror if isinstance(error, OSError) else str(error)
        sys.stderr.write(f"mobility: cannot run {program[0]!r}: {why}\n")
        raise SystemExit(NOT_FOUND if missing else CANNOT_RUN) from None


def _join(namespaces: Mapping[str, int]) -> bool:
    """Enters the namespaces; False if this process is in the host OS already."""
    from mobility.net import namespace

    user, network = namespaces.get("user"), namespaces["net"]
    if namespace.same(network, "net"):
        return False
    try:
        if user is not None:
            owner = namespace.owner(user)
            if owner != os.geteuid():
                raise MobilityError(
                    f"this host OS belongs to {_user(owner)} and you are {_user(os.geteuid())}: run the command as its"
                    " owner (sudo -u NAME)"
                )
            namespace.enter(user, namespace.CLONE_NEWUSER)
        namespace.enter(network)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EINVAL):
            raise MobilityError(
                f"the host OS cannot be entered from here ({error.strerror}): run the command as the user and in the"
                " container that the terminal was started in"
            ) from error
        raise
    return True


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user number {uid}"
