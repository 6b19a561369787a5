"""The card says which values each file holds, and what stock values would have cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lwq.record.command import Command
from lwq.record.record import Record, Row
from lwq.record.values import BareExperts, CompensatedValues, KeptStock
from lwq.report.card import card
from lwq.report.commands import file_blocks
from lwq.report.public import publishable
from lwq.report.remarks import remarks
from lwq.report.rows import how_made
from lwq.report.sentences import method
from lwq.report.values_section import again, files, meaning, table
from tests.documents import whole_page
from tests.sample_record import sample_record

NAME = "Q4_K_M-by-hand"


def compensated_row(record: Record) -> Row:
    return next(row for row in record.rows if row.compensated)


def with_row(**changes: object) -> Record:
    record = sample_record()
    rows = tuple(replace(row, **changes) if row.compensated else row for row in record.rows)
    return replace(record, rows=rows)


PLAIN = with_row(compensated=None, twin=None, commands=())


def test_a_file_says_how_many_tensors_hold_which_values_and_what_stock_values_cost() -> None:
    (told,) = files(sample_record())
    assert told == (
        "**Q4_K_M-by-hand.** Values: compensated in 205 of 211 tensors; stock in 6: no better on held-out tokens (5)"
        " and no multiplication by it was seen (1). With stock values, same types and bytes, KLD 0.0359 ±0.0010"
        " nats: `llama-quantize --tensor-type-file SmolLM2-135M-Instruct-Q4_K_M-by-hand.tensor_types.txt"
        " SmolLM2-135M-Instruct-F16.gguf SmolLM2-135M-Instruct-Q4_K_M-by-hand-stock-values.gguf 2`."
    )


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ((), "Values: compensated in 3 of 3 tensors."),
        (("it has no factor: 7", "it has no factor: 9"), "in 3 of 5 tensors; stock in 2: it has no factor (2)."),
    ],
)  # fmt: skip
def test_tensors_with_stock_values_are_counted_by_reason(kept: tuple[str, ...], told: str) -> None:
    values = CompensatedValues(n_tensors=3, kept=tuple(KeptStock(tensor=f"t{i}", why=w) for i, w in enumerate(kept)))
    (sentence,) = files(with_row(compensated=values, twin=None))
    assert sentence.endswith(told)


def test_experts_that_no_token_reached_are_counted() -> None:
    bare = tuple(BareExperts(tensor=f"blk.{i}.ffn_up_exps.weight", experts=(1, i)) for i in (2, 3, 5))
    (sentence,) = files(with_row(compensated=CompensatedValues(n_tensors=9, kept=(), without_tokens=bare), twin=None))
    assert sentence.endswith("in 9 of 9 tensors (but for 6 experts in 3 of them, which no token reached).")


def test_the_table_has_a_line_for_each_twin_with_the_ratio() -> None:
    found = table(sample_record())
    assert found
    assert found.rows == (
        (
            NAME,
            "0.0318 ±0.0009",
            "0.0359 ±0.0010",
            "0.886",  # 0.031822 ÷ 0.035914
            "25.10 ±1.70",
            "25.12 ±1.70",
        ),
    )


def test_rows_without_compensated_values_say_nothing_new() -> None:
    assert not meaning(PLAIN)
    assert not list(files(PLAIN))
    assert table(PLAIN) is None
    assert not again(PLAIN)
    text = card(PLAIN).lower()
    assert "compensated" not in text
    assert "stock values" not in text


def test_a_file_in_which_every_tensor_kept_its_values_is_called_so_and_no_other_command_is_shown() -> None:
    none = CompensatedValues(n_tensors=0, kept=(KeptStock(tensor="a", why="no better on held-out tokens"),))
    record = with_row(compensated=none, twin=None)
    (told,) = files(record)
    assert told.endswith("Values: compensated in 0 of 1 tensors; stock in 1: no better on held-out tokens (1).")
    assert not again(record)
    assert how_made(compensated_row(record)) == "Q4_K_M, 2 hand-written patterns, imatrix"


def test_commands_say_that_llama_quantize_gives_the_twin_and_lwq_the_file() -> None:
    record = sample_record()
    blocks = next(f.blocks for f in file_blocks(record) if f.row.name == NAME)
    assert [b.step for b in blocks] == ["compensate", "evaluate", "bench", "quantize", "evaluate"]
    assert blocks[0].lines == "lwq run sample.toml"
    assert "this gives another file" in blocks[3].purpose
    assert compensated_row(record).file not in blocks[3].lines
    assert blocks[4].purpose == "Measure that file."
    others = [b for f in file_blocks(record) if f.row.name != NAME for b in f.blocks if b.step == "quantize"]
    assert {b.purpose for b in others} == {"Write the file."}


def test_method_and_origin_of_a_file_name_its_values() -> None:
    record = sample_record()
    assert "by llama-quantize; over the values of Q4_K_M-by-hand lwq wrote compensated ones;" in method(record)
    assert how_made(compensated_row(record)).endswith("imatrix, compensated values")


def test_making_the_file_again_names_command_threads_and_build() -> None:
    told = again(sample_record())
    assert told.startswith("llama.cpp alone does not write Q4_K_M-by-hand; `lwq run sample.toml` does, bit for bit")
    assert "other numbers of threads give the same bytes" in told


def test_values_judged_on_the_evaluation_text_are_a_warning() -> None:
    record = sample_record()
    without = replace(record, texts=tuple(t for t in record.texts if t.role != "selection"))
    marked = "Compensated values were judged on the evaluation text"
    assert not any(marked in told for told in remarks(record))
    assert any(marked in told for told in remarks(without))


def test_local_paths_in_commands_of_twins_are_cut() -> None:
    twin = compensated_row(sample_record()).twin
    assert twin
    local = replace(twin, commands=(Command(step="quantize", argv=("/home/me/llama-quantize", "/tmp/a.gguf")),))
    (command,) = compensated_row(publishable(with_row(twin=local))).twin.commands  # type: ignore[union-attr]
    assert command.argv == ("llama-quantize", "a.gguf")


def test_the_page_has_the_section_and_its_table() -> None:
    text = whole_page(sample_record())
    assert 'id="which-values-the-files-hold"' in text
    assert "Same types, stock values." in text
