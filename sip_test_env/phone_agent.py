"""One phone as a process of its own, steered by JSON lines on standard input (`sip_test_env.agents` is the other end).

    python -m sip_test_env.phone_agent

Every line in is ``{"do": NAME, ...}``, every line out ``{"done": NAME, ...}`` or ``{"failed": NAME, "why": TEXT}``.
The demo and the tests run phones this way so that each has an interpreter to itself, as a user's phone does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobility.client import HostClient
from mobility.net.loop import prefer_this_process
from softphone.calls.dialog_call import DialogCall
from softphone.config import Account, Consent
from softphone.media.files import WavRecorder, WavSource
from softphone.media.ike_description import IpsecMode
from softphone.media.offer_answer import SrtpMode
from softphone.media.rtp import PacketLog
from softphone.media.sdp import SessionDescription
from softphone.media.session import MediaSettings, MediaStatistics
from softphone.network.sockets import HomeSockets
from softphone.phone import Softphone
from softphone.sip.transport import Transport

Answer = dict[str, Any]


class _Logging(Account):
    """An account whose calls note each packet."""

    @property
    def media(self) -> MediaSettings:
        return replace(super().media, log_packets=True)


class PhoneAgent:
    """The phone and its one call."""

    def __init__(self) -> None:
        self._phone: Softphone | None = None
        self._call: DialogCall | None = None
        self._recorder: WavRecorder | None = None

    async def close(self) -> None:
        if self._phone is not None:
            await self._phone.close()
        if self._recorder is not None:
            self._recorder.close()

    @property
    def phone(self) -> Softphone:
        if self._phone is None:
            raise RuntimeError("register first")
        return self._phone

    @property
    def call(self) -> DialogCall:
        if self._call is None:
            raise RuntimeError("there is no call")
        return self._call

    async def register(self, order: Answer) -> Answer:
        """Opens the phone on the sockets of a host OS (``host``: path of its host.sock) and registers.

        ``protected``: its calls bring about the keys of their own IPsec, or are none.
        """
        protected = order["protected"]
        account = _Logging(
            user=order["user"],
            domain=order["domain"],
            password=order["password"],
            outbound_proxy=order["proxy"],
            transport=Transport[order["transport"].upper()],
            ca_file=Path(order["ca_file"]),
            srtp=SrtpMode.MANDATORY,
            ipsec=IpsecMode.MANDATORY if protected else IpsecMode.OFF,
            codecs=(order["codec"],),
            transfers=Consent.ACCEPT,
        )
        host = order["host"]
        phone = Softphone(account, HomeSockets(host if protected else HostClient(host)))
        await phone.start()
        self._phone = phone
        await phone.registered(timeout=10)
        return {}

    async def dial(self, order: Answer) -> Answer:
        self._call = await self.phone.dial(order["target"])
        await self._call.answered(timeout=10)
        return self._described()

    async def answer(self, _order: Answer) -> Answer:
        async for call in self.phone.incoming():
            self._call = call
            await call.ring()
            await call.answer()
            await call.answered(timeout=10)
            return self._described()
        raise RuntimeError("the phone was closed before a call came")

    def _described(self) -> Answer:
        remote = SessionDescription.parse(self.call.remote_sdp)
        connection = remote.media[0].connection or remote.connection
        return {"call": self.call.id, "sdp_connection": "" if connection is None else connection.address}

    async def talk(self, order: Answer) -> Answer:
        """Plays the file ``play`` and records what is heard to ``record``."""
        self._recorder = WavRecorder(order["record"], rate=48_000)
        self.call.record(self._recorder)
        self.call.play(WavSource(order["play"]))
        return {}

    async def statistics(self, _order: Answer) -> Answer:
        """Counters and packet logs; the recording is complete from now on."""
        statistics = self.call.statistics()
        if not isinstance(statistics, MediaStatistics):
            raise RuntimeError("no media yet")
        if self._recorder is not None:
            self.call.record(None)
            self._recorder.close()
        processor = os.times()
        ipsec = self.call.ipsec
        return {
            "codec": statistics.codec,
            "srtp": statistics.srtp_suite,
            "ipsec": None if ipsec is None else ipsec.state.value,
            "late": statistics.late,
            "concealed_ms": statistics.concealed_ms,
            "delay_ms": statistics.delay_ms,
            "drops": {str(name): count for name, count in statistics.drops.items()},
            "departures": _pairs(statistics.departures),
            "arrivals": _pairs(statistics.arrivals),
            "cpu_seconds": processor.user + processor.system,
        }

    async def hangup(self, _order: Answer) -> Answer:
        await self.call.hangup()
        return await self.ended(_order)

    async def ended(self, _order: Answer) -> Answer:
        end = await self.call.ended(timeout=10)
        return {"by": str(end.by), "status": end.status}

    async def state(self, _order: Answer) -> Answer:
        return {"call": "none" if self._call is None else self._call.state.value}

    def orders(self) -> dict[str, Callable[[Answer], Awaitable[Answer]]]:
        return {
            method.__name__: method
            for method in (
                *(self.register, self.dial, self.answer, self.talk),
                *(self.statistics, self.hangup, self.ended, self.state),
            )
        }


def _pairs(log: PacketLog | None) -> list[tuple[float, int]]:
    return [] if log is None else list(zip(log.times, log.sequences, strict=True))


async def main() -> None:
    """Carries out orders one after the other until the input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    agent = PhoneAgent()
    orders = agent.orders()
    try:
        while line := await reader.readline():
            order = json.loads(line)
            name = order["do"]
            try:
                answer = {"done": name, **await orders[name](order)}
            except Exception as error:  # whatever went wrong is for the other end to judge
                logging.exception("%s failed", name)
                answer = {"failed": name, "why": f"{type(error).__name__}: {error}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        await agent.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    logging.info("scheduled as %s", prefer_this_process())  # sound has a deadline every 20 ms
    asyncio.run(main())
