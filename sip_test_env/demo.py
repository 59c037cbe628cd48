"""The product's main job on real network stacks (the source's fifth embodiment, Figs. 23 to 26).

The correspondent calls the terminal, which is away from home, through Kamailio; both talk; the terminal changes
networks in mid call; they hang up; a report is printed. Needs root, for the network namespaces of the test network.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sip_test_env.agents import PhoneProcess
from sip_test_env.capture import Capture
from sip_test_env.domain import TYPES
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.mobility_nodes import TUNNELS
from sip_test_env.movements import BINDING_TIMEOUT, Movements
from sip_test_env.on_screen import can_be_shown, show
from sip_test_env.phones import CORRESPONDENT, TERMINAL, registered
from sip_test_env.plan import BASIC
from sip_test_env.report import Audio, Handover, Report, Stream
from sip_test_env.scenes import SCENES, Scene, Settings, scene
from sip_test_env.speech import speak
from sip_test_env.witness import Witness, negotiated
from softphone.media.codecs import codec_named
from softphone.media.files import read_sound
from softphone.media.quality import RATE, pesq, pesq_of_codec

VOICES = {"to_mn": "en-gb", "to_cn": "en-us+f3"}
Progress = Callable[[str], None]


async def run(settings: Settings, progress: Progress) -> Report:
    """One demo from beginning to end; leaves nothing behind. Raises `EnvironmentFailure`, ValueError."""
    place = scene(settings)
    settings = place.settings
    progress(f"building the test network: {place.building}")
    async with contextlib.AsyncExitStack() as stack:
        standing = stack.enter_context(contextlib.ExitStack())
        place.build(standing)
        network = place.network
        sound = place.sound
        speech = {
            direction: speak(voice, settings.seconds, sound / f"speech-{direction}.wav")
            for direction, voice in VOICES.items()
        }
        place.configure()
        if settings.capture is not None:
            capture = Capture(network.plan.namespace("links"), place.captured, settings.capture)
            standing.enter_context(capture)
        progress(f"starting home agent, correspondent and {place.whose}")
        place.start(standing)
        progress(await place.ready())
        movements = await stack.enter_async_context(Movements.follow(*place.controls))
        terminal = await stack.enter_async_context(place.terminals_phone())
        correspondent = await stack.enter_async_context(
            PhoneProcess("correspondent's phone", network.directory / "phone-cn.log")
        )
        for phone, name, role in ((terminal, TERMINAL, "mn"), (correspondent, CORRESPONDENT, "cn")):
            await registered(
                phone,
                name,
                place.nodes,
                role,
                transport=settings.transport,
                codec=settings.codec,
                proxy=place.proxy(role),
            )
        progress(f"both phones are registered with Kamailio over {settings.transport}")
        witness = standing.enter_context(Witness(network))
        return await call(place, movements, terminal, correspondent, speech, witness, progress)


async def call(
    place: Scene,
    movements: Movements,
    terminal: PhoneProcess,
    correspondent: PhoneProcess,
    speech: dict[str, Path],
    witness: Witness,
    progress: Progress,
) -> Report:
    """The call itself, from INVITE to BYE, with its movements; then the sums."""
    settings, network = place.settings, place.network
    domain = network.plan.sip_domain
    answering = asyncio.create_task(terminal.do("answer"))
    calling = await correspondent.do("dial", target=f"sip:{TERMINAL}@{domain}")
    await answering
    progress(f"the correspondent called the terminal; its 200 OK says {calling['sdp_connection']}")
    heard = {"to_mn": speech["to_cn"].with_name("heard-mn.wav"), "to_cn": network.directory / "heard-cn.wav"}
    await asyncio.gather(
        terminal.do("talk", play=str(speech["to_cn"]), record=str(heard["to_mn"])),
        correspondent.do("talk", play=str(speech["to_mn"]), record=str(heard["to_cn"])),
    )
    begin = time.monotonic()
    moves: list[tuple[str, str, float, float]] = []
    notes: list[str] = []
    for number in range(settings.handovers):
        await asyncio.sleep(begin + settings.seconds * (number + 1) / (settings.handovers + 1) - time.monotonic())
        source, target, moment = await place.move(number)
        try:
            at = await place.moved(movements, moment)
        except TimeoutError:
            notes.append(f"no new binding within {BINDING_TIMEOUT:g} s after the move to {target}")
            break
        moves.append((source, target, moment, at))
        progress(f"moved from {source} to {target}: bound again after {(at - moment) * 1000:.1f} ms")
    await asyncio.sleep(max(0.0, begin + settings.seconds + 0.5 - time.monotonic()))
    end = time.monotonic()
    await asyncio.sleep(0.5)  # what is under way arrives
    at_mn, at_cn = await asyncio.gather(terminal.do("statistics"), correspondent.do("statistics"))
    # The keys of a call end with it.
    agreed = await negotiated(place.nodes) if settings.negotiate else []
    keys = [] if settings.capture is None else await asyncio.to_thread(place.keys, settings.capture)
    await correspondent.do("hangup")
    await terminal.do("ended")
    notes += await place.complaints()
    progress("they hung up; listening to what was heard")
    streams = {"to_mn": stream(at_cn, at_mn, end), "to_cn": stream(at_mn, at_cn, end)}
    late = {"to_mn": at_mn["late"], "to_cn": at_cn["late"]}
    audio = {}
    for direction, logs in streams.items():
        alone = await asyncio.to_thread(pesq_of_codec, speech[direction], codec_named(settings.codec))
        spoken, recorded = (read_sound(path, RATE)[0] for path in (speech[direction], heard[direction]))
        score = await asyncio.to_thread(pesq, spoken, recorded)
        lost = logs.lost()
        audio[direction] = Audio(len(logs.sent), len(logs.sent) - lost, lost, late[direction], score, alone)
    seen = await asyncio.to_thread(witness.seen)
    notes += seen.complaints(sum(one.received for one in audio.values()))
    for phone, statistics in (("terminal", at_mn), ("correspondent", at_cn)):
        if settings.negotiate and statistics["ipsec"] != "protected":
            notes.append(f"the {phone}'s phone says that IPsec of its call is {statistics['ipsec']}")
    return Report(
        tunnel=settings.tunnel,
        registered=True,
        transport=settings.transport,
        sdp_connection=calling["sdp_connection"],
        home_address=str(network.plan.home_address),
        network=settings.network,
        audio=audio,
        handovers=[Handover.measure(*move, streams) for move in moves],
        handovers_wanted=settings.handovers,
        capture="" if settings.capture is None else str(settings.capture),
        keys=[str(path) for path in keys],
        notes=notes,
        facts=[*await place.facts(), *agreed, seen.as_text()],
        pesq_margin=place.pesq_margin,
    )


def stream(sender: dict[str, Any], receiver: dict[str, Any], end: float) -> Stream:
    """Both ends' logs of one direction, up to ``end``."""
    return Stream(
        [(at, number) for at, number in sender["departures"] if at <= end],
        [(at, number) for at, number in receiver["arrivals"]],
    )


def _settings(arguments: list[str] | None) -> tuple[Settings, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="softphone demo", description=__doc__)
    parser.add_argument("--tunnel", choices=TUNNELS, default="esp", help="form of the mobile tunnel (default: esp)")
    parser.add_argument("--seconds", type=float, default=12.0, metavar="N", help="how long they talk (default: 12)")
    parser.add_argument("--handovers", type=int, default=1, metavar="N", help="movements in mid call (default: 1)")
    parser.add_argument(
        "--capture",
        type=Path,
        metavar="FILE",
        help="write a pcapng of the visited links, and its keys beside it (FILE.esp_sa and others; mode 0600)",
    )
    parser.add_argument(
        "--network",
        choices=SCENES,
        default=BASIC.name,
        help="; ".join(f"{name}: {kind.extension.what}" for name, kind in SCENES.items()) + f" (default: {BASIC.name})",
    )
    parser.add_argument("--transport", choices=("udp", "tcp", "tls"), default="udp", help="of SIP (default: udp)")
    parser.add_argument("--codec", choices=("opus", "G722", "PCMA", "PCMU"), default="opus")
    parser.add_argument(
        "--unprivileged",
        action="store_true",
        help="the terminal is the laptop of an ordinary user, who walks between Wi-Fi (IPv6) and a hotspot (IPv4, NAT)",
    )
    parser.add_argument(
        "--map-type", type=int, choices=TYPES, default=1,
        help="network hmip: what goes through the tunnel to the MAP: 1 all, 2 what the terminal receives, 3 nothing",
    )  # fmt: skip
    parser.add_argument(
        "--map-tunnel", choices=TUNNELS, default="plain", help="network hmip: form of that tunnel (default: plain)"
    )
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument(
        "--ike",
        action="store_true",
        help="all keys are negotiated: terminal with home agent, MAP and mobile routers by tokens, the phones for "
        "their call by fingerprints in SDP (the default)",
    )
    keys.add_argument("--static-keys", action="store_true", help="keys are made for the run, and nothing is negotiated")
    parser.add_argument("--instance", default="demo", help="name of the test network, for several side by side")
    parser.add_argument(
        "--tui", action="store_true",
        help="open the terminal's phone on the screen, in a call, and move every --seconds until it is left",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="the last line on standard output is one JSON object")
    options = parser.parse_args(arguments)
    if not 4 <= options.seconds <= 3600:
        parser.error("--seconds has to be between 4 and 3600: speech quality needs some speech")
    if not 0 <= options.handovers <= options.seconds / 3:
        parser.error("--handovers: at most one in three seconds, so that each can be told apart; raise --seconds")
    capture = None if options.capture is None else options.capture.absolute()
    if capture is not None and not os.access(capture.parent, os.W_OK):
        parser.error(f"--capture: {capture.parent} is not a directory that can be written to")
    settings = Settings(
        options.tunnel,
        options.seconds,
        options.handovers,
        capture,
        options.transport,
        options.codec,
        options.instance,
        options.network,
        options.unprivileged,
        options.map_type,
        options.map_tunnel,
        not options.static_keys,
    )
    try:
        scene(settings)
    except ValueError as error:
        parser.error(str(error))
    if options.tui and (why := can_be_shown(settings)):
        parser.error(why)
    return settings, options


async def _until_interrupted(settings: Settings, progress: Progress) -> Report:
    """SIGTERM ends the demo as Ctrl-C does: cleaned up."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(settings, progress)


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 everything held, 1 something did not or could not be built, 2 usage."""
    settings, options = _settings(arguments)
    as_json = options.json
    if os.geteuid() != 0:
        sys.stderr.write("softphone demo: needs root to make network namespaces; use `make demo` or sudo\n")
        return 1
    began = time.monotonic()

    def progress(text: str) -> None:
        (sys.stderr if as_json else sys.stdout).write(f"[{time.monotonic() - began:5.1f} s] {text}\n")
        (sys.stderr if as_json else sys.stdout).flush()

    try:
        if options.tui:
            return asyncio.run(show(settings, progress))
        report = asyncio.run(_until_interrupted(settings, progress))
    except (EnvironmentFailure, RuntimeError, OSError) as error:
        sys.stderr.write(f"softphone demo: {error}\n")
        if as_json:
            sys.stdout.write(json.dumps({"ok": False, "tunnel": settings.tunnel, "error": str(error)}) + "\n")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("softphone demo: interrupted; everything is taken down\n")
        return 1
    (sys.stderr if as_json else sys.stdout).write(report.as_text() + "\n")
    if as_json:
        sys.stdout.write(json.dumps(report.as_json()) + "\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
