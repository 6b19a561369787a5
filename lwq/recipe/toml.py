"""Values as TOML: what a recipe states, where no person wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date, time
from typing import Any, Final

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(values: Mapping[str, Any]) -> str:
    """TOML that is read back as these values: in their order, tables behind plain keys."""
    return "\n".join(_lines(values, "")) + "\n"


def _lines(values: Mapping[str, Any], within: str) -> Iterator[str]:
    for key, value in values.items():
        if not _tables(value):
            yield f"{_key(key)} = {_value(value)}"
    for key, value in values.items():
        name = f"{within}{_key(key)}"
        for table in _tables(value):
            yield ""
            yield f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
            yield from _lines(table, f"{name}.")


def _tables(value: Any) -> list[Mapping[str, Any]]:
    """A value that is written as a table, or as an array of tables."""
    if isinstance(value, Mapping):
        return [value]
    return value if isinstance(value, list) and all(isinstance(item, Mapping) for item in value) else []


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(value: str) -> str:
    """As JSON writes it, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return value.isoformat() if isinstance(value, date | time) else repr(value)
