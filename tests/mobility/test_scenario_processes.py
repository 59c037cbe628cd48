"""The scenario policy table of a terminal as users run it, with a scenario that a package brings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .installed import install, install_example
from .running import Nodes, mobility, running

pytestmark = [pytest.mark.root, pytest.mark.interop]


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    install_example(tmp_path)
    install(tmp_path, "broken", "0.1", {"b": "broken:make"}, "import nowhere_to_be_found")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with running(f"rnsc-{os.getpid()}") as made:
        yield made


def in_use(nodes: Nodes) -> list[int]:
    node = nodes.status("mn")["node"]
    assert isinstance(node, dict)
    return [row["number"] for row in node["scenarios"] if row["in_use"]]


def test_a_table_that_users_change(nodes: Nodes) -> None:
    where = ["--runtime", str(nodes.nodes.runtime("mn"))]
    assert (
        "the scenario of broken 0.1 (b) is not used: broken:make cannot be imported"
        in nodes.nodes.log("mn").read_text()
    )
    listed = mobility("scenario", "list", *where)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "10020   enabled   yes     no translation (IPsec)\n" in listed.stdout
    assert "10500   enabled   -       IPsec, from networks of the company only\n" in listed.stdout

    changed = mobility("scenario", "disable", "10020", *where)  # the terminal is in a network of the company
    assert changed.returncode == 0
    assert "10500   enabled   yes     IPsec, from networks of the company only\n" in changed.stdout
    assert nodes.round_trip(2) < 2
    assert in_use(nodes) == [10500]

    gone = mobility("scenario", "disable", "10500", *where)
    assert gone.returncode == 0
    assert "and 10500 (IPsec, from networks of the company only) would fit but are disabled" in gone.stdout
    assert "scenario   none: no enabled scenario" in mobility("status", *where).stdout
    with pytest.raises(AssertionError, match="nothing came back"):
        nodes.round_trip(0.5)
    assert in_use(nodes) == []

    back = mobility("scenario", "enable", "10020", *where)
    assert "10020   enabled   yes     no translation (IPsec)\n" in back.stdout
    assert nodes.round_trip(2) < 2
    counters = json.loads(mobility("status", "--json", *where).stdout)["counters"]
    assert counters["discards"]["scenario-disabled"] >= 1
    assert counters["internal_errors"] == {}

    refused = mobility("scenario", "enable", "7", *where)
    assert (refused.returncode, refused.stderr[:32]) == (1, "mobility: there is no scenario 7")
    elsewhere = mobility("scenario", "list", "--runtime", str(nodes.nodes.runtime("ha")))
    assert elsewhere.returncode == 1
    assert "it is no terminal" in elsewhere.stderr
