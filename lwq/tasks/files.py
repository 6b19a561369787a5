"""Task sets from files: items of any published format, several sets together, and the scorer that a name means."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lwq.errors import FileError, UsageError
from lwq.store.files import os_errors
from lwq.tasks.formats import is_binary, read_binary, unfit
from lwq.tasks.items import Item, ItemsError, Kind, draw, faults
from lwq.tasks.records import check_columns
from lwq.tasks.texts import Read, read_records, read_text

_PARQUET: Final = b"PAR1"
FIRST: Final = "first"
_BY_CHANCE: Final = 1e-3
"""Probability below which a set whose first choice is never right is not taken for chance."""
_SPLIT: Final = re.compile(r"_(test|dev|val|validation|train)$")


def kind_of(name: str) -> Kind:
    """The scorer for a set of that name: its own for HellaSwag and WinoGrande, else multiple-choice."""
    letters = re.sub("[^a-z]", "", name.lower())
    if "hellaswag" in letters:
        return "hellaswag"
    return "winogrande" if "winogrande" in letters else "multiple-choice"


def read_items(path: Path, name: str, columns: Mapping[str, str] | None = None) -> tuple[Item, ...]:
    """The items of a file, or of a folder of MMLU's CSV files, whose format is told from its content.

    Known are the official files of HellaSwag, WinoGrande, ARC, MMLU and TruthfulQA, their tables on Hugging Face as
    JSON lines or parquet, llama-perplexity's own three formats, and ``{id, question | context, choices, answer}``.
    What is in the items is for :func:`lwq.tasks.items.checked` to judge.

    Args:
        name: that of the set; ids are ``NAME-ROW`` (row from 0) where the data has none.
        columns: ``question``, ``choices``, ``answer`` (and ``id``) → column, for any other JSON lines or parquet.
            ``choices`` may name several columns (``A,B,C,D``). An answer is an index from 0, a letter, or a choice.

    Raises:
        ItemsError: lines that cannot be read, all of them; an empty file; a format that is not known.
        FileError: the file cannot be opened, or is parquet and pyarrow is not installed.
        UsageError: ``columns`` lacks one that is needed.
    """
    read = _files(path, name, columns)
    if messages := [f"{where} line {line}: {fault}" for where, one in read.items() for line, fault in one.faults]:
        raise ItemsError(str(path), tuple(messages))
    return tuple(item for one in read.values() for item in one.items)


def usable_items(
    path: Path, name: str, kind: Kind, columns: Mapping[str, str] | None = None, *, skip: bool = False
) -> tuple[tuple[Item, ...], int]:
    """The items that can be scored, and how many lines and items with faults were left out (none without ``skip``).

    A fault is a line that cannot be read, what `lwq.tasks.items.faults` finds, and what llama-perplexity's format
    cannot carry.

    Args:
        path, name: as for `read_items`.
        columns: also ``first``, the number of the first choice in answers that are numbers (0 or 1).

    Raises:
        ItemsError: answers that seem to be counted from one, where ``first`` is not said; all faults of the file, by
            line; with ``skip`` only if no item is without; WinoGrande's sentences under another scorer.
        FileError, UsageError: as `read_items`.
    """
    named = {key: column for key, column in (columns or {}).items() if key != FIRST}
    read = _files(path, name, named or None)
    items = tuple(item for one in read.values() for item in one.items)
    items = _counted(str(path), items, kind, (columns or {}).get(FIRST))
    places = [where for where, one in read.items() for _ in one.items]
    if kind == "multiple-choice" and items and all(_is_sentence(item) for item in items):
        fault = f"{path}: its questions are sentences with a blank (_) for two choices: WinoGrande's"
        raise ItemsError(str(path), (fault,), hint='call the set winogrande, or give it kind = "winogrande"')
    bad = faults(items, kind)
    whole = set(range(len(items))) - {i for i, _ in bad}
    bad += tuple((i, why) for i in sorted(whole) if (why := unfit(kind, items[i])))
    kept = tuple(item for i, item in enumerate(items) if i not in {j for j, _ in bad})
    unread = [(where, line, fault) for where, one in read.items() for line, fault in one.faults]
    if (bad or unread) and not (skip and kept):
        order = {where: i for i, where in enumerate(read)}
        unusable = unread + [(places[i], items[i].line, f"{fault} ({items[i].id})") for i, fault in bad]
        unusable.sort(key=lambda fault: (order[fault[0]], fault[1]))
        hint = 'mend these lines, or leave such items out: faulty = "skip" (--skip-faulty)'
        raise ItemsError(
            str(path), tuple(f"{where} line {line}: {fault}" for where, line, fault in unusable), hint=hint
        )
    return kept, len(unread) + len(items) - len(kept)


def _counted(where: str, items: tuple[Item, ...], kind: Kind, first: str | None) -> tuple[Item, ...]:
    """The items with answers counted from 0: one rule for a whole set.

    Raises:
        ItemsError: none of the answers is 0, which chance hardly explains, and it is not said from what they count.
    """
    if first is not None:
        return tuple(replace(item, answer=item.answer - int(first)) for item in items)
    if kind == "winogrande" or not items or any(item.answer == 0 for item in items):
        return items
    chance = math.prod(1 - 1 / max(2, len(item.choices)) for item in items)
    if chance > _BY_CHANCE and not any(item.answer == len(item.choices) for item in items):
        return items
    fault = (
        f"{where}: of {len(items):,} answers, none is 0 and the largest is {max(item.answer for item in items)}: they"
        " seem to be counted from one, and 0 is taken for the first choice"
    )
    raise ItemsError(where, (fault,), hint="say from what: columns = { …, first = 1 }, or first = 0 if that is right")


def _is_sentence(item: Item) -> bool:
    return len(item.choices) == 2 and item.question.count("_") == 1


def _files(path: Path, name: str, columns: Mapping[str, str] | None) -> dict[str, Read]:
    """What was read of a file, or of each file of a folder, by its place for messages."""
    if columns is not None:
        check_columns(columns)
    if path.is_dir():
        return _folder(path, name)
    with os_errors("read it", path):
        raw = path.read_bytes()
    where = str(path)
    if raw.startswith(_PARQUET):
        read = read_records(parquet_rows(path), name, columns)
    elif is_binary(raw):
        read = Read(items=read_binary(raw, name, where))
    else:
        text = _decoded(raw, where)
        if not text.strip():
            raise ItemsError(where, (f"{where}: is empty",), hint="was it downloaded to its end?")
        read = read_text(text, name, columns)
    if not read.items and not read.faults:
        raise ItemsError(where, (f"{where}: has no items",), hint="is it the right file?")
    return {where: read}


def _decoded(raw: bytes, where: str) -> str:
    """The text with LF line ends and without a byte order mark; every line that is not UTF-8 is told."""
    if b"\0" in raw:
        raise ItemsError(where, (f"{where}: has zero bytes: UTF-16, or no text at all",), hint="convert it to UTF-8")
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        faults = []
        for number, line in enumerate(raw.split(b"\n"), 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                near = ascii(line[max(0, error.start - 12) : error.end + 12].decode("latin-1"))
                faults.append(f"{where} line {number}: is not UTF-8 at byte {error.start + 1}, near {near}")
        hint = "convert it: `iconv -f WINDOWS-1252 -t UTF-8 FILE`"
        raise ItemsError(where, tuple(faults), hint=hint) from None


def parquet_rows(path: Path) -> list[tuple[int, Any]]:
    """(row from 1, record) of each row."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        hint = "`pip install pyarrow` (or lwq[parquet]), or give JSON lines"
        raise FileError(f"{path}: parquet files need the package pyarrow, which is not installed", hint=hint) from None
    try:
        with os_errors("read it", path):
            records = parquet.ParquetFile(path).read().to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read as parquet: {error}", hint="was it downloaded to its end?") from error
    return list(enumerate(records, 1))


def _folder(folder: Path, name: str) -> dict[str, Read]:
    """All subjects of MMLU, one CSV file each; a subject is its file's name without ``_test.csv``."""
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise ItemsError(
            str(folder), (f"{folder}: has no *.csv",), hint="name a file, or the folder of MMLU's subjects"
        )
    by_place: dict[str, Read] = {}
    for file in files:
        by_place |= _files(file, f"{name}-{_SPLIT.sub('', file.stem)}", None)
    return by_place


def without_repeats(sets: Mapping[str, tuple[Item, ...]]) -> dict[str, tuple[Item, ...]]:
    """The sets without items of which an earlier set has question and choices."""
    seen: set[tuple[str, ...]] = set()
    kept = {}
    for name, items in sets.items():
        texts = [(item.question, *sorted(item.choices)) for item in items]
        kept[name] = tuple(item for item, text in zip(items, texts, strict=True) if text not in seen)
        seen.update(texts)
    return kept


def merged(
    sets: Mapping[str, tuple[Item, ...]], n: int | None, seed: int, shares: Mapping[str, float] | None = None
) -> tuple[tuple[Item, ...], str]:
    """``n`` items of several sets together, in the order given, and in what proportion they stand; all without ``n``.

    Ids are prefixed by the set's name. The proportion reads ``375 of arc-easy, 375 of arc-challenge``.

    Args:
        shares: set → its part of ``n`` (any scale); equal parts by default. What rounding leaves over goes to those
            with the largest remainders, first ones first.

    Raises:
        ItemsError: a set has fewer items than its part.
        UsageError: shares that do not name these sets, or are not above zero.
    """
    parts = {name: len(items) for name, items in sets.items()} if n is None else _parts(tuple(sets), n, shares)
    together: list[Item] = []
    for name, items in sets.items():
        try:
            drawn = draw(items, parts[name], seed)
        except ItemsError as error:
            raise ItemsError(name, tuple(f"{name}: {fault}" for fault in error.faults), hint=error.hint) from None
        together += (replace(item, id=f"{name}/{item.id}") for item in drawn)
    return tuple(together), ", ".join(f"{part:,} of {name}" for name, part in parts.items())


def _parts(names: tuple[str, ...], n: int, shares: Mapping[str, float] | None) -> dict[str, int]:
    weights = dict.fromkeys(names, 1.0) if shares is None else dict(shares)
    if set(weights) != set(names) or not all(weight > 0 for weight in weights.values()):
        stated = ", ".join(f"{name}: {weight:g}" for name, weight in weights.items())
        raise UsageError(f"shares of {', '.join(names)}: {stated}", hint="give each set a share above zero")
    exact = {name: n * weights[name] / sum(weights.values()) for name in names}
    parts = {name: int(value) for name, value in exact.items()}
    for name in sorted(names, key=lambda name: parts[name] - exact[name])[: n - sum(parts.values())]:
        parts[name] += 1
    return parts
