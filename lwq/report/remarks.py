"""What a reader must know before believing the figures: one Markdown sentence or two for each matter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lwq.record.record import Record, Row
from lwq.report.markdown import code, either, plain
from lwq.report.numerals import brief, count, estimate, fixed, rounded
from lwq.report.rows import alike, base_row, chosen_on, healed_on, is_healed, layers, n_scored, text_of
from lwq.report.running import same_labels

WIDE_RELATIVE_ERROR: Final = 0.01
"""Standard error of the base's perplexity over its value from which the card calls it wide."""


def remarks(record: Record) -> tuple[str, ...]:
    """All warnings that the record gives reason for, the gravest first."""
    return (
        *_about_the_original(record),
        *_about_the_texts(record),
        *_about_comparing(record),
        *_about_rows(record),
        *same_labels(record),
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
                    f"**The {plain(text.role)} text and the {plain(other.role)} text are the same file.** Figures on it"
                    " flatter whatever was fitted to it or chosen on it."
                )
    if chosen_on(record) == "evaluation":
        yield (
            "**The files were chosen on the evaluation text**, the one that the tables report: the figures of"
            " the chosen ones are a little flattered by having been chosen on it."
        )
    if healed_on(record) == "evaluation" and any(map(is_healed, record.rows)):
        yield (
            "**Repairs were judged on the evaluation text**, the one that the tables report: the figures of healed"
            " files are a little flattered by that."
        )
    if text_of(record, "selection") is None and any(row.compensated for row in record.rows):
        yield (
            "**Compensated values were judged on the evaluation text**, the one that the tables report: tensors keep"
            " their stock values where these do better on some of its tokens, which flatters the files a little."
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
            yield _without_layers(row, record)


def _without_layers(row: Row, record: Record) -> str:
    """Against what a pruned row is measured, and its parts where they were measured."""
    apart = (
        f" Apart: KLD {rounded(row.parts.prune.kld)} nats for its pruned base against the original, and"
        f" {rounded(row.parts.quant.kld)} nats for the file against its pruned base. Only the latter is"
        " comparable with a card that scores a pruned model against its own pruned base."
        if row.parts
        else ""
    )
    return (
        f"{plain(row.name)} lacks {layers(row.pruned_layers)} of {record.model.n_layer}, counted from 0: its damage is"
        f" measured against the unpruned original, so it holds what pruning and what quantization cost.{apart}"
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
                f" {rounded(row.evaluation.kld)} nats is within two standard errors of the floor."
            )
        yield from _slower_than_asked(row)
        if row.predicted_file_bytes not in (None, row.file_bytes):
            yield f"{plain(row.name)} did not come out at the predicted size; see the table of sizes."
    if fallen := tuple(f"{count(r.n_fallback)} in {plain(r.name)}" for r in record.rows if r.n_fallback):
        yield (
            "Some tensors have rows whose length the mixture's type does not divide; llama-quantize gave them a"
            f" fallback type, mostly a larger one: {either(fallen)}."
        )
    if bare := tuple(row.name for row in record.rows if not row.speed):
        yield f"Speed was not measured for {either(tuple(map(plain, bare)))}."


def _slower_than_asked(row: Row) -> Iterator[str]:
    wanted = row.search.paces[0].wanted if row.search and row.search.paces else 0.0
    for speed in row.speed:
        if speed.test == "tg128" and speed.tokens_per_second.value < wanted:
            yield (
                f"**{plain(row.name)} is slower than asked for** in the table of speeds:"
                f" {estimate(speed.tokens_per_second, 2)} tokens per second instead of {fixed(wanted, 2)}. It made them"
                " when its size was chosen; speeds of two sessions differ."
            )


def _below_base(row: Row, base: Row) -> str:
    gain = base.evaluation.ppl.value - row.evaluation.ppl.value
    stderr = row.evaluation.ppl_difference.stderr
    within = stderr is not None and gain <= 2 * stderr
    size = f"by {brief(gain, 2)}, which is {'within' if within else 'beyond'} two standard errors"
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
