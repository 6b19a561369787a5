"""What the figures show, in words: which there are, their alternative texts and captions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lwq.gguf.types import split_name
from lwq.record.prune import PruningFacts
from lwq.record.record import Record, Row
from lwq.record.search import FrontierPoint, Sensitivity
from lwq.report.layer_ranks import barred_layers, first_choices, removable
from lwq.report.markdown import code, either, plain
from lwq.report.numerals import brief, count, fixed, rounded
from lwq.report.rows import alike, mixture, pareto, searched, text_of
from lwq.report.searches import (
    ComparedCandidate,
    allocations,
    alpha_range,
    compared_candidates,
    has_gaps,
    most_sensitive,
)
from lwq.store.files import human_bytes

_BEYOND: Final = 10
"""How far, as a factor, the predicted frontier is drawn beyond the damage of our files."""
_FEWEST_FORETOLD: Final = 5
"""Candidates that no prediction was fitted to; with fewer, a plot of predictions shows how well a fit fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureText:
    """A figure's file stem, its plain alternative text and its Markdown caption."""

    name: str
    alt: str
    caption: str


def figure_texts(record: Record) -> tuple[FigureText, ...]:
    """The figures that this record gives reason for, in the card's order."""
    figures = []
    if compared(record):
        figures.append(_kld_against_size(record))
    if record.pruning and record.pruning.layers:
        figures.append(_layers(record, record.pruning))
    if record.sensitivity:
        figures += _search_figures(record, record.sensitivity)
    if any(row.classes for row in record.rows):
        figures.append(_shares("bytes_by_class", "tensor class"))
    if any(row.types for row in record.rows):
        figures.append(_shares("bytes_by_type", "ggml type"))
    return tuple(figures)


def compared(record: Record) -> tuple[Row, ...]:
    """The rows that stand in the plot of KLD against size: those measured like the first, but the base."""
    groups = alike(record.rows)
    return tuple(row for row in groups[0] if row.origin != "base") if groups else ()


def front(record: Record) -> tuple[Row, ...]:
    """The compared rows that no other beats; the file that the base was made from is no rival."""
    return pareto(row for row in compared(record) if row.sha256 != record.model.sha256)


def floor_in_view(record: Record) -> bool:
    """Whether the floor is high enough to draw on a logarithmic axis without squashing the rest."""
    drawn = [row.evaluation.kld.value for row in compared(record) if row.evaluation.kld.value > 0]
    return bool(drawn) and record.floor.value > min(drawn) / 30


def on_frontier(record: Record) -> tuple[Row, ...]:
    """Our files beside the predicted frontier: those measured alike, where a logarithm has a place for them."""
    return tuple(row for row in compared(record) if row.origin == "ours" and row.evaluation.kld.value > 0)


def frontier_line(record: Record) -> tuple[FrontierPoint, ...]:
    """The predicted frontier, smallest first, as far as its KLD is that of our files or not far from it."""
    points = record.sensitivity.frontier if record.sensitivity else ()
    drawn = sorted((p for p in points if p.predicted_kld > 0), key=lambda p: p.n_bytes)
    measured = [row.evaluation.kld.value for row in on_frontier(record)]
    if measured:
        low, high = min(measured) / _BEYOND, max(measured) * _BEYOND
        drawn = [p for p in drawn if low <= p.predicted_kld <= high]
    return tuple(drawn)


def _search_figures(record: Record, sensitivity: Sensitivity) -> Iterator[FigureText]:
    if len({t.alpha for t in sensitivity.tensors}) > 1:
        yield _sensitivity(sensitivity)
    for name, row in allocations(record).items():
        yield _allocation(name, row)
    points = compared_candidates(record)
    if sum(not point.was_fitted for point in points) >= _FEWEST_FORETOLD:
        yield _predicted_against_measured(record, points)
    if frontier_line(record):
        yield _frontier(record, sensitivity)


def _sensitivity(sensitivity: Sensitivity) -> FigureText:
    most = "; ".join(f"{t.tensor} {brief(t.alpha)}" for t in most_sensitive(sensitivity.tensors, 5))
    below = any(t.alpha < alpha_range(sensitivity.tensors)[0] for t in sensitivity.tensors)
    lower = " What lies below the range has the colour of its lower end." if below else ""
    gaps = _gaps([(t.tensor_class, t.layer) for t in sensitivity.tensors])
    n = sensitivity.n_estimated
    measured, but = ("", f" (of {count(n)} estimated)") if n else ("measured ", "")
    return FigureText(
        name="sensitivity",
        alt=f"Heat map of {measured}alpha, tensor class against layer. The highest: {most}.",
        caption=f"Alpha of each tensor, measured on {code(sensitivity.text)}{but}, logarithmic: the brighter, the more"
        f" damage a local error does there.{lower}{gaps}",
    )


def _layers(record: Record, pruning: PruningFacts) -> FigureText:
    kept = barred_layers(pruning)
    free = removable(pruning.layers, kept)
    cheapest = "; ".join(
        f"layer {s.layer}, {rounded(s.kld)}" for s in sorted(free, key=lambda s: (s.kld.value, s.layer))[:3]
    )
    firsts = tuple(
        f"{c.score} would remove layer {c.layer} first, by measurement place {c.place} of {len(free)}"
        for c in first_choices(free)
    )
    text = text_of(record, "calibration")
    on = f" on {code(text.file)}" if text else ""
    grey = " Grey: layers that may not go." if kept else ""
    beneath = " A layer without a bar cost nothing that could be measured." if _costless(pruning) else ""
    return FigureText(
        name="layers",
        alt=f"Measured KL divergence of removing each layer, as bars. Of those that may go, cheapest: {cheapest}.",
        caption=f"Above: measured KLD of the model without each layer{on}, logarithmic; lines are one standard"
        f" error.{grey}{beneath} Middle, logarithmic: Block Influence and 1 − CosSim of the importance matrix, low"
        " where they hold a layer for redundant. Below: the layers that may go, ranked by measured KLD, by Block"
        " Influence and by 1 − CosSim (each lowest first). Where marks of one layer stand apart there, the"
        f" score misleads.{''.join(f' {first}.' for first in firsts)}",
    )


def _costless(pruning: PruningFacts) -> bool:
    return any(s.kld.value <= 0 for s in pruning.layers)


def _gaps(places: list[tuple[str, int | None]]) -> str:
    return " Grey: no such tensor in that layer." if has_gaps(places) else ""


def _allocation(name: str, row: Row) -> FigureText:
    n_tensors: dict[str, int] = {}
    for _, ggml_type in row.tensor_types:
        n_tensors[ggml_type] = n_tensors.get(ggml_type, 0) + 1
    counts = ", ".join(f"{q} {n}" for q, n in sorted(n_tensors.items(), key=lambda item: (-item[1], item[0])))
    places = [(tensor_class, layer) for layer, tensor_class in (split_name(tensor) for tensor, _ in row.tensor_types)]
    renumbered = " Layers have the numbers of the file, without those removed." if row.pruned_layers else ""
    return FigureText(
        name=name,
        alt=f"Heat map of the ggml types of {row.name}, tensor class against layer. Tensors of each type: {counts}.",
        caption=f"Chosen ggml types of {plain(row.name)} ({plain(mixture(row))}): the brighter, the more bits per"
        f" weight.{_gaps(places)}{renumbered}",
    )


def _predicted_against_measured(record: Record, points: tuple[ComparedCandidate, ...]) -> FigureText:
    measured = sum(c.kld is not None for _, search in searched(record) for c in search.candidates)
    off = [abs(p.measured / p.predicted - 1) for p in points]
    left_out = measured - len(points)
    hidden = f" {left_out} at or below zero {'are' if left_out > 1 else 'is'} not drawn." if left_out else ""
    return FigureText(
        name="predicted_against_measured",
        alt=f"Measured against predicted KL divergence of {len(points)} candidates; the measured one is up to"
        f" {fixed(100 * max(off), 1)}% off the predicted one.",
        caption="Measured against predicted KLD of the candidates of all searches, both logarithmic; bars are one"
        " standard error, candidates that were dropped early were measured on fewer windows. Single damages are of the"
        " probes' text; measured, and scale and exponent of each search fitted to it, is on the selection text, so what"
        f" the points show is how well sums order and space the candidates."
        f" Candidates without layers are predicted by a sum that nothing was fitted to.{hidden}",
    )


def _frontier(record: Record, sensitivity: Sensitivity) -> FigureText:
    rows = "; ".join(f"{row.name} {rounded(row.evaluation.kld)}" for row in on_frontier(record))
    text = text_of(record, "evaluation")
    on = f" ({code(text.file)})" if text else ""
    beside = f" Measured files: {rows}." if rows else ""
    cut = " The line ends where no file is near." if len(frontier_line(record)) < len(sensitivity.frontier) else ""
    return FigureText(
        name="frontier",
        alt=f"Lowest predicted KL divergence at each size as a line, measured files as points.{beside}",
        caption="Line: KLD of the best allocation at each size, predicted as the sum of the damages of single tensors,"
        f" not measured.{cut} Points: measured KLD of our files; bars are one standard error. Predicted is on the text"
        f" of the probes ({code(sensitivity.text)}), measured on the evaluation text{on}, so line and points may"
        " stand apart for that reason alone.",
    )


def _kld_against_size(record: Record) -> FigureText:
    rows = compared(record)
    unbeaten = "; ".join(
        f"{row.name} {human_bytes(row.file_bytes)}, KLD {rounded(row.evaluation.kld)}" for row in front(record)
    )
    text = text_of(record, "evaluation")
    on = f" on {code(text.file)}" if text else ""
    floor = (
        "The dashed line is the floor, the base against its own stored log-probs."
        if floor_in_view(record)
        else f"The floor, {rounded(record.floor)} nats, lies below the axis."
    )
    below = [plain(row.name) for row in rows if row.evaluation.kld.value <= 0]
    beneath = f" At or below zero, so at the lower edge: {', '.join(below)}." if below else ""
    itself = [plain(row.name) for row in rows if row.sha256 == record.model.sha256]
    source = f" The base was made from {either(tuple(itself))}, so it is no rival." if itself else ""
    return FigureText(
        name="kld_against_size",
        alt="Mean KL divergence from the base against file size, one point a file."
        f" Unbeaten, smallest first: {unbeaten}.",
        caption=f"Mean KLD from the base{on} against file size, logarithmic; bars are one standard error, the line"
        f" joins the files that no other beats in both. {floor}{beneath}{source}",
    )


def _shares(name: str, part: str) -> FigureText:
    return FigureText(
        name=name,
        alt=f"Share of each file's tensor bytes by {part}, one bar a file; the figures are in the table by {part}.",
        caption=f"Share of each file's tensor bytes by {part}.",
    )
