"""Every screen with the same content every time: for snapshots and for the pictures of the documentation.

    python -m tests.ui.still        # writes both anew: tests/ui/snapshots, docs/screens; or only those that are named

The daemon is one that knows its answers by heart, and the clock stands still.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from math import sin
from pathlib import Path
from typing import Any

from softphone.daemon.link import DaemonLink, LinkState
from tests.ui.mobile import CALL, MOMENT, NETWORK_STATUS, packet_events
from tests.ui.support import SIZES, shown
from ui.app import RoamphoneApp

NOW = MOMENT
"Seconds since 1970: the moment of all pictures, 28 November 2025, 12:00 UTC."
SNAPSHOTS = Path(__file__).parent / "snapshots"
PICTURES = Path(__file__).parents[2] / "docs" / "screens"
PICTURE = (120, 36)
"Size of a picture in the documentation."

BOB, CAROL, DAVE = "sip:bob@example.org", "sip:carol@example.net", "tel:+49301234567"
MOST_LOOKS = 200
NOTHING: list[dict[str, Any]] = []


def account(name: str, **values: Any) -> dict[str, Any]:
    return {
        "account": name, "address": f"sip:alice@{name}.example", "registered": True, "host": "2001:db8::1",
        "port": 5060, "network": "direct", "do_not_disturb": False, "voicemail": "", "calls": NOTHING, **values,
    }  # fmt: skip


def call(ident: str, remote: str, name: str, state: str = "confirmed", **values: Any) -> dict[str, Any]:
    return {
        "call": ident, "account": "road", "remote": remote, "remote_name": name, "incoming": False, "state": state,
        "on_hold": False, "held": False, "muted": False, "recording": None, "started": NOW - 140,
        "answered": NOW - 134 if state == "confirmed" else None, "codec": "opus", "suite": "AEAD_AES_256_GCM",
        "ipsec": None, "conference": None, "transfer": None, **values,
    }  # fmt: skip


TALKING = [
    call("1", BOB, "Bob Builder", ipsec={"state": "protected", "algorithm": "aes-gcm-16", "peer": "2001:db8:9::2"}),
    call("2", CAROL, "Carol Schmidt", incoming=True, account="work", on_hold=True, answered=NOW - 61, suite=None,
         codec="G722"),
    call("3", DAVE, "", "ringing", incoming=True, account="work"),
]  # fmt: skip


def history(number: int, remote: str, name: str, result: str, **values: Any) -> dict[str, Any]:
    return {
        "id": number, "account": "work", "call_id": f"h{number}", "incoming": False, "remote": remote, "name": "",
        "contact": name, "began": NOW - 3_700 * (9 - number), "result": result, "status": 200, "reason": "",
        "duration": 65.0 * number if result == "answered" else 0.0, "codec": "opus", "mos": 4.2, "note": "", **values,
    }  # fmt: skip


def text(seconds: float, incoming: bool, words: str, peer: str = BOB, name: str = "Bob Builder") -> dict[str, Any]:
    return {
        "time": NOW - seconds, "account": "work", "peer": peer, "incoming": incoming, "text": words, "contact": name
    }  # fmt: skip


ANSWERS: dict[str, Any] = {
    "history": {
        "entries": [
            history(8, BOB, "Bob Builder", "answered", note="wants the drawings"),
            history(7, DAVE, "", "missed", incoming=True, mos=None),
            history(6, CAROL, "Carol Schmidt", "answered", incoming=True, account="road"),
            history(5, "sip:6002@example.org", "", "refused", mos=None),
            history(4, BOB, "Bob Builder", "answered", incoming=True, mos=3.4),
            history(3, "sip:sales@example.com", "", "failed", mos=None, status=503),
        ]
    },
    "contacts": {
        "contacts": [
            {"name": "Bob Builder", "uid": "", "reaches": [{"address": BOB, "kind": "work"}]},
            {
                "name": "Carol Schmidt", "uid": "",
                "reaches": [{"address": CAROL, "kind": ""}, {"address": "+49891234", "kind": "cell"}],
            },
            {"name": "Dave", "uid": "", "reaches": [{"address": "+49301234567", "kind": "home"}]},
        ],
        "total": 3,
    },
    "watched": {
        "watched": [
            {"account": "work", "uri": BOB, "kind": "presence", "phase": "active", "reason": "",
             "state": {"open": True, "note": "at my desk", "activities": []}},
            {"account": "work", "uri": CAROL, "kind": "presence", "phase": "active", "reason": "",
             "state": {"open": False, "note": "", "activities": []}},
        ]
    },
    "mobility": NETWORK_STATUS,
    "sip-messages": {"messages": CALL},
    "messages": {
        "messages": [
            text(9000, True, "the minutes are in your mail", CAROL, "Carol Schmidt"),
            text(900, True, "are you coming for lunch?"),
            text(840, False, "yes: I am in the train, the call went on from Wi-Fi to mobile and nobody heard it"),
            text(60, True, "see you at noon then"),
        ]
    },
    "complete": {
        "candidates": [
            {"target": BOB, "label": "Bob Builder (work)", "source": "contact"},
            {"target": "sip:6002@example.org", "label": "sip:6002@example.org", "source": "history"},
        ]
    },
}  # fmt: skip


class StillLink(DaemonLink):
    """Always connected; requests have answers, or none that says anything."""

    def __init__(self, calls: Iterable[dict[str, Any]], accounts: bool) -> None:
        super().__init__(Path("/nowhere"))
        self.calls = list(calls)
        self._accounts = accounts
        self.requests: list[tuple[str, dict[str, object]]] = []
        self.state = LinkState.CONNECTED

    @property
    def connected(self) -> bool:
        return True

    async def run(self) -> None:
        self.changed(LinkState.CONNECTED)
        await asyncio.Event().wait()

    async def subscribe(self, topics: Iterable[str]) -> None:
        pass

    async def request(self, operation: str, **arguments: object) -> object:
        self.requests.append((operation, arguments))
        if operation == "status":
            return self._status()
        if operation in ("settings", "accounts"):
            return _configuration()[operation]
        if operation == "messages" and arguments.get("peer"):
            return {"messages": [one for one in ANSWERS["messages"]["messages"] if one["peer"] == arguments["peer"]]}
        return ANSWERS.get(operation, {})

    def _status(self) -> dict[str, object]:
        if not self._accounts:
            return {"accounts": [], "failures": {}, "version": "0"}
        accounts = [account("work"), account("road", network="home")]
        for one in accounts:
            one["calls"] = [call for call in self.calls if call["account"] == one["account"]]
        return {"accounts": accounts, "failures": {"old": "the server refused the password (403)"}, "version": "0"}


def _configuration() -> dict[str, Any]:
    """What the daemon would say of its keys."""
    from softphone.accounts.keys import account_keys
    from softphone.accounts.preferences import PREFERENCES

    keys = [
        {"name": key.name, "kind": key.kind, "meaning": key.meaning, "default": key.default, "choices": key.choices}
        for key in account_keys()
    ]
    settings = [
        {"name": one.name, "kind": one.kind, "meaning": one.meaning, "default": one.default, "choices": one.choices,
         "value": None}
        for one in PREFERENCES if one.name.startswith("ui.") or one.name == "default"
    ]  # fmt: skip
    accounts = [
        {"name": name, "default": name == "work", "values": {"address": f"alice@{name}.example"}, "password": "keyring",
         "running": True, "registered": True, "failure": ""}
        for name in ("work", "road")
    ]  # fmt: skip
    return {"settings": {"settings": settings}, "accounts": {"accounts": accounts, "keys": keys}}


class Still:
    """The program at one moment."""

    def __init__(self, app: RoamphoneApp, link: StillLink, pilot: Any) -> None:
        self.app, self.link, self.pilot = app, link, pilot

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    async def type(self, text: str) -> None:
        await self.press(*("space" if char == " " else char for char in text))

    async def settle(self) -> None:
        """Until nothing changes any more."""
        same, before = 0, ""
        for _ in range(MOST_LOOKS):
            loading = [worker for worker in self.app.workers if worker.group not in ("daemon", "default")]
            if loading:
                await self.app.workers.wait_for_complete(loading)
            await self.pilot.pause(0.03)
            self.app.redraw.flush()
            now = snapshot(self.app)
            same, before = (same + 1, now) if now == before else (0, now)
            if same == 4:
                return
        raise AssertionError("the screen does not come to rest")

    def tell(self, *events: dict[str, Any]) -> None:
        """As the daemon would."""
        for event in events:
            self.app._event(event)


@asynccontextmanager
async def still(
    size: tuple[int, int], *, calls: Iterable[dict[str, Any]] = (), accounts: bool = True, theme: str = ""
) -> AsyncIterator[Still]:
    """The program with these calls."""
    with tempfile.TemporaryDirectory() as directory:
        configuration = Path(directory) / "softphone.toml"
        configuration.write_text(f'[ui]\ntheme = "{theme}"\n' if theme else "")
        link = StillLink(calls, accounts)
        app = RoamphoneApp(link, configuration)
        app.phone.clock = lambda: NOW
        app.animation_level = "none"
        async with app.run_test(size=size) as pilot:
            found = Still(app, link, pilot)
            await found.settle()
            if calls:
                found.tell(*_sound())
            found.tell(
                {"event": "mobility", "account": "road", "tunnel": "esp", "application_ipsec": True, "status": {}}
            )
            for widget in app.screen.query("Input"):
                widget.cursor_blink = False  # type: ignore[attr-defined]
            await found.settle()
            yield found


def _sound() -> list[dict[str, Any]]:
    quality = [
        {
            "event": "quality", "call": "1", "mos": 4.25 + 0.1 * sin(second) - (1.4 if second in (31, 32) else 0.0),
            "loss": 0.001, "jitter_ms": 3.2, "round_trip_ms": 41.0, "codec": "opus", "suite": "AEAD_AES_256_GCM",
        }
        for second in range(60)
    ]  # fmt: skip
    levels = [{"call": "1", "sent_dbov": -18.0, "received_dbov": -26.0, "muted": False}]
    return [*quality, {"event": "levels", "calls": levels}]


# -- scenes: what is on the screens -----------------------------------------------------------------------------------

Scene = Callable[[Still], Awaitable[None]]


def keys(*pressed: str) -> Scene:
    async def press(screen: Still) -> None:
        await screen.press(*pressed)

    return press


async def _nothing(screen: Still) -> None:
    pass


async def _completing(screen: Still) -> None:
    await screen.type("bo")
    await asyncio.sleep(0.1)
    await screen.press("down")


async def _log(screen: Still) -> None:
    screen.app.model.log.clear()
    for at, (level, source, words) in enumerate(
        (
            ("EVENT", "work", "registered contact=sip:alice@[2001:db8::1]:5060 expires=300"),
            ("EVENT", "road", "call-progress status=180 reason=Ringing"),
            ("EVENT", "road", "call-answered remote=sip:bob@example.org"),
            ("EVENT", "road", "secured suite=AEAD_AES_256_GCM"),
            ("EVENT", "road", "handover from_link=wlan0 to_link=wwan0 since_update_ms=41.2 make_before_break=True"),
            ("WARNING", "softphone.daemon.server", "account old does not run: the server refused the password (403)"),
        )
    ):
        screen.tell({"event": "log", "time": NOW + at, "level": level, "logger": source, "text": words})
    await screen.press("f10")


async def _packets(screen: Still) -> None:
    await screen.press("f4")
    screen.tell(*packet_events())
    await screen.settle()
    await screen.press("up", "up", "up")


SCENES: dict[str, tuple[Scene, bool]] = {
    "phone": (_nothing, True),
    "dialling": (_completing, False),
    "transfer": (keys("ctrl+t"), True),
    "keypad": (keys("ctrl+k"), True),
    "mobility": (keys("f3"), False),
    "packets": (_packets, False),
    "sip": (keys("f5", "home", "enter", "down"), False),
    "history": (keys("f6"), False),
    "contacts": (keys("f7"), False),
    "messages": (keys("f8"), False),
    "settings": (keys("f9"), False),
    "account": (keys("f9", "down"), False),
    "log": (_log, False),
    "help": (keys("f1"), False),
    "palette": (keys("ctrl+p"), False),
}
"By name: how to get there, and whether there are calls."


@asynccontextmanager
async def on_screen(name: str, size: tuple[int, int], theme: str = "") -> AsyncIterator[RoamphoneApp]:
    """A scene, ready to be looked at."""
    if name == "welcome":
        async with still(size, accounts=False, theme=theme) as screen:
            yield screen.app
        return
    go, with_calls = SCENES[name]
    async with still(size, calls=TALKING if with_calls else (), theme=theme) as screen:
        await go(screen)
        yield screen.app


NAMES = ("welcome", *SCENES)


def snapshot(app: RoamphoneApp) -> str:
    """The lines of the screen, and for each a number that another colour changes."""
    styles = [
        zlib.crc32("".join(f"{segment.style}{len(segment.text)}" for segment in strip).encode())
        for strip in app.screen._compositor.render_strips()
    ]
    lines = "\n".join(f"|{line}" for line in shown(app).splitlines())
    return f"{lines}\n\n" + " ".join(f"{style:08x}" for style in styles) + "\n"


def path_of(name: str, size: tuple[int, int]) -> Path:
    return SNAPSHOTS / f"{name}-{size[0]}x{size[1]}.txt"


def in_utc() -> None:
    os.environ["TZ"] = "UTC"
    time.tzset()


async def _write() -> None:
    for name in sys.argv[1:] or NAMES:
        for size in SIZES:
            async with on_screen(name, size) as app:
                path_of(name, size).write_text(snapshot(app))
        async with on_screen(name, PICTURE) as app:
            (PICTURES / f"{name}.svg").write_text(app.export_screenshot(title="roamphone"))
    async with on_screen("phone", SIZES[0], "roamphone-light") as app:
        (PICTURES / "phone-light.svg").write_text(app.export_screenshot(title="roamphone"))


def main() -> None:
    in_utc()
    for directory in (SNAPSHOTS, PICTURES):
        directory.mkdir(parents=True, exist_ok=True)
    asyncio.run(_write())
    sys.stdout.write(f"written: {SNAPSHOTS} and {PICTURES}\n")


if __name__ == "__main__":
    main()
