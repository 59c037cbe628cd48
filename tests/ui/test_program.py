"""The program around its screens: the configuration of its own, the first start, a daemon that is restarted."""

from __future__ import annotations

from pathlib import Path

from softphone.accounts.interface import InterfaceSettings, read_interface
from softphone.daemon.link import DaemonLink
from tests.softphone.daemon.support import CONFIGURATION, running
from tests.ui.support import Screen, drive, opened, shown
from ui.app import RoamphoneApp
from ui.dialogs.account import AccountDialog
from ui.dialogs.welcome import WelcomeDialog
from ui.widgets.keypad import Keypad


def test_keys_theme_and_layout_are_those_of_the_configuration(tmp_path: Path) -> None:
    own = '[ui]\ntheme = "roamphone-light"\nlayout = "stacked"\nkeys = { "call.answer" = "f4" }\n'

    async def work() -> None:
        async with opened(tmp_path, (200, 60), configuration=own + CONFIGURATION) as screen:
            assert screen.app.theme == "roamphone-light"
            assert not screen.app.screen.query_one(Keypad).display
            call = await screen.bob.dial(screen.alice_uri)
            await screen.sees("f4 Answer", "^x Refuse")
            await screen.press("ctrl+y", "f4")
            await call.answered(5)

    drive(work)


def test_what_is_wrong_in_the_configuration_is_told_and_the_rest_counts(tmp_path: Path) -> None:
    file = tmp_path / "softphone.toml"
    file.write_text('[ui]\nlayout = "round"\nbell = false\ncolour = 5\nkeys = { "call.hold" = 7 }\n')
    settings, wrong = read_interface(file)
    assert settings == InterfaceSettings(bell=False)
    assert [text.partition("ui.")[2].partition(":")[0] for text in wrong] == ["layout", "colour", "keys"]
    file.write_text("[ui\n")
    assert read_interface(file) == (InterfaceSettings(), [])

    async def work() -> None:
        own = '[ui]\ntheme = "no-such-theme"\nkeys = { "call.dance" = "f4" }\n'
        async with opened(tmp_path, configuration=own + CONFIGURATION) as screen:
            await screen.is_told("no-such-theme")
            await screen.is_told("call.dance")
            assert screen.app.theme == InterfaceSettings().theme

    drive(work)


def test_the_first_start_leads_to_an_account(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, "") as daemon:
            app = RoamphoneApp(DaemonLink(daemon.path), tmp_path / "softphone.toml")
            async with app.run_test(size=(80, 24)) as pilot:
                screen = Screen(app, pilot, daemon, None)
                await screen.until(lambda: isinstance(app.screen, WelcomeDialog))
                await screen.sees("It needs a SIP account", "See the demo")
                await screen.press("a")
                await screen.until(lambda: isinstance(app.screen, AccountDialog))
                await screen.paste("alice@[::1]")
                await screen.press("ctrl+s")
                await screen.until(lambda: [one.address for one in app.model.accounts.values()] == ["sip:alice@[::1]"])
                assert not isinstance(app.screen, AccountDialog)

    drive(work)


def test_the_first_start_leads_to_the_demo(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, "") as daemon:
            app = RoamphoneApp(DaemonLink(daemon.path), tmp_path / "softphone.toml")
            async with app.run_test(size=(80, 24)) as pilot:
                screen = Screen(app, pilot, daemon, None)
                await screen.until(lambda: isinstance(app.screen, WelcomeDialog))
                await screen.press("d")
                await screen.until(lambda: not app.is_running)
            assert app.wants_demo

    drive(work)


def test_a_daemon_that_is_restarted_is_found_again(tmp_path: Path) -> None:
    async def work() -> None:
        app = RoamphoneApp(DaemonLink(tmp_path / "run" / "softphone.sock"), tmp_path / "softphone.toml")
        async with app.run_test(size=(120, 36)) as pilot:
            async with running(tmp_path) as daemon:
                screen = Screen(app, pilot, daemon, None)
                await screen.sees("alice@example.org")
                await screen.types("60")
            await screen.sees("daemon lost, looking for it")
            async with running(tmp_path, CONFIGURATION.replace("alice@example.org", "anna@example.org")):
                await screen.sees("anna@example.org")
                await screen.sees_no("daemon lost")
            assert "60" in shown(app)  # what was typed is still there

    drive(work)
