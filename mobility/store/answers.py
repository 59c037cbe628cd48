"""What a store answered, checked: it may be damaged, or not be ours."""

from __future__ import annotations

from mobility.store.redis import Reply


class WrongAnswer(Exception):
    """Such an answer is none of the scripts'."""


def as_list(reply: Reply, least: int) -> list[object]:
    """A list of at least so many. Raises WrongAnswer."""
    if not isinstance(reply, list) or len(reply) < least:
        raise WrongAnswer(f"{reply!r:.100}")
    return reply


def as_number(value: object) -> int:
    """Raises WrongAnswer."""
    if not isinstance(value, int):
        raise WrongAnswer(f"{value!r:.100}")
    return value


def as_text(value: object) -> str:
    """What is shown to people."""
    return value.decode(errors="replace") if isinstance(value, bytes) else "another home agent"


def as_table(value: object) -> dict[str, bytes] | None:
    """Names and values in turn, as a dictionary; None: not there."""
    if value is None:
        return None
    parts = as_list(value, 0)
    if len(parts) % 2 or not all(isinstance(part, bytes) for part in parts):
        raise WrongAnswer(f"{value!r:.100}")
    return {as_text(name): text for name, text in zip(parts[::2], parts[1::2], strict=True) if isinstance(text, bytes)}


def as_decimal(value: bytes | None) -> int | None:
    """A number as the scripts write it; None: no such number."""
    return int(value) if value is not None and value.isdigit() and len(value) <= 10 else None
