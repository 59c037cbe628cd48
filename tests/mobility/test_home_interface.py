"""The host OS's interface follows the node; a holder that does not answer stops nothing."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from mobility.home_interface import HomeInterface
from mobility.mipv6.place_binding import HomeAddress4Assigned, HomeAddress4Refused
from mobility.net.loop import Loop
from mobility.terminal import HostMtuChanged
from mobility.trace import Trace


class Holder:
    """Hears requests and answers when it is told to."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "host.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(os.fspath(self.path))
        self.socket.listen(8)
        self.socket.settimeout(2.0)
        self.client: socket.socket | None = None

    def asked(self) -> dict[str, object]:
        self.client, _ = self.socket.accept()
        request = json.loads(self.client.recv(1000))
        assert isinstance(request, dict)
        return request

    def answer(self, data: bytes = b'{"ok": true}') -> None:
        assert self.client is not None
        with self.client:
            if data:
                self.client.send(data)

    def idle(self) -> bool:
        self.socket.settimeout(0.0)
        try:
            self.socket.accept()[0].close()
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(2.0)
        return False


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    made = Holder(tmp_path)
    yield made
    made.socket.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_the_interface_follows_the_node(holder: Holder, loop: Loop) -> None:
    trace = Trace()
    interface = HomeInterface(loop, holder.path, 1400)
    interface.follow(trace, 1500)
    assert holder.asked() == {"op": "mtu", "mtu": 1400}
    for event in (HostMtuChanged(1390), HostMtuChanged(1300), HomeAddress4Assigned(IPv4Address("10.0.0.7"), 32)):
        trace.event(event)
    assert holder.idle()  # one thing after the other
    holder.answer()
    loop.turn(2.0)
    heard = []
    for _ in range(2):
        heard.append(holder.asked())
        holder.answer()
        loop.turn(2.0)
    assert sorted(heard, key=str) == [{"op": "address4", "address4": "10.0.0.7"}, {"op": "mtu", "mtu": 1300}]
    trace.event(HomeAddress4Refused(132, "none left"))
    assert holder.asked() == {"op": "address4", "address4": None}
    holder.answer()
    loop.turn(2.0)
    assert holder.idle()
    interface.close()


@pytest.mark.parametrize("answer", [b"", b"nonsense", b"[]", b'{"ok": false, "error": "no"}'])
def test_a_holder_that_refuses_is_told_of_once(
    answer: bytes, holder: Holder, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    trace = Trace()
    interface = HomeInterface(loop, holder.path, None)
    interface.follow(trace, 1500)
    holder.asked()
    holder.answer(answer)
    loop.turn(2.0)
    assert [record.message[:34] for record in caplog.records] == ["the MTU of the host OS stays as it"]
    trace.event(HostMtuChanged(1400))
    assert holder.asked() == {"op": "mtu", "mtu": 1400}
    interface.close()
    holder.answer(b"")


def test_no_holder(tmp_path: Path, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    trace = Trace()
    interface = HomeInterface(loop, tmp_path / "host.sock", None)
    interface.follow(trace, 1500)
    trace.event(HomeAddress4Refused(132, "none left"))
    assert len(caplog.records) == 2
    interface.close()
