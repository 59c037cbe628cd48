"""Named network namespaces: made, entered, removed; compatible with ``ip netns``.

``setns`` concerns one thread, so everything that happens inside a namespace runs in a short-lived thread that entered
it. Sockets made there and processes started there stay in the namespace after the thread has gone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from mobility.net import namespace
from mobility.net.namespace import NAMED as NAMED
from sip_test_env.errors import EnvironmentFailure

Result = TypeVar("Result")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = f"{what}: {error.strerror}; network namespaces need root (try sudo)"
        raise EnvironmentFailure(why) from error


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
            if exists(name):
                raise EnvironmentFailure(f"namespace {name} exists already; `ip netns del {name}` removes it")
            with _explained(f"make namespace {name}"):
                namespace.unshare_network()
                namespace.publish(name)

    _in_thread(run)


def exists(name: str) -> bool:
    """Whether a namespace of that name is there."""
    return (NAMED / name).exists()


def enter(name: str) -> None:
    """Moves the calling thread into the namespace for good."""
    try:
        descriptor = os.open(NAMED / name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise EnvironmentFailure(f"there is no namespace {name}; is the network up?") from None
    try:
        with _explained(f"enter namespace {name}"):
            namespace.enter(descriptor)
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
    namespace.withdraw(name)


def processes(names: tuple[str, ...]) -> list[int]:
    """Process ids of all that live in one of the namespaces."""
    inodes = set()
    for name in names:
        with suppress(FileNotFoundError):
            status = (NAMED / name).stat()
            inodes.add((status.st_dev, status.st_ino))
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):  # ended meanwhile
                status = os.stat(f"/proc/{entry}/ns/net")
                if (status.st_dev, status.st_ino) in inodes:
                    found.append(int(entry))
    return found
