"""Every key of the configuration: checked by the daemon before it is written, with the words of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Input, Label, OptionList, Static
from textual.widgets.option_list import Option

from softphone.errors import SoftphoneError
from ui.keys import key
from ui.model import Values
from ui.page import Page
from ui.widgets.fields import Field

GENERAL, NEW = "general", "new"
COMMON = ("address", "password", "auth_user", "display_name", "network", "register", "registrar", "transport")
"Keys of an account that come first."


class SettingsPage(Page):
    """On the left what there is to set, on the right its keys."""

    BINDINGS: ClassVar = [
        key("settings.save", "ctrl+s", "save", "Save", priority=True, tooltip="Check and write what was changed"),
        key(
            "settings.test",
            "ctrl+d",
            "test",
            "Test",
            priority=True,
            tooltip="Find the server and register, as the form says",
        ),
        key("settings.add", "ctrl+w", "add", "Add account", priority=True, tooltip="Another account"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._settings: list[Values] = []
        self._accounts: dict[str, Values] = {}
        self._keys: list[Values] = []
        self._shown: str | None = None
        "``general``, ``new``, or ``account:NAME``."

    def body(self) -> ComposeResult:
        with Horizontal():
            yield OptionList(id="topics")
            with Vertical(id="form-side"):
                yield VerticalScroll(id="form", can_focus=False)
                yield Static(id="said", markup=False)
                with Horizontal(id="buttons"):
                    yield Button("Save", id="save", variant="primary", compact=True)
                    yield Button("Test", id="test", compact=True)
                    yield Button("Remove account", id="remove", variant="error", compact=True)

    def on_mount(self) -> None:
        self.query_one("#topics").border_title = "Settings"

    def on_opened(self) -> None:
        self.load(self._ask)

    def take_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] in ("accounts-changed", "reloaded"):
            self.load(self._look)

    async def _ask(self) -> None:
        """What there is to set, and the form of what was shown."""
        shown = self._shown
        await self._look()
        if shown == self._shown and not any(field.changed for field in self.query(Field)):
            await self.show_form(self._shown or GENERAL)

    async def _look(self) -> None:
        """What there is to set; a form that somebody fills in stays as it is."""
        settings, accounts = await self.phone.asked("settings"), await self.phone.asked("accounts")
        self._settings = list(settings.get("settings", ()))
        self._accounts = {str(one["name"]): one for one in accounts.get("accounts", ())}
        self._keys = sorted(accounts.get("keys", ()), key=lambda one: _rank(str(one["name"])))
        topics = self.query_one("#topics", OptionList)
        topics.clear_options()
        topics.add_option(Option("General", id=GENERAL))
        topics.add_options([Option(_topic(one), id=f"account:{name}") for name, one in self._accounts.items()])
        topics.add_option(Option("+ another account", id=NEW))
        ids = [option.id for option in topics.options]
        if self._shown not in ids:
            await self.show_form(GENERAL)
        topics.highlighted = ids.index(self._shown)

    @on(OptionList.OptionHighlighted, "#topics")
    def _chosen(self, chosen: OptionList.OptionHighlighted) -> None:
        topic = chosen.option_id
        if topic is not None and topic != self._shown:
            self.load(partial(self.show_form, topic))

    @on(OptionList.OptionSelected, "#topics")
    def _entered(self) -> None:
        for widget in self.query("#form Input, #form Select"):
            widget.focus()
            return

    async def show_form(self, topic: str) -> None:
        """The keys of one topic, as they are in the file."""
        self._shown = topic
        self._say("")
        form = self.query_one("#form", VerticalScroll)
        await form.remove_children()
        account = topic.removeprefix("account:") if topic.startswith("account:") else None
        self.query_one("#test").display = topic != GENERAL
        self.query_one("#remove").display = account is not None
        if topic == GENERAL:
            form.border_title = "General"
            await form.mount_all(
                Field(one, one.get("value"), list(self._accounts) if one["kind"] == "account" else ())
                for one in self._settings
            )
        else:
            form.border_title = f"Account {account}" if account else "Another account"
            values = self._accounts[account]["values"] if account else {}
            source = self._accounts[account]["password"] if account else ""
            if account is None:
                name = Horizontal(
                    Label("name", classes="key"), Input(id="account-name", compact=True, placeholder="work")
                )
                name.add_class("field")
                await form.mount(name)
            await form.mount_all(Field(self._with_source(one, source), values.get(one["name"])) for one in self._keys)
        form.scroll_home(animate=False)

    @staticmethod
    def _with_source(entry: Values, source: str) -> Values:
        """A password is not shown; where it comes from is."""
        if entry["name"] != "password" or source in ("", "none"):
            return entry
        return {**entry, "default": f"kept ({source})"}

    def _changes(self) -> dict[str, object]:
        """Raises SoftphoneError in words."""
        found: dict[str, object] = {}
        for field in self.query(Field):
            if field.changed:
                try:
                    found[field.key] = field.value
                except ValueError as exc:
                    raise SoftphoneError(f"{field.key}: {exc}") from None
        return found

    @property
    def _account(self) -> str:
        """The name of the account of the form. Raises SoftphoneError."""
        if self._shown != NEW:
            return (self._shown or "").removeprefix("account:")
        name = self.query_one("#account-name", Input).value.strip()
        if not name:
            raise SoftphoneError("name: how is the account called here?")
        return name

    def _say(self, text: str, style: str = "$foreground") -> None:
        self.query_one("#said", Static).update(Content.styled(text, style))

    def _try(self, work: Any) -> None:
        async def whole() -> None:
            try:
                await work()
            except SoftphoneError as exc:
                self._say(str(exc), "$error")

        self.load(whole, "change")  # goes on while its own events have the list read again

    @on(Button.Pressed, "#save")
    def action_save(self) -> None:
        self._try(self._save)

    async def _save(self) -> None:
        changes = self._changes()
        if not changes:
            self._say("nothing was changed", "$foreground 60%")
            return
        if self._shown == GENERAL:
            for name, value in changes.items():
                await self.phone.request_exactly("settings-save", name=name, value=value)
            self.roamphone.settings_saved()
        else:
            account = self._account
            await self.phone.request_exactly("account-save", name=account, values=changes)
            self._shown = f"account:{account}"
        answer = await self.phone.asked("reload")
        await self.show_fresh()
        failures = answer.get("failures", {})
        why = next((str(text) for text in failures.values()), "")
        waiting = ", ".join(answer.get("waiting", ()))
        if why:
            self._say(f"saved; {why}", "$warning")
        else:
            self._say(f"saved; {waiting} follows after its calls" if waiting else "saved", "$success")
        self.phone.look()

    async def show_fresh(self) -> None:
        """As the file is now."""
        await self._look()
        await self.show_form(self._shown or GENERAL)

    @on(Button.Pressed, "#test")
    def action_test(self) -> None:
        if self._shown != GENERAL:
            self._try(self._test)

    async def _test(self) -> None:
        changes, account = self._changes(), self._account
        self._say("looking for the server and registering...", "$foreground 60%")
        values = {name: value for name, value in changes.items() if value is not None}
        answer = await self.phone.asked("account-test", name=account, values=values or None)
        if answer:
            self._say(str(answer.get("text", "")), "$success" if answer.get("ok") else "$error")

    @on(Button.Pressed, "#remove")
    def _remove(self) -> None:
        self._try(self._take_out)

    async def _take_out(self) -> None:
        name = self._account
        await self.phone.request("account-remove", name=name)
        self._shown = GENERAL
        await self.phone.asked("reload")
        await self.show_fresh()
        self._say(f"account {name} was taken out", "$success")
        self.phone.look()

    def action_add(self) -> None:
        self.query_one("#topics", OptionList).highlighted = len(self._accounts) + 1
        self.call_after_refresh(self._entered)


def _rank(name: str) -> int:
    return COMMON.index(name) if name in COMMON else len(COMMON)


def _topic(account: Values) -> Content:
    failure = str(account.get("failure") or "")
    light, style = (
        ("✖", "$error") if failure else ("●", "$success") if account.get("registered") else ("○", "$foreground 60%")
    )
    default = Content.styled(" default", "$foreground 50%") if account.get("default") else Content("")
    return Content.assemble((f"{light} ", style), str(account["name"])) + default
