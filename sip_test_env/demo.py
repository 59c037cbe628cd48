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
import shutil
import signal
import sys
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from mobility.client import ControlClient
from sip_test_env.agents import PhoneProcess
from sip_test_env.capture import Capture
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.mobility_nodes import TUNNELS, MobilityNodes, Terminal
from sip_test_env.network import TestNetwork
from sip_test_env.plan import BROADBAND, CABLE, HOME_AGENT_PORT, WIFI
from sip_test_env.report import PESQ_MARGIN, PESQ_MARGIN_UNPRIVILEGED, Audio, Handover, Report, Stream
from sip_test_env.speech import speak
from sip_test_env.users import OrdinaryUser
from softphone.media.codecs import codec_named
from softphone.media.files import read_sound
from softphone.media.quality import RATE, pesq, pesq_of_codec

TERMINAL, CORRESPONDENT = "6001", "6002"
VOICES = {"to_mn": "en-gb", "to_cn": "en-us+f3"}
BINDING_TIMEOUT = 10.0
"Seconds within which a binding, first or new, has to be there."
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says."""

    tunnel: str = "esp"
    seconds: float = 12.0
    "How long they talk."
    handovers: int = 1
    capture: Path | None = None
    transport: str = "udp"
    codec: str = "opus"
    instance: str = "demo"
    unprivileged: bool = False
    "The terminal is the laptop of an ordinary user."


class Movements:
    """What the terminal's mobility process says of its bindings, with the time at which it said so."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, dict[str, Any]]] = []
        self._news = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def follow(cls, control: Path) -> AsyncIterator[Movements]:
        """Listens while the block runs; a mobility process that is restarted is found again."""
        movements = cls()
        task = asyncio.create_task(movements._listen(control))
        try:
            yield movements
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self, control: Path) -> None:
        while True:
            with contextlib.suppress(OSError, RuntimeError):
                async with ControlClient(control) as client:
                    async for event in client.events():
                        self.seen.append((time.monotonic(), event))
                        self._news.set()
            await asyncio.sleep(0.05)

    async def bound_after(self, moment: float) -> float:
        """When the home agent first acknowledged a binding after ``moment``. Raises TimeoutError."""
        return (await self.after(moment, "Bound"))[0]

    async def after(self, moment: float, kind: str, **wanted: object) -> tuple[float, dict[str, Any]]:
        """The first event of a kind, with these values, that came after ``moment``. Raises TimeoutError."""
        wanted["event"] = kind
        async with asyncio.timeout(BINDING_TIMEOUT):
            while True:
                for at, event in self.seen[bisect_left(self.seen, moment, key=itemgetter(0)) :]:
                    if all(event.get(name) == value for name, value in wanted.items()):
                        return at, event
                self._news.clear()
                await self._news.wait()


async def bound(control: Path) -> None:
    """Waits for the first binding. Raises `EnvironmentFailure` when it does not come."""
    deadline = time.monotonic() + BINDING_TIMEOUT
    async with ControlClient(control) as client:
        while time.monotonic() < deadline:
            status: dict[str, Any] = await client.status()
            registration = status["node"]["mobile_node"]["registration"]
            if registration["state"] == "bound":
                return
            await asyncio.sleep(0.02)
    raise EnvironmentFailure(f"no binding with the home agent within {BINDING_TIMEOUT:g} s: {registration}")


async def run(settings: Settings, progress: Progress) -> Report:
    """One demo from beginning to end; leaves nothing behind. Raises `EnvironmentFailure`."""
    progress("building the test network: Kamailio, routers, home link, two visited links, a hotspot behind a NAT")
    async with contextlib.AsyncExitStack() as stack:
        network = stack.enter_context(TestNetwork(settings.instance))
        user = stack.enter_context(OrdinaryUser()) if settings.unprivileged else None
        plan = network.plan
        sound = network.directory if user is None else user.folder("sound")
        speech = {
            direction: speak(voice, settings.seconds, sound / f"speech-{direction}.wav")
            for direction, voice in VOICES.items()
        }
        if user is not None:
            network.move(plan.visited_a.name, WIFI)
        nodes = MobilityNodes(network, settings.tunnel, terminal=None if user is None else Terminal.laptop(user))
        if settings.capture is not None:
            port = CABLE if user is None else HOME_AGENT_PORT
            stack.enter_context(Capture(plan.namespace("links"), port, settings.capture))
            nodes.esp_sa(settings.capture.with_name(settings.capture.name + ".esp_sa"))
        whose = "terminal" if user is None else f"terminal (of {user.name}, who is no administrator)"
        progress(f"starting home agent, correspondent and {whose}")
        stack.callback(nodes.stop)
        nodes.start()
        control = nodes.runtime("mn") / "control.sock"
        await bound(control)
        progress(f"the terminal is bound: {plan.home_address} is reachable in visited-a through {plan.home_agent}")
        movements = await stack.enter_async_context(Movements.follow(control))
        terminal = await stack.enter_async_context(terminals_phone(nodes))
        correspondent = await stack.enter_async_context(
            PhoneProcess("correspondent's phone", network.directory / "phone-cn.log")
        )
        for phone, name, role in ((terminal, TERMINAL, "mn"), (correspondent, CORRESPONDENT, "cn")):
            await registered(phone, name, nodes, role, transport=settings.transport, codec=settings.codec)
        progress(f"both phones are registered with Kamailio over {settings.transport}")
        return await call(settings, network, movements, terminal, correspondent, speech, progress)


def terminals_phone(nodes: MobilityNodes) -> PhoneProcess:
    """The phone of the terminal, of the same user, on the same machine."""
    network, terminal = nodes.network, nodes.terminal
    log = network.directory / "phone-mn.log"
    return PhoneProcess("terminal's phone", log, user=terminal.user, namespace=network.plan.namespace(terminal.node))


async def registered(
    phone: PhoneProcess, user: str, nodes: MobilityNodes, role: str, *, transport: str = "udp", codec: str = "opus"
) -> None:
    """Registers a phone that lives in the host OS of ``role`` (``mn`` or ``cn``). Raises `EnvironmentFailure`."""
    network = nodes.network
    account = network.account(user)
    ca_file = network.ca_file
    if role == "mn" and nodes.terminal.user is not None:  # who may not look into root's directories
        ca_file = nodes.terminal.user.own(Path(shutil.copy(ca_file, nodes.terminal.user.directory)))
    await phone.do(
        "register",
        host=str(nodes.runtime(role) / "host.sock"),
        user=user,
        password=account.password,
        domain=account.domain,
        proxy=proxy_uri(network, transport),
        transport=transport,
        ca_file=str(ca_file),
        codec=codec,
    )


def proxy_uri(network: TestNetwork, transport: str) -> str:
    """Where phones send their requests."""
    plan = network.plan
    port = plan.sips_port if transport == "tls" else plan.sip_port
    return f"sip:[{plan.proxy}]:{port};transport={transport};lr"


async def call(
    settings: Settings,
    network: TestNetwork,
    movements: Movements,
    terminal: PhoneProcess,
    correspondent: PhoneProcess,
    speech: dict[str, Path],
    progress: Progress,
) -> Report:
    """The call itself, from INVITE to BYE, with its movements; then the sums."""
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
        change = roam if settings.unprivileged else replug
        source, target, moment = await change(network, number)
        try:
            at = await movements.bound_after(moment)
        except TimeoutError:
            notes.append(f"no new binding within {BINDING_TIMEOUT:g} s after the move to {target}")
            break
        moves.append((source, target, moment, at))
        progress(f"moved from {source} to {target}: bound again after {(at - moment) * 1000:.1f} ms")
    await asyncio.sleep(max(0.0, begin + settings.seconds + 0.5 - time.monotonic()))
    end = time.monotonic()
    await asyncio.sleep(0.5)  # what is under way arrives
    at_mn, at_cn = await asyncio.gather(terminal.do("statistics"), correspondent.do("statistics"))
    await correspondent.do("hangup")
    await terminal.do("ended")
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
    return Report(
        tunnel=settings.tunnel,
        registered=True,
        transport=settings.transport,
        sdp_connection=calling["sdp_connection"],
        home_address=str(network.plan.home_address),
        audio=audio,
        handovers=[Handover.measure(*move, streams) for move in moves],
        handovers_wanted=settings.handovers,
        capture="" if settings.capture is None else str(settings.capture),
        notes=notes,
        pesq_margin=PESQ_MARGIN_UNPRIVILEGED if settings.unprivileged else PESQ_MARGIN,
    )


async def replug(network: TestNetwork, number: int) -> tuple[str, str, float]:
    """The ``number``-th movement of ``mn``: to the other visited link. Returns from where to where, and when."""
    moved = network.move("visited-b" if number % 2 == 0 else "visited-a")
    return str(moved.source), moved.target, moved.cut


async def roam(network: TestNetwork, number: int) -> tuple[str, str, float]:
    """The ``number``-th movement of the laptop: out of the Wi-Fi, where only the hotspot is left, and into another one.

    The new network is found before the old one goes; the time is that of the loss. A terminal that has lost an
    interface lately does not trust it at once when it is back, so it is the loss that makes it move.
    """
    hotspot = network.plan.hotspot.name
    wifi = network.location_of(WIFI)
    if wifi is not None:
        source, target, old = wifi, network.move(hotspot, BROADBAND), WIFI
    else:
        source, target, old = hotspot, network.move("visited-b" if number % 4 == 1 else "visited-a", WIFI), BROADBAND
    await asyncio.sleep(0.5)
    return source, target.target, network.unplug(old)


def stream(sender: dict[str, Any], receiver: dict[str, Any], end: float) -> Stream:
    """Both ends' logs of one direction, up to ``end``."""
    return Stream(
        [(at, number) for at, number in sender["departures"] if at <= end],
        [(at, number) for at, number in receiver["arrivals"]],
    )


def _settings(arguments: list[str] | None) -> tuple[Settings, bool]:
    parser = argparse.ArgumentParser(prog="softphone demo", description=__doc__)
    parser.add_argument("--tunnel", choices=TUNNELS, default="esp", help="form of the mobile tunnel (default: esp)")
    parser.add_argument("--seconds", type=float, default=12.0, metavar="N", help="how long they talk (default: 12)")
    parser.add_argument("--handovers", type=int, default=1, metavar="N", help="movements in mid call (default: 1)")
    parser.add_argument(
        "--capture",
        type=Path,
        metavar="FILE",
        help="write a pcapng of the visited links, and its keys to FILE.esp_sa (mode 0600)",
    )
    parser.add_argument("--transport", choices=("udp", "tcp", "tls"), default="udp", help="of SIP (default: udp)")
    parser.add_argument("--codec", choices=("opus", "G722", "PCMA", "PCMU"), default="opus")
    parser.add_argument(
        "--unprivileged",
        action="store_true",
        help="the terminal is the laptop of an ordinary user, who walks between Wi-Fi (IPv6) and a hotspot (IPv4, NAT)",
    )
    parser.add_argument("--instance", default="demo", help="name of the test network, for several side by side")
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
        options.unprivileged,
    )
    return settings, options.json


async def _until_interrupted(settings: Settings, progress: Progress) -> Report:
    """SIGTERM ends the demo as Ctrl-C does: cleaned up."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(settings, progress)


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 everything held, 1 something did not or could not be built, 2 usage."""
    settings, as_json = _settings(arguments)
    if os.geteuid() != 0:
        sys.stderr.write("softphone demo: needs root to make network namespaces; use `make demo` or sudo\n")
        return 1
    began = time.monotonic()

    def progress(text: str) -> None:
        (sys.stderr if as_json else sys.stdout).write(f"[{time.monotonic() - began:5.1f} s] {text}\n")
        (sys.stderr if as_json else sys.stdout).flush()

    try:
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
