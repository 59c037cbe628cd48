"""Contacts: a file of vCards, names for callers, what a screen completes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from softphone.errors import SoftphoneError
from softphone.people.vcard import Contact, Reach, dialable, parse_cards, print_cards
from softphone.sip.errors import SipParseError
from softphone.sip.uri import SipUri, TelUri, parse_uri, unescape

LARGEST = 32 * 1024 * 1024
"Bytes of a file of vCards."
MOST = 20_000
"Contacts."
SIGNIFICANT = 9
"Last digits that make a number the same with and without country and area codes."


class ContactsError(SoftphoneError):
    """Contacts cannot be read or written."""


class Imported(NamedTuple):
    """What an import did."""

    added: int
    replaced: int
    problems: tuple[str, ...]
    "Cards and lines that were passed over, with their line numbers."


@dataclass(frozen=True, slots=True)
class Match:
    """A completion."""

    contact: Contact
    reach: Reach

    def __str__(self) -> str:
        return f"{self.contact.name} <{self.reach.address}>"


class Contacts:
    """The address book. Raises ContactsError when its file cannot be read; none at all is an empty one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: tuple[str, ...] = ()
        "What could not be read in the file: it goes when the file is written."
        self._contacts: list[Contact] = []
        self._exact: dict[str, Contact] = {}
        self._endings: dict[str, Contact | None] = {}
        if path.exists():
            cards = parse_cards(read_text(path))
            self.problems = cards.problems
            self._contacts = list(cards.contacts[:MOST])
        self._index()

    def __len__(self) -> int:
        return len(self._contacts)

    @property
    def all(self) -> tuple[Contact, ...]:
        """By name."""
        return tuple(sorted(self._contacts, key=lambda contact: contact.name.casefold()))

    def add(self, *contacts: Contact) -> tuple[int, int]:
        """Add people; who has a UID, or without one a name, that is here already is replaced.

        Returns how many were added, and replaced. Raises ContactsError when there are too many: then nothing changed.
        """
        result = list(self._contacts)
        by_uid = {contact.uid: at for at, contact in enumerate(result) if contact.uid}
        by_name = {contact.name: at for at, contact in enumerate(result)}
        for contact in contacts:
            at = by_uid.get(contact.uid) if contact.uid else by_name.get(contact.name)
            if at is None:
                at = len(result)
                result.append(contact)
            else:
                result[at] = replace(contact, uid=contact.uid or result[at].uid)
            if contact.uid:
                by_uid[contact.uid] = at
            by_name[contact.name] = at
        if len(result) > MOST:
            raise ContactsError(f"these would be {len(result)} contacts, {MOST} are possible: take some out first")
        added = len(result) - len(self._contacts)
        self._contacts = result
        self._index()
        return added, len(contacts) - added

    def remove(self, name: str) -> int:
        """Take out all of this name; returns how many."""
        kept = [contact for contact in self._contacts if contact.name != name]
        gone = len(self._contacts) - len(kept)
        self._contacts = kept
        self._index()
        return gone

    def take(self, text: str) -> Imported:
        """Add the cards of a text. Raises ContactsError when they are too many."""
        cards = parse_cards(text)
        return Imported(*self.add(*cards.contacts), cards.problems)

    def save(self) -> None:
        """Write the file, mode 0600. Raises ContactsError."""
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(print_cards(self.all))
            fresh.replace(self.path)
        except OSError as exc:
            fresh.unlink(missing_ok=True)
            raise ContactsError(f"{self.path}: cannot be written: {exc.strerror}") from exc

    def who(self, address: str) -> Contact | None:
        """Whose address or number this is, for the name of a caller: a SIP or tel URI, or a number.

        Numbers are the same when their last nine digits are, unless several people have these.
        """
        keys = _keys(address)
        for key in keys:
            if (found := self._exact.get(key)) is not None:
                return found
        endings = (self._endings.get(ending) for key in keys if (ending := _ending(key)))
        return next((contact for contact in endings if contact is not None), None)

    def complete(self, text: str, limit: int = 10) -> list[Match]:
        """Whom somebody who typed this may mean: names with a word that begins like this, then addresses."""
        wanted = text.casefold().strip()
        if not wanted:
            return []
        number = dialable(text)
        by_name: list[Match] = []
        by_address: list[Match] = []
        for contact in self.all:
            name = contact.name.casefold()
            named = name.startswith(wanted) or f" {wanted}" in name
            for reach in contact.reaches:
                if named:
                    by_name.append(Match(contact, reach))
                elif reach.address.partition(":")[2].startswith(wanted) or (number and number in reach.address):
                    by_address.append(Match(contact, reach))
        return [*by_name, *by_address][:limit]

    def _index(self) -> None:
        self._exact, self._endings = {}, {}
        for contact in self._contacts:
            for reach in contact.reaches:
                for key in _keys(reach.address):
                    self._exact.setdefault(key, contact)
                    if ending := _ending(key):
                        other = self._endings.setdefault(ending, contact)
                        if other is not contact:
                            self._endings[ending] = None


def read_text(path: Path) -> str:
    """A file of vCards. Raises ContactsError."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as exc:
        raise ContactsError(f"{path}: cannot be read: {exc.strerror}") from exc
    if len(data) > LARGEST:
        raise ContactsError(f"{path}: has more than {LARGEST} bytes: split it")
    return data.decode("utf-8", "replace").removeprefix("\ufeff")


def _keys(address: str) -> list[str]:
    """What an address is looked up by: ``user@host`` and, where the user is one, the number."""
    if number := dialable(address):
        return [number]
    try:
        uri = parse_uri(address)
    except SipParseError:
        return []
    if isinstance(uri, TelUri):
        return [dialable(uri.number)]
    if not isinstance(uri, SipUri) or not uri.user:
        return []
    user = unescape(uri.user)
    number = dialable(user.partition(";")[0])
    return [f"{user}@{uri.host}".casefold(), *([number] if number else [])]


def _ending(key: str) -> str:
    digits = key.lstrip("+")
    return digits[-SIGNIFICANT:] if len(digits) >= SIGNIFICANT and digits.isdigit() else ""
