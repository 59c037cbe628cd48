"""What goes on inside: levels and quality of calls, SIP messages, the log; for whoever subscribed to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from softphone.calls.call import Call
from softphone.daemon.calls import Calls
from softphone.daemon.operations import Ground, Operation, since_1970
from softphone.daemon.protocol import Arguments, RequestError
from softphone.daemon.topics import Topic
from softphone.media.levels import LevelMeter
from softphone.media.session import MediaSession
from softphone.network.traced_text import call_id_of, without_keys
from softphone.sip.endpoint import Traced
from softphone.sip.uri import host_port

MOST_MESSAGES = 2000
MOST_CHARACTERS = 2 << 20
"Of all kept messages; an answer has half of it at most."
LEVELS_SECONDS = 0.1
QUALITY_SECONDS = 1.0


class SipLog:
    """The latest SIP messages of all accounts; keys of SRTP are taken out."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._kept: deque[tuple[int, dict[str, object]]] = deque()
        "With their sizes."
        self._characters = 0

    @property
    def operations(self) -> dict[str, Operation]:
        return {"sip-messages": self._messages}

    def of(self, account: str) -> Callable[[Traced], None]:
        """What a phone tells its messages."""
        return lambda message: self._take(account, message)

    def _take(self, account: str, message: Traced) -> None:
        if not message.data.strip():
            return  # keeps a connection open
        text = without_keys(message.data).decode("utf-8", "replace")
        event: dict[str, object] = {
            "event": "sip-message", "time": since_1970(message.time, time.time()), "account": account,
            "sent": message.sent, "transport": str(message.transport), "local": host_port(*message.local),
            "remote": host_port(*message.peer), "call": call_id_of(message.data),
            "text": text,
        }  # fmt: skip
        self._kept.append((len(text), event))
        self._characters += len(text)
        while len(self._kept) > MOST_MESSAGES or self._characters > MOST_CHARACTERS:
            self._characters -= self._kept.popleft()[0]
        self._ground.audience.tell(Topic.SIP, event)

    async def _messages(self, arguments: Arguments) -> object:
        call, limit = arguments.optional("call"), arguments.number("limit", MOST_MESSAGES)
        arguments.end()
        if limit < 1:
            raise RequestError("limit has to be 1 at least")
        room = MOST_CHARACTERS // 2
        found: deque[dict[str, object]] = deque()
        for size, event in reversed(self._kept):
            if call in (None, event["call"]):
                room -= size
                if room < 0 or len(found) >= limit:
                    break
                found.appendleft(event)
        return {"messages": list(found)}


class Watching:
    """Tasks that run only while somebody wants what they tell."""

    def __init__(self, ground: Ground, calls: Calls) -> None:
        self._ground = ground
        self._calls = calls
        self._tasks: dict[Topic, asyncio.Task[None]] = {}
        self._handler: _LogHandler | None = None

    def changed(self) -> None:
        """Somebody subscribed, or left."""
        for topic, work in ((Topic.LEVELS, self._levels), (Topic.QUALITY, self._quality)):
            task = self._tasks.get(topic)
            if self._ground.audience.wants(topic) and (task is None or task.done()):
                self._tasks[topic] = asyncio.create_task(work(), name=f"topic {topic}")
        if self._handler is None and self._ground.audience.wants(Topic.LOG):
            self._handler = _LogHandler(self._ground)
            logging.getLogger().addHandler(self._handler)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)

    async def _levels(self) -> None:
        while self._ground.audience.wants(Topic.LEVELS):
            levels = [self._levels_of(account, call) for account, call in self._ground.calls()]
            if any(levels):
                self._ground.audience.tell(
                    Topic.LEVELS, {"event": "levels", "calls": [one for one in levels if one is not None]}
                )
            await asyncio.sleep(LEVELS_SECONDS)
        for _, call in self._ground.calls():
            if isinstance(call.media, MediaSession):
                call.media.meter = None

    def _levels_of(self, account: str, call: Call) -> dict[str, object] | None:
        media = call.media
        if not isinstance(media, MediaSession):
            return None
        if media.meter is None:
            media.meter = LevelMeter()
        meter = media.meter
        return {
            "call": call.id, "account": account, "sent_dbov": meter.sent, "received_dbov": meter.received,
            "muted": self._calls.muted(call),
        }  # fmt: skip

    async def _quality(self) -> None:
        while self._ground.audience.wants(Topic.QUALITY):
            for account, call in self._ground.calls():
                if (event := _quality(account, call)) is not None:
                    self._ground.audience.tell(Topic.QUALITY, event)
            await asyncio.sleep(QUALITY_SECONDS)


def _quality(account: str, call: Call) -> dict[str, object] | None:
    """Of the last second; None: nothing flows yet."""
    media = call.media
    if not isinstance(media, MediaSession) or not (heard := media.statistics()).codec:
        return None
    latest = media.latest_quality
    return {
        "event": "quality", "call": call.id, "account": account, "mos": heard.mos,
        "loss": None if latest is None else latest.loss, "jitter_ms": heard.jitter_ms,
        "round_trip_ms": heard.round_trip_ms, "delay_ms": heard.delay_ms, "codec": heard.codec,
        "suite": heard.srtp_suite or None, "packets_sent": heard.sent, "packets_received": heard.received,
        "packets_lost": heard.lost,
    }  # fmt: skip


class _LogHandler(logging.Handler):
    """Log records as events; those of other threads take a turn of the loop."""

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self._ground = ground
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        event: dict[str, object] = {
            "event": "log", "time": record.created, "level": record.levelname.lower(), "logger": record.name,
            "text": record.getMessage()[:10_000],
        }  # fmt: skip
        try:
            self._loop.call_soon_threadsafe(self._ground.audience.tell, Topic.LOG, event)
        except RuntimeError:
            pass  # the daemon has ended
