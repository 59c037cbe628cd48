"""Presence (RFC 3856) as PIDF (RFC 3863), with the activities of RPID (RFC 4480)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import SubElement

from softphone.packages import Package, PackageError
from softphone.packages.xml import Element, parse_xml, print_xml, text_of

PIDF = "urn:ietf:params:xml:ns:pidf"
MODEL = "urn:ietf:params:xml:ns:pidf:data-model"
RPID = "urn:ietf:params:xml:ns:pidf:rpid"
CONTENT_TYPE = "application/pidf+xml"
ACTIVITY = re.compile(r"[a-z][a-z-]{0,40}\Z")
MOST_ACTIVITIES = 20


@dataclass(frozen=True, slots=True)
class Presence:
    """How somebody is to be reached."""

    open: bool
    "Ready for calls and messages (PIDF's basic status); with several devices: one of them is."
    note: str = ""
    activities: tuple[str, ...] = ()
    "Of RPID: ``on-the-phone``, ``away``, ``busy``, ``meeting``..."


def parse_pidf(data: bytes, before: Presence | None = None) -> Presence:
    """Raises PackageError. A document without devices says that there are none."""
    root = parse_xml(data, f"{{{PIDF}}}presence")
    statuses = [
        text_of(element).lower() for element in root.iterfind(f"{{{PIDF}}}tuple/{{{PIDF}}}status/{{{PIDF}}}basic")
    ]
    if unknown := [status for status in statuses if status not in ("open", "closed")]:
        raise PackageError(f"{unknown[0][:40]!r} is no status: open or closed")
    notes = (text_of(note) for path in ("note", f"tuple/{{{PIDF}}}note") for note in root.iterfind(f"{{{PIDF}}}{path}"))
    person_notes = (text_of(note) for note in root.iterfind(f"{{{MODEL}}}person/{{{MODEL}}}note"))
    activities = dict.fromkeys(
        name
        for holder in root.iter(f"{{{RPID}}}activities")
        for element in holder
        if ACTIVITY.match(name := element.tag.rpartition("}")[2]) and name != "note"
    )
    note = next(filter(None, (*notes, *person_notes)), "")
    return Presence("open" in statuses, note, tuple(activities)[:MOST_ACTIVITIES])


def print_pidf(presence: Presence, entity: str, device: str) -> bytes:
    """``entity`` is the address of record, ``device`` a name of this phone."""
    root = Element(f"{{{PIDF}}}presence", {"entity": entity})
    ident = "t" + re.sub(r"[^A-Za-z0-9]", "", device)
    told = SubElement(root, f"{{{PIDF}}}tuple", {"id": ident})
    status = SubElement(told, f"{{{PIDF}}}status")
    SubElement(status, f"{{{PIDF}}}basic").text = "open" if presence.open else "closed"
    if presence.note:
        SubElement(told, f"{{{PIDF}}}note").text = presence.note
    if presence.activities:
        person = SubElement(root, f"{{{MODEL}}}person", {"id": f"p{ident}"})
        holder = SubElement(person, f"{{{RPID}}}activities")
        for name in presence.activities:
            if not ACTIVITY.match(name):
                raise PackageError(f"{name!r} is no activity: a word of RFC 4480 such as on-the-phone")
            SubElement(holder, f"{{{RPID}}}{name}")
    return print_xml(root, {"": PIDF, "dm": MODEL, "rpid": RPID})


PRESENCE: Package[Presence] = Package("presence", CONTENT_TYPE, parse_pidf)
