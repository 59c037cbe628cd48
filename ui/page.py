"""What all screens have: the bar on top, calls that come in, the keys at the bottom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import ModalScreen, Screen, ScreenResultType

from ui.model import Model, Part
from ui.widgets.bar import Bar
from ui.widgets.incoming import IncomingOverlay
from ui.widgets.key_line import KeyLine

if TYPE_CHECKING:
    from ui.app import RoamphoneApp
    from ui.phone import Phone


class _OfThePhone(Screen[ScreenResultType]):
    """What pages and dialogs reach."""

    @property
    def roamphone(self) -> RoamphoneApp:
        return cast("RoamphoneApp", self.app)

    @property
    def model(self) -> Model:
        return self.roamphone.model

    @property
    def phone(self) -> Phone:
        return self.roamphone.phone


class Page(_OfThePhone[None]):
    """A screen of the bar."""

    TOPICS: ClassVar[frozenset[str]] = frozenset()
    "Of the daemon: subscribed to while the page is visible."

    def compose(self) -> ComposeResult:
        yield Bar()
        with Container(id="body"):
            yield from self.body()
        yield IncomingOverlay()
        yield KeyLine()

    def body(self) -> ComposeResult:
        """The widgets between bar and footer."""
        yield from ()

    def on_screen_resume(self) -> None:
        self.roamphone.page_shown(self)
        self.roamphone.redraw.draw(Part)
        if self.roamphone.connected:
            self.on_opened()

    def on_opened(self) -> None:
        """The page became visible, or the daemon is there again: ask for what it shows."""

    def load(self, work: Callable[[], Awaitable[None]], group: str = "load") -> None:
        """Run it; what is still under way in this group is given up."""
        self.run_worker(cast("Any", work), group=group, exclusive=True)

    def take_event(self, event: Mapping[str, Any]) -> None:
        """One event of the daemon, while the page is visible. Must be quick: draw in `show_stream`."""

    def wants_drawing(self) -> None:
        """What ``take_event`` kept is to be drawn soon."""
        self.roamphone.redraw.stream_changed()

    def show_stream(self) -> None:
        """Draw what ``take_event`` kept."""


class Dialog(_OfThePhone[ScreenResultType], ModalScreen[ScreenResultType]):
    """A question in front of a page. Calls that come in are seen above it, too."""

    BINDINGS: ClassVar = [("escape", "leave", "Close")]

    def compose(self) -> ComposeResult:
        with Container(id="dialog"):
            yield from self.body()
        yield IncomingOverlay()

    def load(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run it; what is still under way is given up."""
        self.run_worker(cast("Any", work), group="load", exclusive=True)

    def body(self) -> ComposeResult:
        """What the dialog asks."""
        yield from ()

    def action_leave(self) -> None:
        self.dismiss(None)
