"""A draw is seeded, fair and in file order; every fault of an item is told with its line."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.tasks.items import NO_ANSWER, Item, ItemsError, Kind, checked, draw, faults


def item(i: int, **changes: Any) -> Item:
    base = Item(id=f"x-{i}", question=f"Question {i}?", choices=("yes", "no", "maybe"), answer=1, line=i + 1)
    return replace(base, **changes)


def pair(i: int, **changes: object) -> Item:
    return item(i, **{"question": f"Word {i} is _ here.", "choices": ("on", "off"), **changes})


ITEMS = tuple(item(i) for i in range(40))


@given(n=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_draw_keeps_file_order_without_repeats_and_the_same_seed_gives_the_same(n: int, seed: int) -> None:
    drawn = draw(ITEMS, n, seed)
    lines = [i.line for i in drawn]
    assert len(drawn) == n
    assert lines == sorted(set(lines))
    assert drawn == draw(ITEMS, n, seed)
    assert set(draw(ITEMS, max(1, n - 1), seed)) <= set(drawn)


def test_draw_is_what_it_was_in_every_earlier_release() -> None:
    # random.Random(7).random() of the standard library, which is promised to stay
    assert [i.line for i in draw(ITEMS, 5, 7)] == [7, 9, 22, 34, 35]


def test_every_item_is_drawn_about_equally_often() -> None:
    counts = Counter(i.line for seed in range(2000) for i in draw(ITEMS, 10, seed))
    # binomial(2000, 1/4): mean 500, standard deviation 19; five of them
    assert len(counts) == 40
    assert all(abs(n - 500) < 97 for n in counts.values())


def test_draw_without_a_number_is_everything_and_too_many_is_an_error() -> None:
    assert draw(ITEMS, None, 1) is ITEMS
    for n in (41, 0, -1):
        with pytest.raises(ItemsError, match=f"{n} items were asked for, there are 40") as caught:
            draw(ITEMS, n, 1)
        assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "bad", "told"),
    [
        ("multiple-choice", item(9, answer=NO_ANSWER), "has no answer"),
        ("multiple-choice", item(9, answer=3), "the answer is choice 3 of 3, counted from 0"),
        ("multiple-choice", item(9, choices=("yes",), answer=0), "has 1 choice, at least 2"),
        ("multiple-choice", item(9, choices=(), answer=NO_ANSWER), "has 0 choices"),
        ("multiple-choice", item(9, question=" \n"), "the question is empty"),
        ("multiple-choice", item(9, choices=("yes", "", "no")), "choice 1 is empty"),
        ("multiple-choice", item(9, choices=("yes", "no", "yes")), "choices 0 and 2 are the same: 'yes'"),
        ("multiple-choice", item(9, question="caf\ufffd?"), r"U\+FFFD"),
        ("multiple-choice", item(9, question="a\x00b"), r"control character U\+0000"),
        ("multiple-choice", item(9, choices=("it\x92s", "b", "c")), r"choice 0 has the control character U\+0092"),
        ("multiple-choice", item(9, question="lone \ud83d half"), r"U\+D83D"),
        ("multiple-choice", item(9, question="caf\u00c3\u00a9?"), "read in another encoding"),
        ("multiple-choice", item(9, question="it\u00e2\u20ac\u2122s"), "read in another encoding"),
        ("hellaswag", item(9), "has 3 choices, hellaswag needs exactly 4"),
        ("winogrande", item(9, question="A _ b", choices=("a", "b", "c")), "has 3 choices, winogrande needs exactly 2"),
        ("winogrande", pair(9, question="No blank."), r"has 0 blanks"),
        ("winogrande", pair(9, question="_ and _"), r"has 2 blanks"),
    ],
)
def test_each_fault_is_told_with_its_line_and_its_id(kind: Kind, bad: Item, told: str) -> None:
    good = tuple(pair(i) for i in range(3)) if kind == "winogrande" else ()
    with pytest.raises(ItemsError, match=f"set.jsonl line 10: .*{told}") as caught:
        checked((*good, bad), "set.jsonl", kind)
    assert "(x-9)" in str(caught.value)
    assert caught.value.hint


def test_repeats_name_the_line_that_they_repeat() -> None:
    same_id = item(5, id="x-1")
    same_text = item(6, question="Question 2?", choices=("maybe", "yes", "no"))
    with pytest.raises(ItemsError) as caught:
        checked((*ITEMS[:4], same_id, same_text), "f", "multiple-choice")
    assert caught.value.faults == (
        "f line 6: repeats the id 'x-1' of line 2 (x-1)",
        "f line 7: repeats question and choices of line 3 (x-6)",
    )
    # the same question with other choices is another item
    assert not faults((item(1), item(2, question="Question 1?", choices=("a", "b"))), "multiple-choice")


def test_all_faults_are_counted_and_the_first_ten_shown() -> None:
    bad = tuple(replace(i, answer=7) if i.line > 5 else i for i in ITEMS)
    with pytest.raises(ItemsError) as caught:
        checked(bad, "f", "multiple-choice")
    lines = str(caught.value).splitlines()
    assert lines[0] == "f: 35 faults"
    assert lines[1].startswith("  f line 6: ")
    assert lines[-1] == "  … and 25 more"
    assert len(lines) == 12
    assert len(caught.value.faults) == 35


def test_faulty_items_can_be_left_out_unless_none_is_left() -> None:
    bad = replace(ITEMS[3], answer=3)
    assert checked((*ITEMS[:3], bad, ITEMS[0]), "f", "multiple-choice", skip=True) == ITEMS[:3]
    with pytest.raises(ItemsError, match="f line 4: "):
        checked((bad,), "f", "multiple-choice", skip=True)


def test_no_items_is_an_error() -> None:
    with pytest.raises(ItemsError, match="f: has no items"):
        checked((), "f", "hellaswag")


@pytest.mark.parametrize(
    "text", ["Æble på naïve café", "日本語 😀", "« À L'ÉCOLE »", "CHÂTEAU D’EAU", "a\tb\nc", "SÃO PAULO", "5 €", "Â«x"]
)
def test_texts_of_many_languages_have_no_fault(text: str) -> None:
    assert not faults((item(1, question=text),), "multiple-choice")
