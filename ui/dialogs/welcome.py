"""The first start: there is no account yet."""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Button, Label, Static

from ui.page import Dialog

WORDS = """\
roamphone is a phone whose calls go on when the network changes.

It needs a SIP account: an address such as alice@example.org and its
password. Whoever runs the server gives you both. The form finds the
server, tries to register, and tells you in words what happened."""
DEMO = """\
The demo builds a network with a SIP server, a home agent and another
phone on this machine, and a call that changes networks. It needs root."""
TEST_ENVIRONMENT = "sip_test_env"
"Product code does not import it; it is a program of its own."


class WelcomeDialog(Dialog[None]):
    """Leads to an account, or to the demo."""

    BINDINGS: ClassVar = [("a", "account", "Account"), ("d", "demo", "Demo")]

    def body(self) -> ComposeResult:
        yield Label("Welcome", classes="title")
        yield Static(WORDS, markup=False)
        if find_spec(TEST_ENVIRONMENT) is not None:
            yield Static(f"\n{DEMO}", markup=False, classes="hint")
        with Vertical(id="ways"):
            yield Button("Add an account (a)", id="account", variant="primary", compact=True)
            if find_spec(TEST_ENVIRONMENT) is not None:
                yield Button("See the demo (d)", id="demo", compact=True)
            yield Button("Look around (Esc)", id="later", compact=True)

    @on(Button.Pressed, "#account")
    def action_account(self) -> None:
        from ui.dialogs.account import AccountDialog

        self.dismiss(None)
        self.app.push_screen(AccountDialog())

    @on(Button.Pressed, "#demo")
    def action_demo(self) -> None:
        if find_spec(TEST_ENVIRONMENT) is not None:
            self.roamphone.leave_for_demo()

    @on(Button.Pressed, "#later")
    def _later(self) -> None:
        self.dismiss(None)
