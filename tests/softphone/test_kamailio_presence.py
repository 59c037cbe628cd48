"""Two phones at Kamailio's presence server: published, subscribed, notified; a text on its way through it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sip_test_env import kamailio
from softphone.config import Account
from softphone.events import MessageReceived, PresenceChanged, Published
from softphone.packages.presence import Presence
from softphone.phone import Softphone
from tests.softphone.support import FakeMedia

pytestmark = pytest.mark.interop
TEMPLATE = Path(__file__).parent / "kamailio" / "presence.cfg"
TABLES = Path("/usr/share/kamailio/dbtext/kamailio")
PORT = 25100
SECONDS = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    directory = tmp_path_factory.mktemp("presence")
    shutil.copytree(TABLES, directory / "tables")
    config = Path(shutil.copyfile(TEMPLATE, directory / "kamailio.cfg"))
    (directory / "local.cfg").write_text(f'#!define TABLES "text://{directory}/tables"\nlisten=udp:[::1]:{PORT}\n')
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(kamailio.command(config), stdout=log, stderr=log)
    try:
        yield
        assert process.poll() is None, (directory / "log").read_text()
    finally:
        process.terminate()
        process.wait(10)


def phone(user: str) -> Softphone:
    account = Account(
        user=user, domain="presence.test", registrar=f"sip:[::1]:{PORT}", outbound_proxy=f"sip:[::1]:{PORT}",
        local_host="::1", outbound=False,
    )  # fmt: skip
    return Softphone(account, media=FakeMedia.factory([]))


def test_presence_goes_from_phone_to_phone(server: None) -> None:
    async def work() -> None:
        async with phone("alice") as alice, phone("bob") as bob:
            await alice.registered(SECONDS)
            await bob.registered(SECONDS)
            told, mine = bob.events(), alice.events()
            watched = bob.watch_presence("alice@presence.test")
            await watched.active(SECONDS)
            assert watched.state is None  # the first NOTIFY is empty: nobody has published anything
            alice.publish(Presence(True, "at my desk", ("on-the-phone",)))
            assert (await mine.wait_for(Published, SECONDS)).expires > 60
            changed = await told.wait_for(PresenceChanged, SECONDS)
            assert changed.presence == Presence(True, "at my desk", ("on-the-phone",))
            alice.publish(Presence(False, "gone"))
            assert (await told.wait_for(PresenceChanged, SECONDS)).presence == Presence(False, "gone")

            lamp = bob.watch_calls("alice@presence.test")
            mailbox = bob.watch_mailbox()
            await lamp.active(SECONDS)
            await mailbox.active(SECONDS)
            for each in (watched, lamp, mailbox):
                each.close()
                await each.over(SECONDS)

    asyncio.run(work())


def test_a_text_goes_through_the_proxy(server: None) -> None:
    async def work() -> None:
        async with phone("alice") as alice, phone("bob") as bob:
            await alice.registered(SECONDS)
            await bob.registered(SECONDS)
            told = bob.events()
            await alice.message("bob@presence.test", "grüß dich")
            received = await told.wait_for(MessageReceived, SECONDS)
            assert received.remote == "sip:alice@presence.test"
            assert received.body.decode() == "grüß dich"

    asyncio.run(work())
