"""Calls as cards."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.geometry import Region
from textual.widgets import Static

from ui.model import FLOOR_DBOV, CallView, Model, Part, Quality, shortened
from ui.redraw import Watching
from ui.widgets.meter import clock, level_bar, sparkline

if TYPE_CHECKING:
    from ui.app import RoamphoneApp

LEVELS_PERIOD = 0.2
"Seconds between two redraws of the level meters."
LEVELS_LINE = 1
"Of a card, from 0."
LOCKED, OPEN = "■", "□"
WIDE = 100
"Columns from which on a lock says more."
REASON = 40
"Characters of why there is no lock."
GOOD_MOS, FAIR_MOS = 4.0, 3.1
"ITU-T G.107: satisfied; many dissatisfied below."


class CallCard(Watching):
    """One call: who, how long, how it sounds, how it is protected."""

    PARTS: ClassVar = frozenset({Part.CALLS, Part.LEVELS, Part.QUALITY, Part.CLOCK, Part.MOBILITY})

    def __init__(self, call: str) -> None:
        super().__init__()
        self.call = call
        self._title = self._duration = ""
        self._height = 0
        self._levels_drawn = 0.0
        self._levels_shown = (0, 0)

    @property
    def _app(self) -> RoamphoneApp:
        return cast("RoamphoneApp", self.app)

    def on_click(self, event: events.Click) -> None:
        self._app.model.select(self.call)

    def show_parts(self, parts: frozenset[Part]) -> None:
        """Levels come often: their line alone is drawn, five times a second, and only where it looks different."""
        if not parts & self.PARTS <= {Part.LEVELS}:
            self.show_model()
            return
        call = self._app.model.calls.get(self.call)
        now = monotonic()
        if call is None or not self._whole(call) or now - self._levels_drawn < LEVELS_PERIOD:
            return
        levels = round(call.sent_dbov), round(call.received_dbov)
        if levels != self._levels_shown:
            self._levels_drawn, self._levels_shown = now, levels
            self.refresh(Region(0, LEVELS_LINE + 1, self.size.width + 4, 1))

    def show_model(self) -> None:
        model = self._app.model
        call = model.calls.get(self.call)
        if call is None:
            return
        current = model.current
        is_current = current is not None and current.id == self.call
        if is_current and not self.has_class("current"):
            self.call_after_refresh(self.scroll_visible, animate=False)
        self.set_class(is_current, "current")
        self.set_class(not call.live, "over")
        self.set_class(call.on_hold or call.held, "holds")
        arrow = "←" if call.incoming else "→"
        title = Content.assemble(f" {arrow} ", (call.who, "bold"), " ")
        if title.plain != self._title:
            self._title = title.plain
            self.border_title = title
        duration = self._time(call)
        if duration.plain != self._duration:
            self._duration = duration.plain
            self.border_subtitle = Content.assemble(" ", duration, " ") if duration else ""
        height = 3 if not call.live else 6 if self._whole(call) else 4
        if height != self._height:
            self._height = height
            self.styles.height = height
        self.refresh()

    def _whole(self, call: CallView) -> bool:
        """It is heard, so how it sounds is shown; others are short."""
        return call.established and not call.on_hold

    def _time(self, call: CallView) -> Content:
        now = self._app.phone.clock()
        if call.answered is not None:
            return Content.styled(clock((call.ended or now) - call.answered), "bold")
        if call.started is not None and call.live:
            return Content.styled(clock(now - call.started), "dim")
        return Content("")

    def render(self) -> Content:
        model = self._app.model
        call = model.calls.get(self.call)
        if call is None:
            return Content("")
        width = self.size.width
        lines = [self._state(call, width)]
        if self._whole(call):
            lines.append(self._levels(call, width))
            lines.append(self._quality(call, width))
        if call.live:
            lines.append(self._locks(call, model, width) if call.established else self._below())
        return Content("\n").join(lines)

    def _state(self, call: CallView, width: int) -> Content:
        app = self._app
        if not call.live:
            return Content.assemble((call.words or "ended", "$foreground 60%"), self._note(call))
        state, style = "in call", "bold $success"
        if not call.established:
            state, style = ("ringing there" if call.state == "ringing" else "calling"), "bold $accent"
        elif call.on_hold:
            state, style = "on hold", "bold $warning"
        elif call.held:
            state, style = "held by them", "bold $warning"
        parts = [Content.styled(state, style)]
        if call.muted:
            parts.append(Content.styled(" muted ", "bold $background on $warning"))
        if call.recording is not None:
            parts.append(Content.styled("● rec", "bold $error"))
        if call.conference is not None:
            parts.append(Content.styled("conference", "bold $secondary"))
        if call.who != shortened(call.remote):
            parts.append(Content.styled(shortened(call.remote), "$foreground 70%"))
        if len(app.model.accounts) > 1:
            parts.append(Content.styled(f"by {call.account}", "$foreground 50%"))
        if call.words:
            parts.append(Content.styled(call.words, "italic $foreground 70%"))
        return Content("  ").join(parts) + self._note(call)

    @staticmethod
    def _note(call: CallView) -> Content:
        return Content.styled(f"  ✎ {call.note}", "$secondary") if call.note else Content("")

    def _below(self) -> Content:
        return Content.assemble((self._app.key_of("call.hangup"), "bold $accent"), " gives up")

    def _levels(self, call: CallView, width: int) -> Content:
        room = max(8, min(40, (width - 24) // 2))
        sent = FLOOR_DBOV if call.muted else call.sent_dbov
        return Content.assemble(
            ("you  ", "$foreground 60%"), level_bar(sent, room), f"{sent:4.0f}  ",
            ("them ", "$foreground 60%"), level_bar(call.received_dbov, room), f"{call.received_dbov:4.0f}",
        )  # fmt: skip

    def _quality(self, call: CallView, width: int) -> Content:
        if not call.quality:
            return Content.styled("quality is measured...", "$foreground 50%")
        last: Quality = call.quality[-1]
        mos = "  - " if last.mos is None else f"{last.mos:.1f}"
        style = "$success" if (last.mos or 0) >= GOOD_MOS else "$warning" if (last.mos or 0) >= FAIR_MOS else "$error"
        room = max(6, min(60, width - 62))
        figures = f"  loss {last.loss * 100:.1f} %  jitter {last.jitter_ms:.0f} ms"
        if last.round_trip_ms is not None:
            figures += f"  round trip {last.round_trip_ms:.0f} ms"
        return Content.assemble(
            ("MOS  ", "$foreground 60%"), (mos, f"bold {style}"), " ",
            (sparkline([one.mos for one in call.quality], 1.0, 4.6, room), style), (figures, "$foreground 70%"),
        )  # fmt: skip

    def _locks(self, call: CallView, model: Model, width: int) -> Content:
        account = model.accounts.get(call.account)
        parts = [Content.styled(call.codec or "codec ?", "bold")]
        parts.append(_lock("SRTP", call.suite is not None, (call.suite or "") if width >= 90 else ""))
        if account is not None and account.network != "direct":
            application, tunnel, form = protection(model, call.account)
            parts.append(application_lock(call, application, width))
            parts.append(_lock("mobile tunnel", tunnel, form))
        else:
            parts.append(Content.styled("direct: no mobility", "$foreground 40%"))
        return Content("  ").join(parts)


def protection(model: Model, account: str) -> tuple[bool, bool, str]:
    """Whether the application's IPsec and that of the mobile tunnel are on, and the form of the tunnel."""
    told = model.mobility_of(account) or {}
    form = str(told.get("tunnel") or "")
    return bool(told.get("application_ipsec")), form not in ("", "plain"), form


def application_lock(call: CallView, configured: bool, width: int) -> Content:
    """What the call brought about, else what the configuration of the node says."""
    if call.ipsec is None:
        return _lock("application IPsec", configured)
    match call.ipsec.get("state"):
        case "protected":
            detail = str(call.ipsec.get("algorithm") or "") if width >= WIDE else ""
            return _lock("application IPsec", True, detail)
        case "negotiating":
            return _lock("application IPsec", False, "waits for keys")
        case _:
            detail = str(call.ipsec.get("reason") or "") if width >= WIDE else ""
            return _lock("application IPsec", False, f"({detail[:REASON]})" if detail else "")


def _lock(name: str, locked: bool, detail: str = "") -> Content:
    text = f"{LOCKED if locked else OPEN} {name}" + (f" {detail}" if detail else "")
    return Content.styled(text, "$success" if locked else "$foreground 40%")


class CallList(VerticalScroll, Watching):
    """All calls, and the last that ended."""

    PARTS: ClassVar = frozenset({Part.CALLS})
    can_focus = False

    def compose(self) -> ComposeResult:
        yield Static(id="no-calls")

    def show_model(self) -> None:
        app = cast("RoamphoneApp", self.app)
        wanted = [call.id for call in app.model.calls.values() if not call.rings_here]  # the overlay shows those
        cards = {card.call: card for card in self.query(CallCard)}
        for call, card in cards.items():
            if call not in wanted:
                card.remove()
        new = [CallCard(call) for call in wanted if call not in cards]
        if new:
            self.mount(*new)
        empty = self.query_one("#no-calls", Static)
        empty.display = not wanted
        if not wanted:
            empty.update(_no_calls(app))


def _no_calls(app: RoamphoneApp) -> Content:
    dim = "$foreground 60%"
    return Content.assemble(
        ("No calls.\n\n", "bold"), ("Type a number, a name or an address and press ", dim), ("Enter", "bold $accent"),
        (".\nWho calls you is shown over every screen; ", dim), (app.key_of("call.answer"), "bold $accent"),
        (" answers.\n", dim), (app.key_of("app.palette"), "bold $accent"), (" finds every command.", dim),
    )  # fmt: skip
