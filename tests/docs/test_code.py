"""Every piece of Python in the documentation is Python, and imports what is there."""

from __future__ import annotations

import ast
import importlib

import pytest

import softphone
from tests.docs.blocks import DOCS, Block, blocks

PYTHON = [
    pytest.param(block, id=f"{page.name}:{block.line}")
    for page in sorted(DOCS.glob("*.md"))
    for block in blocks(page)
    if block.language == "python" and page.name != "design.md"  # sketches
]


@pytest.mark.parametrize("block", PYTHON)
def test_it_can_be_compiled_and_its_imports_exist(block: Block) -> None:
    tree = compile(block.text, "block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in (
            "mobility", "roamphone_pytest", "softphone",
        ):  # fmt: skip
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_the_reference_has_every_public_name() -> None:
    listed = [
        line.removeprefix(".. autoclass:: ")
        for line in (DOCS / "reference.md").read_text().splitlines()
        if line.startswith(".. autoclass:: ")
    ]
    assert sorted(listed) == sorted(softphone.__all__)
