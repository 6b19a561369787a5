"""A record as JSON text and back; the JSON is sorted and indented, so that versions can be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from lwq.errors import FileError
from lwq.record.faults import faults
from lwq.record.record import SCHEMA, Record

_ADAPTER: Final = TypeAdapter(Record)


def record_to_json(record: Record) -> str:
    """The record's text; equal records give equal bytes."""
    values = _ADAPTER.dump_python(record, mode="json")
    return json.dumps(values, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_record(path: Path) -> tuple[Record, Path]:
    """The record in a file, or in the report folder that is named instead; and that folder.

    Raises:
        FileError: no such file, or what is in it is no record.
    """
    path = path / "record.json" if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: no record to read: {error}", hint="name reports/NAME/record.json") from None
    return record_from_json(text, str(path)), path.parent


def record_from_json(text: str, source: str = "record.json") -> Record:
    """The record in a text, of this schema or an older one; ``source`` names it in errors.

    Raises:
        FileError: not JSON, of a newer schema, not a record, one with more in it than this lwq knows, or with parts
            that do not fit together.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{source}: is not JSON: {error}", hint="`lwq run` writes it anew") from None
    schema = values.get("schema") if isinstance(values, dict) else None
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        hint = f"this lwq reads schemas 1 to {SCHEMA}; a newer lwq, or the recipe run again with this one, may help"
        raise FileError(f"{source}: has record schema {schema!r}", hint=hint)
    values = _of_today(values)
    try:
        record = _ADAPTER.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FileError(f"{source}: {where}: {first['msg']}", hint="`lwq run` writes it anew") from None
    if unread := _difference(values, _ADAPTER.dump_python(record, mode="json")):
        raise FileError(f"{source}: {unread} is not what lwq writes there", hint="`lwq run` writes it anew")
    if fault := next(faults(record), ""):
        raise FileError(f"{source}: {fault}", hint="`lwq run` writes it anew")
    return record


def _of_today(values: dict[str, Any]) -> dict[str, Any]:
    """An older record's values with what has been added since; each schema only added to the one before it."""
    pruning = values.get("pruning")
    if isinstance(pruning, dict) and "n_windows" in pruning:  # sets once raced on the windows of single layers
        values["pruning"] = {"n_set_windows": pruning["n_windows"], **pruning}
    return {**values, "schema": SCHEMA}


def _difference(given: Any, read: Any, where: str = "") -> str:
    """Where a text says other than what was read of it (a field too many, a figure as text), or nothing."""
    if isinstance(given, dict) and isinstance(read, dict):
        pairs = [(f"{where}.{key}".lstrip("."), given.get(key), read.get(key, ...)) for key in given]
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        pairs = [(f"{where}.{i}", a, b) for i, (a, b) in enumerate(zip(given, read, strict=True))]
    else:
        return "" if given == read and isinstance(given, str) == isinstance(read, str) else where
    return next((difference for place, a, b in pairs if (difference := _difference(a, b, place))), "")
