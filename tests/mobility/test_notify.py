"""The service manager is told, and heartbeats are counted."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobility.heartbeat import Heartbeat
from mobility.notify import ServiceManager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(str(tmp_path / "notify"))
        yield listener


def test_the_protocol_of_sd_notify(manager: socket.socket) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "3000000"})
    assert service.watchdog == 1.5
    service.ready("serving")
    assert manager.recv(1000) == b"READY=1\nSTATUS=serving"
    service.reloading()
    first, second = manager.recv(1000).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert second.partition("=")[2].isdecimal()
    service.alive()
    assert manager.recv(1000) == b"WATCHDOG=1"
    service.stopping()
    assert manager.recv(1000) == b"STOPPING=1"


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        name = f"roamphone-test-{os.getpid()}"
        listener.bind("\0" + name)
        ServiceManager({"NOTIFY_SOCKET": "@" + name}).alive()
        assert listener.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "3000000"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},
    ],
)
def test_nobody_waits_for_signs_of_life(environment: dict[str, str]) -> None:
    assert ServiceManager(environment).watchdog is None


def test_a_manager_that_is_gone_is_no_fault_of_the_node(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ServiceManager({"NOTIFY_SOCKET": "/nowhere/at/all"}).alive()
        ServiceManager({}).alive()
    assert len(caplog.records) == 1


def test_a_child_that_does_not_beat_is_seen_to_miss_beats() -> None:
    heart = Heartbeat()
    pid = os.fork()
    if pid == 0:
        heart.beat()
        os._exit(0)
    os.waitpid(pid, 0)
    assert [heart.look() for _ in range(3)] == [0, 1, 2]
    heart.beat()
    assert heart.look() == 0
    heart.close()
