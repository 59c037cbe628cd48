"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says how busy the machine is: time is for benchmarks.
settings.register_profile("roamphone")
settings.load_profile("roamphone")
