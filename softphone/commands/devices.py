"""``softphone devices``, and the options with which a call gets one."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from softphone.commands.common import json_option, say, say_json
from softphone.commands.session import Session
from softphone.devices.attendant import Attendant
from softphone.devices.choice import AudioSettings, available, make_device, resolved
from softphone.devices.desk import Desk
from softphone.devices.device import DeviceError, Kind
from softphone.errors import ConfigError
from softphone.event_names import described
from softphone.exit_code import ExitCode

if TYPE_CHECKING:
    from softphone.commands.common import Commands

MEANINGS = {
    Kind.AUTO: "the sound card that the system prefers, or silence",
    Kind.BROWSER: "a browser is the headset: softphone headset",
    Kind.FILE: "files in place of microphone and loudspeaker", Kind.NULL: "silence",
}  # fmt: skip


def add(commands: Commands) -> None:
    listing = commands.add_parser("devices", help="what one can speak and hear with")
    json_option(listing)
    listing.set_defaults(run=devices)


def devices(options: argparse.Namespace) -> int:
    for device in available():
        if options.json:
            say_json({"name": device.name, "kind": device.kind, "inputs": device.inputs, "outputs": device.outputs})
            continue
        what = MEANINGS.get(device.kind, f"sound card, {device.inputs} in, {device.outputs} out")
        say(f"{device.name:<40} {what}")
    return ExitCode.OK


def device_options(parser: argparse.ArgumentParser) -> None:
    """Of commands that call."""
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="speak and hear with it: sounddevice, file, null, or a card of `softphone devices`",
    )
    parser.add_argument("--input", metavar="NAME", help="with --device: microphone, or file to be spoken")
    parser.add_argument("--output", metavar="NAME", help="with --device: loudspeaker, or file that gets what is heard")


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
