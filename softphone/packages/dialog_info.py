"""Dialog-info (RFC 4235): which calls somebody has; a busy lamp field."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from softphone.packages import Package, PackageError
from softphone.packages.xml import Element, parse_xml, text_of

SPACE = "urn:ietf:params:xml:ns:dialog-info"
CONTENT_TYPE = "application/dialog-info+xml"
MOST = 200
"Dialogs that are remembered."


class Lamp(StrEnum):
    """What the lamp of somebody shows."""

    FREE = "free"
    RINGING = "ringing"
    "A call comes in and is not answered; it could be picked up."
    CALLING = "calling"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class DialogState:
    """One call of somebody."""

    id: str
    state: str
    "``trying``, ``proceeding``, ``early``, ``confirmed``, ``terminated``."
    incoming: bool = False
    remote: str = ""
    "URI of whom it is with, if told."
    call_id: str = ""


STATES = frozenset(["trying", "proceeding", "early", "confirmed", "terminated"])


class MissingVersion(PackageError):
    """A document that tells differences came without the one before it: the whole state is needed."""


@dataclass(frozen=True, slots=True)
class DialogInfo:
    """All calls of somebody."""

    version: int
    entity: str = ""
    dialogs: tuple[DialogState, ...] = ()
    "Those that are not over."

    @property
    def lamp(self) -> Lamp:
        if any(dialog.state == "confirmed" for dialog in self.dialogs):
            return Lamp.BUSY
        if any(dialog.incoming for dialog in self.dialogs):
            return Lamp.RINGING
        return Lamp.CALLING if self.dialogs else Lamp.FREE


def parse_dialog_info(data: bytes, before: DialogInfo | None = None) -> DialogInfo:
    """The state after this document (RFC 4235 section 4.3). Raises PackageError, MissingVersion.

    A document that is older than the state leaves it as it is.
    """
    root = parse_xml(data, f"{{{SPACE}}}dialog-info")
    version = _version(root.get("version", ""))
    if before is not None and version <= before.version:
        return before
    kind = root.get("state", "")
    if kind not in ("full", "partial"):
        raise PackageError(f"the state is {kind[:20]!r}: full or partial")
    told = [_dialog(element) for element in root.iterfind(f"{{{SPACE}}}dialog")]
    if kind == "full":
        known: dict[str, DialogState] = {}
    elif before is None or version != before.version + 1:
        raise MissingVersion("a part of the state came without what was before")
    else:
        known = {dialog.id: dialog for dialog in before.dialogs}
    known |= {dialog.id: dialog for dialog in told}
    going_on = tuple(dialog for dialog in known.values() if dialog.state != "terminated")
    return DialogInfo(version, root.get("entity", "")[:500], going_on[:MOST])


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise PackageError(f"the version is {text[:20]!r}, not a number")
    return int(text)


def _dialog(element: Element) -> DialogState:
    ident, state = element.get("id", ""), text_of(element.find(f"{{{SPACE}}}state")).lower()
    if not ident or state not in STATES:
        raise PackageError(f"a dialog needs an id and a state, this has {ident[:40]!r} and {state[:40]!r}")
    remote = element.find(f"{{{SPACE}}}remote/{{{SPACE}}}identity")
    if remote is None:
        remote = element.find(f"{{{SPACE}}}remote/{{{SPACE}}}target")
        told = "" if remote is None else remote.get("uri", "")[:500]
    else:
        told = text_of(remote)
    incoming = element.get("direction", "").lower() == "recipient"
    return DialogState(ident[:200], state, incoming, told, element.get("call-id", "")[:200])


DIALOG: Package[DialogInfo] = Package("dialog", CONTENT_TYPE, parse_dialog_info)
