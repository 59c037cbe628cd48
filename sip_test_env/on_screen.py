"""The demo's network with the phone's user interface on it: ``softphone demo --tui``.

The correspondent calls, the terminal's phone answers by itself, both talk, and the terminal changes networks now and
then, until the user interface is left. It is the real one on a real daemon, whose files are in the network's directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from sip_test_env.agents import PhoneProcess
from sip_test_env.errors import EnvironmentFailure
from sip_test_env.phones import CORRESPONDENT, TERMINAL, proxy_uri, registered
from sip_test_env.scenes import Scene, Settings, scene
from sip_test_env.speech import speak
from softphone.daemon.client import DaemonClient
from softphone.daemon.protocol import DaemonError

REGISTRATION = 20.0
"Seconds within which the terminal's phone, which the user interface starts, has to be registered."
ACCOUNT = """\
[account.demo]
address = "{user}@{domain}"
password_file = "demo.password"
network = "home"
home_socket = "{home_socket}"
outbound_proxy = "{proxy}"
transport = "{transport}"
ca_file = "{ca_file}"
srtp = "mandatory"
codecs = ["{codec}"]
auto_answer = "{auto_answer}"

[audio]
device = "file"
input = "{speech}"
output = "heard.wav"
"""


class TerminalsFiles:
    """Configuration, socket and data of the terminal's phone, apart from those of whoever runs this."""

    def __init__(self, place: Scene, speech: Path, *, auto_answer: str = "never") -> None:
        network, settings = place.network, place.settings
        self.directory = network.directory / "softphone"
        self.directory.mkdir(mode=0o700)
        self.configuration = self.directory / "softphone.toml"
        self.socket = self.directory / "softphone.sock"
        account = network.account(TERMINAL)
        password = self.directory / "demo.password"
        password.touch(mode=0o600)
        password.write_text(account.password)
        self.configuration.write_text(
            ACCOUNT.format(
                user=TERMINAL, domain=account.domain, home_socket=place.nodes.runtime("mn") / "host.sock",
                proxy=place.proxy("mn") or proxy_uri(network, settings.transport), transport=settings.transport,
                ca_file=network.ca_file, codec=settings.codec, auto_answer=auto_answer, speech=speech,
            )
        )  # fmt: skip

    @property
    def environment(self) -> Mapping[str, str]:
        """In which programs find these files and no others."""
        own = str(self.directory)
        return {"XDG_CONFIG_HOME": own, "XDG_DATA_HOME": own, "XDG_RUNTIME_DIR": own}

    @property
    def command(self) -> list[str]:
        """The user interface; it starts the daemon, and ends it."""
        own = ["--config", str(self.configuration), "--socket", str(self.socket)]
        return [sys.executable, "-m", "softphone.cli", "tui", *own]

    async def registered(self) -> None:
        """Waits until the server knows the terminal's phone. Raises `EnvironmentFailure`."""
        try:
            async with asyncio.timeout(REGISTRATION):
                while True:
                    if await self._is_registered():
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise EnvironmentFailure(f"the terminal's phone was not registered in {REGISTRATION:g} s") from None

    async def _is_registered(self) -> bool:
        try:
            async with DaemonClient(self.socket) as daemon:
                status = await daemon.request("status")
        except DaemonError:
            return False  # not yet there
        accounts = status.get("accounts", []) if isinstance(status, dict) else []
        return any(account["registered"] for account in accounts)


async def show(settings: Settings, progress: Callable[[str], None]) -> int:
    """Until the user interface is left; its exit status. Raises `EnvironmentFailure`, ValueError."""
    place = scene(settings)
    progress(f"building the test network: {place.building}")
    async with contextlib.AsyncExitStack() as stack:
        standing = stack.enter_context(contextlib.ExitStack())
        place.build(standing)
        place.configure()
        voices = [speak(voice, 30.0, place.network.directory / f"{voice}.wav") for voice in ("en-gb", "en-us+f3")]
        progress(f"starting home agent, correspondent and {place.whose}")
        place.start(standing)
        progress(await place.ready())
        files = TerminalsFiles(place, voices[0], auto_answer="always")
        correspondent = await stack.enter_async_context(
            PhoneProcess("correspondent's phone", place.network.directory / "phone-cn.log")
        )
        await registered(
            correspondent, CORRESPONDENT, place.nodes, "cn", transport=settings.transport, codec=settings.codec,
            proxy=place.proxy("cn"),
        )  # fmt: skip
        progress("the correspondent is registered; opening the phone of the terminal")
        environment = {**os.environ, **files.environment}
        screen = await asyncio.create_subprocess_exec(*files.command, env=environment)
        talking = asyncio.create_task(_talk(place, files, correspondent, voices[1]))
        try:
            code = await screen.wait()
        finally:
            if screen.returncode is None:
                screen.terminate()
                await screen.wait()
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
        if talking.done() and not talking.cancelled() and (failed := talking.exception()) is not None:
            raise EnvironmentFailure(str(failed))
        return code


async def _talk(place: Scene, files: TerminalsFiles, correspondent: PhoneProcess, speech: Path) -> None:
    """A call, and movements in it: while the user interface is open."""
    await files.registered()
    await correspondent.do("dial", target=f"sip:{TERMINAL}@{place.plan.sip_domain}")
    await correspondent.do("talk", play=str(speech), record=os.devnull)
    number = 0
    while True:
        await asyncio.sleep(place.settings.seconds)
        await place.move(number)
        number += 1


def can_be_shown(settings: Settings) -> str:
    """Why not, in words; empty: it can."""
    if settings.unprivileged:
        return "--tui does not go with --unprivileged: the phone would have to be that user's"
    if shutil.which("espeak-ng") is None:
        return "--tui needs espeak-ng: `make setup` installs it"
    return ""
