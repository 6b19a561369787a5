"""A record survives its JSON; what is not one is refused with the place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.errors import FileError
from lwq.metrics.values import Estimate
from lwq.report.card import card
from lwq.report.record_json import read_record, record_from_json, record_to_json
from tests.sample_record import sample_record

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def test_record_comes_back_equal_and_as_the_same_text() -> None:
    text = record_to_json(sample_record())
    assert record_from_json(text) == sample_record()
    assert record_to_json(record_from_json(text)) == text


@given(NUMBERS, st.none() | NUMBERS.map(abs), st.text(st.characters(codec="utf-8")))
def test_any_figure_and_any_text_come_back_equal(value: float, stderr: float | None, text: str) -> None:
    record = replace(sample_record(), floor=Estimate(value=value, stderr=stderr), recipe=text)
    assert record_from_json(record_to_json(record)) == record


def test_json_is_sorted_indented_utf8_and_has_its_schema() -> None:
    text = record_to_json(sample_record())
    values = json.loads(text)
    assert values["schema"] == 4
    assert text == json.dumps(values, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    assert "größer" in text


def edited(change: Callable[[dict[str, Any]], object]) -> str:
    values = json.loads(record_to_json(sample_record()))
    change(values)
    return json.dumps(values)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not JSON"),
        ("[]", "record schema None"),
        (edited(lambda v: v.update(schema=0)), "record schema 0"),
        (edited(lambda v: v.update(schema=5)), "record schema 5"),
        (edited(lambda v: v.update(schema=True)), "record schema True"),
        (edited(lambda v: v.update(schema="4")), "record schema '4'"),
        (edited(lambda v: v.pop("schema")), "record schema None"),
        (edited(lambda v: v.pop("rows")), "rows: Field required"),
        (edited(lambda v: v["rows"][2].update(colour="red")), "rows.2.colour is not what lwq writes"),
        (edited(lambda v: v["rows"][0].update(file_bytes="12")), "rows.0.file_bytes is not what lwq writes"),
        (edited(lambda v: v["rows"][0].update(origin="mine")), "rows.0.origin"),
        (edited(lambda v: v["floor"].update(stderr=-1.0)), "floor"),
        (edited(lambda v: v.update(rows=[])), "rows: empty"),
        (edited(lambda v: v["rows"].append(v["rows"][1])), "rows: 2 rows are named 'Q8_0'"),
        (edited(lambda v: v["baseline"]["ppl"].update(value=0.0)), "baseline.ppl.value: 0 is no perplexity"),
        (edited(lambda v: v["rows"][0]["tasks"][1].update(outcomes="1" * 749)), "rows.0.tasks.1.outcomes: 749 of 750"),
        (
            edited(lambda v: v["rows"][2]["tasks"][0].update(outcomes="x" * 750)),
            "rows.2.tasks.0.outcomes: 'x' is neither",
        ),
        (edited(lambda v: v["rows"][2]["tasks"][0].update(n_items=2, outcomes="10")), "the set ARC has 750 ids"),
    ],
)
def test_what_is_no_record_is_refused_with_the_place_and_the_way_out(text: str, told: str) -> None:
    with pytest.raises(FileError) as caught:
        record_from_json(text, "reports/x/record.json")
    assert caught.value.message.startswith("reports/x/record.json: ")
    assert told in caught.value.message
    assert caught.value.hint


def test_values_and_twin_come_back_equal_and_a_record_from_before_has_neither() -> None:
    record = sample_record()
    (row,) = (row for row in record_from_json(record_to_json(record)).rows if row.compensated)
    assert row == next(r for r in record.rows if r.name == row.name)
    assert row.twin
    values = json.loads(record_to_json(record))
    for old in values["rows"]:
        del old["compensated"], old["twin"]
    before = record_from_json(json.dumps(values))
    assert all(row.compensated is None and row.twin is None for row in before.rows)


def _of_schema(schema: int) -> dict[str, Any]:
    """A record as a lwq of that schema wrote it: without what each later one added."""
    values = json.loads(record_to_json(sample_record(tasks=schema > 3, searched=schema > 1, pruned=schema > 2)))
    values["schema"] = schema
    later = {4: ("experts", "projector"), 3: ("task_sets",), 2: ("pruning",), 1: ("sensitivity",)}
    of_rows = {4: ("compensated", "twin", "shards"), 2: ("parts",), 1: ("search", "tensor_types")}
    for since in range(schema, 5):
        for name in later[since]:
            values.pop(name)
        for row in values["rows"]:
            for name in of_rows.get(since, ()):
                row.pop(name)
    if schema < 4:
        values["selection"].pop("over")
    if values.get("pruning"):
        values["pruning"].pop("n_set_windows")
    return values


@pytest.mark.parametrize("schema", [1, 2, 3, 4])
def test_records_of_older_schemas_are_read_and_drawn(schema: int) -> None:
    record = record_from_json(json.dumps(_of_schema(schema)))
    assert record.schema == 4
    assert len(record.rows) > 5
    assert record.pruning is None or record.pruning.n_set_windows == record.pruning.n_windows
    assert card(record, figures=False)
    assert record_from_json(record_to_json(record)) == record


def test_a_record_is_read_from_its_folder_or_its_file(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(record_to_json(sample_record()), encoding="utf-8")
    for path in (tmp_path, tmp_path / "record.json"):
        assert read_record(path) == (sample_record(), tmp_path)
    with pytest.raises(FileError, match="no record to read"):
        read_record(tmp_path / "nothing")
