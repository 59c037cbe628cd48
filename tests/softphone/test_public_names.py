"""What ``from softphone import ...`` offers."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import softphone
from softphone import events


def imported() -> dict[str, str]:
    """What type checkers see: name -> module."""
    tree = ast.parse(Path(softphone.__file__).read_text())
    return {
        alias.name: node.module or ""
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_every_name_is_what_type_checkers_think() -> None:
    assert sorted(imported()) == sorted(softphone.__all__)
    for name, module in imported().items():
        assert getattr(softphone, name) is getattr(importlib.import_module(module), name)
    assert set(softphone.__all__) <= set(dir(softphone))


def test_every_event_is_public() -> None:
    kinds = {name for name, kind in vars(events).items() if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert kinds <= set(softphone.__all__)


def test_other_names_are_no_secret() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Gramophone'"):
        softphone.Gramophone  # noqa: B018


def test_to_import_it_costs_nothing() -> None:
    code = (
        "import sys, softphone; print([n for n in sys.modules if n.startswith('softphone.') or n in ('av', 'numpy')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
