"""Every key of the user interface has a name, under which ``[ui.keys]`` gives it another one."""

from __future__ import annotations

from textual.binding import Binding


def key(
    name: str, keys: str, action: str, description: str, *, show: bool = True, priority: bool = False, tooltip: str = ""
) -> Binding:
    """A binding with a name such as ``call.hold``. ``priority``: also while text is being typed."""
    return Binding(keys, action, description, show=show, priority=priority, tooltip=tooltip, id=name)
