"""Items of a text file, its format told from its content: JSON lines, a JSON list, six lines an item, CSV.

All lines that cannot be read are found, not only the first.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from lwq.tasks.formats import read_pair
from lwq.tasks.items import Item
from lwq.tasks.records import RecordFault, item_of

_N_LINES: Final = 6
_LABELS: Final = frozenset("0123")
_LETTERS: Final = frozenset("ABCD")
_N_MMLU: Final = 6
_LIST: Final = re.compile(r"\s*\[\s*[\[{\]]")
"""A JSON list of records, or an empty one; a question of a CSV may begin with a bracket too."""
_GAPS: Final = frozenset(" \t\n\r,")
_PAIR: Final = ("index", "sentence", "option1", "option2", "answer")
_ALIASES: Final = {"choice1": "option1", "choice2": "option2", "qid": "qID", "id": "qID"}
_UNKNOWN: Final = "is no format of task items that lwq knows (JSON lines, six lines an item, MMLU or WinoGrande CSV)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Items that were read, and (line from 1, what is wrong there) of those that were not."""

    items: tuple[Item, ...]
    faults: tuple[tuple[int, str], ...] = ()


def read_text(text: str, name: str, columns: Mapping[str, str] | None = None) -> Read:
    """The items of a text, whose line ends are LF; ``columns`` as for :func:`lwq.tasks.records.item_of`."""
    lines = text.rstrip("\n").split("\n")
    if columns is None and _has_labels(lines) and not _is_mmlu(text):
        return _six_lines(lines, name)
    if _LIST.match(text):
        return read_records(_listed(text), name, columns)
    filled = [line for line in lines if line.strip()]
    if sum(line.lstrip().startswith("{") for line in filled) * 2 >= len(filled):
        return read_records(_json_lines(lines), name, columns)
    if columns is not None:
        return Read(items=(), faults=((1, "is not JSON lines; columns are for these and for parquet"),))
    return _tables(text, lines, name)


def read_records(
    records: Iterable[tuple[int, Any]], name: str, columns: Mapping[str, str] | None, n_before: int = 0
) -> Read:
    """The items of (line, record), where a record that could not be had is the reason why."""
    items, faults = [], []
    for row, (line, record) in enumerate(records, n_before):
        try:
            if isinstance(record, Exception):
                raise RecordFault(str(record))
            items.append(replace(item_of(record, row, name, columns), line=line))
        except RecordFault as fault:
            faults.append((line, str(fault)))
    return Read(items=tuple(items), faults=tuple(faults))


def _json_lines(lines: list[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            yield number, RecordFault(f"is not JSON: {error.msg} at character {error.pos + 1}")
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
            yield number, RecordFault(f"cannot be read as JSON: {error}")


def _listed(text: str) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON list, each with the line on which it begins."""
    decoder, line, seen, at = json.JSONDecoder(), 1, 0, text.index("[") + 1
    while True:
        while text[at : at + 1] in _GAPS:
            at += 1
        line, seen = line + text.count("\n", seen, at), at
        if text[at : at + 1] == "]":
            if behind := text[at + 1 :].strip():
                yield line, RecordFault(f"has more behind the list: {behind[:60]!r}")
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            yield error.lineno, RecordFault(f"is not JSON: {error.msg} at character {error.colno}")
            return
        except (ValueError, RecursionError) as error:
            yield line, RecordFault(f"cannot be read as JSON: {error}")
            return
        yield line, value


def _has_labels(lines: list[str]) -> bool:
    """Whether every sixth line is the number of an ending; one wrong line does not hide the format."""
    labels = [line.strip() in _LABELS for line in lines[1::_N_LINES]]
    return bool(labels) and (labels[0] or sum(labels) * 2 >= len(labels))


def _six_lines(lines: list[str], name: str) -> Read:
    items, faults = [], []
    for row, start in enumerate(range(0, len(lines), _N_LINES)):
        context, *rest = lines[start : start + _N_LINES]
        if len(rest) != _N_LINES - 1:
            faults.append((start + 1, f"begins an item of {1 + len(rest)} lines, {_N_LINES} are needed"))
        elif (label := rest[0].strip()) not in _LABELS:
            faults.append((start + 2, f"is no number of an ending (0 to 3): {label[:60]!r}"))
        else:
            row_id = f"{name}-{row}"
            items.append(Item(id=row_id, question=context, choices=tuple(rest[1:]), answer=int(label), line=start + 1))
    return Read(items=tuple(items), faults=tuple(faults))


def _tables(text: str, lines: list[str], name: str) -> Read:
    """MMLU's or WinoGrande's CSV: what more of the rows are."""
    if _names(lines[0]):
        return _winogrande(lines, name)
    rows = list(_csv_rows(text))
    n_mmlu = sum(_is_mmlu_row(row) for _, row in rows)
    n_pairs = sum("_" in line and (read_pair(line) is not None or _is_pair(_fields(line))) for line in lines)
    if not n_mmlu and not n_pairs:
        return Read(items=(), faults=((1, f"{_UNKNOWN}: {lines[0][:60]!r}"),))
    return _mmlu(rows, name) if n_mmlu >= n_pairs else _winogrande(lines, name)


def _is_mmlu(text: str) -> bool:
    """Whether all of it is MMLU's CSV: a field with line breaks may hold a line that looks like another format's."""
    return all(_is_mmlu_row(row) for _, row in _csv_rows(text))


def _is_mmlu_row(row: list[str] | csv.Error) -> bool:
    return isinstance(row, list) and len(row) == _N_MMLU and row[-1].strip() in _LETTERS


def _csv_rows(text: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """(line on which it begins, fields) of each row; fields may hold line breaks."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = rows.line_num + 1
        try:
            if row := next(rows):
                yield line, row
        except StopIteration:
            return
        except csv.Error as error:
            yield line, error


def _mmlu(rows: list[tuple[int, list[str] | csv.Error]], name: str) -> Read:
    """``question,A,B,C,D,answer``, white space at the ends of fields left out; a first line of names is no item."""
    first = rows[0][1]
    if isinstance(first, list) and first[-1].strip().lower() == "answer":
        rows = rows[1:]
    items, faults = [], []
    for number, (line, row) in enumerate(rows):
        if isinstance(row, csv.Error):
            faults.append((line, f"is not CSV: {row}"))
        elif len(row) != _N_MMLU:
            faults.append((line, f"has {len(row)} fields, question,A,B,C,D,answer are {_N_MMLU}"))
        elif (letter := row[-1].strip()) not in _LETTERS:
            faults.append((line, f"the answer {letter[:60]!r} is none of A, B, C, D" if letter else "has no answer"))
        else:
            question, *choices = (field.strip() for field in row[:-1])
            answer = ord(letter) - ord("A")
            row_id = f"{name}-{number}"
            items.append(Item(id=row_id, question=question, choices=tuple(choices), answer=answer, line=line))
    return Read(items=tuple(items), faults=tuple(faults))


def _fields(line: str) -> list[str]:
    """The fields of one line of proper CSV; none where it is not."""
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return []


def _is_pair(fields: list[str]) -> bool:
    return len(fields) == len(_PAIR) and fields[-1].strip() in ("1", "2")


def _names(line: str) -> tuple[str, ...]:
    """The columns of a WinoGrande file that a first line names, by their official names; none where it names none."""
    fields = [field.strip().lower() for field in _fields(line)]
    named = tuple(_ALIASES.get(field, field) for field in fields)
    return named if {"sentence", "option1", "option2", "answer"} <= set(named) else ()


def _winogrande(lines: list[str], name: str) -> Read:
    """``index,sentence,choice1,choice2,answer``, or the columns that a first line names; proper CSV or the tool's."""
    named = _names(lines[0])
    names = named or _PAIR
    numbered = enumerate(lines[1:], 2) if named else enumerate(lines, 1)
    records = ((number, _pair_record(line, names)) for number, line in numbered if line.strip())
    return read_records(records, name, None)


def _pair_record(line: str, names: tuple[str, ...]) -> Any:
    fields = _fields(line)
    if len(fields) == len(names) and (names != _PAIR or _is_pair(fields)):
        return dict(zip(names, fields, strict=True))
    if (pair := read_pair(line)) and names[1:] == _PAIR[1:]:
        first, second = pair.choices
        values = (pair.index, pair.sentence, first, second, str(pair.answer))
        return dict(zip(names, values, strict=True))
    if len(fields) == len(names):
        return RecordFault(f"the answer {fields[-1][:60]!r} is neither 1 nor 2" if fields[-1] else "has no answer")
    return RecordFault(f"is no line of {','.join(names)}: {line[:60]!r}")
