"""``softphone devices`` and ``headset``, and the options with which a call gets one."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from softphone.commands.common import say, say_json
from softphone.commands.session import Session
from softphone.daemon.client import DaemonClient
from softphone.devices.attendant import Attendant
from softphone.devices.choice import AudioSettings, available, make_device, resolved
from softphone.devices.desk import Desk
from softphone.devices.device import DeviceError, Kind
from softphone.errors import ConfigError
from softphone.event_names import described
from softphone.exit_code import ExitCode

MEANINGS = {
    Kind.AUTO: "the sound card that the system prefers, or silence",
    Kind.BROWSER: "a browser is the headset: softphone headset",
    Kind.FILE: "files in place of microphone and loudspeaker", Kind.NULL: "silence",
}  # fmt: skip


def devices(options: argparse.Namespace) -> int:
    for device in available():
        if options.json:
            say_json({"name": device.name, "kind": device.kind, "inputs": device.inputs, "outputs": device.outputs})
            continue
        what = MEANINGS.get(device.kind, f"sound card, {device.inputs} in, {device.outputs} out")
        say(f"{device.name:<40} {what}")
    return ExitCode.OK


def headset(options: argparse.Namespace) -> int:
    url = str(asyncio.run(_headset(options.socket))["url"])
    port = urlsplit(url).port
    if options.json:
        say_json({"url": url})
        return ExitCode.OK
    say(url)
    if "SSH_CONNECTION" in os.environ:
        say(f"Your browser is elsewhere? There: ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}")
    return ExitCode.OK


async def _headset(path: Path | None) -> dict[str, Any]:
    async with DaemonClient(path) as client:
        found: Any = await client.request("headset")
        return dict(found)


@asynccontextmanager
async def at_device(session: Session, options: argparse.Namespace) -> AsyncIterator[None]:
    """The calls of the session are on the device that the options name, if they do. Raises ConfigError."""
    if options.device is None:
        yield
        return
    settings = AudioSettings(device=options.device, input=options.input, output=options.output)
    try:
        make_device(resolved(settings))
    except DeviceError as exc:
        raise ConfigError(f"--device: {exc}") from None
    desk = Desk(settings, lambda event: session.tell(described(event, session.name)))
    attendant = Attendant(desk, lambda: session.phone.calls)
    session.on_event = attendant.happened
    desk.start()
    try:
        yield
    finally:
        session.on_event = lambda event: None
        await desk.close()
