"""Accounts and where sockets come from."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from mobility.client import HostClient, HostError
from softphone.config import Account
from softphone.errors import ConfigError, TransportError
from softphone.media.keying import Keying
from softphone.network.sockets import DirectSockets, HomeSockets, connect


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"user": ""}, "no user"),
        ({"domain": "exa mple"}, "neither a host name"),
        ({"registrar": "example.org"}, "does not begin with sip:"),
        ({"outbound_proxy": "sip:[::1"}, "bracket"),
        ({"local_port": 70000}, "out of range"),
        ({"expires": 0}, "out of range"),
        ({"ip_version": 5}, "out of range"),
        ({"codecs": ()}, "at least one codec"),
        ({"codecs": ("G.999",)}, r"G\.999"),
        ({"certificate": "x"}, "both certificate and private_key"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Account(**{"user": "alice", "domain": "example.org", **settings})


@pytest.mark.parametrize(
    ("settings", "family"),
    [
        ({}, socket.AF_INET6),
        ({"ip_version": 4}, socket.AF_INET),
        ({"domain": "192.0.2.1"}, socket.AF_INET),
        ({"domain": "2001:db8::1"}, socket.AF_INET6),
        ({"domain": "192.0.2.1", "outbound_proxy": "sip:[2001:db8::1]"}, socket.AF_INET6),
        ({"local_host": "127.0.0.1", "outbound_proxy": "sip:proxy.example.org"}, socket.AF_INET),
    ],
)
def test_the_ip_version_follows_the_addresses(settings: dict[str, Any], family: socket.AddressFamily) -> None:
    assert Account(**{"user": "alice", "domain": "example.org", **settings}).family == family


def test_the_password_is_not_shown() -> None:
    account = Account(user="alice", domain="Example.ORG", password="secret")
    assert "secret" not in repr(account)
    assert str(account.aor) == "sip:alice@example.org"
    assert str(account.registrar_uri) == "sip:example.org"


class FakeHost(HostClient):
    """A host OS that is this very network."""

    def __init__(self, address: str = "::1") -> None:
        super().__init__("/nonexistent/host.sock")
        self._address = address
        self.asked: list[dict[str, Any]] = []

    def address(self) -> str:
        return self._address

    def socket(self, kind: Any = "dgram", **wishes: Any) -> socket.socket:
        self.asked.append({"kind": kind, **wishes})
        if wishes["bind"][1] == 1:
            raise HostError(errno.EADDRINUSE, "taken")
        made = socket.socket(wishes["family"], socket.SOCK_DGRAM if kind == "dgram" else socket.SOCK_STREAM)
        made.setblocking(False)
        made.bind(wishes["bind"])
        if wishes["listen"] is not None:
            made.listen(wishes["listen"])
        return made


def test_home_sockets_are_bound_to_the_home_address() -> None:
    async def work() -> None:
        host = FakeHost()
        sockets = HomeSockets(host)
        assert sockets.local_address(socket.AF_INET6) == "::1"
        with (
            await sockets.listen("::1", 0) as listener,
            await sockets.tcp("::1") as stream,
            await sockets.udp("::1", 0) as datagram,
        ):
            await connect(stream, "::1", listener.getsockname()[1], 5)
            assert datagram.getsockname()[0] == stream.getsockname()[0] == "::1"
        assert [(wish["kind"], wish["listen"] is not None) for wish in host.asked] == [
            ("stream", True), ("stream", False), ("dgram", False),
        ]  # fmt: skip

    asyncio.run(work())


def test_a_host_os_that_refuses_or_is_not_there() -> None:
    async def work() -> None:
        with pytest.raises(TransportError, match="taken"):
            await HomeSockets(FakeHost()).udp("::1", 1)
        with pytest.raises(TransportError, match="another IP version"):
            HomeSockets(FakeHost()).local_address(socket.AF_INET)
        gone = HomeSockets("/nonexistent/host.sock")
        with pytest.raises(TransportError, match=r"host\.sock"):
            await gone.udp("::1", 0)
        with pytest.raises(TransportError, match="no home address"):
            gone.local_address(socket.AF_INET6)

    asyncio.run(work())


def test_direct_sockets_say_what_is_wrong() -> None:
    async def work() -> None:
        sockets = DirectSockets("2001:db8::7")
        assert sockets.local_address(socket.AF_INET6) == "2001:db8::7"
        assert DirectSockets().local_address(socket.AF_INET)
        with pytest.raises(TransportError, match="check that the address is on this machine"):
            await sockets.udp("2001:db8::7", 0)
        with await sockets.listen("::1", 0) as taken, pytest.raises(TransportError, match="in use"):
            await sockets.listen("::1", taken.getsockname()[1])
        silent = await sockets.tcp("::1")
        with pytest.raises(TransportError, match="cannot connect to ::1 port 9"):
            await connect(silent, "::1", 9, 5)

    asyncio.run(work())


def test_the_media_of_an_account() -> None:
    account = Account(user="a", domain="example.com", srtp_offer=(Keying.DTLS,), dtx=True, media_timeout=None)
    settings = account.media
    assert (settings.offered_keying, settings.dtx, settings.timeout, settings.ice) == ((Keying.DTLS,), True, None, None)
    assert [codec.name for codec in settings.codecs] == list(account.codecs)
    for offer in ((), (Keying.SDES, Keying.DTLS)):
        with pytest.raises(ConfigError, match="srtp_offer"):
            Account(user="a", domain="example.com", srtp_keying=(Keying.DTLS,), srtp_offer=offer)
