"""Each text format is told from its content, and a bad line of it by its number."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.tasks.files import read_items
from lwq.tasks.items import Item, ItemsError
from tests.tasks.test_files import MMLU_ROWS, WINOGRANDE, csv_of, jsonl, put


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_six_lines_are_read_with_any_line_ends_and_byte_order_mark(newline: str, mark: str, tmp_path: Path) -> None:
    lines = ["[x] A man. He", "2", "a", "b", "c", "d", "Zoë", "0", "e", "f", "g", "h"]
    items = read_items(put(tmp_path / "h", mark + newline.join(lines) + newline), "hellaswag")
    assert items == (
        Item(id="hellaswag-0", question="[x] A man. He", choices=("a", "b", "c", "d"), answer=2, line=1),
        Item(id="hellaswag-1", question="Zoë", choices=("e", "f", "g", "h"), answer=0, line=7),
    )


WINOGRANDE_TEXTS = {
    "the tool's": '0,"Ann is, so _ won.",Ann,Zoë,2\n1,"Say "x" to _ , now.",Ann,Bob,1\n2,A _ b,c,d,1\n\n',
    "with names": 'index,sentence,choice1,choice2,answer\n0,"Ann is, so _ won.",Ann,Zoë,2\n',
    "quoted": '"0","Ann is, so _ won.","Ann","Zoë","2"\n',
    "other names": 'sentence,option1,option2,answer\n"Ann is, so _ won.",Ann,Zoë,2\n',
}


@pytest.mark.parametrize("form", list(WINOGRANDE_TEXTS))
def test_winogrande_csv_is_read_in_each_form(form: str, tmp_path: Path) -> None:
    items = read_items(put(tmp_path / "w", WINOGRANDE_TEXTS[form]), "winogrande")
    want = ("Ann is, so _ won.", ("Ann", "Zoë"), 1)
    assert (items[0].question, items[0].choices, items[0].answer) == want
    assert (items[0].id, items[0].line) == ("winogrande-0", 2 if "names" in form else 1)
    (official,) = read_items(jsonl(tmp_path / "j", WINOGRANDE), "winogrande")
    assert (official.question, official.choices, official.answer) == want
    assert official.id == "W-2"


def test_doubled_quotes_of_proper_csv_are_single_and_commas_in_choices_stay(tmp_path: Path) -> None:
    text = csv_of([["0", 'Say "hi, _" now.', "Ann, B", "Bob", "1"]])
    (item,) = read_items(put(tmp_path / "w", text), "winogrande")
    assert (item.question, item.choices) == ('Say "hi, _" now.', ("Ann, B", "Bob"))


def test_mmlu_csv_keeps_line_breaks_inside_and_names_where_each_row_begins(tmp_path: Path) -> None:
    text = csv_of([*MMLU_ROWS, MMLU_ROWS[0]]).replace("\n", "\r\n")
    items = read_items(put(tmp_path / "m", text), "mmlu")
    assert [item.line for item in items] == [1, 2, 4]
    assert items[1] == Item(id="mmlu-1", question='Say "a",\nthen b', choices=("x, y", "y", "z", "w"), answer=0, line=2)
    named = read_items(put(tmp_path / "n", csv_of([["question", "A", "B", "C", "D", "answer"], *MMLU_ROWS])), "mmlu")
    assert [(i.id, i.question) for i in named] == [(i.id, i.question) for i in items[:2]]


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("c\n0\na\nb\nc\nd\n" * 3 + "c\n9\na\nb\nc\nd\n", 20, "is no number of an ending"),
        ("c\n0\na\nb\nc\nd\n" * 3 + "c\n0\na\n", 19, "begins an item of 3 lines, 6 are needed"),
        ("0,a _,x,y,1\n" * 3 + "3,b _,x,y,5\n", 4, "the answer '5' is neither 1 nor 2"),
        ("0,a _,x,y,1\n" * 3 + "3,b _,x,y,\n", 4, "has no answer"),
        ("0,a _,x,y,1\n" * 3 + "3,b _,x\n", 4, "is no line of index,sentence"),
        ("q,1,2,3,4,A\n" * 3 + "q,1,2,3,A\n", 4, "has 5 fields"),
        ("q,1,2,3,4,A\n" * 3 + 'q,"1"2,2,3,4,A\nq,1,2,3,4,A\n', 4, "is not CSV"),
        ("q,1,2,3,4,A\n" * 3 + "q,1,2,3,4,\n", 4, "has no answer"),
        ('[{"question": "q", "choices": ["a", "b"], "answer": 0},\n{"question"}]', 2, "is not JSON"),
        ('[{"question": "q", "choices": ["a", "b"], "answer": 0}\n', 2, "is not JSON"),
        ("Once upon a time, there was.\n", 1, "is no format of task items"),
    ],
)
def test_bad_line_of_any_text_format_is_told_with_its_number(text: str, line: int, told: str, tmp_path: Path) -> None:
    with pytest.raises(ItemsError, match=rf"f line {line}: .*{told}"):
        read_items(put(tmp_path / "f", text), "x")


@pytest.mark.parametrize(
    ("text", "questions"),
    [
        ("[x] is what?,a,b,c,d,A\n", ["[x] is what?"]),
        ('"a\n1\nb",a,b,c,d,A\nWhat is 1?,a,b,c,d,A\nr,a,b,c,d,B\ns,a,b,c,d,C\n', ["a\n1\nb", "What is 1?", "r", "s"]),
    ],
)
def test_mmlu_that_looks_like_another_format_is_mmlu(tmp_path: Path, text: str, questions: list[str]) -> None:
    assert [item.question for item in read_items(put(tmp_path / "m", text), "mmlu")] == questions
