"""A record as JSON text and back; the JSON is sorted and indented, so that versions can be compared."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from lwq.errors import FileError
from lwq.record.record import SCHEMA, Record

_ADAPTER: Final = TypeAdapter(Record)


def record_to_json(record: Record) -> str:
    """The record's text; equal records give equal bytes."""
    values = _ADAPTER.dump_python(record, mode="json")
    return json.dumps(values, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def record_from_json(text: str, source: str = "record.json") -> Record:
    """The record in a text; ``source`` names it in errors.

    Raises:
        FileError: not JSON, of another schema, not a record, or one with more in it than this lwq knows.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise FileError(f"{source}: is not JSON: {error}", hint="`lwq run` writes it anew") from None
    schema = values.get("schema") if isinstance(values, dict) else None
    if schema != SCHEMA:
        hint = f"this lwq reads schema {SCHEMA}; run the recipe again with it"
        raise FileError(f"{source}: has record schema {schema!r}", hint=hint)
    try:
        record = _ADAPTER.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FileError(f"{source}: {where}: {first['msg']}", hint="`lwq run` writes it anew") from None
    if unread := _difference(values, _ADAPTER.dump_python(record, mode="json")):
        raise FileError(f"{source}: {unread} is not what lwq writes there", hint="`lwq run` writes it anew")
    return record


def _difference(given: Any, read: Any, where: str = "") -> str:
    """Where a text says other than what was read of it (a field too many, a figure as text), or nothing."""
    if isinstance(given, dict) and isinstance(read, dict):
        pairs = [(f"{where}.{key}".lstrip("."), given.get(key), read.get(key, ...)) for key in given]
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        pairs = [(f"{where}.{i}", a, b) for i, (a, b) in enumerate(zip(given, read, strict=True))]
    else:
        return "" if given == read and isinstance(given, str) == isinstance(read, str) else where
    return next((difference for place, a, b in pairs if (difference := _difference(a, b, place))), "")
