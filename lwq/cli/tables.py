"""Tables on stdout: aligned columns, the same on a terminal and in a pipe."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

WIDTH: Final = 80
"""Characters of a line that every terminal has."""


def print_json(value: Any) -> None:
    """Prints JSON that every reader takes: a number that is not finite is null."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, spare: Sequence[str] = ()
) -> tuple[str, ...]:
    """Prints columns as wide as they need to be; the first ``left`` are aligned left, the others right.

    Args:
        spare: heads of columns that are left out, the first of them first, until a line fits in 80 characters.

    Returns:
        The heads that were left out.
    """
    lines, gone = [tuple(heads), *(tuple(row) for row in rows)], []
    while spare and _width(lines) > WIDTH and (found := [h for h in spare if h in lines[0]]):
        gone.append(found[0])
        at = lines[0].index(found[0])
        left -= at < left
        lines = [(*line[:at], *line[at + 1 :]) for line in lines]
    _print_lines(lines, left)
    return tuple(gone)


def _width(lines: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) + 2 for column in zip(*lines, strict=True)) - 2


def _print_lines(lines: Sequence[Sequence[str]], left: int) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        click.echo("  ".join(cells).rstrip())


def shortened(text: str, most: int = WIDTH) -> str:
    """The text, or its beginning and its end with ``…`` between them."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
