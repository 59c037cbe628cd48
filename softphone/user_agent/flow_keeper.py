"""Keeps the way to the registrar open in the manner that it needs (RFC 5626 section 4.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from softphone.errors import TransportError
from softphone.sip.endpoint import Endpoint
from softphone.sip.keepalive import INTERVAL, Ask, Failed, Output, Silent, StunKeepalive
from softphone.sip.transport import KEEPALIVE, Connection, Flow, UdpFlow

CRLF = b"\r\n\r\n"


class FlowKeeper:
    """Keeps one flow; ``failed`` hears when it is not what it was. Connections look after themselves.

    Datagrams: where the server understands outbound (``outbound``) it is asked by STUN where it sees us; if it does
    not answer, and else if there is a NAT (``translated``), empty lines keep it open. ``seconds`` is the server's
    Flow-Timer.
    """

    def __init__(
        self, endpoint: Endpoint, flow: Flow, *, outbound: bool, translated: bool, seconds: int | None,
        random: Callable[[int], bytes], jitter: Callable[[], float], failed: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.flow = flow
        self._endpoint = endpoint
        self._failed = failed
        self._alarm: asyncio.TimerHandle | None = None
        self._stun: StunKeepalive | None = None
        if isinstance(flow, Connection):
            if seconds is not None:
                flow.keepalive = min(KEEPALIVE, 0.9 * seconds)
        elif outbound:
            self._stun = StunKeepalive(random, jitter, INTERVAL if seconds is None else max(1, seconds))
            endpoint.keepers[flow.peer] = self._received
            self._carry_out(self._stun.begin(self._now()))
        elif translated:
            self._crlf()

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if self._stun is not None and self._endpoint.keepers.get(self.flow.peer) == self._received:
            del self._endpoint.keepers[self.flow.peer]

    def same(self, flow: Flow) -> bool:
        """Whether this keeps that flow; a datagram flow is the peer that it leads to."""
        return flow is self.flow or (
            isinstance(flow, UdpFlow) and isinstance(self.flow, UdpFlow) and flow.peer == self.flow.peer
        )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _crlf(self) -> None:
        self._endpoint.send_raw(CRLF, self.flow)
        self._alarm = asyncio.get_running_loop().call_later(KEEPALIVE, self._crlf)

    def _received(self, data: bytes) -> None:
        if self._stun is None or (outputs := self._stun.received(data, self._now())) is None:
            self._endpoint.counters["stun-stray"] += 1
            return
        self._carry_out(outputs)

    def _due(self) -> None:
        if self._stun is not None and self._stun.timer is not None:
            self._carry_out(self._stun.handle_timer(max(self._now(), self._stun.timer)))

    def _carry_out(self, outputs: list[Output]) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if self._stun is not None and self._stun.timer is not None:
            self._alarm = asyncio.get_running_loop().call_at(self._stun.timer, self._due)
        for output in outputs:
            match output:
                case Ask(data):
                    try:
                        self.flow.send(data)
                    except TransportError as exc:
                        self._failed(str(exc))
                case Failed(why):
                    self._failed(why)
                case Silent():
                    self._crlf()
