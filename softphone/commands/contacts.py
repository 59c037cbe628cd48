"""``softphone contacts``: list, find, import, export, remove."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from softphone.commands.common import complain, json_option, say, say_json
from softphone.exit_code import ExitCode
from softphone.paths import contacts_file
from softphone.people.contacts import Contacts, read_text
from softphone.people.vcard import Contact, print_cards

if TYPE_CHECKING:
    from softphone.commands.common import Commands

SHOWN = 20
"Problems of an import that are told."


def add(commands: Commands) -> None:
    parser = commands.add_parser("contacts", help="the address book (vCards): list, find, import, export, remove")
    parser.add_argument("--file", type=Path, help="default: ~/.local/share/roamphone/contacts.vcf")
    inner = parser.add_subparsers(dest="contacts_command", required=True, metavar="COMMAND")
    listing = inner.add_parser("list", help="everybody")
    json_option(listing)
    listing.set_defaults(run=lambda options: _show(options, list(_contacts(options).all)))
    finding = inner.add_parser("find", help="whose number or address this is, or whose name begins like this")
    finding.add_argument("text")
    json_option(finding)
    finding.set_defaults(run=find)
    importing = inner.add_parser("import", help="adds the vCards (3.0, 4.0) of a file")
    importing.add_argument("cards", type=Path, metavar="FILE")
    importing.set_defaults(run=take)
    exporting = inner.add_parser("export", help="writes all as vCards 4.0 to stdout")
    exporting.set_defaults(run=export)
    removing = inner.add_parser("remove", help="takes somebody out")
    removing.add_argument("name")
    removing.set_defaults(run=remove)


def _contacts(options: argparse.Namespace) -> Contacts:
    contacts = Contacts(options.file or contacts_file())
    _complain(contacts.problems)
    return contacts


def _show(options: argparse.Namespace, found: list[Contact]) -> int:
    for contact in found:
        if options.json:
            say_json(dataclasses.asdict(contact) | {"reaches": [reach._asdict() for reach in contact.reaches]})
        else:
            say(f"{contact.name:30} {', '.join(reach.address for reach in contact.reaches)}".rstrip())
    return ExitCode.OK if found else ExitCode.FAILURE


def find(options: argparse.Namespace) -> int:
    """Fails when nobody is found."""
    contacts = _contacts(options)
    exact = contacts.who(options.text)
    matches = (match.contact for match in contacts.complete(options.text, 1000))
    return _show(options, [exact] if exact is not None else list(dict.fromkeys(matches)))


def take(options: argparse.Namespace) -> int:
    """What cannot be read is told and passed over."""
    contacts = _contacts(options)
    done = contacts.take(read_text(options.cards))
    contacts.save()
    _complain(done.problems)
    say(f"{done.added} added, {done.replaced} replaced, {len(done.problems)} problems")
    return ExitCode.OK if done.added or done.replaced else ExitCode.FAILURE


def export(options: argparse.Namespace) -> int:
    sys.stdout.write(print_cards(_contacts(options).all))
    return ExitCode.OK


def remove(options: argparse.Namespace) -> int:
    """Fails when there is nobody of that name."""
    contacts = _contacts(options)
    if not contacts.remove(options.name):
        complain(f"there is nobody called {options.name!r}")
        return ExitCode.FAILURE
    contacts.save()
    return ExitCode.OK


def _complain(problems: tuple[str, ...]) -> None:
    for problem in problems[:SHOWN]:
        complain(problem)
    if len(problems) > SHOWN:
        complain(f"and {len(problems) - SHOWN} more")
