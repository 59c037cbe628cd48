"""The screens look as they did. Where a change is wanted: `make screenshots`, and look at what git shows."""

from __future__ import annotations

import asyncio

import pytest

from tests.ui.still import NAMES, in_utc, on_screen, path_of, snapshot
from tests.ui.support import SIZES


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", NAMES)
def test_a_screen_looks_as_it_did(name: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    in_utc()

    async def look() -> str:
        async with on_screen(name, size) as app:
            return snapshot(app)

    assert asyncio.run(look()) == path_of(name, size).read_text()
