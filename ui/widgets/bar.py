"""The bar on top: the screens, and how it stands with the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.content import Content

from softphone.daemon.link import LinkState
from ui.model import Part
from ui.pages import PAGES
from ui.redraw import Watching
from ui.widgets.text import clickable

if TYPE_CHECKING:
    from ui.app import RoamphoneApp


class Bar(Watching):
    """One line; a click opens a screen."""

    PARTS: ClassVar = frozenset({Part.LINK, Part.ACCOUNTS, Part.MOBILITY, Part.CALLS})

    def render(self) -> Content:
        app = cast("RoamphoneApp", self.app)
        wide, keys = self.size.width >= 100, self.size.width >= 150
        parts: list[Content] = [Content.styled(" roamphone ", "bold $accent on $panel") if wide else Content(" ")]
        for page in PAGES:
            here = page.name == app.page_name
            style = "bold $background on $primary" if here else "$foreground 80%"
            title = clickable(f" {page.title} ", f"app.page({page.name!r})", "")
            if keys:
                title = (
                    Content.styled(f" {app.key_of(f'page.{page.name}')}", "$foreground 40%" if not here else style)
                    + title
                )
            parts.append(title.stylize_before(style))
        left = Content.assemble(*parts)
        right = self._standing(app)
        room = self.size.width - left.cell_length - right.cell_length
        if room < 0:
            left, room = left.truncate(max(0, self.size.width - right.cell_length)), 0
        return Content.assemble(left, " " * room, right)

    def _standing(self, app: RoamphoneApp) -> Content:
        match app.link.state:
            case LinkState.CONNECTING:
                return Content.styled(" starting ", "$warning")
            case LinkState.LOST:
                return Content.styled(" daemon lost, looking for it ", "bold $background on $warning")
            case LinkState.FAILED:
                return Content.styled(" no daemon ", "bold $background on $error")
        accounts = [account for account in app.model.accounts.values() if account.register]
        registered = sum(account.registered for account in accounts)
        talking = len(app.model.live_calls)
        words = f" {talking} call{'s' if talking != 1 else ''} " if talking else ""
        calls = Content.styled(words, "bold $success")
        if not accounts or self.size.width < 100:
            return calls
        style = "$success" if registered == len(accounts) else "$warning"
        return calls + Content.styled(f" {registered}/{len(accounts)} registered ", style)
