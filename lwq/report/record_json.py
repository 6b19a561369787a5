"""A record as JSON text and back; the JSON is sorted and indented, so that versions can be compared."""

from __future__ import annotations

import json
from typing import Final

from pydantic import TypeAdapter, ValidationError

from lwq.errors import FileError
from lwq.record import SCHEMA, Record

_ADAPTER: Final = TypeAdapter(Record)


def record_to_json(record: Record) -> str:
    """The record's text; equal records give equal bytes."""
    values = _ADAPTER.dump_python(record, mode="json")
    return json.dumps(values, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def record_from_json(text: str, source: str) -> Record:
    """The record in a text; ``source`` names it in errors.

    Raises:
        FileError: not JSON, of another schema, or not a record.
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
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FileError(f"{source}: {where}: {first['msg']}", hint="`lwq run` writes it anew") from None
