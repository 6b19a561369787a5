"""The figures drawn: all of a record; KLD against size, shares of bytes by tensor class and by ggml type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lwq.record.record import Record, Row, TypeShare
from lwq.report import damage_plots, heat_maps, prune_plots
from lwq.report.figures import compared, figure_texts, floor_in_view, front
from lwq.report.labels import PlottedPoint, place_labels
from lwq.report.numerals import size_unit
from lwq.report.searches import allocations
from lwq.report.style import (
    COLOURS,
    INK,
    KINDS,
    NARROW,
    OTHER,
    QUIET,
    SMALL,
    WIDE,
    Frame,
    fitted,
    grid,
    ink_on,
    kind_of,
    legend,
    legend_entry,
    log_axis,
    marked,
    saved,
    settle,
    styled,
)
from lwq.report.vector import inline

_SMALL_SHARE: Final = 0.01
_NAME: Final = 0.35
"""Of a figure's width, what a name beside something may take."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure as PNG, and as the HTML of the page: inline SVG, wide and narrow."""

    png: bytes
    html: str


def drawings(record: Record) -> dict[str, Drawing]:
    """Name → drawing of every figure of a record; equal records give equal bytes."""
    draw: dict[str, Callable[[Record, Frame], Figure]] = {
        "kld_against_size": kld_against_size,
        "layers": prune_plots.layers,
        "sensitivity": heat_maps.sensitivity,
        "predicted_against_measured": damage_plots.predicted_against_measured,
        "frontier": damage_plots.frontier,
        **{name: partial(heat_maps.allocation, row=row) for name, row in allocations(record).items()},
        "bytes_by_class": partial(_shares, parts_of=lambda row: row.classes),
        "bytes_by_type": partial(_shares, parts_of=lambda row: row.types),
    }
    drawn = {}
    with styled():
        for text in figure_texts(record):
            wide, narrow = (draw[text.name](record, frame) for frame in (WIDE, NARROW))
            settle(wide)
            settle(narrow)
            html = inline(wide, "large", text) + inline(narrow, "small", text)
            drawn[text.name] = Drawing(saved(wide, "png"), html)
    return drawn


def kld_against_size(record: Record, frame: Frame = WIDE) -> Figure:
    """Mean KLD (logarithmic) against file size, with errors, names, the Pareto front and the floor."""
    figure = frame.figure(5.0)
    axes = figure.add_subplot()
    rows = compared(record)
    unit, scale = size_unit(row.file_bytes for row in rows)
    _limit(axes, record, rows)
    place = {id(row): (row.file_bytes / scale, _height(row, axes)) for row in rows}
    for row in rows:
        _draw_point(axes, row, *place[id(row)])
    line = [place[id(row)] for row in front(record)]
    axes.plot([x for x, _ in line], [y for _, y in line], color=QUIET, linewidth=1.1, zorder=1)
    if floor_in_view(record):
        axes.axhline(record.floor.value, linestyle="--", color="#555555", linewidth=1, zorder=1)
    axes.margins(x=0.13)
    axes.set_xlabel(f"file size ({unit})")
    axes.set_ylabel("mean KLD from the base (nats)")
    grid(axes)
    legend(figure, _entries(record, rows), 3)
    points = [PlottedPoint(fitted(figure, row.name, _NAME), *place[id(row)]) for row in rows]
    place_labels(axes, points, line)
    return figure


def _limit(axes: Axes, record: Record, rows: tuple[Row, ...]) -> None:
    """Limits that hold every error bar, the floor where it is in view, and room for names."""
    values = [row.evaluation.kld for row in rows if row.evaluation.kld.value > 0]
    lows = [max(k.value - (k.stderr or 0), k.value / 2) for k in values] or [1e-3]
    if floor_in_view(record):
        lows.append(record.floor.value)
    highs = [k.value + (k.stderr or 0) for k in values] or [1.0]
    spread = max(max(highs) / min(lows), 2.0) ** 0.14
    axes.set_yscale("log")
    axes.set_ylim(min(lows) / spread, max(highs) * spread)
    log_axis(axes.yaxis, min(lows), max(highs))


def _height(row: Row, axes: Axes) -> float:
    """Where the row stands: its KLD, or the lower edge where a logarithm has no place for it."""
    return row.evaluation.kld.value if row.evaluation.kld.value > 0 else axes.get_ylim()[0]


def _draw_point(axes: Axes, row: Row, x: float, y: float) -> None:
    stderr = row.evaluation.kld.stderr or 0.0
    if row.evaluation.kld.value > 0:
        down = min(stderr, 0.999 * y)
        axes.errorbar(x, y, yerr=[[down], [stderr]], fmt="none", ecolor=INK, capsize=2.5, elinewidth=0.8, zorder=4)
    axes.plot(x, y, markeredgecolor="white", clip_on=False, zorder=3, **marked(kind_of(row)))


def _entries(record: Record, rows: tuple[Row, ...]) -> list[Line2D]:
    kinds = {kind_of(row) for row in rows}
    entries = [legend_entry(kind) for kind in KINDS if kind in kinds]
    entries.append(Line2D([], [], color=QUIET, linewidth=1.1, label="unbeaten in size and KLD"))
    if floor_in_view(record):
        entries.append(Line2D([], [], color="#555555", linestyle="--", linewidth=1, label="floor: base against itself"))
    return entries


def _shares(record: Record, frame: Frame, parts_of: Callable[[Row], tuple[TypeShare, ...]]) -> Figure:
    """Stacked bars, one a file: the shares of its tensor bytes, small ones together as "other"."""
    rows = [row for row in record.rows if parts_of(row)]
    figure = frame.figure((0.46 if frame.is_narrow else 0.36) * len(rows) + 1.5)
    axes = figure.add_subplot()
    names = _largest(rows, parts_of)
    shares = [_in_percent(parts_of(row), names) for row in rows]
    left = [0.0] * len(rows)
    entries = []
    for i, name in enumerate((*names, "other")):
        widths = [share[i] for share in shares]
        if any(width > 0.05 for width in widths):
            colour = COLOURS[i] if i < len(names) else OTHER
            height = 0.5 if frame.is_narrow else 0.72
            axes.barh(range(len(rows)), widths, left=left, color=colour, edgecolor="white", height=height)
            entries.append(Patch(facecolor=colour, edgecolor="white", label=name))
            _write_in(axes, widths, left, ink_on(colour))
        left = [a + b for a, b in zip(left, widths, strict=True)]
    _name_bars(axes, [fitted(figure, row.name, 0.9 if frame.is_narrow else _NAME) for row in rows], frame)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the file's tensor bytes (%)")
    legend(figure, entries, 5, handlelength=1, handleheight=1)
    return figure


def _name_bars(axes: Axes, names: list[str], frame: Frame) -> None:
    """Each bar's name beside it, or above it where there is no room beside it."""
    axes.set_yticks(range(len(names)), [] if frame.is_narrow else names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.75 if frame.is_narrow else -0.5)
    for y, name in enumerate(names if frame.is_narrow else ()):
        axes.text(0, y - 0.3, name, fontsize=SMALL, va="bottom").set_in_layout(False)


def _largest(rows: list[Row], parts_of: Callable[[Row], tuple[TypeShare, ...]]) -> tuple[str, ...]:
    """The classes or types with the most bytes in all files, as many as there are colours."""
    total: dict[str, int] = {}
    for row in rows:
        for part in parts_of(row):
            total[part.name] = total.get(part.name, 0) + part.n_bytes
    large = [name for name, n in total.items() if n / sum(total.values()) >= _SMALL_SHARE]
    return tuple(sorted(large, key=lambda name: (-total[name], name))[: len(COLOURS)])


def _in_percent(parts: tuple[TypeShare, ...], names: tuple[str, ...]) -> tuple[float, ...]:
    whole = sum(part.n_bytes for part in parts)
    percents = {part.name: 100 * part.n_bytes / whole for part in parts}
    listed = tuple(percents.get(name, 0.0) for name in names)
    return (*listed, max(0.0, 100 - sum(listed)))


def _write_in(axes: Axes, widths: list[float], left: list[float], ink: str) -> None:
    """Figures in the bars that are wide enough for them."""
    for y, (width, start) in enumerate(zip(widths, left, strict=True)):
        if width >= 6:
            axes.text(start + width / 2, y, f"{width:.0f}", ha="center", va="center", fontsize=SMALL, color=ink)
