"""Ports on loopback for programs that have to be told theirs before they start."""

from __future__ import annotations

import socket

HOSTS = ("::1", "127.0.0.1")


def free_port(neighbours: int = 0) -> int:
    """A port that nobody has just now, nor the next ``neighbours``: on both addresses of loopback, for UDP and TCP."""
    while True:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((HOSTS[0], 0))
            port: int = probe.getsockname()[1]
        numbers = range(port, port + neighbours + 1)
        if numbers[-1] < 65536 and all(_free(host, number) for host in HOSTS for number in numbers):
            return port


def _free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
