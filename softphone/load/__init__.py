"""Load on telephone systems: many calls by a scenario, over processes and machines, and a report."""
