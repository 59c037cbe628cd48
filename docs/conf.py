"""How Sphinx builds the documentation: `make docs`. Markdown is read by MyST, the reference is made of docstrings."""

from __future__ import annotations

from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

project = "roamphone"
author = "the roamphone developers"
version = release = version_of("roamphone")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
exclude_patterns = ["_build"]

# `Name` in docstrings is code, wherever it leads.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_display_short_literal_types = True

html_theme = "alabaster"
html_title = "roamphone"
html_theme_options = {
    "description": "A SIP softphone whose calls go on when the network changes",
    "fixed_sidebar": True,
    "page_width": "1100px",
}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}
html_copy_source = False


def _as_rst(_app: Any, _what: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
    """Docstrings are sentences, not reStructuredText: an asterisk or a bar in them means itself."""
    for number, line in enumerate(lines):
        lines[number] = line.replace("*", r"\*").replace("|", r"\|")


def _complete(app: Any, page: str, source: list[str]) -> None:
    """Pages that index.md does not name come at the end of its last list."""
    if page == "index":
        names = sorted(path.stem for path in Path(app.srcdir).glob("*.md"))
        others = [name for name in names if f"\n{name}\n" not in source[0] and name != page]
        source[0] = source[0].replace("\nfigures\n", "\n".join(["\nfigures", *others, ""]))


def _always_anew(_app: Any, _env: Any, _added: object, _changed: object, _removed: object) -> list[str]:
    """What index.md names depends on which files there are."""
    return ["index"]


def setup(app: Any) -> None:
    app.connect("env-get-outdated", _always_anew)
    app.connect("source-read", _complete)
    app.connect("autodoc-process-docstring", _as_rst)
