"""A call that comes in, over whatever is on the screen. It never takes the focus from what is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.content import Content

from ui.model import Part, shortened
from ui.redraw import Watching
from ui.widgets.text import clickable

if TYPE_CHECKING:
    from ui.app import RoamphoneApp


class IncomingOverlay(Watching):
    """Visible while somebody calls."""

    PARTS: ClassVar = frozenset({Part.CALLS})
    can_focus = False

    def show_model(self) -> None:
        app = cast("RoamphoneApp", self.app)
        self.display = app.model.ringing is not None
        self.refresh()

    def render(self) -> Content:
        app = cast("RoamphoneApp", self.app)
        call = app.model.ringing
        if call is None:
            return Content("")
        others = sum(other.rings_here for other in app.model.calls.values()) - 1
        address = shortened(call.remote) if call.who != shortened(call.remote) else ""
        account = app.model.accounts.get(call.account)
        lines = [
            Content.assemble(("☎  ", "$accent"), (call.who, "bold"), "  ", (address, "$foreground 70%")),
            Content.assemble(
                ("calls ", "$foreground 70%"),
                (account.address.removeprefix("sip:") if account is not None else call.account, ""),
                (f", and {others} more" if others else "", "$warning"),
            ),
            clickable(f" {app.key_of('call.answer')} Answer ", "app.answer", "bold $background on $success")
            + Content("  ")
            + clickable(f" {app.key_of('call.refuse')} Refuse ", "app.refuse", "bold $background on $error"),
        ]  # fmt: skip
        return Content("\n").join(lines)
