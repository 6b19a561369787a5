"""How a row was made, and which rows nobody beats."""

from __future__ import annotations

from dataclasses import replace

from lwq.record.record import Record, Row
from lwq.report.rows import (
    alike,
    base_row,
    chosen_on,
    healed_on,
    how_made,
    is_compensated,
    is_healed,
    layers,
    mixture,
    n_scored,
    pareto,
    removal,
    tensor_bytes,
    text_of,
)
from lwq.report.rows import searched as searched_rows
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


def test_every_row_says_how_it_was_made() -> None:
    record = sample_record()
    third = next(r for r in record.rows if r.origin == "third-party")
    q4 = row(record, "Q4_K_M")
    found = [
        how_made(r)
        for r in (
            row(record, "F16"), q4, row(record, "Q4_K_M-no-imatrix"), row(record, "Q4_K_M-by-hand"),
            replace(q4, tensor_type_patterns=("a=q4_k",)), row(record, "Q4_K_M-pruned"),
            row(record, "Q4_K_M-healed"), replace(third, shards=()), replace(third, shards=("a", "b")),
        )
    ]  # fmt: skip
    assert found == [
        "base",
        "stock Q4_K_M, imatrix",
        "stock Q4_K_M, no imatrix",
        "Q4_K_M, 2 hand-written patterns, imatrix, compensated values",
        "Q4_K_M, 1 hand-written pattern, imatrix",
        "Q4_K_M, imatrix, layer 20 removed",
        "Q4_K_M, imatrix, layers 20, 23 removed, healed",
        f"third party, {third.ftype}",
        f"third party, {third.ftype}, 2 shards",
    ]
    values = next(r.compensated for r in record.rows if r.compensated)
    assert how_made(replace(q4, compensated=values)) == "stock Q4_K_M, imatrix, compensated values"
    assert not is_compensated(replace(q4, compensated=replace(values, n_tensors=0)))
    assert (mixture(q4), mixture(the_row(record))) == ("Q4_K_M", "lwq allocation")


def test_what_was_removed_and_healed_is_told_as_far_as_it_is_true() -> None:
    healed = row(sample_record(), "Q4_K_M-healed")
    assert (is_healed(healed), removal(healed)) == (True, ["layers 20, 23 removed", "healed"])
    assert removal(replace(healed, parts=None)) == ["layers 20, 23 removed"]
    assert removal(replace(healed, parts=replace(healed.parts, healed=None))) == ["layers 20, 23 removed"]
    bare = replace(healed.parts.healed, tensors=())
    assert not is_healed(replace(healed, parts=replace(healed.parts, healed=bare)))
    assert removal(row(sample_record(), "Q4_K_M")) == []
    assert (layers((7,)), layers((7, 9))) == ("layer 7", "layers 7, 9")


def test_texts_are_found_by_role_and_said_to_be_what_they_were_for() -> None:
    record = sample_record()
    assert [text_of(record, role).role for role in ("selection", "evaluation")] == ["selection", "evaluation"]
    assert text_of(record, "nothing") is None
    without = replace(record, texts=tuple(t for t in record.texts if t.role != "selection"))
    assert (healed_on(record), healed_on(without)) == ("selection", "evaluation")
    assert chosen_on(record) == "selection"
    assert chosen_on(replace(record, selection=replace(record.selection, rule="all"))) is None
    text = replace(record.texts[0], n_chunks=8, n_ctx=512)
    assert (n_scored(text), n_scored(replace(text, n_ctx=64, n_chunks=1))) == (8 * 255, 31)


def test_rows_are_grouped_by_what_they_were_measured_against() -> None:
    q4, q8 = (row(sample_record(), name) for name in ("Q4_K_M", "Q8_0"))
    other = replace(q4, evaluation=replace(q4.evaluation, ppl_base=replace(q4.evaluation.ppl_base, value=1.0)))
    short = replace(q4, evaluation=replace(q4.evaluation, chunk_kld=q4.evaluation.chunk_kld[:-1]))
    assert alike((q4, other, short, q8)) == ((q4, q8), (other,), (short,))
    assert alike(()) == ()


def test_rows_of_a_kind_are_found() -> None:
    record = sample_record()
    assert base_row(record).name == "F16"
    assert base_row(replace(record, rows=record.rows[1:])) is None
    assert [(r.name, s is r.search) for r, s in searched_rows(record)] == [("Q4_K_M-lwq", True)]


def test_bytes_of_a_file_without_known_types_are_those_of_the_file() -> None:
    q4 = row(sample_record(), "Q4_K_M")
    assert tensor_bytes(q4) == sum(s.n_bytes for s in q4.types) < q4.file_bytes
    assert tensor_bytes(replace(q4, types=())) == q4.file_bytes


def test_a_front_goes_from_the_smallest_to_the_closest() -> None:
    q4, q8 = (row(sample_record(), name) for name in ("Q4_K_M", "Q8_0"))
    worse = replace(q8, name="worse", evaluation=q4.evaluation, types=(), file_bytes=q8.file_bytes + 1)
    assert [r.name for r in pareto((worse, q8, q4))] == ["Q4_K_M", "Q8_0"]
    assert pareto(()) == ()
    same_size = replace(q4, name="closer", evaluation=q8.evaluation)
    assert [r.name for r in pareto((q4, same_size))] == ["closer"]
