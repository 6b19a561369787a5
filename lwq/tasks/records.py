"""Items from records of the published data sets, as JSON lines or table rows hold them, told apart by their keys.

HellaSwag, WinoGrande, ARC, MMLU, TruthfulQA (single right answer), the plain form ``{id, question | context,
choices, answer}``, and any other by the names of its columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

from lwq.errors import UsageError
from lwq.tasks.items import Item

Record = Mapping[str, Any]
_COLUMNS: Final = ("question", "choices", "answer", "id")
_SPACES: Final = re.compile(" {2,}")
_BRACKETS: Final = re.compile(r"\[.*?\]")


class RecordFault(ValueError):
    """What keeps a record from being an item."""


def item_of(record: Any, row: int, name: str, columns: Mapping[str, str] | None = None) -> Item:
    """The item in a record, whatever data set it comes from.

    Args:
        row: its place among the records, from 0.
        name: that of the set, for ids where the data has none.
        columns: ``question``, ``choices``, ``answer`` (and ``id``) → name of the column; for other data sets.

    Raises:
        RecordFault: not a form that is known, or without a usable answer.
    """
    if not isinstance(record, Mapping):
        raise RecordFault(f"is no object with keys: {str(record)[:60]!r}")
    if columns is not None:
        return _by_columns(record, f"{name}-{row}", columns)
    for marks, read in _FORMS:
        if marks <= record.keys():
            return read(record, row, name)
    keys = ", ".join(map(str, record)) or "no keys"
    raise RecordFault(f"has {keys}: no known form of an item; name the columns of question, choices and answer")


def check_columns(columns: Mapping[str, str]) -> None:
    """Raises UsageError unless question, choices and answer are named, and nothing else but id."""
    missing = [key for key in _COLUMNS[:3] if key not in columns]
    unknown = [key for key in columns if key not in _COLUMNS]
    if missing or unknown:
        mistakes = [f"{key!r} is missing" for key in missing] + [f"{key!r} is unknown" for key in unknown]
        raise UsageError(
            f"columns: {', '.join(mistakes)}", hint=f"they are {', '.join(_COLUMNS[:3])} and, if wanted, id"
        )


def clean_hellaswag(text: str) -> str:
    """The text without the marks of WikiHow pages: ``[title]`` ends a sentence, other brackets go; single spaces.

    Source: lm-evaluation-harness, lm_eval/tasks/hellaswag.py, ``preprocess``; white space at the ends goes last, as in
    the six-line file that llama.cpp's scripts/get-hellaswag.sh fetches.
    """
    text = text.strip().replace(" [title]", ". ")
    return _SPACES.sub(" ", _BRACKETS.sub("", text)).strip()


def _hellaswag(record: Record, row: int, name: str) -> Item:
    label = _text(record, "activity_label")
    return Item(
        id=_id(record, "ind", f"{name}-{row}"),
        question=clean_hellaswag(f"{label}: {_text(record, 'ctx')}"),
        choices=tuple(clean_hellaswag(ending) for ending in _texts(record, "endings")),
        answer=_index(record.get("label"), ()),
    )


def _winogrande(record: Record, row: int, name: str) -> Item:
    answer = str(_given(record.get("answer"))).strip()
    if answer not in ("1", "2"):
        raise RecordFault(f"the answer {answer!r} is neither 1 nor 2")
    return Item(
        id=_id(record, "qID", f"{name}-{row}"),
        question=_text(record, "sentence"),
        choices=(_text(record, "option1"), _text(record, "option2")),
        answer=int(answer) - 1,
    )


def _arc(record: Record, row: int, name: str) -> Item:
    """ARC as released (``question.choices`` a list of text and label) or as a table (``choices`` two lists)."""
    inner = record["question"]
    if isinstance(inner, Mapping):
        listed = inner.get("choices")
        if not isinstance(listed, Sequence) or not all(isinstance(choice, Mapping) for choice in listed):
            raise RecordFault("question.choices is no list of text and label")
        question = _text(inner, "stem")
        choices, labels = (tuple(_text(choice, key) for choice in listed) for key in ("text", "label"))
    else:
        question, listed = _text(record, "question"), record.get("choices")
        if not isinstance(listed, Mapping):
            raise RecordFault("has choices neither in question nor beside it")
        choices, labels = _texts(listed, "text"), _texts(listed, "label")
    key = str(_given(record.get("answerKey"))).strip()
    answer = int(key) - 1 if _is_number(key) and key not in labels else _index(key, labels)
    if answer < 0:
        raise RecordFault(f"the answer {key!r} is none of {', '.join(labels)}")
    return Item(id=_id(record, "id", f"{name}-{row}"), question=question, choices=choices, answer=answer)


def _truthfulqa(record: Record, row: int, name: str) -> Item:
    """The choices in an order drawn from the row: as released, the right one always stands first."""
    targets = record["mc1_targets"]
    if not isinstance(targets, Mapping):
        raise RecordFault("mc1_targets is no object")
    if targets.keys() == {"choices", "labels"} and isinstance(targets["labels"], list):
        choices, labels = _texts(targets, "choices"), tuple(targets["labels"])
    else:
        choices, labels = tuple(map(str, targets)), tuple(targets.values())
    if len(labels) != len(choices) or labels.count(1) != 1:
        raise RecordFault(f"mc1_targets has {labels.count(1)} right answers for {len(choices)} choices, one is needed")
    random = Random(row)
    lots = [random.random() for _ in choices]
    order = sorted(range(len(choices)), key=lots.__getitem__)
    return Item(
        id=_id(record, "id", f"{name}-{row}"),
        question=_text(record, "question"),
        choices=tuple(choices[i] for i in order),
        answer=order.index(labels.index(1)),
    )


def _plain(record: Record, row: int, name: str) -> Item:
    """``{id, question | context, choices, answer}``, and MMLU's table, which has a subject in place of the id."""
    key = "question" if "question" in record else "context"
    question, choices = _text(record, key), _texts(record, "choices")
    own = f"{name}-{row}"
    if isinstance(subject := record.get("subject"), str):
        own = f"{name}-{subject}-{row}"
        question, choices = question.strip(), tuple(choice.strip() for choice in choices)
    answer = _index(record.get("answer"), ())
    return Item(id=_id(record, "id", own), question=question, choices=choices, answer=answer)


def _by_columns(record: Record, own_id: str, columns: Mapping[str, str]) -> Item:
    """An item of any table; ``choices`` names a list, an object of text and label, or several columns (``A,B,C``)."""
    named = columns["choices"]
    labels: tuple[str, ...] = ()
    if named not in record and "," in named:
        choices = tuple(_text(record, part.strip()) for part in named.split(","))
    elif isinstance(record.get(named), Mapping):
        choices, labels = _texts(record[named], "text"), _texts(record[named], "label")
    else:
        choices = _texts(record, named)
    answer = _index(record.get(columns["answer"]), labels or choices)
    question = _text(record, columns["question"])
    return Item(id=_id(record, columns.get("id", ""), own_id), question=question, choices=choices, answer=answer)


def _id(record: Record, key: str, own: str) -> str:
    value = record.get(key)
    return own if value is None or value == "" else str(value)


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        keys = ", ".join(map(str, record))
        raise RecordFault(f"{key} is no text: {str(value)[:60]!r}" if key in record else f"has no {key}, only {keys}")
    return value


def _texts(record: Record, key: str) -> tuple[str, ...]:
    values = record.get(key)
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
        raise RecordFault(f"{key} is no list of texts" if key in record else f"has no {key}, only {', '.join(record)}")
    return tuple(values)


def _given(value: Any) -> Any:
    if value is None or value == "":
        raise RecordFault("has no answer")
    if value == -1:
        raise RecordFault("the answer is -1: hidden (as tables mark it), or out of range")
    return value


def _index(value: Any, labels: Sequence[str]) -> int:
    """The index from 0 that an answer means: a number, one of the labels, a letter (A is 0), or digits.

    Whether it is in range is for :func:`lwq.tasks.items.checked` to tell.
    """
    value = _given(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():  # how tables hold numbers where some are missing
        return int(value)
    text = str(value).strip()
    if text in labels:
        return labels.index(text)
    if len(text) == 1 and text.isascii() and text.isalpha():
        return ord(text.upper()) - ord("A")
    if _is_number(text):
        return int(text)
    raise RecordFault(f"the answer {text[:60]!r} is no index, letter or label")


def _is_number(text: str) -> bool:
    """Whether digits mean an index; Python refuses thousands of them."""
    return text.isdecimal() and len(text) < 10


def _is_table_of_choices(record: Record, row: int, name: str) -> Item:
    read = _arc if isinstance(record["choices"], Mapping) and "answerKey" in record else _plain
    return read(record, row, name)


_FORMS: Final[tuple[tuple[frozenset[str], Callable[[Record, int, str], Item]], ...]] = (
    (frozenset({"ctx", "endings"}), _hellaswag),
    (frozenset({"sentence", "option1", "option2"}), _winogrande),
    (frozenset({"mc1_targets", "question"}), _truthfulqa),
    (frozenset({"question", "choices"}), _is_table_of_choices),
    (frozenset({"context", "choices"}), _plain),
    (frozenset({"question", "answerKey"}), _arc),
)
