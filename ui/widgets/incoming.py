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
        self.display = app.model.ringing is not None or app.model.asks is not None
        self.refresh()

    def render(self) -> Content:
        app = cast("RoamphoneApp", self.app)
        call = app.model.ringing
        if call is None:
            return self._transfer(app)
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
            _choice(app, "Answer", "Refuse"),
        ]  # fmt: skip
        return Content("\n").join(lines)

    @staticmethod
    def _transfer(app: RoamphoneApp) -> Content:
        """The other side of a call wants us to talk to somebody else."""
        if (call := app.model.asks) is None:
            return Content("")
        return Content.assemble(
            ("↷  ", "$accent"), (call.who, "bold"), " wants to connect you with\n   ",
            (shortened(call.transfer_to or ""), "bold"), "\n",
        ) + _choice(app, "Accept", "Stay")  # fmt: skip


def _choice(app: RoamphoneApp, yes: str, no: str) -> Content:
    good, bad = "bold $background on $success", "bold $background on $error"
    return Content("  ").join(
        [
            clickable(f" {app.key_of('call.answer')} {yes} ", "app.answer", good),
            clickable(f" {app.key_of('call.refuse')} {no} ", "app.refuse", bad),
        ]
    )
