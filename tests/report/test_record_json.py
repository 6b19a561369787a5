"""A record survives its JSON; what is not one is refused with the place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.errors import FileError
from lwq.metrics.values import Estimate
from lwq.report.record_json import record_from_json, record_to_json
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
        (edited(lambda v: v.update(schema=1)), "record schema 1"),
        (edited(lambda v: v.update(schema=2)), "record schema 2"),
        (edited(lambda v: v.update(schema=3)), "record schema 3"),
        (edited(lambda v: v.update(schema=5)), "record schema 5"),
        (edited(lambda v: v.pop("schema")), "record schema None"),
        (edited(lambda v: v.pop("rows")), "rows: Field required"),
        (edited(lambda v: v["rows"][2].update(colour="red")), "rows.2.colour is not what lwq writes"),
        (edited(lambda v: v["rows"][0].update(file_bytes="12")), "rows.0.file_bytes is not what lwq writes"),
        (edited(lambda v: v["rows"][0].update(origin="mine")), "rows.0.origin"),
        (edited(lambda v: v["floor"].update(stderr=-1.0)), "floor"),
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
