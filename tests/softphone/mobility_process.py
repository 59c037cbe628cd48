"""What a phone sees of a mobility process that makes keys for calls: its control socket, without a network behind it.

The real one is in the tests on real networks (tests/interop); it needs root.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import TracebackType
from typing import Self

from softphone.network.sockets import DirectSockets, HomeSockets

FINGERPRINT = "sha-256 " + ":".join(["A1"] * 32)


class MobilityProcess:
    """Serves ``control.sock``. ``asked`` keeps all requests but the subscription."""

    def __init__(self, directory: Path, *, address: str = "::1", fingerprint: str = FINGERPRINT) -> None:
        self.path = directory / "control.sock"
        self.asked: list[dict[str, object]] = []
        self.connections = 0
        self.keys: dict[str, str] = {"address": address, "fingerprint": fingerprint}
        self.state = "negotiating"
        "What `secure-call` is answered with."
        self.configured = False
        "Whether its configuration protects packets to everybody."
        self.refused: dict[str, str] = {}
        "Operations that are refused, and why."
        self.delay = 0.0
        "Seconds until it answers."
        self.protects_at_once = False
        "The keys are there as soon as `secure-call` is answered."
        self.handovers: list[dict[str, object]] = []
        "Told to who subscribes; then the connection ends."
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """As a process that ends."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    def tell(self, event: str, **values: object) -> None:
        for writer in self._writers:
            writer.write(json.dumps({"event": event, **values}).encode() + b"\n")

    def requests(self, operation: str) -> list[dict[str, object]]:
        return [request for request in self.asked if request["op"] == operation]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        while line := await reader.readline():
            request = json.loads(line)
            number, operation = request.pop("id"), request["op"]
            if operation != "subscribe":
                self.asked.append(request)
            if operation in self.refused:
                answer = {"id": number, "ok": False, "error": self.refused[operation]}
            else:
                answer = {"id": number, "ok": True, "result": self._result(operation)}
            await asyncio.sleep(self.delay)
            writer.write(json.dumps(answer).encode() + b"\n")
            if operation == "secure-call" and self.protects_at_once:
                self.tell("ApplicationProtected", peer=request["peer"], algorithm="aes-gcm-16", calls=request["call"])
            for event in self.handovers if operation == "subscribe" else []:
                writer.write(json.dumps(event).encode() + b"\n")
            if self.handovers:
                await writer.drain()
                break
        self._writers.discard(writer)
        writer.close()

    def _result(self, operation: str) -> object:
        match operation:
            case "application-keys":
                return self.keys
            case "secure-call":
                return {"state": self.state, "algorithm": "aes-gcm-16" if self.state == "protected" else ""}
            case "protection":
                return {"state": "configured" if self.configured else "none", "algorithm": ""}
            case _:
                return {}


class LoopbackHome(HomeSockets):
    """Sockets of this machine, where a phone expects those of the host OS beside a control socket."""

    def __init__(self, process: MobilityProcess) -> None:
        super().__init__(process.path.with_name("host.sock"))
        direct = DirectSockets()
        self.udp, self.tcp, self.listen = direct.udp, direct.tcp, direct.listen  # type: ignore[method-assign]
        self.local_address, self.names = direct.local_address, direct.names  # type: ignore[method-assign]
