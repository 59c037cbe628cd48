"""History, contacts and messages, for clients of the daemon."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path

from softphone.accounts.settings import parse_address
from softphone.calls.call import Call
from softphone.daemon.operations import Ground, Operation
from softphone.daemon.protocol import Arguments, RequestError
from softphone.events import Event, MessageReceived, MessageSent
from softphone.people.contacts import Contacts, ContactsError
from softphone.people.history import CallRecord, CallResult, History, HistoryError, MessageRecord
from softphone.people.vcard import Contact, Reach, dialable
from softphone.sip.errors import SipParseError
from softphone.sip.uri import SipUri

log = logging.getLogger(__name__)

MOST = 1000
"Entries of one answer."
CANDIDATES = 20
"Of one completion."


class People:
    """Who was called, who is known, what was written."""

    def __init__(self, ground: Ground, contacts: Path) -> None:
        self._ground = ground
        self._file = contacts
        self._contacts: Contacts | None = None
        self._read_at: tuple[int, int] | None = None
        self._changing = asyncio.Lock()
        self._notes: dict[tuple[str, str], str] = {}
        "Of calls that go on, by account and Call-ID."

    @property
    def operations(self) -> dict[str, Operation]:
        return {
            "message": self._message, "messages": self._messages, "history": self._history,
            "history-remove": self._remove, "contacts": self._find, "contact-save": self._save,
            "contact-remove": self._remove_contact, "complete": self._complete,
        }  # fmt: skip

    async def start(self) -> None:
        """Read the contacts where they have changed; a file that cannot be read is told in the log."""
        try:
            await self._read()
        except ContactsError as exc:
            log.warning("no names of contacts: %s", exc)

    def name_of(self, address: str) -> str:
        """Of a contact; empty: nobody has this address."""
        contact = None if self._contacts is None else self._contacts.who(address)
        return "" if contact is None else contact.name

    # -- history ------------------------------------------------------------------------------------------------------

    async def _history(self, arguments: Arguments) -> object:
        limit, before = _limit(arguments), arguments.number("before", 0)
        account, search, result = (arguments.optional(name) for name in ("account", "search", "result"))
        arguments.end()
        if result is not None and result not in set(CallResult):
            raise RequestError(f"there is no result {result!r}; there are {', '.join(CallResult)}")
        await self.start()
        entries = self._kept.calls(
            limit, account=account, search=search, before=before or None,
            result=None if result is None else CallResult(result),
        )  # fmt: skip
        return {"entries": [self._entry(entry) for entry in entries]}

    def _entry(self, record: CallRecord) -> dict[str, object]:
        return dataclasses.asdict(record) | {"contact": self.name_of(record.remote)}

    async def _remove(self, arguments: Arguments) -> object:
        number = arguments.number("entry", 0)
        arguments.end()
        if not self._kept.remove(number):
            raise RequestError(f"the history has no entry {number}")
        self._ground.tell("history-changed")
        return None

    def note_at_end(self, account: str, call: Call, text: str) -> None:
        """Keep it until the call is in the history."""
        key = account, call.id
        if key not in self._notes:
            call.on_end(lambda _: self._write_note(*key))
        self._notes[key] = text

    def _write_note(self, account: str, call_id: str) -> None:
        try:
            self._kept.note(account, call_id, self._notes.pop((account, call_id)))
        except (HistoryError, RequestError) as exc:
            log.warning("the note is lost: %s", exc)

    def note(self, account: str | None, call_id: str, text: str) -> None:
        """About a call that is over. Raises RequestError, HistoryError."""
        names = [account] if account is not None else list(self._ground.phones.configuration.entries)
        written = [self._kept.note(name, call_id, text) for name in names]
        if not any(written):
            raise RequestError(f"the history has no call {call_id!r}")
        self._ground.tell("history-changed")

    # -- messages -----------------------------------------------------------------------------------------------------

    async def _message(self, arguments: Arguments) -> object:
        target, text, account = arguments.text("target"), arguments.text("text"), arguments.optional("account")
        arguments.end()
        await self._ground.phone(account, target).message(target, text)
        return None

    async def _messages(self, arguments: Arguments) -> object:
        limit, account, peer = _limit(arguments), arguments.optional("account"), arguments.optional("peer")
        arguments.end()
        found = self._kept.messages(limit, account=account, peer=None if peer is None else _peer(peer))
        return {
            "messages": [dataclasses.asdict(message) | {"contact": self.name_of(message.peer)} for message in found]
        }

    def happened(self, account: str, event: Event) -> None:
        """Keep texts that came and went."""
        match event:
            case MessageReceived(remote, content_type, body) if not content_type or content_type.startswith("text/"):
                self._keep(MessageRecord(account, _peer(remote), True, body.decode("utf-8", "replace"), time.time()))
            case MessageSent(remote, text):
                self._keep(MessageRecord(account, _peer(remote), False, text, time.time()))
            case _:
                pass

    def _keep(self, message: MessageRecord) -> None:
        if self._ground.phones.history is None:
            return
        try:
            self._ground.phones.history.add_message(message)
        except HistoryError as exc:
            log.warning("the message is not in the history: %s", exc)

    @property
    def _kept(self) -> History:
        if self._ground.phones.history is None:
            raise RequestError("the daemon keeps no history")
        return self._ground.phones.history

    # -- contacts -----------------------------------------------------------------------------------------------------

    async def _find(self, arguments: Arguments) -> object:
        search = (arguments.optional("search") or "").casefold()
        limit = _limit(arguments)
        arguments.end()
        contacts = await self._read()
        found = [
            contact
            for contact in contacts.all
            if search in contact.name.casefold() or any(search in reach.address.casefold() for reach in contact.reaches)
        ]
        return {"contacts": [_shown(contact) for contact in found[:limit]], "total": len(found)}

    async def _save(self, arguments: Arguments) -> object:
        """Another contact, or in place of the one called ``instead_of``, or of the one with the same name or UID."""
        name, uid, instead_of = arguments.text("name"), arguments.optional("uid"), arguments.optional("instead_of")
        reaches = tuple(_reach(value) for value in arguments.tables("reaches"))
        arguments.end()
        contact = Contact(" ".join(name.split()), reaches, uid or "")

        def change(contacts: Contacts) -> None:
            if instead_of is not None and instead_of != contact.name and not contacts.remove(instead_of):
                raise RequestError(f"there is nobody called {instead_of!r}")
            contacts.add(contact)

        await self._change(change)
        return None

    async def _remove_contact(self, arguments: Arguments) -> object:
        name = arguments.text("name")
        arguments.end()

        def change(contacts: Contacts) -> None:
            if not contacts.remove(name):
                raise RequestError(f"there is nobody called {name!r}")

        await self._change(change)
        return None

    async def _complete(self, arguments: Arguments) -> object:
        """Whom somebody who typed this may want to reach: contacts, then who is in the history."""
        text = arguments.any_text("text").strip()
        arguments.end()
        await self.start()
        found: dict[str, dict[str, object]] = {}
        for match in [] if self._contacts is None else self._contacts.complete(text, CANDIDATES):
            label = f"{match.contact.name} ({match.reach.kind})" if match.reach.kind else match.contact.name
            found[match.reach.address] = {"target": match.reach.address, "label": label, "source": "contact"}
        history = self._ground.phones.history
        for entry in [] if history is None else history.calls(200, search=text or None):
            label = self.name_of(entry.remote) or entry.name or entry.remote
            found.setdefault(entry.remote, {"target": entry.remote, "label": label, "source": "history"})
        return {"candidates": list(found.values())[:CANDIDATES]}

    async def _change(self, change: Callable[[Contacts], None]) -> None:
        async with self._changing:
            self._contacts, self._read_at = await asyncio.to_thread(self._changed, change), None
        self._ground.tell("contacts-changed")

    def _changed(self, change: Callable[[Contacts], None]) -> Contacts:
        contacts = Contacts(self._file)
        change(contacts)
        contacts.save()
        return contacts

    async def _read(self) -> Contacts:
        """As the file is now: other programs may change it. Raises ContactsError."""
        stamp = self._stamp()
        if self._contacts is None or stamp != self._read_at:
            self._contacts = await asyncio.to_thread(Contacts, self._file)
            self._read_at = stamp
        return self._contacts

    def _stamp(self) -> tuple[int, int]:
        try:
            found = self._file.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size


def _limit(arguments: Arguments) -> int:
    limit = arguments.number("limit", 100)
    if not 1 <= limit <= MOST:
        raise RequestError(f"limit has to be from 1 to {MOST}")
    return limit


def _peer(address: str) -> str:
    """So that what comes from somebody and what goes there have the same."""
    try:
        return str(SipUri.parse(address if ":" in address.partition("@")[0] else f"sip:{address}").bare())
    except SipParseError:
        return address


def _shown(contact: Contact) -> dict[str, object]:
    return {"name": contact.name, "uid": contact.uid, "reaches": [reach._asdict() for reach in contact.reaches]}


def _reach(values: Arguments) -> Reach:
    address, kind = values.text("address"), values.any_text("kind", "")
    values.end()
    try:
        return Reach(dialable(address) or str(parse_address(address).bare()), kind)
    except ValueError:
        raise RequestError(f"{address!r} is no number and no SIP address") from None
