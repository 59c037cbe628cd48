"""A configuration read anew: what differs, and the process that finds it out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobility.config import Configuration, ConfigurationError, parse
from mobility.net.loop import Loop
from mobility.reading import Difference, Reading, applied, difference

PATH = Path("/nowhere/ha.toml")


HEAD = '[node]\nrole = "ha"\n[home_agent]\naddress = "2001:db8:1::ffff/64"\ninterface = "eth0"\n'


def text(terminals: dict[int, tuple[int, bool]], rest: str = "") -> str:
    """Terminals by number: with keys of this number, admitted or not."""
    tables = ""
    for number, (key, admitted) in terminals.items():
        home = f'"2001:db8:1::{number:x}"'
        out, back = (_association(number * 2 + way, key) for way in (1, 2))
        tables += (
            f'[[home_agent.terminal]]\nhome_address = {home}\ntunnel = "plain"\nadmitted = {str(admitted).lower()}\n'
            f'[[association]]\nname = "n{number}"\nuse = "signalling"\npeer = {home}\n'
            f"outbound = {out}\ninbound = {back}\n"
        )
    return HEAD + rest + tables


def _association(number: int, key: int) -> str:
    material = bytes([key, number]).hex() + "00" * 30
    return f'{{ spi = {0x1000 + number}, algorithm = "null-hmac-sha2-256-128", authentication = "{material}" }}'


def read(terminals: dict[int, tuple[int, bool]], rest: str = "") -> Configuration:
    return parse(text(terminals, rest), PATH)


def comparable(configuration: Configuration) -> tuple[object, ...]:
    """Without the order of terminals, which means nothing."""
    assert configuration.home_agent is not None
    terminals = {each.home_address: each for each in configuration.home_agent.terminals}
    return terminals, {(each.use, each.peer): each for each in configuration.associations}, configuration.interfaces


terminals_of_any_kind = st.dictionaries(st.integers(1, 9), st.tuples(st.integers(0, 2), st.booleans()), max_size=6)


@given(terminals_of_any_kind, terminals_of_any_kind)
def test_the_difference_makes_the_new_one_of_the_old(
    before: dict[int, tuple[int, bool]], after: dict[int, tuple[int, bool]]
) -> None:
    old, new = read(before), read(after)
    found = difference(old, new)
    made = applied(old, found)
    assert comparable(made) == comparable(new)
    assert len(found.terminals) == sum(before.get(number) != value for number, value in after.items())
    assert len(found.removed) == len(before.keys() - after.keys())
    again = difference(made, new)
    assert (again.terminals, again.pairs, again.removed) == ((), (), frozenset())


@pytest.mark.parametrize(
    ("rest", "key"),
    [
        ("max_lifetime = 80\n", "home_agent.max_lifetime"),
        ("overlap = 2.0\n", "home_agent.overlap"),
        ('[store]\nkind = "none"\n', "store"),
        ('[log]\nformat = "json"\n', "log"),
    ],
)
def test_what_cannot_be_changed_is_named(rest: str, key: str) -> None:
    with pytest.raises(ConfigurationError, match=f"needs a restart, and nothing has changed: {key}$"):
        difference(read({}), read({}, rest))


class Asked:
    """A reading of a real file, in a loop."""

    def __init__(self, path: Path, before: Configuration) -> None:
        self.loop = Loop()
        self.answers: list[Difference | str] = []
        self.reading = Reading(self.loop, before, self.answers.append)

    def answer(self) -> Difference | str:
        for _ in range(200):
            if self.answers:
                assert not self.loop.failures
                return self.answers[0]
            self.loop.turn(0.1)
        raise AssertionError("no answer")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "ha.toml"
    file.touch(mode=0o600)
    return file


def at(path: Path, terminals: dict[int, tuple[int, bool]]) -> Configuration:
    return parse(text(terminals), path)


def test_a_process_finds_the_difference(path: Path) -> None:
    before, after = {1: (1, True), 2: (1, True)}, {2: (2, True), 3: (1, False)}
    path.write_text(text(after))
    found = Asked(path, at(path, before)).answer()
    assert isinstance(found, Difference)
    assert [str(each.home_address)[-1] for each in found.terminals] == ["2", "3"]
    assert [str(home)[-1] for home in found.removed] == ["1"]


def test_a_wrong_file_is_told(path: Path) -> None:
    path.write_text("nonsense")
    answer = Asked(path, at(path, {})).answer()
    assert isinstance(answer, str)
    assert "is not TOML" in answer
    path.unlink()
    assert "cannot be read" in str(Asked(path, at(path, {})).answer())


def test_a_reading_that_is_given_up_says_nothing(path: Path) -> None:
    asked = Asked(path, at(path, {}))
    asked.reading.close()
    asked.reading.close()
    asked.loop.turn(0.05)
    assert asked.answers == []
