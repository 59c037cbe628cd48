"""Scenarios of third parties: found by their entry points; bad ones do not stop the terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import invalidate_caches
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from mobility.assembly import build
from mobility.config import ConfigurationError
from mobility.discards import Discard, Reason
from mobility.extensions import Guarded, scenarios_of_third_parties
from mobility.outputs import Output, Transmit
from mobility.scenario.policy import SCENARIOS, ScenarioPolicy
from mobility.scenario.situation import Situation, Tunnels
from mobility.sequences import SequenceFile
from mobility.terminal import Terminal

from .configurations import MN, PAIRS
from .installed import EXAMPLE, install, install_example
from .test_assembly import interfaces, read
from .test_scenario import Recorder, situation

GOOD = """
class Mine:
    number = 10600
    substance = "mine"
    def applies(self, situation):
        return not situation.under_ipsec
    def acknowledged(self, situation, tunnels):
        return []
def make():
    return Mine()
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in which packages are found."""
    before = set(sys.modules)
    directory = tmp_path / "packages"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))
    invalidate_caches()
    yield directory
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(directory)):
            del sys.modules[name]


def test_the_example_of_the_documentation(packages: Path) -> None:
    install_example(packages)
    found = scenarios_of_third_parties()
    assert found.refused == ()
    assert [scenario.number for scenario in found.scenarios] == [10500]
    policy, recorder = ScenarioPolicy((*SCENARIOS, *found.scenarios)), Recorder()
    assert policy.choose(situation()).number == 10020  # the lowest number that fits
    policy.enable(10020, False)
    handed_on = policy.choose(situation())
    assert handed_on.number == 10500
    policy.process(handed_on, recorder)
    assert recorder.tunnels == [(handed_on.situation.acknowledger, handed_on.situation.care_of_address)]
    with pytest.raises(Discard, match="administratively-prohibited"):
        policy.process(policy.choose(situation(status=129)), recorder)
    with pytest.raises(Discard, match=r"10020 \(no translation \(IPsec\)\) would fit but is disabled"):
        policy.choose(elsewhere())


def elsewhere() -> Situation:
    return replace(situation(), care_of_address=IPv6Address("2001:db8:ffff::1"))


def test_the_documentation_shows_the_example_as_it_is() -> None:
    text = (EXAMPLE.parents[1] / "docs" / "scenarios.md").read_text()
    for name in ("pyproject.toml", "roamphone_company_networks.py"):
        assert (EXAMPLE / name).read_text().strip() in text


def test_a_function_and_an_order_that_is_always_the_same(packages: Path) -> None:
    install(packages, "zebra", "1", {"z": "zebra:make"}, GOOD)
    install(packages, "aardvark", "2", {"a": "aardvark:Mine"}, GOOD)
    found = scenarios_of_third_parties()
    assert [scenario.number for scenario in found.scenarios] == [10600]
    (why,) = found.refused
    assert why == (
        "the scenario of zebra 1 (z) is not used: the number 10600 is taken by aardvark 2 (a); choose a free one"
    )


BAD = {
    "number of ours": (GOOD.replace("10600", "10020"), "the number 10020 is taken by this product; choose a free one"),
    "no number": (GOOD.replace("number = 10600", ""), "its number is None; it has to be one from 1 to 65535"),
    "number is a text": (GOOD.replace("10600", "'10600'"), "its number is '10600'; it has to be one"),
    "number is a truth": (GOOD.replace("10600", "True"), "its number is True; it has to be one"),
    "number too large": (GOOD.replace("10600", "65536"), "its number is 65536; it has to be one"),
    "no substance": (GOOD.replace('"mine"', '" "'), "its substance is ' '; it has to say in one line"),
    "substance of two lines": (GOOD.replace('"mine"', '"a\\nb"'), "it has to say in one line"),
    "no method": (GOOD.replace("def applies", "def apply"), "has no method applies; see docs/scenarios.md"),
    "not importable": ("import nowhere_to_be_found", "cannot be imported: ModuleNotFoundError: No module named"),
    "ends the program": ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
    "no such name": ("", "cannot be imported: AttributeError"),
    "not callable": ("make = 3", "is neither a class nor a function that makes a scenario"),
    "raises when made": ("def make():\n    raise OSError('no file')", "makes no scenario: OSError: no file"),
    "wants arguments": ("def make(x):\n    pass", "makes no scenario: TypeError"),
    "makes nothing": ("def make():\n    pass", "has no method applies"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_ones_are_refused_by_name_and_the_others_work(
    name: str, packages: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text, why = BAD[name]
    install(packages, "broken", "0.1", {"b": "broken:make"}, text)
    install(packages, "good", "1", {"g": "good:make"}, GOOD.replace("10600", "10601"))
    with caplog.at_level(logging.WARNING):
        found = scenarios_of_third_parties()
    assert [scenario.number for scenario in found.scenarios] == [10601]
    (told,) = found.refused
    assert told.startswith("the scenario of broken 0.1 (b) is not used: ")
    assert why in told
    assert caplog.messages == [told]


class Faulty:
    """Fails wherever it is asked."""

    number = 10700
    substance = "faulty"

    def __init__(self, outputs: object = None) -> None:
        self.outputs = outputs

    def applies(self, situation: Situation) -> bool:
        raise ZeroDivisionError("once more")

    def acknowledged(self, situation: Situation, tunnels: Tunnels) -> list[Output]:
        if self.outputs is None:
            raise KeyError("nothing")
        return self.outputs  # type: ignore[return-value]


def test_a_scenario_that_fails_does_not_stop_the_terminal(caplog: pytest.LogCaptureFixture) -> None:
    guarded = Guarded(Faulty(), "a package")
    for _ in range(3):
        assert guarded.applies(situation()) is False
    assert caplog.messages == ["scenario 10700 of a package failed in applies: ZeroDivisionError: once more"]
    for outputs in (None, 5, [Transmit(b"", b"", "eth0")]):
        with pytest.raises(Discard) as caught:
            Guarded(Faulty(outputs), "a package").acknowledged(situation(), Recorder())
        assert caught.value.reason is Reason.SCENARIO_FAILED
        assert caught.value.detail.startswith("a package: ")


@pytest.fixture
def sequences(tmp_path: Path) -> Iterator[SequenceFile]:
    made = SequenceFile(tmp_path / "state" / "sequences")
    made.open()
    yield made
    made.close()


def test_a_terminal_with_packages_good_and_bad(packages: Path, sequences: SequenceFile) -> None:
    install_example(packages)
    wanted = read(MN.replace("interfaces", "scenarios = [10020, 10500, 10600]\ninterfaces") + PAIRS)
    with pytest.raises(ConfigurationError, match="there is no scenario 10600; choose one of"):
        build(wanted, interfaces(wanted), sequences)
    install(packages, "broken", "1", {"b": "broken:make"}, "import nowhere_to_be_found")
    terminal = build(wanted, interfaces(wanted), sequences)
    assert isinstance(terminal, Terminal)
    enabled = [row["number"] for row in terminal.scenarios.snapshot() if row["status"] == "enabled"]
    assert enabled == [10020, 10500]  # 10600 may have been that of the package that is broken
