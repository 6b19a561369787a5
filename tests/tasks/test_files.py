"""Files of every kind give the same items; every bad line is told with its number; sets are merged."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import FileError, UsageError
from lwq.tasks.files import kind_of, merged, read_items, usable_items, without_repeats
from lwq.tasks.formats import render
from lwq.tasks.items import Item, ItemsError, Kind

ARC_CHOICES = ("iron, cold", "die Luft", "wood")
ARC_TABLE = {
    "id": "M_1",
    "question": "Which conducts?",
    "choices": {"text": list(ARC_CHOICES), "label": ["A", "B", "C"]},
    "answerKey": "C",
}
HELLASWAG = {
    "ind": 24,
    "activity_label": "Roof",
    "ctx_a": "A man sits.",
    "ctx_b": "he",
    "ctx": "[header] How to sit [title] Find a roof. [step] A  man sits. he",
    "endings": ["[substeps] is\u2028wet .", "rips it.", "sings [title] loud.", "läuft."],
    "label": 3,
    "split": "val",
}
WINOGRANDE = {"qID": "W-2", "sentence": "Ann is, so _ won.", "option1": "Ann", "option2": "Zoë", "answer": "2"}
TARGETS = {"Right.": 1, "Wrong.": 0, "Also wrong.": 0, "Quite wrong.": 0}
TRUTHFUL_TABLE = {"question": "Is it?", "mc1_targets": {"choices": list(TARGETS), "labels": list(TARGETS.values())}}
MMLU_TABLE = {"question": " 2 + 2 is ", "subject": "algebra", "choices": ["1", "2 ", "3", "4"], "answer": 3}
MMLU_ROWS = [["2 + 2 is", "1", "2", "3", "4", "D"], ['Say "a",\nthen b', "x, y", "y", "z", "w ", "A"]]


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(path: Path, *records: Any) -> Path:
    return put(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def csv_of(rows: list[list[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def plain(i: int) -> dict[str, Any]:
    return {"id": f"p-{i}", "question": f"Question {i}?", "choices": ["yes", "no"], "answer": i % 2}


def test_folder_of_csv_files_gives_the_subject_in_the_id(tmp_path: Path) -> None:
    for name in ("anatomy_test.csv", "virology_test.csv"):
        put(tmp_path / name, csv_of(MMLU_ROWS))
    items = read_items(tmp_path, "mmlu")
    assert [i.id for i in items] == ["mmlu-anatomy-0", "mmlu-anatomy-1", "mmlu-virology-0", "mmlu-virology-1"]
    put(tmp_path / "virology_test.csv", csv_of([*MMLU_ROWS, ["q", "1", "2", "3", "4", "E"]]))
    with pytest.raises(ItemsError, match=r"virology_test\.csv line 4: the answer 'E' is none of A, B, C, D"):
        read_items(tmp_path, "mmlu")
    (tmp_path / "none").mkdir()
    with pytest.raises(ItemsError, match=r"has no \*\.csv"):
        read_items(tmp_path / "none", "mmlu")


@pytest.mark.parametrize("record", [HELLASWAG, WINOGRANDE, ARC_TABLE, MMLU_TABLE, TRUTHFUL_TABLE])
def test_parquet_gives_the_items_of_the_same_records_in_json(record: Any, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([record] * 3), tmp_path / "p.parquet")
    items = read_items(tmp_path / "p.parquet", "x")
    assert items == read_items(jsonl(tmp_path / "j", *[record] * 3), "x")
    assert [item.line for item in items] == [1, 2, 3]


def test_parquet_cut_short_or_without_pyarrow_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(tmp_path / "p.parquet", b"PAR1 and no more")
    with pytest.raises(FileError, match="cannot be read as parquet"):
        read_items(file, "x")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FileError, match="pyarrow, which is not installed") as caught:
        read_items(file, "x")
    assert "pip install pyarrow" in caught.value.hint


@pytest.mark.parametrize("kind", ["hellaswag", "winogrande", "multiple-choice"])
def test_files_of_the_tool_itself_are_read_back(kind: Kind, tmp_path: Path) -> None:
    n = {"hellaswag": 4, "winogrande": 2, "multiple-choice": 13}[kind]
    choices = tuple(f"choice {i} – é" for i in range(n))
    items = tuple(
        Item(id=f"s-{i}", question=f'Ann, "B" {i} _ 😀', choices=choices, answer=i % n, line=i) for i in range(30)
    )
    back = read_items(put(tmp_path / "f", render(kind, items)), "s")
    assert [(i.id, i.question, i.choices, i.answer) for i in back] == [
        (i.id, i.question, i.choices, i.answer) for i in items
    ]


BAD_LINES: list[tuple[str, str]] = [
    ("{", "is not JSON: .* at character 2"),
    ("x", "is not JSON"),
    ("[1]", "is no object with keys"),
    ('{"a": 1}', "has a: no known form of an item; name the columns"),
    ('{"question": "q", "choices": ["a", "b"]}', "has no answer"),
    ('{"question": "q", "choices": ["a", "b"], "answer": null}', "has no answer"),
    ('{"question": "q", "choices": ["a", "b"], "answer": "zwei"}', "the answer 'zwei' is no index, letter or label"),
    ('{"question": "q", "choices": ["a", 2], "answer": 0}', "choices is no list of texts"),
    ('{"question": 5, "choices": ["a", "b"], "answer": 0}', "question is no text: '5'"),
    ('{"sentence": "_", "option1": "a", "option2": "b", "answer": "3"}', "the answer '3' is neither 1 nor 2"),
    ('{"question": "q", "mc1_targets": {"a": 1, "b": 1}}', "has 2 right answers for 2 choices"),
    ('{"activity_label": "x", "ctx": "y", "endings": ["a", "b", "c", "d"], "label": ""}', "has no answer"),
]


@pytest.mark.parametrize(("line", "told"), BAD_LINES)
def test_one_bad_line_among_750_is_told_with_its_number(line: str, told: str, tmp_path: Path) -> None:
    lines = [json.dumps(plain(i)) for i in range(750)]
    lines[416] = line
    with pytest.raises(ItemsError, match=rf"bad\.jsonl line 417: .*{told}") as caught:
        read_items(put(tmp_path / "bad.jsonl", "\n".join(lines)), "x")
    assert len(caught.value.faults) == 1


def test_all_bad_lines_are_counted_and_ten_of_them_shown(tmp_path: Path) -> None:
    lines = [json.dumps(plain(i)) if i % 3 else "{" for i in range(60)]
    with pytest.raises(ItemsError, match="20 faults") as caught:
        read_items(put(tmp_path / "f", "\n".join(lines)), "x")
    assert str(caught.value).count(" line ") == 10
    assert "and 10 more" in str(caught.value)


def test_lines_that_are_not_utf8_are_all_told(tmp_path: Path) -> None:
    lines = [json.dumps(plain(i)).encode() for i in range(20)]
    lines[6] = lines[13] = '{"question": "café"}'.encode("latin-1")
    with pytest.raises(ItemsError) as caught:
        read_items(put(tmp_path / "f", b"\n".join(lines)), "x")
    assert [fault.split(": ")[0].split(" ")[-2:] for fault in caught.value.faults] == [["line", "7"], ["line", "14"]]
    assert "is not UTF-8 at byte 18" in str(caught.value)
    with pytest.raises(ItemsError, match="zero bytes: UTF-16"):
        read_items(put(tmp_path / "g", json.dumps(plain(0)).encode("utf-16")), "x")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf\n", b"[]"])
def test_empty_file_is_told_as_such(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ItemsError, match="f: (is empty|has no items)"):
        read_items(put(tmp_path / "f", content), "x")


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        read_items(tmp_path / "none", "x")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("HellaSwag", "hellaswag"),
        ("winogrande_xl", "winogrande"),
        ("WinoGrande-dev", "winogrande"),
        ("my-Hella-Swag", "hellaswag"),
    ]
    + [(name, "multiple-choice") for name in ("arc", "MMLU", "truthfulqa", "wg")],
)
def test_name_tells_the_scorer(name: str, kind: Kind) -> None:
    assert kind_of(name) == kind


def numbered(prefix: str, n: int) -> tuple[Item, ...]:
    return tuple(
        Item(id=f"{prefix}{i}", question=f"{prefix}{i}?", choices=("a", "b"), answer=0, line=i + 1) for i in range(n)
    )


def test_sets_are_merged_half_and_half_with_ids_that_tell_the_set() -> None:
    sets = {"arc-easy": numbered("e", 50), "arc-challenge": numbered("c", 20)}
    items, proportion = merged(sets, 21, 1)
    assert proportion == "11 of arc-easy, 10 of arc-challenge"
    assert [i.id.split("/")[0] for i in items] == ["arc-easy"] * 11 + ["arc-challenge"] * 10
    assert len({i.id for i in items}) == 21
    assert merged(sets, 21, 1) == (items, proportion)
    everything, proportion = merged(sets, None, 1)
    assert (len(everything), proportion) == (70, "50 of arc-easy, 20 of arc-challenge")


def test_shares_set_the_proportion_and_too_few_items_name_their_set() -> None:
    sets = {"a": numbered("a", 50), "b": numbered("b", 20)}
    assert merged(sets, 10, 1, {"a": 3, "b": 1})[1] == "8 of a, 2 of b"  # 7.5 and 2.5: the first gets the rest
    with pytest.raises(ItemsError, match="b: 25 items were asked for, there are 20"):
        merged(sets, 50, 1)
    for shares in ({"a": 1.0}, {"a": 1.0, "b": 0.0}, {"a": 1.0, "c": 1.0}):
        with pytest.raises(UsageError, match="shares of a, b"):
            merged(sets, 10, 1, shares)


def test_faults_of_reading_and_of_items_are_told_together_in_the_order_of_lines(tmp_path: Path) -> None:
    records = [{**plain(i), "answer": answer} for i, answer in enumerate((2, -1, "Z", 0, None))]
    with pytest.raises(ItemsError) as caught:
        usable_items(jsonl(tmp_path / "f", *records), "x", "multiple-choice")
    told = [fault.removeprefix(str(tmp_path / "f")) for fault in caught.value.faults]
    assert told == [
        " line 1: the answer is choice 2 of 2, counted from 0 (p-0)",
        " line 2: the answer is -1: hidden (as tables mark it), or out of range",
        " line 3: the answer is choice 25 of 2, counted from 0 (p-2)",
        " line 5: has no answer",
    ]
    assert "--skip-faulty" in caught.value.hint


def test_what_is_left_out_is_what_cannot_be_read_checked_or_written(tmp_path: Path) -> None:
    lines = [json.dumps(plain(0)), "{not JSON", json.dumps({**plain(2), "answer": None}), json.dumps(plain(3))]
    items, n_faulty = usable_items(put(tmp_path / "f", "\n".join(lines)), "x", "multiple-choice", skip=True)
    assert ([item.id for item in items], n_faulty) == (["p-0", "p-3"], 2)
    awkward = {**WINOGRANDE, "qID": "W-3", "option1": "Ann, or so", "sentence": 'She said "no, so _ won.'}
    pairs = jsonl(tmp_path / "w", WINOGRANDE, awkward)
    with pytest.raises(ItemsError, match="line 2: the tool's CSV has no escape for its quotes and commas"):
        usable_items(pairs, "winogrande", "winogrande")
    items, n_faulty = usable_items(pairs, "winogrande", "winogrande", skip=True)
    assert ([item.id for item in items], n_faulty) == (["W-2"], 1)


def test_faults_in_a_folder_name_the_file(tmp_path: Path) -> None:
    put(tmp_path / "algebra_test.csv", csv_of([["q", "a", "a", "c", "d", "A"]]))
    put(tmp_path / "zoo_test.csv", csv_of([["r", "a", "b", "c", "d", "E"], ["s", "a", "b", "c", "d", "A"]]))
    with pytest.raises(ItemsError) as caught:
        usable_items(tmp_path, "mmlu", "multiple-choice")
    first, second = caught.value.faults
    assert first.startswith(f"{tmp_path / 'algebra_test.csv'} line 1: choices 0 and 1 are the same")
    assert second.startswith(f"{tmp_path / 'zoo_test.csv'} line 1: the answer 'E' is none of A, B, C, D")


def test_sentences_with_a_blank_are_not_scored_as_questions(tmp_path: Path) -> None:
    with pytest.raises(ItemsError, match="WinoGrande's") as caught:
        usable_items(jsonl(tmp_path / "f", WINOGRANDE), "wg", kind_of("wg"))
    assert "call the set winogrande" in caught.value.hint


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"question": "q", "choices": ["a", "b"], "answer": ' + "1" * 5_000 + "}", "cannot be read as JSON"),
        ('[{"question": "q", "choices": ["a", "b"], "answer": 1}] and more', "has more behind the list: 'and more'"),
        (
            '{"id": "a\\ud83d", "question": "q", "choices": ["a", "b"], "answer": 1}',
            r"the id has the control character",
        ),
    ],
)
def test_odd_json_is_a_fault_with_a_line(tmp_path: Path, line: str, told: str) -> None:
    content = line if line.startswith("[{") else f"{json.dumps(plain(0))}\n{json.dumps(plain(1))}\n{line}\n"
    with pytest.raises(ItemsError, match=rf"line {1 if line.startswith('[{') else 3}: {told}"):
        usable_items(put(tmp_path / "f", content), "x", "multiple-choice")


def test_an_item_that_two_files_of_a_set_have_counts_once() -> None:
    sets = {name: tuple(Item(id=f"{name}{i}", question=f"{i}", choices=("a", "b"), answer=0) for i in n)
            for name, n in (("e", range(3)), ("c", range(2, 5)))}  # fmt: skip
    assert {name: [i.id for i in items] for name, items in without_repeats(sets).items()} == {
        "e": ["e0", "e1", "e2"],
        "c": ["c3", "c4"],
    }


@pytest.mark.parametrize("form", ["plain", "columns"])
@pytest.mark.parametrize("n_answers", [3, 4])
def test_answers_counted_from_one_are_asked_about_and_shifted_when_said(
    form: str, n_answers: int, tmp_path: Path
) -> None:
    keys = ("question", "answer") if form == "plain" else ("frage", "antwort")
    rows = [{keys[0]: f"q{i}", "choices": ["a", "b", "c", "d"], keys[1]: 1 + i % n_answers} for i in range(40)]
    file = put(tmp_path / "f", "\n".join(map(json.dumps, rows)))
    named = {} if form == "plain" else {"question": "frage", "choices": "choices", "answer": "antwort"}
    for skip in (False, True):
        with pytest.raises(ItemsError, match="none is 0 .* counted from one") as caught:
            usable_items(file, "x", "multiple-choice", named or None, skip=skip)
        assert "first = 1" in caught.value.hint
    items, _ = usable_items(file, "x", "multiple-choice", {**named, "first": "1"})
    assert [item.answer for item in items[:4]] == [i % n_answers for i in range(4)]
    if n_answers == 3:
        items, _ = usable_items(file, "x", "multiple-choice", {**named, "first": "0"})
        assert items[0].answer == 1


def test_few_items_without_a_first_choice_are_taken_for_chance(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "choices": ["a", "b", "c", "d"], "answer": 1 + i % 3} for i in range(12)]
    items, _ = usable_items(put(tmp_path / "f", "\n".join(map(json.dumps, rows))), "x", "multiple-choice")
    assert [item.answer for item in items[:3]] == [1, 2, 3]
