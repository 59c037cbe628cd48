"""Message-waiting (RFC 3842): what is in the mailbox."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from softphone.packages import Package, PackageError

CONTENT_TYPE = "application/simple-message-summary"
LARGEST = 16 * 1024
"Bytes; what comes after the counts may be headers of every message."
COUNTS = re.compile(r"(\d{1,9})\s*/\s*(\d{1,9})\s*(?:\(\s*(\d{1,9})\s*/\s*(\d{1,9})\s*\))?\s*\Z")
CLASSES = frozenset(
    ["voice-message", "fax-message", "pager-message", "multimedia-message", "text-message", "none"]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Counts:
    """Messages of one kind."""

    new: int
    old: int
    urgent_new: int = 0
    urgent_old: int = 0


@dataclass(frozen=True, slots=True)
class MessageSummary:
    """The mailbox."""

    waiting: bool
    account: str = ""
    "URI to call to hear them, if the server tells it."
    counts: dict[str, Counts] = field(default_factory=dict)
    "By kind, ``voice-message`` above all."

    @property
    def voice(self) -> Counts:
        return self.counts.get("voice-message", Counts(0, 0))


def parse_summary(data: bytes, before: MessageSummary | None = None) -> MessageSummary:
    """Raises PackageError."""
    if len(data) > LARGEST:
        raise PackageError(f"the summary has more than {LARGEST} bytes")
    waiting: bool | None = None
    account, counts = "", {}
    for line in data.decode("utf-8", "replace").splitlines():
        if not line.strip():
            break  # then headers of messages follow
        name, colon, value = (part.strip() for part in line.partition(":"))
        match name.lower():
            case "messages-waiting":
                if value.lower() not in ("yes", "no"):
                    raise PackageError(f"Messages-Waiting is {value[:20]!r}: yes or no")
                waiting = value.lower() == "yes"
            case "message-account":
                account = value if value.isprintable() else ""
            case kind if kind in CLASSES:
                if (match := COUNTS.match(value)) is None:
                    raise PackageError(f"{name}: {value[:40]!r} is not new/old")
                counts[kind] = Counts(*(int(number or 0) for number in match.groups()))
            case _ if not colon:
                raise PackageError(f"{line[:40]!r} is no line of a summary")
    if waiting is None:
        raise PackageError("Messages-Waiting is missing")
    return MessageSummary(waiting, account[:500], counts)


MESSAGE_SUMMARY: Package[MessageSummary] = Package("message-summary", CONTENT_TYPE, parse_summary)
