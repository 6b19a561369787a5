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


def made(record: Record, *names: str) -> Record:
    """The record with the base and these rows alone, all of which are kept."""
    rows = tuple(r for r in record.rows if r.origin == "base" or r.name in names)
    return replace(record, rows=rows, selection=replace(record.selection, rule="all", verdicts=()))


def test_the_first_sentence_says_how_many_files_from_where_to_where() -> None:
    record = sample_record()
    one = "Q8_0 (145 MB, KLD 0.00394 ±0.00009 nats, same top p 95.2 %)"
    head = "quantized with llama.cpp, each measured against the F16 base."
    assert sentences.top(made(record, "Q8_0")) == f"One file {head} It is {one}."
    small = "Q4_K_M (105 MB, KLD 0.0352 ±0.0011 nats, same top p 87.7 %)"
    assert sentences.top(made(record, "Q8_0", "Q4_K_M")) == (
        f"2 files {head} The smallest is {small}; the closest to the base is {one}."
    )
    assert sentences.top(made(record)) == "No file was made; the tables hold what was measured of others' files."
    assert sentences.top(record).startswith("5 files (of 8 that were made) quantized")


def test_what_wrote_and_measured_the_files_is_said_as_far_as_it_is_true() -> None:
    record = sample_record()
    plain = made(record, "Q8_0")
    bare = replace(plain, rows=tuple(replace(r, speed=()) for r in plain.rows))
    assert sentences.method(bare) == (
        "Every file was written from the base by llama-quantize; damage is measured by llama-perplexity."
    )
    assert sentences.method(plain).endswith("measured by llama-perplexity, speeds by llama-bench.")
    cut = next(r.name for r in record.rows if r.parts and any(r.parts.base_file in c.argv for c in r.commands))
    told = sentences.method(made(record, cut))
    assert f"from the base ({cut} from a base without some layers, which lwq wrote) by llama-quantize" in told
    changed = next(r.name for r in record.rows if r.compensated)
    assert f"; over the values of {changed} lwq wrote compensated ones; damage" in sentences.method(
        made(record, changed)
    )


def test_the_stored_base_is_said_to_be_read_back_where_it_has_a_row() -> None:
    record = sample_record()
    ppl = record.baseline.ppl
    own = f"The pass that stored the log-probs printed PPL {ppl.value:.4f} ±{ppl.stderr:.5f} for the base."
    assert sentences.stored_base(replace(record, rows=record.rows[1:])) == own
    base = record.rows[0].evaluation
    told = sentences.stored_base(record)
    assert told.startswith(f"{own} Read back from storage, PPL(base) is {base.ppl_base.value:.6f}: ")
    assert told.endswith(f"the base's own ratio, {base.ppl_ratio.value:.6f}, is where theirs start.")
    bare = replace(record, baseline=replace(record.baseline, ppl=replace(ppl, stderr=None)))
    assert f"printed PPL {ppl.value:.4f} for the base." in sentences.stored_base(bare)


def test_the_floor_is_what_the_base_scores_against_itself() -> None:
    record = sample_record()
    value, error = record.floor.value, record.floor.stderr
    assert f"has a KLD of {value:z.6f} ±{error:z.6f} nats: this is the floor" in sentences.floor(record)


def test_the_rule_names_its_criteria_and_the_text_it_was_judged_on() -> None:
    record = with_windows(sample_record(searched=False, pruned=False), 8)
    judged = sentences.selection(replace(record, selection=replace(record.selection, over=("bytes", "kld", "tg"))))
    assert "at least as good by bytes, mean KLD and speed of generation, and better by one of them" in judged
    file = next(t.file for t in record.texts if t.role == "selection")
    assert judged.endswith(f"Judged on the selection text (`{file}`), which no table above is measured on.")
    own = replace(record, selection=replace(record.selection, text="evaluation"))
    assert sentences.selection(own).endswith(", the same that the tables above report.")
    odd = replace(record, selection=replace(record.selection, rule="coin*", over=("beauty",), text="lost"))
    assert sentences.selection(odd).startswith(r"Rule: coin\*. Judged on the lost text, which no table")
    every = replace(record, selection=replace(record.selection, rule="all"))
    assert sentences.selection(every) == "Every file is kept."


def test_texts_are_said_to_be_apart_as_far_as_they_are() -> None:
    record = sample_record()
    assert sentences.texts(record) == (
        "The texts are different files, one for each role: neither what the importance matrix was collected on nor what"
        " files were chosen on is what the tables above report."
    )
    doubled = replace(record, texts=tuple(replace(t, sha256="a") for t in record.texts))
    assert sentences.texts(doubled) == "Two of these texts are the same file; see the warnings."
    seen = replace(record, selection=replace(record.selection, text="evaluation"))
    assert sentences.texts(seen) == (
        "The texts are different files, one for each role: what the importance matrix was collected on is not what the"
        " tables above report. The files were chosen on the evaluation text; see the warnings."
    )
    uncalibrated = replace(record, texts=tuple(t for t in record.texts if t.role != "calibration"))
    assert sentences.texts(uncalibrated) == (
        "The texts are different files, one for each role:"
        " what files were chosen on is not what the tables above report."
    )
    every = replace(uncalibrated, selection=replace(record.selection, rule="all"))
    assert sentences.texts(every) == "The texts are different files, one for each role."
