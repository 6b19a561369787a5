"""What a reader chooses by: only files that are kept, smallest first, each with its place and a speed that is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lwq.metrics.values import Estimate
from lwq.record.record import Record
from lwq.report import choices, running
from lwq.report.card import card_body
from lwq.report.numerals import hub_size, in_gb, rounded, tokens
from tests.sample_record import sample_record


def names(record: Record) -> list[str]:
    return [row.name for row in choices.offered(record)]


def test_files_that_are_kept_are_offered_smallest_first() -> None:
    record = sample_record()
    assert names(record) == ["IQ4_XS", "Q4_K_M-lwq", "Q4_K_M", "Q4_K_M-by-hand", "Q8_0"]
    sizes = [row.file_bytes for row in choices.offered(record)]
    assert sizes == sorted(sizes)


def test_what_a_file_is_has_its_place_and_how_its_types_were_chosen() -> None:
    rows = choices.offered(sample_record())
    assert [choices.purpose(row, rows, sample_record()) for row in rows] == [
        "the smallest; stock IQ4_XS",
        "mix chosen by measurement",
        "stock Q4_K_M",
        "hand-made mix",
        "closest to the original; stock Q8_0",
    ]
    assert choices.purpose(rows[1], (rows[1],), sample_record()) == "mix chosen by measurement"
    both = (replace(rows[4], file_bytes=1), *rows[:4])
    assert choices.purpose(both[0], both, sample_record()) == "smallest and closest to the original; stock Q8_0"
    searched = rows[1]
    assert searched.search
    kept = replace(searched, search=replace(searched.search, chosen="stock Q4_K_M"))
    assert choices.purpose(kept, (rows[0], kept, rows[4]), sample_record()) == "stock Q4_K_M"
    pruned = next(row for row in sample_record().rows if row.name == "Q4_K_M-pruned")
    assert choices.purpose(pruned, (rows[0], pruned, rows[4]), sample_record()) == "layers removed"


def test_cells_stand_under_their_heads() -> None:
    table = choices.files(sample_record())
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert {row[-2] for row in table.rows} == {"1.17 [1.17, 1.18]", "tied", "1"}
    bare = replace(
        sample_record(tasks=False), rows=tuple(replace(r, speed=()) for r in sample_record(tasks=False).rows)
    )
    titles = [column.title for column in choices.files(bare).columns]
    assert titles[-2:] == ["Same top p (%)", "Same first tokens (of 32)"]


def test_memory_is_told_for_each_size_of_context_and_rounded_up() -> None:
    table = choices.files(sample_record())
    at = [c.title for c in table.columns].index("RAM at 8k (GB)")
    row = choices.offered(sample_record())[0]
    memory = row.contexts[-1]
    exact = (row.file_bytes + memory.cache_bytes + memory.compute_bytes) / 1e9
    assert exact <= float(table.rows[0][at]) < exact + 0.01
    assert (in_gb(5_871_000_000), in_gb(10_010_000_000), in_gb(131_200_000_000)) == ("5.88", "10.1", "132")
    assert (tokens(40960), tokens(1 << 20), tokens(2000)) == ("40k", "1M", "2,000")


def test_how_far_a_file_goes_on_like_the_original_is_the_mean_of_all_prompts() -> None:
    record = sample_record()
    table = choices.files(record)
    at = [c.title for c in table.columns].index("Same first tokens (of 32)")
    row = choices.offered(record)[0]
    assert row.continuation
    assert table.rows[0][at] == f"{sum(row.continuation.agreed) / 16:.0f}"
    bare = replace(record, rows=tuple(replace(r, continuation=None) for r in record.rows))
    assert not any("first tokens" in c.title for c in choices.files(bare).columns)


def test_a_file_of_chosen_types_that_is_surely_slower_is_named_at_the_top() -> None:
    record = sample_record()
    assert choices.warnings(record) == ()
    slow = next(row for row in record.rows if row.search)
    halved = tuple(replace(s, samples=tuple(x / 2 for x in s.samples)) for s in slow.speed)
    record = replace(record, rows=tuple(replace(r, speed=halved) if r is slow else r for r in record.rows))
    (warning,) = choices.warnings(record)
    assert warning.startswith("Q4_K_M-lwq is slower than Q4_K_M here: it reads prompts, pp128, at 0.50")
    assert f"\n> {warning}\n" in card_body(record)


def test_a_record_of_others_files_offers_none() -> None:
    record = sample_record()
    record = replace(record, rows=tuple(row for row in record.rows if row.origin != "ours"))
    body = card_body(record)
    assert running.example(record) is None
    assert "## Choose a file" not in body
    assert "## Run it" not in body


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (0.008443, 0.000512, "0.0084 ±0.0005"),
        (0.035198, 0.001052, "0.0352 ±0.0011"),
        (95.196, 0.474, "95.2 ±0.5"),
        (412.3, 23.0, "412 ±23"),
        (0.5, None, "0.5"),
        (0.0, 0.0, "0"),
        (0.99, 0.0996, "0.99 ±0.10"),
    ],
)
def test_a_figure_has_the_digits_that_its_error_leaves(value: float, stderr: float | None, text: str) -> None:
    assert rounded(Estimate(value=value, stderr=stderr, unit="")) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(999, "999 B"), (90_897_696, "90.9 MB"), (999_600_000, "1.00 GB"), (4_920_000_000, "4.92 GB"), (141e9, "141 GB")],
)
def test_sizes_are_those_that_the_hub_shows(n_bytes: int, text: str) -> None:
    assert hub_size(int(n_bytes)) == text
