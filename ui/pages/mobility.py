"""Mobility: the path that packets take now, networks, bindings, handovers, policies; what the user can do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from softphone.errors import SoftphoneError
from ui import mobility_view as view
from ui.keys import key
from ui.page import Page
from ui.widgets.line_list import LineList, TextLines
from ui.widgets.text import clickable

PERIOD = 1.0
"Seconds between two looks at the mobility process."
PROBE = 2.0
"Seconds between two questions for the round trip."
PANELS = {
    "networks": "Networks",
    "bindings": "Binding update list",
    "handovers": "Handovers",
    "scenarios": "Scenario policy",
    "ipsec": "IPsec",
    "translations": "Translation",
}
SHORT = {"bindings": "Bindings", "scenarios": "Policy"}
NOTHING = {
    "networks": "no network has an address yet",
    "bindings": "no binding: at home, or not registered",
    "handovers": "none since the mobility process was started",
    "scenarios": "none",
    "ipsec": "nothing is protected",
    "translations": "no program speaks IPv4 through it ([translation])",
}


class PathView(Widget):
    """The picture of the path, addresses, binding, round trip."""

    DEFAULT_CSS = """
    PathView { height: auto; border: round $border; border-title-color: $accent; padding: 0 1; }
    """
    auto_links = False

    def render(self) -> Content:
        page = self.screen
        assert isinstance(page, MobilityPage)
        width = self.content_region.width or 78
        if page.status is None:
            return Content.styled(page.why or "looking for the mobility process…", "$foreground 60%")
        call = page.model.current
        lines = view.path(page.status, None if call is None else call.who, width)
        lines.append(Content(""))
        lines += view.facts(page.status, view.round_trips(page.status), width)
        return Content("\n").join(line.truncate(width, ellipsis=True) for line in lines)


class MobilityPage(Page):
    """Looks once a second while it is visible."""

    TOPICS: ClassVar = frozenset({"mobility"})
    BINDINGS: ClassVar = [
        key("mobility.move", "m", "move", "Move now", tooltip="Into the chosen network, or the next one"),
        key("mobility.roam", "a", "command('roam')", "Automatic", tooltip="No network is preferred any more"),
        key("mobility.reregister", "r", "command('reregister')", "Re-register", tooltip="Tell the home agent again"),
        key("mobility.return", "h", "command('return-home')", "Go home", tooltip="To the home network, where one is"),
        key("mobility.switch", "space", "switch", "Switch row", tooltip="Enable or disable a scenario"),
        key(
            "mobility.choose", "enter", "choose", "Choose", show=False, tooltip="Move into the network, switch the row"
        ),
        key("mobility.next", "tab,right", "panel(1)", "Next table", show=False),
        key("mobility.previous", "shift+tab,left", "panel(-1)", "Previous table", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.status: Mapping[str, Any] | None = None
        self.why = ""
        "Why there is no status."
        self._panel = "networks"
        self._asking = False
        self._looks = 0

    def body(self) -> ComposeResult:
        path = PathView()
        path.border_title = "Path"
        yield path
        yield Static(id="tabs")
        with Container(id="panels"):
            for name, title in PANELS.items():
                lines = TextLines(id=name, classes="panel", title=title)
                lines.nothing = NOTHING[name]
                yield lines

    def on_mount(self) -> None:
        self._choose(self._panel)
        self.set_interval(PERIOD, self._tick)

    def on_opened(self) -> None:
        self._tick()

    def _tick(self) -> None:
        if self.is_current and not self._asking:
            self.phone.begin(self._look)

    async def _look(self) -> None:
        self._asking = True
        try:
            if self._looks % round(PROBE / PERIOD) == 0 and self._away:
                await self._request({"op": "command", "name": "probe"})
            answer = await self._request({"op": "status"})
            self.status, self.why = (answer, "") if isinstance(answer, Mapping) else (None, str(answer))
        except SoftphoneError as exc:
            self.status, self.why = None, str(exc)
        finally:
            self._asking = False
        self._looks += 1
        if self.is_mounted:
            self.show_stream()

    @property
    def _away(self) -> bool:
        return bool(view.part(self.status, "node", "forwarding", "tunnel"))

    async def _request(self, request: Mapping[str, object]) -> object:
        return await self.phone.request("mobility", request=request)

    def take_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "mobility" and isinstance(event.get("status"), Mapping):
            self.status, self.why = event["status"], ""
            self.wants_drawing()
        elif event["event"] == "mobility-lost":
            self.status, self.why = None, str(event.get("why", "the mobility process has gone"))
            self.wants_drawing()

    def show_stream(self) -> None:
        status = self.status or {}
        self.query_one(PathView).refresh(layout=True)
        for name, lines in (
            ("networks", view.networks(status)),
            ("bindings", view.bindings(status)),
            ("handovers", view.handovers(status)),
            ("scenarios", view.scenarios(status)),
            ("ipsec", view.associations(status)),
            ("translations", view.translations(status)),
        ):
            self.query_one(f"#{name}", TextLines).set_lines(lines)

    # ------------------------------------------------------------ keys

    def _choose(self, name: str) -> None:
        self._panel = name
        for each in PANELS:
            self.query_one(f"#{each}").set_class(each == name, "chosen")
        self.query_one(f"#{name}").focus()
        tabs = [
            clickable(f" {SHORT.get(each, PANELS[each])} ", f"screen.show({each!r})", "").stylize_before(
                "bold $background on $primary" if each == name else "$foreground 70%"
            )
            for each in PANELS
        ]
        self.query_one("#tabs", Static).update(Content("").join(tabs))

    def action_show(self, name: str) -> None:
        self._choose(name)

    def action_panel(self, step: int) -> None:
        names = list(PANELS)
        self._choose(names[(names.index(self._panel) + step) % len(names)])

    def on_descendant_focus(self) -> None:
        focused = self.focused
        if focused is not None and focused.id in PANELS and focused.id != self._panel:
            self._choose(focused.id)

    def action_command(self, name: str) -> None:
        async def work() -> None:
            await self._request({"op": "command", "name": name})
            self.on_opened()

        self.phone.begin(work)

    def action_move(self) -> None:
        """To the chosen network; where that is the one in use, to the next."""
        chosen = self.query_one("#networks", TextLines).chosen if self._panel == "networks" else None
        present = view.part(self.status, "node", "mobile_node", "movement", "present").get("link")
        target = chosen if chosen is not None and chosen != present else view.next_network(self.status or {})
        if target is None:
            self.roamphone.complain("There is no other network to move to: connect another interface.")
        else:
            self.action_command(f"move {target}")

    def action_switch(self) -> None:
        if self._panel != "scenarios" or not (number := self.query_one("#scenarios", TextLines).chosen):
            self.roamphone.complain("Choose a row of the scenario policy first.")
            return
        table = view.rows(view.part(self.status, "node"), "scenarios")
        enabled = any(str(row.get("number")) == number and row.get("status") == "enabled" for row in table)
        self.action_command(f"scenario {'disable' if enabled else 'enable'} {number}")

    def action_choose(self) -> None:
        if self._panel == "networks":
            self.action_move()
        elif self._panel == "scenarios":
            self.action_switch()

    @on(LineList.Chosen)
    def _chosen(self) -> None:
        self.action_choose()
