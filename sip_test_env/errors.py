"""What can go wrong with the test network."""

from __future__ import annotations


class EnvironmentFailure(Exception):
    """The test network cannot be built, changed or taken down; the message says what to do."""
