"""Contacts: vCards of other programs, names for numbers, completion, the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softphone.cli import main
from softphone.people.contacts import Contacts, ContactsError
from softphone.people.vcard import FOLD, Contact, Reach, dialable, parse_cards, print_cards

CARDS = """BEGIN:VCARD\r
VERSION:3.0\r
N:Doe;Jane;;;\r
FN:Jane Doe\\, PhD\r
TEL;TYPE=WORK,VOICE:+49 (30) 123-45 67\r
item1.TEL;TYPE="cell":0171/2345678\r
IMPP;X-SERVICE-TYPE=SIP;TYPE=home:sip:jane@\r
 example.org;transport=tls\r
IMPP:xmpp:jane@example.org\r
PHOTO;ENCODING=b;TYPE=JPEG:AAAA\r
UID:jane-1\r
END:VCARD\r
BEGIN:VCARD
VERSION:4.0
FN:Bob
TEL;VALUE=uri;TYPE="voice,home":tel:+1-201-555-0123;ext=5
X-SIP:bob@example.org
END:VCARD
"""


def test_cards_of_both_versions() -> None:
    cards = parse_cards(CARDS)
    assert not cards.problems
    jane, bob = cards.contacts
    assert jane == Contact(
        "Jane Doe, PhD",
        (
            Reach("+49301234567", "work"),
            Reach("01712345678", "cell"),
            Reach("sip:jane@example.org;transport=tls", "home"),
        ),
        "jane-1",
    )
    assert bob.reaches[1] == Reach("sip:bob@example.org")
    assert bob.reaches[0].address == "+12015550123"
    assert parse_cards(print_cards(cards.contacts)) == (cards.contacts, ())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("BEGIN:VCARD\nVERSION:2.1\nFN:X\nEND:VCARD", "line 4: the card has version '2.1'"),
        ("BEGIN:VCARD\nVERSION:4.0\nEND:VCARD", "line 3: the card has no name"),
        ("BEGIN:VCARD\nVERSION:4.0\nFN:X", "does not end"),
        ("BEGIN:VCARD\nBEGIN:VCARD\nVERSION:4.0\nFN:X\nEND:VCARD", "line 2: the card before does not end"),
        ("FN:X", "line 1: is in no card"),
        ("BEGIN:VCARD\nVERSION:4.0\nFN:X\nTEL:none\nEND:VCARD", "line 4: 'none' is no number"),
        ("BEGIN:VCARD\nVERSION:4.0\nFN:X\nIMPP:sip:[\nEND:VCARD", "line 4: "),
        ('BEGIN:VCARD\nVERSION:4.0\nFN;X="a:b\nEND:VCARD', "line 3: "),
        ("\x00\xff", "line 1: "),
    ],
)
def test_what_cannot_be_read_is_told(text: str, problem: str) -> None:
    assert problem in " ".join(parse_cards(text).problems)


@given(st.text(max_size=300))
def test_any_text_is_read_or_told(text: str) -> None:
    parse_cards(text)
    parse_cards(f"BEGIN:VCARD\nVERSION:4.0\nFN:x\n{text}\nEND:VCARD")


@given(st.text(min_size=1, max_size=190).filter(lambda text: text.isprintable() and text == text.strip()))
def test_any_name_comes_back(name: str) -> None:
    printed = print_cards((Contact(name, (Reach("123"),)),))
    assert all(len(line.encode()) <= FOLD for line in printed.split("\r\n"))
    (back,) = parse_cards(printed).contacts
    assert back.name == name


def test_hostile_sizes_take_no_time() -> None:
    cards = parse_cards("BEGIN:VCARD\nVERSION:4.0\nFN:" + "x" * 3_000_000 + "\nFN:y\n" + "TEL:1\n" * 1000 + "END:VCARD")
    assert cards.contacts == (Contact("y", (Reach("1"),)),)
    parse_cards("A;" * 500_000)


def test_numbers_as_people_write_them() -> None:
    assert dialable("+49 (0)30 / 12-34") == "+490301234"
    assert dialable("*97#") == "*97#"
    assert [dialable(text) for text in ("alice", "", "+", "1" * 41, "1;2")] == [""] * 5


def test_who_calls(tmp_path: Path) -> None:
    contacts = Contacts(tmp_path / "contacts.vcf")
    assert contacts.take(CARDS) == (2, 0, ())
    for address in (
        "+49301234567",
        "sip:030-1234567@pbx.example",
        "sip:+49301234567@x;user=phone",
        "sip:jane@EXAMPLE.org",
    ):
        found = contacts.who(address)
        assert found is not None, address
        assert found.name.startswith("Jane")
    assert [contacts.who(each) for each in ("4567", "sip:jane@example.com", "tel:+491", "nonsense:", "")] == [None] * 5
    contacts.add(Contact("Jim", (Reach("0049301234567"),)))
    exact = contacts.who("0049301234567")
    assert exact is not None
    assert exact.name == "Jim"
    assert contacts.who("030-1234567") is None  # of whom?


def test_completion(tmp_path: Path) -> None:
    contacts = Contacts(tmp_path / "contacts.vcf")
    contacts.take(CARDS)
    assert [str(match) for match in contacts.complete("bo")] == ["Bob <+12015550123>", "Bob <sip:bob@example.org>"]
    assert {match.contact.name for match in contacts.complete("DOE")} == {"Jane Doe, PhD"}
    assert [match.reach.address for match in contacts.complete("0171 23")] == ["01712345678"]
    assert [match.reach.address for match in contacts.complete("jane@")] == ["sip:jane@example.org;transport=tls"]
    assert len(contacts.complete("a", 1)) <= 1
    assert contacts.complete(" ") == []


def test_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "contacts.vcf"
    contacts = Contacts(path)
    contacts.take(CARDS)
    contacts.save()
    assert path.stat().st_mode & 0o777 == 0o600
    again = Contacts(path)
    assert again.all == contacts.all
    assert again.add(Contact("Jane", (), "jane-1"), Contact("Bob", (Reach("1"),)), Contact("Bob")) == (0, 3)
    assert again.remove("Jane") == 1
    assert [contact.name for contact in again.all] == ["Bob"]
    monkeypatch.setattr("softphone.people.contacts.MOST", 1)
    with pytest.raises(ContactsError, match="2 contacts"):
        again.add(Contact("X"))
    assert len(again) == 1
    with pytest.raises(ContactsError, match="cannot be read"):
        Contacts(tmp_path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> int:
        return main(["contacts", "--file", str(tmp_path / "c.vcf"), *arguments])

    (tmp_path / "in.vcf").write_text(CARDS + "BEGIN:VCARD\nVERSION:2.1\nEND:VCARD\n")
    assert run("import", str(tmp_path / "in.vcf")) == 0
    told = capsys.readouterr()
    assert "2 added, 0 replaced, 1 problems" in told.out
    assert re.search(r"line \d+: the card has version '2.1'", told.err)
    assert run("find", "030 1234567", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["reaches"][0]["kind"]) == ("Jane Doe, PhD", "work")
    assert run("find", "nobody") == 1
    assert run("remove", "Bob") == 0
    assert run("remove", "Bob") == 1
    assert run("list") == 0
    assert "Bob" not in capsys.readouterr().out
    assert run("export") == 0
    assert len(parse_cards(capsys.readouterr().out).contacts) == 1
    assert run("import", str(tmp_path / "missing.vcf")) == 1
