"""Tokens that an item takes: what its choices share once, and the rest of each."""

from __future__ import annotations

import pytest

from lwq.tasks.items import Item, Kind
from lwq.tasks.lengths import measured, whole_texts


def item(question: str, *choices: str) -> Item:
    return Item(id=question, question=question, choices=choices, answer=0)


def characters(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("winogrande", ("a x _", "a yy _")),
        ("hellaswag", ("a _ _ x", "a _ _ yy")),
        ("multiple-choice", ("a _ _ x", "a _ _ yy")),
    ],
)
def test_a_choice_stands_in_the_first_blank_or_behind_the_question(kind: Kind, texts: tuple[str, ...]) -> None:
    assert whole_texts(kind, item("a _ _", "x", "yy")) == texts


def test_an_item_takes_what_is_shared_once_and_the_rest_of_each() -> None:
    # "ab " is shared (3), then "x" and "yz": 3 + 1 + 2; "a " is 2 + 3 + 3
    assert measured(characters, "hellaswag", [item("ab", "x", "yz")]) == (6, ())
    assert measured(characters, "hellaswag", [item("ab", "x", "yz"), item("a", "xyz", "uvw")]) == (8, ())
    assert measured(characters, "hellaswag", []) == (0, ())


def test_choices_that_begin_with_the_shortest_are_told_but_for_winogrande() -> None:
    assert measured(characters, "multiple-choice", [item("ab", "x", "xy"), item("a", "x", "y")]) == (5, ("ab",))
    assert measured(characters, "winogrande", [item("_", "x", "xy")]) == (2, ())
