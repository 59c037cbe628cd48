"""Named network namespaces: made, entered, removed; compatible with ``ip netns``.

``setns`` concerns one thread, so everything that happens inside a namespace runs in a short-lived thread that entered
it. Sockets made there and processes started there stay in the namespace after the thread has gone.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from sip_test_env.errors import EnvironmentFailure

Result = TypeVar("Result")

DIRECTORY = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SHARED = 1 << 20
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise EnvironmentFailure(f"{what}: {os.strerror(number)}; network namespaces need root (try sudo)")


def _mount(source: str, target: str, flags: int) -> None:
    _checked(_libc.mount(source.encode(), target.encode(), b"none", flags, None), f"mount {target}")


def _share_directory() -> None:
    """Makes ``/run/netns`` a shared mount, as ``ip netns`` does, so that other mount namespaces see removals."""
    DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    target = str(DIRECTORY)
    if _libc.mount(b"none", target.encode(), b"none", _MS_SHARED | _MS_REC, None) != 0:
        _mount(target, target, _MS_BIND | _MS_REC)
        _mount("none", target, _MS_SHARED | _MS_REC)


def _in_thread(function: Callable[[], Result]) -> Result:
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # handed to the caller, whatever it is
            errors.append(error)

    thread = threading.Thread(target=run, name="namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def create(names: tuple[str, ...]) -> None:
    """Makes the namespaces; raises `EnvironmentFailure` where one exists or privilege is missing."""

    def run() -> None:
        for name in names:
            path = DIRECTORY / name
            try:
                path.touch(mode=0o444, exist_ok=False)
            except FileExistsError:
                raise EnvironmentFailure(f"namespace {name} exists already; `ip netns del {name}` removes it") from None
            _checked(_libc.unshare(_CLONE_NEWNET), f"make namespace {name}")
            _mount("/proc/thread-self/ns/net", str(path), _MS_BIND)

    _share_directory()
    _in_thread(run)


def exists(name: str) -> bool:
    """Whether a namespace of that name is there."""
    return (DIRECTORY / name).exists()


def enter(name: str) -> None:
    """Moves the calling thread into the namespace for good."""
    try:
        descriptor = os.open(DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise EnvironmentFailure(f"there is no namespace {name}; is the network up?") from None
    try:
        _checked(_libc.setns(descriptor, _CLONE_NEWNET), f"enter namespace {name}")
    finally:
        os.close(descriptor)


def run_in(name: str, function: Callable[[], Result]) -> Result:
    """Runs ``function`` inside the namespace, in a thread of its own; returns or raises what it does."""

    def run() -> Result:
        enter(name)
        return function()

    return _in_thread(run)


def remove(name: str) -> None:
    """Takes the name away; the kernel ends the namespace when nothing uses it any more. Not there: nothing to do."""
    path = DIRECTORY / name
    _libc.umount2(str(path).encode(), _MNT_DETACH)
    with suppress(FileNotFoundError):
        path.unlink()


def processes(names: tuple[str, ...]) -> list[int]:
    """Process ids of all that live in one of the namespaces."""
    inodes = set()
    for name in names:
        with suppress(FileNotFoundError):
            status = (DIRECTORY / name).stat()
            inodes.add((status.st_dev, status.st_ino))
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):  # ended meanwhile
                status = os.stat(f"/proc/{entry}/ns/net")
                if (status.st_dev, status.st_ino) in inodes:
                    found.append(int(entry))
    return found
