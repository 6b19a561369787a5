"""Items of a task set: what one is, a seeded draw of them, and every fault that one can have.

Scorers are llama-perplexity's: ``hellaswag`` (four endings of a context), ``winogrande`` (two fillers of a blank),
``multiple-choice`` (answers to a question: ARC, MMLU, TruthfulQA and the like).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from lwq.errors import FileError

Kind = Literal["hellaswag", "winogrande", "multiple-choice"]
N_SHOWN: Final = 10
NO_ANSWER: Final = -1
_CHOICES: Final[Mapping[Kind, int]] = {"hellaswag": 4, "winogrande": 2}
_MOJIBAKE: Final = re.compile(
    "Ã[\u0080-\u00ba\u00bc-\u00bf]|Â[\u0080-\u00aa\u00ac-\u00ba\u00bc-\u00bf]|â€|â\u0080|ï»¿|ðŸ"
)
"""UTF-8 that was read as Latin-1 or Windows-1252; « and » are left out, they follow capitals in French."""
_REPLACEMENT: Final = "\ufffd"
_LAYOUT: Final = frozenset("\t\n\r")
_BAD_CATEGORIES: Final = frozenset({"Cc", "Cs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One task: a question (a context; a sentence with one ``_``) and its choices, of which one is right.

    ``id`` is the official one where the data has one, else ``NAME-ROW``; ``answer`` counts from 0; ``line`` is the
    line, or the row, of its file, from 1 (0: none).
    """

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int
    line: int = 0


class ItemsError(FileError):
    """Task items that cannot be used; ``faults`` are all of them, the message has the first ten."""

    def __init__(self, where: str, faults: tuple[str, ...], *, hint: str = "") -> None:
        n = len(faults)
        head = f"{where or 'task items'}: {n} fault{'s' if n > 1 else ''}"
        more = (f"  … and {n - N_SHOWN} more",) if n > N_SHOWN else ()
        super().__init__("\n".join((head, *(f"  {fault}" for fault in faults[:N_SHOWN]), *more)), hint=hint)
        self.faults = faults


def place(item: Item, where: str) -> str:
    """``WHERE line 17``, for a message."""
    return f"{where} {f'line {item.line}' if item.line else f'item {item.id}'}".strip()


def draw(items: tuple[Item, ...], n: int | None, seed: int) -> tuple[Item, ...]:
    """``n`` items without replacement, each equally likely, in file order; all when ``n`` is None.

    A smaller draw with the same seed is part of a larger one.

    Raises:
        ItemsError: there are fewer than ``n``, or ``n`` is below 1.
    """
    if n is None:
        return items
    if not 1 <= n <= len(items):
        hint = f"ask for at most {len(items):,}, or give a larger file" if items else ""
        raise ItemsError("", (f"{n:,} items were asked for, there are {len(items):,}",), hint=hint)
    random = Random(seed)
    lots = [random.random() for _ in items]
    return tuple(items[i] for i in sorted(sorted(range(len(items)), key=lots.__getitem__)[:n]))


def checked(items: Iterable[Item], where: str, kind: Kind, *, skip: bool = False) -> tuple[Item, ...]:
    """The same items, which have no fault; with ``skip``, those that have none.

    Raises:
        ItemsError: all faults of all items, each ``WHERE line 17: …``; or no items are there, or none that may stay.
    """
    items = tuple(items)
    if not items:
        raise ItemsError(where, (f"{where}: has no items",), hint="is it the right file?")
    item_faults = faults(items, kind)
    bad = {i for i, _ in item_faults}
    if skip and len(bad) < len(items):
        return tuple(item for i, item in enumerate(items) if i not in bad)
    if item_faults:
        messages = tuple(f"{place(items[i], where)}: {fault} ({items[i].id})" for i, fault in item_faults)
        raise ItemsError(
            where, messages, hint='mend these lines, or leave such items out: faulty = "skip" (--skip-faulty)'
        )
    return items


def faults(items: tuple[Item, ...], kind: Kind) -> tuple[tuple[int, str], ...]:
    """(index of the item, fault in words), in order; an item may have several."""
    numbered: list[tuple[int, str]] = []
    seen: dict[tuple[str, ...], int] = {}
    for i, item in enumerate(items):
        numbered += [(i, fault) for fault in _own_faults(item, kind)]
        text = ("text", item.question, *sorted(item.choices))
        for what, key in ((f"the id {item.id!r}", ("id", item.id)), ("question and choices", text)):
            if (first := seen.setdefault(key, i)) != i:
                numbered.append((i, f"repeats {what} of {place(items[first], '')}"))
    return tuple(numbered)


def _own_faults(item: Item, kind: Kind) -> list[str]:
    in_words = []
    n, wanted = len(item.choices), _CHOICES.get(kind)
    if wanted is not None and n != wanted:
        in_words.append(f"has {n} choices, {kind} needs exactly {wanted}")
    elif n < 2:
        in_words.append(f"has {n} choice{'' if n == 1 else 's'}, at least 2 are needed")
    if item.answer == NO_ANSWER:
        in_words.append("has no answer")
    elif not 0 <= item.answer < n:
        in_words.append(f"the answer is choice {item.answer} of {n}, counted from 0")
    if fault := encoding_fault(item.id):
        in_words.append(f"the id {fault}")
    in_words += _text_faults(item)
    if kind == "winogrande" and (blanks := item.question.count("_")) != 1:
        in_words.append(f"the sentence has {blanks} blanks (_), exactly 1 is needed: {item.question[:60]!r}")
    return in_words


def _text_faults(item: Item) -> list[str]:
    texts = {"the question": item.question} | {f"choice {i}": choice for i, choice in enumerate(item.choices)}
    in_words = [f"{name} is empty" for name, text in texts.items() if not text.strip()]
    for i, choice in enumerate(item.choices):
        if (first := item.choices.index(choice)) != i:
            in_words.append(f"choices {first} and {i} are the same: {choice[:60]!r}")
    for name, text in texts.items():
        if fault := encoding_fault(text):
            in_words.append(f"{name} {fault}")
    return in_words


def encoding_fault(text: str) -> str:
    """What tells that the text was decoded wrongly, in words; empty where nothing does."""
    if _REPLACEMENT in text:
        return f"has a replacement character (U+FFFD): its encoding was lost before, near {_near(text, _REPLACEMENT)}"
    for character in text:
        if character not in _LAYOUT and unicodedata.category(character) in _BAD_CATEGORIES:
            return f"has the control character U+{ord(character):04X}, near {_near(text, character)}"
    if match := _MOJIBAKE.search(text):
        return f"is UTF-8 that was read in another encoding, near {_near(text, match[0])}"
    return ""


def _near(text: str, piece: str) -> str:
    at = text.index(piece)
    return ascii(text[max(0, at - 12) : at + 12])
