"""llama-perplexity's own formats of task items, written so that the tool reads back exactly what was meant.

Six lines an item for ``--hellaswag``; a CSV without escapes for ``--winogrande``; a binary file for
``--multiple-choice``. Each has a reader that does what the tool does.

Source: tools/perplexity/perplexity.cpp, ``hellaswag_score``, ``load_winogrande_from_csv``, ``multiple_choice_score``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from lwq.tasks.items import NO_ANSWER, Item, ItemsError, Kind, place

MAX_CHOICES: Final = 100
_N_ENDINGS: Final = 4
_NUMBER: Final = re.compile(r"\s*([+-]?[0-9]+)", re.ASCII)
_UINT32: Final = 1 << 32
_STRAIGHT_QUOTES: Final = "replace straight quotes by “ and ”, and take commas out of the choices"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One line of the WinoGrande CSV as the tool reads it; ``answer`` is 1 or 2."""

    index: str
    sentence: str
    choices: tuple[str, str]
    answer: int


class _Unfit(ValueError):
    """Why an item cannot be written, and how to mend it."""

    def __init__(self, fault: str, mend: str) -> None:
        super().__init__(f"{fault}; {mend}")


def render(kind: Kind, items: tuple[Item, ...], where: str = "") -> bytes:
    """The bytes of a file from which llama-perplexity reads these items.

    Raises:
        ItemsError: items that the format cannot carry, each with its line and how to mend it.
    """
    write = _WRITERS[kind]
    rows, faults = [], []
    for i, item in enumerate(items):
        try:
            rows.append(write(i, item))
        except _Unfit as fault:
            faults.append(f"{place(item, where)}: {fault}")
        except UnicodeEncodeError as error:
            faults.append(f"{place(item, where)}: cannot be written as UTF-8: {error.reason}")
    if faults:
        raise ItemsError(where, tuple(faults), hint="mend these lines of the file")
    if kind == "multiple-choice":
        return _with_positions(rows)
    # the tool drops the last newline of a file, and the WinoGrande reader then a last line without one
    return b"".join(rows) + (b"\n" if kind == "winogrande" else b"")


def unfit(kind: Kind, item: Item) -> str:
    """Why llama-perplexity's format cannot carry an item, and how to mend it; empty where it can."""
    try:
        _WRITERS[kind](0, item)
    except (_Unfit, UnicodeEncodeError) as error:
        return str(error)
    return ""


def tool_order(kind: Kind, n: int) -> tuple[int, ...]:
    """Index in the file of each item in the order in which the tool scores and prints all ``n`` of them.

    WinoGrande and multiple-choice items keep the order of the file. HellaSwag items are drawn without replacement
    by ``std::mt19937`` seeded with 1 and libstdc++'s ``uniform_int_distribution`` of GCC 11 or later (Lemire's method
    on 32 bits; libc++ draws otherwise).

    Source: bits/uniform_int_dist.h ``_S_nd``; Lemire, Fast Random Integer Generation in an Interval, 2019, algorithm 5.
    """
    if kind != "hellaswag":
        return tuple(range(n))
    stream, left = _mt19937(), list(range(n))
    return tuple(left.pop(_below(len(left), stream)) for _ in range(n))


def _mt19937() -> Iterator[int]:
    """The 32-bit words of ``std::mt19937(1)``: numpy's frozen legacy generator seeds and steps the same way."""
    source = np.random.RandomState(1)
    while True:
        yield from (int(word) for word in source.randint(0, _UINT32, size=1024, dtype=np.uint32))


def _below(limit: int, stream: Iterator[int]) -> int:
    """A number in [0, limit): the upper half of word · limit, drawn anew where that would favour some numbers."""
    product = next(stream) * limit
    if product % _UINT32 < limit:
        while product % _UINT32 < _UINT32 % limit:
            product = next(stream) * limit
    return product // _UINT32


def _six_lines(_: int, item: Item) -> bytes:
    if len(item.choices) != _N_ENDINGS or not 0 <= item.answer < _N_ENDINGS:
        raise _Unfit(
            f"has {len(item.choices)} endings and answer {item.answer}", "four endings and one of them are needed"
        )
    for text in (item.question, *item.choices):
        if "\n" in text or "\r" in text:
            raise _Unfit(f"has a line break in {text[:60]!r}", "put a space in its place")
    return "".join(f"{line}\n" for line in (item.question, item.answer, *item.choices)).encode()


def _csv_line(i: int, item: Item) -> bytes:
    """The first form of the line that the tool reads back exactly.

    A sentence that begins with a quote loses its first and its last character, whatever that is: so a quote
    before it goes with a quote or a space behind it.
    """
    if len(item.choices) != 2 or item.answer not in (0, 1):
        raise _Unfit(
            f"has {len(item.choices)} choices and answer {item.answer}", "two choices and one of them are needed"
        )
    if item.question.count("_") != 1:
        raise _Unfit("has not exactly one _ in its sentence", "mark the place of the choice, and nothing else")
    first, second = item.choices
    meant = Pair(index=str(i), sentence=item.question, choices=(first, second), answer=item.answer + 1)
    for before, behind in (("", ""), ('"', '"'), ('"', " ")):
        line = f"{i},{before}{item.question}{behind},{first},{second},{item.answer + 1}"
        if "\n" not in line and read_pair(line) == meant:
            return f"{line}\n".encode()
    if any(c in text for text in (item.question, *item.choices) for c in "\n\r"):
        raise _Unfit("has a line break", "put a space in its place")
    raise _Unfit(f"the tool's CSV has no escape for its quotes and commas: {item.question[:60]!r}", _STRAIGHT_QUOTES)


def read_pair(line: str) -> Pair | None:
    """What the tool reads from a line of the WinoGrande CSV (without its newline), or None where it reads nothing."""
    commas: list[int] = []
    quoted = False
    for at, character in enumerate(line):
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            commas.append(at)
            if len(commas) == 4:
                break
    if len(commas) != 4:
        return None
    first, second, third, fourth = commas
    sentence = line[first + 1 : second]
    if sentence.startswith('"'):
        sentence = sentence[1:-1]
    answer = _NUMBER.match(line[fourth + 1 :])
    number = answer[1].lstrip("+0") if answer else ""  # Python refuses thousands of digits
    if "_" not in sentence or number not in ("1", "2"):
        return None
    choices = (line[second + 1 : third], line[third + 1 : fourth])
    return Pair(index=line[:first], sentence=sentence, choices=choices, answer=int(number))


def _record(_: int, item: Item) -> bytes:
    n = len(item.choices)
    if not 1 <= n <= MAX_CHOICES or not 0 <= item.answer < n:
        raise _Unfit(f"has {n} choices and answer {item.answer}", f"the tool takes 1 to {MAX_CHOICES}, and one of them")
    if not item.question or not all(item.choices):
        raise _Unfit("has an empty question or choice", "the tool refuses all items then; fill it in")
    labels = struct.pack(f"<{n}i", *(int(i == item.answer) for i in range(n)))
    texts = b"".join(_string(choice) for choice in item.choices)
    no_mc2 = struct.pack("<I", 0)
    return _string(item.question) + struct.pack("<I", n) + texts + labels + no_mc2


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<I", len(raw)) + raw


def _with_positions(records: list[bytes]) -> bytes:
    """The count, where each record starts (from the start of the file), and the records."""
    start = 4 + 4 * len(records)
    lengths = np.array([0, *map(len, records)][: len(records)], dtype=np.int64)
    positions = start + np.cumsum(lengths)
    return struct.pack("<I", len(records)) + positions.astype("<u4").tobytes() + b"".join(records)


_WRITERS: Final[Mapping[Kind, Callable[[int, Item], bytes]]] = {
    "hellaswag": _six_lines,
    "winogrande": _csv_line,
    "multiple-choice": _record,
}


def is_binary(raw: bytes) -> bool:
    """Whether these bytes begin as the multiple-choice file does."""
    n = int.from_bytes(raw[:4], "little")
    return len(raw) >= 8 and 0 < n <= (len(raw) - 4) // 4 and int.from_bytes(raw[4:8], "little") == 4 + 4 * n


def read_binary(raw: bytes, name: str, where: str = "") -> tuple[Item, ...]:
    """The items of a multiple-choice file, by their single right answers (mc1); ``line`` is the item's number.

    Raises:
        ItemsError: it is cut short, or an item has not exactly one right answer.
    """
    n, at = int.from_bytes(raw[:4], "little"), 4 + 4 * int.from_bytes(raw[:4], "little")
    items, faults = [], []
    for row in range(n):
        try:
            item, at = _item_at(raw, at)
        except (struct.error, ValueError) as error:
            faults.append(f"{where} item {row + 1}: cannot be read from byte {at:,} on: {error}")
            break
        if item.answer == NO_ANSWER:
            faults.append(f"{where} item {row + 1}: has not exactly one right answer")
        items.append(replace(item, id=f"{name}-{row}", line=row + 1))
    if faults:
        raise ItemsError(where, tuple(faults), hint="is it whole, and a file for llama-perplexity --multiple-choice?")
    return tuple(items)


def _item_at(raw: bytes, at: int) -> tuple[Item, int]:
    question, at = _string_at(raw, at)
    choices, labels, at = _answers_at(raw, at)
    _, _, at = _answers_at(raw, at)
    answer = labels.index(1) if labels.count(1) == 1 else NO_ANSWER
    return Item(id="", question=question, choices=choices, answer=answer), at


def _string_at(raw: bytes, at: int) -> tuple[str, int]:
    (n_bytes,) = struct.unpack_from("<I", raw, at)
    if at + 4 + n_bytes > len(raw):
        raise ValueError(f"a text of {n_bytes:,} bytes does not fit")
    return raw[at + 4 : at + 4 + n_bytes].decode(), at + 4 + n_bytes


def _answers_at(raw: bytes, at: int) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    (n,) = struct.unpack_from("<I", raw, at)
    if n > MAX_CHOICES:
        raise ValueError(f"{n:,} choices, the tool takes {MAX_CHOICES}")
    texts, at = [], at + 4
    for _ in range(n):
        text, at = _string_at(raw, at)
        texts.append(text)
    return tuple(texts), struct.unpack_from(f"<{n}i", raw, at), at + 4 * n
