"""What the card says of the rule by which files were kept, and how sure that is."""

from __future__ import annotations

from dataclasses import replace

from lwq.record.record import Record
from lwq.report import sentences
from tests.sample_record import sample_record


def with_windows(record: Record, n: int) -> Record:
    """The record with a selection text of so many windows."""
    return replace(record, texts=tuple(replace(t, n_chunks=n) if t.role == "selection" else t for t in record.texts))


def test_files_chosen_by_part_of_the_text_that_judges_are_named() -> None:
    told = sentences.selection(sample_record())
    assert told.endswith("The types of Q4_K_M-lwq were chosen by part of it, which flatters their KLD there a little.")
    assert "flatters" not in sentences.selection(sample_record(searched=False, pruned=False))


def test_an_interval_is_not_claimed_of_fewer_than_eight_windows() -> None:
    assert "too few for an interval" not in sentences.selection(with_windows(sample_record(), 8))
    told = sentences.selection(with_windows(sample_record(), 7))
    assert "Its 7 windows are too few for an interval, so KLD was judged by the means alone." in told


def test_where_every_file_is_kept_or_kld_does_not_count_nothing_of_it_is_said() -> None:
    record = with_windows(sample_record(), 7)
    for changes in ({"rule": "all"}, {"over": ("bytes", "tg")}):
        told = sentences.selection(replace(record, selection=replace(record.selection, **changes)))
        assert "too few" not in told
        assert "flatters" not in told
