"""Packets that were told lately, each with the stages that it passed; the newest so many. No widgets, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from mobility.dissection import Layer, Stage, dissect, unfolded

MOST = 2000
"Packets that are kept."


class Followed:
    """One packet. Layers are found when somebody looks."""

    __slots__ = ("_layers", "_text", "number", "stages")

    def __init__(self, number: int) -> None:
        self.number = number
        self.stages: list[Stage] = []
        self._layers: tuple[Layer, ...] | None = None
        self._text: str | None = None

    def add(self, stage: Stage) -> None:
        self.stages.append(stage)
        self._layers = self._text = None

    @property
    def name(self) -> tuple[int, int]:
        """Looks the same as long as this is the same."""
        return self.number, len(self.stages)

    @property
    def outbound(self) -> bool:
        return self.stages[0].outbound

    @property
    def time(self) -> float:
        """Seconds since 1970, when it was seen first."""
        return self.stages[0].time

    @property
    def where(self) -> str:
        """The link that it goes over."""
        return next((stage.where for stage in self.stages if stage.stage == "wire"), "")

    @property
    def length(self) -> int:
        """Octets, the most at any stage."""
        return max(stage.length for stage in self.stages)

    @property
    def discarded(self) -> Stage | None:
        return next((stage for stage in self.stages if stage.stage == "discarded"), None)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """From the outermost to the innermost, with what was decrypted."""
        if self._layers is None:
            self._layers = unfolded(self.stages)
        return self._layers

    def layers_of(self, stage: Stage) -> tuple[Layer, ...]:
        """Those that it has at a stage."""
        return dissect(stage.octets) if stage.octets else ()

    @property
    def text(self) -> str:
        """What filters look for, in small letters."""
        if self._text is None:
            words = [self.where, *(stage.stage for stage in self.stages)]
            words += [f"{layer.kind} {layer.name} {layer.summary}" for layer in self.layers]
            if (discarded := self.discarded) is not None:
                words.append(f"{discarded.reason} {discarded.detail}")
            self._text = " ".join(words).casefold()
        return self._text


class PacketBook:
    """``shown`` are those that the filter lets through, the oldest first."""

    def __init__(self, most: int = MOST) -> None:
        self.shown: list[Followed] = []
        self.gone = 0
        "Of ``shown``, at the beginning, since it was read last: see `take_gone`."
        self.seen = 0
        "Packets that were told."
        self.missed = 0
        "Packets that nobody was told of: there were too many."
        self.paused = False
        self.meanwhile = 0
        "Packets that came since it was paused."
        self._last = 0
        "The latest packet's number."
        self._paused_at = 0
        self._most = most
        self._packets: dict[int, Followed] = {}
        self._filter: tuple[str, ...] = ()
        self._waiting: deque[Followed] = deque()
        "New ones, of which the filter has not been asked yet: a packet changes until its last stage."

    def take(self, event: Mapping[str, Any]) -> None:
        """An event ``packets`` or ``packets-missed``. What is none of ours in it is left out."""
        if event.get("event") == "packets-missed":
            self.missed += int(event.get("count") or 0)
            return
        self.missed += int(event.get("missed") or 0)
        told = event.get("packets")
        for one in told if isinstance(told, list) else ():
            if isinstance(one, Mapping):
                with suppress(ValueError, KeyError, TypeError):
                    self._stage(Stage.of(one))

    def settle(self) -> None:
        """Before drawing: new packets are filtered, old ones forgotten."""
        while self._waiting:
            packet = self._waiting.popleft()
            if self._passes(packet):
                self.shown.append(packet)
        while len(self._packets) > self._most:
            number = next(iter(self._packets))
            packet = self._packets.pop(number)
            if self.shown and self.shown[0] is packet:
                del self.shown[0]
                self.gone += 1

    def take_gone(self) -> int:
        """How many are gone since the last call."""
        gone, self.gone = self.gone, 0
        return gone

    def search(self, text: str) -> None:
        """Only packets with all these words are shown; ``-word``: those without it; ``in``, ``out``: the direction."""
        self._filter = tuple(text.casefold().split())
        self._waiting.clear()
        self.shown = [packet for packet in self._packets.values() if self._passes(packet)]
        self.gone = 0

    def pause(self, on: bool) -> None:
        self.paused, self.meanwhile, self._paused_at = on, 0, self._last

    def clear(self) -> None:
        """Begin anew."""
        self.shown, self.seen, self.missed, self.gone, self.meanwhile = [], 0, 0, 0, 0
        self._packets.clear()
        self._waiting.clear()

    def _stage(self, stage: Stage) -> None:
        packet = self._packets.get(stage.number)
        self._last = stage.number
        if packet is not None:
            packet.add(stage)
            return
        if self.paused:
            self.meanwhile = max(self.meanwhile, stage.number - self._paused_at)
            return
        self.seen += 1
        packet = self._packets[stage.number] = Followed(stage.number)
        packet.add(stage)
        self._waiting.append(packet)

    def _passes(self, packet: Followed) -> bool:
        if not self._filter:
            return True
        return all(
            not _has(packet, word[1:]) if word[:1] == "-" and word[1:] else _has(packet, word) for word in self._filter
        )


def _has(packet: Followed, word: str) -> bool:
    """``in`` and ``out`` are the direction, everything else is in the text."""
    return packet.outbound is (word == "out") if word in ("in", "out") else word in packet.text


def discards(counters: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Named discards out of the counters of the mobility process, the most frequent first."""
    found = counters.get("discards")
    counts: Iterable[tuple[str, Any]] = found.items() if isinstance(found, Mapping) else ()
    return sorted(((name, int(count)) for name, count in counts), key=lambda one: (-one[1], one[0]))
