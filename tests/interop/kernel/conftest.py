"""One guest for all tests of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sip_test_env.linux_guest import LinuxGuest
from tests.interop.kernel.network import Daemons
from tests.interop.kernel.peer import Kernel


@pytest.fixture(scope="session")
def guest() -> Iterator[LinuxGuest]:
    with LinuxGuest(interfaces=2) as guest:
        yield guest


@pytest.fixture(scope="session")
def machines(guest: LinuxGuest) -> tuple[Kernel, Kernel]:
    return Kernel(guest, 0), Kernel(guest, 1)


@pytest.fixture
def kernel(machines: tuple[Kernel, Kernel]) -> Kernel:
    """A machine that knows of nothing."""
    machines[0].reset()
    return machines[0]


@pytest.fixture
def second(machines: tuple[Kernel, Kernel]) -> Kernel:
    """Another one."""
    machines[1].reset()
    return machines[1]


@pytest.fixture(scope="session")
def daemons() -> Daemons:
    """They end with the guest."""
    return Daemons()
