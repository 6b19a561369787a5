"""What the figures show, in words: which there are, their alternative texts and captions."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.files import human_bytes
from lwq.record import Record, Row
from lwq.report.markdown import code, either, plain
from lwq.report.numerals import fixed
from lwq.report.rows import alike, pareto, text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureText:
    """A figure's file stem, its plain alternative text and its Markdown caption."""

    name: str
    alt: str
    caption: str


def figure_texts(record: Record) -> tuple[FigureText, ...]:
    """The figures that this record gives reason for, in the card's order."""
    found = []
    if compared(record):
        found.append(_kld_against_size(record))
    if any(row.classes for row in record.rows):
        found.append(_shares("bytes_by_class", "tensor class"))
    if any(row.types for row in record.rows):
        found.append(_shares("bytes_by_type", "ggml type"))
    return tuple(found)


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


def _kld_against_size(record: Record) -> FigureText:
    rows = compared(record)
    unbeaten = "; ".join(
        f"{row.name} {human_bytes(row.file_bytes)}, KLD {fixed(row.evaluation.kld.value, 6)}" for row in front(record)
    )
    text = text_of(record, "evaluation")
    on = f" on {code(text.file)}" if text else ""
    floor = (
        "The dashed line is the floor, the base against its own stored log-probs."
        if floor_in_view(record)
        else f"The floor, {fixed(record.floor.value, 6)} nats, lies below the axis."
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


def _shares(name: str, of: str) -> FigureText:
    return FigureText(
        name=name,
        alt=f"Share of each file's tensor bytes by {of}, one bar a file; the figures are in the table by {of}.",
        caption=f"Share of each file's tensor bytes by {of}.",
    )
