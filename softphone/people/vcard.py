"""vCards (RFC 2426, RFC 6350) as far as a telephone needs them: names, numbers, SIP addresses. Does no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from softphone.sip.errors import SipParseError
from softphone.sip.uri import SipUri, TelUri, parse_uri

LONGEST_LINE = 100_000
"Characters; longer ones (pictures, as a rule) are passed over."
MOST_REACHES = 50
"Addresses of one card."
LONGEST_NAME = 200
PROPERTY = re.compile(r"(?:[A-Za-z0-9-]+\.)?([A-Za-z0-9-]+)([;:])")
ESCAPED = re.compile(r"\\(.)", re.DOTALL)
FOLD = 75
"Octets of a line (RFC 6350 section 3.2)."
TYPES = frozenset(["home", "work", "cell", "pager", "fax", "voice", "text", "video"])


class Reach(NamedTuple):
    """A way to somebody."""

    address: str
    "What `Softphone.dial` takes: a number such as ``+4930123456``, or a ``sip:`` or ``sips:`` URI."
    kind: str = ""
    "``home``, ``work``, ``cell``...; empty: not said."


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody."""

    name: str
    reaches: tuple[Reach, ...] = ()
    uid: str = ""
    "Of the card, if it has one: another card with it is the same person."


class Cards(NamedTuple):
    """What a file of vCards contains."""

    contacts: tuple[Contact, ...]
    problems: tuple[str, ...]
    "Cards and lines that could not be read, with their line numbers."


class _Line(NamedTuple):
    number: int
    name: str
    parameters: dict[str, list[str]]
    value: str


def parse_cards(text: str) -> Cards:
    """All cards of version 3.0 and 4.0; what cannot be read is told and passed over."""
    contacts: list[Contact] = []
    problems: list[str] = []
    card: list[_Line] | None = None
    for number, line in _unfolded(text):
        if not line.strip():
            continue
        try:
            read = _line(number, line)
        except ValueError as exc:
            problems.append(f"line {number}: {exc}")
            continue
        mark = (read.name, read.value.strip().upper())
        if mark == ("BEGIN", "VCARD"):
            if card is not None:
                problems.append(f"line {number}: the card before does not end")
            card = []
        elif mark == ("END", "VCARD") and card is not None:
            try:
                contacts.append(_contact(card, problems))
            except ValueError as exc:
                problems.append(f"line {number}: {exc}")
            card = None
        elif card is None:
            problems.append(f"line {number}: is in no card")
        else:
            card.append(read)
    if card is not None:
        problems.append("the last card does not end")
    return Cards(tuple(contacts), tuple(problems))


def print_cards(contacts: tuple[Contact, ...]) -> str:
    """As vCards of version 4.0."""
    lines: list[str] = []
    for contact in contacts:
        lines += ["BEGIN:VCARD", "VERSION:4.0", f"FN:{_escape(contact.name)}"]
        if contact.uid:
            lines.append(f"UID:{_escape(contact.uid)}")
        for address, kind in contact.reaches:
            types = f";TYPE={kind}" if kind in TYPES else ""
            if address.startswith(("sip:", "sips:")):
                lines.append(f"IMPP{types}:{address}")
            else:
                lines.append(f"TEL;VALUE=text{types}:{_escape(address)}")
        lines.append("END:VCARD")
    return "".join(f"{_fold(line)}\r\n" for line in lines)


def _unfolded(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines with the number of their first line (RFC 6350 section 3.2)."""
    first, parts = 1, list[str]()
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if line[:1] in (" ", "\t") and parts:
            parts.append(line[1:])
            continue
        if parts:
            yield first, "".join(parts)
        first, parts = number, [line]
    yield first, "".join(parts)


def _line(number: int, line: str) -> _Line:
    match = PROPERTY.match(line)
    if match is None:
        raise ValueError(f"{line[:40]!r} is no property of a vCard")
    name, position = match[1].upper(), match.end()
    parameters: dict[str, list[str]] = {}
    if match[2] == ";":
        head, position = _head(line, position)
        for part in _split(head, ";"):
            key, equals, value = part.partition("=")
            values = _split(value, ",") if equals else [part]  # of vCard 2.1: a type without its name
            parameters.setdefault(key.upper() if equals else "TYPE", []).extend(each.strip('"') for each in values)
    value = line[position:]
    return _Line(number, name, parameters, "" if len(value) > LONGEST_LINE else value)


def _head(line: str, start: int) -> tuple[str, int]:
    """The parameters, up to the colon that is in no quoted string; and where the value begins."""
    position = start
    while position < len(line) and line[position] != ":":
        position = _after_quoted(line, position) if line[position] == '"' else position + 1
    if position >= len(line):
        raise ValueError(f"{line[:40]!r} has no value")
    return line[start:position], position + 1


def _after_quoted(line: str, position: int) -> int:
    end = line.find('"', position + 1)
    if end < 0:
        raise ValueError(f"{line[:40]!r}: a quoted text does not end")
    return end + 1


def _split(text: str, separator: str) -> list[str]:
    pieces = re.findall(rf'(?:[^{separator}"]|"[^"]*")+', text)
    return [str(piece) for piece in pieces]


def _contact(card: list[_Line], problems: list[str]) -> Contact:
    version = next((line.value.strip() for line in card if line.name == "VERSION"), "")
    if version not in ("3.0", "4.0"):
        raise ValueError(f"the card has version {version[:10]!r}; 3.0 and 4.0 are read: export it anew")
    name = next((shown for line in card if line.name == "FN" and (shown := _text(line.value))), "")
    if not name:
        raise ValueError("the card has no name (FN)")
    reaches: dict[str, Reach] = {}
    for line in card:
        if line.name not in ("TEL", "IMPP", "X-SIP"):
            continue
        try:
            reach = _reach(line)
        except (ValueError, SipParseError) as exc:
            problems.append(f"line {line.number}: {exc}")
            continue
        if reach is not None and len(reaches) < MOST_REACHES:
            reaches.setdefault(reach.address, reach)
    uid = next((_text(line.value) for line in card if line.name == "UID"), "")
    return Contact(name, tuple(reaches.values()), uid)


def _reach(line: _Line) -> Reach | None:
    """None: a way that no telephone goes (other messengers)."""
    value = ESCAPED.sub(r"\1", line.value).strip()
    kinds = [each.lower() for each in line.parameters.get("TYPE", [])]
    kind = next((each for each in kinds if each in TYPES and each != "voice"), "")
    scheme = value.partition(":")[0].lower()
    if scheme in ("sip", "sips"):
        return Reach(str(SipUri.parse(value).bare()), kind)
    if line.name == "X-SIP":
        return Reach(str(SipUri.parse(f"sip:{value}").bare()), kind)
    if line.name == "IMPP":
        return None
    if scheme == "tel":
        uri = parse_uri(value)
        value = uri.number if isinstance(uri, TelUri) else ""
    number = dialable(value)
    if not number:
        raise ValueError(f"{line.value[:40]!r} is no number")
    return Reach(number, kind)


def dialable(text: str) -> str:
    """A number without what people put between its digits; empty if it is none."""
    number = re.sub(r"[\s().\-/\u00a0\u2010-\u2015]", "", text)
    return number if re.fullmatch(r"\+?[0-9*#]{1,40}", number) else ""


def _text(value: str) -> str:
    """Unescaped, on one line, without control characters."""
    plain = ESCAPED.sub(lambda match: " " if match[1] in "nN" else match[1], value)
    return "".join(char for char in plain if char.isprintable()).strip()[:LONGEST_NAME]


def _escape(text: str) -> str:
    return re.sub(r"([\\,;])", r"\\\1", "".join(char if char.isprintable() else " " for char in text))


def _fold(line: str) -> str:
    """In pieces of 75 octets at most, never inside a character."""
    pieces, piece, room = list[str](), "", FOLD
    for char in line:
        size = len(char.encode())
        if size > room:
            pieces.append(piece)
            piece, room = "", FOLD - 1
        piece += char
        room -= size
    return "\r\n ".join([*pieces, piece])
