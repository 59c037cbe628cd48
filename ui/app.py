"""The program: its screens, the keys that work everywhere, and what connects it with the daemon."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.events import Resize
from textual.screen import Screen
from textual.theme import Theme
from textual.timer import Timer

from softphone.accounts.interface import read_interface
from softphone.daemon.link import DaemonLink, LinkState
from softphone.errors import SoftphoneError
from softphone.paths import default_path
from ui.alert import Alert
from ui.commands import all_names, commands, named_bindings
from ui.keys import key
from ui.model import CallView, Model, Part
from ui.page import Page
from ui.pages import PAGES
from ui.phone import Phone
from ui.redraw import Redraw
from ui.themes import THEMES

ALWAYS = frozenset({"quality", "log", "mobility"})
"Topics whose past a screen shows."
NEEDS_CALL: dict[str, Callable[[CallView], bool]] = {
    "hang_up": lambda call: True,
    "hold": lambda call: call.established,
    "mute": lambda call: call.established,
    "transfer": lambda call: call.established,
    "record": lambda call: call.established,
    "keypad": lambda call: call.established,
    "note": lambda call: True,
}
"Actions on the current call, and when they make sense."
_NAMES = [page.name for page in PAGES]


class RoamphoneApp(App[None]):
    """Shows the model, sends the user's intents."""

    TITLE = "roamphone"
    CSS_PATH = "style.tcss"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar = [
        key("call.answer", "ctrl+y", "answer", "Answer", priority=True, tooltip="Take the call that rings"),
        key("call.refuse", "ctrl+x", "refuse", "Refuse", priority=True, tooltip="Refuse the call that rings"),
        key("call.hangup", "ctrl+b", "hang_up", "Bye", priority=True, tooltip="End the call"),
        key("call.hold", "ctrl+o", "hold", "Hold", priority=True, tooltip="Put on hold, or go on"),
        key("call.mute", "ctrl+l", "mute", "Mute", priority=True, tooltip="They do not hear you"),
        key("call.transfer", "ctrl+t", "transfer", "Transfer", priority=True, tooltip="Hand the call on"),
        key("call.conference", "ctrl+g", "conference", "Join", priority=True, tooltip="All calls together, or apart"),
        key("call.keypad", "ctrl+k", "keypad", "Keypad", priority=True, tooltip="Send digits (DTMF)"),
        key("call.record", "ctrl+r", "record", "Record", priority=True, tooltip="Record both sides into a file"),
        key("call.note", "ctrl+n", "note", "Note", priority=True, tooltip="Write something down about the call"),
        *(
            key(f"page.{page.name}", page.key, f"page('{page.name}')", page.title, show=False, priority=True,
                tooltip=page.meaning)
            for page in PAGES
        ),
        key("app.help", "f1", "help", "Help", priority=True, tooltip="Every key"),
        key("page.next", "ctrl+pagedown", "next_page(1)", "Next screen", show=False, priority=True),
        key("page.previous", "ctrl+pageup", "next_page(-1)", "Previous screen", show=False, priority=True),
        key("app.palette", "ctrl+p", "command_palette", "Commands", show=True, priority=True),
        key("app.quit", "ctrl+q", "quit", "Quit", show=False, priority=True),
    ]  # fmt: skip

    def __init__(self, link: DaemonLink, configuration: Path | None = None, *, leave_daemon: bool = False) -> None:
        """``configuration``: the file whose ``[ui]`` counts; ``leave_daemon``: one that we started goes on after us."""
        super().__init__()
        self.configuration = default_path() if configuration is None else configuration
        self.settings, self._complaints = read_interface(self.configuration)
        self.link = link
        self._leave_daemon = leave_daemon
        self.redraw = Redraw(self, self._show_stream)
        self.model = Model(self._changed)
        self.phone = Phone(link, self.model, self.complain)
        self.page_name = PAGES[0].name
        self._alert = Alert(self)
        self._welcomed = False
        self.wants_demo = False
        "The program that started us is to open the demo."
        self.key_order = {name: at for at, name in enumerate(one.id or "" for one in named_bindings(type(self)))}
        "Of the line at the bottom."
        self._keys: dict[str, str] = {}
        self._clock: Timer | None = None
        "Ticks while there are calls."
        link.tell, link.changed = self._event, self._link_changed
        for theme in THEMES:
            self.register_theme(theme)
        self._apply_settings()

    def on_mount(self) -> None:
        for page in PAGES:
            self.add_mode(page.name, page.make)
        self.switch_mode(self.page_name)
        for complaint in self._complaints:
            self.complain(complaint)
        self.theme_changed_signal.subscribe(self, self._theme_chosen)
        self.run_worker(self.link.run(), name="daemon", group="daemon", exit_on_error=True)
        self._clock = self.set_interval(1, lambda: self.redraw.changed(Part.CLOCK), pause=True)

    async def on_unmount(self) -> None:
        await self.phone.close()

    # -- settings -----------------------------------------------------------------------------------------------------

    def _apply_settings(self) -> None:
        known = self.settings.theme in self.available_themes
        if not known:
            self._complaints.append(f"ui.theme: there is no theme {self.settings.theme!r}")
        self.theme = self.settings.theme if known else THEMES[0].name
        unknown = [name for name in self.settings.keys if name not in all_names()]
        if unknown:
            self._complaints.append(f"ui.keys: there is no {unknown[0]!r}; F1 tells the names")
        self._keys.clear()
        self.set_keymap(self.settings.keys)
        narrow, normal, wide = "-narrow", "-normal", "-wide"
        match self.settings.layout:
            case "stacked":
                self.HORIZONTAL_BREAKPOINTS = [(0, narrow)]
            case "columns":
                self.HORIZONTAL_BREAKPOINTS = [(0, normal), (160, wide)]
            case _:
                self.HORIZONTAL_BREAKPOINTS = [(0, narrow), (100, normal), (160, wide)]
        self.VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]

    def settings_saved(self) -> None:
        """``[ui]`` may be another."""
        self.settings, self._complaints = read_interface(self.configuration)
        self._apply_settings()
        for complaint in self._complaints:
            self.complain(complaint)
        self.screen.post_message(Resize(self.size, self.size))

    def _theme_chosen(self, theme: Theme) -> None:
        """The user took another one: it is kept."""
        if theme.name != self.settings.theme and self.connected:
            self.settings = replace(self.settings, theme=theme.name)
            self.phone.perform("settings-save", name="ui.theme", value=theme.name)

    # -- the daemon ---------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self.link.connected

    def _event(self, event: dict[str, object]) -> None:
        self.phone.take_event(event)
        if isinstance(page := self.current_page, Page) and page.is_mounted:
            page.take_event(event)

    def _link_changed(self, state: LinkState) -> None:
        self._changed(Part.LINK)
        if state is LinkState.CONNECTED:
            self.phone.look()
            if (page := self.current_page) is not None:
                page.on_opened()

    def _show_stream(self) -> None:
        if (page := self.current_page) is not None and page.is_current:
            page.show_stream()

    def page_shown(self, page: Page) -> None:
        """Its topics are wanted now, and no others."""
        self.phone.begin(partial(self.link.subscribe, ALWAYS | page.TOPICS))

    @property
    def current_page(self) -> Page | None:
        """The page of the bar that is on the screen, perhaps behind a dialog."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, Page)), None)

    # -- what changed -------------------------------------------------------------------------------------------------

    def _changed(self, part: Part) -> None:
        self.redraw.changed(part)
        if part is Part.ACCOUNTS and not self.model.accounts and not self._welcomed and self.is_running:
            self._welcomed = True
            self.welcome()
        if part is Part.CALLS:
            self._alert.ring(self.model.ringing)
            self.refresh_bindings()
            if self._clock is not None:
                (self._clock.resume if self.model.live_calls else self._clock.pause)()

    def complain(self, text: str) -> None:
        """An error, in words."""
        self.notify(text, severity="error", timeout=8)

    # -- keys ---------------------------------------------------------------------------------------------------------

    def key_of(self, name: str) -> str:
        """How the key of a binding is shown: that of the configuration, if it has one."""
        if name not in self._keys:
            binding = next((one for one in self.BINDINGS if isinstance(one, Binding) and one.id == name), None)
            if binding is None:
                return ""
            first = self.settings.keys.get(name, binding.key).partition(",")[0]
            self._keys[name] = self.get_key_display(binding.with_key(first))
        return self._keys[name]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        match action:
            case "answer" | "refuse":
                return self.model.ringing is not None or self.model.asks is not None
            case "conference":
                call = self.model.current
                joined = call is not None and call.conference is not None
                return joined or sum(call.established for call in self.model.live_calls) >= 2
            case _ if (sensible := NEEDS_CALL.get(action)) is not None:
                call = self.model.current
                return call is not None and not call.rings_here and sensible(call)
        return True

    async def action_press(self, key: str) -> None:
        """A key of the line at the bottom was clicked."""
        self.simulate_key(key)

    def action_help(self) -> None:
        from ui.dialogs.help import HelpDialog

        if not isinstance(self.screen, HelpDialog):
            self.push_screen(HelpDialog())

    def action_page(self, name: str) -> None:
        if name != self.page_name and name in _NAMES:
            self.page_name = name
            self.switch_mode(name)

    def action_next_page(self, step: int) -> None:
        self.action_page(_NAMES[(_NAMES.index(self.page_name) + step) % len(_NAMES)])

    def _on_current(self, act: Callable[[CallView], None]) -> None:
        if (call := self.model.current) is not None:
            act(call)

    def _ask(self, dialog: Callable[[str], Screen[None]]) -> None:
        if (call := self.model.current) is not None:
            self.push_screen(dialog(call.id))

    def action_select_call(self, call: str) -> None:
        self.model.select(call)

    def action_answer(self) -> None:
        if (call := self.model.ringing) is not None:
            self.model.select(call.id)
            self.phone.perform("answer", call=call.id)
        elif (call := self.model.asks) is not None:
            self.phone.decide_transfer(call, accept=True)

    def action_refuse(self) -> None:
        if (call := self.model.ringing) is not None:
            self.phone.perform("reject", call=call.id)
        elif (call := self.model.asks) is not None:
            self.phone.decide_transfer(call, accept=False)

    def action_hang_up(self) -> None:
        self._on_current(self.phone.hang_up)

    def action_hold(self) -> None:
        self._on_current(self.phone.hold_or_resume)

    def action_mute(self) -> None:
        self._on_current(lambda call: self.phone.perform("mute", call=call.id, on=not call.muted))

    def action_conference(self) -> None:
        """All calls join; the one that is meant leaves the one that it is in."""
        current = self.model.current
        if current is not None and current.conference is not None:
            self.phone.perform("conference-leave", call=current.id)
            return
        calls = [call.id for call in self.model.live_calls if call.established]
        self.phone.perform("conference", calls=calls)

    def action_record(self) -> None:
        self._on_current(self.phone.record_or_stop)

    def action_keypad(self) -> None:
        from ui.dialogs.keypad import KeypadDialog

        self._ask(KeypadDialog)

    def action_transfer(self) -> None:
        from ui.dialogs.transfer import TransferDialog

        self._ask(TransferDialog)

    def action_note(self) -> None:
        from ui.dialogs.note import NoteDialog

        self._ask(NoteDialog)

    def write_to(self, peer: str) -> None:
        """Open the conversation with somebody."""
        from ui.pages.messages import MessagesPage

        self.action_page("messages")

        def begin() -> None:
            if isinstance(page := self.screen, MessagesPage):
                page.open_peer(peer)

        self.call_after_refresh(begin)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Everything that can be done now, for the command palette."""
        yield from commands(self, screen)

    def welcome(self) -> None:
        """There is no account yet."""
        from ui.dialogs.welcome import WelcomeDialog

        self.push_screen(WelcomeDialog())

    def add_account(self) -> None:
        from ui.dialogs.account import AccountDialog

        self.push_screen(AccountDialog())

    def show_headset(self) -> None:
        """Where the page of the browser headset is."""

        async def ask() -> None:
            answer = await self.phone.asked("headset")
            if "url" in answer:
                self.notify(str(answer["url"]), title="Open this in a browser", timeout=30)

        self.phone.begin(ask)

    def leave_for_demo(self) -> None:
        self.wants_demo = True
        self.call_later(self.action_quit)

    async def quit_alone(self) -> None:
        """The daemon that we started goes on."""
        self._leave_daemon = True
        with contextlib.suppress(SoftphoneError):  # it has gone: nothing stays
            await self.link.request("stay")
        self.exit()

    async def action_quit(self) -> None:
        """The daemon that we started ends with us: politely, so calls end by BYE."""
        daemon = self.link.daemon
        if daemon is not None and daemon.running and not self._leave_daemon:
            self.notify("hanging up and taking the registrations back...", timeout=30)
            self.workers.cancel_group(self, "daemon")
            await daemon.end()
        self.exit()
