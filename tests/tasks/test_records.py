"""Every published form of the five sets gives the same items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import UsageError
from lwq.tasks.files import read_items
from lwq.tasks.items import Item, ItemsError
from tests.tasks.test_files import (
    ARC_CHOICES,
    ARC_TABLE,
    HELLASWAG,
    MMLU_TABLE,
    TARGETS,
    TRUTHFUL_TABLE,
    jsonl,
    plain,
    put,
)

ARC_RELEASED = {
    "id": "M_1",
    "question": {
        "stem": "Which conducts?",
        "choices": [{"text": t, "label": x} for t, x in zip(ARC_CHOICES, "ABC", strict=True)],
    },
    "answerKey": "C",
}
ARC = Item(id="M_1", question="Which conducts?", choices=ARC_CHOICES, answer=2, line=1)
TRUTHFUL = {"question": "Is it?", "mc1_targets": TARGETS, "mc2_targets": {}}


@pytest.mark.parametrize("record", [ARC_RELEASED, ARC_TABLE])
def test_arc_as_released_and_as_a_table_is_the_same_item(record: Any, tmp_path: Path) -> None:
    assert read_items(jsonl(tmp_path / "a", record), "arc-easy") == (ARC,)


@pytest.mark.parametrize(("labels", "key", "answer"), [("1234", "3", 2), ("ABCD", "4", 3), ("1234", "B", 1)])
def test_arc_key_is_a_letter_or_a_digit(labels: str, key: str, answer: int, tmp_path: Path) -> None:
    choices = {"text": ["a", "b", "c", "d"], "label": list(labels)}
    record = {"id": "x", "question": "q", "choices": choices, "answerKey": key}
    assert read_items(jsonl(tmp_path / "a", record), "arc")[0].answer == answer


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"question": "q", "answerKey": "A"}, "has choices neither in question nor beside it"),
        ({"question": "q", "answerKey": "A", "choices": "xy"}, "choices"),
        ({"question": "q", "choices": ["x", "y"], "answer": "ß"}, "'ß' is no index, letter or label"),
        ({"question": "q", "choices": ["x", "y"], "answer": "9" * 5000}, "is no index, letter or label"),
        ({"question": "q", "answerKey": "9" * 5000, "choices": {"text": ["x"], "label": ["A"]}}, "is no index"),
    ],
)
def test_records_that_are_nearly_right_are_told(record: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(ItemsError, match=told):
        read_items(jsonl(tmp_path / "a", record), "arc")


@pytest.mark.parametrize("label", [3, "3"])
def test_hellaswag_is_cleaned_as_the_harness_does(label: int | str, tmp_path: Path) -> None:
    (item,) = read_items(jsonl(tmp_path / "h", {**HELLASWAG, "label": label}), "hellaswag")
    assert item == Item(
        id="24",
        question="Roof: How to sit. Find a roof. A man sits. he",
        choices=("is\u2028wet .", "rips it.", "sings. loud.", "läuft."),
        answer=3,
        line=1,
    )


def test_mmlu_table_has_the_subject_in_its_ids_and_no_white_space_at_ends(tmp_path: Path) -> None:
    (item,) = read_items(jsonl(tmp_path / "m", MMLU_TABLE), "mmlu")
    assert item == Item(id="mmlu-algebra-0", question="2 + 2 is", choices=("1", "2", "3", "4"), answer=3, line=1)


def test_truthfulqa_answers_are_shuffled_by_row_alike_in_both_forms(tmp_path: Path) -> None:
    released = put(tmp_path / "t", json.dumps([TRUTHFUL] * 40, indent=1))
    items = read_items(released, "truthfulqa")
    table = read_items(jsonl(tmp_path / "u", *[TRUTHFUL_TABLE] * 40), "truthfulqa")
    assert [(i.id, i.choices, i.answer) for i in items] == [(i.id, i.choices, i.answer) for i in table]
    assert all(item.choices[item.answer] == "Right." and set(item.choices) == set(TARGETS) for item in items)
    assert {item.answer for item in items} == {0, 1, 2, 3}
    lines = released.read_text(encoding="utf-8").split("\n")
    assert all(lines[item.line - 1].strip() == "{" for item in items)


def test_plain_form_keeps_its_texts_as_they_are(tmp_path: Path) -> None:
    record = {"id": "h-1", "context": " A\nman. ", "choices": ["a ", "b"], "answer": 1}
    assert read_items(jsonl(tmp_path / "p", record), "x") == (
        Item(id="h-1", question=" A\nman. ", choices=("a ", "b"), answer=1, line=1),
    )


@pytest.mark.parametrize(
    ("record", "columns", "answer"),
    [
        ({"q": "?", "o": ["a", "b"], "k": 1, "n": 7}, {"choices": "o", "id": "n"}, 1),
        ({"q": "?", "o": ["a", "b"], "k": "b", "n": 7}, {"choices": "o"}, 1),
        ({"q": "?", "o": ["a", "b"], "k": "B", "n": 7}, {"choices": "o"}, 1),
        ({"q": "?", "x": "a", "y": "b", "k": "1", "n": 7}, {"choices": "x, y"}, 1),
        ({"q": "?", "o": {"text": ["a", "b"], "label": ["I", "II"]}, "k": "II", "n": 7}, {"choices": "o"}, 1),
    ],
)
def test_any_table_is_read_by_the_names_of_its_columns(
    record: Any, columns: dict[str, str], answer: int, tmp_path: Path
) -> None:
    named = {"question": "q", "answer": "k", **columns}
    (item,) = read_items(jsonl(tmp_path / "c", record), "own", named)
    own = "7" if "id" in columns else "own-0"
    assert item == Item(id=own, question="?", choices=("a", "b"), answer=answer, line=1)


def test_columns_that_are_missing_or_unknown_are_refused(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "c", plain(0))
    with pytest.raises(UsageError, match="'answer' is missing, 'right' is unknown"):
        read_items(file, "x", {"question": "q", "choices": "o", "right": "k"})
    with pytest.raises(ItemsError, match="line 1: has no o, only id, question, choices, answer"):
        read_items(file, "x", {"question": "question", "choices": "o", "answer": "answer"})
    with pytest.raises(ItemsError, match="columns are for these and for parquet"):
        read_items(put(tmp_path / "d", "a,b\n"), "x", {"question": "a", "choices": "b", "answer": "b"})
