"""How a row was made, and which rows nobody beats."""

from __future__ import annotations

from dataclasses import replace

from lwq.record.record import Record, Row
from lwq.report.rows import how_made, pareto
from tests.report.test_search_section import searched, the_row
from tests.sample_record import sample_record


def test_front_goes_by_bytes_of_tensors_and_a_tie_in_kld_by_the_smaller() -> None:
    q4, bare, q8 = (row(sample_record(), name) for name in ("Q4_K_M", "Q4_K_M-no-imatrix", "Q8_0"))
    assert bare.file_bytes < q4.file_bytes
    assert pareto((bare, q4, q8)) == (q4, q8)
    tied = replace(q8, evaluation=q4.evaluation)
    assert pareto((tied, q4)) == (q4,)


def row(record: Record, name: str) -> Row:
    return next(row for row in record.rows if row.name == name)


def test_how_a_row_was_made_names_the_allocation_and_a_stock_mix_that_it_equals() -> None:
    assert how_made(the_row(sample_record())) == "lwq allocation, imatrix"
    assert how_made(the_row(searched(chosen="stock Q4_K_M"))) == "lwq allocation: stock Q4_K_M, imatrix"
    assert how_made(replace(the_row(sample_record()), pruned_layers=(3,))).endswith("imatrix, layer 3 removed")
