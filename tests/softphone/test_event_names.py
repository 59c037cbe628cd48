"""Names of events in JSON are a promise: they stand in the documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np

from softphone import events
from softphone.event_names import described, name_of
from softphone.events import CallDigit, CallEnded, CallMedia, EndedBy, Event, InfoReceived
from softphone.media.dtmf import DigitMethod
from softphone.media.events import AudioFailed, MediaEvent, PlaybackEnded
from softphone.media.files import SamplesSource
from softphone.media.recorder import RecordingEnded
from softphone.sip.identity import Reason

DOCUMENT = (Path(__file__).parents[2] / "docs" / "softphone.md").read_text()
BY_COMMANDS = {"ready", "result"}
ROOTS = {"event", "call-event", "call-media", "digit-received"}
"Classes that only hold others, or that come as something else."


def named(kind: Any) -> str:
    return name_of(object.__new__(kind))


def test_the_documentation_names_all_events_and_no_others() -> None:
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    names = {named(kind) for kind in (*(kind for kind in kinds if kind is not CallMedia), *get_args(MediaEvent))}
    told = DOCUMENT[DOCUMENT.index("### Events") :].partition("\n\n| event")[2].partition("\n\n")[0]
    documented = {name for line in told.splitlines()[2:] for name in re.findall(r"`([a-z-]+)`", line.split("|")[1])}
    assert documented == names - ROOTS | BY_COMMANDS


def test_values_are_json() -> None:
    ended = CallEnded("1@a", EndedBy.REMOTE, 200, "bye", (Reason("SIP", 200, "elsewhere"),))
    found = json.loads(json.dumps(described(ended, "work")))
    assert (found["event"], found["account"], found["call"], found["by"]) == ("call-ended", "work", "1@a", "remote")
    assert found["causes"][0]["cause"] == 200
    source = SamplesSource(np.zeros(1, np.int16), 8000)
    for event, wanted in (
        (CallDigit("1@a", "5", 0.1, DigitMethod.EVENT), {"event": "call-digit", "digit": "5", "duration": 0.1,
                                                        "method": "telephone-event"}),
        (CallMedia("1@a", PlaybackEnded(source, 7)), {"event": "playback-ended", "sequence": 7}),
        (CallMedia("1@a", AudioFailed(source, ValueError("no"))), {"event": "audio-failed", "error": "no"}),
        (CallMedia("1@a", RecordingEnded(Path("a.wav"), 1.0, 0, "")), {"event": "recording-ended", "path": "a.wav",
                                                                      "seconds": 1.0, "lost_frames": 0, "why": ""}),
        (InfoReceived("1@a", "text/plain", b"\xff"), {"event": "info-received", "content_type": "text/plain",
                                                      "body": "�"}),
    ):  # fmt: skip
        assert json.loads(json.dumps(described(event))) == {"call": "1@a", **wanted}
