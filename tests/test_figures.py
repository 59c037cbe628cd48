"""`docs/figures.md` names functions and tests that exist, and forgets no step of the source."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "figures.md"

STEPS = {
    # As the source's text names them; it has no step 65, and Fig. 12 has none that translates.
    "Fig. 9": [61, 62, 63, 64, 66, 67],
    "Fig. 10": list(range(501, 518)),
    "Fig. 12": [501, 502, 503, 504, 505, 506, 508, 509, 510, 512, 513, 515, 516, 517],
    "Fig. 13": list(range(71, 78)),
    "Fig. 15": [61, 62, 67, 81, 82, 83, 84, 85],
    "Fig. 16": [61, 62, 67, 91, 92, 93, 94],
    "Fig. 17": list(range(101, 113)),
    "Fig. 18": list(range(121, 132)),
    "Fig. 19": [501, 502, 503, *range(505, 518), 521, 522],
    "Fig. 20": list(range(531, 546)),
    "Fig. 21": [501, 502, 503, 505, 506, 507, 508, *range(510, 515), 521, 522, *range(551, 557)],
    "Fig. 22": [501, 502, 503, 505, 506, 507, 508, 511, 512, 513, 514, 521, 522, 552, 553, 554, 555, 557, 558],
    "Fig. 24": [501, 502, 503, 505, 506, 510, 515, 521, 522, *range(561, 569), 570, 571, 574, 575],
    "Fig. 25": [501, 502, 503, 505, 506, 510, 521, 522, *range(561, 574), 575, 581, 582],
    "Fig. 26": [501, 502, 503, 505, 506, 521, 522, *range(561, 574), 575, 583, 584],
    "Fig. 30": [61, 67, *range(95, 100)],
    "Fig. 31": list(range(601, 614)),
    "Fig. 32": [*range(601, 610), *range(621, 625)],
    "Fig. 33": [*range(601, 610), *range(631, 635)],
    # Reference signs: what the text says in order has no step numbers there.
    "Fig. 35": [313, 314, 315],
    "Fig. 36": [351, 352, 353],
    "Fig. 39": list(range(701, 713)),
}


def rows() -> dict[str, list[list[str]]]:
    """The cells of every row, by figure."""
    found: dict[str, list[list[str]]] = {}
    figure = ""
    for line in TABLE.read_text().splitlines():
        if line.startswith("## "):
            figure = line.removeprefix("## ")
            found[figure] = []
        elif line.startswith("| ") and not line.startswith("| step "):
            found[figure].append([cell.strip() for cell in line.strip("|").split("|")])
    return found


FOUND = rows()
FUNCTIONS = sorted({row[2].strip("`") for figure in FOUND.values() for row in figure})
TESTS = sorted({row[3].strip("`") for figure in FOUND.values() for row in figure})


def test_no_step_is_missing() -> None:
    assert {figure: sorted(int(row[0]) for row in of_it) for figure, of_it in FOUND.items()} == STEPS
    assert all(len(row) == 5 and row[1] for of_it in FOUND.values() for row in of_it)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_exists(name: str) -> None:
    module, *inside = name.split(".")
    thing: object = import_module(module)
    for part in inside:
        module = f"{module}.{part}"
        thing = getattr(thing, part) if hasattr(thing, part) else import_module(module)
    assert callable(thing)


@pytest.mark.parametrize("name", TESTS)
def test_test_exists(name: str) -> None:
    path, _, test = name.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert test.startswith("test_")
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
