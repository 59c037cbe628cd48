"""Records of bindings as text."""

from __future__ import annotations

import json

from mobility.mipv6.binding_records import BindingRecord


def record_text(record: BindingRecord) -> str:
    """A record as it is kept: one line of JSON."""
    return json.dumps(record.to_json(), separators=(",", ":"))


def read_record(text: str | bytes) -> BindingRecord:
    """The other way round. Raises `ValueError`: no such record; says what is wrong in it."""
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError("not JSON that a record could be") from error
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return BindingRecord.from_json(values)
