"""Network namespaces: making one (named as root, anonymous as an ordinary user) and stepping into one.

Python 3.11 has neither `os.unshare` nor `os.setns`, so libc is called by ctypes.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import signal
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mobility.net.obstacles import Forbidden, forbidden_namespace

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
MS_BIND, MS_REC, MS_SLAVE, MS_SHARED = 0x1000, 0x4000, 1 << 19, 1 << 20
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
NS_GET_OWNER_UID = 0xB704

NAMED = Path("/run/netns")
"Where iproute2 keeps named namespaces; `ip netns exec NAME` looks here."

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """A function of libc. Raises OSError."""
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
    call("prctl", PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)


def unshare_network() -> None:
    """This process moves to a new, empty network namespace (needs root)."""
    call("unshare", CLONE_NEWNET)


def unshare_user_and_network() -> None:
    """This process moves to a new network namespace without being root, by way of a new user namespace.

    User and group keep their numbers inside. Raises `Forbidden` with the reason where the system does not allow it.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        call("unshare", CLONE_NEWUSER | CLONE_NEWNET)
        # An interpreter with file capabilities (setcap) makes /proc/self root's own; what follows is written there.
        call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
        Path("/proc/self/setgroups").write_text("deny")  # the kernel wants this before an unprivileged gid_map
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    except OSError as error:
        raise Forbidden(error.errno, forbidden_namespace(error)) from error


def open_to_its_user() -> None:
    """In a network namespace of an ordinary user: no need of root to ping, or to listen at a port below 1024.

    Nobody else is in there, so nobody else could be tricked. A kernel that does not let us is no obstacle.
    """
    gid = os.getegid()
    for name, value in (("ping_group_range", f"{gid} {gid}"), ("ip_unprivileged_port_start", "0")):
        with suppress(OSError):
            Path("/proc/sys/net/ipv4", name).write_text(value)


def of(pid: int) -> dict[str, int]:
    """Descriptors of the namespaces of another process of ours: ``net``, and ``user`` if it has one of its own.

    They live on as long as the descriptors are open; the caller closes them. Raises OSError.
    """
    found: dict[str, int] = {}
    try:
        for kind in ("user", "net"):
            found[kind] = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        if same(found["user"], "user"):
            os.close(found.pop("user"))
    except BaseException:
        for descriptor in found.values():
            os.close(descriptor)
        raise
    return found


def enter_all(namespaces: Mapping[str, int]) -> None:
    """This process moves to the namespaces behind the descriptors (``user``, ``net``). Raises OSError."""
    for kind, flag in (("user", CLONE_NEWUSER), ("net", CLONE_NEWNET)):
        if kind in namespaces:
            enter(namespaces[kind], flag)


def same(descriptor: int, kind: str) -> bool:
    """Whether this thread is in the namespace behind a descriptor already; ``kind`` as in /proc/self/ns."""
    there, here = os.fstat(descriptor), os.stat(f"/proc/thread-self/ns/{kind}")
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def owner(descriptor: int) -> int:
    """The user who owns the user namespace behind a descriptor, seen from here (ioctl_ns(2)). Raises OSError."""
    return int(struct.unpack("I", fcntl.ioctl(descriptor, NS_GET_OWNER_UID, bytes(4)))[0])


def enter(descriptor: int, kind: int = CLONE_NEWNET) -> None:
    """This process (thread) moves to the namespace behind a descriptor."""
    call("setns", descriptor, kind)


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
    """Makes the namespace of this thread known as ``name``. Raises FileExistsError if the name is taken."""
    NAMED.mkdir(parents=True, exist_ok=True)
    # iproute2 does the same: mounts made here must be seen by processes in other mount namespaces.
    try:
        call("mount", b"", os.fsencode(NAMED), b"none", MS_SHARED | MS_REC, None)
    except OSError:
        call("mount", os.fsencode(NAMED), os.fsencode(NAMED), b"none", MS_BIND | MS_REC, None)
        call("mount", b"", os.fsencode(NAMED), b"none", MS_SHARED | MS_REC, None)
    target = NAMED / name
    os.close(os.open(target, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    try:
        call("mount", b"/proc/thread-self/ns/net", os.fsencode(target), b"none", MS_BIND, None)
    except OSError:
        target.unlink()
        raise


def withdraw(name: str) -> None:
    """Takes the name of a namespace away; the namespace goes when nobody is in it any more. Unknown: no error."""
    target = NAMED / name
    try:
        call("umount2", os.fsencode(target), MNT_DETACH)
    except OSError:
        pass  # not mounted (any more): the file is what is left to remove
    target.unlink(missing_ok=True)
