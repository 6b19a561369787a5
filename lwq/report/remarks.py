"""What a reader must know before believing the figures: one Markdown sentence or two for each matter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lwq.record import Record, Row
from lwq.report.markdown import code, either, plain
from lwq.report.numerals import count, fixed, percent
from lwq.report.rows import alike, base_row, layers, n_scored, text_of

WIDE_RELATIVE_ERROR: Final = 0.01
"""Standard error of the base's perplexity over its value from which the card calls it wide."""


def remarks(record: Record) -> tuple[str, ...]:
    """All warnings that the record gives reason for, the gravest first."""
    return (
        *_about_the_original(record),
        *_about_the_texts(record),
        *_about_comparing(record),
        *_about_rows(record),
        *_about_the_toolchain(record),
    )


def _about_the_original(record: Record) -> Iterator[str]:
    if record.model.was_quantized:
        yield (
            "**The original was a quantized file.** The base is that file, dequantized, and all damage here is"
            " measured against it: what its own quantization cost is in no figure of this card."
        )
    for row in record.rows:
        if row.origin == "third-party" and row.sha256 == record.model.sha256:
            yield (
                f"**{plain(row.name)} is the very file that the base was made from.** Its distance from the"
                " base shows arithmetic only, not what it lost itself; it is no rival of the others."
            )


def _about_the_texts(record: Record) -> Iterator[str]:
    for first, text in enumerate(record.texts):
        for other in record.texts[first + 1 :]:
            if text.sha256 == other.sha256:
                yield (
                    f"**The {text.role} text and the {other.role} text are the same file.** Figures on it"
                    " flatter whatever was fitted to it or chosen on it."
                )
    if record.selection.text == "evaluation":
        yield (
            "**The files were chosen on the evaluation text**, the one that the tables report: the figures of"
            " the chosen ones are a little flattered by having been chosen on it."
        )
    yield from _few_chunks(record)


def _few_chunks(record: Record) -> Iterator[str]:
    ppl, text = record.baseline.ppl, text_of(record, "evaluation")
    if text is None or ppl.stderr is None or ppl.stderr / ppl.value <= WIDE_RELATIVE_ERROR:
        return
    yield (
        f"**Little text, wide errors.** {count(text.n_chunks)} chunks give {count(n_scored(text))} scored"
        f" tokens, so the base's perplexity is known to ±{fixed(100 * ppl.stderr / ppl.value, 1)}% only."
        " Every file saw the same tokens, so KLD and the ratio of perplexities separate files far better than"
        " perplexity itself does."
    )


def _about_comparing(record: Record) -> Iterator[str]:
    if len(alike(record.rows)) > 1:
        yield (
            "**Not all files were measured alike.** Those scored on other chunks or against another base stand in"
            " tables of their own; do not compare across tables."
        )
    for row in record.rows:
        if row.pruned_layers and row.origin != "base":
            yield (
                f"{plain(row.name)} lacks {layers(row.pruned_layers)} of {record.model.n_layer}: its damage is"
                " measured against the unpruned original, so it holds the pruning's part and the quantization's."
            )


def _about_rows(record: Record) -> Iterator[str]:
    base = base_row(record)
    for row in record.rows:
        if row.origin == "base":
            continue
        if base and row.evaluation.ppl.value < base.evaluation.ppl.value:
            yield _below_base(row, base)
        if _on_the_floor(row, record):
            yield (
                f"{plain(row.name)} cannot be told from the base on this text: its KLD of"
                f" {fixed(row.evaluation.kld.value, 6)} nats is within two standard errors of the floor."
            )
        if row.n_fallback:
            yield (
                f"{plain(row.name)}: {count(row.n_fallback)} tensors have rows whose length the mixture's type"
                " does not divide; llama-quantize gave them a fallback type, mostly a larger one."
            )
        if row.predicted_file_bytes not in (None, row.file_bytes):
            yield f"{plain(row.name)} did not come out at the predicted size; see the table of sizes."
    if bare := tuple(row.name for row in record.rows if not row.speed):
        yield f"Speed was not measured for {either(tuple(map(plain, bare)))}."


def _below_base(row: Row, base: Row) -> str:
    gain = base.evaluation.ppl.value - row.evaluation.ppl.value
    stderr = row.evaluation.ppl_difference.stderr
    within = stderr is not None and gain <= 2 * stderr
    size = f"by {fixed(gain, 6)}, which is {'within' if within else 'beyond'} two standard errors"
    return (
        f"**{plain(row.name)} has a lower perplexity than the base** ({size}). Losing precision teaches a model"
        " nothing: this is chance or a fit to the text, not quality. Judge it by KLD."
    )


def _on_the_floor(row: Row, record: Record) -> bool:
    stderr = row.evaluation.kld.stderr
    return stderr is not None and row.evaluation.kld.value - record.floor.value <= 2 * stderr


def _about_the_toolchain(record: Record) -> Iterator[str]:
    if not record.toolchain.stock:
        yield (
            f"llama.cpp was not lwq's own build but one given by the user ({code(record.toolchain.commit)}):"
            " another build may write other bytes and print other last digits."
        )


def floor_sentence(record: Record) -> str:
    """What the base scores against its own stored log-probs, and what that means."""
    floor = record.floor
    stderr = "" if floor.stderr is None else f" ±{fixed(floor.stderr, 6)}"
    return (
        f"The base against its own stored log-probs gives a KLD of {fixed(floor.value, 6)}{stderr} nats: the floor,"
        " what storing them in 16 bits costs (it may come out a hair below zero). It is not subtracted"
        " from the other rows."
    )


def stored_base_sentence(record: Record) -> str:
    """Why PPL(base) of the KLD pass differs from the base's own perplexity."""
    base = base_row(record)
    own = record.baseline.ppl
    text = (
        f"The pass that stored the log-probs printed PPL {fixed(own.value, 4)}"
        + ("" if own.stderr is None else f" ±{fixed(own.stderr, 5)}")
        + " for the base."
    )
    if base is None:
        return text
    stored = base.evaluation.ppl_base
    return (
        f"{text} Read back from the file, PPL(base) is {fixed(stored.value, 6)}: the file keeps at most 16 nats"
        " below the likeliest token, so very unlikely tokens count for less. Ratios and differences of perplexity"
        f" are against that; the base's own ratio, {fixed(base.evaluation.ppl_ratio.value, 6)}, is their zero."
    )


def top_sentence(record: Record) -> str:
    """The family in one sentence: how many files, from which size to which, at which damage."""
    ours = [row for row in record.rows if row.origin == "ours"]
    if not ours:
        return "No file was made; the tables hold what was measured of others' files."
    low = min(ours, key=lambda row: row.evaluation.kld.value)
    small = min(ours, key=lambda row: row.file_bytes)
    files = "One file" if len(ours) == 1 else f"{len(ours)} files"
    return (
        f"{files} made with llama.cpp, each measured against the base. Smallest:"
        f" {plain(small.name)} ({_in_brief(small)}). Closest to the base: {plain(low.name)} ({_in_brief(low)})."
    )


def _in_brief(row: Row) -> str:
    damage = row.evaluation
    return (
        f"{fixed(row.file_bytes / (1 << 20), 1)} MiB, KLD {fixed(damage.kld.value, 6)} nats,"
        f" same top p {percent(damage.same_top_p, 3)}%"
    )
