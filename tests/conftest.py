"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long an example takes, or takes to make, says how busy the machine is: time is for benchmarks.
settings.register_profile("roamphone", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("roamphone")
