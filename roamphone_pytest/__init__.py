"""A pytest plugin for telephone systems: a SIP server and phones on it, a network to move in, assertions, captures.

`roamphone_pytest.plugin` has the fixtures; docs/pytest.md tells how tests use them.
"""
