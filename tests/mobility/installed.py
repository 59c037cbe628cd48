"""Packages as pip would install them, in a directory of their own."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "scenario"


def install(directory: Path, name: str, version: str, points: dict[str, str], text: str | None = None) -> None:
    """The metadata of a package with these entry points of `roamphone.scenarios`; ``text``: of the module ``name``."""
    info = directory / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")
    lines = "".join(f"{key} = {value}\n" for key, value in points.items())
    (info / "entry_points.txt").write_text(f"[roamphone.scenarios]\n{lines}")
    if text is not None:
        (directory / f"{name}.py").write_text(text)


def install_example(directory: Path) -> None:
    """What docs/scenarios.md shows, as its own pyproject.toml describes it."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    install(
        directory,
        project["project"]["name"].replace("-", "_"),
        project["project"]["version"],
        project["project"]["entry-points"]["roamphone.scenarios"],
    )
    for module in project["tool"]["setuptools"]["py-modules"]:
        shutil.copy(EXAMPLE / f"{module}.py", directory)
