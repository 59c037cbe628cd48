"""Names of servers behind a gateway come before those of name servers."""

from __future__ import annotations

import asyncio
import socket

import pytest

from softphone.network.resolver import KnownNames, Resolver


class NobodyToAsk(Resolver):
    """Notes what it is asked."""

    def __init__(self) -> None:
        super().__init__([])
        self.asked: list[str] = []

    async def _ask(self, name: str, kind: str, seconds: float) -> list[object]:
        self.asked.append(f"{name} {kind}")
        return []


def test_what_is_known_is_not_asked_for() -> None:
    others = NobodyToAsk()
    names = KnownNames({"SIP.inner.example": "100:0:0:1::1"}, others)

    async def ask() -> None:
        assert await names.addresses("sip.inner.example.", 6) == ["100:0:0:1::1"]
        assert await names.naptr("sip.inner.example") == []
        assert await names.srv("_sips._tcp.sip.inner.example") == []
        with pytest.raises(socket.gaierror, match="IPv4"):
            await names.addresses("sip.inner.example", 4)
        assert others.asked == []
        await names.naptr("elsewhere.example")
        await names.srv("_sips._tcp.elsewhere.example")
        await names.addresses("elsewhere.example", 6)

    asyncio.run(ask())
    assert others.asked == ["elsewhere.example NAPTR", "_sips._tcp.elsewhere.example SRV", "elsewhere.example AAAA"]
