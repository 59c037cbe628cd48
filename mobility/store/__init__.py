"""Bindings outside of the process: `sqlite` for a restart, `redis` and beside for several home agents that are one.

``sqlite``: a file of records, written in the loop of the data plane. ``redis``: the connection; ``lease``: who serves
(sans-IO); ``sequences``: numbers of security associations that are set aside together; ``shared``: the node around a
home agent that serves only while it holds the lease.
"""
