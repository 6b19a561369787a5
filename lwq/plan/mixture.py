"""A calibration text of several parts, each with its share: the same bytes for the same parts and seed."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lwq.errors import FileError
from lwq.plan.chat import Render
from lwq.plan.hub import TextOf
from lwq.recipe.text import Part
from lwq.store.files import os_errors, write_atomic
from lwq.tasks.files import parquet_rows

_PASSAGE: Final = 2000
"""Bytes from which the next blank line ends a passage of a plain text."""
_BETWEEN: Final = "\n\n"
_HALF: Final = re.compile("[\ud800-\udfff]")
_FORMS: Final = "a part with a column is JSON lines or Parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """What one part gives."""

    label: str
    documents: tuple[str, ...]


def mixed(
    parts: Sequence[Part], seed: int, *, text_of: TextOf, home: Path, template: Callable[[], Render]
) -> tuple[Path, str]:
    """The mixture as a file, and what it is made of in words.

    As much is taken as gives each part its share (of bytes) without repeating anything; documents are drawn by the
    seed and interleaved evenly.

    Args:
        text_of: gives a part's file and its label.
        template: gives what puts a conversation through the model's own chat template; asked for chats only.

    Raises:
        FileError: a part that is missing, not of its form, or without a usable row.
        ModelError: a chat, but no chat template.
    """
    drawn = [_read(part, text_of, template) for part in parts]
    sizes = [sum(map(_n_bytes, d.documents)) for d in drawn]
    total = min(size / part.share for size, part in zip(sizes, parts, strict=True))
    chosen: list[tuple[float, int, str]] = []
    for i, (part, one) in enumerate(zip(parts, drawn, strict=True)):
        order = list(one.documents)
        random.Random(f"{seed}/{i}").shuffle(order)
        chosen += [(at, i, text) for at, text in _up_to(order, part.share * total)]
    text = _BETWEEN.join(text for _, _, text in sorted(chosen, key=lambda c: (c[0], c[1]))) + "\n"
    path = home / "texts" / f"{_digest(text)}.txt"
    with os_errors("write the calibration text", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_atomic(path, text)
    whole = sum(_n_bytes(t) for _, _, t in chosen)
    shares = [sum(_n_bytes(t) for _, j, t in chosen if j == i) / whole for i in range(len(parts))]
    return path, ", ".join(f"{share:.0%} {one.label}" for share, one in zip(shares, drawn, strict=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _n_bytes(text: str) -> int:
    return len(text.encode())


def _up_to(documents: Sequence[str], n_bytes: float) -> Iterator[tuple[float, str]]:
    """(where in the whole, from 0 to 1, its middle stands; document) of the first ones, at least one."""
    taken = 0
    for document in documents:
        size = _n_bytes(document)
        if taken and taken + size / 2 > n_bytes:
            return
        yield (taken + size / 2) / max(n_bytes, taken + size), document
        taken += size


def _read(part: Part, text_of: TextOf, template: Callable[[], Render]) -> _Contents:
    path, label = text_of(part.text)
    with os_errors("read the text", path):
        raw = path.read_bytes()
    if not part.column and not part.chat:
        passages = tuple(_passages(_decoded(raw, path)))
        if not passages:
            raise FileError(f"{path}: holds no text", hint="name a text, or leave the part out")
        return _Contents(label=label, documents=passages)
    column = part.column or "messages"
    rows = parquet_rows(path) if raw.startswith(b"PAR1") else list(_json_lines(_decoded(raw, path), path))
    values = [_value(record, column, row, path) for row, record in rows]
    if part.chat:
        render = template()
        values = [render(_messages(value, row, path)) for (row, _), value in zip(rows, values, strict=True)]
    texts = tuple(text for value in values if isinstance(value, str) and (text := value.strip()))
    if not texts:
        raise FileError(f"{path}: the column {column!r} holds no text", hint="name the column that does")
    if broken := next(filter(_HALF.search, texts), ""):
        raise FileError(
            f"{path}: half a character stands in {broken[:60]!a}", hint="its other half was cut off; mend it"
        )
    how = "by the chat template" if part.chat else f"column {column}"
    return _Contents(label=f"{label} ({how})", documents=texts)


def _decoded(raw: bytes, path: Path) -> str:
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is not UTF-8: {error}", hint="convert it, `iconv -t UTF-8`") from None


def _passages(text: str) -> Iterator[str]:
    """Runs of paragraphs of some two thousand bytes; longer paragraphs are cut at white space."""
    held: list[str] = []
    for paragraph in (piece for whole in text.split(_BETWEEN) for piece in _cut(whole)):
        held.append(paragraph)
        if sum(map(_n_bytes, held)) >= _PASSAGE:
            yield _BETWEEN.join(held).strip("\n")
            held = []
    if rest := _BETWEEN.join(held).strip("\n"):
        yield rest


def _cut(paragraph: str) -> Iterator[str]:
    while len(paragraph) > 2 * _PASSAGE:
        at = max(paragraph.rfind(space, _PASSAGE // 2, _PASSAGE) for space in "\n ")
        at = at if at > 0 else _PASSAGE
        yield paragraph[:at]
        paragraph = paragraph[at:].lstrip("\n ")
    yield paragraph


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise FileError(
                    f"{path} line {number}: is not JSON: {error}",
                    hint="a part with a column is JSON lines or\
 Parquet",
                ) from None


def _value(record: Any, column: str, row: int, path: Path) -> Any:
    if not isinstance(record, dict) or column not in record:
        keys = ", ".join(map(str, record)) if isinstance(record, dict) else type(record).__name__
        raise FileError(f"{path} row {row}: has no column {column!r}", hint=f"it has {keys}")
    return record[column]


def _messages(value: Any, row: int, path: Path) -> list[dict[str, str]]:
    """A conversation as chat templates take it: of ``role`` and ``content``, or ShareGPT's ``from`` and ``value``."""
    turns = value if isinstance(value, list | tuple) else ()
    known = {"human": "user", "gpt": "assistant"}
    messages = []
    for turn in turns:
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None)
        if role is None and isinstance(turn, dict):
            role, content = known.get(str(turn.get("from")), turn.get("from")), turn.get("value")
        if not isinstance(role, str) or not isinstance(content, str):
            raise FileError(
                f"{path} row {row}: is no conversation of role and content: {str(turn)[:60]!r}",
                hint="give a\
 list of messages",
            )
        messages.append({"role": role, "content": content})
    if not messages:
        raise FileError(f"{path} row {row}: is no conversation: {str(value)[:60]!r}", hint="give a list of messages")
    return messages
