"""Becomes an ordinary user in a network namespace, for good, and runs a program there.

    python -m sip_test_env.as_user UID GID DIRECTORY NAMESPACE CAPABILITIES COMMAND ...

Started by root; a namespace ``-`` is where it is, capabilities are as setpriv(1) wants them. Where root's home
directory, which others cannot enter, holds the Python that runs the project (pyenv does that), the user sees an
otherwise empty one there: in a mount namespace of its own, nothing on the machine changes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import sip_test_env
from mobility.net.namespace import CLONE_NEWNS, MNT_DETACH, MS_BIND, MS_REC, call
from sip_test_env import namespace
from sip_test_env.errors import EnvironmentFailure

_MS_PRIVATE, _MS_MOVE = 1 << 18, 0x2000


def _mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    try:
        call("mount", source.encode(), os.fsencode(target), kind.encode(), flags, options.encode())
    except OSError as error:
        raise EnvironmentFailure(f"{source} at {target}: {error.strerror}") from error


def closed_above(path: Path) -> Path | None:
    """The outermost directory on the way to ``path`` that others may not enter; None: they get there."""
    for directory in reversed((path, *path.parents)):
        if not directory.stat().st_mode & 0o001:
            return directory
    return None


def make_reachable(paths: list[Path]) -> None:
    """Has everybody in this (new) mount namespace reach the directories. Raises `EnvironmentFailure`."""
    closed: dict[Path, list[Path]] = {}
    for path in paths:
        barrier = closed_above(path)
        if barrier is not None:
            closed.setdefault(barrier, []).append(path)
    if not closed:
        return
    try:
        call("unshare", CLONE_NEWNS)
    except OSError as error:
        raise EnvironmentFailure(f"a mount namespace: {error.strerror}") from error
    _mount("none", Path("/"), "none", MS_REC | _MS_PRIVATE)
    for barrier, wanted in closed.items():
        if barrier in wanted:
            raise EnvironmentFailure(f"{barrier} is closed to other users: chmod o+x {barrier}")
        with tempfile.TemporaryDirectory() as folder:  # only the directory; what is mounted there moves on
            shelf = Path(folder)
            _mount("tmpfs", shelf, "tmpfs", 0, "mode=755")
            for number, path in enumerate(wanted):
                (shelf / str(number)).mkdir()
                _mount(str(path), shelf / str(number), "none", MS_BIND | MS_REC)
            _mount("tmpfs", barrier, "tmpfs", 0, "mode=755")
            for number, path in enumerate(wanted):
                path.mkdir(parents=True, exist_ok=True)
                _mount(str(shelf / str(number)), path, "none", _MS_MOVE)
            call("umount2", os.fsencode(shelf), MNT_DETACH)


def main() -> None:
    user, group, directory, name, capabilities, *command = sys.argv[1:]
    if name != "-":
        namespace.enter(name)
    package = Path(sip_test_env.__file__).resolve().parents[1]
    make_reachable(list(dict.fromkeys(Path(path).resolve() for path in (sys.base_prefix, sys.prefix, package))))
    os.chdir(directory)
    become = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups"]
    rights = [f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"]
    if capabilities != "-all":  # a service with a few: nothing else is ever to be had, by no program
        rights.append(f"--bounding-set={capabilities}")
    os.execvp(become[0], [*become, *rights, "--", *command])


if __name__ == "__main__":
    main()
