"""Measurements. `make bench` runs all, `make bench SECTION=name` one; results are merged into bench/report.json."""
