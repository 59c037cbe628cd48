"""Bridge calls to a voice agent that speaks WebRTC, both ways: what the caller says goes to the agent, and back.

python examples/voice_agent.py agent 8765             # an agent to try it with: it says what it hears
python examples/voice_agent.py bridge localhost 8765  # answers calls for all accounts of softphone.toml

Signalling is one line of JSON each way over TCP: the bridge offers, the agent answers. Put that of your agent there.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from softphone import Call, CallError, Phones, Telephone

HERE = RTCConfiguration(iceServers=[])  # the agent is in our network: nobody has to be asked where we are


def description(line: bytes) -> RTCSessionDescription:
    return RTCSessionDescription(**json.loads(line))


def line(peer: RTCPeerConnection) -> bytes:
    local = peer.localDescription
    return json.dumps({"type": local.type, "sdp": local.sdp}).encode() + b"\n"


# the bridge


async def bridge(call: Call, host: str, port: int) -> None:
    """An answered call and the agent hear each other until the call ends."""
    reader, writer = await asyncio.open_connection(host, port)
    peer = RTCPeerConnection(HERE)
    peer.addTrack(call.track())
    peer.on("track", call.play)
    try:
        await peer.setLocalDescription(await peer.createOffer())
        writer.write(line(peer))
        await peer.setRemoteDescription(description(await reader.readline()))
        await call.ended()
    finally:
        writer.close()  # the agent hears by this that it is over
        await peer.close()


async def take(call: Call, host: str, port: int) -> None:
    try:
        await call.answer()
        await call.answered(timeout=10)
        await bridge(call, host, port)
    except CallError:
        pass  # the caller hung up
    except OSError as exc:
        print(f"no agent: {exc}", file=sys.stderr)  # noqa: T201
    finally:
        await call.hangup()


async def serve(phone: Telephone, host: str, port: int) -> None:
    """All callers of one account, side by side, until the phone is closed."""
    async with asyncio.TaskGroup() as callers:
        async for call in phone.incoming():
            callers.create_task(take(call, host, port))


# an agent


async def agent(port: int) -> asyncio.Server:
    """Serves one bridge for each connection, until it is closed."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = RTCPeerConnection(HERE)
        peer.on("track", peer.addTrack)
        try:
            await peer.setRemoteDescription(description(await reader.readline()))
            await peer.setLocalDescription(await peer.createAnswer())
            writer.write(line(peer))
            await reader.read()  # until the bridge leaves
        finally:
            await peer.close()
            writer.close()

    return await asyncio.start_server(meet, "localhost", port)


async def main(what: str, *arguments: str) -> None:
    if what == "agent":
        async with await agent(int(arguments[0])) as server:
            await server.serve_forever()
    async with Phones.configured() as phones, asyncio.TaskGroup() as accounts:
        for phone in phones.running.values():
            accounts.create_task(serve(phone, arguments[0], int(arguments[1])))


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass  # calls were ended politely on the way out
