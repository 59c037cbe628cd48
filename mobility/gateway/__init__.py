"""TLS inside TLS (the source's eighth embodiment): gateways, which terminate outer sessions, and a terminal's end."""
