"""The command palette: everything that has a key, on this screen and everywhere, and what needs none."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from textual.app import SystemCommand
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

from ui.pages import PAGES

if TYPE_CHECKING:
    from ui.app import RoamphoneApp

CLASSES = (
    "ui.app:RoamphoneApp",
    "ui.widgets.target:TargetInput",
    "ui.widgets.table:Rows",
    "ui.widgets.line_list:LineList",
    "ui.dialogs.account:AccountDialog",
    "ui.dialogs.sip_message:SipMessageDialog",
)
"What has keys with names, beside the pages."


def named_bindings(node: type[DOMNode]) -> list[Binding]:
    """Those of a class itself that have a name."""
    return [one for one in node.BINDINGS if isinstance(one, Binding) and one.id]


def page_bindings() -> Iterator[tuple[str, list[Binding]]]:
    """Of each page, with what it is."""
    for page in PAGES:
        yield f"{page.title}: {page.meaning}", named_bindings(_class(page.where))


def all_names() -> set[str]:
    """Of all bindings: what may stand in ``[ui.keys]``."""
    found = {binding.id or "" for where in CLASSES for binding in named_bindings(_class(where))}
    return found | {binding.id or "" for _, bindings in page_bindings() for binding in bindings}


def _class(where: str) -> type[DOMNode]:
    module, _, name = where.partition(":")
    found: type[DOMNode] = getattr(import_module(module), name)
    return found


def commands(app: RoamphoneApp, screen: Screen[object]) -> Iterator[SystemCommand]:
    """What makes sense now."""
    seen: set[str] = set()
    for node, binding, enabled, _ in screen.active_bindings.values():
        if binding.id and enabled and binding.id not in seen and binding.id != "app.palette":
            seen.add(binding.id)
            title = binding.description
            if binding.id.startswith("page.") and binding.action.startswith("page("):
                title = f"Screen: {title}"

            async def run(action: str = binding.action, at: DOMNode = node) -> None:
                await app.run_action(action, default_namespace=at)

            yield SystemCommand(title, f"{binding.tooltip or binding.description}", run)
    yield SystemCommand("Theme", "Other colours; they are kept", app.action_change_theme)
    yield SystemCommand("Screenshot", "An SVG of what is on the screen", app.deliver_screenshot)
    yield SystemCommand("Add an account", "Address, password, test", app.add_account)
    yield SystemCommand("Browser headset", "A page that is microphone and loudspeaker", app.show_headset)
    yield SystemCommand("Reload", "Read the configuration again", lambda: app.phone.perform("reload"))
    for account in app.model.accounts.values():
        what = "takes calls again" if account.do_not_disturb else "refuses calls"
        on = not account.do_not_disturb

        def disturb(name: str = account.name, on: bool = on) -> None:
            app.phone.perform("dnd", account=name, on=on)

        yield SystemCommand(f"Do not disturb: {account.name}", f"{account.name} {what}", disturb)
        if account.voicemail:

            def listen(target: str = account.voicemail, name: str = account.name) -> None:
                app.phone.dial(target, name)

            yield SystemCommand(f"Voicemail: {account.name}", f"Call {account.voicemail}", listen)
    for status, title in (("open", "Presence: there"), ("closed", "Presence: away")):

        def publish(status: str = status) -> None:
            app.phone.perform("presence", status=status)

        yield SystemCommand(title, "Tell those who watch us", publish)
    if app.link.daemon is not None and app.link.daemon.running:
        yield SystemCommand("Quit, leave the daemon", "Calls and registrations go on", app.quit_alone)
