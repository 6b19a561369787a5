"""Items from the packaged text are prose, without repeats, and fit the tool's formats."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources

import pytest

from lwq.tasks.cloze import sentence_cloze, word_cloze
from lwq.tasks.formats import render
from lwq.tasks.items import Item, ItemsError, Kind, checked

EVALUATION = resources.files("lwq.plan").joinpath("texts", "evaluation.txt").read_text(encoding="utf-8")
FLAT = " ".join(EVALUATION.split())
MADE: tuple[tuple[Callable[[str, int, int], tuple[Item, ...]], Kind], ...] = (
    (sentence_cloze, "multiple-choice"),
    (word_cloze, "winogrande"),
)


@pytest.mark.parametrize(("make", "kind"), MADE)
def test_packaged_text_gives_two_hundred_items_that_can_be_written(
    make: Callable[[str, int, int], tuple[Item, ...]], kind: Kind
) -> None:
    items = make(EVALUATION, 200, 1)
    assert len(items) == 200
    assert render(kind, checked(items, "cloze", kind))
    assert items == make(EVALUATION, 200, 1)
    assert items != make(EVALUATION, 200, 2)
    # choices stand in every place about equally often: 200 draws, four standard deviations
    n = len(items[0].choices)
    for place in range(n):
        share = sum(item.answer == place for item in items)
        assert abs(share - 200 / n) < 4 * (200 * (1 / n) * (1 - 1 / n)) ** 0.5


@pytest.mark.parametrize(("make", "kind"), MADE)
def test_no_markup_code_or_heading_is_in_an_item(make: Callable[[str, int, int], tuple[Item, ...]], kind: Kind) -> None:
    for item in make(EVALUATION, 200, 3):
        for text in (item.question.replace("_", "", 1 if kind == "winogrande" else 0), *item.choices):
            assert not re.search(r"``|:\w+:|::|>>>|\*\*|\|_|\"|[{}<>]|={3,}|\bdef |\bprint\(", text), text


def letters(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip()


def test_right_ending_continues_the_text_and_wrong_ones_are_of_similar_length() -> None:
    plain = letters(re.sub(r":[\w:]+:(?=`)", "", EVALUATION))
    items = sentence_cloze(EVALUATION, 200, 1)
    found = [letters(f"{item.question} {item.choices[item.answer]}") in plain for item in items]
    # nine of the text's sentences have links, whose targets are left out
    assert sum(found) >= 191
    for item in items:
        lengths = [len(choice) for choice in item.choices]
        assert max(lengths) <= 1.5 * min(lengths)


def test_sentence_is_cut_in_the_middle_and_the_one_before_leads_in() -> None:
    sentences = [
        "Before it there was one more that leads in well enough for all.",
        "The quick brown fox of the north jumps over many lazy dogs.",
    ]
    others = "\n\n".join(
        f"The {a} engine of the {b} machine runs on and on without any {c} at all."
        for a, b, c in [("first", "old", "noise"), ("second", "new", "smoke"), ("third", "red", "sound")]
    )
    items = sentence_cloze(f"{' '.join(sentences)}\n\n{others}\n", 2, 1) + sentence_cloze(
        f"{' '.join(sentences)}\n\n{others}\n", 5, 1
    )
    item = next(i for i in items if "quick" in i.question)
    assert item.question == f"{sentences[0]} The quick brown fox of the"
    assert item.choices[item.answer] == "north jumps over many lazy dogs."


def test_filled_blank_gives_a_sentence_of_the_text_and_the_other_word_occurs_elsewhere() -> None:
    for item in word_cloze(EVALUATION, 200, 1):
        right, wrong = item.choices[item.answer], item.choices[1 - item.answer]
        before, after = item.question.split("_")
        assert " ".join(f"{right}{after}".split()[:3]) in re.sub(r"[`*]|:\w+:", "", FLAT)
        assert re.search(rf"\b{wrong}\b", EVALUATION)
        assert wrong not in re.findall(r"\w+", item.question)
        assert abs(len(right) - len(wrong)) <= 2
        assert len(before.split()) >= 3
        assert len(after.split()) >= 5


def test_lists_tables_code_and_directives_give_nothing() -> None:
    sentence = "This is a sentence of more than ten words, and it is about engines."
    blocks = (
        f"* {sentence}",
        f"1. {sentence}",
        f"   {sentence}",
        f".. note:: {sentence}",
        f"| {sentence}",
        f">>> {sentence}",
        f":param: {sentence}",
        sentence.removesuffix("."),
        "=====  =====\n" + sentence,
    )
    with pytest.raises(ItemsError, match="1 items were asked for, the text gives 0"):
        sentence_cloze("\n\n".join(blocks), 1, 1)


@pytest.mark.parametrize(("make", "kind"), MADE)
def test_text_too_short_for_so_many_items_is_an_error(
    make: Callable[[str, int, int], tuple[Item, ...]], kind: Kind
) -> None:
    with pytest.raises(ItemsError, match=r"5,000 items were asked for, the text gives \d+") as caught:
        make(EVALUATION, 5000, 1)
    assert caught.value.hint
