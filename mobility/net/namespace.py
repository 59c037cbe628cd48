"""Network namespaces: making one (named as root, anonymous as an ordinary user) and stepping into one.

Python 3.11 has neither `os.unshare` nor `os.setns`, so libc is called by ctypes.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
MS_BIND, MS_REC, MS_SHARED = 0x1000, 0x4000, 1 << 20
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1

NAMED = Path("/run/netns")
"Where iproute2 keeps named namespaces; `ip netns exec NAME` looks here."

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def valid_name(name: str) -> bool:
    """Whether a name can be that of a namespace: a plain file name of letters, digits, dot, dash, underscore."""
    return _NAME.fullmatch(name) is not None


def die_with_parent(sig: signal.Signals, parent: int) -> None:
    """Has the kernel send us ``sig`` when our parent process ends; exits at once if it has ended already.

    To be called again after a change of credentials (entering a user namespace), which clears it.
    """
    _call("prctl", PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)


def unshare_network() -> None:
    """This process moves to a new, empty network namespace (needs root)."""
    _call("unshare", CLONE_NEWNET)


def unshare_user_and_network() -> None:
    """This process moves to a new network namespace without being root, by way of a new user namespace.

    User and group keep their numbers inside. Raises OSError where the system forbids it (``user.max_user_namespaces``,
    ``kernel.unprivileged_userns_clone``, AppArmor's ``apparmor_restrict_unprivileged_userns``).
    """
    uid, gid = os.geteuid(), os.getegid()
    _call("unshare", CLONE_NEWUSER | CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")  # the kernel wants this before an unprivileged gid_map
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def enter(descriptor: int, kind: int = CLONE_NEWNET) -> None:
    """This process (thread) moves to the namespace behind a descriptor."""
    _call("setns", descriptor, kind)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """For the duration of a ``with`` block this thread is in the named namespace. What it opens there stays there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(NAMED / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(home)


def exists(name: str) -> bool:
    """Whether a named namespace is there and alive (a file left by a dead one does not count)."""
    try:
        with inside(name):
            return True
    except OSError:
        return False


def publish(name: str) -> None:
    """Makes the namespace of this process known as ``name``. Raises FileExistsError if the name is taken."""
    NAMED.mkdir(parents=True, exist_ok=True)
    # iproute2 does the same: mounts made here must be seen by processes in other mount namespaces.
    try:
        _call("mount", b"", os.fsencode(NAMED), b"none", MS_SHARED | MS_REC, None)
    except OSError:
        _call("mount", os.fsencode(NAMED), os.fsencode(NAMED), b"none", MS_BIND | MS_REC, None)
        _call("mount", b"", os.fsencode(NAMED), b"none", MS_SHARED | MS_REC, None)
    target = NAMED / name
    os.close(os.open(target, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    try:
        _call("mount", b"/proc/self/ns/net", os.fsencode(target), b"none", MS_BIND, None)
    except OSError:
        target.unlink()
        raise


def withdraw(name: str) -> None:
    """Takes the name of a namespace away; the namespace goes when nobody is in it any more. Unknown: no error."""
    target = NAMED / name
    try:
        _call("umount2", os.fsencode(target), MNT_DETACH)
    except OSError:
        pass  # not mounted (any more): the file is what is left to remove
    target.unlink(missing_ok=True)
