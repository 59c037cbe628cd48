"""Bindings outside of the process: `sqlite` for a restart, the rest for several home agents that are one.

``redis``: the connection, in the loop of the data plane; ``scripts``: what is in the store, and its changes;
``numbers``: sequence numbers of security associations that are set aside together; ``shared``: the node around a home
agent that serves only while it holds the lease.
"""
