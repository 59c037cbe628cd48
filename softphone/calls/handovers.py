"""Handovers of the mobility layer in the stream of the phone's events."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mobility.client import ControlClient, MobilityError
from softphone.events import EventHub, Handover

AGAIN = 2.0
"Seconds after which a mobility process that is gone is looked for again."


async def watch_handovers(control: Path, hub: EventHub) -> None:
    """Tell the hub about every handover that the mobility process behind this ``control.sock`` tells, without end."""
    while True:
        try:
            async with ControlClient(control) as client:
                async for event in client.events():
                    if event.get("event") == "HandoverFinished":
                        hub.emit(_handover(event))
        except (MobilityError, OSError):
            pass  # calls go on without; it may come (back)
        await asyncio.sleep(AGAIN)


def _handover(event: dict[str, object]) -> Handover:
    def text(name: str) -> str:
        return str(event.get(name, ""))

    def number(name: str) -> float:
        value = event.get(name)
        return float(value) if isinstance(value, int | float) else 0.0

    return Handover(
        from_link=text("from_link"), to_link=text("to_link"),
        from_address=text("from_address"), to_address=text("to_address"),
        since_noticed_ms=number("since_noticed_ms"), since_update_ms=number("since_update_ms"),
        sent_again=int(number("sent_again")), received_again=int(number("received_again")),
        make_before_break=event.get("make_before_break") is True,
    )  # fmt: skip
