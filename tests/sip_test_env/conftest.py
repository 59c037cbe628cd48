"""The network, built once for all tests of this folder that only use it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sip_test_env.network import TestNetwork


@pytest.fixture(scope="session")
def network() -> Iterator[TestNetwork]:
    """A standing network; leave it as you find it."""
    with TestNetwork(f"test-{os.getpid()}") as network:
        yield network
